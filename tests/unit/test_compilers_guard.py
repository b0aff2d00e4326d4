"""The source guard, packet by packet: what an endpoint may send, and what it may not."""

import pytest

from selvedge.topology import Endpoint
from tests.interpreter import Fabric, Packet
from tests.packets import BROADCAST, advertise, arp, frame, ip, ipv4, ipv6, lla, solicit, udp

OTHER = "fa:16:3e:99:99:99"


class Guarded:
    """Port "a" under test and port "b" beside it, on one network; "b" has port security off and sees all."""

    def __init__(self, *ips: str, secure: bool = True, pairs: tuple[tuple[str, str], ...] = ()) -> None:
        self.fabric = Fabric()
        self.fabric.hypervisor("hv1")
        self.fabric.network("net")
        self.a = self.fabric.port("a", "net", "hv1", *ips, secure=secure, pairs=pairs)
        self.b = self.fabric.port("b", "net", "hv1", "10.0.0.2", "fd00::2", secure=False)

    def passes(self, packet: Packet) -> bool:
        """Whether what a sends arrives at b."""
        return self.fabric.reached("a", packet) == ["b"]


@pytest.fixture
def dual() -> Guarded:
    """A port with an IPv4 and an IPv6 address."""
    return Guarded("10.0.0.1", "fd00::1")


def test_its_own_addresses_pass(dual: Guarded) -> None:
    """IPv4, IPv6, ARP and the link-local address with the port's own MAC are delivered."""
    a, b = dual.a, dual.b
    assert dual.passes(ipv4(a, b, "10.0.0.1", "10.0.0.2"))
    assert dual.passes(ipv6(a, b, "fd00::1", "fd00::2"))
    assert dual.passes(ipv6(a, b, lla(a), "fd00::2"))
    assert dual.passes(arp(a, "10.0.0.1", "10.0.0.77"))
    assert dual.passes(arp(a, "10.0.0.1", "10.0.0.2", op=2, dst=b, tha=1))


def test_a_false_mac_is_refused(dual: Guarded) -> None:
    """No protocol passes with another source MAC, not even with the port's own addresses."""
    b = dual.b
    assert not dual.passes(ipv4(OTHER, b, "10.0.0.1", "10.0.0.2"))
    assert not dual.passes(ipv6(OTHER, b, "fd00::1", "fd00::2"))
    assert not dual.passes(arp(OTHER, "10.0.0.1", "10.0.0.77", sha=dual.a.mac))
    assert not dual.passes(ipv4(b, b, "10.0.0.1", "10.0.0.2")), "the MAC of a neighbour"
    assert not dual.passes(
        {**udp(dual.a, BROADCAST, "0.0.0.0", "255.255.255.255", (68, 67)), "eth_src": 0xFA163E999999}
    )


def test_a_false_address_is_refused(dual: Guarded) -> None:
    """IPv4 and IPv6 sources must be the port's own; so must both of ARP's."""
    a, b = dual.a, dual.b
    assert not dual.passes(ipv4(a, b, "10.0.0.3", "10.0.0.2"))
    assert not dual.passes(ipv4(a, b, "0.0.0.0", "10.0.0.2"))
    assert not dual.passes(ipv6(a, b, "fd00::3", "fd00::2"))
    assert not dual.passes(ipv6(a, b, lla(b), "fd00::2"))
    assert not dual.passes(ipv6(a, b, "::", "fd00::2"))
    assert not dual.passes(arp(a, "10.0.0.2", "10.0.0.77")), "spa"
    assert not dual.passes(arp(a, "10.0.0.1", "10.0.0.77", sha=OTHER)), "sha"
    assert not dual.passes(arp(a, "10.0.0.2", "10.0.0.1", op=2, dst=b)), "an unasked reply"
    assert not dual.passes(arp(a, "10.0.0.2", "10.0.0.2")), "a gratuitous request for a neighbour's address"


