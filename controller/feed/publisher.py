"""The thread that sends this process' rows of the outbox to the broker, and learns which have arrived.

Many messages are under way at a time: a row leaves the table only when the broker has confirmed it, but nobody waits
for that. A message that nobody is bound to is confirmed too, which is right. Whatever was under way when a connection
broke is sent again over the next one. While the broker is away rows pile up here to a limit; what exceeds it stays in
the table only, and the sweeper brings it back later. The API never waits for any of this.
"""

import contextlib
import logging
import os
import random
import select
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

import amqp

from controller.feed.outbox import PATIENCE, Outbox, Row
from selvedge.broker import FEED_EXCHANGE
from selvedge.messaging import HEARTBEAT, WAIT, connect
from selvedge.tls import Access

LOG = logging.getLogger(__name__)

UNDER_WAY = 1000
"""Messages sent and not confirmed, at most."""

BACKLOG = 20_000
"""Rows waiting in memory, at most."""

PAUSES = (0.1, 0.5)
"""Seconds before the first and, doubling, at most before any further attempt to connect; scattered by half. Controllers
are few: they may be there before the hosts are."""


@dataclass
class Counters:
    handed_over: int = 0
    published: int = 0
    confirmed: int = 0
    refused: int = 0
    repeated: int = 0
    held_back: int = 0
    left_to_sweeper: int = 0
    connects: int = 0


