"""A MAC address on a segment: which endpoint gets the frames sent to it, where that one is, and who sends from it.

In an overlay every station is known, here or behind a tunnel. On a provider segment only the local ones need a flow:
what is not here is on the wire. Several endpoints may claim one MAC (allowed pairs of a virtual router's MAC); each
gets a copy, as it would from a hub, and the one that is not in charge ignores it.

A rule about the members of a group asks for identities. While one is in force on the segment, the MAC's addresses are
known too: to find the identity of what a wire or VXLAN brought from it, and, if the rule is about what is sent, to tell
a packet for a member from one that it is only to pass on. Then a remote station of a provider segment has its flow too,
so that whom an answer is for is known.
"""

from collections.abc import Iterable
from typing import NamedTuple

from openflow import addresses
from openflow import pipeline as p
from openflow.addresses import Prefix
from openflow.compilers import packets
from openflow.compilers.sources import sources
from openflow.flow import Action, Flow, Move, Resubmit, SetField
from openflow.relations import Node, Station, View
from selvedge.topology import OVERLAYS, Segment


class Copy(NamedTuple):
    """A frame's way to one place: whose key it bears there, and who may be meant by it."""

    destination: int
    where: int
    receivers: tuple[Station, ...]


class Place(NamedTuple):
    """A MAC on a segment: who claims it here and elsewhere."""

    segment: Segment
    mac: int
    here: list[Station]
    there: list[Station]

    @property
    def cookie(self) -> int:
        """The one endpoint's, or the segment's."""
        claimants = self.here + self.there
        if len(claimants) == 1:
            return p.cookie(p.Kind.ENDPOINT, claimants[0].key)
        return p.cookie(p.Kind.SEGMENT, self.segment.key)


def compile_station(view: View, owner: Node) -> list[Flow]:
    """Where frames to one MAC go, and whose frames from it are."""
    _, identifier, mac = owner
    assert isinstance(identifier, str) and isinstance(mac, int)
    served = view.served(identifier)
    if served is None:
        return []
    me, segment = served
    place = Place(segment, mac, [], [])
    for station in sorted(view.stations(identifier, mac)):
        (place.here if station.host == me.host else place.there).append(station)
    addressed = identified = False
    if any(station.identity for station in place.here + place.there):
        addressed = view.names_groups(identifier, "egress")
        # Geneve tells the identity in its option.
        identified = segment.kind != "geneve" and (addressed | view.names_groups(identifier, "ingress"))
    copies = _copies(view, place, wire=identified or bool(place.here))
    flows = _forward(place, copies)
    if identified:
        flows += _identify(view, place)
    if addressed:
        flows += _addressed(view, place, copies)
    return flows


def _copies(view: View, place: Place, wire: bool) -> list[Copy]:
    """`wire`: on a provider segment, frames to a MAC that is on the wire need a flow that says so."""
    segment, there = place.segment, place.there
    copies = [Copy(station.key, p.HERE, (station,)) for station in place.here]
    if segment.kind not in OVERLAYS:
        if there and wire:
            # The last one, since what puts the tag on leaves it there.
            copies.append(Copy(0, p.PROVIDER, tuple(there)))
        return copies
    hosts: dict[str, list[Station]] = {}
    for station in there:
        hosts.setdefault(station.host, []).append(station)
    for name, stations in hosts.items():
        host = view.host(name)
        if host is None:
            continue
        where = p.host_place(segment.kind, host.key)
        if segment.kind == "vxlan":
            # Nothing in the packet tells two on one host apart, so one copy is for both.
            copies.append(Copy(stations[0].key, where, tuple(stations)))
        else:
            copies += [Copy(station.key, where, (station,)) for station in stations]
    return copies


def _forward(place: Place, copies: list[Copy]) -> list[Flow]:
    if not copies:
        return []
    terms = {p.SEGMENT: place.segment.key, "eth_dst": place.mac}
    ways = [_way(place.segment, copy) for copy in copies]
    if len(ways) == 1:
        return [p.STATION.flow(place.cookie, terms, ways[0], goto=p.ADDRESSED)]
    actions = tuple(action for way in ways for action in (*way, Resubmit(p.ADDRESSED.number)))
    return [p.STATION.flow(place.cookie, terms, actions)]


def _way(segment: Segment, copy: Copy) -> tuple[Action, ...]:
    actions = (
        SetField(p.DESTINATION, copy.destination),
        SetField(p.DESTINATION_IDENTITY, _common(copy.receivers)),
        SetField(p.PLACE, copy.where),
    )
    tunnelled = copy.where not in (p.HERE, p.PROVIDER)
    return (*actions, SetField("tun_id", segment.number)) if tunnelled else actions


def _common(stations: Iterable[Station]) -> int:
    """The identity of all of them; 0 if they differ: what is said of one must not be believed of another."""
    identities = {station.identity for station in stations}
    return identities.pop() if len(identities) == 1 else 0


def _identify(view: View, place: Place) -> list[Flow]:
    """Who it is whose frames a wire or VXLAN brings from this MAC."""
    claims = [(prefix, station) for station in place.there for prefix in _prefixes(view, station, place.mac)]
    flows = []
    for prefix in dict.fromkeys(prefix for prefix, _ in claims):
        # Whoever claims more than this prefix may be the sender too.
        claimants = [station for wider, station in claims if addresses.within(prefix, wider)]
        version, value, mask = prefix
        ip, name = (packets.IPV6, "ipv6_src") if version == 6 else (packets.IPV4, "ipv4_src")
        terms = {p.SEGMENT: place.segment.key, **ip, "eth_src": place.mac, name: (value, mask)}
        actions = (SetField(p.SOURCE_IDENTITY, _common(claimants)),)
        flows.append(p.MEMBER.flow(place.cookie, terms, actions, goto=p.FORWARD, more=mask.bit_count()))
    return flows


def _addressed(view: View, place: Place, copies: list[Copy]) -> list[Flow]:
    """What is for an address of whoever gets the frame."""
    flows = []
    for copy in copies:
        if not _common(copy.receivers):
            continue
        for version, value, mask in {
            prefix: None for station in copy.receivers for prefix in _prefixes(view, station, place.mac)
        }:
            ip, name = (packets.IPV6, "ipv6_dst") if version == 6 else (packets.IPV4, "ipv4_dst")
            terms = {
                p.SEGMENT: place.segment.key,
                p.DESTINATION: copy.destination,
                **ip,
                "eth_dst": place.mac,
                name: (value, mask),
            }
            actions = (Move(p.DESTINATION_IDENTITY, p.REMOTE, 32),)
            flows.append(p.ITS_ADDRESS.flow(place.cookie, terms, actions, goto=p.EGRESS_TRACK))
    return flows


def _prefixes(view: View, station: Station, mac: int) -> list[Prefix]:
    """A claimant's addresses that go with the MAC."""
    endpoint = view.endpoint(station.port)
    if endpoint is None:
        return []
    return [prefix for hardware, prefix in sources(endpoint).prefixes if hardware == mac]
