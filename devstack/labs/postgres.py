"""A PostgreSQL of the lab's own: own cluster, own port, loopback only, everyone on this machine may log in.

PostgreSQL refuses to run as root, and the user `postgres` may not enter every directory in which a lab can lie (a clone
under /root): the server therefore runs in a mount namespace of its own, in which the cluster is bound to the account's
home, a place that it may always read.
"""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from devstack.labs.process import Daemon, LabError, free_port

HOME = Path("/var/lib/postgresql")
INSIDE = f'mount --bind "$0" {HOME} && cd {HOME} && exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"'


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not found:
        raise LabError("PostgreSQL is not installed; 'make setup' installs what the lab needs")
    return found[-1].parent


class Postgres:
    """A cluster under `state`. `fsync=False` is for tests only: faster, and lost if the machine stops."""

    def __init__(self, state: Path, fsync: bool = True) -> None:
        self.state = state.resolve()
        self.daemon = Daemon(self.state, "postgres")
        self._fsync = fsync
        self._cluster = self.state / "cluster"

    @property
    def port(self) -> int:
        """TCP port, chosen once and kept."""
        path = self.state / "ports.json"
        if not path.exists():
            self.state.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"postgresql": free_port()}))
        return int(json.loads(path.read_text())["postgresql"])

    @property
    def url(self) -> str:
        """SQLAlchemy's URL of the maintenance database."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """SQLAlchemy's URL of `database`."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        return self.daemon.pid

    def _as_postgres(self, *command: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", INSIDE, str(self._cluster), *command]

    def start(self) -> None:
        """Make the cluster if there is none, start the server, return once it accepts connections. Raises LabError."""
        programs, data = _programs(), str(HOME / "data")
        if not (self._cluster / "data" / "PG_VERSION").exists():
            shutil.rmtree(self._cluster, ignore_errors=True)
            self._cluster.mkdir(parents=True)
            account = pwd.getpwnam("postgres")
            os.chown(self._cluster, account.pw_uid, account.pw_gid)
            made = subprocess.run(
                self._as_postgres(
                    str(programs / "initdb"), "-D", data, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
                ),
                capture_output=True,
                text=True,
                check=False,
            )
            if made.returncode:
                raise LabError(f"PostgreSQL's initdb: {made.stderr.strip().splitlines()[-1]}")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "32MB",
            "dynamic_shared_memory_type": "mmap",  # in the state directory: nothing stays in /dev/shm after a kill
            "fsync": "on" if self._fsync else "off",
            "synchronous_commit": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            "logging_collector": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.daemon.start(self._as_postgres(str(programs / "postgres"), "-D", data, *options))
        self.daemon.wait_until(self._answers)

    def _answers(self) -> bool:
        """The server says `N` (no TLS) to an SSLRequest only when its main loop runs; then `psql` decides."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as probe:
                probe.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
                if probe.recv(1) not in (b"N", b"S"):
                    return False
        except OSError:
            return False
        return self._psql("SELECT 1").returncode == 0

    def _psql(self, statement: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [_programs() / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-Xqc", statement],
            capture_output=True,
            text=True,
            check=False,
        )

    def create_database(self, name: str) -> str:
        """A new empty database; returns SQLAlchemy's URL of it. Raises LabError (it exists, the server is away)."""
        made = self._psql(f'CREATE DATABASE "{name}"')
        if made.returncode:
            raise LabError(f"PostgreSQL: {made.stderr.strip()}")
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove it, whoever is connected; a missing one is fine. Raises LabError."""
        done = self._psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        if done.returncode:
            raise LabError(f"PostgreSQL: {done.stderr.strip()}")

    def stop(self) -> None:
        """A fast, orderly shutdown."""
        self.daemon.stop(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL, as if the power went."""
        self.daemon.kill()
