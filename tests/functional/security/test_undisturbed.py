"""Connections over changes that leave them allowed: under load, and nothing is lost."""

import itertools
import time
from collections.abc import Callable

import pytest

from devstack.labs.vm import Vm
from tests.functional.security.connections import Stream
from tests.functional.security.flood import Flood, Lane
from tests.functional.security.test_connections import PLACES, without
from tests.functional.verbs import World, allow

pytestmark = pytest.mark.alone


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
        "an address": lambda: without(three, _with(three, prefixes, "10.0.0.0/24"), "10.0.0.0/24"),
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
