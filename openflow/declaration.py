"""What a pipeline is made of, as declarations that check themselves and the flows made from them.

A `Register` names bits of the packet's metadata; a `Table` says what may be matched, written and done in it; a `Family`
is one kind of flow in a table: its priority, who owns such flows, and why they exist. Compilers make flows through
their family only, so a flow that its table does not allow is refused where it is made (`BadFlow`), with the names of
the table and the family, long before a switch sees it. Checks are by *shape* (which fields, which actions), and a shape
is checked once.

The pipeline itself is data in `openflow.pipeline`; `render` turns it into docs/pipeline.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from openflow import fields
from openflow.flow import (
    Action,
    BadFlow,
    Conjunction,
    Flow,
    InPort,
    Load,
    Move,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    ToGroup,
    Track,
    match,
)
from openflow.match import Value

VLAN_TAG = "vlan"
"""Stands for "pushes and pops tags" among a table's writes."""


BRACKETS = """
A table in brackets is looked up by resubmit, and the packet comes back. To one in square brackets the connection
tracker hands it on, and there it is known of which connection it is.
""".strip()


class BadPipeline(ValueError):
    """The declarations contradict each other; raised when the pipeline is imported."""


@dataclass(frozen=True)
class Register:
    """`bits` bits of the field `field` from bit `start` on, under a name."""

    name: str
    field: str
    purpose: str
    start: int = 0
    bits: int = 32


@dataclass(frozen=True)
class Table:
    """One table: `matches` and `writes` are names of fields, `next` the tables a packet may go on to (forward only),
    `resubmits` those it may be looked up in and come back from, `tracks` those to which the connection tracker may hand
    it on. `sends`: it may leave the switch from here; `commits`: its connection may be remembered here; `joins`: flows
    may be clauses of conjunctions."""

    number: int
    name: str
    purpose: str
    miss: str = "drop"
    matches: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    next: tuple[int, ...] = ()
    resubmits: tuple[int, ...] = ()
    tracks: tuple[int, ...] = ()
    sends: bool = False
    commits: bool = False
    joins: bool = False


@dataclass(frozen=True, eq=False)
class Family:
    """One kind of flow: `name` in `table`, at `priority` and up to `spread` more, made by compilers of `owner`, because
    `why`."""

    table: Table
    name: str
    priority: int
    owner: str
    why: str
    spread: int = 0
    _shapes: set[tuple[object, ...]] = field(default_factory=set, repr=False)

    def flow(
        self,
        cookie: int,
        terms: Mapping[str, Value],
        actions: tuple[Action, ...] = (),
        goto: Table | None = None,
        more: int = 0,
    ) -> Flow:
        """A flow of this family, `more` above its priority. Raises `BadFlow` when the declarations do not allow it."""
        table = self.table
        onward = None if goto is None else goto.number
        shape = (tuple(terms), tuple([_trace(action) for action in actions]), onward)
        if shape not in self._shapes:
            self._check(terms, actions, onward)
            self._shapes.add(shape)
        if not 0 <= more <= self.spread:
            raise BadFlow(f"table {table.name}, flows of {self.owner} {self.name!r}: {more} is beyond the priorities")
        return Flow(table.number, self.priority + more, cookie, match(**terms), actions, onward)

    def _check(self, terms: Iterable[str], actions: Iterable[Action], onward: int | None) -> None:
        table = self.table
        where = f"table {table.name}, flows of {self.owner} {self.name!r}"
        if strange := set(terms) - table.matches:
            raise BadFlow(f"{where}: may not match {', '.join(sorted(strange))}")
        for action in actions:
            if objection := _objection(table, action):
                raise BadFlow(f"{where}: {objection}")
        if onward is not None and onward not in table.next:
            raise BadFlow(f"{where}: may not go on to table {onward}")


def _objection(table: Table, action: Action) -> str:
    """Why an action may not be in a table; nothing if it may."""
    if isinstance(action, Output | InPort | ToGroup):
        return "" if table.sends else "packets do not leave the switch here"
    if isinstance(action, Resubmit):
        return "" if action.table in table.resubmits else f"may not resubmit to table {action.table}"
    if isinstance(action, Conjunction):
        return "" if table.joins else "may not be a clause of a conjunction"
    if isinstance(action, Track):
        if action.table is not None and action.table not in table.tracks:
            return f"the connection tracker may not hand on to table {action.table}"
        return "connections are not remembered here" if action.commit and not table.commits else ""
    written = _trace(action)
    return "" if written in table.writes else f"may not write {written}"


def _trace(action: Action) -> object:
    """What of an action its shape keeps: the field it writes, or what else it does."""
    if isinstance(action, SetField | Load):
        return action.field
    if isinstance(action, Move):
        return action.dst
    if isinstance(action, Resubmit):
        return action.table
    if isinstance(action, PushVlan | PopVlan):
        return VLAN_TAG
    if isinstance(action, Track):
        return Track, action.table, action.commit
    return type(action)


