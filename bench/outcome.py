"""What a benchmark is to the command: a function from `Terms` to `Outcome`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.measures import Cost, Result


class WrongShape(Exception):
    """What was measured is not what should have been: the system did something else than its share of the work."""


@dataclass(frozen=True)
class Terms:
    """`quick`: a smoke run with few samples of small sizes. `say` tells people what goes on. The rest is for `chaos`:
    how long, by which dice, on how many hypervisors, and where its timeline goes."""

    quick: bool
    say: Callable[[str], None]
    minutes: float | None = None
    seed: int = 0
    hypervisors: int = 4
    keep: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What was measured; `findings` are what must not be: with any, the run has failed."""

    results: tuple[Result, ...]
    daemons: tuple[Cost, ...]
    findings: tuple[str, ...] = ()


Benchmark = Callable[[Terms], Outcome]
