"""restart: the agent, then vswitchd, end and begin again on a full hypervisor while two VMs talk over the tunnel.

A VM here asks one on another host every millisecond, across the tunnel, all the while. `resync_s` runs from the exec of
the new agent to its word that it is in sync; that it sent nothing is not taken from its word alone: a flow monitor of
our own counts what changed in the switch (`flow_changes`). For vswitchd, `vswitchd_forwarding_s` runs from the moment
at which it answers its control socket, which is when its ports are back, to the first reply after; `vswitchd_outage_s`
is all of the silence, from the last reply of the old process to the first of the new one.
"""

import contextlib
import json
import socket
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from bench.measures import Result
from bench.outcome import Outcome, Terms
from bench.probe import Probe
from bench.stage import Stage
from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import wait_for
from devstack.labs.vm import Vm

HERE, THERE = "hv1", "hv2"
Found = dict[str, tuple[str, float]]


def counting(vm: Vm, target: Vm) -> Probe:
    """A prober of `vm` that numbers its requests; the road is warm when this returns."""
    probe = Probe(vm.namespace, vm.want.mac, vm.address(), target.address(), counting=True)
    probe.replying()
    time.sleep(0.2)
    return probe


def restart_agent(stage: Stage, end: Callable[[str], None], vm: Vm, target: Vm) -> Found:
    """One agent ended by `end`, started, in sync."""
    hypervisor = stage.hypervisors[HERE]
    daemon = hypervisor.daemons["agent"]
    watch = stage.watch(HERE)
    watch.subscribe()
    with counting(vm, target) as probe:
        stage.ledger.observe()
        end("agent")
        began = time.monotonic()
        hypervisor.start("agent")

        def in_sync() -> bool:
            status = hypervisor.status()
            return status.get("pid") == daemon.pid and bool(status.get("in_sync"))

        wait_for("the agent in sync", in_sync, 60.0, 0.002)
        synced = time.monotonic()
        status = hypervisor.status()
        time.sleep(1.5)  # whatever it would do to the switch after that counts too
        mods = hypervisor.status()["flow_mods_sent"]
        answers = probe.finish()
    changes = len(watch.changes())
    watch.close()
    return {
        "resync_s": ("s", synced - began),
        "agent_in_sync_s": ("s", float(status["in_sync_s"])),
        "flow_mods": ("flow-mods", mods),
        "flow_changes": ("flows", changes),
        "lost": ("packets", answers.lost),
        "sent": ("packets", answers.sent),
    }


def control_answers(rundir: Path, pid: int) -> bool:
    """Whether vswitchd answers its control socket: its main loop has been through the whole configuration."""
    with socket.socket(socket.AF_UNIX) as control, contextlib.suppress(OSError, ValueError):
        control.settimeout(30.0)
        control.connect(str(rundir / f"ovs-vswitchd.{pid}.ctl"))
        control.sendall(json.dumps({"id": 0, "method": "version", "params": []}).encode())
        return bool(control.recv(4096))
    return False


def restart_vswitchd(stage: Stage, vm: Vm, target: Vm) -> Found:
    """One vswitchd killed, started, forwarding."""
    hypervisor: Hypervisor = stage.hypervisors[HERE]
    with counting(vm, target) as probe:
        stage.ledger.observe()
        hypervisor.kill("vswitchd")
        began = time.monotonic()
        hypervisor.start("vswitchd")
        pid = hypervisor.daemons["vswitchd"].pid
        assert pid is not None
        wait_for("vswitchd's control socket", lambda: control_answers(hypervisor.rundir, pid), 60.0, 0.002)
        back = time.monotonic()
        time.sleep(4.0)
        answers = probe.finish()
    start, end = max(answers.gaps, key=lambda gap: gap[1] - gap[0])
    return {
        "vswitchd_forwarding_s": ("s", max(0.0, end - back)),
        "vswitchd_start_s": ("s", back - began),
        "vswitchd_outage_s": ("s", end - start),
    }


def run(terms: Terms) -> Outcome:
    crowd, rounds, vswitchd_rounds = (50, 2, 1) if terms.quick else (1000, 10, 5)
    values: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    with Stage(2, terms.say) as stage:
        network = stage.network()
        vms = {}
        for host in (HERE, THERE):
            port = stage.api.create("port", network_id=network.id, **{"binding:host_id": host})
            vms[host] = stage.lab.plug(port["id"], host)
        stage.crowd(network, HERE, crowd)
        time.sleep(1.0)
        hypervisor = stage.hypervisors[HERE]
        for how, end in (("SIGTERM", hypervisor.stop), ("SIGKILL", hypervisor.kill)):
            for number in range(rounds):
                terms.say(f"agent: {how} and start, {number + 1} of {rounds}")
                for name, (unit, value) in restart_agent(stage, end, vms[HERE], vms[THERE]).items():
                    values[name, unit, how].append(value)
        for number in range(vswitchd_rounds):
            terms.say(f"vswitchd: SIGKILL and start, {number + 1} of {vswitchd_rounds}")
            for name, (unit, value) in restart_vswitchd(stage, vms[HERE], vms[THERE]).items():
                values[name, unit, "SIGKILL"].append(value)
        costs = stage.ledger.costs()
    results = [
        Result(name, unit, tuple(found), {"ports": crowd, "by": how}) for (name, unit, how), found in values.items()
    ]
    return Outcome(tuple(results), costs)
