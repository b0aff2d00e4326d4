"""What is plugged where: the rows of Open vSwitch's database as facts about this hypervisor.

An interface on the integration bridge has one role: a tenant's port (`external_ids:iface-id`, as Nova, os-vif and
libvirt set it), or one of ours (`external_ids:selvedge`, set by `agents.bridge`): a tunnel port or a provider
network's patch. The inventory keeps role -> interfaces and tells, for each batch of changes, which roles now mean
something else. Cost follows the change, never the number of interfaces.

Several interfaces with one role are an operator's error with a defined result: a working one wins, then the lowest
name. One that comes and goes too often is not believed for a while (`agents.flapping`). Pure; owned by `agents.core`.
The rows are `agents.mirror`'s, the way back into the database is `agents.bridge`.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple, get_args

from agents.flapping import Flapping
from agents.mirror import Change, Mirror, Row, Updates
from openflow.facts import Fact, Patch, Plug, TunnelKind, TunnelPort, name
from selvedge.topology import Ref

MARK = "selvedge"
"""The key in external_ids of the Interface rows that are ours; the value is `<role kind>/<role id>`."""


class Role(NamedTuple):
    """What an interface is for: kind `port` (id: the port), `tunnel` (geneve, vxlan), `patch` or `peer` (physical
    network; a peer is the patch's other end, on the provider's bridge)."""

    kind: str
    id: str


class Plugged(NamedTuple):
    """The interface that has a role.

    `ofport` is its OpenFlow number, 0 while Open vSwitch has not said yet, and also if it cannot have one; then
    `error` says why. `mtu` is in bytes, None if unknown. `others` are interfaces that claim the same role in vain.
    """

    interface: str
    ofport: int
    mtu: int | None = None
    error: str | None = None
    others: tuple[str, ...] = ()

    @property
    def contest(self) -> str:
        """Who won and who lost, in words."""
        return f"of several interfaces {self.interface} is used, {', '.join(self.others)} not"


class Inventory:
    """Rows in, changed roles out. `roles` is what holds now."""

    def __init__(self, bridge: str, flapping: Flapping | None = None) -> None:
        """`flapping`: None believes every row at once."""
        self.bridge = bridge
        self.flapping = flapping
        self.mirror = Mirror()
        self.roles: dict[Role, Plugged] = {}
        self._holders: dict[str, str] = {}  # Interface -> its Port
        self._bridges: dict[str, str] = {}  # Port -> its Bridge
        self._role_of: dict[str, Role] = {}  # Interface -> its role, if it has one
        self._candidates: defaultdict[Role, set[str]] = defaultdict(set)

    def load(self, updates: Updates, now: float = 0.0) -> dict[Role, Plugged | None]:
        """Everything anew (after a connect); the roles that differ from what was known before."""
        fresh = Inventory(self.bridge, self.flapping)
        fresh.mirror.unread = self.mirror.unread
        fresh.update(updates, now)
        for role in self.roles.keys() - fresh.roles.keys():
            fresh._decide(role, now)
        changed: dict[Role, Plugged | None] = {role: None for role in self.roles if role not in fresh.roles}
        changed |= {role: plugged for role, plugged in fresh.roles.items() if self.roles.get(role) != plugged}
        self.__dict__.update(fresh.__dict__)
        return changed

    def update(self, updates: Updates, now: float = 0.0) -> dict[Role, Plugged | None]:
        """One `table-updates2`; the roles that mean something else now, None for those nobody has any more."""
        dirty: set[str] = set()
        for change in self.mirror.apply(updates):
            self._relate(change, dirty)
        touched: set[Role] = set()
        for uuid in dirty:
            old, new = self._role_of.get(uuid), self._classify(uuid)
            if old is not None:
                touched.add(old)
                if old != new:
                    self._candidates[old].discard(uuid)
                    del self._role_of[uuid]
            if new is not None:
                touched.add(new)
                self._candidates[new].add(uuid)
                self._role_of[uuid] = new
        return {role: self.roles.get(role) for role in touched if self._decide(role, now)}

    def steady(self, now: float) -> dict[Role, Plugged | None]:
        """The roles that mean something else since their interfaces stood still."""
        ports = [] if self.flapping is None else self.flapping.due(now)
        return {role: self.roles.get(role) for port in ports if self._decide(role := Role("port", port), now)}

    def deadline(self) -> float | None:
        """When `steady` has something to say, if no row changes before."""
        return None if self.flapping is None else self.flapping.deadline()

    def own(self) -> dict[Role, str]:
        """Our Interface rows (their UUIDs): tunnels and patches on the integration bridge, peers elsewhere."""
        return {role: min(uuids) for role, uuids in self._candidates.items() if role.kind != "port" and uuids}

    @property
    def external_ids(self) -> dict[str, str] | None:
        """Of the integration bridge's row; None if there is no such bridge. Another object when it changed."""
        bridge = self.mirror.named("Bridge", self.bridge)
        return None if bridge is None else self.mirror.rows["Bridge"][bridge]["external_ids"]

    def holder(self, interface: str) -> tuple[str | None, str | None]:
        """The Port and the Bridge that hold an Interface (UUIDs), None where there is none."""
        port = self._holders.get(interface)
        return port, self._bridges.get(port) if port is not None else None

    def _relate(self, change: Change, dirty: set[str]) -> None:
        """Keep Interface -> Port -> Bridge; add to `dirty` all Interfaces whose role may have changed."""
        if change.table == "Interface":
            dirty.add(change.uuid)
        elif change.table == "Port":
            dirty |= _reverse(self._holders, change, "interfaces")
        elif change.table == "Bridge":
            for port in _reverse(self._bridges, change, "ports"):
                dirty |= self.mirror.rows["Port"].get(port, {}).get("interfaces", frozenset())

    def _classify(self, uuid: str) -> Role | None:
        row = self.mirror.rows["Interface"].get(uuid)
        bridge = self.holder(uuid)[1]
        if row is None or bridge is None:
            return None
        here = self.mirror.rows["Bridge"][bridge]["name"] == self.bridge
        mark = row["external_ids"].get(MARK)
        if mark is not None:
            kind, _, name = mark.partition("/")
            fits = kind in (("tunnel", "patch") if here else ("peer",))
            return Role(kind, name) if fits else None
        port = row["external_ids"].get("iface-id")
        return Role("port", port) if here and port else None

    def _decide(self, role: Role, now: float) -> bool:
        """Choose the interface of a role; whether that changed anything."""
        before = self.roles.get(role)
        rows = self.mirror.rows["Interface"]
        found = sorted((_plugged(rows[uuid]) for uuid in self._candidates.get(role, ())), key=_preference)
        chosen = found[0]._replace(others=tuple(other.interface for other in found[1:])) if found else None
        if not found:
            self._candidates.pop(role, None)
        if self.flapping is not None and role.kind == "port":
            hold = self.flapping.note(role.id, chosen is not None and chosen.ofport > 0, now)
            if hold is not None:
                name = chosen.interface if chosen is not None else before.interface if before is not None else "none"
                chosen = Plugged(name, 0, None, hold.reason)
        if chosen is None:
            self.roles.pop(role, None)
        else:
            self.roles[role] = chosen
        return chosen != before


