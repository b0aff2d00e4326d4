"""What these tests watch: packets that are counted, and calls that the controllers have answered."""

import re
import signal
import time
import urllib.request
from collections import Counter
from types import TracebackType
from typing import Self

from devstack.labs.vm import Vm
from tests.functional.verbs import World

ANSWERED = re.compile(rb'^selvedge_calls_answered_total\{method="(\w+)"\} ([0-9.]+)', re.MULTILINE)


class Pinging:
    """A context manager: inside, `source` pings `target` every two milliseconds; no packet may be lost by its end."""

    def __init__(self, source: Vm, target: Vm) -> None:
        self._source, self._address = source, target.address()

    def __enter__(self) -> Self:
        self._process = self._source.start("ping", "-n", "-q", "-i", "0.002", self._address)
        time.sleep(0.2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(0.2)
        self._process.send_signal(signal.SIGINT)
        told = self._process.communicate()[0].rpartition("---")[2]
        sent, received = (int(word) for word in told.replace(",", " ").split()[:4] if word.isdigit())
        if error is None:
            assert sent > 100, told
            assert sent - received <= 1, told  # the last one may be on its way


def answered(world: World) -> Counter[str]:
    """Calls by method that all controllers together have answered; those that are dead count nothing."""
    found: Counter[str] = Counter()
    for controller in world.lab.controllers.values():
        if controller.pid is None:
            continue
        with urllib.request.urlopen(f"{controller.api.url}/metrics", timeout=10) as answer:
            for method, count in ANSWERED.findall(answer.read()):
                found[method.decode()] += int(float(count))
    return found
