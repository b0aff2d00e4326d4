"""Drift: whatever somebody does to the switch's tables, one audit finds it, names it by its kind, and heals it."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openflow.batch import Audited, Batch, Confirmed, Connected, Key, Refusal, Rejected
from openflow.drift import Difference, place
from openflow.flow import Bucket, Flow, GroupEntry, Load, Output, ToGroup, match
from openflow.pipeline import FIRST_GROUP, MARKER
from openflow.programmer import Programmer

G1, G2, STRANGE_GROUP = FIRST_GROUP + 1, FIRST_GROUP + 2, 77


def flow(number: int, port: int = 1, cookie: int | None = None, group: int | None = None) -> Flow:
    action = Output(port) if group is None else ToGroup(group)
    number_of_cookie = MARKER << 56 | number if cookie is None else cookie
    return Flow(0, 100, number_of_cookie, match(in_port=number + 1), (action,))


def group(number: int, port: int = 1) -> GroupEntry:
    return GroupEntry(number, (Bucket((Output(port),)),))


WANTED: tuple[Flow | GroupEntry, ...] = (group(G1), group(G2), *(flow(n) for n in range(4)), flow(4, group=G1))


class Switch:
    """Tables as bytes, and what Open vSwitch does with a batch. What refers to a group is known by the flow's bytes."""

    def __init__(self) -> None:
        self.table: dict[Key, bytes] = {}

    def dump(self) -> tuple[dict[bytes, bytes], dict[int, bytes], dict[bytes, bytes]]:
        flows = {key: body for key, body in self.table.items() if isinstance(key, bytes)}
        ours = {key: body for key, body in flows.items() if body[0] == MARKER}
        groups = {key: body for key, body in self.table.items() if isinstance(key, int)}
        return ours, groups, {key: body for key, body in flows.items() if key not in ours}

    def apply(self, batch: Batch) -> Confirmed:
        for key in batch.stale:
            if self.table.get(key, b"\0")[0] == MARKER:
                self.table.pop(key, None)
        for key in batch.foreign:
            self.table.pop(key, None)
        self.table |= {group.key: group.body for group in batch.groups}
        self.table |= {flow.key: flow.body for flow in batch.flows}
        for number in batch.dropped:
            self.drop(number)
        return Confirmed(batch.id)

    def drop(self, number: int) -> None:
        """Delete a group: flows that refer to it go along."""
        self.table.pop(number, None)
        referring = ToGroup(number).wire
        for key in [key for key, body in self.table.items() if isinstance(key, bytes) and referring in body]:
            del self.table[key]


def settle(programmer: Programmer, switch: Switch) -> int:
    """Send until there is nothing more to be sent; how many batches that were."""
    batches = 0
    while (batch := programmer.next_batch(0.0)) is not None:
        programmer.confirmed(switch.apply(batch).batch_id)
        batches += 1
        assert batches < 100, "it sends for ever"
    return batches


def want(programmer: Programmer, *entries: Flow | GroupEntry) -> None:
    programmer.change(
        {entry.key: entry for entry in entries if isinstance(entry, Flow)},
        {entry.id: entry for entry in entries if isinstance(entry, GroupEntry)},
        {},
    )


def started(keep_foreign: bool = False, *, switch: Switch | None = None) -> tuple[Programmer, Switch]:
    """A programmer whose switch has `WANTED`."""
    switch = switch or Switch()
    programmer = Programmer(keep_foreign)
    programmer.connected(Connected(1, *switch.dump()))
    programmer.release()
    want(programmer, *WANTED)
    settle(programmer, switch)
    return programmer, switch


def audit(programmer: Programmer, switch: Switch) -> tuple[Difference, ...]:
    assert programmer.audit() is not None
    return programmer.audited(Audited(1, *switch.dump()))


def kinds(differences: Iterable[Difference]) -> dict[Key, str]:
    return {difference.key: difference.kind for difference in differences}