class Publisher(threading.Thread):
    """One per process. `hand_over` from any thread; `take_confirmed` belongs to the sweeper."""

    def __init__(self, place: str | Access, name: str) -> None:
        """`place`: the broker, or oslo.messaging's URL of it; `name` is told to the broker."""
        super().__init__(name="publisher", daemon=True)
        self.outbox = Outbox(self.hand_over)
        self.counters = Counters()
        self.connected = False
        self._place = place
        self._name = name
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopping = threading.Event()
        self._arrivals: deque[Row] = deque()
        self._ready: deque[Row] = deque()
        self._held: list[tuple[float, Row]] = []
        self._under_way: OrderedDict[int, Row] = OrderedDict()
        self._tag = 0
        self._blocked = False
        self._confirmed: deque[int] = deque()
        self._mine: set[int] = set()

    # any thread

    def hand_over(self, rows: Iterable[Row]) -> None:
        """Rows to publish, committed already. Never blocks."""
        for row in rows:
            if len(self._arrivals) >= BACKLOG:  # the thread waits for a connection, for long
                self._leave(row)
            else:
                self._mine.add(row.id)
                self._arrivals.append(row)
        os.eventfd_write(self._wake, 1)

    def _leave(self, row: Row) -> None:
        """It is in the table; the sweeper brings it back."""
        self.outbox.taken(row.topic, row.version)
        self._mine.discard(row.id)
        self.counters.left_to_sweeper += 1

    def holds(self, number: int) -> bool:
        """Whether the row is waiting or under way here, or confirmed and not forgotten yet."""
        return number in self._mine

    @property
    def backlog(self) -> int:
        """Rows that are not confirmed yet."""
        return len(self._arrivals) + len(self._ready) + len(self._held) + len(self._under_way)

    def take_confirmed(self, limit: int) -> list[int]:
        """Ids of rows that may be deleted; `forget` them afterwards."""
        numbers: list[int] = []
        while self._confirmed and len(numbers) < limit:
            numbers.append(self._confirmed.popleft())
        return numbers

    def give_back(self, numbers: Iterable[int]) -> None:
        """They could not be deleted now."""
        self._confirmed.extend(numbers)

    def forget(self, numbers: Iterable[int]) -> None:
        """These rows are deleted."""
        self._mine.difference_update(numbers)

    def stop(self, timeout: float = 2.0) -> None:
        """Ends the thread once everything handed over is confirmed, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.connected and self.backlog and time.monotonic() < deadline:
            time.sleep(0.005)
        self._stopping.set()
        os.eventfd_write(self._wake, 1)
        self.join(timeout)

    # the thread

    def run(self) -> None:
        pause = PAUSES[0]
        told = False
        while not self._stopping.is_set():
            connects = self.counters.connects
            try:
                self._serve()
            except (OSError, amqp.AMQPError) as error:
                if self.counters.connects > connects:
                    pause, told = PAUSES[0], False
                # Once is enough: the following attempts fail for the same reason.
                level = logging.DEBUG if told else logging.WARNING
                LOG.log(level, "publisher: no broker, trying again: %s: %s", type(error).__name__, error)
                told = True
            self.counters.repeated += len(self._under_way)
            self._ready.extendleft(reversed(self._under_way.values()))
            self._under_way.clear()
            self._rest(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, PAUSES[1])

    def _rest(self, seconds: float) -> None:
        """Wait for the next attempt; rows that arrive meanwhile are kept within bounds."""
        resume = time.monotonic() + seconds
        while (left := resume - time.monotonic()) > 0 and not self._stopping.wait(min(0.1, left)):
            self._sort(time.monotonic())

    def _serve(self) -> None:
        """One connection, from its begin to its end. Returns when stopping; raises OSError, amqp.AMQPError."""
        connection = connect(
            self._place,
            f"{self._name} publisher",
            on_blocked=lambda reason: self._block(True, str(reason)),
            on_unblocked=lambda: self._block(False, ""),
        )
        try:
            channel = connection.channel()
            channel.exchange_declare(FEED_EXCHANGE, "direct", durable=True, auto_delete=False)
            channel.events["basic_ack"].add(self._on_ack)
            channel.events["basic_nack"].add(self._on_nack)
            channel.confirm_select()
            self._tag, self._blocked = 0, False
            self.counters.connects += 1
            self.connected = True
            LOG.info("publisher: connected")
            self._publish(connection, channel)
        except BaseException:
            connection.collect()  # to say good-bye to who does not answer would take seconds
            raise
        else:
            with contextlib.suppress(OSError, amqp.AMQPError):
                connection.close()
        finally:
            self.connected = False

    def _publish(self, connection: amqp.Connection, channel: amqp.Channel) -> None:
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        pending = getattr(connection.sock, "pending", lambda: 0)  # TLS has a buffer that poll does not see
        tick = time.monotonic()
        while not self._stopping.is_set():
            deadline = self._sort(time.monotonic())
            while self._ready and len(self._under_way) < UNDER_WAY and not self._blocked:
                row = self._ready.popleft()
                self._tag += 1
                self._under_way[self._tag] = row
                message = amqp.Message(row.body, delivery_mode=2)
                channel.basic_publish(message, FEED_EXCHANGE, row.topic)
                self.counters.published += 1
            wait = HEARTBEAT / 3 if deadline is None else max(0.0, deadline - time.monotonic())
            events = dict(poll.poll(wait * 1000))
            if self._wake in events:
                os.eventfd_read(self._wake)
            if len(events) > (self._wake in events) or pending():
                # One frame, whatever it is: drain_events would wait for a method after a mere heartbeat.
                connection.blocking_read(timeout=WAIT)
            if time.monotonic() - tick > HEARTBEAT / 6:
                tick = time.monotonic()
                connection.heartbeat_tick(rate=2)

    def _sort(self, now: float) -> float | None:
        """Arrivals become ready, or are held for a predecessor. Returns when to look again, None: no need to."""
        while self._arrivals:
            row = self._arrivals.popleft()
            self.counters.handed_over += 1
            self.outbox.taken(row.topic, row.version)
            if len(self._ready) + len(self._held) >= BACKLOG:
                self._leave(row)
            elif self._must_wait(row):
                self.counters.held_back += 1
                self._held.append((now + PATIENCE, row))
            else:
                self._ready.append(row)
        if not self._held:
            return None
        self._held.sort(key=lambda held: (held[1].topic, held[1].version))
        held, self._held = self._held, []
        for until, row in held:
            if until <= now:
                self.outbox.taken(row.topic, row.version - 1)
            if self._must_wait(row):
                self._held.append((until, row))
            else:
                self._ready.append(row)
        return min((until for until, _ in self._held), default=None)

    def _must_wait(self, row: Row) -> bool:
        earlier = row.version - 1
        return self.outbox.awaits(row.topic, earlier) or any(
            held.topic == row.topic and held.version == earlier for _, held in self._held
        )

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for row in self._settled(tag, multiple):
            self.counters.confirmed += 1
            self._confirmed.append(row.id)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for row in self._settled(tag, multiple):
            self.counters.refused += 1
            self._ready.append(row)

    def _settled(self, tag: int, multiple: bool) -> list[Row]:
        if not multiple:
            row = self._under_way.pop(tag, None)
            return [row] if row else []
        rows = []
        while self._under_way and next(iter(self._under_way)) <= tag:
            rows.append(self._under_way.popitem(last=False)[1])
        return rows

    def _block(self, blocked: bool, reason: str) -> None:
        LOG.warning(
            "publisher: the broker %s", f"takes no more messages: {reason}" if blocked else "takes messages again"
        )
        self._blocked = blocked
