"""Our bytes against os_ken's, for every field, action and message that os_ken has.

os_ken sorts the terms of a match by number, Open vSwitch reads them back in an order of its own, which ours is: so
matches are compared term by term. What os_ken lacks (nd_reserved, nd_options_type, tun_metadata0, the first packet of
a connection, the table of Geneve options, flushes) is in the golden files.
"""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from os_ken.ofproto import ofproto_parser, ofproto_v1_4, ofproto_v1_4_parser
from os_ken.ofproto.ofproto_protocol import ProtocolDesc

from openflow.codec import bundles, errors, flows, frames, groups, packets, session
from openflow.codec.text import value_text
from openflow.fields import BY_NAME, TABLE, Field
from openflow.flow import (
    Action,
    Bucket,
    Conjunction,
    CtClear,
    Flow,
    GroupEntry,
    InPort,
    Load,
    Match,
    Move,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    ToGroup,
    Track,
    match,
)
from tests.unit import codec_values
from tests.unit.codec_values import context_of, values

PARSER: Any = ofproto_v1_4_parser
CONSTANTS: Any = ofproto_v1_4
SWITCH = ProtocolDesc(version=ofproto_v1_4.OFP_VERSION)
SWITCH.id = 1

LACKING = {
    *("nd_reserved", "nd_options_type", "tun_metadata0"),
    *("ct_nw_src", "ct_nw_dst", "ct_ipv6_src", "ct_ipv6_dst", "ct_nw_proto", "ct_tp_src", "ct_tp_dst"),
}

THEIRS = {
    "tun_id": "tunnel_id",
    "tun_src": "tun_ipv4_src",
    "tun_dst": "tun_ipv4_dst",
    "nd_target": "ipv6_nd_target",
    "nd_sll": "ipv6_nd_sll",
    "nd_tll": "ipv6_nd_tll",
    "ipv6_label": "ipv6_flabel",
}
"""What os_ken calls fields in matches, where it differs."""

THEIRS_NXM = {
    "tun_id": "tunnel_id_nxm",
    "nd_target": "nd_target",
    "nd_sll": "nd_sll",
    "nd_tll": "nd_tll",
    "ipv6_label": "ipv6_label",
    "tun_src": "tun_ipv4_src",
    "tun_dst": "tun_ipv4_dst",
}


def wire(message: Any, xid: int = 0) -> bytes:
    """What os_ken makes of a message."""
    message.xid = xid
    message.serialize()
    return bytes(message.buf)


def pieces(data: bytes, start: int) -> tuple[set[bytes], int]:
    """The terms of the match at `start`, and where what follows it starts."""
    kind, length = struct.unpack_from("!HH", data, start)
    assert kind == 1
    found = set()
    at = start + 4
    while at < start + length:
        size = 4 + data[at + 3]
        found.add(data[at : at + size])
        at += size
    end = start + (length + 7 & ~7)
    assert data[at:end] == bytes(end - at)
    return found, end


def their_value(known: Field, value: int, mask: int | None) -> Any:
    def one(number: int) -> Any:
        return value_text(known, number) if known.form in ("ipv4", "ipv6", "mac") else number

    if known.name in ("ct_state", "tun_flags") and mask is None:
        mask = known.full  # Open vSwitch always writes the mask of these
    return one(value) if mask is None else (one(value), one(mask))


def their_match(ours: Match) -> Any:
    return PARSER.OFPMatch(
        **{
            THEIRS.get(known.name, known.name): their_value(known, value, mask)
            for known, value, mask in ours.terms
            if known.name not in LACKING
        }
    )


def nxm(name: str) -> str:
    """os_ken's name of the field with Nicira's number, if it has one."""
    plain = THEIRS_NXM.get(name, name)
    known = {kind.name for kind in ofproto_v1_4.oxm_types}
    return f"{plain}_nxm" if f"{plain}_nxm" in known else plain


