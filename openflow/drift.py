"""Drift: how what the switch has differs from what it confirmed, and in which words that is told.

Nobody but us should write to the integration bridge, and nothing that it confirmed should go by itself. Yet people
delete flows by hand, other programs add theirs, and a defect is possible; so the switch is read again from time to
time. `compare` is that comparison, a pure function of two dictionaries of bytes; `openflow.programmer` files what
differs as dirty, and its one path to the switch heals it.

Four kinds: `missing` (confirmed, and gone), `altered` (other actions, or another cookie, under the same match),
`unknown` (bears our cookie's marker or one of our group's numbers, and was never confirmed) and `foreign` (does not).
"""

from collections.abc import Container, Hashable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Literal, NamedTuple

from openflow.batch import Audited, Connected, Key
from openflow.codec.decode import read_match
from openflow.codec.frames import BadMessage
from openflow.codec.text import match_text
from openflow.pipeline import FIRST_GROUP, LEAF_STRIDE, MARKER, Kind, own_group, owner_of

DriftKind = Literal["missing", "altered", "unknown", "foreign"]

KINDS: tuple[DriftKind, ...] = ("missing", "altered", "unknown", "foreign")


class Difference(NamedTuple):
    """One entry that is not as it was confirmed. `owner`: who wants it, if anybody does. `cookie`: of what is wanted,
    else of what the switch has; 0 for a group."""

    kind: DriftKind
    key: Key
    owner: Hashable | None
    cookie: int


def is_foreign(key: Key, body: bytes) -> bool:
    """Whether an entry of the switch is somebody else's. A body that is not known (empty) belongs to us."""
    return not own_group(key) if isinstance(key, int) else body[:1] not in (b"", bytes((MARKER,)))


def cookie_of(key: Key, body: bytes) -> int:
    """The cookie of a flow; groups have none, nor has what is not known."""
    return 0 if isinstance(key, int) else int.from_bytes(body[:8], "big")


def sort(dump: Connected | Audited, places: Container[Key], keep: bool) -> tuple[dict[Key, bytes], dict[Key, bytes]]:
    """What is foreign and left alone, and all the rest: ours, or to be removed unless we `keep` it. Whatever is in one
    of our `places` is not left alone: there is one flow of a table, a priority and a match."""
    kept: dict[Key, bytes] = {}
    rest: dict[Key, bytes] = {}
    rest.update(dump.flows.items())
    others: tuple[Iterable[tuple[Key, bytes]], ...] = (dump.groups.items(), dump.foreign.items())
    for key, body in chain(*others):
        (kept if keep and is_foreign(key, body) and key not in places else rest)[key] = body
    return kept, rest


def compare(
    confirmed: Mapping[Key, bytes], found: Mapping[Key, bytes], touched: Container[Key]
) -> Iterator[tuple[DriftKind, Key]]:
    """What differs, but for what was `touched` while the switch was being read. A confirmed body that is empty is one
    that nobody was sure of."""
    for key, body in confirmed.items():
        there = found.get(key)
        if there != body and body and key not in touched:
            yield "missing" if there is None else "altered", key
    for key, body in found.items():
        if key not in confirmed and key not in touched:
            yield "foreign" if is_foreign(key, body) else "unknown", key


def place(key: Key) -> str:
    """Where an entry is, as ovs-ofctl writes it: `table 0, priority 100, in_port=5`, or `group 1000000007`."""
    if isinstance(key, int):
        return f"group {key}"
    try:
        match, _ = read_match(key, 3)
        words = match_text(match)
    except BadMessage:  # a foreign flow may match what no flow of ours does
        words = f"match {key[3:].hex()}"
    return ", ".join(filter(None, (f"table {key[0]}", f"priority {int.from_bytes(key[1:3], 'big')}", words)))


def object_of(difference: Difference) -> tuple[str, int] | None:
    """The kind and the key of the tenant's object that it is about: `("endpoint", 7)`; None if it leads to none."""
    if isinstance(difference.key, int):
        if not own_group(difference.key):
            return None
        return "segment", (difference.key - FIRST_GROUP) % LEAF_STRIDE
    found = owner_of(difference.cookie)
    return None if found is None or found[0] is Kind.BASE else (found[0].name.lower(), found[1])
