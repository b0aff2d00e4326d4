"""The oracle: may this packet pass? Decided from the API's objects alone, as Neutron means them.

It knows networks, ports, security groups, rules and address groups as the REST API shows them, and nothing of switches:
no tables, no identities, no zones. It is written from the words of the API and of the issue, packet by packet, with
loops over all rules, so that it can be read and be believed; whatever computes the same faster is measured by it.

    oracle.send(port, packet)    → who gets it: ids of ports, and WIRE when it goes onto the provider's wire
    oracle.stranger(wire, …)     → who gets what somebody unknown sends on a provider's wire

A packet meets three questions. Is what it says of its sender true (`guard`)? May its sender send it (`passes`, egress),
and may its receiver get it (`passes`, ingress)? The last two remember connections, each port for itself.

What is not Neutron's word but this project's, is said where it is decided: an answer is allowed as long as a rule
allows the connection *now*; later fragments have no ports to judge; strangers' addresses are believed on a wire.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Literal

from tests.oracle_packets import (
    ICMP,
    MULTICAST_LISTENERS,
    PROTOCOLS,
    Arp,
    Frame,
    Packet,
    Tuple,
    is_group,
    link_local,
)

Row = Mapping[str, Any]
"""An object as the API shows it."""
Direction = Literal["ingress", "egress"]
Claim = tuple[str, str]
"""A MAC address, and a prefix that goes with it."""

WIRE = "the wire"
OTHER: Mapping[Direction, Direction] = {"ingress": "egress", "egress": "ingress"}

ALWAYS: Mapping[Direction, tuple[frozenset[tuple[int, int, int]], frozenset[int]]] = {
    "egress": (frozenset({(4, 68, 67), (6, 546, 547)}), MULTICAST_LISTENERS | {133, 135, 136}),
    "ingress": (frozenset({(4, 67, 68), (6, 547, 546)}), MULTICAST_LISTENERS | {134, 135, 136}),
}
"""What no rule is needed for: UDP of DHCP (version, source port, target port), and types of ICMPv6."""

SHOWS_PORTS = frozenset({6, 17, 132})
"""The protocols whose ports a switch sees. A rule with ports of another one (DCCP, UDP-Lite) allows nothing."""


@dataclass
class Oracle:
    """The project's objects by id, and the connections that each port remembers."""

    networks: dict[str, Row] = field(default_factory=dict)
    ports: dict[str, Row] = field(default_factory=dict)
    security_groups: dict[str, Row] = field(default_factory=dict)
    security_group_rules: dict[str, Row] = field(default_factory=dict)
    address_groups: dict[str, Row] = field(default_factory=dict)
    connections: dict[str, set[Tuple]] = field(default_factory=dict)

    # Who gets it ------------------------------------------------------------------------------------------------------

    def send(self, sender: str, packet: Frame) -> set[str]:
        """Who gets what a port sends: ids of ports, and `WIRE`."""
        port = self.ports[sender]
        network = self.networks[port["network_id"]]
        if not (port["admin_state_up"] and network["admin_state_up"]) or not self.guard(port, packet):
            return set()
        got: set[str] = set()
        for copy in self._copies(port, network, packet.target_mac):
            if self.passes(port, "egress", packet, self._groups_at(copy.receivers, packet)):
                got |= {WIRE} if copy.wire else set()
                for receiver in copy.receivers:
                    if self.passes(receiver, "ingress", packet, self._groups_from(port, receiver, packet)):
                        got.add(receiver["id"])
        return got

    def stranger(self, network: str, packet: Frame) -> set[str]:
        """Who gets what a stranger sends on the wire of a network."""
        if not self.networks[network]["admin_state_up"]:
            return set()
        receivers = self._stations(network, packet.target_mac)
        return {
            receiver["id"]
            for receiver in receivers
            if self.passes(receiver, "ingress", packet, self._groups_from(None, receiver, packet))
        }

    def _stations(self, network: str, mac: str) -> list[Row]:
        """The ports to which frames for a MAC address go; for a group address, all of the network."""
        here = [port for port in self.ports.values() if port["network_id"] == network and port["admin_state_up"]]
        return here if is_group(mac) else [port for port in here if mac in _macs(port)]

    def _copies(self, port: Row, network: Row, mac: str) -> "list[Copy]":
        """What leaves the sender's switch: a copy for each receiver, but one for all that a wire or VXLAN leads to.

        A wire gets what is not for somebody on the sender's own host alone.
        """
        receivers = [other for other in self._stations(network["id"], mac) if other is not port]
        kind, own = network["provider:network_type"], port["binding:host_id"]
        here = [Copy([other]) for other in receivers if other["binding:host_id"] == own]
        there = [other for other in receivers if other["binding:host_id"] != own]
        if kind in ("vlan", "flat"):
            return [*here, Copy(there, wire=True)] if there or not self._known_here(port, mac) else here
        if kind == "geneve":
            return [*here, *(Copy([other]) for other in there)]
        hosts = {other["binding:host_id"] for other in there}
        return here + [Copy([other for other in there if other["binding:host_id"] == host]) for host in sorted(hosts)]

    def _known_here(self, port: Row, mac: str) -> bool:
        """Whether a MAC is one of a port on the sender's host, the sender itself among them."""
        stations = [] if is_group(mac) else self._stations(port["network_id"], mac)
        return any(other["binding:host_id"] == port["binding:host_id"] for other in stations)

    # Whom the other side is taken for ---------------------------------------------------------------------------------

    def _groups_at(self, receivers: list[Row], packet: Frame) -> "Side":
        """The groups of who gets a copy: those of a member if the address is really its own, too.

        A copy for several, none of which can be told from the others, is for a member only if all have the same groups.
        """
        sets = {frozenset(receiver["security_groups"]) if _secure(receiver) else None for receiver in receivers}
        groups = sets.pop() if len(sets) == 1 else None
        if groups is None or is_group(packet.target_mac):
            return Side()
        claims = [claim for receiver in receivers for claim in _claims(receiver)]
        own = isinstance(packet, Packet) and _claimed(claims, packet.target_mac, packet.target)
        return Side(groups if own else frozenset(), groups)

    def _groups_from(self, sender: Row | None, receiver: Row, packet: Frame) -> "Side":
        """The groups of who sent a frame.

        The receiver's host knows the sender when it is there too, or when the overlay says so (Geneve). Otherwise the
        source addresses say it: all ports elsewhere to which they may belong must have the same groups.
        """
        network = self.networks[receiver["network_id"]]
        known = network["provider:network_type"] == "geneve"
        if sender is not None and (known or sender["binding:host_id"] == receiver["binding:host_id"]):
            groups = frozenset(sender["security_groups"]) if _secure(sender) else frozenset[str]()
            return Side(groups, groups)
        if not isinstance(packet, Packet):
            return Side()
        sets: set[frozenset[str]] = set()
        for port in self.ports.values():
            elsewhere = port["binding:host_id"] != receiver["binding:host_id"]
            there = port["network_id"] == network["id"] and port["admin_state_up"] and elsewhere
            if there and _claimed(_claims(port), packet.source_mac, packet.source):
                sets.add(frozenset(port["security_groups"]) if _secure(port) else frozenset())
        groups = sets.pop() if len(sets) == 1 else frozenset[str]()
        return Side(groups, groups)

    # Port security ----------------------------------------------------------------------------------------------------

    def guard(self, port: Row, packet: Frame) -> bool:
        """Whether what a packet says of its sender is true: only its own MACs and addresses, or allowed pairs."""
        if not _secure(port):
            return True
        if packet.source_mac not in _macs(port):
            return False
        if isinstance(packet, Arp):
            probe = packet.operation == 1 and packet.sender == "0.0.0.0"
            return probe or _claimed(_claims(port), packet.sender_mac, packet.sender)
        if not isinstance(packet, Packet):
            return False
        own = _claimed(_claims(port), packet.source_mac, packet.source)
        if packet.udp in ((4, 67, 68), (6, 547, 546)):
            return False  # it is no DHCP server
        if packet.version == 4:
            discovery = packet.udp == (4, 68, 67) and packet.target == "255.255.255.255"
            return own or (packet.source == "0.0.0.0" and discovery)
        kind = packet.icmpv6
        if kind == 134:
            return False  # it is no router
        if kind in (135, 136):
            return packet.code == 0 and _discovers_truly(port, packet, own)
        return own or (packet.source == "::" and kind in (131, 133, 143) and packet.code == 0)

    # Security groups --------------------------------------------------------------------------------------------------

    def passes(self, port: Row, direction: Direction, packet: Frame, other: "Side") -> bool:
        """Whether a port's groups let a packet pass: what it sends (egress) or what it gets (ingress)."""
        if not _secure(port) or isinstance(packet, Arp):
            return True
        if not isinstance(packet, Packet):
            return False
        ports, kinds = ALWAYS[direction]
        if packet.udp in ports or packet.icmpv6 in kinds:
            return True
        if not port["security_groups"]:
            return False
        if not all(self.security_groups[group]["stateful"] for group in port["security_groups"]):
            return self._allowed(port, direction, packet, other.groups, stateful=False)
        return self._passes_stateful(port, direction, packet, other)

    def _passes_stateful(self, port: Row, direction: Direction, packet: Packet, other: "Side") -> bool:
        """By the connection: one that the port began needs an egress rule, one that it accepted an ingress rule.

        Both directions of it need that rule, and need it now. An ICMP error passes if it is about a connection.
        """
        known = self.connections.setdefault(port["id"], set())
        connection = packet.connection
        if connection is None:
            return False
        if packet.is_error:
            return connection in known or connection.back in known
        if connection.back in known and connection not in known:
            # Whoever answers is the one to whom the frame goes, or from whom it comes, whatever the address.
            return self._allowed(port, OTHER[direction], packet.back, other.station)
        if connection not in known and packet.is_answer:
            return False  # nobody asked
        if not self._allowed(port, direction, packet, other.groups):
            return False
        if packet.fragment != "later":  # which begins nothing without its first
            known.add(connection)
        return True

    def _allowed(
        self, port: Row, direction: Direction, packet: Packet, other: frozenset[str], stateful: bool = True
    ) -> bool:
        """Whether any rule of the port's groups allows the first packet of a connection."""
        return any(
            rule["security_group_id"] in port["security_groups"]
            and rule["direction"] == direction
            and rule["ethertype"] == f"IPv{packet.version}"
            and _protocol_fits(rule, packet, stateful)
            and self._remote_fits(rule, packet.source if direction == "ingress" else packet.target, other)
            for rule in self.security_group_rules.values()
        )

    def _remote_fits(self, rule: Row, address: str, other: frozenset[str]) -> bool:
        if rule["remote_group_id"]:
            return rule["remote_group_id"] in other
        if rule["remote_address_group_id"]:
            prefixes = self.address_groups[rule["remote_address_group_id"]]["addresses"]
            return any(_within(address, prefix) for prefix in prefixes)
        return rule["remote_ip_prefix"] is None or _within(address, rule["remote_ip_prefix"])


