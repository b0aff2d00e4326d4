"""The life of a port: bound or claimed, plugged before or after, moved, changed, and gone without a trace."""

import pytest

from devstack.labs.process import wait_for
from tests.functional.verbs import SETTLE, World, wait_empty


def test_deleting_a_port_leaves_nothing_behind(three: World) -> None:
    """The last port of a host takes all flows, groups and tunnels to it along, there and at its peers."""
    blue = three.network("geneve")
    a, b, c = (three.port(blue, on) for on in ("hv1", "hv2", "hv3"))
    assert three.ping(a, b)
    assert three.ping(a, c)
    three.delete_port(c.port)
    wait_empty(three.hypervisor("hv3"))
    at_peer = three.hypervisor("hv1")

    def mentions() -> list[str]:
        return [line for line in at_peer.flows() + at_peer.groups() if "10.255.0.3" in line or c.want.mac in line]

    wait_for("hv1 to forget hv3", lambda: not mentions(), 5)
    assert three.ping(a, b)
    for vm in (a, b):
        three.delete_port(vm.port)
    for hypervisor in three.hypervisors:
        wait_empty(hypervisor)


def test_a_port_deleted_while_its_vm_runs_is_cut_off(three: World) -> None:
    """DELETE with the interface still plugged: no flow is left, and the VM hears and says nothing."""
    blue = three.network("geneve")
    a, b = three.port(blue, "hv1"), three.port(blue, "hv2")
    assert three.ping(a, b)
    three.api.delete("port", b.port)
    wait_empty(three.hypervisor("hv2"))
    assert not three.ping(a, b.address(), patience=SETTLE)
    assert not three.ping(b, a.address(), patience=SETTLE)
    three.lab.unplug(b.port)


def test_bound_before_the_plug(three: World) -> None:
    """The host is told of the port first: with the plug, it is wired."""
    blue = three.network("geneve")
    a, port = three.port(blue, "hv1"), three.bound(blue, "hv2")
    vm = three.lab.prepare_vm(port["id"], "hv2")
    assert not three.ping(a, vm.address(), patience=SETTLE)
    three.lab.commit_plug(vm)
    three.lab.wait_status(vm.port, "ACTIVE")
    assert three.ping(a, vm)


def test_plugged_before_it_is_bound(three: World) -> None:
    """No binding says where the port belongs: the agent that sees its interface claims it, and REST tells where."""
    blue = three.network("geneve")
    a, port = three.port(blue, "hv1"), three.bound(blue, None)
    assert not port["binding:host_id"]
    vm = three.lab.plug(port["id"], "hv2")
    assert three.api.show("port", port["id"])["binding:host_id"] == "hv2"
    assert three.ping(a, vm)


def test_plugged_before_it_exists(three: World) -> None:
    """An interface with the id of a port that is made only later joins as soon as the port says that it is here."""
    blue = three.network("geneve")
    a, first = three.port(blue, "hv1"), three.bound(blue, "hv1")
    vm = three.lab.prepare_vm(first["id"], "hv2")
    three.lab.commit_plug(vm)  # bound to hv1, plugged on hv2
    assert not three.ping(a, vm.address(), patience=SETTLE)
    assert three.status(vm) == "DOWN"
    three.api.update("port", vm.port, **{"binding:host_id": "hv2"})
    three.lab.wait_status(vm.port, "ACTIVE")
    assert three.ping(a, vm)


@pytest.mark.parametrize("kind", ("geneve", "vlan"))
def test_moving_to_another_host(three: World, kind: str) -> None:
    """Unplugged here, bound and plugged there: peers find it at its new place, the old one keeps nothing."""
    blue = three.network(kind)
    a, b = three.port(blue, "hv1"), three.port(blue, "hv2")
    assert three.ping(a, b)
    three.api.update("port", b.port, **{"binding:host_id": "hv3"})
    moved = three.lab.move_vm(b.port, "hv3")
    three.lab.wait_status(b.port, "ACTIVE")
    assert three.ping(a, moved)
    assert three.ping(moved, a)
    wait_empty(three.hypervisor("hv2"))


def test_a_claimed_port_is_claimed_anew_elsewhere(three: World) -> None:
    """Nobody bound it; unplugged on one host and plugged on another it follows by itself."""
    blue = three.network("vxlan")
    a, port = three.port(blue, "hv1"), three.bound(blue, None)
    assert three.ping(a, three.lab.plug(port["id"], "hv2"))
    three.lab.unplug(port["id"])
    three.lab.wait_status(port["id"], "DOWN")
    vm = three.lab.plug(port["id"], "hv3")
    assert three.ping(a, vm)
    wait_empty(three.hypervisor("hv2"))


def test_two_agents_do_not_share_a_port(three: World) -> None:
    """The same iface-id on two hypervisors: only where the port is bound it works."""
    blue = three.network("geneve")
    a, b = three.port(blue, "hv1"), three.port(blue, "hv2")
    thief = three.hypervisor("hv3")
    thief.run(
        "ovs-vsctl",
        "add-port",
        "br-int",
        "thief0",
        "--",
        "set",
        "Interface",
        "thief0",
        "type=internal",
        f"external_ids:iface-id={b.port}",
    )
    try:
        assert three.ping(a, b)
        assert not thief.flows()
        assert three.api.show("port", b.port)["binding:host_id"] == "hv2"
    finally:
        thief.run("ovs-vsctl", "del-port", "br-int", "thief0")


@pytest.mark.parametrize("what", ("port", "network"))
def test_down_by_the_administrator_is_down(three: World, what: str) -> None:
    """admin_state_up off: neither sends nor receives; on again: as before."""
    blue = three.network("geneve")
    a, b = three.port(blue, "hv1"), three.port(blue, "hv2")
    assert three.ping(a, b)
    identity = b.port if what == "port" else blue["id"]
    three.api.update(what, identity, admin_state_up=False)
    wait_for("silence", lambda: not b.ping(a.address(), 1, wait=0.1), 5)
    assert not three.ping(a, b.address(), patience=SETTLE)
    three.api.update(what, identity, admin_state_up=True)
    wait_for("its return", lambda: b.ping(a.address(), 1, wait=0.1) == 1, 5)
    assert three.ping(a, b)


def test_new_addresses_work_and_old_ones_do_not(three: World) -> None:
    """fixed_ips change under a running VM: the guard and the responders follow."""
    blue = three.network("geneve")
    a, b = three.port(blue, "hv1"), three.port(blue, "hv2", "10.0.0.20")
    assert three.ping(a, "10.0.0.20")
    b.run("ip", "addr", "add", "10.0.0.21/24", "dev", "eth0")
    assert not three.ping(a, "10.0.0.21", patience=SETTLE)
    subnet = next(fixed["subnet_id"] for fixed in three.api.show("port", b.port)["fixed_ips"])
    three.api.update("port", b.port, fixed_ips=[{"subnet_id": subnet, "ip_address": "10.0.0.21"}])
    wait_for("the new address", lambda: a.ping("10.0.0.21", 1, wait=0.1) == 1, 5)
    a.run("ip", "neigh", "flush", "dev", "eth0")
    assert not three.ping(a, "10.0.0.20", patience=SETTLE)
