"""What the tests of drift and of checks share: agents with other options, a switch that is tampered with, their log."""

from collections.abc import Iterator
from contextlib import contextmanager

from devstack.labs.hypervisor import Hypervisor
from devstack.labs.lab import Lab
from devstack.labs.process import wait_for


def restart(hypervisor: Hypervisor, **options: str) -> None:
    """The agent ends and starts with these options; returns when it is in sync."""
    hypervisor.options = {"agent": options}
    hypervisor.stop("agent")
    hypervisor.start("agent")
    hypervisor.wait_in_sync()


@contextmanager
def agents(lab: Lab, **options: str) -> Iterator[None]:
    """Meanwhile all agents of the lab have these options."""
    for hypervisor in lab.hypervisors.values():
        restart(hypervisor, **options)
    try:
        yield
    finally:
        for hypervisor in lab.hypervisors.values():
            restart(hypervisor)


def flow_of(hypervisor: Hypervisor, kind: str, table: int) -> str:
    """Cookie, table, priority and match of a flow of a kind of object, as ovs-ofctl wants them for a strict command."""
    number = {"segment": 2, "endpoint": 3, "host": 4}[kind]
    line = next(
        line
        for line in hypervisor.flows()
        if line.startswith(f"cookie=0x5e{number:02x}") and f" table={table}," in line
    )
    words = line.partition(" actions=")[0].split(", ")
    return ",".join(word.strip() for word in words)


def same(hypervisor: Hypervisor, flows: list[str], groups: list[str], timeout: float = 10.0) -> None:
    """Return once its tables are these."""
    wait_for(
        f"{hypervisor.name}: its tables as they were",
        lambda: hypervisor.flows() == flows and hypervisor.groups() == groups,
        timeout,
        0.05,
    )


def drift(hypervisor: Hypervisor) -> dict[str, int]:
    """The agent's counters of drift by kind."""
    counts = hypervisor.status()["counts"]
    return {name.removeprefix("drift_"): count for name, count in counts.items() if name.startswith("drift_")}


def log(hypervisor: Hypervisor) -> str:
    """All that its agents ever said."""
    return hypervisor.daemons["agent"].log.read_text()
