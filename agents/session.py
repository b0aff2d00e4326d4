"""The thread that reads the host's queue of the feed and turns its messages into events.

The queue is durable and keeps its bindings while the agent is away, so at every connect the thread first looks whether
it is still there. If it is not, the thread declares it anew and says so (`FeedUp.fresh`): all subscriptions are
gone with the old one. Messages are acknowledged once the reactor has them; whatever gets lost between there and Open
vSwitch is healed by versions. While the reactor has much before it (`agents.inbox`) nothing more is read: what waits,
waits at the broker. A message that cannot be read is counted, logged and dropped, and heals likewise.

Reconnecting takes a jittered, growing pause, so that a restarted broker is not met by all hosts at once.
"""

import logging
import os
import random
import select
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import amqp

from selvedge import wire
from selvedge.broker import agent_queue, agent_queue_arguments
from selvedge.messaging import HEARTBEAT, WAIT, connect
from selvedge.topics import Update

LOG = logging.getLogger(__name__)

PREFETCH = 1000
"""Messages the broker sends ahead of our acknowledgements."""

BATCH = 256
"""Messages that make one event and one acknowledgement."""

REST = 0.02
"""Seconds between two looks whether there is room again."""

PAUSES = (0.1, 5.0)
"""Seconds before the first and, doubling, at most before any further attempt to connect; scattered by half."""


@dataclass(frozen=True)
class FeedUp:
    """Messages will arrive. `fresh`: the queue was made just now, and nothing is bound to it."""

    fresh: bool


@dataclass(frozen=True)
class FeedMessages:
    """Updates, in the order of their arrival."""

    updates: tuple[Update, ...]


@dataclass(frozen=True)
class FeedDown:
    """No messages until the next `FeedUp`, which comes by itself."""

    reason: str


FeedEvent = FeedUp | FeedMessages | FeedDown


@dataclass
class Counters:
    connects: int = 0
    received: int = 0
    bytes: int = 0
    unreadable: int = 0
    wakeups: int = 0
    pauses: int = 0


class Session(threading.Thread):
    """The consumer of one host's queue."""

    def __init__(
        self, url: str, host: str, events: Callable[[FeedEvent], None], full: Callable[[], bool] = lambda: False
    ) -> None:
        """`url`: oslo.messaging's transport URL. `events` is called here, and must neither block nor raise. `full`:
        whether whoever takes them has enough for now."""
        super().__init__(name="feed", daemon=True)
        self._url = url
        self._host = host
        self._queue = agent_queue(host)
        self._events = events
        self._full = full
        self._counters = Counters()
        self._stopped = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._arrived: list[Update] = []
        self._last_tag = 0
        self._cancelled = False

    @property
    def counters(self) -> dict[str, int]:
        return asdict(self._counters)

    def stop(self) -> None:
        """Ends the thread; no events after this. One that is just connecting ends a little later."""
        self._stopped.set()
        os.eventfd_write(self._wake, 1)
        self.join(1.0)

    def run(self) -> None:
        pause = PAUSES[0]
        told = False
        while not self._stopped.is_set():
            connects = self._counters.connects
            try:
                self._serve()
            except (OSError, amqp.AMQPError) as error:
                reason = f"{type(error).__name__}: {error}"
                if self._counters.connects > connects:
                    pause, told = PAUSES[0], False
                    if not self._stopped.is_set():
                        self._events(FeedDown(reason))
                # Once is enough: the following attempts fail for the same reason.
                LOG.log(logging.DEBUG if told else logging.WARNING, "feed: no broker, trying again: %s", reason)
                told = True
                self._stopped.wait(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, PAUSES[1])

    def _serve(self) -> None:
        """One connection, from its begin to its end. Returns when stopped; raises OSError, amqp.AMQPError."""
        connection = connect(self._url, f"selvedge-agent {self._host} feed")
        try:
            channel, fresh = self._find_queue(connection)
            channel.basic_qos(0, PREFETCH, False)
            self._cancelled, self._last_tag = False, 0
            self._arrived.clear()
            channel.basic_consume(self._queue, callback=self._receive, on_cancel=self._cancel)
            self._counters.connects += 1
            LOG.info("feed: reading %s%s", self._queue, ", made anew" if fresh else "")
            self._events(FeedUp(fresh))
            self._read(connection, channel)
        finally:
            try:
                connection.collect() if self._stopped.is_set() else connection.close()
            except (OSError, amqp.AMQPError):
                connection.collect()

    def _find_queue(self, connection: amqp.Connection) -> tuple[amqp.Channel, bool]:
        """An open channel, and whether the queue had to be made."""
        channel = connection.channel()
        try:
            channel.queue_declare(self._queue, passive=True)
        except amqp.NotFound:  # which closes the channel
            channel = connection.channel()
            channel.queue_declare(self._queue, durable=True, auto_delete=False, arguments=agent_queue_arguments())
            return channel, True
        return channel, False

    def _read(self, connection: amqp.Connection, channel: amqp.Channel) -> None:
        socket = _Readable(connection)
        idle = select.poll()
        idle.register(connection.sock, select.POLLIN)
        idle.register(self._wake, select.POLLIN)
        tick = time.monotonic()
        while not self._stopped.is_set():
            if self._full():
                self._rest(connection)
            if not socket.now():
                idle.poll(HEARTBEAT / 3 * 1000)
                self._counters.wakeups += 1
            while len(self._arrived) < BATCH and socket.now():
                # One frame, whatever it is: drain_events would wait for a method after a mere heartbeat.
                connection.blocking_read(timeout=WAIT)
            if self._stopped.is_set():
                return  # without acknowledging what nobody took: the next start gets it again
            if self._last_tag:
                if self._arrived:
                    self._events(FeedMessages(tuple(self._arrived)))
                    self._arrived.clear()
                channel.basic_ack(self._last_tag, multiple=True)
                self._last_tag = 0
            if self._cancelled:
                raise amqp.RecoverableConnectionError("the queue was deleted")
            if time.monotonic() - tick > HEARTBEAT / 6:
                tick = time.monotonic()
                connection.heartbeat_tick(rate=2)

    def _rest(self, connection: amqp.Connection) -> None:
        """Read nothing until there is room again, and let the broker know that we live."""
        self._counters.pauses += 1
        tick = time.monotonic()
        while self._full() and not self._stopped.wait(REST):
            if time.monotonic() - tick > HEARTBEAT / 6:
                tick = time.monotonic()
                connection.send_heartbeat()

    def _receive(self, message: Any) -> None:
        self._last_tag = message.delivery_tag
        self._counters.received += 1
        self._counters.bytes += len(message.body)
        try:
            self._arrived.append(wire.decode(bytes(message.body), Update))
        except wire.Unreadable as error:
            self._counters.unreadable += 1
            LOG.error("feed: dropped a message of topic %s: %s", message.delivery_info["routing_key"], error)

    def _cancel(self, tag: str) -> None:
        self._cancelled = True


class _Readable:
    """Whether a read would not wait: bytes in the kernel, or decrypted ones in the TLS layer."""

    def __init__(self, connection: amqp.Connection) -> None:
        self._pending = getattr(connection.sock, "pending", None)
        self._poll = select.poll()
        self._poll.register(connection.sock, select.POLLIN)

    def now(self) -> bool:
        return bool(self._poll.poll(0)) or bool(self._pending and self._pending())
