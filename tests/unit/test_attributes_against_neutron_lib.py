"""Our attribute tables against neutron-lib's: the same attributes, rights, defaults, and judgement of values.

neutron-lib is the oracle; it is never imported outside of this test. What it lacks of security groups is in
`neutron_security`. Every difference that the comparison finds must
be listed in `DIFFERENCES` with its reason, and whatever is listed must exist: a difference that was mended has to go
from the list.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from neutron_lib import constants
from neutron_lib import exceptions as oracle_exceptions
from neutron_lib.api import attributes as oracle_attributes
from neutron_lib.api.definitions import (
    aap_reject_multicast,
    address_group,
    agent,
    allowedaddresspairs,
    empty_string_filtering,
    filter_validation,
    ip_substring_port_filtering,
    network,
    network_mtu,
    network_mtu_writable,
    pagination,
    port,
    port_security,
    portbindings,
    project_id,
    provider_net,
    revisionifmatch,
    security_groups_normalized_cidr,
    security_groups_port_filtering,
    security_groups_remote_address_group,
    security_groups_rules_belongs_to_default_sg,
    sort_key_validation,
    sorting,
    stateful_security_group,
    subnet,
)
from neutron_lib.exceptions import address_group as address_group_exceptions
from neutron_lib.exceptions import port_security as port_security_exceptions
from oslo_config import cfg
from webob import exc

from controller.api import errors
from controller.api.app import RESOURCES as OURS
from controller.api.attributes import ADMIN, NOBODY, REQUIRED, UNSET, Attribute, Who, convert
from controller.api.errors import ApiError
from controller.api.extensions import EXTENSIONS
from controller.api.resource import Resource
from tests.unit import neutron_security

DEFINITIONS = (
    network,
    subnet,
    port,
    agent,
    provider_net,
    network_mtu_writable,
    port_security,
    portbindings,
    allowedaddresspairs,
    address_group,
    stateful_security_group,
    security_groups_normalized_cidr,
    security_groups_remote_address_group,
    security_groups_rules_belongs_to_default_sg,
)

CLAIMS = (
    aap_reject_multicast,
    empty_string_filtering,
    filter_validation,
    ip_substring_port_filtering,
    network_mtu,
    pagination,
    project_id,
    revisionifmatch,
    security_groups_port_filtering,
    sort_key_validation,
    sorting,
)
"""Definitions of extensions without attributes."""

RESOURCES: dict[str, Resource] = {one.plural: one for one in OURS}

STANDARD = {"project_id", "description", "created_at", "updated_at", "revision_number"}
"""Attributes whose definitions are not in neutron-lib but in Neutron."""

DIFFERENCES: dict[str, str] = {
    "networks.name values": "a newline at the end escapes neutron-lib's pattern by an oddity of `$`",
    "networks.subnets default": "a list that nobody can post has no default to fill in",
    "networks.mtu values": "booleans and fractions are no integers, and numbers must fit the database's",
    "networks.provider:physical_network values": "null is as good as absent: several clients send it",
    "networks.provider:segmentation_id values": "as mtu; and null is as good as absent",
    "subnets.name values": "as networks.name",
    "subnets.cidr values": "host bits are cleared here, in Neutron one step later; null is refused one step later here",
    "subnets.allocation_pools values": "an empty string or dictionary is no list of pools",
    "subnets.dns_nameservers values": "the same; and addresses are stored in canonical form, as all others",
    "subnets.prefixlen missing": "sizes a subnet that is cut from a subnet pool; there are no pools yet",
    "subnets.shared missing": "never shown; the filter exists (`Subnets.special`)",
    "subnets.subnetpool_id default": "there are no subnet pools yet: null is the only value",
    "subnets.subnetpool_id filter": "there are no subnet pools yet",
    "subnets.subnetpool_id sort": "there are no subnet pools yet",
    "subnets.subnetpool_id values": "there are no subnet pools yet",
    "ports.name values": "as networks.name",
    "ports.fixed_ips values": "keys that mean nothing are dropped at once; Neutron drops them later",
    "ports.mac_address values": "a number is no MAC, and a multicast MAC is no port's: no switch would learn it",
    "ports.binding:vif_type default": "set by the binding; nobody can post it",
    "ports.binding:vif_details default": "set by the binding; nobody can post it",
    "ports.binding:vnic_type values": "only what an agent of ours can plug is accepted, instead of failing to bind",
    "ports.binding:host_id values": "a host's name must fit a routing key; neutron-lib accepts anything at all",
    "ports.binding:profile values": "null is stored as the empty dictionary, which is what Neutron shows for it",
    "address_groups.name values": "as networks.name",
    "address_groups.description values": "as every description: 255 characters (Neutron's column); null is empty",
    "address_groups.addresses values": "canonical and each once, which Neutron makes of them when it stores them",
    "address_groups.shared missing": "never shown; sharing comes with RBAC",
    "default_security_group_rules.description put": "the template's rules have no update (405)",
    "default_security_group_rules.description values": "as address_groups.description",
    "security_group_rules.protocol values": "booleans and fractions are no numbers, and a number has one form",
    "security_group_rules.port_range_min values": "booleans and fractions are no ports",
    "security_group_rules.port_range_max values": "booleans and fractions are no ports",
    "security_group_rules.remote_ip_prefix values": "only null and the empty string say that there is none",
    "security_group_rules.remote_group_id values": "what cannot be an identifier is refused at once",
    "security_group_rules.remote_address_group_id values": "the same",
    "default_security_group_rules.protocol values": "booleans and fractions are no numbers, and a number has one form",
    "default_security_group_rules.port_range_min values": "booleans and fractions are no ports",
    "default_security_group_rules.port_range_max values": "booleans and fractions are no ports",
    "default_security_group_rules.remote_ip_prefix values": "only null and the empty string say that there is none",
    "default_security_group_rules.remote_group_id values": "what cannot be an identifier is refused at once",
    "default_security_group_rules.remote_address_group_id values": "the same",
}


def merged(plural: str) -> dict[str, dict[str, Any]]:
    """Neutron's definition of a resource, with the extensions that we claim."""
    table: dict[str, dict[str, Any]] = {}
    for own in (neutron_security.GROUPS, neutron_security.TEMPLATE):
        table.update(own.get(plural, {}))
    for definition in DEFINITIONS:
        table.update(definition.RESOURCE_ATTRIBUTE_MAP.get(plural, {}))
    return table


