"""Hypervisors as Mininet nodes: the lab's recipe, in Mininet's namespaces, joined by Mininet's links.

    net = Mininet(controller=None)
    hv1 = net.addHost("hv1", cls=HypervisorNode)      … links to underlay, provider and management wires …
    hv1.recipe(state=…, tunnel="10.255.0.1/16", …).start_switch()

`MininetGround` does that for a whole lab: it is a `ground.Ground`, so `Lab(state, MininetGround(names))` is the same
lab with the same verbs, and `ground.net` is the Mininet network, whose nodes a test may use as it uses any other.
Mininet cannot find its nodes again in another process: such a lab lives as long as the process that made it.
"""

import logging
from pathlib import Path
from typing import Any

from mininet.link import Link
from mininet.net import Mininet
from mininet.node import Node

from devstack.labs import netns
from devstack.labs.ground import DEAF, WIRES, chosen_management, hush, management_address
from devstack.labs.hypervisor import Hypervisor

# Mininet makes every later logger of the process print on the terminal, without newlines; that is not its business.
logging.setLoggerClass(logging.Logger)


class WireNode(Node):  # type: ignore[misc]  # Mininet has no types
    """A layer-2 wire: a kernel bridge in a namespace of its own, without a VLAN table."""

    def __init__(self, name: str, **parameters: Any) -> None:
        super().__init__(name, **parameters)
        hush(namespace(self))
        self.cmd(f"ip link add {name} type bridge forward_delay 0 mcast_snooping 0 && ip link set {name} up")

    def attach(self, interface: str) -> None:
        """One of our interfaces becomes a port of the bridge."""
        self.cmd(f"ip link set {interface} master {self.name} up")


class HypervisorNode(Node):  # type: ignore[misc]
    """A host that runs Open vSwitch and Selvedge's agent; see `hypervisor` for the interfaces that it needs."""

    def __init__(self, name: str, **parameters: Any) -> None:
        super().__init__(name, **parameters)
        hush(namespace(self))

    def recipe(self, **what: Any) -> Hypervisor:
        """The lab's recipe in this node's namespace; takes the keywords of `Hypervisor`."""
        return Hypervisor(self.name, namespace=namespace(self), **what)


class VmNode(Node):  # type: ignore[misc]
    """A guest: its eth0 is a link to a tap on its hypervisor's node."""


def namespace(node: Any) -> Path:
    """Where the network namespace of a Mininet node is, while it lives."""
    return Path(f"/proc/{node.pid}/ns/net")


class MininetGround:
    """A lab's ground made of Mininet nodes and links; see `ground.Ground`."""

    def __init__(self, names: netns.Names) -> None:
        self.names = names
        self.management = ""
        self.net = Mininet(controller=None)
        self._wires: dict[str, Any] = {}

    def open(self) -> None:
        self._wires = {wire: self.net.addHost(wire, cls=WireNode) for wire in WIRES}
        machine = self.net.addHost("machine", cls=Node, inNamespace=False)
        self.net.addLink(
            machine, self._wires["mgmt"], cls=Link, intfName1=self.names.management, intfName2="machine-mgmt"
        )
        self._wires["mgmt"].attach("machine-mgmt")
        with chosen_management(self.names) as self.management:
            machine.cmd(f"ip addr add {self.management}/24 dev {self.names.management}")
        machine.cmd(f"ip link set {self.names.management} up")

    def hypervisor(self, name: str, number: int) -> Path:
        node = self.net.addHost(name, cls=HypervisorNode)
        for wire, bridge in self._wires.items():
            self.net.addLink(node, bridge, cls=Link, intfName1=f"{wire}0", intfName2=f"{wire}-{name}")
            bridge.attach(f"{wire}-{name}")
            node.cmd(f"ip link set {wire}0 up")
        hush(namespace(node), DEAF)
        node.cmd(f"ip link set lo up; ip addr add {management_address(self.management, number)}/24 dev mgmt0")
        return namespace(node)

    def vm(self, identity: str, hypervisor: str, tap: str, mac: str, mtu: int) -> Path:
        node = self.net.addHost(f"vm-{identity[:13]}", cls=VmNode)
        host = self.net.get(hypervisor)
        link = self.net.addLink(node, host, cls=Link, intfName1="eth0", intfName2=tap, addr1=mac)
        host.cmd(f"ip link set {tap} mtu {mtu} up")
        node.cmd(f"ip link set {link.intf1.name} down mtu {mtu}")
        return namespace(node)

    def remove_vm(self, identity: str, hypervisor: str, tap: str) -> None:
        del hypervisor, tap  # the link dies with its end in the guest
        node = self.net.get(f"vm-{identity[:13]}")
        for link in [link for link in self.net.links if node in (link.intf1.node, link.intf2.node)]:
            self.net.delLink(link)
        self.net.delHost(node)

    def close(self) -> None:
        netns.end_link(self.names.management)
        self.net.stop()
