"""The security groups of ports: Neutron's rules, and the identities that stand for them.

A port that is secure has the groups that were asked for, or its project's default group if nobody said. Ports of the
network itself (`network:*`: DHCP servers, routers) are trusted and get none; without port security there are none.
Many ports are a constant number of statements: one for default groups, one for named ones, one for identities.
"""

from collections.abc import Iterable, Sequence

from controller.api.attributes import UNSET
from controller.api.errors import (
    PortSecurityAndIPRequiredForSecurityGroups,
    PortSecurityPortHasSecurityGroup,
    SecurityGroupConflict,
    SecurityGroupNotFound,
)
from controller.api.grouping import defaults, held
from controller.api.resource import Row, Work
from controller.store.identities import canonical, identities_of


def give_groups(work: Work, rows: Sequence[Row]) -> None:
    """Puts `groups` and `identity` into rows of ports that are about to be inserted."""
    undecided: list[Row] = []
    for row in rows:
        if not row["port_security_enabled"]:
            if row["groups"] is not UNSET and row["groups"]:
                raise PortSecurityAndIPRequiredForSecurityGroups
            row["groups"] = []
        elif row["device_owner"].startswith("network:"):
            row["groups"] = []
        elif row["groups"] is UNSET:
            undecided.append(row)
    _check(work, [row["groups"] for row in rows if row["groups"] is not UNSET])
    if undecided:
        default = defaults(work, (row["project_id"] for row in undecided))
        for row in undecided:
            row["groups"] = [default[row["project_id"]]]
    _identify(work, rows)


def change_groups(work: Work, before: Row, changes: Row) -> None:
    """Puts `groups` and `identity` into the changes of a port, if those change."""
    asked = changes.pop("groups", None)
    if not changes.get("port_security_enabled", before["port_security_enabled"]):
        if asked:
            raise PortSecurityAndIPRequiredForSecurityGroups
        if asked is None and before["groups"]:
            raise PortSecurityPortHasSecurityGroup
    if asked is None or sorted(asked) == before["groups"]:
        return
    _check(work, [asked])
    changes["groups"] = asked
    _identify(work, [changes])


def _check(work: Work, sets: Iterable[Sequence[str]]) -> None:
    """Groups that are named must exist for who asks, and those of one port be all stateful or all stateless."""
    wanted = [groups for groups in sets if groups]
    if not wanted:
        return
    stateful = held(work, (id for groups in wanted for id in groups))
    for groups in wanted:
        unknown = [id for id in groups if id not in stateful]
        if unknown:
            raise SecurityGroupNotFound(id=", ".join(unknown))
        if len({stateful[id] for id in groups}) > 1:
            raise SecurityGroupConflict(
                reason="Cannot apply both stateful and stateless security groups on the same port at the same time"
            )


def _identify(work: Work, rows: Sequence[Row]) -> None:
    numbers, created = identities_of(work.transaction, [row["groups"] for row in rows])
    work.means(created)
    for row in rows:
        groups = canonical(row["groups"])
        row.update(groups=list(groups), identity=numbers.get(groups))
