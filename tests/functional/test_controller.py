"""The controller as an operator meets it: a command that starts soon, says what is wrong, and ends when told to."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.labs.broker import Broker
from devstack.labs.process import free_port

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "import sys; from selvedge.entry import controller; sys.exit(controller())"]


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


class Daemon:
    def __init__(self, directory: Path, port: int, broker_url: str, options: str = "") -> None:
        self.port = port
        self.log = directory / f"{port}.log"
        path = directory / f"{port}.conf"
        path.write_text(
            f"[DEFAULT]\ntransport_url = {broker_url}\nbind_port = {port}\n{options}"
            f"[database]\nconnection = sqlite:///{directory}/selvedge.db\n"
        )
        began = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "--config-file", str(path)], cwd=ROOT, stderr=log, stdout=log, start_new_session=True
            )
        while True:
            try:
                assert "networks" in get(port, "/v2.0/networks")
                break
            except urllib.error.URLError:
                assert self.process.poll() is None and time.monotonic() - began < 20, self.log.read_text()
                time.sleep(0.02)
        self.seconds = time.monotonic() - began

    def metric(self, name: str) -> float:
        found = re.search(rf"^{name} (\S+)$", get(self.port, "/metrics"), re.MULTILINE)
        assert found, name
        return float(found.group(1))

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[list[Daemon]]:
    started: list[Daemon] = []
    yield started
    for daemon in started:
        if daemon.process.poll() is None:
            os.killpg(daemon.process.pid, signal.SIGKILL)
            daemon.process.wait()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_it_serves_and_stops_cleanly_when_told(daemons: list[Daemon], broker: Broker, tmp_path: Path) -> None:
    daemons.append(Daemon(tmp_path, free_port(), broker.url))
    daemon = daemons[0]
    deadline = time.monotonic() + 30
    while not daemon.metric("selvedge_feed_connected") or not daemon.metric("selvedge_calls_listening"):
        assert time.monotonic() < deadline
    assert daemon.stop() == 0
    log = daemon.log.read_text()
    assert "Traceback" not in log and "rpc: answering calls" in log, log


def test_it_serves_while_there_is_no_broker(daemons: list[Daemon], tmp_path: Path) -> None:
    daemons.append(Daemon(tmp_path, free_port(), f"rabbit://guest:guest@127.0.0.1:{free_port()}/"))
    assert daemons[0].metric("selvedge_feed_connected") == 0.0
    assert daemons[0].stop() == 0


def test_two_start_at_once_on_an_empty_database(daemons: list[Daemon], broker: Broker, tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    path = tmp_path / f"{ports[0]}.conf"
    path.write_text(f"[database]\nconnection = sqlite:///{tmp_path}/selvedge.db\n")
    migrations = [
        subprocess.Popen([*COMMAND, "--migrate-only", "--config-file", str(path)], cwd=ROOT) for _ in range(3)
    ]
    assert [migration.wait(60) for migration in migrations] == [0, 0, 0]
    daemons.extend(Daemon(tmp_path, port, broker.url, "workers = 2\n" if port == ports[0] else "") for port in ports)
    assert [daemon.stop() for daemon in daemons] == [0, 0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[DEFAULT]\nbind_port = none\n", "option [DEFAULT] bind_port"),
        ("[database]\nconnection = nonsense\n", "option [database] connection"),
        ("[database]\nconnection = sqlite:////no/such/directory/db\n", "option [database] connection"),
        ("[database]\nconnection = postgresql+psycopg://u@127.0.0.1:1/db\n", "option [database] connection"),
        ("[database]\nconnection = oracle://u@127.0.0.1/db\n", "option [database] connection"),
    ],
)
def test_a_bad_configuration_is_one_line_that_names_the_option(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "bad.conf"
    path.write_text(content)
    ended = run("--migrate-only", "--config-file", str(path))
    lines = ended.stderr.strip().splitlines()
    assert ended.returncode == 1 and len(lines) == 1 and lines[0].startswith(f"selvedge-controller: {says}"), lines
