"""A segment with members here: how its packets come in from elsewhere, and how they are flooded.

An overlay's come by its number (VNI) out of the tunnel port, a provider segment's by its VLAN (or untagged) out of the
patch to its wire. The segment's group copies to each local member, and to each remote host with members or onto the
wire; no copy leaves by the port that the packet came in by, so what arrives from elsewhere reaches local members only.

Buckets name endpoints, hosts and the wire by key or PLACE; their interfaces and tunnel ends are OUTPUT's and DELIVER's
business, so plugging changes no group. (Geneve's option demands it too: Open vSwitch 3.1 reads a move to tun_metadata0
back altered from a bucket, though not from a flow, and resync compares bytes.) A large group has leaves (see
`pipeline.ONE_GROUP`), over which buckets are spread by a hash of their object's key: a change rewrites one leaf.
"""

from functools import lru_cache
from typing import NamedTuple, cast

from openflow import pipeline as p
from openflow.addresses import MULTICAST_BIT
from openflow.compilers import packets
from openflow.facts import Self, TunnelKind
from openflow.flow import Action, Bucket, Flow, GroupEntry, Move, Output, PopVlan, PushVlan, Resubmit, SetField, ToGroup
from openflow.relations import Node, View
from selvedge.topology import OVERLAYS, Segment

TAGGED = 0x1000
"""In `vlan_vid`: there is a tag."""


class Placed(NamedTuple):
    """A bucket, and the stable number by which it has its leaf."""

    number: int
    bucket: Bucket


def compile_segment(view: View, owner: Node) -> list[Flow | GroupEntry]:
    """The flows and groups of one segment."""
    identifier = str(owner[1])
    served = view.served(identifier)
    if served is None:
        return []
    me, segment = served
    cookie = p.cookie(p.Kind.SEGMENT, segment.key)
    here: packets.Terms = {p.SEGMENT: segment.key}
    buckets = [Placed(key, _local(key)) for key in sorted(view.members(identifier, me.host))]
    entries: list[Flow | GroupEntry] = []
    if segment.kind in OVERLAYS:
        kind = cast(TunnelKind, segment.kind)
        tunnel = view.tunnel(kind)
        if tunnel is not None:
            entries += _from_tunnels(segment, cookie, tunnel)
            buckets += _peers(view, me, segment)
    else:
        wire = view.patch(segment.physical_network or "")
        if wire is not None:
            entries.append(_from_wire(segment, cookie, wire))
            buckets.append(Placed(0, _elsewhere(p.PROVIDER)))
            entries.append(p.STRANGER.flow(cookie, here, (SetField(p.PLACE, p.PROVIDER),), goto=p.ADDRESSED))
            entries.append(p.ONTO_WIRE.flow(cookie, {**here, p.PLACE: p.PROVIDER}, _onto_wire(segment, wire)))
    group_bit: packets.Terms = {**here, "eth_dst": (MULTICAST_BIT, MULTICAST_BIT)}
    entries.append(p.MULTICAST.flow(cookie, group_bit, _flood(segment), goto=p.ADDRESSED))
    to_all = {**here, p.PLACE: p.FLOOD}
    entries.append(p.EVERYBODY.flow(cookie, to_all, (ToGroup(p.group_id(segment.key)),)))
    return entries + _groups(segment.key, buckets)


def _from_tunnels(segment: Segment, cookie: int, tunnel: int) -> list[Flow]:
    came: packets.Terms = {"in_port": tunnel, "tun_id": segment.number}
    is_segment = SetField(p.SEGMENT, segment.key)
    if segment.kind == "vxlan":
        return [p.UNNAMED.flow(cookie, came, (is_segment,), goto=p.IDENTIFY)]
    identity = Move(p.OPTION, p.SOURCE_IDENTITY, 32, 32, 0)
    destination = Move(p.OPTION, p.DESTINATION, 32)
    nobody: packets.Terms = {**came, p.OPTION: (0, 0xFFFFFFFF)}
    return [
        p.TO_ALL.flow(cookie, nobody, (is_segment, identity), goto=p.FORWARD),
        p.TO_ONE.flow(cookie, came, (is_segment, identity, destination, SetField(p.PLACE, p.HERE)), goto=p.DELIVER),
    ]


def _from_wire(segment: Segment, cookie: int, wire: int) -> Flow:
    is_segment = SetField(p.SEGMENT, segment.key)
    if segment.kind == "flat":
        return p.WIRE.flow(cookie, {"in_port": wire, "vlan_vid": 0}, (is_segment,), goto=p.IDENTIFY)
    tag = TAGGED | segment.number
    return p.WIRE.flow(cookie, {"in_port": wire, "vlan_vid": tag}, (PopVlan(), is_segment), goto=p.IDENTIFY)


def _onto_wire(segment: Segment, wire: int) -> tuple[Action, ...]:
    if segment.kind == "flat":
        return (Output(wire),)
    return (PushVlan(), SetField("vlan_vid", TAGGED | segment.number), Output(wire))


@lru_cache(maxsize=1 << 16)
def _local(endpoint: int) -> Bucket:
    return Bucket((SetField(p.DESTINATION, endpoint), Resubmit(p.INGRESS_TRACK.number)))


@lru_cache(maxsize=1 << 16)
def _elsewhere(place: int) -> Bucket:
    return Bucket((SetField(p.PLACE, place), Resubmit(p.DELIVER.number)))


def _flood(segment: Segment) -> tuple[Action, ...]:
    """A tunnelled copy is for all it concerns: its option names no destination."""
    actions = (SetField(p.DESTINATION, 0), SetField(p.PLACE, p.FLOOD))
    return (*actions, SetField("tun_id", segment.number)) if segment.kind in OVERLAYS else actions


def _peers(view: View, me: Self, segment: Segment) -> list[Placed]:
    """A copy for each other host with members."""
    placed = []
    for name in view.hosts(segment.id):
        host = None if name == me.host else view.host(name)
        if host is not None:
            placed.append(Placed(host.key, _elsewhere(p.host_place(segment.kind, host.key))))
    return sorted(placed, key=_number)


def _number(placed: Placed) -> int:
    return placed.number


def _groups(segment: int, buckets: list[Placed]) -> list[GroupEntry]:
    root = p.group_id(segment)
    if len(buckets) <= p.ONE_GROUP:
        return [GroupEntry(root, tuple([placed.bucket for placed in buckets]))]
    bits = 0
    while 1 << bits < p.LEAVES and p.LEAF_SIZE << bits < len(buckets):
        bits += 1
    count = 1 << bits
    leaves: list[list[Bucket]] = [[] for _ in range(count)]
    for number, bucket in buckets:
        # Multiplicative hashing (Knuth): keys that were given out in turns to several segments have a common step.
        leaves[(number * 0x9E3779B1 & 0xFFFFFFFF) >> 32 - bits].append(bucket)
    ids = [p.group_id(segment, leaf + 1) for leaf in range(count)]
    entries = [GroupEntry(leaf, tuple(content)) for leaf, content in zip(ids, leaves, strict=True)]
    return [*entries, GroupEntry(root, tuple([Bucket((ToGroup(leaf),)) for leaf in ids]))]
