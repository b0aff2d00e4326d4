"""Controllers die, at any instant: no change is lost or stuck, nothing is given out twice, and the others go on."""

import os
import random
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from controller.store import schema
from controller.store.engine import Store
from devstack.labs.api import Api, Refused
from devstack.labs.controllers import Controller as Daemon
from devstack.labs.process import LabError, free_port, wait_for
from selvedge import rpc
from selvedge.topics import host_topic
from tests.functional.faults.watching import Pinging
from tests.functional.faults.wire_proxy import WireProxy
from tests.functional.feed_ends import Host, until
from tests.functional.verbs import World

pytestmark = pytest.mark.alone

KILLS, CALLERS = 6, 16
TAKEN_OVER = 1.0
"""Seconds within which the others publish and answer what a dead controller left."""

SLACK = 1.5
"""Seconds that a busy machine may add."""


@pytest.fixture
def store(many: World) -> Iterator[Store]:
    """The lab's database, to look into."""
    made = Store(many.lab.plan["database"])
    yield made
    made.dispose()


class Load(threading.Thread):
    """A tenant who makes and deletes networks and ports at one controller, and knows what was promised to him."""

    def __init__(self, api: Api, network: str, number: int) -> None:
        super().__init__(daemon=True)
        self._api, self._network, self._chance = api, network, random.Random(number)
        self.ended = threading.Event()
        self.ports: set[str] = set()
        self.networks: set[str] = set()
        self.unsure: set[str] = set()
        """What a deletion without an answer may have deleted."""
        self.surprises: list[str] = []
        self.done = 0

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                self._act()
                self.done += 1
            except Refused as error:
                if error.status != 503:
                    self.surprises.append(str(error))
            except LabError:  # nobody answers: it is dead
                self.ended.wait(0.05)

    def _act(self) -> None:
        dice = self._chance.random()
        if dice < 0.2:
            self.networks.add(self._api.create("network", name="load")["id"])
        elif dice < 0.7 or len(self.ports) < 3:
            host = {"binding:host_id": self._chance.choice(("hv1", "hv2"))}
            self.ports.add(self._api.create("port", network_id=self._network, **host)["id"])
        else:
            gone = self.ports.pop()
            self.unsure.add(gone)
            self._api.delete("port", gone)
            self.unsure.discard(gone)


def test_controllers_killed_at_random_instants_lose_nothing_and_give_nothing_twice(many: World, store: Store) -> None:
    """Given three tenants who change all the time, and controllers that are killed with -9 again and again: what was
    promised is there, no address, MAC, VNI or key twice, every agent is at the newest version of all that it needs, the
    outbox is empty, and no packet was lost."""
    blue = many.network("geneve", "10.0.0.0/16")
    subnet = many.api.list("subnets", network_id=blue["id"])[0]
    many.api.update("subnet", subnet["id"], allocation_pools=[{"start": "10.0.0.100", "end": "10.0.99.255"}])
    a, b = many.port(blue, "hv1"), many.port(blue, "hv2")
    controllers = list(many.lab.controllers.values())
    chance = random.Random(4)
    loads = [Load(controller.api, blue["id"], number) for number, controller in enumerate(controllers)]
    with Pinging(a, b):
        for load in loads:
            load.start()
        try:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.3, 0.8))
                victim = chance.choice([one for one in controllers if one.pid is not None])
                victim.kill()
                time.sleep(chance.uniform(0.0, 0.3))
                victim.launch()
        finally:
            for load in loads:
                load.ended.set()
                load.join(70)
            for controller in controllers:
                if controller.pid is None:
                    controller.launch()
                controller.wait_ready()
        wait_for("an empty outbox", lambda: count(store, schema.outbox) == 0, 10)
        for hypervisor in many.hypervisors:
            wait_for(hypervisor.name, lambda one=hypervisor: behind(store, one.status()["topics"]) == {}, 10)  # type: ignore[misc]
    assert not any(load.surprises for load in loads), [load.surprises for load in loads]
    assert sum(load.done for load in loads) > 20 * KILLS // 2
    ports, networks = everything(many, "ports"), everything(many, "networks")
    for load in loads:
        assert load.ports - load.unsure <= ports
        assert load.networks <= networks
    twice(store)
    for network in many.api.list("networks", name="load"):
        many.api.delete("network", network["id"])


def everything(world: World, kinds: str) -> set[str]:
    return {one["id"] for one in world.api.list(kinds)}


def count(store: Store, table: Any) -> int:
    return int(store.read(lambda conn: conn.execute(select(func.count()).select_from(table)).scalar_one()))


