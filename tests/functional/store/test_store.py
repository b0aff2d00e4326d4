"""Transactions: hooks, races, consistent reads, and a database that goes away."""

import threading

import pytest
from sqlalchemy import func, select, text

from controller.store.engine import DatabaseAway, Store, Transaction
from controller.store.schema import networks, topics
from devstack.labs.postgres import Postgres
from tests.rest import Api


def insert(transaction: Transaction, name: str) -> None:
    transaction.execute(topics.insert().values(name=name, version=1))


def names(store: Store) -> list[str]:
    return store.read(lambda conn: list(conn.execute(select(topics.c.name).order_by(topics.c.name)).scalars()))


def test_hooks_run_after_commit_in_order_and_never_after_a_rollback(store: Store) -> None:
    seen: list[str] = []

    def defective() -> None:
        raise RuntimeError("a hook's own trouble")

    def work(transaction: Transaction) -> str:
        transaction.on_commit(lambda: seen.append(f"first sees {names(store)}"))
        transaction.on_commit(defective)
        transaction.on_commit(lambda: seen.append("third"))
        insert(transaction, "a")
        return "result"

    def fails(transaction: Transaction) -> None:
        transaction.on_commit(lambda: seen.append("never"))
        insert(transaction, "b")
        raise RuntimeError

    assert store.transaction(work) == "result"
    with pytest.raises(RuntimeError):
        store.transaction(fails)
    assert seen == ["first sees ['a']", "third"]
    assert names(store) == ["a"]


def test_a_lost_race_runs_the_work_again(store: Store) -> None:
    """The second run's reads see what the first run did not."""
    runs: list[int] = []

    def work(transaction: Transaction) -> None:
        count = transaction.execute(select(func.count()).select_from(topics)).scalar_one()
        runs.append(count)
        if len(runs) == 1 and not store.sqlite:
            # Somebody else is quicker.
            other = Store(str(store.url.render_as_string(hide_password=False)))
            other.transaction(lambda quick: insert(quick, "number 0"))
            other.dispose()
        insert(transaction, f"number {count}")

    store.transaction(work)
    assert runs == ([0] if store.sqlite else [0, 1])
    assert names(store) == (["number 0"] if store.sqlite else ["number 0", "number 1"])


def test_counting_up_in_many_threads_loses_nothing(store: Store) -> None:
    """Read, then write what was not there: every thread's result is a number of its own."""

    def work(transaction: Transaction) -> int:
        count: int = transaction.execute(select(func.count()).select_from(topics)).scalar_one()
        insert(transaction, f"{count:04}")
        return count

    results: list[int] = []

    def run() -> None:
        for _ in range(10):
            results.append(store.transaction(work))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(60))
    assert len(names(store)) == 60


def test_a_read_sees_one_moment(store: Store) -> None:
    def work(conn: object) -> tuple[int, int]:
        count = select(func.count()).select_from(topics)
        before = conn.execute(count).scalar_one()  # type: ignore[attr-defined]
        store.transaction(lambda transaction: insert(transaction, "meanwhile"))
        return before, conn.execute(count).scalar_one()  # type: ignore[attr-defined]

    assert store.read(work) == (0, 0)
    assert names(store) == ["meanwhile"]


def test_text_of_all_alphabets_is_kept_and_sorted_the_same_way(api: Api) -> None:
    wanted = ["", "A", "Zürich", "a", "ß", "東京", "🧵"]
    for name in reversed(wanted):
        api.network(name=name)
    assert [network["name"] for network in api.get("networks?sort_key=name")["networks"]] == wanted


def test_a_database_that_goes_away_is_a_503_and_comes_back(postgres: Postgres, postgres_url: str) -> None:
    """Connections of the pool died with it: the first request after its return succeeds all the same."""
    store = Store(postgres_url)
    api = Api(store)
    network = api.network()
    postgres.stop()
    try:
        for method, path, body in (
            ("GET", "/v2.0/networks", None),
            ("POST", "/v2.0/networks", {"network": {}}),
            ("DELETE", f"/v2.0/networks/{network['id']}", None),
        ):
            answer = api.call(method, path, body)
            assert (answer.status, answer.error) == (503, "HTTPServiceUnavailable"), answer
        with pytest.raises(DatabaseAway):
            store.transaction(lambda transaction: transaction.execute(text("SELECT 1")))
    finally:
        postgres.start()
    assert api.get(f"networks/{network['id']}")["network"] == network
    api.network()
    # Its backends are killed while idle, as a fail-over does.
    other = Store(postgres_url)
    kill = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid != pg_backend_pid() AND datname='store'"
    )
    other.transaction(lambda transaction: transaction.execute(kill))
    assert api.create("network").status == 201
    other.transaction(lambda transaction: transaction.execute(kill))
    assert api.call("GET", "/v2.0/networks").status == 200
    store.transaction(lambda transaction: transaction.execute(networks.delete().where(networks.c.id == "none")))
    other.dispose()
    store.dispose()
