"""Security groups on a real switch with real packets: Open vSwitch's own connection tracker, fragments and ICMP errors.

What `ofproto/trace` must be told, a packet finds out. Stories are those of the unit tests, from fixed seeds, on one
host: packets enter by the port of their sender, and the counters of all ports say who got them. The oracle must have
said so. A datagram in fragments arrives if all of it does.
"""

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.functional.raw_frames import frames_of
from tests.functional.test_pipeline_on_ovs import PORTS, Bridge
from tests.functional.test_security_trace import Double
from tests.oracle_packets import Frame, Packet
from tests.project import Project
from tests.random_projects import project
from tests.random_stories import Story


class Ports(Bridge):
    """A bridge whose interfaces are up, and silent but for what is sent."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        inside = ["nsenter", "-t", str(self.pid("ovs-vswitchd")), "-n"]
        for word in ("all", "default"):
            subprocess.run([*inside, "sysctl", "-qw", f"net.ipv6.conf.{word}.disable_ipv6=1"], check=True)
        for number in PORTS:
            subprocess.run([*inside, "ip", "link", "set", f"t{number}", "up"], check=True)

    def inject(self, in_port: int, frames: list[bytes]) -> Counter[int]:
        """Frames enter by a port: how many each of the others got."""
        before = self._got()
        for frame in frames:
            self.ofctl("packet-out", f"in_port={in_port},packet={frame.hex()},actions=resubmit(,0)")
        return self._got() - before

    def _got(self) -> Counter[int]:
        told = self.ofctl("dump-ports")
        return Counter(
            {int(n): int(count) for n, count in re.findall(r"port +(\d+): rx [^\n]*\n +tx pkts=(\d+)", told)}
        )


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    """One bridge for all."""
    directory = Path(tempfile.mkdtemp(prefix="selvedge-"))
    made = Ports(directory)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(directory, ignore_errors=True)


class RealStory(Story):
    """A story in which every packet is a real one too. Of a datagram in fragments each port gets all, or nothing."""

    def __init__(self, random: Random, made: Project, ports: Ports, double: Double) -> None:
        super().__init__(random, made)
        self._ports, self._double = ports, double
        self.real = self.heard = 0

    def _send(self, sender: str, said: Frame) -> set[str]:
        if not isinstance(said, Packet) or not _can_be_made(said):
            return set()
        if said.fragment:
            expected = super()._send(sender, replace(said, fragment="first"))
            expected &= self.project.send(sender, replace(said, fragment="later"))
        else:
            expected = super()._send(sender, said)
        hypervisor = self.project.fabric.hypervisors["hv1"]
        self._double.follow()
        frames = frames_of(said)
        got = self._ports.inject(hypervisor.ofport(sender), frames)
        wanted = {number: len(frames) for number, name in hypervisor.interfaces.items() if name in expected}
        assert got == wanted, f"{sender} sends {said}: {got}, not {wanted}"
        self.real += 1
        self.heard += bool(wanted)
        return expected


def _can_be_made(said: Packet) -> bool:
    """Neighbour discovery has options."""
    return said.icmpv6 not in (133, 134, 135, 136)


class Pair:
    """a and b on the real switch, each in a group of its name; `arrives` sends a real datagram, and asks the oracle."""

    def __init__(self, ports: Ports, **stateful: bool) -> None:
        ports.appctl("dpctl/flush-conntrack")
        self.project = Project("hv1")
        self.project.network("net")
        for number, name in enumerate("ab", 1):
            self.project.group(name, stateful=stateful.get(name, True))
            self.project.port(name, "net", "hv1", f"10.0.0.{number}", f"fd00::{number}", groups=[name])
        self._ports = ports
        self._double = Double(ports, self.project.fabric.hypervisors["hv1"])

    def arrives(self, sender: str, said: Packet) -> bool:
        """Whether all of a datagram arrives."""
        self._double.follow()
        frames = frames_of(said)
        parts = [replace(said, fragment=fragment) for fragment in ("first", "later")] if said.fragment else [said]
        reached = [self.project.send(sender, part) for part in parts]
        expected = all(reached)
        got = self._ports.inject(10 if sender == "a" else 11, frames)
        assert got == ({11 if sender == "a" else 10: len(frames)} if expected else {}), got
        return expected

    def close(self) -> None:
        self._double.close()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tracked", ["", "a", "b", "ab"])
def test_fragments_pass_or_fall_with_their_first(ports: Ports, version: int, tracked: str) -> None:
    """Given UDP 80 allowed from a to b, each stateful or not: a datagram in fragments to it arrives, one to port 81
    does not; the answer in fragments arrives if both track the connection; all ends when the rule goes."""
    pair = Pair(ports, a="a" in tracked, b="b" in tracked)
    try:
        project = pair.project
        project.rule("a", "egress", f"IPv{version}", protocol="udp", ports=(80, 81))
        rule = project.rule("b", "ingress", f"IPv{version}", protocol="udp", ports=(80, 80))
        project.rule("b", "ingress", f"IPv{version}", protocol="gre")
        said = project.packet("a", "b", 17, version, fragment="first")
        for _ in range(2):
            assert not pair.arrives("a", replace(said, target_port=81))
            assert pair.arrives("a", said)
        assert pair.arrives("b", project.answer(said)) is (tracked == "ab")
        project.delete_rule(rule)
        assert not pair.arrives("a", said) and not pair.arrives("b", project.answer(said))
    finally:
        pair.close()


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_is_cut_with_its_rule(ports: Ports, version: int) -> None:
    """Given a connection, and an ICMP error about it: it is cut in both directions with the rule, and goes on when
    another rule allows it again."""
    pair = Pair(ports)
    try:
        project = pair.project
        project.rule("a", "egress", f"IPv{version}")
        rule = project.rule("b", "ingress", f"IPv{version}", protocol="udp", ports=(80, 80))
        said = project.packet("a", "b", 17, version)
        back = project.answer(said)
        error = project.packet("b", "a", 1 if version == 4 else 58, version, kind=3 if version == 4 else 1, quoted=said)
        for _ in range(3):
            assert pair.arrives("a", said) and pair.arrives("b", back) and pair.arrives("b", error)
        project.delete_rule(rule)
        assert not pair.arrives("a", said) and not pair.arrives("b", back)
        project.rule("b", "ingress", f"IPv{version}", protocol="udp", ports=(79, 81))
        assert pair.arrives("a", said) and pair.arrives("b", back)
    finally:
        pair.close()


def test_real_packets_arrive_as_the_oracle_says(ports: Ports) -> None:
    """Given random projects on one host: TCP, UDP, SCTP, ICMP and others, answers, errors and fragments, with changes
    in between, reach those ports that the oracle names."""
    real = heard = 0
    for seed in range(300, 316):
        random = Random(seed)
        made = project(random, ["geneve"], hosts=1)
        double = Double(ports, made.fabric.hypervisors["hv1"])
        story = RealStory(random, made, ports, double)
        ports.appctl("dpctl/flush-conntrack")
        try:
            for _ in range(30):
                if set(made.fabric.hypervisors["hv1"].interfaces) <= set(PORTS):
                    story.step()
        finally:
            double.close()
        real, heard = real + story.real, heard + story.heard
    assert real > 150 and 40 < heard < real - 40, (real, heard)
