"""Where every command starts, and the guard against strangers.

`agents`, `controller` and `openflow` are common words: PyPI has a popular package `agents`. If one of them comes from
elsewhere, half of this program would run with half of another; so each command looks first, and stops with one
sentence. `selvedge` itself is a unique name, which is why the entry points live here.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent


def stranger(package: str) -> str | None:
    """Where `package` comes from if that is not beside `selvedge`, or None if all is well."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return "nowhere" if spec is None else "a namespace package"
    return None if Path(spec.origin).resolve().parent.parent == HOME else str(Path(spec.origin).parent)


def _start(module: str, *needed: str) -> int:
    for package in needed:
        origin = stranger(package)
        if origin is not None:
            print(
                f"{Path(sys.argv[0]).name}: the package '{package}' comes from {origin} instead of {HOME}; "
                "install Selvedge in a virtual environment of its own",
                file=sys.stderr,
            )
            return 1
    main: Callable[[], int] = importlib.import_module(module).main
    return main()


def controller() -> int:
    """selvedge-controller"""
    os.umask(0o077)  # an SQLite database has all tenants' topology
    return _start("controller.main", "controller")


def agent() -> int:
    """selvedge-agent"""
    os.umask(0o027)  # `selvedge status` is for operators of the agent's group
    return _start("agents.main", "agents", "openflow")


def operator() -> int:
    """selvedge; its `check` is a controller's, unless it is to be done by the agent here."""
    if sys.argv[1:2] == ["check"] and "--here" not in sys.argv:
        return _start("controller.check", "controller")
    return _start("agents.operator", "agents", "openflow")
