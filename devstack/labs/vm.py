"""A "VM": a namespace whose eth0 has the port's MAC and addresses, at the end of a cable into a hypervisor.

Booting has two halves, because benchmarks measure the second alone: `prepare` makes namespace, cable and addresses;
the plug is one OVSDB transaction (`Hypervisor.plug`). `Wanted` is what a port of the API means to a guest, a value.
"""

import ipaddress
import re
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devstack.labs import netns
from devstack.labs.api import Api, Resource
from devstack.labs.process import LabError

ETH_P_ALL = 3

SETTINGS = (
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.eth0.accept_dad=0",
    "net.ipv6.conf.eth0.router_solicitations=0",
    "net.ipv6.conf.eth0.addr_gen_mode=0",
)
"""IPv6 addresses work at once: the controller has already seen to it that nobody else has them."""


@dataclass(frozen=True)
class Wanted:
    """What the guest configures: `addresses` with prefix lengths, `gateways` of its subnets, the network's MTU."""

    port: str
    mac: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    mtu: int

    @property
    def tap(self) -> str:
        """The interface's name on the hypervisor, as Nova makes it."""
        return f"tap{self.port[:11]}"


def wanted(api: Api, port: Resource) -> Wanted:
    """Ask the API for what else of the port's network the guest needs to know."""
    network = api.show("network", port["network_id"])
    addresses, gateways = [], []
    for fixed in port["fixed_ips"]:
        subnet = api.show("subnet", fixed["subnet_id"])
        length = ipaddress.ip_network(subnet["cidr"]).prefixlen
        addresses.append(f"{fixed['ip_address']}/{length}")
        if subnet["gateway_ip"] and subnet["gateway_ip"] != fixed["ip_address"]:
            gateways.append(subnet["gateway_ip"])
    return Wanted(port["id"], port["mac_address"], tuple(addresses), tuple(gateways), int(network["mtu"]))


def guest_lines(want: Wanted) -> list[str]:
    """Lines of `ip` inside the guest. The first gateway of each family is its default route."""
    lines = ["link set lo up", "link set eth0 up"]
    lines += [f"addr add {address} dev eth0{' nodad' if ':' in address else ''}" for address in want.addresses]
    for version in (4, 6):
        found = [gateway for gateway in want.gateways if ipaddress.ip_address(gateway).version == version]
        lines += [f"route add default via {found[0]} dev eth0"] if found else []
    return lines


def configure(namespace: Path, want: Wanted) -> None:
    """Addresses, routes and quick IPv6 inside the guest.

    Checksums are computed in the guest: what its kernel leaves to a network card that is not there, nobody would do.
    """
    script = f"sysctl -qw {' '.join(SETTINGS)} && ip -batch - && ethtool -K eth0 tx off >/dev/null"
    netns.run(netns.inside(namespace, ["sh", "-c", script]), "\n".join(guest_lines(want)) + "\n")


class Vm:
    """A running "VM" of one port."""

    def __init__(self, want: Wanted, hypervisor: str, namespace: Path) -> None:
        self.want = want
        self.hypervisor = hypervisor
        self.namespace = namespace

    @property
    def port(self) -> str:
        return self.want.port

    @property
    def addresses(self) -> list[str]:
        """Without prefix lengths."""
        return [address.partition("/")[0] for address in self.want.addresses]

    def address(self, version: int = 4) -> str:
        """Its first address of IP `version`. LabError if it has none."""
        for address in self.addresses:
            if ipaddress.ip_address(address).version == version:
                return address
        raise LabError(f"port {self.port} has no IPv{version} address")

    def run(self, *command: str) -> str:
        """Output of a command inside; LabError if it fails."""
        return netns.run(netns.inside(self.namespace, command))

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """A command inside, running beside us; its output on pipes."""
        return subprocess.Popen(
            netns.inside(self.namespace, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def exec(self, command: Sequence[str]) -> int:
        """A command inside, on this terminal; its exit code."""
        return netns.exec_inside(self.namespace, command)

    def ping(self, address: str, count: int = 1, interval: float = 0.05, wait: float = 1.0, *options: str) -> int:
        """How many of `count` echo requests were answered."""
        words = ["ping", "-n", "-c", str(count), "-i", str(interval), "-W", str(wait), *options, address]
        done = subprocess.run(netns.inside(self.namespace, words), capture_output=True, text=True, check=False)
        received = re.search(r"(\d+) received", done.stdout)
        if received is None:
            raise LabError(f"ping {address}: {(done.stderr or done.stdout).strip()}")
        return int(received.group(1))

    def probe(self, address: str, timeout: float = 15.0) -> "Probe":
        """Ask `address` every 2 ms from now on until it answers once."""
        return Probe(self, address, timeout)

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of the guest's kernel, used from here: it stays in the guest where it was opened."""
        with netns.entered(self.namespace):
            return socket.socket(family, kind, protocol)

    def packet_socket(self) -> socket.socket:
        """A raw socket on eth0: whole Ethernet frames in and out (packet(7))."""
        found = self.open_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        found.bind(("eth0", ETH_P_ALL))
        return found


class Probe:
    """A ping that ends with the first reply. Neighbour discovery repeats as quickly as the echo requests do."""

    def __init__(self, vm: Vm, address: str, timeout: float) -> None:
        version = ipaddress.ip_address(address).version
        family = f"net.ipv{version}.neigh.eth0"
        vm.run("sysctl", "-qw", f"{family}.retrans_time_ms=2", f"{family}.mcast_solicit=100000")
        words = ["ping", "-D", "-n", "-c", "1", "-i", "0.002", "-w", str(round(timeout)), address]
        self._process = vm.start(*words)
        self._what = f"ping {address} from {vm.port}"

    def wait(self) -> float:
        """The moment (time.monotonic) of the first reply; LabError if there was none."""
        output, _ = self._process.communicate()
        stamp = re.search(r"^\[(\d+\.\d+)\]", output, re.MULTILINE)
        if self._process.returncode or stamp is None:
            raise LabError(f"{self._what}: no reply: {' '.join(output.split())[:200]}")
        return float(stamp.group(1)) - (time.time() - time.monotonic())
