"""Brings a database to this version's schema, whoever else tries to at the same moment.

One transaction under one lock: SQLite's write lock (its DDL is transactional), PostgreSQL's advisory lock. Whoever
comes second waits and finds the work done. `upgrade` costs one read when there is nothing to do.
"""

from pathlib import Path

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from controller.store.absence import unhurried
from controller.store.engine import Store, Transaction
from controller.store.schema import metadata

SCRIPTS = Path(__file__).parent / "migrations"

_LOCK = 0x5E1F_ED6E
"""The number of PostgreSQL's advisory lock for migrations."""


def configuration() -> Config:
    """Alembic's configuration, without a file."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return config


def head() -> str:
    """The newest revision's name."""
    newest = ScriptDirectory.from_config(configuration()).get_current_head()
    if newest is None:
        raise RuntimeError(f"no migrations in {SCRIPTS}")
    return newest


def current(conn: Connection) -> str | None:
    """The database's revision; None for an empty one."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    revision: str | None = conn.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def upgrade(store: Store, revision: str | None = None) -> bool:
    """Migrates to `revision`, or to `head`. Whether there was anything to do. Raises `DatabaseAway`."""
    newest = revision or head()
    if store.read(current) == newest:
        return False

    def work(transaction: Transaction) -> bool:
        conn = transaction.conn
        if conn.dialect.name == "postgresql":
            conn.execute(text("SET LOCAL lock_timeout = 0"))
            conn.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        if current(conn) == newest:
            return False
        script = ScriptDirectory.from_config(configuration())
        with EnvironmentContext(
            configuration(), script, fn=lambda present, context: script._upgrade_revs(newest, present)
        ) as environment:
            environment.configure(connection=conn, target_metadata=metadata, transactional_ddl=True)
            environment.run_migrations()
        return True

    with unhurried():
        return store.transaction(work)
