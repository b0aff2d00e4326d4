"""`make demo`: the whole road in a minute, on a lab that is made for it and taken down afterwards.

Three hypervisors; a Geneve, a VXLAN and a VLAN network, each with IPv4 and IPv6, the first two with the same addresses;
VMs plugged one by one while another VM already pings for them (they are all in the project's default security group, so
they may); a web server with a group of its own, whose one rule comes and goes; what must not pass does not. Whatever
goes wrong ends in a non-zero exit code, the reason, and the ends of the logs. KEEP=1 leaves the lab up.
"""

import contextlib
import os
import re
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from devstack.labs.cli import HOME
from devstack.labs.lab import Lab
from devstack.labs.process import LabError
from devstack.labs.vm import Vm


@dataclass(frozen=True)
class Plan:
    """A network of the demo: its name, provider attributes, subnets, and on which hypervisors its VMs are."""

    name: str
    kind: str
    cidrs: tuple[str, str]
    hosts: tuple[str, ...]


PLANS = (
    Plan("blue", "geneve", ("10.0.0.0/24", "fd00:10::/64"), ("hv1", "hv1", "hv2", "hv3")),
    Plan("green", "vxlan", ("10.0.0.0/24", "fd00:10::/64"), ("hv1", "hv2", "hv3", "hv3")),
    Plan("red", "vlan", ("10.2.0.0/24", "fd00:12::/64"), ("hv2", "hv3", "hv3")),
)

ONLY_IN_GREEN = ("10.0.0.177", "fd00:10::177")
"""Addresses of green's last VM."""

SPOOFED = "10.0.0.200"

WEB = 80
"""The web server's port."""

POOL = {4: ("11", "99"), 6: ("11", "99")}
"""Last parts of the addresses that the API hands out; those above belong to nobody but whom the script says."""


@dataclass
class Shown:
    """A row of the table."""

    network: Plan
    vm: Vm
    first_reply: float | None = None
    group: str = "default"


