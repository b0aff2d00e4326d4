"""Odd and changing topologies: what is missing, late, doubled or moved hurts nobody else."""

import msgspec
import pytest

from openflow.facts import Patch, Plug, Self, TunnelPort
from openflow.incremental import Engine
from openflow.pipeline import Kind, own_group, owner_of
from selvedge.topology import Endpoint, Host, Pair, Ref, Rule, Segment, SegmentKind
from tests.interpreter import Fabric
from tests.packets import BROADCAST, arp, ip, ipv4

VIRTUAL = "00:00:5e:00:01:07"


def pair_of_hosts(kind: SegmentKind = "geneve", ends: tuple[str, str] = ("192.0.2.1", "192.0.2.2")) -> Fabric:
    """hv1 with port a, hv2 with port c."""
    fabric = Fabric()
    fabric.hypervisor("hv1", ends[0])
    fabric.hypervisor("hv2", ends[1])
    fabric.network("net", kind)
    fabric.port("a", "net", "hv1", "10.0.0.1")
    fabric.port("c", "net", "hv2", "10.0.0.3")
    return fabric


def ping(fabric: Fabric, src: str, dst: str) -> list[str]:
    """Whom a packet from one port to another's MAC reaches."""
    source, target = fabric.endpoint(src), fabric.endpoint(dst)
    return fabric.reached(src, ipv4(source, target, source.addresses[0], target.addresses[0]))


@pytest.mark.parametrize("kind", ["geneve", "vxlan"])
def test_ipv6_tunnels(kind: SegmentKind) -> None:
    """Hosts whose tunnel end points are IPv6: unicast and broadcast arrive, from and to IPv6 ends."""
    fabric = pair_of_hosts(kind, ("2001:db8::1", "2001:db8::2"))
    assert ping(fabric, "a", "c") == ["c"]
    [(_, packet)] = fabric.tunnelled
    assert packet["tun_ipv6_dst"] == ip("2001:db8::2") and "tun_dst" not in packet
    assert fabric.reached("c", arp(fabric.endpoint("c"), "10.0.0.3", "10.0.0.9")) == ["a"]


@pytest.mark.parametrize("end", ["", "2001:db8::2"])
def test_a_host_that_we_cannot_tunnel_to(end: str) -> None:
    """A peer without tunnel end, or with one of the other IP version, gets no flow; local ports are unharmed."""
    fabric = pair_of_hosts()
    fabric.port("b", "net", "hv1", "10.0.0.2")
    fabric.tell(Host(id="hv2", key=2, tunnel_ip=end))
    assert ping(fabric, "a", "c") == [] and fabric.tunnelled == []
    assert ping(fabric, "a", "b") == ["b"]
    assert fabric.hypervisors["hv1"].engine.peers == set()


def test_a_host_that_is_not_known_yet() -> None:
    """An endpoint is at a host of which nothing is known: dropped, until the host comes; then it is reached."""
    fabric = pair_of_hosts()
    host = fabric.facts[Ref("host", "hv2")]
    assert isinstance(host, Host)
    fabric.forget(Ref("host", "hv2"))
    assert ping(fabric, "a", "c") == [] and fabric.tunnelled == []
    fabric.tell(host)
    assert ping(fabric, "a", "c") == ["c"]
    assert fabric.hypervisors["hv1"].engine.peers == {"192.0.2.2"}


def test_a_host_changes_its_tunnel_end() -> None:
    """Packets follow to the new end, and are taken from it and no longer from the old one."""
    fabric = pair_of_hosts()
    a = fabric.endpoint("a")
    fabric.tell(Host(id="hv1", key=1, tunnel_ip="192.0.2.77"))
    came = {**arp(a, "10.0.0.1", "10.0.0.9"), "tun_id": 100, "tun_metadata0": 0}
    assert fabric.send_tunnel("hv2", "geneve", {**came, "tun_src": ip("192.0.2.1")}) == []
    assert len(fabric.send_tunnel("hv2", "geneve", {**came, "tun_src": ip("192.0.2.77")})) == 1
    assert fabric.hypervisors["hv2"].engine.peers == {"192.0.2.77"}


