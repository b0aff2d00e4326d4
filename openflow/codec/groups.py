"""Group mods out of a group's id and body, and dumps of groups into {id: body}. `GroupEntry.body` is type, buckets."""

import struct

from openflow.codec.frames import GROUP_DESC, GROUP_MOD, BadMessage, message, multipart_of, multipart_request

ADD, MODIFY, DELETE = 0, 1, 2
"""Commands of a group mod."""

ADD_OR_MODIFY = 0x8000
"""Open vSwitch's own command (OFPGC11_ADD_OR_MOD): the group is such afterwards, whatever was there before."""

ALL_GROUPS = 0xFFFFFFFC

_MOD = struct.Struct("!HBxI").pack
_DESC = struct.Struct("!HBxI").unpack_from


def group_mod(command: int, group: int, body: bytes, xid: int) -> bytes:
    """A group mod for `GroupEntry.id` and `.body`. Deleting a group deletes the flows that name it, so delete last.

    Raises `BadMessage` when the message would be longer than 65,535 bytes.
    """
    return message(GROUP_MOD, xid, _MOD(command, body[0], group) + body[1:])


def add(group: int, body: bytes, xid: int) -> bytes:
    """Adds the group. The switch refuses one that it has."""
    return group_mod(ADD, group, body, xid)


def modify(group: int, body: bytes, xid: int) -> bytes:
    """Gives the group other buckets. The switch refuses one that it does not have."""
    return group_mod(MODIFY, group, body, xid)


def put(group: int, body: bytes, xid: int) -> bytes:
    """Adds the group, or gives it other buckets when it is there."""
    return group_mod(ADD_OR_MODIFY, group, body, xid)


def delete(group: int, xid: int) -> bytes:
    """Deletes the group, and every flow that names it."""
    return group_mod(DELETE, group, b"\0", xid)


def dump_request(xid: int) -> bytes:
    """Asks for all groups and their buckets."""
    return multipart_request(GROUP_DESC, xid)


def read_groups(data: bytes, into: dict[int, bytes]) -> bool:
    """Puts one part of a dump into `into` as {id: body}; tells whether further parts follow."""
    head = multipart_of(data)
    if head.type != GROUP_DESC:
        raise BadMessage(f"a multipart reply of type {head.type} is no dump of groups")
    start, end = 16, len(data)
    while start < end:
        if end - start < 8:
            raise BadMessage(f"a group at byte {start} of {end} is cut off")
        length, kind, group = _DESC(data, start)
        if length < 8 or start + length > end:
            raise BadMessage(f"a group of {length} bytes at byte {start} of {end}")
        into[group] = bytes((kind,)) + data[start + 8 : start + length]
        start += length
    return head.more
