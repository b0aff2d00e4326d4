"""The first packet to a new tunnel peer: lost if nobody asks for the next hop beforehand, and not lost if we do.

One real Open vSwitch with the userspace datapath in a namespace, and a peer that is a plain kernel in another one: it
answers ARP, and what reaches its Geneve port is counted.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.labs import netns
from tests.functional.vswitch import Vswitch

ROOT = Path(__file__).resolve().parents[2]
SWITCH, PEER = "192.0.2.1", "192.0.2.2"

WARM = f"""
import sys, time
from agents.underlay import Underlay
underlay = Underlay()
underlay.start()
underlay.want(frozenset({{"{PEER}"}}))
end = time.monotonic() + 5
while not underlay.probes and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.1)
underlay.stop()
underlay.join(5)
sys.exit(0 if underlay.probes == 1 and not underlay.is_alive() else 1)
"""

GENEVE = 6081
FRAME = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5" + b"tenant" * 10
PATIENCE = 1.0
"""Seconds in which a packet that was sent arrives."""


class Underlay:
    """The two namespaces, and the switch in the first."""

    def __init__(self, directory: Path) -> None:
        tag = f"sv{os.getpid()}"
        self.here, self.there = f"{tag}a", f"{tag}b"
        self.vswitch = Vswitch(directory, ("ip", "netns", "exec", self.here))

    def up(self) -> None:
        for namespace in (self.here, self.there):
            self.ip("netns", "add", namespace)
        self.ip("-n", self.here, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.there)
        for namespace in (self.here, self.there):
            self.ip("-n", namespace, "link", "set", "eth0", "up")
        self.ip("-n", self.there, "addr", "add", f"{PEER}/24", "dev", "eth0")
        vswitch = self.vswitch
        vswitch.start_database()
        vswitch.start_switch()
        vswitch.vsctl("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev")
        vswitch.vsctl("add-port", "br-phy", "eth0")
        self.ip("-n", self.here, "addr", "add", f"{SWITCH}/24", "dev", "br-phy")
        self.ip("-n", self.here, "link", "set", "br-phy", "up")
        vswitch.add_bridge()
        options = ("type=geneve", "options:remote_ip=flow", "options:key=flow", f"options:local_ip={SWITCH}")
        vswitch.add_interface("br-int", "tunnel", *options)
        vswitch.add_interface("br-int", "vm0", "type=internal")
        self.ip("-n", self.here, "link", "set", "vm0", "up")
        flow = f"in_port=vm0,dl_type=0x88b5,actions=set_field:{PEER}->tun_dst,set_field:7->tun_id,output:tunnel"
        vswitch.ofctl("add-flow", flow)

    def down(self) -> None:
        self.vswitch.close()
        for namespace in (self.here, self.there):
            with contextlib.suppress(subprocess.CalledProcessError):
                self.ip("netns", "del", namespace)

    def ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    def python(self, namespace: str, script: str) -> list[str]:
        return ["ip", "netns", "exec", namespace, sys.executable, "-c", script]

    def warm(self) -> None:
        subprocess.run(self.python(self.here, WARM), check=True, cwd=ROOT, timeout=20)

    def forget(self) -> None:
        """What only a restart of vswitchd does in life: it knows no neighbour and has no cached flow."""
        self.vswitch.appctl("tnl/neigh/flush")
        self.vswitch.appctl("revalidator/purge")

    def first_packet_arrives(self) -> bool:
        with netns.entered(netns.path_of(self.there)):
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with netns.entered(netns.path_of(self.here)):
            link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with listener, link:
            listener.bind(("", GENEVE))
            listener.settimeout(PATIENCE)
            link.bind(("vm0", 0))
            link.send(FRAME)
            try:
                return bool(listener.recv(2000))
            except TimeoutError:
                return False


@pytest.fixture
def underlay(tmp_path: Path) -> Iterator[Underlay]:
    underlay = Underlay(tmp_path)
    try:
        underlay.up()
        yield underlay
    finally:
        underlay.down()


def test_the_first_packet_to_a_new_peer_is_not_lost(underlay: Underlay) -> None:
    """Nobody has asked for the peer yet: one probe, and the first packet arrives. vswitchd forgets while the kernel
    still knows: the packet would be lost, and after another probe it is not."""
    underlay.warm()
    assert PEER in underlay.vswitch.appctl("tnl/neigh/show")
    assert underlay.first_packet_arrives()
    underlay.forget()
    assert not underlay.first_packet_arrives(), "without a probe the first packet should be lost: what is tested here?"
    underlay.forget()
    underlay.warm()
    assert underlay.first_packet_arrives()
