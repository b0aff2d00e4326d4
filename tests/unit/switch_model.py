"""A model of the switch for the programmer's tests, and the few verbs that let the two talk.

The model does what was measured on Open vSwitch: bad entries are refused when they are added, all of them; a full table
or a missing group is noticed at the commit, which names the first entry concerned; a group that is deleted takes the
flows that refer to it along.
"""

from functools import cache

from openflow.batch import Batch, Confirmed, Connected, Refusal, Rejected
from openflow.flow import Bucket, Flow, GroupEntry, Output, ToGroup, match
from openflow.pipeline import FIRST_GROUP
from openflow.programmer import Programmer

BAD_PORT = Refusal("OFPBAC_BAD_OUT_PORT", 2, 4)
NO_GROUP = Refusal("OFPBAC_BAD_OUT_GROUP", 2, 9)
TABLE_FULL = Refusal("OFPFMFC_TABLE_FULL", 5, 1)
COMMIT_FAILED = Refusal("OFPBFC_MSG_FAILED", 17, 7)

FOREIGN_GROUP = 5
G3, G5, G9 = FIRST_GROUP + 3, FIRST_GROUP + 5, FIRST_GROUP + 9
BAD = 13
"""The output port that the model refuses when told to."""


@cache
def flow(number: int, port: int = 1, group: int | None = None) -> Flow:
    action = Output(port) if group is None else ToGroup(group)
    return Flow(0, 100, 0x5E << 56 | number, match(in_port=number + 1), (action,))


@cache
def group(number: int, port: int = 1, leaf: int | None = None) -> GroupEntry:
    return GroupEntry(number, (Bucket((Output(port) if leaf is None else ToGroup(leaf),)),))


class Model:
    """A switch: entries by key, what it refuses, and how many flows it holds at most."""

    def __init__(self) -> None:
        self.flows: dict[bytes, Flow] = {}
        self.groups: dict[int, GroupEntry] = {FOREIGN_GROUP: group(FOREIGN_GROUP)}
        self.refuses = False
        self.limit = 1000
        self.silent_commit = False
        self.received = 0

    def dump(self, connection: int) -> Connected:
        return Connected(
            connection,
            {key: entry.body for key, entry in self.flows.items()},
            {number: entry.body for number, entry in self.groups.items()},
        )

    def bad(self, entry: Flow | GroupEntry) -> bool:
        actions = entry.actions if isinstance(entry, Flow) else tuple(a for b in entry.buckets for a in b.actions)
        return self.refuses and Output(BAD) in actions

    def apply(self, batch: Batch) -> Confirmed | Rejected:
        self.received += len(batch)
        entries: list[GroupEntry | Flow] = [*batch.groups, *batch.flows]
        failures = [(entry.key, BAD_PORT) for entry in entries if self.bad(entry)]
        if failures:
            return Rejected(batch.id, tuple(failures))
        flows = {key: entry for key, entry in self.flows.items() if key not in batch.stale}
        groups = {**self.groups, **{entry.id: entry for entry in batch.groups}}
        for added in batch.flows:
            full = added.key not in flows and len(flows) >= self.limit
            if full or any(number not in groups for number in referred(added)):
                named = () if self.silent_commit else ((added.key, TABLE_FULL if full else NO_GROUP),)
                return Rejected(batch.id, named, COMMIT_FAILED)
            flows[added.key] = added
        for number in batch.dropped:
            del groups[number]
            flows = {key: entry for key, entry in flows.items() if number not in referred(entry)}
        self.flows, self.groups = flows, groups
        return Confirmed(batch.id)


def referred(entry: Flow) -> list[int]:
    """The groups that a flow gives packets to."""
    return [action.id for action in entry.actions if isinstance(action, ToGroup)]


def answer(programmer: Programmer, reply: Confirmed | Rejected, now: float) -> set[object]:
    if isinstance(reply, Confirmed):
        return set(programmer.confirmed(reply.batch_id))
    return set(programmer.rejected(reply, now))


def settle(programmer: Programmer, model: Model, now: float = 0.0) -> list[Batch]:
    """Let it send until it has nothing more to send at this time; the batches it sent."""
    batches: list[Batch] = []
    while (batch := programmer.next_batch(now)) is not None:
        batches.append(batch)
        answer(programmer, model.apply(batch), now)
        assert len(batches) < 5000, "the programmer sends for ever"
    return batches


def started(model: Model) -> Programmer:
    programmer = Programmer()
    programmer.connected(model.dump(1))
    programmer.release()
    return programmer
