"""Conntrack zones of ports: chosen at the binding, kept in Open vSwitch's database, and handed on clean only."""

from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from agents import zones as subject
from agents.zones import GRACE, KEY
from openflow.facts import Zone
from openflow.pipeline import LARGEST_ZONE
from selvedge.topology import Ref
from tests.unit.zone_host import Host, keys


def test_a_zone_is_a_fact_once_the_database_has_it() -> None:
    """Two ports are bound together: one transaction; no flow may name a zone that a crash would forget."""
    host = Host()
    host.zones.bind("p2")
    host.zones.bind("p1")
    host.bound = {"p1": None, "p2": None}
    assert host.zones.request() == ((), {KEY + "p1": "2", KEY + "p2": "1"})
    assert host.zones.facts() == ((), ())
    assert host.zones.usable("p1") is None
    host.database = keys(p1=2, p2=1)
    host.zones.stored(host.database)
    assert host.zones.facts() == ((Zone("p1", 2), Zone("p2", 1)), ())


def test_what_the_database_has_is_kept() -> None:
    """A new agent finds its ports' zones: the same numbers, nothing to write."""
    host = Host(p1="7", p2="3")
    host.bind("p1")
    host.bind("p2")
    assert host.facts == {"p1": 7, "p2": 3}
    assert host.edit is None


def test_a_thousand_ports_are_one_transaction() -> None:
    host = Host()
    for number in range(1000):
        host.zones.bind(f"p{number}")
    edit = host.zones.request()
    assert edit is not None
    assert len(edit.added) == 1000
    assert host.zones.request() is None, "the next one waits for the answer"


def test_from_the_last_flow_to_the_free_number() -> None:
    """Unbound: the flows go and the switch confirms it; a moment for what is cached; the flush; then the key."""
    host = Host()
    host.bind("p1")
    host.write()
    host.unbind("p1")
    assert host.facts == {}
    host.wait(60)
    assert host.zones.flush(host.now) == (), "its flows may still be there"
    host.confirm()
    assert host.zones.flush(host.now) == ()
    assert host.zones.deadline() == host.now + GRACE
    host.wait(GRACE)
    host.flush()
    assert host.flushing == (1,)
    assert host.zones.deadline() is None
    assert host.database == keys(p1=1), "a crash now must find it"
    host.flushed()
    assert host.edit == ((KEY + "p1",), {})
    host.write()
    assert host.database == {}
    assert host.zones.numbers == {}


def test_numbers_go_round() -> None:
    """A number that became free is the last to be used again."""
    host = Host()
    for port in ("p1", "p2", "p3"):
        host.bind(port)
    host.write()
    host.unbind("p2")
    host.settle()
    host.bind("p4")
    host.write()
    assert host.facts == {"p1": 1, "p3": 3, "p4": 4}
    other = Host(p1=str(LARGEST_ZONE), p2="1")
    for port in ("p1", "p2", "p3"):
        other.bind(port)
    other.write()
    assert other.facts == {"p1": LARGEST_ZONE, "p2": 1, "p3": 2}


def test_back_before_the_flush_keeps_the_zone() -> None:
    """Unbound and bound again while its flows are withdrawn, or in the moment after: the connections are its own."""
    host = Host()
    host.bind("p1")
    host.write()
    for wait in (False, True):
        host.unbind("p1")
        if wait:
            host.confirm()
        host.bind("p1")
        assert host.facts == {"p1": 1}
        host.settle()
        assert host.facts == {"p1": 1}
        assert host.tainted == {1: "p1"}


def test_back_during_the_flush_waits_for_its_end() -> None:
    """Connections that begin now would be cut by the flush that is on its way."""
    host = Host()
    host.bind("p1")
    host.write()
    host.unbind("p1")
    host.confirm()
    host.wait(GRACE)
    host.flush()
    host.bind("p1")
    assert host.facts == {}
    host.flushed()
    assert host.facts == {"p1": 1}
    assert host.database == keys(p1=1)


