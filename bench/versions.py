"""What was measured with what: versions of us, of what we drive, and of the machine."""

import os
import platform
import shutil
import sqlite3
import subprocess
from pathlib import Path

import selvedge

HOME = Path(__file__).resolve().parent.parent


def _first_line(*command: str) -> str:
    """The first line a command prints, or `unknown` if it is not there or fails."""
    if shutil.which(command[0]) is None:
        return "unknown"
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HOME)
    lines = done.stdout.splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else "unknown"


def versions() -> dict[str, str]:
    return {
        "selvedge": selvedge.__version__,
        "commit": _first_line("git", "describe", "--always", "--dirty"),
        "python": platform.python_version(),
        "openvswitch": _first_line("ovs-vswitchd", "--version").rpartition(" ")[2],
        "rabbitmq": _first_line("dpkg-query", "-W", "-f", "${Version}\\n", "rabbitmq-server"),
        "sqlite": sqlite3.sqlite_version,
        "linux": platform.release(),
        "cpus": str(os.cpu_count()),
    }
