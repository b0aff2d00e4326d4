"""Values back from bytes: matches, actions, flows, groups. For people and tests; nothing on the way to the switch.

What it reads is what Open vSwitch 3.1 writes over OpenFlow 1.4, within the vocabulary of `fields` and `actions`.
Anything else raises `BadMessage` with its number, since guessing at a flow is worse than none.
"""

import struct
from collections.abc import Callable

from openflow.actions import (
    CONJUNCTION,
    CT,
    CT_CLEAR,
    EXPERIMENT,
    GROUP,
    IN_PORT,
    NICIRA,
    NO_TABLE,
    OUTPUT,
    POP_VLAN,
    PUSH_VLAN,
    REG_LOAD,
    REG_LOAD2,
    REG_MOVE,
    RESUBMIT_TABLE,
    SET_FIELD,
    Action,
    Conjunction,
    CtClear,
    InPort,
    Load,
    Move,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    ToGroup,
    Track,
)
from openflow.codec.frames import BadMessage
from openflow.fields import BY_EXPERIMENT, BY_HEADER, BY_NAME, EXPERIMENTER, NXM_NX, Field
from openflow.flow import APPLY_ACTIONS, GOTO_TABLE, Bucket, Flow, GroupEntry
from openflow.match import Match, Term

_TWO = struct.Struct("!HH")
_METADATA0 = NXM_NX << 16 | 40 << 9


def _term(data: bytes, start: int, end: int) -> tuple[Term, int]:
    """The term at `start`, and where the next one starts."""
    if start + 4 > end:
        raise BadMessage(f"a term at byte {start} of {end} is cut off")
    header = int.from_bytes(data[start : start + 4], "big")
    stop = start + 4 + (header & 0xFF)
    if stop > end:
        raise BadMessage(f"a term with header {header:#010x} at byte {start} of {end} is cut off")
    known = _field(header)
    value = data[start + 4 : stop]
    if header >> 16 == EXPERIMENTER:
        if value[:4] != known.head[4:]:
            raise BadMessage(f"a term with header {header:#010x} of experimenter {value[:4].hex()}")
        value = value[4:]
    if not header & 0x100:
        return Term(known, int.from_bytes(value, "big"), None), stop
    half = len(value) // 2
    mask = int.from_bytes(value[half:], "big")
    return Term(known, int.from_bytes(value[:half], "big"), None if mask == known.full else mask), stop


def _field(header: int) -> Field:
    known = (BY_EXPERIMENT if header >> 16 == EXPERIMENTER else BY_HEADER).get(header)
    if known is None and header & ~0x1FF == _METADATA0:
        known = BY_NAME["tun_metadata0"]  # any length: see Field.variable
    if known is None:
        raise BadMessage(f"there is no field with header {header:#010x}")
    return known


def read_match(data: bytes, start: int = 0) -> tuple[Match, int]:
    """The ofp_match at byte `start`, and where what follows its padding starts."""
    if start + 4 > len(data):
        raise BadMessage(f"a match at byte {start} of {len(data)} is cut off")
    kind, length = _TWO.unpack_from(data, start)
    end = start + length
    if kind != 1 or length < 4 or end > len(data):
        raise BadMessage(f"a match of type {kind} and {length} bytes at byte {start} of {len(data)}")
    terms = []
    at = start + 4
    while at < end:
        term, at = _term(data, at, end)
        terms.append(term)
    return Match(tuple(terms)), start + (length + 7 & ~7)


def _output(data: bytes) -> Action:
    port, max_len = struct.unpack_from("!IH", data, 4)
    return InPort() if port == IN_PORT else Output(port, max_len)


def _set_field(data: bytes) -> Action:
    term, _ = _term(data, 4, len(data))
    if term.mask is not None:
        raise BadMessage("a set_field with a mask is not of OpenFlow 1.4")
    return SetField(term.field.name, term.value)


def _push(data: bytes) -> Action:
    if data[4:6] != b"\x81\x00":
        raise BadMessage(f"a push of a VLAN tag of type {data[4:6].hex()}")
    return PushVlan()


def _move(data: bytes) -> Action:
    bits, src_start, dst_start, src, dst = struct.unpack_from("!HHHII", data, 10)
    return Move(_field(src).name, _field(dst).name, bits, src_start, dst_start)


def _load(data: bytes) -> Action:
    where, dst, value = struct.unpack_from("!HIQ", data, 10)
    return Load(_field(dst).name, value, where >> 6, (where & 63) + 1)


def _load2(data: bytes) -> Action:
    term, _ = _term(data, 10, len(data))
    mask = term.field.full if term.mask is None else term.mask
    if mask == 0:
        raise BadMessage("a load of no bits")
    start = (mask & -mask).bit_length() - 1
    width = mask.bit_length() - start
    if mask != (1 << width) - 1 << start:
        raise BadMessage(f"a load under the mask {mask:#x}, whose bits are not one run")
    return Load(term.field.name, term.value >> start, start, width)


def _resubmit(data: bytes) -> Action:
    port, table = struct.unpack_from("!HB", data, 10)
    if port != 0xFFF8:
        raise BadMessage(f"a resubmit as if from port {port}")
    return Resubmit(table)


