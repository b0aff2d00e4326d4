"""A check that somebody asked for: is all of database → topics → replica → facts → flows → switch the same here?

Asked by `selvedge check`, through the host's queue or the agent's own door (`agents.door`). A controller is asked for
the topics as the database has them, without a change of bindings, and the switch is read again, at the same time and
beside all other work; `agents.comparison` and `openflow.drift` compare. Changes on their way are no difference: what a
message touched since the question is left out, a topic that is behind has `CATCH_UP` seconds for its messages, and what
may still be on its way is looked at again. Without a controller the rest of the chain is compared, and the answer says
so. What the switch has wrong is healed on the way, as in any audit; the rest is only told.

Answers stay for `KEEP` seconds in `status.json` and in the agent's report, where the asker finds them by their number.
Pure; owned by `agents.core`. One check at a time: who asks during one gets the next.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agents.audits import Audits, Differences
from agents.calls import Answer
from agents.comparison import Finding, differing, interest, miscompiled, needed, unfaithful
from agents.conditions import named
from agents.effects import Call, Submit
from agents.topics import Change, Topics
from openflow.batch import Audited
from openflow.incremental import Engine
from openflow.programmer import Programmer
from selvedge.rpc import Inspect, InspectReply
from selvedge.topics import Check, Snapshot
from selvedge.topology import Ref, ref

CATCH_UP = 1.0
"""Seconds that a topic which is behind the database has to catch up."""

AGAIN = 0.5
"""Seconds until a difference that may have been on its way is looked for again."""

TRIES = 3
"""How often it is looked for."""

KEEP = 60.0
"""Seconds that an answer can be had."""

MOST = 50
"""Findings that an answer names; the number tells of the others."""

PATIENCE = 60.0
"""Most seconds that a check may take, whatever its asker says."""


@dataclass
class Run:
    """One check under way."""

    began: float
    deadline: float
    asked: tuple[str, ...]
    settle: float | None = None
    """When to compare, once both answers are there."""
    again: float | None = None
    """When to begin anew."""
    tries: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    touched: set[Ref] = field(default_factory=set)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    question: Inspect | None = None
    inspected: bool = False
    refused: bool = False
    differences: Differences | None = None


class Checks:
    """See the module. `answers` may be read by others; `untold`: a controller has not been told of one of them."""

    def __init__(self, host: str, topics: Topics, engine: Engine, programmer: Programmer, audits: Audits) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self.untold = False
        self.counters = {"checks": 0}
        self._host, self._topics, self._engine = host, topics, engine
        self._programmer, self._audits = programmer, audits
        self._waiting: dict[str, Check] = {}
        self._run: Run | None = None
        self._question: Inspect | None = None
        """What a controller was asked, and has not answered yet."""
        self._forget: dict[str, float] = {}
        self._settled = False

    # In -----------------------------------------------------------------------------------------------------------

    def asked(self, check: Check) -> None:
        """Somebody wants to know."""
        if check.id not in self.answers and len(self._waiting) < MOST:
            self._waiting[check.id] = check

    def touched(self, change: Change) -> None:
        """The replica changed."""
        if self._run is not None:
            self._run.touched.update(change.deletes)
            self._run.touched.update(map(ref, change.upserts))

    def inspected(self, answer: Answer) -> None:
        """A controller answered; one that refuses says as much as none."""
        self._question = None
        run, reply = self._run, answer.reply
        if run is None or run.question is not answer.request:
            return  # of an earlier check
        run.refused = not isinstance(reply, InspectReply)
        if isinstance(reply, InspectReply):
            run.snapshots.update((snapshot.topic, snapshot) for snapshot in reply.snapshots)
            run.inspected = not self._unread(run)

    def audited(self, event: Audited, now: float) -> None:
        """The switch was read, for a check or not."""
        differences = self._audits.audited(event, now)
        if differences is not None and self._run is not None and self._run.again is None:
            self._run.differences = differences

    # Out ----------------------------------------------------------------------------------------------------------

    def effects(self, now: float, *, reachable: bool, settled: bool) -> Iterator[Call | Submit]:
        """What to do now, audits that nobody asked for included. `reachable`: the feed is up. `settled`: the agent was
        in sync once."""
        self._settled = settled
        if (question := self._step(now, reachable)) is not None:
            yield Call("inspect", question)
        if (audit := self._audits.order(now)) is not None:
            yield Submit(audit)

    def _step(self, now: float, reachable: bool) -> Inspect | None:
        for name in [name for name, until in self._forget.items() if until <= now]:
            del self._forget[name], self.answers[name]
        if self._run is None and self._waiting:
            patience = min(PATIENCE, *(check.patience for check in self._waiting.values()))
            self._run = Run(now, now + patience, tuple(self._waiting), again=now)
            self._waiting.clear()
        run = self._run
        if run is None:
            return None
        if run.again is not None:
            if not self._settled:
                if now >= run.deadline:
                    self._finish(run, [Finding("agent", "missing", "the agent", "it is not in sync yet")], now)
                return None
            if now >= run.again:
                self._begin(run)
        reachable &= not run.refused
        question = self._next(run) if reachable else None
        if run.again is None:
            self._conclude(run, now, reachable)
        return question

    def deadline(self) -> float | None:
        """When `step` has something to do, if nothing else happens before."""
        times = [*self._forget.values()]
        if (due := self._audits.deadline()) is not None:
            times.append(due)
        if (run := self._run) is not None:
            # What has to wait for the agent to settle needs no clock: whatever settles it is an event.
            again = run.again if self._settled else None
            times += [time for time in (run.deadline, again, run.settle) if time is not None]
        return min(times, default=None)

    # How ----------------------------------------------------------------------------------------------------------

    def _begin(self, run: Run) -> None:
        run.again = run.settle = None
        run.versions = self._topics.versions()
        run.touched, run.snapshots = set(), {}
        run.question, run.inspected, run.differences = None, False, None
        run.tries += 1
        self._audits.ask()

    def _unread(self, run: Run) -> set[str]:
        """Topics that are still to be read of the database: all that are followed, and all that it says are needed."""
        return (run.versions.keys() | needed(self._host, run.snapshots)) - run.snapshots.keys()

    def _next(self, run: Run) -> Inspect | None:
        if run.inspected or run.again is not None or self._question is not None:
            return None
        self._question = run.question = Inspect(self._host, tuple(sorted(self._unread(run))))
        return run.question

    def _conclude(self, run: Run, now: float, reachable: bool) -> None:
        """Compare, if everything is there that will come."""
        late = now >= run.deadline
        if not late and (run.differences is None or (reachable and not run.inspected)):
            return
        if run.inspected and self._behind(run) and not late:
            run.settle = run.settle or now + CATCH_UP
            if now < run.settle:
                return
        findings = self._findings(run)
        passing = [finding for finding in findings if finding.step in ("database", "interest", "facts")]
        if passing and run.tries < TRIES and now - run.began < (run.deadline - run.began) / 2:
            run.again, run.settle = now + AGAIN, None
            return
        self._finish(run, findings, now)

    def _behind(self, run: Run) -> list[Snapshot]:
        """What the database is ahead in, of the topics that are followed all the time."""
        return [
            snapshot
            for snapshot in run.snapshots.values()
            if self._comparable(snapshot, run) and self._topics[snapshot.topic].version < snapshot.version
        ]

    def _comparable(self, snapshot: Snapshot, run: Run) -> bool:
        """Whether the topic was followed when the question was asked, and is now."""
        topic = snapshot.topic
        return topic in run.versions and topic in self._topics and self._topics[topic].synced

    def _findings(self, run: Run) -> list[Finding]:
        findings: list[Finding] = []
        if run.inspected:
            behind = {snapshot.topic for snapshot in self._behind(run)}
            for topic, snapshot in run.snapshots.items():
                if not self._comparable(snapshot, run):
                    continue
                state = self._topics[topic]
                if topic in behind or snapshot.version < run.versions[topic]:
                    text = f"version {state.version} here, {snapshot.version} in the database"
                    findings.append(Finding("database", "altered", f"topic {topic}", text))
                else:
                    findings += differing(snapshot, state, run.touched)
            findings += interest(needed(self._host, run.snapshots, run.touched), self._topics.versions())
        findings += unfaithful(self._topics.objects(), self._engine)
        findings += miscompiled(self._engine, self._programmer.wanted)
        for owner, failure in self._programmer.failed.items():
            reasons = ", ".join(sorted({str(refusal) for refusal in failure.refusals.values()}))
            findings.append(Finding("switch", "refused", named(owner), reasons))
        differences = run.differences or ()
        for difference, (what, where) in zip(differences, self._audits.words(differences), strict=True):
            findings.append(Finding("switch", difference.kind, what, where))
        return findings

    def _finish(self, run: Run, findings: list[Finding], now: float) -> None:
        left_out = [] if run.inspected else ["database and interest: no controller answered"]
        left_out += [] if run.differences is not None else ["switch: it was not read"]
        answer = {
            "equal": not findings,
            "found": len(findings),
            "findings": [finding._asdict() for finding in findings[:MOST]],
            "left_out": left_out,
            "compared": {
                "topics": len(run.snapshots),
                "objects": sum(len(snapshot.objects) for snapshot in run.snapshots.values()),
                "flows": self._programmer.flows,
                "groups": self._programmer.groups,
            },
            "seconds": round(now - run.began, 3),
        }
        for name in run.asked:
            self.answers[name], self._forget[name] = answer, now + KEEP
        self.counters["checks"] += 1
        self.untold, self._run = True, None
