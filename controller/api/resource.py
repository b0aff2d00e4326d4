"""What a resource is: a declaration, and the behaviour that only it has.

`Resource` names the table of attributes, where rows are stored, and the `Behaviour`. A behaviour's hooks do nothing by
default; a resource without peculiarities needs none. The hooks run inside the machine's one transaction and get a
`Work`: the transaction, who asks, and what the change means to switches (`was`, `now`), which the machine turns into
the topics' changes at the end.

Rows are dictionaries by column key; a behaviour may put more into a row (a port's `fixed_ips`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, Table

from controller.api.attributes import Attribute
from controller.api.errors import NotFound
from controller.api.identity import Identity
from controller.api.query import Query
from controller.settings import Settings
from controller.store.engine import Transaction
from selvedge.topology import Object

Row = dict[str, Any]

ALL = frozenset({"list", "show", "create", "update", "delete"})


@dataclass(slots=True)
class Work:
    """One request's transaction. `was` and `now` collect what topics held and hold, as far as it changes them."""

    transaction: Transaction
    identity: Identity
    settings: Settings
    was: dict[str, list[Object]] = field(default_factory=dict)
    now: dict[str, list[Object]] = field(default_factory=dict)

    @property
    def conn(self) -> Connection:
        return self.transaction.conn

    def meant(self, topics: Mapping[str, Sequence[Object]]) -> None:
        """These objects were, before this transaction."""
        for topic, objects in topics.items():
            self.was.setdefault(topic, []).extend(objects)

    def means(self, topics: Mapping[str, Sequence[Object]]) -> None:
        """These objects are, after it."""
        for topic, objects in topics.items():
            self.now.setdefault(topic, []).extend(objects)


Condition = Callable[[Sequence[str], Settings], ColumnElement[bool]]
"""What a filter's values mean."""


class Behaviour(ABC):
    """The hooks. Every one may raise an `ApiError`, which undoes everything."""

    special: Mapping[str, Condition] = {}
    """Filters that are no column."""

    @abstractmethod
    def sees(self, identity: Identity) -> ColumnElement[bool] | None:
        """Which rows somebody who is no administrator sees; None for all."""

    def lacks(self, conn: Connection, identity: Identity, query: Query) -> Callable[[Work], object] | None:
        """What has to be written before `query` can be answered; None, as nearly always, if nothing."""
        return None

    def fill(self, conn: Connection, views: Sequence[tuple[str, Row]], names: frozenset[str], ids: Select[Any]) -> None:
        """Puts the attributes `names` that have no column into `views`, pairs of (identifier, view).

        `ids` selects the same identifiers. A constant number of statements.
        """

    def present(self, view: Row, settings: Settings) -> None:
        """Last touches to one view, without the database."""

    def load(self, work: Work, row: Row) -> None:
        """Adds to a locked row what the hooks below need."""

    def plan(self, work: Work, rows: Sequence[Row]) -> None:
        """Before rows are inserted: resolve UNSET values, refuse what cannot be."""

    def created(self, work: Work, rows: Sequence[Row]) -> None:
        """After rows are inserted: write what depends on them."""

    def change(self, work: Work, before: Row, changes: Row) -> None:
        """Before a row is updated with `changes`, which may be added to."""

    def changed(self, work: Work, before: Row, after: Row) -> None:
        """After a row is updated."""

    def delete(self, work: Work, row: Row) -> None:
        """Before a row is deleted."""

    def network_owner(self, row: Row) -> str:
        """The project of the row's network, for attributes that only that may set."""
        return str(row["project_id"])

    def may_change(self, identity: Identity, row: Row) -> bool:
        """Whether `identity`, who sees the row and may write, may update or delete it."""
        return bool(row["project_id"] == identity.project)


Action = Callable[[Work, Row, Mapping[str, Any]], Row]
"""Of a locked row and a request's body: makes the changes, and returns those that belong into the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A declaration. `source` is where rows are read from, if that is a join; `also` are columns that hooks need."""

    name: str
    plural: str
    table: Table
    attributes: Mapping[str, Attribute]
    behaviour: Behaviour
    not_found: type[NotFound]
    source: FromClause | None = None
    also: tuple[ColumnElement[Any], ...] = ()
    operations: frozenset[str] = ALL
    actions: Mapping[str, Action] = field(default_factory=dict)
    """What members can do beyond the operations: PUT of `<member>/<action>`."""
    standard: bool = True
    """Whether the table has timestamps and a revision number."""

    @property
    def path(self) -> str:
        """The plural as it is written in addresses."""
        return self.plural.replace("_", "-")

    @property
    def rows(self) -> FromClause:
        return self.table if self.source is None else self.source


def table(*attributes: Attribute) -> dict[str, Attribute]:
    """Attributes by name."""
    named = {attribute.name: attribute for attribute in attributes}
    if len(named) != len(attributes):
        raise ValueError("an attribute is declared twice")
    return named
