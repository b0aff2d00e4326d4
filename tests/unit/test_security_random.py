"""Random projects: the oracle, which knows the API's objects, and the flows of all hosts must agree on every packet.

Bounded and the same every time, so that it is quick and tells of a change, not of luck. For a long run:
`SECURITY_EXAMPLES=5000 pytest tests/unit/test_security_random.py`, which draws anew.
"""

import ast
import os
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selvedge.topology import SegmentKind
from tests.random_projects import KINDS, project
from tests.random_stories import Story

LONG = int(os.environ.get("SECURITY_EXAMPLES", "0"))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=LONG or 40, derandomize=not LONG, deadline=None)
@given(st.randoms(use_true_random=False))
def test_oracle_and_flows_agree(kind: SegmentKind, random: Random) -> None:
    """Given a random project, packets (answers, errors, fragments, lies) and changes between them: the same ports get
    each packet by the oracle and by the flows."""
    story = Story(random, project(random, [kind]))
    for _ in range(random.randint(5, 40)):
        story.step()


def test_random_projects_are_worth_it() -> None:
    """A good part of what is sent arrives, and a good part does not: nobody tests with a closed or an open world."""
    arrived = refused = 0
    for seed in range(30):
        random = Random(seed)
        story = Story(random, project(random))
        for _ in range(40):
            story.step()
        arrived, refused = arrived + story.arrived, refused + story.refused
    assert arrived > 150 and refused > 150, (arrived, refused)


@pytest.mark.parametrize("name", ["oracle", "oracle_packets"])
def test_the_oracle_knows_nothing_of_switches(name: str) -> None:
    """It imports nothing of ours but its own packets."""
    source = (Path(__file__).parents[1] / f"{name}.py").read_text()
    imported = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    ours = ("agents", "controller", "devstack", "openflow", "selvedge", "tests", "bench")
    assert {module for module in imported if module.split(".")[0] in ours} <= {"tests.oracle_packets"}
