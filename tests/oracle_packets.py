"""Packets as the oracle sees them: what people would say of a packet, not what a switch reads of it.

A fragment is a `Packet` with all that its datagram has, and the word for which of its fragments it is.
"""

from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from typing import Literal, NamedTuple

TCP, UDP, SCTP = 6, 17, 132
ICMP = {4: 1, 6: 58}

PROTOCOLS = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "hopopt": 0,
    "icmp": 1,
    "icmpv6": 58,
    "igmp": 2,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": 6,
    "udp": 17,
    "udplite": 136,
    "vrrp": 112,
}
"""Neutron's names of protocols, and their numbers (IANA)."""

ANSWERS = {(4, 8): 0, (4, 13): 14, (4, 15): 16, (6, 128): 129}
"""ICMP that begins something (version, type), and the type of its answer: echo, timestamp, information."""
QUESTIONS = {(version, answer): question for (version, question), answer in ANSWERS.items()}
ERRORS = frozenset({(4, 3), (4, 4), (4, 5), (4, 11), (4, 12), (6, 1), (6, 2), (6, 3), (6, 4)})
"""ICMP that is about another packet, which it quotes (RFC 792, RFC 4443)."""
MULTICAST_LISTENERS = frozenset({130, 131, 132, 143})
"""Multicast listener discovery (RFC 2710, RFC 3810): query, report, done, report of version 2."""

KNOWN_BY_PORTS = frozenset({TCP, UDP})
"""A connection of these is a pair of addresses with ports. Of all others but ICMP it is a pair of addresses: SCTP too,
since Open vSwitch 3.1 with its userspace datapath knows no more of it."""


class Tuple(NamedTuple):
    """One direction of a connection; for ICMP the ends are the types there and back, and `ident` tells echoes apart."""

    version: int
    protocol: int
    source: str
    target: str
    source_end: int = 0
    target_end: int = 0
    ident: int = 0

    @property
    def back(self) -> "Tuple":
        """The other direction."""
        version, protocol, source, target, source_end, target_end, ident = self
        return Tuple(version, protocol, target, source, target_end, source_end, ident)


@dataclass(frozen=True)
class Packet:
    """An IP packet in an Ethernet frame. `kind`, `code` and `ident` are ICMP's type, code and identifier.

    `quoted` is what an ICMP error is about; `asked` and `option` are neighbour discovery's target and link-layer
    address ("": none).
    """

    source_mac: str
    target_mac: str
    source: str
    target: str
    protocol: int
    source_port: int = 0
    target_port: int = 0
    kind: int = 0
    code: int = 0
    ident: int = 0
    fragment: Literal["", "first", "later"] = ""
    quoted: "Packet | None" = None
    asked: str = "::"
    option: str = ""

    @property
    def version(self) -> int:
        """4 or 6."""
        return ip_address(self.source).version

    @property
    def udp(self) -> tuple[int, int, int] | None:
        """IP version and ports of UDP that shows its ports."""
        if self.protocol != UDP or self.fragment == "later":
            return None
        return self.version, self.source_port, self.target_port

    @property
    def icmpv6(self) -> int | None:
        """The type of ICMPv6 that shows it."""
        return self.kind if (self.version, self.protocol) == (6, 58) and self.fragment != "later" else None

    @property
    def is_error(self) -> bool:
        """An ICMP error."""
        return self._is_icmp and (self.version, self.kind) in ERRORS

    @property
    def is_answer(self) -> bool:
        """ICMP that answers a question."""
        return self._is_icmp and (self.version, self.kind) in QUESTIONS

    @property
    def connection(self) -> Tuple | None:
        """The connection that it belongs to, or that the packet belongs to which it is about. None: nobody can say."""
        if not self._is_icmp:
            ends = (self.source_port, self.target_port) if self.protocol in KNOWN_BY_PORTS else (0, 0)
            return Tuple(self.version, self.protocol, self.source, self.target, *ends)
        if self.is_error:
            about = self.quoted
            return about.connection if about and about.source == self.target and not about.is_error else None
        ends_of_icmp = self.kind, self._other_kind
        if self.code or ends_of_icmp[1] is None:
            return None
        return Tuple(self.version, self.protocol, self.source, self.target, self.kind, ends_of_icmp[1], self.ident)

    @property
    def back(self) -> "Packet":
        """The packet of its connection's other direction: as what it answers would be."""
        kind = self._other_kind if self._is_icmp else None
        return replace(
            self,
            source=self.target,
            target=self.source,
            source_port=self.target_port,
            target_port=self.source_port,
            kind=self.kind if kind is None else kind,
        )

    @property
    def _is_icmp(self) -> bool:
        return self.protocol == ICMP[self.version]

    @property
    def _other_kind(self) -> int | None:
        name = self.version, self.kind
        return ANSWERS.get(name, QUESTIONS.get(name))


@dataclass(frozen=True)
class Arp:
    """An ARP packet: `operation` 1 asks, 2 replies."""

    source_mac: str
    target_mac: str
    sender_mac: str
    sender: str
    asked: str
    operation: int = 1


@dataclass(frozen=True)
class Other:
    """A frame that is neither IP nor ARP."""

    source_mac: str
    target_mac: str
    ethertype: int


Frame = Packet | Arp | Other


def is_group(mac: str) -> bool:
    """Whether it is the address of a group: broadcast and multicast."""
    return bool(int(mac[:2], 16) & 1)


def link_local(mac: str) -> str:
    """The IPv6 link-local address that a MAC's interface forms (RFC 4291, appendix A)."""
    bytes_of = bytes.fromhex(mac.replace(":", ""))
    interface = bytes([bytes_of[0] ^ 2, *bytes_of[1:3], 0xFF, 0xFE, *bytes_of[3:]])
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + interface))
