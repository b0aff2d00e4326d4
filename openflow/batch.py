"""What travels between the agent's mind, the channel and the switch's thread: orders, and what became of them.

A `Batch` is one OpenFlow bundle: all of it takes effect in one moment, or none of it. A `Flush` makes the switch forget
connections; it takes effect after whatever was ordered before it, and before what is ordered later. An `Audit` has the
switch read again. A `Refusal` is the switch's reason in its own words. Entries are named by `Key`: the bytes of a
flow's identity (table, priority, match), or a group's number; the two never collide, so one dictionary can hold both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from openflow.flow import Flow, GroupEntry

Key = bytes | int
"""A flow's key (`Flow.key`) or a group's id (`GroupEntry.id`)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An OpenFlow error: its name (`OFPBAC_BAD_OUT_PORT`), and the numbers of its type and code on the wire."""

    name: str
    type: int
    code: int

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Batch:
    """One bundle, in the order in which it is sent.

    `groups` are added or modified, leaves before the roots that refer to them; `stale` flows are deleted if they are
    ours, `foreign` ones whosever they are; `flows` are added, replacing what has the same key; `dropped` groups are
    deleted last, because the switch deletes every flow that refers to a group together with it. `connection` is the
    connection whose dump the batch was computed from: on any other one it is meaningless and must not be sent.
    """

    id: int
    connection: int
    groups: tuple[GroupEntry, ...] = ()
    stale: tuple[bytes, ...] = ()
    flows: tuple[Flow, ...] = ()
    dropped: tuple[int, ...] = ()
    foreign: tuple[bytes, ...] = ()

    def keys(self) -> Iterator[Key]:
        """The entries' keys in the order of the messages."""
        for group in self.groups:
            yield group.id
        yield from self.stale
        yield from self.foreign
        for flow in self.flows:
            yield flow.key
        yield from self.dropped

    def __len__(self) -> int:
        return len(self.groups) + len(self.stale) + len(self.foreign) + len(self.flows) + len(self.dropped)


@dataclass(frozen=True, slots=True)
class Flush:
    """Forget every connection in these zones of the connection tracker. `connection` is the one that it is meant for;
    what is lost with that must be asked anew on the next: nobody can tell whether it was done."""

    connection: int
    zones: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Audit:
    """Read the switch again. `connection` is the one that it is meant for; batches need not wait for the answer."""

    connection: int


@dataclass(frozen=True, slots=True)
class Connected:
    """The switch is there. `flows` (key → body) and `groups` (id → body) are what it has: all that bear our cookie's
    marker, and all groups (which bear no cookie: the programmer knows which are ours). `foreign` are all other flows.
    """

    connection: int
    flows: dict[bytes, bytes] = field(repr=False)
    groups: dict[int, bytes] = field(repr=False)
    foreign: dict[bytes, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Audited:
    """The answer to an `Audit`, in the form of `Connected`: what the switch has, some time between the two."""

    connection: int
    flows: dict[bytes, bytes] = field(repr=False)
    groups: dict[int, bytes] = field(repr=False)
    foreign: dict[bytes, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The switch committed this batch: packets see all of it."""

    batch_id: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """The switch took nothing of this batch.

    `failures` names the entries that it refused. `cause` is set when the refusal came at the commit or concerned the
    bundle as a whole; then `failures` names the first culprit at most, or nobody.
    """

    batch_id: int
    failures: tuple[tuple[Key, Refusal], ...]
    cause: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Flushed:
    """These zones are empty: the answer to a `Flush`, in the order of asking. A zone that the switch refused to flush
    is left out, and a `Trouble` tells why, once a connection."""

    zones: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost (once per connection, not for each failed try); what was in flight has an unknown fate."""

    reason: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that an operator must mend: another's option in our Geneve slot, or a bridge without OpenFlow 1.4. It
    stands until the next `Connected`; what is wrong with a connection is told after that connection's `Connected`."""

    text: str


Order = Batch | Flush | Audit

SwitchEvent = Connected | Confirmed | Rejected | Flushed | Audited | Disconnected | Trouble
