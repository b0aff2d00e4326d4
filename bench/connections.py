"""TCP connections that must survive: one message there and back every 100 ms, through whatever breaks.

Both ends are sockets of the VMs' own kernels, held by two threads here. A broken switch makes a message late, as long
as TCP sends it again; a reset, or an answer that never comes, is the end of the connection, and that is a finding.
The pauses between two attempts of TCP double, so `finish` waits longer than the last outage took.
"""

import socket
import threading
import time

from devstack.labs.vm import Vm

PORT = 5001
PERIOD_S = 0.1
LONGEST_S = 120.0
"""Two of the longest pauses of TCP between two attempts at an outage of half a minute."""


class Connection:
    """Between two VMs, from its making on."""

    def __init__(self, client: Vm, server: Vm) -> None:
        self.name = f"{client.hypervisor} to {server.hypervisor}"
        self.exchanged = 0
        self.longest_s = 0.0
        self.broken: str | None = None
        self._stopping = threading.Event()
        listener = server.open_socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((server.address(), PORT))
        listener.listen()
        self._client = client.open_socket(socket.AF_INET, socket.SOCK_STREAM)
        self._client.settimeout(LONGEST_S)
        self._client.connect((server.address(), PORT))
        self._server = listener.accept()[0]
        listener.close()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._echo, self._ask)]
        for thread in self._threads:
            thread.start()

    def _echo(self) -> None:
        try:
            while data := self._server.recv(64):
                self._server.sendall(data)
        except OSError as error:
            self.broken = self.broken or f"the server's end: {error}"

    def _ask(self) -> None:
        while not self._stopping.wait(PERIOD_S):
            began = time.monotonic()
            try:
                self._client.sendall(b"selvedge")
                length = 0
                while length < 8:
                    data = self._client.recv(8 - length)
                    if not data:
                        raise ConnectionError("it was closed")
                    length += len(data)
            except OSError as error:
                self.broken = f"after {self.exchanged} messages: {error}"
                return
            self.exchanged += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began)

    def finish(self) -> None:
        """Wait for the last answer, and close."""
        self._stopping.set()
        self._threads[1].join(LONGEST_S + 1)
        self._client.close()
        self._threads[0].join(5)
        self._server.close()
