"""Daemons come and go: packets pass meanwhile, and nothing is sent to the switch that it has already."""

import time

import pytest

from devstack.labs.process import wait_for
from tests.functional.verbs import SETTLE, World, lost_while


def agents_settled(world: World, name: str) -> dict[str, int]:
    """The agent's counters once it has written them after getting in sync."""
    world.hypervisor(name).wait_in_sync()
    time.sleep(1.2)  # status.json is written once a second at most
    return world.hypervisor(name).status()


@pytest.mark.parametrize("end", ("stop", "kill"))
def test_an_agent_restart_sends_nothing_and_loses_nothing(two: World, end: str) -> None:
    """SIGTERM or SIGKILL: the flows stay, packets pass, and the next agent finds nothing to do."""
    blue, red = two.network("geneve"), two.network("vlan")
    a, b = two.port(blue, "hv1"), two.port(blue, "hv2")
    two.port(red, "hv1")
    host = two.hypervisor("hv1")
    assert two.ping(a, b)
    flows, groups = host.flows(), host.groups()

    def restart() -> None:
        getattr(host, end)("agent")
        host.start("agent")
        host.wait_in_sync()

    sent, received = lost_while(a, b, restart)
    assert sent - received <= 1, f"{sent - received} of {sent} lost"  # one may be on its way at the end
    counters = agents_settled(two, "hv1")
    assert counters["flow_mods_sent"] == 0
    assert counters["group_mods_sent"] == 0
    assert (host.flows(), host.groups()) == (flows, groups)
    assert two.status(a) == two.status(b) == "ACTIVE"


def test_what_changed_while_the_agent_was_away_is_the_difference(two: World) -> None:
    """A port is deleted and one is made while hv1's agent is dead: after its return both are done, nothing else."""
    blue = two.network("geneve")
    a, gone, b = two.port(blue, "hv1"), two.port(blue, "hv1"), two.port(blue, "hv2")
    host = two.hypervisor("hv1")
    host.kill("agent")
    two.delete_port(gone.port)
    new = two.lab.plug(two.bound(blue, "hv1")["id"], "hv1", active=None)
    c = two.port(blue, "hv2")
    host.start("agent")
    two.lab.wait_status(new.port, "ACTIVE")
    for source in (a, new):
        for target in (b, c):
            assert two.ping(source, target)
    assert not [flow for flow in host.flows() if gone.want.mac in flow]


@pytest.mark.parametrize("end", ("stop", "kill"))
def test_a_switch_restart_is_replayed(two: World, end: str) -> None:
    """ovs-vswitchd comes back with nothing: flows and groups are as before, and packets pass again."""
    blue = two.network("geneve")
    a, b, c = two.port(blue, "hv1"), two.port(blue, "hv2"), two.port(blue, "hv1")
    host = two.hypervisor("hv1")
    flows, groups = host.flows(), host.groups()
    getattr(host, end)("vswitchd")
    host.start("vswitchd")
    wait_for("the flows", lambda: host.flows() == flows and host.groups() == groups, 10)
    wait_for("packets", lambda: a.ping(b.address(), 1, wait=0.2) == 1, 10)
    assert two.ping(a, c)
    for vm in (a, b, c):
        two.lab.wait_status(vm.port, "ACTIVE")


def test_either_controller_serves_and_feeds_all(two: World) -> None:
    """Two controllers, one database: written at one, read at the other, wired by the feed of whoever wrote."""
    first, second = (controller.api for controller in two.lab.controllers.values())
    blue = two.network("geneve")
    a = two.port(blue, "hv1")
    made = second.create("port", network_id=blue["id"], **{"binding:host_id": "hv2"})
    assert first.show("port", made["id"])["mac_address"] == made["mac_address"]
    b = two.lab.plug(made["id"], "hv2")
    assert two.ping(a, b)


def test_a_dead_controller_is_missed_by_nobody(two: World) -> None:
    """One of two controllers is killed: the other accepts, publishes, and serves the agents; the dead one returns."""
    first, second = list(two.lab.controllers.values())
    blue = two.network("geneve")
    a = two.port(blue, "hv1")
    second.kill()
    try:
        b = two.port(blue, "hv2")
        assert two.ping(a, b)
    finally:
        second.start()
    assert second.api.show("port", a.port)["status"] == "ACTIVE"
    assert first.pid is not None


def test_packets_pass_without_controllers_and_broker(two: World) -> None:
    """The data plane needs none of them; what is asked meanwhile of the API is done when the broker is back. Until then
    a port of which the host knows nothing, no segment and no rule, passes nothing."""
    blue = two.network("geneve")
    a, b = two.port(blue, "hv1"), two.port(blue, "hv2")
    two.lab.broker.stop()
    try:
        assert two.ping(a, b)
        c = two.lab.plug(two.bound(blue, "hv2")["id"], "hv2", active=None)
        assert not two.ping(a, c, patience=SETTLE)
        assert two.status(c) == "DOWN"
    finally:
        two.lab.broker.start()
    two.lab.wait_status(c.port, "ACTIVE", 60)
    wait_for("hv1 to hear of it too", lambda: a.ping(c.address(), 1, wait=0.2) == 1, 15)
    assert two.ping(c, b)
