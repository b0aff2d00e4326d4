"""Interfaces that come and go: who is held, for how long, and that everybody is believed in the end."""

from hypothesis import given
from hypothesis import strategies as st

from agents.flapping import LIMIT, MEMORY, PAUSES, SPARE, WINDOW, Flapping
from agents.inventory import Inventory, Plugged, Role
from tests.unit.rows import Rows


def flap(flapping: Flapping, times: int, begin: float, period: float = 0.1) -> float:
    """So many plugs, each with its unplug before it; the time of the last plug."""
    now = begin
    for number in range(times):
        now = begin + number * period
        flapping.note("p1", False, now)
        flapping.note("p1", True, now)
    return now


def test_who_comes_often_but_slowly_is_believed() -> None:
    """A port that is plugged once a WINDOW / LIMIT and a little, a hundred times: never held."""
    flapping = Flapping()
    flap(flapping, 100, 0.0, period=WINDOW / (LIMIT - 1) * 1.01)
    assert not flapping.held
    assert flapping.deadline() is None


def test_who_flaps_is_held_until_it_stands_still() -> None:
    """Held with the last of LIMIT plugs; each further one begins the pause anew; then it is free."""
    flapping = Flapping()
    now = flap(flapping, LIMIT - 1, 0.0)
    assert not flapping.held
    now = flap(flapping, 20, now + 0.1)
    assert flapping.deadline() == now + PAUSES[0]
    assert flapping.due(now + PAUSES[0] - 0.01) == []
    assert flapping.due(now + PAUSES[0]) == ["p1"]
    assert not flapping.held
    assert flapping.holds == 1


def test_each_time_it_is_held_for_longer() -> None:
    """It begins again and again: the pause doubles up to the most, and is short again after a long peace."""
    flapping, now, pauses = Flapping(), 0.0, []
    for _ in range(8):
        flap(flapping, LIMIT, now)
        pauses.append(flapping.held["p1"].pause)
        now = flapping.held["p1"].until
        flapping.due(now)
    assert pauses == [min(PAUSES[1], PAUSES[0] * 2**number) for number in range(8)]
    flap(flapping, LIMIT, now + MEMORY)
    assert flapping.held["p1"].pause == PAUSES[0]


def test_histories_are_bounded() -> None:
    """Ten thousand ports that lived for a second each leave next to nothing behind."""
    flapping = Flapping()
    for number in range(10_000):
        flapping.note(f"p{number}", True, float(number))
        flapping.note(f"p{number}", False, number + 1.0)
    assert len(flapping._appeared) <= SPARE + WINDOW + 2


def test_for_everybody_a_held_interface_has_an_error() -> None:
    """The inventory shows it as one without a number, and the rows' truth when it is due; ours are never held."""
    rows = Rows()
    rows.bridge("br-int")
    inventory = Inventory("br-int", Flapping())
    inventory.load(rows.initial(), 0.0)
    role, changes, now = Role("port", "p1"), 0, 0.0
    for number in range(3 * LIMIT):
        seen, now = rows.snapshot(), number * 0.1
        rows.port("br-int", "tap1", ofport=number + 1, external_ids={"iface-id": "p1"})
        rows.port("br-int", "sv-geneve", ofport=1000 + number, external_ids={"selvedge": "tunnel/geneve"})
        inventory.update(rows.updates_since(seen), now)
        seen = rows.snapshot()
        last = number == 3 * LIMIT - 1
        if not last:
            rows.delete_port("tap1")
            rows.delete_port("sv-geneve")
        changes += role in inventory.update(rows.updates_since(seen), now)
    held = inventory.roles[role]
    assert (held.interface, held.ofport) == ("tap1", 0)
    assert held.error is not None and "came and went" in held.error
    assert changes < LIMIT
    assert inventory.roles[Role("tunnel", "geneve")].ofport == 1000 + 3 * LIMIT - 1
    assert inventory.load(rows.initial(), now) == {}
    assert inventory.steady(now + PAUSES[0] - 0.01) == {}
    assert inventory.deadline() == now + PAUSES[0]
    assert inventory.steady(now + PAUSES[0]) == {role: Plugged("tap1", 3 * LIMIT)}


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 20.0)), max_size=60))
def test_in_the_end_everybody_is_believed(history: list[tuple[bool, float]]) -> None:
    """Whatever came, who stands still for the longest pause is not held, and nothing waits for him."""
    flapping, now = Flapping(), 0.0
    for working, pause in history:
        now += pause
        flapping.due(now)
        flapping.note("p1", working, now)
        assert len(flapping.held) <= 1
    flapping.due(now + PAUSES[1])
    assert not flapping.held
    assert flapping.deadline() is None
