"""recovery: what each fault costs, with a full hypervisor among sixteen: packets, seconds, messages, bytes, CPU.

1,000 ports on hv1 and members of their network on every host; a VM on hv1 asks one on hv2 every millisecond all the
while. For each fault: `lost` packets, the longest silence (`outage_s`), and how long until all is as it should be
(`in_sync_s`), from the moment at which what was broken runs again: of an agent, its own word; of everything central,
until a change that was made meanwhile is in the flows of all hosts, which flow monitors tell, or, where nothing was
changed, until all agents are connected. `messages`: of the agent with most of them, feed and answered calls;
`kbytes`: over all hosts' management links, by the kernel's count; `controller_cpu_s`, `broker_cpu_s`: from the break
to the end. `committed` is the change of a controller that is killed before it can publish: `in_sync_s` runs from its
death.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench import faults as breaking
from bench.faults import Faults
from bench.forwarder import Forwarder
from bench.mayhem import Fault
from bench.measures import Result
from bench.openflow_watch import follow
from bench.outcome import Outcome, Terms, WrongShape
from bench.restart import HERE, THERE, Found, counting, restart_agent, restart_vswitchd
from bench.stage import Net, Stage
from devstack.labs.api import Api
from devstack.labs.controllers import Controller
from devstack.labs.process import LabError, free_port, wait_for
from devstack.labs.vm import Vm

QUIET_S = 0.5
LIMIT_S = 120.0
SETTLE_S = 1.2
"""An agent writes its counters once a second."""


QUICK = (
    "agent SIGKILL",
    "vswitchd SIGKILL",
    "broker away long, nothing changed",
    "link cut",
    "controller killed before it published",
    "database away",
)
"""Faults of a smoke run: one of each sort."""


@dataclass(frozen=True)
class Scene:
    """What stands on the stage. `second`: the controller that stays."""

    stage: Stage
    faults: Faults
    network: Net
    pair: tuple[Vm, Vm]

    def change(self, api: Api | None = None) -> None:
        """One port more on hv1, of which every host must hear. Asked until it is answered."""
        body = self.stage.bound_bodies(self.network, HERE, 1)
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                (api or self.stage.api).create_many("port", body)
                return
            except LabError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


class Meter:
    """What a fault costs in messages, bytes and CPU."""

    def __init__(self, scene: Scene) -> None:
        self._stage = scene.stage
        self._before = self._read()

    def _read(self) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[int, int]], float, float]:
        statuses, ledger = self._stage.statuses(SETTLE_S), self._stage.ledger
        ledger.observe()
        controllers = sum(ledger.cpu_s(name) for name in self._stage.controllers())
        return statuses, breaking.traffic(self._stage.lab), controllers, ledger.cpu_s("broker")

    def found(self) -> Found:
        """Since the meter was made."""
        before, after = self._before, self._read()
        messages = []
        for host, status in after[0].items():
            earlier = before[0][host] if before[0][host].get("pid") == status["pid"] else {}
            messages.append(heard(status) - heard(earlier))
        sent = sum(after[1][host][1] - before[1][host][1] for host in after[1])
        return {
            "messages": ("messages", float(max(messages))),
            "kbytes": ("kB", sent / 1000),
            "controller_cpu_s": ("s", after[2] - before[2]),
            "broker_cpu_s": ("s", after[3] - before[3]),
        }


def heard(status: dict[str, Any]) -> int:
    """Messages of an agent, either way. An attempt without broker is none."""
    return int(status.get("messages_received", 0) + status.get("calls_sent", 0) - status.get("calls_retried", 0))


def packets(probe_found: Any) -> Found:
    """What a prober's answers say of a fault."""
    longest = max((end - begin for begin, end in probe_found.gaps), default=0.0)
    return {
        "lost": ("packets", float(probe_found.lost)),
        "sent": ("packets", float(probe_found.sent)),
        "outage_s": ("s", longest),
    }


def central(scene: Scene, broken: list[Fault], away: float, change: str) -> Found:
    """Parts that all share, or a host's link, break and come back `away` seconds later. `change` is made `meanwhile`,
    `after` that, or not at all (`none`)."""
    stage = scene.stage
    meter = Meter(scene)
    before = stage.statuses(0)
    watches = {host: stage.watch(host) for host in stage.hypervisors}
    for watch in watches.values():
        watch.subscribe()
    with counting(*scene.pair) as probe:
        for fault in broken:
            scene.faults.begin(fault)
        if change == "meanwhile":
            scene.change()
        time.sleep(away)
        for fault in reversed(broken):
            scene.faults.end(fault)
        back = time.monotonic()
        if change == "after":
            scene.change()
        if change == "none":
            done = connected(stage, before)
        else:
            done = arrived(watches, back)
        time.sleep(1.0)
        answers = probe.finish()
    for watch in watches.values():
        watch.close()
    return {"in_sync_s": ("s", max(0.0, done - back)), **packets(answers), **meter.found()}


def arrived(watches: dict[str, Any], back: float) -> float:
    """When the last host had the change."""
    changes = follow(watches, list(watches), QUIET_S, LIMIT_S)
    silent = [host for host, found in changes.items() if not found]
    if silent:
        raise WrongShape(f"{LIMIT_S:g} s after the fault {', '.join(silent)} have not heard of the change")
    return max(back, *(found[-1].time for found in changes.values()))


def connected(stage: Stage, before: dict[str, dict[str, Any]]) -> float:
    """When the last agent was connected again and in sync, by its own word."""
    waiting = dict(before)

    def all_there() -> bool:
        for host in list(waiting):
            status = stage.hypervisors[host].status()
            if status.get("feed_connects", 0) > waiting[host]["feed_connects"] and status["in_sync"]:
                del waiting[host]
        return not waiting

    wait_for("all agents in sync", all_there, LIMIT_S, 0.02)
    return time.monotonic()


