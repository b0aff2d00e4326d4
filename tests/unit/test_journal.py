"""The file of the last known topology: a real one, on a real file system."""

import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agents import journal, remembered
from agents.journal import GROWTH, Journal
from selvedge.topics import Snapshot, Update
from selvedge.topology import Binding

HOST = "hv1"


class Writer:
    """A journal, and what it should have in its file."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "agent" / "topology"
        self.journal = Journal(self.path, HOST)
        self.version = 0
        self.objects: tuple[Binding, ...] = ()
        self.asked = 0

    def whole(self) -> tuple[Snapshot, ...]:
        self.asked += 1
        return self.now

    @property
    def now(self) -> tuple[Snapshot, ...]:
        return (Snapshot("host/hv1", self.version, self.objects),) if self.version else ()

    def change(self, port: str = "p") -> None:
        self.version += 1
        thing = Binding(port, f"s{self.version}")
        self.objects = (*(one for one in self.objects if one.id != port), thing)
        self.journal.append((Update("host/hv1", self.version, (thing,)),), self.whole)

    def read(self) -> tuple[Snapshot, ...] | None:
        """What the next agent would start from."""
        memory = Journal(self.path, HOST).read()
        return None if memory is None else memory.snapshots

    def again(self) -> "Writer":
        """The next agent's, which has started from it."""
        made = Writer(self.path.parent.parent)
        memory = made.journal.read()
        assert memory is not None
        (snapshot,) = memory.snapshots
        made.version, made.objects = snapshot.version, snapshot.objects  # type: ignore[assignment]
        return made


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """A journal that has made its file, whose directory was not there either."""
    writer = Writer(tmp_path)
    assert writer.journal.read() is None
    writer.change()
    writer.journal.work()
    return writer


def test_every_change_is_there_at_once(writer: Writer) -> None:
    """No fsync, no thread: what was appended is what the next agent reads, only by its user."""
    for _ in range(5):
        writer.change()
        assert writer.read() == writer.now
    assert writer.asked == 1
    assert stat.S_IMODE(writer.path.stat().st_mode) == 0o600
    assert sorted(path.name for path in writer.path.parent.iterdir()) == ["topology"]
    assert writer.journal.counters == {"appended": 6, "rewritten": 1, "failed": 0, "refused": 0}


def test_the_next_agent_goes_on_where_it_ended(writer: Writer) -> None:
    second = writer.again()
    second.change()
    assert second.asked == 0
    assert second.read() == second.now


def test_a_torn_end_is_cut_off_before_anything_is_appended(writer: Writer, caplog: Any) -> None:
    """Half a record at the end: one line, the state before it, and what comes next can be read."""
    writer.change()
    before = writer.now
    with writer.path.open("ab") as file:
        file.write(remembered.tail([Update("host/hv1", 3, ())])[:-3])
    second = writer.again()
    assert second.now == before
    second.change()
    assert second.read() == second.now
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "a record that is cut off" in caplog.text
    assert second.journal.counters["refused"] == 1


def test_the_log_does_not_grow_for_ever(writer: Writer) -> None:
    """One object that changes often: the file is made anew, and never has more than its log may have."""
    largest = 0
    for number in range(12_000):
        writer.change()
        if number % 50 == 0:
            writer.journal.work()
            largest = max(largest, writer.path.stat().st_size)
    assert writer.read() == writer.now
    assert writer.journal.counters["rewritten"] > 2
    assert largest < GROWTH[1] + 50 * 200


def test_what_happens_while_the_file_is_made_is_in_it(writer: Writer) -> None:
    """The thread makes the file again and again while changes come: at any moment the file is the newest state."""
    begun = threading.Event()
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            writer.journal.work()
            begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        begun.wait(5)
        for number in range(3000):
            with writer.journal._lock:
                writer.journal._log = 1 << 30  # it has outgrown its base, always
            writer.change()
            if number % 100 == 0:
                assert writer.read() == writer.now
    finally:
        done.set()
        thread.join()
    writer.journal.work()
    assert writer.read() == writer.now
    assert writer.journal.counters["rewritten"] > 10


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may become larger than `size` (setrlimit(2): EFBIG; Python ignores the signal)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_neither_the_agent_nor_the_truth(
    writer: Writer, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a disk with no room: one line however often it fails, and the file is empty, so that nobody starts from
    what is older than the switch; it is made anew with everything when there is room."""
    monkeypatch.setattr(journal, "RETRY", 0.0)
    with full_disk(100):
        for _ in range(3):
            writer.change()
            writer.journal.work()
    assert writer.path.read_bytes() == b""
    assert writer.journal.counters["failed"] >= 3
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1 and lines[0].startswith(f"cannot keep the last known topology in {writer.path}: ")
    assert writer.read() is None
    writer.change()
    writer.journal.work()
    assert writer.read() == writer.now
    assert not writer.path.with_suffix(".new").exists()


def test_a_failure_is_not_retried_at_every_change(writer: Writer) -> None:
    """The first attempt after a failure comes RETRY seconds later, and is not a question of changes."""
    with full_disk(writer.path.stat().st_size + 10):
        for _ in range(20):
            writer.change()
            writer.journal.work()
    assert writer.journal.counters["failed"] == 1
    assert writer.asked == 1


def test_a_confirmation_makes_it_younger(writer: Writer) -> None:
    os.utime(writer.path, (1e9, 1e9))
    memory = Journal(writer.path, HOST).read()
    assert memory is not None and (memory.of, memory.age > 1e8) == (1e9, True)
    writer.journal.append((), writer.whole)
    memory = Journal(writer.path, HOST).read()
    assert memory is not None and memory.of > 1e9 and memory.age < 60
    assert writer.read() == writer.now


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\0" * 4096, "is not a topology that an agent wrote"),
        (remembered.base("hv2", [Snapshot("hosts", 1)]), "is of host hv2, this one is hv1"),
        (remembered.base(HOST, [Snapshot("hosts", 1)])[:-4], "is damaged: a record that is cut off"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_and_is_replaced(
    writer: Writer, content: bytes, reason: str, caplog: Any
) -> None:
    writer.path.write_bytes(content)
    second = Writer(writer.path.parent.parent)
    assert second.journal.read() is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"{writer.path} {reason}; starting without a last known topology"
    second.change()
    second.journal.work()
    assert second.read() == second.now


def test_a_name_that_is_taken_is_told_and_retried(tmp_path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file's name is a directory: the agent starts without, and goes on trying."""
    monkeypatch.setattr(journal, "RETRY", 0.0)
    writer = Writer(tmp_path)
    writer.path.mkdir(parents=True)
    assert writer.journal.read() is None
    for _ in range(2):
        writer.change()
        writer.journal.work()
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        f"{writer.path} cannot be read",
        f"cannot keep the last known topology in {writer.path}",
    ]
    writer.path.rmdir()
    writer.change()
    writer.journal.work()
    assert writer.read() == writer.now


def test_the_thread_makes_the_file_and_ends(tmp_path: Path) -> None:
    """Started, told of a change and stopped: the file is there, and no thread."""
    writer = Writer(tmp_path)
    writer.journal.start()
    writer.change()
    writer.journal.stop()
    assert not writer.journal.is_alive()
    assert writer.read() == writer.now
