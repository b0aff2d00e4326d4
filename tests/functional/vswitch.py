"""An Open vSwitch of a test's own: ovsdb-server and ovs-vswitchd (userspace datapath) in a directory and a namespace.

For tests that want a switch and nothing else; whole hypervisors are the lab's (`devstack.labs.hypervisor`). The daemons
are started one by one, since some tests want only the database, and others kill and restart one of them.
"""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from devstack.labs.hypervisor import listens

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
PROTOCOLS = "OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15"
OWN_NAMESPACE = ("unshare", "--net")


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    """Return once it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


class Vswitch:
    """The two daemons; `inside` are the words that lead a command into their namespace. `close` ends both."""

    def __init__(self, directory: Path, inside: tuple[str, ...] = OWN_NAMESPACE) -> None:
        self.directory = directory
        self.database = directory / "db.sock"
        self._inside = inside
        self._environment = {
            "OVS_RUNDIR": str(directory),
            "OVS_LOGDIR": str(directory),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.run("ovsdb-tool", "create", str(directory / "conf.db"), SCHEMA)

    def start_database(self) -> None:
        self._start("ovsdb-server", str(self.directory / "conf.db"), f"--remote=punix:{self.database}")
        wait_for(lambda: listens(self.database))
        self.vsctl("init")

    def start_switch(self) -> None:
        self._start("ovs-vswitchd", f"unix:{self.database}", "--disable-system")

    def add_bridge(self, name: str = "br-int") -> None:
        """A bridge as the agent would make it; returns when it is there."""
        settings = ["datapath_type=netdev", "fail_mode=secure", f"protocols={PROTOCOLS}"]
        self.vsctl("add-br", name, "--", "set", "bridge", name, *settings)

    def add_interface(self, bridge: str, name: str, *settings: str) -> None:
        self.vsctl("add-port", bridge, name, "--", "set", "interface", name, *settings)

    def door(self, bridge: str = "br-int") -> Path:
        """The socket at which the bridge speaks OpenFlow."""
        return self.directory / f"{bridge}.mgmt"

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon by a signal."""
        process = self._processes.pop(name)
        process.send_signal(number)
        process.wait(10)

    def close(self) -> None:
        for name in reversed(list(self._processes)):
            self.stop(name)

    def run(self, *command: str, text: str | None = None) -> str:
        """A command's output; nothing may go wrong."""
        done = subprocess.run(
            command, env=self._environment, input=text, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def vsctl(self, *words: str) -> str:
        """`ovs-vsctl`, which waits for ovs-vswitchd if that runs."""
        patience = () if "ovs-vswitchd" in self._processes else ("--no-wait",)
        return self.run("ovs-vsctl", f"--db=unix:{self.database}", *patience, *words)

    def ofctl(self, verb: str, *words: str, bridge: str = "br-int", text: str | None = None) -> str:
        return self.run("ovs-ofctl", "-O", "OpenFlow14", verb, f"unix:{self.door(bridge)}", *words, text=text)

    def appctl(self, *words: str) -> str:
        """What ovs-vswitchd answers to a command."""
        return self.run("ovs-appctl", "-t", str(self.directory / "ovs-vswitchd.ctl"), *words)

    def flows(self) -> set[str]:
        """br-int's flows as people read them, without counters."""
        return set(self.ofctl("dump-flows", "--no-stats").splitlines()) - {""}

    def _start(self, name: str, *arguments: str) -> None:
        control = self.directory / f"{name}.ctl"
        control.unlink(missing_ok=True)
        with (self.directory / f"{name}.out").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*self._inside, name, *arguments, f"--unixctl={control}"],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
