"""A flow table in Python: packets in, packets out, on decoded values.

`Switch` does what Open vSwitch does with the flows and groups that the compilers made, no more and no less: highest
priority, goto, resubmit, conjunctions, connection tracking, copies per bucket, no output to the packet's own port.
Where two flows of one priority match a packet and differ, Open vSwitch may choose either; here that is an error, so a
scenario also proves that the pipeline is unambiguous. A packet is a dictionary of fields by their names in
`openflow.fields` (and of those that only `tests.conntrack` sees); a field that is absent is 0.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from openflow.fields import BY_NAME
from openflow.flow import (
    Action,
    Conjunction,
    CtClear,
    Flow,
    GroupEntry,
    InPort,
    Load,
    Move,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    ToGroup,
    Track,
)
from tests.conntrack import IPV4, IPV6, STATE, Conntrack, Packet

LONGEST_WALK = 4096
"""Open vSwitch gives up after this many resubmits (MAX_RESUBMITS)."""


class Ambiguous(AssertionError):
    """Two flows of one priority match a packet and do different things."""


class Sent(NamedTuple):
    """A packet that left by a port."""

    port: int
    packet: Packet


class Switch:
    """One bridge's flows and groups, and the connections that it remembers.

    `hits` are the flows that the last packet went through, and `tracked` what the tracker said of it, in the order in
    which `ofproto/trace --ct-next` asks for it.
    """

    def __init__(
        self, flows: Iterable[Flow], groups: Mapping[int, GroupEntry], conntrack: Conntrack | None = None
    ) -> None:
        self.tables: dict[int, list[Flow]] = {}
        for flow in flows:
            self.tables.setdefault(flow.table, []).append(flow)
        for table in self.tables.values():
            table.sort(key=_priority, reverse=True)
        self.groups = groups
        self.conntrack = conntrack or Conntrack()
        self.hits: list[Flow] = []
        self.tracked: list[int] = []
        self._sent: list[Sent] = []
        self._steps = 0
        self._tracked: deque[tuple[Packet, int]] = deque()

    def process(self, packet: Packet, in_port: int) -> list[Sent]:
        """What leaves the bridge when a packet comes in by a port."""
        self._sent, self._steps = [], 0
        self.hits, self.tracked = [], []
        self._walk({**packet, "in_port": in_port}, 0)
        while self._tracked:
            copy, table = self._tracked.popleft()
            self.tracked.append(copy["ct_state"])
            self._walk(copy, table)
        return self._sent

    def find(self, packet: Packet, table: int) -> Flow | None:
        """The flow that a packet hits in a table."""
        hits = [flow for flow in self.tables.get(table, ()) if matches(flow, packet)]
        soft = [flow for flow in hits if _is_clause(flow)]
        if not soft:
            return _first(hits, packet)
        hard = _first([flow for flow in hits if not _is_clause(flow)], packet)
        floor = -1 if hard is None else hard.priority
        for priority in sorted({flow.priority for flow in soft if flow.priority > floor}, reverse=True):
            met = [
                self.find_met(packet, table, number)
                for number in _met(flow for flow in soft if flow.priority == priority)
            ]
            found = [flow for flow in met if flow is not None]
            if found:
                return _agreed(found, packet)
        return hard

    def find_met(self, packet: Packet, table: int, conjunction: int) -> Flow | None:
        """The flow that a packet hits once it met a conjunction."""
        met = {**packet, "conj_id": conjunction}
        return _first([flow for flow in self.tables[table] if not _is_clause(flow) and matches(flow, met)], met)

    def _walk(self, packet: Packet, table: int) -> None:
        while True:
            self._steps += 1
            assert self._steps < LONGEST_WALK, "too many resubmits"
            flow = self.find(packet, table)
            if flow is None:
                return
            self.hits.append(flow)
            self._act(packet, flow.actions)
            if flow.goto is None:
                return
            assert flow.goto > table
            table = flow.goto

    def _act(self, packet: Packet, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Output):
                if action.port != packet["in_port"]:
                    self._sent.append(Sent(action.port, dict(packet)))
            elif isinstance(action, InPort):
                self._sent.append(Sent(packet["in_port"], dict(packet)))
            elif isinstance(action, ToGroup):
                for bucket in self.groups[action.id].buckets:
                    self._act(dict(packet), bucket.actions)
            elif isinstance(action, Resubmit):
                self._walk(packet, action.table)
            elif isinstance(action, Track):
                self._track(packet, action)
            elif isinstance(action, CtClear):
                _forget(packet)
            elif isinstance(action, PushVlan):
                assert not packet.get("vlan_vid"), "a tag on a tag"
                packet["vlan_vid"] = 0x1000
            elif isinstance(action, PopVlan):
                packet["vlan_vid"] = 0
            else:
                _write(packet, action)

    def _track(self, packet: Packet, action: Track) -> None:
        """A copy goes on with what the tracker said; the packet at hand goes on too and knows nothing of it."""
        assert packet["eth_type"] in (IPV4, IPV6), "only IP is tracked"
        zone = action.zone if isinstance(action.zone, int) else packet.get(action.zone, 0) & 0xFFFF
        known = self.conntrack.track(packet, zone, action.commit)
        _forget(packet)
        if action.table is not None:
            self._tracked.append(({**packet, **known}, action.table))


def matches(flow: Flow, packet: Packet) -> bool:
    """Whether a packet has what the flow wants."""
    for known, value, mask in flow.match.terms:
        actual = packet.get(known.name, 0)
        if (actual if mask is None else actual & mask) != value:
            return False
    return True


def _priority(flow: Flow) -> int:
    return flow.priority


def _is_clause(flow: Flow) -> bool:
    return any(isinstance(action, Conjunction) for action in flow.actions)


def _first(hits: list[Flow], packet: Packet) -> Flow | None:
    """Of the flows that match, the one of highest priority."""
    if not hits:
        return None
    best = max(flow.priority for flow in hits)
    return _agreed([flow for flow in hits if flow.priority == best], packet)


def _agreed(flows: list[Flow], packet: Packet) -> Flow:
    first, *others = flows
    for other in others:
        if (other.actions, other.goto) != (first.actions, first.goto):
            raise Ambiguous(
                f"table {first.table}, priority {first.priority}: {first.match} and {other.match} both match {packet}"
            )
    return first


def _met(clauses: Iterable[Flow]) -> list[int]:
    """The conjunctions of which all clauses are met."""
    met: dict[int, set[int]] = {}
    sizes: dict[int, int] = {}
    for flow in clauses:
        for action in flow.actions:
            assert isinstance(action, Conjunction)
            assert sizes.setdefault(action.id, action.of) == action.of
            met.setdefault(action.id, set()).add(action.clause)
    return sorted(number for number, clauses_met in met.items() if len(clauses_met) == sizes[number])


def _forget(packet: Packet) -> None:
    """Open vSwitch knows nothing of a packet's connection after ct, but where ct sends it."""
    for name in STATE:
        packet.pop(name, None)


def _write(packet: Packet, action: Action) -> None:
    if isinstance(action, SetField):
        packet[action.field] = action.value
        return
    if isinstance(action, Load):
        name, start, bits, value = action.field, action.start, action.width, action.value
    else:
        assert isinstance(action, Move)
        name, start, bits = action.dst, action.dst_start, action.bits
        value = packet.get(action.src, 0) >> action.src_start & (1 << bits) - 1
    assert start + bits <= BY_NAME[name].bits
    mask = ((1 << bits) - 1) << start
    packet[name] = packet.get(name, 0) & ~mask | value << start
