"""Address groups: prefixes that rules may name as their remote side.

The prefixes are not an attribute to be set: after the creation they are added and removed, each by an action of its own
(`PUT …/add_addresses`, `PUT …/remove_addresses`). Both are all or nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, select

from controller.api import kinds
from controller.api.attributes import ANYONE, UNSET, Attribute
from controller.api.errors import (
    AddressesAlreadyExist,
    AddressesNotFound,
    AddressGroupInUse,
    AddressGroupNotFound,
    HTTPBadRequest,
)
from controller.api.identity import Identity
from controller.api.resource import Behaviour, Resource, Row, Work, table
from controller.api.standard import identifiers, standard
from controller.store.schema import (
    address_associations,
    address_groups,
    default_security_group_rules,
    security_group_rules,
)
from controller.store.security import of_address_groups
from controller.store.topology import chunks


def _posted(value: Any) -> list[str]:
    """Prefixes in canonical form; the same one written in two ways is one."""
    written = kinds.list_of(kinds.string(64), unique=True)(value)
    return sorted(set(kinds.list_of(kinds.cidr)(written)))


ATTRIBUTES = table(
    *identifiers(address_groups),
    Attribute("addresses", kind=kinds.none_is(list, _posted), post=ANYONE, default=UNSET),
    *standard(address_groups),
)


class AddressGroups(Behaviour):
    """What only address groups do."""

    def sees(self, identity: Identity) -> ColumnElement[bool]:
        return address_groups.c.project_id == identity.project

    def fill(self, conn: Connection, views: Sequence[tuple[str, Row]], names: frozenset[str], ids: Select[Any]) -> None:
        chosen = ids.subquery()
        statement = select(address_associations).join(chosen, chosen.c.id == address_associations.c.address_group_id)
        found: dict[str, list[str]] = defaultdict(list)
        for group, address in conn.execute(statement):
            found[group].append(address)
        for id, view in views:
            view["addresses"] = sorted(found.get(id, ()))

    def load(self, work: Work, row: Row) -> None:
        mine = select(address_associations.c.address).where(address_associations.c.address_group_id == row["id"])
        row["addresses"] = sorted(work.transaction.execute(mine).scalars())

    def plan(self, work: Work, rows: Sequence[Row]) -> None:
        for row in rows:
            if row["addresses"] is UNSET:
                row["addresses"] = []

    def created(self, work: Work, rows: Sequence[Row]) -> None:
        _associate(work, [(row["id"], address) for row in rows for address in row["addresses"]])
        work.means(_meaning(rows))

    def delete(self, work: Work, row: Row) -> None:
        for rules in (security_group_rules, default_security_group_rules):
            naming = select(rules.c.id).where(rules.c.remote_address_group_id == row["id"])
            if work.transaction.execute(naming.limit(1)).first():
                raise AddressGroupInUse(id=row["id"])
        work.meant(_meaning([row]))


def _add(work: Work, row: Row, body: Mapping[str, Any]) -> Row:
    wanted = _named(body)
    known = sorted(wanted & set(row["addresses"]))
    if known:
        raise AddressesAlreadyExist(addresses=known, address_group_id=row["id"])
    _associate(work, [(row["id"], address) for address in sorted(wanted)])
    return _told(work, row, {*row["addresses"], *wanted})


def _remove(work: Work, row: Row, body: Mapping[str, Any]) -> Row:
    wanted = _named(body)
    unknown = sorted(wanted - set(row["addresses"]))
    if unknown:
        raise AddressesNotFound(addresses=unknown, address_group_id=row["id"])
    for chunk in chunks(sorted(wanted)):
        these = (address_associations.c.address_group_id == row["id"], address_associations.c.address.in_(chunk))
        work.transaction.execute(delete(address_associations).where(*these))
    return _told(work, row, set(row["addresses"]) - wanted)


def _named(body: Mapping[str, Any]) -> set[str]:
    """The prefixes in an action's body, in canonical form; an address is a prefix of its whole length."""
    if set(body) != {"addresses"}:
        raise HTTPBadRequest(reason="The body of the request must be of the form {'addresses': [...]}")
    try:
        return set(kinds.list_of(kinds.subnet)(body["addresses"]))
    except kinds.Unfit as reason:
        raise HTTPBadRequest(reason=f"Invalid input for addresses. Reason: {reason}.") from None


def _associate(work: Work, pairs: Iterable[tuple[str, str]]) -> None:
    rows = [{"address_group_id": group, "address": address} for group, address in pairs]
    if rows:
        work.transaction.execute(address_associations.insert(), rows)


def _told(work: Work, row: Row, addresses: Iterable[str]) -> Row:
    after = {**row, "addresses": sorted(addresses)}
    work.meant(_meaning([row]))
    work.means(_meaning([after]))
    return {"addresses": after["addresses"]}


def _meaning(rows: Iterable[Row]) -> dict[str, list[Any]]:
    return of_address_groups((SimpleNamespace(**row), row["addresses"]) for row in rows)


RESOURCE = Resource(
    name="address_group",
    plural="address_groups",
    table=address_groups,
    attributes=ATTRIBUTES,
    behaviour=AddressGroups(),
    not_found=AddressGroupNotFound,
    actions={"add_addresses": _add, "remove_addresses": _remove},
)
