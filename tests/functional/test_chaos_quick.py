"""The benchmarks that break parts, for a moment: they count packets under load, so each has the machine to itself."""

from pathlib import Path

import pytest

from tests.functional.test_bench_quick import assert_written, document, results

pytestmark = pytest.mark.alone

ZEROES = ("lost_packets", "wrong_packets", "broken_connections", "lost_changes", "handed_out_twice", "drift", "defects")
RECOVERY = {"lost", "outage_s", "in_sync_s", "messages", "kbytes", "controller_cpu_s", "broker_cpu_s"}
CHAOS = {*ZEROES, "lost_across_broken_switches", "quiet_s", "sent", "trespasses", "changes_answered", "fault_s"}


def test_faults_of_what_is_central_cost_no_packet(tmp_path: Path) -> None:
    """Agents, broker, controllers, database and links go and come back: nothing is lost."""
    found = document("recovery", {}, tmp_path)
    assert_written(found, "recovery", RECOVERY)
    lost = {result["params"]["fault"]: result["max"] for result in results(found, "lost")}
    assert len(lost) >= 5
    assert set(lost.values()) == {0}, lost


def test_a_moment_of_chaos_loses_nothing(tmp_path: Path) -> None:
    """Half a minute in which everything breaks that may; seven kinds of loss are counted, and none has happened."""
    found = document("chaos", {}, tmp_path)
    assert_written(found, "chaos", CHAOS)
    assert {name: results(found, name)[0]["max"] for name in ZEROES} == dict.fromkeys(ZEROES, 0.0)
    for name in ("sent", "trespasses", "changes_answered"):
        assert results(found, name)[0]["max"] > 0
