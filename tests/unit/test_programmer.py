"""The programmer against a model of the switch: what is sent, in which order, and what is done about refusals."""

from openflow.batch import Key, Rejected
from openflow.programmer import FIRST_RETRY, LAST_RETRY, Programmer
from tests.unit.switch_model import (
    BAD,
    BAD_PORT,
    COMMIT_FAILED,
    FOREIGN_GROUP,
    G3,
    G5,
    G9,
    TABLE_FULL,
    Model,
    answer,
    flow,
    group,
    settle,
    started,
)


def test_nothing_is_sent_before_release() -> None:
    """An agent starts beside a working data plane: it neither deletes nor adds until it is released, then both."""
    model = Model()
    model.flows = {flow(7).key: flow(7), flow(1).key: flow(1)}
    programmer = Programmer()
    programmer.change({flow(1).key: flow(1), flow(2).key: flow(2)}, {}, {})
    programmer.connected(model.dump(1))
    assert (programmer.next_batch(0), programmer.synced) == (None, False)
    programmer.release()
    (batch,) = settle(programmer, model)
    assert (batch.stale, batch.flows) == ((flow(7).key,), (flow(2),))
    assert programmer.synced
    assert programmer.flows == 2


def test_resync_without_difference_sends_nothing() -> None:
    """Connected anew to a switch that has everything: no batch at all; foreign groups do not count."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1)}, {G5: group(G5)}, {})
    settle(programmer, model)
    programmer.disconnected()
    assert programmer.next_batch(0) is None
    programmer.connected(model.dump(2))
    assert programmer.next_batch(0) is None
    assert programmer.synced
    assert (programmer.flows, programmer.groups) == (1, 1)


def test_switch_restart_replays_everything() -> None:
    """The switch comes back empty: one batch holds all flows and groups."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(n).key: flow(n) for n in range(20)}, {G5: group(G5)}, {})
    settle(programmer, model)
    programmer.disconnected()
    model.flows, model.groups = {}, {}
    programmer.connected(model.dump(2))
    (batch,) = settle(programmer, model)
    assert (len(batch.flows), len(batch.groups), batch.connection) == (20, 1, 2)


def test_order_within_a_batch() -> None:
    """Leaf groups come before roots whatever their numbers, and a group that goes is deleted after everything."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1, group=G3)}, {G3: group(G3, leaf=G9), G9: group(G9)}, {})
    (first,) = settle(programmer, model)
    assert [entry.id for entry in first.groups] == [G9, G3]
    programmer.change({flow(1).key: flow(1)}, {G3: None, G9: None}, {})
    (second,) = settle(programmer, model)
    assert list(second.keys()) == [flow(1).key, G3, G9]
    assert (list(model.flows.values()), list(model.groups)) == ([flow(1)], [FOREIGN_GROUP])


def test_one_batch_in_flight_and_changes_gather() -> None:
    """While a batch is in flight nothing is sent; what changed meanwhile goes together, once, in its newest state."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1)}, {}, {flow(1).key: "a"})
    first = programmer.next_batch(0)
    assert first is not None
    for port in (2, 3, 4):
        programmer.change({flow(1).key: flow(1, port), flow(2).key: flow(2, port)}, {}, {flow(1).key: "a"})
        assert programmer.next_batch(0) is None
    assert programmer.pending("a")
    assert answer(programmer, model.apply(first), 0) == set(), "the owner has changed again and is not settled"
    (second,) = settle(programmer, model)
    assert set(second.flows) == {flow(1, 4), flow(2, 4)}
    assert not programmer.pending("a")


