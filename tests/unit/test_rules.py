"""The normal form of rules: it allows what the rules allow, no less and no more, in as few pieces as there can be."""

from collections.abc import Iterable
from ipaddress import IPv4Network, collapse_addresses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openflow import addresses, rules
from openflow.rules import ANY, EVERYBODY, IDENTITY_KIND, LARGEST, PREFIX_KIND, Atom, Permit, Piece
from selvedge.topology import Rule

# Ranges of ports --------------------------------------------------------------------------------------------------


@given(st.integers(0, LARGEST), st.integers(0, LARGEST))
def test_masks_hold_exactly_a_range(one: int, other: int) -> None:
    """Masks are disjoint, in order, without a gap, and none could be wider: so there are no fewer."""
    first, last = min(one, other), max(one, other)
    reached = first
    for value, mask in rules.masks(first, last):
        size = LARGEST + 1 - mask
        assert value == reached and value & mask == value
        twice = size * 2
        assert value % twice or value + twice - 1 > last, "twice as wide would fit as well"
        reached += size
    assert reached == last + 1


@given(st.integers(0, 63), st.integers(0, 63))
def test_no_fewer_masks_would_do(one: int, other: int) -> None:
    """Against a search of all ways to cut the range: the greedy one is the shortest."""
    first, last = min(one, other), max(one, other)
    shortest = {last + 1: 0}
    for start in range(last, first - 1, -1):
        sizes = [1 << bits for bits in range(7) if start % (1 << bits) == 0 and start + (1 << bits) - 1 <= last]
        shortest[start] = 1 + min(shortest[start + size] for size in sizes)
    assert len(rules.masks(first, last)) == shortest[first]


def test_well_known_ranges() -> None:
    """The whole range is one mask that asks for nothing; the worst range takes 30."""
    assert rules.masks(0, LARGEST) == [(0, 0)]
    assert rules.masks(80, 80) == [(80, LARGEST)]
    assert rules.masks(1024, LARGEST) == [(1024 << bits, LARGEST & ~((1024 << bits) - 1)) for bits in range(6)]
    assert len(rules.masks(1, LARGEST - 1)) == 30


# Prefixes ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(20, 32)), max_size=12))
def test_prefixes_collapse_as_the_standard_library_does(drawn: list[tuple[int, int]]) -> None:
    """The fewest prefixes with the same addresses."""
    networks = [IPv4Network((0x0A000000 | low << 2, length), strict=False) for low, length in drawn]
    found = rules.collapse(addresses.prefix(str(network)) for network in networks)
    assert {(prefix.value, prefix.mask) for prefix in found} == {
        (int(network.network_address), int(network.netmask)) for network in collapse_addresses(networks)
    }


def _rule(**fields: object) -> Rule:
    known = {"id": "r", "key": 1, "group": "g", "direction": "ingress", "version": 4, **fields}
    return Rule(**known)  # type: ignore[arg-type]


def test_who_is_at_the_other_side() -> None:
    """Nobody named is everybody, and so is 0.0.0.0/0; an address group's prefixes are those of the rule's version."""
    assert rules.atoms(_rule(), (), ()) == [EVERYBODY]
    assert rules.atoms(_rule(cidr="0.0.0.0/0"), (), ()) == [EVERYBODY]
    assert rules.atoms(_rule(cidr="10.0.0.0/8"), (), ()) == [Atom(PREFIX_KIND, 0xFF000000, 0x0A000000)]
    mixed = ("10.0.0.0/9", "fd00::/8", "10.128.0.0/9", "10.1.2.3/32")
    assert rules.atoms(_rule(remote_addresses="a"), mixed, ()) == [Atom(PREFIX_KIND, 0xFF000000, 0x0A000000)]
    assert rules.atoms(_rule(remote_addresses="a"), (), ()) == []
    assert rules.atoms(_rule(remote_group="g"), (), (3, 5)) == [Atom(IDENTITY_KIND, 0, 3), Atom(IDENTITY_KIND, 0, 5)]
    assert rules.atoms(_rule(remote_group="g"), (), ()) == []


