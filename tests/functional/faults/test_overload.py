"""Too much of everything: memory and queues stay bounded, what piles up is done once, and nobody else pays for it."""

import contextlib
import itertools
import queue
import random
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator

import amqp
import pytest

from agents.session import MOST, FeedEvent, FeedMessages, FeedUp, Session
from devstack.labs.broker import Broker
from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import wait_for
from devstack.labs.vm import Vm
from selvedge import wire
from selvedge.broker import agent_queue, agent_queue_arguments
from selvedge.topics import Update
from selvedge.topology import Ref
from tests.functional import frames
from tests.functional.faults.looking import settled, until
from tests.functional.faults.traffic import Traffic, lost_nothing
from tests.functional.verbs import World

pytestmark = pytest.mark.alone

CROWD = 200
"""Ports that one request makes."""

LARGE = 40_000
"""Bytes of a large message: less than the broker's prefetch of such ones is more than a session holds."""

STORM_S = 3.0
GROWTH = 100 << 20
"""Bytes that an agent may grow by."""


def waiting_at(broker: Broker, host: str) -> int:
    """Messages in a host's queue, those left out that were sent and not acknowledged."""
    with amqp.Connection(f"127.0.0.1:{broker.port}") as connection:
        return int(connection.channel().queue_declare(agent_queue(host), passive=True).message_count)


def pairs(last: int) -> list[dict[str, str]]:
    return [{"ip_address": f"10.0.9.{last}"}]


@contextlib.contextmanager
def beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """`work` in a thread, until the end of the block."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30.0)


def test_changes_as_fast_as_the_api_takes_them(two: World) -> None:
    """Hundreds of ports in single requests, and changes of one after the other from two clients: agents follow, lose no
    packet of anybody, do not grow, nothing is left in a queue, and what they have is what a fresh start would."""
    blue = two.network("geneve", "10.0.0.0/16")
    a, b = two.port(blue, "hv1", "10.0.5.1"), two.port(blue, "hv2", "10.0.5.2")
    host = two.hypervisor("hv1")
    before = settled(host)
    subnet = two.api.list("subnets", network_id=blue["id"])[0]["id"]
    apis = [controller.api for controller in two.lab.controllers.values()]
    bodies = [
        {
            "network_id": blue["id"],
            "binding:host_id": "hv1",
            "fixed_ips": [{"subnet_id": subnet, "ip_address": f"10.0.{number // 100 + 20}.{number % 100 + 1}"}],
        }
        for number in range(2 * CROWD)
    ]
    done = itertools.count()

    def change(port: str, api: int) -> Callable[[threading.Event], None]:
        def work(stop: threading.Event) -> None:
            for number in itertools.cycle(range(1, 200)):
                if stop.is_set():
                    return
                apis[api].update("port", port, allowed_address_pairs=pairs(number))
                next(done)

        return work

    with Traffic(a, b) as traffic:
        made = apis[0].create_many("port", bodies[:CROWD])
        with beside(change(made[0]["id"], 0)), beside(change(made[1]["id"], 1)):
            apis[1].create_many("port", bodies[CROWD:])
            time.sleep(STORM_S)
        until(host, "all ports", lambda s: s["in_sync"] and s["counts"]["ports"] == 2 * CROWD + 1, 30)
        lost_nothing(traffic.finish())
    after = settled(host)
    assert next(done) > 20
    assert after["peak_rss"] - before["rss"] < GROWTH, (before["rss"], after["peak_rss"])
    assert after["feed_waiting_bytes"] == 0
    wait_for("an empty queue", lambda: waiting_at(two.lab.broker, "hv1") == 0, 10)
    flows = host.flows()
    host.kill("agent")
    host.start("agent")
    assert settled(host)["flow_mods_sent"] == 0
    assert host.flows() == flows


def test_a_port_changed_fifty_times_is_compiled_once(two: World) -> None:
    """The agent stands still while a port changes fifty times; when it goes on, the newest state is compiled in a step
    or two, not fifty."""
    blue = two.network("geneve")
    a, host = two.port(blue, "hv1"), two.hypervisor("hv1")
    first = settled(host)
    two.api.update("port", a.port, allowed_address_pairs=pairs(250))
    wait_for("one change", lambda: any("10.0.9.250" in line for line in host.flows()), 10)
    once = settled(host)
    cost = once["owners_compiled"] - first["owners_compiled"]
    host.daemons["agent"].pause()
    try:
        for number in range(1, 51):
            two.api.update("port", a.port, allowed_address_pairs=pairs(number))
    finally:
        host.daemons["agent"].resume()
    wait_for("the newest", lambda: any("10.0.9.50" in line for line in host.flows()), 10)
    last = settled(host)
    assert cost > 0, (first, once)
    assert last["owners_compiled"] - once["owners_compiled"] <= 6 * cost + 4, (cost, once, last)
    assert last["messages_received"] - once["messages_received"] >= 50
    assert not [line for line in host.flows() if "10.0.9.49" in line]


def test_an_agent_without_processor_catches_up(two: World) -> None:
    """The agent gets a tenth of the time: a port is plugged and changes come all the while; it is wired in the end, and
    packets of others do not notice."""
    blue = two.network("geneve")
    a, b, host = two.port(blue, "hv1"), two.port(blue, "hv2"), two.hypervisor("hv1")
    new = two.lab.prepare_vm(two.bound(blue, "hv1")["id"], "hv1")
    agent = host.daemons["agent"]

    def starve(stop: threading.Event) -> None:
        while not stop.is_set():
            agent.pause()
            stop.wait(0.09)
            agent.resume()
            stop.wait(0.01)

    with Traffic(a, b) as traffic:
        with beside(starve):
            two.lab.commit_plug(new)
            for number in range(1, 30):
                two.api.update("port", new.port, allowed_address_pairs=pairs(number))
        two.lab.wait_status(new.port, "ACTIVE", 20)
        lost_nothing(traffic.finish())
    assert two.ping(new, b)
    wait_for("the newest", lambda: any("10.0.9.29" in line for line in host.flows()), 10)


def test_the_feed_waits_while_the_agent_is_busy(broker: Broker) -> None:
    """The reactor has enough before it: the session reads no further, the messages stay at the broker; when they are
    worked off the rest comes, all, in order, over the same connection."""
    arrived: queue.SimpleQueue[FeedEvent] = queue.SimpleQueue()
    session = Session(broker.url, "busy", arrived.put)
    session.start()
    number = 2 * MOST // LARGE
    try:
        assert isinstance(arrived.get(timeout=20), FeedUp)
        gone = tuple(Ref("endpoint", secrets.token_hex(LARGE // 2)) for _ in range(2))
        with amqp.Connection(f"127.0.0.1:{broker.port}", confirm_publish=True) as connection:
            channel = connection.channel()
            for version in range(1, number + 1):
                body = wire.encode(Update("segment/one", version, (), gone))
                channel.basic_publish(amqp.Message(body), routing_key=agent_queue("busy"))
            wait_for("a session that holds back", lambda: session.counters["held_back"] == 1, 10)
            time.sleep(0.3)
            assert session.counters["received"] < number
            versions: list[int] = []
            while len(versions) < number:
                event = arrived.get(timeout=20)
                assert isinstance(event, FeedMessages)
                versions += [message.version for message in event.updates if isinstance(message, Update)]
                session.took(1)
            assert versions == list(range(1, number + 1))
            assert session.counters["connects"] == 1
    finally:
        session.stop()
        with amqp.Connection(f"127.0.0.1:{broker.port}") as connection:
            channel = connection.channel()
            channel.queue_declare(
                agent_queue("busy"), durable=True, auto_delete=False, arguments=agent_queue_arguments()
            )
            channel.queue_delete(agent_queue("busy"))


def hostile(vm: Vm, seed: int, count: int) -> Iterator[bytes]:
    """Questions for addresses nobody has, false answers, false neighbours, and noise from many MACs."""
    chance, own = random.Random(seed), vm.want.mac
    for number in range(count):
        other = "fa:" + ":".join(f"{chance.randrange(256):02x}" for _ in range(5))
        address = f"10.0.{chance.randrange(256)}.{chance.randrange(1, 255)}"
        match number % 4:
            case 0:
                yield frames.arp(own, "ff:ff:ff:ff:ff:ff", 1, (own, vm.address()), (frames.NOBODY, address))
            case 1:
                yield frames.arp(other, "ff:ff:ff:ff:ff:ff", 2, (other, address), (other, address))
            case 2:
                yield frames.solicitation(other, "fd00:10::99", f"fd00:10::{number % 9999 + 1}")
            case _:
                yield bytes.fromhex(other.replace(":", "")) + chance.randbytes(54)


def drops(host: Hypervisor) -> int:
    """Packets that found no flow, of all tables: the switch's own counter of what is dropped by absence."""
    text = host.run("ovs-ofctl", "-O", "OpenFlow14", "dump-tables", "br-int")
    return sum(int(looked) - int(found) for looked, found in re.findall(r"lookup=(\d+), matched=(\d+)", text))


