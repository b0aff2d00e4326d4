"""Headless: when a host runs from the last known topology, because no controller answers.

A hypervisor that reboots while all controllers are away has an empty switch, and a file that says what it knew
(`agents.remembered`). It waits for `AWAY` seconds; if nobody has answered by then, and Open vSwitch's database is
there, what is remembered counts as known (`Topics.relying`) and flows are made of it, as they would be of an answer. A
port whose topics are not remembered waits, fail closed. Nothing is told to controllers and no conntrack zone is swept
before they have answered everything; then the differences follow by the one path that there is.

Never without a usable file: the flows that a switch has are worth more than a guess. So nothing is kept either before
everything was known once (`keeping`): half a topology, remembered by an agent that was killed while it learned the
other half, would take away the flows of that half.

Pure; owned by `agents.core`, which tells when somebody answered.
"""

import logging
from datetime import UTC, datetime

from agents.remembered import Memory
from agents.topics import Topics
from selvedge.topics import HOSTS, host_topic

LOG = logging.getLogger(__name__)

AWAY = 3.0
"""Seconds after the start in which a controller that is there has answered."""

SILENT = 15.0
"""Seconds without another answer until a controller that did answer counts as away: more than a call's timeout."""


class Headless:
    """See the module."""

    def __init__(self, memory: Memory | None, host: str, topics: Topics, now: float) -> None:
        self.of = None if memory is None else _words(memory)
        """When what is remembered was confirmed, in words; None: nothing is remembered."""
        names = {snapshot.topic for snapshot in memory.snapshots} if memory is not None else set()
        self._able = {HOSTS, host_topic(host)} <= names
        self._topics = topics
        self._until = now + AWAY
        self._confirmed = False
        self.keeping = self._able
        """Whether what is known now may be remembered: it has been whole once."""

    @property
    def running(self) -> bool:
        """Whether the host is headless now."""
        return self._topics.relying and self._topics.remembered

    @property
    def problem(self) -> str | None:
        """The same in words."""
        return (
            f"no controller has answered: running from the last known topology, of {self.of}" if self.running else None
        )

    def answered(self, now: float) -> None:
        """A controller said something."""
        self._until = now + SILENT

    def settled(self) -> None:
        """Everything that this host needs was answered."""
        if self._topics.relying:
            LOG.info("controllers have answered: running from the last known topology no more")
        self._topics.relying = False
        self.keeping = True

    def confirmed(self) -> None:
        """A controller says that nothing is newer than what is known."""
        self._confirmed = self.keeping

    def news(self) -> bool:
        """Whether what is known was confirmed since the last time."""
        confirmed, self._confirmed = self._confirmed, False
        return confirmed

    def consider(self, now: float) -> bool:
        """Whether what is remembered counts as known. Ask while nothing was released, and the database is there."""
        if (due := self.deadline()) is not None and due <= now:
            self._topics.relying = True
            LOG.warning("no controller answers: running from the last known topology, of %s", self.of)
        return self._topics.relying

    def deadline(self) -> float | None:
        """When `consider` has something to decide, if nothing else happens before."""
        return self._until if self._able and not self._topics.relying and not self._topics.synced else None


def _words(memory: Memory) -> str:
    age = next(
        f"{memory.age / seconds:.0f} {unit}"
        for unit, seconds in (("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1))
        if memory.age >= 2 * seconds or seconds == 1
    )
    return f"{datetime.fromtimestamp(memory.of, UTC).isoformat(timespec='seconds')} ({age} before the start)"
