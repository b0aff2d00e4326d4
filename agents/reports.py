"""When the agent reports, which is also when it learns that it missed something. Pure: the core asks it and tells it.

A report carries the versions of all topics and its answer names the stale ones. It is due at the start, every
`interval` seconds, and soon after the feed has come back: what the queue lost meanwhile, without a later message that
would show the gap, is then healed in a second and not at the next interval. When nothing was lost that one message is
all that the return of a broker costs. It is scattered by the host's name over `SPREAD` seconds, so that controllers do
not get everybody's at once.
"""

import zlib
from collections.abc import Mapping

SPREAD = 0.5
"""Seconds over which the hosts' reports are scattered when the feed is back."""


class Reports:
    """`due` is when to report; None while one is on its way."""

    def __init__(self, host: str, interval: float, now: float) -> None:
        self.due: float | None = now
        self.answered = False
        """Whether a controller has answered one: it knows this host."""
        self._interval = interval
        self._scatter = zlib.crc32(host.encode()) / 2**32 * SPREAD
        self._feeds = 0
        self._again = False

    def sent(self) -> None:
        self.due, self._again = None, False

    def at_once(self, now: float) -> None:
        """There is something that should not wait. What is on its way has it, or is followed by the next."""
        if self.due is not None:
            self.due = now

    def feed_up(self, now: float) -> None:
        """The feed is there. The first time nothing can be missing: all topics are still to be asked for."""
        self._feeds += 1
        if self._feeds == 1:
            return
        if self.due is None:
            self._again = True
        else:
            self.due = min(self.due, now + self._scatter)

    def done(self, reported: Mapping[str, int], versions: Mapping[str, int], now: float) -> None:
        """A controller answered what was `reported`. `versions`: those of now.

        If the feed came back while it was on its way it serves for that too, unless topics have moved since.
        """
        again, self._again = self._again and reported != versions, False
        self.answered = True
        self.due = now + (self._scatter if again else self._interval)

    def refused(self, now: float, pause: float) -> None:
        self.due = now + min(pause, self._interval)
