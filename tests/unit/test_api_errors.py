"""Whatever is sent, the answer is a clear 4xx in Neutron's form, never a 500."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.api.app import RESOURCES
from controller.store import engine
from controller.store.engine import Contention, DatabaseAway, Store
from controller.store.schema import metadata, topics
from tests.rest import Api


@pytest.mark.parametrize(
    ("request_line", "body", "status", "error"),
    [
        ("GET /v3", None, 404, "HTTPNotFound"),
        ("GET /v2.0/routers", None, 404, "HTTPNotFound"),
        ("GET /v2.0/networks/a/b", None, 404, "HTTPNotFound"),
        ("GET /v2.0/extensions/none", None, 404, "ExtensionNotFound"),
        ("GET /v2.0/networks/none", None, 404, "NetworkNotFound"),
        ("GET /v2.0/networks/%00", None, 404, "NetworkNotFound"),
        ("DELETE /v2.0/ports/%ff", None, 404, "PortNotFound"),
        ("DELETE /v2.0/networks", None, 405, "HTTPMethodNotAllowed"),
        ("POST /v2.0/networks/none", b"{}", 405, "HTTPMethodNotAllowed"),
        ("POST /v2.0/agents", b'{"agent": {}}', 405, "HTTPMethodNotAllowed"),
        ("POST /v2.0/networks", None, 400, "HTTPBadRequest"),
        ("POST /v2.0/networks", b"", 400, "HTTPBadRequest"),
        ("POST /v2.0/networks", b"{", 400, "MalformedRequestBody"),
        ("POST /v2.0/networks", b'{"network": {"name": "\xff"}}', 400, "MalformedRequestBody"),
        ("POST /v2.0/networks", b'{"network": {"name": "\\ud800"}}', 400, "MalformedRequestBody"),
        ("POST /v2.0/networks", b"[" * 100_000, 400, "MalformedRequestBody"),
        ("POST /v2.0/networks", b'{"network": ' * 500 + b"1" + b"}" * 500, 400, "MalformedRequestBody"),
        ("POST /v2.0/networks", b"[]", 400, "HTTPBadRequest"),
        ("POST /v2.0/networks", b"{}", 400, "HTTPBadRequest"),
        ("POST /v2.0/networks", b'{"net": {}}', 400, "HTTPBadRequest"),
        ("POST /v2.0/networks", b'{"network": []}', 400, "HTTPBadRequest"),
        ("POST /v2.0/networks", b'{"networks": {}}', 400, "HTTPBadRequest"),
        ("POST /v2.0/networks", b'{"networks": []}', 400, "HTTPBadRequest"),
        ("POST /v2.0/networks", b'{"networks": [1]}', 400, "HTTPBadRequest"),
        ("PUT /v2.0/networks/none", b'{"network": {}}', 404, "NetworkNotFound"),
        ("PUT /v2.0/networks/none", b"{}", 400, "HTTPBadRequest"),
        ("GET /v2.0/security_groups", None, 404, "HTTPNotFound"),
        ("GET /v2.0/security-groups/none", None, 404, "SecurityGroupNotFound"),
        ("GET /v2.0/security-group-rules/none", None, 404, "SecurityGroupRuleNotFound"),
        ("PUT /v2.0/default-security-group-rules/none", b"{}", 405, "HTTPMethodNotAllowed"),
        ("GET /v2.0/address-groups/none/add_addresses", None, 405, "HTTPMethodNotAllowed"),
        ("PUT /v2.0/address-groups/none/add_addresses", b'{"addresses": []}', 404, "AddressGroupNotFound"),
        ("PUT /v2.0/address-groups/%00/add_addresses", b'{"addresses": []}', 404, "AddressGroupNotFound"),
        ("PUT /v2.0/address-groups/none/add_addresses", b"[]", 400, "HTTPBadRequest"),
        ("PUT /v2.0/address-groups/none/sub_addresses", b"{}", 404, "HTTPNotFound"),
    ],
)
def test_requests_that_make_no_sense(api: Api, request_line: str, body: bytes | None, status: int, error: str) -> None:
    method, path = request_line.split(" ")
    answer = api.call(method, path, body)
    assert (answer.status, answer.error) == (status, error), answer
    assert set(answer.body["NeutronError"]) == {"type", "message", "detail"}
    assert answer.message


def test_deep_values_in_quotes_are_no_nesting(api: Api) -> None:
    assert api.network(name="[" * 200)["name"] == "[" * 200


def test_a_body_too_large_is_refused_unread(api: Api) -> None:
    answer = api.call("POST", "/v2.0/networks", b"{}", Content_Length=str(2**40))
    assert (answer.status, answer.error) == (413, "HTTPRequestEntityTooLarge")


def test_a_defect_shows_no_insides(api: Api, store: Store) -> None:
    """A database without tables is our mistake, not the client's: 500, and not a word of SQL."""
    store.transaction(lambda transaction: metadata.drop_all(transaction.conn))
    answer = api.call("GET", "/v2.0/networks")
    assert (answer.status, answer.error) == (500, "HTTPInternalServerError")
    assert "SELECT" not in json.dumps(answer.body)


