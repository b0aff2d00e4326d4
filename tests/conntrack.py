"""A connection tracker in Python: what Open vSwitch's own one (userspace datapath, 3.1) says of a packet.

Zones are apart. A connection is remembered when it is committed, and never forgotten. A packet of one that is not known
is new; one that cannot be the first of any, or is of a kind that nobody tracks, is invalid; an ICMP error is related
when the packet that it is about belongs to a connection, and invalid otherwise. "Established" needs an answer: until
then packets of the direction that began stay new, as Open vSwitch has it.

What a tracker sees and flows do not is in fields of the packet that no match knows: `icmp_id`; `whole_ip_proto`,
`whole_udp_src` and so on (what the first fragment says, in a later one: Open vSwitch tracks them as a whole); and
`inner_proto`, `inner_src`, `inner_dst`, `inner_sport`, `inner_dport`, `inner_id` (the packet quoted by an ICMP error;
for ICMP in there the port fields have its type and 0).
"""

from dataclasses import dataclass
from typing import NamedTuple

from openflow.fields import CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK

Packet = dict[str, int]

IPV4, IPV6 = 0x0800, 0x86DD
LATER = 3
"""In `ip_frag`: a fragment that is not the first."""

STATE = (
    "ct_state",
    "ct_zone",
    "ct_nw_proto",
    "ct_nw_src",
    "ct_nw_dst",
    "ct_ipv6_src",
    "ct_ipv6_dst",
    "ct_tp_src",
    "ct_tp_dst",
)
"""The fields that a tracked packet has."""

PORTS = {6: ("tcp_src", "tcp_dst"), 17: ("udp_src", "udp_dst")}
"""The protocols that are tracked by their ports. SCTP is not yet, in 3.1: by its addresses, like all others."""

ASKS = {(IPV4, 8): 0, (IPV4, 13): 14, (IPV4, 15): 16, (IPV6, 128): 129}
"""ICMP types that begin something, and their answers."""
ANSWERS = {(family, answer): asks for (family, asks), answer in ASKS.items()}
ERRORS = frozenset((IPV4, kind) for kind in (3, 4, 5, 11, 12)) | frozenset((IPV6, kind) for kind in (1, 2, 3, 4))
ICMP = {IPV4: (1, "icmpv4"), IPV6: (58, "icmpv6")}


class Tuple(NamedTuple):
    """One direction of a connection. For ICMP the ends are types, and `ident` its identifier."""

    family: int
    protocol: int
    source: int
    target: int
    source_end: int = 0
    target_end: int = 0
    ident: int = 0

    @property
    def back(self) -> "Tuple":
        """The other direction."""
        family, protocol, source, target, source_end, target_end, ident = self
        return Tuple(family, protocol, target, source, target_end, source_end, ident)


@dataclass
class Connection:
    """What is remembered of a connection: its first packet's tuple, and whether it was answered."""

    first: Tuple
    answered: bool = False


class Conntrack:
    """All zones of one switch."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, Tuple], Connection] = {}

    def flush(self, zone: int) -> None:
        """Forget a zone's connections."""
        self._known = {key: connection for key, connection in self._known.items() if key[0] != zone}

    def track(self, packet: Packet, zone: int, commit: bool = False) -> dict[str, int]:
        """The fields in `STATE` that the packet has after it was tracked in a zone."""
        found = _tuple(packet)
        if found is None:
            return {"ct_state": CT_TRK | CT_INV, "ct_zone": zone}
        connection = self._known.get((zone, found)) or self._known.get((zone, found.back))
        if _kind(packet) in ERRORS:
            if connection is None:
                return {"ct_state": CT_TRK | CT_INV, "ct_zone": zone}
            # The quoted packet went one way, and the error goes the other.
            state = CT_REL if found.back == connection.first else CT_REL | CT_RPL
            return _fields(packet, zone, connection.first, state)
        if connection is None:
            if _kind(packet) in ANSWERS:
                return {"ct_state": CT_TRK | CT_INV, "ct_zone": zone}
            if commit and packet.get("ip_frag") != LATER:  # a whole datagram is committed, or nothing
                self._known[zone, found] = Connection(found)
            return _fields(packet, zone, found, CT_NEW)
        if found == connection.first:
            return _fields(packet, zone, found, CT_EST if connection.answered else CT_NEW)
        connection.answered = True
        return _fields(packet, zone, connection.first, CT_EST | CT_RPL)


def _fields(packet: Packet, zone: int, first: Tuple, state: int) -> dict[str, int]:
    names = ("ct_nw_src", "ct_nw_dst") if first.family == IPV4 else ("ct_ipv6_src", "ct_ipv6_dst")
    fields = {"ct_state": CT_TRK | state, "ct_zone": zone, "ct_nw_proto": first.protocol}
    fields |= {names[0]: first.source, names[1]: first.target}
    if packet.get("ip_frag") != LATER and first.protocol in PORTS:
        fields |= {"ct_tp_src": first.source_end, "ct_tp_dst": first.target_end}
    return fields


def _whole(packet: Packet, name: str) -> int:
    """A field of the packet, or of the datagram of which it is a later fragment."""
    return packet.get(f"whole_{name}" if packet.get("ip_frag") == LATER else name, 0)


def _kind(packet: Packet) -> tuple[int, int] | None:
    """The family and type of an ICMP packet."""
    family = packet["eth_type"]
    protocol, name = ICMP[family]
    return (family, _whole(packet, f"{name}_type")) if _whole(packet, "ip_proto") == protocol else None


def _tuple(packet: Packet) -> Tuple | None:
    """The connection's direction that a packet is of; that of the quoted one for an ICMP error."""
    family = packet["eth_type"]
    version = "ipv4" if family == IPV4 else "ipv6"
    ends = packet[f"{version}_src"], packet[f"{version}_dst"]
    kind, protocol = _kind(packet), _whole(packet, "ip_proto")
    if kind in ERRORS:
        if packet.get("inner_src") != ends[1]:
            return None
        quoted = packet["inner_src"], packet["inner_dst"]
        inner = packet.get("inner_sport", 0), packet.get("inner_dport", 0), packet.get("inner_id", 0)
        return _of(family, quoted, packet["inner_proto"], inner)
    if kind is not None:
        code = _whole(packet, f"{ICMP[family][1]}_code")
        return None if code else _of(family, ends, protocol, (kind[1], 0, packet.get("icmp_id", 0)))
    source, target = PORTS.get(protocol, ("", ""))
    return _of(family, ends, protocol, (_whole(packet, source), _whole(packet, target), 0))


def _of(family: int, ends: tuple[int, int], protocol: int, inner: tuple[int, int, int]) -> Tuple | None:
    """`inner` is what the protocol tells connections apart by: ports; or a type, nothing, and an identifier."""
    source, target, ident = inner
    if protocol == ICMP[family][0]:
        other = ASKS.get((family, source), ANSWERS.get((family, source)))
        return None if other is None else Tuple(family, protocol, *ends, source, other, ident)
    if protocol in PORTS:
        return Tuple(family, protocol, *ends, source, target)
    return Tuple(family, protocol, *ends)
