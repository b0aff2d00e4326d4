"""The agent's own door: a unix socket in its state directory, by which somebody on this machine asks for a check.

For the hour in which there is no broker: `selvedge check --here` sends one datagram, a `Check` as the feed would bring
it, and finds the answer in `status.json`. Only the agent's user may send (mode 0600). The thread owns a socket and
nothing else; what it reads it tells to a callback, which should only enqueue it.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from selvedge import wire
from selvedge.topics import Check

LOG = logging.getLogger(__name__)

DOOR = "agent.sock"
"""The socket's name in `state_dir`."""

LARGEST = 4096
"""Bytes of a datagram; the rest of a longer one is dropped, and what is left cannot be read."""


class Door(threading.Thread):
    """`unreadable` counts datagrams that say nothing."""

    def __init__(self, state_dir: Path, events: Callable[[Check], None]) -> None:
        super().__init__(name="door", daemon=True)
        self.unreadable = 0
        self._path = state_dir / DOOR
        self._events = events
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._stopping = threading.Event()

    def run(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)  # of a former life
            os.fchmod(self._socket.fileno(), 0o600)  # what bind makes has this mode from its first moment (unix(7))
            self._socket.bind(str(self._path))
        except OSError as error:
            LOG.warning("%s: %s; checks can be asked by way of the broker only", self._path, error)
            return
        while not self._stopping.is_set():
            data = self._socket.recv(LARGEST)
            if self._stopping.is_set():
                return
            try:
                self._events(wire.decode(data, Check))
            except wire.Unreadable as error:
                self.unreadable += 1
                LOG.warning("%s: dropped a datagram: %s", self._path, error)

    def stop(self) -> None:
        """No event comes afterwards."""
        self._stopping.set()
        if self.is_alive():
            self._socket.shutdown(socket.SHUT_RDWR)
            self.join(1.0)
        self._path.unlink(missing_ok=True)


def ask(state_dir: Path, check: Check) -> None:
    """Ask the agent whose state directory this is. Raises OSError: there is none, or it is not ours to ask."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.settimeout(1.0)
        mouth.connect(str(state_dir / DOOR))
        mouth.send(wire.encode(check))
