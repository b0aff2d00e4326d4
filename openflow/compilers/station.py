"""A MAC address on a segment: which endpoint gets the frames sent to it, and where that one is.

In an overlay every station is known, here or behind a tunnel. On a provider segment only the local ones need a flow:
what is not here is on the wire. Several endpoints may claim one MAC (allowed pairs of a virtual router's MAC); each
gets a copy, as it would from a hub, and the one that is not in charge ignores it.
"""

from openflow import pipeline as p
from openflow.flow import Action, Flow, Resubmit, SetField
from openflow.relations import Node, Station, View
from selvedge.topology import OVERLAYS


def compile_station(view: View, owner: Node) -> list[Flow]:
    """Where frames to one MAC go."""
    _, identifier, mac = owner
    assert isinstance(identifier, str) and isinstance(mac, int)
    served = view.served(identifier)
    if served is None:
        return []
    me, segment = served
    overlay = segment.kind in OVERLAYS
    here: list[Station] = []
    there: list[Station] = []
    for station in sorted(view.stations(identifier, mac)):
        (here if station.host == me.host else there).append(station)
    if not here and not overlay:
        return []
    copies: list[tuple[Action, ...]] = [_place(station.key, p.HERE) for station in here]
    placed: set[str] = set()
    for station in there if overlay else ():
        if segment.kind == "vxlan" and station.host in placed:
            continue  # nothing in the packet tells the two apart, so one copy is for both
        placed.add(station.host)
        host = view.host(station.host)
        if host is not None:
            place = p.host_place(segment.kind, host.key)
            copies.append((*_place(station.key, place), SetField("tun_id", segment.number)))
    if there and not overlay:
        copies.append(_place(0, p.PROVIDER))  # last, since what puts the tag on leaves it there
    if not copies:
        return []
    terms = {p.SEGMENT: segment.key, "eth_dst": mac}
    claimants = here + there
    if len(claimants) == 1:
        cookie = p.cookie(p.Kind.ENDPOINT, claimants[0].key)
        return [p.STATION.flow(cookie, terms, copies[0], goto=p.DELIVER)]
    actions = tuple(action for copy in copies for action in (*copy, Resubmit(p.DELIVER.number)))
    return [p.STATION.flow(p.cookie(p.Kind.SEGMENT, segment.key), terms, actions)]


def _place(destination: int, place: int) -> tuple[Action, ...]:
    return (SetField(p.DESTINATION, destination), SetField(p.PLACE, place))
