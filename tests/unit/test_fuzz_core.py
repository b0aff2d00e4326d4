"""Garbage that is sound to the decoder: objects that contradict themselves and each other, rows that are other
people's, answers to other questions. The agent's mind takes all of it, and whoever is sound works as before."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.effects import Call
from selvedge import rpc, wire
from selvedge.topics import HOSTS, Snapshot, addresses_topic, group_topic, host_topic, members_topic, segment_topic
from selvedge.topology import (
    AddressGroup,
    Binding,
    Endpoint,
    Group,
    Host,
    Membership,
    Object,
    Pair,
    Ref,
    Rule,
    Segment,
)
from tests.unit.surroundings import HERE, World

TEXT = st.sampled_from(["p70", "p71", "p72", "s1", "s2", "s9", "g1", "hv1", "hv2", "", "\0", "x/y", "é" * 300, "#.*"])
PORTS = st.sampled_from(["p70", "p71", "p72"])
"""What the simulated surroundings take for a port's name."""
NUMBER = st.sampled_from([0, 1, 2, 12, 4095, 4096, 2**16, 2**24, 2**31, 2**32 - 1, 2**32, 2**63, 2**80, -1, -(2**70)])
ADDRESS = st.sampled_from(
    [
        "10.0.0.77",
        "10.0.0.0/8",
        "10.0.0.1/33",
        "0.0.0.0/0",
        "::",
        "fe80::1%eth0",
        "fd00::/64",
        "1",
        "",
        "zzz",
        "10.0.0.300",
    ]
)
MAC = st.sampled_from(["fa:16:3e:00:00:77", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "", "fa16", "zz:16:3e:00:00:77"])
SET = st.lists(st.sampled_from(["g1", "g2", "", "x/y"]), max_size=3).map(tuple)
OBJECTS: st.SearchStrategy[Object] = st.one_of(
    st.builds(Host, id=TEXT, key=NUMBER, tunnel_ip=ADDRESS),
    st.builds(Binding, id=PORTS, segment=TEXT, groups=SET),
    st.builds(
        Segment,
        id=TEXT.filter(lambda name: name != "s1"),
        key=NUMBER,
        network=TEXT,
        kind=st.sampled_from(["geneve", "vxlan", "vlan", "flat"]),
        number=NUMBER,
        physical_network=st.none() | st.sampled_from(["physnet1", "", "\0"]),
        mtu=NUMBER,
        up=st.booleans(),
    ),
    st.builds(
        Endpoint,
        id=TEXT,
        key=NUMBER,
        segment=TEXT,
        host=TEXT,
        mac=MAC,
        addresses=st.lists(ADDRESS, max_size=3).map(tuple),
        pairs=st.lists(st.builds(Pair, mac=MAC, cidr=ADDRESS), max_size=2).map(tuple),
        secure=st.booleans(),
        up=st.booleans(),
        identity=NUMBER,
        groups=SET,
    ),
    st.builds(Group, id=TEXT, key=NUMBER, stateful=st.booleans()),
    st.builds(
        Rule,
        id=TEXT,
        key=NUMBER,
        group=TEXT,
        direction=st.sampled_from(["ingress", "egress"]),
        version=NUMBER | st.sampled_from([4, 6]),
        protocol=st.none() | NUMBER | st.sampled_from([6, 17]),
        first=st.none() | NUMBER,
        last=st.none() | NUMBER,
        cidr=st.none() | ADDRESS,
        remote_group=st.none() | TEXT,
        remote_addresses=st.none() | TEXT,
    ),
    st.builds(Membership, id=TEXT, group=TEXT, identity=NUMBER),
    st.builds(AddressGroup, id=TEXT, key=NUMBER, prefixes=st.lists(ADDRESS, max_size=3).map(tuple)),
)
KINDS = [
    "segment",
    "endpoint",
    "host",
    "group",
    "rule",
    "membership",
    "addresses",
    "plug",
    "zone",
    "posture",
    "self",
    "",
]
TOPICS = st.sampled_from(
    [HOSTS, host_topic(HERE), segment_topic("s1"), segment_topic("s9"), group_topic("g1"), members_topic("g1")]
) | st.sampled_from([addresses_topic("x/y"), "nonsense"])
BOUNDED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def sound_world() -> World:
    """Two ports on one segment, one of them here and plugged, in a group with a rule."""
    world = World()
    world.controller.group("g1", Rule("r1", 701, "g1", "ingress", 4, 6, 80, 80))
    world.controller.create(1, "s1", HERE, groups=["g1"])
    world.controller.create(2, "s1", "hv2", groups=["g1"])
    world.settle(1)
    world.plug("p1")
    world.settle(1)
    assert world.controller.ports["p1"].status == "ACTIVE"
    return world


