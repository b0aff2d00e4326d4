"""What a subnet may be: gateway, pools, IPv6 modes, routes, judged against its CIDR. Pure; errors are the API's."""

from collections.abc import Mapping, Sequence
from typing import Any

from controller.api.attributes import UNSET
from controller.api.errors import (
    BadRequest,
    DNSNameServersExhausted,
    GatewayConflictWithAllocationPools,
    HostRoutesExhausted,
    InvalidAllocationPool,
    InvalidInput,
    OutOfBoundsAllocationPool,
    OverlappingAllocationPools,
)
from controller.ipam import pools as ipam_pools
from controller.ipam.addresses import Space, number, space, text
from controller.ipam.intervals import Interval, Intervals
from controller.settings import Settings

IPV6_MODES = ("slaac", "dhcpv6-stateful", "dhcpv6-stateless")

AUTOMATIC = frozenset({"slaac", "dhcpv6-stateless"})
"""Modes in which hosts make their own addresses from the prefix and their MAC."""


def is_automatic(row: Mapping[str, Any]) -> bool:
    """Whether hosts make their own addresses in this subnet."""
    return row["ipv6_address_mode"] in AUTOMATIC or row["ipv6_ra_mode"] in AUTOMATIC


def numeric(pools: Sequence[Mapping[str, str]]) -> list[Interval]:
    """Pools as pairs of numbers."""
    return [(number(pool["start"]), number(pool["end"])) for pool in pools]


def textual(version: int, pools: Intervals) -> list[dict[str, str]]:
    """The inverse of `numeric`."""
    return [{"start": text(version, first), "end": text(version, last)} for first, last in pools]


def plan(row: dict[str, Any], settings: Settings) -> None:
    """Completes a new subnet's row: every UNSET becomes a value. Raises BadRequest and Conflict."""
    if row["cidr"] is UNSET or row["cidr"] is None:
        raise BadRequest(resource="subnets", msg="a subnetpool must be specified in the absence of a cidr")
    for name in ("ipv6_ra_mode", "ipv6_address_mode"):
        if row[name] is UNSET:
            row[name] = None
    where = space(row["cidr"])
    if where.version != row["ip_version"]:
        raise _mismatch("cidr", row["cidr"], row["ip_version"])
    _check_cidr(row, where)
    _check_modes(row, where)
    if row["gateway_ip"] is UNSET:
        gateway = ipam_pools.default_gateway(where)
        row["gateway_ip"] = None if gateway is None else text(where.version, gateway)
    check_gateway(row, where)
    gateway = None if row["gateway_ip"] is None else number(row["gateway_ip"])
    if row["allocation_pools"] is UNSET:
        row["allocation_pools"] = textual(where.version, ipam_pools.default_pools(where, gateway))
    else:
        check_pools(row, where)
    for name in ("dns_nameservers", "host_routes"):
        if row[name] is UNSET:
            row[name] = []
    check_options(row, settings)


def _mismatch(name: str, value: str, version: int) -> InvalidInput:
    return InvalidInput(error_message=f"{name} '{value}' does not match the ip_version '{version}'")


def _check_cidr(row: Mapping[str, Any], where: Space) -> None:
    cidr = row["cidr"]
    if where.prefix == 0:
        raise InvalidInput(error_message="0 is not supported as CIDR prefix length")
    if row["enable_dhcp"]:
        if where.prefix > (30 if where.version == 4 else 126):
            raise InvalidInput(
                error_message=f"Invalid CIDR {cidr}: Subnet has a prefix length that is incompatible with DHCP service "
                "enabled"
            )
        multicast = where.first >> 28 == 0xE if where.version == 4 else where.first >> 120 == 0xFF
        if multicast:
            raise InvalidInput(
                error_message=f"cidr {cidr}: Multicast IP subnet is not supported if enable_dhcp is True"
            )
        loopback = where.first >> 24 == 127 if where.version == 4 else where.first == where.last == 1
        if loopback:
            raise InvalidInput(error_message=f"cidr {cidr}: Loopback IP subnet is not supported if enable_dhcp is True")


def _check_modes(row: Mapping[str, Any], where: Space) -> None:
    advertised, addressed = row["ipv6_ra_mode"], row["ipv6_address_mode"]
    if advertised is None and addressed is None:
        return
    if where.version == 4:
        name = "ipv6_ra_mode" if advertised is not None else "ipv6_address_mode"
        raise InvalidInput(error_message=f"{name} is not valid when ip_version is 4")
    if not row["enable_dhcp"]:
        raise InvalidInput(
            error_message="ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False"
        )
    if advertised is not None and addressed is not None and advertised != addressed:
        raise InvalidInput(
            error_message=f"ipv6_ra_mode set to '{advertised}' with ipv6_address_mode set to '{addressed}' is not "
            "valid. If both attributes are set, they must be the same value"
        )
    if is_automatic(row) and where.prefix != 64:
        raise InvalidInput(
            error_message=f"Invalid CIDR {row['cidr']} for IPv6 address mode. OpenStack uses the EUI-64 address "
            "format, which requires the prefix to be /64"
        )


def check_gateway(row: Mapping[str, Any], where: Space) -> None:
    """The gateway's version, and that a host may have its address."""
    gateway = row["gateway_ip"]
    if gateway is None:
        return
    if (":" in gateway) != (where.version == 6):
        raise _mismatch("gateway_ip", gateway, where.version)
    if not ipam_pools.gateway_fits(where, number(gateway)):
        raise InvalidInput(error_message="gateway_ip: Gateway is not valid on subnet")


def check_pools(row: Mapping[str, Any], where: Space) -> None:
    """That pools lie in the subnet, apart from each other and from the gateway."""
    names = [f"{pool['start']}-{pool['end']}" for pool in row["allocation_pools"]]
    for pool, name in zip(row["allocation_pools"], names, strict=True):
        if any((":" in pool[end]) != (where.version == 6) for end in ("start", "end")):
            raise InvalidAllocationPool(pool=name)
    gateway = None if row["gateway_ip"] is None else number(row["gateway_ip"])
    fault = ipam_pools.fault(where, numeric(row["allocation_pools"]), gateway)
    if fault is None:
        return
    blamed = names[fault.pools[0]]
    if fault.kind == "reversed":
        raise InvalidAllocationPool(pool=blamed)
    if fault.kind == "outside":
        raise OutOfBoundsAllocationPool(pool=blamed, cidr=row["cidr"])
    if fault.kind == "overlap":
        raise OverlappingAllocationPools(pool_1=blamed, pool_2=names[fault.pools[1]], cidr=row["cidr"])
    raise GatewayConflictWithAllocationPools(ip_address=row["gateway_ip"], pool=blamed)


def check_options(row: Mapping[str, Any], settings: Settings) -> None:
    """Routes and name servers: their numbers and versions."""
    if len(row["dns_nameservers"]) > settings.max_dns_nameservers:
        raise DNSNameServersExhausted(id=row["id"], quota=settings.max_dns_nameservers)
    if len(row["host_routes"]) > settings.max_subnet_host_routes:
        raise HostRoutesExhausted(id=row["id"], quota=settings.max_subnet_host_routes)
    version = row["ip_version"]
    for server in row["dns_nameservers"]:
        if (":" in server) != (version == 6):
            raise _mismatch("dns_nameserver", server, version)
    for route in row["host_routes"]:
        for end in ("destination", "nexthop"):
            if (":" in route[end]) != (version == 6):
                raise _mismatch(end, route[end], version)
