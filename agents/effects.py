"""What goes into the agent's mind and what comes out of it: the events and effects of `agents.core`.

Events are made by the I/O threads, each in its own module; effects are carried out by them, through `agents.reactor`.
"""

from typing import Literal, NamedTuple

from agents.calls import Answer, Kind, Question
from agents.ovsdb import DatabaseEvent, Operations
from agents.remembered import Record
from agents.session import FeedEvent
from openflow.announce import Packet
from openflow.batch import Order, SwitchEvent
from selvedge.topics import Check

Event = DatabaseEvent | SwitchEvent | FeedEvent | Answer | Check


class Call(NamedTuple):
    """Ask the controllers; the answer comes as an `Answer`."""

    kind: Kind
    request: Question


class Remember(NamedTuple):
    """Write this to the last known topology on disk, before the effects that follow. Nothing: it was confirmed."""

    records: tuple[Record, ...]


class Transact(NamedTuple):
    """Write to Open vSwitch's database; the end comes as a `Transacted` with the same tag."""

    tag: Literal["bridge", "zones"]
    operations: Operations


class Submit(NamedTuple):
    """Send to the switch; the end comes as `Confirmed` or `Rejected`, of a `Flush` as `Flushed`, of an `Audit` as
    `Audited`."""

    order: Order


class Warm(NamedTuple):
    """These are the tunnel end points that packets may go to from now on. `again`: the switch may know none of them."""

    peers: frozenset[str]
    again: bool


class Announce(NamedTuple):
    """Send these packets now."""

    packets: tuple[Packet, ...]


Effect = Call | Remember | Transact | Submit | Warm | Announce
