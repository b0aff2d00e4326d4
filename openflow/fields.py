"""What a packet's fields are called, how wide they are, and how OpenFlow numbers them: one line a field.

The order of the table is the order in which Open vSwitch 3.1 writes the fields of a match when flows are dumped over
OpenFlow 1.4 (nx_put_raw() in its lib/nx-match.c, probed field by field). A match written in this order, with full masks
left out, comes back byte for byte; so comparing with the switch needs no decoding.

A field has up to two numbers: `header` is what matches and set_field carry in OpenFlow 1.4 (the OXM number where there
is one, else Nicira's), `nxm` is what Nicira's own actions (load, move) carry when read back (Nicira's number where
there is one). Names are those of ovs-fields(7); `ALIASES` has the other names that ovs-ofctl knows.
Read `match` next.
"""

import struct
from collections.abc import Callable
from functools import partial

NXM_OF, NXM_NX, NX_ND, OXM, EXPERIMENTER = 0x0000, 0x0001, 0x1000, 0x8000, 0xFFFF
"""OXM classes. 0x1000 is the one of nd_reserved and nd_options_type (ERICOXM_OF_ in ovs-fields(7))."""

ONF = 0x4F4E4600
"""The experimenter of the fields that the ONF published between two versions of OpenFlow (EXT-109, EXT-233)."""

Requirement = tuple[str, frozenset[int]]
"""A field that must be matched exactly, and the values it may have then (OpenFlow 1.4, 7.2.3.6 "prerequisites")."""

ARP: tuple[Requirement, ...] = (("eth_type", frozenset({0x0806, 0x8035})),)
IPV4: tuple[Requirement, ...] = (("eth_type", frozenset({0x0800})),)
IPV6: tuple[Requirement, ...] = (("eth_type", frozenset({0x86DD})),)
IP: tuple[Requirement, ...] = (("eth_type", frozenset({0x0800, 0x86DD})),)
MPLS: tuple[Requirement, ...] = (("eth_type", frozenset({0x8847, 0x8848})),)
TCP = (*IP, ("ip_proto", frozenset({6})))
UDP = (*IP, ("ip_proto", frozenset({17})))
SCTP = (*IP, ("ip_proto", frozenset({132})))
ICMPV4 = (*IPV4, ("ip_proto", frozenset({1})))
ICMPV6 = (*IPV6, ("ip_proto", frozenset({58})))
ND = (*ICMPV6, ("icmpv6_type", frozenset({135, 136})))
ND_SOLICIT = (*ICMPV6, ("icmpv6_type", frozenset({135})))
ND_ADVERT = (*ICMPV6, ("icmpv6_type", frozenset({136})))
CT_PORTS: tuple[Requirement, ...] = (("ct_nw_proto", frozenset(range(1, 256))),)

CT_NEW, CT_EST, CT_REL, CT_RPL, CT_INV, CT_TRK, CT_SNAT, CT_DNAT = (1 << bit for bit in range(8))
"""The bits of `ct_state`. None is set before the packet has been through the ct action, and none but trk and inv when
that could make nothing of it."""

CT_VALID = CT_NEW | CT_EST | CT_REL | CT_RPL | CT_SNAT | CT_DNAT
"""Any of these says that the packet belongs to a connection."""


class BadFlow(ValueError):
    """A flow, match or action that Open vSwitch would refuse or rewrite; the text names the field and why."""


