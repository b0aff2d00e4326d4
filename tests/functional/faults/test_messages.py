"""Messages get lost, doubled, delayed, swapped, cut, altered, or speak of a newer version: nothing is lost for good.

Each hypervisor's agent reaches the broker through a mangler (`amqp_mangler`). What a host has in the end is compared
with what the database says by the simplest independent witness: an agent that starts anew knows nothing, compiles all
of it, compares it with the switch, and must find nothing to send.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from controller.store.engine import Store
from controller.store.topology import versions
from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import wait_for
from tests.functional.faults.amqp_mangler import FAULTS, Mangler, Plan, evenly
from tests.functional.faults.story import Story
from tests.functional.verbs import OPEN, World

REPORTS = 2
"""Seconds between an agent's reports here."""

LOST_CALL = 10.0
"""Seconds that a call waits for an answer that was lost."""

HANDED_OVER = 14.0
"""Seconds after which no flow is left of a policy that ports have left."""


class Mangled:
    """A lab whose agents talk to the broker through manglers, one each."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.manglers: dict[str, Mangler] = {}
        self.hosts: dict[str, Hypervisor] = {}
        broker = world.lab.ground.management, world.lab.broker.port
        for number, own in enumerate(world.hypervisors):
            mangler = Mangler(world.lab.ground.management, broker, seed + number)
            host = Hypervisor(
                own.name,
                state=own.state,
                namespace=own.namespace,
                tunnel=own.tunnel,
                # With the agent's own account.
                transport_url=own.transport_url.replace(f"{broker[0]}:{broker[1]}", f"{broker[0]}:{mangler.port}"),
                program=own.program,
            )
            host.options = {"agent": {"report_interval": str(REPORTS)}}
            self.manglers[own.name], self.hosts[own.name] = mangler, host
        self.restart(self.hosts.values())

    def restart(self, hosts: Iterable[Hypervisor]) -> None:
        """Each agent ends, and starts with this configuration."""
        for host in hosts:
            host.kill("agent")
            host.start("agent")
        for host in hosts:
            host.wait_in_sync()

    def plan(self, plan: Plan) -> None:
        for mangler in self.manglers.values():
            mangler.plan = plan

    def quiet(self) -> None:
        for mangler in self.manglers.values():
            mangler.quiet()

    @property
    def done(self) -> Counter[str]:
        """What was done to messages so far."""
        return sum((mangler.counts for mangler in self.manglers.values()), Counter())

    def seen(self) -> Counter[str]:
        """What the agents have counted."""
        found: Counter[str] = Counter()
        for host in self.hosts.values():
            status = host.status()
            found.update(status["feed"])
            found["unreadable"] += status["unreadable_messages"]
        return found

    def close(self) -> None:
        self.restart(self.world.hypervisors)
        for mangler in self.manglers.values():
            mangler.stop()


@pytest.fixture
def mangled(three: World) -> Iterator[Mangled]:
    made = Mangled(three, seed=4)
    yield made
    made.close()


def behind(world: World, host: Hypervisor) -> dict[str, tuple[int, int]]:
    """The topics of which a host does not have the database's version → both."""
    store = Store(world.lab.plan["database"])
    try:
        status = host.status()
        known: dict[str, int] = status.get("topics", {})
        newest = store.read(lambda conn: versions(conn, known))
    finally:
        store.dispose()
    found = {name: (version, newest.get(name, 0)) for name, version in known.items() if newest.get(name, 0) != version}
    return found if status.get("in_sync") else found | {"in sync": (0, 1)}


def wait_caught_up(mangled: Mangled, seconds: float) -> None:
    def caught_up() -> bool:
        return not any(behind(mangled.world, host) for host in mangled.hosts.values())

    wait_for("all hosts to have what the database has", caught_up, seconds)


