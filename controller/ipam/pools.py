"""What a subnet gives out: default gateway, default pools, and what is wrong with pools that somebody asks for.

A pool is an inclusive pair of integers here. Faults are values, in the order in which they are found, so that the
caller picks the error its API has for each.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from controller.ipam.addresses import Space
from controller.ipam.intervals import Interval, Intervals, normal, without


class Fault(NamedTuple):
    """What is wrong: `reversed` (last below first), `outside` the subnet, `overlap` of two, or holding the `gateway`.

    `pools` are the indexes of the pools at fault.
    """

    kind: Literal["reversed", "outside", "overlap", "gateway"]
    pools: tuple[int, ...]


def default_gateway(space: Space) -> int | None:
    """The first address after the subnet's own; None if there is no second address."""
    return space.first + 1 if space.last > space.first else None


def default_pools(space: Space, gateway: int | None) -> Intervals:
    """Every address that a host may have, but for the gateway's."""
    return without(normal([space.hosts]), () if gateway is None else (gateway,))


def gateway_fits(space: Space, gateway: int) -> bool:
    """A gateway may lie outside its subnet (an on-link route reaches it), but is no network or broadcast address."""
    return gateway not in space or space.hosts[0] <= gateway <= space.hosts[1] or space.version == 6


def fault(space: Space, pools: Sequence[Interval], gateway: int | None) -> Fault | None:
    """The first fault of `pools`, or None."""
    low, high = space.hosts
    for index, (first, last) in enumerate(pools):
        if first > last:
            return Fault("reversed", (index,))
    for index, (first, last) in enumerate(pools):
        if first < low or last > high:
            return Fault("outside", (index,))
    order = sorted(range(len(pools)), key=lambda index: pools[index])
    for left, right in pairwise(order):
        if pools[right][0] <= pools[left][1]:
            return Fault("overlap", (left, right))
    if gateway is not None:
        for index, (first, last) in enumerate(pools):
            if first <= gateway <= last:
                return Fault("gateway", (index,))
    return None
