"""What `selvedge check` says of all hosts together, to people and to scripts."""

import json
from typing import Any

import pytest

from selvedge import verdict

NUMBERS = {"topics": 5, "objects": 12, "flows": 123, "groups": 1}
FINDING = {"step": "switch", "kind": "missing", "object": "endpoint p1", "detail": "table 0"}


def answer(*findings: dict[str, str], left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "equal": not findings,
        "found": len(findings),
        "findings": list(findings),
        "left_out": list(left_out),
        "compared": NUMBERS,
        "seconds": 0.25,
    }


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ({"hv1": answer(), "hv2": answer()}, 0),
        ({"hv1": answer(), "hv2": answer(FINDING)}, 1),
        ({"hv1": answer(), "hv2": "it did not answer"}, 2),
        ({"hv1": answer(FINDING), "hv2": "it did not answer"}, 1),
        ({}, 2),
    ],
)
def test_drift_anywhere_is_1_and_a_host_that_is_not_checked_is_2(
    verdicts: dict[str, verdict.Verdict], status: int
) -> None:
    """Drift weighs more than silence; when no host lives nothing was checked."""
    assert verdict.status(verdicts) == status


def test_each_host_has_a_line_and_each_finding_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    """A person sees how much was compared, what was left out, and the tenant's object."""
    verdict.show({"hv1": answer(FINDING), "hv2": answer(left_out=("database: nobody answered",)), "hv3": "it is dead"})
    told = capsys.readouterr().out
    assert "hv1: 1 DIFFERENCES (5 topics, 12 objects, 123 flows, 1 groups, 0.2 s)\n" in told
    assert "hv2: equal (5 topics, 12 objects, 123 flows, 1 groups, 0.2 s); not compared: database" in told
    assert "hv3: NOT CHECKED: it is dead\n" in told
    assert "endpoint p1" in told


def test_a_script_gets_the_answers_as_they_are() -> None:
    """One object, by host."""
    told = json.loads(verdict.as_json({"hv1": answer(FINDING), "hv3": "it is dead"}))
    assert told == {"hv1": answer(FINDING), "hv3": {"unchecked": "it is dead"}}
