"""The programmer: what the switch should have, what it has, and the next atomic change from the one to the other.

Pure: no socket, no clock, no thread; the agent's reactor calls it. Two facts per entry (a flow or a group): the wanted
value and the body that the switch confirmed. Only entries that differ are remembered as *dirty*, by owner, so a change
costs what it touches; everything is compared only when a connection begins, and that is the one path for a start, a
reconnect and a restarted switch. Nothing is sent before `release()`: until the agent knows all it should, the flows of
its former life keep the data plane going.

One batch is in flight; changes meanwhile gather and go together in the next. An owner (whatever object a flow was
compiled for) is taken wholly or not at all. If the switch refuses an entry, its owner fails: its dirty entries are set
aside, the others go at once, and the owner is tried again apart from the sound ones, with exponential back-off or as
soon as it changes. What it had in the switch stays; deletions belong to no owner and are not held up. When the switch
does not say who is at fault (a commit that fails), fewer owners go together next time, down to one: so it is found.

What the switch has may drift from what it confirmed. `audit` has it read again while batches go on; what differs
(`openflow.drift`) becomes dirty like anything else. Whose flows and groups are not ours go too, or are kept, as told.

Read next: `openflow.batch` for the values, `openflow.switch` for who carries them.
"""

import heapq
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count, islice

from openflow.batch import Audit, Audited, Batch, Connected, Key, Refusal, Rejected
from openflow.drift import Difference, DriftKind, compare, cookie_of, is_foreign, sort
from openflow.flow import Flow, GroupEntry, ToGroup

FIRST_RETRY = 1.0
"""Seconds until a failed owner is tried again; doubled by each further failure up to `LAST_RETRY`."""
LAST_RETRY = 60.0

NO_SUCH_GROUP = "OFPBAC_BAD_OUT_GROUP"
"""The switch's refusal of a flow that refers to a group which is not there."""

UNEXPLAINED = Refusal("no reason given", 0xFFFF, 0xFFFF)
"""Stands for the reason when the switch took nothing and named neither an entry nor a cause."""

Owner = Hashable
Wanted = Flow | GroupEntry

STALE_FLOWS: Owner = "deletion of flows"
STALE_GROUPS: Owner = "deletion of groups"
FOREIGN_FLOWS: Owner = "deletion of foreign flows"
"""Deletions have no owner left: these stand in for one."""

_UNSURE = b""
"""The confirmed body of a flow that may or may not be there: differs from every real body."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an owner is not in the switch: the refused entries, how often it was tried, and when it is tried again."""

    refusals: Mapping[Key, Refusal]
    attempts: int
    due: float


class _Flight:
    """The batch in flight: its entries by owner, whether these had failed before, and the flows that its deletion of
    groups may take along."""

    def __init__(self, batch: Batch, entries: dict[Owner, list[Key]], again: bool, endangered: list[bytes]) -> None:
        self.batch = batch
        self.entries = entries
        self.again = again
        self.endangered = endangered
        self.keys = dict.fromkeys(batch.keys())


