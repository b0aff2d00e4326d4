"""The agents' calls: `report`, `subscribe`, `inspect`, `claim` and `wired` of `selvedge.rpc`, answered from the store.

Any controller answers any host. What an agent sends is decoded by type and checked for size before anything happens;
nonsense raises `Refused` at the caller. Anything else that goes wrong here reaches the caller as a remote error, and
the agent tries again: all calls set states.
"""

import ipaddress
import logging
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import amqp
import msgspec
from oslo_config import cfg

from controller.feed.callers import Callers
from controller.feed.outbox import Outbox
from controller.feed.subscriptions import Subscriptions
from controller.store import agents, bindings, topology
from controller.store.engine import Contention, DatabaseAway, Store
from selvedge import rpc, wire
from selvedge.messaging import rpc_transport
from selvedge.topics import Snapshot
from selvedge.transports import ACCOUNT

LOG = logging.getLogger(__name__)

Context = Mapping[str, Any]
"""What a call brings beside its arguments; `ACCOUNT` is the only thing in it that is believed."""

Question = TypeVar("Question", rpc.Report, rpc.Subscribe, rpc.Inspect, rpc.Claim, rpc.Wired)

_HOST = re.compile(r"[A-Za-z0-9._-]{1,200}")
_TOPIC = re.compile(r"hosts|host/[A-Za-z0-9._-]{1,200}|(segment|group|members|addresses)/[A-Za-z0-9-]{1,64}")

RETRY = 5.0
"""Seconds until the next attempt, if the broker refuses what the server declares."""

MOST = 100_000
"""Ports or topics in one call."""

LONGEST_TIME = 32
"""Characters of `started_at`, as the database keeps them."""

LARGEST_SAID = 1 << 20
"""Bytes of what an agent may say of itself in a report; it is kept, and shown in the list of agents."""


class Calls:
    """What the calls do. Any thread."""

    def __init__(self, store: Store, outbox: Outbox, subscriptions: Subscriptions) -> None:
        self._store = store
        self._outbox = outbox
        self._subscriptions = subscriptions

    def report(self, request: rpc.Report) -> rpc.ReportReply:
        self._store.transaction(lambda transaction: agents.report(transaction, request, self._outbox.record))

        def read(conn: Any) -> rpc.ReportReply:
            newest = topology.versions(conn, request.topics)
            stale = sorted(name for name, version in request.topics.items() if newest.get(name, 0) != version)
            told = request.active
            return rpc.ReportReply(tuple(stale), told is not None and told != bindings.active(conn, request.host))

        return self._store.read(read)

    def subscribe(self, request: rpc.Subscribe) -> rpc.SubscribeReply:
        # First bind, then read: a change is either in what is read, or is published after the queue is bound.
        self._subscriptions.change(request.host, request.topics, request.drop)

        def read(conn: Any) -> tuple[Snapshot, ...]:
            newest = topology.versions(conn, request.topics)
            changed = [name for name, known in request.topics.items() if newest.get(name, 0) != known]
            return topology.snapshots(conn, changed) if changed else ()

        return rpc.SubscribeReply(self._store.read(read) if request.topics else ())

    def inspect(self, request: rpc.Inspect) -> rpc.InspectReply:
        return rpc.InspectReply(self._store.read(lambda conn: topology.snapshots(conn, request.topics)))

    def claim(self, request: rpc.Claim) -> rpc.ClaimReply:
        record = self._outbox.record
        return rpc.ClaimReply(
            self._store.transaction(
                lambda transaction: bindings.claim(transaction, request.host, request.ports, record),
            )
        )

    def wired(self, request: rpc.Wired) -> rpc.WiredReply:
        return rpc.WiredReply(
            self._store.transaction(lambda transaction: bindings.wired(transaction, request, self._outbox.record))
        )


@dataclass
class Counters:
    refused: int = 0
    failed: int = 0
    answered: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))


class Endpoint:
    """What oslo.messaging dispatches to: text in, text out."""

    def __init__(self, calls: Calls, counters: Counters, callers: Callers) -> None:
        import oslo_messaging

        self.target = oslo_messaging.Target(version=rpc.VERSION)
        self._calls = calls
        self._counters = counters
        self._callers = callers
        # "Expected" only means that the library does not log it a second time.
        expected = oslo_messaging.expected_exceptions(Exception)
        self._answer: Callable[[str, type[Any], str, Context], str] = expected(self._logged)

    def report(self, context: Context, request: str) -> str:
        return self._answer("report", rpc.Report, request, context)

    def subscribe(self, context: Context, request: str) -> str:
        return self._answer("subscribe", rpc.Subscribe, request, context)

    def inspect(self, context: Context, request: str) -> str:
        return self._answer("inspect", rpc.Inspect, request, context)

    def claim(self, context: Context, request: str) -> str:
        return self._answer("claim", rpc.Claim, request, context)

    def wired(self, context: Context, request: str) -> str:
        return self._answer("wired", rpc.Wired, request, context)

    def wake(self, context: Context) -> None:
        """Does nothing: see `Server.stop`."""

    def nonsense(self, context: Context, reason: str) -> None:
        """What `selvedge.transports` makes of a message that is no call to answer."""
        self._callers.counters.nonsense += 1
        LOG.warning("dropped a message of broker account %.250r: %.150s", context.get(ACCOUNT), reason)

    def _logged(self, method: str, form: type[Question], text: str, context: Context) -> str:
        try:
            return self._timed(method, form, text, context)
        except rpc.Refused as error:
            self._counters.refused += 1
            LOG.warning("refused a call of %s: %s", method, error)
            raise
        except (DatabaseAway, Contention, OSError, amqp.AMQPError) as error:
            self._counters.failed += 1
            LOG.warning("%s failed, the agent will try again: %s: %s", method, type(error).__name__, error)
            raise
        except Exception:
            self._counters.failed += 1
            LOG.exception("a defect in %s; the agent will try again", method)
            raise

    def _timed(self, method: str, form: type[Question], text: str, context: Context) -> str:
        began = time.perf_counter()
        try:
            request = wire.decode(wire.from_text(text), form)
        except wire.Unreadable as error:
            raise rpc.Refused(str(error)) from error
        check(request)
        self._callers.check(context, request.host, getattr(request, "topics", ()))
        answer = wire.to_text(wire.encode(getattr(self._calls, method)(request)))
        self._counters.answered[method] += 1
        self._counters.seconds[method] += time.perf_counter() - began
        return answer


