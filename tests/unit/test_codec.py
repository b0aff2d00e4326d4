"""The codec by itself: canonical matches, refusals by name, framing, and bytes from nowhere."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openflow.codec import bundles, errors, flows, frames, groups, packets, session
from openflow.codec.decode import read_actions, read_flow, read_group
from openflow.codec.frames import BadMessage, Framer
from openflow.codec.text import flow_text
from openflow.fields import BY_EXPERIMENT, BY_HEADER, TABLE
from openflow.flow import (
    CONTROLLER,
    IN_PORT,
    Action,
    BadFlow,
    Bucket,
    Conjunction,
    Flow,
    GroupEntry,
    Load,
    Move,
    Output,
    Resubmit,
    SetField,
    Track,
    match,
    match_of,
)
from openflow.match import Value
from tests.unit import codec_values


def test_no_two_fields_share_a_number() -> None:
    """Every header leads back to its field, and ranks are the order of the table."""
    for known in TABLE:
        table = BY_EXPERIMENT if known.header >> 16 == 0xFFFF else BY_HEADER
        assert table[known.header] is table[known.header_masked] is known
    assert len({known.header for known in TABLE}) == len({known.name for known in TABLE}) == len(TABLE)
    assert [known.rank for known in TABLE] == list(range(len(TABLE)))


def test_equal_matches_have_equal_bytes_however_they_are_written() -> None:
    """Order of the arguments, aliases, full and empty masks make no difference."""
    plain = match(reg0=5, eth_type=0x800, ipv4_src=0x0A000001)
    for other in (
        match(ipv4_src=0x0A000001, reg0=5, eth_type=0x800),
        match(reg0=(5, 0xFFFFFFFF), eth_type=0x800, nw_src=(0x0A000001, 0xFFFFFFFF), reg1=(0, 0)),
        match_of([("ip_src", 0x0A000001), ("eth_type", 0x800), ("reg0", 5)]),
    ):
        assert (other, hash(other), other.wire) == (plain, hash(plain), plain.wire)
    assert plain != match(reg0=5, eth_type=0x800, ipv4_src=(0x0A000000, 0xFFFFFF00))
    assert plain.get("reg0") == 5
    assert plain.get("reg1") is None
    assert match(reg0=(4, 6)).get("reg0") == (4, 6)


@given(terms=codec_values.terms())
def test_the_order_of_arguments_makes_no_difference(terms: dict[str, Value]) -> None:
    """Any match, written backwards."""
    assert match(**terms).wire == match(**dict(reversed(terms.items()))).wire


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"colour": 3}, "no field 'colour'"),
        ({"reg0": 1 << 32}, "reg0=0x100000000 does not fit into 32 bits"),
        ({"reg0": -1}, "reg0=-0x1 does not fit"),
        ({"reg0": (0, -1)}, "mask -0x1 of reg0"),
        ({"reg0": (3, 1)}, "reg0=0x3 has bits outside its mask 0x1"),
        ({"in_port": (2, 2)}, "in_port takes no mask"),
        ({"eth_src": (1, 1 << 48)}, "mask 0x1000000000000 of eth_src"),
        ({"ipv4_src": 1}, "ipv4_src needs eth_type"),
        ({"ipv4_src": 1, "eth_type": 0x806}, "ipv4_src needs eth_type to be one of"),
        ({"arp_op": 1, "eth_type": 0x800}, "arp_op needs eth_type to be one of"),
        ({"tcp_src": 1, "eth_type": 0x800, "ip_proto": 17}, "tcp_src needs ip_proto to be one of"),
        ({"nd_sll": 1, "eth_type": 0x86DD, "ip_proto": 58, "icmpv6_type": 136}, "nd_sll needs icmpv6_type"),
        ({"vlan_pcp": 1}, "vlan_pcp needs a vlan_vid"),
        ({"vlan_pcp": 1, "vlan_vid": 0}, "vlan_pcp needs a vlan_vid"),
        ({"tcp_src": 1, "eth_type": 0x800, "ip_proto": 6, "ip_frag": 3}, "later fragment"),
        ({"nw_src": 1, "ipv4_src": 1, "eth_type": 0x800}, "a field twice"),
        ({"ct_nw_src": 1, "ct_state": (0x20, 0x30)}, "ct_nw_src needs eth_type"),
        ({"ct_nw_src": 1, "ct_state": (0x20, 0x30), "eth_type": 0x86DD}, "ct_nw_src needs eth_type to be one of"),
        ({"ct_nw_src": 1, "eth_type": 0x800}, "ct_nw_src needs a ct_state"),
        ({"ct_ipv6_dst": 1, "eth_type": 0x86DD, "ct_state": (0x20, 0x20)}, "ct_ipv6_dst needs a ct_state"),
        ({"ct_nw_proto": 6, "ct_state": 0x30}, "ct_nw_proto needs a ct_state"),
        ({"ct_nw_proto": 6, "ct_state": (0, 0x10)}, "ct_nw_proto needs a ct_state"),
        ({"ct_nw_proto": 0, "ct_state": (0x20, 0x30)}, "ct_nw_proto=0 cannot be told"),
        ({"ct_nw_proto": (4, 12), "ct_state": (0x20, 0x30)}, "ct_nw_proto takes no mask"),
        ({"ct_tp_dst": 80, "ct_state": (0x20, 0x30)}, "ct_tp_dst needs ct_nw_proto"),
        ({"ct_tp_dst": 80, "ct_nw_proto": 0, "ct_state": (0x20, 0x30)}, "ct_nw_proto=0 cannot be told"),
    ],
)
def test_a_bad_match_is_refused_by_name(terms: dict[str, Value], said: str) -> None:
    """The text says which field and why."""
    with pytest.raises(BadFlow) as refused:
        match(**terms)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (Output(IN_PORT), "InPort()"),
        (Output(5, 128), "takes no max_len"),
        (Output(1 << 32), "does not fit"),
        (SetField("reg0", 1 << 32), "reg0=0x100000000 does not fit into 32 bits"),
        (SetField("eth_type", 5), "cannot set eth_type"),
        (SetField("in_port", 5), "cannot set in_port"),
        (SetField("vlan_vid", 5), "present bit"),
        (Load("reg0", 2, 0, 1), "reg0=0x2 does not fit into 1 bits"),
        (Load("reg0", 2, 30, 4), "bits 30 to 33 are not"),
        (Load("ipv6_src", 2), "are not 1 to 64 bits of ipv6_src"),
        (Load("ip_proto", 2), "ip_proto is read-only"),
        (Load("actset_output", 2), "no Nicira number"),
        (Move("reg0", "reg1", 33), "reg0 has no 33 bits from bit 0"),
        (Move("eth_src", "reg1", 32, 17), "eth_src has no 32 bits from bit 17"),
        (Move("reg0", "ct_state", 8), "ct_state is read-only"),
        (Resubmit(256), "does not fit"),
        (Track(0x10000, 52), "does not fit"),
        (Track("reg9", 255), "no table 255"),
        (Track("reg9", 256), "does not fit"),
        (Track("vlan_vid", 52), "vlan_vid has no 16 bits"),
        (Track("colour", 52), "no field 'colour'"),
        (Conjunction(1, 1, 1), "2 to 64 clauses, not 1"),
        (Conjunction(1, 1, 65), "2 to 64 clauses, not 65"),
        (Conjunction(1, 0, 2), "no clause 0 of 2"),
        (Conjunction(1, 3, 2), "no clause 3 of 2"),
        (Conjunction(1 << 32, 1, 2), "does not fit"),
    ],
)
def test_a_bad_action_is_refused_by_name(action: Action, said: str) -> None:
    """In a flow and in a bucket alike."""
    with pytest.raises(BadFlow) as refused:
        _ = Flow(0, 1, 0, match(), (action,)).body
    assert said in str(refused.value)
    with pytest.raises(BadFlow):
        _ = GroupEntry(1, (Bucket((action,)),)).body


@pytest.mark.parametrize(
    "flow",
    [
        Flow(255, 1, 0, match()),
        Flow(-1, 1, 0, match()),
        Flow(0, 65536, 0, match()),
        Flow(0, 1, 1 << 64, match()),
        Flow(5, 1, 0, match(), (), 5),
        Flow(5, 1, 0, match(), (), 4),
        Flow(5, 1, 0, match(), (), 255),
        Flow(5, 1, 0, match(), (Output(1),) * 4100),
        Flow(5, 1, 0, match(), (Conjunction(1, 1, 2), Output(1))),
        Flow(5, 1, 0, match(), (Output(1), Conjunction(1, 1, 2))),
        Flow(5, 1, 0, match(), (Conjunction(1, 1, 2),), 6),
    ],
)
def test_a_bad_flow_is_refused(flow: Flow) -> None:
    """Tables and priorities that do not exist, goto backwards, more than a message holds, conjunctions with more."""
    with pytest.raises(BadFlow):
        _ = (flow.key, flow.body)


def test_a_group_beyond_the_largest_message_or_number_is_refused() -> None:
    """The compilers spread larger ones; here is only the limit."""
    with pytest.raises(BadFlow):
        _ = GroupEntry(1, (Bucket((Output(1),)),) * 2100).body
    with pytest.raises(BadFlow):
        _ = GroupEntry(0xFFFFFF01, ()).body


def test_flows_are_values() -> None:
    """Equal by bytes, hashable, and told apart by anything that the switch would tell apart."""
    flow = Flow(1, 2, 3, match(reg0=4), (Output(5),), 6)
    same = Flow(1, 2, 3, match(reg0=(4, 0xFFFFFFFF)), (Output(5),), 6)
    assert {flow, same} == {flow}
    others = {
        Flow(0, 2, 3, match(reg0=4), (Output(5),), 6),
        Flow(1, 3, 3, match(reg0=4), (Output(5),), 6),
        Flow(1, 2, 4, match(reg0=4), (Output(5),), 6),
        Flow(1, 2, 3, match(reg0=5), (Output(5),), 6),
        Flow(1, 2, 3, match(reg0=4), (Output(4),), 6),
        Flow(1, 2, 3, match(reg0=4), (Output(5),), 7),
        Flow(1, 2, 3, match(reg0=4), (Output(5),)),
    }
    assert len(others | {flow}) == 8
    with pytest.raises(AttributeError):
        flow.table = 2  # type: ignore[misc]
    assert repr(flow) == f"Flow(1, 2, 0x3, match(reg0=0x4), {flow.actions}, goto=6)"


@settings(max_examples=150, deadline=None)
@given(flow=codec_values.flows())
def test_a_flow_reads_as_what_was_written(flow: Flow) -> None:
    """Any flow; its text is the same then, too."""
    again = read_flow(flow.key, flow.body)
    assert again == flow
    assert flow_text(again) == flow_text(flow)


@settings(max_examples=60, deadline=None)
@given(group=codec_values.groups())
def test_a_group_reads_as_what_was_written(group: GroupEntry) -> None:
    """Any group."""
    assert read_group(group.id, group.body) == group


def _stats(flow: Flow, extras: bytes = bytes(8)) -> bytes:
    """A flow as a dump has it: counters, durations and all."""
    length = 48 + len(flow.key) - 3 + len(flow.body) - 8
    head = struct.pack("!HBxIIH", length, flow.table, 11, 12, flow.priority) + extras + bytes(2)
    return head + flow.body[:8] + struct.pack("!QQ", 13, 14) + flow.key[3:] + flow.body[8:]


def _multipart(kind: int, body: bytes, more: bool = False) -> bytes:
    return frames.message(frames.MULTIPART_REPLY, 5, struct.pack("!HH4x", kind, more) + body)


@settings(max_examples=40, deadline=None)
@given(wanted=st.lists(codec_values.flows(), max_size=8, unique_by=lambda flow: flow.key), more=st.booleans())
def test_a_dump_becomes_keys_and_bodies(wanted: list[Flow], more: bool) -> None:
    """Whatever the counters say; and the head tells whether more comes."""
    found: dict[bytes, bytes] = {}
    dump = _multipart(frames.FLOW_STATS, b"".join(map(_stats, wanted)), more)
    assert flows.read_flows(dump, found) == more
    assert found == {flow.key: flow.body for flow in wanted}


@pytest.mark.parametrize("place", range(8))
def test_a_flow_with_a_timeout_flags_or_importance_is_not_ours(place: int) -> None:
    """Each of those numbers marks the body."""
    flow = Flow(1, 2, 3, match(reg0=4), (Output(5),), 6)
    extras = bytes(1 if place == each else 0 for each in range(8))
    found: dict[bytes, bytes] = {}
    flows.read_flows(_multipart(frames.FLOW_STATS, _stats(flow, extras)), found)
    assert found == {flow.key: flow.body + flows.ALTERED}


@given(
    sizes=st.lists(st.integers(0, 300), max_size=20),
    cuts=st.lists(st.integers(1, 900), min_size=1, max_size=40),
)
def test_a_stream_in_any_pieces_gives_the_same_messages(sizes: list[int], cuts: list[int]) -> None:
    """Cut anywhere, even within a header; what is not whole yet waits."""
    messages = [frames.message(frames.ECHO_REQUEST, place, bytes(size)) for place, size in enumerate(sizes)]
    stream = b"".join(messages) + b"\5\0\0"
    framer = Framer()
    got: list[bytes] = []
    for cut in cuts:
        got += framer.feed(stream[:cut])
        stream = stream[cut:]
    got += framer.feed(stream)
    assert got == messages
    assert [frames.xid_of(message) for message in got] == list(range(len(sizes)))


@pytest.mark.parametrize("length", [0, 7])
def test_a_stream_that_lost_its_frame_is_named(length: int) -> None:
    """A length below the header's: there is no way on."""
    with pytest.raises(BadMessage, match=f"{length} bytes long"):
        Framer().feed(struct.pack("!BBHI", 5, 2, length, 1))


