"""What a reading thread may hand over before the reactor has worked it off."""

from hypothesis import given
from hypothesis import strategies as st

from agents.credit import Credit

weights = st.lists(st.integers(1, 100), max_size=50)


@given(weights, st.integers(1, 200))
def test_who_stops_when_it_is_full_is_bounded_by_the_limit_and_one_gift(gifts: list[int], most: int) -> None:
    """Given a giver that looks before it gives and a reactor that takes nothing, what waits exceeds the limit by less
    than its last gift."""
    credit = Credit(most)
    for weight in gifts:
        if not credit.full:
            credit.give(weight)
    assert credit.waiting < most + max(gifts, default=1)


@given(weights, st.data())
def test_what_is_taken_is_what_was_given_first(gifts: list[int], data: st.DataObject) -> None:
    """Given gifts of which some are taken, the rest is the weight of the youngest, and the number taken says which."""
    credit = Credit(1000)
    numbers = [credit.give(weight) for weight in gifts]
    taken = data.draw(st.integers(0, len(gifts)))
    credit.take(taken)
    assert numbers == list(range(1, len(gifts) + 1))
    assert credit.taken == taken
    assert credit.waiting == sum(gifts[taken:])
