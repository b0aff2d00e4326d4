"""The lab: what `devstack/lab` does, as a class that tests and benchmarks use alike.

    lab = Lab(Path(".lab"))
    lab.up(hypervisors=3)
    network = lab.api.create("network", name="blue") …
    vm = lab.plug(port["id"], on="hv1")
    vm.ping("10.0.0.5")
    lab.down()

All that a later command needs is in the state directory: `lab.json` (what was asked for), one record per daemon and one
file per VM. `down` needs less: where there is a lab's mark it ends every recorded process, and in any case it removes
every namespace with this lab's prefix.
"""

import contextlib
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from devstack.labs import netns
from devstack.labs.api import Api
from devstack.labs.broker import Broker
from devstack.labs.controllers import Controller, program
from devstack.labs.ground import Ground, Namespaces
from devstack.labs.hypervisor import Hypervisor
from devstack.labs.postgres import Postgres
from devstack.labs.process import Daemon, LabError, free_port, wait_for
from devstack.labs.vm import Vm, Wanted, configure, wanted
from selvedge.accounts import agent_account, definitions

MARK = ".selvedge-lab"
"""The first file of a lab's state directory: `down` ends and removes nothing where it is not."""

MOST_HYPERVISORS = 200


class Lab:
    """A lab under `state`; `ground` is where its namespaces come from (default: named ones of this machine)."""

    def __init__(self, state: Path, ground: Ground | None = None) -> None:
        self.state = state.resolve()
        self.names = netns.Names(self.state)
        self.ground: Ground = ground or Namespaces(self.names)
        if self.is_up:
            self.ground.management = self.plan["management"]
        self.postgres = Postgres(self.state / "postgres")
        self.timings: dict[str, float] = {}
        self.progress: Callable[[str], None] = lambda _: None
        """Told what `up` has reached."""

    # What it consists of

    @property
    def plan(self) -> dict[str, Any]:
        """`lab.json`; LabError if the lab is not up."""
        try:
            found: dict[str, Any] = json.loads((self.state / "lab.json").read_text())
        except OSError:
            raise LabError(f"there is no lab under {self.state}; 'devstack/lab up' makes one") from None
        return found

    @property
    def is_up(self) -> bool:
        return (self.state / "lab.json").exists()

    @property
    def broker(self) -> Broker:
        """The lab's RabbitMQ, which the hypervisors reach by the management wire."""
        return Broker(self.state / "broker", (self.ground.management,))

    @property
    def hypervisors(self) -> dict[str, Hypervisor]:
        """By name: hv1, hv2 …"""
        plan = self.plan
        accounts = plan["accounts"]
        broker, address = self.broker, self.ground.management
        return {
            name: Hypervisor(
                name,
                state=self.state / name,
                namespace=Path(where),
                tunnel=f"10.255.0.{number}/16",
                transport_url=broker.url_at(address, f"{agent_account(name)}:{accounts[name]}")
                if name in accounts
                else broker.url_at(address),
                program=program("selvedge-agent"),
            )
            for number, (name, where) in enumerate(plan["hypervisors"].items(), start=1)
        }

    @property
    def controllers(self) -> dict[str, Controller]:
        """By name: controller1, controller2 …"""
        plan = self.plan
        return {
            name: Controller(
                name,
                state=self.state / name,
                port=port,
                transport_url=self.broker.url,
                database=plan["database"],
                options=plan["options"],
            )
            for name, port in plan["controllers"].items()
        }

    @property
    def api(self) -> Api:
        """The first controller's API."""
        return next(iter(self.controllers.values())).api

    @property
    def vms(self) -> dict[str, Vm]:
        """Plugged or prepared VMs by port id."""
        found = {}
        for path in sorted((self.state / "vms").glob("*.json")):
            record = json.loads(path.read_text())
            record["want"] = {k: tuple(v) if isinstance(v, list) else v for k, v in record["want"].items()}
            found[path.stem] = Vm(Wanted(**record["want"]), record["hypervisor"], Path(record["namespace"]))
        return found

    def hypervisor(self, name: str) -> Hypervisor:
        try:
            return self.hypervisors[name]
        except KeyError:
            raise LabError(f"there is no hypervisor {name}; there are {', '.join(self.hypervisors)}") from None

    def vm(self, port: str) -> Vm:
        """By port id, or by the beginning of one."""
        _ = self.plan  # no lab at all is another complaint
        found = [vm for identity, vm in self.vms.items() if identity.startswith(port)]
        if len(found) != 1:
            raise LabError(f"there is {'no VM' if not found else 'more than one VM'} of port {port}")
        return found[0]

    # Up and down

    def up(
        self,
        hypervisors: int = 3,
        database: str | None = None,
        controllers: int = 1,
        options: dict[str, dict[str, str]] | None = None,
    ) -> None:
        """Start everything, at once as far as it can be; returns when the API answers and every agent is in sync.

        `database`: SQLAlchemy's URL, or `postgresql` for a server of the lab's own; default SQLite under `state`.
        `options`: more of the controllers' configuration, by section. Each hypervisor has an account of its own on the
        broker, unless `[agents] accounts` is `shared`. What was started is left for `down` on failure.
        """
        if self.is_up:
            raise LabError(f"there is a lab under {self.state} already; 'devstack/lab down' removes it")
        if not 1 <= hypervisors <= MOST_HYPERVISORS or controllers < 1:
            raise LabError(f"a lab has 1 to {MOST_HYPERVISORS} hypervisors and at least one controller")
        for name in ("selvedge-agent", "selvedge-controller"):
            program(name)
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            empty = not any(self.state.iterdir())
        except OSError as error:
            raise LabError(f"{self.state}: {error.strerror}") from error
        if not empty:  # `down` removes the directory
            raise LabError(f"{self.state} is not empty; 'devstack/lab down' removes a lab's rest, or choose another")
        (self.state / MARK).touch()
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            self.ground.open()
            service = self.broker
            names = [f"hv{number}" for number in range(1, hypervisors + 1)]
            shared = (options or {}).get("agents", {}).get("accounts") == "shared"
            accounts: dict[str, str] = {} if shared else {name: secrets.token_urlsafe(24) for name in names}
            service.grant(definitions(accounts))
            broker = pool.submit(service.start)
            own = database == "postgresql"
            postgres = pool.submit(self._start_postgres) if own else None
            places = {name: str(self.ground.hypervisor(name, number)) for number, name in enumerate(names, start=1)}
            plan = {
                "management": self.ground.management,
                "hypervisors": places,
                "controllers": {f"controller{number}": free_port() for number in range(1, controllers + 1)},
                "database": self.postgres.url_of("selvedge")
                if own
                else database or f"sqlite:///{self.state / 'selvedge.db'}",
                "own_postgresql": own,
                "options": options or {},
                "accounts": accounts,
            }
            (self.state / "lab.json").write_text(json.dumps(plan, indent=1))
            switches = [pool.submit(hypervisor.start_switch) for hypervisor in self.hypervisors.values()]
            if postgres:
                postgres.result()
            for controller in self.controllers.values():
                controller.launch()  # they wait for the broker by themselves
            for switch in switches:
                switch.result()
            self._lap(f"Open vSwitch runs on {hypervisors} hypervisors", began)
            broker.result()
            self._lap("RabbitMQ answers", began)
            for hypervisor in self.hypervisors.values():
                hypervisor.start("agent")
            for controller in self.controllers.values():
                controller.wait_ready()
            self._lap("the API answers", began)
            for waiting in [pool.submit(hypervisor.wait_in_sync) for hypervisor in self.hypervisors.values()]:
                waiting.result()
            self._lap("all agents are in sync", began)

    def _start_postgres(self) -> None:
        self.postgres.start()
        self.postgres.create_database("selvedge")

    def _lap(self, what: str, began: float) -> None:
        self.timings[what] = round(time.monotonic() - began, 2)
        self.progress(what)

    def down(self) -> None:
        """Remove everything, whatever state it is in. The state directory goes too."""
        ours = (self.state / MARK).exists()
        if not ours and self.state.is_dir() and any(self.state.iterdir()):
            raise LabError(f"{self.state} is not a lab's directory; nothing in it was touched")
        if ours:
            for record in sorted(self.state.glob("*/*.daemon")):
                Daemon(record.parent, record.stem).kill()
            for directory in self.state.glob("hv*"):
                # Where the agent's oslo.messaging counts its reply queues.
                Path(f"/dev/shm/{directory.name}_selvedge-agent_qmanager").unlink(missing_ok=True)
        self.ground.close()
        if ours:
            shutil.rmtree(self.state)

    # VMs

    def prepare_vm(self, port: str, on: str) -> Vm:
        """All of a VM but its plug: namespace, cable, addresses. The port's interface is not on br-int yet."""
        hypervisor = self.hypervisor(on)
        api = self.api
        want = wanted(api, api.show("port", port))
        if port in self.vms:
            raise LabError(f"port {port} is plugged on {self.vms[port].hypervisor} already")
        namespace = self.ground.vm(port, on, want.tap, want.mac, want.mtu)
        vm = Vm(want, on, namespace)
        (self.state / "vms").mkdir(exist_ok=True)
        record = {"want": asdict(want), "hypervisor": hypervisor.name, "namespace": str(namespace)}
        (self.state / "vms" / f"{port}.json").write_text(json.dumps(record))
        configure(namespace, want)
        return vm

    def commit_plug(self, vm: Vm) -> float:
        """The second half: one OVSDB transaction. The moment (time.monotonic) right before it."""
        hypervisor = self.hypervisor(vm.hypervisor)
        moment = time.monotonic()
        hypervisor.plug(vm.want.tap, vm.port, vm.want.mac)
        return moment

    def plug(self, port: str, on: str, active: float | None = 10.0) -> Vm:
        """Boot a VM for the port; waits up to `active` seconds (None: not at all) for the API to call it ACTIVE."""
        vm = self.prepare_vm(port, on)
        self.commit_plug(vm)
        if active is not None:
            self.wait_status(port, "ACTIVE", active)
        return vm

    def wait_status(self, port: str, status: str, timeout: float = 10.0) -> None:
        """Return once the API says so of the port; LabError after `timeout` seconds."""
        api = self.api
        seen = ""

        def reached() -> bool:
            nonlocal seen
            seen = api.show("port", port)["status"]
            return bool(seen == status)

        try:
            wait_for(f"port {port}", reached, timeout)
        except LabError:
            raise LabError(f"port {port} is {seen}, not {status}, after {timeout:g} s") from None

    def unplug(self, port: str) -> None:
        """Power the VM off: its interface leaves br-int, and its namespace goes."""
        vm = self.vm(port)
        with contextlib.suppress(LabError):  # a dead switch keeps nobody from pulling the plug
            self.hypervisor(vm.hypervisor).unplug(vm.want.tap)
        self.ground.remove_vm(vm.port, vm.hypervisor, vm.want.tap)
        (self.state / "vms" / f"{vm.port}.json").unlink(missing_ok=True)

    def move_vm(self, port: str, to: str) -> Vm:
        """Unplug it and boot it on another hypervisor."""
        self.unplug(port)
        return self.plug(port, to, active=None)

    # Looking

    def daemons(self) -> dict[str, Daemon]:
        """Every daemon by the name that the command line knows: broker, controller1, hv1 agent …"""
        found = {"broker": self.broker.daemon}
        if self.plan["own_postgresql"]:
            found["postgresql"] = self.postgres.daemon
        found |= {name: controller.daemon for name, controller in self.controllers.items()}
        for name, hypervisor in self.hypervisors.items():
            found |= {f"{name} {kind}": daemon for kind, daemon in hypervisor.daemons.items()}
        return found

    def status(self) -> dict[str, Any]:
        """What `status --json` prints."""
        plan = self.plan
        return {
            "state": str(self.state),
            "api": self.api.url,
            "broker": self.broker.url,
            "database": plan["database"],
            "controllers": {name: controller.api.url for name, controller in self.controllers.items()},
            "processes": {name: {"pid": daemon.pid, "log": str(daemon.log)} for name, daemon in self.daemons().items()},
            "hypervisors": {
                name: {
                    "namespace": str(hypervisor.namespace),
                    "tunnel_ip": hypervisor.tunnel.partition("/")[0],
                    "ovs_rundir": str(hypervisor.rundir),
                    "in_sync": bool(hypervisor.daemons["agent"].pid and hypervisor.status().get("in_sync")),
                }
                for name, hypervisor in self.hypervisors.items()
            },
            "vms": {
                port: {
                    "hypervisor": vm.hypervisor,
                    "namespace": str(vm.namespace),
                    "interface": vm.want.tap,
                    "mac": vm.want.mac,
                    "addresses": list(vm.want.addresses),
                }
                for port, vm in self.vms.items()
            },
        }

    def check(self, *hosts: str, timeout: float = 15.0) -> tuple[int, dict[str, Any]]:
        """`selvedge check`: its exit status, and what it says of each host (none named: of all that live)."""
        controller = next(iter(self.controllers.values()))
        command = [str(program("selvedge")), "check", *hosts, "--config-file", controller.configuration()]
        command += ["--json", "--timeout", str(timeout)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout + 60)
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise LabError(f"selvedge check: {done.stderr.strip() or done.stdout.strip()}") from None
        return done.returncode, found

    def differences(self, *hosts: str, timeout: float = 15.0) -> list[str]:
        """What `selvedge check` finds, one line each (hosts that could not be checked too); none: all is equal."""
        code, found = self.check(*hosts, timeout=timeout)
        lines = []
        for host, said in found.items():
            if "unchecked" in said:
                lines.append(f"{host}: not checked: {said['unchecked']}")
            else:
                lines += [f"{host}: " + " ".join(filter(None, finding.values())) for finding in said["findings"]]
                lines += [f"{host}: not compared: {text}" for text in said["left_out"]]
        if (code == 0) != (not lines):
            raise LabError(f"selvedge check: exit status {code}, and it says {lines}")
        return lines

    def story(self) -> str:
        """The ends of all logs and the flows of all hypervisors: what explains a failure."""
        parts = [f"--- {name}'s log\n{controller.daemon.tail(25)}" for name, controller in self.controllers.items()]
        return "\n".join(parts + [hypervisor.story() for hypervisor in self.hypervisors.values()])