class Demo:
    """The script, step by step; every step that does not come out as it should raises LabError."""

    def __init__(self, lab: Lab, console: Console) -> None:
        self.lab = lab
        self.console = console
        self.rows: list[Shown] = []
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self.began:5.1f} s[/dim]  {text}", soft_wrap=True)

    def run(self) -> None:
        self.say("bringing up RabbitMQ, a controller, three hypervisors …")
        self.lab.progress = self.say
        self.lab.up(hypervisors=3)
        self.say(f"the API is at [bold]{self.lab.api.url}[/bold]")
        for plan in PLANS:
            self.network(plan)
        for plan in PLANS:
            self.pings(plan)
        self.walls()
        self.spoof()
        self.groups()
        self.table()

    def network(self, plan: Plan) -> None:
        """Make one network and plug its VMs, each while the one before it asks for it already."""
        api = self.lab.api
        network = api.create("network", name=plan.name, **{"provider:network_type": plan.kind})
        for cidr in plan.cidrs:
            version = 6 if ":" in cidr else 4
            first, last = POOL[version]
            prefix = cidr.partition("/")[0].removesuffix("0" if version == 4 else "")
            pool = {"start": f"{prefix}{first}", "end": f"{prefix}{last}"}
            api.create("subnet", network_id=network["id"], cidr=cidr, ip_version=version, allocation_pools=[pool])
        self.say(
            f"network [bold]{plan.name}[/bold]: {plan.kind} {network['provider:segmentation_id']}, "
            f"MTU {network['mtu']}, {' and '.join(plan.cidrs)}; {len(plan.hosts)} VMs on {', '.join(plan.hosts)}"
        )
        before: Vm | None = None
        for number, host in enumerate(plan.hosts, start=1):
            more: dict[str, Any] = {"binding:host_id": host}
            if plan.name == "green" and number == len(plan.hosts):
                more["fixed_ips"] = [{"ip_address": address} for address in ONLY_IN_GREEN]
            port = api.create("port", network_id=network["id"], **more)
            vm = self.lab.prepare_vm(port["id"], host)
            row = Shown(plan, vm)
            if before is None:
                self.lab.commit_plug(vm)
            else:
                probe = before.probe(vm.address(4))
                plugged = self.lab.commit_plug(vm)
                row.first_reply = (probe.wait() - plugged) * 1000
            self.lab.wait_status(vm.port, "ACTIVE")
            self.rows.append(row)
            before = vm

    def pings(self, plan: Plan) -> None:
        """From the first VM of a network to all others: both families, and packets as large as the MTU."""
        rows = [row for row in self.rows if row.network is plan]
        first = rows[0].vm
        for row in rows[1:]:
            for version, header in ((4, 28), (6, 48)):
                size = str(first.want.mtu - header)
                for options in ((), ("-M", "do", "-s", size)):
                    if first.ping(row.vm.address(version), 2, 0.01, 2.0, *options) != 2:
                        what = f"IPv{version}{' of full size' if options else ''}"
                        raise LabError(f"{plan.name}: no {what} between {first.hypervisor} and {row.vm.hypervisor}")
        across = sum(row.vm.hypervisor != first.hypervisor for row in rows[1:])
        self.say(
            f"[bold]{plan.name}[/bold]: {len(rows) - 1} pairs ping over IPv4 and IPv6, up to {first.want.mtu} bytes "
            f"({across} across hypervisors, {len(rows) - 1 - across} on one) [green]✓[/green]"
        )

    def walls(self) -> None:
        """Blue and green have the same addresses; what only green has, blue must not reach."""
        for network, expected in (("green", 1), ("blue", 0)):
            asking = next(row.vm for row in self.rows if row.network.name == network)
            if asking.ping(ONLY_IN_GREEN[0], 1, wait=0.5) != expected:
                raise LabError(
                    f"{ONLY_IN_GREEN[0]} of green {'answers' if expected == 0 else 'is silent'} in {network}"
                )
        self.say(
            f"{ONLY_IN_GREEN[0]} is in green: green reaches it, blue, with the same subnet, does not [green]✓[/green]"
        )

    def spoof(self) -> None:
        """A VM of blue sends from an address that is not its own: nobody hears it."""
        sender, _, receiver = [row.vm for row in self.rows if row.network.name == "blue"][:3]
        target = receiver.address(4)
        sender.run("ip", "addr", "add", f"{SPOOFED}/32", "dev", "eth0")
        ear = receiver.packet_socket()
        try:
            answered = sender.ping(target, 3, 0.05, 0.3, "-I", SPOOFED)
            honest = sender.ping(target, 1)
            frames = heard(ear)
        finally:
            ear.close()
            sender.run("ip", "addr", "del", f"{SPOOFED}/32", "dev", "eth0")
        forged = [frame for frame in frames if frame[26:30] == socket.inet_aton(SPOOFED)]
        if answered or forged or not honest:
            raise LabError(f"of 3 packets from {SPOOFED}, {len(forged)} reached {target}; of 1 honest packet {honest}")
        self.say(
            f"3 packets from the forged address {SPOOFED}: none reached {target}; the honest one did [green]✓[/green]"
        )

    def groups(self) -> None:
        """A web server in a group without rules; a rule lets the others in; it goes, and what it let in is cut."""
        api = self.lab.api
        before = [row for row in self.rows if row.network.name == "blue"]
        client = before[0].vm
        network, default = (api.show("port", client.port)[name] for name in ("network_id", "security_groups"))
        web = api.create("security_group", name="web")["id"]
        port = api.create("port", network_id=network, security_groups=[web], **{"binding:host_id": "hv2"})
        server = self.lab.plug(port["id"], "hv2")
        self.rows.insert(self.rows.index(before[-1]) + 1, Shown(before[0].network, server, group="web"))
        with server.open_socket(socket.AF_INET, socket.SOCK_STREAM) as door:
            door.bind(("", WEB))
            door.listen()
            door.settimeout(1)
            if connection(client, server, 0.3) or client.ping(server.address(4), 1, wait=0.3):
                raise LabError(f"{server.address(4)} is in a group without rules and answers")
            self.say(
                f"{server.address(4)} is in the new group web, which lets nobody in: it is silent [green]✓[/green]"
            )
            began = time.monotonic()
            body = {"security_group_id": web, "direction": "ingress", "protocol": "tcp", "remote_group_id": default[0]}
            rule = api.create("security_group_rule", port_range_min=WEB, port_range_max=WEB, **body)
            while not (near := connection(client, server, 0.02)):
                if time.monotonic() - began > 5:
                    raise LabError(f"TCP {WEB} of {server.address(4)} is closed after a rule that opens it")
            opened = time.monotonic() - began
            far = door.accept()[0]
            if client.ping(server.address(4), 1, wait=0.3):
                raise LabError(f"{server.address(4)} answers to a ping, which no rule allows")
            self.say(
                f"a rule lets members of the default group in to TCP {WEB}: {opened * 1000:.0f} ms after it was asked "
                "for they are connected; ping is still silent [green]✓[/green]"
            )
            with near, far:
                if not (carries(near, far) and carries(far, near)):
                    raise LabError(f"the connection to {server.address(4)} carries nothing")
                began = time.monotonic()
                api.delete("security_group_rule", rule["id"])
                while carries(near, far) or carries(far, near):
                    if time.monotonic() - began > 5:
                        raise LabError(f"the connection to {server.address(4)} outlives the rule that allowed it")
            self.say("the rule is deleted: the established connection is cut at once, both ways [green]✓[/green]")

    def table(self) -> None:
        """What there is now."""
        made = Table("network", "port", "host", "addresses", "group", "status", "first reply", "flows")
        for row in self.rows:
            port = self.lab.api.show("port", row.vm.port)
            if port["status"] != "ACTIVE":
                raise LabError(f"port {row.vm.port} is {port['status']}")
            made.add_row(
                row.network.name,
                row.vm.port[:8],
                row.vm.hypervisor,
                " ".join(row.vm.addresses),
                row.group,
                port["status"],
                "–" if row.first_reply is None else f"{row.first_reply:.0f} ms",
                str(self.flows_of(row.vm)),
                end_section=row is [other for other in self.rows if other.network is row.network][-1],
            )
        self.console.print(made)
        self.console.print(
            "[dim]first reply: from the plug (one OVSDB transaction) to the first answer to the ping of the VM before "
            "it.\nflows: those with the port's cookie on its host; the rest there are its networks' and peers'.[/dim]"
        )
        for name, hypervisor in self.lab.hypervisors.items():
            self.say(f"{name} has {len(hypervisor.flows())} flows and {len(hypervisor.groups())} groups")

    def flows_of(self, vm: Vm) -> int:
        """Flows with the cookie of the VM's port: the one that classifies its interface tells which that is."""
        hypervisor = self.lab.hypervisor(vm.hypervisor)
        ofport = hypervisor.run("ovs-vsctl", "get", "Interface", vm.want.tap, "ofport").strip()
        flows = hypervisor.flows()
        cookies = [re.search(r"cookie=(\w+)", flow) for flow in flows if re.search(rf"\bin_port={ofport}\b", flow)]
        if not cookies or cookies[0] is None:
            raise LabError(f"{vm.hypervisor} has no flow for {vm.want.tap}")
        return sum(f"cookie={cookies[0].group(1)}," in flow for flow in flows)


