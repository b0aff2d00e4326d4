"""Attribute tables: what a resource's attribute is, in one line, and the reading of request bodies by them.

    Attribute("mtu", kind=integer(0), post=ANYONE, put=ANYONE, default=0, column=networks.c.mtu, sort=True)

The table says who may set the attribute when creating (`post`) and when changing (`put`), who sees it, what it is if
nobody says, where it is stored, and whether lists may be filtered and sorted by it. `accept_post` and `accept_put`
turn a body into a row's values: pure, and the only place where a body is judged attribute by attribute.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from sqlalchemy import ColumnElement

from controller.api.errors import HTTPBadRequest, PolicyNotAuthorized
from controller.api.identity import Identity
from controller.api.kinds import Kind, Unfit


class Who(Enum):
    """Who may set or see an attribute, of those who may write or see the resource at all."""

    NOBODY = "nobody"
    ANYONE = "anyone"
    NETWORK_OWNER = "network owner"
    ADMIN = "admin"


NOBODY, ANYONE, NETWORK_OWNER, ADMIN = Who


class _Marker(Enum):
    REQUIRED = "required"
    UNSET = "unset"


REQUIRED: Final = _Marker.REQUIRED
"""As a default: the body must have the attribute."""

UNSET: Final = _Marker.UNSET
"""As a default: nobody said; the resource's behaviour finds the value."""


def _as_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute. See the module's docstring.

    `key` is its name in rows (the column's, if it has a column). `shown` turns what is stored into what is shown.
    `unless` exempts values from the restriction of `post` and `put` to a network's owner.
    `match` is the kind by which filters are read if it is not `kind`.
    """

    name: str = field(kw_only=False)
    kind: Kind = _as_is
    post: Who = Who.NOBODY
    put: Who = Who.NOBODY
    see: Who = Who.ANYONE
    default: Any = REQUIRED
    column: ColumnElement[Any] | None = None
    shown: Callable[[Any], Any] | None = None
    unless: Callable[[Any], bool] | None = None
    match: Kind | None = None
    filter: bool = False
    sort: bool = False

    @property
    def key(self) -> str:
        return self.name if self.column is None else str(self.column.key)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A body that was read: values by row key, the names the client set, and those that only a network's owner may."""

    values: dict[str, Any]
    restricted: tuple[str, ...]


def convert(attribute: Attribute, value: Any) -> Any:
    """`value` as it is stored. Raises HTTPBadRequest naming the attribute."""
    try:
        return attribute.kind(value)
    except Unfit as reason:
        raise HTTPBadRequest(reason=f"Invalid input for {attribute.name}. Reason: {reason}.") from None


def accept_post(resource: str, table: Mapping[str, Attribute], identity: Identity, body: Mapping[str, Any]) -> Accepted:
    """Reads the body of a create. Raises HTTPBadRequest, PolicyNotAuthorized."""
    sent = _project(identity, body)
    if not identity.admin and sent.get("project_id", identity.project) != identity.project:
        raise HTTPBadRequest(
            reason="Specifying 'project_id' other than the authenticated project in request is not allowed for the "
            "current user."
        )
    if "project_id" in table:
        sent.setdefault("project_id", identity.project)
    _known(table, sent)
    values: dict[str, Any] = {}
    restricted: list[str] = []
    for name, attribute in table.items():
        if name not in sent:
            if attribute.post is Who.NOBODY:
                continue
            if attribute.default is REQUIRED:
                raise HTTPBadRequest(reason=f"Failed to parse request. Required attribute '{name}' not specified")
            default = attribute.default
            values[attribute.key] = default() if callable(default) else default
            continue
        if attribute.post is Who.NOBODY:
            raise HTTPBadRequest(reason=f"Attribute '{name}' not allowed in POST")
        values[attribute.key] = value = convert(attribute, sent[name])
        if value != attribute.default:
            _permit(f"create_{resource}", attribute, value, identity, restricted, who=attribute.post)
    return Accepted(values, tuple(restricted))


def accept_put(resource: str, table: Mapping[str, Attribute], identity: Identity, body: Mapping[str, Any]) -> Accepted:
    """Reads the body of an update. Raises HTTPBadRequest, PolicyNotAuthorized."""
    sent = _project(identity, body)
    _known(table, sent)
    values: dict[str, Any] = {}
    restricted: list[str] = []
    for name, value in sent.items():
        attribute = table[name]
        if attribute.put is Who.NOBODY:
            raise HTTPBadRequest(reason=f"Cannot update read-only attribute {name}")
        values[attribute.key] = stored = convert(attribute, value)
        _permit(f"update_{resource}", attribute, stored, identity, restricted, who=attribute.put)
    return Accepted(values, tuple(restricted))


def _permit(
    action: str, attribute: Attribute, value: Any, identity: Identity, restricted: list[str], *, who: Who
) -> None:
    if identity.admin or who is Who.ANYONE or (attribute.unless is not None and attribute.unless(value)):
        return
    if who is Who.ADMIN:
        raise PolicyNotAuthorized(rule=f"rule:{action} and rule:{action}:{attribute.name}")
    restricted.append(attribute.name)


def _project(identity: Identity, body: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the body in which `project_id` is the only name of the project."""
    sent = dict(body)
    if "tenant_id" in sent:
        tenant = sent.pop("tenant_id")
        if sent.setdefault("project_id", tenant) != tenant:
            raise HTTPBadRequest(reason="'project_id' and 'tenant_id' do not match")
    return sent


def _known(table: Mapping[str, Attribute], sent: Mapping[str, Any]) -> None:
    unknown = [name for name in sent if name not in table]
    if unknown:
        raise HTTPBadRequest(reason=f"Unrecognized attribute(s) '{', '.join(unknown)}'")


def visible_to(table: Mapping[str, Attribute], identity: Identity) -> tuple[Attribute, ...]:
    """The attributes that `identity` sees at all."""
    return tuple(
        attribute
        for attribute in table.values()
        if attribute.see is Who.ANYONE or (attribute.see is Who.ADMIN and identity.admin)
    )
