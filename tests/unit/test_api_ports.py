"""Ports: addresses, MACs, binding, address pairs, port security."""

import ipaddress
from typing import Any

import pytest

from controller.settings import Settings
from controller.store.engine import Store
from tests.rest import Api, addresses

SLAAC = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
NOWHERE = "eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"


def test_a_port_has_neutron_s_attributes_and_defaults(api: Api) -> None:
    network = api.network(project_id="p1")
    subnet = api.subnet(network, "10.0.0.0/24")
    port = api.port(network, project_id="p1")
    assert api.get(f"ports/{port['id']}")["port"] == port
    assert port["mac_address"].startswith("fa:16:3e:")
    (fixed,) = port["fixed_ips"]
    assert fixed["subnet_id"] == subnet["id"]
    assert ipaddress.ip_address(fixed["ip_address"]) in ipaddress.ip_network("10.0.0.0/24")
    expected = {
        "name": "",
        "description": "",
        "project_id": "p1",
        "tenant_id": "p1",
        "network_id": network["id"],
        "admin_state_up": True,
        "status": "DOWN",
        "device_id": "",
        "device_owner": "",
        "port_security_enabled": True,
        "allowed_address_pairs": [],
        "security_groups": [api.default_group("p1")["id"]],
        "binding:host_id": "",
        "binding:profile": {},
        "binding:vnic_type": "normal",
        "binding:vif_type": "unbound",
        "binding:vif_details": {},
        "revision_number": 1,
    }
    assert {name: port[name] for name in expected} == expected
    assert set(port) == {*expected, "id", "mac_address", "fixed_ips", "created_at", "updated_at"}


def test_addresses_come_one_from_each_version_and_every_slaac_subnet(api: Api) -> None:
    network = api.network()
    four = [api.subnet(network, f"10.0.{n}.0/24")["id"] for n in range(2)]
    six = api.subnet(network, "fd00:1::/64")["id"]
    slaac = [api.subnet(network, f"fd00:{n}::/64", **SLAAC)["id"] for n in (2, 3)]
    port = api.port(network, mac_address="fa:16:3e:00:00:01")
    used = [one["subnet_id"] for one in port["fixed_ips"]]
    assert len(set(used) & set(four)) == 1
    assert set(used) == {*(set(used) & set(four)), six, *slaac}
    assert sorted(addresses(port)[-2:]) == ["fd00:2::f816:3eff:fe00:1", "fd00:3::f816:3eff:fe00:1"]


def test_addresses_may_be_asked_for(api: Api) -> None:
    """By subnet, by address, by both; several; and outside of the pools."""
    network = api.network()
    a = api.subnet(network, "10.0.0.0/24", allocation_pools=[{"start": "10.0.0.10", "end": "10.0.0.12"}])
    b = api.subnet(network, "10.0.1.0/24")
    wish = [
        {"subnet_id": a["id"]},
        {"ip_address": "10.0.1.200"},
        {"subnet_id": a["id"], "ip_address": "10.0.0.200"},
        {"subnet_id": b["id"]},
    ]
    port = api.port(network, fixed_ips=wish)
    assert [one["subnet_id"] for one in port["fixed_ips"]] == [a["id"], b["id"], a["id"], b["id"]]
    assert addresses(port)[0] in ("10.0.0.10", "10.0.0.11", "10.0.0.12")
    assert addresses(port)[1:3] == ["10.0.1.200", "10.0.0.200"]
    assert api.port(network, fixed_ips=[])["fixed_ips"] == []


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ([{"ip_address": "192.0.2.1"}], "InvalidIpForNetwork"),
        ([{"ip_address": "10.0.0.0"}], "InvalidIpForSubnet"),
        ([{"ip_address": "10.0.0.255"}], "InvalidIpForSubnet"),
        ([{"ip_address": "10.0.1.1", "subnet_id": "SUBNET"}], "InvalidIpForSubnet"),
        ([{"ip_address": "fd00::1", "subnet_id": "SUBNET"}], "InvalidIpForSubnet"),
        ([{"subnet_id": NOWHERE}], "InvalidInput"),
        ([{}], "InvalidInput"),
        ([{"subnet_id": "SUBNET"}] * 6, "InvalidInput"),
        ([{"ip_address": "fd02::9"}], "AllocationOnAutoAddressSubnet"),
        ([{"ip_address": "10.0.0.9"}, {"ip_address": "10.0.0.9"}], "HTTPBadRequest"),
        ([{"ip_address": "10.0.0.300"}], "HTTPBadRequest"),
        ([{"subnet": "SUBNET"}], "InvalidInput"),
        ("10.0.0.9", "HTTPBadRequest"),
        (None, "HTTPBadRequest"),
    ],
)
def test_addresses_that_cannot_be_are_refused(api: Api, wish: Any, error: str) -> None:
    network = api.network()
    subnet = api.subnet(network, "10.0.0.0/24")["id"]
    api.subnet(network, "fd02::/64", **SLAAC)
    if isinstance(wish, list):
        wish = [{key: subnet if text == "SUBNET" else text for key, text in item.items()} for item in wish]
    answer = api.create("port", network_id=network["id"], fixed_ips=wish)
    assert (answer.status, answer.error) == (400, error), answer
    assert api.get("ports")["ports"] == []


