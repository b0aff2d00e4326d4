"""Services and labs of the functional tests, made once per session and taken down at its end, whatever happened.

`three` is a lab of three hypervisors on SQLite with one controller, `two` one of two hypervisors on PostgreSQL with two
controllers; both are Mininet networks. A test gets a `World` around one of them, clean before and after. When a test
fails, flows, groups, interfaces and logs of the lab are printed with it. A missing dependency is an error.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mininet.log import setLogLevel

from devstack.labs import netns
from devstack.labs.broker import Broker
from devstack.labs.lab import Lab
from devstack.labs.mininet_node import MininetGround
from devstack.labs.postgres import Postgres
from devstack.labs.process import LabError
from tests.functional import turns
from tests.functional.verbs import World


def pytest_configure() -> None:
    if os.geteuid() != 0:
        pytest.exit("the functional tests make network namespaces and need root: run them as root", 1)
    setLogLevel("error")
    # What a library's thread says between tests, or after the last one, is nobody's news.
    logging.getLogger().addHandler(logging.NullHandler())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=turns.rank)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> turns.Parts:
    return turns.Parts(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with turns.turn(turns.asked(item, "alone")):
        return (yield)


@pytest.fixture(scope="session")
def state() -> Iterator[Path]:
    """A directory with a short name: unix sockets' paths have at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="selvedge-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def broker(state: Path) -> Iterator[Broker]:
    """A RabbitMQ of the tests' own."""
    made = Broker(state / "broker")
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture(scope="session")
def postgres(state: Path) -> Iterator[Postgres]:
    """A PostgreSQL of the tests' own, which need not survive the machine."""
    made = Postgres(state / "postgres", fsync=False)
    try:
        made.start()
        yield made
    finally:
        made.kill()


def _lab(path: Path, hypervisors: int, controllers: int, database: str | None) -> Iterator[Lab]:
    lab = Lab(path, MininetGround(netns.Names(path)))
    try:
        lab.up(hypervisors=hypervisors, controllers=controllers, database=database)
        yield lab
    except LabError as error:
        raise LabError(f"{error}\n{lab.story() if lab.is_up else ''}") from error
    finally:
        lab.down()


@pytest.fixture(scope="session")
def lab_of_three(state: Path) -> Iterator[Lab]:
    yield from _lab(state / "three", 3, 1, None)


@pytest.fixture(scope="session")
def lab_of_two(state: Path, postgres: Postgres) -> Iterator[Lab]:
    yield from _lab(state / "two", 2, 2, postgres.create_database("lab_of_two"))


@pytest.fixture
def three(lab_of_three: Lab) -> Iterator[World]:
    """Three hypervisors, nothing on them; nothing may be left on them."""
    world = World(lab_of_three)
    yield world
    world.clear()


@pytest.fixture
def two(lab_of_two: Lab) -> Iterator[World]:
    """Two hypervisors; their daemons may be stopped, if they are started again."""
    world = World(lab_of_two)
    yield world
    world.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: "pytest.CallInfo[None]"
) -> Iterator[None]:  # pytest sends the report in and takes it back
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed:
        for world in getattr(item, "funcargs", {}).values():
            if isinstance(world, World):
                report.sections.append(("what the lab tells", world.lab.story()))
    return report  # type: ignore[return-value]