SAMPLES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    4,
    5,
    6,
    1500,
    2**31,
    1.5,
    "",
    "a",
    " a",
    "a\n",
    "ü",
    "x" * 255,
    "x" * 256,
    "true",
    "no",
    "4",
    "4.0",
    [],
    {},
    [1],
    ["a"],
    ["a", "a"],
    {"a": 1},
    "normal",
    "direct",
    "slaac",
    "default",
    "Default",
    "ingress",
    "any",
    "TCP",
    "icmpv6",
    "hopopt",
    "006",
    " 6 ",
    255,
    256,
    65535,
    65536,
    "65535",
    "ipV6",
    "PARENT",
    "10.0.0.0/0.0.255.255",
    ["10.0.0.0/24", "fd00::/64"],
    ["10.0.0.1/24", "10.0.0.0/24"],
    ["10.0.0.0/24", "10.0.0.0/24"],
    ["eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"],
    ["eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"] * 2,
    "dhcpv6-stateful",
    "eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1",
    "EB5FB9BF29B34BC2A1D141A9D9D4D9A1",
    "eb5fb9bf",
    "fa:16:3e:00:00:01",
    "FA-16-3E-00-00-01",
    "fa163e000001",
    "fa16.3e00.0001",
    "01:00:5e:00:00:01",
    "00:00:00:00:00:00",
    "ff:ff:ff:ff:ff:ff",
    "fa:16:3e:00:00",
    "10.0.0.1",
    "10.0.0.01",
    "10.0.0.300",
    "10.0.0",
    "fd00::1",
    "FD00:0::1",
    "fd00::1%eth0",
    "10.0.0.0/24",
    "10.0.0.1/24",
    "10.0.0.0/33",
    "10.0.0.0/255.255.255.0",
    "FD00::/64",
    "fd00::1/64",
    [{"start": "10.0.0.1", "end": "10.0.0.2"}],
    [{"start": "FD00::1", "end": "fd00::2"}],
    [{"start": "10.0.0.1"}],
    [{"start": "a", "end": "b"}],
    ["10.0.0.53", "FD00::53"],
    ["10.0.0.53", "10.0.0.53"],
    ["host.example"],
    [{"destination": "10.0.0.0/24", "nexthop": "10.1.0.1"}],
    [{"destination": "10.0.0.1/24", "nexthop": "10.1.0.1"}],
    [{"destination": "10.0.0.0/24"}],
    [{"ip_address": "10.0.0.1"}],
    [{"ip_address": "10.0.0.1"}] * 2,
    [{"subnet_id": "eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"}],
    [{"subnet_id": "x"}],
    [{"ip_address": "x"}],
    [{"ip_address": "10.0.0.0/24"}],
    [{"ip_address": "10.0.0.1", "mac_address": "fa:16:3e:00:00:01"}],
    [{"ip_address": "10.0.0.1", "mac_address": "01:00:5e:00:00:01"}],
    [{"mac_address": "fa:16:3e:00:00:01"}],
    [{"ip_address": "224.0.0.1"}],
    [{"ip_address": "10.0.0.1", "x": 1}],
)


