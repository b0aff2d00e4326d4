"""Answers at the edge: who asks "who has" gets the answer from its own switch, or the request travels on."""

import pytest

from selvedge.topology import Endpoint, SegmentKind
from tests.interpreter import Fabric
from tests.packets import BROADCAST, advertise, arp, ip, lla, solicit

VIP = "10.0.0.100"
OWNERS: dict[SegmentKind, str] = {"geneve": "bc", "vxlan": "bc", "vlan": "b"}
"""Of whom a's own switch answers: a provider's wire is asked for who is elsewhere."""


class Asked:
    """Ports a and b on hv1, c on hv2, of one network; dual stack."""

    def __init__(self, kind: SegmentKind = "geneve") -> None:
        self.fabric = Fabric()
        self.fabric.hypervisor("hv1")
        self.fabric.hypervisor("hv2")
        self.fabric.network("net", kind)
        self.a = self.fabric.port("a", "net", "hv1", "10.0.0.1", "fd00::1")
        self.b = self.fabric.port("b", "net", "hv1", "10.0.0.2", "fd00::2")
        self.c = self.fabric.port("c", "net", "hv2", "10.0.0.3", "fd00::3")
        self.kind = kind

    def owners(self) -> list[Endpoint]:
        """Those whom a is answered for at its own switch."""
        return [getattr(self, name) for name in OWNERS[self.kind]]


@pytest.mark.parametrize("kind", OWNERS)
def test_an_arp_request_is_answered_where_it_is_asked(kind: SegmentKind) -> None:
    """a asks for b and for c: it gets the reply itself, and nobody hears of it. A unicast request likewise."""
    asked = Asked(kind)
    for owner in asked.owners():
        for destination in (BROADCAST, owner):
            [arrival] = asked.fabric.send("a", arp(asked.a, "10.0.0.1", owner.addresses[0], dst=destination))
            assert arrival.port == "a"
            assert arrival.packet == arp(
                owner, owner.addresses[0], "10.0.0.1", op=2, dst=asked.a, tha=arrival.packet["eth_dst"]
            )
    assert asked.fabric.wire == [] and asked.fabric.tunnelled == []


@pytest.mark.parametrize("kind", OWNERS)
def test_a_neighbour_solicitation_is_answered_where_it_is_asked(kind: SegmentKind) -> None:
    """a solicits b and c, from its global and its link-local address: an advertisement of theirs comes back to it."""
    asked = Asked(kind)
    for owner in asked.owners():
        target = owner.addresses[1]
        for source in ("fd00::1", lla(asked.a)):
            [arrival] = asked.fabric.send("a", solicit(asked.a, source, target))
            answer = {**advertise(owner, target, target, dst=asked.a), "ipv6_dst": ip(source)}
            assert arrival.port == "a"
            options = {"nd_options_type": 2, "nd_reserved": 0x60000000}
            # In Open vSwitch a packet has one link-layer option: what the solicitation's was, the answer has no more.
            came = {name: value for name, value in arrival.packet.items() if name != "nd_sll"}
            assert came == {**answer, **options}


def test_who_is_elsewhere_on_a_wire_is_asked_over_it() -> None:
    """On a VLAN a's question for c goes to the local members and onto the wire, where c hears it and answers."""
    asked = Asked("vlan")
    a = asked.a
    for question in (arp(a, "10.0.0.1", "10.0.0.3"), solicit(a, "fd00::1", "fd00::3")):
        assert asked.fabric.reached("a", question) == ["b", "c"]
        assert len(asked.fabric.wire) == 1


