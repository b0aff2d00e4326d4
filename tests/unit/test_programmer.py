"""The programmer against a model of the switch.

The model does what was measured on Open vSwitch: bad entries are refused when they are added, all of them; a full table
or a missing group is noticed at the commit, which names the first entry concerned; a group that is deleted takes the
flows that refer to it along. Whatever happens on the way, the switch ends with exactly what is wanted, failed owners
aside.
"""

from functools import cache

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openflow.batch import Batch, Confirmed, Connected, Key, Refusal, Rejected
from openflow.flow import Bucket, Flow, GroupEntry, Output, ToGroup, match
from openflow.pipeline import FIRST_GROUP
from openflow.programmer import FIRST_RETRY, LAST_RETRY, Programmer

BAD_PORT = Refusal("OFPBAC_BAD_OUT_PORT", 2, 4)
NO_GROUP = Refusal("OFPBAC_BAD_OUT_GROUP", 2, 9)
TABLE_FULL = Refusal("OFPFMFC_TABLE_FULL", 5, 1)
COMMIT_FAILED = Refusal("OFPBFC_MSG_FAILED", 17, 7)

FOREIGN_GROUP = 5
G3, G5, G9 = FIRST_GROUP + 3, FIRST_GROUP + 5, FIRST_GROUP + 9
BAD = 13
"""The output port that the model refuses when told to."""


@cache
def flow(number: int, port: int = 1, group: int | None = None) -> Flow:
    action = Output(port) if group is None else ToGroup(group)
    return Flow(0, 100, 0x5E << 56 | number, match(in_port=number + 1), (action,))


@cache
def group(number: int, port: int = 1, leaf: int | None = None) -> GroupEntry:
    return GroupEntry(number, (Bucket((Output(port) if leaf is None else ToGroup(leaf),)),))


class Model:
    """A switch: entries by key, what it refuses, and how many flows it holds at most."""

    def __init__(self) -> None:
        self.flows: dict[bytes, Flow] = {}
        self.groups: dict[int, GroupEntry] = {FOREIGN_GROUP: group(FOREIGN_GROUP)}
        self.refuses = False
        self.limit = 1000
        self.silent_commit = False
        self.received = 0

    def dump(self, connection: int) -> Connected:
        return Connected(
            connection,
            {key: entry.body for key, entry in self.flows.items()},
            {number: entry.body for number, entry in self.groups.items()},
        )

    def bad(self, entry: Flow | GroupEntry) -> bool:
        actions = entry.actions if isinstance(entry, Flow) else tuple(a for b in entry.buckets for a in b.actions)
        return self.refuses and Output(BAD) in actions

    def apply(self, batch: Batch) -> Confirmed | Rejected:
        self.received += len(batch)
        entries: list[GroupEntry | Flow] = [*batch.groups, *batch.flows]
        failures = [(entry.key, BAD_PORT) for entry in entries if self.bad(entry)]
        if failures:
            return Rejected(batch.id, tuple(failures))
        flows = {key: entry for key, entry in self.flows.items() if key not in batch.stale}
        groups = {**self.groups, **{entry.id: entry for entry in batch.groups}}
        for added in batch.flows:
            full = added.key not in flows and len(flows) >= self.limit
            if full or any(number not in groups for number in referred(added)):
                named = () if self.silent_commit else ((added.key, TABLE_FULL if full else NO_GROUP),)
                return Rejected(batch.id, named, COMMIT_FAILED)
            flows[added.key] = added
        for number in batch.dropped:
            del groups[number]
            flows = {key: entry for key, entry in flows.items() if number not in referred(entry)}
        self.flows, self.groups = flows, groups
        return Confirmed(batch.id)


def referred(entry: Flow) -> list[int]:
    """The groups that a flow gives packets to."""
    return [action.id for action in entry.actions if isinstance(action, ToGroup)]


def answer(programmer: Programmer, reply: Confirmed | Rejected, now: float) -> set[object]:
    if isinstance(reply, Confirmed):
        return set(programmer.confirmed(reply.batch_id))
    return set(programmer.rejected(reply, now))


def settle(programmer: Programmer, model: Model, now: float = 0.0) -> list[Batch]:
    """Let it send until it has nothing more to send at this time; the batches it sent."""
    batches: list[Batch] = []
    while (batch := programmer.next_batch(now)) is not None:
        batches.append(batch)
        answer(programmer, model.apply(batch), now)
        assert len(batches) < 5000, "the programmer sends for ever"
    return batches


def started(model: Model) -> Programmer:
    programmer = Programmer()
    programmer.connected(model.dump(1))
    programmer.release()
    return programmer


