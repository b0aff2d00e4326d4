"""The flows of named scenarios, as people read them: `UPDATE_GOLDEN=1 pytest tests/unit/test_golden_flows.py` rewrites.

Each file in golden/flows has the scenario in words, then all flows and groups of hv1 as ovs-ofctl would print them,
sorted by table, priority and text, with what owns them, and the rule they are there for. A change of a compiler shows
here as a diff that a reviewer can read. The scenarios of security groups are those that docs/security.md explains.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from openflow import pipeline as p
from openflow.codec.text import flow_text, group_text
from openflow.flow import Flow
from selvedge.topology import Rule
from tests import security_scenarios
from tests.interpreter import Fabric
from tests.project import Project

GOLDEN = Path(__file__).parent / "golden" / "flows"
DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"


def one_port() -> Fabric:
    """One IPv4 port with port security, alone on a Geneve network: eight flows of its own. Here and below, ports of
    which nothing else is said are in a stateless group that allows everything."""
    fabric = Fabric()
    fabric.hypervisor("hv1")
    fabric.network("net")
    fabric.port("vm", "net", "hv1", "10.0.0.1")
    return fabric


def dual_stack() -> Fabric:
    """One dual-stack port, alone on a Geneve network."""
    fabric = Fabric()
    fabric.hypervisor("hv1")
    fabric.network("net")
    fabric.port("vm", "net", "hv1", "10.0.0.1", "fd00::1")
    return fabric


def geneve() -> Fabric:
    """Geneve: port security off, a port here, one on hv2, and one here that is bound and not plugged yet."""
    return _two_hosts("geneve")


def vxlan() -> Fabric:
    """VXLAN: the same ports as for Geneve."""
    return _two_hosts("vxlan")


def vlan() -> Fabric:
    """VLAN 100 on physnet1: the same ports as for Geneve."""
    return _two_hosts("vlan")


def flat() -> Fabric:
    """Flat on physnet1: the same ports as for Geneve."""
    return _two_hosts("flat")


def _two_hosts(kind: str) -> Fabric:
    fabric = Fabric()
    fabric.hypervisor("hv1")
    fabric.hypervisor("hv2")
    fabric.network("net", kind, 0 if kind == "flat" else 100)  # type: ignore[arg-type]
    fabric.port("here", "net", "hv1", "10.0.0.1", secure=False)
    fabric.port("bound", "net", "hv1", "10.0.0.2", secure=False, plugged=False)
    fabric.port("there", "net", "hv2", "10.0.0.3", "fd00::3")
    return fabric


def ipv6_underlay() -> Fabric:
    """Tunnel end points are IPv6 addresses."""
    fabric = Fabric()
    fabric.hypervisor("hv1", "2001:db8::1")
    fabric.hypervisor("hv2", "2001:db8::2")
    fabric.network("net")
    fabric.port("here", "net", "hv1", secure=False)
    fabric.port("there", "net", "hv2")
    return fabric


def allowed_pairs() -> Fabric:
    """VRRP between a port here and one on hv2: a virtual MAC and IP in both ports' pairs; and a prefix without MAC."""
    fabric = Fabric()
    fabric.hypervisor("hv1")
    fabric.hypervisor("hv2")
    fabric.network("net")
    shared = ("00:00:5e:00:01:07", "10.0.0.100/32")
    fabric.port("here", "net", "hv1", "10.0.0.1", pairs=[shared, ("", "10.1.0.0/16")])
    fabric.port("there", "net", "hv2", "10.0.0.2", pairs=[shared])
    return fabric


def _security(scenario: Callable[[], Project]) -> Callable[[], Fabric]:
    def made() -> Fabric:
        return scenario().fabric

    made.__name__ = f"security_{scenario.__name__}"
    made.__doc__ = scenario.__doc__
    return made


SCENARIOS: tuple[Callable[[], Fabric], ...] = (
    one_port,
    dual_stack,
    geneve,
    vxlan,
    vlan,
    flat,
    ipv6_underlay,
    allowed_pairs,
    *map(_security, security_scenarios.SCENARIOS),
)


def text(fabric: Fabric, words: str) -> str:
    """All flows and groups of hv1."""
    engine = fabric.hypervisors["hv1"].engine
    engine.recompute()
    owners = engine.owners()
    flows = sorted(engine.flows().values(), key=lambda flow: (flow.table, -flow.priority, flow_text(flow)))
    lines = [f"# {line.strip()}" for line in words.strip().splitlines()]
    table = -1
    for flow in flows:
        if flow.table != table:
            lines.append("")
        table = flow.table
        lines.append(f"{flow_text(flow)}    # {_name(owners[flow.key])}{_rule(fabric, flow)}")
    lines.append("")
    lines += [f"{group_text(group)}    # {_name(owners[number])}" for number, group in sorted(engine.groups().items())]
    return "\n".join(lines) + "\n"


def _name(owner: tuple[object, ...]) -> str:
    return " ".join(f"{part:#x}" if isinstance(part, int) and part > 6 else str(part) for part in owner)


def _rule(fabric: Fabric, flow: Flow) -> str:
    kind, key = p.owner_of(flow.cookie) or (None, 0)
    rules = [fact for fact in fabric.facts.values() if isinstance(fact, Rule) and fact.key == key]
    return f", {rules[0].group}: {rules[0].id}" if kind == p.Kind.RULE and rules else ""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_flows_are_as_written_down(scenario: Callable[[], Fabric]) -> None:
    """The scenario's flows equal its file."""
    path = GOLDEN / f"{scenario.__name__}.txt"
    actual = text(scenario(), scenario.__doc__ or "")
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(actual)
    assert actual == path.read_text(), f"{path.name}: if the change is meant, run with UPDATE_GOLDEN=1 and review it"


def test_no_file_without_scenario() -> None:
    """Every golden file belongs to a scenario."""
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {scenario.__name__ for scenario in SCENARIOS}


def test_the_flows_in_the_document_are_these() -> None:
    """What docs/security.md shows of a scenario is in its file, but for the cookies."""
    blocks = re.findall(r"```flows (\w+)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == len(security_scenarios.SCENARIOS)
    for name, shown in blocks:
        written = re.sub(r"(?m)^cookie=\w+, ", "", (GOLDEN / f"{name}.txt").read_text()).splitlines()
        assert set(shown.splitlines()) <= set(written), name
