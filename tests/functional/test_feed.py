"""From a transaction to the replicas of the hosts: real broker, database and processes; only the switch is left out."""

import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import amqp
import pytest

from agents.calls import Answer, Calls
from agents.session import Session
from controller.feed.outbox import Row
from controller.store.engine import Store
from controller.store.migrate import upgrade
from devstack.labs.broker import Broker
from devstack.labs.postgres import Postgres
from devstack.labs.process import wait_for
from selvedge import broker as names
from selvedge import options, rpc, wire
from selvedge.messaging import connect
from selvedge.topics import HOSTS, Update, host_topic, segment_topic
from selvedge.topology import Binding
from tests.functional.feed_ends import Controller, Host, files, truth, until

ROOT = Path(__file__).resolve().parents[2]

both_databases = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database: SQLite, unless a test asks for `both_databases`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path}/selvedge.db"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.create_database(f"feed_{uuid.uuid4().hex[:12]}")


@pytest.fixture
def start(database: str, broker: Broker, tmp_path: Path) -> Iterator[Callable[[], Controller]]:
    """Starts controllers of one database, and stops them at the end."""
    store = Store(database)
    upgrade(store)
    store.dispose()
    started: list[Controller] = []

    def begin() -> Controller:
        started.append(Controller(database, files(tmp_path, broker)))
        return started[-1]

    yield begin
    for controller in started:
        controller.stop()


