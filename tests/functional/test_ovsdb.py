"""The database client, the inventory and the bridge's plan against a real ovsdb-server and ovs-vswitchd.

Each test has servers of its own in a directory and a network namespace of its own, with the userspace datapath;
nothing of the machine is touched.
"""

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents.bridge import Wanted, plan
from agents.inventory import Inventory, Plugged, Role
from agents.mirror import COLUMNS
from agents.ovsdb import Database, DatabaseEvent, DatabaseLost, Loaded, Transacted, Updated
from tests.functional.vswitch import Vswitch

MONITORED = {table: tuple(columns) for table, columns in COLUMNS.items()}


class Client:
    """The database thread and an inventory that follows it."""

    def __init__(self, servers: Vswitch) -> None:
        self.events: queue.SimpleQueue[DatabaseEvent] = queue.SimpleQueue()
        self.inventory = Inventory("br-int")
        self.database = Database(str(servers.database), MONITORED, self.events.put)
        self.database.start()

    def next(self, seconds: float = 10) -> DatabaseEvent:
        event = self.events.get(timeout=seconds)
        if isinstance(event, Loaded):
            self.inventory.load(event.updates)
        elif isinstance(event, Updated):
            self.inventory.update(event.updates)
            self.database.took(1)
        return event

    def until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not condition():
            self.next(end - time.monotonic())

    def transact(self, operations: list[dict[str, object]]) -> Transacted:
        self.database.transact("test", operations)
        while not isinstance(event := self.next(), Transacted):
            pass
        return event

    def close(self) -> None:
        self.database.stop()
        self.database.join(5)
        assert not self.database.is_alive()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Vswitch]:
    servers = Vswitch(tmp_path)
    try:
        servers.start_database()
        yield servers
    finally:
        servers.close()


@pytest.fixture
def client(servers: Vswitch) -> Iterator[Client]:
    client = Client(servers)
    try:
        assert isinstance(client.next(), Loaded)
        yield client
    finally:
        client.close()


def test_bridge_is_made_and_numbered_by_a_real_switch(servers: Vswitch, client: Client) -> None:
    """On an empty Open vSwitch: br-int with tunnels and patches; all get OpenFlow ports; a second plan is empty."""
    servers.start_switch()
    servers.vsctl("add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev")
    wanted = Wanted("br-int", "netdev", "127.0.0.1", ("geneve", "vxlan"), {"physnet1": "br-ex", "physnet2": "br-no"})
    client.until(lambda: client.inventory.mirror.named("Bridge", "br-ex") is not None)
    first = plan(client.inventory, wanted)
    assert [problem.subject for problem in first.problems] == ["bridge_mappings physnet2:br-no"]
    assert client.transact(first.operations).error is None
    ours = [Role("tunnel", "geneve"), Role("tunnel", "vxlan"), Role("patch", "physnet1"), Role("peer", "physnet1")]
    client.until(lambda: all(client.inventory.roles.get(r, Plugged("", 0)).ofport > 0 for r in ours))
    assert plan(client.inventory, wanted).operations == []
    assert servers.vsctl("get", "bridge", "br-int", "fail_mode").strip() == "secure"
    assert servers.vsctl("get", "bridge", "br-int", "datapath_type").strip() == "netdev"
    errors = {
        row["name"]: row["error"]
        for row in client.inventory.mirror.rows["Interface"].values()
        if row["name"].startswith("sv-")
    }
    assert len(errors) == 4
    assert not any(errors.values()), errors

    servers.vsctl("del-br", "br-int")
    client.until(lambda: client.inventory.mirror.named("Bridge", "br-int") is None)
    assert client.transact(plan(client.inventory, wanted).operations).error is None
    assert plan(client.inventory, wanted).operations == []

    moved = wanted._replace(mappings={"physnet1": "br-two"}, tunnel_types=("geneve",))
    servers.vsctl("add-br", "br-two", "--", "set", "bridge", "br-two", "datapath_type=netdev")
    client.until(lambda: client.inventory.mirror.named("Bridge", "br-two") is not None)
    assert client.transact(plan(client.inventory, moved).operations).error is None
    assert plan(client.inventory, moved) == ([], ())
    assert servers.vsctl("list-ports", "br-ex").split() == []
    assert servers.vsctl("list-ports", "br-two").split() == ["sv-p-physnet1"]
    assert sorted(servers.vsctl("list-ports", "br-int").split()) == ["sv-geneve", "sv-i-physnet1"]


