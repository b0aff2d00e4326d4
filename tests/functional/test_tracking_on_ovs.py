"""Connections against a real Open vSwitch: what may be matched of them, what tracks them, what forgets them.

What OpenFlow has no words for is Nicira's: its prerequisites are in no specification, so the switch is asked.
"""

from collections.abc import Iterator

import pytest

from openflow.codec import session
from openflow.fields import TABLE, Field
from openflow.flow import CONTROLLER, BadFlow, Conjunction, Flow, Output, Track, match
from openflow.match import Value
from tests.functional.bridge import Bridge
from tests.functional.frames import udp
from tests.functional.test_codec_on_ovs import MARKER, same, unchecked
from tests.functional.vswitch import Vswitch
from tests.unit.codec_values import TRACKED, context_of

CONNECTED = [known for known in TABLE if known.connected]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    servers = Vswitch(tmp_path_factory.mktemp("ovs"))
    try:
        servers.start_database()
        servers.start_switch()
        servers.add_bridge()
        yield Bridge(servers)
    finally:
        servers.close()


@pytest.fixture
def bridge(connection: Bridge) -> Bridge:
    """The bridge with empty tables."""
    connection.clear()
    return connection


STATES: tuple[Value, ...] = (
    *((0x20, 0x20), (0, 0x10), (0x10, 0x10), (0x30, 0x30), (0, 0x01), 0, 0x10, 0x20, 0x30),
    *((0x20, 0x30), (0x20, 0x31), (0x28, 0x38), (1, 1), (2, 2), (4, 4), (8, 8), (0x40, 0x40), (0x80, 0x80), 0x2A),
)
"""Of a connection's state: what says that there is a connection, and what does not."""


@pytest.mark.parametrize("known", CONNECTED, ids=str)
@pytest.mark.parametrize("state", STATES, ids=str)
def test_a_connection_is_matched_only_where_there_is_one(bridge: Bridge, known: Field, state: Value) -> None:
    """We take the states that the switch takes, and no other; nor does either of us take none."""
    terms = {**context_of(known), known.name: 1, "ct_state": state}
    refused = [error.name for error in bridge.add([Flow(0, 1, 0, unchecked(terms))])]
    try:
        assert match(**terms) == unchecked(terms)
        assert refused == []
    except BadFlow:
        assert refused == ["OFPBMC_BAD_PREREQ"]
    del terms["ct_state"]
    with pytest.raises(BadFlow):
        match(**terms)
    assert [error.name for error in bridge.add([Flow(0, 1, 0, unchecked(terms))])] == ["OFPBMC_BAD_PREREQ"]


@pytest.mark.parametrize("known", [known for known in CONNECTED if known.requires], ids=str)
def test_what_the_switch_makes_of_a_connection_without_prerequisite(bridge: Bridge, known: Field) -> None:
    """Addresses of another protocol it refuses; ports of no protocol it takes and cannot tell again: we refuse both."""
    ((missing, _),) = known.requires
    terms = {"eth_type": 0x800, **context_of(known), known.name: 1}
    del terms[missing]
    with pytest.raises(BadFlow):
        match(**terms)
    refused = bridge.add([Flow(0, 1, 0, unchecked(terms))])
    if missing == "eth_type":
        assert [error.name for error in refused] == ["OFPBAC_MATCH_INCONSISTENT"]
    else:
        assert refused == []
        assert set(bridge.flows()) == {Flow(0, 1, 0, match(eth_type=0x800, ct_state=terms["ct_state"])).key}


def test_protocol_zero_of_a_connection_cannot_be_told(bridge: Bridge) -> None:
    """The switch takes it and leaves it out of the dump, where it would look like another flow: we refuse it."""
    terms: dict[str, Value] = {"eth_type": 0x800, "ct_state": TRACKED}
    other = unchecked({**terms, "ct_nw_proto": 0})
    with pytest.raises(BadFlow):
        match(**terms, ct_nw_proto=0)
    assert bridge.add([Flow(0, 1, 0, other)]) == []
    assert set(bridge.flows()) == {Flow(0, 1, 0, match(**terms)).key}


