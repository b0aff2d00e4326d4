"""The registers and tables of the pipeline, as data; `openflow.pipeline` has their names too, and the kinds of flows.

A table that says "reserved" is declared and empty; flows skip it. Numbers are fixed for ever.
"""

from openflow.declaration import VLAN_TAG, Register, Table
from openflow.numbers import (
    DESTINATION,
    DESTINATION_IDENTITY,
    DESTINATION_ZONE,
    OPTION,
    PLACE,
    POLICY,
    REMOTE,
    SEGMENT,
    SOURCE,
    SOURCE_IDENTITY,
    SOURCE_POLICY,
    SOURCE_ZONE,
    VERDICT,
)

# Registers --------------------------------------------------------------------------------------------------------

REGISTERS: tuple[Register, ...] = (
    Register("SEGMENT", SEGMENT, "the segment's key"),
    Register("SOURCE", SOURCE, "the sending endpoint's key; 0: not one of ours"),
    Register("SOURCE_IDENTITY", SOURCE_IDENTITY, "the sender's identity, as far as it is known here; 0: none"),
    Register("DESTINATION", DESTINATION, "the receiving endpoint's key"),
    Register("DESTINATION_IDENTITY", DESTINATION_IDENTITY, "the identity of who has the destination MAC; 0: none"),
    Register("PLACE.host", PLACE, "the key of the host, when the place is one", bits=28),
    Register("PLACE.kind", PLACE, "where to: 1 here, 2 provider, 3 flood, 4 host by geneve, 5 host by vxlan", 28, 4),
    Register("VERDICT", VERDICT, "1: a rule allows the packet at this stage"),
    Register("POLICY", POLICY, "whose rules apply at this stage: the identity of the sender's or receiver's groups"),
    Register("REMOTE", REMOTE, "the identity of the other side at this stage; 0: none"),
    Register("SOURCE_ZONE", SOURCE_ZONE, "the conntrack zone of a sender here", bits=16),
    Register("SOURCE_FREE", SOURCE_ZONE, "1: the sender is here and its port security is off", 16, 1),
    Register("SOURCE_STATELESS", SOURCE_ZONE, "1: the sender's groups are stateless", 17, 1),
    Register("DESTINATION_ZONE", DESTINATION_ZONE, "the receiver's conntrack zone", bits=16),
    Register("DESTINATION_STATELESS", DESTINATION_ZONE, "1: the receiver's groups are stateless", 17, 1),
    Register("SOURCE_POLICY", SOURCE_POLICY, "the policy in force for the sender"),
    Register("OPTION.destination", OPTION, "in a Geneve packet: the receiving endpoint's key; 0: all it concerns"),
    Register("OPTION.identity", OPTION, "in a Geneve packet: the sender's identity", 32),
)

# Tables -----------------------------------------------------------------------------------------------------------