def test_an_endpoint_moves() -> None:
    """c moves from hv2 to hv1: it is reached there, hv2 has nothing left of it, and hv1 has no tunnel any more."""
    fabric = pair_of_hosts()
    old = fabric.endpoint("c")
    fabric.tell(msgspec.structs.replace(old, host="hv1"))
    assert ping(fabric, "a", "c") == [], "bound here, but not plugged here yet"
    fabric.unplug("c", "hv2")
    fabric.plug("c", "hv1")
    assert ping(fabric, "a", "c") == ["c"] and ping(fabric, "c", "a") == ["a"]
    for name in ("hv1", "hv2"):
        fabric.hypervisors[name].engine.recompute()
    assert fabric.hypervisors["hv2"].engine.flows() == {} and fabric.hypervisors["hv2"].engine.groups() == {}
    assert fabric.hypervisors["hv1"].engine.peers == set()


def test_plugged_where_it_is_not_bound() -> None:
    """An interface with the id of a port of another host gets nothing and sends nothing."""
    fabric = pair_of_hosts()
    fabric.unplug("c", "hv2")
    fabric.plug("c", "hv1")
    assert ping(fabric, "c", "a") == []
    assert fabric.reached("a", arp(fabric.endpoint("a"), "10.0.0.1", "10.0.0.9")) == []


@pytest.mark.parametrize("kind", ["geneve", "vxlan", "vlan"])
def test_one_mac_of_several(kind: SegmentKind) -> None:
    """A virtual MAC in the pairs of b (here), c and d (hv2) and e (hv3): one copy each, over any kind of segment."""
    fabric = Fabric()
    for name in ("hv1", "hv2", "hv3"):
        fabric.hypervisor(name)
    fabric.network("net", kind)
    a = fabric.port("a", "net", "hv1", "10.0.0.1")
    shared = [(VIRTUAL, "10.0.0.100/32")]
    for name, host, address in (("b", "hv1", "2"), ("c", "hv2", "3"), ("d", "hv2", "4"), ("e", "hv3", "5")):
        fabric.port(name, "net", host, f"10.0.0.{address}", pairs=shared)
    assert fabric.reached("a", ipv4(a, VIRTUAL, "10.0.0.1", "10.0.0.100")) == ["b", "c", "d", "e"]
    if kind == "vlan":
        [(_, packet)] = fabric.wire
        assert packet["vlan_vid"] == 0x1064
        came = {**ipv4("00:aa:bb:cc:dd:ee", VIRTUAL, "10.0.0.99", "10.0.0.100"), "vlan_vid": 0x1064}
        assert [arrival.port for arrival in fabric.send_wire("physnet1", came)] == ["b", "c", "d", "e"]
        assert len(fabric.wire) == 1


@pytest.mark.parametrize("kind", ["vlan", "flat"])
def test_claimants_of_a_mac_on_the_wire_only(kind: SegmentKind) -> None:
    """When all who have a MAC are elsewhere on a provider network, the wire gets one frame."""
    fabric = Fabric()
    for name in ("hv1", "hv2", "hv3"):
        fabric.hypervisor(name)
    fabric.network("net", kind, 0 if kind == "flat" else 7)
    a = fabric.port("a", "net", "hv1", "10.0.0.1")
    fabric.port("c", "net", "hv2", "10.0.0.3", pairs=[(VIRTUAL, "10.0.0.100/32")])
    fabric.port("d", "net", "hv3", "10.0.0.4", pairs=[(VIRTUAL, "10.0.0.100/32")])
    assert fabric.reached("a", ipv4(a, VIRTUAL, "10.0.0.1", "10.0.0.100")) == ["c", "d"]
    assert len(fabric.wire) == 1


