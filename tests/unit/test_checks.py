"""A check among simulated surroundings: equal when all is well or only on its way, else the difference by name."""

from typing import Any

import pytest

from agents import report
from agents.calls import Answer
from agents.session import FeedDown, FeedMessages
from openflow.flow import Flow, Output, match
from openflow.pipeline import FIRST_GROUP, MARKER
from selvedge import rpc, wire
from selvedge.topics import Check, Message, Update, host_topic, segment_topic
from selvedge.topology import Binding, Ref, Rule
from tests.unit.simulated_controller import replace_struct
from tests.unit.surroundings import HERE, SETTINGS, World

PATIENCE = 10.0


@pytest.fixture
def world() -> World:
    """A host with two ports in a group, one of them plugged, that has come to rest."""
    world = World()
    world.settle(reports=0)
    world.controller.group("g1", Rule("r1", 701, "g1", "ingress", 4))
    for number in (1, 2):
        world.controller.create(number, "s1", HERE, groups=("g1",))
    world.controller.create(3, "s1", "hv2")
    world.plug("p1", ofport=5)
    world.settle()
    world.controller.calls.clear()
    return world


def check(world: World, number: str = "1", seconds: float = PATIENCE) -> dict[str, Any]:
    """Ask, let everything happen that will, and take the answer."""
    world.say("feed", FeedMessages((Check(number, PATIENCE),)))
    end = world.now + seconds
    while number not in world.core.checks.answers:
        source = next((name for name, waiting in world.queues.items() if waiting), None)
        if source is not None:
            world.deliver(source)
            continue
        due = world.core.deadline()
        assert due is not None and due <= end, "nobody answers"
        world.now = max(world.now, due)
        world.step([])
    return world.core.checks.answers[number]


def found(answer: dict[str, Any]) -> set[tuple[str, str, str]]:
    assert answer["equal"] == (not answer["findings"])
    return {(one["step"], one["kind"], one["object"]) for one in answer["findings"]}


def test_all_is_equal(world: World) -> None:
    """A host at rest: nothing is found, nothing is bound or sent to the switch; the answer goes with a report at once,
    and is forgotten after a while."""
    bound, batches = set(world.controller.bound), len(world.switch.batches)
    answer = check(world)
    assert (found(answer), answer["left_out"]) == (set(), [])
    assert answer["compared"]["topics"] == len(world.needed())
    assert answer["compared"]["flows"] == len(world.switch.flows) > 0
    assert (world.controller.bound, len(world.switch.batches)) == (bound, batches)
    world.step([])
    reports = [call for call in world.controller.calls if isinstance(call, rpc.Report)]
    assert reports[-1].configurations["checks"] == {"1": answer}
    assert report.status(world.core)["checks"] == {"1": answer}
    world.settle(reports=3)
    assert world.core.checks.answers == {}


def test_what_the_switch_lost_is_named_by_the_tenants_port_and_healed(world: World) -> None:
    """A flow of a port is gone, another was added in our name and one by a stranger: three findings; the second check
    finds nothing."""
    healthy = dict(world.switch.flows)
    lost = next(key for key, cookie in world.switch.cookies.items() if cookie & 0xFFFF == 101 and key in healthy)
    del world.switch.flows[lost]
    added = Flow(0, 99, MARKER << 56 | 3 << 48 | 102, match(in_port=77), (Output(1),))
    strange = Flow(0, 99, 7, match(in_port=78), (Output(1),))
    world.switch.flows |= {flow.key: flow.body for flow in (added, strange)}
    assert found(check(world)) == {
        ("switch", "missing", "endpoint p1"),
        ("switch", "unknown", "endpoint p2"),
        ("switch", "foreign", "foreign"),
    }
    world.settle(reports=0)
    assert world.switch.flows == healthy
    assert found(check(world, "2")) == set()
    counts = report.counts(world.core)
    assert [counts[f"drift_{kind}"] for kind in ("missing", "altered", "unknown", "foreign")] == [1, 0, 1, 1]


def test_a_group_is_named_by_its_segment(world: World) -> None:
    """The flood group of a segment is gone."""
    del world.switch.groups[FIRST_GROUP + 11]
    assert ("switch", "missing", "segment n1") in found(check(world))
    world.settle(reports=0)
    world.check()


