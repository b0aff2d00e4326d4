"""Security groups: rows → topology, and what makes two rules the same. All of it is pure.

The rows hold what the API shows: protocols by the name or number that the tenant wrote, prefixes as they were written.
Here they become what a packet carries: numbers and networks. `controller.store.topology` reads the rows for snapshots;
the API calls the same functions for changes. Who is in a group is not here but in `controller.store.identities`.
"""

import hashlib
import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from selvedge.topics import addresses_topic, group_topic, members_topic
from selvedge.topology import AddressGroup, Group, Membership, Object, Rule

PROTOCOLS: Mapping[str, int] = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "hopopt": 0,
    "icmp": 1,
    "igmp": 2,
    "ip": 0,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": 58,
    "icmpv6": 58,
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
"""The names that Neutron knows, in its order; anything else is a number as text."""

ANY_PROTOCOL = frozenset({"any", "ip", "0"})
"""Neutron's reference says "any or 0"; `ip` is the name of 0 that does not mean the hop-by-hop header."""

ICMP, ICMPV6 = 1, 58

PARENT = "PARENT"
"""The `remote_group_id` of a template's rule that means the group which is made from it."""


def protocol_number(text: str | None, ethertype: str) -> int | None:
    """The IP protocol of a rule's `protocol`; None for every one. ICMP of IPv6 is ICMPv6, whichever is written."""
    if text is None or text in ANY_PROTOCOL:
        return None
    return _in_version(number_of(text), ethertype)


def number_of(text: str) -> int:
    """The number of a protocol that is written as its name or its number."""
    return PROTOCOLS[text] if text in PROTOCOLS else int(text)


def _in_version(number: int, ethertype: str) -> int:
    return ICMPV6 if number == ICMP and ethertype == "IPv6" else number


def network(text: str) -> str:
    """An address or a prefix as a network: with a prefix length, and no bits beyond it."""
    return str(ipaddress.ip_network(text, strict=False))


def fingerprint(rule: Mapping[str, Any]) -> str:
    """The column `fingerprint` of a rule: equal for two rules of one group that are duplicates, as Neutron judges it.

    So the protocol counts by its number, and every prefix of length 0 is none. Two prefixes that are written
    differently are two.
    """
    protocol, prefix = rule["protocol"], rule["remote_ip_prefix"]
    if protocol is not None:
        protocol = _in_version(number_of(protocol), rule["ethertype"])
    parts = (
        rule["direction"],
        rule["ethertype"],
        protocol,
        rule["port_range_min"],
        rule["port_range_max"],
        None if prefix in ("0.0.0.0/0", "::/0") else prefix,
        rule["remote_group_id"],
        rule["remote_address_group_id"],
    )
    return hashlib.sha256("_".join("+" if part is None else str(part) for part in parts).encode()).hexdigest()


def group_of(row: Any) -> Group:
    """From a row of `security_groups`."""
    return Group(id=row.id, key=row.key, stateful=row.stateful)


def rule_of(row: Any) -> Rule:
    """From a row of `security_group_rules`."""
    return Rule(
        id=row.id,
        key=row.key,
        group=row.security_group_id,
        direction=row.direction,
        version=6 if row.ethertype == "IPv6" else 4,
        protocol=protocol_number(row.protocol, row.ethertype),
        first=row.port_range_min,
        last=row.port_range_max,
        cidr=row.normalized_cidr,
        remote_group=row.remote_group_id,
        remote_addresses=row.remote_address_group_id,
    )


def address_group_of(row: Any, addresses: Iterable[str]) -> AddressGroup:
    """From a row of `address_groups` and its addresses in any order."""
    return AddressGroup(id=row.id, key=row.key, prefixes=tuple(sorted(map(network, addresses))))


def membership_of(group: str, identity: int) -> Membership:
    """From a row of `identity_groups`."""
    return Membership(id=f"{group}/{identity}", group=group, identity=identity)


# The topics of rows.


def of_security_groups(rows: Iterable[Any]) -> dict[str, list[Object]]:
    """The topics of rows of `security_groups`, without their rules."""
    return {group_topic(row.id): [group_of(row)] for row in rows}


def of_rules(rows: Iterable[Any]) -> dict[str, list[Object]]:
    """The topics of rows of `security_group_rules`."""
    found: dict[str, list[Object]] = defaultdict(list)
    for row in rows:
        found[group_topic(row.security_group_id)].append(rule_of(row))
    return dict(found)


def of_address_groups(rows: Iterable[tuple[Any, Iterable[str]]]) -> dict[str, list[Object]]:
    """The topics of (row of `address_groups`, its addresses)."""
    return {addresses_topic(row.id): [address_group_of(row, addresses)] for row, addresses in rows}


def of_identities(sets: Iterable[tuple[int, Sequence[str]]]) -> dict[str, list[Object]]:
    """The topics of (identity, ids of its groups): one membership in each of them."""
    found: dict[str, list[Object]] = defaultdict(list)
    for identity, groups in sets:
        for group in groups:
            found[members_topic(group)].append(membership_of(group, identity))
    return dict(found)