@pytest.mark.parametrize(
    ("fields", "span"),
    [
        ({}, (0, LARGEST)),
        ({"protocol": 6}, (0, LARGEST)),
        ({"protocol": 6, "first": 1, "last": LARGEST}, (0, LARGEST)),
        ({"protocol": 17, "first": 53, "last": 53}, (53, 53)),
        ({"protocol": 132, "first": 1, "last": 9}, (1, 9)),
        ({"protocol": 1, "first": 8}, (0x800, 0x8FF)),
        ({"protocol": 1, "first": 3, "last": 4}, (0x304, 0x304)),
        ({"protocol": 58, "version": 6, "first": 128, "last": 0}, (0x8000, 0x8000)),
        ({"protocol": 47}, (0, LARGEST)),
        ({"protocol": 33}, (0, LARGEST)),
    ],
)
def test_the_ports_of_a_rule(fields: dict[str, object], span: tuple[int, int]) -> None:
    """Every port, a range, or an ICMP type with one code or all."""
    assert rules.span(_rule(**fields)) == span


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"protocol": 6, "first": 9, "last": 8}, "no range"),
        ({"protocol": 6, "first": 9}, "no range"),
        ({"protocol": 6, "first": 9, "last": 1 << 16}, "no range"),
        ({"protocol": 1, "first": 256}, "ICMP type"),
        ({"protocol": 1, "last": 3}, "ICMP type"),
        ({"protocol": 33, "first": 80, "last": 80}, "reads no ports of protocol 33"),
        ({"protocol": 136, "first": 80, "last": 80}, "reads no ports of protocol 136"),
        ({"protocol": 47, "first": 80, "last": 80}, "reads no ports"),
        ({"first": 80, "last": 80}, "reads no ports"),
        ({"protocol": 58, "first": 128}, "reads no ports"),
    ],
)
def test_ports_that_cannot_be_told(fields: dict[str, object], says: str) -> None:
    """A range that is none, and ports that Open vSwitch cannot read, are refused."""
    with pytest.raises(ValueError, match=says):
        rules.span(_rule(**fields))


# What is in force anyway ------------------------------------------------------------------------------------------

ADDRESSES = range(0x0A000000, 0x0A000008)
IDENTITIES = (0, 1, 2)
PROTOCOLS = (6, 17, 47)
PORTS = range(12)


def _prefix(low: int, length: int) -> Atom:
    mask = addresses.prefix(f"0.0.0.0/{length}").mask
    return Atom(PREFIX_KIND, mask, (0x0A000000 | low) & mask) if mask else EVERYBODY


ATOM = st.one_of(
    st.just(EVERYBODY),
    st.builds(_prefix, st.integers(0, 7), st.integers(28, 32)),
    st.builds(Atom, st.just(IDENTITY_KIND), st.just(0), st.sampled_from(IDENTITIES[1:])),
)
SPAN = st.one_of(
    st.just((0, LARGEST)), st.tuples(st.integers(0, 11), st.integers(0, 11)).map(lambda ends: (min(ends), max(ends)))
)
ALLOWED = st.one_of(
    st.tuples(st.just(ANY), st.just((0, LARGEST))),
    st.tuples(st.sampled_from(PROTOCOLS[:2]), SPAN),
    st.tuples(st.just(47), st.just((0, LARGEST))),
)


@st.composite
def permits(draw: st.DrawFn) -> list[Permit]:
    """Permits as rules make them: all of one rule have its ports."""
    made = []
    for key in range(1, 1 + draw(st.integers(0, 9))):
        protocol, (first, last) = draw(ALLOWED)
        sides = draw(st.lists(ATOM, min_size=1, max_size=4, unique=True))
        made += [Permit(atom, protocol, first, last, key) for atom in sides]
    return draw(st.permutations(made))


def _holds(atom: Atom, address: int, identity: int) -> bool:
    if atom.kind == IDENTITY_KIND:
        return identity == atom.value
    return atom == EVERYBODY or address & atom.mask == atom.value


def union(allowed: Iterable[Permit]) -> set[tuple[int, int, int, int]]:
    """All packets of a small world that permits allow: (address, identity, protocol, port)."""
    return {
        (address, identity, protocol, port)
        for atom, permitted, first, last, _ in allowed
        for address in ADDRESSES
        for identity in IDENTITIES
        if _holds(atom, address, identity)
        for protocol in (PROTOCOLS if permitted == ANY else (permitted,))
        for port in (*PORTS, LARGEST)
        if first <= port <= last
    }


@settings(max_examples=300, deadline=None)
@given(permits())
def test_what_is_allowed_does_not_change(drawn: list[Permit]) -> None:
    """Fewer permits, the same packets; and each that is left is needed unless it takes several kinds to replace it."""
    kept = rules.irredundant(drawn)
    assert set(kept) <= set(drawn)
    assert union(kept) == union(drawn)
    assert rules.irredundant(kept) == kept
    for one in kept:
        for other in kept:
            assert one == other or not _contains(other, one), f"{other} allows all of {one}"


