"""A flow table in Python: packets in, packets out, on decoded values; and a fabric of such switches.

`Switch` does what Open vSwitch does with the flows and groups that the compilers made, no more and no less: highest
priority, goto, resubmit, copies per bucket, no output to the packet's own port. Where two flows of one priority match a
packet and differ, Open vSwitch may choose either; here that is an error, so a scenario also proves that the pipeline is
unambiguous. A packet is a dictionary of fields by their names in `openflow.fields`; a field that is absent is 0.

`Fabric` joins hypervisors, each with an `Engine`, by tunnels (which carry the key, the ends and, by Geneve, our option)
and by the wires of physical networks. Its verbs are those of all tests: `hypervisor`, `network`, `port`, `send`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from openflow import addresses
from openflow.facts import Fact, Patch, Plug, Self, TunnelPort
from openflow.fields import BY_NAME
from openflow.flow import (
    Action,
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
)
from openflow.incremental import Engine
from selvedge.topology import Endpoint, Host, Pair, Ref, Segment, SegmentKind, ref

Packet = dict[str, int]

METADATA = ("in_port", "tun_id", "tun_src", "tun_dst", "tun_ipv6_src", "tun_ipv6_dst", "tun_metadata0")
TUNNELS: dict[str, int] = {"geneve": 1, "vxlan": 2}
"""OpenFlow ports of the tunnels on every hypervisor."""
LONGEST_WALK = 4096
"""Open vSwitch gives up after this many resubmits (MAX_RESUBMITS)."""


class Ambiguous(AssertionError):
    """Two flows of one priority match a packet and do different things."""


class Sent(NamedTuple):
    """A packet that left by a port."""

    port: int
    packet: Packet


class Switch:
    """One bridge's flows and groups."""

    def __init__(self, flows: Iterable[Flow], groups: Mapping[int, GroupEntry]) -> None:
        self.tables: dict[int, list[Flow]] = {}
        for flow in flows:
            self.tables.setdefault(flow.table, []).append(flow)
        self.groups = groups
        self._sent: list[Sent] = []
        self._steps = 0

    def process(self, packet: Packet, in_port: int) -> list[Sent]:
        """What leaves the bridge when a packet comes in by a port."""
        self._sent, self._steps = [], 0
        self._walk({**packet, "in_port": in_port}, 0)
        return self._sent

    def find(self, packet: Packet, table: int) -> Flow | None:
        """The flow that a packet hits in a table."""
        hits = [flow for flow in self.tables.get(table, ()) if _matches(flow, packet)]
        if not hits:
            return None
        best = max(flow.priority for flow in hits)
        first, *others = [flow for flow in hits if flow.priority == best]
        for other in others:
            if (other.actions, other.goto) != (first.actions, first.goto):
                raise Ambiguous(f"table {table}, priority {best}: {first.match} and {other.match} both match {packet}")
        return first

    def _walk(self, packet: Packet, table: int) -> None:
        while True:
            self._steps += 1
            assert self._steps < LONGEST_WALK, "too many resubmits"
            flow = self.find(packet, table)
            if flow is None:
                return
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
            elif isinstance(action, PushVlan):
                assert not packet.get("vlan_vid"), "a tag on a tag"
                packet["vlan_vid"] = 0x1000
            elif isinstance(action, PopVlan):
                packet["vlan_vid"] = 0
            else:
                _write(packet, action)


def _matches(flow: Flow, packet: Packet) -> bool:
    for known, value, mask in flow.match.terms:
        actual = packet.get(known.name, 0)
        if (actual if mask is None else actual & mask) != value:
            return False
    return True


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


class Arrival(NamedTuple):
    """A packet that reached a port's interface, or came back to it."""

    port: str
    packet: Packet


