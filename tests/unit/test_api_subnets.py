"""Subnets: defaults, pools, gateways, IPv6 modes, overlap, deletion."""

from typing import Any

import pytest

from tests.rest import Api, addresses

SLAAC = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}


def test_a_subnet_has_neutron_s_attributes_and_defaults(api: Api) -> None:
    network = api.network(project_id="p1")
    subnet = api.subnet(network, "10.0.0.0/24", project_id="p1")
    assert api.get(f"subnets/{subnet['id']}")["subnet"] == subnet
    expected = {
        "name": "",
        "description": "",
        "project_id": "p1",
        "tenant_id": "p1",
        "network_id": network["id"],
        "ip_version": 4,
        "cidr": "10.0.0.0/24",
        "gateway_ip": "10.0.0.1",
        "allocation_pools": [{"start": "10.0.0.2", "end": "10.0.0.254"}],
        "dns_nameservers": [],
        "host_routes": [],
        "enable_dhcp": True,
        "ipv6_ra_mode": None,
        "ipv6_address_mode": None,
        "subnetpool_id": None,
        "revision_number": 1,
    }
    assert {name: subnet[name] for name in expected} == expected
    assert set(subnet) == {*expected, "id", "created_at", "updated_at"}


def test_what_is_asked_for_is_kept_in_canonical_form(api: Api) -> None:
    wish = {
        "gateway_ip": "FD00:0:0:0::0FFF",
        "allocation_pools": [{"start": "fd00::0010", "end": "fd00::1F"}],
        "dns_nameservers": ["FD00::53"],
        "host_routes": [{"destination": "fd01:0::/32", "nexthop": "fd00::00fe"}],
    }
    subnet = api.subnet(api.network(), "FD00:0::/64", **wish)
    assert subnet["cidr"] == "fd00::/64"
    assert subnet["gateway_ip"] == "fd00::fff"
    assert subnet["allocation_pools"] == [{"start": "fd00::10", "end": "fd00::1f"}]
    assert subnet["dns_nameservers"] == ["fd00::53"]
    assert subnet["host_routes"] == [{"destination": "fd01::/32", "nexthop": "fd00::fe"}]


def test_host_bits_of_a_cidr_are_cleared(api: Api) -> None:
    subnet = api.subnet(api.network(), "10.0.0.7/24")
    assert (subnet["cidr"], subnet["gateway_ip"]) == ("10.0.0.0/24", "10.0.0.1")


def test_a_subnet_without_gateway_gives_out_the_first_address_too(api: Api) -> None:
    subnet = api.subnet(api.network(), "10.0.0.0/29", gateway_ip=None)
    assert subnet["gateway_ip"] is None
    assert subnet["allocation_pools"] == [{"start": "10.0.0.1", "end": "10.0.0.6"}]


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"cidr": "10.0.0.0/33"}, "HTTPBadRequest"),
        ({"cidr": "10.0.0.0"}, "InvalidInput"),
        ({"cidr": "soon"}, "HTTPBadRequest"),
        ({"cidr": None}, "BadRequest"),
        ({"ip_version": 5}, "HTTPBadRequest"),
        ({"ip_version": 6}, "InvalidInput"),
        ({"cidr": "10.0.0.0/31"}, "InvalidInput"),
        ({"cidr": "224.0.0.0/24"}, "InvalidInput"),
        ({"cidr": "127.0.0.0/24"}, "InvalidInput"),
        ({"cidr": "0.0.0.0/0"}, "InvalidInput"),
        ({"gateway_ip": "10.0.0.0"}, "InvalidInput"),
        ({"gateway_ip": "10.0.0.255"}, "InvalidInput"),
        ({"gateway_ip": "fd00::1"}, "InvalidInput"),
        ({"gateway_ip": "here"}, "HTTPBadRequest"),
        ({"allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.5"}]}, "InvalidAllocationPool"),
        ({"allocation_pools": [{"start": "fd00::1", "end": "fd00::2"}]}, "InvalidAllocationPool"),
        ({"allocation_pools": [{"start": "10.0.0.9"}]}, "HTTPBadRequest"),
        ({"allocation_pools": [{"start": "10.0.0.9", "end": "10.0.1.5"}]}, "OutOfBoundsAllocationPool"),
        ({"allocation_pools": [{"start": "10.0.0.1", "end": "10.0.0.5"}]}, "GatewayConflictWithAllocationPools"),
        (
            {"allocation_pools": [{"start": "10.0.0.2", "end": "10.0.0.5"}, {"start": "10.0.0.5", "end": "10.0.0.6"}]},
            "OverlappingAllocationPools",
        ),
        ({"dns_nameservers": ["fd00::1"]}, "InvalidInput"),
        ({"dns_nameservers": ["10.0.0.9", "10.0.0.9"]}, "HTTPBadRequest"),
        ({"dns_nameservers": [f"10.0.0.{n}" for n in range(9, 15)]}, "DNSNameServersExhausted"),
        ({"host_routes": [{"destination": "10.1.0.0/24", "nexthop": "fd00::1"}]}, "InvalidInput"),
        (
            {"host_routes": [{"destination": f"10.{n}.0.0/24", "nexthop": "10.0.0.9"} for n in range(21)]},
            "HostRoutesExhausted",
        ),
        ({"ipv6_ra_mode": "slaac"}, "InvalidInput"),
        ({"ipv6_address_mode": "maybe"}, "HTTPBadRequest"),
        ({"subnetpool_id": "eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"}, "HTTPBadRequest"),
        ({"network_id": "eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"}, "NetworkNotFound"),
        ({"network_id": "here"}, "HTTPBadRequest"),
    ],
)
def test_a_subnet_that_cannot_be_is_refused(api: Api, wish: dict[str, Any], error: str) -> None:
    network = api.network()
    answer = api.create("subnet", **{"network_id": network["id"], "cidr": "10.0.0.0/24", "ip_version": 4, **wish})
    status = {"OverlappingAllocationPools": 409, "GatewayConflictWithAllocationPools": 409, "NetworkNotFound": 404}
    assert (answer.status, answer.error) == (status.get(error, 400), error)
    if error == "HTTPBadRequest":
        assert next(iter(wish)) in answer.message
    assert api.get("subnets")["subnets"] == []


