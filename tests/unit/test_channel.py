"""The channel, by the bytes that go in and come out: every conversation it can have with a switch."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openflow.batch import Batch, Confirmed, Connected, Key, Rejected, SwitchEvent, Trouble
from openflow.channel import (
    OUR_CONFIG,
    OUR_FLOWS,
    OUR_GROUPS,
    OUR_OPTION,
    OUR_OPTIONS,
    Channel,
    ChannelLost,
    Counters,
)
from openflow.codec import bundles, frames, groups, session
from openflow.codec.session import TLV_MOD, TLV_REPLY, Option
from openflow.flow import Bucket, Flow, GroupEntry, Output, match
from openflow.pipeline import FIRST_GROUP, GENEVE_OPTION, MARKER

NICIRA = 0x00002320
G1, G2 = FIRST_GROUP + 1, FIRST_GROUP + 2
BAD_OUT_PORT, TABLE_FULL, MSG_FAILED, OUT_OF_BUNDLES = (2, 4), (5, 1), (17, 13), (17, 5)


def flow(number: int) -> Flow:
    return Flow(0, 100, MARKER << 56 | number, match(in_port=number + 1), (Output(1),))


def group(number: int) -> GroupEntry:
    return GroupEntry(number, (Bucket((Output(1),)),))


BATCH = Batch(7, 1, (group(G1),), (flow(8).key,), (flow(1), flow(2)), (G2,))


class Talk:
    """A channel, and what it has said so far as whole messages."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.channel = Channel(1, GENEVE_OPTION, self.counters, 0.0)
        self._framer = frames.Framer()

    def hear(self, *messages: bytes, now: float = 0.0) -> list[SwitchEvent]:
        return self.channel.receive(b"".join(messages), now)

    def said(self) -> list[bytes]:
        """The messages that it wrote since the last call."""
        data = b""
        while self.channel.outgoing:
            piece = self.channel.outgoing.peek(100)
            data += bytes(piece)
            self.channel.outgoing.advance(len(piece))
        return self._framer.feed(data)

    def kinds(self) -> list[int]:
        return [frames.kind_of(message) for message in self.said()]


def hello(version: int = frames.VERSION) -> bytes:
    return struct.pack("!BBHIHHI", version, frames.HELLO, 16, 9, 1, 8, 1 << version)


def options(*known: Option) -> bytes:
    body = struct.pack("!IIIH10x", NICIRA, TLV_REPLY, 256, 64)
    return frames.message(frames.EXPERIMENTER, OUR_OPTIONS, body + b"".join(struct.pack("!HBBH2x", *o) for o in known))


def dump_of_flows(*dumped: Flow, more: bool = False) -> bytes:
    body = struct.pack("!HH4x", frames.FLOW_STATS, more)
    for entry in dumped:
        rest = entry.match.wire + entry.body[8:]
        body += struct.pack("!HB9xH10xQ16x", 48 + len(rest), entry.table, entry.priority, entry.cookie) + rest
    return frames.message(frames.MULTIPART_REPLY, OUR_FLOWS, body)


def dump_of_groups(*dumped: GroupEntry) -> bytes:
    body = struct.pack("!HH4x", frames.GROUP_DESC, 0)
    for entry in dumped:
        body += struct.pack("!HBxI", 7 + len(entry.body), entry.body[0], entry.id) + entry.body[1:]
    return frames.message(frames.MULTIPART_REPLY, OUR_GROUPS, body)


def error(xid: int, numbers: tuple[int, int]) -> bytes:
    return frames.message(frames.ERROR, xid, struct.pack("!HH", *numbers))


def reply(request: bytes) -> bytes:
    """The switch's consent to a barrier or a bundle control message."""
    if frames.kind_of(request) == frames.BARRIER_REQUEST:
        return frames.message(frames.BARRIER_REPLY, frames.xid_of(request))
    bundle, asked, flags = struct.unpack_from("!IHH", request, 8)
    body = struct.pack("!IHH", bundle, asked + 1, flags)
    return frames.message(frames.BUNDLE_CONTROL, frames.xid_of(request), body)


def asked(control: bytes) -> int:
    return bundles.answer(reply(control)).asked


def ready() -> Talk:
    talk = Talk()
    talk.hear(hello(), options(Option(*GENEVE_OPTION)), dump_of_groups(), dump_of_flows())
    talk.said()
    assert talk.channel.ready
    return talk


def submitted() -> tuple[Talk, list[bytes], bytes]:
    """A ready channel that was given BATCH: its messages with xid, the barrier apart."""
    talk = ready()
    talk.channel.submit(BATCH)
    *adds, barrier = talk.said()
    return talk, adds, barrier


