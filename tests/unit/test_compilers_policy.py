"""Rules as flows: what a policy costs, when it is in force, and how a packet is judged at each end."""

import pytest

from openflow import pipeline as p
from openflow.facts import Posture
from openflow.flow import Conjunction, Flow
from openflow.incremental import Engine
from selvedge.topology import Ref, Rule, SegmentKind
from tests.interpreter import Fabric, Packet
from tests.packets import BROADCAST, arp, ipv4, ipv6, udp

KINDS: list[SegmentKind] = ["geneve", "vxlan", "vlan", "flat"]


def fabric_of(kind: SegmentKind = "geneve") -> Fabric:
    """hv1 and hv2, network "net"."""
    fabric = Fabric()
    fabric.hypervisor("hv1")
    fabric.hypervisor("hv2")
    fabric.network("net", kind, 0 if kind == "flat" else 100)
    return fabric


def engine_of(fabric: Fabric) -> Engine:
    """hv1's engine, up to date and without complaints."""
    engine = fabric.hypervisors["hv1"].engine
    engine.recompute()
    assert not engine.failed and not engine.malformed
    return engine


def rule_flows(fabric: Fabric, tables: tuple[int, ...] = (75, 76)) -> list[Flow]:
    """hv1's flows of rules, in the tables of one direction, by priority."""
    flows = [flow for flow in engine_of(fabric).flows().values() if flow.table in tables and flow.match.get(p.POLICY)]
    return sorted(flows, key=lambda flow: (-flow.priority, flow.key))


def say(fabric: Fabric, src: str, dst: str, ports: tuple[int, int] = (5000, 80), **fields: int) -> Packet:
    """A UDP datagram from one port to another."""
    source, target = fabric.endpoint(src), fabric.endpoint(dst)
    return {**udp(source, target, source.addresses[0], target.addresses[0], ports), **fields}


def passes(fabric: Fabric, src: str, dst: str, ports: tuple[int, int] = (5000, 80)) -> bool:
    """Whether it arrives."""
    return dst in fabric.reached(src, say(fabric, src, dst, ports))


def client_and_server(kind: SegmentKind = "geneve", remote_group: str | None = None) -> Fabric:
    """a in "clients" on hv1, s in "servers" on hv2, which takes UDP 80 (from a group); clients may say anything."""
    fabric = fabric_of(kind)
    fabric.group("clients")
    fabric.group("servers")
    fabric.rule("clients", "egress", name="out")
    fabric.rule("servers", "ingress", name="web", protocol=17, first=80, last=80, remote_group=remote_group)
    fabric.port("a", "net", "hv1", "10.0.0.1", groups=["clients"])
    fabric.port("s", "net", "hv2", "10.0.0.2", groups=["servers"])
    fabric.port("x", "net", "hv1", "10.0.0.9", groups=["servers"])
    return fabric


# When a policy is in force ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [Ref("posture", "a"), Ref("zone", "a"), Ref("group", "clients"), Ref("group", "b")])
def test_what_is_not_known_lets_nothing_pass(missing: Ref) -> None:
    """A port without posture or zone, or with a group that is not known, sends and gets nothing: not even ARP."""
    fabric = fabric_of()
    fabric.port("b", "net", "hv1", "10.0.0.2", secure=False)
    fabric.group("clients")
    fabric.group("b")
    for direction in ("ingress", "egress"):
        fabric.rule("clients", direction)
    a = fabric.port("a", "net", "hv1", "10.0.0.1", groups=["clients", "b"])
    request = arp(a, "10.0.0.1", "10.0.0.77")
    assert passes(fabric, "a", "b") and passes(fabric, "b", "a") and fabric.reached("a", request) == ["b"]
    engine = fabric.hypervisors["hv1"].engine
    fact = engine.fact(missing)
    assert fact is not None
    engine.apply([], [missing])
    assert not passes(fabric, "a", "b") and not passes(fabric, "b", "a") and fabric.reached("a", request) == []
    assert fabric.reached("b", arp(fabric.endpoint("b"), "10.0.0.2", "10.0.0.77")) == []
    if missing.kind == "group":
        assert rule_flows(fabric, (55, 75)) == [], "whether it tracks connections is not known"
    engine.apply([fact])
    assert passes(fabric, "a", "b") and passes(fabric, "b", "a") and fabric.reached("a", request) == ["b"]


