"""The tests' own order: who is beside whom."""

import fcntl
import threading
from pathlib import Path

import pytest

from tests.functional import turns
from tests.functional.vswitch import wait_for


def taken(lock: Path) -> bool:
    with lock.open() as probe:
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_who_wants_to_be_alone_is_the_next_and_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are in the room, one who wants it alone waits, and one who does not comes after: the two are side by side;
    then comes the one alone, and then the last."""
    for name in ("ROOM", "DOOR"):
        (tmp_path / name).touch()
        monkeypatch.setattr(turns, name, tmp_path / name)
    came: list[bool] = []
    may_go = threading.Event()

    def come(alone: bool) -> None:
        with turns.turn(alone):
            came.append(alone)
            assert may_go.wait(10)

    threads = [threading.Thread(target=come, args=(alone,), daemon=True) for alone in (False, True, False)]
    with turns.turn(alone=False):
        threads[0].start()
        wait_for(lambda: came == [False])
        threads[1].start()
        wait_for(lambda: taken(tmp_path / "DOOR"))
        threads[2].start()
        may_go.set()
        threads[0].join(10)
        assert came == [False], "somebody is still in the room"
    for thread in threads:
        thread.join(10)
    assert came == [False, True, False]


def test_a_benchmark_is_one_part_and_so_is_a_module() -> None:
    """Two tests of one benchmark stay together, tests of two do not; of another module all do."""
    (module,) = turns.PARTED
    assert turns.part_of(f"{module}::test_a[wire]") == turns.part_of(f"{module}::test_b[wire]")
    assert turns.part_of(f"{module}::test_a[wire]") != turns.part_of(f"{module}::test_a[bulk]")
    assert turns.part_of("test_guard.py::test_a[vlan]") == turns.part_of("test_guard.py::test_b")
