"""The agent's mind: events in, effects out, no I/O, no thread, no clock.

`step` takes everything that has piled up, makes it facts of the engine, and yields what has to be done: calls to the
controllers, a transaction for Open vSwitch's database, a batch for the switch. Effects come as soon as they are
known, so that a controller reads a snapshot while flows are still being compiled. No event writes a flow: flows are
the engine's function of the facts, the programmer sends the difference.

Nothing is sent to the switch before the agent knows all it should: what is plugged (the database is loaded) and what
that means (every needed topic was answered). Until then the flows of a former life stay as they are. When no controller
answers, what a former life knew has to do (`agents.headless`).

What goes in and comes out is declared in `agents.effects`. Which security is in force is decided by
`agents.enforcement`. What a port is at the moment, and why, is said by `agents.conditions` and kept by `agents.states`;
what others were told of it is kept by `agents.wiring`. Who runs this: `agents.reactor`. What people see of it:
`agents.report`, and in the log `agents.news`.
"""

import logging
from collections.abc import Iterable, Iterator
from functools import partial

from agents import bridge, report
from agents.audits import Audits
from agents.calls import Answer
from agents.checks import Checks
from agents.conditions import Conditions, Settings, named
from agents.effects import Announce, Call, Effect, Event, Remember, Submit, Warm
from agents.enforcement import Enforcement
from agents.flapping import Flapping
from agents.headless import Headless
from agents.inventory import Inventory, Plugged, Role, facts_of
from agents.news import News
from agents.ovsdb import DatabaseEvent, DatabaseLost, Loaded, Transacted, Updated
from agents.refusals import Refusals
from agents.remembered import Memory
from agents.reports import Reports
from agents.session import FeedDown, FeedMessages, FeedUp
from agents.states import States
from agents.topics import Change, Topics
from agents.upkeep import Upkeep
from agents.wiring import Claims, Wiring
from openflow.batch import Audited, Confirmed, Connected, Disconnected, Flush, Flushed, Rejected, SwitchEvent, Trouble
from openflow.facts import Self
from openflow.incremental import Engine
from openflow.programmer import STALE_FLOWS, Programmer
from selvedge.rpc import Claim, ClaimReply, Report, ReportReply, Subscribe, SubscribeReply, Wired, WiredReply
from selvedge.topics import Check, Update, host_topic
from selvedge.topology import Binding, Endpoint, Object, Segment

LOG = logging.getLogger(__name__)

CLAIM_RETRY = 0.5
"""Seconds until a refused claim is repeated, doubling until reports do it: a VM that moves is often plugged here before
the controllers know that it was unplugged there."""


