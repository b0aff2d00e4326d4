"""Security groups: what their members may send and receive, as rules.

Every project has one called `default` from its first use on (`grouping`). A group is used by ports through identities
(`controller.store.identities`): who deletes a group takes away the identities in which it is, unless a port has one.
With a group go its rules, and those of other groups that name it.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, exists, or_, select

from controller.api import kinds
from controller.api.attributes import ANYONE, Attribute
from controller.api.errors import (
    SecurityGroupCannotRemoveDefault,
    SecurityGroupCannotUpdateDefault,
    SecurityGroupDefaultAlreadyExists,
    SecurityGroupInUse,
    SecurityGroupNotFound,
)
from controller.api.grouping import begin, defaults, lacks_default, touch
from controller.api.identity import Identity
from controller.api.query import Query
from controller.api.resource import Behaviour, Resource, Row, Work, table
from controller.api.security_group_rules import rules_in, rules_made
from controller.api.standard import identifiers, standard
from controller.store.identities import GroupInUse, forget_group
from controller.store.schema import (
    default_security_groups,
    identity_groups,
    ports,
    security_group_rules,
    security_groups,
)
from controller.store.security import of_rules, of_security_groups


def _name(value: Any) -> str:
    """Any name but that of the group that every project has already."""
    text: str = kinds.string(255)(value)
    if text.lower() == "default":
        raise SecurityGroupDefaultAlreadyExists
    return text


ATTRIBUTES = table(
    *identifiers(security_groups, _name),
    Attribute(
        "stateful",
        kind=kinds.boolean,
        post=ANYONE,
        put=ANYONE,
        default=True,
        column=security_groups.c.stateful,
        filter=True,
    ),
    Attribute("security_group_rules"),
    *standard(security_groups),
)


class SecurityGroups(Behaviour):
    """What only groups do."""

    def sees(self, identity: Identity) -> ColumnElement[bool]:
        return security_groups.c.project_id == identity.project

    def lacks(self, conn: Connection, identity: Identity, query: Query) -> Callable[[Work], object] | None:
        wanting = lacks_default(conn, identity, query)
        return None if wanting is None else lambda work: defaults(work, [wanting])

    def fill(self, conn: Connection, views: Sequence[tuple[str, Row]], names: frozenset[str], ids: Select[Any]) -> None:
        found = rules_in(conn, ids.subquery())
        for id, view in views:
            view["security_group_rules"] = found.get(id, [])

    def load(self, work: Work, row: Row) -> None:
        me = select(security_groups.c.id).where(security_groups.c.id == row["id"]).subquery()
        row["security_group_rules"] = rules_in(work.conn, me).get(row["id"], [])

    def plan(self, work: Work, rows: Sequence[Row]) -> None:
        defaults(work, (row["project_id"] for row in rows))

    def created(self, work: Work, rows: Sequence[Row]) -> None:
        rules = begin(work, rows)
        for row in rows:
            row["security_group_rules"] = rules_made(rules.get(row["id"], ()), default=False)

    def change(self, work: Work, before: Row, changes: Row) -> None:
        if "name" in changes and _is_default(work, before):
            raise SecurityGroupCannotUpdateDefault
        if changes.get("stateful", before["stateful"]) != before["stateful"] and _is_used(work, before):
            raise SecurityGroupInUse(id=before["id"])
        work.meant(_meaning(before))

    def changed(self, work: Work, before: Row, after: Row) -> None:
        work.means(_meaning(after))

    def delete(self, work: Work, row: Row) -> None:
        try:
            memberships = forget_group(work.transaction, row["id"])
        except GroupInUse:
            raise SecurityGroupInUse(id=row["id"]) from None
        if not work.identity.admin and _is_default(work, row):
            raise SecurityGroupCannotRemoveDefault
        work.meant(memberships)
        work.meant(_meaning(row))
        mine = security_group_rules.c.security_group_id == row["id"]
        naming = security_group_rules.c.remote_group_id == row["id"]
        # Locked, so that a rule that somebody else deletes meanwhile is not told of as deleted twice.
        going = select(security_group_rules).where(or_(mine, naming)).order_by(security_group_rules.c.key)
        rules = work.transaction.execute(going.with_for_update()).all()
        work.meant(of_rules(rules))
        touch(work, {rule.security_group_id for rule in rules} - {row["id"]})


def _meaning(row: Row) -> dict[str, list[Any]]:
    return of_security_groups([SimpleNamespace(**row)])


def _is_default(work: Work, row: Row) -> bool:
    statement = select(exists().where(default_security_groups.c.security_group_id == row["id"]))
    return bool(work.transaction.execute(statement).scalar())


def _is_used(work: Work, row: Row) -> bool:
    """Whether a port has the group, whose row is locked, so that none gets it meanwhile."""
    with_group = select(identity_groups.c.identity).where(identity_groups.c.security_group_id == row["id"])
    return bool(work.transaction.execute(select(exists().where(ports.c.identity.in_(with_group)))).scalar())


RESOURCE = Resource(
    name="security_group",
    plural="security_groups",
    table=security_groups,
    attributes=ATTRIBUTES,
    behaviour=SecurityGroups(),
    not_found=SecurityGroupNotFound,
)
