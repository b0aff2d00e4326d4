"""What unit tests share: an empty database and the API on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.store.engine import Store
from controller.store.migrate import upgrade
from tests.rest import Api


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty SQLite database."""
    made = Store(f"sqlite:///{tmp_path}/selvedge.db")
    upgrade(made)
    yield made
    made.dispose()


@pytest.fixture
def api(store: Store) -> Api:
    """The API on it, as an administrator."""
    return Api(store)
