"""What a benchmark is to the command: a function from `Terms` to `Outcome`."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.measures import Cost, Result


class WrongShape(Exception):
    """What was measured is not what should have been: the system did something else than its share of the work."""


@dataclass(frozen=True)
class Terms:
    """`quick`: a smoke run with few samples of small sizes. `say` tells people what goes on."""

    quick: bool
    say: Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """`versions` are added to those that every benchmark names."""

    results: tuple[Result, ...]
    daemons: tuple[Cost, ...]


Benchmark = Callable[[Terms], Outcome]
