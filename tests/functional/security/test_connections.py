"""Connections over changes: what is allowed no longer is cut at once, both ways; what still is does not notice."""

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from devstack.labs.vm import Vm
from tests.functional.security.connections import Held, Stream, all_live, wait_cut
from tests.functional.security.flood import Flood, Lane
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
        8003: lambda: _without(three, prefixes, "10.0.0.20/32", "fd00:10::20/128"),
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


def _without(world: World, group: str, *addresses: str) -> None:
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


@pytest.mark.parametrize(("kind", "where"), PLACES)
def test_a_connection_under_load_notices_no_change_that_leaves_it_allowed(three: World, kind: str, where: str) -> None:
    """TCP of both families carries data all the time, while an unrelated rule comes and goes, one that overlaps, a
    group of each end, a member of the remote group, a prefix: no reset, nothing lost, no silence.

    The member is on a third host: Open vSwitch's userspace datapath may lose some packets of its tunnels at the moment
    in which any interface of the same host comes or goes, with groups or without."""
    blue = three.network(kind)
    members, more = three.group(), three.group(allow("udp", 53), allow("tcp", 443, cidr="10.0.0.0/24"))
    prefixes = three.addresses("192.0.2.0/24")
    web = three.group(
        allow("tcp", 80, group=members),
        allow("tcp", 80, version=6, group=members),
        allow("tcp", 5000, 6000, addresses=prefixes),
    )
    server = three.port(blue, "hv1", security_groups=[web])
    client = three.port(blue, where, security_groups=[members])
    spare = three.bound(blue, "hv3", security_groups=[members])

    def member_comes_and_goes() -> None:
        three.delete_port(three.port(blue, "hv3", security_groups=[members]).port)

    def rule_comes_and_goes(*rules: dict[str, object]) -> None:
        three.unrule(*three.rules(web, *rules))

    def group_comes_and_goes(vm: Vm, own: str) -> None:
        three.regroup(vm, own, more)
        three.regroup(vm, own)

    changes: dict[str, Callable[[], object]] = {
        "an unrelated rule": lambda: rule_comes_and_goes(allow("udp", 4000, 5000)),
        "an overlapping rule": lambda: rule_comes_and_goes(allow("tcp", 1, 1000), allow("tcp", 80, cidr="10.0.0.0/8")),
        "everybody": lambda: rule_comes_and_goes(allow(), allow(version=6)),
        "a member": member_comes_and_goes,
        "a member's group": lambda: three.api.update("port", spare["id"], security_groups=[]),
        "the server's groups": lambda: group_comes_and_goes(server, web),
        "the client's groups": lambda: group_comes_and_goes(client, members),
        "an address": lambda: _without(three, _with(three, prefixes, "10.0.0.0/24"), "10.0.0.0/24"),
    }
    streams = [Stream(client, server, 80, version) for version in (4, 6)]
    with streams[0], streams[1]:
        for what, change in changes.items():
            before = [stream.echoed for stream in streams]
            change()
            for stream, echoed in zip(streams, before, strict=True):
                stream.wait_echoed(echoed + 50_000, f"after {what}")
    for stream in streams:
        told = stream.suffered
        assert (told.broken, told.lost) == ("", 0), told
        assert told.silence < 1, told


def test_a_port_that_comes_back_to_its_groups_loses_nothing(three: World) -> None:
    """A port goes through many sets of groups and then through the same again, seconds later, beside whom it talks to:
    what the datapath has cached of a policy that was left must not stop it."""
    blue = three.network("geneve")
    members, *more = (three.group() for _ in range(6))
    web = three.group(allow("tcp", 80, group=members), allow("udp", 1000, group=members))
    server = three.port(blue, "hv1", security_groups=[web])
    client = three.port(blue, "hv1", security_groups=[members])
    sets = [some for size in range(4) for some in itertools.combinations(more, size)]
    with Flood(Lane(client, server, 1000, True)) as flood:
        for some in (*sets, *sets):
            three.regroup(client, members, *some)
            time.sleep(0.15)
    assert not flood.wrong(), "\n".join(flood.wrong())


def _with(world: World, group: str, *addresses: str) -> str:
    world.api.act("address_group", group, "add_addresses", addresses=list(addresses))
    return group


def test_stateless_groups_know_no_connection(three: World) -> None:
    """A question that a stateless group lets out is answered only if a rule lets the answer in; nothing of it is ever
    in the connection tracker, while a stateful neighbour's connections are."""
    blue = three.network("geneve")
    server_group = three.group(allow("udp", 53), allow("tcp", 80), allow("icmp"), stateful=False)
    client_group = three.group(stateful=False)
    server = three.port(blue, "hv1", "10.0.0.10", security_groups=[server_group])
    client = three.port(blue, "hv1", "10.0.0.20", security_groups=[client_group])
    asked = [Attempt(client, server, kind, port) for kind, port in (("udp", 53), ("tcp", 80), ("icmp", 0))]
    expect_all("reached", *asked)
    three.rules(client_group, allow("udp", 1024, 65535), allow("tcp", 1024, 65535), allow("icmp", 0))
    expect_all("answered", *asked)
    with Held.tcp(client, server, 80) as tcp:
        assert tcp.lives()
        assert not tracked_of(three, "10.0.0.10") and not tracked_of(three, "10.0.0.20")
        three.rules(server_group, allow("udp", 54))
        assert tcp.lives()
    stateful = three.port(blue, "hv1", "10.0.0.30", security_groups=[three.group()])
    expect_all("answered", *(Attempt(stateful, server, kind, port) for kind, port in (("udp", 53), ("icmp", 0))))
    assert tracked_of(three, "10.0.0.30") and not tracked_of(three, "10.0.0.20")


def tracked_of(world: World, address: str) -> list[str]:
    """The connections from and to an address that hv1's tracker has."""
    known = world.hypervisor("hv1").run("ovs-appctl", "dpctl/dump-conntrack").splitlines()
    return [connection for connection in known if f"={address}," in connection]
