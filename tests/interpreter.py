"""A fabric of switches in Python, whose flows are what the compilers made: who gets what a port sends.

`Fabric` joins hypervisors, each with an `Engine` and a `Switch` (`tests.flowtable`), by tunnels (which carry the key,
the ends and, by Geneve, our option) and by the wires of physical networks. It is controller and agent in one: it gives
keys, identities and zones, and all know everything at once. Its verbs are those of all tests: `hypervisor`, `network`,
`port`, `group`, `rule`, `send`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from openflow import addresses
from openflow.facts import Fact, Patch, Plug, Posture, Self, TunnelPort, Zone
from openflow.incremental import Engine
from selvedge.topology import (
    AddressGroup,
    Direction,
    Endpoint,
    Group,
    Host,
    Membership,
    Object,
    Pair,
    Ref,
    Rule,
    Segment,
    SegmentKind,
    ref,
)
from tests.conntrack import STATE, Conntrack, Packet
from tests.flowtable import Ambiguous, Sent, Switch

__all__ = ["METADATA", "TUNNELS", "Ambiguous", "Arrival", "Fabric", "Hypervisor", "Packet", "Sent", "Switch", "strip"]

METADATA = ("in_port", "tun_id", "tun_src", "tun_dst", "tun_ipv6_src", "tun_ipv6_dst", "tun_metadata0")
TUNNELS: dict[str, int] = {"geneve": 1, "vxlan": 2}
"""OpenFlow ports of the tunnels on every hypervisor."""
OPEN = "open"
"""The group of a port that was told of none: it allows everything, and nothing is tracked."""


class Arrival(NamedTuple):
    """A packet that reached a port's interface, or came back to it."""

    port: str
    packet: Packet


