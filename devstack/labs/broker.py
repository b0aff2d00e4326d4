"""A RabbitMQ node of the lab's own: own name, port, data, cookie, even its own epmd; loopback only, no plugins.

It runs Debian's `rabbitmq-server` in the foreground under `process.Daemon`, so it needs no service manager, and
neither sees nor disturbs a broker that the machine may have. The port is chosen once and kept over restarts: clients
find it again. `stop(); start()` keeps the durable queues, `stop(); wipe(); start()` is a broker that forgot everything.
"""

import hashlib
import json
import secrets
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from devstack.labs.process import Daemon, LabError, free_port

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"


class Broker:
    """RabbitMQ under `state`, listening at 127.0.0.1 and at the further IPv4 `addresses`, which must exist."""

    def __init__(self, state: Path, addresses: Sequence[str] = ()) -> None:
        self.state = state.resolve()
        self.daemon = Daemon(self.state, "broker")
        self.epmd = Daemon(self.state, "epmd")
        self._addresses = ("127.0.0.1", *addresses)

    def _settings(self) -> dict[str, int]:
        path = self.state / "ports.json"
        if not path.exists():
            self.state.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"amqp": free_port(), "epmd": free_port(), "distribution": free_port()}))
        settings: dict[str, int] = json.loads(path.read_text())
        return settings

    @property
    def port(self) -> int:
        """TCP port of AMQP."""
        return self._settings()["amqp"]

    @property
    def url(self) -> str:
        """oslo.messaging's transport URL, for programs of this network namespace."""
        return self.url_at("127.0.0.1")

    def url_at(self, address: str) -> str:
        """The same for programs that reach the broker at `address`."""
        return f"rabbit://guest:guest@{address}:{self.port}/"

    @property
    def pid(self) -> int | None:
        return self.daemon.pid

    @property
    def environment(self) -> dict[str, str]:
        """What `rabbitmqctl` needs to talk to this node."""
        ports = self._settings()
        return {
            "HOME": str(self.state),
            "RABBITMQ_NODENAME": f"lab-{hashlib.sha1(str(self.state).encode()).hexdigest()[:8]}@localhost",
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def start(self, wait: bool = True) -> None:
        """Start it; `wait=False` returns at once, `wait_ready()` does the rest. Raises LabError."""
        if not SERVER.exists():
            raise LabError("RabbitMQ is not installed; 'make setup' installs what the lab needs")
        ports = self._settings()
        cookie = self.state / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)
        (self.state / "plugins").write_text("[].\n")
        listeners = ", ".join(f'{{"{address}", {ports["amqp"]}}}' for address in self._addresses)
        # The disk of a laptop or a container is often nearly full, and a lab needs little of it.
        (self.state / "rabbitmq.config").write_text(
            "[{rabbit, [\n"
            f"    {{tcp_listeners, [{listeners}]}},\n"
            "    {loopback_users, []},\n"
            "    {num_tcp_acceptors, 4},\n"
            '    {vm_memory_high_watermark, {absolute, "512MB"}},\n'
            '    {disk_free_limit, "20MB"},\n'
            '    {log, [{console, [{enabled, false}]}, {file, [{file, "rabbitmq.log"}, {level, warning}]}]}\n'
            "]}].\n"
        )
        if self.epmd.pid is None:
            self.epmd.start(["epmd", "-address", "127.0.0.1", "-port", str(ports["epmd"])])
        self.daemon.start(
            [str(SERVER)],
            {
                **self.environment,
                "RUNNING_UNDER_SYSTEMD": "true",  # the script then becomes the node, instead of its parent
                "NOTIFY_SOCKET": "",
                "RABBITMQ_CONFIG_FILE": str(self.state / "rabbitmq.config"),
                "RABBITMQ_CONF_ENV_FILE": str(self.state / "no-such-file"),
                "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.state / "no-such-file"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.state / "plugins"),
                "RABBITMQ_MNESIA_BASE": str(self.state / "mnesia"),
                "RABBITMQ_LOG_BASE": str(self.state),
                "RABBITMQ_PID_FILE": str(self.state / "rabbitmq.pid"),
                "RABBITMQ_DIST_PORT": str(ports["distribution"]),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1} "
                "+S 2:2 +SDio 4 +A 8",
            },
        )
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Return once it answers AMQP's greeting. Raises LabError with the log's tail."""
        self.daemon.wait_until(self._answers, timeout)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self._addresses[-1], self.port), timeout=1.0) as probe:
                probe.sendall(PROTOCOL_HEADER)
                return probe.recv(1) == b"\x01"  # a method frame: Connection.Start
        except OSError:
            return False

    def stop(self) -> None:
        """An orderly end: everything durable is on disk."""
        self.daemon.stop(signal.SIGTERM, timeout=30.0)
        self.epmd.stop()

    def kill(self) -> None:
        """SIGKILL, as if the power went."""
        self.daemon.kill()
        self.epmd.kill()

    def wipe(self) -> None:
        """Forget queues, messages and users; the port stays. Only while it is stopped."""
        if self.pid is not None:
            raise LabError("stop the broker before wiping it")
        shutil.rmtree(self.state / "mnesia", ignore_errors=True)
