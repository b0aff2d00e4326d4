"""The broker goes, in every way it can: the data plane does not notice, the API goes on, and afterwards everybody has
what he missed, and nothing else is sent."""

import os
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agents.session import PREFETCH, Session
from controller.store.engine import Store
from controller.store.migrate import upgrade
from devstack.labs.broker import Broker
from devstack.labs.process import wait_for
from selvedge import broker as names
from selvedge.messaging import HEARTBEAT, connect
from selvedge.topics import HOSTS, host_topic, segment_topic
from tests.functional.faults.watching import Pinging, answered
from tests.functional.faults.wire_proxy import WireProxy
from tests.functional.feed_ends import Controller, Host, files, truth, until
from tests.functional.verbs import World

pytestmark = pytest.mark.alone

MANY_HOSTS = 16

RETURN, SLACK = 2.0, 3.0
"""Seconds within which all have to be there again, and what a busy machine may add."""


def feed_connects(world: World) -> list[int]:
    return [int(hypervisor.status()["feed_connects"]) for hypervisor in world.hypervisors]


def test_what_was_asked_while_the_broker_was_away_is_done_by_one_that_remembers_nothing(many: World) -> None:
    """Given a broker that is stopped and comes back without its state, queues, bindings and messages, ports made
    meanwhile are wired then, and those of before lose no packet. (With its state: `tests.functional.test_restart`.)"""
    blue = many.network("geneve")
    a, b = many.port(blue, "hv1"), many.port(blue, "hv2")
    broker = many.lab.broker
    apis = [controller.api for controller in many.lab.controllers.values()]
    with Pinging(a, b):
        broker.stop()
        words: dict[str, Any] = {"network_id": blue["id"]}
        made = [api.create("port", **words, **{"binding:host_id": f"hv{n}"}) for api in apis for n in (1, 2)]
        plugged = [many.lab.plug(port["id"], port["binding:host_id"], active=None) for port in (made[0], made[-1])]
        broker.wipe()
        broker.start()
        for vm in plugged:
            many.lab.wait_status(vm.port, "ACTIVE", 15)
    assert many.ping(plugged[0], plugged[1])


def test_when_nothing_changed_a_restarted_broker_costs_one_report_of_each_agent(many: World) -> None:
    """Given a broker that restarts, each agent reports once, asks for no topic, and sends its switch nothing."""
    blue = many.network("geneve")
    a, b = many.port(blue, "hv1"), many.port(blue, "hv2")
    time.sleep(1.1)  # until all is told that can be told of the two
    connects, before = feed_connects(many), answered(many)
    mods = [hypervisor.status()["flow_mods_sent"] for hypervisor in many.hypervisors]
    with Pinging(a, b):
        many.lab.broker.stop()
        many.lab.broker.start()
        wait_for("both feeds", lambda: all(new > old for new, old in zip(feed_connects(many), connects, strict=True)))
        wait_for("both reports", lambda: (answered(many) - before)["report"] >= 2)
        time.sleep(0.5)
    told = answered(many) - before
    assert set(told) == {"report"}, told
    assert told["report"] <= 2 + 2, "one each, besides the one that may be due in these seconds anyway"
    assert [hypervisor.status()["flow_mods_sent"] for hypervisor in many.hypervisors] == mods


@pytest.fixture(scope="module")
def own(state: Path) -> Iterator[Broker]:
    """A broker that a test may do anything to, if it runs afterwards."""
    made = Broker(state / "own")
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
def controller(own: Broker, tmp_path: Path) -> Iterator[Controller]:
    """A controller on SQLite."""
    url = f"sqlite:///{tmp_path}/selvedge.db"
    store = Store(url)
    upgrade(store)
    store.dispose()
    made = Controller(url, files(tmp_path, own))
    yield made
    made.stop()


Hosts = Callable[..., Host]


@pytest.fixture
def host(own: Broker, tmp_path: Path) -> Iterator[Hosts]:
    started: list[Host] = []

    def begin(*interest: str, name: str | None = None) -> Host:
        name = name or f"hv-{uuid.uuid4().hex[:8]}"
        started.append(Host(tmp_path / name, own, name, *interest))
        return started[-1]

    yield begin
    with ThreadPoolExecutor(len(started) or 1) as pool:
        list(pool.map(Host.stop, started))


def test_sixteen_agents_return_by_deltas(own: Broker, controller: Controller, host: Hosts) -> None:
    """Given sixteen agents in sync and a broker that was away, first with its queues and then without, and a change
    meanwhile, all know it soon after the broker's return, and nobody is sent a snapshot of what has not changed."""
    still, moving = controller.network(), controller.network()
    (port,) = controller.ports(moving, "hv9")
    hosts = [host(segment_topic(still), segment_topic(moving), HOSTS) for _ in range(MANY_HOSTS)]
    until(hosts, lambda: all(one.topics.synced for one in hosts), 60)
    for times, wiped in enumerate((False, True), start=1):
        snapshots = [one.topics.counters.snapshots for one in hosts]
        own.stop()
        until(hosts, lambda times=times: all(one.downs == times for one in hosts))  # type: ignore[misc]
        controller.toggle(port, wiped)
        if wiped:
            own.wipe()
        own.start()
        new = truth(controller, segment_topic(moving))
        took = until(hosts, lambda new=new: all(one.objects(segment_topic(moving)) == new for one in hosts), 20)  # type: ignore[misc]
        assert took < RETURN + SLACK
        more = [one.topics.counters.snapshots - old for one, old in zip(hosts, snapshots, strict=True)]
        assert max(more) <= wiped, "of the topic that changed, if the queue is new"
    assert [one.up for one in hosts] == [[True, False, True]] * MANY_HOSTS