def test_a_port_without_groups_gets_its_addresses_and_no_more() -> None:
    """ARP, DHCP and neighbour discovery pass, whatever else a port without groups says or is told does not."""
    fabric = fabric_of()
    a = fabric.port("a", "net", "hv1", "10.0.0.1", "fd00::1", groups=[])
    b = fabric.port("b", "net", "hv1", "10.0.0.2", "fd00::2", secure=False)
    assert fabric.hypervisors["hv1"].engine.fact(Ref("posture", "a")) == Posture("a", "net", 0, (), 0)
    assert fabric.reached("a", arp(a, "10.0.0.1", "10.0.0.77")) == ["b"]
    assert fabric.reached("a", udp(a, BROADCAST, "0.0.0.0", "255.255.255.255", (68, 67))) == ["b"]
    assert fabric.reached("b", udp(b, a, "10.0.0.2", "10.0.0.1", (67, 68))) == ["a"]
    assert fabric.reached("b", udp(b, a, "fd00::2", "fd00::1", (547, 546))) == ["a"]
    for kind, heard in ((130, True), (134, True), (135, True), (133, False), (128, False)):
        assert fabric.reached("b", ipv6(b, a, "fd00::2", "fd00::1", ip_proto=58, icmpv6_type=kind)) == ["a"] * heard
    for kind, heard in ((133, True), (143, True), (128, False)):
        said = ipv6(a, 0x333300000016, "fd00::1", "ff02::16", ip_proto=58, icmpv6_type=kind)
        assert fabric.reached("a", said) == ["b"] * heard
    assert not passes(fabric, "a", "b") and not passes(fabric, "b", "a")
    fabric.hypervisors["hv1"].engine.apply([], [Ref("zone", "a")])
    assert not fabric.reached("a", arp(a, "10.0.0.1", "10.0.0.77")), "its zone is not known yet"


def test_two_meanings_of_one_policy_are_none() -> None:
    """If two postures say that a number stands for different groups, nothing of it passes, and it is told: somebody
    erred."""
    fabric = client_and_server()
    assert passes(fabric, "a", "s")
    number = fabric.endpoint("a").identity
    fabric.hypervisors["hv1"].engine.apply([Posture("drain/x", "net", number, ("servers",), number)])
    assert not passes(fabric, "a", "s")
    failed = fabric.hypervisors["hv1"].engine.failed
    assert failed == {("policy", number): f"{number} stands for several sets of security groups"}


def test_a_policy_on_its_way_out() -> None:
    """A port has new groups, and the old policy drains: its rules' flows stay until the posture goes, no longer."""
    fabric = client_and_server()
    old = fabric.endpoint("a").identity
    engine = fabric.hypervisors["hv1"].engine
    engine.apply([Posture(f"drain/{old}/net", "net", old, ("clients",), old)])
    fabric.change("a", groups=["servers"])
    policies = {flow.match.get(p.POLICY) for flow in rule_flows(fabric, (55, 56))}
    assert policies == {old}
    engine.apply([], [Ref("posture", f"drain/{old}/net")])
    assert rule_flows(fabric, (55, 56)) == []


def test_bad_objects_harm_nobody_else() -> None:
    """A rule that cannot be enforced, or makes no sense, allows nothing and is named; the others of its group hold."""
    fabric = client_and_server()
    fabric.rule("servers", "ingress", name="bad0", protocol=33, first=80, last=80)
    fabric.rule("servers", "ingress", name="bad1", cidr="10.0.0.0/99")
    fabric.rule("servers", "ingress", name="bad2", cidr="fd00::/8")
    fabric.rule("servers", "ingress", name="bad3", protocol=256)
    fabric.address_group("offices", "10.0.0.0/24", "nonsense")
    fabric.rule("servers", "ingress", name="offices", protocol=6, remote_addresses="offices")
    assert passes(fabric, "a", "s")
    engine = fabric.hypervisors["hv2"].engine
    assert set(engine.malformed) == {*(Ref("rule", f"bad{number}") for number in range(4)), Ref("addresses", "offices")}
    assert not engine.failed


# One rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_both_directions_are_judged_by_the_rules_of_now(kind: SegmentKind) -> None:
    """A rule lets a connection and its answers pass; when it goes, both directions are cut; when it comes, they go on.
    A rule about something else changes nothing."""
    fabric = client_and_server(kind)
    assert not passes(fabric, "s", "a", (80, 5000)), "nobody asked"
    assert passes(fabric, "a", "s") and passes(fabric, "s", "a", (80, 5000))
    assert not passes(fabric, "a", "s", (5000, 81))
    for name in ("out", "web"):
        rule = fabric.facts[Ref("rule", name)]
        assert isinstance(rule, Rule)
        fabric.forget(Ref("rule", name))
        assert not passes(fabric, "a", "s") and not passes(fabric, "s", "a", (80, 5000))
        fabric.tell(rule)
        assert passes(fabric, "a", "s") and passes(fabric, "s", "a", (80, 5000))
    fabric.rule("servers", "ingress", name="other", protocol=6)
    fabric.forget(Ref("rule", "other"))
    assert passes(fabric, "a", "s") and passes(fabric, "s", "a", (80, 5000))


