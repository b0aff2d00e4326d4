"""Sends ARP requests, then ICMP echo requests, every millisecond, and says when the answers came: a program.

It runs inside a VM's namespace on a raw packet socket and needs nothing of the kernel's: the kernel would ask for an
unanswered neighbour once a second, and so hide everything that happens faster. The road it tests is the VM's: an ARP
request for the target until it is answered, then an echo request to the MAC that answered, and the target's own kernel
replies. Times are CLOCK_MONOTONIC seconds, which all processes of the machine share.

    prober.py INTERFACE MAC ADDRESS TARGET first|count PERIOD_MS

It says `ready` once it sends. `first`: prints the document when the first echo reply is there, and ends. `count`: says
`replying` at the first echo reply, numbers the requests from there on, and prints the document when its input ends.
"""

import json
import os
import select
import socket
import struct
import sys
import time
from typing import NamedTuple

SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
ARP, IPV4 = 0x0806, 0x0800
GRACE_S = 0.5
"""How long an answer to the last request may take before it counts as lost."""
GAP_S = 0.02
"""Pauses between two replies from this length on are listed."""
LATE_S = 2.0
"""A request without an answer for so long is lost: what is still to be told apart stays small, however long it runs."""


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Ends(NamedTuple):
    """Who asks, and whom; as bytes of the wire."""

    mac: bytes
    address: bytes
    target: bytes


def arp_request(ends: Ends) -> bytes:
    ethernet = b"\xff" * 6 + ends.mac + struct.pack("!H", ARP)
    return ethernet + struct.pack("!HHBBH", 1, IPV4, 6, 4, 1) + ends.mac + ends.address + bytes(6) + ends.target


def echo_request(ends: Ends, to: bytes, number: int) -> bytes:
    """To the MAC `to`, an ICMP echo request that carries `number` (32 bits) as its data."""
    icmp = struct.pack("!BBHHHIQ", 8, 0, 0, 0x5E1F, number & 0xFFFF, number, 0)
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), number & 0xFFFF, 0, 64, 1, 0, ends.address, ends.target)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return to + ends.mac + struct.pack("!H", IPV4) + ip + icmp


class Prober:
    """The state of one run; `run` is its loop."""

    def __init__(self, interface: str, ends: Ends, counting: bool, period: float) -> None:
        self.ends = ends
        self.counting, self.period = counting, period
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((interface, 0))
        self.socket.setblocking(False)
        self.peer: bytes | None = None
        self.sent = self.unsent = 0
        self.waiting: dict[int, float] = {}
        self.lost = 0
        self.losses: list[list[float]] = []
        self.newest_lost = -1
        self.arp_at: float | None = None
        self.reply_at: float | None = None
        self.newest: float | None = None
        self.gaps: list[tuple[float, float]] = []

    def send(self) -> None:
        if self.peer is None:
            frame = arp_request(self.ends)
        else:
            number = self.sent if self.reply_at is not None else 0xFFFFFFFF
            frame = echo_request(self.ends, self.peer, number)
            if self.reply_at is not None:
                self.sent += 1
                self.waiting[number] = time.monotonic()
        try:
            self.socket.send(frame)
        except OSError:  # the interface is down or its queue is full: as lost as any other
            self.unsent += 1

    def receive(self) -> None:
        """Read what is there."""
        while True:
            try:
                frame = self.socket.recv(2048)
            except OSError:
                return
            now = time.monotonic()
            kind = frame[12:14]
            if kind == b"\x08\x06" and frame[20:22] == b"\x00\x02" and frame[28:32] == self.ends.target:
                if self.peer is None:
                    self.peer, self.arp_at = frame[22:28], now
                    self.send()
            elif (
                kind == b"\x08\x00"
                and frame[23] == 1
                and frame[26:30] == self.ends.target
                and frame[34:36] == b"\x00\x00"
            ):
                self.replied(now, struct.unpack("!I", frame[42:46])[0])

    def replied(self, now: float, number: int) -> None:
        if self.reply_at is None:
            self.reply_at = now
            if self.counting:
                print("replying", flush=True)
        if number != 0xFFFFFFFF:
            self.waiting.pop(number, None)
        if self.newest is not None and now - self.newest > GAP_S:
            self.gaps.append((self.newest, now))
        self.newest = now

    def give_up(self, before: float) -> None:
        """What was sent before and is not answered is lost: runs of (first sent, last sent, how many)."""
        while self.waiting:
            number, sent = next(iter(self.waiting.items()))
            if sent >= before:
                return
            del self.waiting[number]
            self.lost += 1
            if number == self.newest_lost + 1 and self.losses:
                self.losses[-1][1:] = [sent, self.losses[-1][2] + 1]
            else:
                self.losses.append([sent, sent, 1])
            self.newest_lost = number

    def run(self) -> None:
        due, end = time.monotonic(), float("inf")
        print("ready", flush=True)
        watched = [self.socket, sys.stdin]
        while True:
            now = time.monotonic()
            if now >= due and end == float("inf"):
                self.send()
                self.give_up(now - LATE_S)
                due = due + self.period if now - due < 0.1 else now + self.period
            pause = min(due if end == float("inf") else now + 0.05, end) - now
            readable, _, _ = select.select(watched, [], [], max(0.0, pause))
            if self.socket in readable:
                self.receive()
            now = time.monotonic()
            if sys.stdin in readable and not os.read(sys.stdin.fileno(), 1):
                watched.remove(sys.stdin)
                end = now + GRACE_S
            if now >= end or (not self.counting and self.reply_at is not None):
                return

    def document(self) -> dict[str, object]:
        self.give_up(float("inf"))
        return {
            "arp_at": self.arp_at,
            "reply_at": self.reply_at,
            "sent": self.sent,
            "unsent": self.unsent,
            "lost": self.lost,
            "losses": self.losses,
            "gaps": self.gaps,
        }


def main(words: list[str]) -> None:
    interface, mac, address, target, mode, period = words
    ends = Ends(bytes.fromhex(mac.replace(":", "")), socket.inet_aton(address), socket.inet_aton(target))
    prober = Prober(interface, ends, mode == "count", float(period) / 1000)
    prober.run()
    print(json.dumps(prober.document()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