def check(request: rpc.Report | rpc.Subscribe | rpc.Inspect | rpc.Claim | rpc.Wired) -> None:
    """Raises Refused for what no agent of ours would send."""
    if not _HOST.fullmatch(request.host):
        raise rpc.Refused(f"{request.host[:50]!r} is not a host's name")
    topics: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    match request:
        case rpc.Subscribe():
            topics = (*request.topics, *request.drop)
        case rpc.Inspect():
            topics = request.topics
        case rpc.Report():
            topics = tuple(request.topics)
            _check_said(request)
        case rpc.Claim():
            ports = request.ports
        case rpc.Wired():
            ports = (*request.up, *request.down, *request.unplugged)
    if (count := len(topics) + len(ports)) > MOST:
        raise rpc.Refused(f"{count} names in one call; {MOST} are the most")
    for form, names, what in ((_TOPIC, topics, "topic"), (rpc.PORT, ports, "port's id")):
        if (wrong := next((name for name in names if not form.fullmatch(name)), None)) is not None:
            raise rpc.Refused(f"{wrong[:50]!r} is not a {what}")


def _check_said(report: rpc.Report) -> None:
    """What a report leaves in the database, and every host and client of the API gets to see."""
    if report.tunnel_ip is not None:
        try:
            sound = str(ipaddress.ip_address(report.tunnel_ip)) == report.tunnel_ip and "%" not in report.tunnel_ip
        except ValueError:
            sound = False
        if not sound:
            raise rpc.Refused(f"{report.tunnel_ip[:50]!r} is not the address of a tunnel end point")
    said = msgspec.json.encode((report.configurations, report.started_at))
    if len(said) > LARGEST_SAID:
        raise rpc.Refused(f"configurations of {len(said)} bytes; {LARGEST_SAID} are the most")
    if len(report.started_at) > LONGEST_TIME:
        raise rpc.Refused(f"{report.started_at[:50]!r} is not a time")
    if b"\\u0000" in said:
        raise rpc.Refused("there is a NUL in a report, which no database keeps")


class Server:
    """oslo.messaging's server for one process. All controllers take calls from one queue."""

    def __init__(self, conf: cfg.ConfigOpts, calls: Calls, name: str) -> None:
        self.counters = Counters()
        self.callers = Callers(conf.agents.accounts)
        self._conf = conf
        self._calls = calls
        self._name = name
        self._stopping = threading.Event()
        self._transport: Any = None
        self._server: Any = None

    @property
    def listening(self) -> bool:
        """Whether calls are answered here, as far as the broker is there."""
        return self._server is not None

    def start(self) -> None:
        """Begins to answer as soon as the library is loaded and the broker is there; returns at once."""
        threading.Thread(target=self._start, name="rpc-start", daemon=True).start()

    def _start(self) -> None:
        while not self._stopping.is_set():
            try:
                self._transport, self._server = self._listen()
            except Exception as error:  # such as a queue of another version with other properties
                LOG.error("rpc: cannot listen on %s: %s", rpc.CONTROLLER_TOPIC, str(error).partition("\n")[0])
                self._stopping.wait(RETRY)
            else:
                LOG.info("rpc: answering calls on %s", rpc.CONTROLLER_TOPIC)
                return

    def _listen(self) -> tuple[Any, Any]:
        """The transport and the server on it, which answers from now on. Raises what the library does."""
        threads = self._conf.rpc_threads
        transport = rpc_transport(
            self._conf, self._name, "selvedge-controller", pool=max(2, threads // 2), scheme=self.callers.scheme
        )
        import oslo_messaging

        target = oslo_messaging.Target(topic=rpc.CONTROLLER_TOPIC, server=self._name, version=rpc.VERSION)
        endpoint = Endpoint(self._calls, self.counters, self.callers)
        server = oslo_messaging.get_rpc_server(transport, target, [endpoint])
        server.start(override_pool_size=threads)
        return transport, server

    def stop(self, timeout: float = 2.0) -> None:
        """Takes no more calls and finishes those under way, within `timeout` seconds or not at all."""
        self._stopping.set()
        if self._server is None:
            return
        import oslo_messaging

        stopper = threading.Thread(target=self._stop, name="rpc-stop", daemon=True)
        stopper.start()
        deadline = time.monotonic() + timeout
        # The library looks at its stop flag when a message comes, or after five seconds; so a message comes.
        target = oslo_messaging.Target(topic=rpc.CONTROLLER_TOPIC, server=self._name, version=rpc.VERSION)
        client = oslo_messaging.get_rpc_client(self._transport, target, retry=0)
        while stopper.is_alive() and time.monotonic() < deadline:
            try:
                client.cast({}, "wake")
            except Exception as error:
                LOG.debug("rpc: %s", error)
                return
            stopper.join(0.05)

    def _stop(self) -> None:
        self._server.stop()
        self._server.wait()
        self._transport.cleanup()
