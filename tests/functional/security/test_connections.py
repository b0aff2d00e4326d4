"""Connections over changes: what is allowed no longer is cut at once, both ways; what still is does not notice."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from devstack.labs.vm import Vm
from tests.functional.security.connections import Held, all_live, wait_cut
from tests.functional.security.traffic import Attempt, expect_all
from tests.functional.verbs import World, allow

PORTS = range(8001, 8007)
PLACES = (("geneve", "hv1"), ("geneve", "hv2"), ("vxlan", "hv2"), ("vlan", "hv2"))
"""Kind of network, and where the client is; the server is on hv1."""


def hold(stack: contextlib.ExitStack, source: Vm, target: Vm, port: int) -> list[Held]:
    """A connection of each kind and family to this port."""
    makes = (Held.tcp, Held.udp)
    return [stack.enter_context(make(source, target, port, version)) for make in makes for version in (4, 6)]


@pytest.mark.parametrize(("kind", "where"), PLACES)
def test_what_is_allowed_no_longer_is_cut_both_ways(three: World, kind: str, where: str) -> None:
    """Connections that are each allowed by another rule of the server's; one rule after the other goes, an address
    group loses a prefix, the client leaves a group: each time one connection is cut in both directions, new ones are
    refused, and the others live."""
    blue = three.network(kind)
    members, others = three.group(), three.group()
    prefixes = three.addresses("10.0.0.20/32", "fd00:10::20/128")
    web = three.group()
    server = three.port(blue, "hv1", "10.0.0.10", "fd00:10::10", security_groups=[web])
    client = three.port(blue, where, "10.0.0.20", "fd00:10::20", security_groups=[members, others])

    def open_to(port: int, version: int, **remote: Any) -> list[str]:
        return three.rules(web, *(allow(kind, port, version=version, **remote) for kind in ("tcp", "udp")))

    everybody = [open_to(8001, version) for version in (4, 6)]
    cidr = open_to(8002, 4, cidr="10.0.0.16/28") + open_to(8002, 6, cidr="fd00:10::/120")
    for version in (4, 6):
        open_to(8003, version, addresses=prefixes)
        open_to(8004, version, group=members)
    other = [rule for version in (4, 6) for rule in open_to(8005, version, group=others)]
    for version in (4, 6):
        open_to(8006, version)
    changes: dict[int, Callable[[], None]] = {
        8001: lambda: three.unrule(*everybody[0], *everybody[1]),
        8002: lambda: three.unrule(*cidr),
        8003: lambda: without(three, prefixes, "10.0.0.20/32", "fd00:10::20/128"),
        8004: lambda: three.regroup(client, others),
        8005: lambda: three.unrule(*other),
    }
    with contextlib.ExitStack() as stack:
        held = {port: hold(stack, client, server, port) for port in PORTS}
        for port, change in changes.items():
            change()
            wait_cut(*held.pop(port))
            assert all_live(*(one for rest in held.values() for one in rest)), f"after the change of {port}"
            with pytest.raises(TimeoutError):
                Held.tcp(client, server, port, patience=0.3)


def without(world: World, group: str, *addresses: str) -> None:
    world.api.act("address_group", group, "remove_addresses", addresses=list(addresses))


def test_what_a_client_may_start_no_longer_is_cut_both_ways(three: World) -> None:
    """The same seen from the client's egress rules: one of them goes, and its connections with it, both ways; those of
    another rule live, and so does what others start at the same port."""
    blue = three.network("geneve")
    rules = [
        allow(kind, port, direction="egress", version=v) for port in (80, 81) for kind in ("tcp", "udp") for v in (4, 6)
    ]
    client_group = three.group(allow("tcp"), allow("tcp", version=6), egress=False)
    made = three.rules(client_group, *rules)
    server = three.port(
        blue, "hv2", security_groups=[three.group(*(rule | {"direction": "ingress"} for rule in rules))]
    )
    client = three.port(blue, "hv1", security_groups=[client_group])
    with contextlib.ExitStack() as stack:
        cut, kept = hold(stack, client, server, 80), hold(stack, client, server, 81)
        inbound = stack.enter_context(Held.tcp(server, client, 8080))
        three.unrule(*made[: len(made) // 2])
        wait_cut(*cut)
        assert all_live(*kept, inbound)


def test_stateless_groups_know_no_connection(three: World) -> None:
    """A question that a stateless group lets out is answered only if a rule lets the answer in; nothing of it is ever
    in the connection tracker, while a stateful neighbour's connections are. (No other test has these addresses.)"""
    blue = three.network("geneve")
    server_group = three.group(allow("udp", 53), allow("tcp", 80), allow("icmp"), stateful=False)
    client_group = three.group(stateful=False)
    server = three.port(blue, "hv1", "10.0.0.211", security_groups=[server_group])
    client = three.port(blue, "hv1", "10.0.0.212", security_groups=[client_group])
    asked = [Attempt(client, server, kind, port) for kind, port in (("udp", 53), ("tcp", 80), ("icmp", 0))]
    expect_all("reached", *asked)
    three.rules(client_group, allow("udp", 1024, 65535), allow("tcp", 1024, 65535), allow("icmp", 0))
    expect_all("answered", *asked)
    with Held.tcp(client, server, 80) as tcp:
        assert tcp.lives()
        assert not tracked_of(three, "10.0.0.211") and not tracked_of(three, "10.0.0.212")
        three.rules(server_group, allow("udp", 54))
        assert tcp.lives()
    stateful = three.port(blue, "hv1", "10.0.0.213", security_groups=[three.group()])
    expect_all("answered", *(Attempt(stateful, server, kind, port) for kind, port in (("udp", 53), ("icmp", 0))))
    assert tracked_of(three, "10.0.0.213") and not tracked_of(three, "10.0.0.212")


def tracked_of(world: World, address: str) -> list[str]:
    """The connections from and to an address that hv1's tracker has."""
    known = world.hypervisor("hv1").run("ovs-appctl", "dpctl/dump-conntrack").splitlines()
    return [connection for connection in known if f"={address}," in connection]
