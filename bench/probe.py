"""The handle of a `prober` that runs in a VM's namespace."""

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from devstack.labs import netns

PERIOD_MS = 1.0


class NoReply(Exception):
    """The target did not answer in time."""


@dataclass(frozen=True)
class Answers:
    """What a prober saw; times are monotonic seconds. `unsent`: of those sent, what its own kernel refused; `gaps`:
    pauses of 20 ms and more between two replies; `losses`: runs of requests never answered (first and last sent, how
    many)."""

    arp_at: float | None
    reply_at: float | None
    sent: int
    unsent: int
    lost: int
    gaps: list[tuple[float, float]]
    losses: list[tuple[float, float, int]]


class Probe:
    """A prober in the namespace at `path`, sending from its making on; the context manager never leaves it behind."""

    def __init__(
        self, path: Path, mac: str, address: str, target: str, *, counting: bool = False, period_ms: float = PERIOD_MS
    ) -> None:
        mode = "count" if counting else "first"
        program = [sys.executable, "-I", str(Path(__file__).with_name("prober.py"))]
        words = ["eth0", mac, address, target, mode, str(period_ms)]
        self._process = subprocess.Popen(
            netns.inside(path, [*program, *words]), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._target = target
        self._said = b""
        self._expect("ready", 10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _line(self, timeout: float) -> str:
        assert self._process.stdout is not None
        pipe, deadline = self._process.stdout.fileno(), time.monotonic() + timeout
        while b"\n" not in self._said:
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise NoReply(f"{self._target} did not answer within {timeout:g} s")
            data = os.read(pipe, 65536)
            if not data:
                raise NoReply(f"the prober of {self._target} died")
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def _expect(self, word: str, timeout: float) -> None:
        line = self._line(timeout)
        if line != word:
            raise NoReply(f"the prober of {self._target} said {line!r} instead of {word!r}")

    def first(self, timeout: float = 20.0) -> tuple[float, float]:
        """When the first ARP reply and the first echo reply came (not counting). Raises NoReply."""
        answers = Answers(**json.loads(self._line(timeout)))
        assert answers.arp_at is not None and answers.reply_at is not None
        return answers.arp_at, answers.reply_at

    def replying(self, timeout: float = 20.0) -> None:
        """Return once the first echo reply has come (counting): what is sent from then on counts."""
        self._expect("replying", timeout)

    def finish(self) -> Answers:
        """Stop counting and say what was seen."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        answers: Answers = Answers(**json.loads(self._line(10.0)))
        self._process.stdin = None
        return answers