@pytest.mark.parametrize(
    ("modes", "cidr", "dhcp", "fine"),
    [
        (("slaac", "slaac"), "fd00::/64", True, True),
        (("slaac", None), "fd00::/64", True, True),
        ((None, "dhcpv6-stateless"), "fd00::/64", True, True),
        (("dhcpv6-stateful", "dhcpv6-stateful"), "fd00::/80", True, True),
        (("slaac", "dhcpv6-stateful"), "fd00::/64", True, False),
        (("slaac", "slaac"), "fd00::/80", True, False),
        (("slaac", "slaac"), "fd00::/64", False, False),
    ],
)
def test_ipv6_modes_must_make_sense_together(
    api: Api, modes: tuple[str | None, str | None], cidr: str, dhcp: bool, fine: bool
) -> None:
    names = zip(("ipv6_ra_mode", "ipv6_address_mode"), modes, strict=True)
    wish = {name: mode for name, mode in names if mode is not None}
    network = api.network()
    answer = api.create("subnet", network_id=network["id"], cidr=cidr, ip_version=6, enable_dhcp=dhcp, **wish)
    assert (answer.status, answer.error) == ((201, "") if fine else (400, "InvalidInput"))


def test_subnets_of_one_network_do_not_overlap(api: Api) -> None:
    network, other = api.network(), api.network()
    api.subnet(network, "10.0.0.0/24")
    for cidr in ("10.0.0.0/24", "10.0.0.128/25", "10.0.0.0/16"):
        answer = api.create("subnet", network_id=network["id"], cidr=cidr, ip_version=4)
        assert (answer.status, answer.error) == (400, "InvalidInput")
        assert "overlaps" in answer.message
    api.subnet(network, "10.0.1.0/24")
    api.subnet(other, "10.0.0.0/24")
    body = {"network_id": other["id"], "cidr": "10.9.0.0/24", "ip_version": 4}
    assert api.bulk("subnet", [body, body]).error == "InvalidInput"


def test_a_slaac_subnet_gives_and_takes_addresses_of_ports_that_are_there(api: Api) -> None:
    network = api.network()
    api.subnet(network, "10.0.0.0/24")
    port = api.port(network, host="hv1", mac_address="fa:16:3e:00:00:01")
    assert len(port["fixed_ips"]) == 1
    subnet = api.subnet(network, "fd00::/64", **SLAAC)
    after = api.get(f"ports/{port['id']}")["port"]
    assert addresses(after) == [*addresses(port), "fd00::f816:3eff:fe00:1"]
    assert after["revision_number"] == port["revision_number"] + 1
    assert api.delete("subnet", subnet["id"]).status == 204
    assert addresses(api.get(f"ports/{port['id']}")["port"]) == addresses(port)


def test_a_subnet_with_addresses_in_use_stays(api: Api) -> None:
    network = api.network()
    subnet = api.subnet(network, "10.0.0.0/24")
    port = api.port(network)
    answer = api.delete("subnet", subnet["id"])
    assert (answer.status, answer.error) == (409, "SubnetInUse")
    api.delete("port", port["id"])
    assert api.delete("subnet", subnet["id"]).status == 204
    assert api.delete("subnet", subnet["id"]).error == "SubnetNotFound"


def test_an_update_is_judged_like_a_create(api: Api) -> None:
    subnet = api.subnet(api.network(), "10.0.0.0/24", allocation_pools=[{"start": "10.0.0.10", "end": "10.0.0.20"}])
    id = subnet["id"]
    assert api.update("subnet", id, gateway_ip="10.0.0.15").error == "GatewayConflictWithAllocationPools"
    assert api.update("subnet", id, cidr="10.0.0.0/25").message == "Cannot update read-only attribute cidr"
    assert api.update("subnet", id, allocation_pools=[{"start": "10.0.0.1", "end": "10.0.0.2"}]).status == 409
    fine = {
        "name": "n",
        "gateway_ip": None,
        "allocation_pools": [{"start": "10.0.0.1", "end": "10.0.0.2"}],
        "dns_nameservers": ["10.0.0.53"],
        "host_routes": [{"destination": "0.0.0.0/0", "nexthop": "10.0.0.9"}],
        "enable_dhcp": False,
    }
    answer = api.update("subnet", id, **fine)
    assert answer.status == 200
    assert {name: answer.body["subnet"][name] for name in fine} == fine
    assert api.get(f"subnets/{id}")["subnet"] == answer.body["subnet"]


def test_a_gateway_that_a_router_has_stays(api: Api) -> None:
    network = api.network()
    subnet = api.subnet(network, "10.0.0.0/24")
    port = api.port(network, fixed_ips=[{"ip_address": "10.0.0.1"}], device_owner="network:router_interface")
    pools = [{"start": "10.0.0.2", "end": "10.0.0.9"}]
    answer = api.update("subnet", subnet["id"], gateway_ip="10.0.0.254", allocation_pools=pools)
    assert (answer.status, answer.error) == (409, "GatewayIpInUse")
    api.delete("port", port["id"])
    assert api.update("subnet", subnet["id"], gateway_ip="10.0.0.254", allocation_pools=pools).status == 200
