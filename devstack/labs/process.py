"""A daemon that outlives the command which started it, and the record by which a later command finds it again.

The record (`<name>.daemon` beside the log) names the pid and the kernel's start time of the process: a pid that was
given to somebody else meanwhile is never signalled. `Daemon` is all of the state; nothing else is kept in memory.
"""

import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_CHILDREN: dict[int, "subprocess.Popen[bytes]"] = {}
"""Daemons that this process started itself: it must take their exit codes, or they stay as zombies."""


class LabError(Exception):
    """Something of the lab does not work; the text is one clear line for the user."""


PORTS = range(20_000, 32_000)
"""Below the range from which clients get theirs."""

LAST_PORT = Path("/run/selvedge-lab.port")
"""The port that was given out last, to any lab of this machine; whoever takes the next one locks it."""


def free_port() -> int:
    """A TCP port of loopback that nobody uses. Labs start side by side, and a port is used some time after it was
    chosen, or again after a restart: so each is given out once before any is given out again."""
    with LAST_PORT.open("a+") as record:
        fcntl.flock(record, fcntl.LOCK_EX)
        record.seek(0)
        last = int(record.read().strip() or random.choice(PORTS))
        for step in range(1, len(PORTS)):
            port = PORTS[(last + step - PORTS.start) % len(PORTS)]
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                record.truncate(0)
                record.write(str(port))
                return port
    raise LabError(f"no free TCP port between {PORTS.start} and {PORTS.stop}")


def wait_for(what: str, ready: Callable[[], bool], timeout: float = 30.0, poll: float = 0.01) -> None:
    """Return once `ready()` is true; raises LabError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not there after {timeout:g} s")
        time.sleep(poll)


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (field 22 of proc(5) stat); None if dead or a zombie.

    A killed process is a zombie before its last thread has let go of its sockets and devices; it counts as alive.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        dead = fields[0] in "ZX" and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return None
    return None if dead else int(fields[19])


def _session(pid: int) -> int | None:
    """The id of a process' session (proc(5) stat, field 6); None if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])
    except (OSError, IndexError):
        return None


class Daemon:
    """One process: `directory/name.daemon` is its record, `directory/name.log` its output."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.record = directory / f"{name}.daemon"
        self.log = directory / f"{name}.log"

    @property
    def pid(self) -> int | None:
        """The process' pid while it lives."""
        try:
            seen = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return None
        if start_time(seen["pid"]) == seen["started"]:
            return int(seen["pid"])
        if child := _CHILDREN.pop(seen["pid"], None):
            child.wait()  # for others a zombie is alive: PostgreSQL does not start beside one of its lock file
        return None

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start `command` in a session of its own, `environment` added to ours. LabError if it runs already."""
        if self.pid is not None:
            raise LabError(f"{self.name} runs already, pid {self.pid}")
        self.record.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            try:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd=self.log.parent,  # a crash dump belongs to the lab, not to where somebody stood
                    env={**os.environ, **(environment or {})},
                )
            except OSError as error:
                raise LabError(f"{self.name}: {error}") from error
        _CHILDREN[child.pid] = child
        started = start_time(child.pid)
        self.record.write_text(json.dumps({"pid": child.pid, "started": started, "command": list(command)}))

    def wait_until(self, ready: Callable[[], bool], timeout: float = 30.0) -> None:
        """Return once `ready()` is true; raises LabError with the log's tail if the process dies or time runs out."""

        def looked() -> bool:
            if self.pid is None:
                raise LabError(f"{self.name} died at start: {self.tail(1).strip() or 'its log is empty'}")
            return ready()

        try:
            wait_for(self.name, looked, timeout)
        except LabError as error:
            raise LabError(f"{error} (log: {self.log})") from error

    def stop(self, sign: int = signal.SIGTERM, timeout: float = 15.0) -> None:
        """Ask it to stop, and kill it if it has not within `timeout` seconds. A dead one is fine."""
        pid = self.pid
        if pid is not None:
            self._signal(pid, sign)
            deadline = time.monotonic() + timeout
            while self.pid is not None and time.monotonic() < deadline:
                time.sleep(0.005)
            if self.pid is not None:
                self.kill()
        self.record.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL to it and to what it started in its session, also if it is dead itself; wait until it is gone."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            wait_for(f"the end of {self.name}", lambda: self.pid is None, 10.0, 0.002)
        else:
            for orphan in self._orphans():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
        self.record.unlink(missing_ok=True)

    def _orphans(self) -> list[int]:
        """Processes of its session, when it died without them. While there are any, nobody else gets its pid."""
        try:
            leader = int(json.loads(self.record.read_text())["pid"])
        except (OSError, ValueError):
            return []
        if start_time(leader) is not None:
            return []  # the pid is somebody else's
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _session(pid) == leader]

    def pause(self) -> None:
        """SIGSTOP: it lives and says nothing, as behind a cut wire."""
        self._signal(self.pid or 0, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(self.pid or 0, signal.SIGCONT)

    def _signal(self, pid: int, sign: int) -> None:
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""
