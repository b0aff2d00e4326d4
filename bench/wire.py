"""wire: how long a VM waits for the network: from the plug to its first reply, and to ACTIVE in the API.

The plug is the OVSDB transaction that adds the VM's interface to br-int with its iface-id; the clock starts when it is
sent. The VM, its cable and its addresses exist before, and its prober asks every millisecond from before the plug on:
ARP for the target, then ICMP echo; the target's kernel answers, and resolves the VM's address by itself, as it does. A
pre-bound port is known to everybody before the plug; an unbound one is claimed by the agent that sees the plug.
VMs and targets are in the project's default group, whose members accept each other: the first packet passes the rules
of both ends and is tracked by both. `open_…` is the pre-bound plug between ports without port security, so without
groups and guard.
`active_ms` is the same plug, seen by asking the API for the port every 2 ms on one kept connection.

Where the time goes is told beside: `ofport_ms` to the moment at which Open vSwitch has given the interface its number,
which is its own work, `flows_ms` to the last change of the host's flows (see `witness`), `arp_ms` to the ARP reply.
`alone_first_reply_ms` is the same on a bridge of the same Open vSwitch that nobody controls (it learns MACs, and
floods): what a plug costs without us. Whatever the controller, it is the least that a plug takes on this machine.
"""

import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from bench.ledger import wait_calm
from bench.measures import Result
from bench.outcome import Outcome, Terms, WrongShape
from bench.probe import Probe
from bench.stage import BRIDGE, Net, Stage
from bench.witness import Witness
from devstack.labs import netns
from devstack.labs.ovsdb import plug_operations
from devstack.labs.process import LabError
from devstack.labs.vm import Vm

POLL_S = 0.002
HERE, THERE = "hv1", "hv2"
ALONE = "br-alone"
PLACES = {"remote": THERE, "local": HERE, "open remote": THERE}
SECURE = frozenset({"remote", "local"})
"""Targets, and those of them that have port security and are in the default group."""