def test_back_while_the_key_goes_gets_another_number() -> None:
    host = Host()
    host.bind("p1")
    host.write()
    host.unbind("p1")
    host.confirm()
    host.wait(GRACE)
    host.flush()
    host.flushed()
    assert host.edit == ((KEY + "p1",), {})
    host.bind("p1")
    host.write()
    assert host.facts == {}
    host.write()
    assert host.facts == {"p1": 2}


def test_a_lost_switch_is_asked_again() -> None:
    """The connection goes during the flush: nobody knows whether it was done."""
    host = Host()
    host.bind("p1")
    host.write()
    host.unbind("p1")
    host.confirm()
    host.wait(GRACE)
    host.flush()
    host.disconnect()
    host.flush()
    assert host.flushing == (1,)


def test_a_zone_that_the_switch_does_not_flush_stays_reserved() -> None:
    """It is asked again when the switch comes back, and not before; the number belongs to nobody until then."""
    host = Host()
    host.bind("p1")
    host.write()
    host.unbind("p1")
    host.confirm()
    host.wait(GRACE)
    host.flush()
    host.flushed(works=False)
    host.wait(60)
    host.flush()
    assert host.flushing == ()
    assert host.zones.deadline() is None
    host.write()
    assert host.database == keys(p1=1), "a crash now must find it"
    host.settle()
    assert host.database == {}
    host.disconnect()
    host.flush()
    assert host.flushing == (), "it is clean"


def test_a_crash_at_any_point_resumes() -> None:
    """The agent dies before the confirmation, before the flush, and before the key goes: each time the next one ends
    it."""
    for deeds in (0, 1, 2, 3):
        host = Host()
        host.bind("p1")
        host.bind("p2")
        host.write()
        host.write()
        host.unbind("p1")
        host.confirm()
        host.wait(GRACE * bool(deeds))
        for deed in (host.flush, host.flushed)[: max(deeds - 1, 0)]:
            deed()
        host.start()
        assert host.database == keys(p1=1, p2=2)
        host.settle()
        assert host.database == keys(p2=2)
        assert host.tainted == {2: "p2"}


def test_nobody_is_let_go_before_it_is_known_who_is_bound() -> None:
    """An agent that has not heard of its bindings yet does not take its ports for gone."""
    host = Host(p1="1")
    host.wait(60)
    host.flush()
    assert host.flushing == ()
    host.bind("p1")
    assert host.facts == {"p1": 1}


def test_what_cannot_be_is_told_and_replaced() -> None:
    """No number, no zone's number, a zone twice: the first by name keeps it, the others get clean ones."""
    host = Host(p1="7", p2="7", p3="0", p4="65536", p5="seven", p6="08", p7="")
    assert len(list(host.zones.faults())) == 6
    for number in range(1, 7):
        host.bind(f"p{number}")
    host.settle()
    assert host.facts == {"p1": 7, "p2": 8, "p3": 9, "p4": 10, "p5": 11, "p6": 12}
    assert host.database == keys(**host.facts)
    assert list(host.zones.faults()) == []


def test_a_value_that_somebody_changes_is_put_back() -> None:
    """The port goes on in its zone, whatever the database says; other keys of the row are nobody's business here."""
    host = Host()
    host.bind("p1")
    host.bind("p2")
    host.write()
    host.write()
    for row in ({KEY + "p1": "2", KEY + "p2": "1"}, {KEY + "p1": "9"}, {}, None):
        host.meddle(None if row is None else row | {"bridge-id": "br-int"})
        assert host.facts == {"p1": 1, "p2": 2}
        if row is None:
            assert host.edit is None, "there is no row to write to"
            host.meddle({"bridge-id": "br-int"})
        host.write()
        host.write()
        assert host.database == keys(p1=1, p2=2) | {"bridge-id": "br-int"}


def test_a_key_of_nobody_goes() -> None:
    """Somebody writes a zone for a port that is not bound here: it is flushed and removed, like a left-over."""
    host = Host()
    host.confirm()
    host.meddle(keys(stranger=5))
    host.settle()
    assert host.database == {}