class Core:
    """All state of the agent. One thread calls it; `agents.report` reads it."""

    def __init__(self, settings: Settings, now: float, memory: Memory | None = None) -> None:
        self.settings = settings
        self.inventory = Inventory(settings.integration_bridge, Flapping())
        self.engine = Engine()
        self.programmer = Programmer(settings.keep_foreign)
        self.topics = Topics()
        self.headless = Headless(memory, settings.host, self.topics, now)
        self.wiring = Wiring()
        self.claims = Claims()
        self.bindings: dict[str, Binding] = {}
        self.enforcement = Enforcement(settings.host, self.topics, self.engine)
        self.refusals = Refusals()
        self.troubles: dict[str, str] = {}
        """What else an operator should know: source -> text."""
        self._news = News()
        names = partial(report.objects, self)
        self.audits = Audits(settings.host, settings.audit_interval, self.programmer, self._news, names)
        self.checks = Checks(settings.host, self.topics, self.engine, self.programmer, self.audits)
        self.conditions = Conditions(
            settings,
            inventory=self.inventory,
            engine=self.engine,
            programmer=self.programmer,
            news=self._news,
            enforcement=self.enforcement,
        )
        self.states = States(
            self.bindings,
            conditions=self.conditions,
            news=self._news,
            inventory=self.inventory,
            wiring=self.wiring,
            claims=self.claims,
        )
        self.settled = False
        """Whether the agent was in sync once: from then on the controllers are told what ports are."""
        wanted = bridge.Wanted(
            settings.integration_bridge,
            settings.datapath_type,
            settings.tunnel_ip,
            settings.tunnel_types,
            settings.bridge_mappings,
        )
        self.upkeep = Upkeep(self.inventory, self.enforcement.zones, wanted, self._news)
        self._loaded = self._feed_up = self._released = False
        self._reports = Reports(settings.host, settings.report_interval, now)
        self._subscribe_after = 0.0
        self._strict = False
        self._connection: int | None = None
        self._failed: dict[tuple[object, ...], str] = {}
        self._peers: frozenset[str] = frozenset()
        self._warm_again = False
        self._claim_pause = CLAIM_RETRY
        self._claim_due: float | None = None
        self.engine.apply([Self(settings.host, settings.tunnel_ip)])
        if memory is not None:
            self._apply(self.topics.restore(memory.snapshots))

    # --- in

    def step(self, events: Iterable[Event], now: float) -> Iterator[Effect]:
        """Take events in their order, then do what is due at `now`. The caller must exhaust the iterator."""
        for event in events:
            self._take(event, now)
        self._plugs(self.inventory.steady(now))
        if self._loaded and not self._released:
            self.headless.consider(now)
        self._enforce(now)
        if ((records := self.topics.history()) or self.headless.news()) and self.headless.keeping:
            yield Remember(records)  # before anything follows from it
        yield from self._ask(now)
        yield from self.upkeep.transactions(now)
        self._compile()
        self._judge()
        yield from self._program(now)
        if self._peers != (peers := frozenset(self.engine.peers)) or (self._warm_again and peers):
            self._peers = peers
            yield Warm(peers, self._warm_again)
        self._warm_again = False
        if not self.settled and self.in_sync:
            self.settled = True
            self.states.recheck_all()
            self._judge()
            self.states.here_before()
            self.headless.settled()
            yield Remember(())
        if self.settled and (packets := tuple(self.states.announcements(self.engine))):
            yield Announce(packets)
        yield from self._tell()
        yield from self.checks.effects(now, reachable=self._may_subscribe, settled=self.settled)
        if self.checks.untold:
            self._reports.at_once(now)
        self._news.tell()

    def deadline(self) -> float | None:
        """When `step` has something to do even if nothing happens; None: never."""
        times = [self._reports.due, self._claim_due, self.upkeep.deadline(), self.enforcement.deadline()]
        times += [self.programmer.next_retry(), self.inventory.deadline(), self.checks.deadline()]
        if self._loaded and not self._released:
            times.append(self.headless.deadline())
        if self._connection is not None:
            times.append(self.enforcement.zones.deadline())
        if self._may_subscribe and (due := self.topics.deadline()) is not None:
            times.append(max(due, self._subscribe_after))
        return min((time for time in times if time is not None), default=None)

    @property
    def in_sync(self) -> bool:
        """Everything that this host should know is known, and the switch has it."""
        return self._released and self.topics.synced and self.programmer.synced

    def failed_owners(self) -> list[str]:
        """Whose flows are missing, and why, one line each."""
        refused: dict[object, str] = {
            owner: ", ".join(sorted({str(refusal) for refusal in failure.refusals.values()}))
            for owner, failure in self.programmer.failed.items()
        }
        return [f"{named(owner)}: {reason}" for owner, reason in (self._failed | refused).items()]

    def _take(self, event: Event | Update, now: float) -> None:
        match event:
            case FeedMessages(messages):
                for message in messages:
                    self._take(message, now)
            case Update():
                self._apply(self.topics.update(event, now))
            case Check():
                self.checks.asked(event)
            case FeedUp(fresh):
                self._feed_up = True
                self._reports.feed_up(now)
                if fresh:
                    self.topics.lost()
            case FeedDown():
                self._feed_up = False
            case Answer():
                self._answer(event, now)
            case Loaded() | Updated() | Transacted() | DatabaseLost():
                self._take_from_database(event, now)
            case _:
                self._take_from_switch(event, now)

    def _take_from_database(self, event: DatabaseEvent, now: float) -> None:
        match event:
            case Updated(rows):
                self._plugs(self.inventory.update(rows, now))
                self.upkeep.heard()
            case Loaded(rows):
                self._loaded = True
                self._plugs(self.inventory.load(rows, now))
                self.upkeep.heard()
            case DatabaseLost():
                self.upkeep.lost()
            case Transacted():
                self.upkeep.done(event, now)

    def _take_from_switch(self, event: SwitchEvent, now: float) -> None:
        match event:
            case Confirmed(batch_id):
                self._confirmed(batch_id, now)
            case Rejected():
                self._rejected(event, now)
            case Connected():
                LOG.info("switch: connected; it has %d flows of ours", len(event.flows))
                self._connection = event.connection
                self.audits.connected(event, now)
                self.troubles.pop("switch", None)  # if it stands, it is told again
                self.states.recheck_all()
                self._warm_again = True
            case Disconnected(reason):
                LOG.warning("switch: %s", reason)
                self._connection = None
                self.programmer.disconnected()
                self.enforcement.zones.lost()
                self.states.lost()
            case Audited():
                self.checks.audited(event, now)
            case Flushed(zones):
                self.enforcement.zones.flushed(zones)
            case Trouble(text):
                LOG.error("switch: %s", text)
                self.troubles["switch"] = text

    # --- facts

    def _apply(self, change: Change) -> None:
        """Objects of topics are facts as they are; a Binding is our own business besides."""
        if not change:
            return
        self.engine.apply(change.upserts, change.deletes)
        self.checks.touched(change)
        self.enforcement.changed(change.upserts, change.deletes)
        for thing in change.upserts:
            self._upserted(thing)
        for name in change.deletes:
            if name.kind == "binding" and name.id in self.bindings:  # two topics may have told of it
                self._unbind(name.id)
            elif name.kind == "endpoint":
                self.states.recheck((name.id,))

    def _upserted(self, thing: Object) -> None:
        if isinstance(thing, Endpoint):
            self.states.recheck((thing.id,))
        elif isinstance(thing, Segment):
            self.states.recheck_all()
        elif isinstance(thing, Binding):
            if thing.id not in self.bindings:
                self.wiring.bind(thing.id, "unplugged" if self.settled else None)
                self.claims.bound(thing.id)
            self.bindings[thing.id] = thing
            self.enforcement.bind(thing)
            self.states.recheck((thing.id,))

    def _unbind(self, port: str) -> None:
        del self.bindings[port]
        self.enforcement.unbind(port)
        self.states.forget(port)
        self.wiring.forget(port)
        if Role("port", port) in self.inventory.roles:
            self.claims.unbound(port)

    def _enforce(self, now: float) -> None:
        """What security follows from all that came; and what this host has to know besides."""
        upserts, deletes, ports = self.enforcement.step(now)
        self.engine.apply(upserts, deletes)
        self.states.recheck(ports)
        if (topics := self.enforcement.interest()) is not None:
            self._apply(self.topics.set_interest(topics))

    def _plugs(self, changed: dict[Role, Plugged | None]) -> None:
        self.engine.apply(*facts_of(changed))
        for role, plugged in changed.items():
            if role.kind == "port":
                self.states.recheck((role.id,))
                self._plugged(role.id, plugged)
                self._claim_pause = CLAIM_RETRY
            else:
                self.states.recheck_all()

    def _plugged(self, port: str, plugged: Plugged | None) -> None:
        if plugged is None:
            self.claims.unplugged(port)
            return
        if plugged.others:
            self._news.add(logging.WARNING, "ports with several interfaces", f"{port}: {plugged.contest}")
        if plugged.ofport == 0 and plugged.error is not None:
            self._news.add(logging.ERROR, "ports that cannot work", f"{port}: {plugged.interface}: {plugged.error}")
        elif port not in self.bindings:
            self.claims.plugged(port)

    # --- the switch

    def _compile(self) -> None:
        """Nothing is compiled before all is known: what comes in pieces would be compiled piece by piece."""
        known = (self._reports.answered and self.topics.synced) or self.topics.relying
        if not (known and self._loaded and not self.enforcement.zones.writing) and not self._released:
            return
        delta = self.engine.recompute()
        if delta:
            self.programmer.change(delta.flows, delta.groups, delta.owners)
        failed = self.conditions.refused()
        if failed != self._failed:
            for owner in failed.keys() - self._failed.keys():
                self._news.add(logging.ERROR, "no flows for", f"{named(owner)}: {failed[owner]}")
            self._failed = failed
            self.states.recheck_all()
        if not self._released:
            self._released = True
            self.programmer.release()

    def _program(self, now: float) -> Iterator[Effect]:
        """Send what is pending; and empty the zones that nothing leads into any more."""
        zones = self.enforcement.zones
        if (batch := self.programmer.next_batch(now)) is not None:
            self.states.departs()
            zones.departs(batch.id)
            yield Submit(batch)
        if not self.settled and self.in_sync:
            zones.sweep()  # it is known who is bound, and what the switch had for others is gone
        if zones.leaving and self.programmer.synced and not self.programmer.pending(STALE_FLOWS):
            zones.withdrawn(None, now)
        if self._connection is not None and (numbers := zones.flush(now)):
            yield Submit(Flush(self._connection, numbers))

    def _confirmed(self, batch_id: int, now: float) -> None:
        self.programmer.confirmed(batch_id)
        self.states.confirmed(whole=not self._strict)
        if not self._strict and STALE_FLOWS not in self.programmer.failed:
            self.enforcement.zones.withdrawn(batch_id, now)
        if self._strict and self.programmer.synced:
            self._strict = False

    def _rejected(self, event: Rejected, now: float) -> None:
        self.states.lost()
        self.enforcement.zones.undone()
        for owner in self.programmer.rejected(event, now):
            failure = self.programmer.failed[owner]
            reasons = sorted({str(refusal) for refusal in failure.refusals.values()})
            level = logging.ERROR if failure.attempts == 1 else logging.DEBUG
            what = "the switch refused flows, which are tried again, of"
            self._news.add(level, what, f"{named(owner)}: {', '.join(reasons)}")
        self.states.recheck_all()
        if not event.failures:
            self._strict = True  # nobody knows who is at fault: batches are parts of what is pending for a while

    def _judge(self) -> None:
        """Find anew what ports are."""
        if self.conditions.problems != self.upkeep.problems:
            self.conditions.problems = self.upkeep.problems
            self.states.recheck_all()
        if self.settled or self.topics.relying:
            self.states.judge()

    # --- the controllers

    @property
    def _may_subscribe(self) -> bool:
        return self._feed_up and self._reports.answered

    def _ask(self, now: float) -> Iterator[Effect]:
        """Report, subscribe, claim: what can be asked before anything is compiled."""
        if self._reports.due is not None and self._reports.due <= now:
            self._reports.sent()
            self.checks.untold = False
            yield Call("report", report.report(self))
        if self._may_subscribe and now >= self._subscribe_after and (request := self.topics.request(now)) is not None:
            yield Call("subscribe", Subscribe(self.settings.host, request.topics, request.drop))
        if self._claim_due is not None and self._claim_due <= now:
            self._claim_due = None
            self._offer(self.claims.again(unbound=False))
        if self.topics[host_topic(self.settings.host)].synced and (ports := self.claims.request()) is not None:
            yield Call("claim", Claim(self.settings.host, ports))

    def _tell(self) -> Iterator[Effect]:
        if self.settled and (states := self.wiring.request()) is not None:
            yield Call("wired", Wired(self.settings.host, **states))

    def _answer(self, answer: Answer, now: float) -> None:
        self.refusals.heard(answer)
        self.headless.answered(now)
        reply = answer.reply
        match answer.kind:
            case "report":
                self._report_answered(answer, now)
            case "subscribe" if isinstance(reply, SubscribeReply):
                self._apply(self.topics.answer(reply, now))
            case "subscribe":
                self.topics.failed()
                self._subscribe_after = now + self.refusals.pause("subscribe")
            case "inspect":
                self.checks.inspected(answer)
            case "claim":
                self._claims_answered(reply.results if isinstance(reply, ClaimReply) else {}, now)
            case "wired":
                if isinstance(reply, WiredReply) and reply.ignored:
                    for port in reply.ignored:
                        self._news.add(logging.INFO, "not bound to this host any more", port)
                self.wiring.answered(refused=reply is None)

    def _report_answered(self, answer: Answer, now: float) -> None:
        if not isinstance(answer.reply, ReportReply) or not isinstance(answer.request, Report):
            self._reports.refused(now, self.refusals.pause("report"))
            return
        self._reports.done(answer.request.topics, self.topics.versions(), now)
        self.topics.suspect(answer.request.topics, answer.reply.stale, now)
        if not answer.reply.stale and self.settled:
            self.headless.confirmed()
        self.wiring.retry()
        if answer.reply.restate:
            self.wiring.restate()
        self._offer(self.claims.again(unbound=True))

    def _offer(self, ports: Iterable[str]) -> None:
        """Claim these ports again, if they are still plugged and not bound."""
        for port in ports:
            if port not in self.bindings and Role("port", port) in self.inventory.roles:
                self._plugged(port, self.inventory.roles[Role("port", port)])

    def _claims_answered(self, results: dict[str, str], now: float) -> None:
        news = self.claims.answered(results)
        if self.claims.refused and self._claim_pause < self.settings.report_interval:
            self._claim_due, self._claim_pause = now + self._claim_pause, self._claim_pause * 2
        for port, result in sorted(results.items()):
            if result != "claimed" and port in news:
                self._news.add(logging.INFO, f"plugged here, and the controllers say {result}", port)
            elif port in self.bindings:  # the binding overtook the answer
                self.states.recheck((port,))
