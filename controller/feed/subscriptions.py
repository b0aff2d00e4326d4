"""Binds and unbinds hosts' queues: interest lives on the broker, and only controllers may change it.

One connection, one lock: binding is pipelined (no waiting between bindings, one answer at the end), so a host with a
thousand topics takes one round trip. A connection that has died is found out by using it, and replaced once.
"""

import logging
import threading
from collections.abc import Iterable

import amqp

from selvedge.broker import FEED_EXCHANGE, agent_queue, agent_queue_arguments
from selvedge.messaging import connect
from selvedge.tls import Access

LOG = logging.getLogger(__name__)


class Subscriptions:
    """One per process; any thread."""

    def __init__(self, place: str | Access, name: str) -> None:
        self.bound = 0
        self.unbound = 0
        self._place = place
        self._name = name
        self._lock = threading.Lock()
        self._connection: amqp.Connection | None = None
        self._channel: amqp.Channel | None = None

    def change(self, host: str, topics: Iterable[str], drop: Iterable[str]) -> None:
        """The host's queue exists, is bound to `topics` and is not bound to `drop`, when this returns.

        Raises OSError, amqp.AMQPError when the broker is away.
        """
        wanted = list(topics)
        unwanted = [topic for topic in drop if topic not in wanted]
        with self._lock:
            for attempt in (1, 2):
                channel = self._open()
                try:
                    self._change(channel, agent_queue(host), wanted, unwanted)
                    return
                except (OSError, amqp.AMQPError) as error:
                    self._close()
                    if attempt == 2:
                        raise
                    LOG.debug("subscriptions: connecting anew: %s", error)

    def close(self) -> None:
        with self._lock:
            self._close()

    def _change(self, channel: amqp.Channel, queue: str, topics: list[str], drop: list[str]) -> None:
        arguments = agent_queue_arguments()
        channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments, nowait=True)
        for topic in topics:
            channel.queue_bind(queue, FEED_EXCHANGE, topic, nowait=True)
        for topic in drop:  # AMQP has no unbind without an answer
            channel.queue_unbind(queue, FEED_EXCHANGE, topic)
        # The broker works through a channel in order: when this is answered, all of the above is done.
        channel.queue_declare(queue, passive=True)
        self.bound += len(topics)
        self.unbound += len(drop)

    def _open(self) -> amqp.Channel:
        if self._channel is None:
            # No heartbeats: nobody would send them between two calls. TCP's keep-alive looks after it instead.
            self._connection = connect(self._place, f"{self._name} subscriptions", heartbeat=0)
            self._channel = self._connection.channel()
            self._channel.exchange_declare(FEED_EXCHANGE, "direct", durable=True, auto_delete=False)
        return self._channel

    def _close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            connection.collect()
