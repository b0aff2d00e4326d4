"""Who speaks for whom: the controller goes by the account that the broker vouches for, not by what a call says."""

import json
import time
import uuid
from collections.abc import Callable

import amqp
import pytest

from agents.calls import Answer
from selvedge import rpc, wire
from selvedge.accounts import agent_account
from selvedge.messaging import connect
from selvedge.rpc import CONTROLLER_TOPIC
from selvedge.topics import host_topic
from tests.functional.feed_ends import NOW, Controller, Host, until
from tests.functional.safety.conftest import Guarded

REQUESTS = {
    "report": rpc.Report("beta", "192.0.2.66", {}, NOW),
    "subscribe": rpc.Subscribe("beta", {}, ("hosts",)),
    "claim": rpc.Claim("beta", ("port",)),
    "wired": rpc.Wired("beta", down=("port",)),
}


@pytest.mark.parametrize("kind", REQUESTS)
def test_a_call_for_another_host_is_refused_in_one_sentence_and_counted(
    kind: str, controller: Controller, alpha: Host
) -> None:
    before = controller.service.server.callers.counters.foreign
    answer: Answer = alpha.call(kind, REQUESTS[kind])
    assert isinstance(answer.error, rpc.Refused)
    assert answer.error.args[0].startswith("the broker account 'selvedge-agent.alpha' may not speak for host 'beta'")
    assert controller.service.server.callers.counters.foreign == before + 1


def test_what_is_bound_to_another_host_is_not_told(controller: Controller, alpha: Host) -> None:
    answer = alpha.call("subscribe", rpc.Subscribe("alpha", {host_topic("beta"): 0}))
    assert isinstance(answer.error, rpc.Refused)
    assert answer.error.args[0] == "host 'alpha' may not read the topic 'host/beta'"


def test_an_operator_can_see_how_many_calls_were_refused(controller: Controller, alpha: Host) -> None:
    alpha.call("claim", REQUESTS["claim"])
    counted = controller.service.registry.get_sample_value("selvedge_calls_foreign_total")
    assert counted is not None and counted >= 1


def request(**more: object) -> dict[str, object]:
    """A call as oslo.messaging writes it, in alpha's name unless something else is said."""
    text = wire.to_text(wire.encode(rpc.Claim("alpha", ("port",))))
    return {"method": "claim", "args": {"request": text}, "version": "1.0", "_unique_id": uuid.uuid4().hex} | more


def send(guarded: Guarded, body: object, **properties: object) -> None:
    """Put a message among the calls by hand, with the credentials of alpha's agent."""
    connection = connect(guarded.url("alpha"), "hostile")
    channel = connection.channel()
    channel.confirm_select()
    text = body if isinstance(body, bytes) else json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(body)})
    message = amqp.Message(text, content_type="application/json", content_encoding="utf-8", **properties)
    channel.basic_publish_confirm(message, "selvedge", CONTROLLER_TOPIC)
    connection.close()


def wait_for_count(read: Callable[[], int], expected: int) -> None:
    until([], lambda: read() >= expected)
    time.sleep(0.05)
    assert read() == expected


MINE = {"user_id": agent_account("alpha")}


@pytest.mark.parametrize(
    ("body", "properties"),
    [
        (request(), {}),
        (request(_context_account=agent_account("alpha")), {}),
        (request(args={"request": wire.to_text(wire.encode(rpc.Claim("beta", ("port",))))}), MINE),
        (
            request(
                args={"request": wire.to_text(wire.encode(rpc.Claim("beta", ("port",))))},
                _context_account=agent_account("beta"),
            ),
            MINE,
        ),
    ],
    ids=["no account", "an account in the body only", "another host", "another host's account in the body"],
)
def test_a_message_that_the_broker_does_not_vouch_for_changes_nothing(
    body: object, properties: dict[str, str], guarded: Guarded, controller: Controller
) -> None:
    until([], lambda: controller.service.server.listening)
    server = controller.service.server
    foreign, answered = server.callers.counters.foreign, dict(server.counters.answered)
    send(guarded, body, **properties)
    wait_for_count(lambda: server.callers.counters.foreign, foreign + 1)
    assert dict(server.counters.answered) == answered


@pytest.mark.parametrize(
    "body",
    [
        request(_reply_q="reply_beta:selvedge-agent:1", _msg_id=uuid.uuid4().hex),
        request(_reply_q="selvedge.agent.beta", _msg_id=uuid.uuid4().hex),
        b"\xff not json",
        b"[" * 100_000,
        b'{"oslo.message": 5}',
        ["a", "list"],
        {"method": "claim", "args": 5},
    ],
    ids=["another host's answers", "another host's feed", "no JSON", "deep", "no text", "no object", "no arguments"],
)
def test_what_is_no_call_or_wants_its_answer_elsewhere_is_dropped_and_counted(
    body: object, guarded: Guarded, controller: Controller, alpha: Host
) -> None:
    until([], lambda: controller.service.server.listening)
    server = controller.service.server
    nonsense, answered = server.callers.counters.nonsense, dict(server.counters.answered)
    send(guarded, body, **MINE)
    wait_for_count(lambda: server.callers.counters.nonsense, nonsense + 1)
    assert dict(server.counters.answered) == answered
    alpha.report()  # and it still answers


def test_a_compressed_bomb_is_not_unpacked(guarded: Guarded, controller: Controller) -> None:
    import zlib

    until([], lambda: controller.service.server.listening)
    nonsense = controller.service.server.callers.counters.nonsense
    bomb = zlib.compress(b" " * 50_000_000)
    send(guarded, bomb, application_headers={"compression": "application/x-gzip"}, **MINE)
    wait_for_count(lambda: controller.service.server.callers.counters.nonsense, nonsense + 1)
