"""Packets that are no ordinary first ones: fragments, errors about other packets, and what groups never touch."""

import itertools
import socket
import time

import pytest

from devstack.labs.process import wait_for
from devstack.labs.vm import Vm
from tests.functional import frames
from tests.functional.security.traffic import Attempt, expect_all
from tests.functional.verbs import OPEN, SETTLE, World, allow, drain

ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"


def ask(source: Vm, target: Vm, port: int, size: int, version: int) -> int:
    """Bytes that come out of the target's socket when the source sends it one datagram of `size`."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with (
        target.open_socket(family, socket.SOCK_DGRAM) as ear,
        source.open_socket(family, socket.SOCK_DGRAM) as mouth,
    ):
        ear.bind((target.address(version), port))
        ear.settimeout(SETTLE)
        mouth.sendto(b"." * size, (target.address(version), port))
        try:
            return len(ear.recv(65535))
        except TimeoutError:
            return 0


@pytest.mark.parametrize("stateful", (True, False))
@pytest.mark.parametrize("where", ("hv1", "hv2"))
def test_fragments_pass_or_fall_with_their_first(three: World, stateful: bool, where: str) -> None:
    """A datagram of five fragments to an allowed port arrives whole, whatever order they come in; to another port of
    the same protocol none of its fragments is heard by anybody. Both families."""
    blue = three.network("geneve")
    rules = [allow("udp", 4000, version=version) for version in (4, 6)]
    web = three.group(*rules, stateful=stateful)
    server = three.port(blue, "hv1", security_groups=[web])
    client = three.port(blue, where, security_groups=[three.group(*OPEN, stateful=stateful, egress=False)])
    expect_all("answered", *(Attempt(client, server, "udp", 4000, version) for version in (4, 6)))
    for version, port in itertools.product((4, 6), (4000, 4001)):
        assert ask(client, server, port, 6000, version) == (6000 if port == 4000 else 0)
        six = client.address(version), server.address(version)
        whole = frames.udp(client.want.mac, server.want.mac, *six, b"." * 6000, ports=(4000, port))
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        for order in ((0, 1, 2, 3, 4), (4, 3, 2, 1, 0), (1, 2, 0, 4, 3)):
            parts = frames.fragments(whole)
            with server.open_socket(family, socket.SOCK_DGRAM) as ear, server.packet_socket() as wire:
                ear.bind((server.address(version), port))
                ear.settimeout(SETTLE)
                three.send(client, *(parts[number] for number in order))
                if port == 4000:
                    assert ear.recv(65535) == b"." * 6000, "it did not arrive whole"
                    continue
                with pytest.raises(TimeoutError):
                    ear.recv(65535)
                assert not [part for part in drain(wire) if part in parts]


def test_without_its_first_fragment_nothing_is_made_of_the_rest(three: World) -> None:
    """Later fragments alone, and the whole of a datagram of a protocol that no rule mentions: nothing is delivered,
    and of the latter nothing is even heard."""
    blue = three.network("geneve")
    server = three.port(blue, "hv1", security_groups=[three.group(allow("tcp"), allow("tcp", version=6))])
    client = three.port(blue, "hv2", security_groups=[three.group(*OPEN, egress=False)])
    for version in (4, 6):
        addresses = client.address(version), server.address(version)
        parts = frames.fragments(frames.udp(client.want.mac, server.want.mac, *addresses, b"." * 6000))
        heard = three.hear([server], client, *parts)[0]
        assert not [part for part in parts if part in heard]


@pytest.mark.parametrize("version", (4, 6))
@pytest.mark.parametrize("where", ("hv1", "hv2"))
def test_errors_about_a_connection_find_their_way(three: World, where: str, version: int) -> None:
    """ "Port unreachable" comes back to a client that admits nobody; about a datagram that it never sent it does not,
    and neither does one about another's."""
    blue = three.network("geneve")
    server_group = three.group(allow("udp", version=version))
    server = three.port(blue, "hv1", security_groups=[server_group])
    client, other = (three.port(blue, where, security_groups=[three.group()]) for _ in range(2))
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with client.open_socket(family, socket.SOCK_DGRAM) as mouth:
        mouth.connect((server.address(version), 7777))  # nobody listens there
        mouth.settimeout(2)
        mouth.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            mouth.recv(100)
    addresses = client.address(version), server.address(version)
    never_sent = frames.udp(client.want.mac, server.want.mac, *addresses, b"never sent", ports=(5555, 7778))
    for victim in (client, other):
        forged = frames.unreachable(
            server.want.mac, victim.want.mac, server.address(version), victim.address(version), never_sent
        )
        assert forged not in three.hear([victim], server, forged)[0]


