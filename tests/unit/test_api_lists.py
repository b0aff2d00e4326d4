"""Lists: filters, fields, sorting, pages; for every resource by the same machine."""

from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.rest import Api, addresses


def names(api: Api, query: str, plural: str = "networks") -> list[str]:
    return [item["name"] for item in api.get(f"{plural}?{query}")[plural]]


def test_filters_select_by_value(api: Api) -> None:
    """Several values of one name are alternatives, several names must all match; an empty value is a value."""
    for name, up in (("a", True), ("b", False), ("", True)):
        api.network(name=name, admin_state_up=up, project_id=f"p{name}")
    assert names(api, "name=a") == ["a"]
    assert sorted(names(api, "name=a&name=b")) == ["a", "b"]
    assert names(api, "name=") == [""]
    assert names(api, "admin_state_up=False") == ["b"]
    assert sorted(names(api, "admin_state_up=true")) == ["", "a"]
    assert names(api, "name=a&name=b&admin_state_up=0") == ["b"]
    assert names(api, "tenant_id=pa") == names(api, "project_id=pa") == ["a"]
    assert names(api, "name=A") == names(api, "id=none") == []
    network = api.get("networks?name=a")["networks"][0]
    assert names(api, f"id={network['id']}") == ["a"]
    assert names(api, f"provider:segmentation_id={network['provider:segmentation_id']}") == ["a"]
    assert names(api, "provider:network_type=vxlan") == []
    assert len(names(api, "revision_number=1&mtu=1438&status=ACTIVE&shared=False")) == 3


@pytest.mark.parametrize(
    "query",
    [
        "colour=blue",
        "subnets=x",
        "admin_state_up=maybe",
        "mtu=large",
        "sort_key=colour",
        "sort_key=subnets",
        "sort_key=name&sort_dir=up",
        "sort_dir=asc",
        "limit=-1",
        "limit=many",
        "limit=1&page_reverse=perhaps",
        "changed_since=soon",
        "name=%00",
        "name=%ff",
    ],
)
def test_a_query_that_makes_no_sense_is_refused(api: Api, query: str) -> None:
    api.network()
    answer = api.call("GET", f"/v2.0/networks?{query}")
    assert answer.status == 400, answer
    assert answer.error in ("HTTPBadRequest", "InvalidInput", "BadRequest")


def test_ports_are_found_by_their_addresses(api: Api) -> None:
    network = api.network()
    a, b = (api.subnet(network, f"10.0.{n}.0/24")["id"] for n in range(2))
    wishes = {"x": ["10.0.0.5"], "y": ["10.0.0.15", "10.0.1.5"], "z": ["10.0.1.6"]}
    for name, wish in wishes.items():
        api.port(network, name=name, fixed_ips=[{"ip_address": address} for address in wish])

    def found(*keys: str) -> list[str]:
        return sorted(names(api, urlencode([("fixed_ips", key) for key in keys]), "ports"))

    assert found("ip_address=10.0.0.5") == ["x"]
    assert found("ip_address=10.0.0.5", "ip_address=10.0.1.6") == ["x", "z"]
    assert found(f"subnet_id={a}") == ["x", "y"]
    assert found(f"subnet_id={b}", "ip_address=10.0.1.6") == ["z"]
    assert found(f"subnet_id={a}", "ip_address=10.0.1.5") == []
    assert found("ip_address_substr=.1.") == ["y", "z"]
    assert found("ip_address_substr=%") == []
    assert api.call("GET", "/v2.0/ports?fixed_ips=10.0.0.5").status == 400
    port = api.get("ports?name=x")["ports"][0]
    assert names(api, f"mac_address={port['mac_address'].upper().replace(':', '-')}", "ports") == ["x"]
    assert names(api, "mac_address=none", "ports") == []


def test_subnets_are_found_by_their_network_s_sharing_and_canonical_cidr(api: Api) -> None:
    api.subnet(api.network(shared=True), "fd00::/64", name="common")
    api.subnet(api.network(), "fd00::/64", name="own")
    assert names(api, "shared=True", "subnets") == ["common"]
    assert names(api, "shared=0", "subnets") == ["own"]
    assert len(names(api, "cidr=FD00:0::/64&ip_version=6", "subnets")) == 2


def test_fields_choose_what_is_shown(api: Api) -> None:
    network = api.network(project_id="p")
    api.subnet(network, "10.0.0.0/24")
    port = api.port(network)
    assert api.get("ports?fields=id")["ports"] == [{"id": port["id"]}]
    assert api.get("ports?fields=fixed_ips")["ports"] == [{"fixed_ips": port["fixed_ips"]}]
    assert api.get(f"ports/{port['id']}?fields=name&fields=status")["port"] == {"name": "", "status": "DOWN"}
    assert api.get("networks?fields=tenant_id")["networks"] == [{"project_id": "p", "tenant_id": "p"}]
    assert api.get("networks?fields=colour&fields=name")["networks"] == [{"name": ""}]


