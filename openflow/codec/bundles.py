"""Bundles (OpenFlow 1.4, 7.3.9): many messages that take effect together, or not at all.

What Open vSwitch 3.1 makes of them: a message that it refuses is refused when it is *added*, and a later commit
applies the rest. So: open, add, barrier; any error → discard; else commit. A failure at commit leaves nothing applied.
Flow mods, group mods and packet_outs may ride.
"""

import struct
from typing import NamedTuple

from openflow.codec.frames import BUNDLE_ADD, BUNDLE_CONTROL, HEADER, LARGEST, VERSION, BadMessage, expect, message

OPEN, CLOSE, COMMIT, DISCARD = 0, 2, 4, 6
"""What a control message asks for; the answer to each is that plus one."""

ATOMIC_ORDERED = 1 | 2

_CONTROL = struct.Struct("!IHH")
_ADD = struct.Struct("!BBHIIHH").pack


class Answer(NamedTuple):
    """The switch agrees to what `asked` (OPEN, CLOSE, COMMIT, DISCARD) asked of a bundle."""

    bundle: int
    asked: int


def control(asked: int, bundle: int, xid: int) -> bytes:
    """Opens, closes, commits or discards the bundle numbered `bundle` (32 bits, the caller's choice)."""
    return message(BUNDLE_CONTROL, xid, _CONTROL.pack(bundle, asked, ATOMIC_ORDERED))


def add(bundle: int, inner: bytes) -> bytes:
    """Puts a whole message into a bundle. Its transaction id is the inner one's, as the specification wants.

    Raises `BadMessage` when the message would be longer than 65,535 bytes.
    """
    length = len(inner) + 16
    if length > LARGEST:
        raise BadMessage(f"a message of {len(inner)} bytes does not fit into a bundle")
    xid = int.from_bytes(inner[4:8], "big")
    return _ADD(VERSION, BUNDLE_ADD, length, xid, bundle, 0, ATOMIC_ORDERED) + inner


def answer(data: bytes) -> Answer:
    """Reads the switch's answer to `control`."""
    expect(data, BUNDLE_CONTROL, HEADER.size + _CONTROL.size, "bundle control message")
    bundle, kind, _flags = _CONTROL.unpack_from(data, HEADER.size)
    if kind & 1 == 0:
        raise BadMessage(f"a bundle control message of type {kind} is no answer")
    return Answer(bundle, kind - 1)
