"""The source guard: what a VM may not say, nobody hears. Each refusal has an honest twin that passes."""

import time
from collections.abc import Callable

import pytest

from devstack.labs.process import LabError, wait_for
from devstack.labs.vm import Vm
from tests.functional import frames
from tests.functional.verbs import OPEN, World

BROADCAST = "ff:ff:ff:ff:ff:ff"
OTHER_MAC, OTHER4, OTHER6 = "02:00:00:00:00:66", "10.0.0.66", "fd00:10::66"


def passes(world: World, sender: Vm, listeners: list[Vm], frame: bytes) -> list[bool]:
    """Which of the listeners hear a frame."""
    return [frame in heard for heard in world.hear(listeners, sender, frame)]


def lies(a: Vm, b: Vm) -> dict[str, bytes]:
    """What VM `a` must not be able to tell `b` and everyone, by the name of the lie."""
    mac, four, six = a.want.mac, a.address(), a.address(6)
    return {
        "MAC": frames.udp(OTHER_MAC, b.want.mac, four, b.address(), b"mac"),
        "MAC, to all": frames.udp(OTHER_MAC, BROADCAST, four, "255.255.255.255", b"mac to all"),
        "another port's MAC": frames.udp(b.want.mac, BROADCAST, four, "255.255.255.255", b"mac of b"),
        "IPv4": frames.udp(mac, b.want.mac, OTHER4, b.address(), b"four"),
        "another port's IPv4": frames.udp(mac, BROADCAST, b.address(), "255.255.255.255", b"four of b"),
        "IPv6": frames.udp(mac, b.want.mac, OTHER6, b.address(6), b"six"),
        "link-local": frames.udp(mac, b.want.mac, "fe80::66", b.address(6), b"local"),
        "ARP reply": frames.arp(mac, b.want.mac, 2, (mac, OTHER4), (b.want.mac, b.address())),
        "ARP sender's MAC": frames.arp(mac, b.want.mac, 2, (OTHER_MAC, four), (b.want.mac, b.address())),
        "gratuitous ARP": frames.arp(mac, BROADCAST, 1, (mac, OTHER4), (frames.NOBODY, OTHER4)),
        "advertised target": frames.advertisement(mac, b.want.mac, six, b.address(6), OTHER6),
        "advertisement's source": frames.advertisement(mac, b.want.mac, OTHER6, b.address(6), OTHER6),
        "solicitation's source": frames.solicitation(mac, OTHER6, "fd00:10::77"),
        "duplicate detection of another's address": frames.solicitation(mac, "::", OTHER6),
    }


def truths(a: Vm, b: Vm) -> dict[str, bytes]:
    """What VM `a` must be able to tell."""
    mac, four, six = a.want.mac, a.address(), a.address(6)
    return {
        "IPv4": frames.udp(mac, b.want.mac, four, b.address(), b"four"),
        "IPv4, to all": frames.udp(mac, BROADCAST, four, "255.255.255.255", b"four to all"),
        "IPv6": frames.udp(mac, b.want.mac, six, b.address(6), b"six"),
        "ARP reply": frames.arp(mac, b.want.mac, 2, (mac, four), (b.want.mac, b.address())),
        "gratuitous ARP": frames.arp(mac, BROADCAST, 1, (mac, four), (frames.NOBODY, four)),
        "advertisement": frames.advertisement(mac, b.want.mac, six, b.address(6), six),
        "a question for a stranger": frames.solicitation(mac, six, "fd00:10::77"),
    }


def lies_heard(world: World, a: Vm, listeners: list[Vm]) -> list[str]:
    """All the lies at once (each is a frame of its own); the names of those that anybody heard."""
    told = lies(a, listeners[0])
    heard = world.hear(listeners, a, *told.values())
    return [name for name, frame in told.items() if any(frame in received for received in heard)]


def truths_missed(world: World, a: Vm, b: Vm) -> list[str]:
    told = truths(a, b)
    heard = world.hear([b], a, *told.values())[0]
    return [name for name, frame in told.items() if frame not in heard]


