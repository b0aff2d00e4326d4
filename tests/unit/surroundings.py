"""Simulated surroundings of the agent's core: a database and a switch, with the `simulated_controller`, all in memory.

`World` keeps one queue per source, in that source's order; who drives it decides which source speaks next, so orders
that are rare in life (a snapshot before the binding it answers, a plug during a reconnect) are as likely as any other.
Nothing here knows how the core works: the oracle is what the switch and the controller have in the end.
"""

from collections import deque
from typing import Any

from agents import remembered
from agents.calls import Answer
from agents.conditions import Settings
from agents.core import Core
from agents.effects import Announce, Call, Event, Remember, Submit, Transact, Warm
from agents.headless import AWAY
from agents.ovsdb import Loaded, Transacted, Updated
from agents.session import FeedDown, FeedMessages, FeedUp
from agents.zones import KEY
from openflow.batch import (
    Audit,
    Audited,
    Batch,
    Confirmed,
    Connected,
    Disconnected,
    Flush,
    Flushed,
    Order,
    Refusal,
    Rejected,
)
from openflow.facts import Fact, Patch, Plug, Posture, Self, TunnelPort, Zone
from openflow.incremental import Engine
from openflow.pipeline import MARKER, Kind, owner_of
from selvedge.topics import HOSTS, addresses_topic, group_topic, host_topic, members_topic, segment_topic
from selvedge.topology import Ref, Rule, Segment
from tests.unit.rows import Rows
from tests.unit.simulated_controller import HERE, SEGMENTS, Controller

__all__ = ["HERE", "SEGMENTS", "SETTINGS", "Controller", "World"]

SETTINGS = Settings(
    host=HERE,
    tunnel_ip="192.0.2.1",
    tunnel_types=("geneve", "vxlan"),
    bridge_mappings={"physnet1": "br-ex"},
    integration_bridge="br-int",
    datapath_type="netdev",
    report_interval=30.0,
    started_at="2026-01-01T00:00:00+00:00",
)
REFUSED = Refusal("OFPBAC_BAD_OUT_PORT", 2, 4)


