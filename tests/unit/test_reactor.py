"""The agent's core among simulated surroundings: named scenarios, and any order of events."""

from typing import Any

import pytest

from agents import report
from agents.calls import Answer
from agents.effects import Call, Submit, Transact, Warm
from selvedge import rpc
from selvedge.topics import HOSTS, host_topic, segment_topic
from tests.unit.surroundings import HERE, World


def calls(world: World, kind: type) -> list[Any]:
    return [call for call in world.controller.calls if isinstance(call, kind)]


@pytest.fixture
def world() -> World:
    """An agent that has come to rest on a host without ports."""
    world = World()
    world.settle(reports=0)
    world.controller.calls.clear()
    return world


def test_a_host_without_ports_has_no_flows_and_two_topics(world: World) -> None:
    """Nothing is bound here: no flow, no group, no peer; only the tunnel ends and the host's own topic."""
    world.check()
    assert world.switch.flows == {}
    assert world.switch.groups == {}
    assert world.controller.bound == {HOSTS, host_topic(HERE)}
    assert world.rows.ports("br-int") == {"br-int", "sv-geneve", "sv-vxlan", "sv-i-physnet1"}


def test_bound_before_the_plug(world: World) -> None:
    """All that needs no OpenFlow port is ready before the plug; then one bundle, and one call that says up."""
    port = world.controller.create(1, "s1", HERE)
    world.settle(reports=0)
    ready = len(world.switch.flows)
    assert ready > 0
    assert world.controller.ports[port].status == "DOWN"
    assert calls(world, rpc.Wired) == [], "a port that was never up needs no report that it is down"
    world.switch.batches.clear()
    world.plug(port, ofport=5)
    effects = world.deliver("database")
    assert [type(effect) for effect in effects] == [Submit], "the plug alone makes the bundle, nobody is asked first"
    assert world.deliver("switch") == [Call("wired", rpc.Wired(HERE, up=(port,)))]
    assert len(world.switch.flows) > ready
    world.settle()
    world.check()
    assert len(world.switch.batches) == 1


def test_plugged_before_bound_is_claimed_at_once(world: World) -> None:
    """An interface whose port has no host: claimed before it has even got its OpenFlow port, and up in the end."""
    port = world.controller.create(1, "s1")
    world.plug(port)
    assert world.deliver("database") == [Call("claim", rpc.Claim(HERE, (port,)))]
    world.settle()
    world.check()
    assert world.controller.ports[port].host == HERE
    assert world.controller.ports[port].status == "ACTIVE"
    world.unplug(port)
    world.settle()
    assert world.controller.ports[port].host is None, "a claimed port that is unplugged is released"
    world.check()
    assert world.switch.flows == {}


def test_claimed_and_gone_before_the_answer(world: World) -> None:
    """The interface is unplugged while the claim is on its way: the port must not stay bound here."""
    port = world.controller.create(1, "s1")
    world.plug(port, ofport=5)
    world.deliver("database")
    world.unplug(port)
    world.deliver("database")
    world.settle()
    assert world.controller.ports[port].host is None


def test_a_replug_is_claimed_at_once(world: World) -> None:
    """A port that was released by its unplug is claimed by the next plug, without waiting for a report."""
    port = world.controller.create(1, "s1")
    for _ in range(2):
        world.plug(port)
        world.settle(reports=0)
        assert world.controller.ports[port].status == "ACTIVE"
        world.unplug(port)
        world.settle(reports=0)
        assert world.controller.ports[port].host is None


def test_a_port_that_is_unplugged_there_after_it_was_plugged_here_is_claimed_soon(world: World) -> None:
    """A VM moves, and the controllers hear of its new place first: the claim is repeated before the next report."""
    port = world.controller.create(1, "s1", "hv2")
    world.plug(port)
    world.deliver("database")
    while world.queues.get("claim"):
        world.deliver("claim")
    world.controller.bind(port, None)
    for _ in range(4):
        due = world.core.deadline()
        assert due is not None and due < world.now + 5.0
        world.now = max(world.now, due)
        world.step([])
        if world.controller.ports[port].host == HERE:
            break
    assert world.controller.ports[port].host == HERE


def test_ports_of_others_and_of_nobody_are_asked_for_again(world: World) -> None:
    """Refused claims are repeated at growing intervals, then at reports; a port that is created later is claimed."""
    elsewhere = world.controller.create(1, "s1", "hv2")
    world.plug(elsewhere)
    world.plug("p2")
    world.settle(reports=0)
    assert len(calls(world, rpc.Claim)) <= 8
    while world.queues.get("claim"):
        world.deliver("claim")
    assert world.core.claims.refused == {elsewhere: "elsewhere", "p2": "unknown"}
    world.controller.create(2, "s1")
    world.settle(reports=1)
    assert world.controller.ports["p2"].status == "ACTIVE"
    assert world.controller.ports[elsewhere].host == "hv2"


