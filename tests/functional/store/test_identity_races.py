"""Many at once at sets, groups and rules: one number per set, nothing in use is deleted, every topic's log is whole."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from controller.store import identities, schema
from controller.store.engine import Store, Transaction
from controller.store.identities import KEPT, GroupInUse
from controller.store.topology import Changes
from selvedge.topics import group_topic, members_topic
from tests.functional.store.conftest import empty
from tests.functional.store.tenant import NoGroup, RuleExists, Tenant
from tests.functional.store.test_concurrency import THREADS, at_once


@pytest.fixture
def tenant(store: Store) -> Iterator[Tenant]:
    """A tenant of whom, in the end, who followed every change and who asks hold the same."""
    made = Tenant(store)
    yield made
    assert made.held() == made.found()


def outcome(work: Callable[[], Any]) -> Any:
    """What it returns, or the class of what it raises."""
    try:
        return work()
    except (NoGroup, RuleExists, GroupInUse) as error:
        return type(error)


def test_a_set_that_many_use_first_has_one_number_told_once(tenant: Tenant) -> None:
    a, b = tenant.group(), tenant.group()
    ports = at_once(lambda n: tenant.port(*((a, b) if n % 2 else (b, a))))
    assert len({tenant.identity(port) for port in ports}) == 1
    assert len(tenant.updates()[members_topic(a)]) == len(tenant.updates()[members_topic(b)]) == 1


def test_many_sets_in_any_order_do_not_make_a_circle(tenant: Tenant) -> None:
    """Every writer inserts them in one order, so they wait for each other; nobody's work is undone for it."""
    groups = [tenant.group() for _ in range(8)]
    sets = [(one, other) for one in groups for other in groups if one < other]
    shuffled = [random.Random(n).sample(sets, len(sets)) for n in range(THREADS)]
    before = tenant.store.retries
    at_once(lambda n: tenant.ports(shuffled[n]))
    assert tenant.store.retries == before
    assert len(tenant.found()[members_topic(groups[0])]) == 7


@pytest.mark.parametrize("known", [True, False], ids=["known set", "new set"])
def test_a_group_that_goes_and_a_port_that_comes(tenant: Tenant, known: bool) -> None:
    """Either the group stays, and all ports have it; or it goes, and no port has come."""
    seen = set()
    for turn in range(15):
        group, other = tenant.group(), tenant.group()
        if known:
            tenant.remove_port(tenant.port(group, other))
        results = at_once(
            lambda n, turn=turn, group=group, other=other: outcome(  # type: ignore[misc]
                lambda: tenant.remove_group(group) if n == turn % THREADS else tenant.port(group, other)
            )
        )
        removed = results.pop(turn % THREADS)
        seen.add(removed)
        if removed is GroupInUse:
            assert NoGroup not in results
            assert members_topic(group) in tenant.found()
        else:
            assert set(results) == {NoGroup}
            assert members_topic(other) not in tenant.found()
    assert seen <= {None, GroupInUse}


def test_one_of_many_makes_a_rule(tenant: Tenant) -> None:
    """Rules that differ only in how the protocol is written are one, and the database holds it."""
    group = tenant.group()
    wishes = [{"protocol": "tcp"}, {"protocol": "6"}]
    results = at_once(
        lambda n: outcome(lambda: tenant.rule(group, port_range_min=80, port_range_max=80, **wishes[n % 2]))
    )
    assert Counter(result is RuleExists for result in results) == {False: 1, True: THREADS - 1}
    assert len(tenant.found()[group_topic(group)]) == 2


def test_sweeps_at_once_tell_each_end_once(tenant: Tenant) -> None:
    groups = [tenant.group() for _ in range(40)]
    for port in tenant.ports([one] for one in groups):
        tenant.remove_port(port)
    tenant.sweep(0.0)
    assert sum(at_once(lambda n: tenant.sweep(KEPT + 1 + n))) == 40
    assert {len(tenant.updates()[members_topic(group)]) for group in groups} == {2}


# On PostgreSQL two writers really meet; SQLite's wait for each other from the first statement on.


class Paused:
    """A transaction of another thread that stops before its commit, until `go`."""

    def __init__(self, store: Store, work: Callable[[Transaction], Any], fail: bool = False) -> None:
        self._held, self._go = threading.Event(), threading.Event()
        self._fail = fail
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(lambda: store.transaction(lambda transaction: self._run(transaction, work)))
        assert self._held.wait(10)

    def _run(self, transaction: Transaction, work: Callable[[Transaction], Any]) -> Any:
        result = work(transaction)
        self._held.set()
        assert self._go.wait(10)
        if self._fail:
            raise NoGroup
        return result

    def go(self) -> Any:
        self._go.set()
        result = outcome(self._future.result)
        self._pool.shutdown()
        return result


@pytest.fixture
def postgres_tenant(postgres_url: str) -> Iterator[Tenant]:
    store = Store(postgres_url)
    empty(store)
    made = Tenant(store)
    yield made
    assert made.held() == made.found()
    store.dispose()


