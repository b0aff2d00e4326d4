"""A port bound to this host: where its frames come from, what it may send, and its interface.

The guard (port security) knows an endpoint by its interface and MAC, then asks whether the packet's source addresses
are its own. An endpoint without IPv4 addresses sends no IPv4 and no ARP, likewise IPv6; other protocols are refused.
A MAC with IPv6 addresses also has the link-local one that follows from it, and no other.

All but the flows that name the interface are there before it is plugged.
"""

from typing import NamedTuple

from openflow import addresses
from openflow import pipeline as p
from openflow.addresses import Prefix
from openflow.compilers import packets
from openflow.flow import Flow, Output, SetField
from openflow.relations import Node, View
from selvedge.topology import Endpoint, Segment


class Sources(NamedTuple):
    """What an endpoint may send as: its MACs, and with which of them each prefix."""

    macs: tuple[int, ...]
    prefixes: tuple[tuple[int, Prefix], ...]


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
    sources = _sources(endpoint) if endpoint.secure else None
    flows = [] if ofport is None else _interface(segment, endpoint, cookie, ofport, sources)
    return flows if sources is None else flows + _guard(endpoint.key, cookie, sources)


def _sources(endpoint: Endpoint) -> Sources:
    own = addresses.mac(endpoint.mac)
    macs = {own: None}
    prefixes = {(own, addresses.prefix(text)): None for text in endpoint.addresses}
    for pair in endpoint.pairs:
        mac = addresses.mac(pair.mac) if pair.mac else own
        macs[mac] = None
        prefixes[mac, addresses.prefix(pair.cidr)] = None
    for mac in [mac for mac, prefix in prefixes if prefix.version == 6]:
        prefixes[mac, Prefix(6, addresses.link_local(mac), addresses.exact(6))] = None
    return Sources(tuple(macs), tuple(prefixes))


def _interface(segment: Segment, endpoint: Endpoint, cookie: int, ofport: int, sources: Sources | None) -> list[Flow]:
    """From the interface into the pipeline, and from the pipeline to it. A tagged frame is nobody's."""
    known = (SetField(p.SEGMENT, segment.key), SetField(p.SOURCE, endpoint.key))
    port = {"in_port": ofport, "vlan_vid": 0}
    if sources is None:
        flows = [p.OPEN_PORT.flow(cookie, port, known, goto=p.RESPOND)]
    else:
        flows = [
            p.SECURE_PORT.flow(cookie, {**port, "eth_src": mac}, known, goto=p.SOURCE_GUARD) for mac in sources.macs
        ]
    terms = {p.SEGMENT: segment.key, p.DESTINATION: endpoint.key}
    return [*flows, p.INTERFACE.flow(cookie, terms, (Output(ofport),))]


def _guard(key: int, cookie: int, sources: Sources) -> list[Flow]:
    flows: list[Flow] = []
    speaks_ipv6: dict[int, None] = {}
    targets: dict[Prefix, None] = {}
    for mac, prefix in sources.prefixes:
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