def test_other_protocols_are_refused(dual: Guarded) -> None:
    """RARP, LLDP, EAPOL, MPLS, IPX, STP (LLC) and tagged frames of a secure port go nowhere."""
    a = dual.a
    for ethertype in (0x8035, 0x88CC, 0x888E, 0x8847, 0x8137, 0x05FF, 0x8863, 0):
        assert not dual.passes(frame(a, BROADCAST, eth_type=ethertype, arp_sha=1))
    for tag in (0x1000, 0x1001, 0x1064):
        assert not dual.passes({**ipv4(a, dual.b, "10.0.0.1", "10.0.0.2"), "vlan_vid": tag})


def test_before_it_has_an_address(dual: Guarded) -> None:
    """DHCP discovery, ARP probes, router solicitations, multicast reports and duplicate address detection pass."""
    a = dual.a
    assert dual.passes(udp(a, BROADCAST, "0.0.0.0", "255.255.255.255", (68, 67)))
    assert not dual.passes(udp(a, BROADCAST, "0.0.0.0", "255.255.255.255", (69, 67)))
    assert not dual.passes(udp(a, BROADCAST, "0.0.0.0", "10.255.255.255", (68, 67)))
    assert dual.passes(arp(a, "0.0.0.0", "10.0.0.1"))
    assert not dual.passes(arp(a, "0.0.0.0", "10.0.0.1", op=2))
    for kind, passes in ((133, True), (131, True), (143, True), (128, False), (134, False), (137, False)):
        packet = ipv6(a, 0x333300000016, "::", "ff02::16", icmpv6_type=kind)
        assert dual.passes(packet) is passes, kind


def test_an_arp_probe_tells_the_true_mac(dual: Guarded) -> None:
    """The shared flow for probes does not know the sender's MAC: it writes the true one over a forged one."""
    [arrival] = dual.fabric.send("a", arp(dual.a, "0.0.0.0", "10.0.0.1", sha=OTHER))
    assert arrival.packet["arp_sha"] == arrival.packet["eth_src"]


def test_dhcp_renewal_is_its_own_traffic(dual: Guarded) -> None:
    """A renewal is unicast from the port's own address; DHCPv6 starts from the link-local one."""
    a = dual.a
    assert dual.passes(udp(a, dual.b, "10.0.0.1", "10.0.0.2", (68, 67)))
    assert dual.passes(udp(a, 0x333300010002, lla(a), "ff02::1:2", (546, 547)))


def test_it_is_no_server_of_the_network(dual: Guarded) -> None:
    """A secure port is no DHCP server, no DHCPv6 server and no router."""
    a = dual.a
    assert not dual.passes(udp(a, BROADCAST, "10.0.0.1", "255.255.255.255", (67, 68)))
    assert not dual.passes(udp(a, dual.b, "fd00::1", "fd00::2", (547, 546)))
    assert not dual.passes(ipv6(a, 0x333300000001, lla(a), "ff02::1", icmpv6_type=134))
    assert not dual.passes(ipv6(a, 0x333300000001, lla(a), "ff02::1", icmpv6_type=134, icmpv6_code=1))


def test_a_first_fragment_shows_what_it_is_part_of(dual: Guarded) -> None:
    """Extension headers fill the first fragment of IPv6, or go on in the next: what follows could be a server's."""
    a, b, first = dual.a, dual.b, 1
    assert dual.passes(udp(a, b, "fd00::1", "fd00::2", (5000, 5001)) | {"ip_frag": first})
    assert dual.passes(udp(a, b, "10.0.0.1", "10.0.0.2", (0, 0)) | {"ip_frag": first})
    assert dual.passes(udp(a, b, "fd00::1", "fd00::2", (0, 0)))
    assert not dual.passes(udp(a, b, "fd00::1", "fd00::2", (0, 0)) | {"ip_frag": first})
    assert not dual.passes(ipv6(a, b, "fd00::1", "fd00::2", icmpv6_type=0) | {"ip_frag": first})
    assert not dual.passes(ipv6(a, b, "fd00::1", "fd00::2") | {"ip_proto": 0})