def their_action(action: Action) -> Any:
    match action:
        case Output(port, max_len):
            return PARSER.OFPActionOutput(port, max_len)
        case InPort():
            return PARSER.OFPActionOutput(CONSTANTS.OFPP_IN_PORT, 0)
        case ToGroup(group):
            return PARSER.OFPActionGroup(group)
        case PushVlan():
            return PARSER.OFPActionPushVlan(0x8100)
        case PopVlan():
            return PARSER.OFPActionPopVlan()
        case Resubmit(table):
            return PARSER.NXActionResubmitTable(0xFFF8, table)
        case SetField(name, value):
            return PARSER.OFPActionSetField(**{THEIRS.get(name, name): their_value(BY_NAME[name], value, None)})
        case Load(name, value, start, _):
            return PARSER.NXActionRegLoad(start << 6 | (action.width - 1), nxm(name), value)
        case Move(src, dst, bits, src_start, dst_start):
            return PARSER.NXActionRegMove(nxm(src), nxm(dst), bits, src_start, dst_start)
        case Track(zone, table, commit):
            source, bits = ("", zone) if isinstance(zone, int) else (nxm(zone), 15)
            return PARSER.NXActionCT(int(commit), source, bits, 255 if table is None else table, 0, [])
        case CtClear():
            return PARSER.NXActionCTClear()
        case Conjunction(number, clause, of):
            return PARSER.NXActionConjunction(clause - 1, of, number)
    raise AssertionError(f"{action} has no counterpart")


def comparable(action: Action) -> bool:
    """Whether os_ken has the action."""
    names = {getattr(action, name, "") for name in ("field", "src", "dst")}
    return not names & LACKING


def serialized(action: Any) -> bytes:
    buffer = bytearray()
    action.serialize(buffer, 0)
    return bytes(buffer)


@pytest.mark.parametrize("known", [known for known in TABLE if known.name not in LACKING], ids=str)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_terms_are_os_kens(known: Field, data: st.DataObject) -> None:
    """Any value and mask of any field."""
    ours = match(**{**context_of(known), known.name: data.draw(values(known))})
    buffer = bytearray()
    their_match(ours).serialize(buffer, 0)
    assert pieces(ours.wire, 0)[0] == pieces(bytes(buffer), 0)[0]


@settings(max_examples=150, deadline=None)
@given(
    ours=st.one_of(codec_values.actions_for(), codec_values.conjunctions()), extra=st.sampled_from([(), (PopVlan(),)])
)
def test_actions_are_os_kens(ours: tuple[Action, ...], extra: tuple[Action, ...]) -> None:
    """Any action that os_ken has."""
    for action in filter(comparable, (*ours, *extra)):
        assert action.wire == serialized(their_action(action))


@settings(max_examples=100, deadline=None)
@given(flow=codec_values.flows(), command=st.integers(0, 4), xid=st.integers(0, 0xFFFFFFFF), mask=st.integers(0, 9))
def test_flow_mods_are_os_kens(flow: Flow, command: int, xid: int, mask: int) -> None:
    """Any flow, every command: the head, the terms, the instructions."""
    terms = tuple(term for term in flow.match.terms if term.field.name not in LACKING)
    actions = tuple(filter(comparable, flow.actions))
    flow = Flow(flow.table, flow.priority, flow.cookie, Match(terms), actions, flow.goto)
    instructions = []
    if actions:
        theirs = [their_action(action) for action in actions]
        instructions.append(PARSER.OFPInstructionActions(CONSTANTS.OFPIT_APPLY_ACTIONS, theirs))
    if flow.goto is not None:
        instructions.append(PARSER.OFPInstructionGotoTable(flow.goto))
    theirs_whole = wire(
        PARSER.OFPFlowMod(
            SWITCH,
            cookie=flow.cookie,
            cookie_mask=mask,
            table_id=flow.table,
            command=command,
            priority=flow.priority,
            buffer_id=CONSTANTS.OFP_NO_BUFFER,
            out_port=CONSTANTS.OFPP_ANY,
            out_group=CONSTANTS.OFPG_ANY,
            match=their_match(flow.match),
            instructions=instructions,
        ),
        xid,
    )
    ours = flows.flow_mod(command, flow.key, flow.body, xid, mask)
    assert ours[:48] == theirs_whole[:48]
    our_terms, our_end = pieces(ours, 48)
    their_terms, their_end = pieces(theirs_whole, 48)
    assert our_terms == their_terms
    assert ours[our_end:] == theirs_whole[their_end:]