def tell(story: Story, mangled: Mangled, share: float, least: int, most: float) -> None:
    """Steps of the story under faults, until there were `least` and each kind of fault has happened."""
    mangled.plan(evenly(share))
    before, end, steps = mangled.done, time.monotonic() + most, 0
    while steps < least or any(mangled.done[fault] - before[fault] < 2 for fault in FAULTS):
        assert time.monotonic() < end, f"{steps} steps, and did only {mangled.done - before}"
        story.step()
        steps += 1
    mangled.quiet()


def test_after_a_long_run_of_mangled_messages_every_host_has_what_the_database_says(mangled: Mangled) -> None:
    """Given random changes while a fifth, and then a hundredth of all messages is mangled in seven ways, each host has
    the newest version of every topic within a report, an agent that starts anew finds nothing to send, and the counters
    tell of every kind of fault."""
    world, story = mangled.world, Story(mangled.world, seed=11)
    blue, everything = world.network("geneve"), world.group(*OPEN, egress=False)
    vms = [world.port(blue, name, security_groups=[everything]) for name in mangled.hosts]

    tell(story, mangled, share=0.2, least=150, most=30.0)
    assert all(world.ping(vms[0], other) for other in vms[1:])
    wait_caught_up(mangled, REPORTS + 2 * LOST_CALL + 5.0)
    seen = mangled.seen()
    assert seen["duplicates"] and seen["held"] and seen["gaps"] and seen["unreadable"], seen

    tell(story, mangled, share=0.01, least=150, most=60.0)
    wait_caught_up(mangled, REPORTS + LOST_CALL + 5.0)
    assert all(world.ping(vms[0], other) for other in vms[1:])
    time.sleep(HANDED_OVER)
    before = {host.name: (host.flows(), host.groups()) for host in world.hypervisors}
    mangled.restart(world.hypervisors)
    time.sleep(1.2)  # status.json is written once a second at most
    for host in world.hypervisors:
        status = host.status()
        assert (status["flow_mods_sent"], status["group_mods_sent"]) == (0, 0), host.name
        assert (host.flows(), host.groups()) == before[host.name]


def test_controllers_that_are_newer_than_an_agent_leave_its_packets_alone_until_it_can_read_them(
    mangled: Mangled,
) -> None:
    """Given one agent that cannot read any message, packets pass as before, it says so once, asks as often as it
    reports, and catches up within a report when it can read again."""
    world = mangled.world
    blue = world.network("geneve")
    a, b = world.port(blue, "hv1"), world.port(blue, "hv2")
    host, mangler = mangled.hosts["hv1"], mangled.manglers["hv1"]
    log = host.daemons["agent"].log
    before = len(log.read_text())
    mangler.plan = Plan({"newer": 1.0}, answers=("newer",))
    late = [world.bound(blue, "hv1") for _ in range(10)]
    patience = 4 * REPORTS + LOST_CALL
    wait_for("a refused report", lambda: host.status()["feed"]["calls_refused"] >= 1, patience)
    calls, began = host.status()["calls_sent"], time.monotonic()
    wait_for("more of them", lambda: host.status()["feed"]["calls_refused"] >= 4, patience)
    spent = time.monotonic() - began
    assert host.status()["calls_sent"] - calls <= 3 + spent / REPORTS
    assert host.status()["unreadable_messages"] >= len(late)
    assert world.ping(a, b)
    said = [line for line in log.read_text()[before:].splitlines() if "message has schema" in line]
    assert len(said) == 2, said
    assert any("message has schema" in problem for problem in host.status()["problems"])
    assert not [flow for flow in host.flows() if late[0]["mac_address"] in flow]

    mangler.quiet()
    wait_for("hv1 to catch up", lambda: host.status()["topics"] and not behind(world, host), 3 * REPORTS + LOST_CALL)
    wait_for("its flows", lambda: any(late[0]["mac_address"] in flow for flow in host.flows()))
    assert not [problem for problem in host.status()["problems"] if "schema" in problem]
