"""Which policy is in force for each local secure port, and how a port passes from one to the next without a gap.

A *policy* is the rules of one set of groups, and its number is that set's identity. A port's `Posture` says which
policy its packets are judged by and which identity they tell to others. It follows the port's groups, not blindly:

- the first posture comes when all that the groups' rules need is known: until then nothing passes;
- when a live port's groups change, the old policy stays until everything of the new one is known, and is then replaced
  in one moment;
- what the port *sends* stays the old identity for `LEARN` seconds more if it only gained groups: the other hosts' rules
  must learn that the new identity is a member before they see it. A port that lost a group says so at once;
- the old policy's rules stay for `DRAIN` seconds under a posture of no port: a packet that is between two lookups still
  names it, and so does what the datapath has cached.

Pure: the clock is given, and so is whether a set of groups is known. `agents.enforcement` asks and tells.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from openflow.facts import Posture
from selvedge.topology import Ref

LEARN = 0.25
"""Seconds for which a port that gained groups goes on to send as what it was."""

DRAIN = 12.0
"""Seconds for which the rules of a policy outlive its last packet's first lookup: longer than Open vSwitch keeps a
cached flow that nobody uses (`max-idle`, 10 s). Else one would say "drop" by then, and a port that came back to the
policy would lose packets until it is looked at again."""

Known = Callable[[tuple[str, ...]], bool]
"""Whether everything is known that the rules of these groups need."""


class Wish(NamedTuple):
    """What a port's groups are, according to its endpoint."""

    segment: str
    identity: int
    groups: tuple[str, ...]


class Sent(NamedTuple):
    """The identity that a port goes on to send, of which groups it is, and until when."""

    identity: int
    groups: tuple[str, ...]
    until: float


class Handover:
    """See the module. `postures` may be read by others."""

    def __init__(self) -> None:
        self.postures: dict[str, Posture] = {}
        """What is in force, by the id of the fact."""
        self._wishes: dict[str, Wish] = {}
        self._fresh: dict[str, None] = {}
        """Ports whose wish is new."""
        self._waiting: defaultdict[tuple[str, ...], dict[str, None]] = defaultdict(dict)
        """Ports that wait for a set of groups to be known."""
        self._sending: dict[str, Sent] = {}
        self._drains: dict[str, float] = {}
        self._upserts: dict[str, Posture] = {}
        self._deletes: set[str] = set()

    def want(self, port: str, segment: str, identity: int, groups: tuple[str, ...]) -> None:
        """The port is local and secure, and these are its groups."""
        wish = Wish(segment, identity, groups)
        if self._wishes.get(port) != wish:
            self._stop_waiting(port)
            self._wishes[port] = wish
            self._fresh[port] = None

    def forget(self, port: str) -> None:
        """The port is not local, or not secure, any more."""
        if port in self._wishes:
            self._stop_waiting(port)
            del self._wishes[port]
            self._sending.pop(port, None)
            self._drop(port)

    def step(self, now: float, known: Known) -> tuple[tuple[Posture, ...], tuple[Ref, ...]]:
        """Decide what is due; new states of facts, and those that are gone."""
        for port in self._fresh:
            self._waiting[self._wishes[port].groups][port] = None
        self._fresh.clear()
        for groups in [groups for groups in self._waiting if known(groups)]:
            for port in self._waiting.pop(groups):
                self._hand_over(port, self._wishes[port], now)
        for port in [port for port, sent in self._sending.items() if sent.until <= now]:
            del self._sending[port]
            posture = self.postures[port]
            self._put(Posture(port, posture.segment, posture.policy, posture.groups, posture.policy))
        for drain in [drain for drain, until in self._drains.items() if until <= now]:
            del self._drains[drain]
            self._drop(drain)
        upserts, self._upserts = tuple(self._upserts.values()), {}
        deletes, self._deletes = tuple(Ref("posture", name) for name in sorted(self._deletes)), set()
        return upserts, deletes

    def deadline(self) -> float | None:
        """When `step` has something to do, if nothing else happens before."""
        return min((*(sent.until for sent in self._sending.values()), *self._drains.values()), default=None)

    def awaited(self) -> Iterator[tuple[tuple[str, ...], Collection[str]]]:
        """The sets of groups that somebody waits for, and who does."""
        yield from self._waiting.items()

    def _hand_over(self, port: str, wish: Wish, now: float) -> None:
        """Everything of the wish is known: put it in force."""
        before = self.postures.get(port)
        if before is not None and (before.segment, before.policy, before.groups) == wish:
            return  # it wanted to be something else, and changed its mind
        sends = wish.identity
        former = self._sending.pop(port, None)
        if before is not None and before.segment == wish.segment and before.policy != wish.identity:
            former = former or Sent(before.policy, before.groups, now)
            if former.identity != wish.identity and former.groups and set(former.groups) <= set(wish.groups):
                sends = former.identity
                self._sending[port] = former._replace(until=now + LEARN)
            self._drain(before, now)
        self._put(Posture(port, wish.segment, wish.identity, wish.groups, sends))

    def _drain(self, former: Posture, now: float) -> None:
        if former.policy:  # 0 has no rules
            name = f"drain/{former.policy}/{former.segment}"
            self._drains.pop(name, None)
            self._drains[name] = now + DRAIN
            self._put(Posture(name, former.segment, former.policy, former.groups, former.policy))

    def _stop_waiting(self, port: str) -> None:
        self._fresh.pop(port, None)
        wish = self._wishes.get(port)
        if wish is not None and port in self._waiting.get(wish.groups, {}):
            del self._waiting[wish.groups][port]
            if not self._waiting[wish.groups]:
                del self._waiting[wish.groups]

    def _put(self, posture: Posture) -> None:
        if self.postures.get(posture.id) != posture:
            self.postures[posture.id] = self._upserts[posture.id] = posture
            self._deletes.discard(posture.id)

    def _drop(self, name: str) -> None:
        if self.postures.pop(name, None) is not None:
            self._upserts.pop(name, None)
            self._deletes.add(name)
