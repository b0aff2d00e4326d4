"""One packet each of many kinds, all at once: which of them reach their target, and which are answered.

    outcomes(Attempt(a, b, "tcp", 80), Attempt(a, b, "icmp", version=6))      → ["answered", "stopped"]

The packets are real (sockets of the guests' kernels, opened there and used from here), and so are the answers: the
target's kernel answers TCP and ICMP, an echo on a socket of its own everything else. What is told is not what a socket
said but what both guests' interfaces heard. SCTP, which a kernel need not have, goes through raw sockets.
"""

import contextlib
import itertools
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from os_ken.lib.packet import packet_utils, sctp

from devstack.labs.process import LabError, wait_for
from devstack.labs.vm import Vm

PATIENCE = 0.25
"""Seconds after which what has not come is called stopped."""

NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "ipv6-icmp": 58, "sctp": 132}
WITH_PORTS = frozenset({6, 17, 132})
ECHO = {1: (8, 0), 58: (128, 129)}
"""ICMP's types of the question and of its answer, by protocol."""
QUESTION, ANSWER = 0, 1
"""The same in our packets of other protocols."""

_idents = itertools.count(1)


class Key(NamedTuple):
    """By what a packet is known: ports, or (identifier, ICMP's type); other protocols' packets are made like ICMP's."""

    protocol: int
    source: str
    target: str
    first: int
    second: int

    def answer(self) -> "Key":
        """The key of what answers it."""
        if self.protocol in WITH_PORTS:
            return Key(self.protocol, self.target, self.source, self.second, self.first)
        return Key(self.protocol, self.target, self.source, self.first, _types(self.protocol)[1])


@dataclass(frozen=True)
class Attempt:
    """Something that `source` wants of `target`. Addresses: the VMs' first ones, unless they are told."""

    source: Vm
    target: Vm
    protocol: str
    port: int = 0
    version: int = 4
    from_address: str = ""
    to_address: str = ""

    def __str__(self) -> str:
        route = f"{self.source.hypervisor} → {self.target.hypervisor}"
        told = " ".join(filter(None, (self.from_address, self.to_address)))
        return f"{self.protocol}{f'/{self.port}' if self.port else ''} IPv{self.version} {route} {told}".rstrip()

    @property
    def number(self) -> int:
        return 58 if (self.protocol, self.version) == ("icmp", 6) else NUMBERS[self.protocol]


def outcomes(*attempts: Attempt, patience: float = PATIENCE) -> list[str]:
    """Of each attempt: "answered", "reached" (the target, but no answer came back) or "stopped"."""
    with _Round() as round_:
        return round_.make(attempts, patience)


def expect(wanted: dict[Attempt, str], within: float = 5.0, because: str = "") -> None:
    """The attempts come out as they should, soon (a change that was answered is on its way), or AssertionError."""
    seen: dict[Attempt, str] = {}

    def as_wanted() -> bool:
        seen.update(zip(wanted, outcomes(*wanted), strict=True))
        return seen == wanted

    with contextlib.suppress(LabError):
        wait_for("the outcomes", as_wanted, within, 0)
    wrong = [
        f"{attempt}: {seen[attempt]}, not {wanted[attempt]}" for attempt in wanted if seen[attempt] != wanted[attempt]
    ]
    assert not wrong, "\n".join([because, *wrong])


def expect_all(outcome: str, *attempts: Attempt, because: str = "") -> None:
    expect(dict.fromkeys(attempts, outcome), because=because)


