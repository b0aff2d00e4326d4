"""The verbs of the functional tests, the same everywhere: network, port, hypervisor, group, ping.

    blue, web = world.network("geneve"), world.group(allow("tcp", 80))
    a, b = world.port(blue, "hv1"), world.port(blue, "hv2", security_groups=[web])
    assert world.ping(a, b)

`World` remembers what it made. At the end of each test everything is deleted again, and no hypervisor may keep a flow,
a group or a namespace of it: so every test tests deletion too.
"""

import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from devstack.labs.api import Refused, Resource
from devstack.labs.hypervisor import Hypervisor
from devstack.labs.lab import Lab
from devstack.labs.process import LabError, wait_for
from devstack.labs.vm import Vm

V4, V6 = "10.0.0.0/24", "fd00:10::/64"

POOL = 100, 120
"""Last parts of the addresses that the API hands out; all others are the tests' own."""

SETTLE = 0.3
"""Seconds in which a packet that is on its way would have arrived."""


def allow(
    protocol: str | None = None,
    first: int | None = None,
    last: int | None = None,
    *,
    direction: str = "ingress",
    version: int = 4,
    cidr: str | None = None,
    group: str | None = None,
    addresses: str | None = None,
) -> Resource:
    """The body of a rule. `first` alone is one port, or an ICMP type; the remote side is everybody unless said."""
    icmp = protocol in {"icmp", "ipv6-icmp"}
    found = {
        "direction": direction,
        "ethertype": f"IPv{version}",
        "protocol": protocol,
        "port_range_min": first,
        "port_range_max": last if icmp or last is not None else first,
        "remote_ip_prefix": cidr,
        "remote_group_id": group,
        "remote_address_group_id": addresses,
    }
    return {name: value for name, value in found.items() if value is not None}


OPEN = tuple(allow(direction=direction, version=version) for direction in ("ingress", "egress") for version in (4, 6))
"""Rules of a group to which nothing is forbidden."""


