"""Address arithmetic against plain sets of numbers."""

import ipaddress
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.ipam.addresses import eui64, number, position, random_mac, space, text
from controller.ipam.draw import draw
from controller.ipam.intervals import Interval, Intervals, contains, normal, nth, size, slice_of, without
from controller.ipam.pools import default_gateway, default_pools, fault, gateway_fits

PAIRS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), max_size=8)
RANGES = PAIRS.map(normal)


def members(ranges: Intervals) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(PAIRS)
def test_normal_is_the_union_sorted_and_disjoint(pairs: list[Interval]) -> None:
    ranges = normal(pairs)
    assert members(ranges) == {number for first, last in pairs for number in range(first, last + 1)}
    assert all(left[1] + 1 < right[0] for left, right in pairwise(ranges))
    assert size(ranges) == len(members(ranges))


@given(RANGES, st.sets(st.integers(-5, 405)))
def test_without_is_the_difference(ranges: Intervals, taken: set[int]) -> None:
    assert members(without(ranges, taken)) == members(ranges) - taken


@given(RANGES, st.integers(-5, 405))
def test_contains_is_membership(ranges: Intervals, value: int) -> None:
    assert contains(ranges, value) == (value in members(ranges))


@given(RANGES)
def test_nth_counts_in_order_and_ends(ranges: Intervals) -> None:
    assert [nth(ranges, index) for index in range(size(ranges))] == sorted(members(ranges))
    with pytest.raises(IndexError):
        nth(ranges, size(ranges))


@given(RANGES, st.integers(0, 500), st.integers(-3, 500))
def test_slice_of_is_a_list_s_slice(ranges: Intervals, start: int, length: int) -> None:
    assert sorted(members(slice_of(ranges, start, length))) == sorted(members(ranges))[start : start + max(length, 0)]


@given(RANGES, st.sets(st.integers(0, 400)), st.integers(0, 450), st.integers())
def test_draw_finds_different_free_numbers_as_many_as_there_are(
    ranges: Intervals, taken: set[int], count: int, seed: int
) -> None:
    def look(interval: Interval) -> set[int]:
        return {value for value in taken if interval[0] <= value <= interval[1]}

    free = members(ranges) - taken
    drawn = draw(ranges, count, look, Random(seed))
    assert len(set(drawn)) == len(drawn) == min(count, len(free))
    assert set(drawn) <= free


@given(st.integers())
def test_draw_finds_the_last_free_number_of_a_large_range(seed: int) -> None:
    """One free number in 70,000: no window is likely to show it, and it is found."""
    ranges = ((1, 70_000),)
    drawn = draw(ranges, 1, lambda part: (n for n in range(part[0], part[1] + 1) if n != 31_337), Random(seed))
    assert drawn == [31_337]


@given(st.integers())
def test_draw_looks_at_a_window_of_a_large_range_only(seed: int) -> None:
    """Choosing one of 2^64 addresses looks at no more of them than choosing one of 2^16."""
    looked = 0

    def look(interval: Interval) -> tuple[int, ...]:
        nonlocal looked
        looked += interval[1] - interval[0] + 1
        return ()

    assert len(draw(((0, 2**64 - 1),), 1, look, Random(seed))) == 1
    assert looked <= 256


def test_draw_reaches_every_number() -> None:
    chance = Random(1)
    assert {draw(((0, 999),), 1, lambda part: (), chance)[0] for _ in range(20_000)} == set(range(1000))


def test_eui64_is_as_in_rfc_4291() -> None:
    assert text(6, eui64(number("2001:db8::"), "00:10:a4:01:23:45")) == "2001:db8::210:a4ff:fe01:2345"


@given(st.sampled_from((4, 6)), st.data())
def test_positions_sort_as_numbers_do(version: int, data: st.DataObject) -> None:
    top = 2**32 - 1 if version == 4 else 2**128 - 1
    values = data.draw(st.lists(st.integers(0, top)))
    assert [int(place, 16) for place in sorted(position(version, value) for value in values)] == sorted(values)


@given(st.ip_addresses())
def test_text_and_number_are_inverse(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert number(text(address.version, int(address))) == int(address)


@given(st.integers())
def test_random_macs_begin_as_the_base_does(seed: int) -> None:
    assert random_mac("FA:16:3e:00:00:00", Random(seed)).startswith("fa:16:3e:")
    assert random_mac("fa:16:3e:4f:00:00", Random(seed)).startswith("fa:16:3e:4f:")


@pytest.mark.parametrize(
    ("cidr", "gateway", "pools"),
    [
        ("10.0.0.0/24", "10.0.0.1", [("10.0.0.2", "10.0.0.254")]),
        ("10.0.0.0/30", "10.0.0.1", [("10.0.0.2", "10.0.0.2")]),
        ("10.0.0.0/31", "10.0.0.1", [("10.0.0.0", "10.0.0.0")]),
        ("10.0.0.7/32", None, [("10.0.0.7", "10.0.0.7")]),
        ("fd00::/64", "fd00::1", [("fd00::2", "fd00::ffff:ffff:ffff:ffff")]),
        ("fd00::/127", "fd00::1", [("fd00::", "fd00::")]),
    ],
)
def test_defaults_of_a_subnet(cidr: str, gateway: str | None, pools: list[tuple[str, str]]) -> None:
    """What Neutron gives out by default: all but the network's, the broadcast's and the gateway's address."""
    where = space(cidr)
    found = default_gateway(where)
    assert (None if found is None else text(where.version, found)) == gateway
    assert [tuple(text(where.version, end) for end in pool) for pool in default_pools(where, found)] == pools


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4), st.none() | st.integers(0, 20))
def test_pools_have_a_fault_or_are_disjoint_parts_without_the_gateway(
    pools: list[Interval], gateway: int | None
) -> None:
    where = space("0.0.0.0/28")
    found = fault(where, pools, gateway)
    flat = [value for first, last in pools for value in range(first, last + 1)]
    sound = (
        all(first <= last for first, last in pools)
        and all(1 <= value <= 14 for value in flat)
        and len(flat) == len(set(flat))
        and gateway not in flat
    )
    assert (found is None) == sound


def test_a_gateway_is_no_network_or_broadcast_address_but_may_lie_outside() -> None:
    where = space("10.0.0.0/24")
    fits = {end: gateway_fits(where, number(end)) for end in ("10.0.0.0", "10.0.0.255", "10.0.0.9", "192.0.2.1")}
    assert fits == {"10.0.0.0": False, "10.0.0.255": False, "10.0.0.9": True, "192.0.2.1": True}
