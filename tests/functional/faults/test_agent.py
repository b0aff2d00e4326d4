"""The agent ends and begins, in every way: the data plane does not notice.

A numbered ping, a TCP stream and new connections run over the tunnel meanwhile (`traffic`), and a
flow monitor of our own tells what happened to flows, so that nothing is taken from the agent's word alone.
"""

import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from bench.openflow_watch import Watch
from devstack.labs.hypervisor import Hypervisor
from tests.functional.faults.looking import picture, same_again, settled
from tests.functional.faults.traffic import Traffic, lost_nothing
from tests.functional.verbs import World

pytestmark = pytest.mark.alone

CRASHES = 100
LONGEST = 0.8
"""Seconds until the last instant at which a start is killed: a little beyond its end, and not for long."""

NEW_LAYOUT = """
from openflow import pipeline

for family in pipeline.FAMILIES:
    if family.priority:
        object.__setattr__(family, "priority", family.priority + 1)
"""
"""A version whose flows differ: other priorities, which are part of what a flow is. As `sitecustomize` of the agent."""


def start_upgraded(hypervisor: Hypervisor, where: Path, patch: pytest.MonkeyPatch) -> None:
    """Start the agent as a version with other flows."""
    (where / "sitecustomize.py").write_text(NEW_LAYOUT)
    with patch.context() as once:
        once.setenv("PYTHONPATH", f"{where}{os.pathsep}{os.environ.get('PYTHONPATH', '')}".rstrip(os.pathsep))
        hypervisor.start("agent")


@pytest.mark.parametrize("end", ("stop", "kill"))
def test_an_upgrade_to_other_flows_loses_nothing(
    two: World, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM or SIGKILL, and a version begins whose every flow is another: no packet is lost, no flow goes without the
    one in its place, what was asked meanwhile is done, and the way back is the same."""
    blue = two.network("geneve")
    a, b, gone = two.port(blue, "hv1"), two.port(blue, "hv2"), two.port(blue, "hv1")
    host = two.hypervisor("hv1")
    before = picture(host)
    watch = Watch(host.rundir / "br-int.mgmt")
    watch.subscribe()
    try:
        with Traffic(a, b) as traffic:
            getattr(host, end)("agent")
            two.delete_port(gone.port)
            start_upgraded(host, tmp_path, monkeypatch)
            new = two.lab.plug(two.bound(blue, "hv1")["id"], "hv1", active=None)
            two.lab.wait_status(new.port, "ACTIVE")
            settled(host)
            upgraded = picture(host)
            changes = watch.changes()

            events = Counter(change.event for change in changes)
            getattr(host, end)("agent")
            host.start("agent")
            settled(host)
            lost_nothing(traffic.finish())
    finally:
        watch.close()
    assert not set(upgraded[0]) & set(before[0]) - {line for line in before[0] if "priority=0" in line}
    assert events["removed"] <= events["added"] + len(before[0]), events
    assert two.ping(b, new)
    assert not [line for line in picture(host)[0] if gone.want.mac in line]


def test_a_crash_loop_loses_nothing(two: World) -> None:
    """Killed a hundred times at random instants of its start: no packet is lost, no flow touched; the next start is in
    sync, with nothing to do."""
    blue = two.network("geneve")
    a, b = two.port(blue, "hv1"), two.port(blue, "hv2")
    two.port(two.network("vlan"), "hv1")
    host = two.hypervisor("hv1")
    before, chance = picture(host), random.Random(4)
    host.kill("agent")
    host.start("agent")
    latest = min(LONGEST, 1.2 * float(settled(host)["in_sync_s"]))
    watch = Watch(host.rundir / "br-int.mgmt")
    watch.subscribe()
    try:
        with Traffic(a, b) as traffic:
            for _ in range(CRASHES):
                host.kill("agent")
                host.start("agent")
                time.sleep(chance.uniform(0.0, latest))
            host.kill("agent")
            host.start("agent")
            status = settled(host)
            lost_nothing(traffic.finish())
            assert not watch.changes()
    finally:
        watch.close()
    assert status["flow_mods_sent"] == status["group_mods_sent"] == 0
    same_again(host, before)
    assert two.status(a) == "ACTIVE"
