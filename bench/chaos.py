"""chaos: every fault at random, with users and traffic, and then nothing may be lost.

A lab of PostgreSQL, three controllers and a few hypervisors. Meanwhile: users (`users`) change networks, ports,
groups and rules through all controllers; pairs of VMs ping each other every millisecond, across hosts, and each
request is counted; TCP connections talk (`connections`); trespassers try what is forbidden (`trespass`). A plan drawn
from the seed (`mayhem`) breaks agents, switches, links, controllers, broker and database, one over the other
(`mixing`). In the end all is mended, and when it is quiet: what was answered is there (`model`), nothing was handed
out twice, every switch has exactly the flows of a fresh start (`check`), no packet was lost but across a switch that
was broken itself (`excuses`), none arrived that must not. Each of these is a count, and a finding for each makes the
run fail.
"""

import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench import excuses, mayhem, mixing, model
from bench.connections import Connection
from bench.excuses import Loss
from bench.faults import Faults
from bench.measures import Result
from bench.outcome import Outcome, Terms
from bench.probe import Answers, Probe
from bench.stage import Net, Stage
from bench.trespass import Trespass, Trespassers
from bench.users import Site, User
from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import LabError, wait_for
from devstack.labs.vm import Vm

MINUTES, QUICK_MINUTES = 5.0, 0.4
CONTROLLERS = 3
USERS = 3
LINGER_S = 14.0
"""So long an agent keeps flows of a policy that is no longer in force, for packets between two tables, on purpose."""
QUIET_S = 120.0
"""How long it may take until all is as it should be, once nothing is broken any more."""
KINDS = ("network", "subnet", "port", "security_group", "security_group_rule")
UDP_MARK = {"protocol": "udp", "port_range_min": 4999, "port_range_max": 4999}
STEADY_RULES = ({"protocol": "icmp"}, {"protocol": "tcp", "port_range_min": 5001, "port_range_max": 5001}, UDP_MARK)


@dataclass
class Traffic:
    """All that runs in VMs."""

    probes: dict[str, tuple[frozenset[str], Probe]]
    connections: list[Connection]
    trespassers: Trespassers


class Cast:
    """Networks, groups and VMs of the steady traffic."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.hosts = list(stage.hypervisors)
        self.network, self.other = stage.network(), stage.network()
        self.group = self._group("steady", *({**rule, "remote": True} for rule in STEADY_RULES))
        self.shut = self._group("shut")

    def _group(self, name: str, *rules: dict[str, object]) -> str:
        api = self.stage.api
        group: str = api.create("security_group", name=name)["id"]
        for rule in rules:
            words = {key: value for key, value in rule.items() if key != "remote"}
            api.create(
                "security_group_rule",
                security_group_id=group,
                direction="ingress",
                ethertype="IPv4",
                remote_group_id=group,
                **words,
            )
        return group

    def vm(self, number: int, group: str, network: Net | None = None) -> Vm:
        """On host `number` (from 0, and round again)."""
        host = self.hosts[number % len(self.hosts)]
        [port] = self.stage.bound(network or self.network, host, 1, security_groups=[group])
        return self.stage.lab.plug(port["id"], host)

    def traffic(self) -> Traffic:
        """One pair from each host to the next; trespassers and connections between them."""
        count = len(self.hosts)
        sources = [self.vm(number, self.group) for number in range(count)]
        targets = [self.vm(number + 1, self.group) for number in range(count)]
        pairs = list(zip(sources, targets, strict=True))
        shut, open_, apart = self.vm(0, self.shut), self.vm(1, self.group), self.vm(2, self.shut, self.other)
        trespassers = Trespassers(
            [
                Trespass("no rule allows it", sources[1], shut),
                Trespass("no rule allows it, same host", sources[0], shut),
                Trespass("another network", apart, shut),
                Trespass("false name", sources[-1], open_, as_whom=targets[0]),
            ]
        )
        trespassers.control(sources[0], open_)
        probes = {}
        for source, target in pairs:
            know_each_other(source, target)
            probe = Probe(source.namespace, source.want.mac, source.address(), target.address(), counting=True)
            hosts = frozenset((source.hypervisor, target.hypervisor))
            probes[f"{source.hypervisor} to {target.hypervisor}"] = hosts, probe
            probe.replying()
        return Traffic(probes, [Connection(*pair) for pair in pairs[:2]], trespassers)


def know_each_other(one: Vm, other: Vm) -> None:
    """Guests do not ask for each other's MAC: how long a kernel waits before it asks again is not what is measured."""
    for vm, peer in ((one, other), (other, one)):
        vm.run("ip", "neigh", "replace", peer.address(), "lladdr", peer.want.mac, "dev", "eth0", "nud", "permanent")


