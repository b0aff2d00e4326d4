"""Actions: what a flow or a bucket does with a packet, each a frozen value that knows its bytes.

OpenFlow 1.4's own actions where they do, Nicira's (load, move, resubmit, ct, conjunction) where OpenFlow has none.
`wire` is the form in which Open vSwitch 3.1 reads the action back, so bytes compare. An action that it would refuse or
rewrite raises `BadFlow` when its bytes are first asked for. There is no "drop": a flow without actions drops.
"""

import struct
from abc import abstractmethod
from functools import lru_cache
from typing import ClassVar

import msgspec

from openflow.fields import BadFlow, Field, field

IN_PORT = 0xFFFFFFF8
CONTROLLER = 0xFFFFFFFD
LOCAL = 0xFFFFFFFE
ANY = 0xFFFFFFFF

NICIRA = 0x00002320

OUTPUT, PUSH_VLAN, POP_VLAN, GROUP, SET_FIELD, EXPERIMENT = 0, 17, 18, 22, 25, 0xFFFF
"""Action types of OpenFlow 1.4, 7.2.4."""

REG_MOVE, REG_LOAD, RESUBMIT_TABLE, REG_LOAD2, CONJUNCTION, CT, CT_CLEAR = 6, 7, 14, 33, 34, 35, 43
"""Subtypes of Nicira's actions (nicira-ext.h of Open vSwitch: NXAST_)."""

NO_TABLE = 255
"""What the ct action has for a table when the packet is not to go on anywhere."""

MOST_CLAUSES = 64
"""Of a conjunction."""

_OUTPUT = struct.Struct("!HHIH6x").pack
_GROUP = struct.Struct("!HHI").pack
_PUSH = struct.Struct("!HHH2x").pack
_POP = struct.Struct("!HH4x").pack
_LOAD = struct.Struct("!HHIHHIQ").pack
_MOVE = struct.Struct("!HHIHHHHII").pack
_LOAD2 = struct.Struct("!HHIH").pack
_RESUBMIT = struct.Struct("!HHIHHB3x").pack
_CONJUNCTION = struct.Struct("!HHIHBBI").pack
_CT = struct.Struct("!HHIHHIHB5x").pack
_SET = struct.Struct("!HH").pack
_PADDING = tuple(bytes(-length % 8) for length in range(8))


class Action(msgspec.Struct, frozen=True, gc=False):
    """What all actions are."""

    @property
    @abstractmethod
    def wire(self) -> bytes:
        """The bytes of the action, a multiple of 8. Raises `BadFlow` when Open vSwitch would not take it so."""

    @property
    def wire_in_group(self) -> bytes:
        """The bytes of the action in a bucket, where they may differ."""
        return self.wire


class Output(Action, frozen=True, gc=False):
    """Send the packet out of an OpenFlow port; `max_len` is for the port `CONTROLLER` only (bytes of the packet)."""

    port: int
    max_len: int = 0

    @property
    def wire(self) -> bytes:
        if self.port == IN_PORT:
            raise BadFlow("output to the port IN_PORT is written InPort()")
        if self.max_len and self.port != CONTROLLER:
            raise BadFlow(f"output to port {self.port} takes no max_len: a group would forget it")
        return _OUTPUT(OUTPUT, 16, self.port, self.max_len)


class InPort(Action, frozen=True, gc=False):
    """Send the packet back where it came from (which output to that port's number would not)."""

    WIRE: ClassVar[bytes] = _OUTPUT(OUTPUT, 16, IN_PORT, 0)

    @property
    def wire(self) -> bytes:
        return self.WIRE


class ToGroup(Action, frozen=True, gc=False):
    """Give the packet to a group."""

    id: int

    @property
    def wire(self) -> bytes:
        return _GROUP(GROUP, 8, self.id)


class PushVlan(Action, frozen=True, gc=False):
    """Add an 802.1Q tag with VLAN 0; a `SetField("vlan_vid", 0x1000 | vlan)` follows."""

    WIRE: ClassVar[bytes] = _PUSH(PUSH_VLAN, 8, 0x8100)

    @property
    def wire(self) -> bytes:
        return self.WIRE


class PopVlan(Action, frozen=True, gc=False):
    """Take the outermost 802.1Q tag off."""

    WIRE: ClassVar[bytes] = _POP(POP_VLAN, 8)

    @property
    def wire(self) -> bytes:
        return self.WIRE


class Resubmit(Action, frozen=True, gc=False):
    """Look the packet up in another table, then come back: NXAST_RESUBMIT_TABLE with the port unchanged."""

    table: int

    @property
    def wire(self) -> bytes:
        return _RESUBMIT(EXPERIMENT, 16, NICIRA, RESUBMIT_TABLE, 0xFFF8, self.table)


class Track(Action, frozen=True, gc=False):
    """Pass the packet through the connection tracker (ovs-actions(7): ct); the flow must match `eth_type` IP or IPv6.

    `zone` is the number of the table of connections, or the name of a field whose lowest 16 bits have it. With `table`
    the packet goes on there (a copy: what follows is done with the packet as it was) and knows its connection
    (`ct_state` and the like); without, the tracker is told and the packet goes on here, knowing nothing. With `commit`
    a connection that is new is remembered; a flow that matches an invalid state (+inv) must not have that.
    """

    zone: str | int
    table: int | None = None
    commit: bool = False

    @property
    def wire(self) -> bytes:
        if self.table == NO_TABLE:
            raise BadFlow(f"there is no table {self.table}")
        table = NO_TABLE if self.table is None else self.table
        if isinstance(self.zone, int):
            return _CT(EXPERIMENT, 24, NICIRA, CT, self.commit, 0, self.zone, table)
        known = _sliceable(self.zone)
        if known.slice < 16:
            raise BadFlow(f"{known} has no 16 bits, which a zone of connections takes")
        return _CT(EXPERIMENT, 24, NICIRA, CT, self.commit, known.nxm, 15, table)


