"""The replica of the topics a host needs: a machine without I/O that takes messages in any order and converges.

Inputs are the feed's updates, the answers to `subscribe` and the time; outputs are changes of objects and requests to
send. A topic at version n applies n+1, ignores what is not newer, and keeps what is ahead of a gap in a small buffer:
two controllers' publishes may cross, so a gap is given `HOLD` seconds to close before the topic is fetched again.

Three rules make it safe. A controller binds before it reads and publishes after it commits, so an answer is never older
than anything received before the question (what was held then and is still ahead of the answer belongs to a database
that no longer exists). An answer older than what was known at its question tells of a restored database, and
wins. An answer that was merely overtaken by updates is ignored. The writer of the log is `controller.feed`.

What a former run of the agent knew comes back by `restore`: such a topic has its version and its objects, and must be
asked for like a new one, but an answer that says "nothing newer" is enough. Whether what is merely remembered may be
acted on before, is decided by `agents.headless`. All that happens to topics is told by `history`, to be remembered.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agents.remembered import Forgotten, Record
from selvedge.rpc import SubscribeReply
from selvedge.topics import Snapshot, Update
from selvedge.topology import Object, Ref, ref

HOLD = 0.1
"""Seconds that a gap may take to close by itself."""

HELD_OBJECTS = 4096
"""Objects that one topic may hold ahead of a gap; beyond, the oldest updates go, and the answer replaces them."""

LEFTOVER = 5.0
"""Seconds in which messages of a topic just dropped are the queue's leftovers; later ones ask to drop it again."""


@dataclass(frozen=True)
class Change:
    """What became of objects: newest states, and names of what is gone. The two never overlap."""

    upserts: tuple[Object, ...] = ()
    deletes: tuple[Ref, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.upserts or self.deletes)


NOTHING = Change()


@dataclass(frozen=True)
class Request:
    """What to ask next: `rpc.Subscribe(host, request.topics, request.drop)`."""

    topics: dict[str, int]
    drop: tuple[str, ...]


@dataclass
class Counters:
    applied: int = 0
    duplicates: int = 0
    held: int = 0
    overflows: int = 0
    gaps: int = 0
    unwanted: int = 0
    snapshots: int = 0


def _weight(update: Update) -> int:
    return 1 + len(update.upserts) + len(update.deletes)


