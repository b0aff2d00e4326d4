"""Everything of a controller that is not REST, as one thing that starts and stops: publisher, sweeper, calls.

Made in the process that uses it, never before a fork: it has threads and connections.
"""

import os
import socket
from collections.abc import Iterator

from oslo_config import cfg
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.feed.outbox import Outbox
from controller.feed.publisher import Publisher
from controller.feed.rpc import Calls, Server
from controller.feed.subscriptions import Subscriptions
from controller.feed.sweeper import Sweeper
from controller.store.engine import Store
from selvedge.tls import access


class Service:
    """One controller's feed and calls. `outbox.record` is for every transaction that changes topology."""

    def __init__(self, conf: cfg.ConfigOpts, store: Store) -> None:
        name = f"selvedge-controller {socket.gethostname()} {os.getpid()}"
        self.store = store
        place = access(conf)
        self.publisher = Publisher(place, name)
        self.outbox: Outbox = self.publisher.outbox
        self.sweeper = Sweeper(store, self.publisher)
        self.subscriptions = Subscriptions(place, name)
        self.server = Server(conf, Calls(store, self.outbox, self.subscriptions), name.replace(" ", "."))
        self.registry = CollectorRegistry()
        self.registry.register(Metrics(self))

    def start(self) -> None:
        """Returns at once; whatever needs the broker waits for it by itself."""
        self.publisher.start()
        self.sweeper.start()
        self.server.start()

    def stop(self) -> None:
        """Calls first, so that what they commit is still published. Takes seconds at most, and loses nothing."""
        self.server.stop()
        self.publisher.stop()
        self.sweeper.stop()
        self.subscriptions.close()


class Metrics(Collector):
    """Reads the counters when they are asked for; nobody counts twice."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        publisher, calls = self._service.publisher, self._service.server.counters
        counts = publisher.counters
        for name, text, value in (
            (
                "selvedge_feed_handed_over",
                "Messages that transactions and the sweeper gave to the publisher",
                counts.handed_over,
            ),
            ("selvedge_feed_published", "Messages sent to the broker, repeated ones included", counts.published),
            ("selvedge_feed_confirmed", "Messages that the broker confirmed", counts.confirmed),
            ("selvedge_feed_refused", "Messages that the broker refused, and that were sent again", counts.refused),
            ("selvedge_feed_repeated", "Messages sent again after a connection was lost", counts.repeated),
            ("selvedge_feed_held_back", "Messages that waited for their predecessor", counts.held_back),
            ("selvedge_feed_left_to_sweeper", "Messages that exceeded the publisher's memory", counts.left_to_sweeper),
            ("selvedge_feed_connects", "Connections made to the broker", counts.connects),
            ("selvedge_feed_swept", "Messages published for controllers that did not", self._service.sweeper.swept),
            (
                "selvedge_feed_deleted",
                "Rows of the outbox deleted after their confirmation",
                self._service.sweeper.deleted,
            ),
            (
                "selvedge_identities_forgotten",
                "Sets of security groups that no port had any more",
                self._service.sweeper.forgotten,
            ),
            ("selvedge_feed_bound", "Topics bound to hosts' queues", self._service.subscriptions.bound),
            ("selvedge_feed_unbound", "Topics unbound from hosts' queues", self._service.subscriptions.unbound),
            ("selvedge_calls_refused", "Agents' calls that made no sense", calls.refused),
            (
                "selvedge_calls_foreign",
                "Agents' calls for a host that is not their account's",
                self._service.server.callers.counters.foreign,
            ),
            (
                "selvedge_calls_nonsense",
                "Messages among the agents' calls that are none, or want their answer elsewhere",
                self._service.server.callers.counters.nonsense,
            ),
            ("selvedge_calls_failed", "Agents' calls that failed and will be repeated", calls.failed),
            (
                "selvedge_store_refused",
                "Calls told at once that the database is away, as it had not answered the one before",
                self._service.store.fuse.refused,
            ),
            ("selvedge_store_retries", "Transactions that lost a race and ran again", self._service.store.retries),
        ):
            yield CounterMetricFamily(name, text, value=value)
        answered = CounterMetricFamily("selvedge_calls_answered", "Agents' calls answered", labels=["method"])
        seconds = CounterMetricFamily("selvedge_calls_seconds", "Time spent on answered calls", labels=["method"])
        for method, count in dict(calls.answered).items():
            answered.add_metric([method], count)
            seconds.add_metric([method], calls.seconds[method])
        yield answered
        yield seconds
        yield GaugeMetricFamily("selvedge_feed_backlog", "Messages not confirmed yet", value=publisher.backlog)
        yield GaugeMetricFamily(
            "selvedge_feed_connected", "Whether the publisher has a broker", value=publisher.connected
        )
        listening = self._service.server.listening
        yield GaugeMetricFamily("selvedge_calls_listening", "Whether agents' calls are answered here", value=listening)
