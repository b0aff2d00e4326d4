"""The template: the rules with which new security groups begin, in all projects.

Administrators make and delete them; everybody may read them. A rule is used in default groups, in others, or in both,
and may name `PARENT` as its remote group: the group that is being made. Groups that exist already stay as they are.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, select

from controller.api import allowances, kinds
from controller.api.attributes import ANYONE, NOBODY, Attribute
from controller.api.errors import (
    AddressGroupNotFound,
    DefaultSecurityGroupRuleExists,
    DefaultSecurityGroupRuleNotFound,
    DuplicateDefaultSgRuleInPost,
    PolicyNotAuthorized,
    SecurityGroupNotFound,
)
from controller.api.grouping import held, known_address_groups
from controller.api.identity import Identity
from controller.api.resource import ALL, Behaviour, Resource, Row, Work, table
from controller.api.standard import identifier, standard
from controller.store.schema import default_security_group_rules
from controller.store.security import PARENT, fingerprint

USES = {"used_in_default_sg": "fingerprint_in_default", "used_in_non_default_sg": "fingerprint_in_non_default"}
"""Flag → the column that holds the rule's fingerprint where the flag is set, so that no rule is there twice."""

ATTRIBUTES = table(
    identifier(default_security_group_rules),
    # Taken from clients that name one, but the template is nobody's.
    Attribute("project_id", kind=kinds.string(255), post=ANYONE, see=NOBODY, default=""),
    *allowances.attributes(default_security_group_rules),
    *(
        Attribute(name, kind=kinds.boolean, post=ANYONE, column=default_security_group_rules.c[name], filter=True)
        for name in USES
    ),
    *standard(default_security_group_rules),
)


class Template(Behaviour):
    """What only the template does."""

    def sees(self, identity: Identity) -> ColumnElement[bool] | None:
        return None

    def may_change(self, identity: Identity, row: Row) -> bool:
        return False

    def plan(self, work: Work, rows: Sequence[Row]) -> None:
        if not work.identity.admin:
            raise PolicyNotAuthorized(rule="rule:create_default_security_group_rule")
        for row in rows:
            allowances.settle(row)
            own = fingerprint(row)
            row.update({column: own if row[flag] else None for flag, column in USES.items()})
        self._require_named(work, rows)
        self._require_new(work, rows)

    def _require_named(self, work: Work, rows: Sequence[Row]) -> None:
        """Whatever a rule names must exist; a group may go later, and takes no part then (`grouping`)."""
        groups = {row["remote_group_id"] for row in rows} - {None, PARENT}
        addresses = {row["remote_address_group_id"] for row in rows} - {None}
        for id in sorted(groups - set(held(work, groups)) if groups else ()):
            raise SecurityGroupNotFound(id=id)
        for id in sorted(addresses - known_address_groups(work, addresses) if addresses else ()):
            raise AddressGroupNotFound(id=id)

    def _require_new(self, work: Work, rows: Sequence[Row]) -> None:
        for name in USES.values():
            column = default_security_group_rules.c[name]
            new = [row[name] for row in rows if row[name] is not None]
            if len(set(new)) < len(new):
                raise DuplicateDefaultSgRuleInPost
            if new:
                statement = select(default_security_group_rules.c.id).where(column.in_(new))
                known = work.transaction.execute(statement.limit(1)).scalar()
                if known is not None:
                    raise DefaultSecurityGroupRuleExists(rule_id=known)


RESOURCE = Resource(
    name="default_security_group_rule",
    plural="default_security_group_rules",
    table=default_security_group_rules,
    attributes=ATTRIBUTES,
    behaviour=Template(),
    not_found=DefaultSecurityGroupRuleNotFound,
    operations=ALL - {"update"},
)
