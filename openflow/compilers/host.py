"""A hypervisor with which we share a segment: its tunnel, in both directions.

Packets are taken from a tunnel end only while both of us have members of some segment of that kind; anybody else's are
dropped in CLASSIFY for want of a flow.
"""

from typing import get_args

from openflow import pipeline as p
from openflow.facts import Self, TunnelKind
from openflow.flow import Action, Flow, Move, Output, SetField
from openflow.relations import Node, Peer, View


def compile_host(view: View, owner: Node) -> list[Flow]:
    """The tunnel flows of one peer, by each kind of tunnel that a shared segment wants."""
    name = str(owner[1])
    segments = view.segments(name)
    if not segments:
        return []
    me = view.me()
    if me is None or name == me.host:
        return []
    peer = view.peer(me, name)
    if peer is None:
        return []
    flows: list[Flow] = []
    for kind in get_args(TunnelKind):
        if any(_shared(view, me, identifier, kind) for identifier in sorted(segments)):
            tunnel = view.tunnel(kind)
            if tunnel is not None:
                flows += _tunnel(kind, tunnel, peer)
    return flows


def _shared(view: View, me: Self, identifier: str, kind: str) -> bool:
    if not view.inhabited(identifier, me.host):
        return False
    segment = view.segment(identifier)
    return segment is not None and segment.kind == kind


def _tunnel(kind: str, tunnel: int, peer: Peer) -> list[Flow]:
    cookie = p.cookie(p.Kind.HOST, peer.key)
    source = "tun_ipv6_src" if peer.address.version == 6 else "tun_src"
    came = {"in_port": tunnel, source: peer.address.value}
    end = "tun_ipv6_dst" if peer.address.version == 6 else "tun_dst"
    to_peer: list[Action] = [SetField(end, peer.address.value)]
    if kind == "geneve":
        to_peer += [Move(p.DESTINATION, p.OPTION, 32), Move(p.SOURCE_IDENTITY, p.OPTION, 32, 0, 32)]
    to_peer.append(Output(tunnel))
    return [
        p.PEER.flow(cookie, came, goto=p.TUNNEL),
        p.TO_HOST.flow(cookie, {p.PLACE: p.host_place(kind, peer.key)}, tuple(to_peer)),
    ]
