"""The two stages of judgement, as far as all endpoints share them: the sender's (50-58) and the receiver's (70-78).

Both do the same: what every endpoint may send or get passes; conntrack tells of which connection a packet is, in the
zone of the endpoint whose stage it is; rules are looked up by who started that connection, since they are about
connections; and what they allow goes on, remembered if it is the first packet.

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
        untracked = {**ip, p.SOURCE_ZONE: 0}
        yield p.SENT_UNTRACKED.flow(cookie, untracked, (policy, RULES_OF_ITS_OWN), goto=p.EGRESS_VERDICT)
        track = Track(p.SOURCE_ZONE, p.EGRESS_STATE.number)
        yield p.SENT_TRACKED.flow(cookie, ip, (policy, track))
    receiver = Move(p.DESTINATION_IDENTITY, p.REMOTE, 32)
    yield p.SENT_RELATED.flow(cookie, {"ct_state": RELATED}, goto=p.DELIVER)
    yield p.SENT_FORTH.flow(cookie, {"ct_state": FORTH}, (RULES_OF_ITS_OWN,), goto=p.EGRESS_VERDICT)
    yield p.SENT_BACK.flow(cookie, {"ct_state": BACK}, (receiver, RULES_OF_OTHERS), goto=p.EGRESS_VERDICT)
    for ip in (packets.IPV4, packets.IPV6):
        later = {**ip, "ip_frag": packets.LATER_FRAGMENT}
        yield p.SENT_FRAGMENT.flow(cookie, later, (Resubmit(p.EGRESS_FRAGMENTS.number),))
    yield p.SENT_STATELESS.flow(cookie, {**ALLOWED, p.SOURCE_ZONE: 0}, (DONE,), goto=p.DELIVER)
    for ip in (packets.IPV4, packets.IPV6):
        new = {**ALLOWED, **ip, "ct_state": NEW}
        one_by_one = Track(p.SOURCE_ZONE, p.DELIVER.number, commit=True)
        yield p.SENT_NEW_FRAGMENT.flow(cookie, {**new, "ip_frag": packets.FRAGMENT}, (DONE, one_by_one))
        yield p.SENT_NEW.flow(cookie, new, (Track(p.SOURCE_ZONE, commit=True), DONE), goto=p.DELIVER)
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
        untracked = {**ip, p.DESTINATION_ZONE: 0}
        yield p.GOT_UNTRACKED.flow(cookie, untracked, (RULES_OF_OTHERS,), goto=p.INGRESS_VERDICT)
        yield p.GOT_TRACKED.flow(cookie, ip, (Track(p.DESTINATION_ZONE, p.INGRESS_STATE.number),))
    yield p.GOT_RELATED.flow(cookie, {"ct_state": RELATED}, goto=p.OUTPUT)
    yield p.GOT_FORTH.flow(cookie, {"ct_state": FORTH}, (RULES_OF_OTHERS,), goto=p.INGRESS_VERDICT)
    yield p.GOT_BACK.flow(cookie, {"ct_state": BACK}, (RULES_OF_ITS_OWN,), goto=p.INGRESS_VERDICT)
    for ip in (packets.IPV4, packets.IPV6):
        later = {**ip, "ip_frag": packets.LATER_FRAGMENT}
        yield p.GOT_FRAGMENT.flow(cookie, later, (Resubmit(p.INGRESS_FRAGMENTS.number),))
    yield p.GOT_STATELESS.flow(cookie, {**ALLOWED, p.DESTINATION_ZONE: 0}, (DONE,), goto=p.OUTPUT)
    for ip in (packets.IPV4, packets.IPV6):
        remember = Track(p.DESTINATION_ZONE, commit=True)
        yield p.GOT_NEW.flow(cookie, {**ALLOWED, **ip, "ct_state": NEW}, (remember, DONE), goto=p.OUTPUT)
    yield p.GOT_KNOWN.flow(cookie, ALLOWED, (DONE,), goto=p.OUTPUT)
