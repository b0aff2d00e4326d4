"""The law of the engine: after any changes in any order it equals a fresh one; and it compiles no more than it must."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from openflow.facts import SELF, Fact, Patch, Plug, Posture, Self, TunnelPort, Zone, name
from openflow.flow import Flow, GroupEntry
from openflow.incremental import Delta, Engine
from selvedge.topology import AddressGroup, Binding, Endpoint, Group, Host, Membership, Pair, Ref, Rule, Segment

# A small world, so that things meet: ----------------------------------------------------------------------------------

HOSTS = ("hv1", "hv2", "hv3")
SEGMENTS = ("s1", "s2", "s3")
PORTS = tuple(f"p{n}" for n in range(6))
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02", "00:00:5e:00:01:07", "02:00:00:00:00:04")
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.100", "fd00::1", "fd00::2")
CIDRS = ("10.0.0.100/32", "10.0.0.0/24", "0.0.0.0/0", "fd00::1/128", "fd00::/64", "10.0.0.1/32")
GROUPS = ("g1", "g2", "g3")
SETS: dict[tuple[str, ...], int] = {(): 0, ("g1",): 1, ("g2",): 2, ("g1", "g2"): 3, ("g3",): 4}
RULES = tuple(f"r{n}" for n in range(8))
KINDS = (("geneve", 100), ("geneve", 200), ("vxlan", 100), ("vlan", 5), ("vlan", 6), ("flat", 0))


def a_segment(identifier: str, kind: tuple[Any, int], up: bool, wire: str) -> Segment:
    physical = None if kind[0] in ("geneve", "vxlan") else wire
    key = int(identifier[1:])
    return Segment(
        id=identifier, key=key, network="", kind=kind[0], number=kind[1], physical_network=physical, mtu=1400, up=up
    )


def _endpoint(identifier: str, **fields: Any) -> Endpoint:
    fields["identity"] = SETS[fields["groups"]]
    return Endpoint(id=identifier, key=10 + int(identifier[1:]), **fields)


def _posture(identifier: str, segment: str, groups: tuple[str, ...], policy: int | None) -> Posture:
    number = SETS[groups] if policy is None else policy
    return Posture(identifier, segment, number, groups, number)


def _rule(identifier: str, **fields: Any) -> Rule:
    remote: dict[str, Any] = fields.pop("remote")
    protocol, first, last = fields.pop("ports")
    return Rule(
        id=identifier, key=1 + int(identifier[1:]), protocol=protocol, first=first, last=last, **fields, **remote
    )


SEGMENT = st.builds(
    a_segment, st.sampled_from(SEGMENTS), st.sampled_from(KINDS), st.sampled_from((True, True, False)), st.just("w1")
)
ENDPOINT = st.builds(
    _endpoint,
    st.sampled_from(PORTS),
    segment=st.sampled_from(SEGMENTS),
    host=st.sampled_from(("hv1", *HOSTS)),
    mac=st.sampled_from((*MACS, "nonsense")),
    addresses=st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True).map(tuple),
    pairs=st.lists(
        st.builds(Pair, mac=st.sampled_from(("", *MACS)), cidr=st.sampled_from(CIDRS)), max_size=2, unique=True
    ).map(tuple),
    secure=st.booleans(),
    up=st.sampled_from((True, True, True, False)),
    groups=st.sampled_from(tuple(SETS)),
)
HOST = st.builds(
    lambda host, end: Host(id=host, key=HOSTS.index(host) + 1, tunnel_ip=end),
    st.sampled_from(HOSTS),
    st.sampled_from(("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "", "nowhere")),
)
LOCAL = st.one_of(
    st.builds(Plug, st.sampled_from(PORTS), st.integers(10, 14)),
    st.builds(TunnelPort, st.sampled_from(("geneve", "vxlan")), st.integers(1, 2)),
    st.builds(Patch, st.sampled_from(("w1", "w2")), st.integers(5, 6)),
    st.builds(Self, st.sampled_from(("hv1", "hv1", "hv2")), st.sampled_from(("192.0.2.9", "2001:db8::9", None))),
)
SECURITY: st.SearchStrategy[Fact] = st.one_of(
    st.builds(Zone, st.sampled_from(PORTS), st.sampled_from((0, 1, 2, 65535))),
    st.builds(
        _posture,
        st.sampled_from((*PORTS, *PORTS, "drain/1/s1")),
        st.sampled_from(SEGMENTS),
        st.sampled_from(tuple(SETS)),
        st.sampled_from((None, None, None, 1)),
    ),
    st.builds(Group, id=st.sampled_from(GROUPS), key=st.just(1), stateful=st.sampled_from((True, True, False))),
    st.builds(
        _rule,
        st.sampled_from(RULES),
        group=st.sampled_from(GROUPS),
        direction=st.sampled_from(("ingress", "egress")),
        version=st.sampled_from((4, 6)),
        ports=st.sampled_from(
            ((None, None, None), (6, 80, 90), (6, 85, 300), (17, 1, 65535), (1, 8, None), (58, 128, 0), (47, 5, 6))
        ),
        remote=st.sampled_from(
            (
                {},
                {"cidr": "10.0.0.0/24"},
                {"cidr": "fd00::/64"},
                {"remote_group": "g1"},
                {"remote_group": "g2"},
                {"remote_addresses": "a1"},
            )
        ),
    ),
    st.builds(
        lambda group, number: Membership(id=f"{group}/{number}", group=group, identity=number),
        st.sampled_from(GROUPS),
        st.sampled_from((1, 2, 3, 4, 1 << 32)),
    ),
    st.builds(
        AddressGroup,
        id=st.sampled_from(("a1", "a2")),
        key=st.just(1),
        prefixes=st.lists(st.sampled_from((*CIDRS, "nonsense")), max_size=4).map(tuple),
    ),
)
FACT: st.SearchStrategy[Fact] = st.one_of(
    ENDPOINT,
    ENDPOINT,
    SEGMENT,
    HOST,
    LOCAL,
    SECURITY,
    SECURITY,
    st.builds(Binding, st.sampled_from(PORTS), st.sampled_from(SEGMENTS)),
)
REF = st.one_of(
    st.builds(Ref, st.just("endpoint"), st.sampled_from(PORTS)),
    st.builds(Ref, st.just("segment"), st.sampled_from(SEGMENTS)),
    st.builds(Ref, st.just("host"), st.sampled_from(HOSTS)),
    st.builds(Ref, st.just("plug"), st.sampled_from(PORTS)),
    st.builds(Ref, st.sampled_from(("posture", "zone")), st.sampled_from(PORTS)),
    st.builds(Ref, st.just("rule"), st.sampled_from(RULES)),
    st.builds(Ref, st.just("group"), st.sampled_from(GROUPS)),
    st.sampled_from((Ref("addresses", "a1"), Ref("membership", "g1/1"), Ref("membership", "g2/3"))),
    st.sampled_from((Ref("tunnel", "geneve"), Ref("tunnel", "vxlan"), Ref("patch", "w1"), SELF)),
)


def fresh(facts: dict[Ref, Fact]) -> Engine:
    """An engine that is told the final state at once."""
    engine = Engine()
    engine.apply(facts.values())
    engine.recompute()
    return engine


def state(engine: Engine) -> dict[str, object]:
    """All of an engine that must not depend on how it came about, what it remembers of reads included."""
    return {
        "flows": engine.flows(),
        "groups": engine.groups(),
        "owners": engine.owners(),
        "contested": engine.contested,
        "failed": engine.failed,
        "malformed": engine.malformed,
        "peers": engine.peers,
        "reads": engine._reads,
        "readers": engine._readers,
        "rows": engine._index,
    }


class Switch:
    """Follows the deltas, as a programmer does."""

    def __init__(self) -> None:
        self.flows: dict[bytes, Flow] = {}
        self.groups: dict[int, GroupEntry] = {}
        self.owners: dict[bytes | int, object] = {}

    def follow(self, delta: Delta) -> None:
        """Take over what changed; each change must be one."""
        for key, flow in delta.flows.items():
            if flow is None:
                del self.flows[key]
            else:
                assert flow.key == key and delta.owners[key]
                assert self.flows.get(key) != flow or self.owners[key] != delta.owners[key]
                self.flows[key] = flow
        for number, group in delta.groups.items():
            if group is None:
                del self.groups[number]
            else:
                assert self.groups.get(number) != group or self.owners[number] != delta.owners[number]
                self.groups[number] = group
        self.owners.update(delta.owners)


class Law(RuleBasedStateMachine):
    """Any changes, recomputed now and then: the engine, and a switch that followed it, equal a fresh engine."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Engine()
        self.switch = Switch()
        self.facts: dict[Ref, Fact] = {}

    @rule(upserts=st.lists(FACT, min_size=1, max_size=6), deletes=st.lists(REF, max_size=3))
    def change(self, upserts: list[Fact], deletes: list[Ref]) -> None:
        """Some facts get new states and others go, all in one step."""
        self.engine.apply(upserts, deletes)
        for gone in deletes:
            self.facts.pop(gone, None)
        self.facts.update({name(fact): fact for fact in upserts})

    @rule(deletes=st.lists(REF, min_size=1, max_size=6))
    def forget(self, deletes: list[Ref]) -> None:
        """Facts go."""
        self.change([], deletes)

    @rule()
    def recompute(self) -> None:
        """The switch gets the difference; then all is as if it had always been so."""
        self.switch.follow(self.engine.recompute())
        assert state(self.engine) == state(fresh(self.facts))
        assert self.switch.flows == self.engine.flows()
        assert self.switch.groups == self.engine.groups()
        assert not self.engine.recompute()

    @invariant()
    def nothing_without_us(self) -> None:
        """A bridge on which nothing is local has no flow at all."""
        me = self.facts.get(SELF)
        endpoints = [fact for fact in self.facts.values() if isinstance(fact, Endpoint)]
        if not isinstance(me, Self) or all(fact.host != me.host for fact in endpoints):
            self.recompute()
            assert not self.switch.flows and not self.switch.groups

    def teardown(self) -> None:
        """The law holds at the end, and everything goes when the facts go."""
        self.recompute()
        self.engine.apply([], list(self.facts))
        self.switch.follow(self.engine.recompute())
        assert not self.switch.flows and not self.switch.groups


TestLaw = Law.TestCase
TestLaw.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


@settings(max_examples=60, deadline=None)
@given(st.lists(FACT, max_size=25), st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_objects_does_not_matter(facts: list[Fact], random: Any, step_by_step: bool) -> None:
    """In order, reversed or shuffled, one by one or at once: an endpoint before its segment, a plug before both."""
    final = {name(fact): fact for fact in facts}
    expected = state(fresh(final))
    shuffled = list(final.values())
    random.shuffle(shuffled)
    for order in (list(final.values()), list(final.values())[::-1], shuffled):
        engine = Engine()
        for fact in order:
            engine.apply([fact])
            if step_by_step:
                engine.recompute()
        engine.recompute()
        assert state(engine) == expected
