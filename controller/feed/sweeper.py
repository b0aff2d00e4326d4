"""The thread that deletes confirmed rows of the outbox, and publishes those that their own process left behind.

A row is a left-over when two looks, `PATIENCE` seconds apart, both saw it and this process does not hold it. That needs
no clocks that agree, and no list of living controllers. A look is one indexed read of an almost empty table, and what
it finds is looked at again just when its patience ends: so what a dead controller left is published within a second.
When several controllers sweep the same row, it is published several times, which costs a message and changes nothing;
scattered patience makes it rare. A full table means that controllers or the broker are slow, not that one is dead: the
patience grows with the number of rows.

It is also the one who takes identities away that no port uses any more (`controller.store.identities`).
"""

import logging
import math
import random
import threading
import time

from sqlalchemy import Connection, delete, select

from controller.feed.outbox import Row
from controller.feed.publisher import Publisher
from controller.store import identities
from controller.store.engine import Contention, DatabaseAway, Store
from controller.store.schema import outbox

LOG = logging.getLogger(__name__)

TIDY = 0.1
"""Seconds between two deletions of what was confirmed; one statement takes all of it."""

LOOK = 0.25
"""Seconds between two looks for left-overs, scattered by a quarter."""

PATIENCE = 0.35
"""Seconds that a row's own process has for it, besides up to `SCATTER` that differ from one controller to the next."""

SCATTER = 0.15

RETRY = 0.5
"""Seconds until the next attempt when the database is away."""

IDENTITIES = 60.0
"""Seconds between two looks for identities without ports."""

CHUNK = 500
LOOK_AT = 10_000


class Sweeper(threading.Thread):
    """One per process."""

    def __init__(self, store: Store, publisher: Publisher) -> None:
        super().__init__(name="sweeper", daemon=True)
        self.swept = 0
        self.deleted = 0
        self.forgotten = 0
        self._store = store
        self._publisher = publisher
        self._stopping = threading.Event()
        self._seen: dict[int, float] = {}

    def stop(self) -> None:
        """Ends the thread; what is confirmed by then is deleted."""
        self._stopping.set()
        self.join(2.0)

    def run(self) -> None:
        away = False
        look_at = 0.0
        forget_at = time.monotonic() + IDENTITIES * random.random()
        last = False
        while not last:
            last = self._stopping.wait(min(TIDY, max(0.0, look_at - time.monotonic())))
            try:
                self._tidy()
                now = time.monotonic()
                if now >= look_at and not last:
                    due = self._look(now)
                    look_at = min(due, now + LOOK * random.uniform(0.75, 1.25))
                if now >= forget_at and not last:
                    self._forget(time.time())
                    forget_at = now + IDENTITIES * random.uniform(0.75, 1.25)
            except (DatabaseAway, Contention) as error:
                if not away:
                    LOG.warning("sweeper: %s", error)
                away = True
                if self._stopping.wait(RETRY):
                    return
            except Exception:
                LOG.exception("sweeper: a defect; it goes on")
                self._stopping.wait(RETRY)
            else:
                away = False

    def _tidy(self) -> None:
        while numbers := self._publisher.take_confirmed(CHUNK):
            statement = delete(outbox).where(outbox.c.id.in_(numbers))
            try:
                self._store.transaction(lambda transaction, statement=statement: transaction.execute(statement))  # type: ignore[misc]
            except BaseException:
                self._publisher.give_back(numbers)
                raise
            self._publisher.forget(numbers)
            self.deleted += len(numbers)

    def _look(self, now: float) -> float:
        """Find left-overs and hand them to the publisher, unless that has enough to do. When the next may be due."""
        if not self._publisher.connected or self._publisher.backlog > CHUNK:
            self._seen.clear()  # who waited for the broker as we did has the same patience once it is back
            return math.inf
        numbers = [number for number in self._store.read(_numbers) if not self._publisher.holds(number)]
        self._seen = {number: self._seen.get(number, now + PATIENCE + random.uniform(0, SCATTER)) for number in numbers}
        more = PATIENCE * (len(numbers) // CHUNK)
        due = [number for number, moment in self._seen.items() if moment + more <= now][:CHUNK]
        for number in due:
            del self._seen[number]
        if due:
            rows = self._store.read(lambda conn: _rows(conn, due))
            self.swept += len(rows)
            self._publisher.hand_over(rows)
            LOG.info("sweeper: publishing %d messages that were left behind", len(rows))
        return min((moment + more for moment in self._seen.values()), default=math.inf)

    def _forget(self, now: float) -> None:
        """Delete the identities that have been without a port for long. `now`: seconds since 1970."""
        if not self._store.read(lambda conn: identities.due(conn, now)):
            return
        record = self._publisher.outbox.record
        number = self._store.transaction(lambda transaction: identities.sweep(transaction, now, record))
        self.forgotten += number
        if number:
            LOG.info("sweeper: %d sets of security groups are no longer known", number)


def _numbers(conn: Connection) -> list[int]:
    return list(conn.execute(select(outbox.c.id).order_by(outbox.c.id).limit(LOOK_AT)).scalars())


def _rows(conn: Connection, numbers: list[int]) -> list[Row]:
    columns = (outbox.c.id, outbox.c.topic, outbox.c.version, outbox.c.body)
    statement = select(*columns).where(outbox.c.id.in_(numbers)).order_by(outbox.c.id)
    return [Row(number, topic, version, bytes(body)) for number, topic, version, body in conn.execute(statement)]
