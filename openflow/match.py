"""A match: which packets a flow is for. A canonical tuple of terms, and its bytes.

Canonical means what Open vSwitch itself reads back: terms in the order of `fields.TABLE`, no term with an empty mask, a
full mask is no mask. Two equal matches have equal bytes, and a match that Open vSwitch would refuse (a missing
prerequisite, a bit outside the mask, a value too wide) is refused here with a sentence that names the field.

Made to be cheap, since compilers build hundreds of thousands: what depends on the *names* only (order, prerequisites)
is worked out once for each set of names, and a field writes its term with one call.
"""

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from openflow.fields import CT_INV, CT_TRK, CT_VALID, BadFlow, Field, field

Value = int | tuple[int, int]
"""What a field must be: exactly a number, or (value, mask)."""

_HEAD = struct.Struct("!HH").pack
_PADDING = tuple(bytes(-length % 8) for length in range(8))
_force = msgspec.structs.force_setattr


class Term(NamedTuple):
    """One field of a match. `mask` is None when every bit counts."""

    field: Field
    value: int
    mask: int | None


class Match(msgspec.Struct, frozen=True, eq=False, gc=False):
    """Terms in canonical order. Made by `match()`; use the constructor for terms that are canonical already."""

    terms: tuple[Term, ...]
    _wire: bytes = b""

    @property
    def wire(self) -> bytes:
        """The bytes of OpenFlow's ofp_match, with its header and its padding to a multiple of 8."""
        if self._wire:
            return self._wire
        body = b"".join(
            [
                term_field.exact(value) if mask is None else term_field.masked(value, mask)
                for term_field, value, mask in self.terms
            ]
        )
        length = len(body) + 4
        wire = _HEAD(1, length) + body + _PADDING[length & 7]
        _force(self, "_wire", wire)
        return wire

    def get(self, name: str) -> Value | None:
        """What the field `name` must be: a number, (value, mask), or None when it may be anything."""
        for term_field, value, mask in self.terms:
            if term_field.name == name:
                return value if mask is None else (value, mask)
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Match) and self.wire == other.wire

    def __ne__(self, other: object) -> bool:  # Struct's own one does not ask __eq__.
        return not self == other

    def __hash__(self) -> int:
        return hash(self.wire)

    def __repr__(self) -> str:
        pieces = (
            f"{name}={value:#x}" if mask is None else f"{name}=({value:#x}, {mask:#x})"
            for name, value, mask in self.terms
        )
        return f"match({', '.join(pieces)})"


class _Plan(NamedTuple):
    """What a set of names settles: fields in order, and the prerequisites that values must still meet."""

    fields: tuple[tuple[str, Field], ...]
    requires: tuple[tuple[Field, tuple[tuple[str, frozenset[int]], ...]], ...]
    further: tuple[Callable[[dict[str, Value]], None], ...]


@lru_cache(maxsize=4096)
def _plan(names: tuple[str, ...]) -> _Plan:
    fields = [(name, field(name)) for name in names]
    chosen = {known.name: name for name, known in fields}
    if len(chosen) != len(fields):
        raise BadFlow(f"a match has a field twice: {', '.join(names)}")
    fields.sort(key=lambda item: item[1].rank)
    requires = []
    for _, known in fields:
        for needed, _values in known.requires:
            if needed not in chosen:
                raise BadFlow(f"{known} needs {needed} in the match")
        if known.requires:
            requires.append((known, tuple((chosen[needed], values) for needed, values in known.requires)))
    # A term whose prerequisites are another's too is checked with it.
    minimal = tuple({needs: known for known, needs in reversed(requires)}.items())
    further = []
    if "vlan_pcp" in chosen:
        further.append(_check_tag)
    if any(known.connected for _, known in fields):
        further.append(_check_connection)
    if "ip_frag" in chosen and any(needed == "ip_proto" for _, known in fields for needed, _values in known.requires):
        further.append(_check_first_fragment)
    return _Plan(tuple(fields), tuple((known, needs) for needs, known in minimal), tuple(further))


def match(**terms: Value) -> Match:
    """A match of `field=value` or `field=(value, mask)`; names as in ovs-fields(7), numbers as integers.

    Raises `BadFlow` for an unknown field, a value that does not fit or has bits outside its mask, a mask where the
    field takes none, or a missing prerequisite.
    """
    plan = _plan(tuple(terms))
    result = []
    for name, known in plan.fields:
        value = terms[name]
        if type(value) is int:
            if value >> known.bits:
                raise BadFlow(f"{name}={value:#x} does not fit into {known.bits} bits")
            result.append(Term(known, value, None))
        else:
            term = _masked(known, value)
            if term is not None:
                result.append(term)
    for check in plan.further:
        check(terms)
    for known, needs in plan.requires:
        for needed, values in needs:
            if terms[needed] not in values:
                raise BadFlow(f"{known} needs {needed} to be one of {sorted(values)}, not {terms[needed]}")
    return Match(tuple(result))


def match_of(pairs: Iterable[tuple[str, Value]]) -> Match:
    """Like `match`, from (name, value) pairs."""
    return match(**dict(pairs))


def _masked(known: Field, value: Value) -> Term | None:
    if isinstance(value, int):  # a bool or another subclass of int
        value = (int(value), known.full)
    number, mask = value
    if mask >> known.bits:
        raise BadFlow(f"the mask {mask:#x} of {known} does not fit into {known.bits} bits")
    if number & ~mask:
        raise BadFlow(f"{known}={number:#x} has bits outside its mask {mask:#x}")
    if mask == known.full:
        return Term(known, number, None)
    if mask == 0:
        return None
    if not known.maskable:
        raise BadFlow(f"{known} takes no mask")
    return Term(known, number, mask)


def _check_tag(terms: dict[str, Value]) -> None:
    """Open vSwitch wants to know that there is a tag before it looks at the tag's priority."""
    vlan = terms.get("vlan_vid")
    number, mask = (vlan, 0x1FFF) if isinstance(vlan, int) else vlan or (0, 0)
    if not number & mask & 0x1000:
        raise BadFlow("vlan_pcp needs a vlan_vid with its present bit (0x1000)")


def _check_connection(terms: dict[str, Value]) -> None:
    """Open vSwitch wants to know that there is a connection before it looks at what that is."""
    state = terms.get("ct_state", (0, 0))
    number, mask = (state, 0xFF) if isinstance(state, int) else state
    valid = number & CT_TRK and mask & CT_INV and not number & CT_INV
    if not (valid or number & CT_VALID):
        one = next(name for name in terms if field(name).connected)
        raise BadFlow(f"{one} needs a ct_state that says that there is a connection: +trk-inv, or +new, +est, …")
    if terms.get("ct_nw_proto") == 0:
        raise BadFlow("ct_nw_proto=0 cannot be told from no ct_nw_proto: Open vSwitch leaves it out of a dump")


def _check_first_fragment(terms: dict[str, Value]) -> None:
    """A later fragment (bit 1 of ip_frag) has no ports and no ICMP type."""
    fragment = terms.get("ip_frag", terms.get("nw_frag", 0))
    if (fragment if isinstance(fragment, int) else fragment[0]) & 2:
        raise BadFlow("a later fragment (ip_frag) has no layer-4 fields to match")
