"""A RabbitMQ node of the lab's own: own name, port, data, cookie, even its own epmd; loopback only, no plugins.

It runs Debian's `rabbitmq-server` in the foreground under `process.Daemon`, so it needs no service manager, and
neither sees nor disturbs a broker that the machine may have. The port is chosen once and kept over restarts: clients
find it again. `stop(); start()` keeps the durable queues, `stop(); wipe(); start()` is a broker that forgot everything.
"""

import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devstack.labs.process import Daemon, LabError, free_port

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"


CONTROL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")


@dataclass(frozen=True)
class ServerTls:
    """A broker's certificate and key, and whose client certificates it takes for accounts."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path


class Broker:
    """RabbitMQ under `state`, listening at 127.0.0.1 and at the further IPv4 `addresses`, which must exist.

    With `tls` it listens for that too, and a client may log in by its certificate's common name.
    """

    def __init__(self, state: Path, addresses: Sequence[str] = (), tls: ServerTls | None = None) -> None:
        self.state = state.resolve()
        self._tls = tls
        self.daemon = Daemon(self.state, "broker")
        self.epmd = Daemon(self.state, "epmd")
        self._addresses = ("127.0.0.1", *addresses)

    def _settings(self) -> dict[str, int]:
        path = self.state / "ports.json"
        if not path.exists():
            self.state.mkdir(parents=True, exist_ok=True)
            names = ("amqp", "tls", "epmd", "distribution")
            path.write_text(json.dumps({name: free_port() for name in names}))
        settings: dict[str, int] = json.loads(path.read_text())
        return settings

    @property
    def tls_port(self) -> int:
        """TCP port of AMQP over TLS."""
        return self._settings()["tls"]

    @property
    def port(self) -> int:
        """TCP port of AMQP."""
        return self._settings()["amqp"]

    @property
    def url(self) -> str:
        """oslo.messaging's transport URL, for programs of this network namespace."""
        return self.url_at("127.0.0.1")

    def url_at(self, address: str, login: str = "guest:guest") -> str:
        """The same for programs that reach the broker at `address`, and log in as `user:password`."""
        return f"rabbit://{login}@{address}:{self.port}/"

    def grant(self, accounts: dict[str, Any]) -> None:
        """Have these accounts (`selvedge.accounts.definitions`) besides `guest` from every start on."""
        self.state.mkdir(parents=True, exist_ok=True)
        secret = {"name": "guest", "password": "guest", "tags": ["administrator"], "limits": {}}
        whole = {name: list(rows) for name, rows in accounts.items()}
        whole["vhosts"] = [{"name": "/"}]
        whole["users"].append(secret)
        whole["permissions"].append({"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"})
        (self.state / "definitions.json").write_text(json.dumps(whole))

    def control(self, *words: str) -> str:
        """Output of `rabbitmqctl`. Raises LabError."""
        done = subprocess.run(
            [CONTROL, "--quiet", *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment},
        )
        if done.returncode:
            raise LabError(f"rabbitmqctl {words[0]}: {done.stderr.strip()}")
        return done.stdout

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
        (self.state / "plugins").write_text("[rabbitmq_auth_mechanism_ssl].\n" if self._tls else "[].\n")
        listeners = ", ".join(f'{{"{address}", {ports["amqp"]}}}' for address in self._addresses)
        # The disk of a laptop or a container is often nearly full, and a lab needs little of it.
        (self.state / "rabbitmq.config").write_text(
            "[{rabbit, [\n"
            f"    {{tcp_listeners, [{listeners}]}},\n"
            f"{self._more_settings()}"
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

    def _more_settings(self) -> str:
        lines = []
        definitions = self.state / "definitions.json"
        if definitions.exists():
            lines.append(f'{{load_definitions, "{definitions}"}}')
        if self._tls:
            listeners = ", ".join(f'{{"{address}", {self.tls_port}}}' for address in self._addresses)
            lines += [
                f"{{ssl_listeners, [{listeners}]}}",
                f'{{ssl_options, [{{cacertfile, "{self._tls.client_ca_file}"}}, {{certfile, "{self._tls.cert_file}"}}, '
                f'{{keyfile, "{self._tls.key_file}"}}, {{verify, verify_peer}}, {{fail_if_no_peer_cert, false}}]}}',
                "{auth_mechanisms, ['PLAIN', 'AMQPLAIN', 'EXTERNAL']}",
                "{ssl_cert_login_from, common_name}",
            ]
        return "".join(f"    {line},\n" for line in lines)

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