def test_an_address_is_given_out_once_and_comes_back(api: Api) -> None:
    network = api.network()
    api.subnet(network, "10.0.0.0/29")
    wish = [{"ip_address": "10.0.0.5"}]
    port = api.port(network, fixed_ips=wish)
    answer = api.create("port", network_id=network["id"], fixed_ips=wish)
    assert (answer.status, answer.error) == (409, "IpAddressInUse")
    both = [{"network_id": network["id"], "fixed_ips": [{"ip_address": "10.0.0.6"}]}] * 2
    assert api.bulk("port", both).error == "IpAddressInUse"
    api.delete("port", port["id"])
    api.port(network, fixed_ips=wish)


def test_exhaustion_is_definite_and_spills_to_the_next_subnet_first(api: Api) -> None:
    network = api.network()
    api.subnet(network, "10.0.0.0/29")
    answer = api.bulk("port", [{"network_id": network["id"]}] * 5)
    assert len({addresses(port)[0] for port in answer.body["ports"]}) == 5
    answer = api.create("port", network_id=network["id"])
    assert (answer.status, answer.error) == (409, "IpAddressGenerationFailure")
    api.subnet(network, "10.0.1.0/30")
    assert addresses(api.port(network)) == ["10.0.1.2"]
    assert api.bulk("port", [{"network_id": network["id"]}]).error == "IpAddressGenerationFailure"