def check(hypervisor: Hypervisor) -> list[str]:
    """What is wrong on a host: its agent, started anew, learns everything from the database and must find nothing to
    do in the switch."""
    flows, groups = hypervisor.flows(), hypervisor.groups()
    hypervisor.stop("agent")
    hypervisor.start("agent")
    hypervisor.wait_in_sync(60.0)
    time.sleep(1.5)  # status.json is written once a second
    status = hypervisor.status()
    if not (status["flow_mods_sent"] or status["group_mods_sent"]):
        return []
    after = [*hypervisor.flows(), *hypervisor.groups()]
    lines = [f"- {line}" for line in {*flows, *groups}.difference(after)]
    lines += [f"+ {line}" for line in set(after).difference(flows, groups)]
    head = (
        f"{hypervisor.name}: a fresh agent changed {status['flow_mods_sent']} flows, {status['group_mods_sent']} groups"
    )
    return [head + "".join(f"\n    {line}" for line in lines[:20])]


def unsettled(stage: Stage, users: Iterable[User]) -> str:
    """What is not yet as it must be when all is quiet; empty if nothing."""
    for name, hypervisor in stage.hypervisors.items():
        status = hypervisor.status()
        if status.get("pid") != hypervisor.daemons["agent"].pid or not status.get("in_sync"):
            return f"{name} is not in sync"
    plugged = {port for user in users for port in user.plugged}
    try:
        for port in stage.api.list("ports"):
            if port["name"].startswith(model.PREFIX):
                want = "ACTIVE" if port["id"] in plugged else "DOWN"
                if port["status"] != want:
                    where = port["binding:host_id"]
                    return f"port {port['name']!r} {port['id']} on {where} is {port['status']}, not {want}"
    except LabError as error:
        return str(error)
    return ""


def wait_quiet(stage: Stage, users: Iterable[User], findings: list[str]) -> float:
    """Seconds until everything is as it must be; a finding if it never is."""
    began = time.monotonic()
    left = ""

    def settled() -> bool:
        nonlocal left
        left = unsettled(stage, users)
        return not left

    try:
        wait_for("quiet", settled, QUIET_S, 0.25)
    except LabError:
        findings.append(f"after {QUIET_S:g} s of peace: {left}")
    return time.monotonic() - began


def judge_state(stage: Stage, users: Iterable[User]) -> tuple[list[str], list[str]]:
    """(lost changes, things handed out twice), as every controller tells it."""
    lost: dict[str, None] = {}
    doubled: dict[str, None] = {}
    for controller in stage.lab.controllers.values():
        lists = {kind: controller.api.list(f"{kind}s") for kind in KINDS}
        lost |= dict.fromkeys(model.compare([user.model for user in users], lists))
        doubled |= dict.fromkeys(model.doubles(lists))
    return list(lost), list(doubled)


def drift(stage: Stage) -> list[str]:
    """What `selvedge check` finds on the hosts as they are, and then what their agents do that start anew."""
    return stage.lab.differences(timeout=30.0) + _started_anew(stage)


