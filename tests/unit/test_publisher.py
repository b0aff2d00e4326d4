"""What the publisher does between a commit and the broker, without a broker: order, bounds, confirmations."""

import pytest

from controller.feed.outbox import PATIENCE, Row
from controller.feed.publisher import Publisher


def row(version: int, topic: str = "t") -> Row:
    return Row(version, topic, version, b"")


@pytest.fixture
def publisher() -> Publisher:
    return Publisher("rabbit://nowhere", "test")


def recorded(publisher: Publisher, *versions: int) -> None:
    """Transactions of this process have raised the topic to these versions, and are not committed as far as we know."""
    publisher.outbox._recorded["t"] = set(versions)


def ready(publisher: Publisher) -> list[int]:
    return [one.version for one in publisher._ready]


def test_a_row_waits_for_its_predecessor_of_the_same_process(publisher: Publisher) -> None:
    recorded(publisher, 4, 5, 6)
    publisher.hand_over([row(6)])
    publisher.hand_over([row(5)])
    assert publisher._sort(10.0) == 10.0 + PATIENCE and ready(publisher) == []
    publisher.hand_over([row(4)])
    assert publisher._sort(10.001) is None and ready(publisher) == [4, 5, 6]
    assert publisher.counters.held_back == 2 and publisher.outbox._recorded == {}


def test_a_predecessor_of_another_process_is_not_waited_for(publisher: Publisher) -> None:
    recorded(publisher, 6)
    publisher.hand_over([row(6), row(9, "other")])
    assert publisher._sort(10.0) is None and ready(publisher) == [6, 9]


def test_a_predecessor_that_was_rolled_back_delays_for_a_moment_only(publisher: Publisher) -> None:
    recorded(publisher, 4, 5)
    publisher.hand_over([row(5)])
    assert publisher._sort(10.0) == 10.0 + PATIENCE
    assert publisher._sort(10.0 + PATIENCE) is None and ready(publisher) == [5]
    assert publisher.outbox._recorded == {}


def test_confirmations_may_be_single_multiple_and_negative(publisher: Publisher) -> None:
    publisher._under_way.update((tag, row(tag)) for tag in range(1, 8))
    publisher._on_ack(2, False)
    publisher._on_ack(4, True)
    publisher._on_nack(5, False)
    publisher._on_ack(99, False)
    assert publisher.take_confirmed(10) == [2, 1, 3, 4] and publisher.take_confirmed(10) == []
    assert ready(publisher) == [5] and list(publisher._under_way) == [6, 7]
    assert (publisher.counters.confirmed, publisher.counters.refused) == (4, 1)


def test_what_exceeds_the_memory_is_left_to_the_sweeper(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.feed.publisher.BACKLOG", 2)
    publisher.hand_over(row(version) for version in range(1, 5))
    publisher._sort(10.0)
    assert ready(publisher) == [1, 2] and publisher.counters.left_to_sweeper == 2
    assert [publisher.holds(number) for number in range(1, 5)] == [True, True, False, False]
