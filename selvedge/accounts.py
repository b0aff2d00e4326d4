"""Accounts of the agents on the broker: one each, and what it may do there.

An account is called `selvedge-agent.<host>`, logged in to with a password or with a certificate of that common name.
It may declare and read its host's queue of the feed and its own queues of answers, and send to the control exchange
with the controllers' routing key. Nothing else: it has no right to publish topology, to bind a queue (which takes
writing to it), to read or delete other hosts' queues, or to send an answer (which takes the default exchange).

`definitions` says that in the form which RabbitMQ imports, many hosts in one call: `selvedge host add` (agents.hosts)
gives it to `rabbitmqctl`, the lab to its broker at the start. Passwords stand in it as salted hashes only. Operator
policies bound the queues whatever arguments an agent declares them with; limits bound its connections.
"""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from selvedge.broker import QUEUE_EXPIRES_MS, QUEUE_LENGTH, agent_queue
from selvedge.rpc import CONTROLLER_TOPIC

CONTROL_EXCHANGE = "selvedge"
"""oslo.messaging's exchange for calls: a topic exchange, declared by controllers."""

PREFIX = "selvedge-agent."
PROCESS = "selvedge-agent"

CONNECTIONS = 16
CHANNELS = 64
ANSWERS = 10_000
"""Limits of one account, and of one queue of answers."""


def agent_account(host: str) -> str:
    """The account of a host's agent."""
    return PREFIX + host


def host_of(account: object) -> str | None:
    """The host that an account speaks for; None if it is no agent's."""
    return account.removeprefix(PREFIX) if isinstance(account, str) and account.startswith(PREFIX) else None


def may_be_answered(account: str | None, queue: object) -> bool:
    """Whether what `account` asks may be answered to `queue`: an agent's answers go to its own queues only.

    An account that is no agent's may send there itself, as far as we know; who names none may not choose.
    """
    host = host_of(account)
    if host is None:
        return account is not None
    return isinstance(queue, str) and bool(re.fullmatch(_answers(host), queue))


def _answers(host: str) -> str:
    return rf"reply_{re.escape(host)}:{PROCESS}:[0-9]{{1,3}}"


def permissions(host: str) -> dict[str, str]:
    """What the account may configure, write and read, as RabbitMQ's regular expressions."""
    own = f"^({re.escape(agent_queue(host))}|{_answers(host)})$"
    return {"configure": own, "write": f"^{CONTROL_EXCHANGE}$", "read": own}


def password_hash(password: str) -> str:
    """As RabbitMQ stores it: four random bytes, and SHA-256 of them and the password."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def definitions(passwords: Mapping[str, str | None], vhost: str = "/") -> dict[str, Any]:
    """The accounts of these hosts (host → password, None: by certificate only) as RabbitMQ imports them."""
    return {
        "users": [_user(host, password) for host, password in passwords.items()],
        "permissions": [_granted(host, vhost, permissions(host)) for host in passwords],
        "topic_permissions": [
            _granted(host, vhost, {"exchange": CONTROL_EXCHANGE, "write": f"^{CONTROLLER_TOPIC}$", "read": "^$"})
            for host in passwords
        ],
        "parameters": list(_policies(vhost)),
    }


def _user(host: str, password: str | None) -> dict[str, Any]:
    return {
        "name": agent_account(host),
        "password_hash": password_hash(password) if password is not None else "",
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
        "limits": {"max-connections": CONNECTIONS, "max-channels": CHANNELS},
    }


def _granted(host: str, vhost: str, rights: dict[str, str]) -> dict[str, str]:
    return {"user": agent_account(host), "vhost": vhost, **rights}


def _policies(vhost: str) -> Iterable[dict[str, Any]]:
    for name, pattern, bounds in (
        ("selvedge-feed", f"^{re.escape(agent_queue(''))}", {"max-length": QUEUE_LENGTH, "expires": QUEUE_EXPIRES_MS}),
        ("selvedge-answers", f"^reply_.*:{PROCESS}:", {"max-length": ANSWERS, "expires": QUEUE_EXPIRES_MS}),
    ):
        value = {"pattern": pattern, "apply-to": "queues", "priority": 10, "definition": bounds}
        yield {"vhost": vhost, "component": "operator_policy", "name": name, "value": value}