def test_rebinding_to_another_host_and_back(world: World) -> None:
    """The API moves a plugged port away and back: nothing of it is left meanwhile, and nobody claims it."""
    port = world.controller.create(1, "s1", HERE)
    world.plug(port, ofport=5)
    world.settle()
    world.controller.bind(port, "hv2")
    world.settle()
    assert world.switch.flows == {}
    assert world.controller.ports[port].host == "hv2"
    world.controller.bind(port, HERE)
    world.settle()
    world.check()
    assert world.controller.ports[port].status == "ACTIVE"


def test_a_thousand_events_are_one_bundle_and_one_call(world: World) -> None:
    """What piled up while the agent was busy is one compilation, one bundle, one call."""
    ports = [world.controller.create(number, "s1", HERE) for number in range(1, 101)]
    world.settle(reports=0)
    world.switch.batches.clear()
    for number, port in enumerate(ports):
        world.plug(port, ofport=100 + number)
    world.controller.calls.clear()
    world.deliver("database", most=1000)
    world.deliver("switch")
    assert len(world.switch.batches) == 1
    assert [len(call.up) for call in calls(world, rpc.Wired)] == [100]
    world.settle()
    world.check()


def test_restart_sends_nothing_and_tells_everything_once(world: World) -> None:
    """A new agent on a switch that has all its flows: zero flows sent, and one call that tells all ports."""
    for number in range(1, 6):
        world.controller.create(number, ("s1", "s2", "s3")[number % 3], HERE)
        if number != 5:
            world.plug(f"p{number}", ofport=number)
    world.controller.create(9, "s1", "hv2")
    world.settle()
    world.check()
    world.switch.batches.clear()
    world.controller.calls.clear()
    world.start()
    world.settle(reports=0)
    world.check()
    assert world.switch.batches == []
    told = calls(world, rpc.Wired)
    assert [(sorted(call.up), call.unplugged) for call in told] == [(["p1", "p2", "p3", "p4"], ("p5",))]


def test_nothing_is_deleted_before_everything_is_known(world: World) -> None:
    """After a restart the broker is away for a while: the flows of the former life stay untouched."""
    port = world.controller.create(1, "s1", HERE)
    world.plug(port, ofport=5)
    world.settle()
    before = dict(world.switch.flows)
    world.switch.batches.clear()
    world.start()
    waiting = world.queues.pop("feed")
    world.settle()
    assert not world.core.in_sync
    assert world.switch.batches == []
    assert world.switch.flows == before
    world.queues["feed"] = waiting
    world.settle()
    world.check()
    assert world.switch.batches == []


def test_switch_restart_replays_everything_and_no_port_flaps(world: World) -> None:
    port = world.controller.create(1, "s1", HERE)
    world.controller.create(2, "s1", "hv2")
    world.plug(port, ofport=5)
    world.settle()
    world.controller.calls.clear()
    world.switch.restart()
    warmed = [effect for _ in range(3) for effect in world.deliver("switch") if isinstance(effect, Warm)]
    assert warmed == [Warm(frozenset({"192.0.2.2"}), again=True)], "the new process knows no tunnel neighbour"
    world.settle(reports=0)
    world.check()
    assert calls(world, rpc.Wired) == []


def test_a_refused_flow_takes_down_its_port_and_no_other(world: World) -> None:
    """The switch refuses what belongs to one port: that port is down and named, the others are up; it heals later."""
    ports = [world.controller.create(number, "s1", HERE) for number in (1, 2, 3)]
    key = world.controller.ports["p2"].endpoint.key
    world.switch.refuse = lambda flow: flow.cookie & 0xFFFFFFFFFFFF == key and flow.cookie >> 48 & 0xFF == 3
    for number, port in enumerate(ports):
        world.plug(port, ofport=number + 5)
    world.settle(reports=0)
    assert {name: port.status for name, port in world.controller.ports.items()} == {
        "p1": "ACTIVE",
        "p2": "DOWN",
        "p3": "ACTIVE",
    }
    assert "OFPBAC_BAD_OUT_PORT" in world.core.states.ports["p2"].reason
    world.switch.refuse = lambda flow: False
    world.pause(60)
    world.settle()
    world.check()


