"""Rows of security groups → topology: what the API shows becomes what a packet carries; what makes rules the same."""

from types import SimpleNamespace
from typing import Any

import pytest
from neutron_lib import constants as neutron

from controller.store.security import (
    PROTOCOLS,
    address_group_of,
    fingerprint,
    network,
    of_identities,
    of_rules,
    protocol_number,
    rule_of,
)
from selvedge.topics import group_topic, members_topic
from selvedge.topology import Membership, Rule

BLANK: dict[str, Any] = {
    "id": "r",
    "key": 1,
    "security_group_id": "g",
    "direction": "ingress",
    "ethertype": "IPv4",
    "protocol": None,
    "port_range_min": None,
    "port_range_max": None,
    "remote_ip_prefix": None,
    "normalized_cidr": None,
    "remote_group_id": None,
    "remote_address_group_id": None,
}


def rule(**values: Any) -> Rule:
    return rule_of(SimpleNamespace(**(BLANK | values)))


def test_protocols_are_neutrons() -> None:
    assert PROTOCOLS == neutron.IP_PROTOCOL_MAP


@pytest.mark.parametrize(
    ("text", "ethertype", "number"),
    [
        (None, "IPv4", None),
        ("any", "IPv4", None),
        ("0", "IPv6", None),
        ("ip", "IPv4", None),
        ("hopopt", "IPv6", 0),
        ("tcp", "IPv4", 6),
        ("6", "IPv6", 6),
        ("icmp", "IPv4", 1),
        ("icmp", "IPv6", 58),
        ("1", "IPv6", 58),
        ("icmpv6", "IPv6", 58),
        ("ipv6-icmp", "IPv6", 58),
        ("255", "IPv4", 255),
    ],
)
def test_a_protocol_is_a_number_whatever_the_tenant_wrote(text: str | None, ethertype: str, number: int | None) -> None:
    assert protocol_number(text, ethertype) == number


def test_a_rule_of_icmp_has_a_type_and_a_code() -> None:
    """Type 0 (echo reply) is a type, not the absence of one."""
    assert rule(protocol="icmp", port_range_min=0, port_range_max=0) == Rule("r", 1, "g", "ingress", 4, 1, 0, 0)
    assert rule(protocol="icmp", ethertype="IPv6", port_range_min=128).last is None


def test_a_rules_prefix_has_no_bits_beyond_its_length() -> None:
    assert rule(remote_ip_prefix="10.0.0.9/8", normalized_cidr="10.0.0.0/8").cidr == "10.0.0.0/8"
    assert network("10.0.0.9/8") == "10.0.0.0/8"
    assert network("2001:DB8::1") == "2001:db8::1/128"


def test_rules_are_in_the_topic_of_their_group() -> None:
    rows = [SimpleNamespace(**(BLANK | {"id": id, "security_group_id": group})) for id, group in ("ag", "bg", "ch")]
    assert {topic: [ref.id for ref in things] for topic, things in of_rules(rows).items()} == {
        group_topic("g"): ["a", "b"],
        group_topic("h"): ["c"],
    }


def test_an_identity_is_a_membership_in_each_of_its_groups() -> None:
    assert of_identities([(7, ("g", "h")), (8, ("h",))]) == {
        members_topic("g"): [Membership("g/7", "g", 7)],
        members_topic("h"): [Membership("h/7", "h", 7), Membership("h/8", "h", 8)],
    }


def test_an_address_group_is_prefixes_in_one_order() -> None:
    row = SimpleNamespace(id="a", key=3)
    assert address_group_of(row, ["fd00::/64", "10.0.0.1", "10.0.0.0/30"]).prefixes == (
        "10.0.0.0/30",
        "10.0.0.1/32",
        "fd00::/64",
    )


SAME: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"protocol": "tcp"}, {"protocol": "6"}),
    ({"protocol": "icmp", "ethertype": "IPv6"}, {"protocol": "ipv6-icmp", "ethertype": "IPv6"}),
    ({"protocol": "1", "ethertype": "IPv6"}, {"protocol": "icmpv6", "ethertype": "IPv6"}),
    ({"remote_ip_prefix": "0.0.0.0/0"}, {}),
    ({"id": "x", "key": 9, "normalized_cidr": "y"}, {}),
)

DIFFERENT: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
    ({"direction": "egress"}, {}),
    ({"ethertype": "IPv6"}, {}),
    ({"protocol": "tcp"}, {}),
    ({"port_range_min": 0}, {}),
    ({"port_range_min": 1, "port_range_max": 11}, {"port_range_min": 11, "port_range_max": 1}),
    ({"remote_ip_prefix": "10.0.0.1/24"}, {"remote_ip_prefix": "10.0.0.0/24"}),
    ({"remote_group_id": "a"}, {"remote_address_group_id": "a"}),
    ({"protocol": "icmp"}, {"protocol": "58"}),
)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_rules_that_neutron_calls_duplicates_have_one_fingerprint(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(BLANK | one) == fingerprint(BLANK | other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_rules_have_not(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert fingerprint(BLANK | one) != fingerprint(BLANK | other)