def connection(source: Vm, target: Vm, patience: float) -> socket.socket | None:
    """A TCP connection to the target's web server; None if there is none within `patience` seconds."""
    near = source.open_socket(socket.AF_INET, socket.SOCK_STREAM)
    near.settimeout(patience)
    try:
        near.connect((target.address(4), WEB))
    except OSError:
        near.close()
        return None
    return near


def carries(mouth: socket.socket, ear: socket.socket) -> bool:
    """Whether what one end says now comes out of the other soon."""
    ear.settimeout(0.2)
    try:
        mouth.send(b".")
        return bool(ear.recv(1000))
    except OSError:
        return False


def heard(ear: socket.socket) -> list[bytes]:
    """Frames that a packet socket has received so far."""
    ear.setblocking(False)
    frames = []
    while True:
        try:
            frames.append(ear.recv(2048))
        except BlockingIOError:
            return frames


def main() -> int:
    console = Console(highlight=False)
    if os.geteuid() != 0:
        print("demo: network namespaces need root; run it as root", file=sys.stderr)
        return 1
    state = Path(os.environ.get("STATE") or HOME / ".lab")
    keep = bool(os.environ.get("KEEP"))
    lab = Lab(state)
    if lab.is_up:
        print(f"demo: there is a lab under {state} already; 'devstack/lab down' removes it", file=sys.stderr)
        return 1
    demo = Demo(lab, console)
    code = 1
    try:
        demo.run()
        code = 0
    except LabError as error:
        console.print(f"[red]demo: {error}[/red]", soft_wrap=True)
        with contextlib.suppress(LabError):
            print(lab.story(), file=sys.stderr)
    except KeyboardInterrupt:
        console.print("demo: interrupted")
    finally:
        if keep:
            port = demo.rows[-1].vm.port[:13] if demo.rows else "PORT_ID"
            console.print(  # what a newcomer would like to do next
                "The lab stays up. Try:\n"
                "    devstack/lab status\n"
                f"    curl -s {lab.api.url}/v2.0/ports\n"
                f"    devstack/lab exec {port} -- ip addr\n"
                "    devstack/lab hv hv1 -- ovs-ofctl -O OpenFlow14 dump-flows br-int\n"
                "    devstack/lab down"
                if lab.is_up
                else "There is no lab to keep.",
                soft_wrap=True,
            )
        else:
            lab.down()
            demo.say("everything is taken down")
    return code


if __name__ == "__main__":
    sys.exit(main())
