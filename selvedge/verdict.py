"""What checks found, for people and scripts: `selvedge check` prints it, on a controller's host and on a hypervisor.

A verdict is one host's answer as its agent gave it (`agents.checks`), or the reason why there is none. The exit status
of all together: drift anywhere is 1; else a host that could not be checked makes it 2; else 0.
"""

import json
from collections.abc import Mapping
from typing import Any

EQUAL, DRIFT, UNCHECKED = 0, 1, 2
"""Exit statuses."""

Verdict = Mapping[str, Any] | str
"""An agent's answer, or why there is none."""


def status(verdicts: Mapping[str, Verdict]) -> int:
    """The exit status."""
    if any(not isinstance(verdict, str) and not verdict["equal"] for verdict in verdicts.values()):
        return DRIFT
    return UNCHECKED if not verdicts or any(isinstance(verdict, str) for verdict in verdicts.values()) else EQUAL


def as_json(verdicts: Mapping[str, Verdict]) -> str:
    """One object: host → its answer, or `{"unchecked": reason}`."""
    told = {host: {"unchecked": said} if isinstance(said, str) else said for host, said in verdicts.items()}
    return json.dumps(told, indent=1)


def show(verdicts: Mapping[str, Verdict]) -> None:
    """To this terminal: a line for each host, then a table of what was found."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    found = Table("host", "between", "is", "object", "details")
    for host, verdict in verdicts.items():
        console.print(f"{host}: {_line(verdict)}", markup=False, soft_wrap=True)
        if isinstance(verdict, str):
            continue
        for finding in verdict["findings"]:
            found.add_row(host, *(finding[name] for name in ("step", "kind", "object", "detail")))
    if found.row_count:
        console.print(found)
    if not verdicts:
        console.print("there is no live host to be checked")


def _line(verdict: Verdict) -> str:
    if isinstance(verdict, str):
        return f"NOT CHECKED: {verdict}"
    numbers = verdict["compared"]
    compared = ", ".join(f"{numbers[name]} {name}" for name in ("topics", "objects", "flows", "groups"))
    what = "equal" if verdict["equal"] else f"{verdict['found']} DIFFERENCES"
    left_out = "".join(f"; not compared: {text}" for text in verdict["left_out"])
    return f"{what} ({compared}, {verdict['seconds']:.1f} s){left_out}"