def test_a_row_that_was_changed_behind_the_apis_back(world: World) -> None:
    """An address changes in the database without a version, a port appears, a port goes: each is told by its object,
    with what is here and what is there."""
    objects = world.controller.topics[segment_topic("s1")]
    old = objects[Ref("endpoint", "p1")]
    objects[Ref("endpoint", "p1")] = replace_struct(old, addresses=("10.0.0.99",))
    objects[Ref("endpoint", "p9")] = replace_struct(old, id="p9", key=109)
    del objects[Ref("endpoint", "p3")]
    answer = check(world)
    assert found(answer) == {
        ("database", "altered", "endpoint p1"),
        ("database", "missing", "endpoint p9"),
        ("database", "unknown", "endpoint p3"),
    }
    (detail,) = (one["detail"] for one in answer["findings"] if one["kind"] == "altered")
    assert detail == "addresses: ('10.0.0.1',) here, ('10.0.0.99',) in the database"


def test_a_binding_that_the_host_was_not_told_of(world: World) -> None:
    """It needs another segment, of which the host hears nothing."""
    world.controller.topics[host_topic(HERE)][Ref("binding", "p7")] = Binding("p7", "s2")
    assert found(check(world)) == {
        ("database", "missing", "binding p7"),
        ("interest", "missing", f"topic {segment_topic('s2')}"),
    }


def test_changes_on_their_way_are_no_drift(world: World) -> None:
    """While the check runs, every message that comes belongs to a change: of an object that is being compared, of the
    bindings, of the flows. What arrives late is waited for."""
    answer = None
    world.say("feed", FeedMessages((Check("1", PATIENCE),)))
    for step in range(200):
        if step % 3 == 0:
            world.controller.update("p1", addresses=(f"10.0.1.{step}",))
        if step == 20:
            world.controller.bind("p3", HERE)
        if step == 60:
            world.controller.create(4, "s2", HERE)
        sources = [name for name, waiting in world.queues.items() if waiting]
        if sources:
            world.deliver(sources[step % len(sources)])
        world.pause(0.01)
        answer = answer or world.core.checks.answers.get("1")
    assert answer is not None
    assert (found(answer), answer["left_out"]) == (set(), [])


def test_a_lost_message_is_told(world: World) -> None:
    """The database is ahead of the host, and nothing comes: the topic is named, with both versions."""
    world.controller.update("p3", addresses=("10.0.0.33",))
    world.queues["feed"].clear()
    answer = check(world)
    assert found(answer) == {("database", "altered", f"topic {segment_topic('s1')}")}
    version = world.controller.versions[segment_topic("s1")]
    assert answer["findings"][0]["detail"] == f"version {version - 1} here, {version} in the database"


def test_an_engine_that_was_told_something_else(world: World) -> None:
    """A defect of ours: the engine's facts or the wanted flows are not what follows from the topics."""
    thing = world.core.engine.facts()[Ref("endpoint", "p3")]
    world.core.engine.apply([replace_struct(thing, addresses=("10.9.9.9",))])
    assert found(check(world)) == {("facts", "altered", "endpoint p3")}
    stray = Flow(0, 1, MARKER << 56, match(in_port=9), (Output(1),))
    world.core.programmer.change({stray.key: stray}, {}, {})
    assert ("flows", "unknown", "nothing asks for it") in found(check(world, "2"))


def test_without_a_controller_the_rest_is_compared(world: World) -> None:
    """The feed is down: at once an answer about the switch, which says what was left out. The feed is up and nobody
    answers: the same when the patience ends."""
    world.switch.flows.popitem()
    world.say("feed", FeedDown("gone"))
    world.deliver("feed")
    answer = check(world)
    assert {one["step"] for one in answer["findings"]} == {"switch"}
    assert answer["left_out"] == ["database and interest: no controller answered"]
    assert answer["seconds"] == 0


