"""The flows of named scenarios, as people read them: `UPDATE_GOLDEN=1 pytest tests/unit/test_golden_flows.py` rewrites.

Each file in golden/flows has the scenario in words, then all flows and groups of hv1 as ovs-ofctl would print them,
sorted by table, priority and text, with what owns them. A change of a compiler shows here as a diff that a reviewer
can read.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from openflow.codec.text import flow_text, group_text
from tests.interpreter import Fabric

GOLDEN = Path(__file__).parent / "golden" / "flows"


def one_port() -> Fabric:
    """One IPv4 port with port security, alone on a Geneve network: seven flows of its own."""
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


SCENARIOS: tuple[Callable[[], Fabric], ...] = (
    one_port,
    dual_stack,
    geneve,
    vxlan,
    vlan,
    flat,
    ipv6_underlay,
    allowed_pairs,
)


def text(fabric: Fabric, words: str) -> str:
    """All flows and groups of hv1."""
    engine = fabric.hypervisors["hv1"].engine
    engine.recompute()
    owners = engine.owners()
    flows = sorted(engine.flows().values(), key=lambda flow: (flow.table, -flow.priority, flow_text(flow)))
    lines = [f"# {line}" for line in words.strip().splitlines()]
    table = -1
    for flow in flows:
        if flow.table != table:
            lines.append("")
        table = flow.table
        lines.append(f"{flow_text(flow)}    # {_name(owners[flow.key])}")
    lines.append("")
    lines += [f"{group_text(group)}    # {_name(owners[number])}" for number, group in sorted(engine.groups().items())]
    return "\n".join(lines) + "\n"


def _name(owner: tuple[object, ...]) -> str:
    return " ".join(f"{part:#x}" if isinstance(part, int) and part > 6 else str(part) for part in owner)


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