@dataclass
class Hypervisor:
    """One host: its engine, the connections that its switch remembers, and which interface is which."""

    name: str
    tunnel_ip: str | None
    engine: Engine = field(default_factory=Engine)
    conntrack: Conntrack = field(default_factory=Conntrack)
    interfaces: dict[int, str] = field(default_factory=dict)
    wires: dict[int, str] = field(default_factory=dict)
    zones: dict[str, int] = field(default_factory=dict)
    _switch: Switch | None = None

    def switch(self) -> Switch:
        """The switch with the flows as they are now."""
        if self.engine.recompute() or self._switch is None:
            self._switch = Switch(self.engine.flows().values(), self.engine.groups(), self.conntrack)
        return self._switch

    def host(self, endpoint: Endpoint) -> None:
        """What an agent decides for an endpoint: a secure one here has a zone and a posture, any other has none."""
        if endpoint.host == self.name and endpoint.secure:
            zone = self.zones.setdefault(endpoint.id, 1 + max(self.zones.values(), default=0))
            posture = Posture(endpoint.id, endpoint.segment, endpoint.identity, endpoint.groups, endpoint.identity)
            self.engine.apply([Zone(endpoint.id, zone), posture])
        elif endpoint.id in self.zones:
            self.forget(endpoint.id)

    def forget(self, port: str) -> None:
        """A port is not bound here any more."""
        self.engine.apply([], [Ref("posture", port), Ref("zone", port)])
        if port in self.zones:
            self.conntrack.flush(self.zones.pop(port))

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
        self._identities: dict[tuple[str, ...], int] = {}
        self._rules = 0

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
        for fact in self.facts.values():
            if isinstance(fact, Endpoint):
                hypervisor.host(fact)
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
        groups: Iterable[str] | None = None,
        plugged: bool = True,
        **other: Any,
    ) -> Endpoint:
        """An endpoint, with the next key and a MAC made from it, plugged at its host.

        One with port security that is told of no groups is in `OPEN`, which is made when it is first needed.
        """
        self._keys += 1
        members = self._members_of(groups) if other.get("secure", True) else ()
        endpoint = Endpoint(
            id=name,
            key=self._keys,
            segment=segment,
            host=host,
            mac=mac or f"fa:16:3e:00:00:{self._keys:02x}",
            addresses=ips,
            pairs=tuple(Pair(mac=pair_mac, cidr=cidr) for pair_mac, cidr in pairs),
            groups=members,
            identity=self.identity(members),
            **other,
        )
        self.tell(endpoint)
        if plugged:
            self.plug(name, host)
        return endpoint

    def change(self, port: str, *, groups: Iterable[str] | None = None, **fields: Any) -> Endpoint:
        """A port gets other groups, or other fields."""
        if groups is not None:
            members = tuple(sorted(groups))
            fields |= {"groups": members, "identity": self.identity(members)}
        endpoint = msgspec.structs.replace(self.endpoint(port), **fields)
        self.tell(endpoint)
        return endpoint

    def group(self, name: str, *, stateful: bool = True) -> Group:
        """A security group without rules."""
        group = Group(id=name, key=self._next_rule(), stateful=stateful)
        self.tell(group)
        return group

    def rule(self, group: str, direction: Direction, version: int = 4, *, name: str = "", **other: Any) -> Rule:
        """A rule of a group: all of that version in that direction, unless told otherwise."""
        key = self._next_rule()
        rule = Rule(id=name or f"rule-{key}", key=key, group=group, direction=direction, version=version, **other)
        self.tell(rule)
        return rule

    def address_group(self, name: str, *prefixes: str) -> AddressGroup:
        """An address group; again, with other prefixes, for a change."""
        old = self.facts.get(Ref("addresses", name))
        key = old.key if isinstance(old, AddressGroup) else self._next_rule()
        group = AddressGroup(id=name, key=key, prefixes=prefixes)
        self.tell(group)
        return group

    def identity(self, groups: tuple[str, ...]) -> int:
        """The number of a set of groups, whose members all learn of it; 0 for none."""
        if groups and groups not in self._identities:
            number = self._identities[groups] = len(self._identities) + 1
            self.tell(*(Membership(id=f"{group}/{number}", group=group, identity=number) for group in groups))
        return self._identities.get(groups, 0)

    def _members_of(self, groups: Iterable[str] | None) -> tuple[str, ...]:
        if groups is not None:
            return tuple(sorted(groups))
        if Ref("group", OPEN) not in self.facts:
            self.group(OPEN, stateful=False)
            for version in (4, 6):
                self.rule(OPEN, "ingress", version)
                self.rule(OPEN, "egress", version)
        return (OPEN,)

    def _next_rule(self) -> int:
        self._rules += 1
        return self._rules

    def endpoint(self, port: str) -> Endpoint:
        """The state of a port that all know."""
        fact = self.facts[Ref("endpoint", port)]
        assert isinstance(fact, Endpoint)
        return fact

    def plug(self, port: str, host: str) -> None:
        """The port's interface appears on a host."""
        hypervisor = self.hypervisors[host]
        ofport = max(hypervisor.interfaces, default=9) + 1
        hypervisor.interfaces[ofport] = port
        hypervisor.engine.apply([Plug(port, ofport)])

    def unplug(self, port: str, host: str) -> None:
        """The port's interface is gone from a host."""
        hypervisor = self.hypervisors[host]
        del hypervisor.interfaces[hypervisor.ofport(port)]
        hypervisor.engine.apply([], [Ref("plug", port)])

    def undecided(self, port: str, kind: str = "posture") -> None:
        """The agent of a port's host has not decided yet: its posture, or its zone, is not there."""
        for hypervisor in self.hypervisors.values():
            hypervisor.engine.apply([], [Ref(kind, port)])

    def tell(self, *facts: Object) -> None:
        """All hypervisors learn of objects."""
        for fact in facts:
            self.facts[ref(fact)] = fact
        for hypervisor in self.hypervisors.values():
            hypervisor.engine.apply(facts)
            for fact in facts:
                if isinstance(fact, Endpoint):
                    hypervisor.host(fact)

    def forget(self, *refs: Ref) -> None:
        """All hypervisors learn that objects are gone."""
        for gone in refs:
            self.facts.pop(gone, None)
        for hypervisor in self.hypervisors.values():
            hypervisor.engine.apply([], refs)
            for gone in refs:
                if gone.kind == "endpoint":
                    hypervisor.forget(gone.id)

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
        arrivals: list[Arrival] = []
        for sent in hypervisor.switch().process(packet, in_port):
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
    """The packet as it is on a wire: without registers and metadata, and knowing nothing of its connection."""
    inside = (*METADATA, *STATE)
    return {name: value for name, value in packet.items() if not name.startswith("reg") and name not in inside}