@settings(max_examples=60, deadline=None)
@given(group=codec_values.groups(), command=st.integers(0, 2))
def test_group_mods_are_os_kens(group: GroupEntry, command: int) -> None:
    """Any buckets, every command."""
    buckets = tuple(Bucket(tuple(filter(comparable, bucket.actions))) for bucket in group.buckets)
    group = GroupEntry(group.id, buckets)
    theirs = [
        PARSER.OFPBucket(0, CONSTANTS.OFPP_ANY, CONSTANTS.OFPG_ANY, [their_action(action) for action in bucket.actions])
        for bucket in buckets
    ]
    whole = PARSER.OFPGroupMod(SWITCH, command, CONSTANTS.OFPGT_ALL, group.id, theirs)
    assert groups.group_mod(command, group.id, group.body, 7) == wire(whole, 7)


def test_messages_of_the_session_are_os_kens() -> None:
    """Hello, echo, features, configuration, barrier."""
    hello = session.hello(3)
    theirs = ofproto_parser.msg(SWITCH, 5, frames.HELLO, len(hello), 3, hello)  # which does not write the bitmap
    assert [element.versions for element in theirs.elements] == [[5]]
    assert session.hello_versions(hello) == {5}
    assert session.hello_versions(wire(PARSER.OFPHello(SWITCH, []), 3)) == {1, 2, 3, 4, 5}
    assert session.echo_request(4, b"ping") == wire(PARSER.OFPEchoRequest(SWITCH, b"ping"), 4)
    assert session.echo_reply(session.echo_request(5, b"ping")) == wire(PARSER.OFPEchoReply(SWITCH, b"ping"), 5)
    assert session.features_request(6) == wire(PARSER.OFPFeaturesRequest(SWITCH), 6)
    assert session.set_config(7, 128) == wire(PARSER.OFPSetConfig(SWITCH, 0, 128), 7)
    assert session.set_config(7, 0, session.FRAGMENTS_MATCH) == wire(PARSER.OFPSetConfig(SWITCH, 3, 0), 7)
    assert session.barrier_request(8) == wire(PARSER.OFPBarrierRequest(SWITCH), 8)


def test_requests_for_dumps_are_os_kens() -> None:
    """Flows with our cookie; groups."""
    theirs = PARSER.OFPFlowStatsRequest(
        SWITCH, 0, 0xFF, CONSTANTS.OFPP_ANY, CONSTANTS.OFPG_ANY, 0x5E << 56, 0xFF << 56, PARSER.OFPMatch()
    )
    assert flows.dump_request(9, 0x5E << 56, 0xFF << 56) == wire(theirs, 9)
    assert groups.dump_request(10) == wire(PARSER.OFPGroupDescStatsRequest(SWITCH, 0), 10)


@pytest.mark.parametrize("asked", [bundles.OPEN, bundles.CLOSE, bundles.COMMIT, bundles.DISCARD])
def test_bundle_messages_are_os_kens(asked: int) -> None:
    """Each request; and its answer, which is the request's type plus one."""
    theirs = wire(PARSER.OFPBundleCtrlMsg(SWITCH, 77, asked, bundles.ATOMIC_ORDERED, []), 11)
    assert bundles.control(asked, 77, 11) == theirs
    answer = wire(PARSER.OFPBundleCtrlMsg(SWITCH, 77, asked + 1, bundles.ATOMIC_ORDERED, []), 11)
    assert bundles.answer(answer) == bundles.Answer(77, asked)


