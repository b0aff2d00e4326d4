"""The command `devstack/lab`: one function per verb, one clear line and a non-zero exit code when it does not work."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from devstack.labs.api import Api
from devstack.labs.hypervisor import DAEMONS
from devstack.labs.lab import Lab
from devstack.labs.process import LabError
from selvedge import verdict

HOME = Path(__file__).resolve().parents[2]
CONSOLE = Console(highlight=False)


def up(lab: Lab, asked: argparse.Namespace) -> int:
    """start broker, controllers and hypervisors"""
    lab.up(asked.hypervisors, asked.database, asked.controllers)
    print(f"lab is up after {max(lab.timings.values()):.1f} s: API {lab.api.url}, {asked.hypervisors} hypervisors")
    return 0


def plug(lab: Lab, asked: argparse.Namespace) -> int:
    """boot a VM for a port: a namespace with its MAC and addresses, plugged into br-int"""
    vm = lab.plug(asked.port, asked.on)
    print(f"port {vm.port} is ACTIVE on {vm.hypervisor}: {' '.join(vm.want.addresses) or 'no address'}")
    return 0


def unplug(lab: Lab, asked: argparse.Namespace) -> int:
    """power a port's VM off"""
    lab.unplug(asked.port)
    return 0


def execute(lab: Lab, asked: argparse.Namespace) -> int:
    """run a command in a VM"""
    return lab.vm(asked.port).exec(asked.command)


def hv(lab: Lab, asked: argparse.Namespace) -> int:
    """run a command on a hypervisor: its network namespace, its Open vSwitch"""
    return lab.hypervisor(asked.name).exec(asked.command)


def start(lab: Lab, asked: argparse.Namespace) -> int:
    """start what was stopped or killed"""
    return _daemon(lab, "start", asked.name)


def stop(lab: Lab, asked: argparse.Namespace) -> int:
    """stop a daemon in an orderly way"""
    return _daemon(lab, "stop", asked.name)


def kill(lab: Lab, asked: argparse.Namespace) -> int:
    """SIGKILL a daemon"""
    return _daemon(lab, "kill", asked.name)


def _daemon(lab: Lab, verb: str, words: Sequence[str]) -> int:
    name, kind = words[0], words[1] if len(words) > 1 else None
    if name in lab.hypervisors:
        if kind not in DAEMONS:
            raise LabError(f"{name} has the daemons {', '.join(DAEMONS)}")
        getattr(lab.hypervisor(name), verb)(kind)
        if verb == "start" and kind == "agent":
            lab.hypervisor(name).wait_in_sync()
        return 0
    services = {"broker": lab.broker, **lab.controllers}
    if lab.plan["own_postgresql"]:
        services["postgresql"] = lab.postgres
    if name not in services or kind:
        raise LabError(f"there is no daemon '{' '.join(words)}'; there are {', '.join(lab.daemons())}")
    getattr(services[name], verb)()
    return 0


def status(lab: Lab, asked: argparse.Namespace) -> int:
    """tell what there is, and whether it runs"""
    found = lab.status()
    if asked.json:
        print(json.dumps(found, indent=2))
        return 0
    CONSOLE.print(f"API {found['api']}   state {found['state']}", soft_wrap=True)
    processes = Table("daemon", "pid", "log", title="Daemons", title_justify="left")
    for name, process in found["processes"].items():
        processes.add_row(name, str(process["pid"] or "not running"), process["log"])
    CONSOLE.print(processes)
    if found["vms"]:
        vms = Table("port", "host", "addresses", "status", title="VMs", title_justify="left")
        for port, vm in found["vms"].items():
            vms.add_row(port, vm["hypervisor"], "\n".join(vm["addresses"]), _port_status(lab.api, port))
        CONSOLE.print(vms)
    return 0


def _port_status(api: Api, port: str) -> str:
    try:
        return str(api.show("port", port)["status"])
    except LabError as error:
        return str(error)


def check(lab: Lab, asked: argparse.Namespace) -> int:
    """compare the database with what the hypervisors know and their switches have"""
    code, found = lab.check(*asked.host)
    if asked.json:
        print(verdict.as_json(found))
    else:
        verdict.show({host: said.get("unchecked", said) for host, said in found.items()})
    return code


def down(lab: Lab, asked: argparse.Namespace) -> int:
    """end and remove everything, also after a crash"""
    del asked
    lab.down()
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="devstack/lab", description="A virtual data centre on this machine.")
    found.add_argument("--state", type=Path, default=HOME / ".lab", metavar="DIR", help="default: .lab of this clone")
    verbs = found.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, call: Callable[[Lab, argparse.Namespace], int]) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=call.__doc__, description=call.__doc__)
        # Also behind the verb; SUPPRESS keeps what was said before it.
        made.add_argument("--state", type=Path, default=argparse.SUPPRESS, metavar="DIR", help=argparse.SUPPRESS)
        made.set_defaults(call=call)
        return made

    making = verb("up", up)
    making.add_argument("--hypervisors", type=int, default=3, metavar="N")
    making.add_argument("--database", metavar="URL", help="SQLAlchemy's; 'postgresql' starts one; default: SQLite")
    making.add_argument("--controllers", type=int, default=1, metavar="M")
    plugging = verb("plug", plug)
    plugging.add_argument("port", metavar="PORT_ID")
    plugging.add_argument("--on", required=True, metavar="HYPERVISOR")
    verb("unplug", unplug).add_argument("port", metavar="PORT_ID")
    for name, call, what in (("exec", execute, "port"), ("hv", hv, "name")):
        running = verb(name, call)
        running.add_argument(what, metavar="PORT_ID" if what == "port" else "HYPERVISOR")
        running.add_argument("command", nargs="+", metavar="-- COMMAND")
    for name, call in (("start", start), ("stop", stop), ("kill", kill)):
        verb(name, call).add_argument("name", nargs="+", metavar="DAEMON", help="hv1 agent, broker, controller1 …")
    verb("status", status).add_argument("--json", action="store_true")
    checking = verb("check", check)
    checking.add_argument("host", nargs="*", metavar="HYPERVISOR")
    checking.add_argument("--json", action="store_true")
    verb("down", down)
    return found


def main() -> int:
    """Exit code of the command."""
    asked = parser().parse_args()
    if os.geteuid() != 0:
        print("lab: network namespaces need root; run it as root", file=sys.stderr)
        return 1
    try:
        code: int = asked.call(Lab(asked.state), asked)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; 'devstack/lab down' removes what was started", file=sys.stderr)
        return 130
    return code
