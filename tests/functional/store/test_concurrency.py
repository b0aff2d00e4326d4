"""Many writers at once: nothing is given out twice, nothing fails but for want of numbers, every topic's log is whole.

The outbox here is the real one: after each storm the rows it wrote must be every topic's versions without a gap, and
whoever applied them must hold what a snapshot holds.
"""

import json
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from controller.feed.outbox import Outbox
from controller.settings import Networks, Settings
from controller.store import bindings
from controller.store.engine import Store, Transaction
from controller.store.schema import outbox
from controller.store.topology import Changes, snapshots
from selvedge import wire
from selvedge.topics import Update
from selvedge.topology import ref
from tests.functional.store.conftest import empty
from tests.rest import Answer, Api, Json, addresses, replay

THREADS = 8


@pytest.fixture
def feed() -> Outbox:
    """An outbox whose rows stay where they are."""
    return Outbox(lambda rows: None)


class Storm(Api):
    """The API with the real outbox."""

    def __init__(self, store: Store, record: Callable[[Transaction, Changes], None], settings: Settings | None = None):
        self._outbox = record
        super().__init__(store, settings or Settings())

    def _record(self, transaction: Transaction, changes: Changes) -> None:
        self._outbox(transaction, changes)


@pytest.fixture
def storm(store: Store, feed: Outbox) -> Iterator[Storm]:
    made = Storm(store, feed.record)
    yield made
    updates: dict[str, list[Update]] = defaultdict(list)
    bodies = store.read(lambda conn: conn.execute(select(outbox.c.body).order_by(outbox.c.version)).scalars().all())
    for body in bodies:
        update = wire.decode(body, Update)
        updates[update.topic].append(update)
    recorded: list[Changes] = []
    for topic, entries in updates.items():
        assert [entry.version for entry in entries] == list(range(1, len(entries) + 1)), topic
        recorded.extend({topic: (entry.upserts, entry.deletes)} for entry in entries)
    found = store.read(lambda conn: snapshots(conn, updates))
    assert {one.topic: {ref(thing): thing for thing in one.objects} for one in found if one.objects} == replay(recorded)
    assert all(one.version == len(updates[one.topic]) for one in found)


def at_once(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """What `work(number)` returns in as many threads, all begun together. Raises what any of them does."""
    begin = threading.Barrier(threads)

    def run(number: int) -> Any:
        begin.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def until_refused(create: Callable[[], Answer]) -> tuple[list[Json], Answer]:
    made: list[Json] = []
    while True:
        answer = create()
        if answer.status != 201:
            return made, answer
        made.append(next(iter(answer.body.values())))


def test_a_subnet_is_given_out_to_the_last_address_and_none_twice(storm: Storm) -> None:
    network = storm.network()
    storm.subnet(network, "10.0.0.0/26")
    results = at_once(
        lambda n: until_refused(
            lambda: storm.create("port", network_id=network["id"], **{"binding:host_id": f"hv{n % 3}"})
        )
    )
    given = [address for made, _ in results for port in made for address in addresses(port)]
    assert len(given) == len(set(given)) == 61
    assert {refusal.error for _, refusal in results} == {"IpAddressGenerationFailure"}
    assert len({port["mac_address"] for made, _ in results for port in made}) == 61


def test_networks_numbers_are_given_out_to_the_last_and_none_twice(store: Store, storm: Storm, feed: Outbox) -> None:
    few = Storm(store, feed.record, Settings(networks=Networks(geneve_vnis=((1000, 1029),))))
    results = at_once(lambda n: until_refused(lambda: few.create("network")))
    given = [network["provider:segmentation_id"] for made, _ in results for network in made]
    assert sorted(given) == list(range(1000, 1030))
    assert {refusal.error for _, refusal in results} == {"NoNetworkAvailable"}


def test_bulk_creates_meet_without_harm(storm: Storm) -> None:
    network = storm.network()
    storm.subnet(network, "10.0.0.0/23")
    body = {"network_id": network["id"], "binding:host_id": "hv1"}
    answers = at_once(lambda n: storm.bulk("port", [body] * 60))
    assert [answer.status for answer in answers] == [201] * THREADS
    given = [address for answer in answers for port in answer.body["ports"] for address in addresses(port)]
    assert len(given) == len(set(given)) == 60 * THREADS


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"fixed_ips": [{"ip_address": "10.0.0.77"}]}, "IpAddressInUse"),
        ({"mac_address": "02:aa:bb:cc:dd:01"}, "MacAddressInUse"),
    ],
)
def test_one_of_many_gets_what_all_ask_for(storm: Storm, wish: dict[str, Any], error: str) -> None:
    network = storm.network()
    storm.subnet(network, "10.0.0.0/24")
    answers = at_once(lambda n: storm.create("port", network_id=network["id"], **wish))
    assert Counter((answer.status, answer.error) for answer in answers) == {(201, ""): 1, (409, error): THREADS - 1}


def test_one_of_many_gets_the_vlan(storm: Storm) -> None:
    wish = {"provider:network_type": "flat", "provider:physical_network": "physnet1"}
    answers = at_once(lambda n: storm.create("network", **wish))
    assert Counter(answer.error for answer in answers) == {"": 1, "FlatNetworkInUse": THREADS - 1}