@pytest.fixture(autouse=True, scope="module")
def oracle_options() -> Iterator[None]:
    """Options that Neutron registers and neutron-lib's validators read."""
    options = [cfg.IntOpt("max_allowed_address_pair", default=10)]
    cfg.CONF.register_opts(options)
    neutron_security.register()
    yield
    cfg.CONF.unregister_opts(options)


def oracle(definition: Mapping[str, Any]) -> Callable[[Any], Any]:
    def judge(value: Any) -> Any:
        values = {"value": value}
        try:
            oracle_attributes.AttributeInfo({"value": dict(definition)}).convert_values(values)
        except (
            exc.HTTPException,
            oracle_exceptions.NeutronException,
            TypeError,
            AttributeError,
            ValueError,
            LookupError,
        ):
            # What crashes Neutron with a 500 counts as refused.
            return "refused"
        return values["value"]

    return judge


def ours(attribute: Attribute) -> Callable[[Any], Any]:
    def judge(value: Any) -> Any:
        try:
            return convert(attribute, value)
        except ApiError:
            return "refused"

    return judge


def compare(plural: str, name: str) -> dict[str, object]:
    """Aspects of one attribute that differ → what differs."""
    attribute, definition = RESOURCES[plural].attributes.get(name), merged(plural)[name]
    if attribute is None:
        return {"missing": definition}
    default = definition.get("default", REQUIRED)
    expected_default = UNSET if default is constants.ATTR_NOT_SPECIFIED else default
    found: dict[str, tuple[object, object]] = {
        "post": (attribute.post is not NOBODY, definition["allow_post"]),
        "put": (attribute.put is not NOBODY, definition["allow_put"]),
        "visible": (True, definition["is_visible"]),
        "filter": (
            attribute.filter or name in RESOURCES[plural].behaviour.special,
            definition.get("is_filter", False) or attribute.filter,
        ),
        "sort": (attribute.sort, definition.get("is_sort_key", False) or attribute.sort),
        "default": (attribute.default, expected_default),
    }
    differing: dict[str, object] = {aspect: pair for aspect, pair in found.items() if pair[0] != pair[1]}
    if definition["allow_post"] or definition["allow_put"]:
        theirs, mine = oracle(definition), ours(attribute)
        values = {repr(sample): (mine(sample), theirs(sample)) for sample in SAMPLES if mine(sample) != theirs(sample)}
        if values:
            differing["values"] = values
    return differing


