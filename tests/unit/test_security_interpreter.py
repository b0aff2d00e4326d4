"""The tests' own tools: conjunctions, connection tracking and recirculation as Open vSwitch has them.

functional/test_security_trace.py asks a real switch the same.
"""

import pytest

from openflow.fields import CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK
from openflow.flow import Action, Conjunction, Flow, Output, Resubmit, SetField, Track, match
from tests.conntrack import Conntrack
from tests.flowtable import Ambiguous, Switch
from tests.oracle_packets import UDP, Packet
from tests.packets import fields_of

SAID = Packet("fa:16:3e:00:00:01", "fa:16:3e:00:00:02", "10.0.0.1", "10.0.0.2", UDP, 5000, 53)
ERROR = Packet(SAID.target_mac, SAID.source_mac, "192.0.2.1", "10.0.0.1", 1, kind=3, code=1, quoted=SAID)


def state(conntrack: Conntrack, packet: Packet, zone: int = 1, commit: bool = False) -> int:
    """What the tracker says of a packet, but that it is tracked."""
    said = conntrack.track(fields_of(packet), zone, commit)["ct_state"]
    assert said & CT_TRK
    return said & ~CT_TRK


def test_a_connection_lives_from_its_commit() -> None:
    """A packet is new until it is committed and answered; then both directions are established, in that zone only."""
    conntrack = Conntrack()
    assert state(conntrack, SAID) == CT_NEW and state(conntrack, SAID.back) == CT_NEW
    assert state(conntrack, SAID, commit=True) == CT_NEW
    assert state(conntrack, SAID) == CT_NEW, "nobody has answered"
    assert state(conntrack, SAID.back) == CT_EST | CT_RPL
    assert state(conntrack, SAID) == CT_EST
    assert state(conntrack, SAID, zone=2) == CT_NEW
    conntrack.flush(1)
    assert state(conntrack, SAID.back) == CT_NEW


def test_errors_are_related_or_invalid() -> None:
    """An ICMP error is of the direction that answers what it quotes; about nothing known it is invalid."""
    conntrack = Conntrack()
    assert state(conntrack, ERROR) == CT_INV
    conntrack.track(fields_of(SAID), 1, commit=True)
    assert state(conntrack, ERROR) == CT_REL | CT_RPL
    back = Packet(SAID.source_mac, SAID.target_mac, "10.0.0.1", "10.0.0.2", 1, kind=3, code=3, quoted=SAID.back)
    assert state(conntrack, back) == CT_REL


@pytest.mark.parametrize(
    ("kind", "code", "expected"), [(8, 0, CT_NEW), (0, 0, CT_INV), (8, 1, CT_INV), (42, 0, CT_INV)]
)
def test_icmp_begins_with_a_question(kind: int, code: int, expected: int) -> None:
    """An echo request is new; an answer to nothing, a false code and an unknown type are invalid."""
    packet = Packet(SAID.source_mac, SAID.target_mac, SAID.source, SAID.target, 1, kind=kind, code=code)
    assert state(Conntrack(), packet) == expected


def flow(table: int, priority: int, *actions: Action, goto: int | None = None, **terms: int) -> Flow:
    """A flow for IPv4 (so that ct may be asked for)."""
    return Flow(table, priority, 0, match(eth_type=0x0800, **terms), actions, goto)


def out(switch: Switch) -> list[int]:
    """The ports by which SAID leaves."""
    return [sent.port for sent in switch.process(fields_of(SAID), 1)]


CLAUSES = [
    flow(0, 10, Conjunction(7, 1, 2), ipv4_src=0x0A000001),
    flow(0, 10, Conjunction(7, 2, 2), Conjunction(8, 2, 2), ip_proto=17, udp_dst=53),
    flow(0, 10, Conjunction(8, 1, 2), ipv4_src=0x0A000009),
    flow(0, 10, Output(2), conj_id=7),
    flow(0, 10, Output(3), conj_id=8),
]


def test_a_conjunction_is_met_by_all_of_its_clauses() -> None:
    """Of two conjunctions that share a clause the one is hit whose other clause is met too."""
    assert out(Switch(CLAUSES, {})) == [2]
    assert out(Switch([flow for flow in CLAUSES if flow.match.get("ipv4_src") != 0x0A000001], {})) == []


def test_a_plain_flow_of_higher_or_equal_priority_goes_first() -> None:
    """And one of lower priority is hit when no conjunction is."""
    for priority, expected in ((11, [4]), (10, [4]), (9, [2])):
        assert out(Switch([*CLAUSES, flow(0, priority, Output(4))], {})) == expected
    assert out(Switch([*CLAUSES[1:], flow(0, 9, Output(4))], {})) == [4]


def test_two_flows_of_one_priority_are_an_error() -> None:
    """A packet that two flows match, which differ, is ambiguous."""
    with pytest.raises(Ambiguous):
        out(Switch([flow(0, 5, Output(2), ip_proto=17), flow(0, 5, Output(3), ipv4_src=0x0A000001)], {}))


def test_ct_sends_a_copy_on_and_leaves_the_packet_untracked() -> None:
    """Registers go along; what follows ct in the flow, and who resubmitted to it, go on with an untracked packet."""
    switch = Switch(
        [
            flow(0, 1, SetField("reg1", 5), Resubmit(1), Output(2)),
            flow(1, 1, Track("reg1", 3), SetField("reg1", 6), goto=2),
            flow(2, 2, Output(9), ct_state=CT_NEW | CT_TRK),
            flow(2, 1, Output(3)),
            flow(3, 1, Output(4), ct_state=CT_NEW | CT_TRK, reg1=5, ct_zone=5),
        ],
        {},
    )
    assert out(switch) == [3, 2, 4]
    assert switch.tracked == [CT_NEW | CT_TRK]
