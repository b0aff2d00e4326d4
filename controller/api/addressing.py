"""Which addresses ports get: Neutron's rules, for many ports in a few statements.

Automatic: one address from an IPv4 subnet and one from an IPv6 subnet of the network that has any left, and in every
subnet where hosts make their own (SLAAC) the EUI-64 address. Asked for: by subnet, by address, or both.

`wishes` is pure: what each port wants. `grant` finds it: explicit addresses are looked up at once, those that may be
any are drawn from windows (`controller.ipam.draw`). Nothing is locked; the primary key of `ip_allocations` refuses
what two chose, and the whole transaction runs again.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from controller.api.errors import (
    AllocationOnAutoAddressSubnet,
    InvalidInput,
    InvalidIpForNetwork,
    InvalidIpForSubnet,
    IpAddressGenerationFailure,
    IpAddressInUse,
)
from controller.api.subnetting import is_automatic, numeric
from controller.ipam.addresses import Space, eui64, number, position, space, text
from controller.ipam.draw import draw
from controller.ipam.intervals import Interval, Intervals, normal
from controller.store.schema import ip_allocations, subnets
from controller.store.topology import chunks

ROUTER_OWNERS = ("network:router_interface", "network:router_gateway", "network:router_interface_distributed")
"""Owners of ports that have the addresses they are told, in SLAAC subnets too."""


class Subnet(NamedTuple):
    """A subnet as far as addresses go."""

    id: str
    network: str
    space: Space
    pools: Intervals
    automatic: bool


class Wish(NamedTuple):
    """One address: exactly `address` of the only subnet, or any (None) of the first subnet that has one left."""

    subnets: tuple[Subnet, ...]
    address: int | None


class Grant(NamedTuple):
    """One address given."""

    subnet: Subnet
    address: int

    @property
    def text(self) -> str:
        return text(self.subnet.space.version, self.address)

    @property
    def position(self) -> str:
        return position(self.subnet.space.version, self.address)

    @property
    def shown(self) -> dict[str, str]:
        """As the API shows it."""
        return {"subnet_id": self.subnet.id, "ip_address": self.text}

    def row(self, port: str, ordinal: int) -> dict[str, Any]:
        """As `ip_allocations` stores it."""
        return {
            "subnet_id": self.subnet.id,
            "position": self.position,
            "port_id": port,
            "ip_address": self.text,
            "ordinal": ordinal,
        }


def subnet_of(row: Mapping[str, Any]) -> Subnet:
    """From a row of `subnets`."""
    return Subnet(
        row["id"],
        row["network_id"],
        space(row["cidr"]),
        normal(numeric(row["allocation_pools"])),
        is_automatic(row),
    )


def subnets_of(conn: Connection, networks: Iterable[str]) -> dict[str, list[Subnet]]:
    """Network → its subnets, oldest first."""
    found: dict[str, list[Subnet]] = defaultdict(list)
    columns = ("id", "network_id", "cidr", "allocation_pools", "ipv6_address_mode", "ipv6_ra_mode")
    for chunk in chunks(networks):
        statement = (
            select(*(subnets.c[name] for name in columns))
            .where(subnets.c.network_id.in_(chunk))
            .order_by(subnets.c.created_at, subnets.c.id)
        )
        for row in conn.execute(statement).mappings():
            found[row["network_id"]].append(subnet_of(dict(row)))
    return found


def automatic(subnet: Subnet, mac: str) -> Wish:
    """The address that a host with `mac` makes itself."""
    return Wish((subnet,), eui64(subnet.space.first, mac))


def wishes(
    asked: Sequence[Mapping[str, str]] | None, known: Sequence[Subnet], mac: str, owner: str, most: int
) -> list[Wish]:
    """What a port wants: `asked` is its `fixed_ips`, or None if nobody said. Raises BadRequest."""
    router = owner in ROUTER_OWNERS
    wanted: list[Wish] = []
    if asked is None:
        for version in (4, 6):
            candidates = tuple(one for one in known if one.space.version == version and not one.automatic)
            if candidates:
                wanted.append(Wish(candidates, None))
    else:
        if len(asked) > most:
            raise InvalidInput(error_message="Exceeded maximum amount of fixed ips per port")
        wanted.extend(_asked(item, known, mac, router) for item in asked)
    if not router:
        named = {wish.subnets[0].id for wish in wanted if len(wish.subnets) == 1}
        wanted.extend(automatic(one, mac) for one in known if one.automatic and one.id not in named)
    return wanted


def _asked(item: Mapping[str, str], known: Sequence[Subnet], mac: str, router: bool) -> Wish:
    address = number(item["ip_address"]) if "ip_address" in item else None
    version = 6 if ":" in item.get("ip_address", "") else 4
    if "subnet_id" in item:
        subnet = next((one for one in known if one.id == item["subnet_id"]), None)
        if subnet is None:
            raise InvalidInput(
                error_message=f"Failed to create port on network, because fixed_ips included invalid subnet "
                f"{item['subnet_id']}"
            )
        if address is not None and (subnet.space.version != version or not _valid(subnet, address)):
            raise InvalidIpForSubnet(ip_address=item["ip_address"])
    elif address is None:
        raise InvalidInput(error_message="fixed_ips: IP allocation requires subnet_id or ip_address")
    else:
        subnet = next((one for one in known if one.space.version == version and address in one.space), None)
        if subnet is None:
            raise InvalidIpForNetwork(ip_address=item["ip_address"])
        if not _valid(subnet, address):
            raise InvalidIpForSubnet(ip_address=item["ip_address"])
    if subnet.automatic and not router:
        own = eui64(subnet.space.first, mac)
        if address is not None and address != own:
            raise AllocationOnAutoAddressSubnet(ip_address=item["ip_address"], subnet=subnet.id)
        address = own
    return Wish((subnet,), address)


def _valid(subnet: Subnet, address: int) -> bool:
    low, high = subnet.space.hosts
    return low <= address <= high


def grant(conn: Connection, network: str, wanted: Sequence[Sequence[Wish]], chance: Random) -> list[list[Grant]]:
    """Addresses for ports of one network, each a list of wishes; nothing is written yet.

    Raises IpAddressInUse, IpAddressGenerationFailure.
    """
    taken = _Taken(conn)
    for wish in (wish for port in wanted for wish in port if wish.address is not None):
        taken.want(wish.subnets[0], wish.address or 0, network)
    taken.look(network)
    counts = Counter(wish.subnets for port in wanted for wish in port if wish.address is None)
    drawn = {candidates: _drawn(candidates, count, taken, network, chance) for candidates, count in counts.items()}
    return [
        [drawn[wish.subnets].pop() if wish.address is None else Grant(wish.subnets[0], wish.address) for wish in port]
        for port in wanted
    ]


def _drawn(candidates: Sequence[Subnet], count: int, taken: "_Taken", network: str, chance: Random) -> list[Grant]:
    found: list[Grant] = []
    for subnet in candidates:

        def used(interval: Interval, subnet: Subnet = subnet) -> Iterable[int]:
            return taken.between(subnet, interval)

        for address in draw(subnet.pools, count - len(found), used, chance):
            found.append(Grant(subnet, address))
            taken.mine[subnet.id].add(address)
        if len(found) == count:
            return found
    raise IpAddressGenerationFailure(network=network)


class _Taken:
    """Addresses that are taken: the database's, and those of this request."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.mine: dict[str, set[int]] = defaultdict(set)
        self.subnets: dict[str, Subnet] = {}

    def want(self, subnet: Subnet, address: int, network: str) -> None:
        """One explicit address. Raises IpAddressInUse if this request has it already."""
        if address in self.mine[subnet.id]:
            raise IpAddressInUse(network=network, ip_address=text(subnet.space.version, address))
        self.mine[subnet.id].add(address)
        self.subnets[subnet.id] = subnet

    def look(self, network: str) -> None:
        """Raises IpAddressInUse if the database has one of the wanted addresses."""
        for id, subnet in self.subnets.items():
            for chunk in chunks(position(subnet.space.version, address) for address in self.mine[id]):
                statement = select(ip_allocations.c.ip_address).where(
                    ip_allocations.c.subnet_id == id, ip_allocations.c.position.in_(chunk)
                )
                address = self.conn.execute(statement.limit(1)).scalar()
                if address is not None:
                    raise IpAddressInUse(network=network, ip_address=address)

    def between(self, subnet: Subnet, interval: Interval) -> Iterable[int]:
        """What is taken in an inclusive range."""
        low, high = (position(subnet.space.version, end) for end in interval)
        statement = select(ip_allocations.c.position).where(
            ip_allocations.c.subnet_id == subnet.id, ip_allocations.c.position.between(low, high)
        )
        yield from (int(found, 16) for found in self.conn.execute(statement).scalars())
        yield from self.mine[subnet.id]