TAMPERINGS: st.SearchStrategy[tuple[str, int]] = st.tuples(
    st.sampled_from(["delete", "alter", "mark", "foreign", "foreign in our place", "group", "drop group"]),
    st.integers(0, 6),
)


def tamper(switch: Switch, how: str, number: int) -> None:
    match how:
        case "delete":
            switch.table.pop(flow(number).key, None)
        case "alter":
            switch.table[flow(number).key] = flow(number, port=9).body
        case "mark":
            switch.table[flow(100 + number).key] = flow(100 + number).body
        case "foreign":
            switch.table[flow(200 + number).key] = flow(200 + number, cookie=number).body
        case "foreign in our place":
            switch.table[flow(number).key] = flow(number, port=8, cookie=number).body
        case "group":
            switch.table[(G1, G2, STRANGE_GROUP, FIRST_GROUP + 9)[number % 4]] = group(0, port=7).body
        case "drop group":
            switch.drop((G1, G2)[number % 2])


@given(st.lists(TAMPERINGS, max_size=8), st.booleans(), st.sampled_from(["none", "before", "unconfirmed", "after"]))
def test_one_audit_heals_whatever_was_done(tamperings: list[tuple[str, int]], keep: bool, change: str) -> None:
    """Any tampering, with or without a change of ours on its way, which the switch did before it was read (and
    confirmed before or after that) or later: the switch has exactly what is wanted in the end, and what is foreign
    elsewhere if that is kept. Each difference was told once, by its kind; a second audit finds nothing, and nothing is
    sent."""
    programmer, switch = started(keep)
    healthy = dict(switch.table)
    for how, number in tamperings:
        tamper(switch, how, number)
    tampered = dict(switch.table)
    assert programmer.audit() is not None
    dump, batch = switch.dump(), None
    if change != "none":
        want(programmer, flow(2, port=5), flow(50))
        healthy |= {flow(2).key: flow(2, port=5).body, flow(50).key: flow(50).body}
        batch = programmer.next_batch(0.0)
        assert batch is not None
        switch.apply(batch)
        if change != "after":
            dump = switch.dump()
        if change != "unconfirmed":
            programmer.confirmed(batch.id)
    told = kinds(programmer.audited(Audited(1, *dump)))
    if batch is not None and change == "unconfirmed":
        programmer.confirmed(batch.id)
    settle(programmer, switch)
    strange = {
        key: body
        for key, body in tampered.items()
        if key not in healthy and (key == STRANGE_GROUP or (isinstance(key, bytes) and body[0] != MARKER))
    }
    assert switch.table == (healthy | strange if keep else healthy)
    touched = {flow(2).key, flow(50).key} if change != "none" else set()
    original = {entry.key: entry.body for entry in WANTED}
    expected = {key for key in tampered.keys() | original.keys() if tampered.get(key) != original.get(key)}
    assert told.keys() == expected - touched
    for key, kind in told.items():
        if key in original:
            assert kind == ("altered" if key in tampered else "missing")
        else:
            assert kind == ("foreign" if key in strange else "unknown")
    assert audit(programmer, switch) == ()
    assert settle(programmer, switch) == 0


def test_foreign_flows_are_told_at_the_connect_and_go_when_it_is_known_what_is_wanted() -> None:
    """A bridge that somebody else has written to: his flow and his group are named at once, and go with the first
    bundle, not before the release."""
    switch = Switch()
    strange = flow(9, cookie=0x1234)
    switch.table = {strange.key: strange.body, STRANGE_GROUP: group(0).body}
    programmer = Programmer(keep_foreign=False)
    told = programmer.connected(Connected(1, *switch.dump()))
    assert kinds(told) == {strange.key: "foreign", STRANGE_GROUP: "foreign"}
    assert programmer.next_batch(0.0) is None
    want(programmer, flow(1))
    programmer.release()
    assert settle(programmer, switch) == 1
    assert switch.table == {flow(1).key: flow(1).body}


