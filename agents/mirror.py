"""The rows of Open vSwitch's database that the agent looks at, as Python values.

`COLUMNS` says which tables and columns are monitored and of which shape each is; everything else in the database,
statistics above all, never reaches the agent. `Mirror` holds the rows and applies the monitor's `table-updates2`
(ovsdb-server(7), section 4.1.14) to them: sets and maps arrive as differences.

Rows are plain dicts: a scalar is its value, an optional value is it or None, a set is a frozenset, a map is a dict,
a reference is the row's UUID as text. Pure; written only by `agents.inventory`, read by `agents.bridge` too.

A row that is not of its columns' shapes and types stays as it was before, or away, and is named in `strange`: it takes
no other row with it.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple

Row = dict[str, Any]

Updates = dict[str, dict[str, dict[str, Any]]]
"""`table-updates2`: table -> UUID -> `row-update2`."""


class Shape(Enum):
    SCALAR = "scalar"
    OPTIONAL = "optional"
    SET = "set"
    MAP = "map"


COLUMNS: dict[str, dict[str, Shape]] = {
    "Open_vSwitch": {"bridges": Shape.SET, "ovs_version": Shape.OPTIONAL},
    "Bridge": {
        "name": Shape.SCALAR,
        "ports": Shape.SET,
        "datapath_type": Shape.SCALAR,
        "fail_mode": Shape.OPTIONAL,
        "protocols": Shape.SET,
        "external_ids": Shape.MAP,
    },
    "Port": {"name": Shape.SCALAR, "interfaces": Shape.SET},
    "Interface": {
        "name": Shape.SCALAR,
        "type": Shape.SCALAR,
        "options": Shape.MAP,
        "external_ids": Shape.MAP,
        "ofport": Shape.OPTIONAL,
        "mtu": Shape.OPTIONAL,
        "error": Shape.OPTIONAL,
    },
}

NUMBERS = frozenset({"ofport", "mtu"})
"""The columns of integers; all others are text."""

NAMED = 100
"""Rows that `strange` names; all are counted."""

EMPTY: dict[Shape, Any] = {Shape.SCALAR: "", Shape.OPTIONAL: None, Shape.SET: frozenset(), Shape.MAP: {}}
"""The value of a column that a new row leaves out, because it is the type's default."""


class StrangeRow(Exception):
    """A row is not of the schema that it should be of; the text says where."""


class Change(NamedTuple):
    """One row before and after; None where it did not exist or is gone."""

    table: str
    uuid: str
    before: Row | None
    after: Row | None


class Mirror:
    """The monitored rows: table -> UUID -> row. A row's dict is replaced when it changes, never altered."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Row]] = {table: {} for table in COLUMNS}
        self.strange: dict[tuple[str, str], str] = {}
        """Rows that could not be read when they last changed -> why."""
        self.unread = 0
        """Changes of rows that could not be read."""
        self._named: dict[str, dict[str, str]] = {table: {} for table in COLUMNS}

    def apply(self, updates: Updates) -> list[Change]:
        """Apply one `table-updates2`; what really changed, row by row."""
        changes = []
        for table, told in updates.items():
            if table not in COLUMNS:  # a monitor of our columns brings no other
                continue
            rows = self.rows[table]
            for uuid, change in told.items():
                before = rows.get(uuid)
                try:
                    after = _after(COLUMNS[table], before, change)
                except StrangeRow as error:
                    self._complain(table, uuid, str(error))
                    continue
                self.strange.pop((table, uuid), None)
                self._keep(table, uuid, before, after)
                if after != before:
                    changes.append(Change(table, uuid, before, after))
        return changes

    def _keep(self, table: str, uuid: str, before: Row | None, after: Row | None) -> None:
        named = self._named[table]
        if after is not None:
            self.rows[table][uuid] = after
            if "name" in after:
                named[after["name"]] = uuid
        elif before is not None:
            del self.rows[table][uuid]
            if named.get(before.get("name", "")) == uuid:  # a new row may have taken the name already
                del named[before["name"]]

    def _complain(self, table: str, uuid: str, reason: str) -> None:
        self.unread += 1
        if len(self.strange) < NAMED:
            self.strange[table, uuid] = f"{table} {uuid}: {reason}"

    def named(self, table: str, name: str) -> str | None:
        """The UUID of the row of `table` with this name (an index of the schema: there is one at most)."""
        return self._named[table].get(name)


def _after(shapes: dict[str, Shape], before: Row | None, change: dict[str, Any]) -> Row | None:
    """The row after a `row-update2`; None if that deletes it. Raises `StrangeRow`."""
    if "delete" in change:
        return None
    if "modify" in change:
        if before is None:
            raise StrangeRow("changed, and was never there")
        row = dict(before)
        for column, value in _columns(shapes, change["modify"]):
            row[column] = _difference(column, shapes[column], before[column], value)
        return row
    told = dict(_columns(shapes, change.get("initial") or change.get("insert") or {}))
    return {
        column: _value(shape, told[column], column) if column in told else EMPTY[shape]
        for column, shape in shapes.items()
    }


def _columns(shapes: dict[str, Shape], told: Any) -> Iterator[tuple[str, Any]]:
    """Those that we know."""
    if not isinstance(told, dict):
        raise StrangeRow(f"its columns are {told!r:.50}")
    return ((column, value) for column, value in told.items() if column in shapes)


def _difference(column: str, shape: Shape, old: Any, told: Any) -> Any:
    """A changed column: the new value, or for sets and maps what differs from the old one."""
    value = _value(shape, told, column)
    if shape is Shape.SET:
        return old ^ value
    if shape is Shape.MAP:
        new = dict(old)
        for key, changed in value.items():
            if new.get(key) == changed:
                del new[key]
            else:
                new[key] = changed
        return new
    return value


def _value(shape: Shape, told: Any, column: str = "") -> Any:
    """RFC 7047 section 5.1: <atom>, ["set", [...]], ["map", [[k, v]...]], ["uuid", text]. Raises `StrangeRow`."""
    try:
        kind, content = told if isinstance(told, list) else ("", told)
        if shape is Shape.MAP:
            if kind != "map":
                raise StrangeRow(f"its {column} is no map: {told!r:.50}")
            return {_atom(key, column): _atom(value, column) for key, value in content}
        if shape is Shape.SET:
            members = content if kind == "set" else [told]
            return frozenset(_atom(member, column) for member in members)
        if shape is Shape.OPTIONAL and kind == "set":
            return _atom(content[0], column) if content else None
        return _atom(told, column)
    except (TypeError, ValueError, KeyError) as error:  # not of so many parts
        raise StrangeRow(f"its {column} is {told!r:.50}") from error


def _atom(told: Any, column: str) -> Any:
    kind, value = told if isinstance(told, list) else ("", told)
    expected = int if column in NUMBERS else str
    if kind not in ("", "uuid", "named-uuid") or type(value) is not expected:
        raise StrangeRow(f"its {column} is {told!r:.50}")
    return value
