"""What the rules of a policy allow, in normal form: the same packets, whatever the order and overlaps of the rules.

A rule becomes *permits*: one for each *atom* of its other side (everybody, a prefix, an identity), with a protocol and
a span of ports. `irredundant` drops each permit whose packets the remaining ones allow anyway. `blocks` then gathers
permits into products: sets of atoms of which each is allowed the same *pieces* of the port space; what a product costs
as flows (all pairs, or the two sides and a conjunction) is `openflow.compilers.policy`'s business.

The port space has 16 bits. For TCP, UDP and SCTP it is the port; for ICMP it is type × 256 + code, so that "one type,
every code" is a span too. Pure, and about numbers only: texts are read once, here.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from openflow import addresses
from openflow.addresses import Prefix
from selvedge.topology import Rule

ANY = -1
"""In place of a protocol: every one."""

LARGEST = 0xFFFF
PORTS = {6: "tcp", 17: "udp", 132: "sctp"}
"""The protocols whose ports Open vSwitch reads. It reads none of DCCP and UDP-Lite."""
ICMP = {4: 1, 6: 58}
"""By IP version."""

EVERYBODY_KIND, PREFIX_KIND, IDENTITY_KIND = range(3)


class Atom(NamedTuple):
    """The other side: everybody, a prefix, or who has an identity (`value`). Sorts from broad to narrow."""

    kind: int
    mask: int
    value: int


EVERYBODY = Atom(EVERYBODY_KIND, 0, 0)


class Permit(NamedTuple):
    """Packets between the endpoint and an atom, of one protocol (or `ANY`), with ports from `first` to `last`."""

    atom: Atom
    protocol: int
    first: int
    last: int
    key: int


class Piece(NamedTuple):
    """A protocol (or `ANY`), and the ports that are `value` under `mask`."""

    protocol: int
    value: int
    mask: int


class Part(NamedTuple):
    """Atoms, and the pieces that each of them is allowed, with the keys of the rules that say so."""

    atoms: tuple[Atom, ...]
    pieces: tuple[tuple[Piece, int], ...]
    key: int


class Block(NamedTuple):
    """Parts with the same pieces. `key` is the least of its rules'; no other block of the policy has it."""

    key: int
    parts: tuple[Part, ...]


# A rule's own meaning ---------------------------------------------------------------------------------------------


def span(rule: Rule) -> tuple[int, int]:
    """The ports that a rule is about. Raises ValueError if Open vSwitch cannot tell them apart, or they are none."""
    first, last = rule.first, rule.last
    if first is None and last is None:
        return 0, LARGEST
    if rule.protocol == ICMP[rule.version]:
        if first is None or not 0 <= first <= 255 or not 0 <= (last or 0) <= 255:
            raise ValueError(f"there is no ICMP type {first} with code {last}")
        return (first << 8, first << 8 | 0xFF) if last is None else (first << 8 | last, first << 8 | last)
    if rule.protocol not in PORTS:
        raise ValueError(f"Open vSwitch reads no ports of protocol {rule.protocol}")
    if first is None or last is None or not 0 <= first <= last <= LARGEST:
        raise ValueError(f"{first} to {last} is no range of ports")
    # Port 0 is none: nobody can use it, and later fragments seem to.
    return (0, LARGEST) if (first <= 1 and last == LARGEST) else (first, last)


def atoms(rule: Rule, prefixes: Iterable[str], identities: Iterable[int]) -> list[Atom]:
    """Who is at the other side of a rule. `prefixes` are its address group's, `identities` its remote group's."""
    if rule.remote_group is not None:
        return [Atom(IDENTITY_KIND, 0, identity) for identity in identities]
    if rule.remote_addresses is not None:
        return list(_prefixes(tuple(prefixes), rule.version))
    return [EVERYBODY if rule.cidr is None else _atom(addresses.prefix(rule.cidr))]


def _atom(prefix: Prefix) -> Atom:
    return Atom(PREFIX_KIND, prefix.mask, prefix.value) if prefix.mask else EVERYBODY


@lru_cache(maxsize=16)
def _prefixes(texts: tuple[str, ...], version: int) -> tuple[Atom, ...]:
    """Kept, since several rules and policies name one address group; not many, since one may have 10,000 prefixes."""
    known = [prefix for prefix in map(addresses.prefix, texts) if prefix.version == version]
    return tuple(map(_atom, collapse(known)))


def collapse(prefixes: Iterable[Prefix]) -> list[Prefix]:
    """The fewest prefixes (of one IP version) that hold the same addresses."""
    result: list[Prefix] = []
    for prefix in sorted(set(prefixes), key=lambda prefix: (prefix.value, prefix.mask)):
        if result and prefix.value & result[-1].mask == result[-1].value:
            continue
        result.append(prefix)
        while len(result) > 1 and (joined := _joined(result[-2], result[-1])) is not None:
            result[-2:] = [joined]
    return result