def test_every_difference_has_its_reason() -> None:
    found = {
        f"{plural}.{name} {aspect}": detail
        for plural in RESOURCES
        for name in merged(plural)
        if name != "tenant_id"
        for aspect, detail in compare(plural, name).items()
    }
    assert {name: detail for name, detail in found.items() if name not in DIFFERENCES} == {}
    assert set(DIFFERENCES) - set(found) == set(), "these differences are gone: take them from the list"


@pytest.mark.parametrize("plural", RESOURCES)
def test_we_invent_no_attributes(plural: str) -> None:
    known = set(merged(plural)) | (STANDARD if plural != "agents" else set())
    assert set(RESOURCES[plural].attributes) - known == set()


def test_tenant_id_is_project_id() -> None:
    """Neutron's table has `tenant_id`; ours has `project_id` with the same rights, and shows both."""
    for plural in ("networks", "subnets", "ports", "security_groups", "security_group_rules"):
        definition, attribute = merged(plural)["tenant_id"], RESOURCES[plural].attributes["project_id"]
        assert (attribute.post is not NOBODY, attribute.put is not NOBODY) == (True, False)
        assert (definition["allow_post"], definition["allow_put"]) == (True, False)
        assert definition["is_filter"] and attribute.filter and definition["is_sort_key"] and attribute.sort


def test_what_neutron_protects_by_policy_is_not_for_everybody() -> None:
    """`enforce_policy` attributes are an administrator's, a network owner's, or anybody's by Neutron's defaults."""
    by_default_anybody = {"mtu", "port_security_enabled", "device_id", "binding:vnic_type"}
    for plural, resource in RESOURCES.items():
        for name, definition in merged(plural).items():
            attribute = resource.attributes.get(name)
            if attribute is None or not definition.get("enforce_policy") or name in by_default_anybody:
                continue
            assert Who.ANYONE not in (attribute.post, attribute.put) or attribute.see is ADMIN, name


def test_claims_are_described_as_neutron_describes_them() -> None:
    definitions = [*DEFINITIONS[3:], *CLAIMS]
    assert set(EXTENSIONS) - {definition.ALIAS for definition in definitions} == {
        # Defined in Neutron itself.
        "security-group",
        "security-groups-default-rules",
        "standard-attr-description",
        "standard-attr-revisions",
        "standard-attr-timestamp",
    }
    for definition in definitions:
        if definition.ALIAS in EXTENSIONS:
            extension = EXTENSIONS[definition.ALIAS]
            assert extension.name == definition.NAME
            assert extension.description == definition.DESCRIPTION
            assert extension.updated == definition.UPDATED_TIMESTAMP


def test_errors_have_neutron_s_texts() -> None:
    """Every error of ours that neutron-lib has too says the same, up to the names of its fields."""
    compared = 0
    defined = {**vars(oracle_exceptions), **vars(address_group_exceptions), **vars(port_security_exceptions)}
    for name, mine in vars(errors).items():
        theirs = defined.get(name)
        if (
            not (isinstance(mine, type) and issubclass(mine, ApiError))
            or theirs is None
            or "message" not in vars(theirs)
        ):
            continue
        expected = re.sub(r"%\(\w+\)s", "*", str(theirs.message))
        found = re.sub(r"\{\w+\}", "*", mine.text)
        if name in ("NotFound", "Conflict"):
            continue
        if name in ("NetworkInUse", "SubnetInUse"):
            # The reason is a field in neutron-lib whose default we say.
            assert found.startswith(expected.split("*")[0]), name
        else:
            assert found == expected, name
        compared += 1
    assert compared > 26
