"""The handle of `streamer` programs in two VMs: a sink in one, a sender in the other."""

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

from bench.probe import NoReply
from devstack.labs import netns
from devstack.labs.vm import Vm

PORT = 5001
STREAMER = [sys.executable, "-I", str(Path(__file__).with_name("streamer.py"))]


@dataclass(frozen=True)
class Arrived:
    """What the sink got of one stream."""

    protocol: str
    packets: int
    bytes: int
    seconds: float

    @property
    def mbit_per_s(self) -> float:
        return self.bytes * 8 / 1e6 / self.seconds

    @property
    def packets_per_s(self) -> float:
        return self.packets / self.seconds


class Stream:
    """A context manager; inside, `target` has a sink, and `vm` may send."""

    def __init__(self, vm: Vm, target: Vm) -> None:
        self._vm, self._address = vm, target.address()
        words = [*STREAMER, "sink", self._address, str(PORT)]
        self._sink = subprocess.Popen(
            netns.inside(target.namespace, words), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._said = b""
        self._line(10.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.kill()
        self._sink.wait()
        for pipe in (self._sink.stdin, self._sink.stdout):
            if pipe is not None:
                pipe.close()

    def _line(self, timeout: float) -> str:
        assert self._sink.stdout is not None
        pipe, deadline = self._sink.stdout.fileno(), time.monotonic() + timeout
        while b"\n" not in self._said:
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise NoReply(f"nothing of a stream came to {self._address} within {timeout:g} s")
            data = os.read(pipe, 65536)
            if not data:
                raise NoReply(f"the sink at {self._address} died")
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def send(self, protocol: str, seconds: float, length: int = 0) -> Arrived:
        """One stream; `length` is a datagram's, for UDP. Raises NoReply."""
        words = [*STREAMER, protocol, self._address, str(PORT), str(seconds)]
        self._vm.run(*words, *([str(length)] if protocol == "udp" else []))
        found = Arrived(**json.loads(self._line(10.0)))
        if found.protocol != protocol or not found.bytes:
            raise NoReply(f"the sink at {self._address} got {found} of a stream of {protocol}")
        return found
