"""Security group rules: what may be said, how it is kept, and what is refused with which of Neutron's errors."""

from typing import Any

import pytest

from controller.store.security import PROTOCOLS
from tests.rest import Api, Json

NOWHERE = "eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"


@pytest.fixture
def group(api: Api) -> Json:
    return api.group(name="web")


def test_a_rule_has_neutron_s_attributes_and_defaults(api: Api, group: Json) -> None:
    rule = api.rule(group)
    assert api.get(f"security-group-rules/{rule['id']}")["security_group_rule"] == rule
    expected = {
        "security_group_id": group["id"],
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": None,
        "port_range_min": None,
        "port_range_max": None,
        "remote_ip_prefix": None,
        "normalized_cidr": None,
        "remote_group_id": None,
        "remote_address_group_id": None,
        "belongs_to_default_sg": False,
        "project_id": "",
        "tenant_id": "",
        "description": "",
        "revision_number": 1,
    }
    assert {name: rule[name] for name in expected} == expected
    assert set(rule) == {*expected, "id", "created_at", "updated_at"}
    shown = api.get(f"security-groups/{group['id']}")["security_group"]["security_group_rules"]
    assert shown[-1] == rule
    assert api.get("security-groups?name=web")["security_groups"][0]["security_group_rules"] == shown


@pytest.mark.parametrize(
    ("wish", "kept"),
    [
        ({"protocol": "TCP"}, {"protocol": "tcp"}),
        ({"protocol": 6}, {"protocol": "6"}),
        ({"protocol": "006"}, {"protocol": "6"}),
        ({"protocol": "any"}, {"protocol": None}),
        ({"protocol": 0}, {"protocol": "0"}),
        ({"protocol": 255}, {"protocol": "255"}),
        ({"protocol": "vrrp"}, {"protocol": "vrrp"}),
        ({"protocol": "icmp", "ethertype": "ipv6"}, {"protocol": "ipv6-icmp", "ethertype": "IPv6"}),
        ({"protocol": "icmpv6", "ethertype": "IPv6"}, {"protocol": "ipv6-icmp"}),
        ({"protocol": 1, "ethertype": "IPv6"}, {"protocol": "58"}),
        ({"protocol": "ipv6-icmp", "ethertype": "IPv6"}, {"protocol": "ipv6-icmp"}),
        ({"protocol": "tcp", "port_range_min": "80", "port_range_max": 90}, {"port_range_min": 80}),
        ({"protocol": "tcp", "port_range_min": 1, "port_range_max": 65535}, {"port_range_max": None}),
        ({"port_range_min": 1, "port_range_max": 65535}, {"port_range_min": None}),
        ({"protocol": "sctp", "port_range_min": 5, "port_range_max": 5}, {"port_range_max": 5}),
        ({"protocol": 136, "port_range_min": 5, "port_range_max": 5}, {"protocol": "136"}),
        ({"protocol": "icmp", "port_range_min": 0, "port_range_max": 0}, {"port_range_min": 0, "port_range_max": 0}),
        ({"protocol": "icmp", "port_range_min": 8}, {"port_range_min": 8, "port_range_max": None}),
        ({"remote_ip_prefix": "10.0.0.1"}, {"remote_ip_prefix": "10.0.0.1/32", "normalized_cidr": "10.0.0.1/32"}),
        ({"remote_ip_prefix": "10.0.0.1/24"}, {"remote_ip_prefix": "10.0.0.1/24", "normalized_cidr": "10.0.0.0/24"}),
        ({"remote_ip_prefix": "10.0.0.0/255.255.0.0"}, {"remote_ip_prefix": "10.0.0.0/16"}),
        ({"remote_ip_prefix": ""}, {"remote_ip_prefix": None, "normalized_cidr": None}),
        ({"remote_ip_prefix": "FD00::1/64", "ethertype": "IPv6"}, {"normalized_cidr": "fd00::/64"}),
        ({"direction": "egress", "remote_ip_prefix": "0.0.0.0/1"}, {"direction": "egress"}),
        ({"description": "why"}, {"description": "why"}),
    ],
)
def test_what_is_said_is_kept_in_one_form(api: Api, group: Json, wish: dict[str, Any], kept: dict[str, Any]) -> None:
    rule = api.rule(group, **{"direction": "ingress", **wish})
    assert {name: rule[name] for name in kept} == kept
    assert api.get(f"security-group-rules/{rule['id']}")["security_group_rule"] == rule


