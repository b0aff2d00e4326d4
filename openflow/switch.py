"""The thread that talks to a bridge of Open vSwitch, over the unix socket `<rundir>/<bridge>.mgmt`.

It owns a socket and nothing else: what is said is `openflow.channel`'s business. It connects as soon as the socket is
there, reads and writes whenever either is possible (Open vSwitch stops reading a peer that does not read its replies,
so a writer that blocks would be a deadlock), and tells events to a callback, which should only enqueue them. Orders
come in by `submit` from any thread. When the connection is lost, because vswitchd died or the bridge is gone, it says
so once and tries again every `retry` seconds: a connect to a socket that is not there costs some microseconds.
"""

import contextlib
import logging
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable

from openflow.announce import Packet
from openflow.batch import Audit, Disconnected, Flush, Order, SwitchEvent, Trouble
from openflow.channel import Channel, ChannelLost, Counters
from openflow.pipeline import GENEVE_OPTION

LOG = logging.getLogger(__name__)

RECEIVE = 1 << 20
"""Bytes to take from the socket at once."""

SEND = 1 << 18
"""Bytes to offer to the socket at once: more than it ever takes (the kernel's buffer is some 200 kB)."""

REPEATED_FAULT = 1.0
"""Seconds to wait after a connection that failed otherwise than by being lost, such as by words we don't understand."""


class Switch(threading.Thread):
    """A bridge, by its management socket.

    `retry` is how often to try to connect; after `probe` seconds of silence an echo is asked for, and after `dead` the
    connection counts as lost (all in seconds). `option` is the Geneve option (class, type, length, index) that the
    switch must know. `counters` may be read at any time.
    """

    def __init__(
        self,
        path: str,
        events: Callable[[SwitchEvent], None],
        *,
        option: tuple[int, int, int, int] = GENEVE_OPTION,
        retry: float = 0.05,
        probe: float = 5.0,
        dead: float = 15.0,
    ) -> None:
        super().__init__(name="openflow", daemon=True)
        self.path = path
        self.counters = Counters()
        self._events = events
        self._option = option
        self._retry = retry
        self._probe, self._dead = probe, dead
        self._orders: deque[Order | Packet] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False

    def submit(self, order: Order) -> None:
        """Send a batch as one bundle: `Confirmed` or `Rejected` follows, or `Disconnected`; or a flush: `Flushed`
        follows, or `Disconnected`; or have the switch read again: `Audited` follows, or `Disconnected`. An order that
        was made for an earlier connection is dropped: its maker has been told, or is about to be, that the connection
        is another."""
        self._orders.append(order)
        os.eventfd_write(self._wake, 1)

    def send(self, packet: Packet) -> None:
        """Have the switch send a packet, if it is connected; nothing follows."""
        self._orders.append(packet)
        os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """End the thread and wait for it. No event comes afterwards."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Connect, serve, and again."""
        told = ""
        while not self._stopping:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
                if not self._connect(sock):
                    self._pause(self._retry)
                    continue
                self.counters.connects += 1
                channel = Channel(
                    self.counters.connects,
                    self._option,
                    self.counters,
                    time.monotonic(),
                    probe=self._probe,
                    dead=self._dead,
                )
                pause = 0.0
                try:
                    self._serve(sock, channel)
                    continue
                except OSError as error:
                    reason = os.strerror(error.errno) if error.errno else str(error)
                except ChannelLost as error:
                    reason, pause = str(error), REPEATED_FAULT
                except (ValueError, IndexError, struct.error) as error:
                    reason, pause = f"an answer of the switch cannot be read: {error}", REPEATED_FAULT
                    LOG.log(logging.DEBUG if reason == told else logging.ERROR, "%s: %s", self.path, reason)
            if channel.ready:
                self._events(Disconnected(reason))
                told = reason if pause else ""
            elif pause and reason != told:  # Not each second anew.
                self._events(Trouble(reason))
                told = reason
            self._pause(pause)

    def _connect(self, sock: socket.socket) -> bool:
        """Whether somebody accepts. A unix socket's connect blocks only while the listener's backlog is full."""
        sock.setblocking(False)
        try:
            sock.connect(self.path)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            return False
        except OSError as error:
            LOG.warning("%s: cannot connect: %s", self.path, error)
            self._pause(REPEATED_FAULT)
            return False
        return True

    def _pause(self, seconds: float) -> None:
        """Wait, unless `stop` wakes us; a batch that comes meanwhile belongs to no connection and does not."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            poll.poll(left * 1000 + 1)
            self._awake()

    def _awake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def _serve(self, sock: socket.socket, channel: Channel) -> None:
        """Speak until `stop`. Raises OSError or ChannelLost when the connection is over."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(sock, select.POLLIN)
        waiting_to_write = False
        while not self._stopping:
            while self._orders:
                order = self._orders.popleft()
                if isinstance(order, Packet):
                    if channel.ready:
                        channel.send(order)
                elif order.connection != channel.connection or not channel.ready:
                    continue
                elif isinstance(order, Flush):
                    channel.flush(order)
                elif isinstance(order, Audit):
                    channel.audit()
                else:
                    channel.submit(order)
            if self._write(sock, channel) != waiting_to_write:
                waiting_to_write = not waiting_to_write
                poll.modify(sock, select.POLLIN | (select.POLLOUT if waiting_to_write else 0))
            timeout = channel.deadline - time.monotonic()
            for descriptor, _ in poll.poll(max(0.0, timeout) * 1000 + 1):
                if descriptor == self._wake:
                    self._awake()
                else:
                    self._read(sock, channel)
            channel.tick(time.monotonic())

    @staticmethod
    def _write(sock: socket.socket, channel: Channel) -> bool:
        """Write what the socket takes; whether anything is left."""
        while channel.outgoing:
            try:
                sent = sock.send(channel.outgoing.peek(SEND))
            except BlockingIOError:
                return True
            channel.outgoing.advance(sent)
        return False

    def _read(self, sock: socket.socket, channel: Channel) -> None:
        try:
            data = sock.recv(RECEIVE)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError("the switch closed the connection")
        for event in channel.receive(data, time.monotonic()):
            self._events(event)
