"""Compilers: one pure function per kind of owner, from what a `View` shows to the owner's flows and groups.

A compiler takes the view and the owner's name, and returns all of the owner's flows: not what changed, nor what to
undo. Who recompiles what and when is `openflow.incremental`'s business; the kinds of flows are declared in
`openflow.pipeline`. A compiler asks first for what rules most owners out, so that little is read in vain.

| owner | is | of its flows |
|---|---|---|
| base | the bridge | what all endpoints share |
| endpoint | a port bound here | classification, guard, its policy, output: all that needs its interface or names it |
| station | a MAC on a segment | where frames to it go, and whose identity is at its addresses |
| address | an IP address on a segment | the answer to "who has" |
| segment | a segment with members here | tunnel key or VLAN, flooding |
| host | a hypervisor with which we share a segment | its tunnel |
| policy | a set of security groups that ports here have | its rules |
"""

from collections.abc import Callable, Mapping, Sequence

from openflow.compilers import address, base, endpoint, host, policy, segment, station
from openflow.flow import Flow, GroupEntry
from openflow.relations import Node, View

Compiler = Callable[[View, Node], Sequence[Flow | GroupEntry]]

BASE: Node = ("base",)
"""The one owner that is always there."""

COMPILERS: Mapping[object, Compiler] = {
    "base": base.compile_base,
    "endpoint": endpoint.compile_endpoint,
    "station": station.compile_station,
    "address": address.compile_address,
    "segment": segment.compile_segment,
    "host": host.compile_host,
    "policy": policy.compile_policy,
}
"""By the first part of the owner's name."""