def test_kept_foreign_flows_are_told_once() -> None:
    """They stay, do not count as ours, and a later audit tells only who is new."""
    programmer, switch = started(keep_foreign=True)
    flows, groups = programmer.flows, programmer.groups
    tamper(switch, "foreign", 1)
    assert kinds(audit(programmer, switch)) == {flow(201).key: "foreign"}
    tamper(switch, "foreign", 2)
    assert kinds(audit(programmer, switch)) == {flow(202).key: "foreign"}
    assert (programmer.flows, programmer.groups, len(programmer.foreign)) == (flows, groups, 2)
    assert settle(programmer, switch) == 0


def test_a_foreign_flow_that_is_not_to_be_deleted_is_tried_again_and_told_once() -> None:
    """The switch refuses the deletion: nobody else waits for it, and the next audit does not tell it anew."""
    programmer, switch = started()
    tamper(switch, "foreign", 1)
    audit(programmer, switch)
    batch = programmer.next_batch(0.0)
    assert batch is not None
    assert batch.foreign == (flow(201).key,)
    programmer.rejected(Rejected(batch.id, ((flow(201).key, Refusal("OFPFMFC_EPERM", 5, 5)),)), 0.0)
    want(programmer, flow(60))
    assert settle(programmer, switch) == 1
    assert programmer.synced
    assert audit(programmer, switch) == ()
    retry = programmer.next_retry()
    assert retry is not None and retry > 0


def test_an_audit_of_a_connection_that_is_gone_says_nothing() -> None:
    """The switch restarted while it was read: the new connection's dump counts, and the next audit can be ordered."""
    programmer, switch = started()
    assert programmer.audit() is not None
    assert programmer.audit() is None, "one at a time"
    late = Audited(1, {}, {})
    programmer.disconnected()
    assert programmer.audit() is None
    programmer.connected(Connected(2, *switch.dump()))
    assert programmer.audited(late) == ()
    assert settle(programmer, switch) == 0
    assert programmer.audit() is not None


def test_a_difference_is_named_by_who_wants_the_flow_and_by_its_cookie() -> None:
    """A missing flow has its owner and its own cookie; one that nobody wants has the cookie that the switch shows."""
    programmer, switch = started()
    programmer.change({flow(3).key: flow(3)}, {}, {flow(3).key: ("endpoint", "port-3")})
    tamper(switch, "delete", 3)
    tamper(switch, "mark", 1)
    missing, unknown = sorted(audit(programmer, switch), key=lambda difference: difference.kind)
    assert missing == Difference("missing", flow(3).key, ("endpoint", "port-3"), MARKER << 56 | 3)
    assert unknown == Difference("unknown", flow(101).key, None, MARKER << 56 | 101)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (flow(4).key, "table 0, priority 100, in_port=5"),
        (Flow(9, 0, 0, match()).key, "table 9, priority 0"),
        (G2, "group 1000000002"),
        (b"\x03\x00\x07" + b"\x00\x01\x00\x09\x80\x00\xfe\x01\x07" + bytes(7), "table 3, priority 7, match "),
    ],
)
def test_places_are_in_ovs_ofctls_words(key: Any, words: str) -> None:
    """A flow's table, priority and match; a match that none of ours has is told in hexadecimal."""
    assert place(key).startswith(words)


def test_the_same_flow_made_again_is_no_drift() -> None:
    """Somebody replaces a flow by its like: nothing is told. By one that does more: it is altered."""
    programmer, switch = started()
    again = Flow(0, 100, MARKER << 56, match(in_port=1), (Output(1),))
    switch.table[again.key] = again.body
    assert audit(programmer, switch) == ()
    changed = Flow(0, 100, MARKER << 56, match(in_port=1), (Load("reg1", 1), Output(1)))
    switch.table[changed.key] = changed.body
    assert kinds(audit(programmer, switch)) == {changed.key: "altered"}
