"""VMs join their segment: every type of network, both families, across hypervisors and on one."""

import itertools
import re
import time

import pytest

from devstack.labs import netns
from devstack.labs.process import wait_for
from tests.functional import frames
from tests.functional.verbs import SETTLE, World, allow, drain

KINDS = ("geneve", "vxlan", "vlan", "flat")


@pytest.mark.parametrize("kind", KINDS)
def test_all_pairs_ping_over_ipv4_and_ipv6(three: World, kind: str) -> None:
    """Two VMs on one hypervisor, one on each of the others: everyone reaches everyone."""
    blue = three.network(kind)
    vms = [three.port(blue, on) for on in ("hv1", "hv1", "hv2", "hv3")]
    for source, target in itertools.permutations(vms, 2):
        for version in (4, 6):
            assert three.ping(source, target, version), f"IPv{version} {source.hypervisor} → {target.hypervisor}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_networks_mtu_passes_and_one_byte_more_does_not(three: World, kind: str) -> None:
    """The underlay has 1500 bytes; what a network says of its MTU must fit, with the tunnel's headers."""
    blue = three.network(kind)
    a, b, c = three.port(blue, "hv1"), three.port(blue, "hv2"), three.port(blue, "hv1")
    assert a.want.mtu == blue["mtu"]
    assert a.want.mtu >= {"geneve": 1430, "vxlan": 1450, "vlan": 1500, "flat": 1500}[kind]
    for target, (version, header) in itertools.product((b, c), ((4, 28), (6, 48))):
        size = a.want.mtu - header
        assert three.ping(a, target, version, "-M", "do", "-s", str(size))
        assert not three.ping(a, target, version, "-M", "do", "-s", str(size + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_broadcast_and_multicast_reach_every_member_once(three: World, kind: str) -> None:
    """One frame to all: each VM of the network hears it exactly once, the sender and other networks never."""
    blue, green = three.network(kind), three.network("geneve")
    sender, *members = [three.port(blue, on) for on in ("hv1", "hv1", "hv2", "hv2", "hv3")]
    strangers = [three.port(green, on) for on in ("hv1", "hv2")]
    everyone = [sender, *members, *strangers]
    broadcast = frames.udp(sender.want.mac, "ff:ff:ff:ff:ff:ff", sender.address(), "255.255.255.255", b"to all")
    multicast = frames.udp(sender.want.mac, "33:33:00:00:00:01", sender.address(6), "ff02::1", b"to all of six")
    for frame in (broadcast, multicast):
        heard = three.hear(everyone, sender, frame)
        copies = [received.count(frame) for received in heard]
        assert copies == [0] + [1] * len(members) + [0] * len(strangers)


def test_the_first_packet_to_a_new_peer_is_not_lost(three: World) -> None:
    """A tunnel to a hypervisor that nobody talked to before: the very first packet arrives, without a repetition."""
    blue = three.network("geneve")
    a, b = three.port(blue, "hv1"), three.port(blue, "hv3")
    frame = frames.udp(a.want.mac, b.want.mac, a.address(), b.address(), b"the first")
    assert three.hear([b], a, frame)[0].count(frame) == 1


def test_neighbours_are_answered_at_the_edge(three: World) -> None:
    """ARP and neighbour solicitations for a known address are answered where they are asked; the owner hears none."""
    blue = three.network("geneve")
    a, b = three.port(blue, "hv1"), three.port(blue, "hv2")
    arp = frames.arp(a.want.mac, "ff:ff:ff:ff:ff:ff", 1, (a.want.mac, a.address()), (frames.NOBODY, b.address()))
    solicitation = frames.solicitation(a.want.mac, a.address(6), b.address(6))
    answered, asked = three.hear([a, b], a, arp, solicitation)
    assert frames.arp(b.want.mac, a.want.mac, 2, (b.want.mac, b.address()), (a.want.mac, a.address())) in answered
    advertised = [frame for frame in answered if frames.is_advertisement(frame, b.address(6), b.want.mac)]
    assert len(advertised) == 1
    assert arp not in asked
    assert solicitation not in asked


@pytest.mark.parametrize("kind", ("vlan", "flat"))
def test_machines_on_the_providers_wire_are_reached_both_ways(three: World, kind: str) -> None:
    """A machine that Selvedge does not know, on the VLAN of the network: VMs reach it, and it reaches them."""
    blue = three.network(kind)
    admits = three.group(allow("icmp", cidr="10.0.0.250/32"))
    vm, other = (three.port(blue, on, security_groups=[admits]) for on in ("hv1", "hv2"))
    host = three.hypervisor("hv3")
    place = three.lab.ground.vm("stranger", "hv3", "stranger0", "02:00:00:00:00:99", 1500)
    try:
        netns.run(netns.inside(place, ["sh", "-c", "ip link set eth0 up && ip addr add 10.0.0.250/24 dev eth0"]))
        tag = [f"tag={blue['provider:segmentation_id']}"] if kind == "vlan" else []
        host.run("ovs-vsctl", "add-port", "br-ex", "stranger0", *tag)
        for asking in (vm, other):
            assert asking.ping("10.0.0.250", 1) == 1
        assert "1 received" in netns.run(netns.inside(place, ["ping", "-c1", "-W1", vm.address()]))
    finally:
        host.run("ovs-vsctl", "--if-exists", "del-port", "br-ex", "stranger0")
        three.lab.ground.remove_vm("stranger", "hv3", "stranger0")


def test_networks_of_one_subnet_are_worlds_apart(three: World) -> None:
    """Four networks of four types with the same addresses: each address is answered by its own network's VM only."""
    worlds = [three.network(kind) for kind in KINDS]
    homes = [(three.port(net, "hv1", "10.0.0.10"), three.port(net, "hv2", "10.0.0.20")) for net in worlds]
    apart = [three.port(net, "hv2", f"10.0.0.{30 + number}") for number, net in enumerate(worlds)]
    for number, (here, there) in enumerate(homes):
        assert three.ping(here, there)
        assert there.want.mac in here.run("ip", "neigh", "show", there.address())
        for other, vm in enumerate(apart):
            assert three.ping(here, vm, patience=1.0 if other == number else SETTLE) == (other == number)


def test_the_same_number_in_two_kinds_of_tunnel_is_two_segments(three: World) -> None:
    """Geneve 5000 and VXLAN 5000 have nothing in common but the number."""
    blue, green = (three.network(kind, **{"provider:segmentation_id": 5000}) for kind in ("geneve", "vxlan"))
    a, b = three.port(blue, "hv1", "10.0.0.1"), three.port(green, "hv2", "10.0.0.2")
    c, d = three.port(blue, "hv2", "10.0.0.3"), three.port(green, "hv1", "10.0.0.4")
    assert three.ping(a, c)
    assert three.ping(d, b)
    frame = frames.udp(a.want.mac, "ff:ff:ff:ff:ff:ff", a.address(), "255.255.255.255", b"in blue")
    heard = three.hear([b, c, d], a, frame)
    assert [received.count(frame) for received in heard] == [0, 1, 0]


def test_a_hypervisor_without_members_hears_and_does_nothing(three: World) -> None:
    """hv3 has nobody in the segment: no message of the feed, no flow, no group, no tunnel packet reaches it."""
    uninterested = three.hypervisor("hv3")
    before = uninterested.status()
    blue = three.network("geneve")
    a, b = three.port(blue, "hv1"), three.port(blue, "hv2")
    assert three.ping(a, b)
    three.api.update("port", a.port, admin_state_up=False)
    three.api.update("port", a.port, admin_state_up=True)
    three.lab.wait_status(a.port, "ACTIVE")
    assert not uninterested.flows()
    assert not uninterested.groups()
    time.sleep(1.2)  # status.json is written once a second at most
    after = uninterested.status()
    assert after["messages_received"] == before["messages_received"]
    assert after["flow_mods_sent"] == before["flow_mods_sent"]
    peers = [
        line for name in ("hv1", "hv2") for line in three.hypervisor(name).flows() + three.hypervisor(name).groups()
    ]
    assert not [line for line in peers if re.search(r"10\.255\.0\.3\b|0xaff0003\b", line)]


def test_drained_sockets_tell_their_own_frames_apart(three: World) -> None:
    """The tests' own ear: what a VM sends itself is not counted as heard."""
    blue = three.network("geneve")
    vm = three.port(blue, "hv1")
    with vm.packet_socket() as ear:
        three.send(vm, frames.udp(vm.want.mac, "ff:ff:ff:ff:ff:ff", vm.address(), "255.255.255.255", b"echo?"))
        assert not [frame for frame in drain(ear) if b"echo?" in frame]


def test_a_plugged_port_is_active_and_an_unplugged_one_down(three: World) -> None:
    """REST tells what the switch has: DOWN until the barrier, ACTIVE after it, DOWN again without its interface."""
    blue = three.network("geneve")
    port = three.bound(blue, "hv1")
    assert port["status"] == "DOWN"
    three.lab.plug(port["id"], "hv1")
    assert three.api.show("port", port["id"])["status"] == "ACTIVE"
    three.lab.unplug(port["id"])
    three.lab.wait_status(port["id"], "DOWN")
    wait_for("the port's flow", lambda: not any("table=0," in flow for flow in three.hypervisor("hv1").flows()), 5)
