"""The agent's core and security groups among simulated surroundings: what is asked for, when a port may pass anything,
how it changes its groups, and what becomes of conntrack zones."""

from typing import Any

import pytest

from agents import report, zones
from agents.effects import Call, Submit, Transact
from agents.handover import LEARN
from agents.zones import KEY
from openflow.batch import Flush
from openflow.facts import Posture
from selvedge import rpc
from selvedge.topics import addresses_topic, group_topic, members_topic
from selvedge.topology import Ref, Rule
from tests.unit.surroundings import HERE, World

POLICY_TABLES = range(50, 59), range(70, 79)


def calls(world: World, kind: type) -> list[Any]:
    return [call for call in world.controller.calls if isinstance(call, kind)]


def posture(world: World, port: str) -> tuple[int, int] | None:
    """The policy of a port and what it sends."""
    fact = world.core.engine.fact(Ref("posture", port))
    return (fact.policy, fact.sends) if isinstance(fact, Posture) else None


def policy_flows(world: World) -> set[bytes]:
    return {key for key in world.switch.flows if any(key[0] in tables for tables in POLICY_TABLES)}


@pytest.fixture
def world() -> World:
    """An agent at rest on a host without ports, and three groups: web lets members of lb in, db an address group. Lb
    has a member that is not bound anywhere; its set has number 1, the next ones 2 and 3."""
    world = World()
    world.controller.group("lb", Rule("r1", 701, "lb", "egress", 4))
    world.controller.group("web", Rule("r2", 702, "web", "ingress", 4, 6, 80, 89, remote_group="lb"))
    world.controller.group("db", Rule("r3", 703, "db", "ingress", 4, 6, 5432, 5432, remote_addresses="office"))
    world.controller.addresses("office", "198.51.100.0/24")
    world.controller.create(9, "s3", groups=("lb",))
    world.settle(reports=0)
    world.controller.calls.clear()
    return world


def test_a_bound_port_has_its_zone_and_its_rules_before_the_plug(world: World) -> None:
    """The binding says which rules are needed: segment and group are asked for in one call, while the zone is written;
    the plug is one bundle, and nobody is asked first."""
    port = world.controller.create(1, "s1", HERE, groups=("web",))
    effects = world.deliver("feed")
    assert {type(effect) for effect in effects} == {Transact, Call}
    assert [set(call.topics) for call in calls(world, rpc.Subscribe)] == [{"segment/s1", "group/web"}]
    assert world.zones() == {port: 1}
    world.settle(reports=0)
    assert [set(call.topics) for call in calls(world, rpc.Subscribe)][1:] == [{"members/lb"}]
    assert policy_flows(world)
    world.plug(port, ofport=5)
    assert [type(effect) for effect in world.deliver("database")] == [Submit]
    assert world.deliver("switch") == [Call("wired", rpc.Wired(HERE, up=(port,)))]
    world.settle()
    world.check()


def test_a_port_without_its_rules_passes_nothing_and_says_why(world: World) -> None:
    """The group's topic is empty (its message is on its way): no posture, the port is pending and names the group."""
    world.controller.identities[("late",)] = 77
    port = world.controller.create(1, "s1", HERE, groups=("late",))
    world.plug(port, ofport=5)
    world.settle()
    assert posture(world, port) is None
    assert world.core.states.ports[port] == ("pending", "the rules of security group late have not come yet", False)
    assert world.controller.ports[port].status == "DOWN"
    world.controller.group("late", Rule("r9", 709, "late", "ingress", 4, remote_group="lb"))
    for _ in range(2):
        world.deliver("feed")
    assert "members of group lb, which rule r9 names" in world.core.states.ports[port].reason
    world.settle()
    world.check()
    assert world.controller.ports[port].status == "ACTIVE"


def test_a_port_without_groups_works_at_once(world: World) -> None:
    port = world.controller.create(1, "s1", HERE)
    world.plug(port, ofport=5)
    world.settle()
    world.check()
    assert posture(world, port) == (0, 0)


def test_an_open_port_has_a_zone_and_no_posture(world: World) -> None:
    """Port security is off, and then on: the port comes under its groups' policy without a restart of anything."""
    port = world.controller.create(1, "s1", HERE, secure=False)
    world.plug(port, ofport=5)
    world.settle()
    world.check()
    assert posture(world, port) is None
    world.controller.update(port, secure=True, groups=("web",))
    world.settle()
    world.check()
    assert posture(world, port) is not None
    world.controller.update(port, secure=False, groups=())
    world.settle()
    world.check()
    assert world.controller.bound.isdisjoint({"group/web", "members/lb"})


