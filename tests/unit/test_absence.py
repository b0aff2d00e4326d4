"""The fuse in front of a database that does not answer."""

import threading
from collections.abc import Iterator

import pytest

from controller.store import absence
from controller.store.absence import Fuse


class Away(Exception):
    pass


@pytest.fixture
def blown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fuse]:
    """A fuse after a failure that was slow."""
    monkeypatch.setattr(absence, "SLOW", -1.0)
    fuse = Fuse(Away)
    fails(fuse)
    yield fuse


def fails(fuse: Fuse) -> None:
    with pytest.raises(Away, match="gone"), fuse.passing():
        raise Away("gone")


def test_a_quick_failure_stops_nobody() -> None:
    """Given a server that refuses at once, everybody may ask it."""
    fuse = Fuse(Away)
    fails(fuse)
    with fuse.passing(), fuse.passing():
        pass
    assert fuse.refused == 0


def test_after_a_slow_failure_one_tries_at_a_time(blown: Fuse) -> None:
    """Given a server that did not answer, one call is let through and others are told at once, until that one ends."""
    with pytest.raises(Away, match="gone"), blown.passing():
        with pytest.raises(Away, match="one call at a time"), blown.passing():
            raise AssertionError("let through")
        raise Away("gone")
    assert blown.refused == 1
    fails(blown)


@pytest.mark.parametrize("error", (None, KeyError))
def test_an_answer_of_whatever_kind_lets_all_pass_again(blown: Fuse, error: type[Exception] | None) -> None:
    """Given a call that reached the database, be it refused for its own reasons, nobody is held back any more."""
    if error is None:
        with blown.passing():
            pass
    else:
        with pytest.raises(error), blown.passing():
            raise error
    with blown.passing(), blown.passing():
        pass


def test_the_one_that_tries_may_be_any_thread(blown: Fuse) -> None:
    thread = threading.Thread(target=fails, args=(blown,))
    thread.start()
    thread.join()
    with blown.passing():
        pass
