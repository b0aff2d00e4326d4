"""The number of SQL statements does not depend on the number of rows; a test counts, so that it stays so."""

from collections.abc import Callable

import pytest
from sqlalchemy import event

from controller.store.engine import Store
from tests.rest import Api


class Counter:
    """Statements sent to a database while it is called."""

    def __init__(self, store: Store) -> None:
        self.statements: list[str] = []
        event.listen(store.engine, "before_cursor_execute", self._note)

    def _note(self, conn: object, cursor: object, statement: str, *more: object) -> None:
        if not statement.startswith("BEGIN"):
            self.statements.append(statement)

    def __call__(self, work: Callable[[], object]) -> int:
        self.statements.clear()
        work()
        return len(self.statements)


@pytest.fixture
def count(store: Store) -> Counter:
    return Counter(store)


def test_lists_and_shows(api: Api, count: Counter) -> None:
    network = api.network()
    subnet = api.subnet(network, "10.0.0.0/16")
    for rows in (1, 50):
        api.bulk("port", [{"network_id": network["id"], "binding:host_id": "hv1"}] * rows)
        assert count(lambda: api.get("ports")) == 2
        assert count(lambda: api.get("ports?fields=id")) == 1
        assert count(lambda: api.get("ports?limit=10&sort_key=name")) == 2
        assert count(lambda: api.get("networks")) == 2
        assert count(lambda: api.get("subnets")) == 1
        assert count(lambda: api.get("agents")) == 1
    assert count(lambda: api.get(f"subnets/{subnet['id']}")) == 1
    assert count(lambda: api.get(f"networks/{network['id']}")) == 2


@pytest.mark.parametrize("rows", [2, 300])
def test_creating_ports(api: Api, count: Counter, rows: int) -> None:
    """Network, subnets, host, MACs, a window of addresses, two inserts. (SQLite's driver cuts inserts into pieces.)"""
    network = api.network()
    api.subnet(network, "10.0.0.0/16")
    bodies = [{"network_id": network["id"], "binding:host_id": "hv1"}] * rows
    assert count(lambda: api.bulk("port", bodies)) <= 8


def test_one_port(api: Api, count: Counter) -> None:
    network = api.network()
    api.subnet(network, "10.0.0.0/16")
    made: list[dict[str, object]] = []
    assert count(lambda: made.append(api.port(network))) == 5
    assert count(lambda: api.update("port", str(made[0]["id"]), name="x")) == 4
    assert count(lambda: api.update("port", str(made[0]["id"]), **{"binding:host_id": "hv1"})) == 5
    assert count(lambda: api.delete("port", str(made[0]["id"]))) == 4