class CtClear(Action, frozen=True, gc=False):
    """Forget what the packet knows of its connection: it is not tracked any more."""

    WIRE: ClassVar[bytes] = struct.pack("!HHIH6x", EXPERIMENT, 16, NICIRA, CT_CLEAR)

    @property
    def wire(self) -> bytes:
        return self.WIRE


class Conjunction(Action, frozen=True, gc=False):
    """This flow is one way to meet `clause` (from 1) of the `of` clauses of the conjunction `id`.

    A packet that meets them all matches a flow with `conj_id=id`. A flow with conjunctions has no other action.
    """

    id: int
    clause: int
    of: int

    @property
    def wire(self) -> bytes:
        if not 2 <= self.of <= MOST_CLAUSES:
            raise BadFlow(f"a conjunction has 2 to {MOST_CLAUSES} clauses, not {self.of}")
        if not 1 <= self.clause <= self.of:
            raise BadFlow(f"there is no clause {self.clause} of {self.of}")
        return _CONJUNCTION(EXPERIMENT, 16, NICIRA, CONJUNCTION, self.clause - 1, self.of, self.id)


class SetField(Action, frozen=True, gc=False):
    """Set a whole field. In `vlan_vid` the present bit (0x1000) must be set."""

    field: str
    value: int

    @property
    def wire(self) -> bytes:
        known = field(self.field)
        if not known.settable:
            raise BadFlow(f"set_field cannot set {known}")
        value = self.value
        if value >> known.bits:
            raise BadFlow(f"{known}={value:#x} does not fit into {known.bits} bits")
        if known.name == "vlan_vid" and not value & 0x1000:
            raise BadFlow(f"set_field vlan_vid={value:#x} lacks the present bit 0x1000")
        term = _short(known, value, known.full) if known.largest else known.exact(value)
        length = len(term) + 4
        return _SET(SET_FIELD, length + 7 & ~7) + term + _PADDING[length & 7]


class Load(Action, frozen=True, gc=False):
    """Write `value` into `bits` bits (at most 64) of a field from bit `start` on (0 is the lowest): NXAST_REG_LOAD.

    `bits` None means the rest of the field. A field of variable length takes NXAST_REG_LOAD2.
    """

    field: str
    value: int
    start: int = 0
    bits: int | None = None

    @property
    def width(self) -> int:
        """How many bits are written."""
        return self.bits if self.bits is not None else field(self.field).slice - self.start

    @property
    def wire(self) -> bytes:
        known = _sliceable(self.field)
        _writable(self.field)
        width = self.width
        if not 0 < width <= 64 or self.start < 0 or self.start + width > known.slice:
            raise BadFlow(f"bits {self.start} to {self.start + width - 1} are not 1 to 64 bits of {known}")
        if self.value >> width:
            raise BadFlow(f"{known}={self.value:#x} does not fit into {width} bits")
        if known.largest:
            term = _short(known, self.value << self.start, (1 << width) - 1 << self.start)
            length = len(term) + 10
            return _LOAD2(EXPERIMENT, length + 7 & ~7, NICIRA, REG_LOAD2) + term + _PADDING[length & 7]
        return _LOAD(EXPERIMENT, 24, NICIRA, REG_LOAD, self.start << 6 | width - 1, known.nxm, self.value)


class Move(Action, frozen=True, gc=False):
    """Copy `bits` bits of the field `src` from bit `src_start` on to `dst` from bit `dst_start` on: NXAST_REG_MOVE."""

    src: str
    dst: str
    bits: int
    src_start: int = 0
    dst_start: int = 0

    @property
    def wire(self) -> bytes:
        source, target = self._ends()
        return self._wire(source.nxm, target.nxm)

    @property
    def wire_in_group(self) -> bytes:
        source, target = (known.nxm & ~0xFF | known.largest if known.largest else known.nxm for known in self._ends())
        return self._wire(source, target)

    def _wire(self, src: int, dst: int) -> bytes:
        return _MOVE(EXPERIMENT, 24, NICIRA, REG_MOVE, self.bits, self.src_start, self.dst_start, src, dst)

    def _ends(self) -> tuple[Field, Field]:
        source, target = _sliceable(self.src), _sliceable(self.dst)
        _writable(self.dst)
        for known, start in ((source, self.src_start), (target, self.dst_start)):
            if self.bits <= 0 or start < 0 or start + self.bits > known.slice:
                raise BadFlow(f"{known} has no {self.bits} bits from bit {start}")
        return source, target


@lru_cache(maxsize=1024)
def _writable(name: str) -> Field:
    known = field(name)
    if not known.writable:
        raise BadFlow(f"{known} is read-only")
    return known


@lru_cache(maxsize=1024)
def _sliceable(name: str) -> Field:
    known = field(name)
    if known.slice == 0:
        raise BadFlow(f"{known} has no Nicira number, which load and move need")
    return known


def _short(known: Field, value: int, mask: int) -> bytes:
    """A term of a field of variable length, as actions have it: without leading zero bytes, not even one for zero."""
    if mask == known.full:
        size = value.bit_length() + 7 >> 3
        return struct.pack("!I", known.header & ~0xFF | size) + value.to_bytes(size, "big")
    size = mask.bit_length() + 7 >> 3
    header = known.header_masked & ~0xFF | 2 * size
    return struct.pack("!I", header) + value.to_bytes(size, "big") + mask.to_bytes(size, "big")
