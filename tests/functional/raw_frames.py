"""The oracle's packets as bytes: Ethernet frames with true checksums, whole or in two fragments.

A first fragment has 1,240 bytes behind the IP header: Open vSwitch takes short ones for an attack. TCP is always the
same segment amid a connection, which trackers pick up; handshakes are left to the kernel's own TCP in other tests.
"""

import socket
import struct
from itertools import count

from tests.oracle_packets import ICMP, TCP, UDP, Packet

FIRST = 1240
ACK = 0x10
WITH_PORTS = frozenset({33, 132, 136})
"""Beside UDP: DCCP, SCTP, UDP-Lite."""
_numbers = count(1)


def frames_of(packet: Packet) -> list[bytes]:
    """One frame; or two, when the packet is any fragment of its datagram."""
    content = _content(packet, bytes(1400 if packet.fragment else 32))
    if not packet.fragment:
        return [_frame(packet, content)]
    number = next(_numbers)
    return [_frame(packet, content[:FIRST], (number, 0, True)), _frame(packet, content[FIRST:], (number, FIRST, False))]


def _frame(packet: Packet, content: bytes, fragment: tuple[int, int, bool] | None = None) -> bytes:
    ethernet = _mac(packet.target_mac) + _mac(packet.source_mac)
    return ethernet + struct.pack("!H", 0x86DD if packet.version == 6 else 0x0800) + _ip(packet, content, fragment)


def _ip(packet: Packet, content: bytes, fragment: tuple[int, int, bool] | None = None) -> bytes:
    number, offset, more = fragment or (0, 0, False)
    if packet.version == 4:
        flags = more << 13 | offset >> 3
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), number, flags, 64, packet.protocol, 0) + _ends(
            packet
        )
        return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + content
    protocol = packet.protocol
    if fragment is not None:
        content = struct.pack("!BBHI", protocol, 0, offset | more, number) + content
        protocol = 44
    return struct.pack("!IHBB", 6 << 28, len(content), protocol, 64) + _ends(packet) + content


def _content(packet: Packet, payload: bytes) -> bytes:
    """What is behind the IP header of the whole datagram."""
    ports = struct.pack("!HH", packet.source_port, packet.target_port)
    if packet.protocol == UDP:
        made = ports + struct.pack("!HH", 8 + len(payload), 0) + payload
        return made[:6] + struct.pack("!H", _checksum(_pseudo(packet, made) + made) or 0xFFFF) + made[8:]
    if packet.protocol == TCP:
        made = ports + struct.pack("!IIBBHHH", 1000, 1000, 5 << 4, ACK, 0xFFFF, 0, 0) + payload
        return made[:16] + struct.pack("!H", _checksum(_pseudo(packet, made) + made)) + made[18:]
    if packet.protocol != ICMP[packet.version]:
        return (ports if packet.protocol in WITH_PORTS else bytes(4)) + bytes(8) + payload
    rest = struct.pack("!HH", packet.ident, 1) if packet.quoted is None else bytes(4)
    inside = payload if packet.quoted is None else _ip(packet.quoted, _content(packet.quoted, bytes(32)))
    made = struct.pack("!BBH", packet.kind, packet.code, 0) + rest + inside
    summed = _pseudo(packet, made) + made if packet.version == 6 else made
    return made[:2] + struct.pack("!H", _checksum(summed)) + made[4:]


def _pseudo(packet: Packet, content: bytes) -> bytes:
    """What a checksum covers besides the content."""
    form = "!II" if packet.version == 6 else "!HH"
    size, protocol = (len(content), packet.protocol) if packet.version == 6 else (packet.protocol, len(content))
    return _ends(packet) + struct.pack(form, size, protocol)


def _ends(packet: Packet) -> bytes:
    family = socket.AF_INET6 if packet.version == 6 else socket.AF_INET
    return socket.inet_pton(family, packet.source) + socket.inet_pton(family, packet.target)


def _checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
