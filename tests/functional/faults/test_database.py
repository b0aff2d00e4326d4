"""The database goes: the API says so promptly, agents and data plane do not notice, and then all goes on by itself."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, select, text, update

from controller.store.engine import DatabaseAway, Store, Transaction
from devstack.labs.api import Api, Refused
from devstack.labs.postgres import Postgres
from devstack.labs.process import wait_for
from tests.functional.faults.watching import Pinging
from tests.functional.verbs import World

pytestmark = pytest.mark.alone

PROMPT = 12.0
"""Seconds within which every answer has come, a frozen server included: a statement's five, a connection's three, and
what a busy machine adds."""


def family(pid: int) -> list[int]:
    """The server's processes, the first of them first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def send(processes: list[int], sign: int) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)


@contextlib.contextmanager
def away(postgres: Postgres, how: str) -> Iterator[None]:
    """Inside, the server is stopped, killed or frozen."""
    assert postgres.pid is not None
    processes = family(postgres.pid)
    if how == "frozen":
        send(processes, signal.SIGSTOP)
        try:
            yield
        finally:
            send(processes, signal.SIGCONT)
        return
    postgres.stop() if how == "stopped" else postgres.kill()
    wait_for("the end of its processes", lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
    try:
        yield
    finally:
        postgres.start()


def refused(api: Api, method: str, path: str, body: Any = None) -> tuple[int, str, float]:
    """Status, message and seconds of an answer that is an error."""
    began = time.monotonic()
    with pytest.raises(Refused) as caught:
        api.request(method, path, body)
    return caught.value.status, str(caught.value), time.monotonic() - began


@pytest.mark.parametrize("how", ("stopped", "killed", "frozen"))
def test_without_a_database_the_api_says_so_and_all_else_goes_on(many: World, how: str) -> None:
    """Given a database that is away, reads and writes at every controller answer 503 within seconds, no packet is lost,
    and a VM that was plugged meanwhile is claimed and wired as soon as it is back, without anybody's doing."""
    blue = many.network("geneve")
    a, b = many.port(blue, "hv1"), many.port(blue, "hv2")
    unbound = many.bound(blue, None)
    vm = many.lab.prepare_vm(unbound["id"], "hv2")
    apis = [controller.api for controller in many.lab.controllers.values()]
    asked: list[tuple[Api, str, str, Any]] = []
    for api in apis:
        asked += [(api, "GET", "/v2.0/networks", None), (api, "POST", "/v2.0/networks", {"network": {"name": "x"}})] * 3
    with Pinging(a, b):
        with away(many.lab.postgres, how):
            many.lab.commit_plug(vm)
            with ThreadPoolExecutor(len(asked)) as pool:
                answers = list(pool.map(lambda words: refused(*words), asked))
            answers += [refused(*words) for words in asked[:2]]
            assert all(pid is not None for pid in (controller.pid for controller in many.lab.controllers.values()))
        for status, message, took in answers:
            assert status == 503, message
            assert "the database cannot be reached" in message
            assert took < PROMPT, message
        for api in apis:
            wait_for("an answer", api.answers, 15)
        many.lab.wait_status(vm.port, "ACTIVE", 15)
    assert many.ping(a, vm)
    assert not many.api.list("networks", name="x"), "what was refused was not done"


def test_after_a_frozen_database_one_call_tries_and_the_others_are_told_at_once(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a server that says nothing, the first call waits, and those after it are refused in no time, but for one
    that tries again; when the server goes on, so do they."""
    monkeypatch.setattr("controller.store.absence.ANSWER", 1.5)
    store = Store(postgres.create_database("frozen"))
    one = text("SELECT 1")

    def ask(_: object = None) -> float:
        began = time.monotonic()
        with pytest.raises(DatabaseAway):
            store.read(lambda conn: conn.execute(one).scalar())
        return time.monotonic() - began

    assert store.read(lambda conn: conn.execute(one).scalar()) == 1
    assert postgres.pid is not None
    with away(postgres, "frozen"):
        ask()
        with ThreadPoolExecutor(8) as pool:
            times = sorted(pool.map(ask, range(8)))
        assert times[-2] < 1 < times[-1], times
        assert store.fuse.refused == 7
    assert store.read(lambda conn: conn.execute(one).scalar()) == 1
    assert store.read(lambda conn: conn.execute(one).scalar()) == 1
    store.dispose()


def test_a_real_deadlock_is_run_again_and_both_transactions_are_done(postgres: Postgres) -> None:
    """Given two transactions that lock two rows in opposite order, PostgreSQL ends one of them, and it runs again."""
    store = Store(postgres.create_database("deadlock"))
    rows = Table("counted", MetaData(), Column("id", Integer, primary_key=True), Column("number", Integer))

    def make(transaction: Transaction) -> None:
        rows.create(transaction.conn)
        transaction.execute(rows.insert(), [{"id": number, "number": 0} for number in (1, 2)])

    store.transaction(make)
    barrier = threading.Barrier(2)

    def both(order: tuple[int, int]) -> None:
        runs = []

        def work(transaction: Transaction) -> None:
            runs.append(order)
            for number in order:
                transaction.execute(update(rows).where(rows.c.id == number).values(number=rows.c.number + 1))
                if len(runs) == 1 and number == order[0]:
                    barrier.wait(10)

        store.transaction(work)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(both, ((1, 2), (2, 1))))
    assert store.read(lambda conn: conn.execute(select(rows.c.number)).scalars().all()) == [2, 2]
    assert store.retries == 1
    store.dispose()


def test_a_transaction_whose_controller_is_frozen_holds_its_locks_for_seconds_only(postgres: Postgres) -> None:
    """Given a controller that stands still inside a transaction, those who wait for its row get it soon after: the
    server ends a transaction in which nothing happens."""
    store = Store(postgres.create_database("idle"))
    rows = Table("locked", MetaData(), Column("id", Integer, primary_key=True))
    store.transaction(lambda transaction: rows.create(transaction.conn))
    store.transaction(lambda transaction: transaction.execute(rows.insert(), [{"id": 1}]))
    shown = store.read(lambda conn: conn.execute(text("SHOW idle_in_transaction_session_timeout")).scalar())
    assert shown == "10s"
    held = store.engine.connect()
    held.execute(text("SET idle_in_transaction_session_timeout = '1s'"))
    held.execute(select(rows).with_for_update())
    began = time.monotonic()
    store.transaction(lambda transaction: transaction.execute(select(rows).with_for_update()))
    assert time.monotonic() - began > 0.5, "it had to wait"
    held.invalidate()
    held.close()
    store.dispose()