def test_when_all_are_taken(monkeypatch: Any) -> None:
    """No zone is left: the port waits, and gets the first that becomes free."""
    monkeypatch.setattr(subject, "LARGEST_ZONE", 2)
    host = Host()
    for port in ("p1", "p2", "p3"):
        host.bind(port)
    host.settle()
    assert set(host.facts) == {"p1", "p2"}
    assert host.zones.exhausted == 1
    host.unbind("p1")
    host.settle()
    assert host.facts == {"p2": 2, "p3": 1}
    assert host.zones.exhausted == 0


def test_many_zones_are_flushed_some_at_a_time() -> None:
    """Each flush makes the switch look through all connections: it must not stand still for a thousand."""
    host = Host()
    for number in range(200):
        host.bind(f"p{number}")
    host.write()
    host.write()
    for number in range(200):
        host.unbind(f"p{number}")
    host.confirm()
    host.wait(GRACE)
    sizes = []
    while True:
        host.flush()
        if not host.flushing:
            break
        sizes.append(len(host.flushing))
        host.flushed()
    assert sum(sizes) == 200
    assert max(sizes) <= 64
    host.settle()
    assert host.database == {}


def test_facts_are_told_once() -> None:
    host = Host()
    host.bind("p1")
    host.write()
    assert host.zones.facts() == ((), ())
    host.unbind("p1")
    host.zones.bind("p1")
    host.zones.unbind("p1")
    assert host.zones.facts() == ((), ())
    host.zones.bind("p1")
    assert host.zones.facts() == ((Zone("p1", 1),), ())
    host.zones.unbind("p1")
    assert host.zones.facts() == ((), (Ref("zone", "p1"),))


ports = st.sampled_from(["p1", "p2", "p3"])
texts = st.sampled_from(["1", "2", "3", "4", "x"])
acts = st.one_of(
    st.tuples(st.just("bind"), ports),
    st.tuples(st.just("bind"), ports),
    st.tuples(st.just("unbind"), ports),
    st.tuples(st.just("unbind"), ports),
    st.tuples(st.just("write"), st.booleans()),
    st.tuples(st.just("write"), st.just(True)),
    st.tuples(st.just("confirm")),
    st.tuples(st.just("disconnect")),
    st.tuples(st.just("flush")),
    st.tuples(st.just("flushed"), st.booleans()),
    st.tuples(st.just("wait"), st.just(GRACE)),
    st.tuples(st.just("start")),
)


@given(st.lists(acts, max_size=50), st.sampled_from([3, 4, LARGEST_ZONE]))
@settings(max_examples=400, deadline=None)
def test_no_zone_is_handed_on_with_connections(steps: list[tuple[Any, ...]], zones: int) -> None:
    """Law: whatever comes, goes, fails and crashes, in any order: no port gets a zone that has connections of another,
    no zone is flushed that flows lead into, and in the end the bound ports have zones and nobody else. So it is where
    zones are few, and every one is handed on soon."""
    with patch.object(subject, "LARGEST_ZONE", zones):
        host = Host()
        for verb, *arguments in steps:
            getattr(host, verb)(*arguments)
        host.settle()
    assert host.facts.keys() == host.bound.keys()
    assert host.database == keys(**host.facts)
    assert set(host.tainted.values()) == set(host.bound)
    assert host.edit is None


bindings = st.lists(st.tuples(st.sampled_from(["bind", "unbind"]), ports), max_size=6)


@given(st.dictionaries(ports, texts), bindings, st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_the_database_says_is_healed(
    begin: dict[str, str], steps: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Law: from any values, changed by anybody at any time, the database ends as one number for each bound port, no two
    the same; and no fact ever names a zone twice."""
    host = Host(**begin)
    host.tainted.clear()
    for verb, port in steps:
        getattr(host, verb)(port)
        host.write()
        host.tainted = {number: port for port, number in host.facts.items()}  # meddling may mix up connections
        if data.draw(st.booleans()):
            host.meddle({KEY + name: text for name, text in data.draw(st.dictionaries(ports, texts)).items()})
    host.tainted = {number: port for port, number in host.facts.items()}
    host.settle()
    assert host.facts.keys() == host.bound.keys()
    assert host.database == keys(**host.facts)