@dataclass
class Hypervisor:
    """One host: its engine, and which interface is which."""

    name: str
    tunnel_ip: str | None
    engine: Engine = field(default_factory=Engine)
    interfaces: dict[int, str] = field(default_factory=dict)
    wires: dict[int, str] = field(default_factory=dict)

    def ofport(self, port: str) -> int:
        """The OpenFlow port of a plugged port."""
        return next(number for number, name in self.interfaces.items() if name == port)


class Fabric:
    """Hypervisors that all know everything; `arrivals` and `wire` keep what the last `send` brought about."""

    def __init__(self) -> None:
        self.hypervisors: dict[str, Hypervisor] = {}
        self.facts: dict[Ref, Fact] = {}
        self.wire: list[tuple[str, Packet]] = []
        self.tunnelled: list[tuple[str, Packet]] = []
        self._keys = 0

    def hypervisor(self, name: str, tunnel_ip: str | None = None, wires: Iterable[str] = ("physnet1",)) -> Hypervisor:
        """A host; without an address given it gets 192.0.2.N."""
        number = len(self.hypervisors) + 1
        hypervisor = Hypervisor(name, tunnel_ip or f"192.0.2.{number}")
        self.hypervisors[name] = hypervisor
        local: list[Fact] = [Self(name, hypervisor.tunnel_ip)]
        local += [TunnelPort("geneve", TUNNELS["geneve"]), TunnelPort("vxlan", TUNNELS["vxlan"])]
        for ofport, wire in enumerate(wires, 5):
            hypervisor.wires[ofport] = wire
            local.append(Patch(wire, ofport))
        hypervisor.engine.apply([*local, *self.facts.values()])
        self.tell(Host(id=name, key=number, tunnel_ip=hypervisor.tunnel_ip or ""))
        return hypervisor

    def network(self, name: str, kind: SegmentKind = "geneve", number: int = 100, **other: Any) -> Segment:
        """A segment, with the next key."""
        self._keys += 1
        physical = None if kind in TUNNELS else "physnet1"
        other = {"physical_network": physical, "mtu": 1442, **other}
        segment = Segment(id=name, key=self._keys, network=name, kind=kind, number=number, **other)
        self.tell(segment)
        return segment

    def port(
        self,
        name: str,
        segment: str,
        host: str,
        *ips: str,
        mac: str = "",
        pairs: Iterable[tuple[str, str]] = (),
        plugged: bool = True,
        **other: Any,
    ) -> Endpoint:
        """An endpoint, with the next key and a MAC made from it, plugged at its host."""
        self._keys += 1
        endpoint = Endpoint(
            id=name,
            key=self._keys,
            segment=segment,
            host=host,
            mac=mac or f"fa:16:3e:00:00:{self._keys:02x}",
            addresses=ips,
            pairs=tuple(Pair(mac=pair_mac, cidr=cidr) for pair_mac, cidr in pairs),
            **other,
        )
        self.tell(endpoint)
        if plugged:
            self.plug(name, host)
        return endpoint

    def endpoint(self, port: str) -> Endpoint:
        """The state of a port that all know."""
        fact = self.facts[Ref("endpoint", port)]
        assert isinstance(fact, Endpoint)
        return fact

    def plug(self, port: str, host: str) -> None:
        """The port's interface appears on a host."""
        hypervisor = self.hypervisors[host]
        ofport = 10 + len(hypervisor.interfaces)
        hypervisor.interfaces[ofport] = port
        hypervisor.engine.apply([Plug(port, ofport)])

    def unplug(self, port: str, host: str) -> None:
        """The port's interface is gone from a host."""
        hypervisor = self.hypervisors[host]
        del hypervisor.interfaces[hypervisor.ofport(port)]
        hypervisor.engine.apply([], [Ref("plug", port)])

    def tell(self, *facts: Segment | Endpoint | Host) -> None:
        """All hypervisors learn of objects."""
        for fact in facts:
            self.facts[ref(fact)] = fact
        for hypervisor in self.hypervisors.values():
            hypervisor.engine.apply(facts)

    def forget(self, *refs: Ref) -> None:
        """All hypervisors learn that objects are gone."""
        for gone in refs:
            self.facts.pop(gone, None)
        for hypervisor in self.hypervisors.values():
            hypervisor.engine.apply([], refs)

    # Packets ---------------------------------------------------------------------------------------------------------

    def send(self, port: str, packet: Packet) -> list[Arrival]:
        """A VM sends a packet: who gets it (in order of their names)."""
        self.wire, self.tunnelled = [], []
        for hypervisor in self.hypervisors.values():
            if port in hypervisor.interfaces.values():
                return sorted(self._run(hypervisor, packet, hypervisor.ofport(port)), key=lambda arrival: arrival.port)
        raise AssertionError(f"{port} is not plugged")

    def send_wire(self, network: str, packet: Packet) -> list[Arrival]:
        """A stranger sends a packet onto the wire of a physical network."""
        self.wire, self.tunnelled = [], []
        return sorted(self._onto_wire(network, packet, None), key=lambda arrival: arrival.port)

    def send_tunnel(self, host: str, kind: str, packet: Packet) -> list[Arrival]:
        """Somebody sends a tunnelled packet (with its tun_ fields) to a host."""
        self.wire, self.tunnelled = [], []
        return self._run(self.hypervisors[host], packet, TUNNELS[kind])

    def reached(self, port: str, packet: Packet) -> list[str]:
        """The names of the ports that a VM's packet reaches."""
        return [arrival.port for arrival in self.send(port, packet)]

    def _run(self, hypervisor: Hypervisor, packet: Packet, in_port: int) -> list[Arrival]:
        engine = hypervisor.engine
        engine.recompute()
        switch = Switch(engine.flows().values(), engine.groups())
        arrivals: list[Arrival] = []
        for sent in switch.process(packet, in_port):
            if sent.port in hypervisor.interfaces:
                assert not sent.packet.get("vlan_vid"), "a VM got a tagged frame"
                arrivals.append(Arrival(hypervisor.interfaces[sent.port], strip(sent.packet)))
            elif sent.port in hypervisor.wires:
                arrivals += self._onto_wire(hypervisor.wires[sent.port], strip(sent.packet), hypervisor)
            else:
                kind = next(kind for kind, ofport in TUNNELS.items() if ofport == sent.port)
                arrivals += self._into_tunnel(kind, sent.packet, hypervisor)
        return arrivals

    def _onto_wire(self, network: str, packet: Packet, sender: Hypervisor | None) -> list[Arrival]:
        """A wire is a hub: every other hypervisor sees the frame."""
        self.wire.append((network, packet))
        arrivals = []
        for other in self.hypervisors.values():
            for ofport, wire in other.wires.items():
                if wire == network and other is not sender:
                    arrivals += self._run(other, packet, ofport)
        return arrivals

    def _into_tunnel(self, kind: str, packet: Packet, sender: Hypervisor) -> list[Arrival]:
        self.tunnelled.append((kind, packet))
        end = (packet.get("tun_dst", 0), packet.get("tun_ipv6_dst", 0))
        for other in self.hypervisors.values():
            version, value = addresses.address(other.tunnel_ip or "0.0.0.0")
            if end == ((value, 0) if version == 4 else (0, value)):
                came = {**strip(packet), "tun_id": packet["tun_id"]}
                if kind == "geneve":
                    came["tun_metadata0"] = packet["tun_metadata0"]
                source = addresses.address(sender.tunnel_ip or "")
                came["tun_src" if source.version == 4 else "tun_ipv6_src"] = source.value
                return self._run(other, came, TUNNELS[kind])
        return []


def strip(packet: Packet) -> Packet:
    """The packet as it is on a wire: without registers and metadata."""
    return {name: value for name, value in packet.items() if not name.startswith("reg") and name not in METADATA}
