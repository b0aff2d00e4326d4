"""The questions an agent asks the controllers: a thread for each kind, so that a large snapshot delays no claim.

`submit` never blocks; the answer comes back as an event. Whatever may pass by itself (no broker, no controller, no
database, a timeout) is tried again here with growing, jittered pauses until it is answered: all calls set states,
and do not count, so repeating them is harmless. What repeating cannot cure comes back as the answer's error. The
pauses stay below 1.5 s, so that everybody is served within two seconds after a broker's return, and no sooner than the
scatter allows. A call that gets no answer has had its pause: it is asked again at once (`agents.patience`).

Calls of one kind are sent in the order of `submit`, one at a time; merging what piles up is the reactor's business,
which has at most one call of a kind under way: the queues here hold no more than that.

oslo.messaging is imported by these threads, while the rest of the agent starts.
"""

import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from oslo_config import cfg

from agents.patience import Patience
from selvedge import rpc, wire

LOG = logging.getLogger(__name__)

Kind = Literal["report", "subscribe", "inspect", "claim", "wired"]
Question = rpc.Report | rpc.Subscribe | rpc.Inspect | rpc.Claim | rpc.Wired
Reply = rpc.ReportReply | rpc.SubscribeReply | rpc.InspectReply | rpc.ClaimReply | rpc.WiredReply

REPLIES: dict[Kind, type[Any]] = {
    "report": rpc.ReportReply,
    "subscribe": rpc.SubscribeReply,
    "inspect": rpc.InspectReply,
    "claim": rpc.ClaimReply,
    "wired": rpc.WiredReply,
}

PAUSES = (0.1, 1.0)
"""Seconds before the first and, doubling, at most before any further attempt; each is scattered by half."""


@dataclass(frozen=True)
class Answer:
    """Exactly one of `reply` and `error` is set. The error is `rpc.Refused` or `wire.Unreadable`."""

    kind: Kind
    request: Question
    reply: Reply | None
    error: Exception | None


@dataclass
class Counters:
    sent: int = 0
    answered: int = 0
    refused: int = 0
    timeouts: int = 0
    retries: int = 0


class Calls:
    """The client side of `selvedge.rpc`. Its threads are daemons: `stop` waits for nobody."""

    def __init__(self, conf: cfg.ConfigOpts, events: Callable[[Answer], None]) -> None:
        """`events` is called in these threads, and must neither block nor raise."""
        self._conf = conf
        self._events = events
        self._counters = Counters()
        self._stopped = threading.Event()
        self._client_lock = threading.Lock()
        self._transport: Any = None
        self._client: Any = None
        self._queues: dict[Kind, queue.SimpleQueue[Question | None]] = {kind: queue.SimpleQueue() for kind in REPLIES}

    def start(self) -> None:
        for kind in REPLIES:
            threading.Thread(target=self._work, args=(kind,), name=f"calls-{kind}", daemon=True).start()

    def stop(self) -> None:
        """No events after this. A call under way is left to itself."""
        self._stopped.set()
        for waiting in self._queues.values():
            waiting.put(None)
        if self._transport is not None:  # closing its connections takes seconds that nobody needs to wait for
            threading.Thread(target=self._transport.cleanup, name="calls-end", daemon=True).start()

    def submit(self, kind: Kind, request: Question) -> None:
        """Send it when its turn comes. Any thread; never blocks."""
        self._queues[kind].put(request)

    @property
    def counters(self) -> dict[str, int]:
        return asdict(self._counters)

    def _connected(self) -> Any:
        """The client that all threads share; the first one pays for the import."""
        with self._client_lock:
            if self._client is None:
                from selvedge.accounts import PROCESS
                from selvedge.messaging import rpc_transport
                from selvedge.transports import AGENT

                state = self._conf.agent.state_dir
                self._transport = rpc_transport(
                    self._conf, self._conf.host, PROCESS, lock_path=state, pool=1, scheme=AGENT
                )
                import oslo_messaging

                target = oslo_messaging.Target(topic=rpc.CONTROLLER_TOPIC, version=rpc.VERSION)
                # Without a controller the call fails at once, instead of by its timeout.
                at_once = oslo_messaging.TransportOptions(at_least_once=True)
                self._client = oslo_messaging.get_rpc_client(
                    self._transport, target, retry=1, transport_options=at_once
                )
            return self._client

    def _work(self, kind: Kind) -> None:
        with contextlib.suppress(OSError):  # state_dir cannot be made: a call finds that too, says so and tries again
            self._connected()
        patience = Patience()
        while (request := self._queues[kind].get()) is not None and not self._stopped.is_set():
            answer = self._insist(kind, request, patience)
            if answer is not None and not self._stopped.is_set():
                self._events(answer)

    def _insist(self, kind: Kind, request: Question, patience: Patience) -> Answer | None:
        """Ask until there is an answer; None when stopped."""
        import oslo_messaging

        text = wire.to_text(wire.encode(request))
        pause, told = PAUSES[0], False
        while not self._stopped.is_set():
            self._counters.sent += 1
            began = time.monotonic()
            try:
                reply = wire.decode(wire.from_text(self._call(kind, text, patience)), REPLIES[kind])
            except (rpc.Refused, wire.Unreadable) as error:
                self._counters.refused += 1
                return Answer(kind, request, None, error)
            except Exception as error:  # whatever a library or a remote side raises, the next attempt may work
                # Once is enough: `calls_retried` in status.json counts on.
                reason = str(error).partition("\n")[0]
                LOG.log(logging.DEBUG if told else logging.WARNING, "%s: no answer, trying again: %s", kind, reason)
                told = True
                self._counters.retries += 1
                if isinstance(error, oslo_messaging.MessagingTimeout):
                    self._counters.timeouts += 1
                    patience.unanswered()
                    continue
            else:
                self._counters.answered += 1
                patience.answered(time.monotonic() - began)
                return Answer(kind, request, reply, None)
            self._stopped.wait(pause * random.uniform(0.5, 1.5))
            pause = min(pause * 2, PAUSES[1])
        return None

    def _call(self, kind: Kind, text: str, patience: Patience) -> Any:
        """Ask once. Raises what the library does."""
        client = self._connected().prepare(timeout=patience.timeout, call_monitor_timeout=patience.monitor)
        return client.call({}, kind, request=text)