def _joined(low: Prefix, high: Prefix) -> Prefix | None:
    """The prefix that two halves make."""
    if low.mask != high.mask:
        return None
    mask = low.mask & low.mask << 1
    return Prefix(low.version, low.value, mask) if low.value == high.value & mask else None


def masks(first: int, last: int) -> list[tuple[int, int]]:
    """The fewest (value, mask) of 16 bits that hold exactly the numbers from `first` to `last`."""
    result = []
    while first <= last:
        size = first & -first or LARGEST + 1
        while first + size - 1 > last:
            size >>= 1
        result.append((first, LARGEST & ~(size - 1)))
        first += size
    return result


# What is in force anyway ------------------------------------------------------------------------------------------


def irredundant(permits: Iterable[Permit]) -> list[Permit]:
    """Permits that allow the same packets, and none of which the others together make superfluous.

    From narrow to broad each is dropped if those that are left cover it; of equal ones the least key stays. Sorted.
    """
    ordered = sorted(set(permits), key=_breadth)
    by_atom: dict[Atom, list[Permit]] = {}
    for permit in ordered:
        by_atom.setdefault(permit.atom, []).append(permit)
    lengths = sorted({atom.mask for atom in by_atom if atom.kind == PREFIX_KIND})
    around = {atom: [by_atom[wider] for wider in _around(atom, lengths) if wider in by_atom] for atom in by_atom}
    kept = []
    for permit in reversed(ordered):
        own = by_atom[permit.atom]
        own.remove(permit)
        if not _covered(permit, around[permit.atom]):
            own.append(permit)
            kept.append(permit)
    return kept[::-1]


def _breadth(permit: Permit) -> tuple[Atom, int, int, int, int]:
    return permit.atom, permit.protocol, permit.first - permit.last, permit.first, permit.key


def _around(atom: Atom, lengths: Sequence[int]) -> list[Atom]:
    """The atoms that hold whatever this one holds, itself among them."""
    if atom.kind == PREFIX_KIND:
        wider = [Atom(PREFIX_KIND, mask, atom.value & mask) for mask in lengths if mask & atom.mask == mask]
        return [EVERYBODY, *wider]
    return [EVERYBODY, atom] if atom.kind == IDENTITY_KIND else [EVERYBODY]


def _covered(permit: Permit, around: Iterable[Iterable[Permit]]) -> bool:
    _, protocol, start, end, _ = permit
    spans = []
    for others in around:
        for _, other, first, last, _ in others:
            if other == ANY or (other == protocol and first <= start and end <= last):
                return True
            if other == protocol and first <= end and start <= last:
                spans.append((first, last))
    for first, last in sorted(spans):
        if first <= start <= last:
            start = last + 1
    return start > end


# Products ---------------------------------------------------------------------------------------------------------


def blocks(permits: Iterable[Permit]) -> list[Block]:
    """Irredundant permits as products, in order of their keys.

    Rules with the same other side are one part (ten rules about one address group), and parts that allow the same are
    one block (twenty prefixes with one range of ports).
    """
    sides: dict[int, list[Atom]] = {}
    spans: dict[int, tuple[int, int, int]] = {}
    for atom, protocol, first, last, key in permits:
        sides.setdefault(key, []).append(atom)
        spans[key] = (protocol, first, last)
    alike: dict[tuple[Atom, ...], list[int]] = {}
    for key, side in sorted(sides.items()):
        alike.setdefault(tuple(sorted(side)), []).append(key)
    equal: dict[tuple[Piece, ...], list[Part]] = {}
    for side_atoms, keys in alike.items():
        pieces = _pieces([(*spans[key], key) for key in keys])
        equal.setdefault(tuple([piece for piece, _ in pieces]), []).append(Part(side_atoms, pieces, keys[0]))
    return sorted(Block(min(part.key for part in parts), tuple(parts)) for parts in equal.values())


def _pieces(spans: list[tuple[int, int, int, int]]) -> tuple[tuple[Piece, int], ...]:
    """(protocol, first, last, key) as pieces, each with the least key that has a port of it.

    Spans that overlap are one. Those that merely touch are not: flows should bear their rule's name.
    """
    merged: list[tuple[int, int, int]] = []
    for protocol, first, last, _ in sorted(spans):
        if merged and merged[-1][0] == protocol and first <= merged[-1][2]:
            merged[-1] = (protocol, merged[-1][1], max(last, merged[-1][2]))
        else:
            merged.append((protocol, first, last))
    result = []
    for protocol, first, last in merged:
        mine = [span for span in spans if span[0] == protocol and first <= span[1] <= last]
        for value, mask in masks(first, last):
            end = value | LARGEST & ~mask
            key = min(key for _, low, high, key in mine if low <= end and value <= high)
            result.append((Piece(protocol, value, mask), key))
    return tuple(result)