def test_a_mac_is_taken_over() -> None:
    """The MAC of a, which is gone, is now another port's: frames go to the new one."""
    fabric = pair_of_hosts()
    a = fabric.endpoint("a")
    fabric.port("b", "net", "hv2", "10.0.0.9", mac=a.mac)
    fabric.port("z", "net", "hv1", "10.0.0.8")
    assert ping(fabric, "c", "b") == ["a", "b"]
    fabric.forget(Ref("endpoint", "a"))
    assert ping(fabric, "c", "b") == ["b"]
    assert ping(fabric, "z", "b") == ["b"]


def test_several_kinds_at_once() -> None:
    """Hosts that share a Geneve, a VXLAN and a VLAN network use each for its own; a kind goes with its last port."""
    fabric = Fabric()
    fabric.hypervisor("hv1")
    fabric.hypervisor("hv2")
    kinds: list[SegmentKind] = ["geneve", "vxlan", "vlan"]
    for kind in kinds:
        fabric.network(kind, kind, 100)
        fabric.port(f"a-{kind}", kind, "hv1", "10.0.0.1")
        fabric.port(f"c-{kind}", kind, "hv2", "10.0.0.3")
    for kind in kinds:
        assert ping(fabric, f"a-{kind}", f"c-{kind}") == [f"c-{kind}"]
        assert [used for used, _ in fabric.tunnelled] == ([] if kind == "vlan" else [kind])
    fabric.forget(Ref("endpoint", "a-geneve"))
    engine = fabric.hypervisors["hv1"].engine
    engine.recompute()
    tunnel = [flow for flow in engine.flows().values() if flow.table == 0 and flow.match.get("tun_src")]
    assert [flow.match.get("in_port") for flow in tunnel] == [2]


def test_no_wire_for_a_network() -> None:
    """A host that has no bridge mapping for the physical network: its ports reach each other and nothing else."""
    fabric = Fabric()
    fabric.hypervisor("hv1", wires=())
    fabric.network("net", "vlan", 5)
    a = fabric.port("a", "net", "hv1", "10.0.0.1")
    fabric.port("b", "net", "hv1", "10.0.0.2")
    assert ping(fabric, "a", "b") == ["b"]
    assert fabric.reached("a", ipv4(a, BROADCAST, "10.0.0.1", "10.0.0.255")) == ["b"]
    assert fabric.reached("a", ipv4(a, "00:aa:bb:cc:dd:ee", "10.0.0.1", "10.0.0.9")) == []


def test_everything_goes_with_its_last_port() -> None:
    """When the last local port is gone nothing is left: no flow, no group, no reader, no row."""
    fabric = pair_of_hosts()
    engine = fabric.hypervisors["hv1"].engine
    engine.recompute()
    assert engine.flows() and engine.groups()
    fabric.forget(Ref("endpoint", "a"))
    delta = engine.recompute()
    assert set(delta.flows.values()) == {None} and set(delta.groups.values()) == {None}
    assert engine.flows() == {} and engine.groups() == {} and engine.peers == set()


