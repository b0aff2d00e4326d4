"""The machine that serves every resource: list, show, create (one or many, all or nothing), update, delete.

Each operation is one transaction and a number of statements that does not depend on the number of rows. Reading: one
statement for rows of exactly the wanted columns, one per attribute that is no column. Writing: read bodies (pure),
`plan`, insert, `created`; or lock, `change`, update, `changed`; then the topics' changes as the last statements.

It knows no resource and no HTTP. What a project may not see does not exist for it (404); what it sees but may not do
is refused (403).
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Connection, Integer, Select, and_, false, func, or_, select

from controller.api.attributes import Accepted, Attribute, accept_post, accept_put, visible_to
from controller.api.errors import PolicyNotAuthorized, RevisionNumberConstraintFailed
from controller.api.identity import Identity
from controller.api.query import Query
from controller.api.resource import Resource, Row, Work
from controller.api.rows import beginning, insert
from controller.settings import Settings
from controller.store.clock import timestamp
from controller.store.engine import Store, Transaction
from controller.store.topology import Changes, deltas

T = TypeVar("T")

Record = Callable[[Transaction, Changes], None]


class Page(NamedTuple):
    """Rows of a list, the identifiers at its ends, and whether links to the next and previous page belong to it."""

    views: list[Row]
    first: str | None = None
    last: str | None = None
    next: bool = False
    previous: bool = False


class Machine:
    """Serves one resource. Holds no state of its own, so any number of threads may use it."""

    def __init__(self, resource: Resource, store: Store, settings: Settings, record: Record) -> None:
        self.resource = resource
        self.store = store
        self.settings = settings
        self.record = record
        columns: dict[str, ColumnElement[Any]] = {column.key: column for column in resource.table.c}
        for attribute in resource.attributes.values():
            if attribute.column is not None:
                columns.setdefault(attribute.key, attribute.column)
        for column in resource.also:
            columns[str(column.key)] = column
        self.columns = tuple(columns.values())

    # Reading.

    def page(self, identity: Identity, query: Query) -> Page:
        """The rows that `identity` sees and `query` asks for."""
        attributes = self._wanted(identity, query.fields)

        def work(conn: Connection, complete: bool = False) -> Page | Callable[[Work], object]:
            lack = None if complete else self.resource.behaviour.lacks(conn, identity, query)
            if lack is not None:
                return lack
            statement = self._page_of(conn, identity, query)
            ids, views = self._views(conn, attributes, statement)
            if query.limit is None:
                return Page(views)
            if query.reverse:
                ids.reverse()
                views.reverse()
            full = len(views) >= query.limit
            first, last = (ids[0], ids[-1]) if ids else (None, None)
            return Page(views, first, last, next=full or query.reverse, previous=full or not query.reverse)

        found = self.store.read(work)
        if not isinstance(found, Page):
            self._write(identity, found)
            found = self.store.read(lambda conn: work(conn, complete=True))
        assert isinstance(found, Page)
        return found

    def show(self, identity: Identity, id: str, fields: frozenset[str] | None = None) -> Row:
        """One row. Raises the resource's NotFound."""
        attributes = self._wanted(identity, fields)
        statement = self._seen(identity).where(self._id == id)
        _, views = self.store.read(lambda conn: self._views(conn, attributes, statement))
        if not views:
            raise self.resource.not_found(id=id)
        return views[0]

    @property
    def _id(self) -> ColumnElement[Any]:
        return self.resource.table.c.id

    def _seen(self, identity: Identity) -> Select[Any]:
        statement = select(self._id).select_from(self.resource.rows)
        if not identity.reads:
            return statement.where(false())
        condition = None if identity.admin else self.resource.behaviour.sees(identity)
        return statement if condition is None else statement.where(condition)

    def _wanted(self, identity: Identity, fields: frozenset[str] | None) -> tuple[Attribute, ...]:
        seen = visible_to(self.resource.attributes, identity)
        if fields is None:
            return seen
        names = fields | {"project_id"} if "tenant_id" in fields else fields
        some = tuple(attribute for attribute in seen if attribute.name in names)
        return some or seen

    def _page_of(self, conn: Connection, identity: Identity, query: Query) -> Select[Any]:
        statement = self._seen(identity)
        for attribute, values in query.filters:
            assert attribute.column is not None
            statement = statement.where(attribute.column.in_(values))
        for name, texts in query.special:
            statement = statement.where(self.resource.behaviour.special[name](texts, self.settings))
        if query.changed_since is not None:
            statement = statement.where(self.resource.table.c.updated_at >= query.changed_since)
        order = [(_sortable(attribute.column), down) for attribute, down in query.sorts if attribute.name != "id"]
        # By identifier in the end, so that pages never overlap.
        order.append((self._id, next((down for attribute, down in query.sorts if attribute.name == "id"), False)))
        if query.limit is None and not query.sorts:
            return statement.order_by(self._id)
        if query.reverse and query.limit is not None:
            order = [(column, not down) for column, down in order]
        if query.limit is not None and query.marker is not None:
            mark = conn.execute(
                self._seen(identity).where(self._id == query.marker).with_only_columns(*(column for column, _ in order))
            ).first()
            if mark is None:
                raise self.resource.not_found(id=query.marker)
            statement = statement.where(_beyond(order, mark))
        statement = statement.order_by(*(column.desc() if down else column.asc() for column, down in order))
        return statement if query.limit is None else statement.limit(query.limit)

    def _views(
        self, conn: Connection, attributes: Sequence[Attribute], statement: Select[Any]
    ) -> tuple[list[str], list[Row]]:
        """What `statement`, which selects identifiers, finds: those, and the rows as clients see them."""
        names = [attribute.name for attribute in attributes if attribute.column is not None]
        columns = [attribute.column for attribute in attributes if attribute.column is not None]
        rows = conn.execute(statement.with_only_columns(*columns, self._id)).all()
        # The identifier comes last and is shown only if it is among the names.
        views = [dict(zip(names, row, strict=False)) for row in rows]
        ids = [row[-1] for row in rows]
        others = frozenset(attribute.name for attribute in attributes if attribute.column is None)
        if others and rows:
            self.resource.behaviour.fill(conn, list(zip(ids, views, strict=True)), others, statement)
        shown = [(attribute.name, attribute.shown) for attribute in attributes if attribute.shown is not None]
        for view in views:
            self._finish(view, shown)
        return ids, views

    def _finish(self, view: Row, shown: Sequence[tuple[str, Callable[[Any], Any]]]) -> None:
        for name, function in shown:
            view[name] = function(view[name])
        if "project_id" in view:
            view["tenant_id"] = view["project_id"]
        self.resource.behaviour.present(view, self.settings)

    def _view(self, identity: Identity, row: Row) -> Row:
        """What clients see of a row that hooks have completed."""
        attributes = visible_to(self.resource.attributes, identity)
        view = {attribute.name: row[attribute.key] for attribute in attributes}
        self._finish(view, [(one.name, one.shown) for one in attributes if one.shown is not None])
        return view

    # Writing.

    def create(self, identity: Identity, bodies: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Creates all of the bodies or none, and returns them in order."""
        action = f"create_{self.resource.name}"
        if not identity.writes:
            raise PolicyNotAuthorized(rule=f"rule:{action}")
        accepted = [accept_post(self.resource.name, self.resource.attributes, identity, body) for body in bodies]

        def work(work: Work) -> list[Row]:
            fixed = beginning() if self.resource.standard else {}
            rows = [{**fixed, **one.values, "id": str(uuid.uuid4())} for one in accepted]
            self.resource.behaviour.plan(work, rows)
            for row, one in zip(rows, accepted, strict=True):
                self._require_network_owner(identity, action, row, one)
            insert(work.transaction, self.resource.table, rows)
            self.resource.behaviour.created(work, rows)
            return [self._view(identity, row) for row in rows]

        return self._write(identity, work)

    def update(self, identity: Identity, id: str, body: Mapping[str, Any], revision: int | None = None) -> Row:
        """Changes one row; with `revision`, only if that is its revision number."""
        action = f"update_{self.resource.name}"

        def work(work: Work) -> Row:
            before = self._locked(work, identity, id, action, revision)
            accepted = accept_put(self.resource.name, self.resource.attributes, identity, body)
            self._require_network_owner(identity, action, before, accepted)
            changes = dict(accepted.values)
            self.resource.behaviour.change(work, before, changes)
            return self._changed(work, before, changes)

        return self._write(identity, work)

    def act(
        self, identity: Identity, id: str, action: str, body: Mapping[str, Any], revision: int | None = None
    ) -> Row:
        """Does one of the resource's actions with a row, and returns it."""

        def work(work: Work) -> Row:
            before = self._locked(work, identity, id, action, revision)
            return self._changed(work, before, self.resource.actions[action](work, before, body))

        return self._write(identity, work)

    def _changed(self, work: Work, before: Row, changes: Row) -> Row:
        """Writes `changes` into a locked row; the view of what it is then."""
        table = self.resource.table
        if self.resource.standard:
            changes.update(updated_at=timestamp(), revision_number=before["revision_number"] + 1)
        columns = {key: value for key, value in changes.items() if key in table.c}
        if columns:
            work.transaction.execute(table.update().where(self._id == before["id"]).values(**columns))
        after = {**before, **changes}
        self.resource.behaviour.changed(work, before, after)
        return self._view(work.identity, after)

    def delete(self, identity: Identity, id: str, revision: int | None = None) -> None:
        """Deletes one row."""

        def work(work: Work) -> None:
            row = self._locked(work, identity, id, f"delete_{self.resource.name}", revision)
            self.resource.behaviour.delete(work, row)
            work.transaction.execute(self.resource.table.delete().where(self._id == id))

        self._write(identity, work)

    def _write(self, identity: Identity, run: Callable[[Work], T]) -> T:
        def once(transaction: Transaction) -> T:
            work = Work(transaction, identity, self.settings)
            result = run(work)
            changes = deltas(work.was, work.now)
            if changes:
                self.record(transaction, changes)
            return result

        return self.store.transaction(once)

    def _locked(self, work: Work, identity: Identity, id: str, action: str, revision: int | None) -> Row:
        """The row, locked until the end. Raises NotFound for what `identity` does not see, else PolicyNotAuthorized."""
        statement = self._seen(identity).where(self._id == id).with_only_columns(*self.columns)
        found = work.transaction.execute(statement.with_for_update(of=self.resource.table)).mappings().first()
        if found is None:
            raise self.resource.not_found(id=id)
        row = dict(found)
        self.resource.behaviour.load(work, row)
        if not identity.admin and not (identity.writes and self.resource.behaviour.may_change(identity, row)):
            raise PolicyNotAuthorized(rule=f"rule:{action}")
        if revision is not None and row.get("revision_number") != revision:
            raise RevisionNumberConstraintFailed(expected=revision, current=row.get("revision_number"))
        return row

    def _require_network_owner(self, identity: Identity, action: str, row: Row, accepted: Accepted) -> None:
        if accepted.restricted and self.resource.behaviour.network_owner(row) != identity.project:
            raise PolicyNotAuthorized(rule=f"rule:{action} and rule:{action}:{accepted.restricted[0]}")


def _sortable(column: ColumnElement[Any] | None) -> ColumnElement[Any]:
    """A column as something without NULLs, which have no place in an order that all databases agree on."""
    assert column is not None
    if not getattr(column, "nullable", False):
        return column
    return func.coalesce(column, -1 if isinstance(column.type, Integer) else "")


def _beyond(order: Sequence[tuple[ColumnElement[Any], bool]], mark: Sequence[Any]) -> ColumnElement[bool]:
    """Rows that come after `mark` in `order`."""
    cases: list[ColumnElement[bool]] = []
    for place, (column, down) in enumerate(order):
        same = [order[earlier][0] == mark[earlier] for earlier in range(place)]
        cases.append(and_(*same, column < mark[place] if down else column > mark[place]))
    return or_(*cases)
