"""Keeps the last known topology on disk: the file of `agents.remembered`, its one writer, and its first reader.

`append` is called by the reactor before it carries out what follows from a change, and is one write(): whatever is
killed, the file is never older than the flows in the switch, because the kernel has it. The power is another matter:
then the switch is empty as well, and a state that is a second older is as good. So a thread of its own calls fsync, at
most once a second, and also makes the file anew from what is known when the log has outgrown its base: into a draft,
with fsync, which takes the file's place when all that happened meanwhile is in it too.

A disk that is full or broken must not stop the agent. What cannot be written is counted and told once; the file is then
made empty, since an agent that starts from it would take away what it does not name, and made anew as soon as that
works. One lock guards the file's descriptor; it is held for writes and a rename, never for fsync.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from agents import remembered
from agents.remembered import Memory, Record, Unusable
from selvedge.topics import Snapshot

LOG = logging.getLogger(__name__)

NAME = "topology"
"""Of the file in the agent's state_dir."""

SYNC_INTERVAL = 1.0
"""Seconds between two calls of fsync, at least."""

RETRY = 10.0
"""Seconds after a failure until the file is made anew, at least."""

GROWTH = (4, 256 * 1024)
"""The file is made anew when its log has more bytes than so many bases, and more than so many bytes."""

MOST_MEANWHILE = 16 * 1024 * 1024
"""Bytes that may wait for a file that is being made; when there are more, the disk is too slow, and it begins anew."""

Whole = Callable[[], tuple[Snapshot, ...]]
"""All that is known now, what was just appended included."""


@dataclass
class Counters:
    appended: int = 0
    rewritten: int = 0
    failed: int = 0
    refused: int = 0
    """Files, or their ends, that could not be used at the start."""


