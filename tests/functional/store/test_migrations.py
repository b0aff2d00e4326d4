"""Migrations make exactly the schema, once, whoever starts at the same moment."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from controller.store.engine import Store
from controller.store.migrate import current, head, upgrade
from controller.store.schema import metadata
from devstack.labs.postgres import Postgres

PROGRAM = """
import sys
from controller.store.engine import Store
from controller.store.migrate import upgrade
print(upgrade(Store(sys.argv[1])))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fresh.db"
    server: Postgres = request.getfixturevalue("postgres")
    server.drop_database("fresh")
    return server.create_database("fresh")


def test_migrations_make_the_schema(fresh: str) -> None:
    store = Store(fresh)
    assert store.read(current) is None
    assert upgrade(store) is True
    assert upgrade(store) is False
    assert store.read(current) == head()
    compared = store.read(
        lambda conn: compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), metadata)
    )
    assert compared == []
    constraints = store.read(
        lambda conn: {
            tuple(unique["column_names"])
            for table in ("ports", "segments", "agents")
            for unique in inspect(conn).get_unique_constraints(table)
        }
    )
    assert {("network_id", "mac_address"), ("kind", "physical_network", "number"), ("host",)} <= constraints
    store.dispose()


def test_many_processes_migrate_once(fresh: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, fresh], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    answers = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(answers) == ["False", "False", "False", "True"]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