def test_questions_that_travel() -> None:
    """Probes, solicitations without option, and unknown or link-local targets are flooded (or go to the owner)."""
    asked = Asked()
    a = asked.a
    assert asked.fabric.reached("a", arp(a, "0.0.0.0", "10.0.0.1")) == ["b", "c"]
    assert asked.fabric.reached("a", arp(a, "0.0.0.0", "10.0.0.3")) == ["b", "c"]
    assert asked.fabric.reached("a", arp(a, "10.0.0.1", "10.0.0.77")) == ["b", "c"]
    assert asked.fabric.reached("a", solicit(a, "::", "fd00::1", sll=None)) == ["b", "c"]
    assert asked.fabric.reached("a", solicit(a, "fd00::1", "fd00::77")) == ["b", "c"]
    assert asked.fabric.reached("a", solicit(a, "fd00::1", lla(asked.b))) == ["b", "c"]
    assert asked.fabric.reached("a", solicit(a, "fd00::1", "fd00::3", sll=None, dst=asked.c)) == ["c"]
    assert asked.fabric.reached("a", arp(a, "10.0.0.1", "10.0.0.2", op=2, dst=asked.b)) == ["b"]


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("kind", ["geneve", "vlan"])
def test_announcements_are_flooded(kind: SegmentKind, secure: bool) -> None:
    """A gratuitous ARP request or reply, or an unsolicited advertisement, reaches everybody, and is not answered."""
    asked = Asked(kind)
    d = asked.fabric.port("d", "net", "hv1", "10.0.0.4", "fd00::4", secure=secure)
    assert asked.fabric.reached("d", arp(d, "10.0.0.4", "10.0.0.4")) == ["a", "b", "c"]
    assert asked.fabric.reached("d", arp(d, "10.0.0.4", "10.0.0.4", op=2)) == ["a", "b", "c"]
    assert asked.fabric.reached("d", advertise(d, "fd00::4", "fd00::4")) == ["a", "b", "c"]
    assert len(asked.fabric.wire) == (1 if kind == "vlan" else 0)


def test_an_address_of_several_is_not_answered() -> None:
    """A virtual IP in the pairs of two ports, or a fixed IP that is also another's pair: the request is flooded."""
    asked = Asked()
    asked.fabric.port("d", "net", "hv1", "10.0.0.4", pairs=[("", VIP), ("", "10.0.0.2/32")])
    assert asked.fabric.reached("a", arp(asked.a, "10.0.0.1", VIP)) == ["b", "c", "d"], "one pair alone names it"
    e = asked.fabric.port("e", "net", "hv2", "10.0.0.5", pairs=[("", VIP)])
    assert asked.fabric.reached("a", arp(asked.a, "10.0.0.1", VIP)) == ["b", "c", "d", "e"]
    assert asked.fabric.reached("e", arp(e, VIP, VIP)) == ["a", "b", "c", "d"], "failover is announced"
    assert asked.fabric.reached("a", arp(asked.a, "10.0.0.1", "10.0.0.2")) == ["b", "c", "d", "e"]


def test_a_wide_pair_claims_no_address() -> None:
    """A router whose pair is 0.0.0.0/0 does not keep its neighbours from being answered for."""
    asked = Asked()
    asked.fabric.port("router", "net", "hv2", "10.0.0.254", pairs=[("", "0.0.0.0/0"), ("", "::/0")])
    for packet in (arp(asked.a, "10.0.0.1", "10.0.0.3"), solicit(asked.a, "fd00::1", "fd00::3")):
        assert asked.fabric.reached("a", packet) == ["a"]


def test_a_pair_with_the_ports_own_address() -> None:
    """A pair that repeats a fixed IP changes nothing; one that gives it another MAC makes the answer unknown."""
    asked = Asked()
    asked.fabric.port("d", "net", "hv2", "10.0.0.4", pairs=[("", "10.0.0.4/32")])
    asked.fabric.port("e", "net", "hv2", "10.0.0.5", pairs=[("00:00:5e:00:01:01", "10.0.0.5/32")])
    assert asked.fabric.reached("a", arp(asked.a, "10.0.0.1", "10.0.0.4")) == ["a"]
    assert asked.fabric.reached("a", arp(asked.a, "10.0.0.1", "10.0.0.5")) == ["b", "c", "d", "e"]


def test_answers_stay_in_their_segment() -> None:
    """An address that only another network has is not answered, though both are on this host."""
    asked = Asked()
    asked.fabric.network("other", "geneve", 200)
    asked.fabric.port("x", "other", "hv1", "10.0.0.77", "fd00::77")
    assert asked.fabric.reached("a", arp(asked.a, "10.0.0.1", "10.0.0.77")) == ["b", "c"]
    assert asked.fabric.reached("a", solicit(asked.a, "fd00::1", "fd00::77")) == ["b", "c"]


def test_the_wire_is_not_answered() -> None:
    """A stranger's request for a local port on a VLAN reaches the port, which answers for itself."""
    asked = Asked("vlan")
    request = {**arp("00:aa:bb:cc:dd:ee", "10.0.0.99", "10.0.0.1"), "vlan_vid": 0x1064}
    assert [arrival.port for arrival in asked.fabric.send_wire("physnet1", request)] == ["a", "b", "c"]
    assert len(asked.fabric.wire) == 1
