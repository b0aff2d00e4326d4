"""members: a group with ever more members on other hosts, seen from a host that enforces its rules.

hv1 has ten ports of a group of ten rules (`policies`), one of which names the group itself. The other members are bound
to hosts that are records only (`ghosts`), on the same network: hv1 must know where each is, two flows a member on a
Geneve network (station and answer), and its rules must not notice, whatever their number: `policy_flows` stays what it
is, and of the flow-mods for one member more none is in a table that judges (`added_policy_flow_mods`). A VLAN carries
no identity, so there a member's address is one flow more, that says who it is.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import ghosts
from bench.measures import Cost, Result
from bench.openflow_watch import Watch, follow
from bench.outcome import Outcome, Terms, WrongShape
from bench.policies import Policy
from bench.security import POLICY_TABLES, QUIET_S
from bench.stage import Net, Stage

HOST, LOCAL = "hv1", 10
CHUNK = 500
"""Members made by one request."""


def judging(watch: Watch) -> int:
    """Flows in the tables that judge."""
    return sum(watch.flows(table) for table in POLICY_TABLES)


def settled(watch: Watch, quiet: float = 1.0, timeout: float = 300.0) -> tuple[float, int]:
    """Since when the switch has the number of flows that it has had for `quiet` seconds, and the number."""
    since, flows = time.monotonic(), watch.flows()
    deadline = since + timeout
    while (now := time.monotonic()) < min(since + quiet, deadline):
        time.sleep(0.02)
        if (count := watch.flows()) != flows:
            since, flows = now, count
    return since, flows


class Crowd:
    """The members elsewhere, spread over the hosts that are records."""

    def __init__(self, stage: Stage, network: Net, group: str, hosts: list[str]) -> None:
        self._stage, self._network, self._hosts = stage, network, hosts
        self._groups = [group]
        self.size = 0

    def add(self, count: int) -> None:
        """`count` members more, by one request."""
        bodies = [
            self._stage.bound_bodies(self._network, host, 1, security_groups=self._groups)[0]
            for host in (self._hosts[(self.size + number) % len(self._hosts)] for number in range(count))
        ]
        self._stage.api.create_many("port", bodies)
        self.size += count

    def grow(self, size: int) -> None:
        while self.size < size:
            self.add(min(CHUNK, size - self.size))


def one_size(stage: Stage, crowd: Crowd, size: int, before: int, rounds: int) -> Iterable[Result]:
    """Grow to `size` members elsewhere; `before` are the host's flows without any. Then one more, `rounds` times."""
    params = {"members": size}
    watch, monitor = stage.watch(HOST), stage.watch(HOST)
    began, had = time.monotonic(), crowd.size
    crowd.grow(size)
    answered = time.monotonic()
    since, flows = settled(watch)
    yield Result("load_s", "s", (max(since, answered) - began,), params)
    yield Result("load_ms_per_member", "ms", ((max(since, answered) - began) * 1000 / (size - had),), params)
    yield Result("flows", "flows", (float(flows),), params)
    yield Result("policy_flows", "flows", (float(judging(watch)),), params)
    yield Result("flows_per_member", "flows", ((flows - before) / size,), params)
    stage.ledger.observe()
    yield Result("agent_peak_rss_mb", "MB", (stage.ledger.peak_rss_mb(f"{HOST} agent"),), params)
    monitor.subscribe()
    done, mods, judged = [], [], []
    with ThreadPoolExecutor(1) as pool:
        for _ in range(rounds):
            monitor.changes()
            began = time.monotonic()
            posted = pool.submit(crowd.add, 1)
            changes = follow({HOST: monitor}, [HOST], QUIET_S, 10.0)[HOST]
            posted.result()
            if not changes:
                raise WrongShape(f"nothing changed on {HOST} within ten seconds when a member came elsewhere")
            done.append((changes[-1].time - began) * 1000)
            mods.append(float(len(changes)))
            judged.append(float(sum(1 for change in changes if change.table in POLICY_TABLES)))
    yield Result("added_ms", "ms", tuple(done), params)
    yield Result("added_flow_mods", "flow-mods", tuple(mods), params)
    yield Result("added_policy_flow_mods", "flow-mods", tuple(judged), params)
    for one in (watch, monitor):
        one.close()


def one_kind(terms: Terms, kind: str, directory: Path, sizes: Iterable[int], rounds: int) -> Outcome:
    """All sizes on a network of this kind, in a lab of its own, so that peaks of memory are those of each size."""
    results: list[Result] = []
    with Stage(1, terms.say, shared=True) as stage:
        hosts = ghosts.report(directory, stage.lab.broker.url, 10)
        policy, network = Policy(stage.api), stage.network(kind=kind)
        names = [f"local{number}" for number in range(LOCAL)]
        stage.interfaces(HOST, names)
        stage.identify(HOST, names, stage.bound(network, HOST, LOCAL, security_groups=[policy.id]))
        stage.wait_active(network, LOCAL, timeout=30.0)
        crowd = Crowd(stage, network, policy.id, hosts)
        for host in hosts:  # no members; the first port on a host brings what the host costs
            stage.bound(network, host, 1, security_groups=[])
        watch = stage.watch(HOST)
        before = settled(watch)[1]
        results.append(Result("policy_flows", "flows", (float(judging(watch)),), {"members": 0}))
        watch.close()
        for size in sizes:
            terms.say(f"{size} members elsewhere, {kind}")
            results += one_size(stage, crowd, size, before, rounds)
        costs = stage.ledger.costs()
    return Outcome(
        tuple(Result(one.name, one.unit, one.values, {**one.params, "network": kind}) for one in results),
        tuple(Cost(f"{cost.name}, {kind}", cost.cpu_s, cost.peak_rss_mb) for cost in costs),
    )


def run(terms: Terms) -> Outcome:
    sizes, rounds = ((10, 50), 3) if terms.quick else ((10, 100, 1000, 10_000), 20)
    # One directory for both: oslo.concurrency keeps the first one that a process tells it.
    with TemporaryDirectory(prefix="selvedge-bench-") as directory:
        outcomes = [one_kind(terms, kind, Path(directory), sizes, rounds) for kind in ("geneve", "vlan")]
    return Outcome(
        tuple(result for outcome in outcomes for result in outcome.results),
        tuple(cost for outcome in outcomes for cost in outcome.daemons),
    )
