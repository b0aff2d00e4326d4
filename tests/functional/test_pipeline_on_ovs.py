"""The compilers' flows on a real Open vSwitch: all are accepted and read back as they were, and they do there what the
interpreter of the unit tests says.

Scenarios are those of the golden flows and some larger ones. Packets go through `ofproto/trace`, with every interface
of the fabric's hv1 a real one and the tunnels' neighbours known, and must leave by the same ports as in Python.
"""

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from openflow.codec.text import value_text
from openflow.fields import TABLE
from selvedge.topology import SegmentKind
from tests.functional.small_agent import Agent
from tests.functional.vswitch import Vswitch
from tests.interpreter import Fabric, Packet, Switch
from tests.packets import BROADCAST, advertise, arp, frame, ip, ipv4, ipv6, lla, solicit, udp
from tests.unit.test_golden_flows import SCENARIOS

VIRTUAL, STRANGER = "00:00:5e:00:01:07", "00:aa:bb:cc:dd:ee"
WIRE, PORTS = 5, range(10, 16)
"""The fabric's numbers on hv1: of the patch, and of the first interfaces."""


class Bridge(Vswitch):
    """br-int as an agent would make it, with interfaces at the fabric's numbers; an underlay that knows its peers."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.start_database()
        self.start_switch()
        self.add_bridge()
        for number, kind in ((1, "geneve"), (2, "vxlan")):
            options = [f"type={kind}", "options:remote_ip=flow", "options:key=flow", f"ofport_request={number}"]
            self.add_interface("br-int", kind, *options)
        for number in (WIRE, *PORTS):
            self.add_interface("br-int", f"t{number}", "type=internal", f"ofport_request={number}")
        self.vsctl("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=netdev")
        self.add_interface("br-phy", "phy", "type=internal")
        namespace = ["nsenter", "-t", str(self.pid("ovs-vswitchd")), "-n"]
        for words in ("addr add 192.0.2.1/24 dev br-phy", "link set br-phy up", "link set lo up"):
            subprocess.run([*namespace, "ip", *words.split()], check=True)
        for host in (2, 3):
            self.appctl("tnl/neigh/set", "br-phy", f"192.0.2.{host}", f"aa:bb:cc:00:00:0{host}")
        shown = re.search(r"\n *br-int:\n((?: {4}.*\n?)+)", self.appctl("dpif/show"))
        assert shown is not None
        self._ports = {int(there): int(here) for here, there in re.findall(r" (\d+)/(\d+): \(", shown[1])}
        assert sorted(self._ports.values())[:-1] == [1, 2, WIRE, *PORTS]

    def trace(self, packet: Packet, in_port: int, tracked: Iterable[int] = ()) -> Counter[int]:
        """The OpenFlow ports by which a packet leaves, and how often. `tracked` is what conntrack is to say of it, each
        time that it is asked."""
        words = [f"in_port={in_port}"]
        for known in sorted(TABLE, key=lambda known: (known.name not in ("eth_type", "ip_proto"), known.rank)):
            value = packet.get(known.name, 0)
            if known.name == "vlan_vid" and value:
                words.append(f"dl_vlan={value & 0xFFF}")
            elif known.name == "ip_frag" and value:
                words.append(f"nw_frag={'later' if value == 3 else 'first'}")
            elif value or (known.name == "tun_metadata0" and packet.get("tun_id") and in_port == 1):
                name = known.name if known.name.startswith(("icmpv6", "tcp", "udp", "sctp")) else known.text
                words.append(f"{name}={value_text(known, value)}")
        states = [part for state in tracked for part in ("--ct-next", ct_state_text(state))]
        told = self.appctl("ofproto/trace", "br-int", ",".join(words), *states)
        left: Counter[int] = Counter()
        for line in re.findall(r"^Datapath actions: (.*)$", told, re.MULTILINE):
            left += self._left(line)
        return left

    def _left(self, actions: str) -> Counter[int]:
        pushed = [self._ports[int(port)] for port in re.findall(r"tnl_push\(tnl_port\((\d+)\)", actions)]
        while "(" in actions:
            actions = re.sub(r"\w*\([^()]*\)", "", actions)
        plain = [int(number) for number in actions.split(",") if number.isdigit()]
        # What a tunnel pushed goes on through br-phy, whose ports are not the bridge's.
        return Counter([*pushed, *(self._ports[number] for number in plain if number in self._ports)])


def ct_state_text(state: int) -> str:
    """A ct_state as `--ct-next` wants it."""
    names = ("new", "est", "rel", "rpl", "inv", "trk")
    return ",".join(name for bit, name in enumerate(names) if state >> bit & 1)


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    """One bridge for all; each test installs what it wants."""
    directory = Path(tempfile.mkdtemp(prefix="selvedge-"))
    made = Bridge(directory)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(directory, ignore_errors=True)


def install(bridge: Bridge, fabric: Fabric) -> Switch:
    """Make the bridge have hv1's flows and groups as an agent does, and find them so when it starts again."""
    engine = fabric.hypervisors["hv1"].engine
    engine.recompute()
    assert engine.flows() and engine.groups()
    for start in ("first", "second"):
        agent = Agent(bridge)
        try:
            agent.programmer.change(engine.flows(), engine.groups(), engine.owners())
            agent.settle()
            assert start == "first" or not agent.batches, f"read back otherwise: {agent.batches}"
        finally:
            agent.switch.stop()
    return Switch(engine.flows().values(), engine.groups())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_what_is_sent_is_read_back(bridge: Bridge, scenario: Callable[[], Fabric]) -> None:
    """Every kind of flow and group is accepted; a second start finds nothing to send."""
    install(bridge, scenario())


