"""`selvedge host`: an operator makes and ends an agent's account with one command, on a real broker."""

import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import amqp
import pytest

from devstack.labs.broker import CONTROL
from selvedge import options, rpc
from selvedge.broker import agent_queue
from selvedge.messaging import connect
from selvedge.topics import HOSTS
from tests.functional.feed_ends import Controller, Host, until
from tests.functional.safety.conftest import Guarded
from tests.functional.safety.daemons import ROOT, Watch, program

Selvedge = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def selvedge(guarded: Guarded, tmp_path: Path) -> Iterator[Selvedge]:
    """The command `selvedge host`, where the broker runs, with a controller's configuration."""
    url = f"rabbit://guest:guest@127.0.0.1:{guarded.broker.tls_port}/"
    (_, configuration) = guarded.configure("operator", url, ssl=True, ca_file=guarded.authority.file)
    environment = {**os.environ, **guarded.broker.environment, "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{CONTROL.parent}:{environment['PATH']}"

    def run(what: str, *words: str) -> "subprocess.CompletedProcess[str]":
        more = [] if what == "list" else ["--config-file", configuration]
        command = [*program("operator"), "host", what, *words, *more]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    yield run


def test_an_added_host_works_with_the_file_that_was_written_until_it_is_removed(
    selvedge: Selvedge, guarded: Guarded, controller: Controller, tmp_path: Path
) -> None:
    path = tmp_path / "hv.9.conf"
    with Watch() as watch:
        added = selvedge("add", "hv.9")
    assert added.returncode == 0, added.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    conf = options.load_agent(["--config-file", str(path)])
    assert conf.host == "hv.9" and conf.amqp.ssl and conf.amqp.ca_file == str(guarded.authority.file)
    password = conf.transport_url.rpartition("@")[0].rpartition(":")[2]
    assert len(password) >= 40 and password not in watch.seen + added.stdout + added.stderr
    assert "import_definitions" in watch.seen
    state = tmp_path / "state.conf"
    state.write_text(f"[agent]\nstate_dir = {tmp_path / 'state'}\n")
    arguments = ["--config-file", str(path), "--config-file", str(state)]
    host = Host(tmp_path / "hv.9", guarded.broker, "hv.9", HOSTS, arguments=arguments)
    try:
        host.report()
        until([host], lambda: host.topics.synced)
        assert selvedge("list").stdout.split() == ["alpha", "beta", "delta", "gamma", "hv.9"]
        removed = selvedge("remove", "hv.9")
        assert removed.returncode == 0, removed.stderr
        until([host], lambda: host.downs >= 1)
        with pytest.raises((amqp.AccessRefused, OSError)):
            connect(conf.transport_url.replace(str(guarded.broker.tls_port), str(guarded.broker.port)), "test")
    finally:
        host.stop()
    admin = connect(guarded.broker.url, "test")
    with pytest.raises(amqp.NotFound):
        admin.channel().queue_declare(agent_queue("hv.9"), passive=True)
    admin.close()
    again = selvedge("remove", "hv.9")
    assert again.returncode == 1 and again.stderr.startswith("selvedge: rabbitmqctl delete_user")
    assert len(again.stderr.splitlines()) == 1


def test_a_host_with_a_certificate_has_no_password_and_a_broker_elsewhere_gets_a_file(
    selvedge: Selvedge, tmp_path: Path
) -> None:
    done = selvedge("add", "hv10", "--certificate", "--definitions", "accounts.json", "--output", "agent.conf")
    assert done.returncode == 0, done.stderr
    accounts = json.loads((tmp_path / "accounts.json").read_text())
    assert [(user["name"], user["password_hash"]) for user in accounts["users"]] == [("selvedge-agent.hv10", "")]
    text = (tmp_path / "agent.conf").read_text()
    assert "login = certificate" in text and "transport_url = rabbit://127.0.0.1:" in text
    assert stat.S_IMODE((tmp_path / "accounts.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "no host"), "'no host' is not a host name"),
        (("add", "hv11", "--output", "/nowhere/x", "--definitions", "d.json"), "/nowhere/x: No such file"),
        (("add", "hv11", "--definitions", "/nowhere/x"), "/nowhere/x: No such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(words: tuple[str, ...], said: str, selvedge: Selvedge) -> None:
    done = selvedge(*words)
    assert done.returncode == 1 and done.stderr.startswith(f"selvedge: {said}")
    assert len(done.stderr.splitlines()) == 1


def test_an_agent_that_logs_in_as_the_controllers_do_is_told_which_account_it_needs(
    guarded: Guarded, controller: Controller, tmp_path: Path
) -> None:
    arguments = guarded.configure("shared", guarded.broker.url, "hv12")
    host = Host(tmp_path / "shared", guarded.broker, "hv12", arguments=arguments)
    try:
        answer = host.call("claim", rpc.Claim("hv12", ("port",)), 60.0)
        assert isinstance(answer.error, rpc.Refused)
        assert "'guest' may not speak for host 'hv12'; 'selvedge host add hv12'" in answer.error.args[0]
    finally:
        host.stop()