class FakeSwitch:
    """A flow table of bytes. `refuse` decides what it does not take: a function of a flow."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.flows: dict[bytes, bytes] = {}
        self.cookies: dict[bytes, int] = {}
        """Of every flow that there ever was."""
        self.groups: dict[int, bytes] = {}
        self.connection = 0
        self.batches: list[Batch] = []
        self.refuse: Any = lambda flow: False

    def connect(self) -> None:
        self.connection += 1
        self._world.say("switch", Connected(self.connection, *self.dump()))

    def dump(self) -> tuple[dict[bytes, bytes], dict[int, bytes], dict[bytes, bytes]]:
        """Flows of ours, groups, flows of others."""
        ours = {key: body for key, body in self.flows.items() if body[0] == MARKER}
        return ours, dict(self.groups), {key: body for key, body in self.flows.items() if body[0] != MARKER}

    def restart(self) -> None:
        self.flows.clear()
        self.groups.clear()
        self._world.say("switch", Disconnected("restart"))
        self.connect()

    def submit(self, batch: Order) -> None:
        if batch.connection != self.connection:
            return
        if isinstance(batch, Audit):
            self._world.say("switch", Audited(self.connection, *self.dump()))
            return
        if isinstance(batch, Flush):
            self._world.flush(batch.zones)
            self._world.say("switch", Flushed(batch.zones))
            return
        self.batches.append(batch)
        refused = tuple((flow.key, REFUSED) for flow in batch.flows if self.refuse(flow))
        if refused:
            self._world.say("switch", Rejected(batch.id, refused))
            return
        self.groups |= {group.id: group.body for group in batch.groups}
        for key in (*batch.stale, *batch.foreign):
            self.flows.pop(key, None)
        self.flows |= {flow.key: flow.body for flow in batch.flows}
        self.cookies |= {flow.key: flow.cookie for flow in batch.flows}
        for number in batch.dropped:
            self.groups.pop(number, None)
        self._world.say("switch", Confirmed(batch.id))


class World:
    """Everything around one agent, and the agent's core."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.queues: dict[str, deque[Event]] = {}
        self.rows = Rows()
        self.rows.bridge("br-ex")
        self._seen = self.rows.snapshot()
        self.controller = Controller(self)
        self.switch = FakeSwitch(self)
        self.peers: frozenset[str] = frozenset()
        self.tainted: dict[int, str] = {}
        """Conntrack zones that may have connections, and of which port."""
        self.announced: list[str] = []
        """The MACs of which the agent told the wire that they are here."""
        self.ofports = 10
        self.connected = False
        self.disk = b""
        """The agent's last known topology."""
        self.unanswered: list[Call] | None = None
        """What was asked while no controller is there."""
        self.start()

    def start(self) -> None:
        """The agent (re)starts: what it asked before is nobody's business any more, the broker's queue stays."""
        keep = self.queues.get("feed", deque())
        self.queues.clear()
        self.unanswered = None if self.unanswered is None else []
        self.peers = frozenset()
        self.core = Core(SETTINGS, self.now, remembered.read(self.disk, HERE) if self.disk else None)
        self._seen = self.rows.snapshot()
        self.say("database", Loaded(self.rows.initial()))
        self.say("feed", FeedUp(fresh=not self.controller.bound))
        self.queues["feed"].extend(event for event in keep if isinstance(event, FeedMessages))
        self.switch.connect()
        self.step([])

    def say(self, source: str, event: Event) -> None:
        self.queues.setdefault(source, deque()).append(event)

    # --- what happens outside

    def plug(self, port: str, ofport: int | None = None, **values: Any) -> None:
        self.rows.port("br-int", f"tap-{port}", external_ids={"iface-id": port}, ofport=ofport, **values)
        self.monitor()

    def unplug(self, port: str) -> None:
        self.rows.delete_port(f"tap-{port}")
        self.monitor()

    def plugged(self, port: str) -> bool:
        return any(row["name"] == f"tap-{port}" for row in self.rows.tables["Interface"].values())

    def number(self) -> None:
        """What vswitchd does: every interface gets an OpenFlow port."""
        for row in self.rows.tables["Interface"].values():
            if row["ofport"] is None and not row["error"]:
                self.ofports += 1
                row["ofport"] = self.ofports
        self.monitor()

    def monitor(self) -> None:
        updates = self.rows.updates_since(self._seen)
        self._seen = self.rows.snapshot()
        if updates:
            self.say("database", Updated(updates))

    def feed_breaks(self, fresh: bool) -> None:
        """The broker goes and comes; `fresh`: with it went the queue, what was in it and its bindings."""
        # What the agent's thread has said of the connection is in the agent already: that is not lost.
        said = [event for event in self.queues.get("feed", ()) if not isinstance(event, FeedMessages)]
        self.queues["feed"] = deque(said)
        if fresh:
            self.controller.bound.clear()
        self.say("feed", FeedDown("gone"))
        self.say("feed", FeedUp(fresh))

    def controllers_go(self) -> None:
        """Nobody answers from now on."""
        self.unanswered = self.unanswered or []

    def run_headless(self) -> None:
        """Nobody answers, and the agent begins anew with what it remembers."""
        self.controllers_go()
        self.start()
        for source in ("database", "switch"):
            self.deliver(source, 9)
        self.pause(AWAY)

    def controllers_come(self) -> None:
        """They are back, and are asked all that waits."""
        waiting, self.unanswered = self.unanswered or [], None
        for call in waiting:
            self._perform(call)

    # --- running

    def step(self, events: list[Event]) -> list[Any]:
        effects = []
        for effect in self.core.step(events, self.now):
            if not isinstance(effect, Remember):  # which concerns nobody outside
                effects.append(effect)
            self._perform(effect)
        for port in self.core.bindings:
            zone = self.core.engine.fact(Ref("zone", port))
            if isinstance(zone, Zone):
                owner = self.tainted.setdefault(zone.number, port)
                assert owner == port, f"zone {zone.number} of {port} has connections of {owner}"
        return effects

    def flush(self, zones: tuple[int, ...]) -> None:
        """The switch forgets connections. No flow of the zones' ports may track packets any more."""
        for zone in zones:
            owner = self.tainted.pop(zone, None)
            if owner is not None and owner not in self.core.bindings:
                key = 100 + int(owner[1:])
                left = [
                    flow for flow in self.switch.flows if owner_of(self.switch.cookies[flow]) == (Kind.ENDPOINT, key)
                ]
                assert not [flow for flow in left if flow[0] in (0, 70)], f"flushed before the flows of {owner} went"

    def _perform(self, effect: Any) -> None:
        match effect:
            case Call() if self.unanswered is not None:
                self.unanswered.append(effect)
            case Remember(records) if self.disk:
                self.disk += remembered.tail(records)
            case Remember():
                self.disk = remembered.base(HERE, self.core.topics.snapshots())
            case Call(kind, request):
                self.say(kind, Answer(kind, request, self.controller.call(request), None))
            case Submit(order):
                self.switch.submit(order)
            case Transact(tag, operations):
                updates = self.rows.commit(operations)
                self._seen = self.rows.snapshot()
                self.say("database", Updated(updates))
                self.say("database", Transacted(tag, None))
            case Warm(peers, _):
                self.peers = peers
            case Announce(packets):
                self.announced += [packet.frame[6:12].hex(":") for packet in packets]

    def deliver(self, source: str, most: int = 1) -> list[Any]:
        waiting = self.queues.get(source) or deque()
        return self.step([waiting.popleft() for _ in range(min(most, len(waiting)))])

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.step([])

    def settle(self, reports: int = 2) -> None:
        """Let everything happen that will, through some reports; fails if it never ends."""
        self.number()
        for _ in range(reports + 1):
            for _ in range(1000):
                source = next((name for name, waiting in self.queues.items() if waiting), None)
                if source is not None:
                    self.deliver(source)
                    self.number()
                elif (due := self.core.deadline()) is not None and due <= self.now + 1.0:
                    assert due > self.now or self.step([]), "the core wants to run, and then does nothing"
                    self.now = max(self.now, due)
                    self.step([])
                else:
                    break
            else:
                raise AssertionError("the core does not come to rest")
            self.pause(SETTINGS.report_interval)

    # --- the oracle

    def facts(self) -> list[Fact]:
        """What the agent should know in the end."""
        facts: list[Fact] = [Self(HERE, SETTINGS.tunnel_ip)]
        for row in self.rows.tables["Interface"].values():
            ids, ofport = row["external_ids"], row["ofport"]
            kind, _, name = ids.get("selvedge", "").partition("/")
            if ofport is None or ofport < 1:
                continue
            if kind == "tunnel":
                facts.append(TunnelPort(name, ofport))
            elif kind == "patch":
                facts.append(Patch(name, ofport))
            elif "iface-id" in ids:
                facts.append(Plug(ids["iface-id"], ofport))
        here = [port.endpoint for port in self.controller.ports.values() if port.host == HERE]
        zones = self.zones()
        for endpoint in here:
            facts += [Zone(endpoint.id, zones[endpoint.id])] if endpoint.id in zones else []
            if endpoint.secure:
                number = endpoint.identity
                facts.append(Posture(endpoint.id, endpoint.segment, number, endpoint.groups, number))
        for topic in self.needed():
            facts += self.controller.topics.get(topic, {}).values()
        return facts

    def zones(self) -> dict[str, int]:
        """What the database has for ports."""
        for row in self.rows.tables["Bridge"].values():
            if row["name"] == "br-int":
                ids = row["external_ids"].items()
                return {key.removeprefix(KEY): int(text) for key, text in ids if key.startswith(KEY)}
        return {}

    def needed(self) -> set[str]:
        """The topics that the host needs in the end."""
        here = [port.endpoint for port in self.controller.ports.values() if port.host == HERE]
        topics = {HOSTS, host_topic(HERE)} | {segment_topic(endpoint.segment) for endpoint in here}
        for group in {group for endpoint in here for group in endpoint.groups}:
            topics.add(group_topic(group))
            for thing in self.controller.topics.get(group_topic(group), {}).values():
                if isinstance(thing, Rule) and thing.remote_group is not None:
                    topics.add(members_topic(thing.remote_group))
                if isinstance(thing, Rule) and thing.remote_addresses is not None:
                    topics.add(addresses_topic(thing.remote_addresses))
        return topics

    def expected(self) -> tuple[dict[bytes, bytes], dict[int, bytes]]:
        engine = Engine()
        engine.apply(self.facts())
        engine.recompute()
        return (
            {key: flow.body for key, flow in engine.flows().items()},
            {number: group.body for number, group in engine.groups().items()},
        )

    def expected_status(self, name: str) -> str:
        port = self.controller.ports[name]
        segment = self.controller.topics[segment_topic(port.endpoint.segment)][Ref("segment", port.endpoint.segment)]
        assert isinstance(segment, Segment)
        works = port.host == HERE and self.plugged(name) and port.endpoint.up and segment.up
        known = all(group_topic(group) in self.controller.topics for group in port.endpoint.groups)
        return "ACTIVE" if works and known else "DOWN"

    def check(self) -> None:
        """The switch has what a full compilation gives, and the API tells of every port what it is."""
        flows, groups = self.expected()
        assert self.switch.flows == flows
        assert self.switch.groups == groups
        wrong = {
            name: (port.status, port.host, self.core.states.ports.get(name))
            for name, port in self.controller.ports.items()
            if port.host in (None, HERE) and port.status != self.expected_status(name)
        }
        assert not wrong, f"status, host, and what the agent thinks: {wrong}"
        assert self.core.in_sync
        assert self.core.topics.versions().keys() == self.needed() <= self.controller.bound
        missing = {name for name, port in self.controller.ports.items() if port.host == HERE} - self.zones().keys()
        assert not missing, f"ports without a conntrack zone: {missing}"
        assert self.peers == self.core.engine.peers
