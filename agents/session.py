"""The thread that reads the host's queue of the feed and turns its messages into events.

The queue is durable and keeps its bindings while the agent is away, so at every connect the thread first looks whether
it is still there. If it is not, the thread declares it anew and says so (`FeedUp.fresh`): all subscriptions are
gone with the old one. Messages are acknowledged once the reactor has worked them off (`took`), and the broker sends no
more than `PREFETCH` ahead of that, nor is more read than `MOST` bytes: what a busy agent does not get to waits in its
queue, which is bounded. Whatever gets lost between here and Open vSwitch is healed by versions. A message that cannot
be read is counted and dropped, and heals likewise; the log says so every `TELL` seconds at most, for controllers may be
newer than this agent for days. Whatever the broker sends that is no AMQP ends the connection, never the thread: py-amqp
raises many things then.

Reconnecting takes a growing pause of at most 1.2 s: a broker that was away for long is used again within two seconds,
and because every pause is scattered by half, all hosts come spread over about one. A refused attempt costs a packet
each way, so there is nothing to save by waiting longer. A connection that is cut without a word is noticed by missing
heartbeats, and is dropped without another. The broker may take longer to notice, and would give half of the messages to
the reader of before; so a queue that keeps another reader is deleted and made anew.
"""

import logging
import os
import random
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import amqp

from agents.credit import LOOK, Credit
from selvedge import wire
from selvedge.broker import agent_queue, agent_queue_arguments
from selvedge.messaging import HEARTBEAT, WAIT, connect
from selvedge.tls import Access
from selvedge.topics import Message

LOG = logging.getLogger(__name__)

PREFETCH = 512
"""Messages the broker sends ahead of our acknowledgements."""

BATCH = 256
"""Messages that make one event."""

MOST = 8 << 20
"""Bytes of messages that the reactor has not worked off, at most, besides the last ones read."""

GHOST = 0.5
"""Seconds that the broker has to notice the end of our last connection, or of our last life."""

OVERHEAD = 500
"""What a message weighs besides its body."""

LINGER = 0.1
"""Seconds that an acknowledgement may wait when nothing else happens."""

PAUSES = (0.1, 0.8)
"""Seconds before the first and, doubling, at most before any further attempt to connect; scattered by half."""

TELL = 300.0
"""Seconds between two lines in the log about messages that cannot be read."""


@dataclass(frozen=True)
class FeedUp:
    """Messages will arrive. `fresh`: the queue was made just now, and nothing is bound to it."""

    fresh: bool


@dataclass(frozen=True)
class FeedMessages:
    """Messages, in the order of their arrival."""

    updates: tuple[Message, ...]


@dataclass(frozen=True)
class FeedDown:
    """No messages until the next `FeedUp`, which comes by itself."""

    reason: str


MESSAGE: type[Message] = Message  # type: ignore[assignment]  # a union is no type to mypy, and is one to msgspec

FeedEvent = FeedUp | FeedMessages | FeedDown


@dataclass
class Counters:
    connects: int = 0
    received: int = 0
    bytes: int = 0
    unreadable: int = 0
    ghosts: int = 0
    wakeups: int = 0


