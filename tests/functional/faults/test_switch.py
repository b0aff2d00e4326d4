"""ovs-vswitchd and ovsdb-server die and return, an operator's hand deletes what is ours: one replay path heals all.

Afterwards flows and groups are those of before, read by the names of interfaces: numbers may be given out anew.
"""

import contextlib
from collections.abc import Sequence

import pytest

from devstack.labs.process import LabError, wait_for
from devstack.labs.vm import Vm
from tests.functional.faults.looking import Meter, picture, same_again, settled
from tests.functional.faults.traffic import Traffic, lost_nothing
from tests.functional.verbs import World

pytestmark = pytest.mark.alone


def populated(world: World) -> tuple[Vm, Vm, Vm]:
    """A port on each host of an overlay, and one of a VLAN on hv1."""
    blue = world.network("geneve")
    return world.port(blue, "hv1"), world.port(blue, "hv2"), world.port(world.network("vlan"), "hv1")


def reachable(source: Vm, target: Vm, timeout: float = 20.0) -> None:
    wait_for("packets", lambda: source.ping(target.address(), 1, wait=0.2) == 1, timeout)


def no_bridge(world: World, name: str) -> bool:
    with contextlib.suppress(LabError):
        return "sv-geneve" not in world.hypervisor(name).run("ovs-vsctl", "list-ports", "br-int")
    return True


@pytest.mark.parametrize("daemons", (("ovsdb", "vswitchd"), ("vswitchd", "ovsdb")), ids="-".join)
def test_both_daemons_killed_in_either_order(two: World, daemons: Sequence[str]) -> None:
    """Both are killed, and started: flows are as before, packets pass, the agent is the same process."""
    a, b, _ = populated(two)
    host = two.hypervisor("hv1")
    before, pid = picture(host), host.daemons["agent"].pid
    for daemon in daemons:
        host.kill(daemon)
    for daemon in ("ovsdb", "vswitchd"):
        host.start(daemon)
    same_again(host, before)
    reachable(a, b)
    assert host.daemons["agent"].pid == pid
    assert host.status()["problems"] == []


@pytest.mark.parametrize("end", ("stop", "kill"))
def test_a_database_restart_changes_nothing(two: World, end: str) -> None:
    """ovsdb-server alone ends and returns: no packet is lost, no flow-mod sent, and plugs after it work.

    Packets may be late: vswitchd's main thread, which is the userspace datapath without PMD threads, rests until it has
    the database's lock again. In the kernel's datapath they pass meanwhile.
    """
    a, b, _ = populated(two)
    host = two.hypervisor("hv1")
    before = picture(host)
    meter = Meter(host)
    with Traffic(a, b) as traffic:
        getattr(host, end)("ovsdb")
        host.start("ovsdb")
        spent = meter.spent()
        lost_nothing(traffic.finish(), delayed=True)
    assert spent.flow_mods == spent.bundles == 0, spent
    same_again(host, before)
    c = two.port(two.network("vxlan"), "hv1")
    assert two.status(c) == "ACTIVE"


def test_what_happened_while_agent_and_switch_were_dead(two: World) -> None:
    """The agent is dead while the switch is restarted and a VM is plugged: its next start makes all of it so."""
    a, b, _ = populated(two)
    host = two.hypervisor("hv1")
    before = picture(host)
    late = two.bound(two.network("geneve"), "hv1")
    host.kill("agent")
    host.kill("vswitchd")
    host.start("vswitchd")
    vm = two.lab.plug(late["id"], "hv1", active=None)
    host.start("agent")
    two.lab.wait_status(vm.port, "ACTIVE", 20)
    reachable(a, b)
    two.delete_port(vm.port)
    same_again(host, before)


def test_a_deleted_bridge_is_made_again(two: World) -> None:
    """An operator deletes br-int: it is there again with its tunnels and patches, and once the VMs' interfaces are
    plugged again (by whoever plugged them) flows, groups and conntrack zones are those of before."""
    a, b, c = populated(two)
    host = two.hypervisor("hv1")
    before = picture(host)
    host.run("ovs-vsctl", "del-br", "br-int")
    wait_for("br-int", lambda: not no_bridge(two, "hv1"), 20)
    for vm in (a, c):
        two.lab.commit_plug(vm)
    same_again(host, before)
    reachable(a, b)
    for vm in (a, b, c):
        two.lab.wait_status(vm.port, "ACTIVE")


@pytest.mark.parametrize("interface", ("sv-geneve", "sv-i-physnet1", "sv-p-physnet1"))
def test_a_deleted_interface_of_ours_is_made_again(two: World, interface: str) -> None:
    """A tunnel's port, or either end of a patch, is deleted by hand: it is made again, and its flows are there."""
    a, b, _ = populated(two)
    host = two.hypervisor("hv1")
    before = picture(host)
    bridge = "br-ex" if interface == "sv-p-physnet1" else "br-int"
    host.run("ovs-vsctl", "del-port", bridge, interface)
    same_again(host, before)
    reachable(a, b)
    assert settled(host)["problems"] == []


def test_a_vms_interface_deleted_by_hand(two: World) -> None:
    """The port is DOWN as long as it is away, and nobody else notices; plugged again, all is as before."""
    a, b, c = populated(two)
    host = two.hypervisor("hv1")
    before = picture(host)
    with Traffic(a, b) as traffic:
        host.run("ovs-vsctl", "del-port", "br-int", c.want.tap)
        two.lab.wait_status(c.port, "DOWN")
        two.lab.commit_plug(c)
        two.lab.wait_status(c.port, "ACTIVE")
        lost_nothing(traffic.finish())
    same_again(host, before)