def test_every_protocol_has_a_name_or_a_number(api: Api) -> None:
    """In IPv6, which has them all; 1 and 58 are one there, as are `ip` and `hopopt`, and the names of 58."""
    group = api.group()
    bodies = [
        {"security_group_id": group["id"], "direction": "ingress", "ethertype": "IPv6", "protocol": number}
        for number in range(256)
        if number != 1
    ]
    assert api.bulk("security_group_rule", bodies).status == 201
    for name in PROTOCOLS:
        answer = api.create("security_group_rule", **{**bodies[0], "protocol": name})
        assert answer.error == "SecurityGroupRuleExists", name


@pytest.mark.parametrize(
    ("wish", "error", "text"),
    [
        ({"direction": "both"}, "HTTPBadRequest", "direction"),
        ({"direction": None}, "HTTPBadRequest", "direction"),
        ({"ethertype": "IPv5"}, "SecurityGroupRuleInvalidEtherType", "'IPv5' not supported"),
        ({"ethertype": None}, "SecurityGroupRuleInvalidEtherType", "Allowed values are ['IPv4', 'IPv6']"),
        ({"protocol": "tpc"}, "SecurityGroupRuleInvalidProtocol", "protocol tpc not supported"),
        ({"protocol": 256}, "SecurityGroupRuleInvalidProtocol", "[0 to 255]"),
        ({"protocol": -1}, "SecurityGroupRuleInvalidProtocol", "-1"),
        ({"protocol": True}, "SecurityGroupRuleInvalidProtocol", "True"),
        ({"protocol": ["tcp"]}, "SecurityGroupRuleInvalidProtocol", "tcp"),
        ({"port_range_min": 80, "port_range_max": 80}, "SecurityGroupProtocolRequiredWithPorts", "Must also specify"),
        ({"protocol": "tcp", "port_range_min": 80}, "SecurityGroupInvalidPortRange", "must be <="),
        ({"protocol": "tcp", "port_range_max": 80}, "SecurityGroupInvalidPortRange", "must be <="),
        (
            {"protocol": "udp", "port_range_min": 9, "port_range_max": 8},
            "SecurityGroupInvalidPortRange",
            "For TCP/UDP protocols, port_range_min must be <= port_range_max",
        ),
        ({"protocol": "tcp", "port_range_min": 0, "port_range_max": 8}, "SecurityGroupInvalidPortValue", "port 0"),
        ({"protocol": "tcp", "port_range_min": 65536}, "SecurityGroupInvalidPortValue", "port 65536"),
        ({"protocol": "icmp", "port_range_min": -1}, "SecurityGroupInvalidPortValue", "port -1"),
        ({"port_range_min": "http"}, "SecurityGroupInvalidPortValue", "port http"),
        (
            {"protocol": "icmp", "port_range_min": 256},
            "SecurityGroupInvalidIcmpValue",
            "Invalid value for ICMP type (port_range_min) 256. It must be 0 to 255.",
        ),
        (
            {"protocol": 58, "ethertype": "IPv6", "port_range_min": 1, "port_range_max": 300},
            "SecurityGroupInvalidIcmpValue",
            "code (port_range_max) 300",
        ),
        (
            {"protocol": "icmp", "port_range_max": 0},
            "SecurityGroupMissingIcmpType",
            "ICMP code (port-range-max) 0 is provided but ICMP type (port-range-min) is missing.",
        ),
        (
            {"protocol": "gre", "port_range_min": 1, "port_range_max": 2},
            "SecurityGroupInvalidProtocolForPort",
            "Ports cannot be specified for protocol 47. Ports are only supported for DCCP, SCTP, TCP, UDP, UDPLITE.",
        ),
        ({"remote_ip_prefix": "10.0.0.0/33"}, "InvalidCIDR", "Invalid CIDR 10.0.0.0/33 given as IP prefix."),
        ({"remote_ip_prefix": "everywhere"}, "InvalidCIDR", "everywhere"),
        ({"remote_ip_prefix": 10}, "InvalidCIDR", "10"),
        ({"remote_ip_prefix": "fe80::1%eth0", "ethertype": "IPv6"}, "InvalidCIDR", "eth0"),
        (
            {"remote_ip_prefix": "fd00::/64"},
            "SecurityGroupRuleParameterConflict",
            "Conflicting value ethertype IPv4 for CIDR fd00::/64",
        ),
        ({"remote_ip_prefix": "10.0.0.0/8", "ethertype": "IPv6"}, "SecurityGroupRuleParameterConflict", "10.0.0.0/8"),
        (
            {"protocol": "ipv6-icmp"},
            "SecurityGroupEthertypeConflictWithProtocol",
            "Invalid ethertype IPv4 for protocol ipv6-icmp.",
        ),
        ({"protocol": 44}, "SecurityGroupEthertypeConflictWithProtocol", "protocol 44"),
        ({"protocol": "icmpv6"}, "SecurityGroupEthertypeConflictWithProtocol", "icmpv6"),
        (
            {"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": NOWHERE},
            "SecurityGroupMultipleRemoteEntites",
            "Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.",
        ),
        ({"remote_address_group_id": NOWHERE, "remote_group_id": NOWHERE}, "SecurityGroupMultipleRemoteEntites", ""),
        ({"remote_group_id": 5}, "HTTPBadRequest", "remote_group_id"),
        ({"normalized_cidr": "10.0.0.0/8"}, "HTTPBadRequest", "normalized_cidr"),
        ({"belongs_to_default_sg": True}, "HTTPBadRequest", "belongs_to_default_sg"),
        ({"security_group_id": None}, "HTTPBadRequest", "security_group_id"),
    ],
)
def test_what_cannot_be_is_refused(api: Api, group: Json, wish: dict[str, Any], error: str, text: str) -> None:
    body = {"security_group_id": group["id"], "direction": "ingress", **wish}
    answer = api.create("security_group_rule", **body)
    assert (answer.status, answer.error) == (400, error), answer
    assert text in answer.message
    assert len(api.get(f"security-group-rules?security_group_id={group['id']}")["security_group_rules"]) == 2


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"security_group_id": NOWHERE}, "SecurityGroupNotFound"),
        ({"remote_group_id": NOWHERE}, "SecurityGroupNotFound"),
        ({"remote_group_id": ""}, "SecurityGroupNotFound"),
        ({"remote_address_group_id": NOWHERE}, "AddressGroupNotFound"),
    ],
)
def test_what_a_rule_names_must_be_there(api: Api, group: Json, wish: dict[str, str], error: str) -> None:
    """An empty name is no way to say everybody."""
    answer = api.create("security_group_rule", **{"security_group_id": group["id"], "direction": "egress", **wish})
    assert (answer.status, answer.error) == (404, error)


