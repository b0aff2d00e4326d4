"""A lab for faults of the control plane: two hypervisors, three controllers, and a PostgreSQL of its own, which keeps
every commit through a SIGKILL (the session's other one is faster, and need not)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.labs import netns
from devstack.labs.lab import Lab
from devstack.labs.mininet_node import MininetGround
from devstack.labs.process import LabError
from tests.functional.verbs import World


@pytest.fixture(scope="session")
def lab_of_controllers(state: Path) -> Iterator[Lab]:
    path = state / "many"
    lab = Lab(path, MininetGround(netns.Names(path)))
    try:
        # Tests call in the names of hosts that are not there.
        options = {"DEFAULT": {"agent_down_time": "5"}, "agents": {"accounts": "shared"}}
        lab.up(hypervisors=2, controllers=3, database="postgresql", options=options)
        yield lab
    except LabError as error:
        raise LabError(f"{error}\n{lab.story() if lab.is_up else ''}") from error
    finally:
        lab.down()


@pytest.fixture
def many(lab_of_controllers: Lab) -> Iterator[World]:
    """Two hypervisors and three controllers; their daemons may be ended, if they are started again."""
    world = World(lab_of_controllers)
    yield world
    world.clear()
