"""The frame of all messages: version, type, length, transaction; and a stream cut into whole messages."""

import struct
from typing import NamedTuple

VERSION = 5
"""OpenFlow 1.4 on the wire."""

HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, EXPERIMENTER = 0, 1, 2, 3, 4
FEATURES_REQUEST, FEATURES_REPLY, SET_CONFIG = 5, 6, 9
PACKET_IN, FLOW_REMOVED, PORT_STATUS, PACKET_OUT, FLOW_MOD, GROUP_MOD = 10, 11, 12, 13, 14, 15
MULTIPART_REQUEST, MULTIPART_REPLY, BARRIER_REQUEST, BARRIER_REPLY = 18, 19, 20, 21
BUNDLE_CONTROL, BUNDLE_ADD = 33, 34

FLOW_STATS, GROUP_DESC = 1, 7
"""Multipart types."""

LARGEST = 0xFFFF
"""Bytes a message may have: its length field has 16 bits."""

HEADER = struct.Struct("!BBHI")
_MULTIPART = struct.Struct("!8xHH4x")


class BadMessage(ValueError):
    """Bytes that are not the OpenFlow they should be; the text says where. The connection cannot be trusted further."""


class Multipart(NamedTuple):
    """The head of one part of an answer: its type, and whether further parts follow."""

    type: int
    more: bool


def message(kind: int, xid: int, body: bytes = b"") -> bytes:
    """A whole message of type `kind`. Raises `BadMessage` when it would be longer than 65,535 bytes."""
    length = 8 + len(body)
    if length > LARGEST:
        raise BadMessage(f"a message of {length} bytes cannot be sent, {LARGEST} is the most")
    return HEADER.pack(VERSION, kind, length, xid) + body


def kind_of(data: bytes) -> int:
    """The type of a whole message."""
    return data[1]


def xid_of(data: bytes) -> int:
    """The transaction id of a whole message."""
    return int.from_bytes(data[4:8], "big")


def expect(data: bytes, kind: int, least: int, what: str) -> None:
    """Raises `BadMessage` unless `data` is a message of type `kind` of at least `least` bytes."""
    if len(data) < least or data[1] != kind:
        raise BadMessage(f"{len(data)} bytes of type {data[1] if len(data) > 1 else None} are no {what}")


def multipart_request(kind: int, xid: int, body: bytes = b"") -> bytes:
    """Ask for statistics of type `kind`."""
    return message(MULTIPART_REQUEST, xid, struct.pack("!HH4x", kind, 0) + body)


def multipart_of(data: bytes) -> Multipart:
    """The head of a multipart reply; its body starts at byte 16."""
    expect(data, MULTIPART_REPLY, 16, "multipart reply")
    kind, flags = _MULTIPART.unpack_from(data)
    return Multipart(kind, bool(flags & 1))


class Framer:
    """Bytes as they come → whole messages. The only state is what came of the next message.

    Versions are the caller's business (a hello of another version must be readable); lengths are ours.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, in order. Raises `BadMessage` for a length below 8: framing is lost."""
        if self._rest:
            data = self._rest + data
        messages = []
        start, end = 0, len(data)
        while end - start >= 8:
            length = data[start + 2] << 8 | data[start + 3]
            if length < 8:
                raise BadMessage(f"a message says that it is {length} bytes long; 8 is the least")
            if start + length > end:
                break
            messages.append(data[start : start + length])
            start += length
        self._rest = data[start:]
        return messages
