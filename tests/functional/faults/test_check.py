"""`selvedge check`: equal is 0, drift is 1 with the tenant's object, a host that cannot be checked is 2."""

import json
import subprocess
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from controller.store.engine import Store
from devstack.labs.controllers import program
from devstack.labs.lab import Lab
from devstack.labs.process import wait_for
from tests.functional.faults.auditing import agents, flow_of, restart
from tests.functional.verbs import World, allow


@pytest.fixture(scope="module", autouse=True)
def _never(lab_of_two: Lab) -> Iterator[None]:
    """The agents read their switches only when they are asked to."""
    with agents(lab_of_two, audit_interval="0"):
        yield


def test_a_healthy_lab_is_equal_and_a_tampered_one_is_not(two: World) -> None:
    """All kinds of networks, groups and ports: nothing is found. A port's flow is deleted on one host: that port is
    named, on that host; it is healed by that, and the next check finds nothing."""
    members = two.group(allow("tcp", 80))
    web = two.group(allow("tcp", 80, group=members), allow("icmp", addresses=two.addresses("10.0.0.0/8")))
    ports = [
        two.port(two.network(kind), on, security_groups=[web]) for kind in ("geneve", "vlan") for on in ("hv1", "hv2")
    ]
    assert two.check() == []
    host = two.hypervisor("hv1")
    flow = flow_of(host, "endpoint", 0)
    host.ofctl("--strict", "del-flows", "br-int", flow.partition(",")[2])
    (line,) = two.check()
    assert line.startswith("hv1: switch missing endpoint ")
    assert line.split()[4] in {vm.port for vm in ports if vm.hypervisor == "hv1"}
    assert two.check("hv1") == []


def test_a_row_that_was_changed_behind_the_apis_back_is_drift(two: World) -> None:
    """SQL writes to the database, without a version and without a message: the port is named, and what differs. Written
    back, all is equal."""
    blue = two.network("geneve")
    port = two.port(blue, "hv1").port
    two.port(blue, "hv2")
    store = Store(two.lab.plan["database"])
    try:
        up = text("UPDATE ports SET admin_state_up = :up WHERE id = :port")
        store.transaction(lambda transaction: transaction.execute(up, {"up": False, "port": port}))
        line = f"database altered endpoint {port} up: True here, False in the database"
        assert two.check() == [f"{host}: {line}" for host in ("hv1", "hv2")]
        store.transaction(lambda transaction: transaction.execute(up, {"up": True, "port": port}))
        assert two.check() == []
    finally:
        store.dispose()


def test_changes_that_are_on_their_way_are_no_drift(two: World) -> None:
    """Ports are made, changed, moved and deleted all the while: checks say that all is equal."""
    blue, group = two.network("geneve"), two.group()
    two.port(blue, "hv1"), two.port(blue, "hv2")
    stop = threading.Event()
    changes = 0

    def change() -> None:
        nonlocal changes
        while not stop.is_set():
            port = two.bound(blue, "hv1")["id"]
            two.api.update("port", port, security_groups=[group])
            rules = two.rules(group, allow("tcp", 1000 + changes % 1000))
            two.api.update("port", port, **{"binding:host_id": "hv2"})
            two.unrule(*rules)
            two.api.delete("port", port)
            changes += 6

    worker = threading.Thread(target=change)
    worker.start()
    try:
        for _ in range(3):
            before = changes
            assert two.check() == []
            assert changes > before
    finally:
        stop.set()
        worker.join()


def test_a_dead_agent_cannot_be_checked(two: World) -> None:
    """It was killed a moment ago, so it still counts as live: the others are equal, it did not answer, and the status
    is 2. A host that never was is no better. Once it is back it is equal; the question of before is not asked again."""
    host = two.hypervisor("hv2")
    host.kill("agent")
    code, found = two.lab.check(timeout=3)
    assert (code, found["hv1"]["equal"]) == (2, True)
    assert found["hv2"] == {"unchecked": "its agent did not answer within 3 s"}
    code, found = two.lab.check("hv3", timeout=3)
    assert (code, list(found)) == (2, ["hv3"])
    restart(host, audit_interval="0")
    assert two.check() == []
    wait_for("its counter", lambda: host.status()["counts"]["checks"] == 1, 5)


def here(two: World, name: str, timeout: float) -> tuple[int, dict[str, object]]:
    """`selvedge check --here` on a hypervisor."""
    state = two.hypervisor(name).state / "agent"
    command = [
        str(program("selvedge")),
        "check",
        "--here",
        "--state-dir",
        str(state),
        "--timeout",
        str(timeout),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout or "{}").get(name, {})


def test_a_hypervisor_checks_itself_when_no_controller_answers(two: World) -> None:
    """With a broker everything is compared. When the hypervisor is cut off the switch is compared with what the agent
    knows, and it is said what was left out; drift is found all the same. Only its user may ask: the mode is 0600.
    Without an agent nothing can be checked."""
    blue = two.network("geneve")
    two.port(blue, "hv1")
    host = two.hypervisor("hv1")
    assert (host.state / "agent" / "agent.sock").stat().st_mode & 0o777 == 0o600
    code, answer = here(two, "hv1", 10)
    assert (code, answer["left_out"]) == (0, [])
    host.run("ip", "link", "set", "mgmt0", "down")
    try:
        host.ofctl("del-flows", "br-int", "table=0")
        code, answer = here(two, "hv1", 4)
        assert (code, answer["left_out"]) == (1, ["database and interest: no controller answered"])
    finally:
        host.run("ip", "link", "set", "mgmt0", "up")
    host.stop("agent")
    assert here(two, "hv1", 1) == (2, {})
    restart(host, audit_interval="0")