def test_overlapping_subnets_never_both_come(storm: Storm) -> None:
    network = storm.network()
    answers = at_once(
        lambda n: storm.create("subnet", network_id=network["id"], cidr=f"10.0.0.0/{20 + n % 4}", ip_version=4)
    )
    assert Counter(answer.error for answer in answers) == {"": 1, "InvalidInput": THREADS - 1}


def test_no_port_misses_a_slaac_subnet_that_comes_or_keeps_one_that_goes(storm: Storm) -> None:
    network = storm.network()
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}

    def work(number: int) -> None:
        for turn in range(6):
            if number == 0:
                cidr = f"fd00:{turn}::/64"
                made = storm.create("subnet", network_id=network["id"], cidr=cidr, ip_version=6, **modes)
                assert made.status == 201, made
                if turn % 2:
                    gone = storm.delete("subnet", made.body["subnet"]["id"])
                    assert gone.status == 204, gone
            else:
                storm.port(network, host="hv1")

    at_once(work)
    ports = storm.get("ports")["ports"]
    assert len(ports) == 6 * (THREADS - 1)
    for port in ports:
        assert sorted(address.rsplit("::", 1)[0] for address in addresses(port)) == ["fd00", "fd00:2", "fd00:4"]


def test_deleting_and_creating_at_once_leaves_nothing_half_done(storm: Storm) -> None:
    """Whoever is late is told so: a network in use, or no such network."""
    for _ in range(5):
        network = storm.network()
        storm.subnet(network, "10.0.0.0/24")
        answers = at_once(
            lambda n, network=network: (  # type: ignore[misc]
                storm.delete("network", network["id"])
                if n == 0
                else storm.create("port", network_id=network["id"], **{"binding:host_id": "hv1"})
            )
        )
        created = [answer for answer in answers[1:] if answer.status == 201]
        if answers[0].status == 204:
            assert created == []
            assert {answer.error for answer in answers[1:]} == {"NetworkNotFound"}
        else:
            assert answers[0].error == "NetworkInUse"
            assert len(created) == THREADS - 1


def test_one_port_changed_by_many_ends_in_one_state(storm: Storm) -> None:
    network = storm.network()
    storm.subnet(network, "10.0.0.0/24")
    port = storm.port(network, host="hv0")

    def work(number: int) -> None:
        for turn in range(5):
            wish: dict[str, Any] = {"binding:host_id": f"hv{(number + turn) % 3}", "admin_state_up": bool(turn % 2)}
            if number % 2:
                wish["fixed_ips"] = [{"ip_address": f"10.0.0.{10 + number}"}]
            assert storm.update("port", port["id"], **wish).status == 200

    at_once(work, 5)
    assert storm.get(f"ports/{port['id']}")["port"]["revision_number"] == 26


def test_one_host_of_many_gets_a_port_that_all_claim(storm: Storm, store: Store, feed: Outbox) -> None:
    network = storm.network()
    ids = [storm.port(network)["id"] for _ in range(10)]

    def claim(number: int) -> dict[str, str]:
        return store.transaction(lambda tx: bindings.claim(tx, f"hv{number}", ids, feed.record))

    results = at_once(claim)
    for id in ids:
        assert Counter(result[id] for result in results) == {"claimed": 1, "elsewhere": THREADS - 1}


def test_nobody_waits_for_a_port_that_is_being_made_on_the_same_subnet(postgres_url: str, feed: Outbox) -> None:
    """A transaction that has its address and has not committed holds up no other: there is no lock of the subnet."""
    store = Store(postgres_url)
    empty(store)
    held, go = threading.Event(), threading.Event()

    def slow(transaction: Transaction, changes: Changes) -> None:
        held.set()
        assert go.wait(30)

    quick = Storm(store, feed.record)
    network = quick.network()
    quick.subnet(network, "10.0.0.0/24")
    quick.port(network)  # The first one makes the project's default group, for which others do wait.
    waiting = threading.Thread(target=lambda: Storm(store, slow).port(network, host="hv1"))
    waiting.start()
    assert held.wait(10)
    try:
        assert [quick.create("port", network_id=network["id"]).status for _ in range(20)] == [201] * 20
        assert waiting.is_alive()
    finally:
        go.set()
        waiting.join()
    assert len(quick.get("ports")["ports"]) == 22
    store.dispose()


PROGRAM = """
import json, sys, threading
from controller.feed.outbox import Outbox
from controller.settings import Settings
from controller.store.engine import Store
from tests.functional.store.test_concurrency import Storm
store = Store(sys.argv[1])
storm = Storm(store, Outbox(lambda rows: None).record)
made = []
def run():
    for _ in range(12):
        network = storm.network()
        port = storm.port({"id": sys.argv[2]}, host="hv1")
        made.append([network["provider:segmentation_id"], port["mac_address"], port["fixed_ips"][0]["ip_address"]])
threads = [threading.Thread(target=run) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(made))
"""


def test_processes_share_a_subnet_and_the_numbers(storm: Storm, url: str) -> None:
    """Three controllers, three threads each, one database: 108 ports and networks, every number once."""
    network = storm.network()
    storm.subnet(network, "10.0.0.0/25")
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, url, network["id"]], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    made = [row for process in processes for row in json.loads(process.communicate(timeout=120)[0])]
    assert len(made) == 108
    for column in zip(*made, strict=True):
        assert len(set(column)) == 108
