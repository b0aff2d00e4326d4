"""bulk: N ports of one network on one hypervisor at once, from the request to all ACTIVE and every flow in the switch.

The interfaces are on br-int beforehand, without iface-ids. The clock starts when the bulk POST of N bound ports is
sent; when it is answered, ONE OVSDB transaction gives the interfaces their iface-ids; it stops when the API lists all
of them ACTIVE and the switch, asked for its number of flows every 20 ms, has reached the number at which it stays. The
sizes grow, so that the peaks of memory are those of each size. Between two rounds everything is taken away, down to
zero flows.

`security` shares the set-up: its ports are in a group of ten rules, these in the project's default group.
"""

import threading
import time
from collections import defaultdict
from typing import Any

from bench.measures import Result
from bench.openflow_watch import Watch
from bench.outcome import Outcome, Terms, WrongShape
from bench.stage import Net, Port, Stage

HOST = "hv1"
POLL_S = 0.02
SETTLE_S = 1.0


class Counter(threading.Thread):
    """Asks the switch how many flows it has, and keeps when it said what."""

    def __init__(self, watch: Watch) -> None:
        super().__init__(name="flow counter", daemon=True)
        self._watch = watch
        self._ended = threading.Event()
        self.seen: list[tuple[float, int]] = []

    def run(self) -> None:
        while not self._ended.wait(POLL_S):
            flows = self._watch.flows()
            self.seen.append((time.monotonic(), flows))

    def end(self) -> None:
        self._ended.set()
        self.join()

    def settled(self) -> tuple[float, int]:
        """Since when the number is what it is now, and the number."""
        since, flows = self.seen[-1]
        for moment, count in reversed(self.seen):
            if count != flows:
                break
            since = moment
        return since, flows


Found = dict[str, tuple[str, float]]
"""Results of one round by name: unit and value."""


def fill(stage: Stage, network: Net, names: list[str], **more: Any) -> tuple[list[Port], Found]:
    """Ports for the interfaces `names`, with `more` of their attributes: measured, and left as they are."""
    size = len(names)
    watch = stage.watch(HOST)
    counter = Counter(watch)
    agent, controllers = f"{HOST} agent", stage.controllers()
    stage.ledger.observe()
    agent_cpu, controller_cpu = stage.ledger.cpu_s(agent), sum(map(stage.ledger.cpu_s, controllers))
    bodies = stage.bound_bodies(network, HOST, size, **more)
    counter.start()
    began = time.monotonic()
    ports = stage.api.create_many("port", bodies)
    answered = time.monotonic()
    stage.identify(HOST, names, ports)
    plugged = time.monotonic()
    stage.wait_active(network, size, timeout=300.0)
    active = time.monotonic()
    stage.ledger.observe()
    time.sleep(SETTLE_S)
    counter.end()
    installed, flows = counter.settled()
    watch.close()
    if flows < size:
        raise WrongShape(f"{size} ports are ACTIVE and the switch has {flows} flows")
    return ports, {
        "bulk_s": ("s", max(active, installed) - began),
        "post_s": ("s", answered - began),
        "plug_s": ("s", plugged - answered),
        "active_s": ("s", active - began),
        "installed_s": ("s", installed - began),
        "bulk_ms_per_port": ("ms", (max(active, installed) - began) * 1000 / size),
        "flows": ("flows", flows),
        "flows_per_port": ("flows", flows / size),
        "agent_cpu_s": ("s", stage.ledger.cpu_s(agent) - agent_cpu),
        "agent_peak_rss_mb": ("MB", stage.ledger.peak_rss_mb(agent)),
        "controller_cpu_s": ("s", sum(map(stage.ledger.cpu_s, controllers)) - controller_cpu),
        "controller_peak_rss_mb": ("MB", sum(map(stage.ledger.peak_rss_mb, controllers))),
    }


def clear(stage: Stage, network: Net, names: list[str], ports: list[Port]) -> None:
    """Take the ports away, and their network; the switch is empty after that."""
    stage.anonymous(HOST, names)
    stage.delete_ports(ports)
    stage.api.delete("network", network.id)
    stage.wait_empty(HOST)


def one_round(stage: Stage, names: list[str], **more: Any) -> Found:
    """From nothing to all ports, and back."""
    network = stage.network()
    ports, found = fill(stage, network, names, **more)
    clear(stage, network, names, ports)
    return found


def run(terms: Terms) -> Outcome:
    sizes, rounds = ((20, 50), 1) if terms.quick else ((100, 500, 1000), 5)
    values: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    names: list[str] = []
    with Stage(1, terms.say) as stage:
        for size in sizes:
            more = [f"bulk{number}" for number in range(len(names), size)]
            stage.interfaces(HOST, more)
            names += more
            for number in range(rounds):
                terms.say(f"{size} ports, round {number + 1} of {rounds}")
                for name, (unit, value) in one_round(stage, names).items():
                    values[name, unit, size].append(value)
        costs = stage.ledger.costs()
    results = [Result(name, unit, tuple(found), {"ports": size}) for (name, unit, size), found in values.items()]
    return Outcome(tuple(results), costs)