def test_a_controller_that_never_answers_is_waited_for_as_long_as_was_said() -> None:
    """The answer comes when the patience ends; what the controller says later is not taken for the next check's."""
    world = World()
    world.settle(reports=0)
    world.say("feed", FeedMessages((Check("1", PATIENCE),)))
    world.deliver("feed")
    while world.queues.get("switch"):
        world.deliver("switch")
    (late,) = world.queues.pop("inspect")
    assert isinstance(late, Answer)
    world.pause(PATIENCE - 1)
    assert "1" not in world.core.checks.answers
    world.pause(1.5)
    assert world.core.checks.answers["1"]["left_out"] == ["database and interest: no controller answered"]
    world.say("feed", FeedMessages((Check("2", PATIENCE),)))
    world.deliver("feed")
    assert not world.queues.get("inspect"), "one question at a time"
    world.step([late])
    (again,) = world.queues["inspect"]
    assert isinstance(again, Answer)
    assert again.request is not late.request
    assert found(check(world, "2")) == set()


def test_who_asks_during_a_check_gets_the_next(world: World) -> None:
    """Between the two questions somebody deletes a flow: the first answer may not know of it, the second does."""
    world.say("feed", FeedMessages((Check("1", PATIENCE),)))
    world.deliver("feed")
    assert world.queues["switch"], "the switch has been read"
    world.switch.flows.popitem()
    answer = check(world, "2")
    assert found(world.core.checks.answers["1"]) == set()
    assert len(found(answer)) == 1


def test_an_agent_that_is_not_in_sync_yet_says_so_at_the_end_of_the_patience() -> None:
    """The switch is not there: there is nothing to compare."""
    world = World()
    world.queues.pop("switch")
    world.settle(reports=0)
    assert found(check(world)) == {("agent", "missing", "the agent")}


def test_refused_flows_are_told(world: World) -> None:
    """What the switch does not take is missing in it."""
    world.switch.refuse = lambda flow: flow.cookie & 0xFFFF == 102
    world.plug("p2", ofport=6)
    world.settle(reports=0)
    assert ("switch", "refused", "endpoint p2") in found(check(world))


def auditing(monkeypatch: pytest.MonkeyPatch) -> World:
    """A host with a port, whose agent reads its switch every minute or so; it has just done so."""
    settings = SETTINGS._replace(audit_interval=60.0, report_interval=300.0)
    monkeypatch.setattr("tests.unit.surroundings.SETTINGS", settings)
    world = World()
    world.controller.create(1, "s1", HERE)
    world.settle(reports=0)
    world.core.audits.ask()
    world.step([])
    while any(world.queues.values()):
        for source in list(world.queues):
            world.deliver(source)
    return world


def test_the_agent_reads_the_switch_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every audit_interval seconds, scattered by the host's name; what drifted is healed and counted."""
    world = auditing(monkeypatch)
    audits = world.core.audits.counters
    healthy, before = dict(world.switch.flows), audits["audits"]
    world.switch.flows.popitem()
    world.pause(80.0)
    assert audits["audits"] == before, "it was ordered, and the answer has not been heard"
    world.deliver("switch")
    world.deliver("switch")
    assert (audits["audits"], audits["drift_missing"]) == (before + 1, 1)
    assert world.switch.flows == healthy
    world.pause(80.0)
    world.controller.update("p1", addresses=("10.0.0.77",))
    world.deliver("feed")
    while world.queues["switch"]:
        world.deliver("switch")
    assert (audits["audits"], audits["drift_missing"]) == (before + 2, 1)


def test_an_audit_waits_until_nothing_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is due while a batch is in flight: it is ordered when that is confirmed, and nobody is woken for it before."""
    world = auditing(monkeypatch)
    audits = world.core.audits
    before = audits.counters["audits"]
    world.controller.update("p1", addresses=("10.0.0.77",))
    world.deliver("feed")
    world.pause(80.0)
    assert len(world.queues["switch"]) == 1, "the batch's confirmation, and no audit"
    due = world.core.deadline()
    assert due is None or due > world.now
    world.deliver("switch")
    world.deliver("switch")
    assert audits.counters["audits"] == before + 1


def test_an_older_agent_refuses_the_message_and_lives() -> None:
    """The message is no update: who knows nothing else cannot read it, and who knows both can tell them apart."""
    data = wire.encode(Check("1", 2.0))
    with pytest.raises(wire.Unreadable):
        wire.decode(data, Update)
    assert wire.decode(data, Message) == Check("1", 2.0)  # type: ignore[arg-type]