@given(cuts=st.lists(st.integers(1, 200), max_size=12))
def test_beginning(cuts: list[int]) -> None:
    """Hello, then everything asked for at once; the answers may come in any pieces, the dump in several parts."""
    talk = Talk()
    assert talk.kinds() == [frames.HELLO]
    stream = (
        hello()
        + options(Option(*GENEVE_OPTION))
        + dump_of_groups(group(G1), group(5))
        + dump_of_flows(flow(1), flow(2), more=True)
        + dump_of_flows(flow(3))
    )
    events: list[SwitchEvent] = []
    for cut in cuts:
        events += talk.hear(stream[:cut])
        stream = stream[cut:]
    assert talk.channel.ready is (not stream)
    events += talk.hear(stream)
    dumps = [frames.MULTIPART_REQUEST, frames.MULTIPART_REQUEST]
    assert talk.kinds() == [frames.SET_CONFIG, frames.EXPERIMENTER, *dumps]
    dumped = {entry.key: entry.body for entry in (flow(1), flow(2), flow(3))}
    assert events == [Connected(1, dumped, {G1: group(G1).body, 5: group(5).body})]


def test_ports_of_fragments_are_shown_and_packets_not_asked_for() -> None:
    """OFPC_FRAG_NX_MATCH, and no packets for us. If the bridge refuses it is told, after the connection."""
    talk = Talk()
    talk.hear(hello())
    assert talk.said()[1] == frames.message(frames.SET_CONFIG, OUR_CONFIG, b"\0\3\0\0")
    events = talk.hear(error(OUR_CONFIG, (10, 0)), options(), dump_of_groups(), dump_of_flows())
    assert [type(event) for event in events] == [Connected, Trouble]
    assert "fragments" in str(events[1])
    assert "OFPSCFC_BAD_FLAGS" in str(events[1])


def test_dump_is_asked_of_everything() -> None:
    """Whose cookie it is does not matter: foreign flows are told too, apart."""
    talk = Talk()
    talk.hear(hello())
    request = talk.said()[-1]
    assert struct.unpack_from("!QQ", request, 32) == (0, 0)
    strange = Flow(0, 7, 0x1234, match(in_port=3), (Output(1),))
    (event,) = talk.hear(options(), dump_of_groups(), dump_of_flows(flow(1), strange))
    assert event == Connected(1, {flow(1).key: flow(1).body}, {}, {strange.key: strange.body})


def test_option_is_mapped_when_it_is_missing() -> None:
    """Others' options do not matter, as long as they are elsewhere. The switch's refusal is told by name."""
    talk = Talk()
    events = talk.hear(hello(), options(Option(0x102, 0x80, 4, 3)), dump_of_groups(), dump_of_flows())
    assert talk.said()[-1] == session.option_add(OUR_OPTION, Option(*GENEVE_OPTION))
    assert [type(event) for event in events] == [Connected]
    (trouble,) = talk.hear(error(OUR_OPTION, (3, 0)))
    assert isinstance(trouble, Trouble)
    assert talk.channel.ready


@pytest.mark.parametrize("other", [Option(0x102, 0x80, 4, 0), Option(0xFF5E, 1, 8, 3), Option(0xFF5E, 1, 4, 0)])
def test_option_is_anothers(other: Option) -> None:
    """Our slot or our option is taken: a trouble that names both, nothing is mapped, and life goes on."""
    talk = Talk()
    events = talk.hear(hello(), options(other), dump_of_groups(), dump_of_flows())
    assert [type(event) for event in events] == [Connected, Trouble]
    assert f"tun_metadata{other.slot}" in str(events[1])
    assert f"len={other.length}" in str(events[1])
    assert TLV_MOD not in [session.nicira_subtype(message) for message in talk.said()]


@pytest.mark.parametrize("answer", [hello(4), error(1, (0, 0))])
def test_another_version(answer: bytes) -> None:
    """A switch that does not speak 1.4: the reason names the setting to mend."""
    with pytest.raises(ChannelLost, match="protocols"):
        Talk().hear(answer)


def test_refused_dump() -> None:
    """Without a dump we know nothing: the connection is given up."""
    talk = Talk()
    with pytest.raises(ChannelLost, match="OFPBRC_EPERM"):
        talk.hear(hello(), error(OUR_FLOWS, (1, 5)))


def test_bundle_is_committed() -> None:
    """Open, the messages in the batch's order, a barrier; only its reply brings the commit; its reply confirms."""
    talk, messages, barrier = submitted()
    assert asked(messages[0]) == bundles.OPEN
    inner = [message[16:] for message in messages[1:]]
    kinds = [frames.kind_of(message) for message in inner]
    assert kinds == [frames.GROUP_MOD, frames.FLOW_MOD, frames.FLOW_MOD, frames.FLOW_MOD, frames.GROUP_MOD]
    assert [frames.xid_of(m) for m in inner] == [frames.xid_of(m) for m in messages[1:]]
    assert [message[25] for message in inner[1:4]] == [4, 0, 0], "delete strictly, add, add"
    assert inner[0] == groups.put(G1, group(G1).body, frames.xid_of(inner[0]))
    assert inner[4] == groups.delete(G2, frames.xid_of(inner[4]))
    assert struct.unpack_from("!QQ", inner[1], 8) == (0x5E << 56, 0xFF << 56), "only a flow of ours is deleted"
    assert talk.hear(reply(messages[0])) == []
    assert talk.said() == []
    assert talk.hear(reply(barrier)) == []
    (commit,) = talk.said()
    assert asked(commit) == bundles.COMMIT
    assert talk.hear(reply(commit)) == [Confirmed(7)]
    assert talk.counters == Counters(bundles=1, flow_mods_sent=3, group_mods_sent=2)
    talk.channel.submit(BATCH)
    assert asked(talk.said()[0]) == bundles.OPEN