def every_kind_of_rule(kind: SegmentKind, stateful: bool) -> Fabric:
    """Two ports of one group here and a member elsewhere; rules of every shape, products and fragments among them."""
    fabric = Fabric()
    fabric.hypervisor("hv1")
    fabric.hypervisor("hv2")
    fabric.network("net", kind)
    fabric.group("web", stateful=stateful)
    fabric.group("lone", stateful=stateful)
    fabric.address_group("offices", *(f"10.{n}.0.0/16" for n in range(1, 12, 2)), "fd00:1::/32", "fd00:4::/32")
    for version, cidr in ((4, "192.0.2.0/24"), (6, "2001:db8::/32")):
        for direction in ("ingress", "egress"):
            fabric.rule("web", direction, version, remote_group="web")
            for protocol in (0, 6, 17, 132):
                fabric.rule("web", direction, version, cidr=cidr, protocol=protocol)
                first, last = (None, None) if not protocol else (1000, 2001)
                fabric.rule("web", direction, version, protocol=protocol, first=first, last=last)
            fabric.rule("web", direction, version, protocol=6, first=81, last=86, remote_addresses="offices")
            fabric.rule("web", direction, version, protocol=17, first=53, last=54, remote_addresses="offices")
            fabric.rule("lone", direction, version, protocol=47, remote_group="lone")
        icmp, echo = (1, 8) if version == 4 else (58, 128)
        fabric.rule("web", "ingress", version, protocol=icmp, first=echo)
        fabric.rule("web", "egress", version, protocol=icmp, first=3, last=4)
    addresses = ("10.0.0.1", "fd00::1"), ("10.0.0.2", "fd00::2"), ("10.0.0.3", "fd00::3")
    fabric.port("a", "net", "hv1", *addresses[0], groups=["web"])
    fabric.port("b", "net", "hv1", *addresses[1], groups=["lone"], pairs=[("", "10.9.0.0/16")])
    fabric.port("c", "net", "hv2", *addresses[2], groups=["lone", "web"], pairs=[("", "0.0.0.0/0")])
    return fabric


@pytest.mark.parametrize("stateful", [True, False])
@pytest.mark.parametrize("kind", ["geneve", "vxlan", "vlan"])
def test_every_kind_of_rule_is_read_back(bridge: Bridge, kind: SegmentKind, stateful: bool) -> None:
    """Rules of every shape, products and fragments among them, are accepted; a second start finds nothing to send."""
    fabric = every_kind_of_rule(kind, stateful)
    install(bridge, fabric)
    engine = fabric.hypervisors["hv1"].engine
    assert not engine.failed and not engine.malformed
    tables = {flow.table for flow in engine.flows().values()}
    assert tables >= {7, 45, 55, 75}
    assert any(flow.match.get("conj_id") for flow in engine.flows().values())


