"""An IP address on a segment: who has it is answered at the requester's own switch, in overlays for remote owners too.

On a provider segment, where strangers live, requests go onto the wire anyway, and a remote owner answers from there: a
flow less for each.

Only when exactly one endpoint claims it, by a fixed IP. An address that several claim (a fixed IP and somebody's pair,
or two pairs: a virtual IP that moves), or that a pair alone names, belongs to whoever answers: requests are flooded.
What asks about an address of its own must reach the others too: probes (in `base`), and here, for a local owner,
gratuitous ARP requests, by which a host announces a new MAC or place to all.
"""

from openflow import pipeline as p
from openflow.compilers import packets
from openflow.flow import Action, Flow, InPort, Move, Resubmit, SetField
from openflow.relations import Claim, Node, View
from selvedge.topology import OVERLAYS


def compile_address(view: View, owner: Node) -> list[Flow]:
    """The answers for one address."""
    _, identifier, version, value = owner
    assert isinstance(identifier, str) and isinstance(version, int) and isinstance(value, int)
    claim = _sole(view, identifier, version, value)
    if claim is None:
        return []
    served = view.served(identifier)
    if served is None:
        return []
    me, segment = served
    if claim.host != me.host and segment.kind not in OVERLAYS:
        return []
    cookie = p.cookie(p.Kind.ENDPOINT, claim.key)
    if version == 6:
        asked = {p.SEGMENT: segment.key, **packets.SOLICITATION, "nd_target": value}
        return [p.ANSWER.flow(cookie, asked, _advertise(claim.mac))]
    request = {p.SEGMENT: segment.key, **packets.ARP_REQUEST, "arp_tpa": value}
    flows = [p.ANSWER.flow(cookie, request, _reply(claim.mac, value))]
    if claim.host == me.host:
        flows.append(p.ANNOUNCE.flow(cookie, {**request, "arp_spa": value}, goto=p.FORWARD))
    return flows


def _sole(view: View, segment: str, version: int, value: int) -> Claim | None:
    """The claim of the one endpoint whose address it is."""
    claims = view.claims(segment, version, value)
    if len({(claim.key, claim.mac) for claim in claims}) != 1:
        return None
    return next((claim for claim in claims if claim.fixed), None)


def _reply(mac: int, address: int) -> tuple[Action, ...]:
    """An ARP request becomes the reply to it (RFC 826) and goes back."""
    return (
        Move("eth_src", "eth_dst", 48),
        SetField("eth_src", mac),
        SetField("arp_op", 2),
        Move("arp_sha", "arp_tha", 48),
        Move("arp_spa", "arp_tpa", 32),
        SetField("arp_sha", mac),
        SetField("arp_spa", address),
        InPort(),
    )


def _advertise(mac: int) -> tuple[Action, ...]:
    """A neighbour solicitation becomes the advertisement, but for its option: that needs the type to be set already."""
    return (
        Move("eth_src", "eth_dst", 48),
        SetField("eth_src", mac),
        Move("ipv6_src", "ipv6_dst", 128),
        Move("nd_target", "ipv6_src", 128),
        SetField("icmpv6_type", packets.NEIGHBOUR_ADVERT),
        Resubmit(p.ND_ANSWER.number),
    )
