"""Hypervisors reboot while nobody is there to tell them anything: the last known topology on their disks has to do.

The rest of a cloud that lost its power comes back later, and finds every host where the last word left it.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from agents import remembered
from agents.headless import AWAY
from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import wait_for
from devstack.labs.vm import Vm
from tests.functional.verbs import OPEN, SETTLE, World, allow


@contextmanager
def no_broker(world: World) -> Iterator[None]:
    """The broker is away until the end; then controllers that died meanwhile come back too."""
    world.lab.broker.stop()
    try:
        yield
    finally:
        world.lab.broker.start()
        start_controllers(world)


@contextmanager
def no_controllers(world: World) -> Iterator[None]:
    """Controllers are dead until the end."""
    kill_controllers(world)
    try:
        yield
    finally:
        start_controllers(world)


def start_controllers(world: World) -> None:
    for controller in world.lab.controllers.values():
        if controller.pid is None:
            controller.start()


def kill_controllers(world: World) -> None:
    for controller in world.lab.controllers.values():
        controller.kill()


def reboot(host: Hypervisor) -> None:
    """The machine's end and its begin: every process, and Open vSwitch's database, whose bridges are made anew."""
    for kind in ("agent", "vswitchd", "ovsdb"):
        host.kill(kind)
    (host.state / "conf.db").unlink()
    host.start_switch()
    host.start("agent")


def boot(world: World, *vms: Vm) -> None:
    """The host's virtual machines are started again, once it has a bridge for them."""
    for vm in vms:
        host = world.hypervisor(vm.hypervisor)
        wait_for("br-int", has_bridge(host), 10)
        host.plug(vm.want.tap, vm.port, vm.want.mac)


def has_bridge(host: Hypervisor) -> Callable[[], bool]:
    return lambda: "br-int" in host.run("ovs-vsctl", "list-br").split()


def reaches(source: Vm, target: Vm) -> Callable[[], bool]:
    return lambda: source.ping(target.address(), 1, 0.2, 0.2) == 1


def up(host: Hypervisor) -> set[str]:
    """The ports that the agent calls up in its status, which it writes once a second at most."""
    return {port for port, state in host.status().get("ports", {}).items() if state["state"] == "up"}


def headless(host: Hypervisor) -> Callable[[], bool]:
    return lambda: bool(host.status().get("headless"))


def log_since(host: Hypervisor, start: int) -> list[str]:
    with host.daemons["agent"].log.open() as file:
        file.seek(start)
        return file.read().splitlines()


def test_hypervisors_that_reboot_while_nobody_is_there_wire_what_they_knew(two: World) -> None:
    """Given two hypervisors with VMs on an overlay and on a VLAN, and a broker that went away: a port is deleted, one
    is made, a rule goes. Then the controllers die too and both machines reboot. VMs known before reach each other by
    the rules known before; the one that came later reaches nobody. When all are back the changes arrive, and the
    switches have exactly what an agent without a past makes of it."""
    hosts = [two.hypervisor(name) for name in ("hv1", "hv2")]
    opened = two.group(*OPEN, egress=False)
    web = two.group(allow("icmp"))
    (rule,) = two.rules(web, allow("icmp", cidr="10.0.0.99/32"))
    blue, green = two.network("geneve"), two.network("vlan")
    a, b = (two.port(blue, host.name, security_groups=[opened]) for host in hosts)
    c, d = (two.port(green, host.name, security_groups=[web]) for host in hosts)
    gone = two.port(blue, "hv1", security_groups=[opened])
    assert two.ping(a, b) and two.ping(c, d) and two.ping(gone, b)
    starts = [host.daemons["agent"].log.stat().st_size for host in hosts]

    with no_broker(two):
        new = two.lab.prepare_vm(two.bound(blue, "hv1", security_groups=[opened])["id"], "hv1")
        two.api.delete("port", gone.port)
        two.unrule(rule)
        kill_controllers(two)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(reboot, hosts))
        boot(two, a, b, c, d, gone, new)
        for host in hosts:
            wait_for(f"{host.name} to give up", headless(host), 10)
        for source, target in ((a, b), (b, a), (c, d), (d, c), (gone, b), (a, gone)):
            wait_for(f"a ping from {source.port} to {target.port}", reaches(source, target), 10)
        assert not two.ping(new, b, patience=SETTLE) and not two.ping(b, new, patience=SETTLE)
        for host, start in zip(hosts, starts, strict=True):
            told = host.status()
            assert (told["in_sync"], told["topology_refused"]) == (False, 0)
            assert told["problems"][0].startswith("no controller has answered: running from the last known topology")
            assert sum("no controller answers: running from" in line for line in log_since(host, start)) == 1
        wait_for("the ports to be told", lambda: up(hosts[0]) == {a.port, c.port, gone.port}, 5)

    for host in hosts:
        host.wait_in_sync(60)
    two.lab.wait_status(new.port, "ACTIVE", 60)
    wait_for("the new one's packets", lambda: new.ping(b.address(), 1, 0.2, 0.2) == 1, 10)
    assert two.ping(a, b) and two.ping(c, d)
    assert not two.ping(gone, b, patience=SETTLE)
    for vm in (a, b, c, d):
        assert two.status(vm) == "ACTIVE"
    two.lab.unplug(gone.port)
    wait_for("the counters", lambda: not headless(hosts[0])(), 5)
    assert hosts[1].status()["snapshots"] < len(hosts[1].status()["topics"]), "what did not change was not sent again"
    for host in hosts:
        time.sleep(0.5)
        flows, groups = host.flows(), host.groups()
        host.kill("agent")
        host.forget()
        host.start("agent")
        host.wait_in_sync()
        time.sleep(1.2)  # status.json is written once a second at most
        assert host.status()["flow_mods_sent"] == host.status()["group_mods_sent"] == 0
        assert (host.flows(), host.groups()) == (flows, groups)


