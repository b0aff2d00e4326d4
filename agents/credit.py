"""How much an I/O thread may hand to the reactor before the reactor has worked it off: bounded queues without waiting.

The reactor's queue takes everything at once, so a reactor that is busy for long would find there whatever came
meanwhile, without limit. Each thread that reads from outside therefore counts what it gave and what was taken; beyond
its limit it stops reading, and the rest stays where bounds exist already: in the broker's queue, which drops its oldest
and heals as a gap, or in ovsdb-server, which merges the changes for a client that does not read.

One thread gives, one takes, and every number has one writer: there is no lock, and no thread ever waits for another.
"""

from collections import deque

LOOK = 0.02
"""Seconds between two looks whether there is credit again."""


class Credit:
    """`give` and `full` belong to the thread that reads, `take` to the reactor."""

    def __init__(self, most: int) -> None:
        """`most`: what may be given and not taken, in whatever the giver weighs by. The last gift may exceed it."""
        self._most = most
        self._weights: deque[int] = deque()
        self._given = self._taken = 0
        self.gifts = 0
        """Gifts so far: the number of the last one."""
        self.taken = 0
        """The number of the last gift that the reactor has worked off."""
        self.held_back = 0
        """How often the giver had to stop reading."""

    @property
    def waiting(self) -> int:
        """The weight of what was given and is not taken yet."""
        return self._given - self._taken

    @property
    def full(self) -> bool:
        return self.waiting >= self._most

    def give(self, weight: int) -> int:
        """Call it before the event is in the queue. The number of this gift."""
        self._weights.append(weight)
        self._given += weight
        self.gifts += 1
        return self.gifts

    def take(self, gifts: int) -> None:
        """The reactor has worked off so many more."""
        for _ in range(gifts):
            self._taken += self._weights.popleft()
            self.taken += 1
