"""Who runs when: functional tests run side by side in several processes (pytest-xdist), since mostly they wait.

Each process has labs, brokers and databases of its own. A module's tests go to one process, so that what they share is
made once; those of a module in `PARTED` that have the same parameter do. What a module may ask for:

    pytestmark = pytest.mark.early      it takes long: it begins before others, so that nobody waits for it at the end
    pytestmark = pytest.mark.alone      each of its tests has the machine to itself, since it counts packets that are
                                        lost under load, or looks at the clock; such modules come last
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

PARTED = ("tests/functional/test_bench_quick.py",)
"""Modules whose parameter names something that takes long, and that is run once for all tests of it."""

ROOM = Path(__file__)
DOOR = Path(__file__).with_name("__init__.py")
"""Files that every process can lock: who runs a test holds the room, with others or alone. Who waits for it holds the
door, and those who come later wait behind: so who wants to be alone need not wait until there is nobody by chance."""


@contextlib.contextmanager
def turn(alone: bool) -> Iterator[None]:
    """A test's turn: the room is ours meanwhile."""
    with ROOM.open() as room:
        with DOOR.open() as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def asked(item: pytest.Item, what: str) -> bool:
    return item.get_closest_marker(what) is not None


def rank(item: pytest.Item) -> int:
    """Tests begin in the order of this number."""
    return 0 if asked(item, "early") else 2 if asked(item, "alone") else 1


def part_of(test: str) -> str:
    """What goes to one process, of a test's id."""
    module, _, name = test.partition("::")
    return f"{module} {name.partition('[')[2]}" if module in PARTED else module


class Parts(LoadScopeScheduling):  # type: ignore[misc]  # xdist's types are not exported
    """xdist's schedule of the parts."""

    def _split_scope(self, nodeid: str) -> str:
        return part_of(nodeid)
