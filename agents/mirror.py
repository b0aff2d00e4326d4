"""The rows of Open vSwitch's database that the agent looks at, as Python values.

`COLUMNS` says which tables and columns are monitored and of which shape each is; everything else in the database,
statistics above all, never reaches the agent. `Mirror` holds the rows and applies the monitor's `table-updates2`
(ovsdb-server(7), section 4.1.14) to them: sets and maps arrive as differences.

Rows are plain dicts: a scalar is its value, an optional value is it or None, a set is a frozenset, a map is a dict,
a reference is the row's UUID as text. Pure; written only by `agents.inventory`, read by `agents.bridge` too.
"""

from enum import Enum
from typing import Any, NamedTuple

Row = dict[str, Any]


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

EMPTY: dict[Shape, Any] = {Shape.SCALAR: "", Shape.OPTIONAL: None, Shape.SET: frozenset(), Shape.MAP: {}}
"""The value of a column that a new row leaves out, because it is the type's default."""


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
        self._named: dict[str, dict[str, str]] = {table: {} for table in COLUMNS}

    def apply(self, updates: dict[str, dict[str, dict[str, Any]]]) -> list[Change]:
        """Apply one `table-updates2`; what really changed, row by row."""
        changes = []
        for table, told in updates.items():
            shapes, rows, named = COLUMNS[table], self.rows[table], self._named[table]
            for uuid, change in told.items():
                before = rows.get(uuid)
                after = _after(shapes, before, change)
                if after is not None:
                    rows[uuid] = after
                    if "name" in after:
                        named[after["name"]] = uuid
                elif before is not None:
                    del rows[uuid]
                    if named.get(before.get("name", "")) == uuid:  # a new row may have taken the name already
                        del named[before["name"]]
                if after != before:
                    changes.append(Change(table, uuid, before, after))
        return changes

    def named(self, table: str, name: str) -> str | None:
        """The UUID of the row of `table` with this name (an index of the schema: there is one at most)."""
        return self._named[table].get(name)


def _after(shapes: dict[str, Shape], before: Row | None, change: dict[str, Any]) -> Row | None:
    """The row after a `row-update2`; None if that deletes it."""
    if "delete" in change:
        return None
    if "modify" in change and before is not None:
        row = dict(before)
        for column, value in change["modify"].items():
            row[column] = _difference(shapes[column], before[column], value)
        return row
    told = change.get("initial") or change.get("insert") or {}
    return {column: _value(shape, told[column]) if column in told else EMPTY[shape] for column, shape in shapes.items()}


def _difference(shape: Shape, old: Any, told: Any) -> Any:
    """A changed column: the new value, or for sets and maps what differs from the old one."""
    if shape is Shape.SET:
        return old ^ _value(shape, told)
    if shape is Shape.MAP:
        new = dict(old)
        for key, value in _value(shape, told).items():
            if new.get(key) == value:
                del new[key]
            else:
                new[key] = value
        return new
    return _value(shape, told)


def _value(shape: Shape, told: Any) -> Any:
    """RFC 7047 section 5.1: <atom>, ["set", [...]], ["map", [[k, v]...]], ["uuid", text]."""
    kind = told[0] if isinstance(told, list) else None
    if shape is Shape.MAP:
        return dict(told[1]) if kind == "map" else {}
    if shape is Shape.SET:
        members = told[1] if kind == "set" else [told]
        return frozenset(_atom(member) for member in members)
    if shape is Shape.OPTIONAL and kind == "set":
        return _atom(told[1][0]) if told[1] else None
    return _atom(told)


def _atom(told: Any) -> Any:
    return told[1] if isinstance(told, list) else told
