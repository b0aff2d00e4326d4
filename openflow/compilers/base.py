"""What all endpoints share: there while anything is local, so that a bridge without endpoints has no flow at all.

The shared parts of guard and judgement (`stages`) are there while anything secure is local. What the guard lets pass is
what a host must say before it has an address, and nothing that is of weight in another's name: the MAC was checked by
CLASSIFY.
"""

from functools import lru_cache

from openflow import pipeline as p
from openflow.compilers import packets
from openflow.compilers.stages import stages
from openflow.flow import Flow, InPort, Move, SetField
from openflow.relations import Node, View


def compile_base(view: View, _owner: Node) -> tuple[Flow, ...]:
    """The flows that belong to the bridge itself."""
    me = view.me()
    population = () if me is None else view.population(me.host)
    if not population:
        return ()
    return _always() + (_guard() + stages() if True in population else ())


@lru_cache(maxsize=1)
def _always() -> tuple[Flow, ...]:
    cookie = p.BASE_COOKIE
    unicast_answer = (
        Move("eth_src", "nd_tll", 48),
        SetField("nd_options_type", 2),  # target link-layer address, in place of the source's
        SetField("nd_reserved", 0x60000000),  # solicited, override (RFC 4861, 4.4)
        InPort(),
    )
    return (
        p.PROBE.flow(cookie, {**packets.ARP_REQUEST, "arp_spa": 0}, goto=p.FORWARD),
        p.PROBE.flow(cookie, {**packets.SOLICITATION, "ipv6_src": 0}, goto=p.FORWARD),
        p.PROBE.flow(cookie, {**packets.SOLICITATION, "nd_sll": 0}, goto=p.FORWARD),
        p.PASS.flow(cookie, {}, goto=p.FORWARD),
        p.ANSWER_ND.flow(cookie, packets.ADVERTISEMENT, unicast_answer),
        p.NO_MEMBER.flow(cookie, {}, goto=p.FORWARD),
        p.ELSEWHERE.flow(cookie, {p.SOURCE: 0}, goto=p.DELIVER),
        p.FREE_SENDER.flow(cookie, {p.SOURCE_ZONE: (p.FREE, p.FREE)}, goto=p.DELIVER),
        p.LOCAL.flow(cookie, {p.PLACE: p.HERE}, goto=p.INGRESS_TRACK),
    )


@lru_cache(maxsize=1)
def _guard() -> tuple[Flow, ...]:
    cookie = p.BASE_COOKIE
    dhcp_client = {**packets.udp(4, 68, 67), "ipv4_src": 0, "ipv4_dst": 0xFFFFFFFF}
    unspecified = (packets.ROUTER_SOLICIT, packets.MLD_REPORT, packets.MLDV2_REPORT)
    return (
        # Before there is an address -----------------------------------------------------------------------------
        p.ROGUE_DHCP.flow(cookie, packets.udp(4, 67, 68)),
        p.ROGUE_DHCP.flow(cookie, packets.udp(6, 547, 546)),
        *(p.HIDDEN.flow(cookie, hidden) for hidden in packets.HIDDEN),
        p.DHCP_CLIENT.flow(cookie, dhcp_client, goto=p.RESPOND),
        p.ARP_PROBE.flow(
            cookie, {**packets.ARP_REQUEST, "arp_spa": 0}, (Move("eth_src", "arp_sha", 48),), goto=p.RESPOND
        ),
        *(p.UNSPECIFIED.flow(cookie, {**packets.icmpv6(kind), "ipv6_src": 0}, goto=p.RESPOND) for kind in unspecified),
        p.UNSPECIFIED.flow(cookie, {**packets.SOLICITATION, "ipv6_src": 0}, goto=p.ND_OPTION),
        # Neighbour discovery ------------------------------------------------------------------------------------
        p.BROKEN_ND.flow(cookie, {**packets.SOLICITATION, "nd_target": 0}),
        p.BROKEN_ND.flow(cookie, {**packets.ADVERTISEMENT, "nd_target": 0}),
        p.NO_OPTION.flow(cookie, {**packets.SOLICITATION, "nd_sll": 0}, goto=p.ND_TARGET),
        p.NO_OPTION.flow(cookie, {**packets.ADVERTISEMENT, "nd_tll": 0}, goto=p.ND_TARGET),
        p.FALSE_ND.flow(cookie, packets.icmpv6_any_code(packets.NEIGHBOUR_SOLICIT)),
        p.FALSE_ND.flow(cookie, packets.icmpv6_any_code(packets.NEIGHBOUR_ADVERT)),
        p.FALSE_ND.flow(cookie, packets.icmpv6_any_code(packets.ROUTER_ADVERT)),
        p.NOT_ND.flow(cookie, {}, goto=p.RESPOND),
        p.FALSE_PROBE.flow(cookie, {**packets.SOLICITATION, "ipv6_src": 0}),
        p.SOLICIT.flow(cookie, packets.SOLICITATION, goto=p.RESPOND),
    )
