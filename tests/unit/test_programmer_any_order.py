"""The programmer's law: whatever happens, the switch ends with exactly what is wanted, failed owners aside."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openflow.batch import Batch, Key
from openflow.flow import Flow, GroupEntry
from openflow.programmer import LAST_RETRY, Programmer
from tests.unit.switch_model import BAD, FOREIGN_GROUP, G3, G5, Model, answer, flow, group, referred, settle

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
