"""What a port that is bound here is at the moment, and why: `up`, `down` with a reason, or pending.

A port is up when it is plugged, its security is in force (`agents.enforcement`) and the batch with its flows was
confirmed. Pending is what will pass by itself soon; controllers are not told of it and go on believing what they
believed, so an agent's or a switch's restart does not make a thousand ports flap. A reason names what a person can act
on: an option, an interface, the switch's own words.

Only reads; the one thing kept is who is larger than its segment. `agents.states` asks for those ports that something
happened to.
"""

import logging
from typing import Literal, NamedTuple

from agents.bridge import Problem
from agents.enforcement import Enforcement
from agents.inventory import Inventory, Plugged, Role
from agents.news import News
from openflow.incremental import Engine
from openflow.programmer import Programmer
from selvedge.topology import OVERLAYS, Endpoint, Ref, Segment


class Settings(NamedTuple):
    """The configuration, as far as it decides anything here. `started_at` is ISO 8601, for the report."""

    host: str
    tunnel_ip: str | None
    tunnel_types: tuple[str, ...]
    bridge_mappings: dict[str, str]
    integration_bridge: str
    datapath_type: str
    report_interval: float
    started_at: str
    audit_interval: float = 0.0
    keep_foreign: bool = False


class Status(NamedTuple):
    """What a bound port is at the moment, and why."""

    state: Literal["up", "down", "pending"]
    reason: str = ""
    failed: bool = False
    """Down although it is plugged and nobody wants it down."""


WAITING = Status("pending", "the switch has not confirmed its flows yet")


def _failed(reason: str) -> Status:
    return Status("down", reason, failed=True)


def named(owner: object) -> str:
    """An owner of flows in a person's words: `endpoint 4a6e…`, `station <segment> <mac>`."""
    return " ".join(str(part) for part in owner) if isinstance(owner, tuple) else str(owner)


class Conditions:
    """See the module."""

    def __init__(
        self,
        settings: Settings,
        *,
        inventory: Inventory,
        engine: Engine,
        programmer: Programmer,
        news: News,
        enforcement: Enforcement,
    ) -> None:
        self._settings, self._inventory, self._engine, self._programmer = settings, inventory, engine, programmer
        self._enforcement, self._news = enforcement, news
        self.problems: tuple[Problem, ...] = ()
        """What `agents.bridge` could not do."""
        self.oversize: dict[str, str] = {}
        """Ports whose interface takes larger packets than their segment carries -> in words."""

    def refused(self) -> dict[tuple[object, ...], str]:
        """What the compilers made nothing of, owner or fact -> why."""
        return {**self._engine.malformed, **self._engine.failed}

    def of(self, port: str, aboard: bool) -> Status:
        """`aboard`: the batch that was just confirmed had all that was pending when the port began to wait."""
        plugged = self._inventory.roles.get(Role("port", port))
        if plugged is None:
            self.oversize.pop(port, None)
            return Status("down", "no interface has its iface-id")
        if plugged.ofport == 0 and plugged.error is not None:
            return _failed(f"interface {plugged.interface}: {plugged.error}")
        endpoint = self._engine.fact(Ref("endpoint", port))
        if not isinstance(endpoint, Endpoint) or endpoint.host != self._settings.host:
            return Status("pending", "its segment's topic has not come yet")
        segment = self._engine.fact(Ref("segment", endpoint.segment))
        if not isinstance(segment, Segment):
            return Status("pending", "its segment has not come yet")
        self._check_mtu(port, plugged, segment)
        if not (endpoint.up and segment.up):
            return Status("down", f"the {'port' if segment.up else 'network'} is administratively down")
        if (obstacle := self._carrier(segment)) is not None:
            return obstacle
        if plugged.ofport == 0:
            return Status("pending", f"interface {plugged.interface} has no OpenFlow port yet")
        if (unprotected := self._enforcement.obstacle(port, endpoint.secure)) is not None:
            return _failed(unprotected.reason) if unprotected.failed else Status("pending", unprotected.reason)
        return self._flows_of(port, aboard)

    def _carrier(self, segment: Segment) -> Status | None:
        """What keeps a segment from leaving this host, if anything."""
        if segment.kind in OVERLAYS:
            if self._settings.tunnel_ip is None or segment.kind not in self._settings.tunnel_types:
                return _failed(f"this host has no {segment.kind} tunnels (tunnel_ip, tunnel_types)")
            role = Role("tunnel", segment.kind)
        else:
            physnet = segment.physical_network or ""
            if physnet not in self._settings.bridge_mappings:
                return _failed(f"physical network {physnet} is not in bridge_mappings")
            role = Role("patch", physnet)
        plugged = self._inventory.roles.get(role)
        if plugged is not None and plugged.ofport > 0:
            return None
        problem = next((p for p in self.problems if p.concerns(role)), None)
        if problem is not None:
            return _failed(f"{problem.subject}: {problem.reason}")
        if plugged is not None and plugged.error is not None:
            return _failed(f"interface {plugged.interface}: {plugged.error}")
        return Status("pending", f"{role.kind} port of {role.id} is being made")

    def _flows_of(self, port: str, aboard: bool) -> Status:
        engine = self._engine
        owners = engine.owners_of(port)
        for owner in owners:
            if (reason := (engine.failed.get(owner) or engine.malformed.get(owner))) is not None:
                return _failed(f"no flows for {named(owner)}: {reason}")
            if (failure := self._programmer.failed.get(owner)) is not None:
                refusal = next(iter(failure.refusals.values()))
                return _failed(f"the switch refused flows of {named(owner)}: {refusal}")
        asked = (Ref("endpoint", port),) if aboard else owners
        return WAITING if any(self._programmer.pending(owner) for owner in asked) else Status("up")

    def _check_mtu(self, port: str, plugged: Plugged, segment: Segment) -> None:
        """A larger interface lets a VM send what its segment cannot carry: say so, since nobody else would."""
        if plugged.mtu is None or plugged.mtu <= segment.mtu:
            self.oversize.pop(port, None)
            return
        text = f"interface {plugged.interface} has MTU {plugged.mtu}, but segment {segment.id} carries {segment.mtu}"
        if self.oversize.get(port) != text:
            self.oversize[port] = text
            self._news.add(logging.WARNING, "larger packets will be lost of ports", f"{port}: {text}")
