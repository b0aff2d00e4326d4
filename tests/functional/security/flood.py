"""A flood of datagrams, some of which must all arrive and others never, while rules change.

    with Flood(Lane(a, b, 1000, True), Lane(a, b, 2000, False)) as flood:
        …
    flood.wrong()       → [] or what went wrong, lane by lane

Each lane's datagrams are numbered. Every other one comes from a port that nobody used before, so new connections and
old ones are in it alike; the target sends back what comes on the old one, so its answers are in it too.
"""

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from devstack.labs.vm import Vm

PAUSE = 0.005
"""Seconds between two datagrams of a lane. Slow enough that no queue on the way overflows while the switch is busy."""

BUFFER = 4 << 20
SO_RCVBUFFORCE = 33  # socket(7); Python has no name for it
FRESH = 64
"""How many of the newest sockets stay open: a closed one's kernel would answer for it."""


@dataclass
class Lane:
    """From a guest to a port of another; `allowed` or not. What was seen is in the sets of numbers."""

    source: Vm
    target: Vm
    port: int
    allowed: bool
    version: int = 4
    sent: int = 0
    asked: set[int] = field(default_factory=set)
    """Numbers of those that the target answers."""
    arrived: set[int] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)

    def __str__(self) -> str:
        route = f"{self.source.hypervisor} → {self.target.hypervisor}"
        return f"{'allowed' if self.allowed else 'forbidden'} IPv{self.version} {route} port {self.port}"

    def wrong(self) -> list[str]:
        """What should not have been, in words."""
        found = []
        lost = set(range(self.sent)) - self.arrived
        unanswered = self.asked - self.answered
        if self.allowed and lost:
            found.append(f"{self}: {len(lost)} of {self.sent} lost, e.g. number {min(lost)}")
        if self.allowed and unanswered - lost:
            found.append(f"{self}: {len(unanswered - lost)} answers of {len(self.asked)} lost")
        if not self.allowed and self.arrived:
            found.append(f"{self}: {len(self.arrived)} of {self.sent} arrived, e.g. number {min(self.arrived)}")
        return found


class Flood:
    """A context manager: the lanes are flooded inside; two threads, one that sends and one that hears."""

    def __init__(self, *lanes: Lane) -> None:
        self.lanes = lanes
        self._stop, self._deaf = threading.Event(), threading.Event()
        self._selector = selectors.DefaultSelector()
        self._opened: list[socket.socket] = []
        self._fresh: deque[socket.socket] = deque()
        self._doors: dict[tuple[str, int, int], socket.socket] = {}
        self._mouths = [self._lane(number, lane) for number, lane in enumerate(lanes)]
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._hear)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        time.sleep(0.3)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._threads[0].join(5)
        time.sleep(0.5)  # what is on its way
        self._deaf.set()
        self._threads[1].join(5)
        self._selector.close()
        for opened in (*self._opened, *self._fresh):
            opened.close()

    def wrong(self) -> list[str]:
        return [what for lane in self.lanes for what in lane.wrong()]

    def _open(self, vm: Vm, version: int) -> socket.socket:
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        found = vm.open_socket(family, socket.SOCK_DGRAM)
        found.setblocking(False)
        return found

    def _lane(self, number: int, lane: Lane) -> socket.socket:
        where = lane.target.port, lane.port, lane.version
        if where not in self._doors:
            door = self._doors[where] = self._open(lane.target, lane.version)
            door.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
            door.bind((lane.target.address(lane.version), lane.port))
            self._opened.append(door)
            self._selector.register(door, selectors.EVENT_READ, lambda: self._arrives(door))
        mouth = self._open(lane.source, lane.version)
        mouth.bind((lane.source.address(lane.version), 0))
        mouth.connect((lane.target.address(lane.version), lane.port))
        self._opened.append(mouth)
        self._selector.register(mouth, selectors.EVENT_READ, lambda: self._returns(mouth))
        return mouth

    def _send(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            for number, lane in enumerate(self.lanes):
                packet = struct.pack("!III", number, lane.sent, lane.sent % 2)
                # An answer to a forbidden one would be an ICMP error; its own lane tells of it.
                with contextlib.suppress(ConnectionRefusedError):
                    if lane.sent % 2:
                        lane.asked.add(lane.sent)
                        self._mouths[number].send(packet)
                    else:
                        self._send_fresh(lane, packet)
                lane.sent += 1
            time.sleep(max(0.0, PAUSE - (time.monotonic() - began)))

    def _send_fresh(self, lane: Lane, packet: bytes) -> None:
        mouth = self._open(lane.source, lane.version)
        self._fresh.append(mouth)
        mouth.bind((lane.source.address(lane.version), 0))
        mouth.sendto(packet, (lane.target.address(lane.version), lane.port))
        while len(self._fresh) > FRESH:
            self._fresh.popleft().close()

    def _hear(self) -> None:
        while not self._deaf.is_set():
            for event, _ in self._selector.select(0.05):
                event.data()

    def _arrives(self, door: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, sender = door.recvfrom(64)
                number, sequence, answer = struct.unpack("!III", data)
                self.lanes[number].arrived.add(sequence)
                if answer:
                    door.sendto(data, sender)

    def _returns(self, mouth: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                number, sequence, _ = struct.unpack("!III", mouth.recv(64))
                self.lanes[number].answered.add(sequence)
