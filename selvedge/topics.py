"""Topics: tiny replicated logs, each with a version.

The controller raises a topic's version in the transaction that changes its objects and publishes an `Update` that
carries the new states. A receiver that knows version n applies n+1, ignores anything up to n, and asks for a
`Snapshot` when it sees a gap. So loss, duplication and reordering are normal inputs, and no message is special.
The receiver's state machine is `agents.topics`; the writer is `controller.feed`.
"""

from typing import Annotated

import msgspec

from selvedge.topology import Object, Ref

Version = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What a database's column holds: no message brings a number that cannot be written again."""

HOSTS = "hosts"
"""The topic of all tunnel end points (`Host` objects)."""


def host_topic(host: str) -> str:
    """The topic of what is bound to one host (`Binding` objects)."""
    return f"host/{host}"


def segment_topic(segment: str) -> str:
    """The topic of one segment: its `Segment` and the `Endpoint`s on it."""
    return f"segment/{segment}"


def group_topic(group: str) -> str:
    """The topic of a security group's meaning: the `Group` and its `Rule`s. For hosts where the group is enforced."""
    return f"group/{group}"


def members_topic(group: str) -> str:
    """The topic of who is in a security group: a `Membership` for each identity. For hosts where a rule names it."""
    return f"members/{group}"


def addresses_topic(group: str) -> str:
    """The topic of one address group: its `AddressGroup`. For hosts where a rule names it."""
    return f"addresses/{group}"


class Update(msgspec.Struct, frozen=True, tag="update"):
    """The change of a topic from `version - 1` to `version`: new states, and names of what is gone."""

    topic: str
    version: Version
    upserts: tuple[Object, ...] = ()
    deletes: tuple[Ref, ...] = ()


class Check(msgspec.Struct, frozen=True, tag="check"):
    """Not of a topic: the host's agent shall compare what it has with the database, and tell what it found under `id`
    within `patience` seconds. Published to the host's queue; an agent that does not know it drops it."""

    id: str
    patience: float


Message = Update | Check
"""What a host's queue may bring."""


class Snapshot(msgspec.Struct, frozen=True, tag="snapshot"):
    """All objects of a topic at `version`. A topic that does not exist (any more) is empty, at version 0."""

    topic: str
    version: Version
    objects: tuple[Object, ...] = ()
