"""The template of rules: what new groups begin with, and who may change that."""

from typing import Any

import pytest

from tests.rest import Api, Json

NOWHERE = "eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"
BOTH = {"used_in_default_sg": True, "used_in_non_default_sg": True}
DEFAULT = {"used_in_default_sg": True, "used_in_non_default_sg": False}
OTHERS = {"used_in_default_sg": False, "used_in_non_default_sg": True}


def entry(api: Api, **values: Any) -> Json:
    return api.made("default_security_group_rule", **{"direction": "ingress", **values})


def short(rules: list[Json]) -> list[tuple[str, str, str | None]]:
    return sorted((rule["direction"], rule["ethertype"], rule["remote_group_id"]) for rule in rules)


def test_in_the_beginning_there_are_neutron_s_four(api: Api) -> None:
    template = api.as_project("p1", "reader").get("default-security-group-rules")["default_security_group_rules"]
    assert short(template) == [
        ("egress", "IPv4", None),
        ("egress", "IPv6", None),
        ("ingress", "IPv4", "PARENT"),
        ("ingress", "IPv6", "PARENT"),
    ]
    assert all(rule["used_in_default_sg"] for rule in template)
    assert {rule["direction"] for rule in template if rule["used_in_non_default_sg"]} == {"egress"}


def test_an_entry_has_neutron_s_attributes(api: Api) -> None:
    """It belongs to no project, whatever the client says."""
    made = entry(api, protocol="tcp", port_range_min=22, port_range_max=22, tenant_id="p1", **OTHERS)
    assert api.get(f"default-security-group-rules/{made['id']}")["default_security_group_rule"] == made
    expected = {
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": "tcp",
        "port_range_min": 22,
        "port_range_max": 22,
        "remote_ip_prefix": None,
        "remote_group_id": None,
        "remote_address_group_id": None,
        "description": "",
        "revision_number": 1,
        **OTHERS,
    }
    assert {name: made[name] for name in expected} == expected
    assert set(made) == {*expected, "id", "created_at", "updated_at"}


def test_new_groups_begin_with_the_template(api: Api) -> None:
    """Default groups by one part of it, others by the other; groups that are there stay as they are."""
    before = api.group()
    entry(api, protocol="tcp", **OTHERS)
    entry(api, protocol="udp", description="not the rule's", **DEFAULT)
    entry(api, protocol="icmp", remote_group_id="PARENT", **BOTH)
    entry(api, protocol="sctp", remote_ip_prefix="10.0.0.1/24", used_in_default_sg=False, used_in_non_default_sg=False)
    for group, protocols in ((api.group(), ["icmp", "tcp"]), (api.default_group("p1"), ["icmp", "udp"])):
        rules = [rule for rule in group["security_group_rules"] if rule["protocol"]]
        assert sorted(rule["protocol"] for rule in rules) == protocols
        assert {rule["protocol"]: rule["remote_group_id"] for rule in rules}["icmp"] == group["id"]
        assert {(rule["description"], rule["project_id"]) for rule in rules} == {("", group["project_id"])}
    assert api.get(f"security-groups/{before['id']}")["security_group"] == before


def test_without_a_template_groups_are_empty(api: Api) -> None:
    for rule in api.get("default-security-group-rules")["default_security_group_rules"]:
        assert api.delete("default_security_group_rule", rule["id"]).status == 204
    assert api.default_group("p1")["security_group_rules"] == api.group()["security_group_rules"] == []


def test_an_entry_may_name_groups_that_exist(api: Api) -> None:
    """When such a group goes, new groups begin without that rule."""
    named, addresses = api.group(), api.made("address_group")
    entry(api, protocol="tcp", remote_group_id=named["id"], **BOTH)
    entry(api, protocol="udp", remote_address_group_id=addresses["id"], **BOTH)
    assert len(api.group()["security_group_rules"]) == 4
    api.delete("security_group", named["id"])
    assert {rule["protocol"] for rule in api.group()["security_group_rules"]} == {None, "udp"}
    body = {"direction": "ingress", **BOTH}
    assert api.create("default_security_group_rule", remote_group_id=NOWHERE, **body).error == "SecurityGroupNotFound"
    answer = api.create("default_security_group_rule", remote_address_group_id=NOWHERE, **body)
    assert (answer.status, answer.error) == (404, "AddressGroupNotFound")


def test_an_entry_is_there_once_for_each_kind_of_group(api: Api) -> None:
    body = {"direction": "ingress", "protocol": "tcp"}
    made = entry(api, **body, **DEFAULT)
    for use in (DEFAULT, BOTH):
        answer = api.create("default_security_group_rule", **{**body, "protocol": 6}, **use)
        assert (answer.status, answer.error) == (409, "DefaultSecurityGroupRuleExists")
        assert answer.message == f"Default Security group rule already exists. Rule id is {made['id']}."
    entry(api, **body, **OTHERS)
    answer = api.bulk("default_security_group_rule", [{**body, "protocol": "udp", **BOTH}] * 2)
    assert (answer.status, answer.error) == (409, "DuplicateDefaultSgRuleInPost")
    assert len(api.group()["security_group_rules"]) == 3


def test_only_administrators_change_the_template(api: Api) -> None:
    one = api.as_project("p1")
    made = entry(api, protocol="tcp", **BOTH)
    answer = one.create("default_security_group_rule", direction="egress", protocol="udp", **BOTH)
    assert (answer.status, answer.error) == (403, "PolicyNotAuthorized")
    assert one.delete("default_security_group_rule", made["id"]).status == 403
    assert api.update("default_security_group_rule", made["id"], description="x").status == 405
    assert api.delete("default_security_group_rule", made["id"]).status == 204
    answer = api.delete("default_security_group_rule", made["id"])
    assert answer.message == f"Default Security Group rule {made['id']} does not exist"


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"used_in_default_sg": "maybe"}, "HTTPBadRequest"),
        ({"direction": "x"}, "HTTPBadRequest"),
        ({"port_range_min": 1, "port_range_max": 2}, "SecurityGroupProtocolRequiredWithPorts"),
        ({"remote_ip_prefix": "fd00::/8"}, "SecurityGroupRuleParameterConflict"),
        ({"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": "PARENT"}, "SecurityGroupMultipleRemoteEntites"),
    ],
)
def test_an_entry_is_judged_like_a_rule(api: Api, wish: dict[str, Any], error: str) -> None:
    answer = api.create("default_security_group_rule", **{"direction": "ingress", **BOTH, **wish})
    assert (answer.status, answer.error) == (400, error)
    answer = api.create("default_security_group_rule", direction="ingress")
    assert answer.message == "Failed to parse request. Required attribute 'used_in_default_sg' not specified"
