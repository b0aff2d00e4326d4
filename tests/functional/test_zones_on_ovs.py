"""Conntrack zones in a real database, and flushed by a real switch: what `agents.zones` builds on.

The law of handing on clean numbers is held in tests/unit/test_zones.py; here the rows and the switch are true.
"""

import queue
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.bridge import Wanted, change_external_ids, plan
from agents.inventory import Inventory
from agents.mirror import COLUMNS
from agents.ovsdb import Database, DatabaseEvent, Loaded, Transacted, Updated
from agents.zones import GRACE, KEY, Zones
from openflow.batch import Connected, Flush, Flushed, SwitchEvent
from openflow.switch import Switch
from tests.functional.vswitch import Vswitch

PORT = "4f6e0c7e-6a65-4c2a-9d5e-{:012d}"


class Host:
    """The two daemons with br-int, and zones that follow the database."""

    def __init__(self, servers: Vswitch) -> None:
        self.servers = servers
        self.events: queue.SimpleQueue[DatabaseEvent] = queue.SimpleQueue()
        self.inventory, self.zones = Inventory("br-int"), Zones()
        columns = {table: tuple(names) for table, names in COLUMNS.items()}
        self.database = Database(str(servers.database), columns, self.events.put)
        self.database.start()
        assert isinstance(self.take(), Loaded)
        self.database.transact("bridge", plan(self.inventory, Wanted("br-int", "netdev", None, (), {})).operations)
        self.answer()

    def take(self) -> DatabaseEvent:
        event = self.events.get(timeout=10)
        if isinstance(event, Loaded):
            self.inventory.load(event.updates)
        elif isinstance(event, Updated):
            self.inventory.update(event.updates)
            self.database.took(1)
        self.zones.stored(self.inventory.external_ids)
        return event

    def answer(self) -> None:
        """All that the database says, up to the answer of the last transaction."""
        while not isinstance(event := self.take(), Transacted):
            pass
        assert event.error is None

    def write(self) -> float:
        """Carry out what the zones want; the seconds that it took."""
        edit = self.zones.request()
        assert edit is not None
        begin = time.monotonic()
        self.database.transact("zones", change_external_ids(self.inventory, edit.removed, edit.added))
        self.answer()
        self.zones.answered()
        return time.monotonic() - begin

    @property
    def numbers(self) -> dict[str, str]:
        """As the database should have them."""
        return {port: str(number) for port, number in self.zones.numbers.items()}

    def external_ids(self) -> str:
        return self.servers.vsctl("get", "bridge", "br-int", "external_ids")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    servers = Vswitch(tmp_path)
    try:
        servers.start_database()
        servers.start_switch()
        host = Host(servers)
        yield host
        host.database.stop()
        host.database.join(5)
    finally:
        servers.close()


def test_a_thousand_ports_are_one_transaction_and_nothing_is_lost(host: Host) -> None:
    """A thousand zones in one transaction, beside what others wrote; ovsdb-server restarts, a new agent finds all."""
    host.servers.vsctl("br-set-external-id", "br-int", "bridge-id", "br-int")
    for number in range(1000):
        host.zones.bind(PORT.format(number))
    host.write()
    upserts, deletes = host.zones.facts()
    assert (len(upserts), deletes) == (1000, ())
    assert host.zones.request() is None
    host.servers.stop("ovsdb-server")
    host.servers.start_database()
    fresh = Zones()
    for number in range(1000):
        fresh.bind(PORT.format(number))
    while not isinstance(host.take(), Loaded):
        pass
    fresh.stored(host.inventory.external_ids)
    assert fresh.request() is None
    assert fresh.numbers == host.zones.numbers
    assert "bridge-id" in host.external_ids()


def test_what_somebody_changed_is_put_back(host: Host) -> None:
    """ovs-vsctl gives one zone another value and removes another: both come back in one transaction."""
    for name in ("p1", "p2", "p3"):
        host.zones.bind(name)
    host.write()
    host.servers.vsctl("br-set-external-id", "br-int", f"{KEY}p1", "77")
    host.servers.vsctl("remove", "bridge", "br-int", "external_ids", f"{KEY}p3")
    while host.inventory.external_ids != {f"{KEY}p1": "77", f"{KEY}p2": host.numbers["p2"]}:
        host.take()
    host.write()
    assert host.zones.request() is None
    assert len(list(host.zones.faults())) == 1
    for name, number in host.numbers.items():
        assert host.servers.vsctl("br-get-external-id", "br-int", KEY + name).strip() == number


def test_a_zone_is_flushed_and_its_key_goes(host: Host) -> None:
    """A real switch flushes; only then the key goes, and the row is empty."""
    for name in ("p1", "p2"):
        host.zones.bind(name)
    host.write()
    events: queue.SimpleQueue[SwitchEvent] = queue.SimpleQueue()
    switch = Switch(str(host.servers.door()), events.put)
    switch.start()
    try:
        connected = events.get(timeout=10)
        assert isinstance(connected, Connected)
        for name in ("p1", "p2"):
            host.zones.unbind(name)
        host.zones.withdrawn(None, 0.0)
        zones = host.zones.flush(GRACE)
        assert zones == (1, 2)
        switch.submit(Flush(connected.connection, zones))
        assert events.get(timeout=10) == Flushed(zones)
    finally:
        switch.stop()
    host.zones.flushed(zones)
    assert KEY in host.external_ids()
    host.write()
    assert host.external_ids().strip() == "{}"