@pytest.mark.parametrize("kind", ("geneve", "vxlan", "vlan"))
def test_a_vm_cannot_lie_about_who_it_is(three: World, kind: str) -> None:
    """MAC, IPv4, IPv6, ARP and neighbour discovery with others' addresses: no VM hears them, here or elsewhere."""
    blue = three.network(kind)
    a, b, c = (three.port(blue, on) for on in ("hv1", "hv2", "hv1"))
    assert lies_heard(three, a, [b, c]) == []
    assert truths_missed(three, a, b) == []
    assert truths_missed(three, a, c) == []


def test_a_port_without_addresses_says_nothing_of_ip(three: World) -> None:
    """A port without fixed IPs may not use IP at all; a port with IPv4 alone may not use IPv6."""
    blue = three.network("geneve")
    mute, b = three.port(blue, "hv1", fixed_ips=[]), three.port(blue, "hv2")
    four = three.port(blue, "hv1", "10.0.0.44")
    told = [
        (mute, frames.udp(mute.want.mac, b.want.mac, "10.0.0.43", b.address(), b"none")),
        (mute, frames.udp(mute.want.mac, b.want.mac, "fe80::43", b.address(6), b"none")),
        (four, frames.udp(four.want.mac, b.want.mac, "fe80::44", b.address(6), b"none")),
    ]
    for sender, frame in told:
        assert passes(three, sender, [b], frame) == [False]
    assert three.ping(four, b)


def test_a_port_without_security_may_say_anything(three: World) -> None:
    """port_security_enabled off: every lie passes that has an address to go to; on again, none does. The listener
    admits everybody: who lies is in no group."""
    blue = three.network("geneve")
    a = three.port(blue, "hv1", port_security_enabled=False)
    b = three.port(blue, "hv2", security_groups=[three.group(*OPEN, egress=False)])
    heard = lies_heard(three, a, [b])
    assert set(heard) >= {"MAC", "IPv4", "IPv6", "ARP reply", "gratuitous ARP", "advertised target"}
    three.api.update("port", a.port, port_security_enabled=True)
    three.lab.wait_status(a.port, "ACTIVE")
    assert soon(lambda: lies_heard(three, a, [b]) == [])


def test_allowed_pairs_are_allowed_and_no_more(three: World) -> None:
    """A pair of an address, of a whole subnet, of another MAC: exactly these pass, as long as they are there."""
    blue = three.network("geneve")
    a, b = three.port(blue, "hv1"), three.port(blue, "hv2")
    one = frames.udp(a.want.mac, b.want.mac, OTHER4, b.address(), b"one")
    of_many = frames.udp(a.want.mac, b.want.mac, "10.0.0.130", b.address(), b"many")
    foreign = frames.udp(OTHER_MAC, b.want.mac, "10.0.0.77", b.address(), b"mac")
    six = frames.udp(a.want.mac, b.want.mac, OTHER6, b.address(6), b"six")
    announced = frames.arp(a.want.mac, BROADCAST, 1, (a.want.mac, OTHER4), (frames.NOBODY, OTHER4))
    everything = {"one": one, "many": of_many, "mac": foreign, "six": six, "arp": announced}

    def allowed(*pairs: dict[str, str]) -> set[str]:
        three.api.update("port", a.port, allowed_address_pairs=list(pairs))
        soon(lambda: three.status(a) == "ACTIVE" and settled(three))
        heard = three.hear([b], a, *everything.values())[0]
        return {name for name, frame in everything.items() if frame in heard}

    assert allowed() == set()
    assert allowed({"ip_address": OTHER4}) == {"one", "arp"}
    assert allowed({"ip_address": "10.0.0.128/25"}) == {"many"}
    assert allowed({"ip_address": "10.0.0.77", "mac_address": OTHER_MAC}) == {"mac"}
    assert allowed({"ip_address": OTHER6}) == {"six"}
    assert allowed() == set()
    assert three.ping(a, b)


def settled(world: World) -> bool:
    """Whether the flows of all hypervisors have been the same for a moment."""
    before = [hypervisor.flows() for hypervisor in world.hypervisors]
    time.sleep(0.25)
    return before == [hypervisor.flows() for hypervisor in world.hypervisors]


def soon(true: Callable[[], bool]) -> bool:
    """Whether it becomes true within five seconds."""
    try:
        wait_for("it", true, 5.0, 0.1)
    except LabError:
        return False
    return True
