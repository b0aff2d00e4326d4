"""The lab's command, as a newcomer uses it: each verb, the errors, and an end that leaves nothing."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.labs import netns
from devstack.labs.api import Api
from devstack.labs.process import start_time, wait_for

pytestmark = pytest.mark.early

ROOT = Path(__file__).resolve().parents[2]


class Command:
    """`devstack/lab --state DIR …` of this environment's Python."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "devstack.labs", "--state", str(self.state), *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    def ok(self, *words: str) -> str:
        done = self(*words)
        assert done.returncode == 0, f"lab {' '.join(words)}: {done.stdout}{done.stderr}{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The ends of all daemons' logs."""
        tails = [(path, path.read_text(errors="replace").splitlines()[-25:]) for path in self.state.rglob("*.log")]
        return "".join(f"\n--- {path}\n" + "\n".join(lines) for path, lines in sorted(tails))

    def refused(self, *words: str) -> str:
        """Its one line of complaint."""
        done = self(*words)
        assert done.returncode == 1
        assert done.stderr.startswith("lab: ")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def lab(state: Path) -> Iterator[Command]:
    """A lab with one hypervisor."""
    command = Command(state / "cli")
    try:
        command.ok("up", "--hypervisors", "1")
        yield command
    finally:
        command.ok("down")


def test_without_a_lab_every_verb_says_so(state: Path) -> None:
    """No traceback, one line, exit code 1; `down` of nothing is fine."""
    command = Command(state / "nothing")
    for words in (("status",), ("plug", "x", "--on", "hv1"), ("exec", "x", "--", "true"), ("stop", "broker")):
        assert "there is no lab under" in command.refused(*words)
    command.ok("down")


def test_up_takes_no_directory_that_has_something_else_in_it(tmp_path: Path) -> None:
    """`down` removes the state directory, so `up` must not make somebody's files part of it."""
    (tmp_path / "thesis").write_text("three years")
    command = Command(tmp_path)
    assert "is not empty" in command.refused("up")
    assert "is not a lab's directory" in command.refused("down")
    assert (tmp_path / "thesis").exists()


def test_a_wrong_state_directory_hurts_nobody(lab: Command) -> None:
    """`down` of the directory above a lab leaves all in it alone; what can be no directory is named in one line."""
    assert "is not a lab's directory" in Command(lab.state.parent).refused("down")
    assert "not running" not in lab.ok("status")
    assert "Not a directory" in Command(Path("/dev/null/lab")).refused("up")


def test_plug_exec_and_unplug(lab: Command) -> None:
    """Two ports on one hypervisor: the VMs have their addresses, ping each other, and go."""
    status = json.loads(lab.ok("status", "--json"))
    api = Api(status["api"])
    network = api.create("network", name="blue")
    api.create("subnet", network_id=network["id"], cidr="10.0.0.0/24", ip_version=4)
    ports = [api.create("port", network_id=network["id"]) for _ in range(2)]
    for port in ports:
        assert "ACTIVE on hv1" in lab.ok("plug", port["id"], "--on", "hv1")
    target = ports[1]["fixed_ips"][0]["ip_address"]
    assert "1 received" in lab.ok("exec", ports[0]["id"], "--", "ping", "-c1", "-W1", target)
    assert lab("exec", ports[0]["id"], "--", "sh", "-c", "exit 7").returncode == 7
    assert "table=0" in lab.ok("hv", "hv1", "--", "ovs-ofctl", "-O", "OpenFlow14", "dump-flows", "br-int")
    assert set(json.loads(lab.ok("status", "--json"))["vms"]) == {port["id"] for port in ports}
    assert "is plugged on hv1 already" in lab.refused("plug", ports[0]["id"], "--on", "hv1")
    for port in ports:
        lab.ok("unplug", port["id"])
        api.delete("port", port["id"])
    api.delete("network", network["id"])


def test_errors_are_one_line(lab: Command) -> None:
    """What does not exist is named, and so is what does."""
    assert "there is no hypervisor hv7; there are hv1" in lab.refused("hv", "hv7", "--", "true")
    assert "404" in lab.refused("plug", "00000000-0000-0000-0000-000000000000", "--on", "hv1")
    assert "there is no VM of port" in lab.refused("exec", "nobody", "--", "true")
    assert "there is no daemon 'dnsmasq'" in lab.refused("stop", "dnsmasq")
    assert "hv1 has the daemons" in lab.refused("stop", "hv1", "nova")
    assert "there is a lab under" in lab.refused("up")


def test_daemons_stop_die_and_start(lab: Command) -> None:
    """stop, kill and start, seen by pids; everything works again after that."""

    def pids() -> dict[str, int | None]:
        processes = json.loads(lab.ok("status", "--json"))["processes"]
        return {name: process["pid"] for name, process in processes.items()}

    before = pids()
    assert all(before.values())
    for verb, words in (("stop", ("hv1", "agent")), ("kill", ("hv1", "vswitchd")), ("kill", ("controller1",))):
        name = " ".join(words)
        lab.ok(verb, *words)
        assert pids()[name] is None
        lab.ok("start", *words)
        assert pids()[name] not in {None, before[name]}
    assert "not running" not in lab.ok("status")


def test_down_after_a_crash_leaves_nothing(state: Path) -> None:
    """Daemons killed behind its back, a VM's process still running: no process, no namespace, no interface stays."""
    command = Command(state / "crash")
    try:
        command.ok("up", "--hypervisors", "1")
        crash_and_down(command)
    finally:
        command("down")


def workers_of(pid: int) -> list[int]:
    """Children of a process (proc(5)); a controller has at least one."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert children
    return children


def crash_and_down(command: Command) -> None:
    """The body of the test above."""
    status = json.loads(command.ok("status", "--json"))
    pids = [process["pid"] for process in status["processes"].values()]
    pids += workers_of(status["processes"]["controller1"]["pid"])
    api = Api(status["api"])
    network = api.create("network", name="blue")
    port = api.create("port", network_id=network["id"])
    command.ok("plug", port["id"], "--on", "hv1")
    with subprocess.Popen(
        netns.inside(netns.path_of(netns.Names(command.state).vm(port["id"])), ["sleep", "600"])
    ) as left:
        for name in ("broker", "hv1 ovsdb", "controller1"):
            os.kill(status["processes"][name]["pid"], signal.SIGKILL)
        command.ok("down")
        assert left.wait(5) == -signal.SIGKILL
    wait_for("the end of all daemons", lambda: not [pid for pid in pids if start_time(pid) is not None], 5)
    names = netns.Names(command.state)
    assert not names.ours()
    assert names.prefix not in netns.run(["ip", "-br", "link"])
    assert not command.state.exists()
