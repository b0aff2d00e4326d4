"""The protocols that the compilers speak of, as terms of a match."""

from collections.abc import Mapping
from typing import Final

from openflow.match import Value

Terms = Mapping[str, Value]

IPV4: Final[Terms] = {"eth_type": 0x0800}
IPV6: Final[Terms] = {"eth_type": 0x86DD}
ARP: Final[Terms] = {"eth_type": 0x0806}
ARP_REQUEST: Final[Terms] = {**ARP, "arp_op": 1}

ROUTER_SOLICIT: Final = 133
ROUTER_ADVERT: Final = 134
NEIGHBOUR_SOLICIT: Final = 135
NEIGHBOUR_ADVERT: Final = 136
MLD_QUERY: Final = 130
MLD_REPORT: Final = 131
MLD_DONE: Final = 132
MLDV2_REPORT: Final = 143
"""ICMPv6 types (RFC 4861, RFC 2710, RFC 3810)."""


WHOLE: Final = 0
"""`ip_frag` (ovs-fields(7)): no fragment."""
FRAGMENT: Final = (1, 1)
"""`ip_frag` (ovs-fields(7)): any fragment."""
LATER_FRAGMENT: Final = 3
"""`ip_frag` (ovs-fields(7)): a fragment, and not the first."""


def icmpv6(kind: int) -> Terms:
    """ICMPv6 of one type; code 0, as all of neighbour discovery and MLD must have."""
    return {**IPV6, "ip_proto": 58, "icmpv6_type": kind, "icmpv6_code": 0}


def icmpv6_any_code(kind: int) -> Terms:
    """ICMPv6 of one type whatever its code: what is refused, or always passes, does so however it is written."""
    return {**IPV6, "ip_proto": 58, "icmpv6_type": kind}


SOLICITATION: Final[Terms] = icmpv6(NEIGHBOUR_SOLICIT)
ADVERTISEMENT: Final[Terms] = icmpv6(NEIGHBOUR_ADVERT)


def udp(version: int, source: int, destination: int) -> Terms:
    """UDP between two ports over an IP version."""
    return {**(IPV6 if version == 6 else IPV4), "ip_proto": 17, "udp_src": source, "udp_dst": destination}


HIDDEN: Final[tuple[Terms, ...]] = (
    {**udp(6, 0, 0), "ip_frag": FRAGMENT},
    {**icmpv6(0), "ip_frag": FRAGMENT},
    {**IPV6, "ip_proto": 0},
)
"""IPv6 whose extension headers end with the packet, or are cut off: Open vSwitch reads what is not there as 0."""