def _contains(wide: Permit, narrow: Permit) -> bool:
    atom, other = wide.atom, narrow.atom
    around = atom in (EVERYBODY, other) or (
        atom.kind == other.kind == PREFIX_KIND
        and atom.mask & other.mask == atom.mask
        and other.value & atom.mask == atom.value
    )
    ports = wide.protocol == ANY or (
        wide.protocol == narrow.protocol and wide.first <= narrow.first and narrow.last <= wide.last
    )
    return around and ports


@settings(max_examples=100, deadline=None)
@given(permits(), st.randoms(use_true_random=False))
def test_the_order_of_rules_does_not_matter(drawn: list[Permit], random: object) -> None:
    """Permits in another order have the same normal form."""
    shuffled = list(drawn)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rules.irredundant(shuffled) == rules.irredundant(drawn)
    assert rules.blocks(rules.irredundant(shuffled)) == rules.blocks(rules.irredundant(drawn))


@settings(max_examples=300, deadline=None)
@given(permits())
def test_products_allow_the_same(drawn: list[Permit]) -> None:
    """Blocks of atoms and pieces allow what the permits allow, and their names are the keys of different rules."""
    kept = rules.irredundant(drawn)
    blocks = rules.blocks(kept)
    found = {
        (address, identity, protocol, port)
        for block in blocks
        for part in block.parts
        for piece, _ in part.pieces
        for atom in part.atoms
        for address in ADDRESSES
        for identity in IDENTITIES
        if _holds(atom, address, identity)
        for protocol in (PROTOCOLS if piece.protocol == ANY else (piece.protocol,))
        for port in (*PORTS, LARGEST)
        if port & piece.mask == piece.value
    }
    assert found == union(drawn)
    names = [block.key for block in blocks]
    assert len(set(names)) == len(names) and set(names) <= {permit.key for permit in kept}
    for block in blocks:
        assert len({tuple(piece for piece, _ in part.pieces) for part in block.parts}) == 1
        for part in block.parts:
            for (protocol, value, mask), key in part.pieces:
                mine = [permit for permit in kept if permit.key == key]
                assert any(
                    permit.protocol == protocol and permit.first <= value | LARGEST & ~mask and value <= permit.last
                    for permit in mine
                ), "a piece bears the name of a rule that has a port of it"


def _permit(key: int, first: int, last: int, atom: Atom = EVERYBODY, protocol: int = 6) -> Permit:
    return Permit(atom, protocol, first, last, key)


NET = Atom(PREFIX_KIND, 0xFF000000, 0x0A000000)
SUBNET = Atom(PREFIX_KIND, 0xFFFF0000, 0x0A010000)
MEMBER = Atom(IDENTITY_KIND, 0, 7)


def test_what_covers_what() -> None:
    """A wider prefix, everybody, every port, every protocol, or several ranges together; an identity only itself."""
    wide, narrow = _permit(1, 80, 90, NET), _permit(2, 85, 86, SUBNET)
    assert rules.irredundant([narrow, wide]) == [wide]
    assert rules.irredundant([wide, _permit(2, 85, 91, SUBNET)]) == [wide, _permit(2, 85, 91, SUBNET)]
    everything = Permit(EVERYBODY, ANY, 0, LARGEST, 9)
    assert rules.irredundant([wide, narrow, everything, _permit(3, 1, 2, MEMBER)]) == [everything]
    low, high = _permit(1, 1, 100), _permit(2, 101, 200)
    assert rules.irredundant([low, _permit(3, 50, 160), high]) == [low, high]
    assert rules.irredundant([low, high, _permit(3, 50, 160, SUBNET)]) == [low, high]
    assert rules.irredundant([_permit(2, 5, 5), _permit(1, 5, 5)]) == [_permit(1, 5, 5)], "of equals the older stays"
    by_member, by_prefix = _permit(1, 5, 5, MEMBER), _permit(2, 5, 5, NET)
    assert set(rules.irredundant([by_member, by_prefix])) == {by_member, by_prefix}


def test_rules_with_one_other_side_are_one_part() -> None:
    """Ranges that overlap are one; those that touch keep their rules' names."""
    [block] = rules.blocks([_permit(1, 80, 80), _permit(2, 81, 81), _permit(3, 96, 120), _permit(4, 112, 127)])
    [part] = block.parts
    assert part.pieces == (
        (Piece(6, 80, 0xFFFF), 1),
        (Piece(6, 81, 0xFFFF), 2),
        (Piece(6, 96, 0xFFE0), 3),
    )


def test_prefixes_with_one_range_are_one_block() -> None:
    """Two rules about two prefixes with the same ports are one product; its name is the older rule's."""
    [block] = rules.blocks([_permit(2, 80, 90, NET), _permit(1, 80, 90, MEMBER)])
    assert block.key == 1 and {part.atoms for part in block.parts} == {(NET,), (MEMBER,)}