def test_a_message_too_long_is_named_not_sent() -> None:
    """The length field has 16 bits."""
    flow = Flow(0, 1, 0, match(reg0=1), (Output(1),) * 3900)
    inner = flows.add(flow.key, flow.body, 1)
    assert len(bundles.add(1, inner)) == len(inner) + 16
    with pytest.raises(BadMessage):
        frames.message(0, 1, bytes(65528))
    with pytest.raises(BadMessage):
        bundles.add(1, frames.message(0, 1, bytes(65520)))
    with pytest.raises(BadMessage):
        flows.add(flow.key, flow.body + bytes(4000), 1)


def _every_reader(data: bytes) -> None:
    for reader in (session.features, session.options, session.hello_versions, session.echo_reply):
        _try(lambda reader=reader: reader(data))
    for other in (bundles.answer, errors.error, packets.packet_in, frames.multipart_of):
        _try(lambda other=other: other(data))
    _try(lambda: flows.read_flows(data, {}))
    _try(lambda: groups.read_groups(data, {}))
    _try(lambda: read_actions(data))
    _try(lambda: read_flow(data[:11], data[11:]))
    _try(lambda: read_group(1, data))


def _try(reader: object) -> None:
    assert callable(reader)
    try:
        reader()
    except BadMessage as error:
        assert str(error)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_bytes_from_nowhere_raise_nothing_but_bad_message(data: st.DataObject) -> None:
    """Whole messages with a few bytes changed or cut off; no reader loops, crashes or raises something else."""
    flow = data.draw(codec_values.flows())
    group = GroupEntry(1, (Bucket(flow.actions), Bucket(())))
    kind = data.draw(st.integers(0, 6))
    start: bytes = (
        _multipart(frames.FLOW_STATS, _stats(flow) * 2),
        _multipart(frames.GROUP_DESC, struct.pack("!HBxI", len(group.body) + 7, 0, 1) + group.body[1:]),
        frames.message(frames.PACKET_IN, 1, bytes(16) + flow.match.wire + bytes(10)),
        b"".join(action.wire for action in flow.actions),
        flow.key + flow.body,
        group.body,
        session.hello(1),
    )[kind]
    changed = bytearray(start)
    for _ in range(data.draw(st.integers(0, 3))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(changed)))
    whole = bytes(changed[: end if data.draw(st.booleans()) else None])
    _every_reader(whole)
    _try(lambda: read_flow(whole[: len(flow.key)], whole[len(flow.key) :]))