def test_a_database_that_cannot_be_opened_is_a_503(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/no/such/directory.db")
    api = Api(store)
    for method, body in (("GET", None), ("POST", {"network": {}})):
        answer = api.call(method, "/v2.0/networks", body)
        assert (answer.status, answer.error) == (503, "HTTPServiceUnavailable")
        assert answer.headers["retry-after"] == "1"
    with pytest.raises(DatabaseAway):
        store.read(lambda conn: None)


def test_a_race_that_is_lost_for_ever_ends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that can never succeed is given up, with its own kind of error, after a while."""
    monkeypatch.setattr(engine, "PATIENCE", 0.05)
    row = topics.insert().values(name="twice", version=1)
    store.transaction(lambda transaction: transaction.execute(row))
    with pytest.raises(Contention):
        store.transaction(lambda transaction: transaction.execute(row))
    assert store.retries > 1


def test_every_answer_has_a_name_to_ask_after(api: Api) -> None:
    first, second = (api.call("GET", "/v2.0/none").headers["x-openstack-request-id"] for _ in range(2))
    assert first.startswith("req-")
    assert first != second


def test_discovery_leads_to_everything(api: Api) -> None:
    versions = api.call("GET", "/").body["versions"]
    assert [(version["id"], version["status"]) for version in versions] == [("v2.0", "CURRENT")]
    assert versions[0]["links"][0]["href"].endswith("/v2.0/")
    assert api.call("GET", "/v2.0/").body == api.call("GET", "/v2.0").body
    found = {one["collection"]: one["links"][0]["href"] for one in api.call("GET", "/v2.0").body["resources"]}
    assert set(found) == {
        "networks",
        "subnets",
        "ports",
        "security_groups",
        "security_group_rules",
        "default_security_group_rules",
        "address_groups",
        "agents",
        "extensions",
    }
    for collection, href in found.items():
        assert collection in api.call("GET", urlsplit(href).path + "/").body


def test_every_claimed_extension_shows_itself(api: Api) -> None:
    claimed = api.get("extensions")["extensions"]
    for extension in claimed:
        assert set(extension) == {"alias", "name", "description", "updated", "links"}
        assert api.get(f"extensions/{extension['alias']}")["extension"] == extension


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(("10.0.0.0/24", "10.0.0.5", "fd00::/64", "fd00::1", "0.0.0.0/0", "::/0")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("ip_address", "subnet_id", "start", "end", "x")), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_of_any_attribute_is_taken_or_refused_by_name(api: Api, data: st.DataObject) -> None:
    """Creates with one attribute after another replaced by anything: 2xx, 4xx or exhausted numbers."""
    if not api.get("networks?limit=1")["networks"]:
        network = api.network()
        api.subnet(network, "10.0.0.0/28")
        api.port(network)
    network = api.get("networks?limit=1")["networks"][0]
    made = [one for one in RESOURCES if "create" in one.operations]
    resource = data.draw(st.sampled_from(made))
    body: dict[str, Any] = {}
    if resource.name in ("subnet", "port"):
        body.update(network_id=network["id"])
    if resource.name == "subnet":
        body.update(cidr="10.7.0.0/24", ip_version=4)
    if "direction" in resource.attributes:
        body.update(direction="ingress", protocol="tcp", port_range_min=7, port_range_max=7)
    if resource.name == "security_group_rule":
        body.update(security_group_id=api.get("security-groups?limit=1")["security_groups"][0]["id"])
    if resource.name == "default_security_group_rule":
        body.update(used_in_default_sg=True, used_in_non_default_sg=True)
    name = data.draw(st.sampled_from([*resource.attributes, "tenant_id"]))
    body[name] = data.draw(ANY_JSON)
    answer = api.call("POST", f"/v2.0/{resource.path}", {resource.name: body})
    assert answer.status in (201, 400, 404, 409), (body, answer)
    assert answer.status == 201 or answer.message
    there = api.get(f"{resource.path}?limit=1&fields=id")[resource.plural]
    if there and "update" in resource.operations:
        path = f"/v2.0/{resource.path}/{there[0]['id']}"
        change = api.call("PUT", path, {resource.name: {name: body[name]}})
        assert change.status in (200, 400, 404, 409), (body, change)
    if answer.status == 201:
        assert api.get(f"{resource.path}/{answer.body[resource.name]['id']}")
        api.delete(resource.name, answer.body[resource.name]["id"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(
        st.tuples(
            st.sampled_from(
                (
                    "limit",
                    "marker",
                    "sort_key",
                    "fields",
                    "page_reverse",
                    "fixed_ips",
                    "changed_since",
                    "name",
                    "mtu",
                    "revision_number",
                    "admin_state_up",
                    "id",
                    "mac_address",
                    "ip_version",
                    "alive",
                    "security_groups",
                    "belongs_to_default_sg",
                    "protocol",
                    "port_range_min",
                    "ethertype",
                    "remote_ip_prefix",
                    "x",
                )
            ),
            st.text(max_size=12),
        ),
        max_size=4,
    )
)
def test_any_query_is_answered(api: Api, pairs: list[tuple[str, str]]) -> None:
    for resource in RESOURCES:
        result = api.client.simulate_get(f"/v2.0/{resource.path}", params=dict(pairs))
        assert result.status_code in (200, 400, 404), result.text
