"""Which lost packets are no surprise: those across a switch that was broken, until it could be whole again. Pure.

A host's switch is broken from the begin of a fault of its vswitchd or ovsdb-server (as it happened, not as it was
planned) to its end, and then for `MENDED_S`. Another fault of that switch, or of the host's agent, that begins before
it is mended prolongs it, since nobody replays the flows meanwhile. Nothing else does: an agent knows the last
topology from its disk. Faults of agents alone, of brokers, controllers and databases excuse nothing: they may die
without a packet lost. A switch that found its interfaces' queues full was kept from its CPU (`drops`); what was lost
meanwhile is counted apart. Every window says what it comes from, and `judge` counts what was lost inside and outside.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.mayhem import SWITCH

MENDED_S = 6.0
"""From the moment at which all that is needed runs again: the switch replayed, neighbours found, agents in sync.
`restart` measures how long that takes on a quiet machine; here everything starts at once."""


@dataclass(frozen=True)
class Happened:
    """A fault as it was: times of the monotonic clock, `end` when the part was said to run again."""

    begin: float
    end: float
    place: str
    part: str
    how: str


@dataclass(frozen=True)
class Window:
    """Packets through `host` may be lost from `begin` to `end`, because of `why`."""

    host: str
    begin: float
    end: float
    why: str


@dataclass(frozen=True)
class Loss:
    """Requests of a pair of VMs on `hosts` that were not answered: sent from `begin` to `end`, `count` of them."""

    pair: str
    hosts: frozenset[str]
    begin: float
    end: float
    count: int


def windows(faults: Sequence[Happened]) -> tuple[Window, ...]:
    """Of all hosts, in the order of the faults that they come from."""
    return tuple(
        Window(fault.place, fault.begin, mended(fault, faults), f"{fault.part} {fault.how}")
        for fault in faults
        if fault.part in SWITCH
    )


def mended(broken: Happened, faults: Iterable[Happened]) -> float:
    """When the switch of `broken` must forward again."""
    end, grown = broken.end, True
    here = [fault for fault in faults if fault.place == broken.place and fault.part in (*SWITCH, "agent")]
    while grown:
        further = max(fault.end for fault in here if fault.begin <= end + MENDED_S)
        end, grown = max(end, further), further > end
    return end + MENDED_S


def judge(losses: Iterable[Loss], excuses: Sequence[Window]) -> tuple[list[Loss], Mapping[Window, int]]:
    """The losses that nothing excuses, and how many packets each window excused."""
    bad, excused = [], dict.fromkeys(excuses, 0)
    for loss in losses:
        window = next((window for window in excuses if covers(window, loss, excuses)), None)
        if window is None:
            bad.append(loss)
        else:
            excused[window] += loss.count
    return bad, excused


def covers(window: Window, loss: Loss, excuses: Sequence[Window]) -> bool:
    """Whether the loss begins in this window and lasts no longer than windows that hang together with it."""
    if window.host not in loss.hosts or not window.begin <= loss.begin <= window.end:
        return False
    end, grown = window.end, True
    while grown:
        further = max((w.end for w in excuses if w.host in loss.hosts and w.begin <= end), default=end)
        end, grown = max(end, further), further > end
    return loss.end <= end
