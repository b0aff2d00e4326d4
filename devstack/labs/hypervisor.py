"""The one recipe that starts a hypervisor: Open vSwitch and an agent in a network namespace.

    underlay0 ── br-phy (its local port has the tunnel's address)      ovsdb-server, ovs-vswitchd: own sockets, own
    provider0 ── br-ex  (physnet1) ── patch ── br-int ── taps of VMs   database, datapath type netdev: no kernel module
    mgmt0     ── the agent's way to the broker                         br-int is the agent's: it makes it

The namespace with those three interfaces comes from a `ground`: iproute2's for the lab, Mininet's for tests. Everything
else is here, and the same for both. Each daemon can be stopped, killed and started by itself.
"""

import json
import shlex
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devstack.labs import netns, ovsdb
from devstack.labs.process import Daemon, LabError

SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
PHYSNET = "physnet1"
DAEMONS = ("ovsdb", "vswitchd", "agent")

ETH_P_ALL = 3

LONGEST = 84
"""Bytes of a hypervisor's run directory: a unix socket's path has at most 107, and the longest name below takes 22."""


class Hypervisor:
    """One hypervisor. `state` holds its database, sockets, configuration and logs; `tunnel` is like 10.255.0.1/16."""

    def __init__(
        self, name: str, *, state: Path, namespace: Path, tunnel: str, transport_url: str, program: Path
    ) -> None:
        self.privileges: Sequence[str] = ()
        """A command that starts the agent with other privileges than root's, such as setpriv(1)."""
        self.name = name
        self.state = state.resolve()
        self.namespace = namespace
        self.tunnel = tunnel
        self.transport_url = transport_url
        self.program = program
        self.options: dict[str, dict[str, str]] = {}
        """More of the agent's configuration, by section, for starts by this object."""
        self.rundir = self.state / "run"
        self.daemons = {kind: Daemon(self.state, kind) for kind in DAEMONS}

    @property
    def environment(self) -> dict[str, str]:
        """Leads every ovs-* tool to this hypervisor."""
        rundir = str(self.rundir)
        return {"OVS_RUNDIR": rundir, "OVS_DBDIR": str(self.state), "OVS_LOGDIR": str(self.state)}

    def run(self, *command: str) -> str:
        """Output of a command in this hypervisor's namespace and environment; LabError if it fails."""
        return netns.run(netns.inside(self.namespace, command), environment=self.environment)

    def exec(self, command: Sequence[str]) -> int:
        """Run a command on this terminal; its exit code."""
        return netns.exec_inside(self.namespace, command, self.environment)

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this hypervisor's kernel, used from here."""
        with netns.entered(self.namespace):
            return socket.socket(family, kind, protocol)

    def packet_socket(self, interface: str) -> socket.socket:
        """A raw socket on one of its interfaces: whole Ethernet frames (packet(7))."""
        found = self.open_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        found.bind((interface, ETH_P_ALL))
        return found

    def start_switch(self) -> None:
        """ovsdb-server with br-phy and br-ex, then vswitchd. br-int is the agent's business."""
        if not SCHEMA.exists():
            raise LabError("Open vSwitch is not installed; 'make setup' installs what the lab needs")
        if len(str(self.rundir).encode()) > LONGEST:
            raise LabError(f"{self.rundir} is too long for unix sockets; choose a shorter --state")
        self.rundir.mkdir(parents=True, exist_ok=True)
        database = self.state / "conf.db"
        if not database.exists():
            netns.run(["ovsdb-tool", "create", str(database), str(SCHEMA)])
        self.start("ovsdb")
        self.run("ovs-vsctl", "--no-wait", *shlex.split(BRIDGES))
        self.start("vswitchd")

    def start(self, kind: str) -> None:
        """Start one of `DAEMONS`; returns when it works (the agent: when it runs; see `wait_in_sync`)."""
        starter = {"ovsdb": self._start_ovsdb, "vswitchd": self._start_vswitchd, "agent": self._start_agent}
        starter[kind]()

    def _start_ovsdb(self) -> None:
        door = self.rundir / "db.sock"
        command = ["ovsdb-server", str(self.state / "conf.db"), f"--remote=punix:{door}", "--pidfile", "-vfile:off"]
        self.daemons["ovsdb"].start(netns.inside(self.namespace, command), self.environment)
        self.daemons["ovsdb"].wait_until(lambda: listens(door))

    def _start_vswitchd(self) -> None:
        daemon = self.daemons["vswitchd"]
        command = ["ovs-vswitchd", f"unix:{self.rundir / 'db.sock'}", "--pidfile", "-vfile:off", "-vconsole:info"]
        daemon.start(netns.inside(self.namespace, command), self.environment)
        daemon.wait_until(lambda: listens(self.rundir / "br-phy.mgmt"))
        lines = [f"addr replace {self.tunnel} dev br-phy", "link set br-phy up"]
        netns.run(netns.inside(self.namespace, ["ip", "-batch", "-"]), "\n".join(lines) + "\n")

    def _start_agent(self) -> None:
        settings = {
            "DEFAULT": {"host": self.name, "transport_url": self.transport_url},
            "agent": {
                "tunnel_ip": self.tunnel.partition("/")[0],
                "tunnel_types": "geneve,vxlan",
                "bridge_mappings": f"{PHYSNET}:br-ex",
                "datapath_type": "netdev",
                "ovs_rundir": str(self.rundir),
                "state_dir": str(self.state / "agent"),
            },
        }
        for section, more in self.options.items():
            settings.setdefault(section, {}).update(more)
        (self.state / "agent").mkdir(exist_ok=True)
        (self.state / "agent" / "status.json").unlink(missing_ok=True)  # what a former run said says nothing of this
        configuration = self.state / "agent.conf"
        configuration.write_text(ini(settings))
        command = [*self.privileges, str(self.program), "--config-file", str(configuration)]
        self.daemons["agent"].start(netns.inside(self.namespace, command))

    def stop(self, kind: str) -> None:
        """An orderly end (SIGTERM) of one of `DAEMONS`."""
        self.daemons[kind].stop(signal.SIGTERM)

    def kill(self, kind: str) -> None:
        """SIGKILL."""
        self.daemons[kind].kill()

    def stop_all(self) -> None:
        """The agent first: it is told of nothing that it could mistake for an unplug."""
        for kind in reversed(DAEMONS):
            self.stop(kind)

    def status(self) -> dict[str, Any]:
        """The agent's counters (its `status.json`); empty before the first."""
        try:
            found: dict[str, Any] = json.loads((self.state / "agent" / "status.json").read_text())
        except (OSError, ValueError):
            return {}
        return found

    def wait_in_sync(self, timeout: float = 20.0) -> None:
        """Return once this run of the agent knows all it needs and the switch has it. LabError with the log's tail."""
        self.daemons["agent"].wait_until(lambda: bool(self.status().get("in_sync")), timeout)

    def database(self) -> ovsdb.Database:
        """A connection for transactions of one's own."""
        return ovsdb.Database(self.rundir / "db.sock")

    def plug(self, tap: str, port: str, mac: str) -> None:
        """Commit the interface to br-int as this port's: what a virtualisation driver does when a VM starts."""
        with self.database() as database:
            database.transact(*ovsdb.plug_operations(tap, port, mac))

    def unplug(self, tap: str) -> None:
        """The interface leaves br-int; returns when vswitchd has let go of it."""
        self.run("ovs-vsctl", "--if-exists", "del-port", "br-int", tap)

    def ofctl(self, *arguments: str) -> list[str]:
        """Lines of `ovs-ofctl -O OpenFlow14`, without the reply's head; none if there is no such bridge yet."""
        lines = self.run("ovs-ofctl", "-O", "OpenFlow14", *arguments).splitlines()
        return [line.strip() for line in lines if not line.startswith(("OFPST", "NXST"))]

    def flows(self, bridge: str = "br-int") -> list[str]:
        """The bridge's flows as text, sorted, without counters; table 0 is written out, as the others are."""
        lines = self.ofctl("--no-stats", "--no-names", "dump-flows", bridge)
        return sorted(line if " table=" in line else line.replace(", ", ", table=0, ", 1) for line in lines)

    def groups(self, bridge: str = "br-int") -> list[str]:
        """The bridge's groups as text."""
        return sorted(self.ofctl("--no-names", "dump-groups", bridge))

    def trace(self, flow: str, bridge: str = "br-int") -> str:
        """`ovs-appctl ofproto/trace` of a packet."""
        return self.run("ovs-appctl", "ofproto/trace", bridge, flow)

    def forget(self) -> None:
        """Remove what the agent keeps on disk: as if the hypervisor were installed anew."""
        shutil.rmtree(self.state / "agent", ignore_errors=True)

    def story(self) -> str:
        """What explains a failure: flows, groups, interfaces and the ends of the logs."""
        parts = []
        for title, command in (
            ("interfaces", "ovs-vsctl --columns=name,ofport,external_ids,error list Interface"),
            ("tunnel neighbours", "ovs-appctl tnl/neigh/show"),
            ("flows", "ovs-ofctl -O OpenFlow14 dump-flows br-int"),
            ("groups", "ovs-ofctl -O OpenFlow14 dump-groups br-int"),
        ):
            try:
                text = self.run(*shlex.split(command))
            except (LabError, subprocess.SubprocessError) as error:
                text = str(error)
            parts.append(f"--- {self.name}: {title}\n{text.strip()}")
        parts += [f"--- {self.name}: {kind}'s log\n{self.daemons[kind].tail(25)}" for kind in ("agent", "vswitchd")]
        return "\n".join(parts)


BRIDGES = (
    "--may-exist add-br br-phy -- set Bridge br-phy datapath_type=netdev "
    "-- --may-exist add-port br-phy underlay0 "
    "-- --may-exist add-br br-ex -- set Bridge br-ex datapath_type=netdev "
    "-- --may-exist add-port br-ex provider0"
)


def listens(path: Path) -> bool:
    """Whether somebody accepts connections at this unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def ini(settings: dict[str, dict[str, str]]) -> str:
    """A configuration file of oslo.config."""
    return "\n".join(
        f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())
        for section, options in settings.items()
    )