def test_answers_have_mirrored_headers() -> None:
    """One TCP port from one prefix: the start by source and destination port, the answer by the same, mirrored, and
    later fragments by what conntrack knows; all with the rule's cookie."""
    fabric = fabric_of()
    fabric.group("g")
    rule = fabric.rule("g", "ingress", protocol=6, first=22, last=22, cidr="192.0.2.0/24")
    fabric.port("a", "net", "hv1", "10.0.0.1", groups=["g"])
    start, answer, later = _by_shape(rule_flows(fabric))
    prefix = (0xC0000200, 0xFFFFFF00)
    assert (start.match.get("ct_state"), start.match.get("ipv4_src"), start.match.get("tcp_dst")) == (
        (0x20, 0x38),
        prefix,
        22,
    )
    assert (answer.match.get("ct_state"), answer.match.get("ipv4_dst"), answer.match.get("tcp_src")) == (
        (0x28, 0x38),
        prefix,
        22,
    )
    assert (later.table, later.match.get("ct_nw_src"), later.match.get("ct_nw_proto")) == (76, prefix, 6)
    assert {p.owner_of(flow.cookie) for flow in (start, answer, later)} == {(p.Kind.RULE, rule.key)}


def _by_shape(flows: list[Flow]) -> tuple[Flow, Flow, Flow]:
    """Start, answer and later fragments."""
    [later] = [flow for flow in flows if flow.table == 76]
    [answer] = [flow for flow in flows if flow.match.get("tcp_src")]
    [start] = [flow for flow in flows if flow.match.get("tcp_dst")]
    return start, answer, later


@pytest.mark.parametrize(
    ("fields", "stateful", "count"),
    [
        ({}, True, 1),
        ({"remote_group": "g"}, True, 1),
        ({"protocol": 47}, True, 1),
        ({"cidr": "10.0.0.0/8"}, True, 2),
        ({"protocol": 6, "first": 22, "last": 22}, True, 3),
        ({"protocol": 6, "first": 1, "last": 65535}, True, 1),
        ({"protocol": 17, "first": 1000, "last": 2001}, True, 2 * 8 + 1),
        ({"protocol": 1, "first": 8}, True, 3),
        ({"protocol": 1, "first": 3}, True, 2),
        ({"version": 6, "protocol": 58, "first": 128, "last": 0}, True, 3),
        ({"version": 6, "protocol": 47}, True, 2),
        ({"version": 6, "protocol": 0}, True, 1),
        ({}, False, 1),
        ({"cidr": "10.0.0.0/8"}, False, 1),
        ({"protocol": 6}, False, 1),
        ({"protocol": 6, "first": 22, "last": 22}, False, 2),
        ({"version": 6, "protocol": 6}, False, 2),
    ],
)
def test_what_a_rule_costs(fields: dict[str, object], stateful: bool, count: int) -> None:
    """Flows of one rule of one policy: start, answer (one flow if they look alike), and later fragments."""
    fabric = fabric_of()
    fabric.group("g", stateful=stateful)
    fabric.rule("g", "ingress", **{"version": 4, **fields})  # type: ignore[arg-type]
    for number in (1, 2, 3):
        fabric.port(f"p{number}", "net", "hv1", f"10.0.0.{number}", groups=["g"])
    assert len(rule_flows(fabric)) == count
    assert rule_flows(fabric, (55, 56)) == []


# Several rules ----------------------------------------------------------------------------------------------------


def test_one_of_overlapping_rules_goes() -> None:
    """Two rules allow a packet; either may go, and it still passes."""
    fabric = client_and_server()
    fabric.rule("servers", "ingress", name="range", protocol=17, first=70, last=90)
    assert passes(fabric, "a", "s")
    fabric.forget(Ref("rule", "web"))
    assert passes(fabric, "a", "s") and passes(fabric, "a", "s", (5000, 81))
    fabric.rule("servers", "ingress", name="web", protocol=17, first=80, last=80)
    fabric.forget(Ref("rule", "range"))
    assert passes(fabric, "a", "s") and not passes(fabric, "a", "s", (5000, 81))


def test_the_same_rules_in_another_order() -> None:
    """Flows do not depend on which rule came first."""
    seen = []
    for order in (1, -1):
        fabric = fabric_of()
        fabric.group("g")
        rules = [
            Rule(id="1", key=11, group="g", direction="ingress", version=4, protocol=6, first=80, last=99),
            Rule(id="2", key=12, group="g", direction="ingress", version=4, protocol=6, first=90, last=110),
            Rule(id="3", key=13, group="g", direction="ingress", version=4, protocol=6, cidr="10.0.0.0/8"),
            Rule(id="4", key=14, group="g", direction="ingress", version=4, protocol=6, first=85, last=86),
        ]
        fabric.tell(*rules[::order])
        fabric.port("a", "net", "hv1", "10.0.0.1", groups=["g"])
        seen.append(rule_flows(fabric))
    assert seen[0] == seen[1] and len(seen[0]) > 5