def test_products_of_rules(bridge: Bridge) -> None:
    """Two conjunctions that share an office and ports: the switch lets the same packets through as the interpreter."""
    fabric = Fabric()
    fabric.hypervisor("hv1")
    fabric.network("net")
    fabric.group("g", stateful=False)
    fabric.address_group("offices", *(f"10.{2 * n}.0.0/16" for n in range(5)))
    fabric.address_group("others", "10.0.0.0/16", *(f"10.{100 + 2 * n}.0.0/16" for n in range(5)))
    fabric.rule("g", "ingress", protocol=17, first=1001, last=1006, remote_addresses="offices")
    fabric.rule("g", "ingress", protocol=17, first=1004, last=1014, remote_addresses="others")
    fabric.rule("g", "ingress", protocol=17, first=1012, last=1013, cidr="10.2.0.0/16")
    a = fabric.port("a", "net", "hv1", "10.0.0.1", groups=["g"])
    b = fabric.port("b", "net", "hv1", "10.0.0.2", secure=False)
    switch = install(bridge, fabric)
    heard = 0
    for second in (0, 2, 4, 9, 100, 108):
        for port in (1000, 1001, 1003, 1004, 1006, 1007, 1012, 1014, 1015):
            packet = udp(b, a, f"10.{second}.3.4", "10.0.0.1", (5000, port))
            expected = Counter(sent.port for sent in switch.process(packet, PORTS[1]))
            assert bridge.trace(packet, PORTS[1]) == expected, f"from 10.{second}.3.4 to {port}"
            heard += bool(expected)
    assert 20 < heard < 40


def three_hosts(kind: SegmentKind) -> Fabric:
    """a, b (no port security), v and w (VRRP) here; c, x (VRRP) on hv2, d on hv3; dual stack."""
    fabric = Fabric()
    for name in ("hv1", "hv2", "hv3"):
        fabric.hypervisor(name)
    fabric.network("net", kind)
    virtual = [(VIRTUAL, "10.0.0.100/32")]
    fabric.port("a", "net", "hv1", "10.0.0.1", "fd00::1")
    fabric.port("b", "net", "hv1", "10.0.0.2", "fd00::2", secure=False)
    fabric.port("v", "net", "hv1", "10.0.0.4", pairs=virtual)
    fabric.port("w", "net", "hv1", "10.0.0.5", pairs=virtual)
    fabric.port("c", "net", "hv2", "10.0.0.3", "fd00::3")
    fabric.port("x", "net", "hv2", "10.0.0.6", pairs=virtual)
    fabric.port("d", "net", "hv3", "10.0.0.7")
    return fabric


def from_a(fabric: Fabric) -> list[Packet]:
    """What port a may send, and what it may not."""
    a, b, c = (fabric.endpoint(name) for name in "abc")
    return [
        *(ipv4(a, other, "10.0.0.1", "10.0.0.9") for other in (a, b, c, VIRTUAL, STRANGER, BROADCAST)),
        *(ipv4(a, b, source, "10.0.0.2") for source in ("10.0.0.2", "0.0.0.0")),
        ipv4(STRANGER, b, "10.0.0.1", "10.0.0.2"),
        {**ipv4(a, b, "10.0.0.1", "10.0.0.2"), "vlan_vid": 0x1005},
        *(ipv6(a, b, source, "fd00::2") for source in ("fd00::1", lla(a), "fd00::2", "::")),
        *(
            arp(a, spa, tpa)
            for spa in ("10.0.0.1", "0.0.0.0", "10.0.0.2")
            for tpa in ("10.0.0.1", "10.0.0.3", "10.0.0.9")
        ),
        arp(a, "10.0.0.1", "10.0.0.100"),
        arp(a, "10.0.0.1", "10.0.0.3", sha=STRANGER),
        arp(a, "0.0.0.0", "10.0.0.1", sha=STRANGER),
        arp(a, "10.0.0.1", "10.0.0.2", op=2, dst=b),
        *(solicit(a, source, target) for source in ("fd00::1", lla(a)) for target in ("fd00::2", "fd00::3", "fd00::9")),
        solicit(a, "fd00::1", "fd00::3", sll=None, dst=c),
        solicit(a, "fd00::1", "fd00::3", sll=STRANGER),
        *(solicit(a, "::", target, sll=None) for target in ("fd00::1", lla(a), "fd00::2")),
        *(advertise(a, "fd00::1", "fd00::1", tll=tll) for tll in ("", None, STRANGER)),
        advertise(a, "fd00::1", "fd00::2"),
        *(ipv6(a, BROADCAST, lla(a), "ff02::1", icmpv6_type=kind) for kind in (133, 134, 143)),
        *(ipv6(a, BROADCAST, "::", "ff02::1", icmpv6_type=kind) for kind in (133, 134, 143)),
        udp(a, BROADCAST, "0.0.0.0", "255.255.255.255", (68, 67)),
        udp(a, BROADCAST, "10.0.0.1", "255.255.255.255", (67, 68)),
        udp(a, BROADCAST, lla(a), "ff02::1:2", (546, 547)),
        *(frame(a, BROADCAST, eth_type=ethertype) for ethertype in (0x8035, 0x88CC, 0x888E)),
    ]


