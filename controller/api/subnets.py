"""Subnets: the addresses of a network.

Whoever changes a network's subnets locks the network's row; whoever makes ports on it holds that lock shared
(`ports`), so ports never queue behind each other, and none misses a subnet that came meanwhile. A subnet in which hosts
make their own addresses gives one to every port that is there already, and takes them away when it goes.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, null, or_, select, update

from controller.api import kinds
from controller.api.addressing import ROUTER_OWNERS, automatic, grant, subnet_of
from controller.api.attributes import ANYONE, UNSET, Attribute
from controller.api.errors import (
    GatewayIpInUse,
    InvalidInput,
    NetworkMTUSubnetConflict,
    NetworkNotFound,
    PolicyNotAuthorized,
    SubnetInUse,
    SubnetNotFound,
)
from controller.api.identity import Identity
from controller.api.networks import LEAST_MTU
from controller.api.query import lenient
from controller.api.resource import Behaviour, Resource, Row, Work, table
from controller.api.standard import identifiers, standard
from controller.api.subnetting import IPV6_MODES, check_gateway, check_options, check_pools, is_automatic, plan
from controller.ipam.addresses import number, position, space
from controller.settings import Settings
from controller.store.clock import timestamp
from controller.store.schema import ip_allocations, networks, ports, subnets
from controller.store.topology import chunks, of_ports, placed, select_ports

_POOLS = kinds.list_of(kinds.record({"start": kinds.ip_address, "end": kinds.ip_address}))
_ROUTES = kinds.list_of(kinds.record({"destination": kinds.exact_cidr, "nexthop": kinds.ip_address}), unique=True)
_MODE = kinds.or_none(kinds.one_of(*IPV6_MODES))


def _no_pool(value: object) -> None:
    raise kinds.Unfit(f"there is no subnet pool {kinds.shown(value)}")


ATTRIBUTES = table(
    *identifiers(subnets),
    Attribute(
        "network_id",
        kind=kinds.uuid_text,
        post=ANYONE,
        column=subnets.c.network_id,
        match=str,
        filter=True,
        sort=True,
    ),
    Attribute(
        "ip_version",
        kind=lambda value: kinds.one_of(4, 6)(kinds.integer()(value)),
        post=ANYONE,
        column=subnets.c.ip_version,
        filter=True,
        sort=True,
    ),
    Attribute(
        "cidr",
        kind=kinds.or_none(kinds.subnet),
        post=ANYONE,
        default=UNSET,
        column=subnets.c.cidr,
        match=lenient(kinds.subnet),
        filter=True,
        sort=True,
    ),
    # Subnet pools come with their own resource; until then a subnet is of none.
    Attribute(
        "subnetpool_id", kind=kinds.or_none(_no_pool), post=ANYONE, default=None, column=null().label("subnetpool_id")
    ),
    Attribute(
        "gateway_ip",
        kind=kinds.or_none(kinds.ip_address),
        post=ANYONE,
        put=ANYONE,
        default=UNSET,
        column=subnets.c.gateway_ip,
        match=lenient(kinds.ip_address),
        filter=True,
        sort=True,
    ),
    Attribute(
        "allocation_pools",
        kind=kinds.none_is(list, _POOLS),
        post=ANYONE,
        put=ANYONE,
        default=UNSET,
        column=subnets.c.allocation_pools,
    ),
    Attribute(
        "dns_nameservers",
        kind=kinds.none_is(list, kinds.list_of(kinds.ip_address, unique=True)),
        post=ANYONE,
        put=ANYONE,
        default=UNSET,
        column=subnets.c.dns_nameservers,
    ),
    Attribute(
        "host_routes",
        kind=kinds.none_is(list, _ROUTES),
        post=ANYONE,
        put=ANYONE,
        default=UNSET,
        column=subnets.c.host_routes,
    ),
    Attribute(
        "enable_dhcp",
        kind=kinds.boolean,
        post=ANYONE,
        put=ANYONE,
        default=True,
        column=subnets.c.enable_dhcp,
        filter=True,
        sort=True,
    ),
    Attribute(
        "ipv6_ra_mode", kind=_MODE, post=ANYONE, default=UNSET, column=subnets.c.ipv6_ra_mode, filter=True, sort=True
    ),
    Attribute(
        "ipv6_address_mode",
        kind=_MODE,
        post=ANYONE,
        default=UNSET,
        column=subnets.c.ipv6_address_mode,
        filter=True,
        sort=True,
    ),
    *standard(subnets),
)


def _shared(values: Sequence[str], _: Settings) -> ColumnElement[bool]:
    try:
        wanted = [kinds.boolean(value) for value in values]
    except kinds.Unfit as reason:
        raise InvalidInput(error_message=f"shared: {reason}") from None
    return subnets.c.network_id.in_(select(networks.c.id).where(networks.c.shared.in_(wanted)))


class Subnets(Behaviour):
    """What only subnets do."""

    special = {"shared": _shared}

    def sees(self, identity: Identity) -> ColumnElement[bool]:
        return or_(
            subnets.c.project_id == identity.project,
            subnets.c.network_id.in_(select(networks.c.id).where(networks.c.shared)),
        )

    def plan(self, work: Work, rows: Sequence[Row]) -> None:
        homes = _lock_networks(work, [row["network_id"] for row in rows])
        for row in rows:
            home = homes.get(row["network_id"])
            if home is None:
                raise NetworkNotFound(id=row["network_id"])
            if not work.identity.admin and home["project_id"] != work.identity.project:
                raise PolicyNotAuthorized(rule="rule:create_subnet")
            plan(row, work.settings)
            if home["mtu"] < LEAST_MTU[row["ip_version"]]:
                raise NetworkMTUSubnetConflict(id=home["id"], mtu=LEAST_MTU[row["ip_version"]])
        self._require_apart(work, rows)

    def _require_apart(self, work: Work, rows: Sequence[Row]) -> None:
        """No two subnets of one network may overlap."""
        wanted = sorted({row["network_id"] for row in rows})
        present = work.transaction.execute(
            select(subnets.c.network_id, subnets.c.cidr).where(subnets.c.network_id.in_(wanted))
        )
        known = [(network, space(cidr)) for network, cidr in present]
        for row in rows:
            mine = space(row["cidr"])
            for network, other in known:
                if (
                    network == row["network_id"]
                    and mine.version == other.version
                    and mine.first <= other.last
                    and other.first <= mine.last
                ):
                    raise InvalidInput(
                        error_message=f"Requested subnet with cidr: {row['cidr']} for network: {network} overlaps with "
                        "another subnet"
                    )
            known.append((row["network_id"], mine))

    def created(self, work: Work, rows: Sequence[Row]) -> None:
        for row in rows:
            if is_automatic(row):
                _give_automatic_addresses(work, row)

    def change(self, work: Work, before: Row, changes: Row) -> None:
        after = {**before, **changes}
        where = space(before["cidr"])
        if changes.get("enable_dhcp") is False and (before["ipv6_ra_mode"] or before["ipv6_address_mode"]):
            raise InvalidInput(error_message="Cannot disable enable_dhcp with ipv6 attributes set")
        if changes.get("enable_dhcp") and where.prefix > (30 if where.version == 4 else 126):
            raise InvalidInput(
                error_message=f"Invalid CIDR {before['cidr']}: Subnet has a prefix length that is incompatible with "
                "DHCP service enabled"
            )
        check_options(after, work.settings)
        if "gateway_ip" in changes:
            check_gateway(after, where)
            if before["gateway_ip"] and changes["gateway_ip"] != before["gateway_ip"]:
                _require_idle_gateway(work, before)
        if "gateway_ip" in changes or "allocation_pools" in changes:
            check_pools(after, where)

    def delete(self, work: Work, row: Row) -> None:
        _lock_networks(work, [row["network_id"]])
        used = select(ip_allocations.c.port_id).where(ip_allocations.c.subnet_id == row["id"])
        if is_automatic(row):
            routers = exists().where(
                ip_allocations.c.subnet_id == row["id"],
                ip_allocations.c.port_id == ports.c.id,
                ports.c.device_owner.in_(ROUTER_OWNERS),
            )
            if work.transaction.execute(select(routers)).scalar():
                raise SubnetInUse(id=row["id"])
            _take_automatic_addresses(work, row)
        elif work.transaction.execute(used.limit(1)).first():
            raise SubnetInUse(id=row["id"])


def _lock_networks(work: Work, ids: Sequence[str]) -> dict[str, Row]:
    """Locks the networks that exist and are seen, for whoever changes their subnets."""
    statement = select(networks).where(networks.c.id.in_(sorted(set(ids)))).order_by(networks.c.id).with_for_update()
    if not work.identity.admin:
        statement = statement.where(or_(networks.c.project_id == work.identity.project, networks.c.shared))
    return {row["id"]: dict(row) for row in work.transaction.execute(statement).mappings()}


def _require_idle_gateway(work: Work, row: Row) -> None:
    statement = (
        select(ports.c.id)
        .join(ip_allocations, ip_allocations.c.port_id == ports.c.id)
        .where(
            ip_allocations.c.subnet_id == row["id"],
            ip_allocations.c.position == position(row["ip_version"], number(row["gateway_ip"])),
            ports.c.device_owner.in_(ROUTER_OWNERS),
        )
    )
    port = work.transaction.execute(statement).scalar()
    if port is not None:
        raise GatewayIpInUse(ip_address=row["gateway_ip"], port_id=port)


def _give_automatic_addresses(work: Work, row: Row) -> None:
    """The EUI-64 address of a new subnet, to every port that is on its network already."""
    here = (ports.c.network_id == row["network_id"], ports.c.device_owner.not_in(ROUTER_OWNERS))
    statement = select_ports().where(*here).order_by(ports.c.id).with_for_update(of=ports)
    there = work.transaction.execute(statement).all()
    if not there:
        return
    bound = [port for port in there if port.host]
    work.meant(of_ports(placed(work.conn, bound)))
    subnet = subnet_of(row)
    wishes = [[automatic(subnet, port.mac_address)] for port in there]
    grants = grant(work.conn, row["network_id"], wishes, work.settings.chance)
    # After the addresses a port has: a port has far fewer than this.
    after = 1000
    rows: list[dict[str, Any]] = [
        one.row(port.id, after) for port, given in zip(there, grants, strict=True) for one in given
    ]
    work.transaction.execute(ip_allocations.insert(), rows)
    _touch(work, [port.id for port in there])
    work.means(of_ports(placed(work.conn, bound)))


def _take_automatic_addresses(work: Work, row: Row) -> None:
    on_subnet = select(ip_allocations.c.port_id).where(ip_allocations.c.subnet_id == row["id"])
    statement = select_ports().where(ports.c.id.in_(on_subnet)).order_by(ports.c.id).with_for_update(of=ports)
    there = work.transaction.execute(statement).all()
    bound = [port for port in there if port.host]
    work.meant(of_ports(placed(work.conn, bound)))
    work.transaction.execute(delete(ip_allocations).where(ip_allocations.c.subnet_id == row["id"]))
    _touch(work, [port.id for port in there])
    work.means(of_ports(placed(work.conn, bound)))


def _touch(work: Work, ids: Sequence[str]) -> None:
    for chunk in chunks(ids):
        work.transaction.execute(
            update(ports)
            .where(ports.c.id.in_(chunk))
            .values(updated_at=timestamp(), revision_number=ports.c.revision_number + 1)
        )


RESOURCE = Resource(
    name="subnet",
    plural="subnets",
    table=subnets,
    attributes=ATTRIBUTES,
    behaviour=Subnets(),
    not_found=SubnetNotFound,
)
