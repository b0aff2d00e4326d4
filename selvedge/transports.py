"""kombu transports of our own for oslo.messaging: who calls is told by the broker, not by the call.

RabbitMQ refuses a message whose property `user_id` is not the account that sends it. So an agent's transport puts its
account into every message, and a controller's transport puts what it finds there into the context that the endpoint
sees, in the place of whatever the body says. The body may also not choose where the answer goes: to the caller's own
queue or nowhere. oslo.messaging takes a kombu transport by the scheme of its URL: `kombu+selvedge-agent://…`.

An agent may not declare the control exchange; controllers do, and the agent asks only whether it is there. All three
verify a TLS server by the name of the host that is being connected to; kombu alone keeps the first one's.
"""

import json
import ssl
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, pyamqp

from selvedge.accounts import may_be_answered

PLAIN, AGENT, CONTROLLER = "selvedge", "selvedge-agent", "selvedge-controller"
"""Schemes: as kombu's own; with the account in each message; with the account in each received context."""

ACCOUNT = "account"
"""The validated account in an endpoint's context; None: the message names none."""


class Transport(pyamqp.Transport):
    """py-amqp, and the right server name."""

    def establish_connection(self) -> Any:
        client: Any = self.client
        name = client.hostname
        if client.ssl:
            given = client.ssl if isinstance(client.ssl, dict) else {}
            client.ssl = {**given, "cert_reqs": ssl.CERT_REQUIRED, "server_hostname": name}
        try:
            return super().establish_connection()  # type: ignore[no-untyped-call]
        finally:
            client.hostname = name  # kombu turns `localhost` into an address, which the certificate need not name


class _SigningChannel(pyamqp.Channel):
    def __init__(self, connection: Any, *args: Any, **options: Any) -> None:
        self._account = connection.client.userid
        super().__init__(connection, *args, **options)

    def prepare_message(self, *args: Any, **options: Any) -> Any:
        message = super().prepare_message(*args, **options)  # type: ignore[no-untyped-call]
        message.properties["user_id"] = self._account
        return message

    def exchange_declare(self, *args: Any, **options: Any) -> Any:
        return super().exchange_declare(*args, **{**options, "passive": True})


class _SigningConnection(pyamqp.Connection):
    Channel = _SigningChannel


class AgentTransport(Transport):
    Connection = _SigningConnection


class _Request(pyamqp.Message):
    @property
    def payload(self) -> Any:
        return vouched(self.body, self.properties.get("user_id"))


class _JudgingChannel(pyamqp.Channel):
    def message_to_python(self, raw_message: Any) -> Any:
        # kombu would unpack it at once, however large it gets.
        raw_message.properties.get("application_headers", {}).pop("compression", None)
        return _Request(raw_message, channel=self)  # type: ignore[no-untyped-call]


class _JudgingConnection(pyamqp.Connection):
    Channel = _JudgingChannel


class ControllerTransport(Transport):
    Connection = _JudgingConnection


def vouched(body: Any, account: str | None) -> dict[str, Any]:
    """The request in `body` as the dispatcher shall see it, for a message that `account` sent (None: it does not say).

    What cannot be read, or wants its answer elsewhere, becomes a call of the method `nonsense` that is not answered.
    """
    try:
        message = json.loads(json.loads(body)["oslo.message"])
        if not isinstance(message, dict) or not isinstance(message.get("args", {}), dict):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError):
        return _nonsense("it cannot be read", account)
    answer_to = message.get("_reply_q")
    if answer_to is not None and not may_be_answered(account, answer_to):
        return _nonsense(f"its answer would go to {str(answer_to)[:100]!r}", account)
    request = {key: value for key, value in message.items() if not key.startswith("_context_")}
    return request | {f"_context_{ACCOUNT}": account}


def _nonsense(reason: str, account: str | None) -> dict[str, Any]:
    return {"method": "nonsense", "args": {"reason": reason}, "version": "1.0", f"_context_{ACCOUNT}": account}


for _scheme, _class in ((PLAIN, Transport), (AGENT, AgentTransport), (CONTROLLER, ControllerTransport)):
    TRANSPORT_ALIASES[_scheme] = f"{__name__}:{_class.__name__}"
