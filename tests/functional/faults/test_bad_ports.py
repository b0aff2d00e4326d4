"""One bad port never hurts another: it says what is wrong, costs nothing, and the others are wired meanwhile."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, text

from agents.journal import NAME
from devstack.labs import ovsdb
from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import wait_for
from tests.functional.faults.looking import Meter, Spent, until
from tests.functional.faults.traffic import Traffic, lost_nothing
from tests.functional.verbs import World

pytestmark = pytest.mark.alone

HERTZ = 10.0
FLAPS = 3.0
"""Seconds of flapping."""


def no_hot_loop(spent: Spent) -> None:
    """Assert that the agent rests; what others' ports have still to come may come."""
    assert spent.bundles <= 5, spent
    assert spent.transactions <= 5, spent
    assert spent.calls <= 2 + spent.seconds, spent
    assert spent.lines <= 2 + spent.seconds, spent
    assert spent.cpu < 0.3, spent


def reported(world: World, host: Hypervisor, port: str, *words: str) -> None:
    """The port is DOWN, and the agent says why, by the port's id: in its status, and so in `selvedge status`."""
    until(
        host,
        f"a reason with {words}",
        lambda s: (
            (found := s["ports"].get(port, {})).get("state") == "down"
            and all(word in found["reason"] for word in words)
        ),
    )
    assert host.status()["counts"]["ports_failed"] >= 1
    assert world.api.show("port", port)["status"] == "DOWN"


@pytest.mark.parametrize("kind", ("system", "nonsense"))
def test_an_interface_that_cannot_be(two: World, kind: str) -> None:
    """A device that does not exist, or a type that does not: no OpenFlow port. It is said once, and not tried again."""
    blue = two.network("geneve")
    bad, host = two.bound(blue, "hv1"), two.hypervisor("hv1")
    words = ["ovs-vsctl", "--no-wait", "add-port", "br-int", "bad0", "--", "set", "Interface", "bad0", f"type={kind}"]
    host.run(*words, f"external_ids:iface-id={bad['id']}")
    try:
        reported(two, host, bad["id"], "bad0")
        meter = Meter(host)
        time.sleep(1.0)
        no_hot_loop(meter.spent())
        a, b = two.port(blue, "hv1"), two.port(blue, "hv2")
        assert two.ping(a, b)
        reported(two, host, bad["id"], "bad0")
    finally:
        host.run("ovs-vsctl", "del-port", "br-int", "bad0")