@dataclass
class TopicState:
    """One topic. `Topics` owns these; the reactor reads `version`, `synced` and `objects`."""

    name: str
    counters: Counters
    history: list[Record]
    version: int = 0
    synced: bool = False
    remembered: bool = False
    """Whether it is known from a former run, and was not answered in this one."""
    objects: dict[Ref, Object] = field(default_factory=dict)
    must_ask: bool = True
    gap_until: float | None = None
    asked: int | None = None
    _held: dict[int, Update] = field(default_factory=dict)
    _held_weight: int = 0
    _held_at_question: int = 0

    def update(self, update: Update, now: float) -> Change:
        """A message of the feed."""
        if update.version <= self.version or update.version in self._held:
            self.counters.duplicates += 1
            return NOTHING
        if update.version == self.version + 1:
            states: dict[Ref, Object | None] = {}
            self._apply(update, states)
            self._close_gap(states, now)
            return self._commit(states)
        self._hold(update)
        if self.gap_until is None:
            self.gap_until = now + HOLD
        return NOTHING

    def ask(self) -> int:
        """A question is on its way; returns the version it must tell."""
        if self.gap_until is not None:
            self.counters.gaps += 1
        self.must_ask, self.gap_until, self.asked = False, None, self.version
        self._held_at_question = max(self._held, default=0)
        return self.version

    def answer(self, snapshot: Snapshot | None, now: float) -> Change:
        """The answer to the last `ask`; None: the version told was the newest."""
        known, self.asked = self.asked or 0, None
        first = not (self.synced or self.remembered)
        self.synced, self.remembered = True, False
        states: dict[Ref, Object | None] = {}
        if snapshot is not None and (snapshot.version > self.version or snapshot.version < known):
            self.counters.snapshots += 1
            self.history.append(snapshot)
            states.update(dict.fromkeys(self.objects))
            states.update((ref(thing), thing) for thing in snapshot.objects)
            self.version = snapshot.version
        elif first and not self.version:
            self.history.append(Snapshot(self.name, 0))  # that nothing is there is worth knowing
        outdated = max(self.version, self._held_at_question)
        for version in [version for version in self._held if version <= outdated]:
            self._unhold(version)
        self._close_gap(states, now)
        return self._commit(states)

    def failed(self) -> None:
        """The question got no answer."""
        self.asked, self.must_ask = None, True

    def _apply(self, update: Update, states: dict[Ref, Object | None]) -> None:
        self.counters.applied += 1
        self.history.append(update)
        self.version = update.version
        states.update(dict.fromkeys(Ref(*name) for name in update.deletes))
        states.update((ref(thing), thing) for thing in update.upserts)

    def _close_gap(self, states: dict[Ref, Object | None], now: float) -> None:
        while (update := self._held.get(self.version + 1)) is not None:
            self._unhold(update.version)
            self._apply(update, states)
        self.gap_until = now + HOLD if self._held else None

    def _hold(self, update: Update) -> None:
        self.counters.held += 1
        self._held[update.version] = update
        self._held_weight += _weight(update)
        while self._held_weight > HELD_OBJECTS:
            self.counters.overflows += 1
            self._unhold(min(self._held))

    def _unhold(self, version: int) -> None:
        self._held_weight -= _weight(self._held.pop(version))

    def _commit(self, states: dict[Ref, Object | None]) -> Change:
        """Take over new states (None: gone) and tell which of them are different from the old ones."""
        upserts, deletes = [], []
        for name, thing in states.items():
            if thing is None:
                if self.objects.pop(name, None) is not None:
                    deletes.append(name)
            elif self.objects.get(name) != thing:
                self.objects[name] = thing
                upserts.append(thing)
        return Change(tuple(upserts), tuple(deletes)) if upserts or deletes else NOTHING