def test_nothing_is_sent_before_release() -> None:
    """An agent starts beside a working data plane: it neither deletes nor adds until it is released, then both."""
    model = Model()
    model.flows = {flow(7).key: flow(7), flow(1).key: flow(1)}
    programmer = Programmer()
    programmer.change({flow(1).key: flow(1), flow(2).key: flow(2)}, {}, {})
    programmer.connected(model.dump(1))
    assert (programmer.next_batch(0), programmer.synced) == (None, False)
    programmer.release()
    (batch,) = settle(programmer, model)
    assert (batch.stale, batch.flows) == ((flow(7).key,), (flow(2),))
    assert programmer.synced
    assert programmer.flows == 2


def test_resync_without_difference_sends_nothing() -> None:
    """Connected anew to a switch that has everything: no batch at all; foreign groups do not count."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1)}, {G5: group(G5)}, {})
    settle(programmer, model)
    programmer.disconnected()
    assert programmer.next_batch(0) is None
    programmer.connected(model.dump(2))
    assert programmer.next_batch(0) is None
    assert programmer.synced
    assert (programmer.flows, programmer.groups) == (1, 1)


def test_switch_restart_replays_everything() -> None:
    """The switch comes back empty: one batch holds all flows and groups."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(n).key: flow(n) for n in range(20)}, {G5: group(G5)}, {})
    settle(programmer, model)
    programmer.disconnected()
    model.flows, model.groups = {}, {}
    programmer.connected(model.dump(2))
    (batch,) = settle(programmer, model)
    assert (len(batch.flows), len(batch.groups), batch.connection) == (20, 1, 2)


def test_order_within_a_batch() -> None:
    """Leaf groups come before roots whatever their numbers, and a group that goes is deleted after everything."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1, group=G3)}, {G3: group(G3, leaf=G9), G9: group(G9)}, {})
    (first,) = settle(programmer, model)
    assert [entry.id for entry in first.groups] == [G9, G3]
    programmer.change({flow(1).key: flow(1)}, {G3: None, G9: None}, {})
    (second,) = settle(programmer, model)
    assert list(second.keys()) == [flow(1).key, G3, G9]
    assert (list(model.flows.values()), list(model.groups)) == ([flow(1)], [FOREIGN_GROUP])


def test_one_batch_in_flight_and_changes_gather() -> None:
    """While a batch is in flight nothing is sent; what changed meanwhile goes together, once, in its newest state."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1)}, {}, {flow(1).key: "a"})
    first = programmer.next_batch(0)
    assert first is not None
    for port in (2, 3, 4):
        programmer.change({flow(1).key: flow(1, port), flow(2).key: flow(2, port)}, {}, {flow(1).key: "a"})
        assert programmer.next_batch(0) is None
    assert programmer.pending("a")
    assert answer(programmer, model.apply(first), 0) == set(), "the owner has changed again and is not settled"
    (second,) = settle(programmer, model)
    assert set(second.flows) == {flow(1, 4), flow(2, 4)}
    assert not programmer.pending("a")


def test_refused_owner_fails_alone_and_is_tried_again() -> None:
    """One owner's flow is refused: all others go in the very next batch, it keeps what it had, and backs off."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1)}, {}, {flow(1).key: "bad"})
    settle(programmer, model)
    model.refuses = True
    owners: dict[Key, str] = {flow(n).key: "bad" if n < 3 else f"good{n}" for n in range(10)}
    programmer.change({flow(n).key: flow(n, BAD if n == 2 else 4) for n in range(10)}, {}, owners)
    batches = settle(programmer, model, now=100.0)
    assert [len(batch.flows) for batch in batches] == [10, 7]
    assert model.flows[flow(1).key] == flow(1)
    failure = programmer.failed["bad"]
    assert dict(failure.refusals) == {flow(2).key: BAD_PORT}
    assert programmer.synced
    assert programmer.pending("bad")
    waits = []
    now = 100.0
    for _ in range(9):
        due = programmer.next_retry()
        assert due is not None
        waits.append(due - now)
        now = due
        assert programmer.next_batch(now - 0.001) is None
        (batch,) = settle(programmer, model, now)
        assert {entry.key for entry in batch.flows} == {flow(n).key for n in range(3)}
    assert waits == [min(LAST_RETRY, FIRST_RETRY * 2**n) for n in range(9)]
    model.refuses = False
    settle(programmer, model, now + LAST_RETRY)
    assert not programmer.failed
    assert len(model.flows) == 10


def test_failed_owner_is_tried_at_once_when_it_changes() -> None:
    """The tenant mends what was refused: no back-off holds it up. Taking it away forgets the failure."""
    model = Model()
    model.refuses = True
    programmer = started(model)
    programmer.change({flow(1).key: flow(1, BAD)}, {}, {flow(1).key: "a"})
    settle(programmer, model)
    assert "a" in programmer.failed
    programmer.change({flow(1).key: flow(1, 2)}, {}, {flow(1).key: "a"})
    settle(programmer, model)
    assert list(model.flows.values()) == [flow(1, 2)]
    programmer.change({flow(1).key: flow(1, BAD)}, {}, {flow(1).key: "a"})
    settle(programmer, model)
    assert "a" in programmer.failed
    programmer.change({flow(1).key: None}, {}, {})
    settle(programmer, model)
    assert not programmer.failed
    assert not model.flows


def test_stale_flow_of_a_failed_owner_goes() -> None:
    """Security does not wait for a failed owner: what it no longer wants is deleted at once."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1)}, {}, {flow(1).key: "a"})
    settle(programmer, model)
    model.refuses = True
    programmer.change({flow(1).key: None, flow(2).key: flow(2, BAD)}, {}, {flow(2).key: "a"})
    settle(programmer, model)
    assert not model.flows


