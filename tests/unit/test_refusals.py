"""Controllers that refuse, or speak a newer schema, for days: little is asked, it is said once, nothing forgotten."""

import itertools
import logging
from typing import Any

import pytest

from agents.calls import Answer
from agents.core import Core
from agents.effects import Call
from agents.ovsdb import Loaded
from agents.refusals import PAUSES, Refusals
from agents.session import FeedUp
from selvedge import rpc, wire
from selvedge.topics import HOSTS, Snapshot
from tests.unit.surroundings import HERE, SETTINGS

NEWER = wire.Unreadable("message has schema 9, this version reads 3")


def calls(core: Core, now: float, *events: object) -> list[Call]:
    return [effect for effect in core.step(events, now) if isinstance(effect, Call)]  # type: ignore[arg-type]


def test_newer_controllers_for_a_day_are_asked_ever_more_rarely_and_the_log_says_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Given controllers whose answers cannot be read for a day, two calls a minute or fewer are made, and two lines are
    written; once they can be read again the agent knows what it should."""
    caplog.set_level(logging.INFO)
    core = Core(SETTINGS, 0.0)
    reported = calls(core, 0.0, FeedUp(False), Loaded({}))[0]
    asked = calls(core, 0.0, Answer("report", reported.request, rpc.ReportReply(), None))
    made, now = 0, 0.0
    while now < 86_400:
        answers = [Answer(call.kind, call.request, None, NEWER) for call in asked]
        asked = calls(core, now, *answers)
        made += len(asked)
        if not asked:
            due = core.deadline()
            assert due is not None and due > now
            now = due
    assert made < 86_400 / 60 * (60 / SETTINGS.report_interval + 60 / (PAUSES[1] * 0.75)) + 20
    assert len([record for record in caplog.records if "schema 9" in record.message]) == 2
    assert core.refusals.troubles == {"report": str(NEWER), "subscribe": str(NEWER)}
    assert not core.in_sync

    wanted = set()
    while core.refusals.troubles:
        questions = [call.request for call in asked if isinstance(call.request, rpc.Subscribe)]
        snapshots = tuple(Snapshot(topic, 7) for question in questions for topic in question.topics)
        replies: dict[str, Any] = {"report": rpc.ReportReply(), "subscribe": rpc.SubscribeReply(snapshots)}
        wanted |= {snapshot.topic for snapshot in snapshots}
        asked = calls(core, now, *(Answer(call.kind, call.request, replies[call.kind], None) for call in asked))
        now += 1.0
    assert wanted == {HOSTS, f"host/{HERE}"} and core.topics.synced
    assert "answer a subscribe again" in caplog.text


def test_a_refused_call_waits_twice_as_long_each_time_up_to_a_minute() -> None:
    refusals, pauses = Refusals(), []
    for _ in range(8):
        refusals.heard(Answer("subscribe", rpc.Subscribe(HERE, {}), None, rpc.Refused("no")))
        pauses.append(refusals.pause("subscribe"))
    assert all(1.3 < later / sooner < 2.7 for sooner, later in itertools.pairwise(pauses[:4]))
    assert PAUSES[0] * 0.75 <= pauses[0] <= PAUSES[0] and max(pauses) <= PAUSES[1]
    assert refusals.pause("report") == 0.0 and refusals.count == 8
    refusals.heard(Answer("subscribe", rpc.Subscribe(HERE, {}), rpc.SubscribeReply(), None))
    assert refusals.pause("subscribe") == 0.0