def test_a_transaction_that_lost_a_race_fails_as_a_whole(servers: Vswitch, client: Client) -> None:
    """The provider bridge goes between plan and commit: nothing is written, and the next plan leaves it out."""
    servers.vsctl("add-br", "br-ex")
    client.until(lambda: client.inventory.mirror.named("Bridge", "br-ex") is not None)
    wanted = Wanted("br-int", "netdev", None, (), {"physnet1": "br-ex"})
    stale = plan(client.inventory, wanted)
    servers.vsctl("del-br", "br-ex")
    error = client.transact(stale.operations).error
    assert error is not None
    assert "timed out" in error
    assert servers.vsctl("list-br").split() == []
    client.until(lambda: client.inventory.mirror.named("Bridge", "br-ex") is None)
    assert client.transact(plan(client.inventory, wanted).operations).error is None
    assert servers.vsctl("list-br").split() == ["br-int"]


def test_plug_and_unplug_are_events(servers: Vswitch, client: Client) -> None:
    """A port with iface-id is told with its number; a device that does not exist is a named failure; unplug is told."""
    servers.start_switch()
    assert client.transact(plan(client.inventory, Wanted("br-int", "netdev", None, (), {})).operations).error is None
    for name, kind in (("vm1", "internal"), ("vm2", "system")):
        servers.add_interface("br-int", name, f"type={kind}", f"external_ids:iface-id={name}-id")
    good, bad = Role("port", "vm1-id"), Role("port", "vm2-id")
    client.until(lambda: client.inventory.roles.get(good, Plugged("", 0)).ofport > 0)
    client.until(lambda: (told := client.inventory.roles.get(bad)) is not None and told.error is not None)
    assert "vm2" in str(client.inventory.roles[bad].error)
    servers.vsctl("del-port", "vm1")
    client.until(lambda: good not in client.inventory.roles)


def test_connection_lost_and_found(servers: Vswitch, client: Client) -> None:
    """ovsdb-server restarts: loss is told, orders fail meanwhile, and everything is loaded anew."""
    servers.vsctl("add-br", "br-ex")
    client.until(lambda: client.inventory.mirror.named("Bridge", "br-ex") is not None)
    servers.stop("ovsdb-server")
    while not isinstance(client.next(), DatabaseLost):
        pass
    assert client.transact([{"op": "comment", "comment": "x"}]).error is not None
    servers.start_database()
    while not isinstance(client.next(), Loaded):
        pass
    assert client.inventory.mirror.named("Bridge", "br-ex") is not None
    assert client.transact([{"op": "comment", "comment": "x"}]).error is None


def test_a_thousand_interfaces_load_at_once(servers: Vswitch, client: Client) -> None:
    """A thousand plugged ports: added by one transaction, and loaded by a new client as one event."""
    assert client.transact(plan(client.inventory, Wanted("br-int", "netdev", None, (), {})).operations).error is None
    operations: list[dict[str, object]] = []
    for number in range(1000):
        ids = [
            "map",
            [["iface-id", f"{number:08x}-1111-2222-3333-444444444444"], ["attached-mac", "fa:16:3e:00:00:01"]],
        ]
        operations += [
            {
                "op": "insert",
                "table": "Interface",
                "uuid-name": f"i{number}",
                "row": {"name": f"tap{number}", "external_ids": ids},
            },
            {
                "op": "insert",
                "table": "Port",
                "uuid-name": f"p{number}",
                "row": {"name": f"tap{number}", "interfaces": ["named-uuid", f"i{number}"]},
            },
        ]
    operations.append(
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", "br-int"]],
            "mutations": [["ports", "insert", ["set", [["named-uuid", f"p{number}"] for number in range(1000)]]]],
        }
    )
    assert client.transact(operations).error is None
    other = Client(servers)
    try:
        assert isinstance(other.next(), Loaded)
    finally:
        other.close()
    assert sum(role.kind == "port" for role in other.inventory.roles) == 1000
