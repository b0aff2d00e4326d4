"""Security group rules: what a group's members may send and receive.

A rule belongs to whom its group belongs to, whoever made it. Two equal rules in one group are refused; a constraint
holds that against two who post at a time. Rules never change but in their description.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, select

from controller.api import allowances, kinds
from controller.api.attributes import ANYONE, Attribute
from controller.api.errors import (
    AddressGroupNotFound,
    DuplicateSecurityGroupRuleInPost,
    SecurityGroupNotFound,
    SecurityGroupNotSingleGroupRules,
    SecurityGroupRuleExists,
    SecurityGroupRuleNotFound,
    SecurityGroupRulesNotSingleProject,
)
from controller.api.grouping import defaults, derive, held, known_address_groups, lacks_default, meaning, touch
from controller.api.identity import Identity
from controller.api.query import Query
from controller.api.resource import Behaviour, Resource, Row, Work, table
from controller.api.standard import identifier, project, standard
from controller.store.schema import default_security_groups, security_group_rules, security_groups
from controller.store.topology import chunks

_BELONGS = default_security_groups.c.security_group_id.is_not(None).label("belongs_to_default_sg")

ATTRIBUTES = table(
    identifier(security_group_rules),
    project(security_group_rules),
    Attribute(
        "security_group_id",
        kind=kinds.string(36),
        post=ANYONE,
        column=security_group_rules.c.security_group_id,
        filter=True,
        sort=True,
    ),
    *allowances.attributes(security_group_rules),
    Attribute("normalized_cidr", column=security_group_rules.c.normalized_cidr, filter=True, sort=True),
    Attribute("belongs_to_default_sg", column=_BELONGS, match=kinds.boolean, filter=True),
    *standard(security_group_rules),
)

SOURCE = security_group_rules.join(
    security_groups, security_groups.c.id == security_group_rules.c.security_group_id
).outerjoin(
    default_security_groups, default_security_groups.c.security_group_id == security_group_rules.c.security_group_id
)


class Rules(Behaviour):
    """What only rules do."""

    def sees(self, identity: Identity) -> ColumnElement[bool]:
        return security_groups.c.project_id == identity.project

    def may_change(self, identity: Identity, row: Row) -> bool:
        return bool(row["group_project_id"] == identity.project)

    def lacks(self, conn: Connection, identity: Identity, query: Query) -> Callable[[Work], object] | None:
        wanting = lacks_default(conn, identity, query)
        return None if wanting is None else lambda work: defaults(work, [wanting])

    def plan(self, work: Work, rows: Sequence[Row]) -> None:
        group = _only_group(rows)
        for row in rows:
            allowances.settle(row)
            derive(row)
        _require_named(work, rows)
        # From here on nobody else changes the rules of this group.
        touch(work, [group])
        _require_new(work, group, rows)
        default = select(default_security_groups.c.project_id).where(
            default_security_groups.c.security_group_id == group
        )
        belongs = work.transaction.execute(default).first() is not None
        for row in rows:
            row["belongs_to_default_sg"] = belongs

    def created(self, work: Work, rows: Sequence[Row]) -> None:
        work.means(meaning(rows))

    def delete(self, work: Work, row: Row) -> None:
        touch(work, [row["security_group_id"]])
        work.meant(meaning([row]))


def _only_group(rows: Sequence[Row]) -> str:
    groups = {row["security_group_id"] for row in rows}
    if len(groups) > 1:
        raise SecurityGroupNotSingleGroupRules
    if len({row["project_id"] for row in rows}) > 1:
        raise SecurityGroupRulesNotSingleProject
    return str(groups.pop())


def _require_named(work: Work, rows: Sequence[Row]) -> None:
    """Whatever the rules name must exist for who asks; the groups' rows are held."""
    groups = {row[name] for row in rows for name in ("security_group_id", "remote_group_id")} - {None}
    known = held(work, groups)
    addresses = {row["remote_address_group_id"] for row in rows} - {None}
    known_addresses = known_address_groups(work, addresses) if addresses else set()
    for row in rows:
        for name in ("remote_group_id", "security_group_id"):
            if row[name] is not None and row[name] not in known:
                raise SecurityGroupNotFound(id=row[name])
        if row["remote_address_group_id"] not in {None, *known_addresses}:
            raise AddressGroupNotFound(id=row["remote_address_group_id"])


def _require_new(work: Work, group: str, rows: Sequence[Row]) -> None:
    """No two rules of the group may be equal."""
    new = {row["fingerprint"] for row in rows}
    if len(new) < len(rows):
        raise DuplicateSecurityGroupRuleInPost
    for chunk in chunks(sorted(new)):
        statement = select(security_group_rules.c.id).where(
            security_group_rules.c.security_group_id == group, security_group_rules.c.fingerprint.in_(chunk)
        )
        known = work.transaction.execute(statement.limit(1)).scalar()
        if known is not None:
            raise SecurityGroupRuleExists(rule_id=known)


# As parts of their groups.


def rules_in(conn: Connection, groups: FromClause) -> dict[str, list[Row]]:
    """Group → its rules as clients see them, oldest first, for the groups whose identifiers `groups` selects."""
    columns = [attribute.column for attribute in ATTRIBUTES.values() if attribute.column is not None]
    statement = (
        select(*columns)
        .select_from(SOURCE)
        .join(groups, groups.c.id == security_group_rules.c.security_group_id)
        .order_by(security_group_rules.c.key)
    )
    found: dict[str, list[Row]] = defaultdict(list)
    for values in conn.execute(statement):
        view: dict[str, Any] = dict(zip(ATTRIBUTES, values, strict=True))
        view["tenant_id"] = view["project_id"]
        found[view["security_group_id"]].append(view)
    return found


def rules_made(rules: Iterable[Row], *, default: bool) -> list[Row]:
    """The same of rows that were just written."""
    return [
        {
            **{name: rule.get(attribute.key, default) for name, attribute in ATTRIBUTES.items()},
            "tenant_id": rule["project_id"],
        }
        for rule in rules
    ]


RESOURCE = Resource(
    name="security_group_rule",
    plural="security_group_rules",
    table=security_group_rules,
    attributes=ATTRIBUTES,
    behaviour=Rules(),
    not_found=SecurityGroupRuleNotFound,
    source=SOURCE,
    also=(security_groups.c.project_id.label("group_project_id"),),
)
