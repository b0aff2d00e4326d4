"""What a database that does not answer may cost: bounded waits, and no queue of requests that all wait.

A server that is gone refuses at once; one that is frozen, or behind a cut wire, says nothing, and neither libpq nor the
kernel ends that wait. `Patient` is psycopg's connection that gives up on a statement after `ANSWER` seconds: the
connection is closed, as what it would say later belongs to nobody. Ordinary statements take milliseconds; whoever waits
for a lock that long would be told to try again anyway. Migrations are let off (`unhurried`).

`Fuse` keeps the next ones from waiting as long: once an attempt has failed slowly, one call at a time tries, and
everybody else is told at once that the database is away, until that one succeeds.
"""

import contextlib
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import psycopg

ANSWER = 5.0
"""Seconds that the server may take for one statement."""

LOCK = 4.0
"""Seconds that the server lets a statement wait for a lock; that is a lost race, which is run again."""

IDLE = 10.0
"""Seconds that the server lets a transaction be idle: one whose controller is frozen, or whose machine went without a
word, has its locks no longer."""

SLOW = 1.0
"""Seconds after which a failure was a slow one: waiting for it again is worth avoiding."""

_hurry = threading.local()


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """This thread's statements may take as long as they need."""
    _hurry.off = True
    try:
        yield
    finally:
        _hurry.off = False


class Patient(psycopg.Connection[Any]):
    """A connection whose every wait ends."""

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        """As psycopg's, which since 3.2 resumes `gen` at least ten times a second. Raises psycopg.OperationalError."""
        if getattr(_hurry, "off", False):
            return super().wait(gen, *args, **options)
        try:
            return super().wait(_until(time.monotonic() + ANSWER, gen), *args, **options)
        except _NoAnswer:
            self.close()
            raise psycopg.OperationalError(f"the database did not answer within {ANSWER:g} s") from None


class _NoAnswer(Exception):
    pass


def prepare(connection: psycopg.Connection[Any]) -> None:
    """What the server itself shall bound, of a new connection."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {LOCK * 1000:.0f}")
        cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE * 1000:.0f}")
    connection.commit()


def _until(deadline: float, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """`gen`, or `_NoAnswer` when it is resumed after the deadline and still not done."""
    try:
        wanted = next(gen)
        while True:
            wanted = gen.send((yield wanted))
            if time.monotonic() > deadline:
                raise _NoAnswer
    except StopIteration as end:
        return end.value


class Fuse:
    """Any thread."""

    def __init__(self, absence: type[Exception]) -> None:
        """`absence`: what calls raise when the database is away."""
        self._absence = absence
        self.refused = 0
        """Calls that were not let through. Counted without a lock."""
        self._blown = False
        self._probe = threading.Lock()

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Around one call to the database. Raises the absence at once to who is not let through."""
        probing = self._blown
        if probing and not self._probe.acquire(blocking=False):
            self.refused += 1
            raise self._absence("the database did not answer a moment ago, and is tried by one call at a time")
        began = time.monotonic()
        try:
            yield
        except self._absence:
            self._blown = self._blown or time.monotonic() - began > SLOW
            raise
        except BaseException:  # a refusal of ours or of the database's: it was there
            self._blown = False
            raise
        else:
            self._blown = False
        finally:
            if probing:
                self._probe.release()
