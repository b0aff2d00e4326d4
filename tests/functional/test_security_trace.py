"""Security groups on a real switch: the oracle, the interpreter and `ofproto/trace` agree on random projects.

Stories are those of the unit tests, from fixed seeds. hv1's flows go into a real Open vSwitch as an agent puts them
there, and change there as the story goes on. Whatever comes to hv1 (from its ports, its wire, its tunnels) is traced,
with what the tracker says of it; it must leave by the same ports as in Python. (A trace knows no connection's
addresses, so later fragments that are tracked are left out: `test_security_packets` sends real ones.)
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from selvedge.topology import SegmentKind
from tests.conntrack import LATER
from tests.flowtable import Sent, Switch
from tests.functional.small_agent import Agent
from tests.functional.test_pipeline_on_ovs import PORTS, Bridge
from tests.interpreter import Hypervisor, Packet
from tests.random_projects import KINDS, project
from tests.random_stories import Story


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    """One bridge for all."""
    directory = Path(tempfile.mkdtemp(prefix="selvedge-"))
    made = Bridge(directory)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(directory, ignore_errors=True)


class Recorder:
    """Keeps what hv1's switch in Python was given, and what it did."""

    def __init__(self, switch: Switch) -> None:
        self.seen: list[tuple[Packet, int, list[Sent], list[int]]] = []
        self._process = switch.process
        self._switch = switch
        switch.process = self  # type: ignore[method-assign]

    def __call__(self, packet: Packet, in_port: int) -> list[Sent]:
        sent = list(self._process(packet, in_port))
        self.seen.append((packet, in_port, sent, list(self._switch.tracked)))
        return sent


class Double:
    """hv1 of a story in Open vSwitch: follows its flows, and traces what comes to it."""

    def __init__(self, bridge: Bridge, hypervisor: Hypervisor) -> None:
        self._bridge, self._hypervisor = bridge, hypervisor
        self._agent = Agent(bridge)
        self._flows, self._groups = set[bytes](), set[int]()
        self.traced = self.left = 0

    def follow(self) -> None:
        """Have the flows as they are now."""
        self._hypervisor.switch()  # which computes what is new, and keeps it for itself too
        engine = self._hypervisor.engine
        flows, groups = engine.flows(), engine.groups()
        gone = dict.fromkeys(self._flows - flows.keys()), dict.fromkeys(self._groups - groups.keys())
        self._flows, self._groups = set(flows), set(groups)
        self._agent.programmer.change({**gone[0], **flows}, {**gone[1], **groups}, engine.owners())
        self._agent.settle()

    def compare(self, recorder: Recorder) -> None:
        """Trace what the recorder has seen."""
        for packet, in_port, sent, tracked in recorder.seen:
            if packet.get("ip_frag") == LATER and tracked:
                continue
            expected = Counter(one.port for one in sent)
            assert self._bridge.trace(packet, in_port, tracked) == expected, f"in port {in_port}: {packet}, {tracked}"
            self.traced += 1
            self.left += bool(expected)
        recorder.seen.clear()

    def close(self) -> None:
        self._agent.switch.stop()


def play(bridge: Bridge, kind: SegmentKind, seed: int) -> Double:
    """One story: whatever happens at hv1 happens on the real switch too."""
    random = Random(seed)
    story = Story(random, project(random, [kind]))
    hypervisor = story.project.fabric.hypervisors["hv1"]
    double = Double(bridge, hypervisor)
    try:
        double.follow()
        for _ in range(30):
            if not set(hypervisor.interfaces) <= set(PORTS):
                break
            switch = hypervisor.switch()
            if isinstance(switch.process, Recorder):
                recorder = switch.process
            else:
                recorder = Recorder(switch)
                double.follow()
            story.step()
            double.compare(recorder)
    finally:
        double.close()
    return double


@pytest.mark.parametrize("kind", KINDS)
def test_stories_are_told_alike(bridge: Bridge, kind: SegmentKind) -> None:
    """Given random projects with hv1 on a real switch: packets and changes in turns, and all three say the same."""
    doubles = [play(bridge, kind, seed) for seed in range(100, 112)]
    traced, left = sum(double.traced for double in doubles), sum(double.left for double in doubles)
    assert traced > 150 and 30 < left < traced - 30, (traced, left)