def test_a_message_in_a_bundle_is_os_kens() -> None:
    """The outer transaction is the inner one's."""
    inner = PARSER.OFPBarrierRequest(SWITCH)
    inner.xid = 12
    theirs = wire(PARSER.OFPBundleAddMsg(SWITCH, 77, bundles.ATOMIC_ORDERED, inner, []), 12)
    assert bundles.add(77, session.barrier_request(12)) == theirs


@given(packet=st.binary(max_size=100), port=st.integers(1, 0xFEFF))
@settings(max_examples=30, deadline=None)
def test_packets_out_are_os_kens(packet: bytes, port: int) -> None:
    """Any packet."""
    theirs = PARSER.OFPPacketOut(
        SWITCH, CONSTANTS.OFP_NO_BUFFER, port, [PARSER.OFPActionOutput(5, 0), PARSER.OFPActionPopVlan()], packet
    )
    assert packets.packet_out(packet, (Output(5), PopVlan()), 13, port) == wire(theirs, 13)


@settings(max_examples=60, deadline=None)
@given(metadata=codec_values.matches(), packet=st.binary(max_size=64), cookie=st.integers(0, (1 << 64) - 1))
def test_packets_in_are_read_as_os_ken_reads_them(metadata: Match, packet: bytes, cookie: int) -> None:
    """What os_ken parses out of the same bytes."""
    body = struct.pack("!IHBBQ", 0xFFFFFFFF, 900, 1, 20, cookie) + metadata.wire + b"\0\0" + packet
    data = frames.message(frames.PACKET_IN, 14, body)
    ours = packets.packet_in(data)
    assert ours == packets.PacketIn(1, 20, cookie, 900, metadata, packet)
    if not any(term.field.name in LACKING for term in metadata.terms):
        theirs = ofproto_parser.msg(SWITCH, 5, frames.PACKET_IN, len(data), 14, data)
        assert (theirs.table_id, theirs.cookie, theirs.total_len) == (20, cookie, 900)
        assert bytes(theirs.data) == packet


def test_names_of_errors_are_os_kens() -> None:
    """Each type and code of the specification, both ways."""
    types = {
        name.removeprefix("OFPET_"): value for name, value in vars(ofproto_v1_4).items() if name.startswith("OFPET_")
    }
    prefixes = {number: name.rpartition("_")[0] for (number, _), name in errors.STANDARD.items()}
    for (kind, code), name in errors.STANDARD.items():
        assert getattr(ofproto_v1_4, name) == code, name
        assert kind in types.values()
    # The prefix of a type's codes is its initials: OFPET_BAD_ACTION → OFPBAC. One is taken by flow mods.
    initials = {
        value: "OFP" + "".join(word[0] for word in name.removesuffix("_FAILED").split("_"))
        for name, value in types.items()
        if name != "EXPERIMENTER"
    }
    initials[CONSTANTS.OFPET_FLOW_MONITOR_FAILED] = "OFPMO"
    assert set(initials) == {kind for kind, _ in errors.STANDARD}
    for kind, start in initials.items():
        assert prefixes[kind].partition("_")[0] in (f"{start}FC", f"{start}C"), (kind, start)


def test_errors_are_read_as_os_ken_writes_them() -> None:
    """Of the specification, and an experimenter's."""
    theirs = PARSER.OFPErrorMsg(SWITCH, CONSTANTS.OFPET_BAD_ACTION, CONSTANTS.OFPBAC_BAD_OUT_PORT, b"refused")
    assert errors.error(wire(theirs, 15)) == errors.SwitchError(15, "OFPBAC_BAD_OUT_PORT", 2, 4, b"refused")
    nicira = PARSER.OFPErrorExperimenterMsg(SWITCH, 0xFFFF, 37, 0x2320, b"refused")
    assert errors.error(wire(nicira, 16)) == errors.SwitchError(
        16, "NXFMFC_INVALID_TLV_FIELD", 0xFFFF, 37, b"refused", 0x2320
    )
