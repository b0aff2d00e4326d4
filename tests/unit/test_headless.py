"""The agent's core when nobody answers: from memory if there is one, and back by the one path when somebody does."""

from typing import Any

import pytest

from agents import remembered, report
from agents.core import Core
from agents.effects import Remember
from agents.headless import AWAY, SILENT
from agents.remembered import Forgotten, Memory
from agents.topics import Change, Request, Topics
from selvedge import rpc
from selvedge.rpc import SubscribeReply
from selvedge.topics import HOSTS, Snapshot, Update, group_topic, host_topic, segment_topic
from selvedge.topology import Binding, Ref, Rule
from tests.unit.surroundings import HERE, SETTINGS, World


@pytest.fixture
def world() -> World:
    """Two plugged ports here in a group that names another, one elsewhere; the agent has come to rest."""
    world = World()
    world.settle(reports=0)
    world.controller.group("web", Rule("r1", 801, "web", "ingress", 4, remote_group="lb"))
    for number, host in ((1, HERE), (2, HERE), (3, "hv2")):
        world.controller.create(number, "s1", host, groups=("web",))
    world.plug("p1", ofport=5)
    world.plug("p2", ofport=6)
    world.settle()
    world.check()
    return world


def reboot(world: World) -> None:
    """Everything of Open vSwitch is gone, VMs are plugged anew, the agent's disk is there; and nobody answers."""
    world.controllers_go()
    world.rows = type(world.rows)()
    world.rows.bridge("br-ex")
    world.switch.flows.clear()
    world.switch.groups.clear()
    world.switch.batches.clear()
    world.tainted.clear()
    world.start()


def come_up(world: World) -> None:
    """The bridge is made, and the VMs that were here before are plugged."""
    world.deliver("database", 9)
    world.deliver("database", 9)
    for port in ("p1", "p2"):
        world.plug(port)
    world.number()
    for _ in range(3):
        world.deliver("database", 9)
        world.deliver("switch", 9)


def wait(world: World, seconds: float) -> None:
    world.pause(seconds)
    for source in ("database", "switch", "database", "switch"):
        world.deliver(source, 9)


def test_a_host_that_reboots_while_nobody_answers_runs_from_memory(world: World, caplog: Any) -> None:
    """Given what was known before: nothing happens for 3 s, then the switch has exactly what it had, nobody has been
    told or asked anything but the first report, and whoever looks is told."""
    before = dict(world.switch.flows)
    told = len(world.controller.calls)
    reboot(world)
    come_up(world)
    wait(world, AWAY - 0.1)
    assert world.switch.flows == {}
    assert not report.status(world.core)["headless"]
    wait(world, 0.2)
    flows, groups = world.expected()
    assert (world.switch.flows, world.switch.groups) == (flows, groups)
    assert {key[0] for key in flows} == {key[0] for key in before}
    assert world.peers == {"192.0.2.2"}
    assert len(world.controller.calls) == told
    assert world.unanswered is not None and [call.kind for call in world.unanswered] == ["report"]
    status = report.status(world.core)
    assert (status["headless"], status["in_sync"]) == (True, False)
    assert {port: state["state"] for port, state in status["ports"].items()} == {"p1": "up", "p2": "up"}
    (line,) = status["problems"]
    assert line == f"no controller has answered: running from the last known topology, of {status['last_known']}"
    assert sum("no controller answers: running from" in record.getMessage() for record in caplog.records) == 1
    assert world.core.deadline() is None, "there is nothing to do but wait"


