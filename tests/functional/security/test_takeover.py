"""Addresses that move between VMs, as VRRP does it: identity follows the address, and nobody else may use it."""

import pytest

from tests.functional import frames
from tests.functional.security.traffic import Attempt, expect_all
from tests.functional.verbs import World, allow

ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
BROADCAST = "ff:ff:ff:ff:ff:ff"


@pytest.mark.parametrize("kind", ("geneve", "vxlan", "vlan"))
def test_an_address_that_two_share_moves_between_them(three: World, kind: str) -> None:
    """VRRP without a MAC of its own: two routers with the same allowed pairs; the one that has the address loses it,
    the other takes and announces it. Clients reach whoever has it, by the same rules, and are reached from it."""
    net = three.network(kind)
    clients, routers = three.group(), three.group()
    three.rules(routers, *(allow("tcp", 80, version=version, group=clients) for version in (4, 6)))
    three.rules(clients, *(allow("udp", 53, version=version, group=routers) for version in (4, 6)))
    shared = {4: "10.0.0.200", 6: "fd00:10::200"}
    pairs = [{"ip_address": address} for address in shared.values()]
    first, second = (
        three.port(net, on, security_groups=[routers], allowed_address_pairs=pairs) for on in ("hv1", "hv2")
    )
    client = three.port(net, "hv3", security_groups=[clients])
    near = three.port(net, "hv1", security_groups=[clients])
    stranger = three.port(net, "hv3", security_groups=[three.group()])
    for owner, other in ((first, second), (second, first)):
        other.run("ip", "addr", "flush", "dev", "eth0", "to", f"{shared[4]}/32")
        other.run("ip", "-6", "addr", "flush", "dev", "eth0", "to", f"{shared[6]}/128")
        owner.run("ip", "addr", "add", f"{shared[4]}/24", "dev", "eth0")
        owner.run("ip", "addr", "add", f"{shared[6]}/64", "dev", "eth0", "nodad")
        mac = owner.want.mac
        three.send(
            owner,
            frames.arp(mac, BROADCAST, 1, (mac, shared[4]), (frames.NOBODY, shared[4])),
            frames.advertisement(mac, ALL_NODES_MAC, shared[6], ALL_NODES, shared[6]),
        )
        passing = [
            Attempt(who, owner, "tcp", 80, version, to_address=shared[version])
            for who in (client, near)
            for version in (4, 6)
        ]
        passing += [
            Attempt(owner, who, "udp", 53, version, from_address=shared[version])
            for who in (client, near)
            for version in (4, 6)
        ]
        expect_all("answered", *passing, because=f"the address is on {owner.hypervisor}")
        expect_all("stopped", *(Attempt(stranger, owner, "tcp", 80, v, to_address=shared[v]) for v in (4, 6)))


def test_a_virtual_routers_mac_is_a_members_too(three: World) -> None:
    """VRRP with its own MAC, allowed to two routers: what is sent to it gets to both, by their rules; what either sends
    from it is a router's. Nobody else may use it."""
    blue = three.network("geneve")
    clients, routers = three.group(), three.group()
    three.rules(routers, allow("udp", 4000, group=clients))
    three.rules(clients, allow("udp", 4000, group=routers))
    mac, address = "00:00:5e:00:01:07", "10.0.0.200"
    pairs = [{"ip_address": address, "mac_address": mac}]
    owners = [three.port(blue, on, security_groups=[routers], allowed_address_pairs=pairs) for on in ("hv1", "hv2")]
    client, stranger = (three.port(blue, "hv3", security_groups=[group]) for group in (clients, three.group()))
    to_it = frames.udp(client.want.mac, mac, client.address(), address, b"to the router")
    elsewhere = frames.udp(client.want.mac, mac, client.address(), address, b"other port", ports=(4000, 4001))
    for heard in three.hear(owners, client, to_it, elsewhere):
        assert (heard.count(to_it), heard.count(elsewhere)) == (1, 0)
    of_a_stranger = frames.udp(stranger.want.mac, mac, stranger.address(), address, b"of a stranger")
    for heard in three.hear(owners, stranger, of_a_stranger):
        assert of_a_stranger not in heard
    from_it = frames.udp(mac, client.want.mac, address, client.address(), b"from the router")
    for owner in owners:
        assert three.hear([client], owner, from_it)[0].count(from_it) == 1
    assert from_it not in three.hear([client], stranger, from_it)[0]