def test_another_project_s_groups_are_not_there(api: Api) -> None:
    one, two = api.as_project("p1"), api.as_project("p2")
    mine, theirs = one.group(), two.group()
    addresses = two.made("address_group", addresses=["10.0.0.0/24"])
    for wish in (
        {"security_group_id": theirs["id"]},
        {"security_group_id": mine["id"], "remote_group_id": theirs["id"]},
        {"security_group_id": mine["id"], "remote_address_group_id": addresses["id"]},
    ):
        assert one.create("security_group_rule", direction="ingress", **wish).status == 404
    # An administrator may join them; the rule is seen by whom the group belongs to, and may be deleted there.
    rule = api.rule(mine, remote_group_id=theirs["id"])
    assert rule["project_id"] == ""
    assert one.get(f"security-group-rules/{rule['id']}")["security_group_rule"] == rule
    assert two.call("GET", f"/v2.0/security-group-rules/{rule['id']}").error == "SecurityGroupRuleNotFound"
    assert two.delete("security_group_rule", rule["id"]).status == 404
    assert api.as_project("p1", "reader").delete("security_group_rule", rule["id"]).status == 403
    assert one.delete("security_group_rule", rule["id"]).status == 204


SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"remote_ip_prefix": "0.0.0.0/0"}),
    ({"ethertype": "IPv6"}, {"ethertype": "IPv6", "remote_ip_prefix": "::/0"}),
    ({"protocol": "tcp"}, {"protocol": 6}),
    ({"protocol": "tcp"}, {"protocol": "tcp", "port_range_min": 1, "port_range_max": 65535}),
    ({"protocol": "icmp", "ethertype": "IPv6"}, {"protocol": 58, "ethertype": "IPv6"}),
    ({"remote_ip_prefix": "10.0.0.1"}, {"remote_ip_prefix": "10.0.0.1/32", "description": "again"}),
]

DIFFERENT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"ethertype": "IPv6"}),
    ({"protocol": "tcp"}, {"protocol": "udp"}),
    ({"remote_ip_prefix": "10.0.0.1/24"}, {"remote_ip_prefix": "10.0.0.0/24"}),
    (
        {"protocol": "tcp", "port_range_min": 1, "port_range_max": 2},
        {"protocol": "tcp", "port_range_min": 1, "port_range_max": 3},
    ),
    ({"protocol": "icmp", "port_range_min": 8}, {"protocol": "icmp", "port_range_min": 8, "port_range_max": 0}),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_the_same_rule_twice_is_refused(api: Api, group: Json, first: Json, second: Json) -> None:
    """Now or before, however it is written; in another group it is another rule."""
    rule = api.rule(group, **first)
    body = {"security_group_id": group["id"], "direction": "ingress"}
    answer = api.create("security_group_rule", **body, **second)
    assert (answer.status, answer.error) == (409, "SecurityGroupRuleExists")
    assert answer.message == f"Security group rule already exists. Rule id is {rule['id']}."
    assert api.delete("security_group_rule", rule["id"]).status == 204
    answer = api.bulk("security_group_rule", [{**body, **first}, {**body, **second}])
    assert (answer.status, answer.error) == (409, "DuplicateSecurityGroupRuleInPost")
    api.rule(group, **second)
    api.rule(api.group(), **first)


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_rules_that_differ_may_both_be(api: Api, group: Json, first: Json, second: Json) -> None:
    api.rule(group, **first)
    api.rule(group, **second)


