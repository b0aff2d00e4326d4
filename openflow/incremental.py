"""The engine: facts in, the difference of flows out. Incremental by construction.

Every flow has an *owner* (an endpoint, a segment, a host, a MAC or an address on a segment, a policy, or the base of it
all), and a compiler per kind of owner computes the owner's flows from what it reads through a `View`. The engine
remembers what each owner read. A change of facts touches nodes; dirty are exactly the owners that read one of them, and
the owner that a touched node itself names (birth and death). Nothing else is ever invalidated, by hand or otherwise.

The law, held by a stateful property test: after any sequence of changes, in any order, the engine equals a fresh one
that was told the final facts. It follows from three rules: compilers are pure functions of what they read; flows that
several owners want under one key go to the least owner, not to the first; and state depends on facts only.

A compiler's or a fact's error (`ValueError`, which `BadFlow` is) is its own: that owner has no flows, `failed` says
why, and nobody else notices. Pure: no I/O, no clock; one thread, the caller's.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from openflow.compilers import BASE, COMPILERS
from openflow.facts import Fact, Posture, name
from openflow.flow import Flow, GroupEntry
from openflow.relations import Node, Row, View, rows
from selvedge.topology import Endpoint, Host, Ref

Owner = Node
"""`("base",)`, `("segment", id)`, `("endpoint", id)`, `("host", id)`, `("station", segment, mac)`,
`("address", segment, version, value)`, `("policy", number)`."""

Key = bytes | int
"""A flow's key or a group's id."""

Entry = Flow | GroupEntry


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed since the last one: the new state of each flow key and group id, None when it is gone.

    `owners` names the owner of each one that is not gone. `compiled` are the owners whose compiler ran.
    """

    flows: Mapping[bytes, Flow | None]
    groups: Mapping[int, GroupEntry | None]
    owners: Mapping[Key, Owner]
    compiled: frozenset[Owner] = field(default=frozenset(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.flows or self.groups)


class Engine:
    """The desired flows and groups of one bridge, as a function of the facts."""

    def __init__(self) -> None:
        self.compilations = 0
        """How often a compiler ran for an owner."""
        self.failed: dict[Owner, str] = {}
        """Owners that have no flows because their compiler refused its input, and why."""
        self.malformed: dict[Node, str] = {}
        """Facts that nothing follows from because they cannot be understood, and why."""
        self._facts: dict[Node, Fact] = {}
        self._misunderstood: dict[Node, Fact] = {}
        self._index: dict[Node, dict[object, int]] = {}
        self._touched: set[Node] = {BASE}
        self._reads: dict[Owner, set[Node]] = {}
        self._readers: dict[Node, set[Owner]] = {}
        self._made: dict[Owner, dict[Key, Entry]] = {}
        self._winner: dict[Key, Owner] = {}
        self._contested: dict[Key, set[Owner]] = {}
        self._ends: dict[Owner, str] = {}

    # Facts in -----------------------------------------------------------------------------------------------------

    def apply(self, upserts: Iterable[Fact], deletes: Iterable[Ref] = ()) -> None:
        """Take new states of facts, deletes first. Order does not matter beyond that, and equal states cost nothing."""
        for ref in deletes:
            self._replace(ref, None)
        for fact in upserts:
            self._replace(name(fact), fact)

    def _replace(self, ref: Ref, new: Fact | None) -> None:
        old = self._facts.get(ref)
        if new == (old or self._misunderstood.get(ref)):
            return
        self._touched.add(ref)
        before = set() if old is None else set(rows(old))
        after: set[Row] = set()
        self.malformed.pop(ref, None)
        self._misunderstood.pop(ref, None)
        if new is not None:
            try:
                after = set(rows(new))
            except ValueError as error:
                # It is as if it were not there, so that nobody who reads it stumbles over it.
                self.malformed[ref], self._misunderstood[ref] = str(error), new
                new = None
        if new is not None:
            self._facts[ref] = new
        elif old is not None:
            del self._facts[ref]
        for node, value in before - after:
            values = self._index[node]
            values[value] -= 1
            if not values[value]:
                del values[value]
                self._touched.add(node)
                if not values:
                    del self._index[node]
        for node, value in after - before:
            values = self._index.setdefault(node, {})
            if value not in values:
                self._touched.add(node)
            values[value] = values.get(value, 0) + 1

    # Flows out ----------------------------------------------------------------------------------------------------

    def recompute(self) -> Delta:
        """Compile what the changes since the last call concern; return what became different."""
        touched, self._touched = self._touched, set()
        dirty: set[Owner] = set()
        for node in touched:
            dirty.update(self._readers.get(node, ()))
            if node[0] in COMPILERS and self._concerned(node):
                dirty.add(node)
        before: dict[Key, tuple[Owner, Entry] | None] = {}
        self.compilations += len(dirty)
        for owner in dirty:
            self._settle(owner, self._compile(owner), before)
        flows: dict[bytes, Flow | None] = {}
        groups: dict[int, GroupEntry | None] = {}
        owners: dict[Key, Owner] = {}
        for key, old in before.items():
            new = self._current(key)
            if old is not None and new is not None and old[0] == new[0] and _same(old[1], new[1]):
                continue
            if new is not None:
                owners[key] = new[0]
            if isinstance(key, int):
                groups[key] = None if new is None else _group(new[1])
            else:
                flows[key] = None if new is None else _flow(new[1])
        return Delta(flows, groups, owners, frozenset(dirty))

    def _concerned(self, owner: Owner) -> bool:
        """Whether an owner is there, or left anything: who came and went between two compilations did not."""
        known = (self._facts, self._index, self._made, self._reads, self.failed)
        return owner == BASE or any(owner in one for one in known)

    def _compile(self, owner: Owner) -> dict[Key, Entry]:
        """The owner's flows and groups now; also renews what the engine knows of its reads."""
        made: dict[Key, Entry] = {}
        self.failed.pop(owner, None)
        if owner in self._facts or owner in self._index or owner == BASE:
            view = View(self._facts, self._index)
            try:
                old = self._made.get(owner, {})
                for entry in COMPILERS[owner[0]](view, owner):
                    made.setdefault(entry.key, _written(entry, old.get(entry.key)))
            except ValueError as error:
                self.failed[owner] = str(error)
                made = {}
            self._remember(owner, view.reads)
        else:
            self._remember(owner, set())
        return made

    def _remember(self, owner: Owner, reads: set[Node]) -> None:
        """Keep the index of readers: node → owners that read it."""
        known = self._reads.get(owner, set())
        if reads == known:
            return
        for node in known - reads:
            readers = self._readers[node]
            readers.discard(owner)
            if not readers:
                del self._readers[node]
        for node in reads - known:
            self._readers.setdefault(node, set()).add(owner)
        if reads:
            self._reads[owner] = reads
        else:
            self._reads.pop(owner, None)

    def _settle(self, owner: Owner, made: dict[Key, Entry], before: dict[Key, tuple[Owner, Entry] | None]) -> None:
        """Put what an owner made in the place of what it made before; note in `before` what each key was."""
        old = self._made.get(owner, {})
        for key in old:
            if key not in made:
                before.setdefault(key, self._current(key))
                self._withdraw(owner, key)
        for key, entry in made.items():
            previous = old.get(key)
            if previous is None:
                before.setdefault(key, self._current(key))
                self._enter(owner, key)
            elif not _same(previous, entry):
                before.setdefault(key, self._current(key))
        if made:
            self._made[owner] = made
        else:
            self._made.pop(owner, None)
        if owner[0] == "host":
            self._note_end(owner)

    def _note_end(self, owner: Owner) -> None:
        host = self._facts.get(owner)
        if owner in self._made and isinstance(host, Host):
            self._ends[owner] = host.tunnel_ip
        else:
            self._ends.pop(owner, None)

    # Who wins a key that several owners want ----------------------------------------------------------------------

    def _current(self, key: Key) -> tuple[Owner, Entry] | None:
        winner = self._winner.get(key)
        return None if winner is None else (winner, self._made[winner][key])

    def _enter(self, owner: Owner, key: Key) -> None:
        winner = self._winner.setdefault(key, owner)
        if winner != owner:
            rivals = self._contested.setdefault(key, {winner})
            rivals.add(owner)
            self._winner[key] = min(rivals, key=_rank)

    def _withdraw(self, owner: Owner, key: Key) -> None:
        rivals = self._contested.get(key)
        if rivals is None:
            del self._winner[key]
            return
        rivals.discard(owner)
        self._winner[key] = min(rivals, key=_rank)
        if len(rivals) == 1:
            del self._contested[key]

    # What there is ------------------------------------------------------------------------------------------------

    @property
    def contested(self) -> int:
        """How many flow keys and group ids several owners want."""
        return len(self._contested)

    @property
    def peers(self) -> Set[str]:
        """The tunnel end points (as text) of the hosts that we have tunnel flows for."""
        return set(self._ends.values())

    def flows(self) -> dict[bytes, Flow]:
        """All desired flows by key."""
        return {key: _flow(self._made[owner][key]) for key, owner in self._winner.items() if isinstance(key, bytes)}

    def groups(self) -> dict[int, GroupEntry]:
        """All desired groups by id."""
        return {key: _group(self._made[owner][key]) for key, owner in self._winner.items() if isinstance(key, int)}

    def owners(self) -> dict[Key, Owner]:
        """The owner of each desired flow and group."""
        return dict(self._winner)

    def facts(self) -> dict[Node, Fact]:
        """The newest state of every fact, malformed or not."""
        return {**self._misunderstood, **self._facts}

    def fact(self, ref: Ref) -> Fact | None:
        """The newest state of a fact, malformed or not."""
        return self._facts.get(ref) or self._misunderstood.get(ref)

    def owners_of(self, endpoint: str) -> tuple[Owner, ...]:
        """The owners of all that a port's traffic depends on here: a port is wired when none of them is pending."""
        ref = Ref("endpoint", endpoint)
        fact = self._facts.get(ref)
        if not isinstance(fact, Endpoint):
            return (ref,) if ref in self.malformed else ()
        wanted = {node: None for node, _ in rows(fact) if node[0] in COMPILERS}
        posture = self._facts.get(Ref("posture", endpoint))
        policies = [("policy", posture.policy)] if isinstance(posture, Posture) else []
        return (ref, Ref("segment", fact.segment), BASE, *wanted, *policies)


def _written(entry: Entry, old: Entry | None) -> Entry:
    """The entry with its bytes, so that one which cannot be written is its owner's failure (`BadFlow`) here and now.

    A group whose buckets did not change is the old one: of a large segment's leaves only one has new bytes to write.
    """
    if isinstance(entry, GroupEntry) and isinstance(old, GroupEntry) and entry.buckets == old.buckets:
        return old
    assert entry.body
    return entry


def _same(old: Entry, new: Entry) -> bool:
    return old is new or old.body == new.body


def _rank(owner: Owner) -> tuple[str, ...]:
    """A total order of owners that does not depend on who came first."""
    return tuple(map(str, owner))


def _flow(entry: Entry) -> Flow:
    assert isinstance(entry, Flow)
    return entry


def _group(entry: Entry) -> GroupEntry:
    assert isinstance(entry, GroupEntry)
    return entry
