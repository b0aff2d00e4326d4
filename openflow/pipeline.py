"""The pipeline of the integration bridge, as data: registers, tables, kinds of flows, cookies, numbers of groups.

A packet is classified (which segment, which endpoint sent it), guarded (only the endpoint's own addresses), answered at
the edge where the answer is known, forwarded by (segment, MAC) to a destination and a place, and delivered there. There
is no learning and no flooding of unknown unicast in overlays: the controller knows every endpoint. Provider segments,
where strangers live, hand unknown destinations to the wire.

What comes out of a tunnel never goes into one, and what comes from a wire never returns to it: OpenFlow does not send a
packet out of the port that it came in by, and a segment has one tunnel port or one wire. That is the split horizon.

Tables that say "reserved" are declared and empty; flows skip them. Table numbers are fixed for ever. This file is data:
mechanism is in `declaration`, flows are made in `compilers`, and `python -m openflow.pipeline` prints docs/pipeline.md.
"""

from enum import IntEnum
from typing import Final

from openflow.declaration import VLAN_TAG, Family, Register, Table, render, validate

# Registers --------------------------------------------------------------------------------------------------------

SEGMENT: Final = "reg0"
SOURCE: Final = "reg1"
SOURCE_IDENTITY: Final = "reg2"
DESTINATION: Final = "reg3"
PLACE: Final = "reg5"
OPTION: Final = "tun_metadata0"

REGISTERS: tuple[Register, ...] = (
    Register("SEGMENT", SEGMENT, "the segment's key"),
    Register("SOURCE", SOURCE, "the sending endpoint's key; 0: not one of ours"),
    Register("SOURCE_IDENTITY", SOURCE_IDENTITY, "the sender's identity, as the tunnel's option says; 0: none"),
    Register("DESTINATION", DESTINATION, "the receiving endpoint's key"),
    Register("DESTINATION_IDENTITY", "reg4", "the receiver's identity", active=False),
    Register("PLACE.host", PLACE, "the key of the host, when the place is one", bits=28),
    Register(
        "PLACE.kind", PLACE, "where to: 1 here, 2 provider, 3 flood, 4 host by geneve, 5 host by vxlan", True, 28, 4
    ),
    Register("FLAGS", "reg6", "flags", active=False),
    Register("EGRESS_POLICY", "reg7", "what the source may send", active=False),
    Register("INGRESS_POLICY", "reg8", "what the destination accepts", active=False),
    Register("SOURCE_ZONE", "reg9", "the sender's conntrack zone", active=False),
    Register("DESTINATION_ZONE", "reg10", "the receiver's conntrack zone", active=False),
    Register("OPTION.destination", OPTION, "in a Geneve packet: the receiving endpoint's key; 0: all it concerns"),
    Register("OPTION.identity", OPTION, "in a Geneve packet: the sender's identity", True, 32),
)

HERE: Final = 1 << 28
PROVIDER: Final = 2 << 28
FLOOD: Final = 3 << 28
LARGEST_HOST: Final = (1 << 28) - 1


def host_place(kind: str, host: int) -> int:
    """The PLACE of a host (by its key) behind a kind of tunnel. Raises ValueError for a key that does not fit."""
    if not 0 <= host <= LARGEST_HOST:
        raise ValueError(f"the host's key {host} does not fit into PLACE")
    return (4 if kind == "geneve" else 5) << 28 | host


GENEVE_OPTION: Final = (0xFF5E, 1, 8, 0)
"""Our Geneve option: class (of the experimental range, RFC 8926), type, bytes, and its index (`tun_metadata0`)."""

# Cookies and groups -----------------------------------------------------------------------------------------------

MARKER: Final = 0x5E
"""Bits 56 to 63 of every cookie of ours."""


class Kind(IntEnum):
    """Bits 48 to 55 of a cookie: what kind of object the flow is there for."""

    BASE = 1
    SEGMENT = 2
    ENDPOINT = 3
    HOST = 4


def cookie(kind: Kind, key: int) -> int:
    """The cookie of a flow that is there for an object: bits 0 to 47 are its key."""
    if key >> 48:
        raise ValueError(f"the key {key} does not fit into a cookie")
    return MARKER << 56 | kind << 48 | key


