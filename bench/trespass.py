"""Packets that must never arrive, sent all the time, and ears that would hear them: wrong packets.

Each trespasser sends a frame every 10 ms from its VM's own wire: UDP to a VM whose rules allow nobody (`shut`),
frames to the MAC and address of a VM on another network (`apart`), frames with somebody else's MAC and address as
source (`false name`). They carry a mark; ears are raw sockets in the VMs they are meant for, with a filter in the
kernel for the mark's port, so that they cost nothing. `control` sends what is allowed, and must be heard: an ear that
hears nothing proves nothing. One thread for all.
"""

import ctypes
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.outcome import WrongShape
from bench.prober import checksum
from devstack.labs.vm import Vm

PORT = 4999
MARK = b"selvedge: must not arrive; from "
PERIOD_S = 0.01

SO_ATTACH_FILTER = 26
FILTER = (  # bpf(4): IPv4, UDP, destination port
    (0x28, 0, 0, 12),
    (0x15, 0, 5, 0x0800),
    (0x30, 0, 0, 23),
    (0x15, 0, 3, 17),
    (0x28, 0, 0, 36),
    (0x15, 0, 1, PORT),
    (0x06, 0, 0, 0xFFFF),
    (0x06, 0, 0, 0),
)


@dataclass(frozen=True)
class Trespass:
    """`name` says why it must not arrive; `as_whom`: whose MAC and address the frames claim (None: the sender's)."""

    name: str
    sender: Vm
    target: Vm
    as_whom: Vm | None = None

    def frame(self) -> bytes:
        source = self.as_whom or self.sender
        return udp(source, self.target, MARK + self.name.encode())


def udp(source: Vm, target: Vm, data: bytes) -> bytes:
    """An Ethernet frame with a UDP datagram to `PORT`, without UDP checksum."""
    addresses = socket.inet_aton(source.address()) + socket.inet_aton(target.address())
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(data), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    macs = bytes.fromhex((target.want.mac + source.want.mac).replace(":", ""))
    return macs + b"\x08\x00" + head + struct.pack("!HHHH", PORT, PORT, 8 + len(data), 0) + data


def ear(vm: Vm) -> socket.socket:
    """Hears the mark's port on the VM's wire, and nothing else."""
    found = vm.packet_socket()
    program = b"".join(struct.pack("HBBI", *line) for line in FILTER)
    buffer = ctypes.create_string_buffer(program)
    found.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(FILTER), ctypes.addressof(buffer)))
    found.setblocking(False)
    drain(found)  # what came before the filter
    return found


def drain(one: socket.socket) -> list[bytes]:
    frames: list[bytes] = []
    while True:
        try:
            frame, address = one.recvfrom(2048)
        except BlockingIOError:
            return frames
        if address[2] != socket.PACKET_OUTGOING:
            frames.append(frame)


class Trespassers(threading.Thread):
    """All of them, until `finish`. `heard`: (monotonic seconds, the name in the mark)."""

    def __init__(self, trespasses: Sequence[Trespass]) -> None:
        super().__init__(name="trespassers", daemon=True)
        self.heard: list[tuple[float, str]] = []
        self.sent = 0
        self._mouths = [(one.sender.packet_socket(), one.frame()) for one in trespasses]
        self._ears: Mapping[str, socket.socket] = {one.target.port: ear(one.target) for one in trespasses}
        self._stopping = threading.Event()

    def control(self, sender: Vm, target: Vm) -> None:
        """What is allowed is heard. Raises WrongShape."""
        mouth, listening = sender.packet_socket(), self._ears[target.port]
        try:
            deadline = time.monotonic() + 10
            while not drain(listening):
                if time.monotonic() > deadline:
                    raise WrongShape("the ears of chaos do not hear a packet that is allowed")
                mouth.send(udp(sender, target, b"control"))
                select.select([listening], [], [], 0.1)
            time.sleep(0.2)
            drain(listening)
        finally:
            mouth.close()

    def run(self) -> None:
        due = time.monotonic()
        ears = list(self._ears.values())
        while not self._stopping.is_set():
            for mouth, frame in self._mouths:
                try:
                    mouth.send(frame)
                    self.sent += 1
                except OSError:
                    continue  # its interface is down or the queue is full: it did not arrive
            due = max(due + PERIOD_S, time.monotonic())
            ready, _, _ = select.select(ears, [], [], max(0.0, due - time.monotonic()))
            for one in ready:
                now = time.monotonic()
                self.heard += [(now, frame[42 + len(MARK) :].decode(errors="replace")) for frame in drain(one)]
            time.sleep(max(0.0, due - time.monotonic()))

    def finish(self) -> None:
        self._stopping.set()
        self.join()
        for one in (*self._ears.values(), *(mouth for mouth, _ in self._mouths)):
            one.close()