def _fields(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IPV6_ND = "eth_type ip_proto icmpv6_type icmpv6_code nd_target nd_sll nd_tll ipv6_src"

_RULES = _fields(
    f"{POLICY} {REMOTE} conj_id ct_state eth_type ip_proto ip_frag ipv4_src ipv4_dst ipv6_src ipv6_dst "
    "tcp_src tcp_dst udp_src udp_dst sctp_src sctp_dst icmpv4_type icmpv4_code icmpv6_type icmpv6_code"
)

_STATE = _fields("ct_state eth_type ip_proto ip_frag")

_FRAGMENTS = _fields(
    f"{POLICY} {REMOTE} ct_state ct_nw_proto ct_nw_src ct_nw_dst ct_ipv6_src ct_ipv6_dst "
    "eth_type ip_proto ipv4_src ipv4_dst ipv6_src ipv6_dst"
)

CLASSIFY = Table(
    0,
    "CLASSIFY",
    "port → segment and source endpoint; frames of strangers, with a false MAC or a tag are not known",
    matches=_fields("in_port vlan_vid eth_src tun_src tun_ipv6_src"),
    writes=_fields(f"{SEGMENT} {SOURCE} {SOURCE_IDENTITY} {SOURCE_POLICY} {SOURCE_ZONE} {VLAN_TAG}"),
    next=(5, 7, 10, 20),
)
TUNNEL = Table(
    5,
    "TUNNEL",
    "tunnel's key and option → segment, source identity, destination",
    matches=_fields("in_port tun_id tun_metadata0"),
    writes=_fields(f"{SEGMENT} {SOURCE_IDENTITY} {DESTINATION} {PLACE}"),
    next=(7, 40, 60),
)
IDENTIFY = Table(
    7,
    "IDENTIFY",
    "where the wire carries no identity: the source's addresses → source identity",
    miss="drop (never: the lowest flow passes on)",
    matches=_fields(f"{SEGMENT} eth_src eth_type ipv4_src ipv6_src"),
    writes=_fields(SOURCE_IDENTITY),
    next=(40,),
)
SOURCE_GUARD = Table(
    10,
    "SOURCE_GUARD",
    "IP and ARP sources must be the endpoint's own",
    matches=_fields(
        f"{SOURCE} eth_src eth_type ip_proto ip_frag ipv4_src ipv4_dst ipv6_src udp_src udp_dst "
        "arp_op arp_spa arp_sha icmpv6_type icmpv6_code"
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
    "(segment, MAC) → destination endpoint, its identity and its place: here, host, provider, flood",
    matches=_fields(f"{SEGMENT} eth_dst"),
    writes=_fields(f"{DESTINATION} {DESTINATION_IDENTITY} {PLACE} tun_id"),
    next=(45,),
    resubmits=(45,),
)
ADDRESSED = Table(
    45,
    "ADDRESSED",
    "what nobody here judges is delivered; (segment, MAC, address) → the other side's identity, for the sender's rules",
    matches=_fields(f"{SEGMENT} {SOURCE} {SOURCE_ZONE} {DESTINATION} eth_dst eth_type ipv4_dst ipv6_dst"),
    writes=_fields(REMOTE),
    next=(50, 60),
)
EGRESS_TRACK = Table(
    50,
    "EGRESS_TRACK",
    "the sender's policy and connections; what every endpoint may send is delivered",
    matches=_fields(f"{SOURCE_ZONE} eth_type ip_proto ip_frag udp_src udp_dst icmpv6_type"),
    writes=_fields(POLICY),
    next=(58, 60),
    resubmits=(55,),
    tracks=(52,),
)
EGRESS_STATE = Table(
    52,
    "EGRESS_STATE",
    "a connection that the sender started is judged by its egress rules, one that it accepted by its ingress rules",
    matches=_STATE | {SOURCE_ZONE},
    writes=_fields(REMOTE),
    next=(58, 60),
    resubmits=(55, 75),
)
EGRESS_POLICY = Table(
    55,
    "EGRESS_POLICY",
    "rules of connections that an endpoint starts, both directions",
    matches=_RULES,
    writes=_fields(VERDICT),
    resubmits=(56,),
    joins=True,
)
EGRESS_FRAGMENTS = Table(
    56,
    "EGRESS_FRAGMENTS",
    "the same rules for later fragments, which have no ports",
    matches=_FRAGMENTS,
    writes=_fields(VERDICT),
)
EGRESS_VERDICT = Table(
    58,
    "EGRESS_VERDICT",
    "what a rule allows is delivered, fragments once all of them are; a connection that begins is remembered",
    matches=_fields(f"{VERDICT} {SOURCE_ZONE} ct_state eth_type ip_frag"),
    writes=_fields(VERDICT),
    next=(60,),
    tracks=(60,),
    commits=True,
)
DELIVER = Table(
    60,
    "DELIVER",
    "place → the receiver's rules, a tunnel, the wire, or the segment's group",
    matches=_fields(f"{SEGMENT} {PLACE}"),
    writes=_fields(f"tun_dst tun_ipv6_dst tun_metadata0 vlan_vid {VLAN_TAG}"),
    next=(70,),
    sends=True,
)
INGRESS_TRACK = Table(
    70,
    "INGRESS_TRACK",
    "the receiver's policy and conntrack zone",
    matches=_fields(f"{SEGMENT} {DESTINATION}"),
    writes=_fields(f"{POLICY} {DESTINATION_ZONE} {REMOTE}"),
    next=(71, 80),
)
INGRESS_BASICS = Table(
    71,
    "INGRESS_BASICS",
    "what every endpoint gets passes; its connections",
    matches=_fields(f"{DESTINATION_ZONE} eth_type ip_proto ip_frag udp_src udp_dst icmpv6_type"),
    next=(78, 80),
    resubmits=(75,),
    tracks=(72,),
)
INGRESS_STATE = Table(
    72,
    "INGRESS_STATE",
    "a connection that the receiver accepts is judged by its ingress rules, one that it started by its egress rules",
    matches=_STATE | {DESTINATION_ZONE},
    next=(78, 80),
    resubmits=(55, 75),
)
INGRESS_POLICY = Table(
    75,
    "INGRESS_POLICY",
    "rules of connections that an endpoint accepts, both directions",
    matches=_RULES,
    writes=_fields(VERDICT),
    resubmits=(76,),
    joins=True,
)
INGRESS_FRAGMENTS = Table(
    76,
    "INGRESS_FRAGMENTS",
    "the same rules for later fragments, which have no ports",
    matches=_FRAGMENTS,
    writes=_fields(VERDICT),
)
INGRESS_VERDICT = Table(
    78,
    "INGRESS_VERDICT",
    "what a rule allows reaches the interface, fragments once all of them do; a connection that begins is remembered",
    matches=_fields(f"{VERDICT} {DESTINATION_ZONE} ct_state eth_type ip_frag"),
    writes=_fields(VERDICT),
    next=(80,),
    tracks=(80,),
    commits=True,
)
OUTPUT = Table(80, "OUTPUT", "to the interface", matches=_fields(f"{SEGMENT} {DESTINATION}"), sends=True)

TABLES: tuple[Table, ...] = (
    CLASSIFY,
    TUNNEL,
    IDENTIFY,
    SOURCE_GUARD,
    ND_OPTION,
    ND_TARGET,
    RESPOND,
    ND_ANSWER,
    ROUTE,
    NEIGHBOUR,
    FORWARD,
    ADDRESSED,
    EGRESS_TRACK,
    EGRESS_STATE,
    EGRESS_POLICY,
    EGRESS_FRAGMENTS,
    EGRESS_VERDICT,
    DELIVER,
    INGRESS_TRACK,
    INGRESS_BASICS,
    INGRESS_STATE,
    INGRESS_POLICY,
    INGRESS_FRAGMENTS,
    INGRESS_VERDICT,
    OUTPUT,
)
