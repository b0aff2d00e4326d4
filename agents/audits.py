"""When the switch is read again, and what is told of drift: how the switch differs from what it confirmed.

Every `interval` seconds (0: never), scattered by the host's name, when nothing is on its way to the switch; and at once
when a check asks (`agents.checks`). Healing is `openflow.programmer`'s, by the path of every other change. Here each
difference is counted by its kind and named by the tenant's object that the flow is there for, since that is what an
operator knows; foreign flows by their place in ovs-ofctl's words. Pure; owned by `agents.core`.
"""

import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from agents.conditions import named
from agents.news import News
from openflow.batch import Audit, Audited, Connected
from openflow.drift import KINDS, Difference, object_of, place
from openflow.programmer import Programmer

Names = Callable[[], Mapping[str, Mapping[str, str]]]
"""What the keys in cookies mean, as in status.json: kind → key → name."""

Differences = tuple[Difference, ...]


class Audits:
    """See the module. `counters` may be read by others."""

    def __init__(self, host: str, interval: float, programmer: Programmer, news: News, names: Names) -> None:
        self.counters = Counter(dict.fromkeys(["audits", *(f"drift_{kind}" for kind in KINDS)], 0))
        self._programmer, self._news, self._names = programmer, news, names
        self._interval = interval * (0.75 + zlib.crc32(host.encode()) / 2**33) if interval else None
        self._due: float | None = None
        self._blocked = self._wanted = False
        self._ordered: bool | None = None
        """Whether the audit under way is one that was asked for; None: there is none."""

    def connected(self, event: Connected, now: float) -> None:
        """The switch was read because it is there; what is ours of that is no drift, the rest is."""
        self._tell(self._programmer.connected(event))
        self._start(now)

    def ask(self) -> None:
        """Read the switch as soon as can be."""
        self._wanted = True

    def order(self, now: float) -> Audit | None:
        """The order for the switch, if it is time."""
        due = self._due is not None and now >= self._due
        self._blocked = due and not self._programmer.synced
        if not (self._wanted or (due and not self._blocked)) or (audit := self._programmer.audit()) is None:
            return None
        self._ordered, self._wanted, self._due = self._wanted, False, None
        return audit

    def audited(self, event: Audited, now: float) -> Differences | None:
        """The switch was read: what had drifted, if somebody asked for that; else None."""
        asked = self._ordered
        differences = self._programmer.audited(event)
        self.counters["audits"] += 1
        self._tell(differences)
        self._start(now)
        return differences if asked else None

    def deadline(self) -> float | None:
        """When `order` has something to do, if nothing else happens before."""
        return None if self._blocked else self._due

    def words(self, differences: Iterable[Difference]) -> list[tuple[str, str]]:
        """Each one's object and place, in words."""
        names = self._names()
        return [(_object(difference, names), place(difference.key)) for difference in differences]

    def _start(self, now: float) -> None:
        self._ordered = None
        self._due = None if self._interval is None else now + self._interval

    def _tell(self, differences: Differences) -> None:
        if not differences:
            return
        for difference, (what, where) in zip(differences, self.words(differences), strict=True):
            self.counters[f"drift_{difference.kind}"] += 1
            whose = where if difference.kind == "foreign" else f"{what} ({where})"
            self._news.add(logging.WARNING, f"the switch has drifted, {difference.kind}", whose)


def _object(difference: Difference, names: Mapping[str, Mapping[str, str]]) -> str:
    """`endpoint 3f…`, or its key if nobody here knows a name for it."""
    if difference.kind == "foreign":
        return "foreign"
    found = object_of(difference)
    if found is None:
        return named(difference.owner) if difference.owner is not None else "base"
    kind, key = found
    name = names.get(kind, {}).get(str(key))
    return f"{kind} {name}" if name else f"{kind} with key {key}"
