"""Keeps Open vSwitch's database as we want it: the integration bridge with its ports, and the conntrack zones.

What is missing is computed from the rows by `agents.bridge` and `agents.zones`, so whatever somebody changes is mended
by the path that made it. Of each kind one transaction is on its way at a time; a refused one is computed anew a little
later. Pure; owned by `agents.core`, which passes on what the database says.
"""

import logging
from collections.abc import Iterator

from agents import bridge
from agents.effects import Transact
from agents.inventory import Inventory
from agents.news import News
from agents.ovsdb import Transacted
from agents.zones import Zones
from openflow.pipeline import LARGEST_ZONE

LOG = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until a transaction that the database refused is planned again; it is planned again at once otherwise."""


class Upkeep:
    """See the module. `problems` may be read by others."""

    def __init__(self, inventory: Inventory, zones: Zones, wanted: bridge.Wanted, news: News) -> None:
        self.problems: tuple[bridge.Problem, ...] = ()
        """What cannot be had, and why."""
        self._inventory, self._zones, self._wanted, self._news = inventory, zones, wanted, news
        self._up = self._planning = self._due = False
        self._plan_after = 0.0
        self._store_after: float | None = None
        self._exhausted = False
        self._external_ids: dict[str, str] | None = None
        self._strange: frozenset[tuple[str, str]] = frozenset()

    def heard(self) -> None:
        """The database is there, and rows changed."""
        self._up = self._due = True
        strange = self._inventory.mirror.strange
        for row in strange.keys() - self._strange:
            self._news.add(logging.ERROR, "rows of Open vSwitch's database that cannot be read", strange[row])
        self._strange = frozenset(strange)
        if self._external_ids is not (external_ids := self._inventory.external_ids):
            self._external_ids = external_ids
            self._zones.stored(external_ids)

    def lost(self) -> None:
        """The database is not there, until it is heard of again."""
        self._up = False

    def done(self, event: Transacted, now: float) -> None:
        """One of our transactions is done."""
        if event.tag == "zones":
            self._zones.answered()
        else:
            self._planning = False
        if event.error is not None:
            LOG.error("Open vSwitch refused the rows of our %s: %s; trying again", event.tag, event.error)
            if event.tag == "zones":
                self._store_after = now + RETRY
            else:
                self._due, self._plan_after = True, now + RETRY

    def transactions(self, now: float) -> Iterator[Transact]:
        """What has to be written now."""
        if not self._up:
            return
        if self._due and not self._planning and now >= self._plan_after:
            yield from self._plan()
        if self._store_after is None or now >= self._store_after:
            self._store_after = None
            yield from self._store()

    def deadline(self) -> float | None:
        """When `transactions` has something to do, if nothing else happens before."""
        plan = self._plan_after if self._due and not self._planning else None
        return min((time for time in (plan, self._store_after) if time is not None), default=None) if self._up else None

    def _plan(self) -> Iterator[Transact]:
        self._due = False
        operations, problems = bridge.plan(self._inventory, self._wanted)
        for problem in set(problems) - set(self.problems):
            LOG.error("%s: %s; what does not need it works all the same", problem.subject, problem.reason)
        self.problems = problems
        if operations:
            self._planning = True
            yield Transact("bridge", operations)

    def _store(self) -> Iterator[Transact]:
        if (edit := self._zones.request()) is not None:
            yield Transact("zones", bridge.change_external_ids(self._inventory, edit.removed, edit.added))
        for fault in self._zones.faults():
            self._news.add(logging.ERROR, "conntrack zones in Open vSwitch's database that cannot be, replaced", fault)
        if self._exhausted != (exhausted := bool(self._zones.exhausted)) and exhausted:
            LOG.error("all %d conntrack zones are taken: ports without one stay down", LARGEST_ZONE)
        self._exhausted = exhausted