def ours(number: int) -> bool:
    """Whether a cookie is one of ours; flows with others are never touched."""
    return number >> 56 == MARKER


def owner_of(number: int) -> tuple[Kind, int] | None:
    """The kind and the key of the object that a cookie names; None when it is not ours."""
    if not ours(number):
        return None
    try:
        return Kind(number >> 48 & 0xFF), number & (1 << 48) - 1
    except ValueError:
        return None


BASE_COOKIE: Final = cookie(Kind.BASE, 0)

FIRST_GROUP: Final = 1_000_000_000
LEAF_STRIDE: Final = 40_000_000
LEAVES: Final = 64
END_GROUP: Final = FIRST_GROUP + (LEAVES + 1) * LEAF_STRIDE
"""Groups of ours are FIRST_GROUP ≤ id < END_GROUP, and read well in decimal: `group:1000000007` is segment 7."""
ONE_GROUP: Final = 256
"""A group of more buckets is a root that leads to leaves: each is one message, and a change rewrites one of them."""
LEAF_SIZE: Final = 64
"""How many buckets a leaf should have."""


def group_id(segment: int, leaf: int = 0) -> int:
    """The group of a segment (by its key), or its leaf 1 to LEAVES. Raises ValueError for a key that does not fit."""
    if not 0 <= segment < LEAF_STRIDE or not 0 <= leaf <= LEAVES:
        raise ValueError(f"there is no group for leaf {leaf} of segment {segment}")
    return FIRST_GROUP + leaf * LEAF_STRIDE + segment


def own_group(number: int) -> bool:
    """Whether a group is one of ours; others are never touched."""
    return FIRST_GROUP <= number < END_GROUP


# Tables -----------------------------------------------------------------------------------------------------------


