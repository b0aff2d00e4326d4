"""Traffic that counts what is lost, while a test breaks something: a numbered ping every five milliseconds, one TCP
stream, and new TCP connections all the while.

The ping (`bench.prober`) is exact: every request has a number, and the last ones have half a second for their answer.
The stream and the connections use sockets of the guests' kernels from threads of the test; there a lost packet is a
retransmission: of a first packet only after a second, so a connection that took longer than `LATE` had lost one.

All is slow enough that no queue of a kernel overflows while a busy machine lets a switch wait: what is lost then would
be the machine's.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bench.probe import Probe
from devstack.labs.vm import Vm

LATE = 0.9
"""Seconds; Linux repeats the first packet of a connection after one."""

STREAM, DOOR = 5201, 5202
PERIOD_MS = 5.0
"""Between two pings."""
PIECE, PACE = bytes(1024), 0.01
"""Of the stream: a piece, and the seconds between two."""
EACH = 0.05
"""Seconds between two connections."""


@dataclass(frozen=True)
class Seen:
    """What became of the traffic. `lost` are pings; `stall` is the longest pause of the stream, in seconds."""

    sent: int
    lost: int
    gaps: list[tuple[float, float]]
    streamed: int
    arrived: int
    stall: float
    connections: int
    late: list[float]
    broken: list[str]


class Traffic:
    """A context manager; inside, `source` talks to `target`, and `finish` says how that went."""

    def __init__(self, source: Vm, target: Vm) -> None:
        self._source, self._target = source, target
        self._stop = threading.Event()
        self._streamed = self._arrived = self._connections = 0
        self._stall = 0.0
        self._late: list[float] = []
        self._broken: list[str] = []
        self._threads: list[threading.Thread] = []
        self._listeners = [self._listen(port) for port in (STREAM, DOOR)]

    def __enter__(self) -> Self:
        self._probe = Probe(
            self._source.namespace,
            self._source.want.mac,
            self._source.address(),
            self._target.address(),
            counting=True,
            period_ms=PERIOD_MS,
        )
        self._probe.replying()
        for work in (self._take_stream, self._open_doors, self._stream, self._connect_again):
            thread = threading.Thread(target=self._guarded, args=(work,), daemon=True)
            thread.start()
            self._threads.append(thread)
        time.sleep(0.1)
        return self

    def finish(self) -> Seen:
        """End it, and tell."""
        answers = self._probe.finish()
        self._stop.set()
        for thread in self._threads:
            thread.join(5.0)
        return Seen(
            answers.sent,
            answers.lost,
            answers.gaps,
            self._streamed,
            self._arrived,
            self._stall,
            self._connections,
            self._late,
            self._broken,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5.0)
        for listener in self._listeners:
            listener.close()
        self._probe.__exit__(kind, error, trace)

    def _listen(self, port: int) -> socket.socket:
        made = self._target.open_socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((self._target.address(), port))
        made.listen(256)
        made.settimeout(0.2)
        return made

    def _dial(self, port: int) -> socket.socket:
        made = self._source.open_socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(10.0)
        made.connect((self._target.address(), port))
        return made

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._broken.append(f"{work.__name__}: {error}")

    def _stream(self) -> None:
        with self._dial(STREAM) as connection:
            while not self._stop.is_set():
                connection.sendall(PIECE)
                self._streamed += len(PIECE)
                time.sleep(PACE)

    def _take_stream(self) -> None:
        with self._accept(self._listeners[0]) as connection:
            connection.settimeout(10.0)
            last = time.monotonic()
            while data := connection.recv(1 << 16):
                now = time.monotonic()
                self._stall, last = max(self._stall, now - last), now
                self._arrived += len(data)

    def _open_doors(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                self._listeners[1].accept()[0].close()

    def _connect_again(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self._dial(DOOR).close()
            self._connections += 1
            if (took := time.monotonic() - began) > LATE:
                self._late.append(took)
            time.sleep(EACH)

    def _accept(self, listener: socket.socket) -> socket.socket:
        while True:
            with contextlib.suppress(TimeoutError):
                return listener.accept()[0]
            if self._stop.is_set():
                raise ConnectionError("nobody came")


def lost_nothing(seen: Seen, delayed: bool = False) -> None:
    """Assert that no packet was lost, in any of the three ways to see it. `delayed`: a second's delay is allowed, in
    which TCP cannot know better than to repeat."""
    assert seen.lost == 0, seen
    assert not seen.broken, seen
    assert delayed or not seen.late, seen
    assert seen.connections, seen
    assert seen.arrived == seen.streamed > 0, seen
