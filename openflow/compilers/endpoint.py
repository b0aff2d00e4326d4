"""A port bound to this host: where its frames come from, what it may send, by which rules, and its interface.

The guard (port security) knows an endpoint by its interface and MAC, then asks whether the packet's source addresses
are its own. An endpoint without IPv4 addresses sends no IPv4 and no ARP, likewise IPv6; other protocols are refused.

What it says then, and what is said to it, is judged by its policy. As long as it is not known which that is, what its
groups are, or in which zone to track its connections, no frame of it is known and none reaches it.

All but the flows that name the interface are there before it is plugged.
"""

from typing import NamedTuple

from openflow import pipeline as p
from openflow.addresses import Prefix
from openflow.compilers import packets
from openflow.compilers.sources import Sources, sources
from openflow.flow import Action, Flow, Move, Output, SetField
from openflow.relations import Node, View
from selvedge.topology import Endpoint


class Judged(NamedTuple):
    """By which policy an endpoint is judged, in which conntrack zone, and as whom it sends.

    `zone` is as the pipeline's registers have it, with STATELESS if nothing of it is tracked but fragments.
    """

    policy: int
    zone: int
    identity: int


def compile_endpoint(view: View, owner: Node) -> list[Flow]:
    """The flows of a local endpoint; a remote one has none here."""
    endpoint = view.endpoint(str(owner[1]))
    me = view.me()
    if endpoint is None or me is None or endpoint.host != me.host:
        return []
    segment = view.segment(endpoint.segment)
    if segment is None:
        return []
    ofport = view.plug(endpoint.id)
    cookie = p.cookie(p.Kind.ENDPOINT, endpoint.key)
    itself = (SetField(p.SEGMENT, segment.key), SetField(p.SOURCE, endpoint.key))
    here = {p.SEGMENT: segment.key, p.DESTINATION: endpoint.key}
    flows = [] if ofport is None else [p.INTERFACE.flow(cookie, here, (Output(ofport),))]
    if not endpoint.secure:
        return flows + _free(cookie, ofport, itself, here)
    own = sources(endpoint)
    judged = _judged(view, endpoint)
    if judged is not None:
        flows += _secure(cookie, ofport, itself=itself, here=here, macs=own.macs, judged=judged)
    return flows + _guard(endpoint.key, cookie, own)


def _judged(view: View, endpoint: Endpoint) -> Judged | None:
    posture = view.posture(endpoint.id)
    if posture is None:
        return None
    tracks = view.tracks(posture.groups)
    zone = view.zone(endpoint.id)
    if tracks is None or zone is None:
        return None
    return Judged(posture.policy, zone if tracks else p.STATELESS | zone, posture.sends)


def _free(cookie: int, ofport: int | None, itself: tuple[Action, ...], here: packets.Terms) -> list[Flow]:
    """It sends and gets what it likes, but tagged frames: those are nobody's."""
    flows = [p.FREE_RECEIVER.flow(cookie, here, goto=p.OUTPUT)]
    if ofport is not None:
        port = {"in_port": ofport, "vlan_vid": 0}
        flows.append(p.OPEN_PORT.flow(cookie, port, (*itself, SetField(p.SOURCE_ZONE, p.FREE)), goto=p.RESPOND))
    return flows


def _secure(
    cookie: int,
    ofport: int | None,
    *,
    itself: tuple[Action, ...],
    here: packets.Terms,
    macs: tuple[int, ...],
    judged: Judged,
) -> list[Flow]:
    """Its frames are known by its MACs; in both directions its policy and zone go along."""
    gets = (
        SetField(p.POLICY, judged.policy),
        SetField(p.DESTINATION_ZONE, judged.zone),
        Move(p.SOURCE_IDENTITY, p.REMOTE, 32),
    )
    flows = [p.SECURE_RECEIVER.flow(cookie, here, gets, goto=p.INGRESS_BASICS)]
    if ofport is not None:
        port = {"in_port": ofport, "vlan_vid": 0}
        sends = (
            *itself,
            SetField(p.SOURCE_IDENTITY, judged.identity),
            SetField(p.SOURCE_POLICY, judged.policy),
            SetField(p.SOURCE_ZONE, judged.zone),
        )
        flows += [p.SECURE_PORT.flow(cookie, {**port, "eth_src": mac}, sends, goto=p.SOURCE_GUARD) for mac in macs]
    return flows


def _guard(key: int, cookie: int, own_sources: Sources) -> list[Flow]:
    flows: list[Flow] = []
    speaks_ipv6: dict[int, None] = {}
    targets: dict[Prefix, None] = {}
    for mac, prefix in own_sources.prefixes:
        version, value, mask = prefix
        if version == 4:
            own = {p.SOURCE: key, **packets.IPV4, "eth_src": mac, "ipv4_src": (value, mask)}
            flows.append(p.OWN_IP.flow(cookie, own, goto=p.RESPOND))
            own = {p.SOURCE: key, **packets.ARP, "arp_sha": mac, "arp_spa": (value, mask)}
            flows.append(p.OWN_ARP.flow(cookie, own, goto=p.RESPOND))
        else:
            own = {p.SOURCE: key, **packets.IPV6, "eth_src": mac, "ipv6_src": (value, mask)}
            flows.append(p.OWN_IP.flow(cookie, own, goto=p.ND_OPTION))
            speaks_ipv6[mac] = None
            targets[prefix] = None
    for mac in speaks_ipv6:
        own = {p.SOURCE: key, **packets.SOLICITATION, "nd_sll": mac}
        flows.append(p.OWN_SOLICIT.flow(cookie, own, goto=p.ND_TARGET))
        own = {p.SOURCE: key, **packets.ADVERTISEMENT, "nd_tll": mac}
        flows.append(p.OWN_ADVERT.flow(cookie, own, goto=p.ND_TARGET))
    for _, value, mask in targets:
        own = {p.SOURCE: key, **packets.ADVERTISEMENT, "nd_target": (value, mask)}
        flows.append(p.OWN_TARGET.flow(cookie, own, goto=p.RESPOND))
        own = {p.SOURCE: key, **packets.SOLICITATION, "ipv6_src": 0, "nd_target": (value, mask)}
        flows.append(p.OWN_TARGET.flow(cookie, own, goto=p.RESPOND))
    return flows
