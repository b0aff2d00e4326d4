"""Interfaces that come and go too often: a port's interface is believed only once it stands still.

A virtualisation driver in a loop, or a dying device, may plug and unplug an interface ten times a second. Each time
would be a bundle for the switch, calls to the controllers, a transaction there and news for every peer of the segment.
So who appeared `LIMIT` times within `WINDOW` is held: for everybody he is an interface that has no number and an error
that says why, until he has not changed for a pause, which doubles each time that it begins anew. A port that is
plugged, moved or rebooted by people never gets there.

Only for ports of tenants; ours we make ourselves. Pure: the clock is given. Asked by `agents.inventory`.
"""

from collections import deque
from typing import NamedTuple

LIMIT = 8
WINDOW = 10.0
"""Appearances, and the seconds within which that many are too many."""

PAUSES = (2.0, 60.0)
"""Seconds to stand still: the first time, and at most."""

MEMORY = 300.0
"""Seconds after which a former hold is forgotten."""

SPARE = 64
"""Histories beyond twice the interfaces that are there before old ones are thrown away."""


class Hold(NamedTuple):
    """Held until `until`, if nothing changes. After that it is what a new one is measured by."""

    pause: float
    until: float

    @property
    def reason(self) -> str:
        return (
            f"it came and went {LIMIT} times within {WINDOW:g} s, and is used when it stood still for {self.pause:g} s"
        )


class Flapping:
    """By the name of a port. `held` may be read by others, and `holds`, how often one began."""

    def __init__(self) -> None:
        self.held: dict[str, Hold] = {}
        self.holds = 0
        self._former: dict[str, Hold] = {}
        self._working: set[str] = set()
        self._appeared: dict[str, deque[float]] = {}

    def note(self, port: str, working: bool, now: float) -> Hold | None:
        """The port's interface works, or does not: whether it is held."""
        changed = working != (port in self._working)
        hold = self.held.get(port)
        if changed and working:
            self._working.add(port)
            times = self._appeared.setdefault(port, deque(maxlen=LIMIT))
            times.append(now)
            if hold is None and len(times) == LIMIT and now - times[0] <= WINDOW:
                hold = self._begin(port, now)
            self._forget(now)
        elif changed:
            self._working.discard(port)
        if changed and hold is not None:
            hold = self.held[port] = hold._replace(until=now + hold.pause)
        return hold

    def due(self, now: float) -> list[str]:
        """Who stood still long enough: held no more."""
        free = [port for port, hold in self.held.items() if hold.until <= now]
        for port in free:
            self._former[port] = self.held.pop(port)
            self._appeared.pop(port, None)
        return free

    def deadline(self) -> float | None:
        """When somebody is due, if nothing changes before."""
        return min((hold.until for hold in self.held.values()), default=None)

    def _begin(self, port: str, now: float) -> Hold:
        former = self._former.pop(port, None)
        again = former is not None and now - former.until < MEMORY
        pause = min(PAUSES[1], former.pause * 2) if former is not None and again else PAUSES[0]
        self.holds += 1
        self.held[port] = Hold(pause, now + pause)
        return self.held[port]

    def _forget(self, now: float) -> None:
        if len(self._appeared) > 2 * len(self._working) + SPARE:
            self._appeared = {port: times for port, times in self._appeared.items() if now - times[-1] <= WINDOW}
        if len(self._former) > SPARE:
            self._former = {port: hold for port, hold in self._former.items() if now - hold.until < MEMORY}
