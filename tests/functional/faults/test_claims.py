"""One port, several hosts that believe it theirs: the database decides, the others keep quiet.

Who keeps quiet is seen on the wire: a third VM asks for the port's address, and counts the answers.
"""

import contextlib
from collections.abc import Iterator

from devstack.labs.api import Resource
from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import wait_for
from devstack.labs.vm import Vm
from tests.functional import frames
from tests.functional.faults.looking import settled, until
from tests.functional.verbs import SETTLE, World, wait_empty


@contextlib.contextmanager
def second_plug(host: Hypervisor, port: str) -> Iterator[None]:
    """The port's iface-id on one more interface."""
    words = ["ovs-vsctl", "add-port", "br-int", "twin0", "--", "set", "Interface", "twin0", "type=internal"]
    host.run(*words, f"external_ids:iface-id={port}")
    try:
        yield
    finally:
        host.run("ovs-vsctl", "--if-exists", "del-port", "br-int", "twin0")


@contextlib.contextmanager
def cut_off(host: Hypervisor) -> Iterator[None]:
    """The host hears nothing of broker and controllers, and they hear nothing of it; its VMs' wires are whole."""
    host.run("ip", "link", "set", "mgmt0", "down")
    try:
        yield
    finally:
        host.run("ip", "link", "set", "mgmt0", "up")


def answers(world: World, asker: Vm, asked: Vm) -> list[str]:
    """The MACs that say they have the address of `asked`, when `asker` asks everybody; as any kernel does, it asks
    again if there is no answer."""
    own = asker.want.mac
    question = frames.arp(own, "ff:ff:ff:ff:ff:ff", 1, (own, asker.address()), (frames.NOBODY, asked.address()))
    for _ in range(3):
        if found := _replies(world.hear([asker], asker, question)[0]):
            return found
    return []


def _replies(heard: list[bytes]) -> list[str]:
    return [
        ":".join(f"{byte:02x}" for byte in frame[22:28])
        for frame in heard
        if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02"
    ]


def bound_to(world: World, port: str) -> str:
    return str(world.api.show("port", port)["binding:host_id"])


def test_two_agents_claim_one_port_at_once(two: World) -> None:
    """Nobody bound it, and it is plugged on both hosts in one moment: one gets it, the other says why it did not and
    has no flow; when the one lets go, the other gets it."""
    blue = two.network("geneve")
    port = two.bound(blue, None)
    hosts = {host.name: host for host in two.hypervisors}
    vm = two.lab.prepare_vm(port["id"], "hv1")
    with second_plug(hosts["hv2"], port["id"]):
        two.lab.commit_plug(vm)
        wait_for("an owner", lambda: bound_to(two, port["id"]) != "", 15)
        winner = bound_to(two, port["id"])
        loser = next(host for name, host in hosts.items() if name != winner)
        until(loser, "the loser", lambda s: s["ports"].get(port["id"], {}).get("state") == "unbound", 15)
        assert "elsewhere" in loser.status()["ports"][port["id"]]["reason"]
        assert not loser.flows()
        two.lab.wait_status(port["id"], "ACTIVE")
        assert bound_to(two, port["id"]) == winner
        if winner == "hv1":
            two.lab.unplug(port["id"])
        else:
            hosts["hv2"].run("ovs-vsctl", "del-port", "br-int", "twin0")
        wait_for("the other's claim", lambda: bound_to(two, port["id"]) == loser.name, 20)
        wait_empty(hosts[winner])


def rebound_while_cut_off(world: World, blue: Resource, always: bool) -> None:
    """A port moves from hv1, which hears nothing of it, to hv2, and hv1 returns. `always`: one answer before that."""
    asker, moved = world.port(blue, "hv3"), world.port(blue, "hv1")
    old, new = world.hypervisor("hv1"), world.hypervisor("hv2")
    assert world.ping(asker, moved)
    with second_plug(new, moved.port), cut_off(old):
        for words in (f"link set twin0 address {moved.want.mac} up", f"addr add {moved.address()}/24 dev twin0"):
            new.run("ip", *words.split())
        world.api.update("port", moved.port, **{"binding:host_id": "hv2"})
        world.lab.wait_status(moved.port, "ACTIVE", 20)
        if always:
            assert answers(world, asker, moved) == [moved.want.mac]
        old.run("ip", "link", "set", "mgmt0", "up")
        wait_empty(old, 60)
        assert answers(world, asker, moved) == [moved.want.mac]
        assert world.ping(asker, moved)
        assert not world.ping(moved, asker, patience=SETTLE)  # from where it was, and is still plugged
        assert bound_to(world, moved.port) == "hv2"
        assert world.status(moved) == "ACTIVE"
        until(old, "its verdict", lambda s: s["ports"].get(moved.port, {}).get("state") == "unbound", 20)


def test_rebound_while_its_host_is_cut_off(three: World) -> None:
    """The API moves a port while its old host hears nothing: peers turn to the new one; when the old one hears again it
    withdraws everything by itself, though the VM still runs there. One answer at each moment."""
    rebound_while_cut_off(three, three.network("geneve"), always=True)


def test_rebound_on_a_wire_while_its_host_is_cut_off(three: World) -> None:
    """The same on a VLAN, where every host hears every question. A host that hears nothing of us cannot know better
    than to let its VM answer; from its return on there is one answer."""
    rebound_while_cut_off(three, three.network("vlan"), always=False)


def test_a_host_returns_with_stale_claims(three: World) -> None:
    """hv1's agent dies with a claimed port plugged, which is claimed by hv2 meanwhile; the next agent of hv1 finds the
    interface, and flows of its former life: it asks, hears no, and takes them away."""
    blue = three.network("geneve")
    port, asker = three.bound(blue, None), three.port(blue, "hv3")
    stale = three.lab.plug(port["id"], "hv1")
    old, new = three.hypervisor("hv1"), three.hypervisor("hv2")
    assert three.ping(asker, stale)
    old.kill("agent")
    three.api.update("port", port["id"], **{"binding:host_id": ""})
    with second_plug(new, port["id"]):
        wait_for("the new claim", lambda: bound_to(three, port["id"]) == "hv2", 20)
        old.start("agent")
        settled(old)
        wait_empty(old, 20)
        until(old, "its verdict", lambda s: "elsewhere" in s["ports"].get(port["id"], {}).get("reason", ""), 20)
        assert answers(three, asker, stale) == [stale.want.mac]
        assert bound_to(three, port["id"]) == "hv2"
        three.lab.wait_status(port["id"], "ACTIVE")
