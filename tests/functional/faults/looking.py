"""What the tests of this room look at: a hypervisor's flows by names, and what its agent spends."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import LabError, wait_for

TICK = os.sysconf("SC_CLK_TCK")


def picture(hypervisor: Hypervisor) -> tuple[list[str], list[str]]:
    """Flows and groups with interfaces by their names: the same after numbers were given out anew."""
    flows = sorted(
        re.sub(r"^ *cookie", "cookie", line)
        for line in hypervisor.ofctl("--no-stats", "--names", "dump-flows", "br-int")
    )
    return flows, sorted(hypervisor.ofctl("--names", "dump-groups", "br-int"))


def same_again(hypervisor: Hypervisor, before: tuple[list[str], list[str]], timeout: float = 15.0) -> None:
    """Return once flows and groups are those of `before`; LabError shows what differs."""

    def looks() -> bool:
        try:
            return picture(hypervisor) == before
        except LabError:  # no switch, no bridge
            return False

    try:
        wait_for(hypervisor.name, looks, timeout, 0.05)
    except LabError:
        now = picture(hypervisor)
        lines = [set(one) for part in (before, now) for one in part]
        missing, extra = (
            sorted(lines[0] - lines[2] | lines[1] - lines[3]),
            sorted(lines[2] - lines[0] | lines[3] - lines[1]),
        )
        raise LabError("\n".join([f"{hypervisor.name} differs", "missing:", *missing, "extra:", *extra])) from None


def settled(hypervisor: Hypervisor, timeout: float = 20.0) -> dict[str, Any]:
    """The agent's status once it is in sync and has written its counters after that."""
    hypervisor.wait_in_sync(timeout)
    time.sleep(1.1)  # status.json is written once a second at most
    return hypervisor.status()


def until(hypervisor: Hypervisor, what: str, true: Callable[[dict[str, Any]], bool], timeout: float = 10.0) -> None:
    """Return once the agent's status.json makes it true."""
    wait_for(f"{hypervisor.name}: {what}", lambda: true(hypervisor.status()), timeout, 0.05)


class Spent(NamedTuple):
    """What an agent did in a time. `cpu` is a share of one processor."""

    seconds: float
    cpu: float
    lines: int
    bundles: int
    flow_mods: int
    transactions: int
    calls: int
    rss: int


class Meter:
    """Counts what a hypervisor's agent does from its making on."""

    def __init__(self, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        time.sleep(1.1)  # what was done before is written first
        self._began = self._now()

    def spent(self) -> Spent:
        time.sleep(1.1)  # let status.json be written
        began, now = self._began, self._now()
        seconds = now[0] - began[0]
        return Spent(seconds, (now[1] - began[1]) / seconds, *(b - a for a, b in zip(began[2:], now[2:], strict=True)))

    def _now(self) -> tuple[float, float, int, int, int, int, int, int]:
        daemon, status = self._hypervisor.daemons["agent"], self._hypervisor.status()
        fields = Path(f"/proc/{daemon.pid}/stat").read_text().rpartition(")")[2].split()
        counters = [status[name] for name in ("bundles", "flow_mods_sent", "ovsdb_transactions", "calls_sent", "rss")]
        lines = daemon.log.read_bytes().count(b"\n")
        return time.monotonic(), (int(fields[11]) + int(fields[12])) / TICK, lines, *counters
