"""Names and arguments of everything that Selvedge has on the broker, in one place.

Only durable queues (RabbitMQ 4 refuses the transient non-exclusive ones), each bounded in length and life.
"""

from urllib.parse import urlsplit

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


def amqp_urls(transport_url: str, port: int = 5672) -> tuple[str, ...]:
    """oslo.messaging's `rabbit://user:password@host:port,user:…/vhost` as kombu wants it: one URL a host.

    The last part is the virtual host: `/` or nothing is the broker's default one. A host without user and password has
    those of the one before it; one without a port has `port`. Raises ValueError, whose text shows no password.
    """
    scheme, found, rest = transport_url.partition("://")
    hosts, _, vhost = rest.partition("/")
    if not found or scheme not in ("rabbit", "amqp") or not hosts:
        raise ValueError("expected rabbit://user:password@host:port/vhost")
    vhost = vhost.partition("?")[0]
    vhost = "%2F" if vhost in ("", "/") else vhost
    urls: list[str] = []
    login = "guest:guest"
    for host in hosts.split(","):
        own, at, place = host.rpartition("@")
        login = (own if ":" in own else f"{own}:") if at else login
        parts = urlsplit(f"amqp://{place}")
        try:
            own_port = parts.port or port
        except ValueError:
            # Without the text: it may be the rest of a password.
            raise ValueError("a port is no number; write , / and @ of a password as %2C, %2F and %40") from None
        if not parts.hostname:
            raise ValueError("a host has no name")
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        urls.append(f"amqp://{login}@{name}:{own_port}/{vhost}")
    return tuple(urls)
