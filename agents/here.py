"""`selvedge check --here`: this hypervisor's agent compares what it has with the database, and its switch with both.

    selvedge check --here [--state-dir DIR] [--timeout SECONDS] [--json]

It works without a broker: then only topics → facts → flows → switch are compared, and that is said. The agent is asked
by its door (`agents.door`), the answer is in its status.json. Exit status: 0 equal, 1 drift, 2 it could not be checked.
"""

import argparse
import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from rich.console import Console

from agents import door
from selvedge import verdict
from selvedge.topics import Check

POLL = 0.1
"""Seconds between two looks for the answer."""

PATIENCE = 0.7
"""The part of the time that the agent may take: its status.json comes once a second."""


def declare(commands: Any) -> None:
    """The command line."""
    text = "compare what this hypervisor's agent knows and its switch has with the database"
    found = commands.add_parser("check", help=f"{text} (without --here: all hosts, on a controller's host)")
    found.add_argument("--here", action="store_true", required=True)
    found.add_argument("--state-dir", default="/var/lib/selvedge-agent", help="the agent's (default: %(default)s)")
    found.add_argument("--timeout", type=float, default=15.0, metavar="SECONDS", help="(default: %(default)g)")
    found.add_argument("--json", action="store_true")
    found.set_defaults(run=check)


def check(arguments: argparse.Namespace, console: Console) -> int:
    """Ask, wait, print; returns the exit status."""
    del console
    state_dir = Path(arguments.state_dir)
    number = str(uuid.uuid4())
    try:
        door.ask(state_dir, Check(number, arguments.timeout * PATIENCE))
    except OSError as error:
        reason = f"{state_dir / door.DOOR}: {error.strerror or error}: does the agent run here, with this state_dir?"
        print(f"selvedge check: {reason}", file=sys.stderr)
        return verdict.UNCHECKED
    host, found = _wait(state_dir / "status.json", number, arguments.timeout)
    if found is None:
        found = f"the agent did not answer within {arguments.timeout:g} s"
    if arguments.json:
        print(verdict.as_json({host: found}))
    else:
        verdict.show({host: found})
    return verdict.status({host: found})


def _wait(path: Path, number: str, timeout: float) -> tuple[str, verdict.Verdict | None]:
    """The host's name, and the answer if it comes in time."""
    host = "this host"
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError):
            told = {}
        host = told.get("host", host)
        if (answer := told.get("checks", {}).get(number)) is not None:
            return host, answer
        time.sleep(POLL)
    return host, None
