"""Messages that are about the connection and the bridge as a whole, not about its tables.

Also the bridge's table of Geneve options (Nicira's TLV table): which option's bytes are the field tun_metadata0.
"""

import struct
from typing import NamedTuple

from openflow.actions import NICIRA
from openflow.codec.frames import (
    BARRIER_REQUEST,
    ECHO_REPLY,
    ECHO_REQUEST,
    EXPERIMENTER,
    FEATURES_REPLY,
    FEATURES_REQUEST,
    HELLO,
    SET_CONFIG,
    VERSION,
    BadMessage,
    expect,
    message,
)

TLV_MOD, TLV_REQUEST, TLV_REPLY, CT_FLUSH_ZONE = 24, 25, 26, 29
"""Subtypes of Nicira's messages: NXT_TLV_TABLE_MOD, _REQUEST, _REPLY, NXT_CT_FLUSH_ZONE."""

FRAGMENTS_NORMAL, FRAGMENTS_MATCH = 0, 3
"""What the bridge makes of fragments' ports: hides them all, or (OFPC_FRAG_NX_MATCH) shows those of the first one."""

_TLV_ADD, _TLV_DELETE = 0, 1
_TLV = struct.Struct("!HBBH2x")
_FEATURES = struct.Struct("!8xQIBB2xI")


class Features(NamedTuple):
    """What the switch says of itself: its datapath id (64 bits) and how many tables it has."""

    datapath_id: int
    tables: int


class Option(NamedTuple):
    """A Geneve option (RFC 8926: class, type, length of its data in bytes), seen in flows as tun_metadata<slot>."""

    option_class: int
    type: int
    length: int
    slot: int


def hello(xid: int) -> bytes:
    """Greets; the version bitmap says that we speak 1.4 only."""
    return message(HELLO, xid, struct.pack("!HHI", 1, 8, 1 << VERSION))


def hello_versions(data: bytes) -> frozenset[int]:
    """The wire versions the other side speaks, from its hello: the bitmap, or without one all up to the header's."""
    expect(data, HELLO, 8, "hello")
    start = 8
    while start + 4 <= len(data):
        kind, length = struct.unpack_from("!HH", data, start)
        if length < 4 or start + length > len(data):
            raise BadMessage(f"an element of a hello says that it is {length} bytes long")
        if kind == 1 and length >= 8:
            (bitmap,) = struct.unpack_from("!I", data, start + 4)
            return frozenset(version for version in range(32) if bitmap >> version & 1)
        start += length + 7 & ~7
    return frozenset(range(1, data[0] + 1))


def echo_request(xid: int, payload: bytes = b"") -> bytes:
    """Asks whether the other side lives; the answer carries the same payload."""
    return message(ECHO_REQUEST, xid, payload)


def echo_reply(request: bytes) -> bytes:
    """The answer to an echo request."""
    expect(request, ECHO_REQUEST, 8, "echo request")
    return request[:1] + bytes((ECHO_REPLY,)) + request[2:]


def features_request(xid: int) -> bytes:
    """Asks for `Features`."""
    return message(FEATURES_REQUEST, xid)


def features(data: bytes) -> Features:
    """Reads a features reply."""
    expect(data, FEATURES_REPLY, 32, "features reply")
    datapath_id, _buffers, tables, _auxiliary, _capabilities = _FEATURES.unpack_from(data)
    return Features(datapath_id, tables)


def set_config(xid: int, miss_send_len: int = 0xFFFF, fragments: int = FRAGMENTS_NORMAL) -> bytes:
    """How many bytes of a packet a packet_in carries (a service connection, .mgmt, gets packet_ins only after it and
    unless it is 0), and how the whole bridge treats fragments, until somebody says otherwise or vswitchd ends."""
    return message(SET_CONFIG, xid, struct.pack("!HH", fragments, miss_send_len))


def flush_zone(xid: int, zone: int) -> bytes:
    """Forget all connections of a zone of the connection tracker. Done before the next message is read."""
    return message(EXPERIMENTER, xid, struct.pack("!II6xH", NICIRA, CT_FLUSH_ZONE, zone))


def barrier_request(xid: int) -> bytes:
    """Its reply comes after all that was sent before is done and every error is reported."""
    return message(BARRIER_REQUEST, xid)


def nicira_subtype(data: bytes) -> int | None:
    """The subtype of one of Nicira's messages, None when it is of another kind."""
    if len(data) < 16 or data[1] != EXPERIMENTER or data[8:12] != struct.pack("!I", NICIRA):
        return None
    return int.from_bytes(data[12:16], "big")


def options_request(xid: int) -> bytes:
    """Asks for the bridge's Geneve options."""
    return message(EXPERIMENTER, xid, struct.pack("!II", NICIRA, TLV_REQUEST))


def option_add(xid: int, option: Option) -> bytes:
    """Maps a Geneve option to its field. The switch refuses a slot or an option that is mapped already."""
    return _option_mod(xid, _TLV_ADD, option)


def option_delete(xid: int, option: Option) -> bytes:
    """Takes the mapping of a Geneve option away. The switch refuses while flows use the field."""
    return _option_mod(xid, _TLV_DELETE, option)


def _option_mod(xid: int, command: int, option: Option) -> bytes:
    return message(EXPERIMENTER, xid, struct.pack("!IIH6x", NICIRA, TLV_MOD, command) + _TLV.pack(*option))


def options(data: bytes) -> tuple[Option, ...]:
    """Reads the answer to `options_request`: what is mapped."""
    if nicira_subtype(data) != TLV_REPLY or len(data) < 32 or (len(data) - 32) % 8:
        raise BadMessage(f"{len(data)} bytes are no answer about Geneve options")
    return tuple(Option(*_TLV.unpack_from(data, start)) for start in range(32, len(data), 8))
