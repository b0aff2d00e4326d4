"""What a rule allows: the attributes that security group rules and their template have in common, and Neutron's checks.

All of it is pure. A kind judges one value; `settle` judges a row as a whole and brings it into the form in which it is
stored: ICMP of IPv6 by its own name, the whole range of ports as no range, a prefix always with its length.
Whether the groups that it names exist is asked by those who write rows.
"""

import ipaddress
import re
from typing import Any

from sqlalchemy import Table

from controller.api import kinds
from controller.api.attributes import ANYONE, Attribute
from controller.api.errors import (
    InvalidCIDR,
    SecurityGroupEthertypeConflictWithProtocol,
    SecurityGroupInvalidIcmpValue,
    SecurityGroupInvalidPortRange,
    SecurityGroupInvalidPortValue,
    SecurityGroupInvalidProtocolForPort,
    SecurityGroupMissingIcmpType,
    SecurityGroupMultipleRemoteEntites,
    SecurityGroupProtocolRequiredWithPorts,
    SecurityGroupRuleInvalidEtherType,
    SecurityGroupRuleInvalidProtocol,
    SecurityGroupRuleParameterConflict,
)
from controller.api.resource import Row
from controller.store.security import PROTOCOLS, number_of

DIRECTIONS = ("ingress", "egress")
ETHERTYPES = ("IPv4", "IPv6")

WITH_PORTS = ("dccp", "sctp", "tcp", "udp", "udplite")
"""Protocols whose packets have ports."""

REMOTES = ("remote_ip_prefix", "remote_group_id", "remote_address_group_id")

_NUMBER = re.compile("[0-9]{1,18}")
_PORT_NUMBERS = {PROTOCOLS[name] for name in WITH_PORTS}
_ICMP_NUMBERS = {PROTOCOLS["icmp"], PROTOCOLS["ipv6-icmp"]}
_IPV6_NUMBERS = {number for name, number in PROTOCOLS.items() if name.startswith("ipv6-")}


def protocol(value: Any) -> str | None:
    """A protocol's name in lower case or its number as text; None for every one, which `any` stands for too."""
    if value is None:
        return None
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        text = str(value).lower()
        if text == "any":
            return None
        if text in PROTOCOLS:
            return text
        if _NUMBER.fullmatch(text.strip()) and int(text.strip()) <= 255:
            return str(int(text.strip()))
    raise SecurityGroupRuleInvalidProtocol(protocol=value, values=(None, "any", *PROTOCOLS))


def ethertype(value: Any) -> str:
    """IPv4 or IPv6, however it is spelt."""
    for known in ETHERTYPES:
        if isinstance(value, str) and value.lower() == known.lower():
            return known
    raise SecurityGroupRuleInvalidEtherType(ethertype=value, values=list(ETHERTYPES))


def port(value: Any) -> int | None:
    """A port's number, also as text; an ICMP type or code has the same form."""
    if value is None:
        return None
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        text = str(value).strip()
        if _NUMBER.fullmatch(text) and int(text) <= 65535:
            return int(text)
    raise SecurityGroupInvalidPortValue(port=value)


def prefix(value: Any) -> str | None:
    """A prefix with its length, and with the bits beyond it as they came; nothing at all stands for None."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and "%" not in value:
        try:
            return str(ipaddress.ip_interface(value))
        except ValueError:
            pass
    raise InvalidCIDR(input=value)


def _matching(kind: kinds.Kind, *refusals: type[Exception]) -> kinds.Kind:
    """A filter's form of a value: `kind`'s, or the value itself, which then finds nothing."""

    def match(value: Any) -> Any:
        try:
            return kind(value)
        except refusals:
            return value

    return match


def attributes(table: Table) -> tuple[Attribute, ...]:
    """The lines for a resource's table of attributes."""
    return (
        Attribute(
            "direction",
            kind=kinds.one_of(*DIRECTIONS),
            post=ANYONE,
            column=table.c.direction,
            filter=True,
            sort=True,
        ),
        Attribute(
            "ethertype",
            kind=ethertype,
            post=ANYONE,
            default="IPv4",
            column=table.c.ethertype,
            match=_matching(ethertype, SecurityGroupRuleInvalidEtherType),
            filter=True,
            sort=True,
        ),
        Attribute(
            "protocol",
            kind=protocol,
            post=ANYONE,
            default=None,
            column=table.c.protocol,
            match=_matching(protocol, SecurityGroupRuleInvalidProtocol),
            filter=True,
            sort=True,
        ),
        *(
            Attribute(name, kind=port, post=ANYONE, default=None, column=table.c[name], filter=True, sort=True)
            for name in ("port_range_min", "port_range_max")
        ),
        Attribute(
            "remote_ip_prefix",
            kind=prefix,
            post=ANYONE,
            default=None,
            column=table.c.remote_ip_prefix,
            match=_matching(prefix, InvalidCIDR),
            filter=True,
            sort=True,
        ),
        *(
            Attribute(
                name,
                kind=kinds.or_none(kinds.string(36)),
                post=ANYONE,
                default=None,
                column=table.c[name],
                filter=True,
                sort=True,
            )
            for name in ("remote_group_id", "remote_address_group_id")
        ),
    )


def settle(row: Row) -> None:
    """Brings a row that is about to be written into its stored form. Raises BadRequest."""
    if row["ethertype"] == "IPv6":
        if row["protocol"] in ("icmp", "icmpv6"):
            row["protocol"] = "ipv6-icmp"
        elif row["protocol"] == str(PROTOCOLS["icmp"]):
            row["protocol"] = str(PROTOCOLS["ipv6-icmp"])
    if (row["port_range_min"], row["port_range_max"]) == (1, 65535):
        row["port_range_min"] = row["port_range_max"] = None
    _check_range(row["protocol"], row["port_range_min"], row["port_range_max"])
    if row["remote_ip_prefix"] is not None and (":" in row["remote_ip_prefix"]) != (row["ethertype"] == "IPv6"):
        raise SecurityGroupRuleParameterConflict(ethertype=row["ethertype"], cidr=row["remote_ip_prefix"])
    if row["ethertype"] == "IPv4" and row["protocol"] is not None and number_of(row["protocol"]) in _IPV6_NUMBERS:
        raise SecurityGroupEthertypeConflictWithProtocol(ethertype=row["ethertype"], protocol=row["protocol"])
    if sum(row[name] is not None for name in REMOTES) > 1:
        raise SecurityGroupMultipleRemoteEntites


def _check_range(name: str | None, low: int | None, high: int | None) -> None:
    """Ports where packets have ports, type and code where they are ICMP, else nothing."""
    if low is None and high is None:
        return
    if name is None:
        raise SecurityGroupProtocolRequiredWithPorts
    number = number_of(name)
    if number in _PORT_NUMBERS:
        if low == 0 or high == 0:
            raise SecurityGroupInvalidPortValue(port=0)
        if low is None or high is None or low > high:
            raise SecurityGroupInvalidPortRange
    elif number in _ICMP_NUMBERS:
        for value, attribute, what in ((low, "port_range_min", "type"), (high, "port_range_max", "code")):
            if value is not None and value > 255:
                raise SecurityGroupInvalidIcmpValue(field=what, attr=attribute, value=value)
        if low is None:
            raise SecurityGroupMissingIcmpType(value=high)
    else:
        ports = ", ".join(name.upper() for name in WITH_PORTS)
        raise SecurityGroupInvalidProtocolForPort(protocol=number, valid_port_protocols=ports)
