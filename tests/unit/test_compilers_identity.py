"""Who is at the other side: copies to several claimants, and identities where the wire carries none."""

import pytest

from openflow.facts import Posture, Zone
from selvedge.topology import Ref, SegmentKind
from tests.packets import BROADCAST, arp, ipv4, udp
from tests.unit.test_compilers_policy import client_and_server, engine_of, fabric_of, passes

VIRTUAL = "00:00:5e:00:01:07"

KINDS: list[SegmentKind] = ["geneve", "vxlan", "vlan", "flat"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_remote_group(kind: SegmentKind) -> None:
    """Only members of the group are let in, on the same host and from others, over any kind of segment; answers too."""
    fabric = client_and_server(kind, remote_group="clients")
    fabric.port("b", "net", "hv2", "10.0.0.3", groups=["clients"])
    fabric.group("strange")
    fabric.rule("strange", "egress")
    for number, host in enumerate(("hv1", "hv2")):
        fabric.port(f"stranger{number}", "net", host, f"10.0.0.{20 + number}", groups=["strange"])
    for client in "ab":
        for server in "sx":
            assert passes(fabric, client, server) and passes(fabric, server, client, (80, 5000))
    for stranger in ("stranger0", "stranger1"):
        assert not passes(fabric, stranger, "s") and not passes(fabric, stranger, "x")
    fabric.change("stranger0", groups=["clients", "strange"])
    assert passes(fabric, "stranger0", "s") and passes(fabric, "s", "stranger0", (80, 5000))


@pytest.mark.parametrize("kind", KINDS)
def test_egress_to_a_group(kind: SegmentKind) -> None:
    """A rule about whom one may talk to: a member at its own address, and not what a member would only pass on."""
    fabric = fabric_of(kind)
    for group in ("clients", "servers"):
        fabric.group(group)
    fabric.rule("clients", "egress", remote_group="servers")
    fabric.rule("servers", "ingress")
    a = fabric.port("a", "net", "hv1", "10.0.0.1", groups=["clients"])
    for number, host in enumerate(("hv1", "hv2")):
        name = f"s{number}"
        server = fabric.port(
            name, "net", host, f"10.0.0.{10 + number}", groups=["servers"], pairs=[("", "10.7.0.0/24")]
        )
        assert passes(fabric, "a", name) and passes(fabric, name, "a", (80, 5000))
        for address, heard in (("10.7.0.9", True), ("10.8.0.9", False), ("10.0.0.99", False)):
            assert fabric.reached("a", udp(a, server, "10.0.0.1", address, (5000, 80))) == [name] * heard
    fabric.port("other", "net", "hv2", "10.0.0.30", secure=False)
    assert not passes(fabric, "a", "other")
    if kind in ("vlan", "flat"):
        assert fabric.reached("a", udp(a, 0x00AABBCCDDEE, "10.0.0.1", "10.0.0.10", (5000, 80))) == []
        assert fabric.wire == []


# Copies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stateful", [True, False])
def test_each_copy_is_judged_for_itself(stateful: bool) -> None:
    """Six ports claim a MAC; each gets its copy if its own rules, and the sender's about it, allow that. One without
    port security is no member of what the sender may talk to, whoever had a copy before."""
    fabric = fabric_of()
    for group in ("sender", "yes", "no", "also"):
        fabric.group(group, stateful=stateful)
    for group in ("yes", "also"):
        fabric.rule(group, "ingress")
        fabric.rule("sender", "egress", remote_group=group)
    a = fabric.port("a", "net", "hv1", "10.0.0.1", groups=["sender"])
    claims = [(VIRTUAL, "10.0.0.100/32")]
    for name, group in (("b", "no"), ("c", "yes"), ("d", "no"), ("e", "also"), ("f", "yes")):
        host = "hv2" if name == "f" else "hv1"
        fabric.port(name, "net", host, f"10.0.0.{ord(name)}", groups=[group], pairs=claims)
    fabric.port("g", "net", "hv1", "10.0.0.100", mac=VIRTUAL, secure=False)
    assert fabric.reached("a", udp(a, _Mac(VIRTUAL), "10.0.0.1", "10.0.0.100", (1, 2))) == ["c", "e", "f"]
    assert fabric.reached("a", udp(a, _Mac(VIRTUAL), "10.0.0.1", "10.0.0.101", (1, 2))) == []


class _Mac(int):
    """A MAC address from its text."""

    def __new__(cls, text: str) -> "_Mac":
        return super().__new__(cls, int(text.replace(":", ""), 16))


def test_a_broadcast_reaches_whose_rules_allow_it() -> None:
    """Each member of the segment judges its own copy of a flood."""
    fabric = fabric_of()
    fabric.group("open")
    fabric.rule("open", "ingress")
    fabric.rule("open", "egress")
    fabric.group("closed")
    a = fabric.port("a", "net", "hv1", "10.0.0.1", groups=["open"])
    for name, host, group in (
        ("b", "hv1", "open"),
        ("c", "hv1", "closed"),
        ("d", "hv2", "open"),
        ("e", "hv2", "closed"),
    ):
        fabric.port(name, "net", host, f"10.0.0.{ord(name)}", groups=[group])
    assert fabric.reached("a", udp(a, BROADCAST, "10.0.0.1", "10.0.0.255", (5, 6))) == ["b", "d"]
    assert fabric.reached("a", arp(a, "10.0.0.1", "10.0.0.77")) == ["b", "c", "d", "e"]


# Identities on the wire -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vxlan", "vlan", "flat"])
def test_identities_are_looked_up_only_where_a_rule_asks(kind: SegmentKind) -> None:
    """Where no rule in force names a group there is no flow of a remote member; with one it costs its addresses."""
    fabric = client_and_server(kind)
    fabric.port("b", "net", "hv2", "10.0.0.3", "fd00::3", groups=["clients"])
    tables = [flow.table for flow in engine_of(fabric).flows().values()]
    assert tables.count(7) == 1 and tables.count(45) == 3
    before = tables.count(40)
    fabric.rule("servers", "ingress", name="members", remote_group="clients")
    tables = [flow.table for flow in engine_of(fabric).flows().values()]
    assert tables.count(7) == 1 + 1 + 3, "s has an address, b has two and a link-local one"
    assert tables.count(40) == before + (0 if kind == "vxlan" else 2) and tables.count(45) == 3
    fabric.rule("clients", "egress", name="to-servers", remote_group="servers")
    tables = [flow.table for flow in engine_of(fabric).flows().values()]
    assert tables.count(45) == 3 + 2 + 1 + 3
    fabric.forget(Ref("rule", "members"), Ref("rule", "to-servers"))
    tables = [flow.table for flow in engine_of(fabric).flows().values()]
    assert tables.count(7) == 1 and tables.count(45) == 3 and tables.count(40) == before


def test_an_address_of_two_is_nobodys() -> None:
    """Two ports elsewhere claim one address of one MAC with different groups, one of them perhaps by a wider pair: what
    the wire brings from it may be either's, and has no identity."""
    fabric = client_and_server("vlan", remote_group="clients")
    fabric.group("other")
    shared = (VIRTUAL, "10.0.0.100/32")
    fabric.port("c", "net", "hv2", "10.0.0.3", groups=["clients"], pairs=[shared, (VIRTUAL, "10.0.0.0/24")])
    said = {
        **ipv4(VIRTUAL, fabric.endpoint("x"), "10.0.0.100", "10.0.0.9", ip_proto=17, udp_dst=80),
        "vlan_vid": 0x1064,
    }
    heard = [arrival.port for arrival in fabric.send_wire("physnet1", said)]
    assert heard == ["x"]
    fabric.hypervisor("hv3")
    for number, pair in enumerate((shared, (VIRTUAL, "10.0.0.0/16"))):
        name = f"d{number}"
        fabric.port(name, "net", "hv3", f"10.0.0.{4 + number}", groups=["other"], pairs=[pair])
        assert fabric.send_wire("physnet1", said) == []
        fabric.change(name, groups=["clients"])
        assert [arrival.port for arrival in fabric.send_wire("physnet1", said)] == ["x"]
    fabric.port("free", "net", "hv3", "10.0.0.100", mac=VIRTUAL, secure=False)
    assert fabric.send_wire("physnet1", said) == []


def test_geneve_needs_no_lookup() -> None:
    """A member elsewhere on Geneve is a station and an answer: two flows, whatever rules are in force."""
    fabric = client_and_server("geneve", remote_group="clients")
    engine = engine_of(fabric)
    fabric.port("b", "net", "hv2", "10.0.0.3", groups=["clients"])
    delta = engine.recompute()
    assert sorted(key[0] for key in delta.flows) == [20, 40] and not delta.groups


def test_a_port_says_who_it_is_as_its_posture_tells() -> None:
    """While a port changes its groups it may be judged as one set, and still send as the other."""
    fabric = client_and_server("geneve", remote_group="clients")
    fabric.group("more")
    identity = fabric.endpoint("a").identity
    new = fabric.change("a", groups=["clients", "more"])
    engine = fabric.hypervisors["hv1"].engine
    engine.apply([Posture("a", "net", new.identity, new.groups, identity)])
    assert passes(fabric, "a", "s")
    [(_, packet)] = fabric.tunnelled
    assert packet["tun_metadata0"] >> 32 == identity


def test_zones_are_apart() -> None:
    """Each port's connections are in its own zone: the number is in its flows, and a change of it concerns no other."""
    fabric = client_and_server()
    engine = engine_of(fabric)
    engine.apply([Zone("a", 4711)])
    delta = engine.recompute()
    assert delta.compiled == {Ref("endpoint", "a")} and sorted(key[0] for key in delta.flows) == [0, 70]
