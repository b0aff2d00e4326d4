"""What an agent may ask for: topics of known forms, and nothing that would reach other queues or rows."""

import uuid

import pytest

from controller.feed.rpc import check
from selvedge.rpc import Refused, Subscribe
from selvedge.topics import HOSTS, addresses_topic, group_topic, host_topic, members_topic, segment_topic

ID = str(uuid.uuid4())
TOPICS = (
    HOSTS,
    host_topic("hv-1.example"),
    *(of(ID) for of in (segment_topic, group_topic, members_topic, addresses_topic)),
)


def test_every_topic_that_there_is_may_be_asked_for_and_dropped() -> None:
    check(Subscribe("hv1", dict.fromkeys(TOPICS, 0)))
    check(Subscribe("hv1", {}, drop=TOPICS))


@pytest.mark.parametrize(
    "topic",
    ["", "#", "hosts/", "hosts/x", "group", "group/", "groups/x", f"members/{ID}/7", f"group/{ID}\n", "addresses/a b"],
)
def test_anything_else_is_refused(topic: str) -> None:
    with pytest.raises(Refused, match="is not a topic"):
        check(Subscribe("hv1", {HOSTS: 0, topic: 0}))
    with pytest.raises(Refused, match="is not a topic"):
        check(Subscribe("hv1", {}, drop=(topic,)))
