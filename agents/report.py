"""What the agent tells about itself: to the controllers (`report` calls, shown by the API's agents list) and to the
operator of this machine (`status.json`).

Both are read-only views of `agents.core`; nothing decides anything by them. Failures are told in the tenant's terms,
a port and a sentence, and every list is bounded: one bad day must not make a report of megabytes.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from openflow.pipeline import LARGEST_ZONE
from selvedge.rpc import Active, Report
from selvedge.topology import Endpoint, Host, Ref, Rule, Segment, ref

if TYPE_CHECKING:
    from agents.core import Core

MOST = 50
"""Failed ports that a report names; the count tells of the others."""


def report(core: "Core") -> Report:
    """The request of a `report` call."""
    settings = core.settings
    return Report(
        host=settings.host,
        tunnel_ip=settings.tunnel_ip,
        configurations={
            "tunnel_types": list(settings.tunnel_types) if settings.tunnel_ip is not None else [],
            "bridge_mappings": settings.bridge_mappings,
            "integration_bridge": settings.integration_bridge,
            "datapath_type": settings.datapath_type,
            "ovs_version": _ovs_version(core),
            "in_sync": core.in_sync,
            "counts": counts(core),
            "failed_ports": dict(sorted(failures(core).items())[:MOST]),
            "problems": problems(core)[:MOST],
            "checks": core.checks.answers,
        },
        started_at=settings.started_at,
        topics=core.topics.versions(),
        active=_active(core),
    )


def _active(core: "Core") -> Active | None:
    """What the controllers were told of ports; None while that is not all told."""
    if not (core.settled and core.wiring.quiet):
        return None
    up = [core.engine.fact(Ref("endpoint", port)) for port, state in core.wiring.acknowledged.items() if state == "up"]
    keys = [fact.key for fact in up if isinstance(fact, Endpoint)]
    return Active(len(keys), sum(keys)) if len(keys) == len(up) else None


def counts(core: "Core") -> dict[str, int]:
    """Numbers of what is here now."""
    states = [status.state for status in core.states.ports.values()]
    return {
        "ports": len(core.bindings),
        "ports_up": states.count("up"),
        "ports_down": states.count("down"),
        "ports_failed": len(failures(core)),
        "ports_oversize": len(core.conditions.oversize),
        "plugged_elsewhere": len(core.claims.refused),
        "topics": len(core.topics.versions()),
        "flows": core.programmer.flows,
        "groups": core.programmer.groups,
        "security_groups": len(core.enforcement.groups),
        "policies": len(set(core.enforcement.policies.values()) - {0}),
        "ports_awaiting_groups": core.enforcement.waiting,
        "zones": len(core.enforcement.zones.numbers),
        "failed_owners": len(core.failed_owners()),
        "contested_flows": core.engine.contested,
        "unread_rows": core.inventory.mirror.unread,
        "foreign": len(core.programmer.foreign),
        **core.audits.counters,
        **core.checks.counters,
    }


def failures(core: "Core") -> dict[str, str]:
    """Plugged ports that do not work -> why."""
    return {
        port: status.reason for port, status in core.states.ports.items() if status.state == "down" and status.failed
    }


def problems(core: "Core") -> list[str]:
    """What an operator has to mend, one line each."""
    lines = [f"{problem.subject}: {problem.reason}" for problem in core.upkeep.problems]
    lines += [core.headless.problem] if core.headless.problem is not None else []
    lines += [f"{source}: {text}" for source, text in sorted((core.troubles | core.refusals.troubles).items())]
    if exhausted := core.enforcement.zones.exhausted:
        lines.append(f"conntrack zones: all {LARGEST_ZONE} are taken, and {exhausted} ports have none")
    lines += [f"port {port}: {text}" for port, text in sorted(core.conditions.oversize.items())]
    contested = ((role.id, plugged) for role, plugged in core.inventory.roles.items() if plugged.others)
    lines += [f"Open vSwitch's database: {text}" for _, text in sorted(core.inventory.mirror.strange.items())]
    return lines + [f"port {port}: {plugged.contest}" for port, plugged in sorted(contested)]


def status(core: "Core") -> dict[str, Any]:
    """The part of status.json that the core knows; `agents.reactor` adds the threads' counters."""
    policies = core.enforcement.policies
    ports: dict[str, dict[str, Any]] = {
        port: {"state": status.state, "reason": status.reason, "policy": policies.get(port, 0)}
        for port, status in sorted(core.states.ports.items())
    }
    for port, result in sorted(core.claims.refused.items()):
        reason = f"plugged, but the controllers say: {result}"
        ports.setdefault(port, {"state": "unbound", "reason": reason, "policy": 0})
    return {
        "host": core.settings.host,
        "in_sync": core.in_sync,
        "headless": core.headless.running,
        "last_known": core.headless.of,
        "snapshots": core.topics.counters.snapshots,
        "flows": core.programmer.flows,
        "groups": core.programmer.groups,
        "counts": counts(core),
        "owners_compiled": core.engine.compilations,
        "ports_flapped": core.inventory.flapping.holds if core.inventory.flapping else 0,
        "topics": core.topics.versions(),
        "feed": {**asdict(core.topics.counters), "calls_refused": core.refusals.count},
        "peers": sorted(core.engine.peers),
        "problems": problems(core),
        "checks": core.checks.answers,
        "failed_owners": sorted(core.failed_owners()),
        "ports": ports,
        "objects": objects(core),
    }


def objects(core: "Core") -> dict[str, dict[str, str]]:
    """What the keys in cookies mean: kind of the cookie -> key -> the name of the port, the network, the host, or the
    rule with its group."""
    names: dict[str, dict[str, str]] = {"segment": {}, "endpoint": {}, "host": {}, "rule": {}}
    for thing in core.topics.objects():
        if isinstance(thing, Segment):
            names["segment"][str(thing.key)] = thing.network
        elif isinstance(thing, Rule):
            names["rule"][str(thing.key)] = f"{thing.id} of group {thing.group}"
        elif isinstance(thing, Endpoint | Host):
            names[ref(thing).kind][str(thing.key)] = thing.id
    return names


def _ovs_version(core: "Core") -> str | None:
    roots = core.inventory.mirror.rows["Open_vSwitch"].values()
    return next((root["ovs_version"] for root in roots), None)
