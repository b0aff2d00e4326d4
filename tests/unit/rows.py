"""A database in memory for unit tests: rows as ovsdb-server keeps them, operations in, the monitor's updates out.

Only what `agents.bridge` emits is carried out (insert, update, mutate of a set or a map, wait); everything else fails
the test.
Rows that nobody refers to are collected, and names are unique, as the schema says.
"""

import uuid
from typing import Any

from agents.mirror import COLUMNS, EMPTY, Shape, _value

Updates = dict[str, dict[str, dict[str, Any]]]
PARENTS = {"Interface": ("Port", "interfaces"), "Port": ("Bridge", "ports"), "Bridge": ("Open_vSwitch", "bridges")}


class Rows:
    def __init__(self) -> None:
        self.tables: dict[str, dict[str, dict[str, Any]]] = {table: {} for table in COLUMNS}
        self._add("Open_vSwitch", ovs_version="3.1.0")

    def _add(self, table: str, **values: Any) -> str:
        name = str(uuid.uuid4())
        self.tables[table][name] = {
            column: values.get(column, dict(EMPTY[shape]) if shape is Shape.MAP else EMPTY[shape])
            for column, shape in COLUMNS[table].items()
        }
        return name

    def bridge(self, name: str, **values: Any) -> None:
        bridge = self._add("Bridge", name=name, **values)
        root = next(iter(self.tables["Open_vSwitch"].values()))
        root["bridges"] = root["bridges"] | {bridge}
        self.port(name, name, type="internal")

    def port(self, bridge: str, name: str, **values: Any) -> str:
        """A port with one interface; the Interface's UUID."""
        interface = self._add("Interface", name=name, **values)
        port = self._add("Port", name=name, interfaces=frozenset({interface}))
        row = self.named("Bridge", bridge)
        row["ports"] = row["ports"] | {port}
        return interface

    def delete_bridge(self, name: str) -> None:
        self.tables["Bridge"] = {key: row for key, row in self.tables["Bridge"].items() if row["name"] != name}
        self._collect()

    def delete_port(self, name: str) -> None:
        self.tables["Port"] = {key: row for key, row in self.tables["Port"].items() if row["name"] != name}
        self._collect()

    def named(self, table: str, name: str) -> dict[str, Any]:
        return next(row for row in self.tables[table].values() if row["name"] == name)

    def ports(self, bridge: str) -> set[str]:
        return {self.tables["Port"][port]["name"] for port in self.named("Bridge", bridge)["ports"]}

    def initial(self) -> Updates:
        return self.updates_since({table: {} for table in COLUMNS})

    def snapshot(self) -> dict[str, dict[str, dict[str, Any]]]:
        return {table: {key: dict(row) for key, row in rows.items()} for table, rows in self.tables.items()}

    def updates_since(self, before: dict[str, dict[str, dict[str, Any]]]) -> Updates:
        """What a monitor tells: inserts, deletes, and changed columns as differences."""
        updates: Updates = {}
        for table, shapes in COLUMNS.items():
            old, new = before[table], self.tables[table]
            told: dict[str, dict[str, Any]] = {}
            for key in old.keys() - new.keys():
                told[key] = {"delete": None}
            for key, row in new.items():
                if key not in old:
                    told[key] = {"insert": {c: _wire(shapes[c], v) for c, v in row.items() if v != EMPTY[shapes[c]]}}
                elif row != old[key]:
                    changed = {c: _delta(shapes[c], old[key][c], v) for c, v in row.items() if v != old[key][c]}
                    told[key] = {"modify": changed}
            if told:
                updates[table] = told
        return updates

    def commit(self, operations: list[dict[str, Any]]) -> Updates:
        """Carry out one transaction; the monitor's update. Asserts what ovsdb-server would refuse."""
        before = self.snapshot()
        names = {op["uuid-name"]: str(uuid.uuid4()) for op in operations if op["op"] == "insert"}
        for op in operations:
            table, shapes = op["table"], COLUMNS[op["table"]]
            matched = [key for key in self.tables[table] if self._matches(table, key, op.get("where", []))]
            if op["op"] == "insert":
                row = {c: _value(shapes[c], _resolve(v, names)) for c, v in op["row"].items()}
                empty = {c: dict(EMPTY[s]) if s is Shape.MAP else EMPTY[s] for c, s in shapes.items()}
                self.tables[table][names[op["uuid-name"]]] = empty | row
            elif op["op"] == "update":
                for key in matched:
                    self.tables[table][key] |= {c: _value(shapes[c], v) for c, v in op["row"].items()}
            elif op["op"] == "mutate":
                for key in matched:
                    for column, mutator, told in op["mutations"]:
                        row = self.tables[table][key]
                        row[column] = _mutated(shapes[column], row[column], mutator, _resolve(told, names))
            elif op["op"] == "wait":
                found = [{c: self.tables[table][key][c] for c in op["columns"]} for key in matched]
                assert found == op["rows"], f"wait fails: {found} is not {op['rows']}"
            else:
                raise AssertionError(f"operation {op['op']} is not known here")
        self._collect()
        for table in PARENTS:
            taken = [row["name"] for row in self.tables[table].values()]
            assert len(taken) == len(set(taken)), f"names of {table} are not unique: {sorted(taken)}"
        return self.updates_since(before)

    def _matches(self, table: str, key: str, where: list[Any]) -> bool:
        row = self.tables[table][key]
        return all((key if column == "_uuid" else row[column]) == _value(Shape.SCALAR, v) for column, _, v in where)

    def _collect(self) -> None:
        for table in ("Bridge", "Port", "Interface"):  # from the root down
            parent, column = PARENTS[table]
            held = frozenset().union(*(row[column] for row in self.tables[parent].values()))
            self.tables[table] = {key: row for key, row in self.tables[table].items() if key in held}
            for row in self.tables[parent].values():
                row[column] = row[column] & self.tables[table].keys()


def _resolve(told: Any, names: dict[str, str]) -> Any:
    if isinstance(told, list) and told and told[0] == "named-uuid":
        return ["uuid", names[told[1]]]
    return [_resolve(each, names) for each in told] if isinstance(told, list) else told


def _mutated(shape: Shape, old: Any, mutator: str, told: Any) -> Any:
    """RFC 7047 section 5.1: an insertion into a map leaves keys alone that are there."""
    if shape is Shape.MAP:
        if mutator == "insert":
            return _value(Shape.MAP, told) | old
        return {key: value for key, value in old.items() if key not in _value(Shape.SET, told)}
    members = _value(Shape.SET, told)
    return old | members if mutator == "insert" else old - members


def _wire(shape: Shape, value: Any) -> Any:
    if shape is Shape.MAP:
        return ["map", [[key, each] for key, each in value.items()]]
    if shape is Shape.SET:
        return ["set", sorted(value)]
    if shape is Shape.OPTIONAL and value is None:
        return ["set", []]
    return value


def _delta(shape: Shape, old: Any, new: Any) -> Any:
    if shape is Shape.SET:
        return ["set", sorted(old ^ new)]
    if shape is Shape.MAP:
        changed = {k: new.get(k, old.get(k)) for k in old.keys() | new.keys() if old.get(k) != new.get(k)}
        return ["map", [[key, each] for key, each in changed.items()]]
    return _wire(shape, new)