class Session(threading.Thread):
    """The consumer of one host's queue."""

    def __init__(
        self, place: str | Access, host: str, events: Callable[[FeedEvent], None], *, heartbeat: int = HEARTBEAT
    ) -> None:
        """`place`: the broker, or oslo.messaging's URL of it. `events` is called here; it neither blocks nor raises."""
        super().__init__(name="feed", daemon=True)
        self._place = place
        self._host = host
        self._heartbeat = heartbeat
        self._queue = agent_queue(host)
        self._events = events
        self._counters = Counters()
        self._stopped = threading.Event()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._credit = Credit(MOST)
        self._arrived: list[Message] = []
        self._weight = 0
        self._last_tag = 0
        self._given: deque[tuple[int, int]] = deque()
        self._cancelled = False
        self._tell_after = 0.0

    @property
    def counters(self) -> dict[str, int]:
        return asdict(self._counters) | {"held_back": self._credit.held_back, "waiting_bytes": self._credit.waiting}

    def took(self, events: int) -> None:
        """The reactor has worked off so many `FeedMessages`."""
        self._credit.take(events)

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
            except Exception as error:  # the broker's answer may be anything, and so is what the library makes of it
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
        connection = connect(self._place, f"selvedge-agent {self._host} feed", heartbeat=self._heartbeat)
        try:
            channel, fresh = self._find_queue(connection)
            channel.basic_qos(0, PREFETCH, False)
            self._cancelled, self._last_tag, self._weight = False, 0, 0
            self._arrived.clear()
            self._given.clear()  # their tags were the last connection's
            channel.basic_consume(self._queue, callback=self._receive, on_cancel=self._cancel)
            self._counters.connects += 1
            LOG.info("feed: reading %s%s", self._queue, ", made anew" if fresh else "")
            self._events(FeedUp(fresh))
            self._read(connection, channel)
        finally:
            connection.collect()  # to say good-bye to who does not answer would take seconds

    def _find_queue(self, connection: amqp.Connection) -> tuple[amqp.Channel, bool]:
        """An open channel, and whether the queue had to be made."""
        channel = connection.channel()
        patience = time.monotonic() + GHOST
        try:
            while channel.queue_declare(self._queue, passive=True).consumer_count:
                if time.monotonic() > patience:
                    LOG.warning(
                        "feed: %s has another reader, who may be gone without a word: making it anew", self._queue
                    )
                    self._counters.ghosts += 1
                    channel.queue_delete(self._queue)
                    break
                self._stopped.wait(0.05)
            else:
                return channel, False
        except amqp.NotFound:  # which closes the channel
            channel = connection.channel()
        channel.queue_declare(self._queue, durable=True, auto_delete=False, arguments=agent_queue_arguments())
        return channel, True

    def _read(self, connection: amqp.Connection, channel: amqp.Channel) -> None:
        socket = _Readable(connection)
        idle, held = select.poll(), select.poll()
        idle.register(connection.sock, select.POLLIN)
        for poll in (idle, held):
            poll.register(self._wake, select.POLLIN)
        tick = time.monotonic()
        holding = False
        while not self._stopped.is_set():
            if self._credit.full:
                self._credit.held_back += not holding
                holding = True
                held.poll(LOOK * 1000)
            else:
                holding = False
                if not socket.now():
                    idle.poll((LINGER if self._given else self._heartbeat / 3) * 1000)
                    self._counters.wakeups += 1
                while len(self._arrived) < BATCH and socket.now():
                    # One frame, whatever it is: drain_events would wait for a method after a mere heartbeat.
                    connection.blocking_read(timeout=WAIT)
            if self._stopped.is_set():
                return  # without acknowledging what nobody took: the next start gets it again
            self._hand_over()
            self._acknowledge(channel)
            if self._cancelled:
                raise amqp.RecoverableConnectionError("the queue was deleted")
            if time.monotonic() - tick > self._heartbeat / 6:
                tick = time.monotonic()
                # Who does not read does not hear the other side's heartbeats either.
                connection.send_heartbeat() if holding else connection.heartbeat_tick(rate=2)

    def _hand_over(self) -> None:
        """What was read becomes one event."""
        if not self._last_tag:
            return
        number = self._credit.gifts
        if self._arrived:
            number = self._credit.give(self._weight)
            self._events(FeedMessages(tuple(self._arrived)))
            self._arrived.clear()
        self._given.append((number, self._last_tag))
        self._last_tag = self._weight = 0

    def _acknowledge(self, channel: amqp.Channel) -> None:
        """Whatever the reactor has worked off by now."""
        tag = 0
        while self._given and self._given[0][0] <= self._credit.taken:
            tag = self._given.popleft()[1]
        if tag:
            channel.basic_ack(tag, multiple=True)

    def _receive(self, message: Any) -> None:
        self._last_tag = message.delivery_tag
        self._counters.received += 1
        body = message.body
        if isinstance(body, str):  # a sender named an encoding, and the library believed it
            body = body.encode(errors="surrogatepass")
        self._counters.bytes += len(body)
        self._weight += len(body) + OVERHEAD
        try:
            self._arrived.append(wire.decode(bytes(body), MESSAGE))
        except wire.Unreadable as error:
            self._unreadable(message.delivery_info.get("routing_key"), error)

    def _unreadable(self, topic: object, error: wire.Unreadable) -> None:
        self._counters.unreadable += 1
        now = time.monotonic()
        if now >= self._tell_after:
            self._tell_after = now + TELL
            count = self._counters.unreadable
            LOG.error("feed: dropped a message of topic %s: %s; %d so far, healed by reports", topic, error, count)

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
