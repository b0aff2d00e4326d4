"""A switch's flows seen from a connection of our own over `<bridge>.mgmt`: how many there are, and when which changed.

OpenFlow 1.4, four messages written out by hand: whoever measures should not share code with what is measured. The flow
monitor (ONF's, OFPMP_FLOW_MONITOR) makes the switch tell every change when it happens: watching costs nothing while
nothing changes, and polling sixteen switches a thousand times a second would be the load that it looks for.
"""

import select
import socket
import struct
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

HEADER = struct.Struct("!BBHI")
VERSION, HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, MULTIPART_REQUEST, MULTIPART_REPLY = 5, 0, 1, 2, 3, 18, 19
AGGREGATE, FLOW_MONITOR = 2, 16
ANY_MATCH = bytes((0, 1, 0, 4, 0, 0, 0, 0))
ANY = 0xFFFFFFFF
ALL_TABLES = 0xFF
ADD, REMOVED, MODIFY = 2, 4, 8
EVENTS = {1: "added", 2: "removed", 3: "modified"}


class Change(NamedTuple):
    """One flow of a table changed at `time` (monotonic seconds of the message's arrival)."""

    time: float
    event: str
    table: int
    cookie: int


class Watch:
    """One connection to the switch at `path` (`…/br-int.mgmt`)."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(30.0)
        self.socket.connect(str(path))
        self._data = b""
        self._changes: list[Change] = []
        self._number = 1
        self.socket.sendall(HEADER.pack(VERSION, HELLO, 8, 1))

    def flows(self, table: int = ALL_TABLES) -> int:
        """How many flows the bridge, or one of its tables, has."""
        self._number += 1
        body = struct.pack("!HHI B3xIII QQ", AGGREGATE, 0, 0, table, ANY, ANY, 0, 0, 0) + ANY_MATCH
        self.socket.sendall(HEADER.pack(VERSION, MULTIPART_REQUEST, 8 + len(body), self._number) + body)
        while True:
            kind, number, body = self._message()
            if kind == MULTIPART_REPLY and number == self._number:
                return int(struct.unpack_from("!I", body, 8 + 16)[0])
            self._note(kind, body)

    def subscribe(self) -> None:
        """From now on the switch tells of every flow that is added, removed or modified."""
        self._number += 1
        body = struct.pack("!HHI III HBB", FLOW_MONITOR, 0, 0, 1, ANY, ANY, ADD | REMOVED | MODIFY, ALL_TABLES, 0)
        self.socket.sendall(HEADER.pack(VERSION, MULTIPART_REQUEST, 8 + len(body) + 8, self._number) + body + ANY_MATCH)
        while True:
            kind, number, body = self._message()
            if number == self._number:
                return
            self._note(kind, body)

    def changes(self) -> list[Change]:
        """What changed since the last call, without waiting."""
        while select.select([self.socket], [], [], 0)[0]:
            self._read()
        while (message := self._next()) is not None:
            self._note(message[0], message[2])
        found, self._changes = self._changes, []
        return found

    def _message(self) -> tuple[int, int, bytes]:
        while (message := self._next()) is None:
            self._read()
        return message

    def _read(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the switch closed the connection")
        self._data += data

    def _next(self) -> tuple[int, int, bytes] | None:
        """Type, transaction number and body of the next message that is here whole."""
        if len(self._data) < 8 or len(self._data) < HEADER.unpack_from(self._data)[2]:
            return None
        _, kind, length, number = HEADER.unpack_from(self._data)
        body, self._data = self._data[8:length], self._data[length:]
        if kind == ECHO_REQUEST:
            self.socket.sendall(HEADER.pack(VERSION, ECHO_REPLY, 8 + len(body), number) + body)
        elif kind == ERROR:
            raise ConnectionError(f"the switch answered with error {struct.unpack_from('!HH', body)}")
        return kind, number, body

    def _note(self, kind: int, body: bytes) -> None:
        if kind != MULTIPART_REPLY or struct.unpack_from("!H", body)[0] != FLOW_MONITOR:
            return
        now, position = time.monotonic(), 8
        while position + 4 <= len(body):
            length, event = struct.unpack_from("!HH", body, position)
            if event in EVENTS:
                cookie = struct.unpack_from("!Q", body, position + 16)[0]
                self._changes.append(Change(now, EVENTS[event], body[position + 4], cookie))
            position += length

    def close(self) -> None:
        self.socket.close()


def follow(
    watches: Mapping[str, Watch], awaited: Collection[str], quiet: float, timeout: float
) -> dict[str, list[Change]]:
    """Collect the changes of several switches until all `awaited` ones have had some and none has had any for `quiet`
    seconds, at most for `timeout` seconds."""
    found: dict[str, list[Change]] = {name: [] for name in watches}
    names = {watch.socket: name for name, watch in watches.items()}
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        ready, _, _ = select.select(list(names), [], [], quiet)
        if not ready and all(found[name] for name in awaited):
            break
        for one in ready:
            found[names[one]] += watches[names[one]].changes()
    return found
