"""Given this topology, a packet in here comes out there: unicast, broadcast and isolation over each kind of segment."""

import msgspec
import pytest

from selvedge.topology import OVERLAYS, Endpoint, SegmentKind
from tests.interpreter import Fabric
from tests.packets import BROADCAST, arp, frame, ip, ipv4

KINDS: list[SegmentKind] = ["geneve", "vxlan", "vlan", "flat"]
STRANGER = "00:aa:bb:cc:dd:ee"


class Three:
    """Three hypervisors; network "net" with ports a and b on hv1 and c on hv2, none on hv3."""

    def __init__(self, kind: SegmentKind) -> None:
        self.fabric = Fabric()
        for name in ("hv1", "hv2", "hv3"):
            self.fabric.hypervisor(name)
        self.net = self.fabric.network("net", kind, 0 if kind == "flat" else 100)
        self.a = self.fabric.port("a", "net", "hv1", "10.0.0.1")
        self.b = self.fabric.port("b", "net", "hv1", "10.0.0.2")
        self.c = self.fabric.port("c", "net", "hv2", "10.0.0.3")

    def ping(self, src: Endpoint, dst: Endpoint) -> list[str]:
        """Whom an IPv4 packet from one port to another reaches."""
        return self.fabric.reached(src.id, ipv4(src, dst, src.addresses[0], dst.addresses[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_unicast_reaches_its_destination_only(kind: SegmentKind) -> None:
    """a pings b beside it and c on the other host, both ways; nobody else gets a copy."""
    three = Three(kind)
    assert three.ping(three.a, three.b) == ["b"]
    assert three.fabric.wire == [] and three.fabric.tunnelled == []
    assert three.ping(three.a, three.c) == ["c"]
    assert three.ping(three.c, three.a) == ["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_broadcast_reaches_each_member_once(kind: SegmentKind) -> None:
    """A broadcast and a multicast of a reach b and c once each, and not a itself."""
    three = Three(kind)
    for destination in (BROADCAST, 0x01005E0000FB):
        assert three.fabric.reached("a", ipv4(three.a, destination, "10.0.0.1", "224.0.0.251")) == ["b", "c"]
        assert three.fabric.reached("c", ipv4(three.c, destination, "10.0.0.3", "224.0.0.251")) == ["a", "b"]
    assert three.fabric.hypervisors["hv3"].engine.flows() == {}
    assert three.fabric.hypervisors["hv3"].engine.groups() == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_vm_to_itself(kind: SegmentKind) -> None:
    """A frame to the sender's own MAC goes nowhere."""
    three = Three(kind)
    assert three.ping(three.a, three.a) == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_unicast(kind: SegmentKind) -> None:
    """An overlay drops what is sent to a MAC that nobody has; a provider segment hands it to the wire, once."""
    three = Three(kind)
    assert three.fabric.reached("a", ipv4(three.a, STRANGER, "10.0.0.1", "10.0.0.99")) == []
    assert three.fabric.tunnelled == []
    assert len(three.fabric.wire) == (0 if kind in OVERLAYS else 1)


@pytest.mark.parametrize("kind", ["geneve", "vxlan"])
def test_no_packet_goes_from_tunnel_to_tunnel(kind: SegmentKind) -> None:
    """hv2 gets a tunnelled broadcast, and a unicast to a port that is elsewhere: hv2's own members, and no tunnel."""
    three = Three(kind)
    d = three.fabric.port("d", "net", "hv3", "10.0.0.4")
    from_hv1 = {"tun_id": 100, "tun_src": ip("192.0.2.1"), "tun_metadata0": 0}
    broadcast = {**arp(three.a, "10.0.0.1", "10.0.0.9"), **from_hv1}
    assert [arrival.port for arrival in three.fabric.send_tunnel("hv2", kind, broadcast)] == ["c"]
    assert three.fabric.tunnelled == []
    assert three.fabric.send_tunnel("hv2", kind, {**ipv4(three.a, d, "10.0.0.1", "10.0.0.4"), **from_hv1}) == []
    assert three.fabric.tunnelled == []


@pytest.mark.parametrize("kind", ["geneve", "vxlan"])
def test_a_strange_tunnel_end_is_not_heard(kind: SegmentKind) -> None:
    """A tunnelled packet from an unknown address, from a host that shares nothing, or with a strange VNI is dropped."""
    three = Three(kind)
    packet = arp(three.a, "10.0.0.1", "10.0.0.9")
    for source, number in (("198.51.100.1", 100), ("192.0.2.3", 100), ("192.0.2.1", 101)):
        came = {**packet, "tun_id": number, "tun_src": ip(source), "tun_metadata0": 0}
        assert three.fabric.send_tunnel("hv2", kind, came) == []
    came = {**packet, "tun_id": 100, "tun_src": ip("192.0.2.1"), "tun_metadata0": 0}
    assert [arrival.port for arrival in three.fabric.send_tunnel("hv2", kind, came)] == ["c"]


def test_geneve_names_the_destination() -> None:
    """Geneve carries the destination's key and the sender's identity; a key of another segment delivers nothing."""
    three = Three("geneve")
    three.fabric.network("other", "geneve", 200)
    x = three.fabric.port("x", "other", "hv2", "10.0.0.3")
    three.ping(three.a, three.c)
    [(kind, packet)] = three.fabric.tunnelled
    assert (kind, packet["tun_id"]) == ("geneve", 100)
    assert packet["tun_metadata0"] == three.a.identity << 32 | three.c.key
    forged = {**ipv4(three.a, x, "10.0.0.1", "10.0.0.3"), "tun_src": ip("192.0.2.1"), "tun_metadata0": x.key}
    assert three.fabric.send_tunnel("hv2", "geneve", {**forged, "tun_id": 100}) == []


@pytest.mark.parametrize("kind", KINDS)
def test_segments_with_the_same_addresses_are_apart(kind: SegmentKind) -> None:
    """Two networks with the same MACs and addresses on the same hosts: each hears its own only."""
    three = Three(kind)
    three.fabric.network("twin", "geneve", 4000)
    for name, host, original in (("a2", "hv1", three.a), ("b2", "hv1", three.b), ("c2", "hv2", three.c)):
        three.fabric.port(name, "twin", host, *original.addresses, mac=original.mac)
    assert three.ping(three.a, three.c) == ["c"]
    assert three.fabric.reached("a2", ipv4(three.a, three.c, "10.0.0.1", "10.0.0.3")) == ["c2"]
    assert three.fabric.reached("a2", ipv4(three.a, BROADCAST, "10.0.0.1", "10.0.0.255")) == ["b2", "c2"]
    assert three.fabric.reached("a", ipv4(three.a, BROADCAST, "10.0.0.1", "10.0.0.255")) == ["b", "c"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_down_is_not_there(kind: SegmentKind) -> None:
    """A port that is down neither sends nor receives nor is answered for; a segment that is down leaves no flow."""
    three = Three(kind)
    three.fabric.tell(msgspec.structs.replace(three.b, up=False))
    assert three.ping(three.b, three.a) == []
    assert three.ping(three.a, three.b) == []
    assert three.fabric.reached("a", ipv4(three.a, BROADCAST, "10.0.0.1", "10.0.0.255")) == ["c"]
    assert "a" not in three.fabric.reached("a", arp(three.a, "10.0.0.1", "10.0.0.2"))
    three.fabric.tell(msgspec.structs.replace(three.net, up=False))
    assert three.ping(three.a, three.c) == []
    assert three.fabric.hypervisors["hv1"].engine.groups() == {}


@pytest.mark.parametrize("kind", ["vlan", "flat"])
def test_strangers_on_the_wire(kind: SegmentKind) -> None:
    """A stranger on a provider network reaches local ports by unicast and broadcast, and is reached and heard."""
    three = Three(kind)
    tag = 0x1064 if kind == "vlan" else 0
    came = {**ipv4(STRANGER, three.a, "10.0.0.99", "10.0.0.1"), "vlan_vid": tag}
    assert [arrival.port for arrival in three.fabric.send_wire("physnet1", came)] == ["a"]
    came = {**arp(STRANGER, "10.0.0.99", "10.0.0.1"), "vlan_vid": tag}
    assert [arrival.port for arrival in three.fabric.send_wire("physnet1", came)] == ["a", "b", "c"]
    three.fabric.send("a", ipv4(three.a, STRANGER, "10.0.0.1", "10.0.0.99"))
    [(network, packet)] = three.fabric.wire
    assert (network, packet.get("vlan_vid", 0)) == ("physnet1", tag)
    three.fabric.send("a", arp(three.a, "10.0.0.1", "10.0.0.99"))
    assert len(three.fabric.wire) == 1
    # Nothing that comes from the wire returns to it, known or not.
    for destination in (three.c, "00:00:00:00:00:99", BROADCAST):
        three.fabric.send_wire("physnet1", {**frame(STRANGER, destination), "vlan_vid": tag})
        assert len(three.fabric.wire) == 1, "only the stranger's own frame is on the wire"


def test_flat_and_vlans_share_a_wire() -> None:
    """A flat network and two VLANs on one patch: frames are of the network that their tag says, others of none."""
    fabric = Fabric()
    fabric.hypervisor("hv1")
    networks: list[tuple[str, SegmentKind, int]] = [("flat", "flat", 0), ("v5", "vlan", 5), ("v6", "vlan", 6)]
    for name, kind, number in networks:
        fabric.network(name, kind, number)
        fabric.port(f"on-{name}", name, "hv1", "10.0.0.1")
    for tag, heard in ((0, ["on-flat"]), (0x1005, ["on-v5"]), (0x1006, ["on-v6"]), (0x1007, []), (0x1000, [])):
        arrivals = fabric.send_wire("physnet1", {**arp(STRANGER, "10.0.0.9", "10.0.0.1"), "vlan_vid": tag})
        assert [arrival.port for arrival in arrivals] == heard


def test_a_segment_of_many_members() -> None:
    """300 local ports and a remote one: the group has leaves, and a broadcast still reaches each member once."""
    fabric = Fabric()
    fabric.hypervisor("hv1")
    fabric.hypervisor("hv2")
    fabric.network("net")
    ports = [
        fabric.port(f"p{n:03}", "net", "hv1", f"10.0.{n >> 8}.{n & 255}", mac=f"fa:16:3e:00:{n >> 8:02x}:{n & 255:02x}")
        for n in range(1, 301)
    ]
    far = fabric.port("q", "net", "hv2", "10.0.9.1", mac="fa:16:3e:00:09:01")
    groups = fabric.hypervisors["hv1"].engine
    groups.recompute()
    assert len(groups.groups()) == 9 and max(len(group.buckets) for group in groups.groups().values()) < 80
    names = [port.id for port in ports]
    assert fabric.reached("p001", ipv4(ports[0], BROADCAST, "10.0.0.1", "10.0.255.255")) == [*names[1:], "q"]
    assert fabric.reached("q", ipv4(far, BROADCAST, "10.0.9.1", "10.0.255.255")) == names
