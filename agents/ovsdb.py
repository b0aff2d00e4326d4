"""A thin client of Open vSwitch's database (RFC 7047, ovsdb-server(7)) over its unix socket.

It does what the agent needs and nothing else: one conditional monitor (`monitor_cond`) of the columns in
`agents.mirror`, transactions that are pipelined and answered by events, echo replies, and reconnection. The `ovs`
package's IDL takes 0.3-0.5 s to load a thousand interfaces and ovsdbapp 28 ms for a transaction at that size; decoding
the monitor's reply with msgspec takes 20 ms.

A reactor that is busy is not flooded: with `UPDATES` of others' changes not worked off, nothing more is read, and
ovsdb-server merges what happens meanwhile into one update.

`Framer` is the pure part: RFC 7047 puts JSON documents on the stream one after the other, without lengths.
`Database` is the I/O thread. It keeps no rows and takes no decision: everything that arrives goes to `events`, in
order. Who reads them: `agents.core`, by `agents.inventory`.
"""

import contextlib
import errno
import logging
import re
import select
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from agents.credit import LOOK, Credit
from agents.mirror import Updates

LOG = logging.getLogger(__name__)

Operations = list[dict[str, Any]]
"""The operations of one transaction, as RFC 7047 section 5.2 writes them."""

RETRY_FIRST, RETRY_MOST = 0.05, 0.5
"""Seconds between attempts to connect: a local socket that is not there costs nothing to try."""

REPEATED_FAULT = 1.0
"""Seconds before the next attempt after what was no database's speech: all would have to be loaded anew each time."""

LARGEST = 256 << 20
"""Bytes of one document; a hundred thousand interfaces are some 30 MB."""

CHUNK = 1 << 20
"""Bytes read at once; a thousand interfaces are 0.3 MB."""

UPDATES = 64
"""Updates that the reactor has not worked off, at most."""

TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}"\[\]]', re.DOTALL)
"""What counts for finding a document's end: whole strings (to skip), brackets, and a quote whose string is cut off."""


class Loaded(NamedTuple):
    """Connected: all rows that are monitored, as the monitor's reply has them (`table-updates2`)."""

    updates: Updates


class Updated(NamedTuple):
    """What one transaction of anybody's changed (`table-updates2`: initial, insert, delete, modify)."""

    updates: Updates


class Transacted(NamedTuple):
    """One of our transactions is done. `error` is None if it was committed, else the server's reason."""

    tag: str
    error: str | None


class DatabaseLost(NamedTuple):
    """No connection: `Loaded` follows when there is one. Running transactions were answered with an error before."""

    reason: str


DatabaseEvent = Loaded | Updated | Transacted | DatabaseLost


class BrokenStream(Exception):
    """The server's stream is no JSON-RPC; the connection is given up."""


class Framer:
    """Cuts a byte stream into JSON documents without decoding them. Looks at every byte once."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The documents that `data` completes. Raises `BrokenStream` when brackets close that never opened, and for a
        document that does not end."""
        self._buffer += data
        buffer, position, start, found = self._buffer, self._scanned, 0, []
        for token in TOKEN.finditer(buffer, position):
            character = buffer[token.start()]
            if character == 0x22:
                if token.end() - token.start() == 1:  # a string without its end: look again when more is here
                    position = token.start()
                    break
            elif character in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth < 0:
                    raise BrokenStream("brackets do not match")
                if self._depth == 0:
                    found.append(bytes(buffer[start : token.end()]))
                    start = token.end()
            position = token.end()
        if start:
            del buffer[:start]
        self._scanned = position - start
        if len(buffer) > LARGEST:
            raise BrokenStream(f"a document of more than {LARGEST} bytes")
        return found


def failure(results: Any, operations: int) -> str | None:
    """What went wrong in a `transact` reply, or None.

    RFC 7047 section 4.1.3: one result per operation; the first that failed is an object with `error`; those after it
    are null; and one result more than operations is a failure at commit.
    """
    if not isinstance(results, list) or len(results) < operations:
        return f"unexpected reply {results!r}"
    for result in results:
        if isinstance(result, dict) and "error" in result:
            return f"{result['error']}: {result.get('details', '')}".rstrip(": ")
    return None


