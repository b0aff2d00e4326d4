"""The number of SQL statements does not depend on the number of rows; a test counts, so that it stays so."""

from collections.abc import Callable

import pytest
from sqlalchemy import event

from controller.store.engine import Store
from tests.rest import Api

ENDS = ("port_range_min", "port_range_max")


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
        api.bulk("security_group", [{}] * rows)
        assert count(lambda: api.get("security-groups")) == 2
        assert count(lambda: api.get("security-groups?fields=id")) == 1
        assert count(lambda: api.get("security-group-rules")) == 1
        assert count(lambda: api.as_project("").get("security-groups")) == 2
        api.bulk("address_group", [{"addresses": ["10.0.0.0/24"]}] * rows)
        assert count(lambda: api.get("address-groups")) == 2
    assert count(lambda: api.get(f"subnets/{subnet['id']}")) == 1
    assert count(lambda: api.get(f"networks/{network['id']}")) == 2


@pytest.mark.parametrize("rows", [2, 300])
def test_creating_ports(api: Api, count: Counter, rows: int) -> None:
    """Network, default group, identity, subnets, host, MACs, a window of addresses, two inserts.

    (SQLite's driver cuts inserts into pieces.)
    """
    network = api.network()
    api.subnet(network, "10.0.0.0/16")
    api.port(network)
    bodies = [{"network_id": network["id"], "binding:host_id": "hv1"}] * rows
    assert count(lambda: api.bulk("port", bodies)) <= 10
    groups = [api.group()["id"], api.group()["id"]]
    bodies = [{**body, "security_groups": groups} for body in bodies]
    api.bulk("port", bodies)
    assert count(lambda: api.bulk("port", bodies)) <= 10


def test_sets_of_groups_cost_the_same_whether_few_or_many(api: Api, count: Counter) -> None:
    """The first ports with a set insert its identity and memberships: so for one set as for a hundred."""
    network = api.network()
    groups = [group["id"] for group in api.bulk("security_group", [{}] * 101).body["security_groups"]]
    api.port(network)

    def with_groups(ids: list[str]) -> list[dict[str, object]]:
        return [{"network_id": network["id"], "security_groups": [id]} for id in ids]

    one = count(lambda: api.bulk("port", with_groups(groups[:1] * 2)))
    assert count(lambda: api.bulk("port", with_groups(groups[1:]))) == one


def test_one_port(api: Api, count: Counter) -> None:
    """The default group and the identity are one statement each."""
    network = api.network()
    api.subnet(network, "10.0.0.0/24")
    api.port(network)
    group = api.group()
    api.port(network, security_groups=[group["id"]])
    made: list[dict[str, object]] = []
    assert count(lambda: made.append(api.port(network))) == 7
    assert count(lambda: api.update("port", str(made[0]["id"]), name="x")) == 4
    assert count(lambda: api.update("port", str(made[0]["id"]), **{"binding:host_id": "hv1"})) == 5
    assert count(lambda: api.update("port", str(made[0]["id"]), security_groups=[group["id"]])) == 6
    assert count(lambda: api.delete("port", str(made[0]["id"]))) == 4


def test_groups_and_rules(api: Api, count: Counter) -> None:
    """Many are made by as many statements as one; a port more or less in the group changes nothing of that."""
    api.as_project("p1").get("security-groups")
    one = count(lambda: api.bulk("security_group", [{"project_id": "p1"}] * 2))
    assert count(lambda: api.bulk("security_group", [{"project_id": "p1"}] * 50)) == one
    group = api.group()
    bodies = [
        {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp", **dict.fromkeys(ENDS, port)}
        for port in range(1, 101)
    ]
    few = count(lambda: api.bulk("security_group_rule", bodies[:2]))
    assert count(lambda: api.bulk("security_group_rule", bodies[2:])) == few <= 7
