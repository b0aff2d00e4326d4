"""Names and arguments of everything that Selvedge has on the broker, in one place.

Only durable queues (RabbitMQ 4 refuses the transient non-exclusive ones), each bounded in length and life.
"""

from urllib.parse import unquote, urlparse

FEED_EXCHANGE = "selvedge.feed"
"""Direct, durable; the routing key is the topic."""

QUEUE_LENGTH = 50_000
"""Messages an agent's queue may hold; beyond, the oldest are dropped and heal as a gap."""

QUEUE_EXPIRES_MS = 3_600_000
"""An agent's queue lives this long without a consumer, so that bindings survive restarts of agent and controllers."""


def agent_queue(host: str) -> str:
    """The queue of one host: bound by controllers, read by its agent."""
    return f"selvedge.agent.{host}"


def agent_queue_arguments() -> dict[str, int | str]:
    """Every declaration of an agent's queue must use the same arguments, whoever makes it."""
    return {"x-max-length": QUEUE_LENGTH, "x-overflow": "drop-head", "x-expires": QUEUE_EXPIRES_MS}


def amqp_url(transport_url: str) -> str:
    """oslo.messaging's `rabbit://user:password@host:port/vhost` as kombu and py-amqp want it.

    The form's last part is the virtual host: `/` or nothing is the broker's default one. Raises ValueError.
    """
    parts = urlparse(transport_url)
    if parts.scheme not in ("rabbit", "amqp") or not parts.hostname:
        raise ValueError(f"transport_url: expected rabbit://user:password@host:port/vhost, not {parts.scheme}://…")
    vhost = unquote(parts.path[1:]) or "/"
    user, password = parts.username or "guest", parts.password or "guest"
    return f"amqp://{user}:{password}@{parts.hostname}:{parts.port or 5672}/{'%2F' if vhost == '/' else vhost}"
