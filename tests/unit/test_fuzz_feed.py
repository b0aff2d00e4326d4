"""Whatever the broker sends: the feed's thread lives, counts, and reads the next message."""

import logging
import socket
from queue import Empty, SimpleQueue
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import session
from agents.session import FeedEvent, Session
from selvedge import wire
from selvedge.topics import Update
from tests.unit.test_wire import UPDATES, sealed

NONSENSE = (
    bytes(64),
    b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\xce",  # connection.start without its arguments
    b"\x01\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff\xce",
    b"\x03\x00\x05\x00\x00\x00\x01x\xce",
    b"\x02\x00\x00\x00\x00\x00\x0e" + bytes(13) + b"\xff\xce",
)


def delivered(body: bytes | str, **information: Any) -> SimpleNamespace:
    """As py-amqp hands it over."""
    return SimpleNamespace(delivery_tag=1, body=body, delivery_info=information)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=80)
    | st.text(max_size=20)
    | UPDATES.map(wire.encode)
    | st.builds(sealed, st.sampled_from([b"J", b"Z"]), st.binary(max_size=80))
    | st.binary(max_size=80).map(bytes((wire.SCHEMA + 1,)).__add__)
)
def test_any_message_is_taken_or_counted_as_unreadable(body: bytes | str) -> None:
    reader = Session("rabbit://127.0.0.1:1/", "hv1", lambda event: None)
    reader._receive(delivered(body))
    reader._receive(delivered(wire.encode(Update("hosts", 7)), routing_key="hosts"))
    assert reader._arrived[-1] == Update("hosts", 7)
    assert len(reader._arrived) + reader.counters["unreadable"] == reader.counters["received"] == 2


def test_a_thousand_messages_of_a_newer_schema_are_one_line_of_log(caplog: pytest.LogCaptureFixture) -> None:
    """Controllers that are newer than the agent for days: the counter goes on, the log does not."""
    reader = Session("rabbit://127.0.0.1:1/", "hv1", lambda event: None)
    for _ in range(1000):
        reader._receive(delivered(bytes((wire.SCHEMA + 1,)) + b"J{}", routing_key="hosts"))
    assert reader.counters["unreadable"] == 1000
    (line,) = caplog.records
    assert "topic hosts: message has schema" in line.message


def test_a_broker_that_speaks_no_amqp_ends_no_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Given somebody else's server at the broker's port, the thread tries on and says so once."""
    caplog.set_level(logging.WARNING, "agents.session")
    monkeypatch.setattr(session, "PAUSES", (0.01, 0.02))
    events = SimpleQueue[FeedEvent]()
    visits: list[bytes] = []

    def serve() -> None:
        for nonsense in NONSENSE * 2:
            link, _ = listener.accept()
            with link:
                link.recv(8)
                link.sendall(nonsense)
                link.shutdown(socket.SHUT_WR)
                visits.append(nonsense)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Thread(target=serve, daemon=True)
        server.start()
        reader = Session(f"rabbit://127.0.0.1:{listener.getsockname()[1]}/", "hv1", events.put)
        reader.start()
        server.join(30)
        assert not server.is_alive() and reader.is_alive() and len(visits) == 2 * len(NONSENSE)
        reader.stop()
    with pytest.raises(Empty):  # it was never up
        events.get_nowait()
    assert len(caplog.records) == 1