def test_bundle_with_bad_messages_is_discarded() -> None:
    """Every refused entry is named; the bundle is thrown away; the next batch may go."""
    talk, messages, barrier = submitted()
    bad = [messages[1], messages[4]]
    talk.hear(reply(messages[0]), *(error(frames.xid_of(message), BAD_OUT_PORT) for message in bad), reply(barrier))
    (discard,) = talk.said()
    assert asked(discard) == bundles.DISCARD
    (rejected,) = talk.hear(reply(discard))
    assert isinstance(rejected, Rejected)
    named: dict[Key, str] = {key: str(refusal) for key, refusal in rejected.failures}
    assert named == {G1: "OFPBAC_BAD_OUT_PORT", flow(2).key: "OFPBAC_BAD_OUT_PORT"}
    assert (rejected.batch_id, rejected.cause) == (7, None)
    assert talk.counters.errors == 2
    talk.channel.submit(BATCH)
    assert asked(talk.said()[0]) == bundles.OPEN


def test_commit_fails() -> None:
    """The culprit's error comes first, then the commit's: one rejection that tells both, and nothing more is sent."""
    talk, messages, barrier = submitted()
    talk.hear(reply(messages[0]), reply(barrier))
    (commit,) = talk.said()
    (rejected,) = talk.hear(error(frames.xid_of(messages[3]), TABLE_FULL), error(frames.xid_of(commit), MSG_FAILED))
    assert isinstance(rejected, Rejected)
    assert [(key, str(refusal)) for key, refusal in rejected.failures] == [(flow(1).key, "OFPFMFC_TABLE_FULL")]
    assert str(rejected.cause) == "OFPBFC_MSG_FAILED"
    assert talk.said() == []
    talk.channel.submit(BATCH)
    assert asked(talk.said()[0]) == bundles.OPEN


def test_bundle_cannot_be_opened() -> None:
    """Neither can it be discarded then: it is rejected as a whole, with the cause."""
    talk, messages, barrier = submitted()
    talk.hear(error(frames.xid_of(messages[0]), OUT_OF_BUNDLES), reply(barrier))
    (discard,) = talk.said()
    (rejected,) = talk.hear(error(frames.xid_of(discard), (17, 2)))
    assert isinstance(rejected, Rejected)
    assert (rejected.failures, str(rejected.cause)) == ((), "OFPBFC_OUT_OF_BUNDLES")


def test_one_batch_at_a_time() -> None:
    """Neither a second one nor one before the dump."""
    talk, _, _ = submitted()
    with pytest.raises(RuntimeError):
        talk.channel.submit(BATCH)
    with pytest.raises(RuntimeError):
        Talk().channel.submit(BATCH)


def test_other_messages_are_ignored() -> None:
    """Packets, port states, late answers and errors about nothing of ours change nothing; errors are counted."""
    talk, _, barrier = submitted()
    strangers = [frames.message(kind, 77) for kind in (frames.PACKET_IN, frames.PORT_STATUS, frames.ECHO_REPLY)]
    late = [frames.message(frames.BARRIER_REPLY, 3), dump_of_flows(flow(5)), error(0xFFFFFF, BAD_OUT_PORT)]
    assert talk.hear(*strangers, *late) == []
    assert talk.said() == []
    assert talk.counters.errors == 1
    talk.hear(reply(barrier))
    assert asked(talk.said()[0]) == bundles.COMMIT


def test_echo_is_answered() -> None:
    """With the same payload and number."""
    talk = ready()
    talk.hear(session.echo_request(99, b"payload"))
    assert talk.said() == [frames.message(frames.ECHO_REPLY, 99, b"payload")]


def test_silence() -> None:
    """After 5 s an echo is asked for, once; any answer calms; after 15 s the switch is given up."""
    talk = ready()
    assert talk.channel.deadline == 5.0
    talk.channel.tick(4.9)
    assert talk.said() == []
    talk.channel.tick(5.0)
    talk.channel.tick(6.0)
    assert talk.kinds() == [frames.ECHO_REQUEST]
    assert talk.channel.deadline == 15.0
    talk.hear(frames.message(frames.ECHO_REPLY, 1), now=14.0)
    assert talk.channel.deadline == 19.0
    talk.channel.tick(28.9)
    with pytest.raises(ChannelLost, match="silent"):
        talk.channel.tick(29.0)


def test_framing_lost() -> None:
    """A length below a header's: the bytes are not OpenFlow, and the connection cannot be trusted."""
    with pytest.raises(frames.BadMessage):
        ready().hear(b"\x05\x00\x00\x04\x00\x00\x00\x00")
