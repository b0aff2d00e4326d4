"""What is to break when, of which kind, for how long: drawn from a seed before anything runs. Pure.

A unit is what can be broken by one fault at a time (`hv1 agent`, `hv1 switch`, `broker`); faults of different units
overlap as the dice fall. Kinds are data: what they break, how, how often compared with others, how long. The same
seed, minutes and lab give the same plan; that what happens in between is another story each time is the point of it.
`faults` carries out, `excuses` says which of them cost packets rightly.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

PACE_S = 2.5
"""Mean seconds between the begins of two faults."""

REST_S = 6.0
"""Seconds that a unit has after a fault, to start and to be itself again before the next."""


@dataclass(frozen=True)
class Kind:
    """`where`: `host` (one of the hypervisors), `controller` (one of them), or the unit's own name. `how`: stop
    (SIGTERM), kill (SIGKILL), pause (SIGSTOP), cut (a wire that swallows); `recovery` has one more, wipe (stop, and
    forget everything)."""

    where: str
    part: str
    how: str
    weight: int
    shortest: float
    longest: float


KINDS = (
    Kind("host", "agent", "kill", 8, 0.1, 10),
    Kind("host", "agent", "stop", 4, 0.1, 10),
    Kind("host", "agent", "pause", 4, 1, 15),
    Kind("host", "vswitchd", "kill", 4, 0.1, 4),
    Kind("host", "vswitchd", "stop", 2, 0.1, 4),
    Kind("host", "vswitchd", "pause", 2, 0.5, 5),
    Kind("host", "ovsdb", "kill", 4, 0.1, 4),
    Kind("host", "ovsdb", "pause", 2, 0.5, 5),
    Kind("host", "link", "cut", 6, 1, 30),
    Kind("controller", "controller", "kill", 8, 0.1, 10),
    Kind("controller", "controller", "stop", 3, 0.1, 10),
    Kind("controller", "controller", "pause", 4, 1, 15),
    Kind("broker", "broker", "stop", 3, 0.5, 15),
    Kind("broker", "broker", "kill", 3, 0.5, 15),
    Kind("broker", "broker", "pause", 2, 1, 10),
    Kind("postgresql", "postgresql", "stop", 3, 0.5, 8),
    Kind("postgresql", "postgresql", "kill", 3, 0.5, 8),
    Kind("postgresql", "postgresql", "pause", 2, 1, 6),
)

SWITCH = ("vswitchd", "ovsdb")
"""One unit, as neither starts without the other."""


@dataclass(frozen=True)
class Fault:
    """From `begin` to `end` (seconds); `place` is a hypervisor, a controller, `broker` or `postgresql`."""

    begin: float
    end: float
    place: str
    part: str
    how: str

    @property
    def unit(self) -> str:
        return f"{self.place} {'switch' if self.part in SWITCH else self.part}"

    @property
    def name(self) -> str:
        return f"{self.place}: {self.how}" if self.part in (self.place, "controller") else self._long()

    def _long(self) -> str:
        return f"{self.place} {self.part}: {self.how}"


def plan(seed: int, seconds: float, hosts: Sequence[str], controllers: Sequence[str]) -> tuple[Fault, ...]:
    """The faults of one run, in the order of their begins; the last ends with the run at the latest."""
    dice = random.Random(seed)
    places = {"host": hosts, "controller": controllers}
    free_at: dict[str, float] = {}
    faults = []
    now = dice.expovariate(1 / PACE_S)
    while now < seconds - 1:
        kind = dice.choices(KINDS, [kind.weight for kind in KINDS])[0]
        place = dice.choice(places.get(kind.where, (kind.where,)))
        # Short ones are as telling as long ones, so the logarithm is what is drawn evenly.
        length = kind.shortest * (kind.longest / kind.shortest) ** dice.random()
        fault = Fault(round(now, 3), round(min(now + length, seconds), 3), place, kind.part, kind.how)
        if free_at.get(fault.unit, 0.0) <= now:
            free_at[fault.unit] = fault.end + REST_S
            faults.append(fault)
        now += dice.expovariate(1 / PACE_S)
    return tuple(faults)
