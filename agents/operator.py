"""selvedge: the operator's command. Small; read-only but for `host`: what is wired here, whose flow is that, who lives.

    selvedge agents [--url URL]            hypervisors as the controllers know them
    selvedge status [--state-dir DIR]      this hypervisor's agent: in sync, ports and why one is down, problems
    selvedge flows [OBJECT]                the switch's flows, each with its table's name and its tenant's object; of a
                                           port with the rules that it is under
    selvedge owner COOKIE                  the object that a cookie leads to
    selvedge check [HOST …]                database and switches compared, on a controller's host (controller.check)
    selvedge check --here                  the same by this hypervisor's agent (agents.here)
    selvedge host add|remove|list          accounts of agents on the broker (agents.hosts)

`flows` asks `ovs-ofctl`, so counters and text are the ones that operators know, and adds what only the agent knows: the
object behind each cookie, from the agent's `status.json`. Everything works while the agent, the broker and the
controllers are away; names are then those of the agent's last status.
"""

import argparse
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agents import here, hosts
from openflow.pipeline import POLICY, TABLES, owner_of

FLOW = re.compile(r"^\s*cookie=(?P<cookie>0x[0-9a-f]+), .*?table=(?P<table>\d+), (?P<rest>.*)$")
"""One line of `ovs-ofctl dump-flows`."""


class Trouble(Exception):
    """What stops the command; the text is its one line."""


def object_name(cookie: int, objects: dict[str, dict[str, str]]) -> str:
    """The object that a cookie leads to: `endpoint 3f…`, or its key if the agent knows no name for it."""
    owner = owner_of(cookie)
    if owner is None:
        return "foreign"
    kind, key = owner
    label = kind.name.lower()
    if label == "base":
        return "base"
    name = objects.get(label, {}).get(str(key))
    return f"{label} {name}" if name else f"{label} with key {key}"


def annotated(
    lines: Sequence[str], objects: dict[str, dict[str, str]], wanted: str | None, policy: int = 0
) -> Iterator[str]:
    """Flows as `ovs-ofctl` printed them, in the pipeline's order, with names; only those of `wanted` if it is given,
    and the rules of its `policy`, if it has one."""
    judged = re.compile(rf"\b{POLICY}={policy:#x}[, ]")
    names = {table.number: table.name for table in TABLES}
    for line in lines:
        found = FLOW.match(line)
        if found is None:
            continue
        owner = object_name(int(found["cookie"], 16), objects)
        if wanted is None or wanted in owner.split() or (policy and judged.search(found["rest"])):
            table = int(found["table"])
            yield f"{table:2} {names.get(table, '?'):14} [{owner}] {found['rest']}"


def read_status(state_dir: str) -> dict[str, Any]:
    """The agent's status.json. Raises `Trouble`."""
    path = Path(state_dir) / "status.json"
    try:
        status: dict[str, Any] = json.loads(path.read_text())
    except OSError as error:
        raise Trouble(f"{path}: {error.strerror}; is this host's agent configured with another state_dir?") from error
    except ValueError as error:
        raise Trouble(f"{path} is not JSON: {error}") from error
    return status


def flows(arguments: argparse.Namespace, console: Console) -> None:
    """Print the switch's flows."""
    told = read_status(arguments.state_dir)
    objects = told.get("objects", {})
    policy = told.get("ports", {}).get(arguments.object, {}).get("policy", 0)
    bridge = f"unix:{arguments.ovs_rundir}/{arguments.bridge}.mgmt"
    command = ["ovs-ofctl", "-O", "OpenFlow14", "dump-flows", bridge]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Trouble(f"ovs-ofctl: {error.strerror}") from error
    if done.returncode:
        raise Trouble(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "ovs-ofctl failed")
    lines = list(annotated(done.stdout.splitlines(), objects, arguments.object, policy))
    if arguments.object and not lines:
        raise Trouble(f"{arguments.bridge} has no flow of '{arguments.object}': it takes whole ids, and hosts' names")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def owner(arguments: argparse.Namespace, console: Console) -> None:
    """Print the object behind a cookie."""
    try:
        cookie = int(arguments.cookie, 0)
    except ValueError as error:
        raise Trouble(f"'{arguments.cookie}' is no cookie: expected a number such as 0x5e03000000000012") from error
    objects = read_status(arguments.state_dir).get("objects", {})
    console.print(object_name(cookie, objects), markup=False, highlight=False)


def status(arguments: argparse.Namespace, console: Console) -> None:
    """Print what the agent of this host says of itself."""
    told = read_status(arguments.state_dir)
    counts = told["counts"]
    console.print(
        f"{told['host']}: {'in sync' if told['in_sync'] else 'NOT in sync'}, pid {told['pid']}, "
        f"{told['flows']} flows, {told['groups']} groups, {counts['ports_up']} ports up, {counts['ports_down']} down, "
        f"{counts.get('policies', 0)} policies of {counts.get('security_groups', 0)} security groups",
        markup=False,
        highlight=False,
    )
    if waiting := counts.get("ports_awaiting_groups"):
        console.print(f"waiting for the rules of their groups: {waiting} ports", markup=False, highlight=False)
    for problem in told["problems"]:
        console.print(f"problem: {problem}", markup=False)
    table = Table("port", "state", "why")
    for port, state in told["ports"].items():
        table.add_row(port, state["state"], state["reason"])
    if told["ports"]:
        console.print(table)


def agents(arguments: argparse.Namespace, console: Console) -> None:
    """Print the API's list of agents."""
    url = f"{arguments.url.rstrip('/')}/v2.0/agents"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            listed = json.load(answer)["agents"]
    except (urllib.error.URLError, ValueError, KeyError, OSError) as error:
        raise Trouble(f"{url}: {getattr(error, 'reason', error)}") from error
    table = Table("host", "alive", "in sync", "ports up", "flows", "heartbeat", "problems")
    for agent in listed:
        told = agent["configurations"]
        counts = told.get("counts", {})
        alive = "yes" if agent["alive"] else "NO"
        numbers = [str(counts.get(name, "")) for name in ("ports_up", "flows")]
        problems = "; ".join(told.get("problems", ()))
        synced = "yes" if told.get("in_sync") else "no"
        table.add_row(agent["host"], alive, synced, *numbers, agent["heartbeat_timestamp"], problems)
    console.print(table)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="selvedge", description="The operator's view of Selvedge.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    listed = command("agents", agents, "hypervisors as the controllers know them")
    listed.add_argument("--url", default="http://127.0.0.1:9696", help="the API (default: %(default)s)")
    local = [
        command("status", status, "what this hypervisor's agent says of itself"),
        command("flows", flows, "the switch's flows, each with its table's name and its tenant's object"),
        command("owner", owner, "the object that a flow's cookie leads to"),
    ]
    for sub in local:
        sub.add_argument("--state-dir", default="/var/lib/selvedge-agent", help="the agent's (default: %(default)s)")
    local[1].add_argument("object", nargs="?", help="only flows of this port, network, host, rule or security group")
    local[1].add_argument("--ovs-rundir", default="/var/run/openvswitch", help="(default: %(default)s)")
    local[1].add_argument("--bridge", default="br-int", help="(default: %(default)s)")
    local[2].add_argument("cookie", help="a number, 0x… for hexadecimal")
    here.declare(commands)
    hosts.declare(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    arguments = parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments, Console()) or 0
    except (Trouble, hosts.HostTrouble) as trouble:
        print(f"selvedge: {trouble}", file=sys.stderr)
        return 1
    return status
