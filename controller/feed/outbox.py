"""The transactional outbox: a topic's new version and its message, written with the change that caused them.

`record` takes the row lock of each topic in name order (no deadlocks) and as the last statements (short waits): between
that and the commit no other transaction changes these topics, so versions are the order of commits.

Two threads of a process may still hand over in the wrong order what they committed in the right one. `Outbox` remembers
which versions were recorded and not taken by the publisher yet, and that one holds a row back while its predecessor is
among them, for at most `PATIENCE` seconds: what was rolled back never comes.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy.dialects import postgresql, sqlite

from controller.store import schema
from selvedge import wire
from selvedge.topics import Update
from selvedge.topology import Object, Ref

PATIENCE = 0.05
"""Seconds that a row waits for its predecessor of the same process, whose thread may have to wait for a processor
between its commit and the hand-over; half of what receivers wait for a gap to close (`agents.topics.HOLD`)."""

Changes = Mapping[str, tuple[Sequence[Object], Sequence[Ref]]]
"""Topic → (new states, names of what is gone)."""


class Row(NamedTuple):
    """A message to publish: a row of the table `outbox`."""

    id: int
    topic: str
    version: int
    body: bytes


class Transaction(Protocol):
    """What `record` needs of `controller.store.engine.Transaction`."""

    @property
    def conn(self) -> Any: ...
    def execute(self, statement: Any, parameters: Any = None) -> Any: ...
    def on_commit(self, hook: Callable[[], None]) -> None: ...


def _raise_version(insert: Any) -> Any:
    statement = insert(schema.topics).values(version=1)
    return statement.on_conflict_do_update(
        index_elements=[schema.topics.c.name], set_={"version": schema.topics.c.version + 1}
    ).returning(schema.topics.c.version)


_RAISE = {"sqlite": _raise_version(sqlite.insert), "postgresql": _raise_version(postgresql.insert)}
_INSERT = schema.outbox.insert().returning(schema.outbox.c.id, sort_by_parameter_order=True)


class Outbox:
    """One per process; `record` is what the store's and the API's transactions call."""

    def __init__(self, hand_over: Callable[[list[Row]], None]) -> None:
        """`hand_over` gets the rows of a transaction right after its commit, in the thread that committed."""
        self._hand_over = hand_over
        self._recorded: dict[str, set[int]] = {}
        self._lock = threading.Lock()

    def record(self, transaction: Transaction, changes: Changes) -> None:
        """Raise the versions of the topics in `changes` and write their messages. Call it last in a transaction."""
        if not changes:
            return
        raise_version = _RAISE[transaction.conn.dialect.name]
        messages = []
        for topic in sorted(changes):
            upserts, deletes = changes[topic]
            version = transaction.execute(raise_version, {"name": topic}).scalar_one()
            with self._lock:
                self._recorded.setdefault(topic, set()).add(version)
            messages.append((topic, version, wire.encode(Update(topic, version, tuple(upserts), tuple(deletes)))))
        now = time.time()
        ids = transaction.execute(
            _INSERT,
            [
                {"topic": topic, "version": version, "body": body, "created_at": now}
                for topic, version, body in messages
            ],
        ).scalars()
        rows = [Row(number, *message) for number, message in zip(ids, messages, strict=True)]
        transaction.on_commit(lambda: self._hand_over(rows))

    def awaits(self, topic: str, version: int) -> bool:
        """Whether a row of this process was recorded and not taken yet."""
        return version in self._recorded.get(topic, ())

    def taken(self, topic: str, version: int) -> None:
        """The publisher has this row, or has given up waiting for it: its transaction was rolled back."""
        with self._lock:
            versions = self._recorded.get(topic)
            if versions is not None:
                versions.discard(version)
                if not versions:
                    del self._recorded[topic]
