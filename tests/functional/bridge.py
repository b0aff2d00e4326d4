"""A connection to a bridge that speaks nothing but our codec.

bridge = Bridge(Vswitch)      br-int.mgmt; every verb waits for the switch's barrier
"""

import socket
from collections.abc import Iterable

from openflow.codec import errors, flows, frames, groups, packets, session
from openflow.flow import CONTROLLER, Flow, Output, match
from tests.functional.vswitch import Vswitch

OUTPUT_TO_TABLE = Output(0xFFFFFFF9)


class Bridge:
    """A connection to the bridge; every verb waits for the switch's barrier."""

    def __init__(self, vswitch: Vswitch) -> None:
        self.vswitch = vswitch
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(vswitch.door()))
        self.framer = frames.Framer()
        self.waiting: list[bytes] = []
        self.xid = 0
        self.send(session.hello(self.next()))
        assert 5 in session.hello_versions(self.receive(frames.HELLO))

    def next(self) -> int:
        self.xid += 1
        return self.xid

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def receive(self, *kinds: int) -> bytes:
        """The next message of one of these types; others are dropped, echo requests answered."""
        while True:
            while self.waiting:
                message = self.waiting.pop(0)
                if frames.kind_of(message) in kinds:
                    return message
                if frames.kind_of(message) == frames.ECHO_REQUEST:
                    self.send(session.echo_reply(message))
            data = self.socket.recv(1 << 17)
            assert data, "the switch hung up"
            self.waiting = self.framer.feed(data)

    def do(self, *messages: bytes) -> list[errors.SwitchError]:
        """Sends messages, returns what the switch refused of them."""
        barrier = self.next()
        self.send(*messages, session.barrier_request(barrier))
        refused: list[errors.SwitchError] = []
        while True:
            answer = self.receive(frames.ERROR, frames.BARRIER_REPLY)
            if frames.kind_of(answer) == frames.BARRIER_REPLY:
                assert frames.xid_of(answer) == barrier
                return refused
            refused.append(errors.error(answer))

    def add(self, wanted: Iterable[Flow]) -> list[errors.SwitchError]:
        return self.do(*(flows.add(flow.key, flow.body, self.next()) for flow in wanted))

    def clear(self) -> None:
        everything = b"\xff\0\0" + match().wire
        assert self.do(flows.delete(everything, self.next()), groups.delete(groups.ALL_GROUPS, self.next())) == []

    def flows(self, cookie: int = 0, mask: int = 0) -> dict[bytes, bytes]:
        self.send(flows.dump_request(self.next(), cookie, mask))
        found: dict[bytes, bytes] = {}
        while flows.read_flows(self.receive(frames.MULTIPART_REPLY), found):
            pass
        return found

    def groups(self) -> dict[int, bytes]:
        self.send(groups.dump_request(self.next()))
        found: dict[int, bytes] = {}
        while groups.read_groups(self.receive(frames.MULTIPART_REPLY), found):
            pass
        return found

    def options(self) -> tuple[session.Option, ...]:
        self.send(session.options_request(self.next()))
        return session.options(self.receive(frames.EXPERIMENTER))

    def through(self, packet: bytes, in_port: int = CONTROLLER) -> packets.PacketIn:
        """Sends a packet through the tables; what comes back to the controller."""
        self.send(packets.packet_out(packet, (OUTPUT_TO_TABLE,), self.next(), in_port))
        return packets.packet_in(self.receive(frames.PACKET_IN))