@contextmanager
def flapping(host: Hypervisor, tap: str, port: str, mac: str) -> Iterator[threading.Event]:
    """The interface comes and goes ten times a second, and is there at the end."""
    stop = threading.Event()

    def flap() -> None:
        with host.database() as database:
            while not stop.is_set():
                host.run("ovs-vsctl", "--no-wait", "--if-exists", "del-port", "br-int", tap)
                stop.wait(0.5 / HERTZ)
                database.transact(*ovsdb.plug_operations(tap, port, mac))
                time.sleep(0.5 / HERTZ)

    thread = threading.Thread(target=flap, daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(10.0)


def test_an_interface_that_flaps(two: World) -> None:
    """Ten times a second it comes and goes: after some rounds it is held, the reason says so, and costs nothing more
    than its rows; others lose no packet and are wired; once it stands still it works.

    Others of this host: whenever an interface comes, vswitchd reads the kernel's routes anew, and then it may lose a
    packet for a tunnel, whatever we do.
    """
    blue = two.network("geneve")
    a, b, bad = two.port(blue, "hv1"), two.port(blue, "hv1"), two.port(blue, "hv1")
    far = two.port(blue, "hv2")
    host = two.hypervisor("hv1")
    with Traffic(a, b) as traffic, flapping(host, bad.want.tap, bad.port, bad.want.mac):
        reported(two, host, bad.port, bad.want.tap, "came and went")
        meter = Meter(host)
        time.sleep(FLAPS - 1.1)
        spent = meter.spent()
        c = two.port(blue, "hv1")
        assert two.ping(c, b)
        wait_for("the far end", lambda: two.ping(c, far), 5)
        reported(two, host, bad.port, "came and went")
        lost_nothing(traffic.finish())
    assert spent.bundles == spent.flow_mods == 0, spent
    assert spent.calls <= 2 + spent.seconds, spent
    assert spent.lines <= 2 + spent.seconds, spent
    two.lab.wait_status(bad.port, "ACTIVE", 30)
    wait_for("its packets", lambda: two.ping(bad, b), 5)
    assert host.status()["ports_flapped"] >= 1


def test_a_port_whose_flows_the_switch_refuses(two: World) -> None:
    """Table 10 has room for a few flows more, and a port asks for many: it is refused, whole, says so, and is tried
    again ever more seldom; small ports go in at once. With room again, it works by itself."""
    blue = two.network("geneve")
    a, host = two.port(blue, "hv1"), two.hypervisor("hv1")
    room = len([line for line in host.flows() if "table=10," in line]) + 15
    limit = ["--", "--id=@t", "create", "Flow_Table", f"flow_limit={room}", "overflow_policy=refuse"]
    host.run("ovs-vsctl", *limit, "--", "set", "Bridge", "br-int", "flow_tables:10=@t")
    try:
        pairs = [{"ip_address": f"10.0.7.{number}"} for number in range(1, 11)]
        greedy = two.lab.plug(two.bound(blue, "hv1", allowed_address_pairs=pairs)["id"], "hv1", active=None)
        reported(two, host, greedy.port, "refused", greedy.port, "TABLE_FULL")
        b = two.port(blue, "hv1")
        assert two.ping(a, b)
        meter = Meter(host)
        time.sleep(2.0)
        spent = meter.spent()
        assert spent.bundles <= 2 * spent.seconds + 5, spent
        assert spent.lines <= 2 + spent.seconds, spent
        assert any(greedy.port in line for line in host.status()["failed_owners"])
        assert greedy.port in host.daemons["agent"].log.read_text()
    finally:
        host.run("ovs-vsctl", "clear", "Bridge", "br-int", "flow_tables")
    two.lab.wait_status(greedy.port, "ACTIVE", 30)
    assert two.ping(greedy, a)


def test_two_interfaces_with_one_port(two: World) -> None:
    """One works, and the operator is told which, and which not; when it goes the other one takes its place."""
    blue = two.network("geneve")
    a, b, host = two.port(blue, "hv1"), two.port(blue, "hv2"), two.hypervisor("hv1")
    words = ["ovs-vsctl", "add-port", "br-int", "zwin0", "--", "set", "Interface", "zwin0", "type=internal"]
    host.run(*words, f"external_ids:iface-id={a.port}")
    try:
        until(host, "a contest", lambda s: any(a.port in line and "zwin0" in line for line in s["problems"]))
        assert two.ping(a, b)
        assert two.status(a) == "ACTIVE"
    finally:
        host.run("ovs-vsctl", "del-port", "br-int", "zwin0")
    until(host, "no contest", lambda s: not s["problems"])


def test_rows_that_contradict_each_other(two: World) -> None:
    """Somebody wrote into the database: a MAC that is none, a MAC twice on a network, an address twice. The first says
    what is wrong with it; whose names were taken, and everybody else, go on working."""
    blue = two.network("geneve")
    a, robbed, far = two.port(blue, "hv1"), two.port(blue, "hv1"), two.port(blue, "hv2")
    nonsense, twin, double = (two.port(blue, "hv1") for _ in range(3))
    host = two.hypervisor("hv1")
    host.kill("agent")
    (host.state / "agent" / NAME).unlink()  # no topic's version says that anything changed: it must know nothing
    engine = create_engine(two.lab.plan["database"])
    with engine.begin() as connection:
        for statement, words in (
            ("UPDATE ports SET mac_address = 'no mac' WHERE id = :port", {"port": nonsense.port}),
            (
                "UPDATE ports SET mac_address = :mac WHERE id = :port",
                {"mac": robbed.want.mac.upper(), "port": twin.port},
            ),
            (
                "UPDATE ip_allocations SET ip_address = :address WHERE port_id = :port AND ip_address = :own",
                {"address": robbed.address(), "port": double.port, "own": double.address()},
            ),
        ):
            assert connection.execute(text(statement), words).rowcount == 1
    engine.dispose()
    host.start("agent")
    host.wait_in_sync()
    new = two.port(blue, "hv1")
    reported(two, host, nonsense.port, nonsense.port, "no mac")
    for target in (new, robbed, far):
        assert two.ping(a, target)
    wait_for("the new one to be known on hv2", lambda: two.ping(far, new), 10)
    meter = Meter(host)
    time.sleep(1.0)
    no_hot_loop(meter.spent())