def test_when_they_come_back_only_differences_follow(world: World) -> None:
    """Given a headless host, a port deleted, one changed and one made meanwhile: no topic that is the same is sent
    again, and what is not concerned is not touched."""
    reboot(world)
    come_up(world)
    wait(world, AWAY)
    zones = world.zones()
    world.controller.delete("p2")
    world.controller.update("p3", addresses=("10.0.0.33",))
    world.controller.create(4, "s2", HERE)
    world.switch.batches.clear()
    world.controllers_come()
    world.settle()
    world.check()
    assert world.controller.ports["p1"].status == "ACTIVE"
    assert world.zones()["p1"] == zones["p1"]
    assert "p2" not in world.zones()
    assert not report.status(world.core)["headless"]
    sent = {flow.key for batch in world.switch.batches for flow in batch.flows}
    key = world.controller.ports["p1"].endpoint.key
    assert not [flow for flow in sent if world.switch.cookies[flow] & 0xFFFFFFFFFFFF == key and flow[0] == 0]
    known = {topic for call in world.controller.calls if isinstance(call, rpc.Subscribe) for topic in call.topics}
    assert known >= {HOSTS, host_topic(HERE), segment_topic("s1"), segment_topic("s2")}


def test_nothing_changed_is_no_snapshot_and_no_flow(world: World) -> None:
    """Restarts with controllers: the topics are asked for by their versions, nothing is sent, nothing is written."""
    for _ in range(2):
        world.switch.batches.clear()
        world.controller.calls.clear()
        before = world.disk
        world.start()
        world.settle()
        world.check()
        assert world.switch.batches == []
        assert world.core.topics.counters.snapshots == 0
        assert world.disk == before
        assert sum(isinstance(call, rpc.Subscribe) for call in world.controller.calls) == 1


def test_a_headless_restart_leaves_the_flows_as_they_are(world: World) -> None:
    """The switch has all its flows, the agent restarts while nobody answers: nothing is sent, no zone is given up, no
    port is announced; a plug of a known port works all the same."""
    world.unplug("p2")
    world.settle()
    flows = dict(world.switch.flows)
    zones = world.zones()
    world.controllers_go()
    world.switch.batches.clear()
    world.start()
    come_quietly(world)
    wait(world, AWAY)
    assert report.status(world.core)["headless"]
    assert (world.switch.batches, world.switch.flows, world.zones()) == ([], flows, zones)
    world.plug("p2", ofport=9)
    wait(world, 0.1)
    assert report.status(world.core)["ports"]["p2"]["state"] == "up"
    assert world.announced == []


def come_quietly(world: World) -> None:
    for source in ("database", "switch", "feed") * 3:
        world.deliver(source, 9)


def test_an_unknown_port_waits(world: World) -> None:
    """Given a headless host: a port that nobody spoke of here has no flow, and is claimed when somebody answers."""
    world.controller.create(7, "s1")
    reboot(world)
    come_up(world)
    world.plug("p7", ofport=77)
    wait(world, AWAY)
    key = world.controller.ports["p7"].endpoint.key
    assert not [flow for flow in world.switch.flows if world.switch.cookies[flow] & 0xFFFFFFFFFFFF == key]
    world.controllers_come()
    world.settle()
    world.check()
    assert world.controller.ports["p7"].host == HERE


@pytest.mark.parametrize("lost", [segment_topic("s1"), group_topic("web"), "members/lb"])
def test_a_port_whose_topics_are_not_remembered_waits(world: World, lost: str) -> None:
    """Given a memory without the segment, the rules, or the members that a rule names: the port passes nothing."""
    world.controllers_go()
    known = remembered.read(world.disk, HERE)
    world.disk = remembered.base(HERE, [snapshot for snapshot in known.snapshots if snapshot.topic != lost])
    reboot(world)
    come_up(world)
    wait(world, AWAY)
    assert report.status(world.core)["headless"]
    assert {state.state for state in world.core.states.ports.values()} == {"pending"}
    assert world.core.enforcement.policies == {}
    world.controllers_come()
    world.settle()
    world.check()


def test_without_a_memory_the_agent_waits(world: World) -> None:
    """No file, or one that never had the host's own topic: the flows in the switch stay, however long it takes."""
    known = remembered.read(world.disk, HERE).snapshots
    for disk in (b"", remembered.base(HERE, [snapshot for snapshot in known if snapshot.topic != host_topic(HERE)])):
        world.controllers_go()
        world.disk = disk
        flows = dict(world.switch.flows)
        world.start()
        come_quietly(world)
        wait(world, 100.0)
        assert not report.status(world.core)["headless"]
        assert world.switch.flows == flows
        world.controllers_come()
        world.settle()
        world.check()