def test_deleted_group_takes_a_failed_owners_old_flow_along() -> None:
    """A refused change leaves the old flow, whose group goes: should the old flow be wanted again it is sent anew."""
    model = Model()
    programmer = started(model)
    owners: dict[Key, str] = {flow(1).key: "a", G5: "s"}
    programmer.change({flow(1).key: flow(1, group=G5)}, {G5: group(G5)}, owners)
    settle(programmer, model)
    model.refuses = True
    programmer.change({flow(1).key: flow(1, BAD)}, {G5: None}, owners)
    settle(programmer, model)
    assert not model.flows
    programmer.change({flow(1).key: flow(1, group=G5)}, {G5: group(G5)}, owners)
    settle(programmer, model)
    assert list(model.flows.values()) == [flow(1, group=G5)]
    assert programmer.synced


def test_full_table_is_filled_and_the_search_is_short() -> None:
    """A table of 1,000 flows, 3,000 owners: it is filled, the rest fail one by one, and not by whole batches each."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(n).key: flow(n) for n in range(3000)}, {}, {})
    settle(programmer, model)
    assert len(model.flows) == 1000
    assert len(programmer.failed) == 2000
    assert {refusal for failure in programmer.failed.values() for refusal in failure.refusals.values()} == {TABLE_FULL}
    assert model.received < 4 * 3000


def test_unexplained_failure_is_found_by_halving() -> None:
    """The switch says only that the commit failed: the owners that fit get in, and 64 batches find the two guilty."""
    model = Model()
    model.silent_commit = True
    model.limit = 998
    programmer = started(model)
    programmer.change({flow(n).key: flow(n) for n in range(1000)}, {}, {})
    batches = settle(programmer, model)
    assert len(model.flows) == 998
    assert len(programmer.failed) == 2
    assert {refusal.name for f in programmer.failed.values() for refusal in f.refusals.values()} == {COMMIT_FAILED.name}
    assert len(batches) <= 64


def test_flow_waits_for_its_group() -> None:
    """A flow whose group was refused is refused too; when the group comes, the flow need not wait for its turn."""
    model = Model()
    model.refuses = True
    programmer = started(model)
    owners: dict[Key, str] = {flow(1).key: "endpoint", G5: "segment"}
    programmer.change({flow(1).key: flow(1, group=G5)}, {G5: group(G5, BAD)}, owners)
    settle(programmer, model)
    assert set(programmer.failed) == {"endpoint", "segment"}
    programmer.change({}, {G5: group(G5, 3)}, owners)
    settle(programmer, model)
    assert not programmer.failed
    assert list(model.flows.values()) == [flow(1, group=G5)]


def test_change_overtakes_a_refusal() -> None:
    """What was refused has changed while it was in flight: nobody failed, the new value goes at once."""
    model = Model()
    model.refuses = True
    programmer = started(model)
    owners: dict[Key, str] = {flow(1).key: "a"}
    programmer.change({flow(1).key: flow(1, BAD)}, {}, owners)
    batch = programmer.next_batch(0)
    assert batch is not None
    programmer.change({flow(1).key: flow(1, 2)}, {}, owners)
    assert answer(programmer, model.apply(batch), 0) == set()
    settle(programmer, model)
    assert list(model.flows.values()) == [flow(1, 2)]
    assert not programmer.failed


def test_failed_owner_changes_while_it_is_tried_again() -> None:
    """The second try is in flight when the owner wants one flow more, or nothing any more: neither is lost."""
    model = Model()
    model.refuses = True
    programmer = started(model)
    owners: dict[Key, str] = {flow(n).key: "a" for n in range(3)}
    programmer.change({flow(1).key: flow(1, BAD)}, {}, owners)
    settle(programmer, model)
    batch = programmer.next_batch(FIRST_RETRY)
    assert batch is not None
    programmer.change({flow(2).key: flow(2)}, {}, owners)
    model.refuses = False
    assert answer(programmer, model.apply(batch), FIRST_RETRY) == set()
    settle(programmer, model, FIRST_RETRY)
    assert set(model.flows) == {flow(1).key, flow(2).key}

    model.refuses = True
    programmer.change({flow(0).key: flow(0, BAD)}, {}, owners)
    settle(programmer, model, FIRST_RETRY)
    batch = programmer.next_batch(2 * FIRST_RETRY)
    assert batch is not None
    programmer.change({flow(n).key: None for n in range(3)}, {}, {})
    assert answer(programmer, model.apply(batch), 2 * FIRST_RETRY) == set()
    settle(programmer, model, 2 * FIRST_RETRY)
    assert not model.flows
    assert not programmer.failed


def test_groups_are_deleted_last_when_batches_are_small() -> None:
    """After a commit that failed, owners go one by one: no flow may lose its group before its change has arrived."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(n).key: flow(n, group=G5) for n in range(8)}, {G5: group(G5)}, {})
    settle(programmer, model)
    model.limit = 9
    model.silent_commit = True
    programmer.change({flow(n).key: flow(n) for n in range(12)}, {G5: None}, {})
    while (batch := programmer.next_batch(0)) is not None:
        answer(programmer, model.apply(batch), 0)
        assert {flow(n).key for n in range(8)} <= model.flows.keys()
    assert set(model.groups) == {FOREIGN_GROUP}
    assert len(programmer.failed) == 3