def _started_anew(stage: Stage) -> list[str]:
    def one(hypervisor: Hypervisor) -> list[str]:
        try:
            return check(hypervisor)
        except LabError as error:
            return [f"{hypervisor.name}: {error}"]

    with ThreadPoolExecutor(2) as pool:
        return [line for lines in pool.map(one, stage.hypervisors.values()) for line in lines]


def losses(traffic: Traffic) -> tuple[list[Loss], dict[str, Answers]]:
    """What the pairs lost, after they have ended."""
    answers = {name: probe.finish() for name, (_, probe) in traffic.probes.items()}
    found = [
        Loss(name, traffic.probes[name][0], begin, end, int(count))
        for name, answer in answers.items()
        for begin, end, count in answer.losses
    ]
    return sorted(found, key=lambda loss: loss.begin), answers


class Findings:
    """Findings of one run, and their counts as results."""

    def __init__(self, timeline: mixing.Timeline) -> None:
        self.lines: list[str] = []
        self.results: list[Result] = []
        self._timeline = timeline

    def count(self, name: str, unit: str, lines: list[str], total: float | None = None, most: int = 20) -> None:
        """`lines` say what is wrong; the result is how many, or `total`."""
        self.results.append(Result(name, unit, (float(len(lines)) if total is None else total,)))
        for line in lines:
            self._timeline.note(f"FINDING: {name}: {line}")
        self.lines += [f"{name}: {line}" for line in lines[:most]]

    def tell(self, name: str, unit: str, *values: float, **params: str | int) -> None:
        """A number that is no verdict."""
        self.results.append(Result(name, unit, values, params))


def judge_packets(
    findings: Findings, timeline: mixing.Timeline, traffic: Traffic, mixer: mixing.Mixer, users: list[User]
) -> None:
    """Lost, excused, wrong."""
    lost, answers = losses(traffic)
    allowed = excuses.windows(sorted(mixer.happened, key=lambda fault: fault.begin))
    plugs = sorted((window for user in users for window in user.plugs), key=lambda window: window.begin)
    bad, excused = excuses.judge(lost, (*allowed, *mixer.starved, *plugs))
    for loss in lost:
        sign = "LOST" if loss in bad else "lost, excused"
        timeline.note(f"{sign}: {loss.count} packets {loss.pair} within {loss.end - loss.begin:.3f} s", loss.begin)
        for seen, counts in mixer.dropped if loss in bad else ():
            if seen.host in loss.hosts and seen.begin <= loss.end and seen.end >= loss.begin:
                timeline.note(f"{seen.host} dropped {counts} in the {seen.end - seen.begin:.1f} s before", seen.end)
    for window, count in excused.items():
        if window in plugs and not count:
            continue
        timeline.note(f"excuse for {count} packets: {window.host} {window.why}", window.begin)
        timeline.note(f"end of the excuse: {window.host} {window.why}", window.end)
    lines = [
        f"{loss.count} of {loss.pair} from {loss.begin - timeline.began:.3f} to {loss.end - timeline.began:.3f} s"
        for loss in bad
    ]
    findings.count("lost_packets", "packets", lines, float(sum(loss.count for loss in bad)))
    apart = {
        "lost_across_broken_switches": allowed,
        "lost_for_want_of_cpu": mixer.starved,
        "lost_beside_a_plug": plugs,
    }
    for name, windows in apart.items():
        findings.tell(name, "packets", float(sum(excused[window] for window in windows)))
    findings.tell("unsent", "packets", *(float(answer.unsent) for answer in answers.values()))
    findings.tell("sent", "packets", *(float(answer.sent) for answer in answers.values()))
    traffic.trespassers.finish()
    heard = [f"{name} at {at - timeline.began:.3f} s" for at, name in traffic.trespassers.heard]
    findings.count("wrong_packets", "packets", heard)
    findings.tell("trespasses", "packets", float(traffic.trespassers.sent))
    for connection in traffic.connections:
        connection.finish()
    broken = [f"{one.name}: {one.broken}" for one in traffic.connections if one.broken]
    findings.count("broken_connections", "connections", broken)
    findings.tell("tcp_longest_pause_s", "s", *(one.longest_s for one in traffic.connections))