def test_changed_since_finds_what_changed(api: Api) -> None:
    api.network(name="a")
    assert names(api, "changed_since=2020-01-01T00:00:00") == ["a"]
    assert names(api, "changed_since=2999-01-01T00:00:00Z") == []


def test_sorting_is_by_several_keys(api: Api) -> None:
    for name, mtu in (("b", 1000), ("a", 1000), ("c", 900)):
        api.network(name=name, mtu=mtu)
    assert names(api, "sort_key=name") == ["a", "b", "c"]
    assert names(api, "sort_key=name&sort_dir=desc") == ["c", "b", "a"]
    query = "sort_key=mtu&sort_dir=desc&sort_key=name&sort_dir=asc"
    assert names(api, query) == ["a", "b", "c"]
    assert names(api, "sort_key=mtu&sort_key=name&sort_dir=asc&sort_dir=desc") == ["c", "b", "a"]


def walk(api: Api, path: str, rel: str) -> list[list[str]]:
    """Pages of identifiers, following links of one kind until there is none or a page is empty."""
    pages: list[list[str]] = []
    while True:
        body = api.get(path)
        pages.append([network["id"] for network in body["networks"]])
        link = next((link["href"] for link in body["networks_links"] if link["rel"] == rel), None)
        if link is None or not pages[-1]:
            return pages
        parts = urlsplit(link)
        assert parts.path == "/v2.0/networks"
        path = f"networks?{parts.query}"


@pytest.mark.parametrize("order", ["", "&sort_key=name", "&sort_key=mtu&sort_dir=desc&sort_key=name&sort_dir=asc"])
def test_links_lead_through_all_pages_and_back(api: Api, order: str) -> None:
    """Equal sort keys do not lose or repeat a row, in either direction."""
    for number in range(7):
        api.network(name=f"n{number % 3}", mtu=1000 + number % 2)
    everything = [network["id"] for network in api.get(f"networks?{order[1:]}")["networks"]]
    forward = walk(api, f"networks?limit=3{order}", "next")
    assert [id for page in forward for id in page] == everything
    assert [len(page) for page in forward] == [3, 3, 1]
    back = walk(api, f"networks?limit=3{order}&page_reverse=True&marker={everything[-1]}", "previous")
    assert [id for page in reversed(back) for id in page] == everything[:-1]


def test_a_marker_must_exist(api: Api) -> None:
    answer = api.call("GET", "/v2.0/networks?limit=1&marker=gone")
    assert (answer.status, answer.error) == (404, "NetworkNotFound")


def test_links_keep_the_query(api: Api) -> None:
    for _ in range(2):
        api.network(name="a b")
    body = api.get("networks?limit=1&name=a+b&fields=name&sort_key=name")
    query = parse_qsl(urlsplit(body["networks_links"][0]["href"]).query)
    assert {("name", "a b"), ("fields", "name"), ("sort_key", "name"), ("limit", "1")} < set(query)


def test_subnets_without_a_gateway_have_a_place_in_the_order(api: Api) -> None:
    """NULL is no value to compare with; a page that begins at one is still found."""
    network = api.network()
    for number in range(4):
        more = {} if number % 2 else {"gateway_ip": None}
        api.subnet(network, f"10.0.{number}.0/24", name=str(number), **more)
    seen, path = [], "subnets?limit=1&sort_key=gateway_ip"
    while True:
        body = api.get(path)
        if not body["subnets"]:
            break
        seen.append(body["subnets"][0]["gateway_ip"])
        path = "subnets?" + urlsplit(body["subnets_links"][0]["href"]).query
    assert seen == [None, None, "10.0.1.1", "10.0.3.1"]


@hypothesis_settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(1, 6),
    keys=st.lists(st.sampled_from(("name", "mtu", "id", "created_at")), unique=True, max_size=3),
    data=st.data(),
)
def test_pages_are_slices_of_the_sorted_list(api: Api, limit: int, keys: list[str], data: st.DataObject) -> None:
    """Whatever the order, pages of any size put together are the list."""
    if not api.get("networks?limit=1")["networks"]:
        for number in range(5):
            api.network(name=f"n{number % 2}", mtu=1000 + number % 3)
    order = "".join(f"&sort_key={key}&sort_dir={data.draw(st.sampled_from(('asc', 'desc')))}" for key in keys)
    everything = [network["id"] for network in api.get(f"networks?{order[1:]}")["networks"]]
    assert [id for page in walk(api, f"networks?limit={limit}{order}", "next") for id in page] == everything


def test_addresses_are_shown_with_their_own_port(api: Api) -> None:
    network = api.network()
    api.subnet(network, "10.0.0.0/24")
    made = {
        port["id"]: addresses(port) for port in api.bulk("port", [{"network_id": network["id"]}] * 20).body["ports"]
    }
    assert {
        port["id"]: addresses(port) for port in api.get("ports?limit=7&sort_key=name")["ports"]
    }.items() <= made.items()
    assert {port["id"]: addresses(port) for port in api.get("ports")["ports"]} == made