class Field:
    """One field of a packet or of its metadata.

    `bits` is its width, `size` the bytes it takes in a match. `rank` is its place in a match. `form` tells how its
    value is written for people (dec, hex, ipv4, ipv6, mac, port), `text` what ovs-ofctl calls it. `exact(value)` and
    `masked(value, mask)` are the bytes of a term of a match (header and value); values must fit. `slice` is how many of
    its bits load and move can reach (none: 0); `writable` says whether they may write it, `settable` whether set_field
    may. A field with a `largest` size (bytes) is of variable length: actions, though not matches, leave its leading
    zero bytes out, and groups, which do not know how long it is, take it for the largest. A field of the packet's
    connection (`connected`) may be matched only along with a `ct_state` that says that there is one.
    """

    __slots__ = (
        "bits",
        "connected",
        "exact",
        "form",
        "full",
        "head",
        "head_masked",
        "header",
        "header_masked",
        "largest",
        "maskable",
        "masked",
        "name",
        "nxm",
        "rank",
        "requires",
        "settable",
        "size",
        "slice",
        "text",
        "writable",
    )

    exact: Callable[[int], bytes]
    masked: Callable[[int, int], bytes]

    def __init__(
        self,
        name: str,
        number: tuple[int, int],
        bits: int,
        form: str = "dec",
        *,
        size: int = 0,
        slice_bits: int | None = None,
        always_masked: bool = False,
        nxm: tuple[int, int] | None = None,
        maskable: bool = True,
        writable: bool = True,
        settable: bool | None = None,
        largest: int = 0,
        connected: bool = False,
        requires: tuple[Requirement, ...] = (),
        text: str = "",
    ) -> None:
        self.name = name
        self.text = text or name
        self.bits = bits
        self.full = (1 << bits) - 1
        self.size = size or (bits + 7) // 8
        self.form = form
        self.maskable = maskable
        self.writable = writable
        self.settable = writable if settable is None else settable
        self.largest = largest
        self.connected = connected
        self.requires = requires
        self.rank = -1
        oxm_class, oxm_field = number
        extra = struct.pack("!I", ONF) if oxm_class == EXPERIMENTER else b""
        self.header = oxm_class << 16 | oxm_field << 9 | self.size + len(extra)
        self.header_masked = oxm_class << 16 | oxm_field << 9 | 1 << 8 | 2 * self.size + len(extra)
        self.head = struct.pack("!I", self.header) + extra
        self.head_masked = struct.pack("!I", self.header_masked) + extra
        if nxm is not None:
            self.nxm = nxm[0] << 16 | nxm[1] << 9 | self.size
        else:
            self.nxm = 0 if extra else self.header
        self.slice = (bits if self.nxm else 0) if slice_bits is None else slice_bits
        self.exact, self.masked = _writers(self.head, self.head_masked, self.size)
        if always_masked:
            masked, full = self.masked, self.full
            self.exact = lambda value: masked(value, full)

    def __repr__(self) -> str:
        return self.name


def _writers(head: bytes, head_masked: bytes, size: int) -> tuple[Callable[[int], bytes], Callable[[int, int], bytes]]:
    """How terms of a field of `size` bytes are written: one call into C where struct has the width."""
    letter = {1: "B", 2: "H", 4: "I", 8: "Q"}.get(size)
    if letter is not None:
        return (
            partial(struct.Struct(f"!{len(head)}s{letter}").pack, head),
            partial(struct.Struct(f"!{len(head)}s{letter}{letter}").pack, head_masked),
        )

    def exact(value: int) -> bytes:
        return head + value.to_bytes(size, "big")

    def masked(value: int, mask: int) -> bytes:
        return head_masked + value.to_bytes(size, "big") + mask.to_bytes(size, "big")

    return exact, masked