def wait_active(stage: Stage, port: str, timeout: float = 20.0) -> float:
    """The moment at which the API called the port ACTIVE."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        asked = time.monotonic()
        status = stage.api.request("GET", f"/v2.0/ports/{port}?fields=status")["port"]["status"]
        answered = time.monotonic()
        if status == "ACTIVE":
            return answered
        time.sleep(max(0.0, asked + POLL_S - answered))
    raise LabError(f"port {port} is not ACTIVE {timeout:g} s after its plug")


def calm(stage: Stage) -> None:
    """Wait until Open vSwitch has digested what was done to its host before, such as a new cable."""
    wait_calm(stage.pids()[f"{HERE} vswitchd"])


class Line(NamedTuple):
    """One line of the table: what is plugged, and where its target is."""

    prefix: str
    where: str
    bound: bool = True
    secure: bool = True

    def target(self) -> str:
        return self.where if self.secure else f"open {self.where}"


LINES = (
    Line("", "remote"),
    Line("", "local"),
    Line("claimed_", "remote", bound=False),
    Line("open_", "remote", secure=False),
)


def new_port(stage: Stage, network: Net, number: int, host: str | None, secure: bool) -> str:
    """The id of a port at address `number`, bound to `host` if there is one."""
    binding = {"binding:host_id": host} if host else {}
    port = stage.api.create(
        "port",
        network_id=network.id,
        fixed_ips=network.fixed(number),
        **binding,
        **({} if secure else {"port_security_enabled": False}),
    )
    identity: str = port["id"]
    return identity


def plug_once(stage: Stage, network: Net, number: int, target: Vm, line: Line) -> dict[str, float]:
    """One new VM at address `number`, plugged, measured and removed: milliseconds from the plug to each event."""
    port = new_port(stage, network, number, HERE if line.bound else None, line.secure)
    vm = stage.lab.prepare_vm(port, HERE)
    operations = plug_operations(vm.want.tap, vm.port, vm.want.mac)
    with (
        stage.hypervisors[HERE].database() as database,
        Witness(stage.hypervisors[HERE].rundir, BRIDGE, vm.want.tap) as witness,
        Probe(vm.namespace, vm.want.mac, vm.address(), target.address()) as probe,
    ):
        calm(stage)
        plugged = time.monotonic()
        database.transact(*operations)
        active = wait_active(stage, vm.port)
        arp, reply = probe.first()
        witness.end()
    stage.lab.unplug(vm.port)
    stage.api.delete("port", vm.port)
    if witness.ofport_at is None or witness.flows_at is None:
        raise WrongShape("the VM has a reply, and its interface no OpenFlow port or no flows")
    seen = {
        "first_reply": reply,
        "active": active,
        "ofport": witness.ofport_at,
        "flows": witness.flows_at,
        "arp": arp,
    }
    return {name: (moment - plugged) * 1000 for name, moment in seen.items()}


class Alone:
    """A bridge without a controller, and VMs of nobody on it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._count = 0
        stage.hypervisors[HERE].run("ovs-vsctl", "add-br", ALONE, "--", "set", "Bridge", ALONE, "datapath_type=netdev")
        self._vm()
        self._plug()

    def _vm(self) -> tuple[Path, str, str]:
        """Namespace, MAC and address of one more VM."""
        self._count += 1
        mac, address = f"fa:16:3f:00:00:{self._count:02x}", f"10.77.0.{self._count}"
        place = self._stage.lab.ground.vm(f"alone{self._count}", HERE, f"alone{self._count}", mac, 1400)
        lines = [f"addr add {address}/24 dev eth0", "link set eth0 up"]
        netns.run(netns.inside(place, ["ip", "-batch", "-"]), "\n".join(lines) + "\n")
        return place, mac, address

    def _plug(self) -> float:
        """The moment right before the plug of the newest VM."""
        name = f"alone{self._count}"
        with self._stage.hypervisors[HERE].database() as database:
            moment = time.monotonic()
            database.transact(*plug_operations(name, None, "", ALONE))
        return moment

    def plug_once(self) -> float:
        """Milliseconds from the plug of one more VM to its first reply from the first one."""
        place, mac, address = self._vm()
        with Probe(place, mac, address, "10.77.0.1") as probe:
            calm(self._stage)
            plugged = self._plug()
            reply = probe.first()[1]
        name = f"alone{self._count}"
        self._stage.hypervisors[HERE].run("ovs-vsctl", "del-port", ALONE, name)
        self._stage.lab.ground.remove_vm(name, HERE, name)
        return (reply - plugged) * 1000


def run(terms: Terms) -> Outcome:
    plugs, crowd = (4, 50) if terms.quick else (32, 1000)
    found: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    with Stage(2, terms.say) as stage:
        network = stage.network()
        targets = {}
        for number, (where, host) in enumerate(PLACES.items(), start=2):
            targets[where] = stage.lab.plug(new_port(stage, network, number, host, where in SECURE), host)
        alone = Alone(stage)
        address = 100  # every VM has an address that no neighbour remembers
        for present in (0, crowd):
            if present:
                stage.crowd(network, HERE, present)
            for number in range(plugs):
                terms.say(f"{present} ports present: one plug of each kind, {number + 1} of {plugs}")
                for line in LINES:  # in turns, so that what else the machine does is in all lines alike
                    address += 1
                    times = plug_once(stage, network, address, targets[line.target()], line)
                    for name, value in times.items():
                        found[f"{line.prefix}{name}_ms", line.where, present].append(value)
                found["alone_first_reply_ms", "local", present].append(alone.plug_once())
        costs = stage.ledger.costs()
    results = [
        Result(name, "ms", tuple(values), {"where": where, "present": present})
        for (name, where, present), values in sorted(found.items())
    ]
    return Outcome(tuple(results), costs)
