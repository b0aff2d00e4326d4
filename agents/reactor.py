"""The thread that owns all state: it waits for events, lets the core think, and carries out what the core says.

Everything that has piled up in the queue is taken at once, so a thousand plugs are one compilation, one bundle and one
call. The wait ends by an event or by the core's next deadline; nothing is polled. I/O happens in the other threads:
they put events into the queue, and take orders by methods that never block.

It writes `status.json` too: when something happened, at most once a second, and at once when the agent gets in sync or
begins or ceases to be headless.
Nothing is decided here; see `agents.core`.
"""

import gc
import logging
import os
import queue
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from agents import report
from agents.calls import Kind, Question
from agents.core import Core
from agents.effects import Announce, Call, Effect, Event, Remember, Submit, Transact, Warm
from agents.ovsdb import Operations
from agents.remembered import Record
from agents.topics import Topics
from openflow import announce
from openflow.announce import Packet
from openflow.batch import Order

LOG = logging.getLogger(__name__)

STATUS_INTERVAL = 1.0
"""Seconds between two writes of status.json, unless the agent got in sync or stops."""


class Stop:
    """The event that ends the reactor."""


STOP = Stop()

Queue = queue.SimpleQueue[Event | Stop]


class Threads(Protocol):
    """What carries out effects, and hears which events are worked off; every method returns at once."""

    def transact(self, tag: str, operations: Operations) -> None: ...
    def submit(self, order: Order) -> None: ...
    def call(self, kind: Kind, request: Question) -> None: ...
    def warm(self, peers: frozenset[str], again: bool) -> None: ...
    def send(self, packet: Packet) -> None: ...
    def took(self, events: Sequence[Event]) -> None: ...
    def remember(self, records: tuple[Record, ...], topics: Topics) -> None: ...
    def counters(self) -> dict[str, int]: ...


class Reactor:
    """Runs in the thread that calls `run`, until `STOP` comes out of the queue."""

    def __init__(self, core: Core, events: Queue, threads: Threads, state_dir: Path) -> None:
        self._core, self._events, self._threads = core, events, threads
        self._status = StatusFile(state_dir / "status.json")
        self._started = process_start()
        self._in_sync_s: float | None = None
        self._headless = False
        self._wakeups = 0
        self._busy = 0.0

    def run(self) -> None:
        taken: list[Event] = []
        stopping = False
        while not stopping:
            begin = time.monotonic()
            for effect in self._core.step(taken, begin):
                self._perform(effect)
            now = time.monotonic()
            self._busy += now - begin
            first = self._core.settled and self._in_sync_s is None
            if first:
                self._in_sync_s = now - self._started
                LOG.info("in sync %.2f s after the start", self._in_sync_s)
                gc.freeze()  # what is there now stays: no collection need look at it, nor any event wait for that
                if self._core.settings.bridge_mappings:
                    announce.prepare()
            turned = self._core.headless.running != self._headless
            self._headless ^= turned
            if self._status.due(now) or first or turned:
                self._write_status(now)
            self._threads.took(taken)
            taken, stopping = self._wait(now)
        self._write_status(time.monotonic())

    def _wait(self, now: float) -> tuple[list[Event], bool]:
        """All events that are there, once there is one or something is due; whether to stop."""
        taken: list[Event] = []
        try:
            event = self._events.get(timeout=self._patience(now))
            self._wakeups += 1
            while True:
                if isinstance(event, Stop):
                    return taken, True
                taken.append(event)
                self._status.touch()
                event = self._events.get_nowait()
        except queue.Empty:
            return taken, False

    def _patience(self, now: float) -> float | None:
        times = [time for time in (self._core.deadline(), self._status.next()) if time is not None]
        return max(0.0, min(times) - now) if times else None

    def _perform(self, effect: Effect) -> None:
        self._status.touch()
        match effect:
            case Submit(order):
                self._threads.submit(order)
            case Call(kind, request):
                self._threads.call(kind, request)
            case Remember(records):
                self._threads.remember(records, self._core.topics)
            case Transact(tag, operations):
                self._threads.transact(tag, operations)
            case Warm(peers, again):
                self._threads.warm(peers, again)
            case Announce(packets):
                for packet in packets:
                    self._threads.send(packet)

    def _write_status(self, now: float) -> None:
        document = {
            "pid": os.getpid(),
            "in_sync_s": None if self._in_sync_s is None else round(self._in_sync_s, 3),
            "uptime_s": round(now - self._started, 3),
            "wakeups": self._wakeups,
            "busy_s": round(self._busy, 3),
            **memory(),
            **self._threads.counters(),
            **report.status(self._core),
        }
        self._status.write(document, now)


class StatusFile:
    """A JSON file that is replaced as a whole, and not more often than it is worth."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = True
        self._written: float | None = None
        self._broken = False

    def touch(self) -> None:
        """Something happened that a reader may want to know."""
        self._changed = True

    def next(self) -> float | None:
        """When it should be written; None if nothing has happened since it was."""
        if not self._changed or self._written is None:
            return None
        return self._written + STATUS_INTERVAL

    def due(self, now: float) -> bool:
        return self._changed and (self._written is None or now >= self._written + STATUS_INTERVAL)

    def write(self, document: dict[str, Any], now: float) -> None:
        self._changed, self._written = False, now
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(".new")
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
            draft.replace(self._path)
            self._broken = False
        except OSError as error:
            if not self._broken:  # a full disk must not end the agent, nor fill the log
                LOG.warning("cannot write %s: %s", self._path, error.strerror)
            self._broken = True


def process_start() -> float:
    """When this process began, on time.monotonic()'s clock (proc(5): field 22 of stat, in ticks since boot)."""
    stat = Path("/proc/self/stat").read_text()
    ticks = int(stat.rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - age


def memory() -> dict[str, int]:
    """Resident memory of this process in bytes, now and at most (proc(5): VmRSS, VmHWM)."""
    lines = dict(_fields(Path("/proc/self/status").read_text().splitlines()))
    return {"rss": lines["VmRSS"], "peak_rss": lines["VmHWM"]}


def _fields(lines: Iterable[str]) -> Iterable[tuple[str, int]]:
    for line in lines:
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            yield name, int(value.split()[0]) * 1024
