"""Who runs when: functional tests run side by side in several processes (pytest-xdist), since mostly they wait.

Each process has labs, brokers and databases of its own. What a test may ask for:

    pytestmark = pytest.mark.alone      the machine to itself: it counts lost packets under load, or looks at the clock

Tests that share something of their module's go to one process, so that it is made once. What takes longest begins
first and who must be alone comes last, so that at the end nobody waits long for anybody.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

LONG = ("test_bench_quick", "test_lab")
"""Modules whose tests begin first, in this order."""

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


def arrange(items: list[pytest.Item]) -> None:
    """Put tests into the order in which they begin, and mark those that stay together."""
    for item in items:
        if shares(item) and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(Path(item.path).stem))
    items.sort(key=rank)


def shares(item: pytest.Item) -> bool:
    """Whether the test uses what is made once for its module."""
    if not isinstance(item, pytest.Function):
        return False
    return any(known[-1].scope == "module" for known in item._fixtureinfo.name2fixturedefs.values())


def rank(item: pytest.Item) -> tuple[bool, int]:
    module = Path(item.path).stem
    return wants_to_be_alone(item), LONG.index(module) if module in LONG else len(LONG)


def wants_to_be_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None