def _reverse(index: dict[str, str], change: Change, column: str) -> frozenset[str]:
    """Keep a reverse index of `column`; the references that came or went."""
    before: frozenset[str] = change.before[column] if change.before else frozenset()
    after: frozenset[str] = change.after[column] if change.after else frozenset()
    for gone in before - after:
        if index.get(gone) == change.uuid:  # it may have moved, and the new owner's change come first
            del index[gone]
    for come in after - before:
        index[come] = change.uuid
    return before ^ after


def _plugged(row: Row) -> Plugged:
    ofport = row["ofport"]
    error = row["error"] or None
    if ofport == -1 and error is None:
        error = "Open vSwitch gave it no OpenFlow port"
    return Plugged(row["name"], ofport if ofport and ofport > 0 else 0, row["mtu"], error)


def _preference(plugged: Plugged) -> tuple[bool, bool, str]:
    return plugged.ofport == 0, plugged.error is not None, plugged.interface


def facts_of(changed: Mapping[Role, Plugged | None]) -> tuple[list[Fact], list[Ref]]:
    """What changed roles mean to the flows: local facts, and the names of those that do not hold any more."""
    upserts: list[Fact] = []
    deletes: list[Ref] = []
    for role, plugged in changed.items():
        fact = _fact(role, 0 if plugged is None else plugged.ofport)
        if fact is not None and plugged is not None and plugged.ofport > 0:
            upserts.append(fact)
        elif fact is not None:
            deletes.append(name(fact))
    return upserts, deletes


def _fact(role: Role, ofport: int) -> Fact | None:
    if role.kind == "port":
        return Plug(role.id, ofport)
    if role.kind == "patch":
        return Patch(role.id, ofport)
    kind = next((kind for kind in get_args(TunnelKind) if kind == role.id), None)
    return None if role.kind != "tunnel" or kind is None else TunnelPort(kind, ofport)
