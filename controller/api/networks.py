"""Networks: layer-2 domains, each with one segment (Neutron's provider attributes).

A tenant names no segment: its kind is the configured default and its number is drawn. An administrator may name kind,
physical network and number, and may take numbers outside the configured ranges. The database's constraint on
(kind, physical network, number) decides who gets a number; see `controller.store.engine`.
"""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, exists, or_, select

from controller.api import kinds
from controller.api.attributes import ADMIN, ANYONE, UNSET, Attribute
from controller.api.errors import (
    FlatNetworkInUse,
    InvalidInput,
    InvalidSharedSetting,
    NetworkInUse,
    NetworkMTUSubnetConflict,
    NetworkNotFound,
    NoNetworkAvailable,
    TunnelIdInUse,
    VlanIdInUse,
)
from controller.api.grouping import defaults
from controller.api.identity import Identity
from controller.api.resource import Behaviour, Resource, Row, Work, table
from controller.api.segmentation import SegmentWish, largest_mtu, ranges_of, wish_of
from controller.api.standard import admin_state, identifiers, standard, status
from controller.ipam.draw import draw
from controller.ipam.intervals import Interval
from controller.store.schema import networks, ports, segments, subnets
from controller.store.topology import of_segments, select_segments
from selvedge.topology import OVERLAYS

LEAST_MTU = {4: 68, 6: 1280}
"""What every link must carry whole (RFC 791, RFC 8200), by IP version of the subnets on it."""

ATTRIBUTES = table(
    *identifiers(networks),
    admin_state(networks),
    status(networks),
    Attribute(
        "shared", kind=kinds.boolean, post=ADMIN, put=ADMIN, default=False, column=networks.c.shared, filter=True
    ),
    Attribute("subnets"),
    Attribute(
        "mtu", kind=kinds.integer(0), post=ANYONE, put=ANYONE, default=0, column=networks.c.mtu, filter=True, sort=True
    ),
    Attribute(
        "port_security_enabled",
        kind=kinds.boolean,
        post=ANYONE,
        put=ANYONE,
        default=True,
        column=networks.c.port_security_enabled,
        filter=True,
    ),
    Attribute(
        "provider:network_type",
        kind=kinds.string(32),
        post=ADMIN,
        put=ADMIN,
        see=ADMIN,
        default=UNSET,
        column=segments.c.kind,
        filter=True,
    ),
    Attribute(
        "provider:physical_network",
        kind=kinds.or_none(kinds.string(64)),
        post=ADMIN,
        put=ADMIN,
        see=ADMIN,
        default=UNSET,
        column=segments.c.physical_network,
        shown=lambda name: name or None,
        filter=True,
    ),
    Attribute(
        "provider:segmentation_id",
        kind=kinds.or_none(kinds.integer()),
        post=ADMIN,
        put=ADMIN,
        see=ADMIN,
        default=UNSET,
        column=segments.c.number,
        shown=lambda number: number or None,
        filter=True,
    ),
    *standard(networks),
)

_PROVIDER = ("kind", "physical_network", "number")


