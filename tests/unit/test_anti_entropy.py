"""What lost messages leave behind, and reports or the other topic's messages put right."""

import pytest

from agents.topics import Topics
from selvedge.rpc import Report, SubscribeReply
from selvedge.topics import Snapshot, Update
from selvedge.topology import Endpoint, Object, Ref, ref
from tests.unit.surroundings import HERE, World


@pytest.mark.parametrize("away", [None, "hv2"])
def test_a_port_that_was_bound_elsewhere_and_back_is_active_again(away: str | None) -> None:
    """Given a port that is up here, and bound elsewhere and back again while no message arrives: what the agent knows
    is what it was, but the API says DOWN, until the next report."""
    world = World()
    world.settle()
    port = world.controller.create(1, "s1", HERE)
    world.plug(port, ofport=5)
    world.settle()
    world.controller.bind(port, away)
    world.controller.bind(port, HERE)
    world.queues["feed"].clear()
    assert world.controller.ports[port].status == "DOWN"
    world.settle()
    assert world.controller.ports[port].status == "ACTIVE"
    world.check()


def test_a_report_in_which_all_is_told_asks_for_nothing() -> None:
    """Given ports that are up and down, reports go by without another call."""
    world = World()
    world.settle()
    for number in (1, 2):
        world.controller.create(number, "s1", HERE)
    world.plug("p1", ofport=5)
    world.settle()
    before = len(world.controller.calls)
    world.settle(reports=3)
    assert {type(call) for call in world.controller.calls[before:]} == {Report}


def endpoint(host: str) -> Endpoint:
    return Endpoint("p", 7, "s", host, "fa:16:3e:00:00:07", ("10.0.0.7",))


MOVE = (
    Update("one", 1, (endpoint("hv1"),)),
    Update("one", 2, (), (Ref("endpoint", "p"),)),
    Update("two", 1, (endpoint("hv2"),)),
)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 0, 1)])
def test_an_object_that_moves_to_another_topic_is_there_in_the_end(order: tuple[int, ...]) -> None:
    """Given an endpoint that leaves one topic and comes to another: whichever is heard first, it is what the second
    says."""
    topics = Topics()
    topics.set_interest(["one", "two"])
    request = topics.request(0.0)
    assert request is not None
    topics.answer(SubscribeReply((Snapshot("one", 0), Snapshot("two", 0))), 0.0)
    known: dict[Ref, Object] = {}
    for number in order:
        change = topics.update(MOVE[number], 1.0)
        for name in change.deletes:
            known.pop(name)
        known |= {ref(thing): thing for thing in change.upserts}
    assert list(known.values()) == [endpoint("hv2")]


def test_a_topic_that_is_needed_no_more_takes_nothing_with_it_that_another_has() -> None:
    """Given an endpoint in two topics, one of which is needed no more: it stays."""
    topics = Topics()
    topics.set_interest(["one", "two"])
    topics.request(0.0)
    topics.answer(SubscribeReply((Snapshot("one", 1, (endpoint("hv1"),)), Snapshot("two", 1, (endpoint("hv2"),)))), 0.0)
    change = topics.set_interest(["two"])
    assert change.deletes == () and change.upserts == (endpoint("hv2"),)
