"""The house's walls: which package may import which (ARCHITECTURE.md, the rooms), held by reading the source.

`controller` knows nothing of switches, `agents` nothing of databases, `openflow` alone knows the OpenFlow library, and
`selvedge`, the language between them, knows none of them.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"selvedge", "controller", "agents", "openflow", "devstack", "tests", "bench"}

MAY_IMPORT = {
    "selvedge": set[str](),
    "controller": {"selvedge"},
    "openflow": {"selvedge"},
    "agents": {"selvedge", "openflow"},
}

ONLY_IN = {
    "os_ken": {"openflow"},
    "sqlalchemy": {"controller"},
    "alembic": {"controller"},
    "falcon": {"controller"},
    "gunicorn": {"controller"},
    "pyroute2": {"agents"},
    "eventlet": set[str](),
}
"""Libraries that only the named packages may use; eventlet has no place in a daemon."""


def imported(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the whole name"
            yield node.lineno, node.module or ""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_a_package_imports_only_what_its_room_allows(package: str) -> None:
    wrong = []
    assert sources(package), f"{package} has no source"
    for path in sources(package):
        for line, name in imported(path):
            top = name.partition(".")[0]
            if top in OURS and top != package and top not in MAY_IMPORT[package]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {package} may not import {name}")
            if top in ONLY_IN and package not in ONLY_IN[top]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {package} may not use {name}")
    assert not wrong, "\n".join(wrong)


DISTRIBUTION = {
    "os_ken": "os-ken",
    "oslo_concurrency": "oslo.concurrency",
    "oslo_config": "oslo.config",
    "oslo_log": "oslo.log",
    "oslo_messaging": "oslo.messaging",
    "sqlalchemy": "SQLAlchemy",
}
"""What a package is called where it is installed from, if not by its own name."""

BY_NAME_ONLY = {"psycopg"}
"""Used without an import: the driver in a database's URL."""


def test_every_library_is_declared_and_explained_and_no_other() -> None:
    """setup.cfg requires exactly what the four packages import, and README's table says why each is there."""
    text = (ROOT / "setup.cfg").read_text()
    lines = text.partition("install_requires =\n")[2].partition("\n\n")[0].split()
    required = {re.split(r"[\[>]", line)[0] for line in lines}
    tops = {name.partition(".")[0] for package in MAY_IMPORT for path in sources(package) for _, name in imported(path)}
    strangers = tops - set(sys.stdlib_module_names) - OURS
    assert required == {DISTRIBUTION.get(name, name) for name in strangers} | BY_NAME_ONLY
    table = (ROOT / "README.md").read_text().partition("| dependency |")[2]
    named = {name for row in table.splitlines() for name in re.findall(r"[\w.-]+", "|".join(row.split("|")[1:2]))}
    assert {name.lower() for name in required} <= {name.lower() for name in named}


def test_every_package_is_installed_and_nothing_else() -> None:
    """setup.cfg lists the packages by hand, so that tests never reach site-packages; the list must be whole."""
    text = (ROOT / "setup.cfg").read_text()
    listed = set(text.partition("packages =\n")[2].partition("install_requires")[0].split())
    found = {".".join(path.parent.relative_to(ROOT).parts) for package in MAY_IMPORT for path in sources(package)}
    assert listed == found


def test_a_stranger_in_the_place_of_our_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from selvedge import entry

    assert entry.stranger("openflow") is None
    (tmp_path / "strangerpackage").mkdir()
    (tmp_path / "strangerpackage" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert entry.stranger("strangerpackage") == str(tmp_path / "strangerpackage")
    assert entry.stranger("no_such_package_anywhere") == "nowhere"


def test_a_command_stops_with_one_sentence_when_agents_is_a_stranger(tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("")
    path = [str(tmp_path), str(ROOT)]
    code = f"import sys; sys.path[:0] = {path!r}; from selvedge import entry; sys.exit(entry.agent())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the package 'agents' comes from" in done.stderr
