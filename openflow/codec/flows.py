"""Flow mods out of a flow's key and body, and dumps of flows into {key: body}.

`Flow.key` is table (1 byte), priority (2), ofp_match; `Flow.body` is cookie (8), instructions. Both are slices of what
the switch sends and of what it is sent, so neither way needs to look inside.
"""

import struct

from openflow.codec.frames import FLOW_MOD, FLOW_STATS, LARGEST, VERSION, BadMessage, multipart_of, multipart_request

ADD, DELETE, DELETE_STRICT = 0, 3, 4
"""Commands of a flow mod. We never modify: that keeps the cookie, and does nothing where there is no such flow."""

ALL_TABLES = 0xFF
_ANY = 0xFFFFFFFF

_MOD = struct.Struct("!BBHI8sQBB4x2sIIIHH").pack
# length, table, priority, then idle timeout, hard timeout, flags, importance; cookie; length of the match.
_STATS = struct.Struct("!H1s9x2s8s2x8s16x2xH").unpack_from
_PLAIN = bytes(8)

ALTERED = b"\xffaltered"
"""Follows a body whose flow has a timeout, flags or an importance: none of ours has, so it differs from every wish."""


def flow_mod(command: int, key: bytes, body: bytes, xid: int, cookie_mask: int = 0) -> bytes:
    """A flow mod for `Flow.key` and `Flow.body`.

    ADD adds or replaces. With a `cookie_mask` the DELETEs reach only flows whose cookie has the body's bits under it.
    Raises `BadMessage` when the message would be longer than 65,535 bytes.
    """
    length = 34 + len(key) + len(body) + 3
    if length > LARGEST:
        raise BadMessage(f"a flow mod of {length} bytes cannot be sent")
    head = _MOD(
        VERSION,
        FLOW_MOD,
        length,
        xid,
        body[:8],
        cookie_mask,
        key[0],
        command,
        key[1:3],
        _ANY,
        _ANY,
        _ANY,
        0,
        0,
    )
    return head + key[3:] + body[8:]


def add(key: bytes, body: bytes, xid: int) -> bytes:
    """Adds the flow, or replaces the one with this key."""
    return flow_mod(ADD, key, body, xid)


def delete_strict(key: bytes, xid: int, cookie: int = 0, cookie_mask: int = 0) -> bytes:
    """Deletes the flow with exactly this key, if its cookie agrees with `cookie` in the bits of `cookie_mask`."""
    return flow_mod(DELETE_STRICT, key, cookie.to_bytes(8, "big"), xid, cookie_mask)


def delete(key: bytes, xid: int, cookie: int = 0, cookie_mask: int = 0) -> bytes:
    """Deletes all flows of the key's table (0xff: of all) that are within its match, whatever their priority."""
    return flow_mod(DELETE, key, cookie.to_bytes(8, "big"), xid, cookie_mask)


def dump_request(xid: int, cookie: int = 0, cookie_mask: int = 0, table: int = ALL_TABLES) -> bytes:
    """Asks for the flows whose cookie agrees with `cookie` in the bits of `cookie_mask`."""
    body = struct.pack("!B3xII4xQQHH4x", table, _ANY, _ANY, cookie, cookie_mask, 1, 4)
    return multipart_request(FLOW_STATS, xid, body)


def read_flows(data: bytes, into: dict[bytes, bytes]) -> bool:
    """Puts one part of a dump into `into` as {key: body}; tells whether further parts follow.

    A flow that carries what ours never do (a timeout, flags, an importance) gets a body that ends in `ALTERED`.
    Raises `BadMessage` when lengths do not add up.
    """
    head = multipart_of(data)
    if head.type != FLOW_STATS:
        raise BadMessage(f"a multipart reply of type {head.type} is no dump of flows")
    start, end = 16, len(data)
    unpack = _STATS
    try:
        while start < end:
            length, table, priority, extras, cookie, match_length = unpack(data, start)
            stop = start + length
            rest = start + 48 + (match_length + 7 & ~7)
            if rest > stop or stop > end:
                raise BadMessage(f"a flow of {length} bytes with a match of {match_length} at byte {start} of {end}")
            body = cookie + data[rest:stop]
            if extras != _PLAIN:
                body += ALTERED
            into[table + priority + data[start + 48 : rest]] = body
            start = stop
    except struct.error as error:
        raise BadMessage(f"a flow at byte {start} of {end} is cut off") from error
    return head.more
