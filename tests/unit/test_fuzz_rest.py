"""Any request gets an answer that is not a defect: whatever its path, query, headers and body are."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.garbage import Request, requests, send
from tests.rest import Api

BOUNDED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def furnish(api: Api) -> dict[str, list[str]]:
    """One resource of each kind; plural → identifiers."""
    network = api.network()
    subnet = api.subnet(network, "10.0.0.0/24")
    group = api.group(project_id="p")
    rule = api.rule(group, protocol="tcp", port_range_min=80, port_range_max=80)
    port = api.port(network, host="hv1", security_groups=[group["id"]])
    addresses = api.made("address_group", addresses=["10.1.0.0/16"])
    found = {"networks": network, "subnets": subnet, "security_groups": group, "security_group_rules": rule}
    found |= {"ports": port, "address_groups": addresses}
    return {plural: [thing["id"]] for plural, thing in found.items()}


def assert_answered(api: Api, request: Request) -> int:
    status, body = send(api, request)
    assert status < 500 or status == 501, (status, body)
    if status >= 400 and request.method != "HEAD":
        error = json.loads(body)["NeutronError"]
        assert error["type"] and error["message"] and "Traceback" not in error["message"]
    return status


@pytest.fixture
def known(api: Api) -> dict[str, list[str]]:
    return furnish(api)


@BOUNDED
@given(data=st.data())
def test_any_request_has_an_answer(api: Api, known: dict[str, list[str]], data: st.DataObject) -> None:
    """Given requests of the right form with wrong values, and of no form, none of them meets a defect."""
    request = data.draw(requests(known))
    if assert_answered(api, request) == 204:  # one of ours is gone
        known.update(furnish(api))
