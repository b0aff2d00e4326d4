"""Conntrack zones: each port that is bound here has a number of its own, and no number is handed on before it is clean.

The numbers live in Open vSwitch's database (`external_ids:selvedge-zone-<port>` of the integration bridge), so that
they survive the agent and the switch, as the connections in them do. A port gets its number when it is bound, before
its interface is plugged, and the number counts as the port's once the database has it: only then may a flow name it.

A port that is not bound any more keeps its number through four stages, the last of which empties the database's row:
its flows are withdrawn and the switch confirmed that; `GRACE` passes; the zone is flushed; the key goes. So a number
without a key is clean, and a crash at any point only means that the stages begin again. Numbers are given out in a
circle, which makes reuse late besides.

Whatever the database says that cannot be (no number, a number twice) is told once and replaced. Pure: the clock is
given, `agents.enforcement` feeds it and `agents.bridge` writes the operations.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from openflow.facts import Zone
from openflow.pipeline import LARGEST_ZONE
from selvedge.topology import Ref

KEY = "selvedge-zone-"
"""Of a key in the integration bridge's external_ids; the port's id follows."""

GRACE = 2.0
"""Seconds from the confirmation that nothing leads into a zone until it is flushed: the datapath may work by what it
has cached for a moment longer."""

AT_ONCE = 64
"""Zones that one request flushes: each makes the switch look through all its connections."""

NO_CHANGE: tuple[tuple[Zone, ...], tuple[Ref, ...]] = ((), ())


class Edit(NamedTuple):
    """What to change in external_ids: keys that go (also those that get another value), and what comes."""

    removed: tuple[str, ...]
    added: dict[str, str]


class Zones:
    """See the module. `numbers` may be read by others."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        """Port -> its number, from the choice until it is clean."""
        self._ports: dict[int, str] = {}
        """Whose each number is that is not free: the inverse of `numbers` and of `_reserved`."""
        self._reserved: dict[str, int] = {}
        """Clean numbers whose key the database still has, or may get by a change that is on its way."""
        self._bound: set[str] = set()
        self._wanting: dict[str, None] = {}
        """Bound ports without a number."""
        self._stored: dict[str, str] = {}
        """Port -> what the database has."""
        self._kept: set[str] = set()
        """Ports whose number the database had once, so that flows may have named it."""
        self._safe: set[str] = set()
        """Of those, the ones whose number the database had since they were bound."""
        self._swept = False
        self._there = False
        """Whether the database is loaded and has the integration bridge."""
        self._last = 0
        """The number that was given out last."""
        self._differing: set[str] = set()
        self._sent: frozenset[str] | None = None
        self._leaving: dict[str, int | None] = {}
        """Ports whose flows are being withdrawn -> the batch that does it, once it is on its way."""
        self._due: dict[str, float] = {}
        """Ports without flows -> when to flush; in the order of time."""
        self._flushing: frozenset[str] = frozenset()
        self._refused: set[str] = set()
        """Ports whose zone the switch did not flush: it is asked again when it comes back."""
        self._touched: set[str] = set()
        self._told: dict[str, int] = {}
        """The facts as they were told."""
        self._faults: list[str] = []

    # Who is bound -----------------------------------------------------------------------------------------------

    def bind(self, port: str) -> None:
        """The port is bound here."""
        if port in self._bound:
            return
        self._bound.add(port)
        self._leaving.pop(port, None)
        self._due.pop(port, None)
        self._refused.discard(port)
        if port not in self.numbers:
            self._wanting[port] = None
        elif self._stored.get(port) == str(self.numbers[port]):
            self._safe.add(port)
        self._touched.add(port)

    def unbind(self, port: str) -> None:
        """The port is not bound here any more."""
        self._bound.discard(port)
        self._safe.discard(port)
        self._wanting.pop(port, None)
        self._touched.add(port)
        self._let_go(port)

    def sweep(self) -> None:
        """It is known who is bound: whoever else has a number, from a former life or by somebody's hand, loses it."""
        self._swept = True
        for port in self.numbers.keys() - self._bound:
            self._let_go(port)

    def _let_go(self, port: str) -> None:
        if port not in self.numbers or port in self._due or port in self._flushing or port in self._refused:
            return
        if port in self._kept:
            self._leaving.setdefault(port, None)
        else:  # no flow has ever named it
            self._clean(port)

    # What the database has --------------------------------------------------------------------------------------

    def stored(self, external_ids: Mapping[str, str] | None) -> None:
        """What the integration bridge's row has now; None: there is no such bridge."""
        self._there = external_ids is not None
        found = {key.removeprefix(KEY): text for key, text in (external_ids or {}).items() if key.startswith(KEY)}
        before, self._stored = self._stored, found
        changed = [port for port, text in found.items() if before.get(port) != text]
        # First who has a number already, then by name: the outcome must not depend on the order of a row's values.
        for port in sorted(changed, key=lambda port: (port not in self.numbers, port)):
            self._found(port, found[port])
        for port in chain(before.keys() - found.keys(), changed):
            self._compare(port)
            self._free(port)

    def _found(self, port: str, text: str) -> None:
        number = _number(text)
        known = self.numbers.get(port)
        holder = None if number is None else self._ports.get(number)
        if known is not None and known == number:
            self._keep(port)
        elif known is None and number is not None and holder in (None, port):
            self._adopt(port, number)
        elif known is not None:
            self._faults.append(f"{KEY}{port}={text}: it is {known}")
        elif number is None:
            self._faults.append(f"{KEY}{port}={text}: no number from 1 to {LARGEST_ZONE}")
        else:
            self._faults.append(f"{KEY}{port}={text}: that is the zone of port {holder}")

    def _adopt(self, port: str, number: int) -> None:
        """A number that the database has and nobody else."""
        self._reserved.pop(port, None)
        self.numbers[port], self._ports[number] = number, port
        self._last = max(self._last, number)
        self._wanting.pop(port, None)
        self._keep(port)
        if self._swept and port not in self._bound:
            self._let_go(port)

    def _keep(self, port: str) -> None:
        self._kept.add(port)
        if port in self._bound:
            self._safe.add(port)
            self._touched.add(port)

    def request(self) -> Edit | None:
        """The next change of the database; None while one is on its way, or there is nothing to change."""
        if self._sent is not None or not self._there:
            return None
        self._choose()
        if not self._differing:
            return None
        ports = sorted(self._differing)
        self._sent = frozenset(ports)
        return Edit(
            tuple(KEY + port for port in ports if port in self._stored),
            {KEY + port: str(self.numbers[port]) for port in ports if port in self.numbers},
        )

    def answered(self) -> None:
        """The change is done or refused; what it did was told by `stored` before."""
        sent, self._sent = self._sent or frozenset(), None
        for port in sent:
            self._compare(port)
            self._free(port)

    def _compare(self, port: str) -> None:
        number = self.numbers.get(port)
        if self._stored.get(port) == (None if number is None else str(number)):
            self._differing.discard(port)
        else:
            self._differing.add(port)

    # Numbers ----------------------------------------------------------------------------------------------------

    def _choose(self) -> None:
        """Give numbers to those that want one, as long as there are any."""
        for port in list(self._wanting):
            number = self._number_of(port)
            if number is None:
                return
            del self._wanting[port]
            self.numbers[port], self._ports[number] = number, port
            self._compare(port)
            self._touched.add(port)

    def _number_of(self, port: str) -> int | None:
        """The port's clean one that the database still has, or the next that is free."""
        if port in self._reserved:
            number = self._reserved.pop(port)
            if self._stored.get(port) == str(number):
                self._keep(port)
            return number
        if len(self._ports) >= LARGEST_ZONE:
            return None
        number = self._last
        while (number := number % LARGEST_ZONE + 1) in self._ports:
            pass
        self._last = number
        return number

    def _clean(self, port: str) -> None:
        """Nothing of the port is left in its zone: the key may go, and then the number is free."""
        number = self.numbers.pop(port)
        self._kept.discard(port)
        self._compare(port)
        if port in self._bound:
            self._wanting[port] = None
        self._reserved[port] = number
        self._free(port)

    def _free(self, port: str) -> None:
        """A reserved number is anybody's, once the database cannot have its key any more."""
        if port in self._reserved and port not in self._stored and not (self._sent and port in self._sent):
            del self._ports[self._reserved.pop(port)]

    # From the last flow to the flush ------------------------------------------------------------------------------

    def departs(self, batch: int) -> None:
        """This batch has all that is to be withdrawn so far."""
        for port, former in self._leaving.items():
            if former is None:
                self._leaving[port] = batch

    def undone(self) -> None:
        """The batch on its way was refused."""
        self._leaving = dict.fromkeys(self._leaving)

    def lost(self) -> None:
        """The switch is gone: neither the batch nor the flush on its way need have arrived."""
        self.undone()
        again = sorted((self._flushing | self._refused) - self._bound)
        self._touched |= self._flushing
        self._flushing = frozenset()
        self._refused.clear()
        self._due = dict.fromkeys(again, 0.0) | self._due

    def withdrawn(self, batch: int | None, now: float) -> None:
        """All that was withdrawn up to `batch` is gone from the switch; None: all that ever was."""
        for port, withdrawing in list(self._leaving.items()):
            if batch is None or (withdrawing is not None and withdrawing <= batch):
                del self._leaving[port]
                self._due[port] = now + GRACE

    def flush(self, now: float) -> tuple[int, ...]:
        """The zones to flush now, if any. One request at a time, and only while the switch is there."""
        if self._flushing:
            return ()
        ports = [port for port, due in self._due.items() if due <= now][:AT_ONCE]
        for port in ports:
            del self._due[port]
        self._flushing = frozenset(ports)
        return tuple(sorted(self.numbers[port] for port in ports))

    def flushed(self, zones: Iterable[int]) -> None:
        """The request is done, and these zones are clean; the switch refused the others."""
        done = set(zones)
        ports, self._flushing = self._flushing, frozenset()
        for port in sorted(ports):
            if port in self._bound:
                self._touched.add(port)  # it came back meanwhile
            elif self.numbers[port] in done:
                self._clean(port)
            else:
                self._refused.add(port)

    def deadline(self) -> float | None:
        """When `flush` has something to do at the latest."""
        return None if self._flushing else min(self._due.values(), default=None)

    # What follows -------------------------------------------------------------------------------------------------

    @property
    def leaving(self) -> bool:
        """Whether somebody waits for flows to be withdrawn."""
        return bool(self._leaving)

    @property
    def writing(self) -> bool:
        """Whether the database is being changed."""
        return self._sent is not None

    @property
    def exhausted(self) -> int:
        """How many ports get no zone because all are taken."""
        return len(self._wanting) if self._there and len(self._ports) >= LARGEST_ZONE else 0

    def usable(self, port: str) -> int | None:
        """The number that the port's flows may name."""
        return self.numbers.get(port) if port in self._safe and port not in self._flushing else None

    def facts(self) -> tuple[tuple[Zone, ...], tuple[Ref, ...]]:
        """New states of facts, and those that are gone, since the last time."""
        if not self._touched:
            return NO_CHANGE
        touched, self._touched = sorted(self._touched), set()
        upserts, deletes = [], []
        for port in touched:
            number = self.usable(port)
            if number == self._told.get(port):
                continue
            if number is None:
                del self._told[port]
                deletes.append(Ref("zone", port))
            else:
                self._told[port] = number
                upserts.append(Zone(port, number))
        return tuple(upserts), tuple(deletes)

    def faults(self) -> Iterator[str]:
        """What the database said that could not be, since the last time: each a key with its value, and what is
        wrong with it."""
        faults, self._faults = self._faults, []
        yield from faults


def _number(text: str) -> int | None:
    """A zone's number as we write it; None for anything else, such as "007"."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    return number if 1 <= number <= LARGEST_ZONE and str(number) == text else None
