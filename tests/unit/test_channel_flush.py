"""Flushes of connections by the channel: what it says when, beside the batches, and what it makes of the answers."""

import pytest

from openflow.batch import Confirmed, Flush, Flushed, Rejected, Trouble
from openflow.channel import Counters
from openflow.codec import bundles, frames, session
from tests.unit.test_channel import BAD_OUT_PORT, BATCH, G1, Talk, asked, error, ready, reply, submitted

EPERM = (1, 5)


def flushed_zones(messages: list[bytes]) -> list[int]:
    """The zones that these messages flush; other messages than barriers there must not be."""
    flushes = [message for message in messages if frames.kind_of(message) != frames.BARRIER_REQUEST]
    assert {session.nicira_subtype(message) for message in flushes} <= {session.CT_FLUSH_ZONE}
    return [int.from_bytes(message[22:24], "big") for message in flushes]


def test_flush() -> None:
    """One message for each zone, a barrier behind; its reply, and nothing earlier, is the answer."""
    talk = ready()
    talk.channel.flush(Flush(1, (7, 65535)))
    *flushes, barrier = talk.said()
    assert flushes == [session.flush_zone(frames.xid_of(barrier) - left, zone) for left, zone in ((2, 7), (1, 65535))]
    assert frames.kind_of(barrier) == frames.BARRIER_REQUEST
    assert talk.hear(frames.message(frames.BARRIER_REPLY, frames.xid_of(barrier) - 1)) == []
    assert talk.hear(reply(barrier)) == [Flushed((7, 65535))]
    assert talk.hear(reply(barrier)) == [], "once"
    assert talk.counters == Counters(zones_flushed=2)


def test_flush_of_nothing() -> None:
    """Is done as soon as the switch has done what was asked before."""
    talk = ready()
    talk.channel.flush(Flush(1, ()))
    (barrier,) = talk.said()
    assert talk.hear(reply(barrier)) == [Flushed(())]


def test_flushes_are_answered_in_their_order() -> None:
    """Several may be on their way; a batch may follow at once, for the switch does one after the other."""
    talk = ready()
    for zones in ((1, 2), (3,), (4, 1)):
        talk.channel.flush(Flush(1, zones))
    talk.channel.submit(BATCH)
    said = talk.said()
    opening = next(place for place, message in enumerate(said) if frames.kind_of(message) == frames.BUNDLE_CONTROL)
    assert flushed_zones(said[:opening]) == [1, 2, 3, 4, 1]
    barriers = [message for message in said if frames.kind_of(message) == frames.BARRIER_REQUEST]
    events = talk.hear(*map(reply, barriers))
    assert events == [Flushed((1, 2)), Flushed((3,)), Flushed((4, 1))]
    (commit,) = talk.said()
    assert talk.hear(reply(commit)) == [Confirmed(7)]


@pytest.mark.parametrize("good", [True, False])
def test_flush_waits_for_the_bundle_before_it(good: bool) -> None:
    """What the batch takes away may still be in use while it is judged: nothing is flushed until it has ended."""
    talk, messages, barrier = submitted()
    talk.channel.flush(Flush(1, (7,)))
    talk.channel.flush(Flush(1, (8, 9)))
    assert talk.said() == []
    talk.hear(reply(messages[0]), *([] if good else [error(frames.xid_of(messages[1]), BAD_OUT_PORT)]), reply(barrier))
    (end,) = talk.said()
    assert asked(end) == (bundles.COMMIT if good else bundles.DISCARD)
    assert [type(event) for event in talk.hear(reply(end))] == [Confirmed if good else Rejected]
    flushes = talk.said()
    assert flushed_zones(flushes) == [7, 8, 9]
    assert talk.hear(reply(flushes[1]), reply(flushes[-1])) == [Flushed((7,)), Flushed((8, 9))]


def test_flush_that_is_refused() -> None:
    """The zones in question are left out of the answer; of all refusals of a connection, the first is told."""
    talk = ready()
    talk.channel.flush(Flush(1, (7, 8, 9)))
    *flushes, barrier = talk.said()
    refused = [error(frames.xid_of(message), EPERM) for message in flushes[:2]]
    (trouble, answer) = talk.hear(*refused, reply(barrier))
    assert trouble == Trouble("the connections of zone 7 cannot be flushed: OFPBRC_EPERM")
    assert answer == Flushed((9,))
    talk.channel.flush(Flush(1, (7,)))
    flush, barrier = talk.said()
    assert talk.hear(error(frames.xid_of(flush), EPERM), reply(barrier)) == [Flushed(())]
    assert talk.counters.errors == 3


def test_errors_of_a_flush_and_of_a_bundle_are_not_mixed_up() -> None:
    """Both on their way, each with an error."""
    talk = ready()
    talk.channel.flush(Flush(1, (7,)))
    talk.channel.submit(BATCH)
    flush, barrier, opened, first, *_, judged = talk.said()
    errors = [error(frames.xid_of(flush), EPERM), error(frames.xid_of(first), BAD_OUT_PORT)]
    events = talk.hear(errors[0], reply(barrier), reply(opened), errors[1], reply(judged))
    assert [type(event) for event in events] == [Trouble, Flushed]
    (discard,) = talk.said()
    (rejected,) = talk.hear(reply(discard))
    assert isinstance(rejected, Rejected)
    assert [key for key, _ in rejected.failures] == [G1]


def test_flush_before_the_dump() -> None:
    """Nothing goes before the connection has been told of."""
    with pytest.raises(RuntimeError):
        Talk().channel.flush(Flush(1, (7,)))
