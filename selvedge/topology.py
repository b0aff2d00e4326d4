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

    `addresses` are the fixed IPs, IPv4 and IPv6. `secure` is port_security_enabled. `up` is admin_state_up: an
    endpoint that is down neither sends nor receives, and nobody answers for it.
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


class Binding(msgspec.Struct, frozen=True, tag="binding", gc=False):
    """Tells a host that a port (`id`) belongs to it, and in which segment to look for it."""

    id: str
    segment: str


class Host(msgspec.Struct, frozen=True, tag="host", gc=False):
    """A hypervisor (chassis) as its peers see it. `id` is its host name, `tunnel_ip` its tunnel end point."""

    id: str
    key: int
    tunnel_ip: str


Object = Segment | Endpoint | Binding | Host
"""Whatever a topic may carry."""


class Ref(NamedTuple):
    """The name of an object: its kind (`segment`, `endpoint`, `binding`, `host`) and its id."""

    kind: str
    id: str


_KINDS: dict[type, str] = {Segment: "segment", Endpoint: "endpoint", Binding: "binding", Host: "host"}


def ref(thing: Object) -> Ref:
    """The name of an object."""
    return Ref(_KINDS[type(thing)], thing.id)
