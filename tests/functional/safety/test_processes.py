"""Daemons with few privileges: what they run as, who can read what they write, and where a secret can be seen."""

import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import free_port, wait_for
from tests.functional.safety.conftest import CONTROLLER, Guarded
from tests.functional.safety.daemons import ROOT, Command, Watch
from tests.functional.verbs import World

NOBODY = 64_999
"""A user and group that own nothing."""


SANDBOX = """
mount -t proc -o hidepid=invisible proc /proc
mount -t tmpfs tmpfs /dev/shm
exec "$@"
"""
"""As ProtectProc= and TemporaryFileSystem= of the unit have it."""

DENY_WRITABLE_CODE = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE; kernels before 6.3 know it not
os.execvp(sys.argv[1], sys.argv[1:])
"""


def sandbox(hypervisor: Hypervisor) -> list[str]:
    """What the agent's unit does, by hand; in a clone that only root may enter, root's way of reading is left."""
    others = all(parent.stat().st_mode & stat.S_IXOTH for parent in ROOT.parents)
    held = "+net_admin" if others else "+net_admin,+dac_read_search"
    sets = [f"--{name}=-all,{held}" for name in ("inh-caps", "ambient-caps", "bounding-set")]
    python = str(hypervisor.program.parent / "python")
    return [
        *("unshare", "--mount", "sh", "-e", "-c", SANDBOX, "sh", python, "-c", DENY_WRITABLE_CODE),
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", *sets),
    ]


@pytest.fixture
def unprivileged(three: World, state: Path) -> Iterator[Hypervisor]:
    """hv1, whose agent runs as nobody with CAP_NET_ADMIN, and whose Open vSwitch runs as on a prepared machine."""
    hypervisor = three.hypervisor("hv1")
    agent = hypervisor.state / "agent"
    hypervisor.stop("agent")
    hypervisor.stop("vswitchd")
    hypervisor.stop("ovsdb")
    before = state.stat().st_mode
    state.chmod(0o711)
    # As devstack/systemd/selvedge.tmpfiles and openvswitch.conf have it.
    os.chown(hypervisor.rundir, 0, NOBODY)
    hypervisor.rundir.chmod(0o2755)
    umask = os.umask(0o007)
    for path in (agent, *agent.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    hypervisor.start("ovsdb")
    hypervisor.start("vswitchd")
    hypervisor.privileges = sandbox(hypervisor)
    hypervisor.start("agent")
    yield hypervisor
    hypervisor.stop("agent")
    hypervisor.privileges = ()
    state.chmod(before)
    os.umask(umask)
    hypervisor.start("agent")
    hypervisor.wait_in_sync()


def test_an_agent_without_roots_powers_wires_ports_and_asks_for_tunnel_peers(
    unprivileged: Hypervisor, three: World
) -> None:
    unprivileged.wait_in_sync()
    pid = unprivileged.daemons["agent"].pid
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert set(status["Uid"].split()) == {str(NOBODY)}
    assert int(status["CapEff"], 16) & ~(1 << 2) == 1 << 12, "CAP_NET_ADMIN, and at most CAP_DAC_READ_SEARCH"
    assert status["CapBnd"] == status["CapEff"] and status["NoNewPrivs"] == "1"
    network = three.network("geneve")
    here, there = three.port(network, "hv1"), three.port(network, "hv2")
    wait_for("a packet by an agent that asks for its peers", lambda: three.ping(here, there))
    log = unprivileged.daemons["agent"].log.read_text()
    assert "CAP_NET_ADMIN" not in log
    wait_for("the port in the agent's status", lambda: unprivileged.status()["counts"]["ports_up"] == 1)
    unprivileged.stop("vswitchd")  # its sockets are made anew
    unprivileged.start("vswitchd")
    wait_for("a packet by the new switch", lambda: three.ping(here, there))


def test_an_agent_that_may_not_ask_for_tunnel_peers_says_so_once(three: World) -> None:
    program = (
        "import logging, time; logging.basicConfig(); from agents.underlay import Underlay; "
        "one = Underlay(); one.start(); one.want(frozenset({'10.255.0.2', '10.255.0.3'}))\n"
        "while one.probes < 2: time.sleep(0.05)\n"
        "time.sleep(0.3); one.stop()"
    )
    hypervisor = three.hypervisor("hv1")
    without = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    words = " ".join([*without, str(hypervisor.program.parent / "python"), "-c", f'"{program}"', "2>&1"])
    assert hypervisor.run("sh", "-c", f"cd {ROOT} && {words}").count("no CAP_NET_ADMIN") == 1


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_daemons_write_is_not_for_everybody(guarded: Guarded, tmp_path: Path) -> None:
    """And no secret is in their logs, at level DEBUG, nor in what everybody may see of processes and connections."""
    password, other = CONTROLLER, secrets.token_hex(12)
    broker = guarded.broker
    urls = [f"rabbit://controller:{word}@127.0.0.1:{broker.port}/" for word in (password, other)]
    port = free_port()
    database = tmp_path / "state" / "selvedge.db"
    database.parent.mkdir()
    common = "[DEFAULT]\ndebug = true\n"
    with Watch() as watch:
        controller = Command(
            "controller",
            tmp_path,
            f"{common}transport_url = {urls[0]}\nbind_port = {port}\n[agents]\naccounts = shared\n"
            f"[database]\nconnection = sqlite:///{database}\n",
        )
        agents = [
            Command(
                "agent",
                tmp_path,
                f"{common}host = {name}\ntransport_url = {url}\n"
                f"[agent]\nstate_dir = {tmp_path / name}\novs_rundir = {tmp_path}\n",
            )
            for name, url in zip(("right", "wrong"), urls, strict=True)
        ]
        try:
            controller.wait_for_line("rpc: answering calls")
            agents[0].wait_for_line("feed: reading")
            agents[1].wait_for_line("report: no answer")
            agents[1].wait_for_line("feed: no broker")
            time.sleep(1.0)
            names = broker.control("list_connections", "client_properties", "name", "user")
            assert "selvedge-agent right feed" in names
            modes = {path: mode(path) for path in (database, tmp_path / "right" / "status.json", tmp_path / "right")}
        finally:
            for command in (controller, *agents):
                command.end()
    assert modes[database] == 0o600
    assert modes[tmp_path / "right" / "status.json"] == 0o640 and modes[tmp_path / "right"] == 0o750
    for one in (tmp_path / "right").iterdir():
        assert not mode(one) & 0o007, f"{one} is for everybody"
    told = names + watch.seen + "".join(command.told for command in (controller, *agents))
    assert "ACCESS_REFUSED" in told and "DEBUG" in told
    for secret in (password, other):
        assert secret not in told


@pytest.mark.parametrize(
    "option",
    [
        "transport_url = rabbit://user:{secret}/x@h/",
        "transport_url = rabbit://user:{secret},x@h/",
        "transport_url = rabit://user:{secret}@h/",
        "[database]\nconnection = postgresql+psycopg://user:x@{secret}@h/d",
        "[database]\nconnection = postgresql+psycopg//user:{secret}@h/d",
        "[database]\nconnection = postgresql+psycopg://user:x@h:{secret}@h/d",
        "[database]\nconnection = nosuch://user:{secret}@h/d",
    ],
)
def test_a_password_that_makes_an_url_unreadable_is_not_shown(option: str, tmp_path: Path) -> None:
    secret = "s3cret-of-mine"
    command = Command("controller", tmp_path, f"[DEFAULT]\n{option.format(secret=secret)}\n")
    assert command.process.wait(30) == 1
    (line,) = command.told.splitlines()
    assert line.startswith("selvedge-controller: option [") and secret not in line