def offices(fabric: Fabric, count: int) -> None:
    """An address group of prefixes that are no neighbours."""
    fabric.address_group("offices", *(f"10.{2 * n}.0.0/16" for n in range(count)))


def test_a_product_is_a_conjunction() -> None:
    """20 offices × (a range of 4 pieces and two ports) is the sum of both sides: one more office is three flows."""
    fabric = fabric_of()
    fabric.group("g")
    offices(fabric, 20)
    for first, last in ((1000, 1006), (22, 22), (443, 443)):
        fabric.rule("g", "ingress", protocol=6, first=first, last=last, remote_addresses="offices")
    fabric.port("a", "net", "hv1", "10.0.0.1", groups=["g"])
    flows = rule_flows(fabric)
    pieces = 1 + 1 + 3
    clauses = [flow for flow in flows if isinstance(flow.actions[0], Conjunction)]
    [met] = [flow for flow in flows if flow.match.get("conj_id")]
    assert len(clauses) == 2 * (20 + pieces) and met.match.get(p.POLICY) == fabric.endpoint("a").identity
    assert len(flows) == len(clauses) + 1 + 20, "and the later fragments from each office"
    assert {flow.priority for flow in clauses} == {90}
    offices(fabric, 21)
    delta = fabric.hypervisors["hv1"].engine.recompute()
    assert len(delta.flows) == 3 and None not in delta.flows.values()


def test_a_conjunction_judges_like_its_rules() -> None:
    """Each office and each port of the product pass, and no other; answers too; and so for two products that share."""
    fabric = fabric_of()
    fabric.group("g")
    offices(fabric, 5)
    fabric.address_group("others", "10.0.0.0/16", *(f"10.{100 + 2 * n}.0.0/16" for n in range(5)))
    fabric.rule("g", "ingress", protocol=17, first=1001, last=1006, remote_addresses="offices")
    fabric.rule("g", "ingress", protocol=17, first=1004, last=1014, remote_addresses="others")
    a = fabric.port("a", "net", "hv1", "10.0.0.1", groups=["g"])
    b = fabric.port("b", "net", "hv1", "10.0.0.2", secure=False)
    flows = rule_flows(fabric)
    assert len([flow for flow in flows if flow.match.get("conj_id")]) == 2
    assert any(len(flow.actions) == 2 for flow in flows), "10.0.0.0/16 is in both"
    for second, first, last in ((0, 1001, 1014), (2, 1001, 1006), (8, 1001, 1006), (9, 0, 0), (104, 1004, 1014)):
        for port in (1000, 1001, 1003, 1004, 1006, 1007, 1014, 1015):
            said = udp(b, a, f"10.{second}.3.4", "10.0.0.1", (5000, port))
            assert fabric.reached("b", said) == ["a"] * (first <= port <= last), (second, port)
            answer = udp(a, b, "10.0.0.1", f"10.{second}.3.4", (port, 5000))
            assert fabric.reached("a", answer) == ["b"] * (first <= port <= last), (second, port)


def test_later_fragments_follow_the_first() -> None:
    """Of a datagram that is let in the later fragments pass, of one that is not the later ones fall, in any order of
    rules and both families."""
    fabric = fabric_of()
    fabric.group("g")
    for version, cidr in ((4, "10.0.0.2/32"), (6, "fd00::2/128")):
        fabric.rule("g", "ingress", version, protocol=17, first=80, last=80, cidr=cidr)
    a = fabric.port("a", "net", "hv1", "10.0.0.1", "fd00::1", groups=["g"])
    b = fabric.port("b", "net", "hv1", "10.0.0.2", "fd00::2", secure=False)
    inside = {"whole_ip_proto": 17, "whole_udp_src": 5000, "whole_udp_dst": 80}
    later4 = ipv4(b, a, "10.0.0.2", "10.0.0.1", ip_proto=17, ip_frag=3, **inside)
    later6 = ipv6(b, a, "fd00::2", "fd00::1", ip_proto=44, ip_frag=3, **inside)
    for packet in (later4, later6):
        assert fabric.reached("b", packet) == ["a"]
        source = "ipv4_src" if "ipv4_src" in packet else "ipv6_src"
        assert fabric.reached("b", {**packet, source: packet[source] + 1}) == [], "from somebody else"
        assert fabric.reached("b", {**packet, "whole_ip_proto": 6, "ip_proto": 6 if packet is later4 else 44}) == []
