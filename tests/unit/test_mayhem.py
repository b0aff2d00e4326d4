"""The pure parts of chaos: what is drawn, what is excused, what counts as lost. Judges, so they are judged first."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bench.excuses import MENDED_S, Happened, Loss, judge, windows
from bench.mayhem import KINDS, plan
from bench.model import PREFIX, Model, compare, doubles

HOSTS, CONTROLLERS = ["hv1", "hv2", "hv3"], ["controller1", "controller2"]


@given(st.integers(0, 10_000), st.integers(10, 600))
def test_a_seed_is_a_plan_in_which_no_unit_breaks_twice_at_once(seed: int, seconds: int) -> None:
    """Drawn twice, the plan is the same; a unit's faults do not meet; all end with the run."""
    faults = plan(seed, seconds, HOSTS, CONTROLLERS)
    assert faults == plan(seed, seconds, HOSTS, CONTROLLERS)
    free: dict[str, float] = {}
    for fault in faults:
        assert free.get(fault.unit, 0.0) <= fault.begin < fault.end <= seconds
        free[fault.unit] = fault.end


def test_every_kind_of_fault_comes_up_and_some_overlap() -> None:
    """An hour has all of them, and moments at which several parts are broken."""
    faults = plan(1, 3600, HOSTS, CONTROLLERS)
    assert {(fault.part, fault.how) for fault in faults} == {(kind.part, kind.how) for kind in KINDS}
    assert any(one.end > other.begin for one, other in pairwise(faults))


def lost(begin: float, end: float, *hosts: str) -> Loss:
    return Loss("a pair", frozenset(hosts), begin, end, 10)


def test_packets_across_a_broken_switch_are_excused_and_no_others() -> None:
    """hv1's vswitchd is dead for two seconds: a pair on hv1 may lose until it is mended, a pair elsewhere nothing."""
    allowed = windows([Happened(10, 12, "hv1", "vswitchd", "kill")])
    here, later = lost(10.5, 12.5, "hv1", "hv2"), lost(13 + MENDED_S, 14 + MENDED_S, "hv1", "hv2")
    early, elsewhere = lost(9, 9.5, "hv1", "hv2"), lost(11, 11.5, "hv2", "hv3")
    bad, excused = judge([early, here, elsewhere, later], allowed)
    assert bad == [early, elsewhere, later]
    assert list(excused.values()) == [here.count]


def test_a_loss_that_outlasts_its_excuse_is_none() -> None:
    """It began while the switch was broken, and went on when nothing was."""
    allowed = windows([Happened(10, 12, "hv1", "ovsdb", "kill")])
    stays = lost(11, 13 + MENDED_S, "hv1", "hv2")
    assert judge([stays], allowed)[0] == [stays]


def test_nothing_central_and_no_agent_excuses_a_packet() -> None:
    """Agents, broker, controllers, database and links may die without a packet lost."""
    parts = {"agent": "hv1", "link": "hv1", "broker": "broker", "controller": "controller1", "postgresql": "postgresql"}
    assert not windows([Happened(1, 9, place, part, "kill") for part, place in parts.items()])


def test_a_switch_is_mended_when_its_agent_is_back_too() -> None:
    """vswitchd and then the agent of hv1 die: nobody can replay the flows until the agent is there. hv2's agent is
    another matter."""
    broken = Happened(10, 11, "hv1", "vswitchd", "kill")
    agent = Happened(10.5, 20, "hv1", "agent", "kill")
    assert windows([broken, agent])[0].end == 20 + MENDED_S
    assert windows([broken, Happened(10.5, 20, "hv2", "agent", "kill")])[0].end == 11 + MENDED_S


def listed(**more: Any) -> dict[str, Any]:
    """A port as the API lists it."""
    port = {"id": "p", "name": f"{PREFIX}1", "network_id": "n", "mac_address": "fa:16:3e:00:00:01", "fixed_ips": []}
    return port | {"binding:host_id": "hv1"} | more


def told(model: Model, *ports: dict[str, Any]) -> list[str]:
    return compare([model], {"port": ports})


def test_what_was_answered_must_be_there_as_it_was_answered() -> None:
    """A port is made and moved; it is listed as it is, where it was, or not at all."""
    model = Model()
    port = model.made("port", f"{PREFIX}1", listed(), "binding:host_id")
    model.changed(port, "binding:host_id", "hv2")
    assert not told(model, listed(**{"binding:host_id": "hv2"}))
    assert "hv2" in told(model, listed())[0]
    assert "is not there" in told(model)[0]


def test_what_was_not_answered_may_be_either() -> None:
    """A move had no answer: both hosts are right, a third is not. A creation had none: it may be there."""
    model = Model()
    port = model.made("port", f"{PREFIX}1", listed(), "binding:host_id")
    model.attempted(port, "binding:host_id", "hv2")
    model.unanswered(f"{PREFIX}2")
    for host in ("hv1", "hv2"):
        assert not told(model, listed(**{"binding:host_id": host}))
    assert told(model, listed(**{"binding:host_id": "hv3"}))
    assert not told(model, listed(), listed(id="q", name=f"{PREFIX}2"))
    assert "nobody has made it" in told(model, listed(), listed(id="q", name=f"{PREFIX}3"))[0]


def test_what_was_deleted_must_be_gone() -> None:
    """Its deletion was answered."""
    model = Model()
    model.deleted(model.made("port", f"{PREFIX}1", listed()))
    assert not told(model)
    assert "deletion" in told(model, listed())[0]


def test_an_address_a_mac_or_a_vni_twice_is_found() -> None:
    """Two ports with one address, and two networks with one VNI."""
    fixed = [{"subnet_id": "s", "ip_address": "10.0.0.5"}]
    ports = [listed(fixed_ips=fixed), listed(id="q", mac_address="fa:16:3e:00:00:02", fixed_ips=fixed)]
    segment = {
        "provider:network_type": "geneve",
        "provider:physical_network": None,
        "provider:segmentation_id": 7,
    }
    assert len(doubles({"port": ports, "network": [{"id": "n"} | segment, {"id": "m"} | segment]})) == 2
    assert not doubles({"port": ports[:1], "network": []})
    assert len(doubles({"port": [listed(), listed(id="q")], "network": []})) == 1
