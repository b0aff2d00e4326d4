"""Sets of integers as sorted, disjoint, inclusive (first, last) pairs: a /64 costs as much as a /30."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Interval = tuple[int, int]
Intervals = tuple[Interval, ...]


def normal(pairs: Iterable[Interval]) -> Intervals:
    """Sorted and disjoint, neighbours joined. Pairs whose last is below their first are empty."""
    joined: list[Interval] = []
    for first, last in sorted(pair for pair in pairs if pair[0] <= pair[1]):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def size(ranges: Intervals) -> int:
    """How many numbers."""
    return sum(last - first + 1 for first, last in ranges)


def contains(ranges: Intervals, number: int) -> bool:
    """Whether `number` is in the (normal) set."""
    place = bisect_right(ranges, number, key=lambda pair: pair[0]) - 1
    return place >= 0 and number <= ranges[place][1]


def without(ranges: Intervals, taken: Iterable[int]) -> Intervals:
    """The set without the numbers `taken`, which come in any order and may repeat."""
    gaps = sorted(set(taken))
    free: list[Interval] = []
    place = 0
    for first, last in ranges:
        while place < len(gaps) and gaps[place] < first:
            place += 1
        start = first
        while place < len(gaps) and gaps[place] <= last:
            if gaps[place] > start:
                free.append((start, gaps[place] - 1))
            start = gaps[place] + 1
            place += 1
        if start <= last:
            free.append((start, last))
    return tuple(free)


def nth(ranges: Intervals, index: int) -> int:
    """The number at `index`, counted from the smallest. Raises IndexError."""
    left = index
    for first, last in ranges:
        length = last - first + 1
        if left < length:
            return first + left
        left -= length
    raise IndexError(index)


def slice_of(ranges: Intervals, start: int, length: int) -> Intervals:
    """The numbers at indexes `start` … `start + length - 1`, as far as there are any."""
    return tuple(_slices(ranges, start, length))


def _slices(ranges: Intervals, start: int, length: int) -> Iterator[Interval]:
    for first, last in ranges:
        if length <= 0:
            return
        here = last - first + 1
        if start >= here:
            start -= here
            continue
        taken = min(here - start, length)
        yield (first + start, first + start + taken - 1)
        length -= taken
        start = 0