def _fields(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IPV6_ND = "eth_type ip_proto icmpv6_type icmpv6_code nd_target nd_sll nd_tll ipv6_src"

CLASSIFY = Table(
    0,
    "CLASSIFY",
    "port → segment and source endpoint; frames of strangers, with a false MAC or a tag are not known",
    matches=_fields("in_port vlan_vid eth_src tun_src tun_ipv6_src"),
    writes=_fields(f"{SEGMENT} {SOURCE} {VLAN_TAG}"),
    next=(5, 10, 20, 40),
)
TUNNEL = Table(
    5,
    "TUNNEL",
    "tunnel's key and option → segment, source identity, destination",
    matches=_fields("in_port tun_id tun_metadata0"),
    writes=_fields(f"{SEGMENT} {SOURCE_IDENTITY} {DESTINATION} {PLACE}"),
    next=(40, 60),
)
SOURCE_GUARD = Table(
    10,
    "SOURCE_GUARD",
    "IP and ARP sources must be the endpoint's own",
    matches=_fields(
        f"{SOURCE} eth_src eth_type ip_proto ipv4_src ipv4_dst ipv6_src udp_src udp_dst arp_op arp_spa arp_sha "
        "icmpv6_type icmpv6_code"
    ),
    writes=_fields("arp_sha"),
    next=(12, 20),
)
ND_OPTION = Table(
    12,
    "ND_OPTION",
    "link-layer addresses in neighbour discovery must be the endpoint's own",
    miss="drop (never: the lowest flow passes what is not neighbour discovery)",
    matches=_fields(f"{SOURCE} {_IPV6_ND}"),
    next=(14, 20),
)
ND_TARGET = Table(
    14,
    "ND_TARGET",
    "an address that is advertised or probed must be the endpoint's own",
    matches=_fields(f"{SOURCE} {_IPV6_ND}"),
    next=(20,),
)
RESPOND = Table(
    20,
    "RESPOND",
    "ARP and neighbour discovery of known addresses are answered at the edge",
    miss="drop (never: the lowest flow passes on)",
    matches=_fields(f"{SEGMENT} {_IPV6_ND} arp_op arp_spa arp_tpa"),
    writes=_fields("eth_src eth_dst arp_op arp_sha arp_tha arp_spa arp_tpa ipv6_src ipv6_dst icmpv6_type"),
    next=(30, 40),
    resubmits=(21,),
    sends=True,
)
ND_ANSWER = Table(
    21,
    "ND_ANSWER",
    "second half of the answer to a neighbour solicitation: its type must be set before its options can be",
    matches=_fields("eth_type ip_proto icmpv6_type icmpv6_code"),
    writes=_fields("nd_tll nd_options_type nd_reserved"),
    sends=True,
)
ROUTE = Table(30, "ROUTE", "destination MAC is a router's: longest prefix, TTL, next hop")
NEIGHBOUR = Table(35, "NEIGHBOUR", "next hop's address → MAC, segment")
FORWARD = Table(
    40,
    "FORWARD",
    "(segment, MAC) → destination endpoint and its place: here, host, provider, flood",
    matches=_fields(f"{SEGMENT} eth_dst"),
    writes=_fields(f"{DESTINATION} {PLACE} tun_id"),
    next=(50, 60),
    resubmits=(60,),
)
EGRESS_TRACK = Table(50, "EGRESS_TRACK", "conntrack of what the source sends")
EGRESS_POLICY = Table(55, "EGRESS_POLICY", "what the source may send")
DELIVER = Table(
    60,
    "DELIVER",
    "place → OUTPUT, a tunnel, the wire, or the segment's group",
    matches=_fields(f"{SEGMENT} {PLACE}"),
    writes=_fields(f"tun_dst tun_ipv6_dst tun_metadata0 vlan_vid {VLAN_TAG}"),
    next=(70, 80),
    sends=True,
)
INGRESS_TRACK = Table(70, "INGRESS_TRACK", "conntrack of what the destination gets")
INGRESS_POLICY = Table(75, "INGRESS_POLICY", "what the destination accepts")
OUTPUT = Table(80, "OUTPUT", "to the interface", matches=_fields(f"{SEGMENT} {DESTINATION}"), sends=True)

TABLES: tuple[Table, ...] = (
    CLASSIFY,
    TUNNEL,
    SOURCE_GUARD,
    ND_OPTION,
    ND_TARGET,
    RESPOND,
    ND_ANSWER,
    ROUTE,
    NEIGHBOUR,
    FORWARD,
    EGRESS_TRACK,
    EGRESS_POLICY,
    DELIVER,
    INGRESS_TRACK,
    INGRESS_POLICY,
    OUTPUT,
)

# Kinds of flows ---------------------------------------------------------------------------------------------------

SECURE_PORT = Family(
    CLASSIFY, "secure port", 100, "endpoint", "port and MAC are the endpoint's; one flow a MAC of its own"
)
OPEN_PORT = Family(CLASSIFY, "open port", 100, "endpoint", "port security is off: any MAC, no guard")
PEER = Family(CLASSIFY, "peer", 100, "host", "tunnels are listened to only from hosts with which we share a segment")
WIRE = Family(CLASSIFY, "wire", 100, "segment", "a VLAN (or the untagged frames) of a physical network is the segment")

TO_ALL = Family(
    TUNNEL, "to all", 110, "segment", "a Geneve packet for all it concerns: its destination in the option is 0"
)
TO_ONE = Family(TUNNEL, "to one", 100, "segment", "a Geneve packet whose option names the destination")
UNNAMED = Family(TUNNEL, "unnamed", 100, "segment", "VXLAN carries no option: the destination is looked up by MAC")

ROGUE_DHCP = Family(SOURCE_GUARD, "DHCP server", 120, "base", "a secure endpoint is no DHCP server (nor one for IPv6)")
OWN_IP = Family(
    SOURCE_GUARD, "own IP", 100, "endpoint", "(MAC, address or prefix) is the endpoint's or an allowed pair"
)
OWN_ARP = Family(SOURCE_GUARD, "own ARP", 100, "endpoint", "sender's hardware and protocol address are such a pair")
DHCP_CLIENT = Family(
    SOURCE_GUARD, "DHCP client", 90, "base", "0.0.0.0 to the broadcast address, before there is an address"
)
ARP_PROBE = Family(
    SOURCE_GUARD,
    "ARP probe",
    90,
    "base",
    "address conflict detection (RFC 5227); its sender's MAC is made the true one",
)
UNSPECIFIED = Family(
    SOURCE_GUARD, "unspecified source", 90, "base", ":: may solicit routers and report multicast (RFC 3590), and probe"
)

BROKEN_ND = Family(ND_OPTION, "malformed", 120, "base", "Open vSwitch reads a malformed option list as target ::")
OWN_SOLICIT = Family(ND_OPTION, "own solicitation", 100, "endpoint", "the option has a MAC of the endpoint")
OWN_ADVERT = Family(ND_OPTION, "own advertisement", 100, "endpoint", "the option has a MAC of the endpoint")
NO_OPTION = Family(
    ND_OPTION, "no option", 90, "base", "unicast answers and probes may leave the option out (RFC 4861, 4.3, 4.4)"
)
FALSE_ND = Family(ND_OPTION, "false", 80, "base", "all other neighbour discovery, and router advertisements")
NOT_ND = Family(ND_OPTION, "other", 0, "base", "not neighbour discovery")

OWN_TARGET = Family(
    ND_TARGET, "own target", 100, "endpoint", "advertises or probes (source ::) an address of the endpoint"
)
FALSE_PROBE = Family(ND_TARGET, "false probe", 90, "base", "probes an address that is not the endpoint's")
SOLICIT = Family(ND_TARGET, "solicitation", 80, "base", "anybody may be asked for")

PROBE = Family(
    RESPOND, "probe", 200, "base", "ARP and ND probes, and solicitations without option, are for the owner itself"
)
ANNOUNCE = Family(RESPOND, "announcement", 150, "address", "a gratuitous ARP request of a local owner is for everybody")
ANSWER = Family(RESPOND, "answer", 100, "address", "asked for an address that exactly one endpoint claims")
PASS = Family(RESPOND, "other", 0, "base", "there is nothing to answer")
ANSWER_ND = Family(ND_ANSWER, "answer", 100, "base", "the option becomes the target's MAC; solicited, overriding")

STATION = Family(FORWARD, "station", 100, "station", "a known MAC; one copy each if several endpoints claim it")
MULTICAST = Family(FORWARD, "multicast", 90, "segment", "broadcast and multicast")
STRANGER = Family(FORWARD, "stranger", 10, "segment", "provider segments: who is not known here may be on the wire")

LOCAL = Family(DELIVER, "here", 100, "base", "the destination is a local endpoint")
EVERYBODY = Family(DELIVER, "flood", 100, "segment", "local members, remote hosts with members, or the wire")
ONTO_WIRE = Family(DELIVER, "provider", 100, "segment", "onto the wire, tagged if the segment is a VLAN")
TO_HOST = Family(DELIVER, "host", 100, "host", "into the tunnel to a host with which we share a segment")

INTERFACE = Family(OUTPUT, "interface", 100, "endpoint", "the endpoint's interface, once it is plugged")

FAMILIES: tuple[Family, ...] = tuple(thing for thing in list(globals().values()) if isinstance(thing, Family))

validate(REGISTERS, TABLES, FAMILIES)

HEADING = """
# The pipeline of br-int

Generated by `python -m openflow.pipeline > docs/pipeline.md` from the declarations in `openflow/pipeline.py`; a test
keeps it current.
"""

CLOSING = f"""
## Cookies

Every flow's cookie leads to an object: bits 56-63 are `{MARKER:#x}` (ours), bits 48-55 the kind
({", ".join(f"{kind.value} {kind.name.lower()}" for kind in Kind)}), bits 0-47 the object's key. So
`ovs-ofctl dump-flows br-int cookie={cookie(Kind.ENDPOINT, 7):#x}/-1` shows what is there for the port with key 7.
Flows and groups that are not marked as ours are never touched.

## Groups

A segment's group floods to its members: its id is {FIRST_GROUP:_} + the segment's key. When there are more than
{ONE_GROUP} buckets they are in leaves, whose ids are {LEAF_STRIDE:_} further on each.
"""

if __name__ == "__main__":
    print(render(HEADING, REGISTERS, TABLES, FAMILIES, CLOSING), end="")
