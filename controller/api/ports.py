"""Ports: a MAC and addresses on a network, and the host that they are bound to.

Making ports, one or a thousand, is a constant number of statements: the networks (their rows held with a shared lock,
so that no subnet comes or goes meanwhile), their subnets, a window of used addresses, two inserts. What the port
table declares is in `port_attributes`; which addresses a port gets in `addressing`, which groups in `port_groups`.

A port that is bound is DOWN until the host's agent has confirmed its flows (`controller.store.bindings.wired`).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, or_, select

from controller.api.addressing import Grant, Subnet, Wish, grant, subnets_of, wishes
from controller.api.attributes import UNSET
from controller.api.errors import (
    AddressPairAndPortSecurityRequired,
    AllowedAddressPairExhausted,
    MacAddressInUse,
    NetworkNotFound,
    PortBound,
    PortNotFound,
)
from controller.api.identity import Identity
from controller.api.port_attributes import ATTRIBUTES, fixed_ips_condition, security_groups_condition
from controller.api.port_groups import change_groups, give_groups
from controller.api.resource import Behaviour, Resource, Row, Work
from controller.ipam.addresses import number, random_mac
from controller.settings import Settings
from controller.store.bindings import UNBOUND, plugging
from controller.store.schema import ip_allocations, networks, ports, segments
from controller.store.topology import chunks, of_ports, ports_with_groups
from selvedge.topology import Object


class Ports(Behaviour):
    """What only ports do."""

    special = {"fixed_ips": fixed_ips_condition, "security_groups": security_groups_condition}

    def sees(self, identity: Identity) -> ColumnElement[bool]:
        mine = select(networks.c.id).where(networks.c.project_id == identity.project)
        return or_(ports.c.project_id == identity.project, ports.c.network_id.in_(mine))

    def fill(self, conn: Connection, views: Sequence[tuple[str, Row]], names: frozenset[str], ids: Select[Any]) -> None:
        chosen = ids.subquery()
        statement = select(ip_allocations.c.port_id, ip_allocations.c.subnet_id, ip_allocations.c.ip_address)
        found: dict[str, list[dict[str, str]]] = defaultdict(list)
        for port, subnet, address in conn.execute(
            statement.join(chosen, chosen.c.id == ip_allocations.c.port_id).order_by(
                ip_allocations.c.ordinal, ip_allocations.c.position
            )
        ):
            found[port].append({"subnet_id": subnet, "ip_address": address})
        for id, view in views:
            view["fixed_ips"] = found.get(id, [])

    def load(self, work: Work, row: Row) -> None:
        row.update(_homes(work, [row["network_id"]], hidden=True)[row["network_id"]])
        statement = (
            select(ip_allocations.c.subnet_id, ip_allocations.c.ip_address, ip_allocations.c.ordinal)
            .where(ip_allocations.c.port_id == row["id"])
            .order_by(ip_allocations.c.ordinal, ip_allocations.c.position)
        )
        found = work.transaction.execute(statement).all()
        row["fixed_ips"] = [{"subnet_id": subnet, "ip_address": address} for subnet, address, _ in found]
        row["groups"] = row["groups"] or []
        row["next_ordinal"] = max((ordinal for *_, ordinal in found), default=-1) + 1

    def network_owner(self, row: Row) -> str:
        return str(row["network_project_id"])

    def may_change(self, identity: Identity, row: Row) -> bool:
        return identity.project in (row["project_id"], row["network_project_id"])

    def plan(self, work: Work, rows: Sequence[Row]) -> None:
        homes = _homes(work, [row["network_id"] for row in rows])
        for row in rows:
            home = homes.get(row["network_id"])
            if home is None:
                raise NetworkNotFound(id=row["network_id"])
            row.update(home)
            if row["port_security_enabled"] is UNSET:
                row["port_security_enabled"] = home["network_port_security"]
        hosts = {row["host"] for row in rows if row["host"] not in (UNSET, "")}
        columns = plugging(work.transaction, hosts) if hosts else {}
        _give_macs(work, rows)
        for row in rows:
            _settle_pairs(row, row["mac_address"], work.settings)
            row.update(UNBOUND if row["host"] in (UNSET, "") else columns[row["host"]])
            row.update(status="DOWN", binding_claimed=False)
            if row["profile"] is UNSET:
                row["profile"] = {}
        give_groups(work, rows)
        known = subnets_of(work.conn, homes)
        for network, there in _by_network(rows).items():
            wanted = [_wishes(work, row, known.get(network, ())) for row in there]
            for row, granted in zip(there, grant(work.conn, network, wanted, work.settings.chance), strict=True):
                row["grants"] = granted
                row["fixed_ips"] = [one.shown for one in granted]

    def created(self, work: Work, rows: Sequence[Row]) -> None:
        addresses = [one.row(row["id"], place) for row in rows for place, one in enumerate(row["grants"])]
        if addresses:
            # In one order for all writers, so that they wait for each other rather than in a circle.
            addresses.sort(key=lambda address: (address["subnet_id"], address["position"]))
            work.transaction.execute(ip_allocations.insert(), addresses)
        work.means(_meaning(rows))

    def change(self, work: Work, before: Row, changes: Row) -> None:
        work.meant(_meaning([before]))
        _change_binding(work, before, changes)
        mac = str(changes.get("mac_address", before["mac_address"]))
        if mac != before["mac_address"]:
            if before["host"]:
                raise PortBound(
                    id=before["id"], vif_type=before["vif_type"], old_mac=before["mac_address"], new_mac=mac
                )
            _require_free(work, before["network_id"], [mac])
        after = {**before, **changes}
        _settle_pairs(after, mac, work.settings)
        if "allowed_address_pairs" in changes:
            changes["allowed_address_pairs"] = after["allowed_address_pairs"]
        change_groups(work, before, changes)
        if "fixed_ips" in changes or mac != before["mac_address"]:
            changes["fixed_ips"] = _change_addresses(work, before, changes.get("fixed_ips"), mac)

    def changed(self, work: Work, before: Row, after: Row) -> None:
        work.means(_meaning([after]))

    def delete(self, work: Work, row: Row) -> None:
        work.meant(_meaning([row]))


def _meaning(rows: Iterable[Row]) -> dict[str, list[Object]]:
    return of_ports(
        (SimpleNamespace(**row), [one["ip_address"] for one in row["fixed_ips"]], row["segment_id"])
        for row in rows
        if row["host"]
    )


def _by_network(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["network_id"]].append(row)
    return found


def _homes(work: Work, ids: Iterable[str], *, hidden: bool = False) -> dict[str, Row]:
    """Network → what its ports need of it; only networks that who asks sees, unless `hidden`.

    Holds the rows so that nobody changes the networks' subnets before the end; does not hold up anybody else.
    """
    statement = (
        select(
            networks.c.id,
            networks.c.project_id.label("network_project_id"),
            networks.c.port_security_enabled.label("network_port_security"),
            segments.c.id.label("segment_id"),
        )
        .join(segments, segments.c.network_id == networks.c.id)
        .with_for_update(read=True, key_share=True, of=networks)
    )
    if not (hidden or work.identity.admin):
        statement = statement.where(or_(networks.c.project_id == work.identity.project, networks.c.shared))
    found: dict[str, Row] = {}
    for chunk in chunks(ids):
        for row in work.transaction.execute(statement.where(networks.c.id.in_(chunk))).mappings():
            home = dict(row)
            found[home.pop("id")] = home
    return found


def _wishes(work: Work, row: Row, known: Sequence[Subnet]) -> list[Wish]:
    asked = None if row["fixed_ips"] is UNSET else row["fixed_ips"]
    most = work.settings.max_fixed_ips_per_port
    return wishes(asked, known, row["mac_address"], owner=row["device_owner"], most=most)


def _give_macs(work: Work, rows: Sequence[Row]) -> None:
    """MACs for those that have none; refuses those that are in use."""
    for network, there in _by_network(rows).items():
        asked = [row["mac_address"] for row in there if row["mac_address"] is not UNSET]
        used = set(asked)
        if len(used) < len(asked):
            raise MacAddressInUse(network=network, mac=next(mac for mac in asked if asked.count(mac) > 1))
        _require_free(work, network, asked)
        without = [row for row in there if row["mac_address"] is UNSET]
        # Chance alone nearly always finds one that is free, and the constraint knows; of many, some would not be.
        look = len(without) > 1
        while without:
            for row in without:
                mac = random_mac(work.settings.base_mac, work.settings.chance)
                while mac in used:
                    mac = random_mac(work.settings.base_mac, work.settings.chance)
                row["mac_address"] = mac
                used.add(mac)
            taken = _macs_in_use(work, network, [row["mac_address"] for row in without]) if look else set()
            without = [row for row in without if row["mac_address"] in taken]


def _macs_in_use(work: Work, network: str, macs: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for chunk in chunks(macs):
        found.update(
            work.transaction.execute(
                select(ports.c.mac_address).where(ports.c.network_id == network, ports.c.mac_address.in_(chunk))
            ).scalars()
        )
    return found


def _require_free(work: Work, network: str, macs: Sequence[str]) -> None:
    for mac in sorted(_macs_in_use(work, network, macs)) if macs else ():
        raise MacAddressInUse(network=network, mac=mac)


def _settle_pairs(row: Row, mac: str, settings: Settings) -> None:
    """Address pairs of a row that is about to be written: the port's MAC is the default of each."""
    pairs = [] if row["allowed_address_pairs"] is UNSET else row["allowed_address_pairs"]
    if len(pairs) > settings.max_allowed_address_pair:
        raise AllowedAddressPairExhausted(quota=settings.max_allowed_address_pair)
    if pairs and not row["port_security_enabled"]:
        raise AddressPairAndPortSecurityRequired
    row["allowed_address_pairs"] = [
        {"ip_address": pair["ip_address"], "mac_address": pair.get("mac_address", mac)} for pair in pairs
    ]


