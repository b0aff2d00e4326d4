"""A segment with members here: how its packets come in from elsewhere, and how they are flooded.

An overlay's come by its number (VNI) out of the tunnel port, a provider segment's by its VLAN (or untagged) out of the
patch to its wire. The segment's group copies to each local member, and to each remote host with members or onto the
wire; no copy leaves by the port that the packet came in by, so what arrives from elsewhere reaches local members only.

Buckets name endpoints, not interfaces: plugging changes no group. A large group has leaves (see `pipeline.ONE_GROUP`),
which buckets are spread over by their object's key, so that a change rewrites one leaf.
"""

from functools import lru_cache
from typing import NamedTuple, cast

from openflow import pipeline as p
from openflow.addresses import Address
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
            buckets += _peers(view, me, segment, tunnel)
    else:
        wire = view.patch(segment.physical_network or "")
        if wire is not None:
            entries.append(_from_wire(segment, cookie, wire))
            onto = _onto_wire(segment, wire)
            buckets.append(Placed(0, Bucket(onto)))
            entries.append(p.STRANGER.flow(cookie, here, (SetField(p.PLACE, p.PROVIDER),), goto=p.DELIVER))
            entries.append(p.ONTO_WIRE.flow(cookie, {**here, p.PLACE: p.PROVIDER}, onto))
    group_bit: packets.Terms = {**here, "eth_dst": (1 << 40, 1 << 40)}
    entries.append(p.MULTICAST.flow(cookie, group_bit, (SetField(p.PLACE, p.FLOOD),), goto=p.DELIVER))
    to_all = {**here, p.PLACE: p.FLOOD}
    entries.append(p.EVERYBODY.flow(cookie, to_all, (ToGroup(p.group_id(segment.key)),)))
    return entries + _groups(segment.key, buckets)


def _from_tunnels(segment: Segment, cookie: int, tunnel: int) -> list[Flow]:
    came: packets.Terms = {"in_port": tunnel, "tun_id": segment.number}
    is_segment = SetField(p.SEGMENT, segment.key)
    if segment.kind == "vxlan":
        return [p.UNNAMED.flow(cookie, came, (is_segment,), goto=p.FORWARD)]
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
        return p.WIRE.flow(cookie, {"in_port": wire, "vlan_vid": 0}, (is_segment,), goto=p.FORWARD)
    tag = TAGGED | segment.number
    return p.WIRE.flow(cookie, {"in_port": wire, "vlan_vid": tag}, (PopVlan(), is_segment), goto=p.FORWARD)


def _onto_wire(segment: Segment, wire: int) -> tuple[Action, ...]:
    if segment.kind == "flat":
        return (Output(wire),)
    return (PushVlan(), SetField("vlan_vid", TAGGED | segment.number), Output(wire))


@lru_cache(maxsize=1 << 16)
def _local(endpoint: int) -> Bucket:
    return Bucket((SetField(p.DESTINATION, endpoint), Resubmit(p.OUTPUT.number)))


def _peers(view: View, me: Self, segment: Segment, tunnel: int) -> list[Placed]:
    """A copy for each other host with members that we can reach."""
    placed = []
    for name in view.hosts(segment.id):
        peer = None if name == me.host else view.peer(me, name)
        if peer is not None:
            placed.append(Placed(peer.key, _remote(segment.kind, segment.number, peer.address, tunnel)))
    return sorted(placed)


@lru_cache(maxsize=1 << 16)
def _remote(kind: str, number: int, end: Address, tunnel: int) -> Bucket:
    actions: list[Action] = [SetField("tun_id", number), tunnel_end(end)]
    if kind == "geneve":
        actions += [SetField(p.OPTION, 0), Move(p.SOURCE_IDENTITY, p.OPTION, 32, 0, 32)]
    return Bucket((*actions, Output(tunnel)))


def tunnel_end(end: Address) -> SetField:
    """Where a tunnel's packet goes."""
    return SetField("tun_ipv6_dst" if end.version == 6 else "tun_dst", end.value)


def _groups(segment: int, buckets: list[Placed]) -> list[GroupEntry]:
    root = p.group_id(segment)
    if len(buckets) <= p.ONE_GROUP:
        return [GroupEntry(root, tuple([placed.bucket for placed in buckets]))]
    count = 1
    while count < p.LEAVES and count * p.LEAF_SIZE < len(buckets):
        count *= 2
    leaves: list[list[Bucket]] = [[] for _ in range(count)]
    for number, bucket in buckets:
        leaves[number % count].append(bucket)
    ids = [p.group_id(segment, leaf + 1) for leaf in range(count)]
    entries = [GroupEntry(leaf, tuple(content)) for leaf, content in zip(ids, leaves, strict=True)]
    return [*entries, GroupEntry(root, tuple([Bucket((ToGroup(leaf),)) for leaf in ids]))]