class World:
    """A lab that is up, and what a test has made in it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.api = lab.api
        self._networks: list[str] = []
        self._groups: list[str] = []
        self._addresses: list[str] = []

    # The verbs

    def hypervisor(self, name: str) -> Hypervisor:
        return self.lab.hypervisor(name)

    @property
    def hypervisors(self) -> list[Hypervisor]:
        return list(self.lab.hypervisors.values())

    def network(self, kind: str = "geneve", *cidrs: str, **attributes: Any) -> Resource:
        """A network of a type, with a subnet per CIDR (default: one of IPv4 and one of IPv6)."""
        words = {"provider:network_type": kind} | attributes
        if kind in {"vlan", "flat"}:
            words.setdefault("provider:physical_network", "physnet1")
        made = self.api.create("network", **words)
        self._networks.append(made["id"])
        for cidr in cidrs or (V4, V6):
            version = 6 if ":" in cidr else 4
            prefix = cidr.partition("/")[0].removesuffix("0" if version == 4 else "")
            pool = [{"start": f"{prefix}{POOL[0]}", "end": f"{prefix}{POOL[1]}"}]
            self.api.create("subnet", network_id=made["id"], cidr=cidr, ip_version=version, allocation_pools=pool)
        return made

    def bound(self, network: Resource, on: str | None, **attributes: Any) -> Resource:
        """A port that is bound to a hypervisor (None: to none), without a VM."""
        words = {"binding:host_id": on} if on else {}
        return self.api.create("port", network_id=network["id"], **words, **attributes)

    def port(self, network: Resource, on: str, *addresses: str, **attributes: Any) -> Vm:
        """A port with a VM that is plugged on a hypervisor, and ACTIVE."""
        if addresses:
            attributes["fixed_ips"] = [{"ip_address": address} for address in addresses]
        return self.lab.plug(self.bound(network, on, **attributes)["id"], on)

    def group(self, *rules: Resource, egress: bool = True, **attributes: Any) -> str:
        """The id of a security group with these rules. `egress`: what a new group has, it lets everything out."""
        made = self.api.create("security_group", **{"name": "of a test"} | attributes)
        self._groups.append(made["id"])
        if not egress:
            for rule in made["security_group_rules"]:
                self.api.delete("security_group_rule", rule["id"])
        self.rules(made["id"], *rules)
        return str(made["id"])

    def rules(self, group: str, *rules: Resource) -> list[str]:
        """Rules are added to a group, all at once; their ids."""
        if not rules:
            return []
        bodies = [{"security_group_id": group} | rule for rule in rules]
        return [made["id"] for made in self.api.create_many("security_group_rule", bodies)]

    def unrule(self, *rules: str) -> None:
        for rule in rules:
            self.api.delete("security_group_rule", rule)

    def gone(self, network: str) -> None:
        """A test has deleted this network by itself."""
        self._networks.remove(network)

    def ungroup(self, group: str) -> None:
        """Delete a group that no port is in."""
        self.api.delete("security_group", group)
        self._groups.remove(group)

    def addresses(self, *prefixes: str) -> str:
        """The id of an address group."""
        made = self.api.create("address_group", name="of a test", addresses=list(prefixes))
        self._addresses.append(made["id"])
        return str(made["id"])

    def regroup(self, vm: Vm, *groups: str) -> None:
        """The port's groups are these from now on."""
        self.api.update("port", vm.port, security_groups=list(groups))

    def ping(self, source: Vm, target: Vm | str, version: int = 4, *options: str, patience: float = 1.0) -> bool:
        """Whether an echo request is answered within `patience` seconds."""
        address = target if isinstance(target, str) else target.address(version)
        return source.ping(address, 1, 0.2, patience, *options) == 1

    # Looking

    def hear(self, listeners: Sequence[Vm], sender: Vm, *frames: bytes) -> list[list[bytes]]:
        """What each listener's interface receives from before `sender` sends `frames` until they have settled."""
        ears = [vm.packet_socket() for vm in listeners]
        try:
            self.send(sender, *frames)
            time.sleep(SETTLE)
            return [drain(ear) for ear in ears]
        finally:
            for ear in ears:
                ear.close()

    def send(self, sender: Vm, *frames: bytes) -> None:
        """Put Ethernet frames on the sender's wire."""
        with sender.packet_socket() as mouth:
            for frame in frames:
                mouth.send(frame)

    def status(self, vm: Vm) -> str:
        return str(self.api.show("port", vm.port)["status"])

    def check(self, *hosts: str) -> list[str]:
        """What `selvedge check` finds, one line each; none: all is equal."""
        return self.lab.differences(*hosts)

    # The end

    def delete_port(self, port: str) -> None:
        """The port's VM, if any, and the port."""
        if port in self.lab.vms:
            self.lab.unplug(port)
        try:
            self.api.delete("port", port)
        except Refused as error:
            if error.status != 404:
                raise

    def clear(self) -> None:
        """Delete everything, and wait until no hypervisor has a flow or a group of it (LabError: which, and what)."""
        for network in self._networks:
            for port in self.api.list("ports", network_id=network):
                self.delete_port(port["id"])
        for network in self._networks:
            self.api.delete("network", network)
        for group in self._groups:
            self.api.delete("security_group", group)
        for addresses in self._addresses:
            self.api.delete("address_group", addresses)
        for made in (self._networks, self._groups, self._addresses):
            made.clear()
        for hypervisor in self.hypervisors:
            wait_empty(hypervisor)


def drain(ear: socket.socket) -> list[bytes]:
    """Received frames; those that the kernel of the same guest sent are left out (packet(7), PACKET_OUTGOING)."""
    ear.setblocking(False)
    frames: list[bytes] = []
    while True:
        try:
            frame, address = ear.recvfrom(65535)
        except BlockingIOError:
            return frames
        if address[2] != socket.PACKET_OUTGOING:
            frames.append(frame)


def wait_empty(hypervisor: Hypervisor, timeout: float = 5.0) -> None:
    """Return once br-int has no flow and no group; LabError names what is left."""
    try:
        wait_for(hypervisor.name, lambda: not hypervisor.flows() and not hypervisor.groups(), timeout, 0.05)
    except LabError:
        left = "\n".join(hypervisor.flows() + hypervisor.groups())
        raise LabError(f"{hypervisor.name} still has, {timeout:g} s after everything was deleted:\n{left}") from None


def lost_while(source: Vm, target: Vm, act: Callable[[], None], interval: float = 0.005) -> tuple[int, int]:
    """(sent, received) echo requests of a ping that runs while `act` does."""
    words = ["ping", "-n", "-q", "-i", str(interval), target.address()]
    process = source.start(*words)
    try:
        time.sleep(0.2)
        act()
        time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGINT)
    output = process.communicate()[0]
    counts = [int(word) for word in output.rpartition("---")[2].replace(",", " ").split() if word.isdigit()]
    return counts[0], counts[1]