def validate(registers: Iterable[Register], tables: Iterable[Table], families: Iterable[Family]) -> None:
    """Hold the declarations against each other. Raises `BadPipeline`, which says what is wrong."""
    _validate_registers(registers)
    _validate_families(_validate_tables(tables), families)


def _validate_tables(tables: Iterable[Table]) -> dict[int, Table]:
    numbers: dict[int, Table] = {}
    for table in tables:
        if table.number in numbers or table.name in {other.name for other in numbers.values()}:
            raise BadPipeline(f"table {table.number} {table.name} is declared twice")
        numbers[table.number] = table
    for table in numbers.values():
        for name in (table.matches | table.writes) - {VLAN_TAG}:
            if name not in fields.BY_NAME:
                raise BadPipeline(f"table {table.name} names a field {name} that does not exist")
        for name in table.writes - {VLAN_TAG}:
            if not fields.BY_NAME[name].writable:
                raise BadPipeline(f"table {table.name} writes {name}, which is read-only")
        for number in (*table.next, *table.tracks):
            if number not in numbers or number <= table.number:
                raise BadPipeline(f"table {table.name} goes on to {number}, which is not a later table")
        for number in table.resubmits:
            if number not in numbers:
                raise BadPipeline(f"table {table.name} resubmits to {number}, which is no table")
    return numbers


def _validate_families(numbers: Mapping[int, Table], families: Iterable[Family]) -> None:
    names = set()
    for family in families:
        if (family.table.number, family.name) in names:
            raise BadPipeline(f"table {family.table.name} has two families {family.name!r}")
        names.add((family.table.number, family.name))
        if numbers.get(family.table.number) is not family.table:
            raise BadPipeline(f"the family {family.name!r} is in a table that is not declared")
        if not 0 <= family.priority <= 0xFFFF:
            raise BadPipeline(f"the priority of {family.name!r} is not 16 bits")


def _validate_registers(registers: Iterable[Register]) -> None:
    taken: dict[str, int] = {}
    names = set()
    for register in registers:
        known = fields.BY_NAME.get(register.field)
        if known is None or not known.writable:
            raise BadPipeline(f"register {register.name} is in {register.field}, which is no writable field")
        if register.start < 0 or register.bits < 1 or register.start + register.bits > known.bits:
            raise BadPipeline(f"register {register.name} does not fit into {register.field}")
        mask = ((1 << register.bits) - 1) << register.start
        if taken.get(register.field, 0) & mask:
            raise BadPipeline(f"register {register.name} overlaps another one in {register.field}")
        if register.name in names:
            raise BadPipeline(f"register {register.name} is declared twice")
        names.add(register.name)
        taken[register.field] = taken.get(register.field, 0) | mask


def render(
    heading: str, registers: Iterable[Register], tables: Iterable[Table], families: Iterable[Family], closing: str
) -> str:
    """The pipeline as a document (Markdown)."""
    registers, tables, families = tuple(registers), tuple(tables), tuple(families)
    names = {table.number: table.name for table in tables}
    lines = [heading.strip(), "", "## Registers", "", "| name | where | holds |", "|---|---|---|"]
    for register in registers:
        whole = register.bits == fields.BY_NAME[register.field].bits
        bits = "" if whole else f"[{register.start}..{register.start + register.bits - 1}]"
        lines.append(f"| {register.name} | `{register.field}{bits}` | {register.purpose} |")
    lines += ["", "## Tables", "", "| no. | name | does | then | miss |", "|---|---|---|---|---|"]
    for table in tables:
        onward = [names[number] for number in table.next]
        onward += [f"({names[number]})" for number in table.resubmits]
        onward += [f"[{names[number]}]" for number in table.tracks]
        onward += ["out"] if table.sends else []
        lines.append(
            f"| {table.number} | {table.name} | {table.purpose} | {', '.join(onward) or 'reserved'} | {table.miss} |"
        )
    lines += ["", BRACKETS, ""]
    for table in tables:
        mine = [family for family in families if family.table is table]
        if not mine:
            continue
        lines += [
            f"## {table.number} {table.name}",
            "",
            f"Matches {_list(table.matches)}; writes {_list(table.writes)}.",
            "",
        ]
        lines += ["| priority | flows | of | why |", "|---|---|---|---|"]
        lines += [
            f"| {_priorities(family)} | {family.name} | {family.owner} | {family.why} |"
            for family in sorted(mine, key=lambda family: -family.priority)
        ]
        lines.append("")
    return "\n".join([*lines, closing.strip(), ""])


def _priorities(family: Family) -> str:
    return f"{family.priority}-{family.priority + family.spread}" if family.spread else str(family.priority)


def _list(names: frozenset[str]) -> str:
    order = {known.name: known.rank for known in fields.TABLE}
    return ", ".join(f"`{name}`" for name in sorted(names, key=lambda name: order.get(name, -1))) or "nothing"
