"""codec: how fast flows become bytes, bytes become flows, and a real vswitchd takes and returns them.

50,000 flows of the seven shapes that the compilers make for an IPv4 port (`shape` mixed), and for the encoder alone
also the plain one that other libraries are usually timed with (four matched fields, one set_field, one output, goto:
`plain`, 136 bytes). Values are made anew for every round, since a flow keeps its bytes once it has them.

    make_per_s          flow values made: matches with their checks, actions
    encode_per_s        flow-mods encoded from fresh values, header to padding
    decode_per_s        flows decoded from the switch's own multipart replies (their bytes as they came)
    install_per_s       one atomic bundle of all flows into vswitchd, order to confirmation (bytes made before)
    readback_s          connect, read all flows back, compare each with the wanted one; nothing may differ
    readback_differing  flows that would have to be sent after that: 0
"""

import queue
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.ledger import Ledger
from bench.measures import Result
from bench.openflow_watch import Watch
from bench.outcome import Outcome, Terms, WrongShape
from devstack.labs import netns
from devstack.labs.ground import Namespaces
from devstack.labs.hypervisor import Hypervisor
from openflow import pipeline
from openflow.batch import Batch, Confirmed, Connected, SwitchEvent
from openflow.codec import flows as flow_codec
from openflow.codec import session
from openflow.codec.frames import MULTIPART_REPLY, Framer, kind_of, multipart_of
from openflow.flow import Flow, InPort, Move, Output, SetField, match
from openflow.programmer import Programmer
from openflow.switch import Switch

MAC = 0xFA163E000000
NET = 0x0A000000
SEGMENT = 7


def mixed(key: int) -> list[Flow]:
    """The flows of one secure IPv4 port, in the shapes of `openflow.compilers`."""
    cookie, mac, address, ofport = pipeline.cookie(pipeline.Kind.ENDPOINT, key), MAC + key, NET + key, key & 0xFFFF
    enter = (SetField("reg0", SEGMENT), SetField("reg1", key))
    reply = (
        Move("eth_src", "eth_dst", 48),
        SetField("eth_src", mac),
        SetField("arp_op", 2),
        Move("arp_sha", "arp_tha", 48),
        Move("arp_spa", "arp_tpa", 32),
        SetField("arp_sha", mac),
        SetField("arp_spa", address),
        InPort(),
    )
    here = (SetField("reg3", key), SetField("reg5", 0x10000000))
    return [
        Flow(0, 200, cookie, match(in_port=ofport, vlan_vid=0, reg15=key >> 16), enter, 10),
        Flow(10, 200, cookie, match(reg1=key, eth_src=mac), (), 15),
        Flow(15, 200, cookie, match(reg1=key, eth_type=0x0800, eth_src=mac, ipv4_src=address), (), 20),
        Flow(15, 200, cookie, match(reg1=key, eth_type=0x0806, arp_sha=mac, arp_spa=address), (), 20),
        Flow(20, 200, cookie, match(reg0=SEGMENT, eth_type=0x0806, arp_op=1, arp_tpa=address), reply),
        Flow(40, 200, cookie, match(reg0=SEGMENT, eth_dst=mac), here, 60),
        Flow(80, 200, cookie, match(reg0=SEGMENT, reg3=key), (Output(ofport or 1),)),
    ]


def plain(key: int) -> list[Flow]:
    """One flow as benchmarks of OpenFlow libraries have it."""
    cookie = pipeline.cookie(pipeline.Kind.ENDPOINT, key)
    fields = match(in_port=key & 0xFFFF, eth_type=0x0800, eth_dst=MAC + key, ipv4_dst=NET + key)
    return [Flow(0, 100, cookie, fields, (SetField("eth_src", MAC), Output(3)), 10)]


def make(shape: Callable[[int], list[Flow]], count: int) -> list[Flow]:
    """`count` flows, none of which knows its bytes yet."""
    flows: list[Flow] = []
    key = 1
    while len(flows) < count:
        flows += shape(key)
        key += 1
    return flows[:count]


@contextmanager
def vswitchd() -> Iterator[Hypervisor]:
    """A hypervisor's Open vSwitch with an empty br-int, without agent, broker or controller."""
    directory = Path(tempfile.mkdtemp(prefix="selvedge-bench-"))
    ground = Namespaces(netns.Names(directory))
    try:
        ground.open()
        place = ground.hypervisor("hv1", 1)
        hypervisor = Hypervisor(
            "hv1",
            state=directory / "hv1",
            namespace=place,
            tunnel="10.255.0.1/16",
            transport_url="",
            program=Path("/nonexistent"),
        )
        try:
            hypervisor.start_switch()
            bridge = "add-br br-int -- set Bridge br-int datapath_type=netdev fail_mode=secure protocols=OpenFlow14"
            hypervisor.run("ovs-vsctl", *bridge.split())
            yield hypervisor
        finally:
            hypervisor.stop_all()
    finally:
        ground.close()
        shutil.rmtree(directory, ignore_errors=True)


