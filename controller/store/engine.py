"""Transactions: the one place where the database is spoken to, and where its refusals are judged.

`Store.transaction(work)` calls `work(transaction)` and commits. Nothing here waits for a lock of ours: two writers
who choose the same address both try, the database's constraint refuses one of them, and that one's `work` runs again
from its first read and chooses anew. The same answer serves every race (a network deleted beneath a port, a MAC taken
in between, deadlocks, serialisation): run again, and the second run's reads tell the user the truth. So `work` must
be repeatable: it may touch nothing but its transaction.

`Store.read(work)` gives a consistent view of many statements. After commit, the hooks of `Transaction.on_commit` run.

SQLite: WAL so that readers never wait; BEGIN IMMEDIATE for writers, because a reader that turns writer half-way can
only fail; synchronous=FULL, because a topic's version that was published must not be given out a second time after a
power cut. Writers of one process queue at a mutex, since SQLite's own waiting is by sleeping.

A server that is frozen or cut off costs seconds, not for ever: see `controller.store.absence`.
"""

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, Engine, Executable, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from controller.store.absence import SLOW, Fuse, Patient, prepare

LOG = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds of lost races before giving up. Each lost race is somebody else's success, so they do end."""

_RACES = {"23505", "23503", "40001", "40P01", "55P03"}
"""SQLSTATE: unique violation, foreign key violation, serialisation failure, deadlock, lock not available."""

_SQLITE_RACES = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
}

_ABSENCES = {"08", "53", "57", "58"}
"""Classes of SQLSTATE: connection exceptions, insufficient resources, operator intervention, system error."""

_SQLITE_ABSENCES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}

_POSTGRES = {"connect_timeout": 3, "keepalives_idle": 5, "keepalives_interval": 2, "tcp_user_timeout": 10_000}


class DatabaseAway(Exception):
    """The database cannot be reached or did not answer; nothing is known to be changed. Try again later."""


class Contention(Exception):
    """A transaction lost every race for `PATIENCE` seconds. Try again later."""


