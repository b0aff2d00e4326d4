"""A lab of the benchmark's own, with what benchmarks put on it: networks, crowds of ports, cheap interfaces.

The lab lies under a temporary directory and is gone when the `with` ends, whatever happened. Interfaces of a crowd are
`type=internal`: they need no namespace and no cable, vswitchd makes 1,000 in a second, and polls every one of them as
it polls VMs' taps, so that the switch is as busy as it would be. (Kernel interfaces that vswitchd only opens cost it 17
seconds at its end, in the kernel of these machines, and that would hide what happens after.)
"""

import ipaddress
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.ledger import Ledger
from bench.openflow_watch import Watch
from bench.outcome import WrongShape
from devstack.labs.api import Api
from devstack.labs.hypervisor import Hypervisor
from devstack.labs.lab import Lab
from devstack.labs.ovsdb import NUDGE, identify_operations
from devstack.labs.process import wait_for

Port = dict[str, Any]
BRIDGE = "br-int"
MTU = 1400
"""Of a crowd's interfaces: what every overlay carries. Taps of VMs have their network's MTU too."""


@dataclass(frozen=True)
class Net:
    """A network with one IPv4 subnet. Its pool is the lower half; `base`, a number, is the first address above."""

    id: str
    subnet: str
    base: int

    def fixed(self, number: int) -> list[dict[str, str]]:
        """`fixed_ips` with address `number` of the upper half, which the pool never gives to anybody."""
        return [{"subnet_id": self.subnet, "ip_address": str(ipaddress.ip_address(self.base + number))}]


def shortened(story: str, most: int = 40) -> str:
    """The story with the last `most` lines of each of its sections: a thousand ports make 20,000."""
    sections = ("\n" + story).split("\n--- ")[1:]
    return "\n".join(
        "\n".join(["--- " + lines[0], *(["…"] if len(lines) > most else []), *lines[1:][-most:]])
        for lines in (section.splitlines() for section in sections)
    )