def test_a_connection_cut_without_a_word_is_noticed_and_replaced(
    own: Broker, controller: Controller, host: Hosts
) -> None:
    """Given a wire that is cut, neither end is told; the agent notices by missing heartbeats, and comes back by another
    way while the broker still believes in the first: what is sent from then on arrives, all of it, by deltas."""
    segment = controller.network()
    topic = segment_topic(segment)
    (port,) = controller.ports(segment, "hv9")
    reader = host(topic)
    reader.session.stop()
    with WireProxy(own.port) as wire:
        url = f"rabbit://guest:guest@127.0.0.1:{wire.port}/"
        reader.session = Session(url, reader.name, reader.events.put, heartbeat=1)
        reader.session.start()
        until([reader], lambda: len(reader.up) == 2 and reader.topics.synced)
        snapshots = reader.topics.counters.snapshots
        wire.cut()
        controller.toggle(port, False)
        until([reader], lambda: reader.downs == 1, 10)
        reader.session.stop()
        # As it would be after an agent's restart, or by the cluster's other node: the wire stays cut.
        reader.session = Session(own.url, reader.name, reader.events.put, heartbeat=1)
        reader.session.start()
        until([reader], lambda: len(reader.up) == 3, 10)
        for n in range(6):
            controller.toggle(port, bool(n % 2))
            expected = truth(controller, topic)
            until([reader], lambda expected=expected: reader.objects(topic) == expected, 5)  # type: ignore[misc]
        assert reader.topics.counters.snapshots - snapshots <= 1, "of what was sent to the other end of the cut wire"


def test_a_publisher_on_a_cut_wire_is_missed_by_nobody(own: Broker, tmp_path: Path, host: Hosts) -> None:
    """Given two controllers, one of which can commit and not publish, as its wire is cut, the other one publishes."""
    url = f"sqlite:///{tmp_path}/selvedge.db"
    store = Store(url)
    upgrade(store)
    store.dispose()
    with WireProxy(own.port) as wire:
        (tmp_path / "cut").mkdir()
        arguments = files(tmp_path / "cut", own)
        path = Path(arguments[1])
        path.write_text(path.read_text().replace(f":{own.port}/", f":{wire.port}/"))
        cut, other = Controller(url, arguments), Controller(url, files(tmp_path, own))
        try:
            segment = other.network()
            reader = host(host_topic("hv9"))
            until([reader], lambda: reader.topics.synced and cut.service.publisher.connected, 15)
            wire.cut()
            began = time.monotonic()
            cut.ports(segment, "hv9", 3)
            until([reader], lambda: len(reader.objects(host_topic("hv9"))) == 3, 10)
            assert time.monotonic() - began < 5, "heartbeats of ten seconds did not tell"
            until([], lambda: other.service.sweeper.swept == 2)
            assert reader.topics.counters.gaps == 0
            wire.mend(drop=True)
            until([], lambda: cut.service.publisher.connected and cut.left_in_outbox() == 0, 15)
        finally:
            other.stop()
            cut.stop()


def control(broker: Broker, *words: str) -> str:
    """What `rabbitmqctl` says; Debian's own wrapper of it knows only Debian's own broker."""
    environment = {**os.environ, **broker.environment}
    command = ["/usr/lib/rabbitmq/bin/rabbitmqctl", "--quiet", *words]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60, text=True)
    return done.stdout


def test_everybody_agrees_with_the_broker_on_heartbeats(many: World) -> None:
    """Given all kinds of connections, feed and calls of agents and controllers: their silence is noticed after twice
    the heartbeat. A controller's connection for bindings has none, as it is silent between two calls."""
    told = control(many.lab.broker, "list_connections", "--no-table-headers", "timeout").split()
    assert Counter(told).keys() == {str(HEARTBEAT), "0"}
    assert told.count("0") <= len(many.lab.controllers)


def test_an_agent_that_stood_still_while_its_queue_overflowed_catches_up(many: World) -> None:
    """Given an agent that is stopped (SIGSTOP) while more is sent than its queue may hold, the oldest messages go, the
    broker and the other agent go on, and when it runs again it asks for what it missed."""
    blue = many.network("geneve")
    a, b = many.port(blue, "hv1"), many.port(blue, "hv2")
    broker, agent = many.lab.broker, many.hypervisor("hv1").daemons["agent"]
    queue = names.agent_queue("hv1")
    control(broker, "set_policy", "short", f"^{queue}$", '{"max-length":20}', "--apply-to", "queues")
    made = [many.bound(blue, "hv2") for _ in range(3)]
    apis = [controller.api for controller in many.lab.controllers.values()]
    changes = (PREFETCH + 100) // len(apis)

    def change(number: int) -> None:
        for n in range(changes):
            apis[number].update("port", made[number]["id"], admin_state_up=bool(n % 2))

    with Pinging(a, b):
        agent.pause()
        try:
            with ThreadPoolExecutor(len(apis)) as pool:
                list(pool.map(change, range(len(apis))))
            with closing(connect(broker.url, "test")) as connection:
                channel = connection.channel()
                wait_for("a full queue", lambda: channel.queue_declare(queue, passive=True).message_count == 20)
        finally:
            agent.resume()
            control(broker, "clear_policy", "short")
        new = many.port(blue, "hv1")
        topic = segment_of(many)
        wait_for("one version", lambda: len({one.status()["topics"].get(topic) for one in many.hypervisors}) == 1)
    assert many.ping(new, b)


def segment_of(world: World) -> str:
    """The topic of the only segment."""
    (found,) = (topic for topic in world.hypervisor("hv2").status()["topics"] if topic.startswith("segment/"))
    return str(found)
