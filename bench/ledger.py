"""What every daemon costs, read from /proc from outside: CPU seconds and peak resident memory.

A daemon is a process and its children (a WSGI server's workers): CPU is summed over them, with the CPU of children that
ended and were waited for; the peak is the sum of the processes' own peaks, which counts pages they share more than
once. A process that will be killed must be observed before, `observe()` keeps what was seen last. A daemon that is
restarted is one line: its CPU adds up, its peak is the largest.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.measures import Cost

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process at one moment. `started` (clock ticks since boot) tells it from a later one with the same pid."""

    pid: int
    parent: int
    started: int
    cpu_s: float


def processes() -> dict[int, Process]:
    """All processes of this machine, by pid."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended between the two reads
            ticks = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime of proc(5)
            found[int(name)] = Process(int(name), int(fields[1]), int(fields[19]), ticks / TICK)
    return found


def wait_calm(pid: int, share: float = 0.1, window: float = 0.25, timeout: float = 10.0) -> None:
    """Return once the process used less than `share` of a CPU for `window` seconds; at the latest after `timeout`."""
    deadline = time.monotonic() + timeout
    before = processes()[pid].cpu_s
    while time.monotonic() < deadline:
        time.sleep(window)
        now = processes()[pid].cpu_s
        if now - before < share * window:
            return
        before = now


def peak_rss_mb(pid: int) -> float:
    """VmHWM of a process, in MB; 0 for one that is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return 0.0


def family(pid: int, seen: Mapping[int, Process]) -> list[Process]:
    """The process and all its descendants."""
    if pid not in seen:
        return []
    tree, wave = [seen[pid]], {pid}
    while wave:
        children = [process for process in seen.values() if process.parent in wave]
        tree += children
        wave = {process.pid for process in children}
    return tree


def busy(seconds: float) -> float:
    """The share of this machine's CPU time (0 to 1) that is used during the next `seconds`."""

    def ticks() -> tuple[int, int]:
        numbers = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
        return sum(numbers), numbers[3] + numbers[4]  # all; idle and waiting for I/O

    all_before, idle_before = ticks()
    time.sleep(seconds)
    all_after, idle_after = ticks()
    return 1 - (idle_after - idle_before) / max(1, all_after - all_before)


class Ledger:
    """Adds up what the daemons named by `daemons()` (name -> pid) cost from the making of the ledger on."""

    def __init__(self, daemons: Callable[[], Mapping[str, int]]) -> None:
        self._daemons = daemons
        self._first: dict[tuple[str, int, int], float] = {}
        self._last: dict[tuple[str, int, int], float] = {}
        self._peaks: dict[str, float] = {}
        self.observe(baseline=True)

    def observe(self, baseline: bool = False) -> None:
        """Read the meters; do it before a daemon is stopped. With `baseline` counting of what runs now starts here."""
        seen = processes()
        for name, pid in self._daemons().items():
            tree = family(pid, seen)
            for process in tree:
                key = (name, process.pid, process.started)
                self._first.setdefault(key, process.cpu_s if baseline else 0.0)
                self._last[key] = process.cpu_s
            self._peaks[name] = max(self._peaks.get(name, 0.0), sum(peak_rss_mb(process.pid) for process in tree))

    def cpu_s(self, name: str) -> float:
        """CPU seconds of one daemon up to the last observation."""
        return sum(cpu - self._first[key] for key, cpu in self._last.items() if key[0] == name)

    def peak_rss_mb(self, name: str) -> float:
        """Largest peak of one daemon up to the last observation."""
        return self._peaks[name]

    def costs(self) -> tuple[Cost, ...]:
        """All daemons, after one more observation, in the order of their names."""
        self.observe()
        return tuple(Cost(name, self.cpu_s(name), self._peaks[name]) for name in sorted(self._peaks))
