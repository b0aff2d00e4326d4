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
from typing import Final

from openflow import pipeline as p
from openflow.compilers import packets
from openflow.fields import CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK
from openflow.flow import Flow, Move, Resubmit, SetField, Track

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
UNASKED: Final = (
    {**packets.IPV4, "ip_proto": 1},
    {**packets.IPV6, "ip_proto": 58},
    {**packets.IPV6, "ip_frag": packets.LATER_FRAGMENT},
)
"""What may be an answer by ICMP, in fragments. Later ones of IPv6 show no protocol."""

ALLOWED: Final[packets.Terms] = {p.VERDICT: 1}
DONE: Final = SetField(p.VERDICT, 0)
RULES_OF_ITS_OWN: Final = Resubmit(p.EGRESS_POLICY.number)
"""Of connections that the endpoint whose stage it is has started."""
RULES_OF_OTHERS: Final = Resubmit(p.INGRESS_POLICY.number)
"""Of connections that it has accepted."""

DISCOVERY: Final = (packets.NEIGHBOUR_SOLICIT, packets.NEIGHBOUR_ADVERT)
MULTICAST: Final = (packets.MLD_QUERY, packets.MLD_REPORT, packets.MLD_DONE, packets.MLDV2_REPORT)


@lru_cache(maxsize=1)
def stages() -> tuple[Flow, ...]:
    """There while anything secure is local."""
    return (*_sent(), *_got())


def _sent() -> Iterator[Flow]:
    cookie = p.BASE_COOKIE
    yield p.NO_ADDRESS.flow(cookie, {}, (SetField(p.REMOTE, 0),), goto=p.EGRESS_TRACK)
    for basics in (
        packets.ARP,
        packets.udp(4, 68, 67),
        packets.udp(6, 546, 547),
        *(packets.icmpv6_any_code(kind) for kind in (packets.ROUTER_SOLICIT, *DISCOVERY, *MULTICAST)),
    ):
        yield p.ALWAYS_SENT.flow(cookie, basics, goto=p.DELIVER)
    # The policy must be set again for each copy: the receiver's stage has put its own there.
    policy = Move(p.SOURCE_POLICY, p.POLICY, 32)
    for ip in (packets.IPV4, packets.IPV6):
        untracked = {**ip, "ip_frag": packets.WHOLE, p.SOURCE_ZONE: STATELESS}
        yield p.SENT_UNTRACKED.flow(cookie, untracked, (policy, RULES_OF_ITS_OWN), goto=p.EGRESS_VERDICT)
        track = Track(p.SOURCE_ZONE, p.EGRESS_STATE.number)
        yield p.SENT_TRACKED.flow(cookie, ip, (policy, track))
    for terms in ({"ct_state": VALID}, *({**unasked, "ct_state": INVALID} for unasked in UNASKED)):
        stateless = {**terms, p.SOURCE_ZONE: STATELESS}
        yield p.SENT_IN_PARTS.flow(cookie, stateless, (RULES_OF_ITS_OWN,), goto=p.EGRESS_VERDICT)
    receiver = Move(p.DESTINATION_IDENTITY, p.REMOTE, 32)
    yield p.SENT_RELATED.flow(cookie, {"ct_state": RELATED}, goto=p.DELIVER)
    yield p.SENT_FORTH.flow(cookie, {"ct_state": FORTH}, (RULES_OF_ITS_OWN,), goto=p.EGRESS_VERDICT)
    yield p.SENT_BACK.flow(cookie, {"ct_state": BACK}, (receiver, RULES_OF_OTHERS), goto=p.EGRESS_VERDICT)
    for ip in (packets.IPV4, packets.IPV6):
        later = {**ip, "ip_frag": packets.LATER_FRAGMENT}
        yield p.SENT_FRAGMENT.flow(cookie, later, (Resubmit(p.EGRESS_FRAGMENTS.number),))
    for ip in (packets.IPV4, packets.IPV6):
        whole, fragment = ({**ALLOWED, **ip, "ip_frag": which} for which in (packets.WHOLE, packets.FRAGMENT))
        yield p.SENT_STATELESS.flow(cookie, {**whole, p.SOURCE_ZONE: STATELESS}, (DONE,), goto=p.DELIVER)
        new = {"ct_state": NEW, p.SOURCE_ZONE: STATEFUL}
        remember = Track(p.SOURCE_ZONE, commit=True)
        yield p.SENT_NEW.flow(cookie, {**whole, **new}, (remember, DONE), goto=p.DELIVER)
        one_by_one = Track(p.SOURCE_ZONE, p.DELIVER.number, commit=True)
        yield p.SENT_NEW_FRAGMENT.flow(cookie, {**fragment, **new}, (DONE, one_by_one))
        one_by_one = Track(p.SOURCE_ZONE, p.DELIVER.number)
        yield p.SENT_KNOWN_FRAGMENT.flow(cookie, fragment, (DONE, one_by_one))
    yield p.SENT_KNOWN.flow(cookie, ALLOWED, (DONE,), goto=p.DELIVER)


