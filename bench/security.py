"""security: what a group of ten rules costs on a full hypervisor, and what one change of it costs.

The set-up is `bulk`'s: N ports on one host by one request, here all in one group of ten rules (`policies`), one of them
the group's own members. Then one thing changes at a time, again and again:

    member_here       a port more in the group on the full host, bound and plugged
    member_elsewhere  a port more in the group, bound to another host
    set_elsewhere     the same, with a set of groups that was never seen: one identity more in the remote group
    rule_changed      a rule deleted and its other form created; `rule` says which: one port, or a range
    address_added     an address more in the address group of a rule

Three hosts: hv1 is full, hv2 has a few members on the same network, hv3 one on another network: it enforces the
group's rules and has nothing to do with hv1's segment. A flow monitor of our own on each says which flows of which
table changed and when. `…_ms` ends with the last change on any host that must change (`member_elsewhere`: any but the
port's own, whose work is `member_here`'s); `…_flow_mods` are one host's, `…_policy_flow_mods` those of them in tables
of the pipeline that judge: 50 to 58 and 70 to 78.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from bench import bulk
from bench.measures import Result
from bench.openflow_watch import Change, Watch, follow
from bench.outcome import Outcome, Terms, WrongShape
from bench.policies import CHANGES, Policy
from bench.stage import Net, Stage

FULL, OTHER, APART = "hv1", "hv2", "hv3"
POLICY_TABLES = frozenset({*range(50, 59), *range(70, 79)})
QUIET_S = 0.3

Params = tuple[tuple[str, str | int], ...]


@dataclass
class Scene:
    """The lab in the middle of the benchmark; `values` collects samples by name, unit and parameters."""

    stage: Stage
    network: Net
    policy: Policy
    watches: Mapping[str, Watch]
    ports: int
    pool: ThreadPoolExecutor
    values: defaultdict[tuple[str, str, Params], list[float]] = field(default_factory=lambda: defaultdict(list))

    def observe(self, awaited: Collection[str], act: Callable[[], object]) -> tuple[float, dict[str, list[Change]]]:
        """Do it, and tell when it began and what changed in each switch until all were quiet."""
        for watch in self.watches.values():
            watch.changes()
        began = time.monotonic()
        done = self.pool.submit(act)
        changes = follow(self.watches, awaited, QUIET_S, 10.0)
        done.result()
        silent = [host for host in awaited if not changes[host]]
        if silent:
            raise WrongShape(f"nothing changed on {', '.join(silent)} within ten seconds")
        return began, changes

    def measure(
        self, name: str, awaited: Collection[str], others: Collection[str], act: Callable[[], object], **params: str
    ) -> None:
        """One sample of a change that must reach the switches of `awaited`; flow-mods are told of `others` too."""
        began, changes = self.observe(awaited, act)
        shared: dict[str, str | int] = {"ports": self.ports, **params}
        last = max(changes[host][-1].time for host in awaited)
        self.values[f"{name}_ms", "ms", tuple(shared.items())].append((last - began) * 1000)
        for host in (*awaited, *others):
            where = tuple({**shared, "host": host}.items())
            judging = sum(1 for change in changes[host] if change.table in POLICY_TABLES)
            self.values[f"{name}_flow_mods", "flow-mods", where].append(len(changes[host]))
            self.values[f"{name}_policy_flow_mods", "flow-mods", where].append(judging)

    def member_elsewhere(self, name: str, groups: list[str]) -> None:
        """A port more on the other host, and away again."""
        made: list[str] = []

        def create() -> None:
            made.extend(port["id"] for port in self.stage.bound(self.network, OTHER, 1, security_groups=groups))

        self.measure(name, [FULL], [APART], create)
        self.observe([FULL], lambda: self.stage.api.delete("port", made[0]))

    def member_here(self, interface: str) -> None:
        """A port more on the full host, plugged as soon as it is there, and away again."""
        stage, made = self.stage, list[str]()

        def create() -> None:
            ports = stage.bound(self.network, FULL, 1, security_groups=[self.policy.id])
            stage.identify(FULL, [interface], ports)
            made.append(ports[0]["id"])
            stage.lab.wait_status(made[0], "ACTIVE")

        def delete() -> None:
            stage.anonymous(FULL, [interface])
            stage.api.delete("port", made[0])

        self.measure("member_here", [FULL], [APART], create)
        self.observe([FULL], delete)


def changes(scene: Scene, rounds: int, say: Callable[[str], None]) -> None:
    """All kinds of change, `rounds` of each."""
    stage, hosts = scene.stage, list(scene.watches)
    stage.interfaces(FULL, ["one-more"])
    fresh = [stage.api.create("security_group", name=f"fresh{number}")["id"] for number in range(rounds)]
    for number in range(rounds):
        say(f"changes, round {number + 1} of {rounds}")
        scene.member_here("one-more")
        scene.member_elsewhere("member_elsewhere", [scene.policy.id])
        scene.member_elsewhere("set_elsewhere", [scene.policy.id, fresh[number]])
        for rule in CHANGES:
            scene.measure("rule_changed", hosts, [], lambda rule=rule: scene.policy.change(rule), rule=rule)  # type: ignore[misc]
        scene.measure("address_added", hosts, [], scene.policy.add_address)


def run(terms: Terms) -> Outcome:
    size, fills, rounds = (50, 1, 3) if terms.quick else (1000, 3, 20)
    values: defaultdict[tuple[str, str, Params], list[float]] = defaultdict(list)
    with Stage(3, terms.say) as stage, ThreadPoolExecutor(1) as pool:
        policy = Policy(stage.api)
        groups = [policy.id]
        names = [f"bulk{number}" for number in range(size)]
        stage.interfaces(FULL, names)
        for number in range(fills):
            terms.say(f"{size} ports, round {number + 1} of {fills}")
            network = stage.network()
            ports, found = bulk.fill(stage, network, names, security_groups=groups)
            for name, (unit, value) in found.items():
                values[name, unit, (("ports", size),)].append(value)
            if number < fills - 1:
                bulk.clear(stage, network, names, ports)
        stage.bound(network, OTHER, 3, security_groups=groups)
        stage.bound(stage.network("10.77.0.0/24"), APART, 1, security_groups=groups)
        time.sleep(2.0)
        watches = {host: stage.watch(host) for host in stage.hypervisors}
        for watch in watches.values():
            watch.subscribe()
        scene = Scene(stage, network, policy, watches, size, pool, values)
        changes(scene, rounds, terms.say)
        costs = stage.ledger.costs()
        for watch in watches.values():
            watch.close()
    results = [Result(name, unit, tuple(found), dict(params)) for (name, unit, params), found in values.items()]
    return Outcome(tuple(results), costs)