@pytest.fixture
def host(broker: Broker, tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Starts hosts, and stops them and deletes their queues at the end."""
    started: list[Host] = []

    def begin(*interest: str, name: str | None = None) -> Host:
        name = name or f"hv-{uuid.uuid4().hex[:8]}"
        started.append(Host(tmp_path / f"{name}-{len(started)}", broker, name, *interest))
        return started[-1]

    yield begin
    connection = connect(broker.url, "test")
    for one in started:
        one.stop()
        connection.channel().queue_delete(one.queue)
    connection.close()


Start = Callable[[], Controller]
Hosts = Callable[..., Host]


@both_databases
def test_a_commit_reaches_interested_hosts_only_and_leaves_the_outbox_empty(start: Start, host: Hosts) -> None:
    controller = start()
    segment, other = controller.network(), controller.network()
    first = host(host_topic("hv1"), segment_topic(segment))
    second = host(host_topic("hv2"), segment_topic(other))
    until([first, second], lambda: first.topics.synced and second.topics.synced)
    assert first.objects(segment_topic(segment)) == truth(controller, segment_topic(segment)) != set()
    (port,) = controller.ports(segment, "hv1")
    took = until([first, second], lambda: Binding(port, segment) in first.objects(host_topic("hv1")))
    until([first, second], lambda: len(first.objects(segment_topic(segment))) == 2)
    assert took < 2.0
    until([], lambda: controller.left_in_outbox() == 0)
    second.step(0.1)
    assert second.session.counters["received"] == 0
    assert first.session.counters["received"] == 2 and first.topics.counters.gaps == 0


def test_what_is_committed_while_hosts_subscribe_is_missed_by_none(start: Start, host: Hosts) -> None:
    """The queue is bound before the snapshot is read, so every commit is in one of them."""
    controller = start()
    segment = controller.network()
    (port,) = controller.ports(segment, "hv9")
    stop = threading.Event()
    writes = [0]

    def write() -> None:
        while not stop.is_set():
            writes[0] += 1
            controller.toggle(port, bool(writes[0] % 2))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        hosts = [host(segment_topic(segment)) for _ in range(5)]
        until(hosts, lambda: all(one.topics.synced for one in hosts))
        until(hosts, lambda: all(one.topics.counters.applied > 20 for one in hosts), 30.0)
    finally:
        stop.set()
        writer.join()
    until(
        hosts,
        lambda: all(one.objects(segment_topic(segment)) == truth(controller, segment_topic(segment)) for one in hosts),
    )
    assert [one.topics.counters.gaps for one in hosts] == [0] * 5, "one controller keeps the order of its commits"


@both_databases
def test_many_writers_of_one_topic_are_published_in_the_order_of_their_commits(
    start: Start, host: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a publisher that waits as long as a thread of a busy machine may need to hand over what it committed."""
    monkeypatch.setattr("controller.feed.publisher.PATIENCE", 5.0)
    controller = start()
    segment = controller.network()
    ports = controller.ports(segment, "hv9", 8)
    reader = host(segment_topic(segment))
    until([reader], lambda: reader.topics.synced)
    threads = [threading.Thread(target=controller.toggle_often, args=(port, 25)) for port in ports]
    for thread in threads:
        thread.start()
    until([reader], lambda: not any(thread.is_alive() for thread in threads), 60.0)
    until([reader], lambda: reader.topics.counters.applied == 8 * 25)
    assert reader.topics.counters.held == reader.topics.counters.gaps == 0


@both_databases
def test_another_controller_publishes_what_a_killed_one_committed(
    start: Start, host: Hosts, database: str, broker: Broker, tmp_path: Path
) -> None:
    controller = start()
    segment = controller.network()
    reader = host(host_topic("hv1"))
    until([reader], lambda: reader.topics.synced)
    program = f"""
import os, signal
from tests.functional.feed_ends import Controller
controller = Controller({database!r}, {files(tmp_path, broker)!r})
controller.service.outbox._hand_over = lambda rows: os.kill(os.getpid(), signal.SIGKILL)
controller.ports({segment!r}, "hv1", 3)
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    until([reader], lambda: len(reader.objects(host_topic("hv1"))) == 3)
    assert reader.session.counters["received"] == 1, "it was published, not read at a report"
    until([], lambda: controller.left_in_outbox() == 0)
    assert controller.service.sweeper.swept == 2


@both_databases
def test_two_controllers_share_writing_publishing_and_calls(start: Start, host: Hosts) -> None:
    controllers = [start(), start()]
    segment = controllers[0].network()
    ports = [controllers[n % 2].ports(segment, "hv9")[0] for n in range(4)]
    hosts = [host(segment_topic(segment), HOSTS) for _ in range(3)]
    until(hosts, lambda: all(one.topics.synced for one in hosts))
    for one in hosts:
        one.report()
    threads = [
        threading.Thread(target=controllers[n % 2].toggle_often, args=(port, 20)) for n, port in enumerate(ports)
    ]
    for thread in threads:
        thread.start()
    until(hosts, lambda: not any(thread.is_alive() for thread in threads), 60.0)
    for topic in (segment_topic(segment), HOSTS):
        expected = truth(controllers[0], topic)
        until(hosts, lambda topic=topic, expected=expected: all(one.objects(topic) == expected for one in hosts))  # type: ignore[misc]
    assert all(controller.service.publisher.counters.confirmed > 30 for controller in controllers)
    assert all(controller.service.server.counters.answered for controller in controllers)
    until([], lambda: controllers[0].left_in_outbox() == 0)
    assert sum(controller.service.sweeper.swept for controller in controllers) == 0


def test_a_restarted_agent_finds_its_queue_and_bindings_and_misses_nothing(start: Start, host: Hosts) -> None:
    controller = start()
    segment = controller.network()
    topic = segment_topic(segment)
    before = host(topic, name="hv-again")
    until([before], lambda: before.topics.synced)
    assert before.up == [True], "its queue is new"
    before.stop()
    controller.ports(segment, "hv9", 2)
    until([], lambda: controller.left_in_outbox() == 0)
    after = host(topic, name="hv-again")
    until([after], lambda: after.topics.synced and after.session.counters["received"] == 1)
    assert after.up == [False], "its queue was there"
    assert after.objects(topic) == truth(controller, topic)


def test_a_queue_that_was_deleted_is_made_anew_and_bound_again(start: Start, host: Hosts, broker: Broker) -> None:
    controller = start()
    segment = controller.network()
    topic = segment_topic(segment)
    reader = host(topic)
    until([reader], lambda: reader.topics.synced)
    connection = connect(broker.url, "test")
    connection.channel().queue_delete(reader.queue)
    connection.close()
    until([reader], lambda: reader.up == [True, True])
    until([reader], lambda: reader.topics.deadline() is None and reader.outstanding is not None)
    controller.ports(segment, "hv9", 2)
    until([reader], lambda: reader.objects(topic) == truth(controller, topic))


def test_an_overflown_queue_heals_as_a_gap(
    start: Start, host: Hosts, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "QUEUE_LENGTH", 5)
    controller = start()
    segment = controller.network()
    topic = segment_topic(segment)
    ports = controller.ports(segment, "hv9", 3)
    reader = host(topic, name="hv-slow")
    until([reader], lambda: reader.topics.synced)
    reader.session.stop()
    for n in range(30):
        controller.toggle(ports[n % 3], bool(n % 2))
    until([], lambda: controller.left_in_outbox() == 0)
    reader.session = Session(broker.url, reader.name, reader.events.put)
    reader.session.start()
    until([reader], lambda: reader.objects(topic) == truth(controller, topic))
    assert reader.session.counters["received"] == 5
    assert reader.topics.counters.gaps == 1


def test_messages_that_were_lost_without_a_successor_heal_at_the_report(start: Start, host: Hosts) -> None:
    controller = start()
    segment = controller.network()
    topic = segment_topic(segment)
    reader = host(topic)
    until([reader], lambda: reader.topics.synced)
    # Lost on its way: taken from the outbox, and never published.
    controller.service.outbox._hand_over = lambda rows: None
    controller.service.publisher._mine.update(range(1, 1000))
    controller.ports(segment, "hv9")
    reader.step(0.3)
    assert len(reader.objects(topic)) == 1
    assert reader.report().stale == (topic,)
    until([reader], lambda: reader.objects(topic) == truth(controller, topic))
    assert reader.report().stale == ()


def test_the_database_goes_on_while_the_broker_is_away_and_everything_arrives_after(
    start: Start, host: Hosts, broker: Broker
) -> None:
    controller = start()
    segment = controller.network()
    topic = segment_topic(segment)
    reader = host(topic, host_topic("hv9"))
    until([reader], lambda: reader.topics.synced)
    broker.stop()
    for _ in range(5):
        controller.ports(segment, "hv9", 2)  # which would not end if it waited for the broker
    until([reader], lambda: reader.downs >= 1)
    reader.calls.submit("claim", rpc.Claim(reader.name, ("no-such-port",)))
    broker.start()
    took = until(
        [reader], lambda: len(reader.objects(topic)) == 11 and len(reader.objects(host_topic("hv9"))) == 10, 30.0
    )
    assert reader.up == [True, False], "the queue is durable"
    until([reader], lambda: bool(reader.answers), 30.0)
    assert reader.answers[0].reply == rpc.ClaimReply({"no-such-port": "unknown"})
    until([], lambda: controller.left_in_outbox() == 0)
    assert took < 15.0
    controller.ports(segment, "hv9")
    until([reader], lambda: reader.objects(topic) == truth(controller, topic))


@both_databases
def test_claim_and_wired_change_the_port_and_its_topics(start: Start, host: Hosts) -> None:
    controller = start()
    segment = controller.network()
    (port,) = controller.ports(segment, "")
    one, two = host(name="hv-a"), host(name="hv-b")
    one.interest, two.interest = {host_topic("hv-a")}, {host_topic("hv-b")}
    until([one, two], lambda: one.topics.synced and two.topics.synced)
    assert one.call("claim", rpc.Claim("hv-a", (port, "x"))).reply == rpc.ClaimReply({port: "claimed", "x": "unknown"})
    until([one, two], lambda: one.objects(host_topic("hv-a")) == {Binding(port, segment)})
    assert two.call("claim", rpc.Claim("hv-b", (port,))).reply == rpc.ClaimReply({port: "elsewhere"})
    assert one.call("wired", rpc.Wired("hv-a", up=(port,))).reply == rpc.WiredReply()
    assert two.call("wired", rpc.Wired("hv-b", up=(port,))).reply == rpc.WiredReply((port,))
    assert one.call("wired", rpc.Wired("hv-a", unplugged=(port,))).reply == rpc.WiredReply()
    until([one, two], lambda: one.objects(host_topic("hv-a")) == set())
    assert two.call("claim", rpc.Claim("hv-b", (port,))).reply == rpc.ClaimReply({port: "claimed"})
    until([one, two], lambda: two.objects(host_topic("hv-b")) == {Binding(port, segment)})


def test_a_call_that_makes_no_sense_is_refused_with_a_reason_and_not_repeated(start: Start, host: Hosts) -> None:
    start()
    agent = host()
    answer = agent.call("subscribe", rpc.Subscribe(agent.name, {"#": 0}))
    assert isinstance(answer.error, rpc.Refused) and "'#' is not a topic" in str(answer.error)
    answer = agent.call("claim", rpc.Claim("../etc", ()))
    assert isinstance(answer.error, rpc.Refused)
    assert agent.calls.counters["retries"] == 0


def test_calls_wait_for_a_state_directory_that_cannot_be_made(start: Start, broker: Broker, tmp_path: Path) -> None:
    """A file is where the agent's directory should be: calls are retried, and answered as soon as it is gone."""
    start()
    blocked = tmp_path / "state"
    blocked.write_text("in the way")
    conf = options.load_agent(files(tmp_path, broker, host="hv-blocked"))
    conf.set_override("state_dir", str(blocked), group="agent")
    answers: SimpleQueue[Answer] = SimpleQueue()
    calls = Calls(conf, answers.put)
    calls.start()
    try:
        calls.submit("claim", rpc.Claim("hv-blocked", ("x",)))
        wait_for("an attempt that fails", lambda: calls.counters["retries"] > 0)
        blocked.unlink()
        assert answers.get(timeout=10).reply == rpc.ClaimReply({"x": "unknown"})
    finally:
        calls.stop()
        Path("/dev/shm/hv-blocked_selvedge-agent_qmanager").unlink(missing_ok=True)


def test_a_message_of_a_newer_schema_is_counted_and_skipped(start: Start, host: Hosts) -> None:
    controller = start()
    segment = controller.network()
    topic = segment_topic(segment)
    reader = host(topic)
    until([reader], lambda: reader.topics.synced)
    controller.service.publisher.hand_over([Row(10**6, topic, 2, bytes((wire.SCHEMA + 1,)) + b"J{}")])
    controller.service.publisher.hand_over([Row(10**6 + 1, topic, 99, wire.encode(Update(topic, 99)))])
    until([reader], lambda: reader.topics.counters.held == 1)
    assert reader.session.counters["unreadable"] == 1


def test_losing_interest_unbinds_the_queue(start: Start, host: Hosts, broker: Broker) -> None:
    controller = start()
    segment = controller.network()
    reader = host(segment_topic(segment))
    until([reader], lambda: reader.topics.synced)
    reader.interest = set()
    until([reader], lambda: controller.service.subscriptions.unbound == 1)
    controller.ports(segment, "hv9")
    until([], lambda: controller.left_in_outbox() == 0)
    connection = connect(broker.url, "test")
    assert connection.channel().queue_declare(reader.queue, passive=True).message_count == 0
    connection.close()
    reader.step(0.05)
    assert reader.session.counters["received"] == 0


def test_rows_beyond_the_publishers_memory_are_brought_back_by_the_sweeper(
    start: Start, host: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.feed.publisher.BACKLOG", 3)
    controller = start()
    segments = [controller.network() for _ in range(3)]
    readers = [host(*map(segment_topic, segments))]
    until(readers, lambda: readers[0].topics.synced)
    until([], lambda: controller.left_in_outbox() == 0)
    publisher = controller.service.publisher
    publisher._blocked = True
    for segment in segments:
        for _ in range(3):
            controller.ports(segment, "hv9")
    until([], lambda: publisher.counters.left_to_sweeper > 0)
    publisher._blocked = False
    publisher.hand_over([])
    until(readers, lambda: all(len(readers[0].objects(segment_topic(segment))) == 4 for segment in segments), 20.0)
    until([], lambda: controller.left_in_outbox() == 0)
    assert controller.service.sweeper.swept > 0


def test_the_names_on_the_broker_are_durable_and_bounded(start: Start, host: Hosts, broker: Broker) -> None:
    start()
    reader = host(HOSTS)
    until([reader], lambda: reader.topics.synced)
    connection = connect(broker.url, "test")
    try:
        connection.channel().exchange_declare(names.FEED_EXCHANGE, "direct", durable=True, auto_delete=False)
        arguments = names.agent_queue_arguments()
        connection.channel().queue_declare(reader.queue, durable=True, auto_delete=False, arguments=arguments)
        with pytest.raises(amqp.PreconditionFailed):
            connection.channel().queue_declare(reader.queue, durable=True, auto_delete=False)
    finally:
        connection.close()