def test_a_restart_writes_no_zone_and_sends_no_flow(world: World) -> None:
    """A new agent on a switch and a database that have everything: no transaction, no batch, the same zones."""
    for number, groups in enumerate([("web",), ("lb", "web"), (), ("db",)], 1):
        world.controller.create(number, "s1", HERE, groups=groups)
        world.plug(f"p{number}", ofport=number)
    world.settle()
    world.check()
    before = world.zones()
    for _ in range(2):
        world.switch.batches.clear()
        world.controller.calls.clear()
        world.start()
        effects: list[Any] = []
        while any(world.queues.values()):
            effects += world.deliver(next(name for name, waiting in world.queues.items() if waiting))
        assert not [effect for effect in effects if isinstance(effect, Transact | Submit)]
        assert world.core.in_sync
        assert [sorted(call.up) for call in calls(world, rpc.Wired)] == [["p1", "p2", "p3", "p4"]]
    world.settle()
    world.check()
    assert world.zones() == before
    assert world.switch.batches == []


def test_one_more_member_elsewhere_touches_no_rule(world: World) -> None:
    """A port of lb is made on another host: this host's rules for members of lb stay as they are."""
    world.plug(world.controller.create(1, "s1", HERE, groups=("web",)), ofport=5)
    world.controller.create(2, "s1", "hv2", groups=("lb",))
    world.settle()
    world.switch.batches.clear()
    world.controller.calls.clear()
    world.controller.create(3, "s1", "hv2", groups=("lb",))
    world.settle(reports=0)
    (batch,) = world.switch.batches
    keys = list(batch.keys())
    assert len(keys) == 2
    assert not [key for key in keys if isinstance(key, bytes) and any(key[0] in t for t in POLICY_TABLES)]
    assert calls(world, rpc.Subscribe) == []
    world.settle()
    world.check()


def test_one_more_port_here_of_a_known_set_asks_nobody(world: World) -> None:
    world.plug(world.controller.create(1, "s1", HERE, groups=("web",)), ofport=5)
    world.settle()
    world.controller.calls.clear()
    world.plug(world.controller.create(2, "s1", HERE, groups=("web",)), ofport=6)
    world.settle(reports=0)
    assert calls(world, rpc.Subscribe) == []
    assert world.controller.ports["p2"].status == "ACTIVE"
    world.settle()
    world.check()


def test_rules_decide_whose_members_are_needed(world: World) -> None:
    """A rule that names a group brings its members, and takes them along when it goes."""
    world.plug(world.controller.create(1, "s1", HERE, groups=("lb",)), ofport=5)
    world.settle()
    assert members_topic("db") not in world.controller.bound
    world.controller.rule(8, "lb", remote_group="db")
    world.controller.rule(9, "lb", remote_addresses="office")
    world.settle()
    world.check()
    assert {members_topic("db"), addresses_topic("office")} <= world.controller.bound
    world.controller.delete_rule(8, "lb")
    world.controller.delete_rule(9, "lb")
    world.settle()
    world.check()
    assert world.controller.bound.isdisjoint({members_topic("db"), addresses_topic("office")})


def test_groups_of_a_live_port_change_without_a_gap(world: World) -> None:
    """A group is added whose rules must be fetched: the old policy stays until then, the port never stops being up, and
    sends as what it was until the others had time to learn."""
    port = world.controller.create(1, "s1", HERE, groups=("web",))
    world.plug(port, ofport=5)
    world.settle()
    before, old = policy_flows(world), posture(world, port)
    assert old == (2, 2)
    world.controller.calls.clear()
    world.controller.update(port, groups=("db", "web"))
    world.deliver("feed", most=10)
    waiting = world.queues.pop("subscribe")
    world.pause(60)
    assert posture(world, port) == old
    assert report.counts(world.core)["ports_awaiting_groups"] == 1
    assert before <= policy_flows(world)
    assert group_topic("web") in world.controller.bound
    world.queues["subscribe"] = waiting
    while posture(world, port) == old:
        assert before <= policy_flows(world)
        world.deliver(next(name for name, events in world.queues.items() if events))
    assert posture(world, port) == (3, 2)
    assert report.counts(world.core)["ports_awaiting_groups"] == 0
    assert world.core.deadline() == world.now + LEARN
    world.pause(LEARN)
    assert posture(world, port) == (3, 3)
    world.deliver("switch")
    assert before <= policy_flows(world), "packets between two lookups still name the old policy"
    world.settle()
    world.check()
    assert calls(world, rpc.Wired) == []
    assert not before <= policy_flows(world)


def test_a_group_that_is_taken_away_is_gone_at_once(world: World) -> None:
    port = world.controller.create(1, "s1", HERE, groups=("db", "web"))
    world.plug(port, ofport=5)
    world.settle()
    world.controller.update(port, groups=("web",))
    world.deliver("feed", most=10)
    assert posture(world, port) == (3, 3)
    assert group_topic("db") in world.controller.bound, "as long as its policy drains"
    world.settle()
    world.check()
    assert group_topic("db") not in world.controller.bound


