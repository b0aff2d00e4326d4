"""A controller process of the lab: its configuration, its start, its API."""

import os
import signal
import sys
from pathlib import Path

from devstack.labs.api import Api
from devstack.labs.hypervisor import PHYSNET, ini
from devstack.labs.process import Daemon, LabError


def program(name: str) -> Path:
    """Where a command of ours is installed: beside this Python. LabError if it is not."""
    path = Path(sys.executable).parent / name
    if not os.access(path, os.X_OK):
        raise LabError(f"{path} is missing; 'make setup' installs Selvedge into .venv")
    return path


class Controller:
    """One `selvedge-controller`, listening on loopback. `options` are added to its configuration, by section."""

    def __init__(
        self,
        name: str,
        *,
        state: Path,
        port: int,
        transport_url: str,
        database: str,
        options: dict[str, dict[str, str]],
    ) -> None:
        self.state = state
        self.daemon = Daemon(state, name)
        self.api = Api(f"http://127.0.0.1:{port}")
        self._settings = {
            "DEFAULT": {"transport_url": transport_url, "bind_host": "127.0.0.1", "bind_port": str(port)},
            "database": {"connection": database},
            "networks": {"vlan_ranges": f"{PHYSNET}:100:199", "flat_networks": "*"},
        }
        for section, more in options.items():
            self._settings.setdefault(section, {}).update(more)

    def configuration(self) -> str:
        """The path of its configuration, which is written."""
        self.state.mkdir(parents=True, exist_ok=True)
        path = self.state / "controller.conf"
        path.write_text(ini(self._settings))
        return str(path)

    def start(self) -> None:
        """Start it and wait until the API answers."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start it; `wait_ready` does the rest."""
        self.daemon.start([str(program("selvedge-controller")), "--config-file", self.configuration()])

    def wait_ready(self) -> None:
        """Return once the API answers; LabError with the log's tail if it dies."""
        self.daemon.wait_until(self.api.answers)

    @property
    def pid(self) -> int | None:
        return self.daemon.pid

    def stop(self) -> None:
        self.daemon.stop(signal.SIGTERM)

    def kill(self) -> None:
        self.daemon.kill()