def test_two_objects_want_one_flow() -> None:
    """Two VLAN networks with one number on one wire: one of them has it, whoever came first, and it is counted."""
    results = []
    for order in ((0, 1), (1, 0)):
        engine = Engine()
        segments = [
            Segment(id=f"s{n}", key=n + 1, network="", kind="vlan", number=5, physical_network="physnet1", mtu=1500)
            for n in (0, 1)
        ]
        ports = [
            Endpoint(id=f"p{n}", key=n + 5, segment=f"s{n}", host="hv1", mac=f"02:00:00:00:00:0{n}") for n in (0, 1)
        ]
        engine.apply([Self("hv1"), Patch("physnet1", 3)])
        for n in order:
            engine.apply([segments[n], ports[n]])
            engine.recompute()
        assert engine.contested == 1
        results.append((engine.flows(), engine.owners()))
        engine.apply([], [Ref("endpoint", "p0")])
        delta = engine.recompute()
        assert engine.contested == 0
        [taken] = [flow for flow in delta.flows.values() if flow and flow.table == 0]
        assert owner_of(taken.cookie) == (Kind.SEGMENT, 2)
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "bad",
    [
        {"mac": "nonsense"},
        {"mac": "ff:ff:ff:ff:ff:ff"},
        {"pairs": (Pair(mac="ff:ff:ff:ff:ff:ff", cidr="10.0.0.9/32"),)},
        {"addresses": ("10.0.0.300",)},
        {"pairs": (Pair(mac="", cidr="10.0.0.0/40"),)},
        {"key": 1 << 32},
        {"key": 0},
    ],
)
def test_a_malformed_object_harms_nobody_else(bad: dict[str, object]) -> None:
    """An endpoint that cannot be understood has no flows and is named; others have theirs; mended, it has too."""
    segment = Segment(id="s", key=1, network="", kind="geneve", number=9, physical_network=None, mtu=1442)
    good = Endpoint(id="p", key=5, segment="s", host="hv1", mac="02:00:00:00:00:01", addresses=("10.0.0.1",))
    fields = {"id": "q", "key": 6, "segment": "s", "host": "hv1", "mac": "02:00:00:00:00:02", **bad}
    engine, reference = Engine(), Engine()
    for each in (engine, reference):
        each.apply([Self("hv1", "192.0.2.1"), TunnelPort("geneve", 1), segment, good, Plug("p", 10), Plug("q", 11)])
        each.recompute()
    engine.apply([Endpoint(**fields)])  # type: ignore[arg-type]
    engine.recompute()
    assert Ref("endpoint", "q") in {**engine.failed, **engine.malformed}
    assert set(reference.flows()) <= set(engine.flows())
    mended = Endpoint(id="q", key=6, segment="s", host="hv1", mac="02:00:00:00:00:02")
    for each in (engine, reference):
        each.apply([mended])
        each.recompute()
    assert engine.flows() == reference.flows() and not engine.failed and not engine.malformed


def test_every_flow_leads_to_its_object() -> None:
    """Cookies name the tenant's object, and groups are in our range."""
    fabric = pair_of_hosts()
    engine = fabric.hypervisors["hv1"].engine
    engine.recompute()
    rules = {fact.key for fact in fabric.facts.values() if isinstance(fact, Rule)}
    keys = {Kind.BASE: {0}, Kind.SEGMENT: {1}, Kind.ENDPOINT: {2, 3}, Kind.HOST: {2}, Kind.RULE: rules}
    seen = {owner_of(flow.cookie) for flow in engine.flows().values()}
    assert seen == {(kind, key) for kind, numbers in keys.items() for key in numbers}
    assert all(own_group(number) for number in engine.groups())


@pytest.mark.parametrize("bad", [{"tunnel_ip": "nowhere"}, {"key": 1 << 28}])
def test_a_malformed_host_harms_nobody_else(bad: dict[str, object]) -> None:
    """A host that cannot be understood is as if it were unknown: the segment that it shares still floods to others."""
    fabric = pair_of_hosts()
    fabric.hypervisor("hv3")
    fabric.port("d", "net", "hv3", "10.0.0.4")
    fabric.tell(Host(**{"id": "hv2", "key": 2, "tunnel_ip": "192.0.2.2", **bad}))  # type: ignore[arg-type]
    engine = fabric.hypervisors["hv1"].engine
    assert ping(fabric, "a", "d") == ["d"] and ping(fabric, "a", "c") == []
    a = fabric.endpoint("a")
    assert fabric.reached("a", ipv4(a, BROADCAST, "10.0.0.1", "10.0.0.255")) == ["d"]
    assert set(engine.malformed) == {Ref("host", "hv2")} and engine.failed == {}