def test_what_is_not_ip_or_invalid_is_not_tracked(bridge: Bridge) -> None:
    """The switch takes no ct action without an IP version in the match, and no commit of what is invalid."""
    track, commit = Track("reg9", 52), Track("reg9", commit=True)
    states: tuple[Value, ...] = ((0x10, 0x10), (0x30, 0x30), 0x31)
    good = [match(eth_type=0x800), match(eth_type=0x86DD, ct_state=(0x20, 0x30)), match(eth_type=0x800, ct_state=0)]
    invalid = [match(eth_type=0x800, ct_state=state) for state in states]
    same(bridge, [Flow(50, number, 0, each, (track, commit)) for number, each in enumerate(good)])
    bridge.clear()
    same(bridge, [Flow(50, number, 0, each, (track,)) for number, each in enumerate(invalid)])
    refused = [Flow(50, 1, 0, each, (commit,)) for each in invalid]
    refused += [Flow(50, 1, 0, each, (track,)) for each in (match(), match(eth_type=0x806), match(ct_state=(1, 1)))]
    assert {error.name for error in bridge.add(refused)} == {"OFPBAC_MATCH_INCONSISTENT"}
    assert len(bridge.flows()) == len(invalid)


def test_a_conjunction_is_a_flow_like_any_other(bridge: Bridge) -> None:
    """Several in one flow, in any order, twice the same: as they were sent. The flow of its number matches on it."""
    some = (Conjunction(9, 2, 2), Conjunction(7, 1, 3))
    kinds = [some, some[::-1], some[:1] * 2]
    wanted = [Flow(75, number, MARKER, match(eth_type=0x800), actions) for number, actions in enumerate(kinds)]
    wanted += [Flow(75, 90, MARKER, match(eth_type=0x800, conj_id=number), (), 78) for number in (0, 9, 0xFFFFFFFF)]
    same(bridge, wanted)
    alone = Flow(75, 1, MARKER, match(), some, 78)
    with pytest.raises(BadFlow):
        _ = alone.body


@pytest.mark.parametrize("fragments", [session.FRAGMENTS_MATCH, session.FRAGMENTS_NORMAL])
def test_the_bridge_treats_fragments_as_it_is_told(bridge: Bridge, fragments: int) -> None:
    """Whoever asks the bridge hears what we set; and it stays when we have no wish for packets."""
    assert bridge.do(session.set_config(bridge.next(), 0, fragments)) == []
    words = {session.FRAGMENTS_MATCH: "nx-match", session.FRAGMENTS_NORMAL: "normal"}
    assert bridge.vswitch.ofctl("get-frags").strip() == words[fragments]


def test_connections_of_a_zone_are_forgotten(bridge: Bridge) -> None:
    """A question is remembered in two zones; one is flushed, once and again, and the other remembers it still.

    Then its answer, which was one before, begins a connection of its own.
    """
    remember = (Track(7, commit=True), Track(8, commit=True), Output(CONTROLLER, 99))
    tracked = [
        Flow(0, 1, 0, match(eth_type=0x800), (Track(7, 1),)),
        Flow(1, 1, 1, match(eth_type=0x800, ct_state=(0x21, 0x21)), remember),
        Flow(1, 2, 2, match(eth_type=0x800, ct_state=(0x2A, 0x2A)), (Output(CONTROLLER, 99),)),
    ]
    same(bridge, tracked)
    bridge.send(session.set_config(bridge.next()))
    ends = [("fa:16:3e:00:00:01", "10.0.0.1"), ("fa:16:3e:00:00:05", "10.0.0.2")]
    question, answer = (
        udp(source_mac, target_mac, source, target, b"")
        for (source_mac, source), (target_mac, target) in (ends, ends[::-1])
    )

    def zones() -> list[str]:
        lines = bridge.vswitch.appctl("dpctl/dump-conntrack").splitlines()
        return sorted(line.split("zone=")[1].split(",")[0] for line in lines if "src=10.0.0.1" in line)

    assert bridge.through(question).cookie == 1
    assert bridge.through(answer).cookie == 2
    assert zones() == ["7", "8"]
    assert bridge.do(session.flush_zone(bridge.next(), 7)) == []
    assert zones() == ["8"]
    assert bridge.do(session.flush_zone(bridge.next(), 7)) == []
    assert bridge.through(answer).cookie == 1
    assert bridge.do(session.flush_zone(bridge.next(), 7), session.flush_zone(bridge.next(), 8)) == []
    assert zones() == []
