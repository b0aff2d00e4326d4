"""Which account may do what on the broker, and what a controller believes of a message."""

import base64
import hashlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.feed.callers import Callers
from selvedge import rpc
from selvedge.accounts import agent_account, definitions, host_of, may_be_answered, permissions
from selvedge.broker import FEED_EXCHANGE, agent_queue
from selvedge.transports import vouched

HOSTS = st.from_regex(r"[A-Za-z0-9._-]{1,200}", fullmatch=True)


def allowed(host: str, right: str, name: str) -> bool:
    return re.search(permissions(host)[right], name) is not None


@given(HOSTS, HOSTS)
def test_no_account_has_a_right_to_another_hosts_queues(host: str, other: str) -> None:
    """Given any two names, one in the other's included, such as `hv.1` and `hvx1`."""
    names = (agent_queue(other), f"reply_{other}:selvedge-agent:1")
    for right in ("configure", "read"):
        assert [allowed(host, right, name) for name in names] == [host == other] * 2
    assert not any(allowed(host, "write", name) for name in (*names, FEED_EXCHANGE, "amq.default", ""))
    assert may_be_answered(agent_account(host), names[1]) == (host == other)
    assert host_of(agent_account(host)) == host


def test_a_dot_in_a_hosts_name_is_a_dot() -> None:
    assert not allowed("hv.1", "read", agent_queue("hvx1"))


def test_a_password_is_imported_as_the_hash_that_rabbitmq_compares() -> None:
    (user,) = definitions({"hv1": "secret"})["users"]
    stored = base64.b64decode(user["password_hash"])
    assert stored[4:] == hashlib.sha256(stored[:4] + b"secret").digest()
    assert "secret" not in json.dumps(definitions({"hv1": "secret"}))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)
MESSAGES = st.dictionaries(
    st.sampled_from(["method", "args", "_reply_q", "_msg_id", "_context_account", "_context_x", "version", "oddly"]),
    JSON | st.dictionaries(st.text(), JSON),
)


@given(MESSAGES | JSON, st.sampled_from([None, "guest", "selvedge-agent.hv1"]))
def test_whatever_a_message_says_its_account_is_the_brokers(message: object, account: str | None) -> None:
    body = json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(message)})
    seen = vouched(body, account)
    assert seen["_context_account"] == account
    assert [key for key in seen if key.startswith("_context_")] == ["_context_account"]
    if seen.get("_reply_q") is not None:
        assert account == "guest" or may_be_answered(account, seen["_reply_q"])


@given(st.binary() | st.text() | st.none())
def test_bytes_that_are_no_message_become_a_call_without_an_answer(body: object) -> None:
    seen = vouched(body, None)
    assert seen["method"] == "nonsense" and "_reply_q" not in seen and "_msg_id" not in seen


@pytest.mark.parametrize(
    ("context", "ok"),
    [
        ({"account": "selvedge-agent.hv1"}, True),
        ({"account": "selvedge-agent.hv2"}, False),
        ({"account": "hv1"}, False),
        ({"account": None}, False),
        ({}, False),
    ],
)
def test_a_host_is_spoken_for_by_its_own_account_only(context: dict[str, str | None], ok: bool) -> None:
    callers = Callers("per_host")
    if ok:
        callers.check(context, "hv1")
    else:
        with pytest.raises(rpc.Refused, match="may not speak for host 'hv1'"):
            callers.check(context, "hv1")
    assert callers.counters.foreign == (0 if ok else 1)
    Callers("shared").check(context, "hv1")


def test_what_is_bound_to_a_host_is_told_to_that_host_only() -> None:
    callers, context = Callers("per_host"), {"account": "selvedge-agent.hv1"}
    callers.check(context, "hv1", ["hosts", "host/hv1", "segment/1", "group/1"])
    for topic in ("host/hv2", "host/", "host/hv11"):
        with pytest.raises(rpc.Refused, match=f"may not read the topic '{topic}'"):
            callers.check(context, "hv1", ["hosts", topic])
    assert callers.counters.foreign == 3
