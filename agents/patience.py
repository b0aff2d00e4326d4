"""How long a call may take before it is asked again: learned from the answers, as TCP learns when to send again. Pure.

A controller acknowledges a call before it works on it, so one that is killed takes its calls with it; what tells is
the silence. Whoever gets answers within milliseconds asks somebody else after `LEAST`. Each silence doubles the time,
so controllers that are merely slow are not asked ever more, and an answer shortens it again.

From `MONITORED` on the wait is for a sign of life instead: the controller that works on the call sends one every second
or so (oslo.messaging's call monitor, which knows no less than two seconds), and a long snapshot may take its time.
"""

LEAST, FIRST, MOST = 0.7, 2.0, 10.0
"""Seconds: the shortest patience, that of who never had an answer, and the longest."""

MONITORED = 2.0
"""Seconds of patience from which on signs of life are asked for."""

FACTOR = 4
"""So many times what the last answer took."""

SIGNS = 3
"""A monitored call takes so many times its patience at most, signs of life or not."""


class Patience:
    """Of one kind of call."""

    def __init__(self) -> None:
        self.seconds = FIRST

    @property
    def timeout(self) -> float:
        """Seconds until an answer has to be there."""
        return self.seconds * SIGNS if self.monitor else self.seconds

    @property
    def monitor(self) -> int | None:
        """Whole seconds until a sign of life has to be there; None: the controller should send none."""
        return int(self.seconds) if self.seconds >= MONITORED else None

    def answered(self, took: float) -> None:
        self.seconds = min(max(LEAST, FACTOR * took), max(MONITORED, self.seconds / 2))

    def unanswered(self) -> None:
        self.seconds = min(self.seconds * 2, MOST)
