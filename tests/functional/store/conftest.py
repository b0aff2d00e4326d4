"""The store's suite runs on every database: each test gets an empty one, migrated, first SQLite, then PostgreSQL.

PostgreSQL's database is made once and emptied between tests, since making one takes longer than most tests.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from controller.store.engine import Store, Transaction
from controller.store.migrate import upgrade
from controller.store.schema import default_security_group_rules, metadata
from devstack.labs.postgres import Postgres
from tests.rest import Api


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """A migrated database of the suite's own."""
    postgres.drop_database("store")
    url = postgres.create_database("store")
    store = Store(url)
    upgrade(store)
    keep = f"CREATE TABLE migrated AS SELECT * FROM {default_security_group_rules}"
    store.transaction(lambda transaction: transaction.execute(text(keep)))
    store.dispose()
    return url


def empty(store: Store) -> None:
    """No rows but those that migrations insert, and keys from 1 again."""
    tables = ", ".join(table.name for table in metadata.sorted_tables)

    def work(transaction: Transaction) -> None:
        transaction.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
        transaction.execute(text(f"INSERT INTO {default_security_group_rules} SELECT * FROM migrated"))

    store.transaction(work)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty, migrated database is."""
    if request.param == "sqlite":
        found = f"sqlite:///{tmp_path}/selvedge.db"
    else:
        found = str(request.getfixturevalue("postgres_url"))
    store = Store(found)
    upgrade(store)
    if not store.sqlite:
        empty(store)
    store.dispose()
    return found


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """The database, opened."""
    made = Store(url)
    yield made
    made.dispose()


@pytest.fixture
def api(store: Store) -> Api:
    """The API on it, as an administrator."""
    return Api(store)