class Line:
    """The product's own thread to the switch, and its events."""

    def __init__(self, path: Path) -> None:
        self.events: queue.SimpleQueue[SwitchEvent] = queue.SimpleQueue()
        self.switch = Switch(str(path), self.events.put)
        self.switch.start()

    def connected(self) -> Connected:
        event = self.events.get(timeout=60.0)
        if not isinstance(event, Connected):
            raise WrongShape(f"instead of a connection: {event}")
        return event

    def install(self, batch: Batch) -> None:
        self.switch.submit(batch)
        event = self.events.get(timeout=120.0)
        if not isinstance(event, Confirmed):
            raise WrongShape(f"the switch did not take the flows: {event}")

    def close(self) -> None:
        self.switch.stop()


def install(path: Path, flows: list[Flow]) -> float:
    """Flows per second of one bundle into an empty bridge."""
    for flow in flows:
        _ = flow.key, flow.body
    line = Line(path)
    connection = line.connected().connection
    began = time.perf_counter()
    line.install(Batch(1, connection, flows=tuple(flows)))
    seconds = time.perf_counter() - began
    line.close()
    return len(flows) / seconds


def readback(path: Path, wanted: dict[bytes, Flow]) -> tuple[float, int]:
    """Seconds from the connect to the end of the comparison, and how many flows would have to be sent: must be 0."""
    programmer = Programmer()
    programmer.change(wanted, {}, {})
    programmer.release()
    began = time.perf_counter()
    line = Line(path)
    programmer.connected(line.connected())
    batch = programmer.next_batch(0.0)
    seconds = time.perf_counter() - began
    line.close()
    return seconds, 0 if batch is None else len(batch)


def encode(flows: list[Flow]) -> float:
    """Flow-mods per second, each a whole message; the flows must be fresh."""
    began = time.perf_counter()
    for number, flow in enumerate(flows):
        flow_codec.add(flow.key, flow.body, number)
    return len(flows) / (time.perf_counter() - began)


def dump(path: Path) -> bytes:
    """All that the switch sends when it is asked for all flows, after its hello."""
    framer, pieces, more = Framer(), [session.hello(1), flow_codec.dump_request(2)], True
    replies: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(30.0)
        line.connect(str(path))
        line.sendall(b"".join(pieces))
        while more:
            for message in framer.feed(line.recv(1 << 20)):
                if kind_of(message) == MULTIPART_REPLY:
                    replies.append(message)
                    more = multipart_of(message).more
    return b"".join(replies)


def decode(data: bytes, wanted: dict[bytes, Flow]) -> float:
    """Flows per second from the stream's bytes to {key: body}. Raises WrongShape if they are not the wanted ones."""
    began = time.perf_counter()
    found: dict[bytes, bytes] = {}
    for message in Framer().feed(data):
        flow_codec.read_flows(message, found)
    seconds = time.perf_counter() - began
    if found != {key: flow.body for key, flow in wanted.items()}:
        raise WrongShape("the switch returns other flows than it was given")
    return len(found) / seconds


def clear(path: Path, flows: list[Flow]) -> None:
    line = Line(path)
    line.install(Batch(1, line.connected().connection, stale=tuple(flow.key for flow in flows)))
    line.close()
    watch = Watch(path)
    if watch.flows():
        raise WrongShape(f"{watch.flows()} flows stayed after all were deleted")
    watch.close()


def run(terms: Terms) -> Outcome:
    count, rounds = (5_000, 2) if terms.quick else (50_000, 7)
    values: dict[tuple[str, str, str], list[float]] = {}

    def note(name: str, unit: str, value: float, shape: str = "mixed") -> None:
        values.setdefault((name, unit, shape), []).append(value)

    for shape in (mixed, plain):
        terms.say(f"making and encoding {count} flows ({shape.__name__})")
        for _ in range(rounds):
            began = time.perf_counter()
            flows = make(shape, count)
            note("make_per_s", "flows/s", count / (time.perf_counter() - began), shape.__name__)
            note("encode_per_s", "flow-mods/s", encode(flows), shape.__name__)
    flows = make(mixed, count)
    wanted = {flow.key: flow for flow in flows}
    with vswitchd() as hypervisor:
        path = hypervisor.rundir / "br-int.mgmt"
        ledger = Ledger(lambda: {"vswitchd": hypervisor.daemons["vswitchd"].pid or 0})
        for number in range(rounds):
            terms.say(f"into vswitchd and back, {number + 1} of {rounds}")
            note("install_per_s", "flows/s", install(path, flows))
            note("decode_per_s", "flows/s", decode(dump(path), wanted))
            seconds, differing = readback(path, wanted)
            note("readback_s", "s", seconds)
            note("readback_differing", "flows", differing)
            clear(path, flows)
        costs = ledger.costs()
    results = [
        Result(name, unit, tuple(found), {"flows": count, "shape": shape})
        for (name, unit, shape), found in values.items()
    ]
    return Outcome(tuple(results), costs)
