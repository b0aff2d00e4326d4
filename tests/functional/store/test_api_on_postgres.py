"""The API's unit tests again, on PostgreSQL: what SQLite forgives (types, NULLs, order, locks) it does not."""

from collections.abc import Iterator

import pytest

from controller.store.engine import Store
from tests.functional.store.conftest import empty
from tests.unit.test_api_address_groups import *  # noqa: F403
from tests.unit.test_api_agents import *  # noqa: F403
from tests.unit.test_api_default_security_group_rules import *  # noqa: F403
from tests.unit.test_api_errors import (  # noqa: F401
    test_any_query_is_answered,
    test_any_value_of_any_attribute_is_taken_or_refused_by_name,
)
from tests.unit.test_api_identity import *  # noqa: F403
from tests.unit.test_api_lists import *  # noqa: F403
from tests.unit.test_api_networks import *  # noqa: F403
from tests.unit.test_api_port_groups import *  # noqa: F403
from tests.unit.test_api_ports import *  # noqa: F403
from tests.unit.test_api_security_group_rules import *  # noqa: F403
from tests.unit.test_api_security_groups import *  # noqa: F403
from tests.unit.test_api_subnets import *  # noqa: F403
from tests.unit.test_api_topology import *  # noqa: F403


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    """The suite's database, empty."""
    made = Store(postgres_url)
    empty(made)
    yield made
    made.dispose()
