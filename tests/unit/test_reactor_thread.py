"""The thread around the core: it takes all that is there, never polls, writes status.json, and stops when told."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.calls import Answer, Kind, Question
from agents.core import Core
from agents.effects import Event
from agents.ovsdb import Loaded, Operations, Transacted, Updated
from agents.reactor import STOP, Queue, Reactor, StatusFile, memory, process_start
from agents.remembered import Memory, Record
from agents.session import FeedUp
from agents.topics import Topics
from openflow.announce import Packet
from openflow.batch import Connected, Order
from selvedge.topics import Snapshot
from tests.unit.rows import Rows
from tests.unit.surroundings import SETTINGS, Controller


class Answering:
    """Threads that answer at once, out of the same queue: a controller without ports, a database, an empty switch."""

    def __init__(self, events: Queue) -> None:
        self.events = events
        self.rows = Rows()
        self.rows.bridge("br-ex")
        self.controller = Controller(self)
        self.peers: list[frozenset[str]] = []
        self.taken = 0
        self.remembered: list[tuple[tuple[Record, ...], tuple[Snapshot, ...]]] = []

    def say(self, source: str, event: Any) -> None:
        self.events.put(event)

    def transact(self, tag: str, operations: Operations) -> None:
        self.events.put(Updated(self.rows.commit(operations)))
        self.events.put(Transacted(tag, None))

    def submit(self, order: Order) -> None:
        raise AssertionError(f"nothing is plugged, so nothing is to be sent: {order}")

    def call(self, kind: Kind, request: Question) -> None:
        self.events.put(Answer(kind, request, self.controller.call(request), None))

    def warm(self, peers: frozenset[str], again: bool) -> None:
        self.peers.append(peers)

    def send(self, packet: Packet) -> None:
        raise AssertionError(f"nothing is plugged, so nothing is to be announced: {packet}")

    def took(self, events: Sequence[Event]) -> None:
        self.taken += len(events)

    def remember(self, records: tuple[Record, ...], topics: Topics) -> None:
        self.remembered.append((records, topics.snapshots()))

    def counters(self) -> dict[str, int]:
        return {"messages_received": 7}


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def reactor(tmp_path: Path) -> Iterator[tuple[Queue, Path, threading.Thread]]:
    """A reactor in a thread of its own, with a host without ports around it."""
    events: Queue = Queue()
    threads = Answering(events)
    status = tmp_path / "state" / "status.json"
    thread = threading.Thread(target=Reactor(Core(SETTINGS, time.monotonic()), events, threads, status.parent).run)
    thread.start()
    try:
        events.put(Loaded(threads.rows.initial()))
        events.put(FeedUp(fresh=True))
        events.put(Connected(1, {}, {}))
        yield events, status, thread
    finally:
        events.put(STOP)
        thread.join(5)
        assert not thread.is_alive()


def test_from_start_to_in_sync_and_rest(reactor: tuple[Queue, Path, threading.Thread]) -> None:
    """In sync at once, told at once, and then the thread sleeps: no wake-up without an event."""
    events, path, thread = reactor
    wait_for(lambda: path.exists() and json.loads(path.read_text())["in_sync"])
    status = json.loads(path.read_text())
    assert 0 < status["in_sync_s"] <= status["uptime_s"]
    assert status["messages_received"] == 7
    assert status["topics"] == {"hosts": 1, "host/hv1": 0}
    assert (status["flows"], status["ports"], status["failed_owners"]) == (0, {}, [])
    assert status["rss"] > 1_000_000
    time.sleep(1.3)  # the last change is written within a second
    before = json.loads(path.read_text())["wakeups"]
    time.sleep(0.3)
    events.put(STOP)
    thread.join(5)
    assert json.loads(path.read_text())["wakeups"] == before + 1, "only STOP woke it"


def test_a_host_that_turns_headless_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers, and nothing else happens either: it is the time alone that makes the agent write it down."""
    monkeypatch.setattr("agents.headless.AWAY", 0.3)
    events: Queue = Queue()
    threads = Answering(events)
    monkeypatch.setattr(threads, "call", lambda kind, request: None)
    known = Memory((Snapshot("hosts", 1), Snapshot("host/hv1", 0)), of=1_800_000_000.0)
    reactor = Reactor(Core(SETTINGS, time.monotonic(), known), events, threads, tmp_path)
    thread = threading.Thread(target=reactor.run)
    thread.start()
    try:
        events.put(Loaded(threads.rows.initial()))
        events.put(Connected(1, {}, {}))
        path = tmp_path / "status.json"
        wait_for(lambda: path.exists() and json.loads(path.read_text())["headless"])
        status = json.loads(path.read_text())
        assert (status["in_sync"], status["in_sync_s"]) == (False, None)
        assert status["last_known"].startswith("2027-01-15T08:00:00+00:00")
        assert threads.remembered == []
    finally:
        events.put(STOP)
        thread.join(5)


def test_a_status_file_that_cannot_be_written_is_no_reason_to_end(tmp_path: Path, caplog: Any) -> None:
    """The directory's name is taken by a file: one warning, however often it is tried; it works when that is mended."""
    obstacle = tmp_path / "state"
    obstacle.write_text("in the way")
    status = StatusFile(obstacle / "status.json")
    for now in (1.0, 2.0):
        status.write({"a": 1}, now)
    assert len(caplog.records) == 1
    obstacle.unlink()
    status.write({"a": 2}, 3.0)
    assert json.loads((obstacle / "status.json").read_text()) == {"a": 2}


def test_status_is_written_when_something_happened_and_at_most_once_a_second(tmp_path: Path) -> None:
    status = StatusFile(tmp_path / "status.json")
    assert status.due(10.0)
    status.write({}, 10.0)
    assert not status.due(99.0)
    assert status.next() is None
    status.touch()
    assert status.next() == 11.0
    assert not status.due(10.9)
    assert status.due(11.0)


def test_the_process_began_before_now_and_has_memory() -> None:
    assert 0 < time.monotonic() - process_start() < 24 * 3600
    found = memory()
    assert found["rss"] > 1_000_000
    assert found["peak_rss"] > found["rss"] - 1_000_000, "the kernel counts pages in lots, so they are not exact"
