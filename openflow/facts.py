"""Facts: all that the flows of one hypervisor are computed from.

There are two sources. Topics bring the objects of the logical topology (`selvedge.topology`), the same for every host.
The host itself brings the local facts below: which interface has which number, who we are, and what the agent decided
for a port bound here (its conntrack zone, the policy in force). Both are frozen values with a name (`Ref`), equal when
all their fields are, so the engine treats them alike. A fact that is missing, early or late is normal: whatever needs
it has no flows until it comes.

`openflow.relations` says what follows from each fact, `openflow.incremental` keeps it up to date.
"""

from typing import Literal

import msgspec

from selvedge.topology import Object, Ref, ref

TunnelKind = Literal["geneve", "vxlan"]


class Plug(msgspec.Struct, frozen=True, gc=False):
    """The interface of port `id` is on the bridge as OpenFlow port `ofport` (1 to 0xfeff)."""

    id: str
    ofport: int


class TunnelPort(msgspec.Struct, frozen=True, gc=False):
    """The bridge's tunnel port of one kind; its remote end, key and options are set by flows."""

    kind: TunnelKind
    ofport: int


class Patch(msgspec.Struct, frozen=True, gc=False):
    """The bridge's end of the patch to a provider bridge: where the wire of `physical_network` is."""

    physical_network: str
    ofport: int


class Self(msgspec.Struct, frozen=True, gc=False):
    """Who we are: our host name, and our tunnel end point if we have one (as text)."""

    host: str
    tunnel_ip: str | None = None


class Zone(msgspec.Struct, frozen=True, gc=False):
    """The connections of port `id` are tracked in the conntrack zone `number` (1 to 65535), which no other port has."""

    id: str
    number: int


class Posture(msgspec.Struct, frozen=True, gc=False):
    """Which rules are in force for a secure port bound here, and as whom it sends.

    `policy` is the number of the policy: the identity of the set `groups`, or 0 without groups, when nothing is
    allowed. `sends` is the identity that its packets carry; it lags behind while a port changes its groups, so that
    receivers know the new number first. `id` is the port's. A posture that no port has keeps a policy alive for
    packets under way (its `id` is then `drain/<policy>/<segment>`).
    """

    id: str
    segment: str
    policy: int
    groups: tuple[str, ...]
    sends: int


Fact = Object | Plug | TunnelPort | Patch | Self | Zone | Posture
"""Whatever the engine may be told."""

SELF = Ref("self", "")
"""The name of the one `Self`."""


def name(fact: Fact) -> Ref:
    """The name of a fact: facts with the same name are states of one thing."""
    if isinstance(fact, Plug):
        return Ref("plug", fact.id)
    if isinstance(fact, TunnelPort):
        return Ref("tunnel", fact.kind)
    if isinstance(fact, Patch):
        return Ref("patch", fact.physical_network)
    if isinstance(fact, Self):
        return SELF
    if isinstance(fact, Zone):
        return Ref("zone", fact.id)
    if isinstance(fact, Posture):
        return Ref("posture", fact.id)
    return ref(fact)