class Transaction:
    """One run of a `work`: a connection inside a transaction, and what to do once it is committed."""

    __slots__ = ("conn", "hooks")

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.hooks: list[Callable[[], None]] = []

    def execute(
        self, statement: Executable, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[*tuple[Any, ...]]:
        """As the connection's. An empty list of parameters is an error here, not one row of defaults."""
        if parameters is not None and not parameters:
            raise ValueError("execute() with an empty list of parameters")
        return self.conn.execute(statement, parameters)

    def on_commit(self, hook: Callable[[], None]) -> None:
        """`hook` runs in this thread right after the commit, in the order of these calls; never after a rollback."""
        self.hooks.append(hook)


class Store:
    """A database. Safe for any number of threads; not across a fork (call `dispose` in the child)."""

    def __init__(self, url: str, *, pool_size: int = 16) -> None:
        """`url` is SQLAlchemy's: sqlite:////absolute/path or postgresql+psycopg://user@host/name."""
        self.url = make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = self._make_engine(pool_size)
        self._mutex = threading.Lock()
        self.fuse = Fuse(DatabaseAway)
        self.retries = 0
        """Races lost, for the metrics. Counted without a lock: a lost count harms nobody."""

    def _make_engine(self, pool_size: int) -> Engine:
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": pool_size, "pool_timeout": 10}
        if not self.sqlite:
            backend = _POSTGRES if self.url.get_backend_name() == "postgresql" else {}
            engine = create_engine(self.url, connect_args=backend, isolation_level="READ COMMITTED", **options)
            if self.url.drivername == "postgresql+psycopg":
                event.listen(engine, "do_connect", _connect_postgres)
                event.listen(engine, "connect", lambda connection, record: prepare(connection))
            return engine
        engine = create_engine(self.url, connect_args={"timeout": 20, "check_same_thread": False}, **options)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def dispose(self) -> None:
        """Closes idle connections."""
        self.engine.dispose()

    def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns; all its statements see one moment. Raises `DatabaseAway`."""
        with self.fuse.passing():
            return self._read(work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        options = {} if self.sqlite else {"isolation_level": "REPEATABLE READ"}
        start = time.monotonic()
        for last in (False, True):
            try:
                with self.engine.connect() as conn:
                    return work(conn.execution_options(**options))
            except (DBAPIError, PoolTimeout) as error:
                # A connection that died in the pool is replaced: reading twice harms nobody.
                stale = isinstance(error, DBAPIError) and error.connection_invalidated
                if last or not stale or time.monotonic() - start > SLOW:
                    raise _away(error) from error
        raise AssertionError("unreachable")

    def transaction(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` and commits; runs it again after a lost race. What it raises rolls back and comes through.

        Raises `DatabaseAway` when the database is gone (whether a commit that was under way happened is then
        unknown), `Contention` after `PATIENCE` seconds of lost races.
        """
        with self.fuse.passing():
            return self._transaction(work)

    def _transaction(self, work: Callable[[Transaction], T]) -> T:
        died = False
        start = time.monotonic()
        for attempt in count():
            try:
                return self._once(work)
            except (DBAPIError, PoolTimeout) as error:
                waited = time.monotonic() - start
                if isinstance(error, DBAPIError) and error.connection_invalidated and not died and waited < SLOW:
                    # Stale in the pool: everything in the pool is replaced now, so one more run tells.
                    died = True
                    continue
                if not _is_race(error):
                    raise _away(error) from error
                self.retries += 1
                if waited > PATIENCE:
                    raise Contention(f"{attempt + 1} races in a row were lost") from error
                LOG.debug("transaction lost a race (attempt %d): %s", attempt + 1, error)
                time.sleep(random.uniform(0, min(0.001 * 2 ** min(attempt, 10), 0.05)))
        raise AssertionError("unreachable")

    def _once(self, work: Callable[[Transaction], T]) -> T:
        if self.sqlite:
            with self._mutex:
                transaction, result = self._run(work)
        else:
            transaction, result = self._run(work)
        for hook in transaction.hooks:
            try:
                hook()
            except Exception:
                LOG.exception("a hook after commit failed; what it had to do is in the outbox")
        return result

    def _run(self, work: Callable[[Transaction], T]) -> tuple[Transaction, T]:
        with self.engine.connect() as conn:
            transaction = Transaction(conn.execution_options(selvedge_writes=True))
            result = work(transaction)
            try:
                conn.commit()
            except DBAPIError as error:
                # Whether it was committed is unknown; a second run might do everything twice.
                if error.connection_invalidated:
                    raise DatabaseAway("the database went away during a commit") from error
                raise
            return transaction, result


def _is_race(error: DBAPIError | PoolTimeout) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", 0)
        return code in _SQLITE_RACES or code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return getattr(error.orig, "sqlstate", None) in _RACES


def _away(error: DBAPIError | PoolTimeout) -> Exception:
    """The exception to raise for what is no race: the database's absence, or a defect of ours as it is."""
    if isinstance(error, PoolTimeout):
        return DatabaseAway("every connection to the database is busy")
    if isinstance(error.orig, sqlite3.Error):
        absent = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _SQLITE_ABSENCES
    else:
        # A refusal to connect carries no SQLSTATE.
        state = getattr(error.orig, "sqlstate", None)
        absent = isinstance(error, (OperationalError, InterfaceError)) and (not state or state[:2] in _ABSENCES)
    return DatabaseAway(str(error.orig).strip()) if absent or error.connection_invalidated else error


def _connect_postgres(dialect: object, record: object, arguments: Any, options: Any) -> Patient:
    return Patient.connect(*arguments, **options)


def _prepare_sqlite(connection: Any, record: object) -> None:
    # The driver must not begin transactions on its own: `_begin_sqlite` does.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=20000"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(conn: Connection) -> None:
    writes = conn.get_execution_options().get("selvedge_writes", False)
    conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