def test_an_interface_that_fails_is_down_with_its_reason(world: World) -> None:
    good = world.controller.create(1, "s1", HERE)
    bad = world.controller.create(2, "s1", HERE)
    world.plug(good, ofport=5)
    world.plug(bad, ofport=-1, error="could not open network device tap-p2 (No such device)")
    world.settle(reports=0)
    assert world.controller.ports[good].status == "ACTIVE"
    assert "No such device" in world.core.states.ports[bad].reason
    assert world.core.states.ports[bad].failed


def test_missing_provider_bridge_fails_its_ports_only(world: World) -> None:
    """br-ex is deleted: the VLAN port is down and says why, the Geneve port works; the bridge comes back: both do."""
    overlay, vlan = world.controller.create(1, "s1", HERE), world.controller.create(2, "s2", HERE)
    world.plug(overlay, ofport=5)
    world.plug(vlan, ofport=6)
    world.settle()
    world.check()
    world.rows.delete_bridge("br-ex")
    world.monitor()
    world.settle(reports=0)
    assert world.core.states.ports[overlay].state == "up"
    assert world.core.states.ports[vlan] == ("down", "bridge_mappings physnet1:br-ex: there is no such bridge", True)
    assert world.controller.ports[vlan].status == "DOWN"
    world.rows.bridge("br-ex")
    world.monitor()
    world.settle()
    world.check()


def test_the_wire_is_told_who_came(world: World) -> None:
    """A VLAN port that comes up is announced once, an overlay's is not; nobody is when the agent restarts."""
    overlay, vlan = world.controller.create(1, "s1", HERE), world.controller.create(2, "s2", HERE)
    world.plug(overlay, ofport=5)
    world.settle()
    assert world.announced == []
    world.plug(vlan, ofport=6)
    world.settle()
    assert world.announced == ["fa:16:3e:00:00:02"]
    world.start()
    world.settle()
    world.check()
    assert world.announced == ["fa:16:3e:00:00:02"]
    world.unplug(vlan)
    world.settle()
    world.plug(vlan, ofport=7)
    world.settle()
    assert world.announced == ["fa:16:3e:00:00:02"] * 2


def test_deleted_integration_bridge_is_made_again(world: World) -> None:
    world.rows.delete_bridge("br-int")
    world.monitor()
    effects = world.deliver("database")
    assert [type(effect) for effect in effects] == [Transact]
    world.settle()
    assert "sv-geneve" in world.rows.ports("br-int")


def test_a_larger_interface_is_told(world: World) -> None:
    """MTU 1500 on a segment that carries 1442: the port works, and the trouble is visible until it is mended."""
    port = world.controller.create(1, "s1", HERE)
    world.plug(port, ofport=5, mtu=1500)
    world.settle()
    world.check()
    assert "MTU 1500" in world.core.conditions.oversize[port]
    told = calls(world, rpc.Report)[-1]
    assert told.configurations["counts"]["ports_oversize"] == 1
    world.rows.named("Interface", f"tap-{port}")["mtu"] = 1442
    world.monitor()
    world.settle()
    assert world.core.conditions.oversize == {}


def test_what_happens_to_many_ports_at_once_is_one_line_of_the_log(world: World, caplog: Any) -> None:
    """Forty interfaces that are too large, and the network of all of them goes down: a line each time, which names a
    few; status.json names all."""
    ports = [world.controller.create(number, "s1", HERE) for number in range(1, 41)]
    with caplog.at_level("INFO", "agents.news"):
        for port in ports:
            world.plug(port, ofport=100 + int(port[1:]), mtu=1500)
        world.settle()
        world.controller.update_segment("s1", up=False)
        world.settle()
    large, down = (record.getMessage() for record in caplog.records)
    assert large.startswith("larger packets will be lost of ports: p") and large.endswith("; and 37 more")
    assert down.count("the network is administratively down") == 3 and down.endswith("; and 37 more")
    status = report.status(world.core)
    assert {line.split(":")[0] for line in status["problems"]} == {f"port {port}" for port in ports}
    assert all(status["ports"][port]["state"] == "down" for port in ports)


def test_one_port_on_two_interfaces_is_told(world: World) -> None:
    port = world.controller.create(1, "s1", HERE)
    world.plug(port, ofport=5)
    world.rows.port("br-int", "tap-z", external_ids={"iface-id": port}, ofport=6)
    world.monitor()
    world.settle()
    (line,) = report.problems(world.core)
    assert line == f"port {port}: of several interfaces tap-{port} is used, tap-z not"


