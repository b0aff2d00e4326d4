"""What waits for the reactor: one queue that everybody puts events into, and how much of the feed is in it.

The other threads hear of what a machine or an operator does, which is little, and answers to what the reactor asked.
The feed brings what all tenants do. So its thread looks at `full` and reads no further while the reactor has `MOST`
objects before it: what waits then waits at the broker, in a queue that is bounded, and what overflows there heals as a
gap. The agent's memory does not depend on how long it was busy.

The two counts have one writer each, so no lock is needed: `put` of feed messages is the feed's thread's, `get` is the
reactor's.
"""

import queue

from agents.effects import Event
from agents.session import FeedMessages


class Stop:
    """The event that ends the reactor."""


STOP = Stop()

MOST = 10_000
"""Objects of the feed that may wait: some ten megabytes."""


class Inbox:
    """See the module. Unbounded for everybody but the feed, who asks first."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Event | Stop] = queue.SimpleQueue()
        self._brought = self._taken = 0

    def put(self, event: Event | Stop) -> None:
        if isinstance(event, FeedMessages):
            self._brought += weight(event)
        self._queue.put(event)

    def get(self, timeout: float | None = None) -> Event | Stop:
        """The next; waits for it. Raises queue.Empty."""
        return self._counted(self._queue.get(timeout=timeout))

    def get_nowait(self) -> Event | Stop:
        """The next, if it is there. Raises queue.Empty."""
        return self._counted(self._queue.get_nowait())

    @property
    def waiting(self) -> int:
        """Objects of the feed that the reactor has not taken yet."""
        return self._brought - self._taken

    def full(self) -> bool:
        """Whether the feed has to wait."""
        return self.waiting >= MOST

    def _counted(self, event: Event | Stop) -> Event | Stop:
        if isinstance(event, FeedMessages):
            self._taken += weight(event)
        return event


def weight(messages: FeedMessages) -> int:
    """Objects that the messages carry, and one for each message."""
    return sum(1 + len(update.upserts) + len(update.deletes) for update in messages.updates)