def test_a_mac_is_given_out_once_in_a_network(api: Api) -> None:
    network, other = api.network(), api.network()
    mac = {"mac_address": "02-AA-BB-CC-DD-01"}
    assert api.port(network, **mac)["mac_address"] == "02:aa:bb:cc:dd:01"
    answer = api.create("port", network_id=network["id"], **mac)
    assert (answer.status, answer.error) == (409, "MacAddressInUse")
    api.port(other, **mac)
    body = {"network_id": other["id"], "mac_address": "02:aa:bb:cc:dd:02"}
    assert api.bulk("port", [body, body]).error == "MacAddressInUse"
    for wrong in ("01:00:5e:00:00:01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "02:aa", 7, None):
        assert api.create("port", network_id=network["id"], mac_address=wrong).error == "HTTPBadRequest"


def test_a_bound_port_waits_for_its_host(api: Api) -> None:
    port = api.port(api.network(), host="hv1", **{"binding:profile": {"a": [1]}})
    assert (port["status"], port["binding:vif_type"]) == ("DOWN", "ovs")
    assert port["binding:vif_details"] == {
        "connectivity": "l2",
        "port_filter": True,
        "ovs_hybrid_plug": False,
        "bridge_name": "br-int",
        "datapath_type": "system",
    }
    assert port["binding:profile"] == {"a": [1]}
    moved = api.update("port", port["id"], **{"binding:host_id": "hv2"}).body["port"]
    assert (moved["binding:host_id"], moved["binding:vif_type"], moved["status"]) == ("hv2", "ovs", "DOWN")
    loose = api.update("port", port["id"], **{"binding:host_id": None}).body["port"]
    assert (loose["binding:host_id"], loose["binding:vif_type"]) == ("", "unbound")
    assert loose["binding:vif_details"] == {}


@pytest.mark.parametrize(
    "wish",
    [
        {"binding:vnic_type": "direct"},
        {"binding:profile": "no"},
        {"binding:profile": {"a": "x" * 5000}},
        {"binding:host_id": "h" * 251},
        {"binding:host_id": "a\nb"},
        {"binding:host_id": 5},
        {"binding:vif_type": "ovs"},
        {"status": "ACTIVE"},
        {"id": NOWHERE},
        {"name": " x"},
        {"name": "x" * 256},
        {"device_id": 5},
        {"admin_state_up": "maybe"},
        {"network_id": None},
        {"what": "ever"},
    ],
)
def test_a_value_that_does_not_fit_is_named(api: Api, wish: dict[str, Any]) -> None:
    answer = api.create("port", **{"network_id": api.network()["id"], **wish})
    assert (answer.status, answer.error) == (400, "HTTPBadRequest")
    assert next(iter(wish)) in answer.message


def test_a_port_needs_a_network(api: Api) -> None:
    assert api.create("port").message == "Failed to parse request. Required attribute 'network_id' not specified"
    answer = api.create("port", network_id=NOWHERE)
    assert (answer.status, answer.message) == (404, f"Network {NOWHERE} could not be found.")


def test_a_bound_port_keeps_its_mac_and_a_new_mac_makes_new_addresses(api: Api) -> None:
    network = api.network()
    api.subnet(network, "fd00::/64", **SLAAC)
    port = api.port(network, host="hv1", mac_address="fa:16:3e:00:00:01")
    answer = api.update("port", port["id"], mac_address="fa:16:3e:00:00:02")
    assert (answer.status, answer.error) == (409, "PortBound")
    api.update("port", port["id"], **{"binding:host_id": ""})
    answer = api.update("port", port["id"], mac_address="fa:16:3e:00:00:02")
    assert addresses(answer.body["port"]) == ["fd00::f816:3eff:fe00:2"]
    assert api.get(f"ports/{port['id']}")["port"] == answer.body["port"]
    api.port(network, mac_address="fa:16:3e:00:00:01")
    assert api.update("port", port["id"], mac_address="fa:16:3e:00:00:01").error == "MacAddressInUse"


def test_addresses_change_by_what_differs(api: Api) -> None:
    network = api.network()
    subnet = api.subnet(network, "10.0.0.0/24")["id"]
    port = api.port(network, fixed_ips=[{"ip_address": "10.0.0.5"}, {"ip_address": "10.0.0.6"}])

    def change(*wish: dict[str, str]) -> list[str]:
        answer = api.update("port", port["id"], fixed_ips=list(wish))
        assert answer.status == 200, answer
        assert api.get(f"ports/{port['id']}")["port"] == answer.body["port"]
        return addresses(answer.body["port"])

    assert change({"ip_address": "10.0.0.6"}, {"ip_address": "10.0.0.7"}) == ["10.0.0.6", "10.0.0.7"]
    assert change({"subnet_id": subnet}, {"ip_address": "10.0.0.6"}) == ["10.0.0.6", "10.0.0.7"]
    assert change({"subnet_id": subnet}) == ["10.0.0.6"]
    assert change() == []
    assert len(change({"subnet_id": subnet}, {"subnet_id": subnet})) == 2
    other = api.port(network, fixed_ips=[{"ip_address": "10.0.0.9"}])
    answer = api.update("port", other["id"], fixed_ips=[{"ip_address": addresses(api.get("ports")["ports"][0])[0]}])
    assert answer.error in ("", "IpAddressInUse")


def test_an_address_of_another_port_cannot_be_taken_by_an_update(api: Api) -> None:
    network = api.network()
    api.subnet(network, "10.0.0.0/24")
    api.port(network, fixed_ips=[{"ip_address": "10.0.0.5"}])
    port = api.port(network, fixed_ips=[{"ip_address": "10.0.0.6"}])
    answer = api.update("port", port["id"], fixed_ips=[{"ip_address": "10.0.0.5"}])
    assert (answer.status, answer.error) == (409, "IpAddressInUse")
    assert addresses(api.get(f"ports/{port['id']}")["port"]) == ["10.0.0.6"]


def test_address_pairs_default_to_the_port_s_mac(api: Api) -> None:
    network = api.network()
    pairs = [{"ip_address": "10.0.0.0/24"}, {"ip_address": "FD00::0:5", "mac_address": "00-00-5E-00-01-01"}]
    port = api.port(network, allowed_address_pairs=pairs)
    assert port["allowed_address_pairs"] == [
        {"ip_address": "10.0.0.0/24", "mac_address": port["mac_address"]},
        {"ip_address": "fd00::5", "mac_address": "00:00:5e:00:01:01"},
    ]
    assert api.get(f"ports/{port['id']}")["port"] == port
    assert api.update("port", port["id"], port_security_enabled=False).error == "AddressPairAndPortSecurityRequired"
    bare = {"port_security_enabled": False, "allowed_address_pairs": None, "security_groups": None}
    answer = api.update("port", port["id"], **bare)
    assert answer.body["port"]["allowed_address_pairs"] == []


@pytest.mark.parametrize(
    ("pairs", "status", "error"),
    [
        ([{"mac_address": "00:00:5e:00:01:01"}], 400, "AllowedAddressPairsMissingIP"),
        ([{"ip_address": "10.0.0.5"}, {"ip_address": "10.0.0.5"}], 400, "DuplicateAddressPairInRequest"),
        ([{"ip_address": f"10.0.0.{n}"} for n in range(11)], 400, "AllowedAddressPairExhausted"),
        ([{"ip_address": "10.0.0.5/24"}], 400, "HTTPBadRequest"),
        ([{"ip_address": "224.0.0.5"}], 400, "HTTPBadRequest"),
        ([{"ip_address": "10.0.0.5", "mac_address": "01:00:5e:00:00:01"}], 400, "HTTPBadRequest"),
        ([{"ip_address": "10.0.0.5", "more": 1}], 400, "HTTPBadRequest"),
        (["10.0.0.5"], 400, "HTTPBadRequest"),
        ({"ip_address": "10.0.0.5"}, 400, "HTTPBadRequest"),
    ],
)
def test_address_pairs_that_cannot_be_are_refused(api: Api, pairs: Any, status: int, error: str) -> None:
    answer = api.create("port", network_id=api.network()["id"], allowed_address_pairs=pairs)
    assert (answer.status, answer.error) == (status, error), answer


def test_port_security_is_the_network_s_unless_said(api: Api) -> None:
    network = api.network(port_security_enabled=False)
    assert api.port(network)["port_security_enabled"] is False
    assert api.port(network, port_security_enabled=True)["port_security_enabled"] is True
    answer = api.create("port", network_id=network["id"], allowed_address_pairs=[{"ip_address": "10.0.0.5"}])
    assert (answer.status, answer.error) == (409, "AddressPairAndPortSecurityRequired")


def test_bulk_makes_ports_on_several_networks_all_or_nothing(api: Api) -> None:
    one, two = api.network(), api.network()
    api.subnet(one, "10.0.0.0/24")
    api.subnet(two, "10.0.0.0/24")
    bodies = [{"network_id": net["id"], "name": str(n)} for n, net in enumerate((one, two, one))]
    answer = api.bulk("port", bodies)
    assert [port["name"] for port in answer.body["ports"]] == ["0", "1", "2"]
    assert api.bulk("port", [*bodies, {"network_id": NOWHERE}]).error == "NetworkNotFound"
    assert len(api.get("ports")["ports"]) == 3


def test_limits_and_macs_are_the_operator_s(store: Store) -> None:
    api = Api(store, Settings(base_mac="02:5e:1f:77:00:00", max_fixed_ips_per_port=1, allow_bulk=False))
    network = api.network()
    subnet = api.subnet(network, "10.0.0.0/24")["id"]
    assert api.port(network)["mac_address"].startswith("02:5e:1f:77:")
    assert api.create("port", network_id=network["id"], fixed_ips=[{"subnet_id": subnet}] * 2).status == 400
    assert api.bulk("port", [{"network_id": network["id"]}]).status == 501