class Topics:
    """All topics of the host. One owner: the reactor. At most one request is outstanding."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.relying = False
        """Whether what is remembered counts as known."""
        self._history: list[Record] = []
        self._states: dict[str, TopicState] = {}
        self._drop: set[str] = set()
        self._dropped: dict[str, float] = {}
        self._request: Request | None = None

    def __getitem__(self, name: str) -> TopicState:
        return self._states[name]

    def __contains__(self, name: str) -> bool:
        return name in self._states

    def restore(self, snapshots: Iterable[Snapshot]) -> Change:
        """What a former run knew, before anything else: it is asked for by its versions."""
        for snapshot in snapshots:
            state = TopicState(snapshot.topic, self.counters, self._history, snapshot.version, remembered=True)
            state.objects.update((ref(thing), thing) for thing in snapshot.objects)
            self._states[snapshot.topic] = state
        return Change(tuple(self.objects()))

    def history(self) -> tuple[Record, ...]:
        """What happened to topics since the last time, in order."""
        history = tuple(self._history)
        self._history.clear()
        return history

    def snapshots(self) -> tuple[Snapshot, ...]:
        """All that is known now: what following the whole history leads to."""
        return tuple(
            Snapshot(state.name, state.version, tuple(state.objects.values()))
            for state in self._states.values()
            if state.synced or state.remembered or state.version
        )

    def set_interest(self, names: Iterable[str]) -> Change:
        """All topics that are needed from now on. Objects of those that no longer are come back as deletes."""
        wanted = set(names)
        deletes: list[Ref] = []
        unwanted = sorted(self._states.keys() - wanted)
        if unwanted:
            self._history.append(Forgotten(tuple(unwanted)))
        for name in unwanted:
            deletes.extend(self._states.pop(name).objects)
            self._drop.add(name)
        for name in wanted - self._states.keys():
            self._states[name] = TopicState(name, self.counters, self._history)
            self._drop.discard(name)
            self._dropped.pop(name, None)
        return self._elsewhere(Change((), tuple(deletes))) if deletes else NOTHING

    def update(self, update: Update, now: float) -> Change:
        """A message of the feed. One of a topic that nobody here needs leads to a request to drop it."""
        state = self._states.get(update.topic)
        if state is not None:
            return self._elsewhere(state.update(update, now))
        self.counters.unwanted += 1
        if now >= self._dropped.get(update.topic, now):
            self._dropped.pop(update.topic, None)
            if self._request is None or update.topic not in self._request.drop:
                self._drop.add(update.topic)
        return NOTHING

    def request(self, now: float) -> Request | None:
        """What to ask now, if anything; it counts as sent. Ask only while the feed is up."""
        if self._request is not None:
            return None
        due = [
            state
            for state in self._states.values()
            if state.must_ask or (state.gap_until is not None and state.gap_until <= now)
        ]
        if not due and not self._drop:
            return None
        self._request = Request({state.name: state.ask() for state in due}, tuple(sorted(self._drop)))
        self._drop.clear()
        return self._request

    def answer(self, reply: SubscribeReply, now: float) -> Change:
        """The reply to the outstanding request."""
        request, self._request = self._request, None
        if request is None:
            return NOTHING
        self._dropped = {name: until for name, until in self._dropped.items() if until > now}
        self._dropped.update((name, now + LEFTOVER) for name in request.drop if name not in self._states)
        snapshots = {snapshot.topic: snapshot for snapshot in reply.snapshots}
        upserts: list[Object] = []
        deletes: list[Ref] = []
        for name in request.topics:
            state = self._states.get(name)
            if state is not None and state.asked is not None:
                change = state.answer(snapshots.get(name), now)
                upserts.extend(change.upserts)
                deletes.extend(change.deletes)
        return self._elsewhere(Change(tuple(upserts), tuple(deletes))) if upserts or deletes else NOTHING

    def _elsewhere(self, change: Change) -> Change:
        """What a topic lost, and another one has by now, is not gone: an object may move, and the two topics' messages
        come in any order."""
        found = {
            name: next((state.objects[name] for state in self._states.values() if name in state.objects), None)
            for name in change.deletes
        }
        kept = tuple(thing for thing in found.values() if thing is not None)
        if not kept:
            return change
        return Change((*change.upserts, *kept), tuple(name for name, thing in found.items() if thing is None))

    def failed(self) -> None:
        """The outstanding request has failed for good; its topics are asked for again by the next one."""
        request, self._request = self._request, None
        if request is not None:
            self._drop.update(name for name in request.drop if name not in self._states)
            for name in request.topics:
                if (state := self._states.get(name)) is not None and state.asked is not None:
                    state.failed()

    def lost(self) -> None:
        """The queue was made anew and has no bindings: subscribe to everything again, with the versions known."""
        for state in self._states.values():
            state.must_ask = True

    def suspect(self, reported: Mapping[str, int], stale: Iterable[str], now: float) -> None:
        """A controller calls these topics stale, compared to `reported`: ask again unless they move by themselves."""
        for name in stale:
            state = self._states.get(name)
            quiet = state is not None and state.asked is None and state.gap_until is None
            if state is not None and quiet and state.version == reported.get(name):
                state.gap_until = now + HOLD

    def deadline(self) -> float | None:
        """When `request` has something to ask at the latest, if nothing else happens before; None: not by time."""
        if self._request is not None:
            return None
        if self._drop or any(state.must_ask for state in self._states.values()):
            return 0.0
        return min((state.gap_until for state in self._states.values() if state.gap_until is not None), default=None)

    @property
    def synced(self) -> bool:
        """Whether every needed topic was answered at least once."""
        return all(state.synced for state in self._states.values())

    @property
    def remembered(self) -> bool:
        """Whether something is known from a former run only."""
        return any(state.remembered for state in self._states.values())

    def known(self, name: str) -> bool:
        """Whether flows may follow from what this topic says."""
        state = self._states.get(name)
        return state is not None and (state.synced or (self.relying and state.remembered))

    def objects(self) -> Iterator[Object]:
        """Everything that is known, of all topics."""
        for state in self._states.values():
            yield from state.objects.values()

    def versions(self) -> dict[str, int]:
        """Versions of the topics that are in sync, for reports."""
        return {state.name: state.version for state in self._states.values() if state.synced}