def test_owners_that_need_each_others_groups() -> None:
    """Two owners failed, each refers to the other's group: they are tried together, for neither can go alone."""
    model = Model()
    model.refuses = True
    programmer = started(model)
    owners: dict[Key, str] = {flow(1).key: "a", G5: "b", flow(2).key: "b", G3: "a", flow(3).key: "a", flow(4).key: "b"}
    flows = {flow(1).key: flow(1, group=G5), flow(2).key: flow(2, group=G3)}
    programmer.change({**flows, **{flow(n).key: flow(n, BAD) for n in (3, 4)}}, {G3: group(G3), G5: group(G5)}, owners)
    settle(programmer, model)
    assert set(programmer.failed) == {"a", "b"}
    model.refuses = False
    settle(programmer, model, FIRST_RETRY)
    assert not programmer.failed
    assert len(model.flows) == 4


def test_late_answers_are_ignored() -> None:
    """An answer that belongs to the connection before changes nothing."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1)}, {}, {})
    batch = programmer.next_batch(0)
    assert batch is not None
    programmer.connected(model.dump(2))
    assert programmer.confirmed(batch.id) == set()
    assert programmer.rejected(Rejected(batch.id, ((flow(1).key, BAD_PORT),)), 0) == set()
    (again,) = settle(programmer, model)
    assert again.flows == (flow(1),)


KEYS = range(5)
GROUPS = (G3, G5)
OWNERS = "abc"


class AnySequence(RuleBasedStateMachine):
    """Changes, refusals, full tables, lost connections and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.programmer = Programmer()
        self.now = 0.0
        self.connection = 0
        self.up = False
        self.released = False
        self.sent: Batch | None = None
        self.flows: dict[bytes, Flow] = {}
        self.groups: dict[int, GroupEntry] = {}
        self.owners: dict[Key, str] = {}

    @initialize(left=st.dictionaries(st.sampled_from(KEYS), st.integers(1, 3)))
    def former_life(self, left: dict[int, int]) -> None:
        """An agent before this one left flows behind."""
        self.model.flows = {flow(number).key: flow(number, port) for number, port in left.items()}

    @rule(
        flows=st.dictionaries(
            st.sampled_from(KEYS),
            st.none() | st.tuples(st.sampled_from([1, 2, BAD]), st.none() | st.sampled_from(GROUPS)),
            max_size=4,
        ),
        groups=st.dictionaries(
            st.sampled_from(GROUPS), st.none() | st.tuples(st.sampled_from([1, 2, BAD]), st.none()), max_size=2
        ),
        owner=st.sampled_from(OWNERS),
        spread=st.booleans(),
    )
    def change(
        self,
        flows: dict[int, tuple[int, int | None] | None],
        groups: dict[int, tuple[int, None] | None],
        owner: str,
        spread: bool,
    ) -> None:
        new_groups = {n: value and group(n, value[0]) for n, value in groups.items()}
        new_flows = {flow(n).key: value and flow(n, *value) for n, value in flows.items()}
        final = {n: g for n, g in {**self.groups, **new_groups}.items() if g is not None}
        for name, wanted in {
            **self.flows,
            **new_flows,
        }.items():  # Compilers refer to groups that are there.
            if wanted is not None and any(number not in final for number in referred(wanted)):
                new_flows[name] = None
        new_owners: dict[Key, str] = {}
        changed: list[Key] = [*new_flows, *new_groups]
        for i, key in enumerate(changed):
            new_owners[key] = OWNERS[(OWNERS.index(owner) + i) % 3] if spread else owner
        self.programmer.change(new_flows, new_groups, new_owners)
        self.groups = final
        self.flows = {k: f for k, f in {**self.flows, **new_flows}.items() if f is not None}
        self.owners |= new_owners

    @precondition(lambda self: not self.released)
    @rule()
    def release(self) -> None:
        self.released = True
        self.programmer.release()

    @precondition(lambda self: not self.up)
    @rule(restarted=st.booleans())
    def connect(self, restarted: bool) -> None:
        if restarted:
            self.model.flows, self.model.groups = {}, {FOREIGN_GROUP: group(FOREIGN_GROUP)}
        self.up = True
        self.connection += 1
        self.programmer.connected(self.model.dump(self.connection))

    @precondition(lambda self: self.up)
    @rule(arrived=st.booleans())
    def disconnect(self, arrived: bool) -> None:
        """What was in flight may have arrived or not."""
        if self.sent is not None and arrived:
            self.model.apply(self.sent)
        self.sent = None
        self.up = False
        self.programmer.disconnected()

    @precondition(lambda self: self.released and self.up and self.sent is None)
    @rule()
    def exchange(self) -> None:
        """A batch goes and is answered, some time later."""
        self.send(1.0)
        if self.sent is not None:
            self.reply()

    @precondition(lambda self: self.up and self.sent is None)
    @rule(later=st.sampled_from([0.0, 0.5, 5.0]))
    def send(self, later: float) -> None:
        self.now += later
        self.sent = self.programmer.next_batch(self.now)
        assert self.sent is None or self.released
        assert self.sent is None or len(self.sent)

    @precondition(lambda self: self.sent is not None)
    @rule()
    def reply(self) -> None:
        assert self.sent is not None
        reply = self.model.apply(self.sent)
        self.sent = None
        answer(self.programmer, reply, self.now)

    @rule(refuses=st.booleans(), limit=st.sampled_from([2, 4, 1000]), silent=st.booleans())
    def temper(self, refuses: bool, limit: int, silent: bool) -> None:
        self.model.refuses, self.model.limit, self.model.silent_commit = refuses, limit, silent

    @invariant()
    def foreign_is_untouched(self) -> None:
        assert self.model.groups[FOREIGN_GROUP] == group(FOREIGN_GROUP)

    def finish(self) -> None:
        """Let everything arrive, with the switch as moody as it is."""
        if self.sent is not None:
            self.reply()
        if not self.up:
            self.connect(restarted=False)
        self.programmer.release()
        settle(self.programmer, self.model, self.now)

    def missing(self) -> set[str]:
        """The owners who have not all that they want."""
        flows = {self.owners[key] for key, entry in self.flows.items() if self.model.flows.get(key) != entry}
        return flows | {self.owners[key] for key, entry in self.groups.items() if self.model.groups.get(key) != entry}

    def teardown(self) -> None:
        self.finish()
        assert self.missing() == set(self.programmer.failed)
        assert {owner for owner in OWNERS if self.programmer.pending(owner)} == set(self.programmer.failed)
        assert self.model.flows.keys() <= self.flows.keys()
        assert self.model.groups.keys() - {FOREIGN_GROUP} <= self.groups.keys()
        self.model.refuses, self.model.limit = False, 1000
        self.now += LAST_RETRY
        settle(self.programmer, self.model, self.now)
        assert (self.model.flows, not self.programmer.failed) == (self.flows, True)
        assert self.model.groups == {FOREIGN_GROUP: group(FOREIGN_GROUP), **self.groups}
        assert (self.programmer.flows, self.programmer.groups) == (len(self.flows), len(self.groups))
        self.programmer.connected(self.model.dump(self.connection + 1))
        assert self.programmer.next_batch(self.now) is None


AnySequence.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestAnySequence = AnySequence.TestCase