def test_neighbour_solicitations(dual: Guarded) -> None:
    """Anybody may be asked for, by an own source with the own MAC in the option or without one."""
    a, b = dual.a, dual.b
    for source in ("fd00::1", lla(a)):
        assert dual.passes(solicit(a, source, "fd00::77"))
        assert dual.passes(solicit(a, source, "fd00::2", sll=None, dst=b)), "reachability probe"
        assert not dual.passes(solicit(a, source, "fd00::77", sll=OTHER))
    assert not dual.passes(solicit(a, "fd00::2", "fd00::77"))
    assert not dual.passes(solicit(a, "fd00::1", "::", sll=None)), "how a malformed option list looks"
    assert not dual.passes({**solicit(a, "fd00::1", "fd00::77", sll=OTHER), "icmpv6_code": 1})


def test_duplicate_address_detection(dual: Guarded) -> None:
    """A port may probe its own addresses, the link-local one too, and no other: that would be a denial of service."""
    a = dual.a
    for target, passes in (("fd00::1", True), (lla(a), True), ("fd00::2", False), (lla(dual.b), False)):
        assert dual.passes(solicit(a, "::", target, sll=None)) is passes
    assert not dual.passes(solicit(a, "::", "fd00::1", sll=OTHER))


def test_neighbour_advertisements(dual: Guarded) -> None:
    """Only own addresses, only with the own MAC or without option (as answers to unicast probes are)."""
    a, b = dual.a, dual.b
    for source in ("fd00::1", lla(a)):
        assert dual.passes(advertise(a, source, "fd00::1"))
        assert dual.passes(advertise(a, source, "fd00::1", tll=None, dst=b))
        assert dual.passes(advertise(a, source, lla(a)))
        assert not dual.passes(advertise(a, source, "fd00::2"))
        assert not dual.passes(advertise(a, source, "fd00::2", tll=None, dst=b))
        assert not dual.passes(advertise(a, source, "fd00::1", tll=OTHER))
        assert not dual.passes(advertise(a, source, "::"))
    assert not dual.passes(advertise(a, "fd00::2", "fd00::1"))
    assert not dual.passes(advertise(a, "::", "fd00::1"))


def test_one_ip_version_only() -> None:
    """A port without IPv6 address sends no IPv6, not even link-local; one without IPv4 no IPv4 and no ARP."""
    four, six = Guarded("10.0.0.1"), Guarded("fd00::1")
    assert not four.passes(ipv6(four.a, four.b, lla(four.a), "fd00::2"))
    assert not four.passes(solicit(four.a, lla(four.a), "fd00::2", sll=None, dst=four.b))
    assert not four.passes(solicit(four.a, "::", lla(four.a), sll=None))
    assert not four.passes(advertise(four.a, lla(four.a), lla(four.a)))
    assert not six.passes(ipv4(six.a, six.b, "10.0.0.1", "10.0.0.2"))
    assert not six.passes(arp(six.a, "10.0.0.1", "10.0.0.77"))
    none = Guarded()
    assert not none.passes(ipv4(none.a, none.b, "10.0.0.1", "10.0.0.2"))
    assert none.passes(udp(none.a, BROADCAST, "0.0.0.0", "255.255.255.255", (68, 67)))


def test_port_security_off() -> None:
    """Without port security any MAC and any address and protocol pass; a tagged frame does not."""
    free = Guarded("10.0.0.1", secure=False)
    b = free.b
    assert free.passes(ipv4(OTHER, b, "203.0.113.1", "10.0.0.2"))
    assert free.passes(ipv6(OTHER, b, "2001:db8::1", "fd00::2", icmpv6_type=134))
    assert free.passes(frame(OTHER, BROADCAST, eth_type=0x88CC))
    assert free.passes(udp(free.a, BROADCAST, "10.0.0.1", "255.255.255.255", (67, 68)))
    assert free.passes(advertise(free.a, "fd00::9", "fd00::9", tll=OTHER))
    assert not free.passes({**ipv4(OTHER, b, "203.0.113.1", "10.0.0.2"), "vlan_vid": 0x1005})


