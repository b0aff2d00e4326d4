"""The calls an agent makes to the controllers, over oslo.messaging.

Target: topic `CONTROLLER_TOPIC`, namespace none, version `VERSION`. Every method takes one argument `request` and
returns one value; both are `wire.to_text(wire.encode(struct))` of the structs below, named `<Method>` and
`<Method>Reply`, so that the typed decoder checks them. Every call may be repeated: they set states, and do not count.
A request that makes no sense raises `Refused` at the caller, with one sentence.
"""

import re
from typing import Annotated, Any

import msgspec

from selvedge.topics import Snapshot, Version

CONTROLLER_TOPIC = "selvedge-controller"
VERSION = "1.0"

PORT = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What may be a port's id. No call carries another: an interface can have anything as its `iface-id`."""


class Active(msgspec.Struct, frozen=True):
    """The ports of a host that are ACTIVE, short enough for every report: how many, and the sum of their keys."""

    count: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    keys: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Report(msgspec.Struct, frozen=True):
    """Sent once at start, before anything else, then every `report_interval` seconds.

    Makes the host known (its tunnel end point goes to the topic `hosts`) and alive, and compares versions.
    `configurations` is shown as it is by the API's agents list, `counts` too (flows, ports, drops …). `active` is what
    `wired` calls have told so far; None while one is under way.
    """

    host: str
    tunnel_ip: str | None
    configurations: dict[str, Any]
    started_at: str
    topics: dict[str, Version] = {}
    active: Active | None = None


class ReportReply(msgspec.Struct, frozen=True):
    """Topics whose version differs from the reported one: subscribe to them again. `restate`: other ports are ACTIVE
    than the report says (a port was bound anew, and messages about it are lost): say of all what they are."""

    stale: tuple[str, ...] = ()
    restate: bool = False


class Subscribe(msgspec.Struct, frozen=True):
    """Bind the host's queue to `topics` (topic -> version known, 0 for none) and unbind it from `drop`.

    The controller binds first and reads afterwards, so nothing falls between. A topic whose version is the known one
    sends no snapshot.
    """

    host: str
    topics: dict[str, Version]
    drop: tuple[str, ...] = ()


class SubscribeReply(msgspec.Struct, frozen=True):
    snapshots: tuple[Snapshot, ...] = ()


class Inspect(msgspec.Struct, frozen=True):
    """What are these topics, as the database has them now? Nothing is bound, nothing changes: for checks."""

    host: str
    topics: tuple[str, ...]


class InspectReply(msgspec.Struct, frozen=True):
    snapshots: tuple[Snapshot, ...] = ()


class Claim(msgspec.Struct, frozen=True):
    """These ports' interfaces are plugged here, and no binding says where they belong."""

    host: str
    ports: tuple[str, ...]


class ClaimReply(msgspec.Struct, frozen=True):
    """Port -> `claimed` (bound to the host now, or before), `elsewhere` (bound to another host) or `unknown`."""

    results: dict[str, str]


class Wired(msgspec.Struct, frozen=True):
    """Ports whose flows the switch has confirmed (`up`), that do not work (`down`), or have no interface (`unplugged`).

    A claimed port that is unplugged is released: its next plug, anywhere, claims it again. One that is merely down
    stays where it is: its interface is still there.
    """

    host: str
    up: tuple[str, ...] = ()
    down: tuple[str, ...] = ()
    unplugged: tuple[str, ...] = ()


class WiredReply(msgspec.Struct, frozen=True):
    """Ports of the request that are not bound to this host (any more); nothing was changed for them."""

    ignored: tuple[str, ...] = ()


class Refused(Exception):
    """The controller does not do what was asked; the text says why."""
