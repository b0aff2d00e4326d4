"""The two stages of judgement, as far as all endpoints share them: the sender's (50-58) and the receiver's (70-78).

Both do the same: what every endpoint may send or get passes; conntrack tells of which connection a packet is, in the
zone of the endpoint whose stage it is; rules are looked up by who started that connection, since they are about
connections; and what they allow goes on, remembered if it is the first packet.

Fragments go through the tracker twice, whether the groups are stateful or not: first so that each is judged by itself,
and again when the rules allow it. There it waits for the others of its datagram: so if one falls, all do. (What a
stateless group must take of fragments that the tracker calls invalid are answers by ICMP, which nobody asked for in its
zone; that a fragment is too small for the tracker looks the same.)

The rules' tables are looked up by resubmit and say no more than VERDICT, which is 0 again when a packet goes on: so a
packet that is copied on its way (to several claimants of a MAC) is judged anew each time.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from openflow import pipeline as p
from openflow.compilers import packets
from openflow.fields import CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK
from openflow.flow import Action, Flow, Move, Resubmit, SetField, Track
from openflow.judgement import Stage

_KNOWN: Final = CT_TRK | CT_INV | CT_REL
RELATED: Final = (CT_TRK | CT_REL, _KNOWN)
FORTH: Final = (CT_TRK, _KNOWN | CT_RPL)
BACK: Final = (CT_TRK | CT_RPL, _KNOWN | CT_RPL)
NEW: Final = (CT_TRK | CT_NEW, CT_TRK | CT_NEW)

STATEFUL: Final = (0, p.STATELESS)
"""In a zone's register."""
STATELESS: Final = (p.STATELESS, p.STATELESS)
VALID: Final = (CT_TRK, CT_TRK | CT_INV)
INVALID: Final = (CT_TRK | CT_INV, CT_TRK | CT_INV)
UNTRACKED: Final[tuple[packets.Terms, ...]] = (
    {"ct_state": VALID},
    {**packets.IPV4, "ip_proto": 1, "ct_state": INVALID},
    {**packets.IPV6, "ip_proto": 58, "ct_state": INVALID},
    {**packets.IPV6, "ip_frag": packets.LATER_FRAGMENT, "ct_state": INVALID},
)
"""Fragments, as stateless groups take them. What is invalid may be an answer by ICMP; later IPv6 ones do not show."""

ALLOWED: Final[packets.Terms] = {p.VERDICT: 1}
DONE: Final = SetField(p.VERDICT, 0)

DISCOVERY: Final = (packets.NEIGHBOUR_SOLICIT, packets.NEIGHBOUR_ADVERT)
MULTICAST: Final = (packets.MLD_QUERY, packets.MLD_REPORT, packets.MLD_DONE, packets.MLDV2_REPORT)


class Judge(NamedTuple):
    """What makes one stage another than the other."""

    stage: Stage
    basics: tuple[packets.Terms, ...]
    """What passes whatever the rules are."""
    policy: tuple[Action, ...]
    """Sets whose rules apply."""
    forth: tuple[Action, ...]
    """Looks up the rules of connections that the packet's sender started."""
    back: tuple[Action, ...]
    """Looks up the rules of connections that its receiver started."""


OUTGOING: Final = Resubmit(p.EGRESS_POLICY.number)
"""The rules of connections that the endpoint whose stage it is has started."""
INCOMING: Final = Resubmit(p.INGRESS_POLICY.number)
"""Of those that it has accepted."""


def _basics(dhcp: packets.Terms, dhcpv6: packets.Terms, router: int) -> tuple[packets.Terms, ...]:
    """`router`: the ICMPv6 type of what is said to routers, or by them."""
    kinds = (router, *DISCOVERY, *MULTICAST)
    return (packets.ARP, dhcp, dhcpv6, *(packets.icmpv6_any_code(kind) for kind in kinds))


SENDER: Final = Judge(
    p.SENDER,
    _basics(packets.udp(4, 68, 67), packets.udp(6, 546, 547), packets.ROUTER_SOLICIT),
    # Anew for each copy: the receiver's stage has put its own there.
    policy=(Move(p.SOURCE_POLICY, p.POLICY, 32),),
    forth=(OUTGOING,),
    # It answers: the receiver is whom its ingress rules are about.
    back=(Move(p.DESTINATION_IDENTITY, p.REMOTE, 32), INCOMING),
)
RECEIVER: Final = Judge(
    p.RECEIVER,
    _basics(packets.udp(4, 67, 68), packets.udp(6, 547, 546), packets.ROUTER_ADVERT),
    policy=(),
    forth=(INCOMING,),
    back=(OUTGOING,),
)


@lru_cache(maxsize=1)
def stages() -> tuple[Flow, ...]:
    """There while anything secure is local."""
    nobody = p.NO_ADDRESS.flow(p.BASE_COOKIE, {}, (SetField(p.REMOTE, 0),), goto=p.EGRESS_TRACK)
    return (nobody, *_flows(SENDER), *_flows(RECEIVER))


def _flows(judge: Judge) -> Iterator[Flow]:
    cookie, stage = p.BASE_COOKIE, judge.stage
    verdict = stage.known.table
    for basics in judge.basics:
        yield stage.basics.flow(cookie, basics, goto=stage.onward)
    for ip in (packets.IPV4, packets.IPV6):
        untracked = {**ip, "ip_frag": packets.WHOLE, stage.zone: STATELESS}
        yield stage.untracked.flow(cookie, untracked, (*judge.policy, *judge.forth), goto=verdict)
        yield stage.tracked.flow(cookie, ip, (*judge.policy, Track(stage.zone, stage.forth.table.number)))
    for state in UNTRACKED:
        yield stage.in_parts.flow(cookie, {**state, stage.zone: STATELESS}, judge.forth, goto=verdict)
    yield stage.related.flow(cookie, {"ct_state": RELATED}, goto=stage.onward)
    yield stage.forth.flow(cookie, {"ct_state": FORTH}, judge.forth, goto=verdict)
    yield stage.back.flow(cookie, {"ct_state": BACK}, judge.back, goto=verdict)
    for ip in (packets.IPV4, packets.IPV6):
        later = {**ip, "ip_frag": packets.LATER_FRAGMENT}
        yield stage.later.flow(cookie, later, (Resubmit(stage.later_rule.table.number),))
    yield from _verdicts(stage)


def _verdicts(stage: Stage) -> Iterator[Flow]:
    """What becomes of what a rule allows."""
    cookie, onward = p.BASE_COOKIE, stage.onward
    for ip in (packets.IPV4, packets.IPV6):
        whole, fragment = ({**ALLOWED, **ip, "ip_frag": which} for which in (packets.WHOLE, packets.FRAGMENT))
        new = {"ct_state": NEW, stage.zone: STATEFUL}
        yield stage.stateless.flow(cookie, {**whole, stage.zone: STATELESS}, (DONE,), goto=onward)
        yield stage.new.flow(cookie, {**whole, **new}, (Track(stage.zone, commit=True), DONE), goto=onward)
        remember, wait = (Track(stage.zone, onward.number, commit=commit) for commit in (True, False))
        yield stage.new_fragment.flow(cookie, {**fragment, **new}, (DONE, remember))
        yield stage.known_fragment.flow(cookie, fragment, (DONE, wait))
    yield stage.known.flow(cookie, ALLOWED, (DONE,), goto=onward)
