"""What is strange in Open vSwitch's database, or is no database's speech: it is named, and takes nobody with it."""

import itertools
import socket
import time
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents import ovsdb, report
from agents.mirror import COLUMNS, Mirror
from agents.ovsdb import BrokenStream, Database, DatabaseEvent, DatabaseLost, Framer, Loaded, Updated
from tests.garbage import JSON, encoded
from tests.unit.surroundings import HERE, World

BOUNDED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXT = st.sampled_from(["", "p70", "br-int", "tunnel/geneve", "patch/physnet1", "a\nb", "\0", "x" * 300, "é", "p71"])
ATOM = TEXT | st.integers(-(2**70), 2**70) | st.booleans() | st.none() | st.tuples(st.just("uuid"), TEXT).map(list)
VALUE = st.one_of(
    ATOM,
    st.lists(ATOM, max_size=3).map(lambda members: ["set", members]),
    st.lists(st.lists(ATOM, max_size=3), max_size=3).map(lambda pairs: ["map", pairs]),
    JSON,
)
NAMES = [*sorted({column for columns in COLUMNS.values() for column in columns}), "statistics", "_uuid"]
ROW = st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=5)
KINDS = st.sampled_from(["insert", "modify", "initial", "delete"])
UPDATES = st.dictionaries(
    st.sampled_from([*COLUMNS, "Controller"]),
    st.dictionaries(st.sampled_from(["u1", "u2", "u3"]), st.dictionaries(KINDS, ROW | JSON, max_size=1), max_size=3),
    max_size=3,
)
IDS = st.dictionaries(st.sampled_from(["iface-id", "selvedge", "attached-mac", "é"]), TEXT, max_size=3)


def test_a_row_that_cannot_be_read_takes_no_other_with_it_and_is_named() -> None:
    """Given an update with one interface whose number is a text, the other one is there; and so is the first, later."""
    mirror = Mirror()
    bad, good = {"name": "tap1", "ofport": "one"}, {"name": "tap2", "ofport": 2}
    changes = mirror.apply({"Interface": {"u1": {"insert": bad}, "u2": {"insert": good}}})
    assert [change.uuid for change in changes] == ["u2"]
    assert mirror.strange == {("Interface", "u1"): "Interface u1: its ofport is 'one'"} and mirror.unread == 1
    mirror.apply({"Interface": {"u1": {"insert": bad | {"ofport": 1}}}})
    assert mirror.rows["Interface"]["u1"]["ofport"] == 1 and not mirror.strange


@settings(BOUNDED, max_examples=50)
@given(st.lists(UPDATES, max_size=4), st.lists(IDS, max_size=4))
def test_strange_rows_and_other_peoples_identifiers_hurt_no_port(
    updates: list[dict[str, Any]], identifiers: list[dict[str, str]]
) -> None:
    """Given rows of any shape, and interfaces with anybody's external_ids, the port that was up is up."""
    world = World()
    world.controller.create(1, "s1", HERE)
    world.settle(0)
    world.plug("p1")
    for number, ids in enumerate(identifiers):
        world.rows.port("br-int", f"other{number}", external_ids=ids, ofport=100 + number)
    world.monitor()
    world.settle(1)
    world.step([Updated(told) for told in updates])
    world.settle(1)
    assert world.core.states.ports["p1"].state == "up", world.core.states.ports["p1"]
    assert world.controller.ports["p1"].status == "ACTIVE"
    msgspec.json.encode(report.status(world.core))
    assert len(report.problems(world.core)) < 1000


def test_an_identifier_that_no_port_can_have_is_not_asked_for_and_is_told() -> None:
    """An interface whose iface-id is a text of somebody else's: controllers never hear of it, the operator does."""
    world = World()
    world.settle(0)
    for name in ("a\nb", "x" * 65, "' or 1=1"):
        world.plug(name)
    world.settle(2)
    assert not [call for call in world.controller.calls if "ports" in call.__struct_fields__ and call.ports]  # type: ignore[union-attr]
    assert report.status(world.core)["ports"]["a\nb"]["state"] == "unbound"


@BOUNDED
@given(st.lists(st.binary(max_size=40) | JSON.map(encoded), max_size=5), st.integers(1, 50))
def test_any_bytes_are_framed_or_break_the_stream(chunks: list[bytes], size: int) -> None:
    framer, stream = Framer(), b"".join(chunks)
    try:
        for start in range(0, len(stream), size):
            framer.feed(stream[start : start + size])
    except BrokenStream as error:
        assert str(error)


def test_a_document_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ovsdb, "LARGEST", 10_000)
    framer = Framer()
    with pytest.raises(BrokenStream, match="more than 10000 bytes"):
        for _ in range(20):
            framer.feed(b'["' + b"x" * 1000)


MESSAGES = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.sampled_from([0, 1, None, "0", [], {}, 2**80]),
            "method": st.sampled_from(["update2", "echo", "update", None, 5]),
            "params": st.tuples(JSON, UPDATES | JSON).map(list) | JSON,
            "result": UPDATES | JSON,
            "error": st.none() | JSON,
        },
    ),
)


@BOUNDED
@given(st.lists(MESSAGES, max_size=4), st.binary(max_size=20))
def test_any_message_is_an_event_or_breaks_the_stream(messages: list[Any], rest: bytes) -> None:
    """What the thread passes on is of the declared form; nothing else leaves `_receive`."""
    events: list[DatabaseEvent] = []
    database = Database("/nowhere", {}, events.append)
    for document in [*map(encoded, messages), rest, b"[" * 100_000 + b"]" * 100_000]:
        try:
            database._receive(document, bytearray())
        except BrokenStream as error:
            assert str(error) and len(str(error)) < 5000
    for event in events:
        if isinstance(event, Loaded | Updated):
            msgspec.convert(event.updates, dict[str, dict[str, dict[str, Any]]])


def test_a_server_that_talks_nonsense_is_tried_again_slowly_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Given a server that answers the monitor and then breaks the protocol, each time, the client comes back once a
    second or less often, says so once, and every loss is an event."""
    path, events = tmp_path / "db.sock", SimpleQueue[DatabaseEvent]()
    visits: list[float] = []

    def serve() -> None:
        while len(visits) < 3:
            link, _ = listener.accept()
            visits.append(time.monotonic())
            with link:
                link.recv(1 << 16)
                link.sendall(b'{"id":0,"result":{},"error":null}{"method":"update2","id":null,"params":7}')
                link.recv(1)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        Thread(target=serve, daemon=True).start()
        database = Database(str(path), {}, events.put)
        database.start()
        seen = [events.get(timeout=10) for _ in range(6)]
        database.stop()
        database.join(5)
    assert [type(event) for event in seen] == [Loaded, DatabaseLost] * 3
    assert all(later - sooner > 0.9 for sooner, later in itertools.pairwise(visits))
    assert len([record for record in caplog.records if "no message of an ovsdb-server" in record.message]) == 1
    with pytest.raises(Empty):
        events.get_nowait()