def test_refused_owner_fails_alone_and_is_tried_again() -> None:
    """One owner's flow is refused: all others go in the very next batch, it keeps what it had, and backs off."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1)}, {}, {flow(1).key: "bad"})
    settle(programmer, model)
    model.refuses = True
    owners: dict[Key, str] = {flow(n).key: "bad" if n < 3 else f"good{n}" for n in range(10)}
    programmer.change({flow(n).key: flow(n, BAD if n == 2 else 4) for n in range(10)}, {}, owners)
    batches = settle(programmer, model, now=100.0)
    assert [len(batch.flows) for batch in batches] == [10, 7]
    assert model.flows[flow(1).key] == flow(1)
    failure = programmer.failed["bad"]
    assert dict(failure.refusals) == {flow(2).key: BAD_PORT}
    assert programmer.synced
    assert programmer.pending("bad")
    waits = []
    now = 100.0
    for _ in range(9):
        due = programmer.next_retry()
        assert due is not None
        waits.append(due - now)
        now = due
        assert programmer.next_batch(now - 0.001) is None
        (batch,) = settle(programmer, model, now)
        assert {entry.key for entry in batch.flows} == {flow(n).key for n in range(3)}
    assert waits == [min(LAST_RETRY, FIRST_RETRY * 2**n) for n in range(9)]
    model.refuses = False
    settle(programmer, model, now + LAST_RETRY)
    assert not programmer.failed
    assert len(model.flows) == 10


def test_failed_owner_is_tried_at_once_when_it_changes() -> None:
    """The tenant mends what was refused: no back-off holds it up. Taking it away forgets the failure."""
    model = Model()
    model.refuses = True
    programmer = started(model)
    programmer.change({flow(1).key: flow(1, BAD)}, {}, {flow(1).key: "a"})
    settle(programmer, model)
    assert "a" in programmer.failed
    programmer.change({flow(1).key: flow(1, 2)}, {}, {flow(1).key: "a"})
    settle(programmer, model)
    assert list(model.flows.values()) == [flow(1, 2)]
    programmer.change({flow(1).key: flow(1, BAD)}, {}, {flow(1).key: "a"})
    settle(programmer, model)
    assert "a" in programmer.failed
    programmer.change({flow(1).key: None}, {}, {})
    settle(programmer, model)
    assert not programmer.failed
    assert not model.flows


def test_stale_flow_of_a_failed_owner_goes() -> None:
    """Security does not wait for a failed owner: what it no longer wants is deleted at once."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1)}, {}, {flow(1).key: "a"})
    settle(programmer, model)
    model.refuses = True
    programmer.change({flow(1).key: None, flow(2).key: flow(2, BAD)}, {}, {flow(2).key: "a"})
    settle(programmer, model)
    assert not model.flows


def test_deleted_group_takes_a_failed_owners_old_flow_along() -> None:
    """A refused change leaves the old flow, whose group goes: should the old flow be wanted again it is sent anew."""
    model = Model()
    programmer = started(model)
    owners: dict[Key, str] = {flow(1).key: "a", G5: "s"}
    programmer.change({flow(1).key: flow(1, group=G5)}, {G5: group(G5)}, owners)
    settle(programmer, model)
    model.refuses = True
    programmer.change({flow(1).key: flow(1, BAD)}, {G5: None}, owners)
    settle(programmer, model)
    assert not model.flows
    programmer.change({flow(1).key: flow(1, group=G5)}, {G5: group(G5)}, owners)
    settle(programmer, model)
    assert list(model.flows.values()) == [flow(1, group=G5)]
    assert programmer.synced


