"""A TCP proxy that can be cut like a wire: no FIN, no RST, the two ends just hear nothing of each other any more.

One thread passes bytes on for all connections. While it is cut it reads nothing, so what is sent fills the kernel's
buffers and waits there, and new connections are accepted by the kernel and by nobody else. `mend` lets everything flow
again, as a cable that is plugged back in; `mend(drop=True)` ends the connections of before instead, as a firewall does
that has forgotten them.
"""

import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Self

PIECE = 1 << 16


class WireProxy:
    """Listens on a port of loopback (`port`) and passes on to `target`, until the end of the context."""

    def __init__(self, target: int) -> None:
        self._target = ("127.0.0.1", target)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._cut = False
        self._drop = False
        self._ended = False
        self._bell, self._ear = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="wire-proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._ring()
        self._thread.join(5.0)
        for one in (self._listener, self._bell, self._ear, *self._peers):
            one.close()

    def cut(self) -> None:
        self._cut = True
        self._ring()

    def mend(self, drop: bool = False) -> None:
        self._drop, self._cut = drop, False
        self._ring()

    def _ring(self) -> None:
        self._bell.send(b"!")

    def _run(self) -> None:
        while not self._ended:
            watched = [self._ear] if self._cut else [self._ear, self._listener, *self._peers]
            for one in select.select(watched, [], [])[0]:
                if one is self._ear:
                    self._ear.recv(64)
                    if self._drop and not self._cut:
                        self._drop = False
                        self._end(*self._peers)
                elif self._cut:
                    break
                elif one is self._listener:
                    self._join(one.accept()[0])
                elif one in self._peers:
                    self._pass(one)

    def _join(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, 2.0)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        self._peers |= {client: server, server: client}

    def _pass(self, one: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = one.recv(PIECE)
            self._peers[one].sendall(data)
        if not data:
            self._end(one, self._peers[one])

    def _end(self, *sockets: socket.socket) -> None:
        for one in sockets:
            self._peers.pop(one, None)
            one.close()