def committed(scene: Scene) -> Found:
    """A controller commits a change, cannot publish it, and is killed."""
    stage = scene.stage
    road = Forwarder(stage.lab.broker.port)
    doomed = Controller(
        "doomed",
        state=stage.lab.state / "doomed",
        port=free_port(),
        transport_url=f"rabbit://guest:guest@127.0.0.1:{road.port}/",
        database=stage.lab.plan["database"],
        options={},
    )
    watches = {host: stage.watch(host) for host in stage.hypervisors}
    try:
        doomed.start()
        time.sleep(2.0)
        meter = Meter(scene)
        for watch in watches.values():
            watch.subscribe()
        with counting(*scene.pair) as probe:
            road.hold()
            scene.change(doomed.api)
            doomed.kill()
            dead = time.monotonic()
            done = arrived(watches, dead)
            answers = probe.finish()
    finally:
        doomed.kill()
        road.close()
        for watch in watches.values():
            watch.close()
    return {"in_sync_s": ("s", done - dead), **packets(answers), **meter.found()}


def agent(scene: Scene, how: str) -> Found:
    """The full host's agent ends and starts."""
    hypervisor, meter = scene.stage.hypervisors[HERE], Meter(scene)
    found = restart_agent(scene.stage, hypervisor.kill if how == "kill" else hypervisor.stop, *scene.pair)
    return {"in_sync_s": found["resync_s"], "lost": found["lost"], "sent": found["sent"], **meter.found()}


def vswitchd(scene: Scene) -> Found:
    """The full host's switch is killed and starts: `in_sync_s` until it forwards."""
    meter = Meter(scene)
    found = restart_vswitchd(scene.stage, *scene.pair)
    numbers = {"in_sync_s": found["vswitchd_forwarding_s"], "outage_s": found["vswitchd_outage_s"]}
    return {**numbers, **meter.found()}


def ovsdb(scene: Scene) -> Found:
    """The full host's database server is killed and starts; the switch lives. `in_sync_s` until it is connected."""
    hypervisor, meter = scene.stage.hypervisors[HERE], Meter(scene)
    with counting(*scene.pair) as probe:
        hypervisor.kill("ovsdb")
        hypervisor.start("ovsdb")
        back = time.monotonic()
        hypervisor.run("ovs-vsctl", "--timeout=60", "set", "Open_vSwitch", ".", "external_ids:recovery=1")
        done = time.monotonic()
        time.sleep(3.0)
        answers = probe.finish()
    return {"in_sync_s": ("s", done - back), **packets(answers), **meter.found()}


def scenes(quick: bool, controllers: list[str]) -> dict[str, tuple[int, Callable[[Scene], Found]]]:
    """Fault -> (rounds, what to do)."""
    away, long, rounds = (1.0, 1.0, 1) if quick else (10.0, 300.0, 3)
    broker, database = Fault(0, 0, "broker", "broker", "stop"), Fault(0, 0, "postgresql", "postgresql", "stop")
    everybody = [*(Fault(0, 0, name, "controller", "stop") for name in controllers), broker]
    wiped, link = Fault(0, 0, "broker", "broker", "wipe"), Fault(0, 0, THERE, "link", "cut")
    found: dict[str, tuple[int, Callable[[Scene], Found]]] = {
        "agent SIGTERM": (rounds, lambda scene: agent(scene, "stop")),
        "agent SIGKILL": (rounds, lambda scene: agent(scene, "kill")),
        "vswitchd SIGKILL": (rounds, vswitchd),
        "ovsdb SIGKILL": (rounds, ovsdb),
        "broker away": (rounds, lambda scene: central(scene, [broker], away, "meanwhile")),
        "broker away long, nothing changed": (1, lambda scene: central(scene, [broker], long, "none")),
        "broker wiped": (rounds, lambda scene: central(scene, [wiped], away, "meanwhile")),
        "link cut": (rounds, lambda scene: central(scene, [link], away, "meanwhile")),
        "controller killed before it published": (rounds, committed),
        "database away": (rounds, lambda scene: central(scene, [database], away, "after")),
        "controllers and broker restarted": (rounds, lambda scene: central(scene, everybody, away, "after")),
    }
    return {name: scene for name, scene in found.items() if not quick or name in QUICK}


def set_up(stage: Stage, crowd: int) -> Scene:
    network = stage.network()
    pair = []
    for host in (HERE, THERE):
        [port] = stage.bound(network, host, 1)
        pair.append(stage.lab.plug(port["id"], host))
    stage.crowd(network, HERE, crowd)
    for host in stage.hypervisors:  # without interfaces, and so after the crowd, which waits for all to be ACTIVE
        stage.bound(network, host, 1)
    return Scene(stage, Faults(stage.lab, stage.ledger), network, (pair[0], pair[1]))


def run(terms: Terms) -> Outcome:
    hosts, crowd = (3, 50) if terms.quick else (16, 1000)
    values: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    with Stage(hosts, terms.say, database="postgresql", controllers=2) as stage:
        scene = set_up(stage, crowd)
        for name, (rounds, act) in scenes(terms.quick, stage.controllers()).items():
            for number in range(rounds):
                terms.say(f"{name}, {number + 1} of {rounds}")
                time.sleep(1.0)
                for result, (unit, value) in act(scene).items():
                    values[name, result, unit].append(value)
        costs = stage.ledger.costs()
    params = {"ports": crowd, "hosts": hosts}
    results = [
        Result(result, unit, tuple(found), {"fault": name, **params}) for (name, result, unit), found in values.items()
    ]
    return Outcome(tuple(results), costs)