def test_a_file_that_cannot_be_used_is_one_line_and_the_agent_waits(three: World) -> None:
    """Given files that are torn in their base, empty, and another host's, and controllers that are away: each agent
    says so once, waits, and leaves the switch as it is; packets pass meanwhile."""
    blue = three.network("geneve")
    vms = [three.port(blue, host.name) for host in three.hypervisors]
    assert three.ping(vms[0], vms[1])
    reasons = ("is damaged: a record that is cut off", "is empty", "is of host hv9, this one is hv3")
    before = [(host.flows(), host.groups()) for host in three.hypervisors]
    starts = [host.daemons["agent"].log.stat().st_size for host in three.hypervisors]
    with no_controllers(three):
        for host in three.hypervisors:
            host.kill("agent")
        files = [host.state / "agent" / "topology" for host in three.hypervisors]
        known = remembered.read(files[2].read_bytes(), "hv3")
        os.truncate(files[0], 200)
        os.truncate(files[1], 0)
        files[2].write_bytes(remembered.base("hv9", known.snapshots))
        for host in three.hypervisors:
            host.start("agent")
        time.sleep(AWAY + 2.0)
        for host, reason, state, start in zip(three.hypervisors, reasons, before, starts, strict=True):
            lines = [line for line in log_since(host, start) if "topology" in line]
            assert len(lines) == 1, lines
            assert f"/topology {reason}; starting without a last known topology" in lines[0]
            assert host.status()["headless"] is False and host.status()["topology_refused"] == 1
            assert (host.flows(), host.groups()) == state
        assert three.ping(vms[0], vms[1])
    for host, state in zip(three.hypervisors, before, strict=True):
        host.wait_in_sync(60)
        assert (host.flows(), host.groups()) == state
        wait_for("a file that can be used", usable(host), 5)


def usable(host: Hypervisor) -> Callable[[], bool]:
    """Whether the host has a file that it could start from."""

    def look() -> bool:
        try:
            return bool(remembered.read((host.state / "agent" / "topology").read_bytes(), host.name).snapshots)
        except remembered.Unusable:
            return False

    return look


def test_a_restart_with_controllers_asks_by_versions(three: World) -> None:
    """200 ports with rules: the restarted agent is sent no snapshot at all and sends nothing to the switch; what was
    written to its file meanwhile was nothing. A change that it slept through comes by its queue, or by one snapshot."""
    blue = three.network("geneve", "10.0.0.0/16")
    web = three.group(allow("tcp", 80))
    body = {"network_id": blue["id"], "binding:host_id": "hv1", "security_groups": [web]}
    three.api.create_many("port", [body | {"fixed_ips": [{"ip_address": f"10.0.1.{n}"}]} for n in range(1, 201)])
    a, b = three.port(blue, "hv1", security_groups=[web]), three.port(blue, "hv2", security_groups=[web])
    host = three.hypervisor("hv1")
    file = host.state / "agent" / "topology"
    for rules, most in (((), 0), ((allow("icmp"),), 1)):
        host.wait_in_sync()
        flows = host.flows()
        host.kill("agent")
        size = file.stat().st_size
        three.rules(web, *rules)
        host.start("agent")
        host.wait_in_sync()
        time.sleep(1.2)  # status.json is written once a second at most
        told = host.status()
        assert told["snapshots"] <= most
        if not rules:
            assert (told["flow_mods_sent"], told["group_mods_sent"]) == (0, 0)
            assert (host.flows(), file.stat().st_size) == (flows, size)
    assert three.ping(b, a)
