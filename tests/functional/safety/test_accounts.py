"""What an agent's account can do on a real broker, and what it cannot, tried with its own credentials."""

import uuid
from collections.abc import Callable, Iterator

import amqp
import pytest

from selvedge.accounts import ANSWERS as ANSWERS_HELD
from selvedge.accounts import agent_account
from selvedge.broker import FEED_EXCHANGE, agent_queue, agent_queue_arguments
from selvedge.messaging import connect
from selvedge.rpc import CONTROLLER_TOPIC
from selvedge.topics import host_topic, segment_topic
from tests.functional.feed_ends import Controller, Host, truth, until
from tests.functional.safety.conftest import Guarded

MINE, OTHERS = agent_queue("alpha"), agent_queue("beta")
ANSWERS = "reply_beta:selvedge-agent:1"


@pytest.fixture
def hostile(guarded: Guarded, agents: object) -> Iterator[amqp.Connection]:
    """A connection with the credentials of alpha's agent, in the hands of somebody else."""
    connection = connect(guarded.url("alpha"), "hostile")
    yield connection
    connection.close()


def test_an_agent_with_an_account_of_its_own_gets_snapshots_and_messages(controller: Controller, alpha: Host) -> None:
    segment = controller.network()
    topic = segment_topic(segment)
    received = alpha.session.counters["received"]
    alpha.interest = {topic, host_topic("alpha")}
    until([alpha], lambda: alpha.objects(topic) == truth(controller, topic) and alpha.topics.synced)
    controller.ports(segment, "alpha", 3)
    until([alpha], lambda: len(alpha.objects(topic)) == 4 and len(alpha.objects(host_topic("alpha"))) == 3)
    assert alpha.objects(topic) == truth(controller, topic)
    assert alpha.session.counters["received"] == received + 2


def publish(exchange: str, key: str) -> Callable[[amqp.Channel], object]:
    def attempt(channel: amqp.Channel) -> None:
        channel.confirm_select()
        channel.basic_publish_confirm(amqp.Message(b"{}"), exchange, key)

    return attempt


FORBIDDEN: dict[str, Callable[[amqp.Channel], object]] = {
    "publish topology": publish(FEED_EXCHANGE, host_topic("beta")),
    "send to another host's queue": publish("", OTHERS),
    "send to its own queue": publish("", MINE),
    "answer another host's call": publish("", ANSWERS),
    "send to one controller": publish("selvedge", f"{CONTROLLER_TOPIC}.controller1"),
    "send to all controllers": publish(f"{CONTROLLER_TOPIC}_fanout", ""),
    "send by a built-in exchange": publish("amq.direct", OTHERS),
    "read another host's queue": lambda channel: channel.basic_consume(OTHERS),
    "take from another host's queue": lambda channel: channel.basic_get(OTHERS),
    "read another host's answers": lambda channel: channel.basic_consume(ANSWERS),
    "read the controllers' calls": lambda channel: channel.basic_consume(CONTROLLER_TOPIC),
    "purge another host's queue": lambda channel: channel.queue_purge(OTHERS),
    "delete another host's queue": lambda channel: channel.queue_delete(OTHERS),
    "delete the controllers' queue": lambda channel: channel.queue_delete(CONTROLLER_TOPIC),
    "declare another host's queue": lambda channel: channel.queue_declare(
        OTHERS, durable=True, auto_delete=False, arguments=agent_queue_arguments()
    ),
    "declare a queue of any name": lambda channel: channel.queue_declare("mine", durable=True),
    "declare a queue without a name": lambda channel: channel.queue_declare(""),
    "bind its own queue to a topic": lambda channel: channel.queue_bind(MINE, FEED_EXCHANGE, "hosts"),
    "bind its own queue to the calls": lambda channel: channel.queue_bind(MINE, "selvedge", CONTROLLER_TOPIC),
    "bind another host's queue": lambda channel: channel.queue_bind(OTHERS, FEED_EXCHANGE, "hosts"),
    "unbind another host's queue": lambda channel: channel.queue_unbind(OTHERS, FEED_EXCHANGE, host_topic("beta")),
    "unbind its own queue": lambda channel: channel.queue_unbind(MINE, FEED_EXCHANGE, host_topic("alpha")),
    "bind exchanges": lambda channel: channel.exchange_bind("selvedge", FEED_EXCHANGE, "hosts"),
    "delete the feed": lambda channel: channel.exchange_delete(FEED_EXCHANGE),
    "delete the control exchange": lambda channel: channel.exchange_delete("selvedge"),
    "declare an exchange": lambda channel: channel.exchange_declare("mine", "fanout"),
    "dead letters to the feed": lambda channel: channel.queue_declare(
        "reply_alpha:selvedge-agent:999",
        durable=True,
        auto_delete=False,
        arguments={"x-dead-letter-exchange": FEED_EXCHANGE},
    ),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_an_agent_that_tries_what_is_not_its_business_is_refused_by_the_broker(
    what: str, hostile: amqp.Connection
) -> None:
    channel = hostile.channel()
    with pytest.raises(amqp.AccessRefused) as refused:
        FORBIDDEN[what](channel)
    assert refused.value.code == 403


def test_an_agent_that_signs_with_another_account_is_refused_by_the_broker(hostile: amqp.Connection) -> None:
    channel = hostile.channel()
    channel.confirm_select()
    with pytest.raises(amqp.PreconditionFailed, match="user_id"):
        channel.basic_publish_confirm(amqp.Message(b"{}", user_id=agent_account("beta")), "selvedge", CONTROLLER_TOPIC)


def test_a_queue_declared_without_bounds_is_bounded_all_the_same(guarded: Guarded, hostile: amqp.Connection) -> None:
    name = "reply_alpha:selvedge-agent:77"
    channel = hostile.channel()
    channel.queue_declare(name, durable=True, auto_delete=False)
    filler = connect(guarded.broker.url, "test")
    filling = filler.channel()
    filling.confirm_select()
    for _ in range(ANSWERS_HELD + 50):
        filling.basic_publish(amqp.Message(b""), "", name)
    filling.basic_publish_confirm(amqp.Message(b"last"), "", name)
    filler.close()
    assert channel.queue_declare(name, passive=True).message_count == ANSWERS_HELD
    channel.queue_delete(name)


def test_an_account_has_a_limited_number_of_connections(guarded: Guarded, agents: object) -> None:
    held = []
    try:
        with pytest.raises((amqp.NotAllowed, OSError)):
            for _ in range(17):
                held.append(connect(guarded.url("alpha"), f"one of many {uuid.uuid4()}"))
    finally:
        for connection in held:
            connection.close()
    assert len(held) >= 10