def test_nothing_is_kept_before_all_was_known_once(world: World) -> None:
    """An agent without a file that is killed while it learns: what it knew by then is not a topology."""
    world.disk = b""
    world.start()
    for source in ("database", "switch", "report", "feed", "subscribe"):
        world.deliver(source, 9)
        assert world.disk == b""
    world.settle()
    assert remembered.read(world.disk, HERE).snapshots == world.core.topics.snapshots()


def test_a_change_is_kept_before_anything_follows_from_it(world: World) -> None:
    """The effect that writes it comes before the transaction, the batch and the calls."""
    world.controller.update("p1", addresses=("10.0.0.99",))
    effects = list(world.core.step([world.queues["feed"].popleft()], world.now))
    assert [type(effect).__name__ for effect in effects] == ["Remember", "Submit"]
    assert isinstance(effects[0], Remember) and len(effects[0].records) == 1


def test_a_controller_that_answers_slowly_is_waited_for(world: World) -> None:
    """The report is answered, and the snapshots take long: the host waits for them; not if nothing comes any more."""
    world.start()
    world.deliver("database", 9)
    world.deliver("switch", 9)
    world.deliver("report")
    world.pause(SILENT - 1)
    assert not report.status(world.core)["headless"]
    world.pause(2.0)
    assert report.status(world.core)["headless"]
    world.settle()
    world.check()


def test_the_database_is_needed(world: World) -> None:
    """Without Open vSwitch's database nobody knows what is plugged: the host waits, without a deadline that is past."""
    world.controllers_go()
    world.start()
    world.pause(AWAY + 1)
    assert not report.status(world.core)["headless"]
    assert world.core.deadline() is None
    come_quietly(world)
    assert report.status(world.core)["headless"]


def test_an_older_database_wins_over_what_is_remembered() -> None:
    """Given a topic remembered at version 10: the queue's next message is applied; then a controller whose database was
    restored from a backup says 5. What it says is what there is."""
    topics = Topics()
    old, new, first = Binding("old", "s1"), Binding("new", "s1"), Binding("first", "s1")
    topic = host_topic(HERE)
    assert topics.restore([Snapshot(topic, 10, (old,))]) == Change((old,))
    topics.set_interest([topic])
    assert not topics.synced and topics.versions() == {}
    assert topics.update(Update(topic, 11, (new,)), 0.0) == Change((new,))
    assert topics.request(0.0) == Request({topic: 11}, ())
    change = topics.answer(SubscribeReply((Snapshot(topic, 5, (first,)),)), 0.0)
    assert (change.upserts, {name.id for name in change.deletes}) == ((first,), {"old", "new"})
    assert topics.versions() == {topic: 5} and not topics.remembered


def test_what_is_remembered_and_not_needed_is_forgotten_and_unbound() -> None:
    """Given topics of a former life that nothing here leads to: their objects go, and the broker's bindings too."""
    topics = Topics()
    topics.restore([Snapshot(host_topic(HERE), 3), Snapshot(segment_topic("s9"), 7, (Binding("x", "s9"),))])
    assert topics.set_interest([host_topic(HERE)]) == Change((), (Ref("binding", "x"),))
    assert topics.history() == (Forgotten((segment_topic("s9"),)),)
    assert topics.request(0.0) == Request({host_topic(HERE): 3}, (segment_topic("s9"),))


@pytest.mark.parametrize(
    ("age", "words"), [(59.0, "59 seconds"), (185.0, "3 minutes"), (7300.0, "2 hours"), (2e6, "23 days")]
)
def test_how_old_it_is_is_told(age: float, words: str) -> None:
    core = Core(SETTINGS, 0.0, Memory((), 1_800_000_000.0, age))
    assert core.headless.of == f"2027-01-15T08:00:00+00:00 ({words} before the start)"
