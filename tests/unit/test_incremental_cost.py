"""What is compiled when, and what it costs in flows: a change concerns those who read what changed."""

import msgspec

from openflow.facts import Fact, Plug, Posture, Self, TunnelPort, Zone
from openflow.incremental import Delta, Engine
from selvedge.topology import Binding, Endpoint, Group, Host, Membership, Pair, Ref, Rule
from tests.unit.test_incremental import HOSTS, a_segment

DEFAULT = (
    Group(id="g1", key=1),
    Rule(id="out4", key=1, group="g1", direction="egress", version=4),
    Rule(id="in4", key=2, group="g1", direction="ingress", version=4, remote_group="g1"),
    Rule(id="web", key=3, group="g1", direction="ingress", version=4, protocol=6, first=80, last=80),
    Membership(id="g1/1", group="g1", identity=1),
)


def _port(number: int, host: str = "hv1", segment: str = "s1") -> Endpoint:
    return Endpoint(
        identity=1,
        groups=("g1",),
        id=f"p{number}",
        key=number,
        segment=segment,
        host=host,
        mac=f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
        addresses=(f"10.0.{number >> 8}.{number & 255}",),
    )


def _here(port: Endpoint) -> list[Fact]:
    """A port bound here, and what the agent decided for it."""
    return [port, Zone(port.id, port.key), Posture(port.id, port.segment, port.identity, port.groups, port.identity)]


def _populated() -> Engine:
    """20 local ports and 20 on hv2, on one Geneve segment; hv3 has none."""
    engine = Engine()
    engine.apply([Self("hv1", "192.0.2.1"), TunnelPort("geneve", 1), a_segment("s1", ("geneve", 100), True, "")])
    engine.apply([Host(id=host, key=n, tunnel_ip=f"192.0.2.{n}") for n, host in enumerate(HOSTS, 1)])
    engine.apply(DEFAULT)
    for number in range(1, 21):
        engine.apply(_here(_port(number)))
    engine.apply([_port(n, "hv2") for n in range(21, 41)])
    engine.apply([Plug(f"p{n}", 100 + n) for n in range(1, 21)])
    engine.recompute()
    return engine


def test_a_plug_concerns_one_owner() -> None:
    """A plug and an unplug compile the endpoint alone: two flows come and go, and no group changes."""
    engine = _populated()
    engine.apply(_here(_port(50)))
    engine.recompute()
    engine.apply([Plug("p50", 150)])
    delta = engine.recompute()
    assert delta.compiled == {Ref("endpoint", "p50")} and len(delta.flows) == 2 and not delta.groups
    engine.apply([], [Ref("plug", "p50")])
    delta = engine.recompute()
    assert delta.compiled == {Ref("endpoint", "p50")} and list(delta.flows.values()) == [None, None]


def test_a_port_concerns_its_own_owners() -> None:
    """One more local port: itself, its MAC, its address, and its segment's group; nobody else's flows are compiled."""
    engine = _populated()
    engine.apply(_here(_port(50)))
    delta = engine.recompute()
    kinds = sorted(str(owner[0]) for owner in delta.compiled)
    assert kinds == ["address", "endpoint", "segment", "station"]
    assert sorted(_tables(delta)) == [10, 10, 20, 20, 40, 70] and len(delta.groups) == 1


def test_a_remote_port_changes_no_flood() -> None:
    """One more port on a host that has members already: its MAC and its address, not the segment and not the host."""
    engine = _populated()
    engine.apply([_port(50, "hv2")])
    delta = engine.recompute()
    assert sorted(str(owner[0]) for owner in delta.compiled) == ["address", "endpoint", "station"]
    assert sorted(_tables(delta)) == [20, 40] and not delta.groups


def test_what_is_elsewhere_concerns_nobody() -> None:
    """Hosts come and go, ports of segments without members here too: no flow changes, next to nothing is compiled."""
    engine = _populated()
    engine.apply([Host(id="hv9", key=9, tunnel_ip="192.0.2.9"), Binding(id="p50", segment="s2")])
    delta = engine.recompute()
    assert not delta and delta.compiled == {Ref("host", "hv9")}
    engine.apply([a_segment("s2", ("geneve", 200), True, ""), _port(50, "hv2", "s2")])
    delta = engine.recompute()
    assert not delta
    assert {str(owner[0]) for owner in delta.compiled} == {"segment", "endpoint", "station", "address", "host"}
    assert len(delta.compiled) == 5