def assert_works(world: World) -> None:
    """The sound port has its flows, and whatever is said can be said."""
    made = [flow for flow in world.core.engine.flows().values() if flow.cookie == own_cookie(world)]
    assert made and all(world.switch.flows.get(flow.key) == flow.body for flow in made)
    assert world.core.states.ports["p1"].state == "up", world.core.states.ports["p1"]
    for effect in world.step([]):
        if isinstance(effect, Call):
            wire.encode(effect.request)


def own_cookie(world: World) -> int:
    owners = world.core.engine.owners()
    key = next(key for key, owner in owners.items() if owner == Ref("endpoint", "p1") and isinstance(key, bytes))
    return world.core.engine.flows()[key].cookie


@BOUNDED
@given(
    st.lists(
        st.tuples(TOPICS, st.lists(OBJECTS, max_size=4), st.lists(st.tuples(st.sampled_from(KINDS), TEXT), max_size=2)),
        max_size=4,
    )
)
def test_a_feed_of_contradictory_objects_hurts_no_sound_port(
    changes: list[tuple[str, list[Object], list[tuple[str, str]]]],
) -> None:
    """Given any objects in any topics, at the right versions, the agent comes to rest and the sound port works."""
    world = sound_world()
    for topic, upserts, deletes in changes:
        gone = [Ref(*name) for name in deletes if name not in (("segment", "s1"), ("group", "g1"))]
        told = [thing for thing in upserts if not (isinstance(thing, Group) and thing.id == "g1")]
        world.controller._change({topic: told}, {topic: gone})
    world.settle(1)
    assert_works(world)


NAMES = st.lists(TEXT | st.just("p1"), max_size=3).map(tuple)
SNAPSHOTS = st.builds(
    Snapshot, TOPICS, st.sampled_from([0, 1, 2, 50, 2**63 - 1]), st.lists(OBJECTS, max_size=3).map(tuple)
)
REPLIES: dict[type, st.SearchStrategy[Any]] = {
    rpc.Report: st.builds(rpc.ReportReply, NAMES | st.lists(TOPICS, max_size=3).map(tuple)),
    rpc.Subscribe: st.builds(rpc.SubscribeReply, st.lists(SNAPSHOTS, max_size=3).map(tuple)),
    rpc.Claim: st.builds(
        rpc.ClaimReply, st.dictionaries(TEXT, st.sampled_from(["claimed", "elsewhere", ""]), max_size=3)
    ),
    rpc.Wired: st.builds(rpc.WiredReply, NAMES),
}


def test_a_binding_that_two_topics_tell_of_goes_once() -> None:
    """It comes by the topic of all hosts too, and goes from both: the port is unbound, and the agent lives."""
    world = sound_world()
    stray = Binding("p70", "s1")
    world.controller._change({HOSTS: [stray], host_topic(HERE): [stray]})
    world.settle(0)
    assert "p70" in world.core.bindings
    world.controller._change({}, {HOSTS: [Ref("binding", "p70")], host_topic(HERE): [Ref("binding", "p70")]})
    world.settle(0)
    assert "p70" not in world.core.bindings
    assert_works(world)


@BOUNDED
@given(data=st.data())
def test_answers_to_other_questions_are_healed_by_reports(data: st.DataObject) -> None:
    """Given controllers that for a while answer anything to any question, the sound port works when they are sane
    again, after as many reports as it takes to find every topic stale."""
    world = sound_world()
    sane = world.controller.call
    left = [data.draw(st.integers(1, 8))]

    def call(request: Any) -> Any:
        left[0] -= 1
        return sane(request) if left[0] < 0 else data.draw(REPLIES[type(request)])

    world.controller.call = call  # type: ignore[method-assign]
    world.feed_breaks(fresh=True)
    world.plug("p2")
    world.settle(6)
    assert left[0] < 0
    assert_works(world)
    assert world.core.topics.versions() == {
        topic: world.controller.versions.get(topic, 0) for topic in world.core.topics.versions()
    }