class Stage:
    """A context manager; inside, `lab` is up with `hypervisors` of them (`more`: see `Lab.up`), and `ledger` counts.

    `shared`: all agents have one account on the broker, for who calls in the names of several hosts.
    """

    def __init__(self, hypervisors: int, say: Callable[[str], None], shared: bool = False, **more: Any) -> None:
        self.say = say
        options = {"agents": {"accounts": "shared"}} if shared else {}
        self._hypervisors, self._more = hypervisors, {"options": options, **more}
        self._directory = Path(tempfile.mkdtemp(prefix="selvedge-bench-"))
        self.lab = Lab(self._directory / "lab")

    def __enter__(self) -> Self:
        self.say(f"starting a lab of {self._hypervisors} hypervisors")
        try:
            self.lab.up(hypervisors=self._hypervisors, **self._more)
            self.hypervisors: dict[str, Hypervisor] = self.lab.hypervisors
            self.api: Api = self.lab.api
            self.ledger = Ledger(self.pids)
        except BaseException as error:
            self._end(error)
            raise
        self.say("the lab is up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Take everything down; after an error tell what explains it, since the logs go too."""
        if isinstance(error, Exception) and self.lab.is_up:
            print(shortened(self.lab.story()), file=sys.stderr)
        self.lab.down()
        shutil.rmtree(self._directory, ignore_errors=True)

    def pids(self) -> dict[str, int]:
        """Every daemon that runs now."""
        return {name: daemon.pid for name, daemon in self.lab.daemons().items() if daemon.pid is not None}

    def controllers(self) -> list[str]:
        return list(self.lab.controllers)

    def watch(self, host: str) -> Watch:
        """A connection of our own to the host's integration bridge."""
        return Watch(self.hypervisors[host].rundir / f"{BRIDGE}.mgmt")

    # Topology

    def network(self, cidr: str = "10.0.0.0/16", kind: str = "geneve") -> Net:
        network = self.api.create("network", name="bench", **{"provider:network_type": kind})
        addresses = ipaddress.ip_network(cidr)
        middle = addresses.num_addresses // 2
        pool = {"start": str(addresses[1]), "end": str(addresses[middle - 1])}
        subnet = self.api.create(
            "subnet",
            network_id=network["id"],
            ip_version=4,
            cidr=cidr,
            gateway_ip=None,
            enable_dhcp=False,
            allocation_pools=[pool],
        )
        return Net(network["id"], subnet["id"], int(addresses[middle]))

    def bound_bodies(self, network: Net, host: str, count: int, **more: Any) -> list[Port]:
        """Bodies of `count` ports bound to `host`; without `security_groups` in the project's default group."""
        return [{"network_id": network.id, "binding:host_id": host, "device_owner": "compute:nova", **more}] * count

    def bound(self, network: Net, host: str, count: int, **more: Any) -> list[Port]:
        """That many new ports, by one bulk request."""
        return self.api.create_many("port", self.bound_bodies(network, host, count, **more))

    def delete_ports(self, ports: Iterable[Port]) -> None:
        for port in ports:
            self.api.delete("port", port["id"])

    def waiting(self, network: Net) -> bool:
        """Whether the API lists any port of the network as DOWN (cheap to ask, often)."""
        query = f"/v2.0/ports?network_id={network.id}&status=DOWN&fields=id&limit=1"
        return bool(self.api.request("GET", query)["ports"])

    def wait_active(self, network: Net, count: int, timeout: float, poll: float = 0.02) -> None:
        """Return once the API lists `count` ports of the network, each ACTIVE."""

        def all_active() -> bool:
            if self.waiting(network):
                return False
            listed = self.api.request("GET", f"/v2.0/ports?network_id={network.id}&fields=id&fields=status")["ports"]
            return len(listed) == count and all(port["status"] == "ACTIVE" for port in listed)

        wait_for(f"{count} ports ACTIVE", all_active, timeout, poll)

    # Interfaces without VMs

    def interfaces(self, host: str, names: list[str]) -> None:
        """Add internal interfaces without iface-ids to the bridge; returns when each has its OpenFlow number."""
        operations: list[dict[str, Any]] = []
        for number, name in enumerate(names):
            operations += [
                {
                    "op": "insert",
                    "table": "Interface",
                    "uuid-name": f"i{number}",
                    "row": {"name": name, "type": "internal", "mtu_request": MTU},
                },
                {
                    "op": "insert",
                    "table": "Port",
                    "uuid-name": f"p{number}",
                    "row": {"name": name, "interfaces": ["named-uuid", f"i{number}"]},
                },
            ]
        ports = ["set", [["named-uuid", f"p{number}"] for number in range(len(names))]]
        operations.append(
            {
                "op": "mutate",
                "table": "Bridge",
                "where": [["name", "==", BRIDGE]],
                "mutations": [["ports", "insert", ports]],
            }
        )
        with self.hypervisors[host].database() as database:
            database.transact(*operations, *NUDGE)
            query = {"op": "select", "table": "Interface", "where": [["name", "==", names[-1]]], "columns": ["ofport"]}
            wait_for(
                f"{len(names)} interfaces", lambda: isinstance(database.transact(query)[0]["rows"][0]["ofport"], int)
            )

    def identify(self, host: str, names: list[str], ports: list[Port]) -> None:
        """ONE transaction that gives each interface the iface-id of its port."""
        pairs = zip(names, ports, strict=True)
        operations = [operation for name, port in pairs for operation in identify_operations(name, port["id"])]
        with self.hypervisors[host].database() as database:
            database.transact(*operations)

    def anonymous(self, host: str, names: list[str]) -> None:
        """ONE transaction that takes all iface-ids away."""
        mutation = {
            "op": "mutate",
            "table": "Interface",
            "mutations": [["external_ids", "delete", ["set", ["iface-id"]]]],
        }
        with self.hypervisors[host].database() as database:
            database.transact(*({**mutation, "where": [["name", "==", name]]} for name in names))

    def crowd(self, network: Net, host: str, count: int) -> None:
        """`count` ports of the network bound to the host, plugged and ACTIVE, without VMs."""
        self.say(f"{count} ports on {host}")
        names = [f"crowd{number}" for number in range(count)]
        self.interfaces(host, names)
        before = len(self.api.request("GET", f"/v2.0/ports?network_id={network.id}&fields=id")["ports"])
        self.identify(host, names, self.bound(network, host, count))
        self.wait_active(network, before + count, timeout=120.0, poll=0.1)

    # What the agents say

    def statuses(self, settled: float = 2.5) -> dict[str, dict[str, Any]]:
        """Every agent's counters, after the second within which they are written."""
        time.sleep(settled)
        return {name: hypervisor.status() for name, hypervisor in self.hypervisors.items()}

    def zones(self, host: str) -> int:
        """How many zones of the connection tracker the host's ports have or had until now."""
        query = {"op": "select", "table": "Bridge", "where": [["name", "==", BRIDGE]], "columns": ["external_ids"]}
        with self.hypervisors[host].database() as database:
            pairs = database.transact(query)[0]["rows"][0]["external_ids"][1]
        return sum(1 for name, _ in pairs if name.startswith("selvedge-zone-"))

    def wait_empty(self, host: str, timeout: float = 60.0) -> None:
        """Return once the bridge has no flow and no zone left. Raises WrongShape with those that stayed."""
        watch = self.watch(host)
        try:
            deadline = time.monotonic() + timeout
            while watch.flows() or self.zones(host):
                if time.monotonic() > deadline:
                    left = json.dumps(self.hypervisors[host].flows()[:5])
                    raise WrongShape(f"{host} keeps flows or {self.zones(host)} zones although it has no port: {left}")
                time.sleep(0.05)
        finally:
            watch.close()
