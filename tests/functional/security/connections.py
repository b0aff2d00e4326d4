"""Connections that last: whether they still carry data, each way, and what they suffered while something changed.

    held = Held.tcp(a, b, 80)       an established connection; `talks()` tells of both directions
    wait_cut(held, …), all_live(held, …)
    stream = Stream(a, b, 80)       one under load, echoed: retransmissions, resets, the longest silence

Both live in this process, on sockets of the guests' kernels.
"""

import contextlib
import itertools
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from devstack.labs.process import LabError, wait_for
from devstack.labs.vm import Vm

SILENCE = 0.3
"""Seconds in which what one end sends would have come out of the other."""

TOTAL_RETRANS, DSACK_DUPS = 100, 216
"""Where struct tcp_info (linux/tcp.h) has tcpi_total_retrans and tcpi_dsack_dups."""

CHUNK, PAUSE = 1000, 0.002
"""A stream's bytes, and the seconds between two lots of them: a load, but one that a busy machine can carry."""

_tokens = itertools.count(1)


def _family(version: int) -> int:
    return socket.AF_INET6 if version == 6 else socket.AF_INET


class Held:
    """Two connected sockets of two guests: `client` has started it."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server

    @classmethod
    def tcp(cls, source: Vm, target: Vm, port: int, version: int = 4, patience: float = 5) -> "Held":
        """An established TCP connection. TimeoutError if there is none after `patience` seconds."""
        with target.open_socket(_family(version), socket.SOCK_STREAM) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind((target.address(version), port))
            door.listen(1)
            door.settimeout(5)
            client = source.open_socket(_family(version), socket.SOCK_STREAM)
            client.settimeout(patience)
            try:
                client.connect((target.address(version), port))
                server = door.accept()[0]
            except OSError:
                client.close()
                raise
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return cls(client, server)

    @classmethod
    def udp(cls, source: Vm, target: Vm, port: int, version: int = 4) -> "Held":
        """Two sockets that know each other; the client has spoken, and the server has answered."""
        client = source.open_socket(_family(version), socket.SOCK_DGRAM)
        server = target.open_socket(_family(version), socket.SOCK_DGRAM)
        client.bind((source.address(version), 0))
        server.bind((target.address(version), port))
        client.connect((target.address(version), port))
        server.connect(client.getsockname())
        for mouth, ear in ((client, server), (server, client)):
            mouth.send(b"first")
            ear.settimeout(5)
            assert ear.recv(100) == b"first"
        return cls(client, server)

    def talks(self, patience: float = SILENCE) -> tuple[bool, bool]:
        """Whether what the client says now arrives, and what the server says."""
        return talk(self, patience=patience)[0]

    def lives(self) -> bool:
        return self.talks(2.0) == (True, True)

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def talk(*held: Held, patience: float = SILENCE) -> list[tuple[bool, bool]]:
    """Of each connection, all at once: whether what its client says now arrives, and what its server says."""
    waiting: dict[socket.socket, tuple[bytes, bytes]] = {}
    heard: set[socket.socket] = set()
    for one in held:
        for mouth, ear in ((one.client, one.server), (one.server, one.client)):
            token = f"<{next(_tokens)}>".encode()
            # A connection that was reset carries nothing.
            with contextlib.suppress(OSError):
                mouth.send(token)
                waiting[ear] = token, b""
    deadline = time.monotonic() + patience
    while waiting and (left := deadline - time.monotonic()) > 0:
        for ear in select.select(list(waiting), [], [], left)[0]:
            token, before = waiting.pop(ear)
            with contextlib.suppress(OSError):
                data = ear.recv(65536)
                if token in before + data:
                    heard.add(ear)
                elif data:
                    waiting[ear] = token, before + data
    return [(one.server in heard, one.client in heard) for one in held]


def wait_cut(*held: Held, within: float = 5.0) -> None:
    """Return once none of them carries anything, either way."""
    wait_for("the cut", lambda: set(talk(*held)) == {(False, False)}, within, 0)


def all_live(*held: Held) -> bool:
    return set(talk(*held, patience=2.0)) == {(True, True)}


@dataclass(frozen=True)
class Suffered:
    """What a stream tells at its end: bytes that came back, segments that were lost, the longest silence."""

    echoed: int
    lost: int
    silence: float
    broken: str


class Stream:
    """A TCP connection that carries data all the time, both ways: the server sends back what it gets.

    A context manager; after it, when what was on its way has come back, `suffered` tells.

    Losses are counted by the guests' kernels: what was sent again, but for what had arrived (RFC 2883): a switch that
    is busy for some milliseconds, or lets one packet overtake another, has not lost anything.
    """

    def __init__(self, source: Vm, target: Vm, port: int, version: int = 4) -> None:
        self._held = Held.tcp(source, target, port, version)
        for end in (self._held.client, self._held.server):
            end.settimeout(0.5)
        self.suffered = Suffered(0, 0, 0.0, "it never ran")
        self._stop = threading.Event()
        self._broken = ""
        self._echoed, self._sent, self._silence = 0, 0, 0.0
        works = (self._write, self._echo, self._read)
        self._threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True) for work in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        wait_for("the stream", lambda: self._echoed > 20 * CHUNK, 5)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        ends = (self._held.client, self._held.server)
        infos = [end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256) for end in ends]
        again, needless = (
            sum(struct.unpack_from("=I", info, at)[0] for info in infos) for at in (TOTAL_RETRANS, DSACK_DUPS)
        )
        self.suffered = Suffered(self._echoed, again - needless, self._silence, self._broken)
        self._held.close()

    @property
    def echoed(self) -> int:
        """Bytes that came back so far."""
        return self._echoed

    def wait_echoed(self, count: int, what: str) -> None:
        """Return once so many bytes have come back; AssertionError says of what the stream died."""
        with contextlib.suppress(LabError):
            wait_for("data", lambda: self._echoed >= count or bool(self._broken), 10)
        assert self._echoed >= count, f"{what}: {self._broken or 'the stream has stopped'}"

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._broken = self._broken or str(error)

    def _write(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                self._sent += self._held.client.send(b"." * CHUNK)
            time.sleep(PAUSE)

    def _echo(self) -> None:
        while True:
            try:
                data = self._held.server.recv(65536)
            except TimeoutError:
                if self._stop.is_set():
                    return
                continue
            if not data:
                return
            while data:
                try:
                    data = data[self._held.server.send(data) :]
                except TimeoutError:
                    if self._stop.is_set():
                        return

    def _read(self) -> None:
        last = time.monotonic()
        while not (self._stop.is_set() and self._echoed >= self._sent):
            with contextlib.suppress(TimeoutError):
                data = self._held.client.recv(65536)
                if not data:
                    self._broken = "closed by the other end"
                    return
                self._echoed += len(data)
                self._silence, last = max(self._silence, time.monotonic() - last), time.monotonic()
            if self._stop.is_set() and time.monotonic() - last > 2:
                self._broken = f"{self._sent - self._echoed} bytes never came back"
                return
