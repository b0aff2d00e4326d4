"""How long a call may take: learned from answers and silences."""

from hypothesis import given
from hypothesis import strategies as st

from agents.patience import FIRST, LEAST, MONITORED, MOST, Patience

steps = st.lists(st.one_of(st.none(), st.floats(0, 60)), max_size=30)


def after(history: list[float | None]) -> Patience:
    """What is left of it after answers that took so long, and silences (None)."""
    patience = Patience()
    for took in history:
        patience.unanswered() if took is None else patience.answered(took)
    return patience


def test_quick_answers_make_a_silence_suspicious_soon() -> None:
    """Given answers within milliseconds, another controller is asked before a second has passed."""
    assert after([0.01]).timeout == LEAST < 1
    assert after([0.01]).monitor is None


def test_who_never_had_an_answer_waits_for_a_sign_of_life() -> None:
    """Given an agent that has just started, a long first snapshot may take longer than its patience."""
    assert (after([]).monitor, after([]).seconds) == (2, FIRST)
    assert after([]).timeout > FIRST


@given(steps)
def test_patience_stays_within_its_bounds(history: list[float | None]) -> None:
    """Given any history, the wait is bounded from both sides, and signs of life are asked for in whole seconds."""
    patience = after(history)
    assert LEAST <= patience.seconds <= MOST
    assert (patience.monitor is None) == (patience.seconds < MONITORED)
    assert patience.monitor is None or 2 <= patience.monitor <= patience.seconds <= patience.timeout


@given(steps)
def test_silence_makes_it_ask_ever_less_often(history: list[float | None]) -> None:
    """Given any history, a controller that does not answer is asked at intervals that double up to the longest."""
    patience = after(history)
    before = patience.seconds
    patience.unanswered()
    assert patience.seconds == min(2 * before, MOST)


@given(steps)
def test_four_quick_answers_forget_everything(history: list[float | None]) -> None:
    patience = after([*history, 0.001, 0.001, 0.001, 0.001])
    assert patience.seconds == LEAST
