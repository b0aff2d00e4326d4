"""Which security is in force here, from what the controllers say: the local facts `Zone` and `Posture`, and the
interest that brings what they need.

Three pure parts are put together here, and know nothing of each other: `agents.interest` (which topics), `agents.zones`
(conntrack zones in Open vSwitch's database) and `agents.handover` (which policy a port is under). What they decide
becomes facts of the engine; from there on `openflow.compilers` takes over. A port without its zone or its posture has
no flows that let anything pass: whatever is late or lost here means no traffic, never too much.

Owned by `agents.core`, which tells what is bound, what changed and what the switch confirmed.
"""

from collections.abc import Iterable
from typing import NamedTuple

from agents.handover import Handover
from agents.interest import Interest, remote
from agents.topics import Topics
from agents.zones import Zones
from openflow.facts import Fact
from openflow.incremental import Engine
from openflow.pipeline import LARGEST_ZONE
from selvedge.topics import group_topic
from selvedge.topology import Binding, Endpoint, Object, Ref, Rule


class Obstacle(NamedTuple):
    """Why a port cannot work yet, in words. `failed`: it does not pass by itself."""

    reason: str
    failed: bool = False


class Decisions(NamedTuple):
    """What a step decided: facts, and the ports that it is about."""

    upserts: tuple[Fact, ...]
    deletes: tuple[Ref, ...]
    ports: frozenset[str]


class Enforcement:
    """See the module."""

    def __init__(self, host: str, topics: Topics, engine: Engine) -> None:
        self.zones = Zones()
        self.handover = Handover()
        self._host, self._topics, self._engine = host, topics, engine
        self._interest = Interest(host)
        self._bound: set[str] = set()
        self._dirty: set[str] = set()
        """Ports whose binding or endpoint changed."""
        self._missed: dict[tuple[str, ...], str | None] = {}
        """What is missing of the sets of groups that ports wait for."""
        self._exhausted = False

    # In -----------------------------------------------------------------------------------------------------------

    def bind(self, binding: Binding) -> None:
        """The port is bound here."""
        self._bound.add(binding.id)
        self._interest.need(("binding", binding.id), binding.segment, binding.groups)
        self.zones.bind(binding.id)
        self._dirty.add(binding.id)

    def unbind(self, port: str) -> None:
        """The port is not bound here any more."""
        self._bound.discard(port)
        self._interest.forget(("binding", port))
        self.zones.unbind(port)
        self._dirty.add(port)

    def changed(self, upserts: Iterable[Object], deletes: Iterable[Ref]) -> None:
        """Objects of topics that the engine has been told already."""
        for thing in upserts:
            if isinstance(thing, Endpoint):
                if thing.id in self._bound:  # the others are another host's
                    self._dirty.add(thing.id)
            elif isinstance(thing, Rule):
                self._interest.changed = True
        for name in deletes:
            if name.kind == "endpoint" and name.id in self._bound:
                self._dirty.add(name.id)
            elif name.kind == "rule":
                self._interest.changed = True

    # Out ----------------------------------------------------------------------------------------------------------

    def step(self, now: float) -> Decisions:
        """What is decided by all that came in, and by the time."""
        for port in self._dirty:
            self._look_at(port)
        self._dirty.clear()
        postures, forgotten = self.handover.step(now, lambda groups: self._missing(groups) is None)
        for posture in postures:
            self._interest.need(("posture", posture.id), posture.segment, posture.groups)
        for name in forgotten:
            self._interest.forget(("posture", name.id))
        zones, released = self.zones.facts()
        ports = [posture.id for posture in postures] + [zone.id for zone in zones]
        ports += [name.id for name in (*forgotten, *released)]
        ports += self._disappointed()
        if self._exhausted != (exhausted := bool(self.zones.exhausted)):
            self._exhausted = exhausted
            ports += self._bound
        return Decisions((*postures, *zones), (*forgotten, *released), frozenset(ports))

    def interest(self) -> frozenset[str] | None:
        """The topics that are needed, if they may be others than the last time."""
        if not self._interest.changed:
            return None
        self._interest.changed = False
        return self._interest.topics(self._rules)

    def deadline(self) -> float | None:
        """When `step` has something to do, if nothing else happens before."""
        return self.handover.deadline()

    def obstacle(self, port: str, secure: bool) -> Obstacle | None:
        """What keeps a port that is bound here from being protected as it should."""
        if not secure:
            return None
        posture = self.handover.postures.get(port)
        if posture is None:
            endpoint = self._engine.fact(Ref("endpoint", port))
            missing = self._missing(endpoint.groups) if isinstance(endpoint, Endpoint) else None
            return Obstacle(missing or "its security groups are not in force yet")
        if self.zones.usable(port) is None:
            if self.zones.exhausted:
                return Obstacle(f"all {LARGEST_ZONE} conntrack zones of this host are taken", failed=True)
            return Obstacle("its conntrack zone is not in Open vSwitch's database yet")
        return None

    @property
    def policies(self) -> dict[str, int]:
        """Port -> the policy that is in force for it."""
        return {name: posture.policy for name, posture in self.handover.postures.items() if name in self._bound}

    @property
    def waiting(self) -> int:
        """How many ports are not under their groups' rules yet, since something of those is missing."""
        return sum(len(ports) for _, ports in self.handover.awaited())

    @property
    def groups(self) -> frozenset[str]:
        """The security groups that have something to say here."""
        return self._interest.groups

    # How ----------------------------------------------------------------------------------------------------------

    def _look_at(self, port: str) -> None:
        endpoint = self._engine.fact(Ref("endpoint", port))
        if isinstance(endpoint, Endpoint) and port in self._bound and endpoint.host == self._host and endpoint.secure:
            self._interest.need(("endpoint", port), endpoint.segment, endpoint.groups)
            self.handover.want(port, endpoint.segment, endpoint.identity, endpoint.groups)
        else:
            self._interest.forget(("endpoint", port))
            self.handover.forget(port)

    def _disappointed(self) -> list[str]:
        """Ports that wait for something else now than before."""
        before, self._missed = self._missed, {groups: self._missing(groups) for groups, _ in self.handover.awaited()}
        changed = (ports for groups, ports in self.handover.awaited() if self._missed[groups] != before.get(groups))
        return [port for ports in changed for port in ports]

    def _rules(self, group: str) -> list[Rule]:
        topic = group_topic(group)
        if topic not in self._topics:
            return []
        return [thing for thing in self._topics[topic].objects.values() if isinstance(thing, Rule)]

    def _missing(self, groups: tuple[str, ...]) -> str | None:
        """What is not known yet of all that the rules of these groups need."""
        for group in groups:
            if not self._topics.known(group_topic(group)) or self._engine.fact(Ref("group", group)) is None:
                return f"the rules of security group {group} have not come yet"
            for rule in self._rules(group):
                if (topic := remote(rule)) is not None and not self._topics.known(topic):
                    kind, _, name = topic.partition("/")
                    return f"the {kind} of group {name}, which rule {rule.id} names, have not come yet"
        return None