def test_full_table_is_filled_and_the_search_is_short() -> None:
    """A table of 1,000 flows, 3,000 owners: it is filled, the rest fail one by one, and not by whole batches each."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(n).key: flow(n) for n in range(3000)}, {}, {})
    settle(programmer, model)
    assert len(model.flows) == 1000
    assert len(programmer.failed) == 2000
    assert {refusal for failure in programmer.failed.values() for refusal in failure.refusals.values()} == {TABLE_FULL}
    assert model.received < 4 * 3000


def test_unexplained_failure_is_found_by_halving() -> None:
    """The switch says only that the commit failed: the owners that fit get in, and 64 batches find the two guilty."""
    model = Model()
    model.silent_commit = True
    model.limit = 998
    programmer = started(model)
    programmer.change({flow(n).key: flow(n) for n in range(1000)}, {}, {})
    batches = settle(programmer, model)
    assert len(model.flows) == 998
    assert len(programmer.failed) == 2
    assert {refusal.name for f in programmer.failed.values() for refusal in f.refusals.values()} == {COMMIT_FAILED.name}
    assert len(batches) <= 64


def test_flow_waits_for_its_group() -> None:
    """A flow whose group was refused is refused too; when the group comes, the flow need not wait for its turn."""
    model = Model()
    model.refuses = True
    programmer = started(model)
    owners: dict[Key, str] = {flow(1).key: "endpoint", G5: "segment"}
    programmer.change({flow(1).key: flow(1, group=G5)}, {G5: group(G5, BAD)}, owners)
    settle(programmer, model)
    assert set(programmer.failed) == {"endpoint", "segment"}
    programmer.change({}, {G5: group(G5, 3)}, owners)
    settle(programmer, model)
    assert not programmer.failed
    assert list(model.flows.values()) == [flow(1, group=G5)]


def test_change_overtakes_a_refusal() -> None:
    """What was refused has changed while it was in flight: nobody failed, the new value goes at once."""
    model = Model()
    model.refuses = True
    programmer = started(model)
    owners: dict[Key, str] = {flow(1).key: "a"}
    programmer.change({flow(1).key: flow(1, BAD)}, {}, owners)
    batch = programmer.next_batch(0)
    assert batch is not None
    programmer.change({flow(1).key: flow(1, 2)}, {}, owners)
    assert answer(programmer, model.apply(batch), 0) == set()
    settle(programmer, model)
    assert list(model.flows.values()) == [flow(1, 2)]
    assert not programmer.failed


def test_failed_owner_changes_while_it_is_tried_again() -> None:
    """The second try is in flight when the owner wants one flow more, or nothing any more: neither is lost."""
    model = Model()
    model.refuses = True
    programmer = started(model)
    owners: dict[Key, str] = {flow(n).key: "a" for n in range(3)}
    programmer.change({flow(1).key: flow(1, BAD)}, {}, owners)
    settle(programmer, model)
    batch = programmer.next_batch(FIRST_RETRY)
    assert batch is not None
    programmer.change({flow(2).key: flow(2)}, {}, owners)
    model.refuses = False
    assert answer(programmer, model.apply(batch), FIRST_RETRY) == set()
    settle(programmer, model, FIRST_RETRY)
    assert set(model.flows) == {flow(1).key, flow(2).key}

    model.refuses = True
    programmer.change({flow(0).key: flow(0, BAD)}, {}, owners)
    settle(programmer, model, FIRST_RETRY)
    batch = programmer.next_batch(2 * FIRST_RETRY)
    assert batch is not None
    programmer.change({flow(n).key: None for n in range(3)}, {}, {})
    assert answer(programmer, model.apply(batch), 2 * FIRST_RETRY) == set()
    settle(programmer, model, 2 * FIRST_RETRY)
    assert not model.flows
    assert not programmer.failed


def test_groups_are_deleted_last_when_batches_are_small() -> None:
    """After a commit that failed, owners go one by one: no flow may lose its group before its change has arrived."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(n).key: flow(n, group=G5) for n in range(8)}, {G5: group(G5)}, {})
    settle(programmer, model)
    model.limit = 9
    model.silent_commit = True
    programmer.change({flow(n).key: flow(n) for n in range(12)}, {G5: None}, {})
    while (batch := programmer.next_batch(0)) is not None:
        answer(programmer, model.apply(batch), 0)
        assert {flow(n).key for n in range(8)} <= model.flows.keys()
    assert set(model.groups) == {FOREIGN_GROUP}
    assert len(programmer.failed) == 3


def test_owners_that_need_each_others_groups() -> None:
    """Two owners failed, each refers to the other's group: they are tried together, for neither can go alone."""
    model = Model()
    model.refuses = True
    programmer = started(model)
    owners: dict[Key, str] = {flow(1).key: "a", G5: "b", flow(2).key: "b", G3: "a", flow(3).key: "a", flow(4).key: "b"}
    flows = {flow(1).key: flow(1, group=G5), flow(2).key: flow(2, group=G3)}
    programmer.change({**flows, **{flow(n).key: flow(n, BAD) for n in (3, 4)}}, {G3: group(G3), G5: group(G5)}, owners)
    settle(programmer, model)
    assert set(programmer.failed) == {"a", "b"}
    model.refuses = False
    settle(programmer, model, FIRST_RETRY)
    assert not programmer.failed
    assert len(model.flows) == 4


def test_late_answers_are_ignored() -> None:
    """An answer that belongs to the connection before changes nothing."""
    model = Model()
    programmer = started(model)
    programmer.change({flow(1).key: flow(1)}, {}, {})
    batch = programmer.next_batch(0)
    assert batch is not None
    programmer.connected(model.dump(2))
    assert programmer.confirmed(batch.id) == set()
    assert programmer.rejected(Rejected(batch.id, ((flow(1).key, BAD_PORT),)), 0) == set()
    (again,) = settle(programmer, model)
    assert again.flows == (flow(1),)
