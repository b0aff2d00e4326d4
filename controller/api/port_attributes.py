"""The table of a port's attributes, the kinds that only ports have, and the filters that are no column.

A port's security groups are those of its identity, so they are a column of another table (`Ports` reads from the join).
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, select

from controller.api import kinds
from controller.api.attributes import ADMIN, ANYONE, NETWORK_OWNER, UNSET, Attribute
from controller.api.errors import AllowedAddressPairsMissingIP, DuplicateAddressPairInRequest, InvalidInput
from controller.api.query import lenient
from controller.api.resource import table
from controller.api.standard import admin_state, identifiers, standard, status
from controller.settings import Settings
from controller.store.schema import identities, identity_groups, ip_allocations, ports

LONGEST_HOST = 250
"""Bytes of a host's name: with the topic's prefix it must fit a routing key (AMQP 0-9-1: 255)."""

LARGEST_PROFILE = 4095
"""Bytes of a binding's profile as JSON, as in Neutron."""

_FIXED_IP = kinds.record({}, {"subnet_id": kinds.uuid_text, "ip_address": kinds.ip_address}, others=True)
_PAIR = kinds.record({"ip_address": kinds.address_or_cidr}, {"mac_address": kinds.unicast_mac})


def _fixed_ips(value: Any) -> list[dict[str, str]]:
    items: list[dict[str, str]] = kinds.list_of(_FIXED_IP)(value)
    addresses = [item["ip_address"] for item in items if "ip_address" in item]
    for place, address in enumerate(addresses):
        if address in addresses[:place]:
            raise kinds.Unfit(f"Duplicate IP address '{address}'")
    return items


def _pairs(value: Any) -> list[dict[str, str]]:
    if isinstance(value, list) and any(isinstance(pair, dict) and "ip_address" not in pair for pair in value):
        raise AllowedAddressPairsMissingIP
    pairs: list[dict[str, str]] = kinds.list_of(_PAIR)(value)
    for place, pair in enumerate(pairs):
        if pair in pairs[:place]:
            raise DuplicateAddressPairInRequest(mac_address=pair.get("mac_address"), ip_address=pair["ip_address"])
    return pairs


def _names_no_address(items: Any) -> bool:
    """Anybody who may use the network may choose the subnet; only its owner the address."""
    return not any("ip_address" in item for item in items)


ATTRIBUTES = table(
    *identifiers(ports),
    Attribute(
        "network_id", kind=kinds.uuid_text, post=ANYONE, column=ports.c.network_id, match=str, filter=True, sort=True
    ),
    admin_state(ports),
    status(ports),
    Attribute(
        "mac_address",
        kind=kinds.unicast_mac,
        post=NETWORK_OWNER,
        put=ADMIN,
        default=UNSET,
        column=ports.c.mac_address,
        match=lenient(kinds.mac),
        filter=True,
        sort=True,
    ),
    Attribute(
        "fixed_ips",
        kind=_fixed_ips,
        post=NETWORK_OWNER,
        put=NETWORK_OWNER,
        unless=_names_no_address,
        default=UNSET,
    ),
    Attribute(
        "device_id",
        kind=kinds.string(255),
        post=ANYONE,
        put=ANYONE,
        default="",
        column=ports.c.device_id,
        filter=True,
        sort=True,
    ),
    Attribute(
        "device_owner",
        kind=kinds.string(255),
        post=NETWORK_OWNER,
        put=NETWORK_OWNER,
        unless=lambda owner: not owner.startswith("network:"),
        default="",
        column=ports.c.device_owner,
        filter=True,
        sort=True,
    ),
    Attribute(
        "port_security_enabled",
        kind=kinds.boolean,
        post=NETWORK_OWNER,
        put=NETWORK_OWNER,
        default=UNSET,
        column=ports.c.port_security_enabled,
        filter=True,
    ),
    Attribute(
        "allowed_address_pairs",
        kind=kinds.none_is(list, _pairs),
        post=NETWORK_OWNER,
        put=NETWORK_OWNER,
        default=UNSET,
        column=ports.c.allowed_address_pairs,
    ),
    Attribute(
        "security_groups",
        kind=kinds.none_is(list, kinds.list_of(kinds.uuid_text, unique=True)),
        post=ANYONE,
        put=ANYONE,
        default=UNSET,
        column=identities.c.groups,
        shown=lambda groups: groups or [],
    ),
    Attribute(
        "binding:host_id",
        kind=kinds.none_is("", kinds.bytes_string(LONGEST_HOST)),
        post=ADMIN,
        put=ADMIN,
        see=ADMIN,
        default=UNSET,
        column=ports.c.host,
        filter=True,
    ),
    Attribute(
        "binding:profile",
        kind=kinds.none_is(dict, kinds.dictionary(LARGEST_PROFILE)),
        post=ADMIN,
        put=ADMIN,
        see=ADMIN,
        default=UNSET,
        column=ports.c.profile,
    ),
    # A virtual interface of Open vSwitch is the only kind that an agent of ours plugs.
    Attribute(
        "binding:vnic_type",
        kind=kinds.one_of("normal"),
        post=ANYONE,
        put=ANYONE,
        default="normal",
        column=ports.c.vnic_type,
    ),
    Attribute("binding:vif_type", see=ADMIN, column=ports.c.vif_type),
    Attribute("binding:vif_details", see=ADMIN, column=ports.c.vif_details),
    *standard(ports),
)


def fixed_ips_condition(values: Sequence[str], _: Settings) -> ColumnElement[bool]:
    """`fixed_ips=ip_address=A&fixed_ips=subnet_id=S`: ports with an address that meets all the keys."""
    wanted: dict[str, list[str]] = {}
    for value in values:
        key, found, text = value.partition("=")
        if not found or key not in ("ip_address", "subnet_id", "ip_address_substr"):
            raise InvalidInput(
                error_message=f"fixed_ips: {kinds.shown(value)} is not of the form <key>=[value] with a key of "
                "'ip_address', 'ip_address_substr' or 'subnet_id'"
            )
        wanted.setdefault(key, []).append(lenient(kinds.ip_address)(text) if key == "ip_address" else text)
    conditions: list[ColumnElement[bool]] = []
    for key, texts in wanted.items():
        if key == "ip_address_substr":
            conditions.extend(ip_allocations.c.ip_address.contains(text, autoescape=True) for text in texts)
        else:
            conditions.append(ip_allocations.c[key].in_(texts))
    return ports.c.id.in_(select(ip_allocations.c.port_id).where(and_(*conditions)))


def security_groups_condition(values: Sequence[str], _: Settings) -> ColumnElement[bool]:
    """`security_groups=A&security_groups=B`: ports with any of the groups."""
    with_one = select(identity_groups.c.identity).where(identity_groups.c.security_group_id.in_(values))
    return ports.c.identity.in_(with_one)
