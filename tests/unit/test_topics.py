"""The replica of topics against a model of the log, under loss, duplication, reordering and delay."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agents.topics import HELD_OBJECTS, HOLD, NOTHING, Change, Request, Topics, _weight
from selvedge.rpc import SubscribeReply
from selvedge.topics import Snapshot, Update
from selvedge.topology import Binding, Object, Ref, ref

TOPIC = "host/hv1"
OTHER = "host/hv2"


def port(name: str, segment: str = "s1") -> Binding:
    return Binding(name, segment)


def update(version: int, *upserts: Object, gone: tuple[str, ...] = (), topic: str = TOPIC) -> Update:
    return Update(topic, version, upserts, tuple(Ref("binding", name) for name in gone))


def snapshot(version: int, *objects: Object, topic: str = TOPIC) -> Snapshot:
    return Snapshot(topic, version, objects)


def synced(version: int = 3, *objects: Object) -> Topics:
    """Topics with one topic, in sync at `version`."""
    topics = Topics()
    topics.set_interest([TOPIC])
    assert topics.request(0.0) == Request({TOPIC: 0}, ())
    topics.answer(SubscribeReply((snapshot(version, *objects),)), 0.0)
    assert topics.synced
    return topics


def test_a_new_topic_is_asked_for_once_and_its_answer_brings_its_objects() -> None:
    topics = Topics()
    topics.set_interest([TOPIC])
    assert topics.deadline() == 0.0 and not topics.synced
    assert topics.request(0.0) == Request({TOPIC: 0}, ())
    assert topics.request(0.0) is None and topics.deadline() is None
    assert topics.answer(SubscribeReply((snapshot(3, port("a")),)), 0.1) == Change((port("a"),), ())
    assert topics.versions() == {TOPIC: 3} and topics.synced


def test_the_next_version_applies_and_an_old_one_does_nothing() -> None:
    topics = synced(3, port("a"))
    assert topics.update(update(4, port("b"), gone=("a",)), 1.0) == Change((port("b"),), (Ref("binding", "a"),))
    assert topics.update(update(4, port("c")), 1.0) is NOTHING
    assert topics.update(update(2, port("c")), 1.0) is NOTHING
    assert list(topics[TOPIC].objects.values()) == [port("b")]
    assert topics.counters.duplicates == 2


def test_a_state_that_is_no_news_changes_nothing() -> None:
    topics = synced(3, port("a"))
    assert topics.update(update(4, port("a"), gone=("x",)), 1.0) is NOTHING
    assert topics.versions() == {TOPIC: 4}


def test_crossing_messages_are_put_in_order_without_a_request() -> None:
    topics = synced(3)
    assert topics.update(update(5, port("b")), 1.0) is NOTHING
    assert topics.deadline() == 1.0 + HOLD and topics.request(1.0) is None
    assert topics.update(update(4, port("a")), 1.05) == Change((port("a"), port("b")), ())
    assert topics.deadline() is None and topics.request(9.0) is None


def test_one_gap_may_hide_another() -> None:
    topics = synced(3)
    topics.update(update(7, port("d")), 1.0)
    topics.update(update(5, port("b")), 1.0)
    assert topics.update(update(4, port("a")), 1.05) == Change((port("a"), port("b")), ())
    assert topics.deadline() == 1.05 + HOLD
    assert topics.request(1.05 + HOLD) == Request({TOPIC: 5}, ())


def test_a_gap_that_stays_is_asked_for_after_its_time() -> None:
    topics = synced(3)
    topics.update(update(5, port("b")), 1.0)
    assert topics.request(1.0 + HOLD) == Request({TOPIC: 3}, ())
    change = topics.answer(SubscribeReply((snapshot(5, port("a"), port("b")),)), 1.2)
    assert set(change.upserts) == {port("a"), port("b")}
    assert topics.versions() == {TOPIC: 5} and topics.counters.gaps == 1


def test_updates_that_overtake_the_answer_win_over_it() -> None:
    topics = synced(3)
    topics.lost()
    assert topics.request(1.0) == Request({TOPIC: 3}, ())
    topics.update(update(4, port("a")), 1.0)
    topics.update(update(5, gone=("a",)), 1.0)
    assert topics.answer(SubscribeReply((snapshot(4, port("a")),)), 1.1) is NOTHING
    assert topics.versions() == {TOPIC: 5}


def test_updates_before_the_first_answer_wait_for_it() -> None:
    topics = Topics()
    topics.set_interest([TOPIC])
    topics.request(0.0)
    assert topics.update(update(8, port("c")), 0.0) is NOTHING
    change = topics.answer(SubscribeReply((snapshot(7, port("a")),)), 0.1)
    assert set(change.upserts) == {port("a"), port("c")} and topics.versions() == {TOPIC: 8}


def test_a_restored_database_is_followed_backwards_and_what_it_never_sent_is_forgotten() -> None:
    topics = synced(10, port("a"), port("b"))
    topics.update(update(12, port("z")), 1.0)
    assert topics.request(2.0) == Request({TOPIC: 10}, ())
    assert topics.answer(SubscribeReply((snapshot(7, port("a")),)), 2.1) == Change((), (Ref("binding", "b"),))
    assert topics.versions() == {TOPIC: 7} and topics.request(9.0) is None


def test_a_topic_that_is_no_more_is_empty() -> None:
    topics = synced(10, port("a"))
    topics.lost()
    topics.request(1.0)
    assert topics.answer(SubscribeReply((snapshot(0),)), 1.1) == Change((), (Ref("binding", "a"),))
    assert topics.versions() == {TOPIC: 0}


def test_losing_interest_deletes_the_objects_and_unbinds_the_topic() -> None:
    topics = synced(3, port("a"))
    assert topics.set_interest([OTHER]) == Change((), (Ref("binding", "a"),))
    assert topics.request(1.0) == Request({OTHER: 0}, (TOPIC,))


def test_interest_lost_while_the_question_is_under_way_unbinds_again() -> None:
    topics = Topics()
    topics.set_interest([TOPIC])
    topics.request(0.0)
    topics.set_interest([])
    assert topics.answer(SubscribeReply((snapshot(3, port("a")),)), 0.1) is NOTHING
    assert topics.request(0.2) == Request({}, (TOPIC,))


def test_a_failed_question_is_asked_again_with_all_it_had() -> None:
    topics = synced(3)
    topics.set_interest([OTHER])
    assert topics.request(1.0) == Request({OTHER: 0}, (TOPIC,))
    topics.failed()
    assert topics.request(1.0) == Request({OTHER: 0}, (TOPIC,))


def test_messages_of_unwanted_topics_lead_to_one_request_to_drop_them() -> None:
    topics = synced(3)
    for version in (1, 2, 3):
        assert topics.update(update(version, port("x"), topic=OTHER), 1.0) is NOTHING
    assert topics.request(1.0) == Request({}, (OTHER,))
    topics.update(update(4, topic=OTHER), 1.0)
    topics.answer(SubscribeReply(), 1.1)
    topics.update(update(5, topic=OTHER), 1.2)
    assert topics.request(1.3) is None, "the queue's leftovers are no reason to ask"
    topics.update(update(6, topic=OTHER), 99.0)
    assert topics.request(99.0) == Request({}, (OTHER,)), "but it seems to be bound still"


def test_a_stale_topic_is_asked_for_unless_it_moves_by_itself() -> None:
    topics = synced(3)
    topics.suspect({TOPIC: 3}, [TOPIC, OTHER], 1.0)
    assert topics.deadline() == 1.0 + HOLD
    topics.update(update(4), 1.05)
    assert topics.deadline() is None
    topics.suspect({TOPIC: 3}, [TOPIC], 2.0)
    assert topics.deadline() is None, "what was reported is not what is known now"
    topics.suspect({TOPIC: 4}, [TOPIC], 3.0)
    assert topics.request(3.0 + HOLD) == Request({TOPIC: 4}, ())


def test_what_is_held_is_bounded_and_heals_after_overflow() -> None:
    topics = synced(3)
    for version in range(5, 3 * HELD_OBJECTS):
        topics.update(update(version, port("a")), 1.0)
    assert topics[TOPIC]._held_weight <= HELD_OBJECTS
    assert topics.counters.overflows > 0
    topics.request(2.0)
    topics.answer(SubscribeReply((snapshot(3 * HELD_OBJECTS, port("b")),)), 2.1)
    assert topics.versions() == {TOPIC: 3 * HELD_OBJECTS} and topics[TOPIC]._held == {}


NAMES = st.sampled_from(["a", "b", "c"])
TOPICS = [TOPIC, OTHER]


class Log:
    """What a controller's database knows of one topic."""

    def __init__(self) -> None:
        self.version = 0
        self.objects: dict[Ref, Object] = {}