def average_ms(source: Vm, target: Vm) -> float:
    """Average time of 200 pings."""
    text = source.run("ping", "-n", "-q", "-c", "200", "-i", "0.005", "-W", "1", target.address())
    found = re.search(r"= [\d.]+/([\d.]+)/", text)
    assert found, text
    return float(found[1])


def test_a_storm_of_a_hostile_vm(two: World, record_property: Callable[[str, object], None]) -> None:
    """ARP, neighbour discovery and noise as fast as one VM can: the agent hears none of it, the switch counts what it
    drops, another tenant's packets pass, and its latency is told."""
    red, blue = two.network("geneve"), two.network("geneve")
    enemy, a, b = two.port(red, "hv1"), two.port(blue, "hv1"), two.port(blue, "hv1")
    host = two.hypervisor("hv1")
    ammunition = list(hostile(enemy, 4, 4000))
    assert two.ping(a, b)
    before, dropped = settled(host), drops(host)
    sent = 0

    def storm(stop: threading.Event) -> None:
        nonlocal sent
        with enemy.packet_socket() as mouth:
            mouth.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            for frame in itertools.cycle(ammunition):
                if stop.is_set():
                    return
                with contextlib.suppress(OSError):  # its own queue is full
                    mouth.send(frame)
                    sent += 1

    quiet = average_ms(a, b)
    with beside(storm):
        time.sleep(0.3)
        loud = average_ms(a, b)
    record_property("latency under the storm, times the usual", round(loud / quiet, 1))
    record_property("frames of the storm", sent)
    assert two.ping(a, b)
    after = settled(host)
    assert sent > len(ammunition)
    assert after["wakeups"] - before["wakeups"] < 20, (before["wakeups"], after["wakeups"])
    assert after["flow_mods_sent"] == before["flow_mods_sent"]
    assert after["in_sync"] and after["pid"] == before["pid"]
    wait_for("the switch to count its drops", lambda: drops(host) - dropped > len(ammunition) // 4, 15)