class Programmer:
    """See the module. Its state is this object's alone; `wanted`, `failed` and `foreign` may be read."""

    def __init__(self, keep_foreign: bool = True) -> None:
        self.wanted: dict[Key, Wanted] = {}
        self.failed: dict[Owner, Failure] = {}
        self.foreign: dict[Key, bytes] = {}
        """What others have in the switch and is kept."""
        self._keep_foreign = keep_foreign
        self._owner: dict[Key, Owner] = {}
        self._actual: dict[Key, bytes] = {}
        self._ready: dict[Owner, dict[Key, None]] = {}
        """Dirty entries of sound owners, first come first served."""
        self._aside: dict[Owner, dict[Key, None]] = {}
        """Dirty entries of failed owners."""
        self._dirty: dict[Key, Owner] = {}
        """Under which owner a dirty entry is filed."""
        self._due: list[tuple[float, int, Owner]] = []
        self._flight: _Flight | None = None
        self._connection: int | None = None
        self._released = False
        self._window: dict[bool, int | None] = {False: None, True: None}
        """How many owners may share a batch, of the sound (False) and of the failed ones; None is no limit."""
        self._failed_next = False
        """Sound owners and failed ones that are due take turns: neither delays the other by more than a batch."""
        self._groups = 0
        self._numbers = count(1)
        self._touched: dict[Key, None] | None = None
        """What batches may have changed since the audit under way began; None while there is none."""

    # What is wanted ---------------------------------------------------------------------------------------------

    def change(
        self,
        flows: Mapping[bytes, Flow | None],
        groups: Mapping[int, GroupEntry | None],
        owners: Mapping[Key, Owner],
    ) -> None:
        """Make these flows and groups wanted (None: unwanted). `owners` names who wants each; an entry missing there
        keeps its owner, and is its own if it had none."""
        for number, group in groups.items():
            self._want(number, group, owners)
        for key, flow in flows.items():
            self._want(key, flow, owners)

    def _want(self, key: Key, entry: Wanted | None, owners: Mapping[Key, Owner]) -> None:
        before = self.wanted.get(key)
        if entry is None:
            self.wanted.pop(key, None)
            self._owner.pop(key, None)
        else:
            self.wanted[key] = entry
            owner = owners.get(key, self._owner.get(key, key))
            self._owner[key] = owner
            failure = self.failed.get(owner)
            if failure and (before is None or before.body != entry.body):
                self._fail(owner, replace(failure, due=0.0))
        if self._active and not (self._flight and key in self._flight.keys):
            self._judge(key)

    def release(self) -> None:
        """Begin to send: the agent knows all that the switch should have."""
        if not self._released:
            self._released = True
            self._compare()

    # What the switch says ---------------------------------------------------------------------------------------

    def connected(self, event: Connected) -> tuple[Difference, ...]:
        """A connection began, and this is what the switch has. Returns what of it is foreign."""
        self._connection = event.connection
        self._flight = self._touched = None
        self.foreign, self._actual = sort(event, self.wanted, self._keep_foreign)
        self._groups = sum(isinstance(key, int) for key in self._actual)
        foreign = [*self.foreign, *(key for key, body in self._actual.items() if is_foreign(key, body))]
        differences = tuple(self._differs("foreign", key) for key in foreign)
        self._compare()
        return differences

    def audit(self) -> Audit | None:
        """The order to read the switch again; None if nothing can be compared now, or an audit is under way."""
        if not self._active or self._touched is not None:
            return None
        assert self._connection is not None
        self._touched = {**self._flight.keys, **dict.fromkeys(self._flight.endangered)} if self._flight else {}
        return Audit(self._connection)

    def audited(self, event: Audited) -> tuple[Difference, ...]:
        """This is what the switch has. Whatever differs is told, and is dirty from now on."""
        touched, self._touched = self._touched, None
        if touched is None or event.connection != self._connection:
            return ()
        known = self.foreign
        self.foreign, found = sort(event, {**self._actual, **self.wanted}, self._keep_foreign)
        differences = [self._differs("foreign", key) for key in self.foreign if key not in known]
        for kind, key in tuple(compare(self._actual, found, touched)):
            if key in found:
                self._actual[key] = found[key]
            else:
                del self._actual[key]
            if kind != "missing" or key in self.wanted:  # what is to be deleted may go
                differences.append(self._differs(kind, key))
            self._judge(key)
        self._groups = sum(isinstance(key, int) for key in self._actual)
        return tuple(differences)

    def disconnected(self) -> None:
        """The connection is lost; what was in flight will be seen in the next dump."""
        self._connection = None
        self._flight = self._touched = None
        self._forget_dirt()

    def confirmed(self, batch_id: int) -> set[Owner]:
        """The batch was committed. Returns those of its owners of whom nothing is pending any more."""
        flight = self._land(batch_id)
        if flight is None:
            return set()
        batch = flight.batch
        before = len(self._actual)
        for group in batch.groups:
            self._actual[group.id] = group.body
        for number in batch.dropped:
            self._actual.pop(number, None)
        self._groups += len(self._actual) - before
        for stale in (*batch.stale, *batch.foreign):
            self._actual.pop(stale, None)
        for flow in batch.flows:
            self._actual[flow.key] = flow.body
        for owner in flight.entries:
            if self.failed.pop(owner, None):
                for changed in self._aside.pop(owner, {}):
                    self._ready.setdefault(owner, {})[changed] = None
        if batch.groups:
            self._wake_waiting_for_groups()
        for key in flight.endangered:
            if key in self._actual:
                self._actual[key] = _UNSURE
        self._judge_all(flight.keys)
        self._judge_all(flight.endangered)
        window = self._window[flight.again]
        if window is not None:
            self._window[flight.again] = window * 2 if self._aside or self._ready else None
        return {owner for owner in flight.entries if not self.pending(owner)}

    def rejected(self, event: Rejected, now: float) -> set[Owner]:
        """The switch took nothing of the batch. Returns the owners that failed; the others are due again at once."""
        flight = self._land(event.batch_id)
        if flight is None:
            return set()
        sent: dict[Key, Wanted] = {flow.key: flow for flow in flight.batch.flows}
        sent.update((group.id, group) for group in flight.batch.groups)
        owner_of = {key: owner for owner, keys in flight.entries.items() for key in keys}
        refused: dict[Owner, dict[Key, Refusal]] = {}
        for key, refusal in event.failures:
            if self.wanted.get(key) is sent.get(key):  # Otherwise it has changed meanwhile: judge the new one.
                refused.setdefault(owner_of[key], {})[key] = refusal
        unexplained = event.cause or (None if event.failures else UNEXPLAINED)
        if unexplained and not event.failures and len(flight.entries) == 1:
            (owner,) = flight.entries
            refused[owner] = dict.fromkeys(flight.entries[owner], unexplained)
        self._judge_all(flight.keys)
        for owner, refusals in refused.items():
            attempts = self.failed[owner].attempts + 1 if owner in self.failed else 1
            wait = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(attempts - 1, 16))
            self._fail(owner, Failure(refusals, attempts, now + wait))
        for owner in flight.entries:
            if owner in self._aside and owner not in refused:
                self._fail(owner, self.failed[owner])  # Still due.
            elif owner not in self._aside:
                self.failed.pop(owner, None)  # It changed meanwhile, and nothing of it is left to try.
        if unexplained:
            self._window[flight.again] = max(1, len(flight.entries) // 2)
            self._rearrange()
        return set(refused)

    # What is next -----------------------------------------------------------------------------------------------

    def next_batch(self, now: float) -> Batch | None:
        """The next change to send, or None: all is well, one is in flight, not connected, or not released."""
        if not self._active or self._flight:
            return None
        if self._failed_next or not self._ready:
            self._failed_next = False
            again = self._take_due(now)
            if again:
                return self._depart(again, again=True)
        self._failed_next = True
        window = self._window[False]
        if window is None or len(self._ready) <= window:
            return self._depart(self._ready) if self._ready else None
        chosen = (item for item in self._ready.items() if item[0] is not STALE_GROUPS)
        return self._depart(dict(islice(chosen, window)))

    def next_retry(self) -> float | None:
        """When a failed owner is due, on the caller's clock; None if none waits or a batch is in flight."""
        if not self._active or self._flight:
            return None
        return self._due[0][0] if self._next_due() else None

    def pending(self, owner: Owner) -> bool:
        """Whether something that the owner wants is not confirmed (also: because it failed, or nothing is known)."""
        if not self._active or owner in self._ready or owner in self._aside:
            return True
        return self._flight is not None and owner in self._flight.entries

    @property
    def synced(self) -> bool:
        """Whether the switch has all that is wanted, failed owners aside."""
        return self._active and not self._ready and self._flight is None

    @property
    def flows(self) -> int:
        """How many of our flows the switch has, as far as it confirmed."""
        return len(self._actual) - self._groups

    @property
    def groups(self) -> int:
        """How many of our groups the switch has, as far as it confirmed."""
        return self._groups

    # How --------------------------------------------------------------------------------------------------------

    @property
    def _active(self) -> bool:
        return self._released and self._connection is not None

    def _compare(self) -> None:
        """Find all that differs. Equal bodies are kept once, as the wanted value's."""
        self._forget_dirt()
        if not self._active:
            return
        self._window = {False: None, True: None}
        found = self._actual
        self._actual = {}
        for key, entry in self.wanted.items():
            body = found.pop(key, None)
            if body == entry.body:
                self._actual[key] = entry.body
                continue
            if body is not None:
                self._actual[key] = body
            self._file(key, self._owner[key])
        for key, body in found.items():
            self._actual[key] = body
            self._file(key, self._no_owner(key))
        for owner, failure in list(self.failed.items()):
            if owner in self._aside:
                self._fail(owner, replace(failure, due=0.0))
            else:
                del self.failed[owner]

    def _forget_dirt(self) -> None:
        self._ready.clear()
        self._aside.clear()
        self._dirty.clear()
        self._due.clear()

    def _judge_all(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._judge(key)

    def _judge(self, key: Key) -> None:
        """File the entry as dirty, or take it off the file."""
        old = self._dirty.pop(key, None)
        if old is not None:
            shelf = self._aside if old in self._aside else self._ready
            shelf[old].pop(key, None)
            if not shelf[old]:
                del shelf[old]
        entry = self.wanted.get(key)
        if entry is not None:
            if entry.body != self._actual.get(key):
                self._file(key, self._owner[key])
        elif key in self._actual:
            self._file(key, self._no_owner(key))
        if old is not None and old not in self._aside and not (self._flight and old in self._flight.entries):
            self.failed.pop(old, None)  # Nothing of it is left to try.

    def _no_owner(self, key: Key) -> Owner:
        """Who stands in for the owner of an entry that goes."""
        if isinstance(key, int):
            return STALE_GROUPS
        return FOREIGN_FLOWS if is_foreign(key, self._actual[key]) else STALE_FLOWS

    def _differs(self, kind: DriftKind, key: Key) -> Difference:
        entry = self.wanted.get(key)
        body = self._actual.get(key) or self.foreign.get(key, b"")
        cookie = entry.cookie if isinstance(entry, Flow) else cookie_of(key, body)
        return Difference(kind, key, self._owner.get(key), cookie)

    def _file(self, key: Key, owner: Owner) -> None:
        shelf = self._aside if owner in self.failed else self._ready
        shelf.setdefault(owner, {})[key] = None
        self._dirty[key] = owner

    def _fail(self, owner: Owner, failure: Failure) -> None:
        self.failed[owner] = failure
        if owner in self._ready:
            self._aside[owner] = self._ready.pop(owner)
        heapq.heappush(self._due, (failure.due, next(self._numbers), owner))

    def _wake_waiting_for_groups(self) -> None:
        """Groups came: owners whose flows were refused for want of one are due at once."""
        for owner, failure in self.failed.items():
            if any(refusal.name == NO_SUCH_GROUP for refusal in failure.refusals.values()):
                self._fail(owner, replace(failure, due=0.0))

    def _next_due(self) -> bool:
        """Whether the first on the list of failed owners is a true entry, after throwing outdated ones away."""
        while self._due:
            due, _, owner = self._due[0]
            if owner in self._aside and self.failed[owner].due == due:
                return True
            heapq.heappop(self._due)
        return False

    def _take_due(self, now: float) -> dict[Owner, dict[Key, None]]:
        """The failed owners whose time has come, as many as may go together."""
        window = self._window[True]
        taken: dict[Owner, dict[Key, None]] = {}
        while self._next_due() and self._due[0][0] <= now and (window is None or len(taken) < window):
            owner = heapq.heappop(self._due)[2]
            taken[owner] = self._aside[owner]
        return taken

    def _rearrange(self) -> None:
        """Fewer owners per batch from now on: deletions of flows go first, for they make room; then owners of groups,
        for flows may refer to those. Deletions of groups wait until everybody else has gone."""
        ready = self._ready
        with_groups = {owner: keys for owner, keys in ready.items() if any(isinstance(key, int) for key in keys)}
        room = {owner: ready[owner] for owner in (FOREIGN_FLOWS, STALE_FLOWS) if owner in ready}
        self._ready = {**room, **with_groups, **ready}

    def _depart(self, entries: Mapping[Owner, Mapping[Key, None]], again: bool = False) -> Batch:
        """Make the batch of these dirty entries and hold it to be in flight."""
        assert self._connection is not None
        taken = {owner: list(keys) for owner, keys in entries.items()}
        keys = [key for group in taken.values() for key in group]
        flows: list[Flow] = []
        leaves: list[GroupEntry] = []
        roots: list[GroupEntry] = []
        stale: list[bytes] = []
        foreign: list[bytes] = []
        dropped: list[int] = []
        for key in keys:
            del self._dirty[key]
            entry = self.wanted.get(key)
            if isinstance(entry, Flow):
                flows.append(entry)
            elif entry is not None:
                (roots if _refers(entry) else leaves).append(entry)
            elif isinstance(key, bytes):
                (foreign if is_foreign(key, self._actual.get(key, _UNSURE)) else stale).append(key)
            else:
                dropped.append(key)
        for owner in taken:
            self._ready.pop(owner, None)
            self._aside.pop(owner, None)
        number, groups = next(self._numbers), (*leaves, *roots)
        batch = Batch(number, self._connection, groups, tuple(stale), tuple(flows), tuple(dropped), tuple(foreign))
        endangered = [key for key in self._dirty if isinstance(key, bytes)] if dropped else []
        if self._touched is not None:
            self._touched.update(dict.fromkeys((*keys, *endangered)))
        self._flight = _Flight(batch, taken, again, endangered)
        return batch

    def _land(self, batch_id: int) -> _Flight | None:
        flight = self._flight
        if flight is None or flight.batch.id != batch_id:
            return None
        self._flight = None
        return flight


def _refers(group: GroupEntry) -> bool:
    """Whether the group refers to others, which must be there before it."""
    return any(isinstance(action, ToGroup) for bucket in group.buckets for action in bucket.actions)