def test_a_zone_is_flushed_after_its_flows_went(world: World) -> None:
    """The port is deleted: its flows go, the switch confirms, the zone is flushed, the key goes, another gets it."""
    port = world.controller.create(1, "s1", HERE, groups=("web",))
    world.plug(port, ofport=5)
    world.settle()
    world.controller.delete(port)
    world.unplug(port)
    world.deliver("database")
    world.deliver("feed", most=10)
    world.pause(60)
    for _ in range(2):  # what the unplug changed, and what the deletion did
        assert world.core.enforcement.zones.deadline() is None, "its flows may be in the switch still"
        world.deliver("switch")
    assert not [effect for effect in world.step([]) if isinstance(effect, Submit)]
    due = world.core.deadline()
    assert due is not None
    world.now = due
    assert world.step([]) == [Submit(Flush(world.switch.connection, (1,)))]
    assert world.zones() == {port: 1}
    assert [type(effect) for effect in world.deliver("switch")] == [Transact]
    assert world.zones() == {}
    world.settle()
    world.check()
    assert world.core.enforcement.zones.numbers == {}


def test_left_overs_of_a_former_life_are_cleaned_up(world: World) -> None:
    """While the agent was away, one port was moved to another host: the new agent flushes its zone, and keeps the
    other's."""
    for number in (1, 2):
        world.plug(world.controller.create(number, "s1", HERE, groups=("web",)), ofport=4 + number)
    world.settle()
    assert sorted(world.zones()) == ["p1", "p2"]
    world.controller.bind("p1", "hv2")
    world.unplug("p1")
    world.start()
    world.settle(reports=0)
    assert world.tainted == {world.zones()["p2"]: "p2"}
    world.settle()
    world.check()
    assert list(world.zones()) == ["p2"]


def test_what_somebody_wrote_into_the_database_is_told_and_mended(world: World, caplog: Any) -> None:
    """Two ports get one number, and one gets nonsense: they go on in their zones, and one line of the log tells."""
    for number in (1, 2):
        world.plug(world.controller.create(number, "s1", HERE), ofport=4 + number)
    world.settle()
    before = world.zones()
    world.rows.named("Bridge", "br-int")["external_ids"] = {KEY + "p1": "2", KEY + "p2": "many"}
    with caplog.at_level("ERROR", "agents.news"):
        world.monitor()
        world.settle()
    (record,) = caplog.records
    assert f"{KEY}p1=2: it is 1" in record.getMessage() and f"{KEY}p2=many: it is 2" in record.getMessage()
    world.check()
    assert world.zones() == before


def test_no_zone_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """All zones are taken: a port is down and says why; a zone that becomes free goes to who waits."""
    monkeypatch.setattr(zones, "LARGEST_ZONE", 2)
    world.controller.group("plain", Rule("r8", 708, "plain", "ingress", 4), stateful=False)
    for number, groups in enumerate([("web",), ("plain",), ("web",)], 1):
        world.plug(world.controller.create(number, "s1", HERE, groups=groups), ofport=number)
    world.settle()
    assert [world.controller.ports[f"p{number}"].status for number in (1, 2, 3)] == ["ACTIVE", "ACTIVE", "DOWN"]
    assert "conntrack zones of this host are taken" in world.core.states.ports["p3"].reason
    assert "1 ports have none" in report.problems(world.core)[0]
    world.controller.delete("p1")
    world.unplug("p1")
    world.settle()
    world.check()
    assert world.controller.ports["p3"].status == "ACTIVE"
    assert report.problems(world.core) == []


def test_a_bridge_made_anew_gets_the_zones_again(world: World) -> None:
    """Somebody deletes br-int: the new row has all zones, with the numbers that their connections are under."""
    for number in (1, 2, 3):
        world.controller.create(number, "s1", HERE, groups=("web",))
    world.settle()
    before = world.zones()
    world.rows.delete_bridge("br-int")
    world.monitor()
    world.settle()
    world.check()
    assert world.zones() == before


def test_people_see_groups_policies_and_zones(world: World) -> None:
    """Counts in the report; in status.json the policy of each port, and what the key of a rule means."""
    for number, groups in enumerate([("web",), ("web",), ("db", "web"), ()], 1):
        world.plug(world.controller.create(number, "s1", HERE, groups=groups), ofport=number)
    world.settle()
    counts = calls(world, rpc.Report)[-1].configurations["counts"]
    assert (counts["security_groups"], counts["policies"], counts["zones"]) == (2, 2, 4)
    status = report.status(world.core)
    assert {name: port["policy"] for name, port in status["ports"].items()} == {"p1": 2, "p2": 2, "p3": 3, "p4": 0}
    assert status["objects"]["rule"] == {"702": "r2 of group web", "703": "r3 of group db"}