def _change_binding(work: Work, before: Row, changes: Row) -> None:
    """A port that moves is DOWN until its new host has wired it; one that a request bound is no longer a claim."""
    if "host" not in changes:
        return
    host = changes["host"]
    if host == before["host"]:
        changes["binding_claimed"] = False
        return
    changes.update(plugging(work.transaction, [host])[host] if host else UNBOUND)
    changes.update(status="DOWN", binding_claimed=False)


def _change_addresses(
    work: Work, before: Row, asked: Sequence[dict[str, str]] | None, mac: str
) -> list[dict[str, str]]:
    """Gives and takes what makes the port's addresses those that are asked for; keeps what it may.

    `asked` None: the addresses stay, but for those that follow from the MAC.
    """
    known = subnets_of(work.conn, [before["network_id"]]).get(before["network_id"], [])
    by_id = {subnet.id: subnet for subnet in known}
    present = [Grant(by_id[one["subnet_id"]], number(one["ip_address"])) for one in before["fixed_ips"]]
    if asked is None:
        asked = [one.shown for one in present if not one.subnet.automatic]
    owner, most = before["device_owner"], work.settings.max_fixed_ips_per_port
    wanted = wishes(asked, known, mac, owner=owner, most=most)
    kept: list[Grant] = []
    new: list[Wish] = []
    # Exact wishes first, so that a wish for "any of this subnet" does not take what another names.
    for wish in sorted(wanted, key=lambda wish: wish.address is None):
        match = next(
            (
                one
                for one in present
                if one not in kept and one.subnet in wish.subnets and wish.address in (None, one.address)
            ),
            None,
        )
        if match is None:
            new.append(wish)
        else:
            kept.append(match)
    for one in present:
        if one not in kept:
            work.transaction.execute(
                ip_allocations.delete().where(
                    ip_allocations.c.subnet_id == one.subnet.id,
                    ip_allocations.c.position == one.position,
                    ip_allocations.c.port_id == before["id"],
                )
            )
    granted = grant(work.conn, before["network_id"], [new], work.settings.chance)[0]
    if granted:
        first = before["next_ordinal"]
        rows = [one.row(before["id"], first + place) for place, one in enumerate(granted)]
        work.transaction.execute(ip_allocations.insert(), rows)
    return [one.shown for one in present if one in kept] + [one.shown for one in granted]


RESOURCE = Resource(
    name="port",
    plural="ports",
    table=ports,
    attributes=ATTRIBUTES,
    behaviour=Ports(),
    not_found=PortNotFound,
    source=ports_with_groups(),
)
