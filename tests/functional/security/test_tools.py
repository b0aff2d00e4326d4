"""The measuring tools themselves, on a wire with nothing on it: what they call lost was lost, and nothing else."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import pytest

from devstack.labs import netns
from devstack.labs.vm import Vm, Wanted, configure
from tests.functional import frames
from tests.functional.security.connections import Held, Stream
from tests.functional.security.flood import Flood, Lane
from tests.functional.security.traffic import NUMBERS, Attempt, outcomes

Wire = tuple[Vm, Vm]


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    """Two guests whose interfaces are the ends of one cable."""
    names = [f"sv{os.getpid()}{end}" for end in "ab"]
    try:
        for name in names:
            netns.run(["ip", "netns", "add", name])
        netns.ip([f"link add eth0 type veth peer name eth0 netns {names[1]}"], names[0])
        vms = []
        for number, name in enumerate(names, start=1):
            want = Wanted(name, "", (f"10.0.0.{number}/24", f"fd00:10::{number}/64"), (), 1500)
            configure(netns.path_of(name), want)
            vms.append(Vm(want, name, netns.path_of(name)))
        yield vms[0], vms[1]
    finally:
        for name in names:
            netns.end(name)


@contextlib.contextmanager
def mute(wire: Wire) -> Iterator[None]:
    """Meanwhile the second guest hears, and what it sends is lost."""
    routes = [f"route {{}} blackhole {address}" for address in ("10.0.0.1/32", "fd00:10::1/128")]
    netns.ip([route.format("add") for route in routes], wire[1].hypervisor)
    try:
        yield
    finally:
        netns.ip([route.format("del") for route in routes], wire[1].hypervisor)


@pytest.mark.parametrize("version", (4, 6))
def test_everything_is_answered_on_a_bare_wire(wire: Wire, version: int) -> None:
    """Each protocol on two ports at once, both ways: all are answered; with answers lost they have but arrived."""
    a, b = wire
    kinds = [name for name in NUMBERS if name != "ipv6-icmp"]
    attempts = [
        Attempt(source, target, kind, port, version)
        for source, target in ((a, b), (b, a))
        for kind in kinds
        for port in (8001, 8002)
    ]
    told = outcomes(*attempts, patience=2)
    assert dict(zip(map(str, attempts), told, strict=True)) == dict.fromkeys(map(str, attempts), "answered")
    with mute(wire):
        assert outcomes(*attempts) == ["reached" if attempt.source is a else "stopped" for attempt in attempts]


def test_what_is_lost_is_told(wire: Wire) -> None:
    """A server that is mute for a while: the flood counts the answers that did not come, the stream's kernel sends
    again, and a connection carries one direction only. Before and after, nothing is lost."""
    a, b = wire
    with Stream(a, b, 7000) as stream, Flood(Lane(a, b, 1000, True), Lane(a, b, 1001, False)) as flood:
        pass
    sent = flood.lanes[1].sent
    assert flood.wrong() == [f"{flood.lanes[1]}: {sent} of {sent} arrived, e.g. number 0"]
    assert (stream.suffered.lost, stream.suffered.broken) == (0, "")
    with Held.tcp(a, b, 7001) as tcp, Held.udp(a, b, 7002) as udp:
        assert tcp.lives() and udp.lives()
        with Stream(a, b, 7003) as stream, Flood(Lane(a, b, 1002, True)) as flood, mute(wire):
            time.sleep(0.3)
            assert udp.talks() == (True, False)
            assert tcp.talks() != (True, True)
        assert stream.suffered.lost
        assert "answers" in flood.wrong()[0]


@pytest.mark.parametrize("version", (4, 6))
def test_hand_made_fragments_are_fragments(wire: Wire, version: int) -> None:
    """A kernel makes the datagram of them that was taken apart, in any order."""
    a, b = wire
    macs = [vm.run("ip", "-br", "link", "show", "eth0").split()[2] for vm in wire]
    whole = frames.udp(macs[0], macs[1], a.address(version), b.address(version), b"." * 6000)
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with b.open_socket(family, socket.SOCK_DGRAM) as ear, a.packet_socket() as mouth:
        ear.bind((b.address(version), 4000))
        ear.settimeout(2)
        for step in (1, -1):
            parts = frames.fragments(whole)
            assert len(parts) == 5
            for part in parts[::step]:
                mouth.send(part)
            assert ear.recv(65535) == b"." * 6000
