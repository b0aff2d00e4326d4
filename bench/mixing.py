"""Carries a plan of faults out, each in a thread of its own, and keeps what should run running; writes down what was.

A fault holds its unit's lock from begin to end. Beside them a keeper looks every second at every part that nobody has
broken: one that died by itself (a controller that found no database at its start) is started again, as systemd would,
and counted in `deaths`. `Timeline` is what people read afterwards: what was done when, and what was lost when.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import drops
from bench.excuses import Happened, Window
from bench.faults import Faults
from bench.mayhem import Fault
from devstack.labs.process import LabError

KEEPER_S = 1.0


class Timeline:
    """Lines with a time. Any thread."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._lines: list[tuple[float, str]] = []

    def note(self, text: str, at: float | None = None) -> None:
        self._lines.append((time.monotonic() if at is None else at, text))

    def write(self, path: Path) -> None:
        """In the order of time, in seconds since the timeline began."""
        lines = [f"{at - self.began:9.3f}  {text}\n" for at, text in sorted(self._lines)]
        path.write_text("".join(lines))


class Mixer:
    """`run` returns when the plan is over; the keeper goes on until `finish`. `happened` is what was broken when,
    `starved` when a switch got too little of a CPU to empty its queues, `dropped` what each dropped when."""

    def __init__(self, faults: Faults, timeline: Timeline) -> None:
        self._faults, self._timeline = faults, timeline
        self.happened: list[Happened] = []
        self.deaths: list[str] = []
        self.failures: list[str] = []
        self.starved: list[Window] = []
        self.dropped: list[tuple[Window, dict[str, int]]] = []
        self._dropped: dict[str, tuple[float, dict[str, int]]] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._parts = [
            *(
                Fault(0, 0, host, part, "kill")
                for host in faults.hypervisors
                for part in ("ovsdb", "vswitchd", "agent")
            ),
            *(Fault(0, 0, name, "controller", "kill") for name in faults.controllers),
            Fault(0, 0, "broker", "broker", "kill"),
            Fault(0, 0, "postgresql", "postgresql", "kill"),
        ]

    def run(self, plan: Sequence[Fault]) -> None:
        for part in self._parts:
            _ = self._locks[part.unit]  # made here, by one thread
        self._keeper.start()
        began = time.monotonic()
        threads = []
        for fault in plan:
            time.sleep(max(0.0, began + fault.begin - time.monotonic()))
            threads.append(threading.Thread(target=self._carry_out, args=(fault,), name=fault.name, daemon=True))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def finish(self) -> None:
        """The keeper keeps no more."""
        self._stopping.set()
        self._keeper.join()

    def _carry_out(self, fault: Fault) -> None:
        with self._locks[fault.unit]:
            begin = time.monotonic()
            try:
                self._faults.begin(fault)
                self._timeline.note(f"{fault.name} for {fault.end - fault.begin:.1f} s", begin)
                time.sleep(max(0.0, begin + fault.end - fault.begin - time.monotonic()))
                self._faults.end(fault)
            except LabError as error:
                self.failures.append(f"{fault.name}: {error}")
            end = time.monotonic()
            self._timeline.note(f"{fault.name}: it is over", end)
            self.happened.append(Happened(begin, end, fault.place, fault.part, fault.how))

    def _keep(self) -> None:
        while not self._stopping.wait(KEEPER_S):
            self._look()
            self._observe()

    def _observe(self) -> None:
        """See what the switches have dropped since the last look."""
        for name, hypervisor in self._faults.hypervisors.items():
            if self._locks[f"{name} switch"].locked() and not self._stopping.is_set():
                continue  # one that is stopped does not answer
            now, at = drops.count(hypervisor), time.monotonic()
            since, before = self._dropped.get(name, (at, now))
            news = drops.grown(before, now)
            self.dropped.append((Window(name, since, at, "dropped"), news))
            if drops.QUEUES in news:
                self.starved.append(Window(name, since, at, drops.QUEUES))
            if now:
                self._dropped[name] = at, now

    def _look(self) -> None:
        """Start what should run and does not."""
        for part in self._parts:
            lock = self._locks[part.unit]
            if lock.acquire(blocking=False):
                try:
                    if not self._stopping.is_set() and self._faults.daemon(part).pid is None:
                        self._revive(part)
                finally:
                    lock.release()

    def _revive(self, part: Fault) -> None:
        name = part.place if part.part in (part.place, "controller") else f"{part.place} {part.part}"
        last = self._faults.daemon(part).tail(1)
        self._timeline.note(f"{name} has died by itself: {last}")
        self.deaths.append(f"{name}: {last}")
        try:
            self._faults.start(part)
        except LabError as error:
            self.failures.append(f"{name} does not start again: {error}")


def broken_for(happened: Iterable[Happened]) -> dict[tuple[str, str], list[float]]:
    """(part, how) -> how long each fault of this kind took."""
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for fault in happened:
        found[fault.part, fault.how].append(fault.end - fault.begin)
    return dict(sorted(found.items()))