def behind(store: Store, known: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Topics of which an agent knows another version than the database has."""
    statement = select(schema.topics.c.name, schema.topics.c.version).where(schema.topics.c.name.in_(known))
    newest = store.read(lambda conn: {row.name: row.version for row in conn.execute(statement)})
    return {name: (version, newest.get(name, 0)) for name, version in known.items() if version != newest.get(name, 0)}


def twice(store: Store) -> None:
    """Assert that the database gave nothing out twice, whatever its constraints say."""
    for columns in (
        (schema.ip_allocations.c.subnet_id, schema.ip_allocations.c.ip_address),
        (schema.ports.c.network_id, schema.ports.c.mac_address),
        (schema.segments.c.kind, schema.segments.c.number),
        (schema.ports.c.key,),
        (schema.segments.c.key,),
    ):
        statement = select(*columns, func.count()).group_by(*columns).having(func.count() > 1)
        assert store.read(lambda conn, statement=statement: conn.execute(statement).all()) == []  # type: ignore[misc]


@pytest.fixture
def hosts(many: World, tmp_path: Path) -> Iterator[list[Host]]:
    """A list for hosts without a switch, which are stopped at the end."""
    made: list[Host] = []
    yield made
    for host in made:
        host.stop()


def test_what_a_controller_committed_and_could_not_publish_arrives_a_second_after_its_death(
    many: World, hosts: list[Host], tmp_path: Path
) -> None:
    """Given a controller whose wire to the broker is cut, so that it commits and never publishes, and which is killed
    then: another one publishes, in order, and nobody else has to ask."""
    blue = many.network("geneve")
    with WireProxy(many.lab.broker.port) as wire:
        doomed = Daemon(
            "doomed",
            state=many.lab.state / "doomed",
            port=free_port(),
            transport_url=f"rabbit://guest:guest@127.0.0.1:{wire.port}/",
            database=many.lab.plan["database"],
            options={"agents": {"accounts": "shared"}},
        )
        doomed.start()
        try:
            wait_for("its publisher", lambda: "feed_connected 1.0" in metrics(doomed), 15)
            hosts.append(Host(tmp_path / "late", many.lab.broker, "hv-late", host_topic("hv-late")))
            until(hosts, lambda: hosts[0].topics.synced, 15)
            wire.cut()
            words = {"network_id": blue["id"], "binding:host_id": "hv-late"}
            for _ in range(3):
                doomed.api.create("port", **words)
        finally:
            doomed.kill()
        took = until(hosts, lambda: len(hosts[0].objects(host_topic("hv-late"))) == 3, 15)
    assert took < TAKEN_OVER + SLACK
    assert hosts[0].topics.counters.gaps == 0
    assert hosts[0].topics.counters.snapshots == 0


def metrics(controller: Daemon) -> str:
    with urllib.request.urlopen(f"{controller.api.url}/metrics", timeout=10) as answer:
        found: str = answer.read().decode()
    return found


@pytest.mark.parametrize("end", ("killed", "frozen"))
def test_calls_that_a_dead_controller_took_with_it_are_answered_by_another(
    many: World, hosts: list[Host], tmp_path: Path, end: str
) -> None:
    """Given sixteen agents that call all the time, and one of three controllers that is killed with -9 or stands still:
    every call is answered, and none waits much longer than a second for it."""
    hosts += [Host(tmp_path / f"c{n}", many.lab.broker, f"hv-c{n}") for n in range(CALLERS)]
    victim = list(many.lab.controllers.values())[1]
    waits: list[float] = []
    asked: dict[str, float] = {}

    def ask(host: Host) -> None:
        asked[host.name] = time.monotonic()
        host.calls.submit("claim", rpc.Claim(host.name, ("no-such-port",)))

    def serve(seconds: float) -> int:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for host in hosts:
                if host.answers:
                    assert host.answers.pop().reply == rpc.ClaimReply({"no-such-port": "unknown"})
                    waits.append(time.monotonic() - asked[host.name])
                    ask(host)
                host.step(0.001)
        return len(waits)

    for host in hosts:
        ask(host)
    wait_for("three calls each", lambda: serve(0.2) > CALLERS * 3)
    assert victim.pid is not None
    group = os.getpgid(victim.pid)
    victim.kill() if end == "killed" else os.killpg(group, signal.SIGSTOP)
    try:
        waits.clear()
        serve(3.0)
    finally:
        victim.start() if end == "killed" else os.killpg(group, signal.SIGCONT)
    until(hosts, lambda: all(host.answers for host in hosts), 10)
    retried = sum(host.calls.counters["retries"] for host in hosts)
    assert len(waits) > CALLERS * 2
    assert max(waits) < TAKEN_OVER + SLACK, sorted(waits)[-5:]
    assert retried < CALLERS * 3, "those that it took with it, and no others"
