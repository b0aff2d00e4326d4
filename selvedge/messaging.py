"""How both daemons reach the broker: one AMQP connection for the feed, oslo.messaging for the calls.

Feed: `connect` is kombu's (py-amqp's) connection with what a long-lived one needs: a name, heartbeats, bounded waits.
Calls: `rpc_transport` is oslo.messaging with the defaults this system wants; an operator's `[oslo_messaging_rabbit]`
overrides each. Durable request queue and quorum reply queues, because RabbitMQ 4.3 refuses transient queues that are
not exclusive (measured: 0.4 ms per call); reply queues named after the host, so that a restart finds its own again.

oslo.messaging imports eventlet only to find out that nobody monkey patched, and eventlet imports a DNS library: without
that the import takes 0.15 s instead of 0.27 s, and 6 MB less. So this module is imported where that time is affordable.
"""

import contextlib
import importlib
import os
import random
import ssl
import warnings
from pathlib import Path
from typing import Any

import amqp
from kombu.connection import Connection
from oslo_config import cfg

from selvedge import transports
from selvedge.accounts import CONTROL_EXCHANGE
from selvedge.tls import Access, access

HEARTBEAT = 10
"""Seconds that all connections negotiate (the broker's own 60 is more, and the smaller one counts). A connection that
neither side closed is noticed after twice that; one that was cut while something was being sent, by TCP after a second
(py-amqp's TCP_USER_TIMEOUT)."""

WAIT = 10.0
"""Seconds that the broker may take to answer anything synchronous."""


class CertificateRefused(OSError):
    """The broker ended a connection in which we showed a certificate; the text names its file."""


def connect(place: str | Access, name: str, heartbeat: int = HEARTBEAT, **options: Any) -> amqp.Connection:
    """An open AMQP connection, called `name` in the broker's lists, to any of the hosts that `place` names.

    Its user calls `heartbeat_tick` every few seconds. Raises OSError, amqp.AMQPError: what the last host said.
    """
    way = Access(place) if isinstance(place, str) else place
    urls = list(way.urls())
    random.shuffle(urls)
    settings = {
        "client_properties": {"connection_name": name},
        "read_timeout": WAIT,
        "write_timeout": WAIT,
        "login_method": way.login,
        **options,
    }
    while True:
        url = urls.pop()
        try:
            link: Any = Connection
            # For plain amqp:// kombu asks eventlet whether it rules here, which another thread may be importing for
            # oslo.messaging just now: half a module, and that import fails. pyamqp:// is the same without a question.
            return link(
                f"py{url}",
                ssl=way.ssl(url),
                connect_timeout=WAIT / 2,
                heartbeat=heartbeat,
                transport_options=settings,
            ).connect()
        except (OSError, amqp.AMQPError) as error:
            if not urls:
                raise _explained(error, way) from error


def _explained(error: Exception, way: Access) -> Exception:
    """The error, or what is likely behind it: with TLS 1.3 a broker that does not take a certificate just hangs up."""
    hung_up = isinstance(error, ssl.SSLError | ConnectionResetError | BrokenPipeError)
    if way.cert_file is None or not hung_up or isinstance(error, ssl.SSLCertVerificationError):
        return error
    return CertificateRefused(f"the broker may not take our certificate {way.cert_file}: {error}")


def rpc_transport(
    conf: cfg.ConfigOpts,
    host: str,
    process: str,
    lock_path: str | None = None,
    *,
    pool: int = 4,
    scheme: str = transports.PLAIN,
) -> Any:
    """oslo.messaging's transport for calls, made from the same files that `conf` was read from.

    `host` and `process` name the reply queue; `lock_path` is a directory where oslo.messaging keeps the number of
    queues it gave out (None: random names, for who calls nobody). `pool`: most connections for sending. `scheme`: one
    of `selvedge.transports`.
    """
    os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")  # nobody here asked for it
    import oslo_messaging
    from oslo_concurrency import lockutils
    from oslo_messaging import opts

    # Options of its own: the library registers `transport_url` itself, and some groups only where it looks for them.
    settings = cfg.ConfigOpts()
    settings([], project="selvedge", default_config_files=conf.config_file, default_config_dirs=conf.config_dir)
    for group, options in opts.list_opts():
        if group == "oslo_messaging_rabbit":
            settings.register_opts(options, group=group)
    for module, group in (("_metrics", "oslo_messaging_metrics"), ("_tracing", "oslo_messaging_tracing")):
        with contextlib.suppress(ImportError):  # a release without them does not ask for them either
            client = importlib.import_module(f"oslo_messaging.{module}.client")
            settings.register_opts(getattr(client, group), group=group)
    ours = {
        "amqp_durable_queues": True,
        "rabbit_transient_quorum_queue": True,
        "rabbit_transient_queues_ttl": 600,
        # Messages are acknowledged as they are read, so this slows nobody; but a controller that stands still takes no
        # more calls with it than this.
        "rabbit_qos_prefetch_count": 16,
        "rpc_conn_pool_size": pool,
        "conn_pool_min_size": 1,
        "heartbeat_timeout_threshold": HEARTBEAT,
        # An attempt a second, which is as often as it can, scattered: as our own feed (`agents.session`).
        "kombu_reconnect_delay": 0.1,
        "kombu_reconnect_splay": 0.3,
        "rabbit_retry_interval": 1,
        "rabbit_retry_backoff": 0,
        "rabbit_interval_max": 1,
        "hostname": host,
        "processname": process,
        "use_queue_manager": lock_path is not None,
    }
    way = access(conf)
    if way.tls:
        ours |= {"ssl": True, "rabbit_login_method": way.login}
        ours |= {f"ssl_{name}": value for name in ("ca_file", "cert_file", "key_file") if (value := getattr(way, name))}
    for name, value in ours.items():
        settings.set_default(name, value, group="oslo_messaging_rabbit")
    if lock_path is not None:
        if not Path(f"/proc/{os.getpgrp()}").exists():
            # oslo.messaging tells processes apart by the start of their group's leader. Ours has ended (a shell that
            # started us and went); without one every call would fail.
            os.setpgid(0, 0)
        Path(lock_path).mkdir(parents=True, exist_ok=True)
        lockutils.set_defaults(lock_path)
    oslo_messaging.set_transport_defaults(CONTROL_EXCHANGE)
    url = oslo_messaging.TransportURL.parse(settings, conf.transport_url)
    url.transport = f"kombu+{scheme}"
    for place in url.hosts:
        place.port = place.port or way.port
        place.username = way.account or place.username
    return oslo_messaging.get_rpc_transport(settings, url=url, allowed_remote_exmods=["selvedge.rpc"])
