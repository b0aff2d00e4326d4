"""Bytes from the switch that are cut, altered or of no meaning: one clear error, and a bounded memory."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openflow.batch import Batch, SwitchEvent
from openflow.channel import MOST_WAITING, Channel, ChannelLost, Counters
from openflow.codec import decode, frames
from openflow.codec.frames import BadMessage, message
from openflow.pipeline import GENEVE_OPTION

BOUNDED = settings(max_examples=200, deadline=None)
KINDS = st.sampled_from(
    [frames.HELLO, frames.ERROR, frames.ECHO_REQUEST, frames.ECHO_REPLY, frames.EXPERIMENTER, frames.PACKET_IN]
) | st.sampled_from(
    [frames.FLOW_REMOVED, frames.PORT_STATUS, frames.MULTIPART_REPLY, frames.BARRIER_REPLY, frames.BUNDLE_CONTROL, 77]
)
FLOW_PART = struct.pack("!HH4x", frames.FLOW_STATS, 0)
GROUP_PART = struct.pack("!HH4x", frames.GROUP_DESC, 0)
NOTHING_MAPPED = struct.pack("!II", 0x2320, 26) + bytes(16)
ROOM = bytes(24)


def channel() -> Channel:
    return Channel(1, GENEVE_OPTION, Counters(), 0.0)


def ready() -> Channel:
    """A channel whose switch has answered everything: there is nothing on it."""
    made = channel()
    made.receive(message(frames.HELLO, 1) + message(frames.EXPERIMENTER, 3, NOTHING_MAPPED), 0.0)
    made.receive(message(frames.MULTIPART_REPLY, 4, GROUP_PART) + message(frames.MULTIPART_REPLY, 5, FLOW_PART), 0.0)
    assert made.ready
    sent(made)
    return made


def sent(made: Channel) -> int:
    """Reads all that waits, and tells how much that was."""
    total = 0
    while made.outgoing:
        size = len(made.outgoing.peek(1 << 20))
        made.outgoing.advance(size)
        total += size
    return total


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Messages of known types and numbers with any bodies; then some bytes of it turned, and its end cut off."""
    bodies = st.binary(max_size=80) | st.sampled_from([FLOW_PART, GROUP_PART, NOTHING_MAPPED, FLOW_PART + ROOM])
    parts = draw(st.lists(st.tuples(KINDS, st.integers(0, 12) | st.just(2**32 - 1), bodies), max_size=8))
    stream = bytearray(b"".join(message(*part) for part in parts))
    for _ in range(draw(st.integers(0, 3))):
        if stream:
            stream[draw(st.integers(0, len(stream) - 1))] = draw(st.integers(0, 255))
    return bytes(stream[: draw(st.integers(0, len(stream)))]) if draw(st.booleans()) else bytes(stream)


@BOUNDED
@given(st.data(), st.booleans(), st.integers(1, 200))
def test_any_bytes_end_the_conversation_or_mean_something(data: st.DataObject, greeted: bool, chunk: int) -> None:
    """Given any stream in any pieces, before and after the greeting, nothing is raised but the two declared errors."""
    made = ready() if greeted else channel()
    if greeted:
        made.submit(Batch(1, 1))
    stream = data.draw(streams())
    try:
        for start in range(0, len(stream), chunk):
            assert isinstance(made.receive(stream[start : start + chunk], 1.0), list)
    except (ChannelLost, BadMessage) as error:
        assert str(error)


@BOUNDED
@given(st.binary(max_size=120), st.binary(max_size=120))
def test_any_flow_or_group_is_read_or_refused(key: bytes, body: bytes) -> None:
    for read in (
        lambda: decode.read_flow(key, body),
        lambda: decode.read_group(7, body),
        lambda: decode.read_actions(body),
    ):
        try:
            read()
        except BadMessage as error:
            assert str(error)


def test_packets_and_other_news_that_nobody_asked_for_are_ignored_and_leave_nothing_behind() -> None:
    """Given a hostile guest for whom the switch sends packet-ins, and other asynchronous messages by the thousand, the
    agent says nothing, keeps nothing, and the next batch goes its way."""
    made = ready()
    events: list[SwitchEvent] = []
    for number in range(2000):
        for kind in (frames.PACKET_IN, frames.PORT_STATUS, frames.FLOW_REMOVED, frames.ECHO_REPLY, 30):
            events += made.receive(message(kind, number, bytes(200)), 1.0)
    assert events == [] and sent(made) == 0
    made.submit(Batch(1, 1))
    assert made.outgoing
    assert made._reading is None and made._troubles == []


def test_answers_that_come_again_and_again_are_not_collected() -> None:
    """A switch that repeats its dump, or its refusals, for ever does not fill the memory."""
    made = ready()
    flow = struct.pack("!HBxIIHHHHHxxxxxx", 56, 3, 0, 0, 0, 0, 0, 0, 0) + bytes(24)
    for number in range(500):
        entry = bytearray(flow[:48] + struct.pack("!HHI", 1, 4, 0))
        entry[10:12] = struct.pack("!H", number)
        made.receive(message(frames.MULTIPART_REPLY, 5, FLOW_PART + bytes(entry)), 1.0)
        made.receive(message(frames.ERROR, 6, struct.pack("!HH", 1, 1)), 1.0)
    assert made._reading is None and len(made._troubles) <= 1


def test_a_second_greeting_ends_the_conversation() -> None:
    """It would have everything dumped once more, each time."""
    made = ready()
    with pytest.raises(ChannelLost, match="greets twice"):
        made.receive(message(frames.HELLO, 1), 1.0)


def test_a_switch_that_asks_for_echoes_and_reads_no_answer_is_given_up() -> None:
    made = ready()
    with pytest.raises(ChannelLost, match="does not read"):
        for number in range(MOST_WAITING // 60_000 + 10):
            made.receive(message(frames.ECHO_REQUEST, number, bytes(60_000)), 1.0)


@pytest.mark.parametrize("length", [0, 7])
def test_a_message_shorter_than_its_head_ends_the_conversation(length: int) -> None:
    with pytest.raises(BadMessage, match="8 is the least"):
        channel().receive(struct.pack("!BBHI", 5, frames.PACKET_IN, length, 0), 0.0)
