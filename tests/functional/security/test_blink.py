"""No blink: a flood of allowed and of forbidden packets during 200 changes, and not one goes the wrong way."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from devstack.labs.api import Resource
from devstack.labs.vm import Vm
from tests.functional.security.flood import Flood, Lane
from tests.functional.verbs import World, allow

pytestmark = pytest.mark.alone

CHANGES = 200

PAUSE = 0.03
"""Seconds after each change of every other round, so that the switch has each of them by itself; in the rounds between
they come as fast as the API takes them, and together."""


class Restless:
    """A server's rules that change all the time, and never in what they say of the flood.

    Allowed, by one rule or another at any moment: UDP 1000 from the members of a group. Forbidden: UDP 2000 from them,
    UDP 1000 from anybody else.
    """

    def __init__(self, world: World, kind: str) -> None:
        self.world = world
        self.net = world.network(kind)
        self.members, self.others = world.group(), world.group()
        self.more = world.group(allow("tcp", 22), allow("udp", 4000, cidr="10.0.0.0/24"))
        self.prefixes = world.addresses("192.0.2.0/25", "198.51.100.0/24", "fd00:99::/64")
        self.web = world.group()
        self.holding = world.rules(self.web, *self.permission())
        self.server = self.guest("hv1", "10.0.0.10", self.web)
        self.near, self.far = self.guest("hv1", "10.0.0.20", self.members), self.guest("hv2", "10.0.0.30", self.members)
        self.stranger = self.guest("hv2", "10.0.0.40", self.others)
        self.kept: list[str] = []
        self.generation = 0

    def guest(self, on: str, address: str, group: str) -> Vm:
        six = f"fd00:10::{address.rpartition('.')[2]}"
        return self.world.port(self.net, on, address, six, security_groups=[group])

    def permission(self, last: int = 1000) -> list[Resource]:
        return [allow("udp", 1000, last, version=version, group=self.members) for version in (4, 6)]

    def lanes(self) -> list[Lane]:
        return [
            *(Lane(member, self.server, 1000, True, v) for member in (self.near, self.far) for v in (4, 6)),
            *(Lane(member, self.server, 2000, False, v) for member, v in ((self.near, 4), (self.far, 6))),
            *(Lane(self.stranger, self.server, 1000, False, v) for v in (4, 6)),
        ]

    def round(self) -> Iterator[Callable[[], object]]:
        """Changes, after which all is as before but for who holds the permission."""
        api, world = self.world.api, self.world
        around = (
            allow("udp", 900, 1100, group=self.members),
            allow("udp", 1999, group=self.members),
            allow("udp", 2001, 3000, group=self.members),
            allow("udp", 1, 999),
            allow("tcp", 1, 65535),
            allow("udp", 2000, cidr="192.0.2.0/24"),
            allow("udp", 500, 2500, addresses=self.prefixes),
            allow("udp", 1000, version=6, cidr="fd00:99::/64"),
        )
        for rule in around:
            yield partial(self.keep, rule)
        yield lambda: api.act("address_group", self.prefixes, "add_addresses", addresses=["203.0.113.0/26"])
        yield lambda: world.regroup(self.server, self.web, self.more)
        yield lambda: world.regroup(self.near, self.members, self.more)
        yield lambda: world.regroup(self.far, self.members, self.others)
        yield self.replace_permission
        yield lambda: world.regroup(self.stranger, self.others, self.more)
        yield lambda: api.act("address_group", self.prefixes, "remove_addresses", addresses=["203.0.113.0/26"])
        yield lambda: world.regroup(self.far, self.members)
        yield lambda: world.regroup(self.server, self.web)
        yield lambda: world.regroup(self.near, self.members)
        yield lambda: world.regroup(self.stranger, self.others)
        while self.kept:
            yield lambda: world.unrule(self.kept.pop())

    def keep(self, rule: Resource) -> None:
        self.kept += self.world.rules(self.web, rule)

    def replace_permission(self) -> None:
        """Another rule allows the same before the one that did goes."""
        self.generation += 1
        new = self.world.rules(self.web, *self.permission(1000 + self.generation))
        self.world.unrule(*self.holding)
        self.holding = new


@pytest.mark.parametrize("kind", ("geneve", "vlan"))
def test_two_hundred_changes_send_no_packet_the_wrong_way(three: World, kind: str) -> None:
    """Rules, prefixes and the groups of every VM change 200 times, under eight lanes of new and old connections of both
    families: every packet that is allowed arrives and is answered, none that is forbidden does. With identities that
    travel, and with identities that are found on arrival."""
    restless = Restless(three, kind)
    done, pause = 0, PAUSE
    with Flood(*restless.lanes()) as flood:
        while done < CHANGES:
            for change in restless.round():
                change()
                done += 1
                time.sleep(pause)
            pause = PAUSE - pause
    assert not flood.wrong(), "\n".join(flood.wrong())
    assert all(lane.sent > CHANGES for lane in flood.lanes)