@dataclass(frozen=True)
class Copy:
    """A copy of a frame, for these ports; or for the wire, behind which they are."""

    receivers: list[Row]
    wire: bool = False


@dataclass(frozen=True)
class Side:
    """The other side of a packet: the groups of which it is a member by its address, and those of the station."""

    groups: frozenset[str] = frozenset()
    station: frozenset[str] = frozenset()


# Rules ----------------------------------------------------------------------------------------------------------------


def _protocol_fits(rule: Row, packet: Packet, stateful: bool) -> bool:
    """Protocol, and ports or ICMP type and code.

    A later fragment has no ports: it passes if it could be of a packet that the rule allows, and nobody can make
    anything of it without the first one (RFC 1858). Without conntrack one of IPv6 does not even show its protocol.
    """
    protocol = number(rule["protocol"], packet.version)
    if protocol is None:
        return True
    first, last = rule["port_range_min"], rule["port_range_max"]
    is_icmp = protocol == ICMP[packet.version]
    if not is_icmp and first is not None and protocol not in SHOWS_PORTS:
        return False
    if packet.fragment == "later":
        return protocol == packet.protocol or (packet.version == 6 and not stateful)
    if protocol != packet.protocol:
        return False
    if is_icmp:
        return first in (None, packet.kind) and last in (None, packet.code)
    return first is None or (first, last) == (1, 65535) or first <= packet.target_port <= last