def _tables(delta: Delta) -> list[int]:
    """The tables of the flows that changed."""
    return [key[0] for key in delta.flows]


def test_a_port_may_cost_nine_flows() -> None:
    """1,000 plugged IPv4 ports of one group, ten rules: at most 9 flows a port and 200 in all."""
    engine = Engine()
    engine.apply([Self("hv1", "192.0.2.1"), TunnelPort("geneve", 1), a_segment("s1", ("geneve", 100), True, "")])
    engine.apply(DEFAULT)
    engine.apply(
        [
            Rule(id=f"r{n}", key=10 + n, group="g1", direction="ingress", version=4, protocol=6, first=n, last=n + 100)
            for n in (1000, 2000, 3000, 4000, 5000, 6000, 7000)
        ]
    )
    for number in range(1, 1001):
        engine.apply([*_here(_port(number)), Plug(f"p{number}", 100 + number)])
    engine.recompute()
    assert not engine.failed and not engine.malformed
    flows = engine.flows()
    assert len(flows) <= 9 * 1000 + 200
    assert len([key for key in flows if key[0] in (55, 75)]) < 110


def test_a_member_more_changes_no_rule() -> None:
    """One more member of a group, wherever: nothing changes in the tables of rules and of judgement."""
    engine = _populated()
    judgement = {7, 45, 50, 52, 55, 56, 58, 71, 72, 75, 76, 78}
    for facts in ([_port(50, "hv2")], _here(_port(51))):
        engine.apply(facts)
        assert not judgement & set(_tables(engine.recompute()))


def test_a_new_set_of_groups_is_known_before_it_is_seen() -> None:
    """A set that is new has a membership first: what its ports then say is a matter of identity, of no rule's flows."""
    engine = _populated()
    engine.apply([Membership(id="g1/9", group="g1", identity=9)])
    delta = engine.recompute()
    assert delta.compiled == {("policy", 1)} and _tables(delta) == [75]
    engine.apply([msgspec.structs.replace(_port(60, "hv2"), identity=9, groups=("g1", "g9"))])
    assert sorted(_tables(engine.recompute())) == [20, 40]


def test_a_rule_concerns_the_policies_that_have_it() -> None:
    """A rule comes and goes: the policies of its group are compiled, and no port."""
    engine = _populated()
    rule = Rule(id="ssh", key=9, group="g1", direction="ingress", version=4, protocol=6, first=22, last=22)
    for upserts, deletes in (([rule], []), ([], [Ref("rule", "ssh")])):
        engine.apply(upserts, deletes)
        delta = engine.recompute()
        assert delta.compiled == {("policy", 1)} and len(delta.flows) == 2 and set(_tables(delta)) == {75}


def test_what_came_and_went_in_between_costs_nothing() -> None:
    """A port has fifty allowed addresses one after the other before anybody compiles: as much work as one change, and
    nothing for the addresses that it has no more."""
    engine, counts = _populated(), []
    for changes in (1, 50):
        for number in range(changes):
            address = f"10.9.{changes}.{number}"
            engine.apply([msgspec.structs.replace(_port(1), pairs=(Pair("", f"{address}/32"),))])
        before = engine.compilations
        delta = engine.recompute()
        counts.append(engine.compilations - before)
        assert engine.compilations - before == len(delta.compiled)
    assert 0 < counts[1] <= counts[0] + 1  # the address before is one that was there


def test_an_equal_state_costs_nothing() -> None:
    """Objects that come again unchanged (a snapshot after a gap) compile nothing."""
    engine = _populated()
    engine.apply([_port(n) for n in range(1, 21)])
    assert engine.recompute().compiled == frozenset()


def test_what_a_port_depends_on() -> None:
    """The owners that must be in the switch before a port is wired."""
    engine = _populated()
    station, address = ("station", "s1", 0x020000000001), ("address", "s1", 4, 0x0A000001)
    expected = {Ref("endpoint", "p1"), Ref("segment", "s1"), ("base",), station, address, ("policy", 1)}
    assert set(engine.owners_of("p1")) == expected
    assert set(engine.owners().values()) >= expected
    assert engine.owners_of("nobody") == ()
