"""policy-traffic: what security groups cost packets: throughput, packet rate, round trip, and the datapath's cache.

Two VMs, on one host or on two with a tunnel between them, in four variants: `none` (port security off: no group, no
guard), `default` (the project's default group), `stateless` and `stateful` (one group of ten rules each, `policies`);
both VMs are members of the group, whose members accept each other. One scene is one variant at one place: two fresh
ports and VMs, nothing else in the lab. Scenes take turns, round after round, and ratios are those of one round to the
`none` of the same round, since all of it shares two cores with everything else: the ratio is the result, the rate is
this machine's.

The cache is looked at before: all megaflows are removed, the VMs forget each other, then comes one kind of traffic
(`icmp`, `tcp`, `udp`, or `all` of them one after the other) and the datapath is asked what it has (`datapath`).
"""

import re
import time
from collections import defaultdict

from bench import datapath
from bench.measures import Result, median
from bench.outcome import Outcome, Terms
from bench.policies import Policy
from bench.stage import Stage
from bench.stream import Stream
from devstack.labs.vm import Vm

HERE = "hv1"
PLACES = {"same": "hv1", "across": "hv2"}
VARIANTS = ("none", "default", "stateless", "stateful")
TRAFFIC = ("icmp", "tcp", "udp", "all")
SMALL, LARGE = 18, 1300
"""Bytes in a datagram: a minimal Ethernet frame, and one that fits every overlay."""

Key = tuple[str, str]


class Scene:
    """Two VMs: `vm` on hv1 sends, `target` receives."""

    def __init__(self, stage: Stage, place: str, attributes: dict[str, object]) -> None:
        self._stage = stage
        self.network = stage.network("10.1.0.0/24")
        self.hosts = [HERE] if PLACES[place] == HERE else [HERE, PLACES[place]]
        self.vm, self.target = (
            self._boot(host, {**attributes, "fixed_ips": self.network.fixed(number)})
            for number, host in enumerate((HERE, PLACES[place]), start=2)
        )
        for vm, other in ((self.vm, self.target), (self.target, self.vm)):
            vm.ping(other.address(), 3, 0.02)

    def _boot(self, host: str, attributes: dict[str, object]) -> Vm:
        port = self._stage.api.create("port", network_id=self.network.id, **{"binding:host_id": host}, **attributes)
        vm = self._stage.lab.plug(port["id"], host)
        # What a kernel says by itself of addresses that it may not use would come now or then.
        vm.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
        return vm

    def remove(self) -> None:
        for vm in (self.vm, self.target):
            self._stage.lab.unplug(vm.port)
            self._stage.api.delete("port", vm.port)
        self._stage.api.delete("network", self.network.id)
        for host in self.hosts:
            self._stage.wait_empty(host)

    def cache(self, stream: Stream, traffic: str) -> dict[str, datapath.Megaflows]:
        """Host → what its datapath has after a little of this traffic, from nothing."""
        hypervisors = {host: self._stage.hypervisors[host] for host in self.hosts}
        for vm in (self.vm, self.target):
            vm.run("ip", "neigh", "flush", "dev", "eth0")
        for hypervisor in hypervisors.values():
            datapath.forget(hypervisor)
        if traffic in ("icmp", "all"):
            self.vm.ping(self.target.address(), 3, 0.02)
        for protocol in ("tcp", "udp"):
            if traffic in (protocol, "all"):
                stream.send(protocol, 0.0, SMALL)
        return {host: datapath.megaflows(hypervisor) for host, hypervisor in hypervisors.items()}

    def round_trips(self, count: int) -> list[float]:
        """Microseconds of each of `count` echo requests, one every 2 ms."""
        words = ["ping", "-n", "-c", str(count), "-i", "0.002", self.target.address()]
        return [float(found) * 1000 for found in re.findall(r"time=([\d.]+) ms", self.vm.run(*words))]


def traffic(scene: Scene, stream: Stream, seconds: float, echoes: int) -> dict[Key, list[float]]:
    """All rates of one scene."""
    tcp = stream.send("tcp", seconds)
    small = stream.send("udp", seconds, SMALL)
    large = stream.send("udp", seconds, LARGE)
    return {
        ("rtt", "us"): scene.round_trips(echoes),
        ("tcp", "mbit_per_s"): [tcp.mbit_per_s],
        ("udp", "mbit_per_s"): [large.mbit_per_s],
        ("udp", "packets_per_s"): [small.packets_per_s],
    }


def attributes_of(variant: str, groups: dict[str, Policy]) -> dict[str, object]:
    if variant == "none":
        return {"port_security_enabled": False}
    return {"security_groups": [groups[variant].id]} if variant in groups else {}


def run(terms: Terms) -> Outcome:
    rounds, seconds, echoes = (1, 0.3, 50) if terms.quick else (4, 2.0, 500)
    variants = VARIANTS if not terms.quick else tuple(variant for variant in VARIANTS if variant != "stateless")
    values: defaultdict[tuple[str, str, tuple[tuple[str, str], ...]], list[float]] = defaultdict(list)
    with Stage(2, terms.say) as stage:
        groups = {
            variant: Policy(stage.api, variant, stateful=variant == "stateful") for variant in ("stateless", "stateful")
        }
        for number in range(rounds):
            for place in PLACES:
                plain: dict[Key, float] = {}
                for variant in variants:
                    terms.say(f"{place} host, {variant}, round {number + 1} of {rounds}")
                    scene = Scene(stage, place, attributes_of(variant, groups))
                    params = {"where": place, "groups": variant}
                    with Stream(scene.vm, scene.target) as stream:
                        for kind in TRAFFIC:
                            for host, found in scene.cache(stream, kind).items():
                                where = tuple({**params, "host": host, "traffic": kind}.items())
                                for name, count in found._asdict().items():
                                    values[name, name, where].append(count)
                        time.sleep(1.0)
                        rates = traffic(scene, stream, seconds, echoes)
                    for (name, unit), samples in rates.items():
                        values[f"{name}_{unit}", unit, tuple(params.items())] += samples
                        if variant == "none":
                            plain[name, unit] = median(samples)
                        else:
                            ratio = median(samples) / plain[name, unit]
                            values[f"{name}_{unit}_ratio", "ratio", tuple(params.items())].append(ratio)
                    scene.remove()
        costs = stage.ledger.costs()
    results = [Result(name, unit, tuple(found), dict(params)) for (name, unit, params), found in values.items()]
    return Outcome(tuple(results), costs)
