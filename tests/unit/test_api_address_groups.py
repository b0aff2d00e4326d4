"""Address groups: prefixes that are added and removed, and rules that name them."""

from typing import Any

import pytest

from tests.rest import Answer, Api, Json

NOWHERE = "eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"


def act(api: Api, group: Json, action: str, body: Any) -> Answer:
    return api.call("PUT", f"/v2.0/address-groups/{group['id']}/{action}", body)


def test_an_address_group_has_neutron_s_attributes(api: Api) -> None:
    one = api.as_project("p1")
    group = one.made("address_group", name="offices", addresses=["10.0.0.1/24", "FD00::/64", "10.0.0.0/24"])
    assert one.get(f"address-groups/{group['id']}")["address_group"] == group
    expected = {
        "name": "offices",
        "description": "",
        "project_id": "p1",
        "tenant_id": "p1",
        "addresses": ["10.0.0.0/24", "fd00::/64"],
        "revision_number": 1,
    }
    assert {name: group[name] for name in expected} == expected
    assert set(group) == {*expected, "id", "created_at", "updated_at"}
    assert one.get("address-groups")["address_groups"] == [group]
    assert one.made("address_group")["addresses"] == one.made("address_group", addresses=None)["addresses"] == []


def test_addresses_are_added_and_removed(api: Api) -> None:
    """In whatever form they are written; an address is its whole prefix; each action is a revision of the group."""
    group = api.made("address_group", addresses=["10.0.0.0/24"])
    for action, addresses, expected in (
        ("add_addresses", ["10.1.0.5", "FD00::1/64"], ["10.0.0.0/24", "10.1.0.5/32", "fd00::/64"]),
        ("remove_addresses", ["10.0.0.77/24", "fd00::/64"], ["10.1.0.5/32"]),
        ("add_addresses", ["10.2.0.0/16", "10.2.0.0/16"], ["10.1.0.5/32", "10.2.0.0/16"]),
        ("remove_addresses", ["10.1.0.5/32", "10.2.0.0/16"], []),
        ("add_addresses", [], []),
    ):
        answer = act(api, group, action, {"addresses": addresses})
        assert answer.status == 200
        assert answer.body["address_group"]["addresses"] == expected
        assert api.get(f"address-groups/{group['id']}")["address_group"] == answer.body["address_group"]
    assert answer.body["address_group"]["revision_number"] == 6


def test_what_is_there_is_not_added_and_what_is_not_is_not_removed(api: Api) -> None:
    """All or nothing."""
    group = api.made("address_group", addresses=["10.0.0.0/24"])
    answer = act(api, group, "add_addresses", {"addresses": ["10.3.0.0/16", "10.0.0.0/24"]})
    assert (answer.status, answer.error) == (400, "AddressesAlreadyExist")
    assert answer.message == f"Addresses ['10.0.0.0/24'] already exist in the address group {group['id']}."
    answer = act(api, group, "remove_addresses", {"addresses": ["10.0.0.0/24", "10.0.0.0/25"]})
    assert (answer.status, answer.error) == (404, "AddressesNotFound")
    assert answer.message == f"Addresses ['10.0.0.0/25'] not found in the address group {group['id']}."
    assert api.get(f"address-groups/{group['id']}")["address_group"] == group


@pytest.mark.parametrize(
    "body", [{}, {"addresses": "10.0.0.0/8"}, {"addresses": ["x"]}, {"addresses": [5]}, {"a": []}, []]
)
def test_an_action_needs_addresses(api: Api, body: Any) -> None:
    group = api.made("address_group")
    for action in ("add_addresses", "remove_addresses"):
        answer = act(api, group, action, body)
        assert (answer.status, answer.error) == (400, "HTTPBadRequest")


@pytest.mark.parametrize(
    "addresses",
    ["10.0.0.0/8", [""], ["10.0.0.1"], ["10.0.0.0/33"], [7], ["10.0.0.0/8", "10.0.0.0/8"], [["10.0.0.0/8"]]],
)
def test_addresses_that_cannot_be_are_refused(api: Api, addresses: Any) -> None:
    answer = api.create("address_group", addresses=addresses)
    assert (answer.status, answer.error) == (400, "HTTPBadRequest")
    assert "addresses" in answer.message


def test_addresses_are_no_attribute_to_be_set(api: Api) -> None:
    group = api.made("address_group")
    answer = api.update("address_group", group["id"], addresses=["10.0.0.0/8"])
    assert (answer.status, answer.message) == (400, "Cannot update read-only attribute addresses")
    changed = api.update("address_group", group["id"], name="x", description="y").body["address_group"]
    assert (changed["name"], changed["description"], changed["revision_number"]) == ("x", "y", 2)


def test_an_address_group_that_a_rule_names_stays(api: Api) -> None:
    group = api.made("address_group", addresses=["10.0.0.0/24"])
    rule = api.rule(api.group(), remote_address_group_id=group["id"])
    template = api.made(
        "default_security_group_rule",
        direction="ingress",
        remote_address_group_id=group["id"],
        used_in_default_sg=False,
        used_in_non_default_sg=False,
    )
    for kind, one in (("security_group_rule", rule), ("default_security_group_rule", template)):
        answer = api.delete("address_group", group["id"])
        assert (answer.status, answer.error) == (409, "AddressGroupInUse")
        assert answer.message == f"Address group {group['id']} is in use on one or more security group rules."
        assert api.delete(kind, one["id"]).status == 204
    assert api.delete("address_group", group["id"]).status == 204
    assert api.get("address-groups")["address_groups"] == []


def test_an_address_group_is_its_project_s(api: Api) -> None:
    one, two = api.as_project("p1"), api.as_project("p2")
    group = one.made("address_group")
    assert two.call("GET", f"/v2.0/address-groups/{group['id']}").error == "AddressGroupNotFound"
    assert two.get("address-groups")["address_groups"] == []
    assert act(two, group, "add_addresses", {"addresses": ["10.0.0.0/24"]}).status == 404
    reader = api.as_project("p1", "reader")
    answer = act(reader, group, "add_addresses", {"addresses": ["10.0.0.0/24"]})
    assert (answer.status, answer.message) == (403, "(rule:add_addresses) is disallowed by policy")
    assert act(reader, {"id": NOWHERE}, "add_addresses", {"addresses": []}).status == 404


def test_an_action_may_be_bound_to_a_revision(api: Api) -> None:
    group = api.made("address_group")
    path = f"/v2.0/address-groups/{group['id']}/add_addresses"
    answer = api.call("PUT", path, {"addresses": ["10.0.0.0/8"]}, If_Match="revision_number=7")
    assert (answer.status, answer.error) == (412, "RevisionNumberConstraintFailed")
    assert api.call("PUT", path, {"addresses": ["10.0.0.0/8"]}, If_Match="revision_number=1").status == 200