TABLE: tuple[Field, ...] = (
    Field("conj_id", (NXM_NX, 37), 32, maskable=False, writable=False),
    Field("in_port", (OXM, 0), 32, "port", maskable=False, settable=False),
    Field("actset_output", (EXPERIMENTER, 43), 32, "port", maskable=False, writable=False),
    Field("eth_src", (OXM, 4), 48, "mac", nxm=(NXM_OF, 2), text="dl_src"),
    Field("eth_dst", (OXM, 3), 48, "mac", nxm=(NXM_OF, 1), text="dl_dst"),
    Field("eth_type", (OXM, 5), 16, "hex", nxm=(NXM_OF, 3), maskable=False, writable=False, text="dl_type"),
    # Bit 12 says that there is a tag at all (OFPVID_PRESENT): 0 is "no VLAN", 0x1005 is VLAN 5.
    Field("vlan_vid", (OXM, 6), 13, "hex", size=2, slice_bits=12),
    Field("vlan_pcp", (OXM, 7), 3, maskable=False, text="dl_vlan_pcp"),
    Field("mpls_tc", (OXM, 35), 3, maskable=False, requires=MPLS),
    Field("mpls_bos", (OXM, 36), 1, maskable=False, writable=False, requires=MPLS),
    Field("mpls_ttl", (NXM_NX, 30), 8, maskable=False, requires=MPLS),
    Field("mpls_label", (OXM, 34), 20, size=4, maskable=False, requires=MPLS),
    Field("ipv4_src", (OXM, 11), 32, "ipv4", nxm=(NXM_OF, 7), requires=IPV4, text="nw_src"),
    Field("ipv4_dst", (OXM, 12), 32, "ipv4", nxm=(NXM_OF, 8), requires=IPV4, text="nw_dst"),
    Field("ipv6_src", (OXM, 26), 128, "ipv6", nxm=(NXM_NX, 19), requires=IPV6),
    Field("ipv6_dst", (OXM, 27), 128, "ipv6", nxm=(NXM_NX, 20), requires=IPV6),
    Field("ip_frag", (NXM_NX, 26), 2, "hex", writable=False, requires=IP, text="nw_frag"),
    Field("ip_dscp", (OXM, 8), 6, maskable=False, requires=IP),
    Field("ip_ecn", (OXM, 9), 2, nxm=(NXM_NX, 28), maskable=False, requires=IP, text="nw_ecn"),
    Field("nw_ttl", (NXM_NX, 29), 8, maskable=False, requires=IP),
    Field("ipv6_label", (OXM, 28), 20, "hex", size=4, nxm=(NXM_NX, 27), requires=IPV6),
    Field("ip_proto", (OXM, 10), 8, nxm=(NXM_OF, 6), maskable=False, writable=False, requires=IP, text="nw_proto"),
    Field("tcp_src", (OXM, 13), 16, nxm=(NXM_OF, 9), requires=TCP, text="tp_src"),
    Field("tcp_dst", (OXM, 14), 16, nxm=(NXM_OF, 10), requires=TCP, text="tp_dst"),
    Field("tcp_flags", (EXPERIMENTER, 42), 12, "hex", size=2, nxm=(NXM_NX, 34), writable=False, requires=TCP),
    Field("udp_src", (OXM, 15), 16, nxm=(NXM_OF, 11), requires=UDP, text="tp_src"),
    Field("udp_dst", (OXM, 16), 16, nxm=(NXM_OF, 12), requires=UDP, text="tp_dst"),
    Field("sctp_src", (OXM, 17), 16, requires=SCTP, text="tp_src"),
    Field("sctp_dst", (OXM, 18), 16, requires=SCTP, text="tp_dst"),
    Field("icmpv4_type", (OXM, 19), 8, nxm=(NXM_OF, 13), maskable=False, requires=ICMPV4, text="icmp_type"),
    Field("icmpv4_code", (OXM, 20), 8, nxm=(NXM_OF, 14), maskable=False, requires=ICMPV4, text="icmp_code"),
    Field("icmpv6_type", (OXM, 29), 8, nxm=(NXM_NX, 21), maskable=False, requires=ICMPV6, text="icmp_type"),
    Field("icmpv6_code", (OXM, 30), 8, nxm=(NXM_NX, 22), maskable=False, requires=ICMPV6, text="icmp_code"),
    Field("nd_reserved", (NX_ND, 1), 32, maskable=False, requires=ND),
    Field("nd_target", (OXM, 31), 128, "ipv6", nxm=(NXM_NX, 23), requires=ND),
    Field("nd_options_type", (NX_ND, 2), 8, maskable=False, requires=ND),
    Field("nd_sll", (OXM, 32), 48, "mac", nxm=(NXM_NX, 24), requires=ND_SOLICIT),
    Field("nd_tll", (OXM, 33), 48, "mac", nxm=(NXM_NX, 25), requires=ND_ADVERT),
    # Two bytes in the packet, but Open vSwitch knows the lower one only.
    Field("arp_op", (OXM, 21), 8, size=2, slice_bits=16, nxm=(NXM_OF, 15), maskable=False, requires=ARP),
    Field("arp_spa", (OXM, 22), 32, "ipv4", nxm=(NXM_OF, 16), requires=ARP),
    Field("arp_tpa", (OXM, 23), 32, "ipv4", nxm=(NXM_OF, 17), requires=ARP),
    Field("arp_sha", (OXM, 24), 48, "mac", nxm=(NXM_NX, 17), requires=ARP),
    Field("arp_tha", (OXM, 25), 48, "mac", nxm=(NXM_NX, 18), requires=ARP),
    Field("tun_id", (OXM, 38), 64, "hex", nxm=(NXM_NX, 16)),
    Field("tun_flags", (NXM_NX, 104), 1, "hex", size=2, always_masked=True, settable=False),
    Field("tun_src", (NXM_NX, 31), 32, "ipv4"),
    Field("tun_dst", (NXM_NX, 32), 32, "ipv4"),
    Field("tun_ipv6_src", (NXM_NX, 109), 128, "ipv6"),
    Field("tun_ipv6_dst", (NXM_NX, 110), 128, "ipv6"),
    Field("tun_gbp_id", (NXM_NX, 38), 16),
    Field("tun_gbp_flags", (NXM_NX, 39), 8, "hex"),
    # As wide as the Geneve option that a TLV table mod mapped to it: ours is 8 bytes.
    Field("tun_metadata0", (NXM_NX, 40), 64, "hex", largest=124),
    *(Field(f"reg{number}", (NXM_NX, number), 32, "hex") for number in range(16)),
    Field("pkt_mark", (NXM_NX, 33), 32, "hex"),
    Field("ct_state", (NXM_NX, 105), 8, "hex", size=4, slice_bits=32, always_masked=True, writable=False),
    Field("ct_zone", (NXM_NX, 106), 16, maskable=False, writable=False),
    # Writable inside the ct action only, which Open vSwitch checks.
    Field("ct_mark", (NXM_NX, 107), 32, "hex", writable=False),
    Field("ct_label", (NXM_NX, 108), 128, "hex", writable=False),
    # Addresses, protocol and ports of the packet that began the connection, whichever way this one goes. Open vSwitch
    # takes ct_nw_proto=0, and ports without a protocol, but leaves them out when it is asked.
    Field("ct_nw_src", (NXM_NX, 120), 32, "ipv4", writable=False, connected=True, requires=IPV4),
    Field("ct_ipv6_src", (NXM_NX, 122), 128, "ipv6", writable=False, connected=True, requires=IPV6),
    Field("ct_nw_dst", (NXM_NX, 121), 32, "ipv4", writable=False, connected=True, requires=IPV4),
    Field("ct_ipv6_dst", (NXM_NX, 123), 128, "ipv6", writable=False, connected=True, requires=IPV6),
    Field("ct_nw_proto", (NXM_NX, 119), 8, maskable=False, writable=False, connected=True),
    Field("ct_tp_src", (NXM_NX, 124), 16, writable=False, connected=True, requires=CT_PORTS),
    Field("ct_tp_dst", (NXM_NX, 125), 16, writable=False, connected=True, requires=CT_PORTS),
    Field("metadata", (OXM, 2), 64, "hex"),
)
"""Every field, in the order of a match."""