def test_administratively_down(world: World) -> None:
    port = world.controller.create(1, "s1", HERE)
    world.plug(port, ofport=5)
    world.settle()
    world.controller.update(port, up=False)
    world.settle()
    world.check()
    world.controller.update(port, up=True)
    world.controller.update_segment("s1", up=False)
    world.settle()
    world.check()


def test_interest_follows_bindings(world: World) -> None:
    """A segment's topic is bound as long as a port of it is bound here; afterwards nothing of it is left."""
    port = world.controller.create(1, "s1", HERE)
    world.controller.create(2, "s1", "hv2")
    world.settle(reports=0)
    assert segment_topic("s1") in world.controller.bound
    assert world.peers == {"192.0.2.2"}
    world.controller.delete(port)
    world.settle(reports=0)
    assert segment_topic("s1") not in world.controller.bound
    assert world.peers == frozenset()
    world.check()
    assert world.switch.flows == {}


def test_a_lost_message_heals_by_the_report(world: World) -> None:
    """The last message of a topic is lost, so no gap tells of it: the report's answer does."""
    port = world.controller.create(1, "s1", HERE)
    world.plug(port, ofport=5)
    world.settle()
    world.controller.update(port, addresses=("10.0.0.99",))
    world.queues["feed"].clear()
    world.settle(reports=2)
    world.check()


def test_a_queue_made_anew_is_bound_at_once(world: World) -> None:
    """The broker lost the queue: all topics are subscribed to again before any report, and nothing was missed."""
    port = world.controller.create(1, "s1", HERE)
    world.plug(port, ofport=5)
    world.settle()
    world.feed_breaks(fresh=True)
    world.controller.update(port, addresses=("10.0.0.99",))
    world.controller.calls.clear()
    world.deliver("feed", most=2)
    assert [set(call.topics) for call in calls(world, rpc.Subscribe)] == [
        {HOSTS, host_topic(HERE), segment_topic("s1")}
    ]
    world.settle(reports=0)
    world.check()


def test_what_is_being_told_is_not_told_twice(world: World) -> None:
    """While a `wired` call is on its way, another port's news waits, and carries that port only."""
    ports = [world.controller.create(number, "s1", HERE) for number in (1, 2)]
    world.settle(reports=0)
    for port in ports:
        world.plug(port, ofport=5 + ports.index(port))
        world.deliver("database")
        world.deliver("switch")
    assert [call.up for call in calls(world, rpc.Wired)] == [("p1",)]
    world.deliver("wired")
    assert [call.up for call in calls(world, rpc.Wired)] == [("p1",), ("p2",)]
    world.settle()
    world.check()


def test_a_refusal_of_the_controller_is_not_repeated_at_once(world: World) -> None:
    """A controller that refuses to subscribe is asked again after a pause, and the deadline says when."""
    world.controller.create(1, "s1", HERE)
    world.deliver("feed")
    request = calls(world, rpc.Subscribe)[-1]
    world.queues["subscribe"].clear()
    effects = world.step([Answer("subscribe", request, None, rpc.Refused("no"))])
    assert effects == []
    due = world.core.deadline()
    assert due is not None
    assert due > world.now + 1
    world.pause(5)
    assert len(calls(world, rpc.Subscribe)) == 2
    world.settle()
    world.check()


@pytest.mark.parametrize("fresh", (False, True))
def test_the_feed_comes_back_and_one_report_finds_what_was_lost(world: World, fresh: bool) -> None:
    """Given a port whose message is lost with the connection, without a later one that shows the gap: the agent reports
    soon after the feed's return, and has it. When nothing was lost that report is all, but for a queue made anew, which
    is bound again, with the versions known."""
    world.controller.create(1, "s1", HERE)
    world.settle(reports=0)
    world.controller.calls.clear()
    world.feed_breaks(fresh)
    world.settle(reports=0)
    assert [type(call) for call in world.controller.calls if not isinstance(call, rpc.Subscribe)] == [rpc.Report]
    versions = [set(call.topics.values()) for call in calls(world, rpc.Subscribe)]
    assert bool(versions) == fresh
    assert all(0 not in told for told in versions)
    world.check()
    drain(world)
    port = world.controller.create(2, "s1", HERE)
    world.feed_breaks(fresh=False)
    began = world.now
    while world.now < began + 2 and port not in world.core.bindings:
        drain(world)
        world.pause(0.05)
    assert port in world.core.bindings


def drain(world: World) -> None:
    """Deliver whatever is on its way; no time passes."""
    while (source := next((name for name, waiting in world.queues.items() if waiting), None)) is not None:
        world.deliver(source)