class Database(threading.Thread):
    """The I/O thread: connects, monitors `columns` (table -> column names), and reports by `events`.

    `transact` and `stop` may be called from any thread. `events` is called on this thread and must not block.
    """

    def __init__(
        self,
        path: str,
        columns: dict[str, tuple[str, ...]],
        events: Callable[[DatabaseEvent], None],
        name: str = "Open_vSwitch",
    ) -> None:
        super().__init__(name="ovsdb", daemon=True)
        self._path, self._columns, self._events, self._name = path, columns, events, name
        self._orders: deque[tuple[str, Operations]] = deque()
        self._running: dict[int, tuple[str, int]] = {}
        self._serial = 0
        self._stopping = self._loaded = False
        self._wake_here, self._wake_there = socket.socketpair()
        self._wake_here.setblocking(False)
        self._wake_there.setblocking(False)
        self._credit = Credit(UPDATES)
        self.transactions = 0
        """Transactions sent so far."""

    @property
    def held_back(self) -> int:
        """How often reading had to wait for the reactor."""
        return self._credit.held_back

    def took(self, events: int) -> None:
        """The reactor has worked off so many `Updated`."""
        self._credit.take(events)

    def transact(self, tag: str, operations: Operations) -> None:
        """Send one transaction; `Transacted(tag, …)` tells its end. Nothing is sent twice: a lost one is an error."""
        self._orders.append((tag, operations))
        self._wake()

    def stop(self) -> None:
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: a wake-up is waiting already
            self._wake_there.send(b"\0")

    def run(self) -> None:
        delay, told = RETRY_FIRST, ""
        while not self._stopping:
            self._loaded = False
            reason, broken = self._connection()
            if self._loaded and not broken:
                delay, told = RETRY_FIRST, ""
            self._fail_orders(reason)
            if reason != told:  # once, not with every attempt
                LOG.warning("Open vSwitch's database: %s; trying again", reason)
            if reason != told or self._loaded:
                self._events(DatabaseLost(reason))
                told = reason
            self._pause(REPEATED_FAULT if broken else delay)
            delay = min(delay * 2, RETRY_MOST)

    def _connection(self) -> tuple[str, bool]:
        """One connection or attempt at one, why it ended ("": by `stop`), and whether by words of no meaning."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
                link.connect(self._path)
                self._serve(link)
        except OSError as error:
            return f"{self._path}: {error.strerror or error}", False
        except BrokenStream as error:
            return f"{self._path}: {error}", True
        return "", False

    def _pause(self, seconds: float) -> None:
        """Wait, but answer orders meanwhile: without a connection they fail at once."""
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_here, selectors.EVENT_READ)
            while not self._stopping and (left := end - time.monotonic()) > 0:
                if selector.select(left):
                    self._drain_wakes()
                    self._fail_orders("not connected")

    def _fail_orders(self, reason: str) -> None:
        """Those that were sent have an unknown fate, those that were not have none: both are errors."""
        for tag, _ in self._running.values():
            self._events(Transacted(tag, reason))
        self._running.clear()
        while self._orders:
            tag, _ = self._orders.popleft()
            self._events(Transacted(tag, reason))

    def _drain_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_here.recv(4096):
                pass

    def _serve(self, link: socket.socket) -> None:
        """One connection, until it breaks (raises) or `stop` is called."""
        link.setblocking(False)
        monitor = {table: [{"columns": list(columns)}] for table, columns in self._columns.items()}
        out = bytearray(_request(0, "monitor_cond", [self._name, "selvedge", monitor]))
        framer = Framer()
        poll = select.poll()
        poll.register(self._wake_here, select.POLLIN)
        held = False
        while not self._stopping:
            if self._credit.full and not held:
                self._credit.held_back += 1
            held = self._credit.full
            poll.register(link, (0 if held else select.POLLIN) | (select.POLLOUT if out else 0))
            for descriptor, mask in poll.poll(LOOK * 1000 if held else None):
                if descriptor == self._wake_here.fileno():
                    self._drain_wakes()
                    self._take_orders(out)
                elif mask & ~select.POLLOUT:
                    self._read(link, framer, out)
            if out:
                with contextlib.suppress(BlockingIOError):
                    del out[: link.send(out)]

    def _read(self, link: socket.socket, framer: Framer, out: bytearray) -> None:
        data = link.recv(CHUNK)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed by ovsdb-server")
        for document in framer.feed(data):
            self._receive(document, out)

    def _take_orders(self, out: bytearray) -> None:
        while self._orders:
            tag, operations = self._orders.popleft()
            self._serial += 1
            self._running[self._serial] = (tag, len(operations))
            self.transactions += 1
            out += _request(self._serial, "transact", [self._name, *operations])

    def _receive(self, document: bytes, out: bytearray) -> None:
        """One message. Raises `BrokenStream` for what no ovsdb-server says."""
        try:
            message = msgspec.json.decode(document, type=dict[str, Any])
            method, serial = message.get("method"), message.get("id")
            if method == "echo":
                out += msgspec.json.encode({"id": serial, "result": message.get("params"), "error": None})
            elif method == "update2":
                _, updates = msgspec.convert(message.get("params"), tuple[Any, Updates])
                self._credit.give(1)
                self._events(Updated(updates))
            elif method is not None:
                LOG.debug("ovsdb-server sent %s, which is of no use here", method)
            elif isinstance(serial, int):
                self._answer(serial, message.get("result"), message.get("error"))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
            raise BrokenStream(f"no message of an ovsdb-server ({error}): {document[:80]!r}") from error

    def _answer(self, serial: int, result: Any, error: Any) -> None:
        if serial == 0:
            if error is not None:
                raise BrokenStream(f"monitor refused: {error}")
            updates = msgspec.convert(result, Updates)
            self._loaded = True
            self._events(Loaded(updates))
        elif serial in self._running:
            tag, operations = self._running.pop(serial)
            self._events(Transacted(tag, str(error) if error else failure(result, operations)))


def _request(serial: int, method: str, params: list[Any]) -> bytes:
    return msgspec.json.encode({"id": serial, "method": method, "params": params})