class _Round:
    """Sockets, ears and echoes of one round; all are closed with it."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._opened: list[socket.socket] = []
        self._ears: dict[str, set[Key]] = {}
        self._echoing: set[tuple[str, int, int, int]] = set()

    def __enter__(self) -> "_Round":
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for opened in self._opened:
            opened.close()

    def make(self, attempts: Iterable[Attempt], patience: float) -> list[str]:
        known: list[tuple[Attempt, Key, Callable[[], None]]] = []
        for attempt in attempts:
            self._listen(attempt.source)
            self._listen(attempt.target)
            self._echo(attempt)
            known.append((attempt, *self._mouth(attempt)))
        for _, _, send in known:
            send()
        deadline = time.monotonic() + patience
        told: list[str] = []
        while time.monotonic() < deadline:
            for event, _ in self._selector.select(deadline - time.monotonic()):
                event.data()
            told = [self._outcome(attempt, key) for attempt, key, _ in known]
            if all(outcome == "answered" for outcome in told):
                break
        return told

    def _outcome(self, attempt: Attempt, key: Key) -> str:
        if key.answer() in self._ears[attempt.source.port]:
            return "answered"
        return "reached" if key in self._ears[attempt.target.port] else "stopped"

    def _open(self, vm: Vm, family: int, kind: int, protocol: int = 0) -> socket.socket:
        found = vm.open_socket(family, kind, protocol)
        found.setblocking(False)
        self._opened.append(found)
        return found

    def _listen(self, vm: Vm) -> None:
        if vm.port in self._ears:
            return
        heard = self._ears[vm.port] = set()
        ear = vm.packet_socket()
        ear.setblocking(False)
        self._opened.append(ear)

        def hear() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame, address = ear.recvfrom(2048)
                    if address[2] != socket.PACKET_OUTGOING and (key := key_of(frame)):
                        heard.add(key)

        self._selector.register(ear, selectors.EVENT_READ, hear)

    def _echo(self, attempt: Attempt) -> None:
        """Somebody who answers, unless the target's kernel does."""
        number, family = attempt.number, _family(attempt.version)
        who = attempt.target.port, attempt.version, number, attempt.port
        if who in self._echoing or number in ECHO:
            return
        self._echoing.add(who)
        if number == socket.IPPROTO_TCP:
            door = self._open(attempt.target, family, socket.SOCK_STREAM)
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if attempt.version == 6:
                door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            door.bind(("", attempt.port))
            door.listen(64)
            return
        if number == socket.IPPROTO_UDP:
            door = self._open(attempt.target, family, socket.SOCK_DGRAM)
            if attempt.version == 6:
                door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            door.bind(("", attempt.port))
        else:
            door = self._open(attempt.target, family, socket.SOCK_RAW, number)

        def answer() -> None:
            with contextlib.suppress(OSError):
                data, sender = door.recvfrom(2048)
                if number != socket.IPPROTO_UDP:
                    told = data[(data[0] & 15) * 4 :] if attempt.version == 4 else data
                    first, second = struct.unpack_from("!HH", told)
                    if second != (attempt.port if number in WITH_PORTS else QUESTION):
                        return  # another attempt's, or an answer
                    swapped = (second, first) if number in WITH_PORTS else (first, ANSWER)
                    data = struct.pack("!HH", *swapped) + told[4:]
                    sender = (sender[0], 0, *sender[2:])
                door.sendto(data, sender)

        self._selector.register(door, selectors.EVENT_READ, answer)

    def _mouth(self, attempt: Attempt) -> tuple[Key, Callable[[], None]]:
        """A socket that is ready to make the attempt: the packet's key, and what sends it."""
        number, family = attempt.number, _family(attempt.version)
        here = attempt.from_address or attempt.source.address(attempt.version)
        there = attempt.to_address or attempt.target.address(attempt.version)
        kind = {6: socket.SOCK_STREAM, 17: socket.SOCK_DGRAM}.get(number, socket.SOCK_RAW)
        mouth = self._open(attempt.source, family, kind, 0 if kind != socket.SOCK_RAW else number)
        mouth.bind((here, 0))
        ident = next(_idents) & 0xFFFF
        if number == socket.IPPROTO_TCP:
            mouth.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        own = mouth.getsockname()[1] if number in (6, 17) else ident
        second = attempt.port if number in WITH_PORTS else _types(number)[0]
        payload = _payload(number, ident, attempt.port)

        def send() -> None:
            # Refusals of other rounds' packets, and of the guest's own routes, are no outcome.
            with contextlib.suppress(OSError):
                if number == socket.IPPROTO_TCP:
                    mouth.connect_ex((there, attempt.port))
                else:
                    mouth.sendto(payload, (there, attempt.port if number == socket.IPPROTO_UDP else 0))

        return Key(number, here, there, own, second), send


def _family(version: int) -> int:
    return socket.AF_INET6 if version == 6 else socket.AF_INET


def _types(number: int) -> tuple[int, int]:
    return ECHO.get(number, (QUESTION, ANSWER))


def _payload(number: int, ident: int, port: int) -> bytes:
    if number == NUMBERS["sctp"]:
        chunk = sctp.chunk_init(init_tag=ident, a_rwnd=65535, os=1, mis=1, i_tsn=ident)
        return bytes(sctp.sctp(ident, port, chunks=[chunk]).serialize(None, None))
    if number in ECHO:
        body = struct.pack("!BBHHH", ECHO[number][0], 0, 0, ident, 1) + b"attempt!"
        return body[:2] + struct.pack("!H", packet_utils.checksum(body)) + body[4:]  # ICMPv6's the kernel fills in
    return struct.pack("!HH", ident, QUESTION) + b"attempt!"


def key_of(frame: bytes) -> Key | None:
    """The key of an IP packet; None for anything else."""
    kind = frame[12:14]
    if kind == b"\x08\0":
        start, number = 14 + (frame[14] & 15) * 4, frame[23]
        source, target = (socket.inet_ntop(socket.AF_INET, frame[at : at + 4]) for at in (26, 30))
    elif kind == b"\x86\xdd":
        start, number = 54, frame[20]
        source, target = (socket.inet_ntop(socket.AF_INET6, frame[at : at + 16]) for at in (22, 38))
    else:
        return None
    if number in ECHO and len(frame) >= start + 6:
        return Key(number, source, target, struct.unpack_from("!H", frame, start + 4)[0], frame[start])
    if number in NUMBERS.values() and len(frame) >= start + 4:
        return Key(number, source, target, *struct.unpack_from("!HH", frame, start))
    return None