def _track(data: bytes) -> Action:
    flags, source, where, table, algorithm = struct.unpack_from("!HIHB3xH", data, 10)
    if flags > 1 or algorithm or len(data) != 24:
        raise BadMessage(f"a ct action with flags {flags:#x}, algorithm {algorithm} and {len(data)} bytes")
    if source and where != 15:
        raise BadMessage(f"a ct action whose zone is bits {where:#x} of a field, not its lowest 16")
    zone = _field(source).name if source else where
    return Track(zone, None if table == NO_TABLE else table, bool(flags))


def _conjunction(data: bytes) -> Action:
    clause, clauses, number = struct.unpack_from("!BBI", data, 10)
    return Conjunction(number, clause + 1, clauses)


_READERS: dict[int, Callable[[bytes], Action]] = {
    OUTPUT: _output,
    GROUP: lambda data: ToGroup(int.from_bytes(data[4:8], "big")),
    PUSH_VLAN: _push,
    POP_VLAN: lambda data: PopVlan(),
    SET_FIELD: _set_field,
}
_NICIRA_READERS: dict[int, Callable[[bytes], Action]] = {
    REG_MOVE: _move,
    REG_LOAD: _load,
    REG_LOAD2: _load2,
    RESUBMIT_TABLE: _resubmit,
    CONJUNCTION: _conjunction,
    CT: _track,
    CT_CLEAR: lambda data: CtClear(),
}
_LEAST = {OUTPUT: 16, GROUP: 8, PUSH_VLAN: 8, POP_VLAN: 8, SET_FIELD: 8, EXPERIMENT: 16}
_NICIRA_LEAST = {
    REG_MOVE: 24,
    REG_LOAD: 24,
    REG_LOAD2: 16,
    RESUBMIT_TABLE: 16,
    CONJUNCTION: 16,
    CT: 24,
    CT_CLEAR: 16,
}


def read_actions(data: bytes) -> tuple[Action, ...]:
    """A list of actions that fills `data`."""
    actions = []
    start = 0
    while start < len(data):
        if start + 8 > len(data):
            raise BadMessage(f"an action at byte {start} of {len(data)} is cut off")
        kind, length = _TWO.unpack_from(data, start)
        if length < _LEAST.get(kind, 8) or length % 8 or start + length > len(data):
            raise BadMessage(f"an action of type {kind} and {length} bytes at byte {start} of {len(data)}")
        actions.append(_action(kind, data[start : start + length]))
        start += length
    return tuple(actions)


def _action(kind: int, data: bytes) -> Action:
    reader = _READERS.get(kind)
    if kind == EXPERIMENT:
        vendor, subtype = struct.unpack_from("!IH", data, 4)
        reader = _NICIRA_READERS.get(subtype) if vendor == NICIRA else None
        if reader is None:
            raise BadMessage(f"there is no action {subtype} of experimenter {vendor:#x}")
        if len(data) < _NICIRA_LEAST[subtype]:
            raise BadMessage(f"Nicira's action {subtype} has {len(data)} bytes only")
    if reader is None:
        raise BadMessage(f"there is no action of type {kind}")
    return reader(data)


def read_flow(key: bytes, body: bytes) -> Flow:
    """The flow with these bytes: the reverse of `Flow.key` and `Flow.body`."""
    if len(key) < 11 or len(body) < 8:
        raise BadMessage(f"{len(key)} and {len(body)} bytes are no flow")
    match, end = read_match(key, 3)
    if end != len(key):
        raise BadMessage(f"a match ends at byte {end} of {len(key)}")
    actions: tuple[Action, ...] = ()
    goto = None
    start = 8
    while start < len(body):
        if start + 8 > len(body):
            raise BadMessage(f"an instruction at byte {start} of {len(body)} is cut off")
        kind, length = _TWO.unpack_from(body, start)
        if length < 8 or start + length > len(body):
            raise BadMessage(f"an instruction of type {kind} and {length} bytes at byte {start} of {len(body)}")
        if kind == APPLY_ACTIONS:
            actions = read_actions(body[start + 8 : start + length])
        elif kind == GOTO_TABLE:
            goto = body[start + 4]
        else:
            raise BadMessage(f"there is no instruction of type {kind}")
        start += length
    priority, cookie = int.from_bytes(key[1:3], "big"), int.from_bytes(body[:8], "big")
    return Flow(key[0], priority, cookie, match, actions, goto)


def read_group(group: int, body: bytes) -> GroupEntry:
    """The group with this id and these bytes: the reverse of `GroupEntry.id` and `.body`."""
    if not body or body[0] != 0:
        raise BadMessage(f"group {group} is not of type all")
    buckets = []
    start = 1
    while start < len(body):
        if start + 16 > len(body):
            raise BadMessage(f"a bucket at byte {start} of {len(body)} is cut off")
        (length,) = struct.unpack_from("!H", body, start)
        if length < 16 or start + length > len(body):
            raise BadMessage(f"a bucket of {length} bytes at byte {start} of {len(body)}")
        buckets.append(Bucket(read_actions(body[start + 16 : start + length])))
        start += length
    return GroupEntry(group, tuple(buckets))
