"""What the benchmarks say about samples: percentiles, the document's form, budgets, what daemons cost."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.budgets import Budget, verdict
from bench.ledger import Ledger
from bench.measures import Cost, Report, Result, median, percentile

SAMPLES = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)


@given(SAMPLES, st.sampled_from((50, 95, 99, 100)))
def test_a_percentile_is_a_sample_that_enough_do_not_exceed(values: list[float], percent: int) -> None:
    """Nearest rank: the smallest sample that at least p % of the samples do not exceed."""
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)


@given(SAMPLES)
def test_the_median_divides_the_samples(values: list[float]) -> None:
    """No more than half of the samples are on either side."""
    middle = median(values)
    assert sum(value < middle for value in values) * 2 <= len(values)
    assert sum(value > middle for value in values) * 2 <= len(values)


def test_a_report_has_the_promised_form() -> None:
    """The document that evaluators read, key by key."""
    result = Result("bulk_s", "s", (1.0, 3.0, 2.0), {"ports": 100})
    report = Report("bulk", {"selvedge": "1"}, (result,), (Cost("hv1 agent", 1.2345, 99.96),))
    assert report.document() == {
        "benchmark": "bulk",
        "versions": {"selvedge": "1"},
        "results": [
            {
                "name": "bulk_s",
                "params": {"ports": 100},
                "unit": "s",
                "n": 3,
                "median": 2.0,
                "p95": 3.0,
                "p99": 3.0,
                "max": 3.0,
            }
        ],
        "daemons": [{"name": "hv1 agent", "cpu_s": 1.234, "peak_rss_mb": 100.0}],
    }


def test_nothing_measured_is_an_error() -> None:
    """A result without samples would be a number out of nowhere."""
    with pytest.raises(ValueError, match="nothing was measured"):
        Result("bulk_s", "s", (), {"ports": 100})


def test_a_budget_holds_for_its_parameters_only() -> None:
    """At most, at least, and other parameters."""
    table = (
        Budget("wire", "reply_ms", {"where": "remote"}, "median", 10),
        Budget("wire", "rate", {}, "median", 10, least=True),
    )
    numbers = {"median": 11.0}
    assert verdict("wire", "reply_ms", {"where": "remote", "present": 0}, numbers, table) == "median ≤ 10: MISSED"
    assert verdict("wire", "reply_ms", {"where": "local"}, numbers, table) == ""
    assert verdict("wire", "rate", {}, numbers, table) == "median ≥ 10: met"


BURN = """
import os, subprocess, sys, time
if len(sys.argv) == 1:
    child = subprocess.Popen([sys.executable, "-c", open("/proc/self/cmdline").read().split("\\0")[2], "child"])
while time.process_time() < 0.3: pass
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def burner() -> Iterator[int]:
    """A process with a child; each burns 0.3 s of CPU time, then waits. Both are done burning when this yields."""
    process = subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(2):
        process.stdout.readline()
    yield process.pid
    process.communicate(b"")


def test_a_daemon_costs_what_its_whole_family_took_over_its_restarts() -> None:
    """A daemon with a worker is started, observed and ended, twice: one line, four shares of CPU time."""
    running: dict[str, int] = {}
    ledger = Ledger(lambda: running)
    for _ in range(2):
        with burner() as running["daemon"]:
            ledger.observe()
        running.clear()
    (cost,) = ledger.costs()
    assert cost.name == "daemon"
    assert 1.1 <= cost.cpu_s <= 2.5
    assert cost.peak_rss_mb > 10


def test_what_ran_before_the_ledger_began_is_not_counted() -> None:
    """A daemon has been busy before the measurement: only what it does afterwards is its cost."""
    with burner() as pid:
        ledger = Ledger(lambda: {"daemon": pid})
        (cost,) = ledger.costs()
    assert cost.cpu_s < 0.1
