"""Security groups as other resources meet them: finding them, a project's default group, the rules of a new group.

Whoever lets a port or a rule depend on a group holds the group's row with the weakest lock there is: it keeps the
group from being deleted or changed meanwhile, and holds up neither other ports nor changes of rules. A project has one
default group because the database has a constraint; who comes second loses the race, runs again and finds it.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection, select, update

from controller.api.identity import Identity
from controller.api.query import Query
from controller.api.resource import Row, Work
from controller.api.rows import beginning, insert
from controller.store.clock import timestamp
from controller.store.schema import (
    address_groups,
    default_security_group_rules,
    default_security_groups,
    security_group_rules,
    security_groups,
)
from controller.store.security import PARENT, fingerprint, network, of_rules, of_security_groups
from controller.store.topology import chunks

TEMPLATE = (
    "direction",
    "ethertype",
    "protocol",
    "port_range_min",
    "port_range_max",
    "remote_ip_prefix",
    "remote_group_id",
    "remote_address_group_id",
)
"""What a rule takes from the template's."""

_LONGEST_PROJECT = 255
"""Characters that the column `project_id` has."""


def held(work: Work, ids: Iterable[str]) -> dict[str, bool]:
    """Group → whether it is stateful, for those of `ids` that exist and that who asks may use; holds their rows."""
    statement = select(security_groups.c.id, security_groups.c.stateful).with_for_update(read=True, key_share=True)
    if not work.identity.admin:
        statement = statement.where(security_groups.c.project_id == work.identity.project)
    found: dict[str, bool] = {}
    for chunk in chunks(sorted(set(ids))):
        rows = work.transaction.execute(statement.where(security_groups.c.id.in_(chunk)).order_by(security_groups.c.id))
        found.update((id, stateful) for id, stateful in rows)
    return found


def known_address_groups(work: Work, ids: Iterable[str]) -> set[str]:
    """Those of `ids` that exist and that who asks may use."""
    statement = select(address_groups.c.id)
    if not work.identity.admin:
        statement = statement.where(address_groups.c.project_id == work.identity.project)
    found: set[str] = set()
    for chunk in chunks(sorted(set(ids))):
        found.update(work.transaction.execute(statement.where(address_groups.c.id.in_(chunk))).scalars())
    return found


def touch(work: Work, ids: Iterable[str]) -> None:
    """A group is revised when its rules change. Locks the rows, so that one group's rules change one at a time."""
    for chunk in chunks(sorted(set(ids))):
        work.transaction.execute(
            update(security_groups)
            .where(security_groups.c.id.in_(chunk))
            .values(updated_at=timestamp(), revision_number=security_groups.c.revision_number + 1)
        )


# Default groups.


def defaults(work: Work, projects: Iterable[str]) -> dict[str, str]:
    """Project → its default group, which is made now if there is none. Holds the groups' rows."""
    wanted = sorted(set(projects))
    found: dict[str, str] = {}
    statement = (
        select(default_security_groups.c.project_id, security_groups.c.id)
        .join(security_groups, security_groups.c.id == default_security_groups.c.security_group_id)
        .with_for_update(read=True, key_share=True, of=security_groups)
    )
    for chunk in chunks(wanted):
        where = default_security_groups.c.project_id.in_(chunk)
        found.update((project, id) for project, id in work.transaction.execute(statement.where(where)))
    missing = [project for project in wanted if project not in found]
    if missing:
        found.update(_make_defaults(work, missing))
    return found


def _make_defaults(work: Work, projects: Sequence[str]) -> dict[str, str]:
    about = {"name": "default", "description": "Default security group", "stateful": True, **beginning()}
    groups = [{**about, "id": str(uuid.uuid4()), "project_id": project} for project in projects]
    insert(work.transaction, security_groups, groups)
    work.transaction.execute(
        default_security_groups.insert(),
        [{"project_id": group["project_id"], "security_group_id": group["id"]} for group in groups],
    )
    begin(work, groups, default=True)
    return {group["project_id"]: group["id"] for group in groups}


def lacks_default(conn: Connection, identity: Identity, query: Query) -> str | None:
    """The project whose default group a list should show and that has none yet; see `Behaviour.lacks`."""
    project = next((str(values[0]) for one, values in query.filters if one.name == "project_id"), identity.project)
    if not project or not (identity.admin or (identity.reads and project == identity.project)):
        return None
    if len(project) > _LONGEST_PROJECT:
        return None  # nothing can be that project's
    statement = select(default_security_groups.c.project_id).where(default_security_groups.c.project_id == project)
    return project if conn.execute(statement).first() is None else None


# The rules of new groups.


def begin(work: Work, groups: Sequence[Row], *, default: bool = False) -> dict[str, list[Row]]:
    """Group → its first rules, written: what the template has for default groups, or for the others."""
    rules = _from_template(work, groups, default)
    if rules:
        insert(work.transaction, security_group_rules, rules)
    work.means(of_security_groups(SimpleNamespace(**group) for group in groups))
    work.means(meaning(rules))
    found: dict[str, list[Row]] = defaultdict(list)
    for rule in rules:
        found[rule["security_group_id"]].append(rule)
    return found


def meaning(rules: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The topics of rules' rows."""
    return of_rules(SimpleNamespace(**rule) for rule in rules)


def _from_template(work: Work, groups: Sequence[Row], default: bool) -> list[Row]:
    used = "used_in_default_sg" if default else "used_in_non_default_sg"
    statement = select(default_security_group_rules).where(default_security_group_rules.c[used])
    template = [dict(row) for row in work.transaction.execute(statement).mappings()]
    template.sort(key=lambda row: (row["created_at"], row["id"]))
    # A group that the template names may be gone by now; a rule about nobody allows nothing, so it is left out.
    named = {row["remote_group_id"] for row in template} - {None, PARENT}
    there = _existing(work, named) if named else set()
    rules: list[Row] = []
    for group in groups:
        seen: set[str] = set()
        for row in template:
            rule = {name: row[name] for name in TEMPLATE}
            if rule["remote_group_id"] == PARENT:
                rule["remote_group_id"] = group["id"]
            elif rule["remote_group_id"] not in {None, *there}:
                continue
            derive(rule)
            if rule["fingerprint"] in seen:
                continue
            seen.add(rule["fingerprint"])
            rules.append(_complete(rule, group))
    return rules


def _existing(work: Work, ids: Iterable[str]) -> set[str]:
    statement = select(security_groups.c.id).where(security_groups.c.id.in_(sorted(ids)))
    return set(work.transaction.execute(statement.with_for_update(read=True, key_share=True)).scalars())


def _complete(rule: Row, group: Row) -> Row:
    """A template's rule as one of `group`."""
    return {
        **rule,
        **beginning(),
        "id": str(uuid.uuid4()),
        "project_id": group["project_id"],
        "security_group_id": group["id"],
        "description": "",
    }


def derive(rule: Row) -> None:
    """Puts into a rule's row what follows from the rest of it."""
    prefix = rule["remote_ip_prefix"]
    rule.update(normalized_cidr=None if prefix is None else network(prefix), fingerprint=fingerprint(rule))
