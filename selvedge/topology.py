"""The logical topology: what the resources of the API mean to a switch.

Small frozen values, flattened from the rows of the database: a switch needs no names, descriptions or subnet pools.
Every change of a resource becomes new states of these objects, never "operations", so a receiver that has the newest
state needs no history. Objects are equal when all their fields are, and hashable.

`key` fields are the integers that packets and flows carry. The database assigns them once and never again
(AUTOINCREMENT / IDENTITY columns), so a number seen in a flow names one tenant's object for ever.

Addresses are canonical text (`ipaddress`' form, MACs lower case with colons): readable on the wire, and turned to
integers once, by the compilers.
"""

from typing import Literal, NamedTuple

import msgspec

SegmentKind = Literal["geneve", "vxlan", "vlan", "flat"]

OVERLAYS: frozenset[str] = frozenset({"geneve", "vxlan"})
"""Kinds of segment that travel in tunnels; the others are carried by a provider's wire."""


class Segment(msgspec.Struct, frozen=True, tag="segment", gc=False):
    """One layer-2 broadcast domain: a network's segment (Neutron's provider attributes).

    `number` is the VNI (geneve, vxlan: 24 bit), the VLAN ID (vlan: 1-4094) or 0 (flat).
    `physical_network` is set for vlan and flat only. `mtu` is the largest IP packet, in bytes.
    `up` is the network's admin_state_up: a segment that is down carries nothing.
    """

    id: str
    key: int
    network: str
    kind: SegmentKind
    number: int
    physical_network: str | None
    mtu: int
    up: bool = True


class Pair(msgspec.Struct, frozen=True, gc=False):
    """An allowed address pair: these source addresses are the endpoint's too. `cidr` has a prefix length always."""

    mac: str
    cidr: str


class Endpoint(msgspec.Struct, frozen=True, tag="endpoint", gc=False):
    """A port that is bound to a host: a MAC and its addresses at a place of a segment.

    `addresses` are the fixed IPs, IPv4 and IPv6. `secure` is port_security_enabled (a port of the network itself, whose
    owner is `network:…`, is trusted, as in Neutron). `up` is admin_state_up: an endpoint that is down neither sends nor
    receives, and nobody answers for it.

    `groups` are the ids of its security groups, sorted, and `identity` the number of that set: the same for every
    endpoint with the same groups, 0 for none (1 to 2³²-1; the database never uses a number twice). An endpoint that is
    not secure has neither.
    """

    id: str
    key: int
    segment: str
    host: str
    mac: str
    addresses: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()
    secure: bool = True
    up: bool = True
    identity: int = 0
    groups: tuple[str, ...] = ()


class Binding(msgspec.Struct, frozen=True, tag="binding", gc=False):
    """Tells a host that a port (`id`) belongs to it, in which segment to look for it, and of which groups it needs the
    rules (so that it asks for all of that at once)."""

    id: str
    segment: str
    groups: tuple[str, ...] = ()


class Host(msgspec.Struct, frozen=True, tag="host", gc=False):
    """A hypervisor (chassis) as its peers see it. `id` is its host name, `tunnel_ip` its tunnel end point."""

    id: str
    key: int
    tunnel_ip: str


Direction = Literal["ingress", "egress"]
"""As a port sees it: ingress is what is sent to it."""


class Group(msgspec.Struct, frozen=True, tag="group", gc=False):
    """A security group. All groups of one endpoint are stateful, or none is."""

    id: str
    key: int
    stateful: bool = True


class Rule(msgspec.Struct, frozen=True, tag="rule", gc=False):
    """What a security group allows; there are no rules that forbid.

    `version` is 4 or 6 (ethertype). `protocol` is the IP protocol's number, None for every one. `first` and `last` are
    the range of destination ports (TCP, UDP, SCTP, DCCP, UDP-Lite: 1-65535, both or none); for ICMP (1, 58) `first` is
    the type and `last` the code, None for every one. The remote side (the source of ingress, the destination of egress)
    is everybody, or exactly one of: `cidr`, the members of a group (`remote_group`, by id), the prefixes of an address
    group (`remote_addresses`, by id).
    """

    id: str
    key: int
    group: str
    direction: Direction
    version: int
    protocol: int | None = None
    first: int | None = None
    last: int | None = None
    cidr: str | None = None
    remote_group: str | None = None
    remote_addresses: str | None = None


class Membership(msgspec.Struct, frozen=True, tag="membership", gc=False):
    """Endpoints with this `identity` are members of `group`. `id` is `<group>/<identity>`."""

    id: str
    group: str
    identity: int


class AddressGroup(msgspec.Struct, frozen=True, tag="addresses", gc=False):
    """An address group: `prefixes` are CIDRs of both IP versions, with a prefix length always."""

    id: str
    key: int
    prefixes: tuple[str, ...] = ()


Object = Segment | Endpoint | Binding | Host | Group | Rule | Membership | AddressGroup
"""Whatever a topic may carry."""


class Ref(NamedTuple):
    """The name of an object: its kind (the tag of its class) and its id."""

    kind: str
    id: str


_KINDS: dict[type, str] = {
    Segment: "segment",
    Endpoint: "endpoint",
    Binding: "binding",
    Host: "host",
    Group: "group",
    Rule: "rule",
    Membership: "membership",
    AddressGroup: "addresses",
}


def ref(thing: Object) -> Ref:
    """The name of an object."""
    return Ref(_KINDS[type(thing)], thing.id)