def later(work: Callable[[], Any]) -> tuple[ThreadPoolExecutor, Any]:
    """Begins `work` in a thread and sees that it waits for somebody."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    with pytest.raises(TimeoutError):
        future.result(0.3)
    return pool, future


@pytest.mark.parametrize("fail", [False, True], ids=["commits", "rolls back"])
def test_who_comes_second_with_a_new_set_waits_for_the_first(postgres_tenant: Tenant, fail: bool) -> None:
    tenant = postgres_tenant
    group = tenant.group()

    def first(transaction: Transaction) -> int | None:
        numbers, created = identities.identities_of(transaction, [[group]])
        number = numbers[(group,)]
        tenant.record(transaction, {topic: (tuple(things), ()) for topic, things in created.items()})
        return number

    paused = Paused(tenant.store, first, fail)
    pool, second = later(lambda: tenant.port(group))
    number = paused.go()
    port = second.result(10)
    pool.shutdown()
    if fail:
        assert tenant.identity(port) == 2, "the first one's number is lost with it"
    else:
        assert tenant.identity(port) == number
    assert len(tenant.updates()[members_topic(group)]) == 1


def test_a_sweep_leaves_alone_what_a_port_is_being_given(postgres_tenant: Tenant) -> None:
    """Given an old set without ports, and a port with it that is not committed: the sweep neither waits nor deletes."""
    tenant = postgres_tenant
    group = tenant.group()
    first = tenant.port(group)
    number = tenant.identity(first)
    tenant.remove_port(first)
    tenant.sweep(0.0)
    tenant.store.transaction(
        # As if the mark had come only after the port's look.
        lambda transaction: transaction.execute(update(schema.identities).values(unused_since=None))
    )
    ready = threading.Event()
    record = tenant.record

    def slow(transaction: Transaction, changes: Changes) -> None:
        ready.set()
        assert go.wait(10)
        record(transaction, changes)

    go = threading.Event()
    tenant.record = slow
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(lambda: tenant.port(group))
        assert ready.wait(10)
        tenant.record = record
        assert tenant.sweep(0.0) == 0
        assert tenant.sweep(KEPT + 1) == 0
        go.set()
        port = coming.result(10)
    assert tenant.identity(port) == number
    assert tenant.sweep(2 * KEPT) == 0


def test_a_port_that_comes_while_its_set_is_being_deleted_gets_a_new_number(postgres_tenant: Tenant) -> None:
    tenant = postgres_tenant
    group = tenant.group()
    first = tenant.port(group)
    number = tenant.identity(first)
    tenant.remove_port(first)
    tenant.sweep(0.0)
    record = tenant.record
    paused = Paused(tenant.store, lambda transaction: identities.sweep(transaction, KEPT + 1, record))
    pool, coming = later(lambda: tenant.port(group))
    assert paused.go() == 1
    port = coming.result(10)
    pool.shutdown()
    assert tenant.identity(port) > number
    assert [len(one.upserts) for one in tenant.updates()[members_topic(group)]] == [1, 0, 1]


# Anything, in any order and by many.

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("group", "rule", "remote", "unrule", "port", "ports", "regroup", "unport", "ungroup", "sweep")
        ),
        st.integers(0, 30),
        st.integers(0, 30),
    ),
    min_size=5,
    max_size=25,
)


class World:
    """What steps have made so far. Any thread: a list is only ever added to."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.groups = [tenant.group()]
        self.rules: list[str] = []
        self.ports: list[str] = []
        self.time = 0.0

    def take(self, step: str, one: int, other: int) -> None:
        """A step; what it applies to follows from the numbers. It may be refused."""
        tenant, groups = self.tenant, self.groups
        a, b = groups[one % len(groups)], groups[other % len(groups)]
        rule = self.rules[one % len(self.rules)] if self.rules else None
        port = self.ports[one % len(self.ports)] if self.ports else None
        if step == "group":
            groups.append(tenant.group())
        elif step == "rule":
            self.rules.append(tenant.rule(a, protocol="udp", port_range_min=one + 1, port_range_max=50))
        elif step == "remote":
            self.rules.append(tenant.rule(a, remote_group_id=b))
        elif step == "unrule" and rule:
            tenant.remove_rule(rule)
        elif step == "port":
            self.ports.append(tenant.port(a, b, host=f"hv{one % 3}"))
        elif step == "ports":
            self.ports.extend(tenant.ports([(a,), (b,), (), (a, b)], host=""))
        elif step == "regroup" and port:
            tenant.regroup(port, *((a, b) if other % 3 else ()))
        elif step == "unport" and port:
            tenant.remove_port(port)
        elif step == "ungroup":
            tenant.remove_group(a)
        elif step == "sweep":
            self.time += KEPT * 0.6
            tenant.sweep(self.time)


def _empty(store: Store) -> None:
    for table in reversed(schema.metadata.sorted_tables):
        store.transaction(lambda transaction, table=table: transaction.execute(table.delete()))  # type: ignore[misc]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_following_changes_is_as_good_as_a_snapshot(store: Store, steps: list[tuple[str, int, int]]) -> None:
    """After any steps, whoever applied every change holds what a snapshot of each topic holds."""
    _empty(store)
    world = World(Tenant(store))
    for step in steps:
        outcome(lambda step=step: world.take(*step))  # type: ignore[misc]
    assert world.tenant.held() == world.tenant.found()


def test_a_storm_of_everything_leaves_every_log_whole(tenant: Tenant) -> None:
    world = World(tenant)
    names = ("group", "rule", "remote", "unrule", "port", "ports", "regroup", "unport", "ungroup", "sweep")

    done: Counter[str] = Counter()

    def work(number: int) -> None:
        draw = random.Random(number)
        for _ in range(40):
            step = draw.choice(names), draw.randrange(30), draw.randrange(30)
            if outcome(lambda step=step: world.take(*step)) is None:  # type: ignore[misc]
                done[step[0]] += 1

    at_once(work)
    # How many are refused depends on who is first; but no kind of work is always.
    assert {"group", "rule", "remote", "port", "ports"} <= done.keys()