def test_what_every_port_needs_passes_without_any_rule(three: World) -> None:
    """A VM in no group: it asks for an address by DHCP and is answered, speaks ARP and neighbour discovery, says what
    it listens to, and hears the router; all else is stopped."""
    blue = three.network("geneve")
    mute = three.port(blue, "hv1", security_groups=[])
    servant = three.port(blue, "hv2", device_owner="network:dhcp")
    mac, four, six = mute.want.mac, mute.address(), mute.address(6)
    its, its4, its6 = servant.want.mac, servant.address(), servant.address(6)
    said = {
        "DHCP discover": frames.udp(mac, BROADCAST, "0.0.0.0", "255.255.255.255", b"discover", ports=(68, 67)),
        "DHCP renew": frames.udp(mac, its, four, its4, b"renew", ports=(68, 67)),
        "DHCPv6": frames.udp(mac, its, six, its6, b"solicit", ports=(546, 547)),
        "ARP": frames.arp(mac, BROADCAST, 1, (mac, four), (frames.NOBODY, four)),
        "solicitation": frames.solicitation(mac, six, "fd00:10::77"),
        "advertisement": frames.advertisement(mac, its, six, its6, six),
        "MLD": frames.listener_report(mac, six, "ff02::77"),
    }
    heard = {
        "DHCP offer": frames.udp(its, mac, its4, four, b"offer", ports=(67, 68)),
        "DHCP offer to all": frames.udp(its, BROADCAST, its4, "255.255.255.255", b"offer to all", ports=(67, 68)),
        "DHCPv6": frames.udp(its, mac, its6, six, b"advertise", ports=(547, 546)),
        "ARP": frames.arp(its, mac, 2, (its, its4), (mac, four)),
        "advertisement": frames.advertisement(its, mac, its6, six, its6),
        "router": frames.router_advertisement(its, "fe80::1"),
    }
    stopped = {
        "UDP": frames.udp(mac, its, four, its4, b"no"),
        "UDP of six": frames.udp(mac, its, six, its6, b"no"),
        "a server's DHCP": frames.udp(mac, its, four, its4, b"offer", ports=(67, 68)),
    }
    arrived = three.hear([servant], mute, *said.values(), *stopped.values())[0]
    assert [name for name, frame in said.items() if frame not in arrived] == []
    assert [name for name, frame in stopped.items() if frame in arrived] == []
    answers = {"UDP": frames.udp(its, mac, its4, four, b"no"), "UDP of six": frames.udp(its, mac, its6, six, b"no")}
    arrived = three.hear([mute], servant, *heard.values(), *answers.values())[0]
    assert [name for name, frame in heard.items() if frame not in arrived] == []
    assert [name for name, frame in answers.items() if frame in arrived] == []


def test_no_vm_is_a_dhcp_server_or_a_router(three: World) -> None:
    """Whatever its groups allow, a VM neither offers addresses nor advertises itself as a router, nor hides it in a
    later fragment; without port security it does both."""
    blue = three.network("geneve")
    everything = three.group(*OPEN, egress=False)
    rogue = three.port(blue, "hv1", security_groups=[everything])
    victims = [three.port(blue, on, security_groups=[everything]) for on in ("hv1", "hv2")]
    mac, local = rogue.want.mac, _link_local(rogue.want.mac)
    frames_of_a_rogue = [
        frames.udp(mac, BROADCAST, rogue.address(), "255.255.255.255", b"offer", ports=(67, 68)),
        frames.udp(mac, ALL_NODES_MAC, rogue.address(6), ALL_NODES, b"advertise", ports=(547, 546)),
        frames.router_advertisement(mac, local),
    ]
    for heard in three.hear(victims, rogue, *frames_of_a_rogue):
        assert not [frame for frame in frames_of_a_rogue if frame in heard]
    stateless = three.group(*OPEN, egress=False, stateful=False)
    for vm in (rogue, *victims):
        three.regroup(vm, stateless)
    wait_for("the stateless groups", lambda: all(three.ping(rogue, victim, 6) for victim in victims))
    time.sleep(SETTLE)
    for whole in frames_of_a_rogue[1:]:
        for shown in (8, 16):
            hidden = frames.behind_options(whole, shown)
            for heard in three.hear(victims, rogue, *hidden):
                assert hidden[0] not in heard
    usual = frames.fragments(frames.udp(mac, ALL_NODES_MAC, rogue.address(6), ALL_NODES, b"." * 2000))
    for heard in three.hear(victims, rogue, *usual):
        assert all(part in heard for part in usual)
    free = three.port(blue, "hv1", port_security_enabled=False)
    mac = free.want.mac
    allowed = [
        frames.udp(mac, BROADCAST, free.address(), "255.255.255.255", b"offer", ports=(67, 68)),
        frames.router_advertisement(mac, _link_local(mac)),
    ]
    for heard in three.hear(victims, free, *allowed):
        assert all(frame in heard for frame in allowed)


def _link_local(mac: str) -> str:
    """The address that a guest makes of its MAC (RFC 4291, appendix A)."""
    parts = [int(part, 16) for part in mac.split(":")]
    parts[0] ^= 2
    words = [*parts[:3], 0xFF, 0xFE, *parts[3:]]
    packed = bytes.fromhex("fe80000000000000") + bytes(words)
    return socket.inet_ntop(socket.AF_INET6, packed)


def test_an_identity_is_believed_of_known_hosts_only(three: World) -> None:
    """A tunnel packet of a member's, seen on the underlay and sent again: from the member's host it arrives, from a
    machine that is no tunnel end point it does not."""
    blue = three.network("geneve")
    members = three.group()
    server = three.port(blue, "hv1", security_groups=[three.group(allow("udp", 4000, group=members))])
    member = three.port(blue, "hv2", security_groups=[members])
    frame = frames.udp(member.want.mac, server.want.mac, member.address(), server.address(), b"of a member")
    with three.hypervisor("hv1").packet_socket("underlay0") as wire:
        assert three.hear([server], member, frame)[0].count(frame) == 1
        captured = next(seen for seen in drain(wire) if frame in seen)
    tunnelled = captured[42:]  # behind Ethernet, IPv4 and UDP
    stranger, known = "10.255.0.99", "10.255.0.2"
    host = three.hypervisor("hv2")
    host.run("ip", "addr", "add", f"{stranger}/16", "dev", "br-phy")
    try:
        for address, wanted in ((stranger, 0), (known, 1)):
            with server.packet_socket() as ear, host.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
                mouth.bind((address, 0))
                mouth.sendto(tunnelled, ("10.255.0.1", 6081))
                time.sleep(SETTLE)
                assert drain(ear).count(frame) == wanted, address
    finally:
        host.run("ip", "addr", "del", f"{stranger}/16", "dev", "br-phy")