def number(protocol: str | None, version: int) -> int | None:
    """The number of a protocol as the API shows it: a name or a number; None for every one."""
    if protocol in (None, "any", "ip", "0"):
        return None
    if protocol in ("icmp", "1") and version == 6:
        return 58
    assert protocol is not None
    return int(protocol) if protocol.isdigit() else PROTOCOLS[protocol]


def _within(address: str, prefix: str) -> bool:
    network = ip_network(prefix, strict=False)
    return network.version == ip_address(address).version and ip_address(address) in network


# Ports ----------------------------------------------------------------------------------------------------------------


def _secure(port: Row) -> bool:
    return port["port_security_enabled"] and not port["device_owner"].startswith("network:")


def _macs(port: Row) -> set[str]:
    pairs: Iterable[Row] = port["allowed_address_pairs"]
    return {port["mac_address"], *(pair.get("mac_address") or port["mac_address"] for pair in pairs)}


def _claims(port: Row) -> list[Claim]:
    """What a port may say it is: its fixed IPs, its allowed pairs, and link-local addresses of MACs that have IPv6."""
    claims = [(port["mac_address"], fixed["ip_address"]) for fixed in port["fixed_ips"]]
    for pair in port["allowed_address_pairs"]:
        claims.append((pair.get("mac_address") or port["mac_address"], pair["ip_address"]))
    six = {mac for mac, prefix in claims if ":" in prefix}
    return claims + [(mac, link_local(mac)) for mac in sorted(six)]


def _claimed(claims: Iterable[Claim], mac: str, address: str) -> bool:
    return any(mac == own and _within(address, prefix) for own, prefix in claims)


def _discovers_truly(port: Row, packet: Packet, own: bool) -> bool:
    """Neighbour discovery: the option must be a MAC of the port (with IPv6), or be left out; and what is advertised,
    or probed from ::, must be its own address."""
    claims = [(mac, prefix) for mac, prefix in _claims(port) if ":" in prefix]
    if IPv6Address(packet.asked) == IPv6Address("::"):
        return False
    if packet.option and packet.option not in {mac for mac, _ in claims}:
        return False
    is_target = any(_within(packet.asked, prefix) for _, prefix in claims)
    if packet.kind == 136:
        return own and is_target
    return own or (packet.source == "::" and is_target)
