"""Packets between the switch and us: packet_in up, packet_out down."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from openflow.actions import CONTROLLER, Action
from openflow.codec.decode import read_match
from openflow.codec.frames import PACKET_IN, PACKET_OUT, BadMessage, expect, message
from openflow.match import Match

_IN = struct.Struct("!8xIHBBQ")
_OUT = struct.Struct("!IIH6x").pack
_NO_BUFFER = 0xFFFFFFFF


class PacketIn(NamedTuple):
    """A packet that a flow sent to us.

    `table` and `cookie` name that flow, `metadata` has in_port, the tunnel's fields and the registers. `length` is the
    packet's, of which `data` may be only the beginning.
    """

    reason: int
    table: int
    cookie: int
    length: int
    metadata: Match
    data: bytes


def packet_in(data: bytes) -> PacketIn:
    """Reads a packet_in."""
    expect(data, PACKET_IN, 34, "packet_in")
    _buffer, length, reason, table, cookie = _IN.unpack_from(data)
    metadata, start = read_match(data, 24)
    if start + 2 > len(data):
        raise BadMessage("a packet_in ends within its match")
    return PacketIn(reason, table, cookie, length, metadata, data[start + 2 :])


def packet_out(packet: bytes, actions: Sequence[Action], xid: int, in_port: int = CONTROLLER) -> bytes:
    """Has the switch do `actions` with `packet` (an Ethernet frame), as if it had come from `in_port`."""
    wire = b"".join([action.wire for action in actions])
    return message(PACKET_OUT, xid, _OUT(_NO_BUFFER, in_port, len(wire)) + wire + packet)
