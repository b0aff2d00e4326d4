"""Breaks parts of a lab and mends them: the hands of `recovery` and `chaos`.

A part is a hypervisor's agent, vswitchd, ovsdb-server or link to the management network, a controller, the broker,
the database. `begin` breaks, `end` mends; `end` of a killed part starts it, and starts it again while it refuses (a
database whose dead processes still hold its memory, a controller without database), as systemd does. A link is cut by
taking its end out of the wire's bridge: carrier and addresses stay, nobody sends a reset, packets go nowhere. A pause
is SIGSTOP to the part's whole family of processes.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from bench.ledger import Ledger, family, processes
from bench.mayhem import Fault
from devstack.labs import netns
from devstack.labs.broker import Broker
from devstack.labs.controllers import Controller
from devstack.labs.lab import Lab
from devstack.labs.postgres import Postgres
from devstack.labs.process import Daemon, LabError

FIRST = -15
"""As `nice` counts."""

PERSISTENCE_S = 60.0
"""Seconds for which a part is started again and again."""


class Faults:
    """Of one lab that is up. Any thread, as long as no two work on one unit."""

    def __init__(self, lab: Lab, ledger: Ledger) -> None:
        self._lab, self._ledger = lab, ledger
        self.hypervisors, self.controllers = lab.hypervisors, lab.controllers
        self.broker, self.postgres = lab.broker, lab.postgres

    def daemon(self, fault: Fault) -> Daemon:
        """The process that is at fault."""
        if fault.part == "controller":
            return self.controllers[fault.place].daemon
        if fault.part == "broker":
            return self.broker.daemon
        if fault.part == "postgresql":
            return self.postgres.daemon
        return self.hypervisors[fault.place].daemons[fault.part]

    def begin(self, fault: Fault) -> None:
        """Break it."""
        if fault.how == "cut":
            self.cut(fault.place)
        elif fault.how == "pause":
            self._signal(self.daemon(fault), signal.SIGSTOP)
        else:
            self._ledger.observe()
            self._ender(fault)()
            if fault.how == "wipe":
                self.broker.wipe()

    def end(self, fault: Fault) -> None:
        """Mend it; returns when the part runs. Raises LabError."""
        if fault.how == "cut":
            self.join(fault.place)
        elif fault.how == "pause":
            self._signal(self.daemon(fault), signal.SIGCONT)
        else:
            self.start(fault)

    def _ender(self, fault: Fault) -> Callable[[], None]:
        whole: dict[str, Broker | Postgres | Controller] = {"broker": self.broker, "postgresql": self.postgres}
        whole |= self.controllers
        if fault.place in whole:
            owner = whole[fault.place]
            return owner.kill if fault.how == "kill" else owner.stop
        hypervisor = self.hypervisors[fault.place]
        end = hypervisor.kill if fault.how == "kill" else hypervisor.stop
        return lambda: end(fault.part)

    def start(self, fault: Fault) -> None:
        """Start the part at fault until it runs."""
        deadline = time.monotonic() + PERSISTENCE_S
        while True:
            try:
                self._start(fault)
                return
            except LabError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
                if self.daemon(fault).pid is not None:
                    self.daemon(fault).kill()

    def _start(self, fault: Fault) -> None:
        if fault.part == "controller":
            self.controllers[fault.place].launch()
        elif fault.part == "broker":
            self.broker.start()
        elif fault.part == "postgresql":
            self.postgres.start()
        else:
            self.hypervisors[fault.place].start(fault.part)
            if fault.part == "vswitchd":
                self.prefer(fault.place)

    def prefer(self, host: str) -> None:
        """The host's vswitchd comes before others on a CPU. On a machine of two cores a broker and three controllers
        that start at once keep it from its interfaces for longer than their queues last, which proves nothing."""
        pid = self.hypervisors[host].daemons["vswitchd"].pid
        with contextlib.suppress(OSError):  # it ended just now, or this kernel has no groups by session (sched(7))
            Path(f"/proc/{pid}/autogroup").write_text(str(FIRST))
        for thread in os.listdir(f"/proc/{pid}/task") if pid else ():
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, int(thread), FIRST)

    def cut(self, host: str) -> None:
        """The host's link to the management network swallows everything."""
        netns.ip([f"link set mgmt-{host} nomaster"], self._lab.names.wires)

    def join(self, host: str) -> None:
        netns.ip([f"link set mgmt-{host} master mgmt"], self._lab.names.wires)

    def _signal(self, daemon: Daemon, sign: signal.Signals) -> None:
        for process in family(daemon.pid or 0, processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, sign)


def traffic(lab: Lab) -> dict[str, tuple[int, int]]:
    """Packets and bytes that went over each host's management link until now, both ways, by the kernel's count."""
    found = {}
    for host in lab.hypervisors:
        path = f"/sys/class/net/mgmt-{host}/statistics"
        names = ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes")
        text = netns.run(["ip", "netns", "exec", lab.names.wires, "cat", *(f"{path}/{name}" for name in names)]).split()
        numbers = list(map(int, text))
        found[host] = numbers[0] + numbers[1], numbers[2] + numbers[3]
    return found