def from_elsewhere(fabric: Fabric) -> list[Packet]:
    """What comes from hv2 or from a stranger, without the fields of what carries it."""
    a, b, c, d = (fabric.endpoint(name) for name in "abcd")
    return [
        *(ipv4(c, other, "10.0.0.3", "10.0.0.9") for other in (a, b, d, VIRTUAL, STRANGER, BROADCAST)),
        arp(c, "10.0.0.3", "10.0.0.1"),
        solicit(c, "fd00::3", "fd00::1"),
    ]


@pytest.mark.parametrize("kind", ["geneve", "vxlan", "vlan", "flat"])
def test_packets_go_where_the_interpreter_says(bridge: Bridge, kind: SegmentKind) -> None:
    """Some eighty packets, true and false, from a port and from elsewhere, leave by the same ports as in Python."""
    fabric = three_hosts(kind)
    switch = install(bridge, fabric)
    packets = [(10, packet) for packet in from_a(fabric)]
    if kind in ("geneve", "vxlan"):
        came: Packet = {"tun_id": 100, "tun_src": ip("192.0.2.2")}
        tunnel = 1 if kind == "geneve" else 2
        for keys in ({}, {"tun_id": 101}, {"tun_src": ip("192.0.2.9")}):
            packets += [(tunnel, {**packet, **came, **keys}) for packet in from_elsewhere(fabric)]
        for name in "abd" if kind == "geneve" else "":
            key = fabric.endpoint(name).key
            packets += [(tunnel, {**packet, **came, "tun_metadata0": key}) for packet in from_elsewhere(fabric)]
    else:
        for tag in (0, 0x1064, 0x1065):
            packets += [(WIRE, {**packet, "vlan_vid": tag}) for packet in from_elsewhere(fabric)]
    left = 0
    for in_port, packet in packets:
        expected = Counter(sent.port for sent in switch.process(packet, in_port))
        assert bridge.trace(packet, in_port) == expected, f"in port {in_port}: {packet}"
        left += bool(expected)
    assert 30 < left < len(packets) - 15, "a good part passes, and a good part does not"


def test_a_large_segment(bridge: Bridge) -> None:
    """300 ports and a peer: groups in two stages are accepted, and a broadcast goes to all that are plugged."""
    fabric = Fabric()
    fabric.hypervisor("hv1")
    fabric.hypervisor("hv2")
    fabric.network("net")
    for number in range(1, 301):
        address, mac = f"10.0.{number >> 8}.{number & 255}", f"fa:16:3e:00:{number >> 8:02x}:{number & 255:02x}"
        fabric.port(f"p{number}", "net", "hv1", address, mac=mac, plugged=number <= len(PORTS))
    fabric.port("far", "net", "hv2", "10.0.9.1", mac="fa:16:3e:00:09:01")
    switch = install(bridge, fabric)
    packet = arp(fabric.endpoint("p1"), "10.0.0.1", "10.0.99.99")
    expected = Counter(sent.port for sent in switch.process(packet, PORTS[0]))
    assert expected == Counter([1, *PORTS[1:]])
    assert bridge.trace(packet, PORTS[0]) == expected
