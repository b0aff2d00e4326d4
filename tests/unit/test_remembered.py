"""The last known topology as bytes: what is written is read, and what is damaged is never made up."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import remembered
from agents.remembered import MAGIC, Forgotten, Head, Memory, Record, Unusable, base, tail
from agents.topics import Topics
from selvedge import wire
from selvedge.rpc import SubscribeReply
from selvedge.topics import Snapshot, Update
from selvedge.topology import Binding, Object, Ref, ref

HOST = "hv1"
NAMES = ("hosts", "host/hv1", "segment/s1")
State = dict[str, tuple[int, frozenset[Object]]]

bindings = st.builds(Binding, st.sampled_from("abc"), st.sampled_from(["s1", "s2"]))
some = st.lists(bindings, max_size=3, unique_by=lambda thing: thing.id).map(tuple)
gone = st.lists(st.sampled_from("abc").map(lambda name: Ref("binding", name)), max_size=2, unique=True).map(tuple)
names = st.sampled_from(NAMES)
snapshots = st.builds(Snapshot, names, st.integers(0, 9), some)


def known(memory: Memory) -> State:
    return {snapshot.topic: (snapshot.version, frozenset(snapshot.objects)) for snapshot in memory.snapshots}


def followed(state: State, record: Record) -> State:
    """The model: what is known after a record, in the fewest words."""
    state = dict(state)
    if isinstance(record, Forgotten):
        return {name: topic for name, topic in state.items() if name not in record.topics}
    if isinstance(record, Snapshot):
        state[record.topic] = record.version, frozenset(record.objects)
        return state
    left = {ref(thing): thing for thing in state.get(record.topic, (0, frozenset()))[1]}
    for name in record.deletes:
        left.pop(name, None)
    left |= {ref(thing): thing for thing in record.upserts}
    state[record.topic] = record.version, frozenset(left.values())
    return state


@st.composite
def logs(draw: st.DrawFn) -> tuple[bytes, list[State]]:
    """A file, and every state that it went through since its base was whole."""
    first = draw(st.lists(snapshots, max_size=3, unique_by=lambda snapshot: snapshot.topic))
    states = [{snapshot.topic: (snapshot.version, frozenset(snapshot.objects)) for snapshot in first}]
    data = base(HOST, first)
    for kind in draw(st.lists(st.sampled_from(["update", "update", "snapshot", "forgotten"]), max_size=8)):
        record: Record
        if kind == "update":
            name = draw(names)
            version = states[-1].get(name, (0, frozenset[Object]()))[0]
            record = Update(name, version + 1, draw(some), draw(gone))
        else:
            record = draw(snapshots) if kind == "snapshot" else Forgotten((draw(names),))
        data += tail([record])
        states.append(followed(states[-1], record))
    return data, states


@given(logs())
def test_what_was_written_is_read(log: tuple[bytes, list[State]]) -> None:
    data, states = log
    memory = remembered.read(data, HOST)
    assert known(memory) == states[-1]
    assert (memory.good, memory.damage) == (len(data), "")


@given(logs(), st.data())
@settings(max_examples=400, deadline=None)
def test_a_damaged_file_is_a_state_that_there_was_or_nothing(
    log: tuple[bytes, list[State]], data: st.DataObject
) -> None:
    """Given any file, whatever is cut off its end, and whichever bit is flipped: what is read is a state that the log
    went through, or the file is refused in words. The prefix that counts, read alone, says the same."""
    whole, states = log
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)), "kept")])
    for place in data.draw(st.lists(st.integers(0, 8 * max(1, len(broken)) - 1), max_size=1), "flipped"):
        if broken:
            broken[place // 8] ^= 1 << place % 8
    try:
        memory = remembered.read(bytes(broken), HOST)
    except Unusable as error:
        assert str(error)
        return
    assert known(memory) in states
    assert memory.damage or memory.good == len(broken)
    again = remembered.read(bytes(broken[: memory.good]), HOST)
    assert (again, again.damage) == (memory, "")


@given(st.binary(max_size=200))
def test_any_bytes_behind_a_good_head_are_harmless(noise: bytes) -> None:
    """Given a base of one topic and then anything: the topic is read, and the rest is called what it is."""
    memory = remembered.read(base(HOST, [Snapshot("hosts", 3)]) + noise, HOST)
    assert known(memory) == {"hosts": (3, frozenset())}
    assert bool(memory.damage) == bool(noise)


def head(**values: int | str) -> bytes:
    fields: dict[str, int | str] = {"format": remembered.FORMAT, "schema": wire.SCHEMA, "host": HOST, "base": 0}
    return MAGIC + remembered._framed(msgspec.json.encode(fields | values))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"#!/bin/sh\n", "is not a topology that an agent wrote"),
        (MAGIC, "is damaged: its head cannot be read"),
        (head(format=99), "has format 99, this version reads 1"),
        (head(schema=99), f"has schema 99, this version reads {wire.SCHEMA}"),
        (head(host="hv2"), "is of host hv2, this one is hv1"),
        (head(base=2) + tail([Snapshot("hosts", 1)]), "is damaged: it ends early"),
        (head(base=2) + tail([Snapshot("hosts", 1)]) + b"torn", "is damaged: a record that is cut off"),
    ],
)
def test_a_file_that_says_nothing_to_this_agent_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unusable) as error:
        remembered.read(data, HOST)
    assert str(error.value).startswith(reason)


def test_a_newer_head_with_more_in_it_can_still_say_whose_it_is() -> None:
    """A head of a later format has fields that we do not know: its format is what is told, not the fields."""
    with pytest.raises(Unusable, match="format 2"):
        remembered.read(head(format=2, pages=7), HOST)
    assert msgspec.json.decode(
        msgspec.json.encode({"format": 2, "schema": 1, "host": "", "base": 0, "x": 1}), type=Head
    )


def test_a_change_that_does_not_follow_ends_what_counts() -> None:
    """Two agents wrote into one file: what the second one skipped is not guessed."""
    good = base(HOST, [Snapshot("hosts", 3)])
    memory = remembered.read(good + tail([Update("hosts", 5, (Binding("a", "s1"),))]), HOST)
    assert known(memory) == {"hosts": (3, frozenset())}
    assert memory.damage == "a change of a version that was not there"
    assert memory.good == len(good)


steps = st.one_of(
    st.tuples(st.just("interest"), st.sets(names)),
    st.tuples(st.just("update"), names, st.integers(1, 4), some, gone),
    st.tuples(st.just("answer"), st.lists(snapshots, max_size=3, unique_by=lambda snapshot: snapshot.topic)),
)


@given(st.lists(steps, max_size=20), st.integers(0, 20))
@settings(max_examples=300, deadline=None)
def test_the_file_follows_the_replica(sequence: list[tuple[object, ...]], restart: int) -> None:
    """Given any messages and answers in any order, and a restart in between: after each of them the file says what the
    replica knows, and the next run asks by these versions."""
    topics, now = Topics(), 0.0
    data = base(HOST, topics.snapshots())
    for number, (verb, *rest) in enumerate(sequence):
        if number == restart:
            topics = Topics()
            topics.restore(remembered.read(data, HOST).snapshots)
            assert not topics.synced or not topics.versions()
        if verb == "interest":
            topics.set_interest(rest[0])  # type: ignore[arg-type]
        elif verb == "update":
            topics.update(Update(*rest), now)  # type: ignore[arg-type]
        else:
            topics.request(now)
            topics.answer(SubscribeReply(tuple(rest[0])), now)  # type: ignore[arg-type]
        now += 1.0
        data += tail(topics.history())
        memory = remembered.read(data, HOST)
        assert memory.damage == ""
        assert known(memory) == known(Memory(topics.snapshots()))