def test_unknown_things_are_named_by_number() -> None:
    """A field, an action, an error that we have no name for."""
    with pytest.raises(BadMessage, match="header 0x80001e01"):
        read_flow(b"\0\0\1" + bytes.fromhex("0001000980001e0105") + bytes(7), bytes(8))
    with pytest.raises(BadMessage, match="type 24"):
        read_actions(bytes.fromhex("0018000800000000"))
    with pytest.raises(BadMessage, match="action 36 of experimenter 0x2320"):
        read_actions(bytes.fromhex("ffff0010000023200024000000000000"))
    unknown = frames.message(frames.ERROR, 3, struct.pack("!HH", 99, 98))
    assert errors.error(unknown).name == "error type 99 code 98"
    theirs = frames.message(frames.ERROR, 3, struct.pack("!HHI", 0xFFFF, 4250, 0x4F4E4600))
    assert errors.error(theirs).name == "error 4250 of experimenter 0x4f4e4600"


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        ("ffff 0018 00002320 0023  0003 00000000 0007 ff 000000 0000", "flags 0x3"),
        ("ffff 0018 00002320 0023  0000 00000000 0007 ff 000000 0015", "algorithm 21"),
        ("ffff 0028 00002320 0023  0001 00000000 0007 ff 000000 0000" + "00" * 16, "40 bytes"),
        ("ffff 0018 00002320 0023  0000 00011204 001f ff 000000 0000", "not its lowest 16"),
        ("ffff 0010 00002320 0023  0000 00011204", "16 bytes only"),
    ],
)
def test_a_ct_action_that_is_not_ours_is_not_guessed_at(wire: str, said: str) -> None:
    """Force, an application's helper, NAT, another part of a field, a stump: each is told by its bytes."""
    with pytest.raises(BadMessage, match=said):
        read_actions(bytes.fromhex(wire))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ((0x20, 0x30), "-inv+trk"),
        ((0x21, 0x21), "+new+trk"),
        ((0, 0x38), "-rpl-inv-trk"),
        (0x2A, "est|rpl|trk"),
        (0, "0"),
        ((0xC0, 0xC0), "+snat+dnat"),
    ],
)
def test_the_state_of_a_connection_is_told_in_words(value: Value, words: str) -> None:
    """As ovs-ofctl has it: each bit that counts by its sign, or those that are set when all count."""
    assert f",ct_state={words} actions" in flow_text(Flow(0, 1, 0, match(ct_state=value)))


def test_a_packet_for_the_controller_says_how_much_of_it() -> None:
    """`max_len` is written for the controller's port only."""
    assert Output(CONTROLLER, 128).wire != Output(CONTROLLER, 0xFFFF).wire
