"""The query string of a list, read once by the resource's table: filters, fields, sorting, a page.

Pure. What the table does not allow is refused here with a sentence, so that the machine only builds SQL.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, Integer

from controller.api import kinds
from controller.api.attributes import Attribute
from controller.api.errors import BadRequest, HTTPBadRequest, InvalidInput
from controller.store.clock import timestamp

_RESERVED = ("fields", "sort_key", "sort_dir", "limit", "marker", "page_reverse", "changed_since")


@dataclass(frozen=True, slots=True)
class Query:
    """What a list is asked for.

    `filters`: attribute → values, any of which matches. `special`: the same for names only the resource understands.
    `fields`: None is all. `sorts`: (attribute, descending). `limit`: rows of a page, None for no page.
    """

    filters: tuple[tuple[Attribute, tuple[Any, ...]], ...] = ()
    special: tuple[tuple[str, tuple[str, ...]], ...] = ()
    fields: frozenset[str] | None = None
    sorts: tuple[tuple[Attribute, bool], ...] = ()
    limit: int | None = None
    marker: str | None = None
    reverse: bool = False
    changed_since: str | None = None


def parse(
    pairs: Iterable[tuple[str, str]],
    visible: Mapping[str, Attribute],
    special: Collection[str] = (),
    largest_page: int = -1,
) -> Query:
    """Reads decoded (name, value) pairs. `visible` are the attributes that who asks may see. Raises BadRequest."""
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\0" in value:
            raise HTTPBadRequest(reason=f"The value of {name!r} holds a character that is no text")
        given.setdefault("project_id" if name == "tenant_id" else name, []).append(value)
    known: list[tuple[Attribute, tuple[Any, ...]]] = []
    other: list[tuple[str, tuple[str, ...]]] = []
    for name, values in given.items():
        if name in _RESERVED:
            continue
        if name in special:
            other.append((name, tuple(values)))
        elif name in visible and visible[name].filter:
            attribute = visible[name]
            match = matcher(attribute)
            known.append((attribute, tuple(_matched(attribute, match, value) for value in values)))
        else:
            raise HTTPBadRequest(reason=f"'{name}' is invalid attribute for filtering")
    changed = given.get("changed_since")
    if changed and "updated_at" not in visible:
        raise HTTPBadRequest(reason="'changed_since' is invalid attribute for filtering")
    fields = frozenset(field for field in given.get("fields", ()) if field)
    return Query(
        filters=tuple(known),
        special=tuple(other),
        fields=fields or None,
        sorts=_sorts(given, visible),
        limit=_limit(given.get("limit"), largest_page),
        marker=given.get("marker", [""])[-1] or None,
        reverse=_flag("page_reverse", given),
        changed_since=_moment(changed[-1]) if changed else None,
    )


def matcher(attribute: Attribute) -> Callable[[str], Any]:
    """How text becomes a value to compare the attribute's column with."""
    if attribute.match is not None:
        return attribute.match
    column = attribute.column
    if column is not None and isinstance(column.type, Boolean):
        return kinds.boolean
    if column is not None and isinstance(column.type, Integer):
        return kinds.integer(-(2**63), 2**63 - 1)
    return str


def lenient(kind: kinds.Kind) -> kinds.Kind:
    """`kind`'s form if the value has one, else the value: a filter that cannot match finds nothing."""

    def match(value: Any) -> Any:
        try:
            return kind(value)
        except kinds.Unfit:
            return value

    return match


def _matched(attribute: Attribute, match: Callable[[str], Any], value: str) -> Any:
    try:
        return match(value)
    except kinds.Unfit as reason:
        raise InvalidInput(error_message=f"{attribute.name}: {reason}") from None


def _sorts(given: Mapping[str, list[str]], visible: Mapping[str, Attribute]) -> tuple[tuple[Attribute, bool], ...]:
    names, directions = given.get("sort_key", []), given.get("sort_dir", [])
    names = ["project_id" if name == "tenant_id" else name for name in names]
    for name in names:
        if name not in visible or not visible[name].sort:
            raise HTTPBadRequest(reason=f"['{name}'] is invalid attribute for sort_keys")
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise HTTPBadRequest(
                reason=f"['{direction}'] is invalid value for sort_dirs, valid value is 'asc' and 'desc'"
            )
    if len(directions) > len(names):
        raise HTTPBadRequest(reason="The number of sort_keys and sort_dirs must be same")
    directions = directions + ["asc"] * (len(names) - len(directions))
    return tuple(
        (visible[name], direction == "desc")
        for place, (name, direction) in enumerate(zip(names, directions, strict=True))
        if name not in names[:place]
    )


def _limit(values: list[str] | None, largest: int) -> int | None:
    wanted: int | None = None
    if values:
        text = values[-1]
        if not (text.isascii() and text.isdigit()):
            raise BadRequest(resource="limit", msg=f"Limit must be an integer 0 or greater and not '{text}'")
        # A page of nothing is no page, as in Neutron; SQL's integers end somewhere.
        wanted = min(int(text[:18]), 2**31) or None
    if largest > 0:
        return min(wanted or largest, largest)
    return wanted


def _flag(name: str, given: Mapping[str, list[str]]) -> bool:
    if name not in given:
        return False
    try:
        return kinds.boolean(given[name][-1])
    except kinds.Unfit as reason:
        raise InvalidInput(error_message=f"{name}: {reason}") from None


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
        return timestamp(moment if moment.tzinfo is None else moment.astimezone(UTC))
    except (ValueError, OverflowError):
        raise InvalidInput(error_message=f"changed_since: {kinds.shown(text)} is no ISO 8601 moment") from None
