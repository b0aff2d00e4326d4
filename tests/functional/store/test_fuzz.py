"""What comes from outside, on every database: PostgreSQL refuses texts and numbers that SQLite takes."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.feed.callers import Callers
from controller.feed.outbox import Outbox
from controller.feed.rpc import Calls, Counters, Endpoint
from controller.store.engine import Store
from selvedge import rpc
from tests.garbage import requests
from tests.rest import Api
from tests.unit.test_fuzz_calls import CALLS, FORMS, sealed
from tests.unit.test_fuzz_rest import assert_answered, furnish

BOUNDED = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def known(api: Api) -> dict[str, list[str]]:
    return furnish(api)


@BOUNDED
@given(data=st.data())
def test_any_request_has_an_answer(api: Api, known: dict[str, list[str]], data: st.DataObject) -> None:
    """Given requests of the right form with wrong values, none of them meets a defect."""
    if assert_answered(api, data.draw(requests(known))) == 204:  # one of ours is gone
        known.update(furnish(api))


@BOUNDED
@given(call=CALLS.filter(lambda call: call[0] != "subscribe"))
def test_any_call_of_an_agent_is_done_or_refused(store: Store, call: tuple[str, object]) -> None:
    """Given calls of the right form with any names and texts, nothing is raised but `Refused`."""
    endpoint = Endpoint(Calls(store, Outbox(lambda rows: None), None), Counters(), Callers("shared"))  # type: ignore[arg-type]
    method, value = call
    try:
        assert endpoint._logged(method, FORMS[method], sealed(value), {})
    except rpc.Refused as error:
        assert str(error)
