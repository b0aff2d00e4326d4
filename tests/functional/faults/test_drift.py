"""Somebody writes to br-int by hand: the agent finds it by itself, names it by the tenant's object, and heals it."""

from collections.abc import Iterator

import pytest

from devstack.labs.lab import Lab
from devstack.labs.process import wait_for
from tests.functional.faults.auditing import agents, drift, flow_of, log, restart, same
from tests.functional.verbs import World


@pytest.fixture(scope="module", autouse=True)
def _often(lab_of_two: Lab) -> Iterator[None]:
    """The agents read their switches every second or so."""
    with agents(lab_of_two, audit_interval="1"):
        yield


def test_flows_and_groups_changed_by_hand_are_healed_counted_and_named(two: World) -> None:
    """A port's flow is deleted, another's actions are altered, one is added under our cookie, a foreign one and a
    foreign group are added, the segment's group is deleted with all flows that lead to it: each is counted by its kind
    and named in the log; the tables are as before, and the VMs reach each other."""
    blue = two.network("geneve")
    near, far = two.port(blue, "hv1"), two.port(blue, "hv2")
    host = two.hypervisor("hv1")
    flows, groups = host.flows(), host.groups()
    before = drift(host)
    host.ofctl("--strict", "del-flows", "br-int", flow_of(host, "endpoint", 0).partition(",")[2])
    host.ofctl("add-flow", "br-int", f"{flow_of(host, 'endpoint', 80)},actions=drop")
    host.ofctl("add-flow", "br-int", "cookie=0x5e03000000000abc,table=10,priority=999,in_port=77,actions=drop")
    host.ofctl("add-flow", "br-int", "cookie=0x1234,table=0,priority=65000,in_port=77,actions=normal")
    host.ofctl("add-group", "br-int", "group_id=77,type=select,bucket=actions=drop")
    host.ofctl("del-groups", "br-int", f"group_id={groups[0].partition('=')[2].partition(',')[0]}")
    same(host, flows, groups)
    wait_for("the counters", lambda: drift(host)["foreign"] >= before["foreign"] + 2, 5)
    grown = {kind: count - before[kind] for kind, count in drift(host).items()}
    assert grown["missing"] >= 3  # the group, what leads to it, and the port's flow
    assert (grown["altered"], grown["unknown"], grown["foreign"]) == (1, 1, 2)
    told = log(host)
    assert f"endpoint {near.port} (table 0, priority 100, in_port=" in told
    assert "altered: endpoint" in told
    assert "unknown: endpoint with key 2748 (table 10, priority 999, in_port=77)" in told
    assert "foreign: " in told
    assert "table 0, priority 65000, in_port=77" in told
    assert two.ping(near, far)


def test_all_flows_are_deleted_by_hand(two: World) -> None:
    """`ovs-ofctl del-flows br-int`: everything comes back, by itself."""
    blue = two.network("vxlan")
    near, far = two.port(blue, "hv1"), two.port(blue, "hv2")
    host = two.hypervisor("hv1")
    flows, groups = host.flows(), host.groups()
    host.ofctl("del-flows", "br-int")
    same(host, flows, groups)
    assert two.ping(near, far)


def test_foreign_flows_are_kept_if_the_operator_says_so(two: World) -> None:
    """`foreign_flows = keep`: a foreign flow and a foreign group stay, are named and counted as what is there. An agent
    that may remove them does so when it connects, and says what it found."""
    host = two.hypervisor("hv1")
    restart(host, audit_interval="1", foreign_flows="keep")
    host.ofctl("add-flow", "br-int", "cookie=0x4321,table=9,priority=7,tcp,in_port=78,tp_dst=80,actions=drop")
    host.ofctl("add-group", "br-int", "group_id=78,type=all,bucket=actions=drop")
    wait_for("two foreign entries", lambda: host.status()["counts"]["foreign"] == 2, 10)
    audits = host.status()["counts"]["audits"]
    wait_for("a further audit", lambda: host.status()["counts"]["audits"] > audits, 10)
    assert [len(host.flows()), len(host.groups()), drift(host)["foreign"]] == [1, 1, 2]
    restart(host, audit_interval="0")
    wait_for("the end of them", lambda: not host.flows() and not host.groups(), 10)
    wait_for("its counter", lambda: drift(host)["foreign"] == 2, 5)
    assert "table 9, priority 7, tcp,in_port=78,tp_dst=80" in log(host)
    restart(host, audit_interval="1")


def test_br_int_is_deleted_by_hand(two: World) -> None:
    """The agent makes it anew; when the VM is plugged again it has all its flows, and that is what a check says too."""
    blue = two.network("geneve")
    near, far = two.port(blue, "hv1"), two.port(blue, "hv2")
    host = two.hypervisor("hv1")
    host.run("ovs-vsctl", "del-br", "br-int")
    wait_for("a new br-int", lambda: "br-int" in host.run("ovs-vsctl", "list-br").split(), 10, 0.05)
    wait_for("its plug", lambda: host.status()["counts"]["ports_down"] == 1, 10, 0.05)
    host.plug(near.want.tap, near.port, near.want.mac)
    two.lab.wait_status(near.port, "ACTIVE")
    wait_for("the path", lambda: two.ping(near, far), 10, 0.1)
    assert two.check() == []