def test_many_rules_are_made_at_once_for_one_group(api: Api, group: Json) -> None:
    bodies = [
        {
            "security_group_id": group["id"],
            "direction": "ingress",
            "protocol": "tcp",
            "port_range_min": port,
            "port_range_max": port,
        }
        for port in range(1, 21)
    ]
    answer = api.bulk("security_group_rule", bodies)
    assert [rule["port_range_min"] for rule in answer.body["security_group_rules"]] == list(range(1, 21))
    answer = api.bulk("security_group_rule", [bodies[0], {**bodies[0], "security_group_id": api.group()["id"]}])
    assert (answer.status, answer.error) == (400, "SecurityGroupNotSingleGroupRules")
    other = [{**body, "protocol": "udp", "project_id": f"p{place}"} for place, body in enumerate(bodies[:2])]
    answer = api.bulk("security_group_rule", other)
    assert (answer.status, answer.error) == (400, "SecurityGroupRulesNotSingleProject")
    wrong = [{**bodies[0], "protocol": "udp"}, {**bodies[0], "port_range_min": 9}]
    assert api.bulk("security_group_rule", wrong).error == "SecurityGroupInvalidPortRange"
    assert len(api.get(f"security-group-rules?security_group_id={group['id']}")["security_group_rules"]) == 22


def test_a_group_is_revised_with_its_rules(api: Api, group: Json) -> None:
    rule = api.rule(group)
    assert api.get(f"security-groups/{group['id']}")["security_group"]["revision_number"] == 2
    api.delete("security_group_rule", rule["id"])
    assert api.get(f"security-groups/{group['id']}")["security_group"]["revision_number"] == 3


def test_nothing_of_a_rule_changes_but_its_description(api: Api, group: Json) -> None:
    rule = api.rule(group)
    changed = api.update("security_group_rule", rule["id"], description="why").body["security_group_rule"]
    assert (changed["description"], changed["revision_number"]) == ("why", 2)
    for name, value in (("direction", "egress"), ("protocol", "tcp"), ("remote_ip_prefix", None)):
        answer = api.update("security_group_rule", rule["id"], **{name: value})
        assert (answer.status, answer.message) == (400, f"Cannot update read-only attribute {name}")


def test_rules_are_found_by_what_they_say(api: Api) -> None:
    default = api.default_group("p1")
    group = api.group(project_id="p1")
    addresses = api.made("address_group", project_id="p1")
    tcp = api.rule(group, protocol="tcp", port_range_min=80, port_range_max=81, project_id="p1")
    net = api.rule(group, remote_ip_prefix="10.0.0.1/24", project_id="p1")
    other = api.rule(group, remote_group_id=default["id"], project_id="p1", description="d")
    named = api.rule(group, remote_address_group_id=addresses["id"], project_id="p1")
    one = api.as_project("p1")

    def found(query: str) -> list[str]:
        return [rule["id"] for rule in one.get(f"security-group-rules?{query}")["security_group_rules"]]

    assert found("protocol=TCP") == found("port_range_min=80") == found("port_range_max=81") == [tcp["id"]]
    assert found("remote_ip_prefix=10.0.0.1/24") == found("normalized_cidr=10.0.0.0/24") == [net["id"]]
    assert found(f"remote_group_id={default['id']}&description=d") == [other["id"]]
    assert found(f"remote_address_group_id={addresses['id']}") == [named["id"]]
    assert len(found(f"security_group_id={group['id']}&direction=ingress&ethertype=ipv4")) == 4
    assert set(found("belongs_to_default_sg=true")) == {rule["id"] for rule in default["security_group_rules"]}
    assert len(found("belongs_to_default_sg=false")) == 6
    assert found("protocol=nonsense") == found("ethertype=x") == found("remote_ip_prefix=x") == []
    for key in ("protocol", "port_range_min", "remote_ip_prefix", "normalized_cidr", "remote_group_id", "direction"):
        first = found(f"sort_key={key}&limit=6")
        assert len({*first, *found(f"sort_key={key}&limit=6&marker={first[-1]}")}) == 10


def test_rules_of_the_default_group_say_so(api: Api) -> None:
    default = api.default_group("p1")
    assert {rule["belongs_to_default_sg"] for rule in default["security_group_rules"]} == {True}
    assert api.rule(default, protocol="tcp")["belongs_to_default_sg"] is True