class Convergence(RuleBasedStateMachine):
    """A controller, a network that loses, doubles and mixes up, and a receiver. When it calms down, they agree."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.logs = {name: Log() for name in TOPICS}
        self.bound: set[str] = set()
        self.air: list[Update] = []
        self.request: Request | None = None
        self.reply: SubscribeReply | None = None
        self.topics = Topics()
        self.topics.set_interest(TOPICS)
        self.seen: dict[Ref, Any] = {}

    def take(self, change: Change) -> None:
        names = [ref(thing) for thing in change.upserts]
        assert not set(names) & set(change.deletes)
        for name in change.deletes:
            del self.seen[name]
        for name, thing in zip(names, change.upserts, strict=True):
            assert self.seen.get(name) != thing
            self.seen[name] = thing

    @rule(topic=st.sampled_from(TOPICS), name=NAMES, state=st.sampled_from([None, "s1", "s2"]), send=st.booleans())
    def commit(self, topic: str, name: str, state: str | None, send: bool) -> None:
        log = self.logs[topic]
        log.version += 1
        thing = port(f"{topic}/{name}", state or "")
        if state is None:
            log.objects.pop(ref(thing), None)
            message = update(log.version, gone=(thing.id,), topic=topic)
        else:
            log.objects[ref(thing)] = thing
            message = update(log.version, thing, topic=topic)
        if topic in self.bound and send:
            self.air.append(message)

    @precondition(lambda self: self.air)
    @rule(data=st.data(), keep=st.booleans())
    def deliver(self, data: st.DataObject, keep: bool) -> None:
        index = data.draw(st.integers(0, len(self.air) - 1))
        message = self.air[index] if keep else self.air.pop(index)
        self.take(self.topics.update(message, self.now))

    @rule(seconds=st.sampled_from([0.01, HOLD, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def ask(self) -> None:
        self.request = self.topics.request(self.now) or self.request

    @precondition(lambda self: self.request and not self.reply)
    @rule()
    def read(self) -> None:
        """The controller binds and reads; the answer takes its time."""
        assert self.request
        self.bound |= self.request.topics.keys()
        self.bound -= set(self.request.drop)
        logs = [
            (name, self.logs[name]) for name, known in self.request.topics.items() if self.logs[name].version != known
        ]
        self.reply = SubscribeReply(
            tuple(snapshot(log.version, *log.objects.values(), topic=name) for name, log in logs)
        )

    @precondition(lambda self: self.reply)
    @rule()
    def hear(self) -> None:
        assert self.reply
        reply, self.reply, self.request = self.reply, None, None
        self.take(self.topics.answer(reply, self.now))

    @precondition(lambda self: self.request and not self.reply)
    @rule()
    def fail(self) -> None:
        self.request = None
        self.topics.failed()

    @rule()
    def lose_the_queue(self) -> None:
        self.bound.clear()
        self.air.clear()
        self.topics.lost()

    @rule(names=st.sets(st.sampled_from(TOPICS)))
    def change_interest(self, names: set[str]) -> None:
        self.take(self.topics.set_interest(names))

    @invariant()
    def objects_are_what_was_told(self) -> None:
        held = {
            name: thing
            for topic in TOPICS
            if topic in self.topics
            for name, thing in self.topics[topic].objects.items()
        }
        assert held == self.seen

    @invariant()
    def buffers_are_bounded(self) -> None:
        for topic in TOPICS:
            if topic in self.topics:
                state = self.topics[topic]
                assert state._held_weight == sum(map(_weight, state._held.values())) <= HELD_OBJECTS
                assert all(version > state.version + 1 for version in state._held)

    def teardown(self) -> None:
        """Calm: no message is lost any more, reports are answered, questions too. Everything agrees soon."""
        self.topics.set_interest(TOPICS)
        for _ in range(6):
            self.now += 2 * HOLD
            self.ask()
            if self.request and not self.reply:
                self.read()
            if self.reply:
                self.hear()
            while self.air:
                self.take(self.topics.update(self.air.pop(), self.now))
            known = self.topics.versions()
            stale = [name for name, version in known.items() if version != self.logs[name].version]
            self.topics.suspect(known, stale, self.now)
        for name, log in self.logs.items():
            assert self.topics[name].version == log.version
            assert self.topics[name].objects == log.objects
        assert self.topics.synced and self.topics.deadline() is None
        assert self.bound == set(TOPICS)


TestConvergence = Convergence.TestCase
TestConvergence.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