for _rank, _field in enumerate(TABLE):
    _field.rank = _rank

BY_NAME: dict[str, Field] = {field.name: field for field in TABLE}

ALIASES: dict[str, str] = {
    "dl_src": "eth_src",
    "dl_dst": "eth_dst",
    "dl_type": "eth_type",
    "nw_src": "ipv4_src",
    "nw_dst": "ipv4_dst",
    "ip_src": "ipv4_src",
    "ip_dst": "ipv4_dst",
    "nw_proto": "ip_proto",
    "nw_ecn": "ip_ecn",
    "nw_frag": "ip_frag",
    "icmp_type": "icmpv4_type",
    "icmp_code": "icmpv4_code",
    "tunnel_id": "tun_id",
    "tun_ipv4_src": "tun_src",
    "tun_ipv4_dst": "tun_dst",
}
"""Other names of ovs-fields(7). Values and text forms use the names of the table only."""

BY_HEADER: dict[int, Field] = {
    key: field
    for field in TABLE
    for key in (field.header, field.header_masked, field.nxm, field.nxm & ~0xFF | 1 << 8 | 2 * field.size)
    if key and key >> 16 != EXPERIMENTER
}
"""Fields by the 32-bit header of their term: OXM or Nicira number, exact or masked."""

BY_EXPERIMENT: dict[int, Field] = {
    key: field for field in TABLE for key in (field.header, field.header_masked) if key >> 16 == EXPERIMENTER
}
"""Fields by header when an experimenter number (of the ONF) follows it."""


def field(name: str) -> Field:
    """The field called `name`. Raises `BadFlow` when there is none."""
    found = BY_NAME.get(name) or BY_NAME.get(ALIASES.get(name, ""))
    if found is None:
        raise BadFlow(f"there is no field {name!r}")
    return found