VIRTUAL = "00:00:5e:00:01:07"
PAIRS = (("", "10.1.0.0/16"), (VIRTUAL, "10.0.0.100/32"), (VIRTUAL, "fd00:1::/64"))


def test_allowed_pairs() -> None:
    """Pairs add (MAC, prefix): one without MAC uses the port's, one with a MAC is bound to that MAC only."""
    paired = Guarded("10.0.0.1", pairs=PAIRS)
    a, b = paired.a, paired.b
    assert paired.passes(ipv4(a, b, "10.1.2.3", "10.0.0.2"))
    assert not paired.passes(ipv4(a, b, "10.2.0.1", "10.0.0.2"))
    assert paired.passes(arp(a, "10.1.2.3", "10.0.0.77"))
    assert paired.passes(ipv4(VIRTUAL, b, "10.0.0.100", "10.0.0.2"))
    assert paired.passes(arp(VIRTUAL, "10.0.0.100", "10.0.0.100"))
    assert paired.passes(arp(a, "10.0.0.100", "10.0.0.77", sha=VIRTUAL)), "both MACs are the port's"
    assert not paired.passes(arp(a, "10.0.0.100", "10.0.0.77")), "the address is the virtual MAC's"
    assert not paired.passes(ipv4(a, b, "10.0.0.100", "10.0.0.2"))
    assert not paired.passes(ipv4(VIRTUAL, b, "10.0.0.1", "10.0.0.2"))
    assert not paired.passes(ipv4(VIRTUAL, b, "10.1.2.3", "10.0.0.2"))
    virtual = Endpoint(id="", key=0, segment="", host="", mac=VIRTUAL)
    assert paired.passes(ipv6(VIRTUAL, b, "fd00:1::77", "fd00::2"))
    assert paired.passes(ipv6(VIRTUAL, b, lla(virtual), "fd00::2"))
    assert not paired.passes(ipv6(a, b, lla(a), "fd00::2")), "the port's own MAC speaks no IPv6"
    assert paired.passes(advertise(virtual, "fd00:1::77", "fd00:1::77"))
    assert paired.passes(solicit(virtual, "::", "fd00:1::5", sll=None))
    assert not paired.passes(advertise(virtual, "fd00:1::77", "fd00:2::77"))


def test_a_pair_with_every_address() -> None:
    """0.0.0.0/0 and ::/0 (a router on a secure port) pass any source with the port's MAC, and no other protocol."""
    router = Guarded("10.0.0.1", pairs=(("", "0.0.0.0/0"), ("", "::/0")))
    a, b = router.a, router.b
    assert router.passes(ipv4(a, b, "203.0.113.7", "10.0.0.2"))
    assert router.passes(ipv6(a, b, "2001:db8::7", "fd00::2"))
    assert router.passes(arp(a, "10.0.0.55", "10.0.0.77"))
    assert router.passes(advertise(a, "2001:db8::7", "2001:db8::7"))
    assert not router.passes(ipv4(OTHER, b, "203.0.113.7", "10.0.0.2"))
    assert not router.passes(advertise(a, "2001:db8::7", "2001:db8::7", tll=OTHER))
    assert not router.passes(ipv6(a, 0x333300000001, lla(a), "ff02::1", icmpv6_type=134))
    assert not router.passes(frame(a, BROADCAST, eth_type=0x88CC))


def test_a_guarded_packet_is_delivered_as_it_was(dual: Guarded) -> None:
    """What passes is not changed on its way."""
    packet = ipv4(dual.a, dual.b, "10.0.0.1", "10.0.0.2", ip_dscp=46)
    [arrival] = dual.fabric.send("a", packet)
    assert arrival.packet == packet and ip("10.0.0.1") == packet["ipv4_src"]