@dataclass
class Meanwhile:
    """What happens while the file is being made."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0


class Journal(threading.Thread):
    """See the module. The reactor calls `append`; whoever starts the agent calls `read` before that."""

    def __init__(self, path: Path, host: str) -> None:
        super().__init__(name="journal", daemon=True)
        self._path, self._host = path, host
        self._counters = Counters()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._file: int | None = None
        """The descriptor; None: there is no file that changes could be appended to."""
        self._base = self._log = 0
        """Bytes of the file's two parts."""
        self._due: tuple[Snapshot, ...] | None = None
        """What the file is to be made of anew."""
        self._meanwhile: Meanwhile | None = None
        """What happened since that was known; None: the file is not being made."""
        self._retry_at = 0.0
        self._told = False

    # The start ----------------------------------------------------------------------------------------------------

    def read(self) -> Memory | None:
        """What the file says; None if there is none that can be used, which is told if there is one."""
        try:
            return self._read()
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
        except Unusable as error:
            reason = str(error)
        self._counters.refused += 1
        LOG.warning("%s %s; starting without a last known topology", self._path, reason)
        return None

    def _read(self) -> Memory:
        """Read it and keep it open. Raises OSError, Unusable."""
        # For writing too: what cannot be written is soon older than the switch.
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read()
            of = os.fstat(descriptor).st_mtime
            memory = replace(remembered.read(data, self._host), of=of, age=max(0.0, time.time() - of))
            if memory.damage:
                self._counters.refused += 1
                LOG.warning("%s: left out %d bytes: %s", self._path, len(data) - memory.good, memory.damage)
                os.ftruncate(descriptor, memory.good)
                os.utime(descriptor, (of, of))
        except BaseException:
            os.close(descriptor)
            raise
        self._file, self._base, self._log = descriptor, memory.base, memory.good - memory.base
        return memory

    # The reactor --------------------------------------------------------------------------------------------------

    @property
    def counters(self) -> dict[str, int]:
        return asdict(self._counters)

    def append(self, records: tuple[Record, ...], whole: Whole) -> None:
        """This happened; nothing: what is known was confirmed. Does not wait for the disk, and never raises."""
        data = remembered.tail(records)
        with self._lock:
            self._also(data)
            if self._file is not None:
                try:
                    self._write(self._file, data)
                except OSError as error:
                    self._spoiled(error)
            if self._file is None or self._log > max(GROWTH[0] * self._base, GROWTH[1]):
                self._renew(whole)
        self._counters.appended += len(records)
        if data or self._due is not None:
            self._wake.set()

    def _also(self, data: bytes) -> None:
        """The file that is being made must have this too."""
        if self._meanwhile is not None:
            self._meanwhile.parts.append(data)
            self._meanwhile.size += len(data)
            if self._meanwhile.size > MOST_MEANWHILE:
                self._meanwhile = None

    def _write(self, file: int, data: bytes) -> None:
        if not data:
            os.utime(file)
        elif (written := os.write(file, data)) < len(data):
            raise OSError(0, f"only {written} of {len(data)} bytes fit")
        self._log += len(data)

    def _spoiled(self, error: OSError) -> None:
        """The file is not what it should be: nobody must start from it."""
        self._failed(error)
        assert self._file is not None
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, 0)
        self._close()

    def _renew(self, whole: Whole) -> None:
        if self._meanwhile is None and time.monotonic() >= self._retry_at:
            self._due, self._meanwhile = whole(), Meanwhile()

    # The thread ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ends the thread when it has done what it is asked for."""
        self._stopped.set()
        self._wake.set()
        if self.is_alive():
            self.join(2.0)

    def run(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait()
            self._wake.clear()
            self.work()
            self._stopped.wait(SYNC_INTERVAL)
        self.work()

    def work(self) -> None:
        """Make the file anew if that is due; else see to it that it is on the disk."""
        with self._lock:
            due, self._due, meanwhile = self._due, None, self._meanwhile
            file = None if self._file is None or due is not None else os.dup(self._file)
        if due is not None and meanwhile is not None:
            self._renewed(due, meanwhile)
        elif file is not None:
            self._sync(file)

    def _sync(self, file: int) -> None:
        try:
            os.fsync(file)
        except OSError as error:
            with self._lock:
                if self._file is not None and os.path.sameopenfile(file, self._file):
                    self._spoiled(error)  # what the kernel could not write it forgets
        finally:
            os.close(file)

    def _renewed(self, snapshots: tuple[Snapshot, ...], meanwhile: Meanwhile) -> None:
        draft = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(draft, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                self._fill(file, draft, snapshots, meanwhile)
            except OSError:
                os.close(file)
                raise
            _sync_directory(self._path.parent)
        except OSError as error:
            with self._lock:
                self._failed(error)
                if self._meanwhile is meanwhile:
                    self._meanwhile = None
            with contextlib.suppress(OSError):
                draft.unlink()

    def _fill(self, file: int, draft: Path, snapshots: tuple[Snapshot, ...], meanwhile: Meanwhile) -> None:
        """Write the draft and put it in the file's place. If this raises, the file is what it was."""
        os.fchmod(file, 0o600)
        data = remembered.base(self._host, snapshots)
        _write_all(file, data)
        os.fsync(file)
        with self._lock:
            if self._meanwhile is not meanwhile:
                raise OSError(0, f"more than {MOST_MEANWHILE} bytes came while it was made")
            _write_all(file, b"".join(meanwhile.parts))
            draft.rename(self._path)
            self._close()
            self._file, self._base, self._log, self._meanwhile = file, len(data), meanwhile.size, None
            self._told = False
            self._counters.rewritten += 1
            if meanwhile.size:
                self._wake.set()

    def _failed(self, error: OSError) -> None:
        """Told once, until it works again."""
        self._counters.failed += 1
        self._retry_at = time.monotonic() + RETRY
        if not self._told:
            LOG.warning("cannot keep the last known topology in %s: %s; trying again", self._path, error.strerror)
        self._told = True

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _sync_directory(path: Path) -> None:
    """The names in it are on disk when this returns."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