class Networks(Behaviour):
    """What only networks do: segments, MTU, sharing."""

    def sees(self, identity: Identity) -> ColumnElement[bool]:
        return or_(networks.c.project_id == identity.project, networks.c.shared)

    def fill(self, conn: Connection, views: Sequence[tuple[str, Row]], names: frozenset[str], ids: Select[Any]) -> None:
        chosen = ids.subquery()
        statement = (
            select(subnets.c.network_id, subnets.c.id)
            .join(chosen, chosen.c.id == subnets.c.network_id)
            .order_by(subnets.c.network_id, subnets.c.id)
        )
        found: dict[str, list[str]] = {id: [] for id, _ in views}
        for network, subnet in conn.execute(statement):
            # A subnet of a network that came between the two statements has no view.
            found.setdefault(network, []).append(subnet)
        for id, view in views:
            view["subnets"] = found[id]

    def load(self, work: Work, row: Row) -> None:
        row["subnets"] = list(
            work.transaction.execute(
                select(subnets.c.id).where(subnets.c.network_id == row["id"]).order_by(subnets.c.id)
            ).scalars()
        )

    def plan(self, work: Work, rows: Sequence[Row]) -> None:
        # As in Neutron, a project's first network is where its default group comes from, if nothing else was before.
        defaults(work, {row["project_id"] for row in rows} - {""})
        settings = work.settings.networks
        wishes = [wish_of(row, settings) for row in rows]
        numbers = self._numbers(work, wishes)
        for row, wish, (physical, number) in zip(rows, wishes, numbers, strict=True):
            row.update(status="ACTIVE", subnets=[], kind=wish.kind, physical_network=physical or "", number=number)
            row["mtu"] = _mtu(row["mtu"], largest_mtu(wish.kind, settings))

    def _numbers(self, work: Work, wishes: Sequence[SegmentWish]) -> list[tuple[str, int]]:
        """(physical network, number) for each wish; what is given out in this request is not given out twice."""
        given: set[tuple[str, str, int]] = set()
        for wish in wishes:
            if wish.number is not None:
                place = (wish.kind, wish.physical_network or "", wish.number)
                if place in given or _is_taken(work, *place):
                    raise _in_use(wish)
                given.add(place)
        results: list[tuple[str, int]] = []
        for wish in wishes:
            if wish.number is not None:
                results.append((wish.physical_network or "", wish.number))
                continue
            results.append(_draw_number(work, wish, given))
            given.add((wish.kind, *results[-1]))
        return results

    def created(self, work: Work, rows: Sequence[Row]) -> None:
        made = [
            {
                "id": str(uuid.uuid4()),
                "network_id": row["id"],
                **{name: row[name] for name in _PROVIDER},
            }
            for row in rows
        ]
        work.transaction.execute(segments.insert(), made)
        ids = [segment["id"] for segment in made]
        work.means(of_segments(work.transaction.execute(select_segments().where(segments.c.id.in_(ids)))))

    def change(self, work: Work, before: Row, changes: Row) -> None:
        for name in _PROVIDER:
            if name in changes and changes[name] != before[name] and (changes[name] or before[name]):
                raise InvalidInput(error_message="provider attributes of a network cannot be changed")
            changes.pop(name, None)
        if "mtu" in changes:
            changes["mtu"] = _mtu(changes["mtu"], largest_mtu(before["kind"], work.settings.networks))
            versions = work.transaction.execute(
                select(subnets.c.ip_version).where(subnets.c.network_id == before["id"]).distinct()
            ).scalars()
            least = max((LEAST_MTU[version] for version in versions), default=0)
            if changes["mtu"] < least:
                raise NetworkMTUSubnetConflict(id=before["id"], mtu=least)
        if before["shared"] and changes.get("shared") is False:
            self._require_unshared(work, before)
        work.meant(self._meaning(work, before))

    def changed(self, work: Work, before: Row, after: Row) -> None:
        work.means(self._meaning(work, after))

    def _meaning(self, work: Work, row: Row) -> dict[str, list[Any]]:
        return of_segments(work.transaction.execute(select_segments().where(networks.c.id == row["id"])))

    def _require_unshared(self, work: Work, row: Row) -> None:
        """Nobody else may use a network that is to be no longer shared."""
        for other in (ports, subnets):
            foreign = (other.c.network_id == row["id"], other.c.project_id.not_in((row["project_id"], "")))
            if work.transaction.execute(select(other.c.id).where(*foreign).limit(1)).first():
                raise InvalidSharedSetting(network=row["name"] or row["id"])

    def delete(self, work: Work, row: Row) -> None:
        if work.transaction.execute(select(exists().where(ports.c.network_id == row["id"]))).scalar():
            raise NetworkInUse(id=row["id"])
        work.meant(self._meaning(work, row))
        for dependent in (subnets, segments):
            work.transaction.execute(delete(dependent).where(dependent.c.network_id == row["id"]))


def _mtu(wanted: int, largest: int) -> int:
    if wanted > largest:
        raise InvalidInput(error_message=f"Requested MTU is too big, maximum is {largest}")
    if 0 < wanted < LEAST_MTU[4]:
        raise InvalidInput(error_message=f"Requested MTU is too small, minimum is {LEAST_MTU[4]}")
    return wanted or largest


def _is_taken(work: Work, kind: str, physical: str, number: int) -> bool:
    same = (segments.c.kind == kind, segments.c.physical_network == physical, segments.c.number == number)
    return bool(work.transaction.execute(select(exists().where(*same))).scalar())


def _in_use(wish: SegmentWish) -> Exception:
    if wish.kind in OVERLAYS:
        return TunnelIdInUse(tunnel_id=wish.number)
    if wish.kind == "vlan":
        return VlanIdInUse(vlan_id=wish.number, physical_network=wish.physical_network)
    return FlatNetworkInUse(physical_network=wish.physical_network)


def _draw_number(work: Work, wish: SegmentWish, given: set[tuple[str, str, int]]) -> tuple[str, int]:
    """A free number in the configured ranges. Raises NoNetworkAvailable."""
    for physical, ranges in ranges_of(wish, work.settings.networks):

        def taken(interval: Interval, physical: str = physical) -> list[int]:
            statement = select(segments.c.number).where(
                segments.c.kind == wish.kind,
                segments.c.physical_network == physical,
                segments.c.number.between(*interval),
            )
            mine = [number for kind, where, number in given if (kind, where) == (wish.kind, physical)]
            return [*work.transaction.execute(statement).scalars(), *mine]

        drawn = draw(ranges, 1, taken, work.settings.chance)
        if drawn:
            return physical, drawn[0]
    raise NoNetworkAvailable


RESOURCE = Resource(
    name="network",
    plural="networks",
    table=networks,
    attributes=ATTRIBUTES,
    behaviour=Networks(),
    not_found=NetworkNotFound,
    source=networks.join(segments, segments.c.network_id == networks.c.id),
)
