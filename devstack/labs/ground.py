"""The ground that a lab stands on: namespaces, and three layer-2 wires that join the hypervisors.

    underlay     carries tunnels: every hypervisor's br-phy is on it
    provider     carries VLANs and untagged frames of provider networks: every hypervisor's br-ex is on it
    management   carries AMQP: agents reach the broker, which also listens at the machine's end of this wire

`Ground` is what the lab asks for; `Namespaces` makes it with iproute2, named so that a later command can remove it;
`mininet_node.MininetGround` makes it of Mininet nodes and links. The wires are kernel bridges: they know no VLAN and
pass tagged frames as they are.
"""

import contextlib
import fcntl
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from devstack.labs import netns
from devstack.labs.process import LabError

WIRES = ("underlay", "provider", "mgmt")
"""Each is a bridge of this name; a hypervisor's end is called `<wire>0`."""


class Ground(Protocol):
    """What a lab needs of its surroundings. Paths lead to network namespaces."""

    management: str
    """The machine's own IPv4 address on the management wire; `open` chooses it, whoever opens nothing is told it."""

    def open(self) -> None:
        """Make the wires."""

    def hypervisor(self, name: str, number: int) -> Path:
        """A namespace with `underlay0`, `provider0` and `mgmt0`, the last with an address."""

    def vm(self, identity: str, hypervisor: str, tap: str, mac: str, mtu: int) -> Path:
        """A namespace whose `eth0` (with `mac`) is a cable to `tap` in the hypervisor's namespace; both ends up."""

    def remove_vm(self, identity: str, hypervisor: str, tap: str) -> None:
        """Cable and namespace go. What is gone already is fine."""

    def close(self) -> None:
        """Everything goes."""


QUIET = (
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
)
"""A hypervisor's kernel must not speak on wires and taps that belong to its Open vSwitch."""

DEAF = tuple(
    f"net.ipv4.conf.{wire}0.{setting}"
    for wire in ("underlay", "provider")
    for setting in ("rp_filter=1", "arp_ignore=8", "arp_announce=2")
)
"""Nor answer there: with the userspace datapath it sees every packet that Open vSwitch sees. What is for it comes by
br-phy; the route back leads there too, so the reverse path filter drops the rest."""


LOCK = Path("/run/selvedge-lab.network")
"""Locked by whoever chooses a management network, until its address can be seen."""


@contextlib.contextmanager
def chosen_management(names: netns.Names) -> Iterator[str]:
    """An address for the machine that no other lab takes meanwhile; on leaving it must be on an interface."""
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield free_management(names)


def free_management(names: netns.Names) -> str:
    """The machine's address in a /24 that it does not use yet, of the range for benchmarks (RFC 2544)."""
    lines = netns.run(["ip", "-br", "-4", "addr"]).splitlines()
    used = [ipaddress.ip_interface(word).network for line in lines for word in line.split()[2:]]
    first = int(names.digest[:4], 16)
    for number in range(first, first + 512):
        network = ipaddress.ip_network(f"198.{18 + (number >> 8) % 2}.{number & 255}.0/24")
        if not any(network.overlaps(other) for other in used):
            return str(network[1])
    raise LabError("this machine uses all of 198.18.0.0/15; there is no room for a lab's management network")


def management_address(machine: str, number: int) -> str:
    """Address of hypervisor `number` (from 1) in the management network in which the machine has `machine`."""
    return str(ipaddress.ip_address(machine) + number)


def hush(path: Path, settings: tuple[str, ...] = QUIET) -> None:
    """Apply sysctl settings inside a namespace."""
    netns.run(netns.inside(path, ["sysctl", "-qw", *settings]))


class Namespaces:
    """The ground made of named network namespaces of this machine."""

    def __init__(self, names: netns.Names) -> None:
        self.names = names
        self.management = ""

    def open(self) -> None:
        wires = self.names.wires
        netns.run(["ip", "netns", "add", wires])
        hush(netns.path_of(wires))
        netns.ip(
            [f"link add {wire} type bridge forward_delay 0 mcast_snooping 0" for wire in WIRES]
            + [f"link set {wire} up" for wire in WIRES],
            wires,
        )
        with chosen_management(self.names) as self.management:
            netns.ip(
                [
                    f"link add {self.names.management} type veth peer name machine netns {wires}",
                    f"addr add {self.management}/24 dev {self.names.management}",
                    f"link set {self.names.management} up",
                ]
            )
        netns.ip(["link set machine master mgmt", "link set machine up"], wires)

    def hypervisor(self, name: str, number: int) -> Path:
        namespace, wires = self.names.hypervisor(name), self.names.wires
        netns.run(["ip", "netns", "add", namespace])
        hush(netns.path_of(namespace))
        netns.ip([f"link add {wire}0 type veth peer name {wire}-{name} netns {wires}" for wire in WIRES], namespace)
        netns.ip(
            [f"link set {wire}-{name} master {wire}" for wire in WIRES]
            + [f"link set {wire}-{name} up" for wire in WIRES],
            wires,
        )
        address = management_address(self.management, number)
        netns.ip(
            ["link set lo up", f"addr add {address}/24 dev mgmt0", *(f"link set {wire}0 up" for wire in WIRES)],
            namespace,
        )
        hush(netns.path_of(namespace), DEAF)
        return netns.path_of(namespace)

    def vm(self, identity: str, hypervisor: str, tap: str, mac: str, mtu: int) -> Path:
        namespace, host = self.names.vm(identity), self.names.hypervisor(hypervisor)
        netns.run(["ip", "netns", "add", namespace])
        path = netns.path_of(namespace)
        # Up only when `vm.Vm` has set what it wants of IPv6; the hypervisor's end waits for that.
        netns.ip(
            [
                f"link add {tap} mtu {mtu} type veth peer name eth0 address {mac} mtu {mtu} netns {namespace}",
                f"link set {tap} up",
            ],
            host,
        )
        return path

    def remove_vm(self, identity: str, hypervisor: str, tap: str) -> None:
        del hypervisor, tap  # the cable goes with the namespace
        netns.end(self.names.vm(identity))

    def close(self) -> None:
        netns.end_link(self.names.management)
        for namespace in self.names.ours():
            netns.end(namespace)
