"""Flows, buckets and groups: what the compilers make and the switch holds, as values.

A flow's identity in the switch is (table, priority, match): `key`. All the rest is its `body`: cookie and instructions.
Both are bytes in the form in which Open vSwitch reads them back (see `fields`), worked out once when first asked for,
so a table of the switch and a table of ours compare by bytes and a flow_mod is those bytes with a header in front.

This module is also the one place to import the vocabulary from: `match`, the actions, `Flow`, `Bucket`, `GroupEntry`.
"""

import struct

import msgspec

from openflow.actions import (
    CONTROLLER,
    IN_PORT,
    LOCAL,
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
from openflow.fields import BadFlow, Field
from openflow.match import Match, Term, match, match_of

__all__ = [
    "CONTROLLER",
    "IN_PORT",
    "LOCAL",
    "Action",
    "BadFlow",
    "Bucket",
    "Conjunction",
    "CtClear",
    "Field",
    "Flow",
    "GroupEntry",
    "InPort",
    "Load",
    "Match",
    "Move",
    "Output",
    "PopVlan",
    "PushVlan",
    "Resubmit",
    "SetField",
    "Term",
    "ToGroup",
    "Track",
    "match",
    "match_of",
]

APPLY_ACTIONS, GOTO_TABLE = 4, 1
"""Instruction types (OpenFlow 1.4, 7.2.3)."""

LARGEST_TABLE = 254
LARGEST_GROUP = 0xFFFFFF00
LARGEST_BODY = 0xFFFF - 2048
"""Bytes the actions of a flow, or the buckets of a group, may have: a message is at most 64 KiB, match included."""

_KEY = struct.Struct("!BH").pack
_COOKIE = struct.Struct("!Q").pack
_APPLY = struct.Struct("!HH4x").pack
_GOTO = tuple(struct.pack("!HHB3x", GOTO_TABLE, 8, table) for table in range(256))
_BUCKET = struct.Struct("!HHIIxxxx").pack
_force = msgspec.structs.force_setattr


class Flow(msgspec.Struct, frozen=True, eq=False, gc=False):
    """One flow: in `table`, packets that `match` at `priority` get `actions`, then go on to table `goto` (if any).

    `cookie` is 64 bits that the switch carries for us. Equal flows have equal keys and bodies.
    """

    table: int
    priority: int
    cookie: int
    match: Match
    actions: tuple[Action, ...] = ()
    goto: int | None = None
    _key: bytes = b""
    _body: bytes = b""

    @property
    def key(self) -> bytes:
        """Identity in the switch: table (1 byte), priority (2), ofp_match with its padding."""
        if self._key:
            return self._key
        if self.table > LARGEST_TABLE:
            raise BadFlow(f"there is no table {self.table}")
        try:
            key = _KEY(self.table, self.priority) + self.match.wire
        except struct.error as error:
            raise BadFlow(f"table {self.table}, priority {self.priority}: {error}") from error
        _force(self, "_key", key)
        return key

    @property
    def body(self) -> bytes:
        """Cookie (8 bytes), then the instructions. Raises `BadFlow` for actions that the switch would not take."""
        if self._body:
            return self._body
        try:
            body = _COOKIE(self.cookie)
            actions = b"".join([action.wire for action in self.actions])
        except struct.error as error:
            raise BadFlow(f"a number of {self.actions} or the cookie does not fit: {error}") from error
        if actions:
            conjunctions = sum([type(action) is Conjunction for action in self.actions])
            if conjunctions and (conjunctions != len(self.actions) or self.goto is not None):
                raise BadFlow("a flow of conjunctions has no other action and goes nowhere")
            if len(actions) > LARGEST_BODY:
                raise BadFlow(f"{len(actions)} bytes of actions do not fit into one message")
            body += _APPLY(APPLY_ACTIONS, len(actions) + 8) + actions
        if self.goto is not None:
            if not self.table < self.goto <= LARGEST_TABLE:
                raise BadFlow(f"goto_table only goes forward: not from {self.table} to {self.goto}")
            body += _GOTO[self.goto]
        _force(self, "_body", body)
        return body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Flow) and self.key == other.key and self.body == other.body

    def __ne__(self, other: object) -> bool:  # Struct's own one does not ask __eq__.
        return not self == other

    def __hash__(self) -> int:
        return hash((self.key, self.body))

    def __repr__(self) -> str:
        goto = "" if self.goto is None else f", goto={self.goto}"
        return f"Flow({self.table}, {self.priority}, {self.cookie:#x}, {self.match}, {self.actions}{goto})"


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """What a group does with one copy of the packet."""

    actions: tuple[Action, ...]

    @property
    def wire(self) -> bytes:
        """The bytes of ofp_bucket: no weight, nothing watched."""
        try:
            actions = b"".join([action.wire_in_group for action in self.actions])
        except struct.error as error:
            raise BadFlow(f"a number of {self.actions} does not fit: {error}") from error
        return _BUCKET(len(actions) + 16, 0, 0xFFFFFFFF, 0xFFFFFFFF) + actions


class GroupEntry(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A group of type "all": every bucket gets a copy of the packet."""

    id: int
    buckets: tuple[Bucket, ...]
    _body: bytes = b""

    @property
    def key(self) -> int:
        """Identity in the switch."""
        return self.id

    @property
    def body(self) -> bytes:
        """Group type (1 byte, 0 = all), then the buckets."""
        if self._body:
            return self._body
        if not 0 <= self.id <= LARGEST_GROUP:
            raise BadFlow(f"group {self.id:#x} is beyond the largest number {LARGEST_GROUP:#x}")
        body = b"\0" + b"".join([bucket.wire for bucket in self.buckets])
        if len(body) > LARGEST_BODY:
            raise BadFlow(f"group {self.id} has {len(body)} bytes of buckets, which do not fit into one message")
        _force(self, "_body", body)
        return body

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupEntry) and self.id == other.id and self.body == other.body

    def __ne__(self, other: object) -> bool:  # Struct's own one does not ask __eq__.
        return not self == other

    def __hash__(self) -> int:
        return hash((self.id, self.body))

    def __repr__(self) -> str:
        return f"GroupEntry({self.id}, {self.buckets})"
