"""How a free number is chosen: at random in a window, and from everything that is free before giving up.

Two who choose at the same moment do not know of each other; the database refuses the second. So a chooser looks at
one window, far larger than what it needs, at a random place, and takes any free number in it: meetings are rare
however many choose, and a look costs the same in a /64 as in a /24. Only when windows are full is everything looked
at, so an answer "exhausted" is definite.
"""

from collections.abc import Callable, Iterable
from random import Random

from controller.ipam.intervals import Interval, Intervals, nth, size, slice_of, without

WINDOW = 256
"""Numbers looked at for one choice; for many, `SPARE` times as many as are needed."""

SPARE = 4

Taken = Callable[[Interval], Iterable[int]]
"""The numbers in an inclusive range that are taken."""


def draw(ranges: Intervals, count: int, taken: Taken, chance: Random) -> list[int]:
    """`count` different free numbers of `ranges` in random order; fewer if there are no more."""
    everything = size(ranges)
    for window in (max(WINDOW, SPARE * count), 16 * max(WINDOW, SPARE * count)):
        if window >= everything:
            break
        # Windows begin before the first number and beyond the last window too, and are moved inside: without that the
        # numbers near the ends would hardly ever be looked at.
        start = min(max(chance.randrange(everything + window) - window, 0), everything - window)
        free = _free(slice_of(ranges, start, window), taken)
        if size(free) >= count:
            return _choose(free, count, chance)
    return _choose(_free(ranges, taken), count, chance)


def _free(ranges: Intervals, taken: Taken) -> Intervals:
    ordered = tuple(sorted(ranges))
    return without(ordered, (number for interval in ordered for number in taken(interval)))


def _choose(free: Intervals, count: int, chance: Random) -> list[int]:
    available = size(free)
    if available <= count:
        chosen = [number for first, last in free for number in range(first, last + 1)]
        chance.shuffle(chosen)
        return chosen
    picked: set[int] = set()
    if available < 4 * count:
        picked.update(chance.sample(range(available), count))
    while len(picked) < count:
        picked.add(chance.randrange(available))
    chosen = [nth(free, index) for index in picked]
    chance.shuffle(chosen)
    return chosen
