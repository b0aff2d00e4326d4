"""`selvedge-controller`: reads the options, brings the database up to date, and serves.

gunicorn listens and forks; every worker process is a whole controller: REST in threads, publisher, sweeper, calls.
Workers share nothing, so more workers and more machines are the same thing. Modules are imported before the fork,
threads and connections are made after it.
"""

import logging
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.app.base import BaseApplication
from oslo_config import cfg

from selvedge import options
from selvedge.tls import listener

LOG = logging.getLogger(__name__)

GRACE = 5
"""Seconds that requests under way have at the end."""

CLI = [
    cfg.BoolOpt("migrate-only", default=False, help="Bring the database's tables up to date, and end."),
]

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def main(argv: list[str] | None = None) -> int:
    """Runs until SIGTERM. Returns the exit status; a bad configuration or database is one line on standard error."""
    try:
        conf = options.load_controller(argv, CLI)
    except options.BadOption as error:
        print(f"selvedge-controller: {error}", file=sys.stderr)
        return 1
    options.setup_logging(conf, "selvedge-controller")

    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    from controller.store.engine import Contention, DatabaseAway, Store
    from controller.store.migrate import upgrade

    try:
        store = Store(conf.database.connection, pool_size=conf.threads + conf.rpc_threads)
        upgrade(store)
        store.dispose()
    except (DatabaseAway, Contention, ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        reason = str(error).partition("\n")[0]
        print(f"selvedge-controller: option [database] connection: {reason}", file=sys.stderr)
        return 1
    if conf.migrate_only:
        return 0
    Gunicorn(conf).run()
    return 0


def settings(conf: cfg.ConfigOpts) -> Any:
    """The options as the API's frozen values."""
    from controller.settings import Networks, Settings

    return Settings(
        auth_strategy=conf.auth_strategy,
        base_mac=conf.base_mac,
        agent_down_time=conf.agent_down_time,
        max_fixed_ips_per_port=conf.max_fixed_ips_per_port,
        max_allowed_address_pair=conf.max_allowed_address_pair,
        max_dns_nameservers=conf.max_dns_nameservers,
        max_subnet_host_routes=conf.max_subnet_host_routes,
        pagination_max_limit=conf.pagination_max_limit,
        allow_bulk=conf.allow_bulk,
        networks=Networks(
            geneve_vnis=conf.networks.geneve_vni_ranges,
            vxlan_vnis=conf.networks.vxlan_vni_ranges,
            vlans=conf.networks.vlan_ranges,
            flat=tuple(conf.networks.flat_networks),
            default_kind=conf.default_network_type,
            physical_mtu=conf.global_physnet_mtu,
        ),
    )


class Gunicorn(BaseApplication):  # type: ignore[misc]
    """The server that listens and forks; `load` runs in each worker."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._service: Any = None
        super().__init__()

    def load_config(self) -> None:
        host = self._conf.bind_host
        for name, value in {
            "bind": f"[{host}]:{self._conf.bind_port}" if ":" in host else f"{host}:{self._conf.bind_port}",
            "workers": self._conf.workers,
            "threads": self._conf.threads,
            "worker_class": "gthread",
            "keepalive": 75,
            "graceful_timeout": GRACE,
            "proc_name": "selvedge-controller",
            "loglevel": "warning",
            "control_socket_disable": True,
            "when_ready": lambda server: _limit_patience(server.LISTENERS, self._conf.client_timeout),
            "worker_exit": lambda server, worker: self._end(),
            "pre_fork": lambda server, worker: _import_everything(),
            **listener(self._conf),
        }.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> App:
        """The WSGI application of one worker, with all that runs beside it."""
        from prometheus_client import make_wsgi_app

        from controller.api.app import make_app
        from controller.feed.service import Service
        from controller.store.engine import Store

        sys.setswitchinterval(0.001)  # five times less waiting of the publisher for busy API threads
        conf = self._conf
        store = Store(conf.database.connection, pool_size=conf.threads + conf.rpc_threads)
        self._service = Service(conf, store)
        self._service.start()
        api: App = make_app(store, settings(conf), self._service.outbox.record)
        metrics: App = make_wsgi_app(self._service.registry)

        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            return (metrics if environ.get("PATH_INFO") == "/metrics" else api)(environ, start_response)

        return app

    def _end(self) -> None:
        if self._service is not None:
            self._service.stop()


def _limit_patience(listeners: Iterable[Any], seconds: int) -> None:
    """A client that stops in the middle of its request, or of the answer, would keep a thread for ever, and a few of
    them are all that there are. Connections inherit this from their listener (socket(7)); the server's own timeout is
    for whole workers."""
    for each in listeners:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            each.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", seconds, 0))
    logging.getLogger("gunicorn.error").addFilter(_shorten)


def _shorten(record: logging.LogRecord) -> bool:
    """One line for a client whose time was over; the server would write a traceback, as for a defect."""
    if record.exc_info and isinstance(record.exc_info[1], BlockingIOError):
        record.exc_info, record.msg, record.args = None, "a client paused for too long in its request", None
    return True


def _import_everything() -> None:
    """Before the fork, once for all workers."""
    import controller.api.app
    import controller.feed.service  # noqa: F401
