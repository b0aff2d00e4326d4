"""What waits for the reactor is counted by what it weighs, and the feed is told when it is enough."""

import queue

import pytest

from agents.inbox import MOST, STOP, Inbox, Stop
from agents.session import FeedDown, FeedMessages
from selvedge.topics import Update


def messages(count: int) -> FeedMessages:
    return FeedMessages(tuple(Update("segment/one", number, (), ()) for number in range(count)))


def test_the_feed_has_to_wait_until_there_is_room() -> None:
    """Full at MOST objects, not by any number of other events; room again as soon as the reactor took some."""
    inbox = Inbox()
    for _ in range(3):
        inbox.put(messages(MOST // 3))
        inbox.put(FeedDown("gone"))
    assert not inbox.full()
    inbox.put(messages(1))
    assert inbox.full()
    assert inbox.waiting == MOST // 3 * 3 + 1
    inbox.get()
    assert not inbox.full()


def test_what_goes_in_comes_out_in_order() -> None:
    """Everything, the end included, and then nothing is waiting."""
    inbox = Inbox()
    events: list[FeedMessages | FeedDown | Stop] = [messages(3), FeedDown("gone"), messages(2), STOP]
    for event in events:
        inbox.put(event)
    assert [inbox.get_nowait() for _ in events] == events
    assert inbox.waiting == 0
    with pytest.raises(queue.Empty):
        inbox.get_nowait()
    with pytest.raises(queue.Empty):
        inbox.get(timeout=0.01)