def act(stage: Stage, terms: Terms, timeline: mixing.Timeline, findings: Findings) -> None:
    """The run itself, and its judgement."""
    minutes = terms.minutes or (QUICK_MINUTES if terms.quick else MINUTES)
    cast = Cast(stage)
    faults = Faults(stage.lab, stage.ledger)
    for host in cast.hosts:
        faults.prefer(host)
    mixer = mixing.Mixer(faults, timeline)
    urls = [controller.api.url for controller in stage.lab.controllers.values()]
    site = Site(cast.network.id, cast.group)
    users = [
        User(number, terms.seed, urls, hypervisors=stage.hypervisors, site=site, note=timeline.note)
        for number in range(1, USERS + 1)
    ]
    traffic = cast.traffic()
    for thread in (traffic.trespassers, *(user.thread for user in users)):
        thread.start()
    plan = mayhem.plan(terms.seed, minutes * 60, cast.hosts, list(stage.lab.controllers))
    terms.say(f"seed {terms.seed}: {len(plan)} faults in {minutes:g} minutes")
    mixer.run(plan)
    terms.say("all is mended; waiting for quiet")
    timeline.note("all is mended")
    trouble = list(mixer.failures)
    for user in users:
        user.finish()
    deadline = time.monotonic() + QUIET_S
    for user in users:
        user.thread.join(max(0.0, deadline - time.monotonic()))
        if user.thread.is_alive():
            trouble.append(f"{user.name} still waits for an answer: {user.wish}")
        trouble += user.findings
    findings.tell("quiet_s", "s", wait_quiet(stage, users, trouble))
    timeline.note("quiet")
    time.sleep(LINGER_S)
    terms.say("quiet; comparing")
    lost, doubled = judge_state(stage, users)
    findings.count("lost_changes", "changes", lost)
    findings.count("handed_out_twice", "numbers", doubled)
    mixer.finish()
    findings.count("drift", "hosts", drift(stage))
    judge_packets(findings, timeline, traffic, mixer, users)
    findings.count("deaths", "processes", [line for line in mixer.deaths if not line.startswith("controller")])
    findings.tell("controllers_restarted", "processes", float(len(mixer.deaths)))
    findings.count("defects", "", trouble)
    findings.tell("changes_answered", "requests", float(sum(user.answered for user in users)))
    findings.tell("requests_unanswered", "requests", float(sum(user.unanswered for user in users)))
    for (part, how), lengths in mixing.broken_for(mixer.happened).items():
        findings.tell("fault_s", "s", *lengths, part=part, how=how)


def keep_logs(stage: Stage, directory: Path) -> None:
    """What the daemons said goes with the lab, unless it is needed."""
    for name, daemon in stage.lab.daemons().items():
        if daemon.log.exists():
            (directory / f"{name.replace(' ', '-')}.log").write_bytes(daemon.log.read_bytes())


def run(terms: Terms) -> Outcome:
    timeline = mixing.Timeline()
    findings = Findings(timeline)
    directory = terms.keep or Path(tempfile.mkdtemp(prefix=f"selvedge-chaos-{terms.seed}-"))
    directory.mkdir(parents=True, exist_ok=True)
    with Stage(terms.hypervisors, terms.say, database="postgresql", controllers=CONTROLLERS) as stage:
        try:
            act(stage, terms, timeline, findings)
        finally:
            timeline.write(directory / "timeline.txt")
            terms.say(f"timeline: {directory / 'timeline.txt'}")
            if findings.lines:
                keep_logs(stage, directory)
        costs = stage.ledger.costs()
    return Outcome(tuple(findings.results), costs, tuple(findings.lines))