def _got() -> Iterator[Flow]:
    cookie = p.BASE_COOKIE
    for basics in (
        packets.ARP,
        packets.udp(4, 67, 68),
        packets.udp(6, 547, 546),
        *(packets.icmpv6_any_code(kind) for kind in (packets.ROUTER_ADVERT, *DISCOVERY, *MULTICAST)),
    ):
        yield p.ALWAYS_GOT.flow(cookie, basics, goto=p.OUTPUT)
    for ip in (packets.IPV4, packets.IPV6):
        untracked = {**ip, "ip_frag": packets.WHOLE, p.DESTINATION_ZONE: STATELESS}
        yield p.GOT_UNTRACKED.flow(cookie, untracked, (RULES_OF_OTHERS,), goto=p.INGRESS_VERDICT)
        yield p.GOT_TRACKED.flow(cookie, ip, (Track(p.DESTINATION_ZONE, p.INGRESS_STATE.number),))
    for terms in ({"ct_state": VALID}, *({**unasked, "ct_state": INVALID} for unasked in UNASKED)):
        stateless = {**terms, p.DESTINATION_ZONE: STATELESS}
        yield p.GOT_IN_PARTS.flow(cookie, stateless, (RULES_OF_OTHERS,), goto=p.INGRESS_VERDICT)
    yield p.GOT_RELATED.flow(cookie, {"ct_state": RELATED}, goto=p.OUTPUT)
    yield p.GOT_FORTH.flow(cookie, {"ct_state": FORTH}, (RULES_OF_OTHERS,), goto=p.INGRESS_VERDICT)
    yield p.GOT_BACK.flow(cookie, {"ct_state": BACK}, (RULES_OF_ITS_OWN,), goto=p.INGRESS_VERDICT)
    for ip in (packets.IPV4, packets.IPV6):
        later = {**ip, "ip_frag": packets.LATER_FRAGMENT}
        yield p.GOT_FRAGMENT.flow(cookie, later, (Resubmit(p.INGRESS_FRAGMENTS.number),))
    for ip in (packets.IPV4, packets.IPV6):
        whole, fragment = ({**ALLOWED, **ip, "ip_frag": which} for which in (packets.WHOLE, packets.FRAGMENT))
        yield p.GOT_STATELESS.flow(cookie, {**whole, p.DESTINATION_ZONE: STATELESS}, (DONE,), goto=p.OUTPUT)
        new = {"ct_state": NEW, p.DESTINATION_ZONE: STATEFUL}
        remember = Track(p.DESTINATION_ZONE, commit=True)
        yield p.GOT_NEW.flow(cookie, {**ALLOWED, **ip, **new}, (remember, DONE), goto=p.OUTPUT)
        together = Track(p.DESTINATION_ZONE)
        yield p.GOT_KNOWN_FRAGMENT.flow(cookie, fragment, (together, DONE), goto=p.OUTPUT)
    yield p.GOT_KNOWN.flow(cookie, ALLOWED, (DONE,), goto=p.OUTPUT)
