"""Networks: provider attributes, numbers, MTU, sharing, deletion."""

import pytest

from controller.settings import Networks, Settings
from controller.store.engine import Store
from tests.rest import Api


def test_a_network_has_neutron_s_attributes_and_defaults(api: Api) -> None:
    network = api.network(name="blue", project_id="p1")
    assert api.get(f"networks/{network['id']}")["network"] == network
    number = network["provider:segmentation_id"]
    assert 1 <= number < 2**24
    assert network["created_at"] == network["updated_at"]
    expected = {
        "name": "blue",
        "description": "",
        "project_id": "p1",
        "tenant_id": "p1",
        "admin_state_up": True,
        "status": "ACTIVE",
        "shared": False,
        "subnets": [],
        "mtu": 1438,
        "port_security_enabled": True,
        "provider:network_type": "geneve",
        "provider:physical_network": None,
        "provider:segmentation_id": number,
        "revision_number": 1,
    }
    assert {name: network[name] for name in expected} == expected
    assert set(network) == {*expected, "id", "created_at", "updated_at"}


@pytest.mark.parametrize(
    ("kind", "more", "mtu", "physical"),
    [
        ("geneve", {}, 1438, None),
        ("vxlan", {}, 1450, None),
        ("vxlan", {"provider:segmentation_id": 7}, 1450, None),
        ("vlan", {"provider:physical_network": "physnet1"}, 1500, "physnet1"),
        ("vlan", {"provider:physical_network": "physnet1", "provider:segmentation_id": 4000}, 1500, "physnet1"),
        ("vlan", {}, 1500, "physnet1"),
        ("flat", {"provider:physical_network": "physnet2"}, 1500, "physnet2"),
    ],
)
def test_each_kind_has_its_number_and_mtu(
    api: Api, kind: str, more: dict[str, object], mtu: int, physical: str | None
) -> None:
    """Numbers outside of the configured ranges are an administrator's to give; the rest is drawn from them."""
    network = api.network(**{"provider:network_type": kind, **more})
    assert (network["mtu"], network["provider:physical_network"]) == (mtu, physical)
    number = network["provider:segmentation_id"]
    if kind == "flat":
        assert number is None
    elif "provider:segmentation_id" in more:
        assert number == more["provider:segmentation_id"]
    else:
        assert number in (range(100, 110) if kind == "vlan" else range(1, 2**24))


@pytest.mark.parametrize(
    "wish",
    [
        {"provider:network_type": "token-ring"},
        {"provider:segmentation_id": 5},
        {"provider:network_type": "geneve", "provider:physical_network": "physnet1"},
        {"provider:network_type": "geneve", "provider:segmentation_id": 0},
        {"provider:network_type": "vxlan", "provider:segmentation_id": 2**24},
        {"provider:network_type": "vlan", "provider:segmentation_id": 5},
        {"provider:network_type": "vlan", "provider:physical_network": "physnet1", "provider:segmentation_id": 4095},
        {"provider:network_type": "vlan", "provider:physical_network": "nowhere"},
        {"provider:network_type": "flat"},
        {"provider:network_type": "flat", "provider:physical_network": "nowhere"},
        {"provider:network_type": "flat", "provider:physical_network": "physnet1", "provider:segmentation_id": 5},
    ],
)
def test_a_segment_that_cannot_be_is_refused(api: Api, wish: dict[str, object]) -> None:
    answer = api.create("network", **wish)
    assert (answer.status, answer.error) == (400, "InvalidInput")
    assert any(word in answer.message for word in ("provider:", "physical_network")), answer
    assert api.get("networks")["networks"] == []


def test_a_number_is_given_out_once(api: Api) -> None:
    vlan = {"provider:network_type": "vlan", "provider:physical_network": "physnet1", "provider:segmentation_id": 100}
    geneve = {"provider:network_type": "geneve", "provider:segmentation_id": 5}
    flat = {"provider:network_type": "flat", "provider:physical_network": "physnet1"}
    for wish, error in ((vlan, "VlanIdInUse"), (geneve, "TunnelIdInUse"), (flat, "FlatNetworkInUse")):
        api.network(**wish)
        answer = api.create("network", **wish)
        assert (answer.status, answer.error) == (409, error)
        twice = api.bulk("network", [{**wish, "name": "a"}, {**wish, "name": "b"}])
        assert (twice.status, twice.error) == (409, error)
    assert api.network(**{**geneve, "provider:network_type": "vxlan"})["provider:segmentation_id"] == 5


def test_numbers_run_out_definitely_and_come_back(store: Store) -> None:
    api = Api(store, Settings(networks=Networks(geneve_vnis=((10, 12), (20, 20)))))
    made = [api.network() for _ in range(2)]
    more = api.bulk("network", [{}, {}])
    assert more.status == 201
    made += more.body["networks"]
    assert {network["provider:segmentation_id"] for network in made} == {10, 11, 12, 20}
    answer = api.create("network")
    assert (answer.status, answer.error) == (503, "NoNetworkAvailable")
    assert api.delete("network", made[0]["id"]).status == 204
    assert api.network()["provider:segmentation_id"] == made[0]["provider:segmentation_id"]


def test_an_mtu_fits_what_carries_it(api: Api) -> None:
    """Smaller is a choice, larger would be lost on the wire, and what a subnet's version needs must remain."""
    network = api.network(mtu=1300)
    assert network["mtu"] == 1300
    assert api.create("network", mtu=1439).error == "InvalidInput"
    assert api.create("network", mtu=67).error == "InvalidInput"
    assert api.create("network", mtu=-1).error == "HTTPBadRequest"
    assert api.update("network", network["id"], mtu=1439).status == 400
    assert api.update("network", network["id"], mtu=0).body["network"]["mtu"] == 1438
    api.subnet(network, "fd00::/64")
    assert api.update("network", network["id"], mtu=1279).error == "NetworkMTUSubnetConflict"
    small = api.network(mtu=1000)
    assert api.create("subnet", network_id=small["id"], cidr="fd00::/64", ip_version=6).status == 409


def test_an_update_changes_what_it_names(api: Api) -> None:
    network = api.network(name="a")
    answer = api.update("network", network["id"], name="b", shared=True, admin_state_up=False, description="d")
    assert answer.status == 200
    changed = {"name": "b", "shared": True, "admin_state_up": False, "description": "d", "revision_number": 2}
    assert answer.body["network"] == {**network, **changed, "updated_at": answer.body["network"]["updated_at"]}
    assert api.get(f"networks/{network['id']}")["network"] == answer.body["network"]
    assert api.update("network", network["id"], **{"provider:segmentation_id": 3}).error == "InvalidInput"
    same = {"provider:segmentation_id": network["provider:segmentation_id"]}
    assert api.update("network", network["id"], **same).status == 200


def test_revision_numbers_guard_updates_and_deletes(api: Api) -> None:
    path = f"/v2.0/networks/{api.network()['id']}"
    body = {"network": {"name": "x"}}
    stale = api.call("PUT", path, body, If_Match="revision_number=7")
    assert (stale.status, stale.error) == (412, "RevisionNumberConstraintFailed")
    assert api.call("PUT", path, body, If_Match="revision_number=1").body["network"]["revision_number"] == 2
    assert api.call("DELETE", path, If_Match="revision_number=1").status == 412
    assert api.call("DELETE", path, If_Match="soon").status == 400
    assert api.call("DELETE", path, If_Match="revision_number=2").status == 204


def test_a_network_goes_with_its_subnets_but_not_with_ports(api: Api) -> None:
    network = api.network()
    subnet = api.subnet(network, "10.0.0.0/24")
    assert api.get(f"networks/{network['id']}")["network"]["subnets"] == [subnet["id"]]
    port = api.port(network)
    answer = api.delete("network", network["id"])
    assert (answer.status, answer.error) == (409, "NetworkInUse")
    assert api.delete("port", port["id"]).status == 204
    assert api.delete("network", network["id"]).status == 204
    assert api.call("GET", f"/v2.0/subnets/{subnet['id']}").error == "SubnetNotFound"
    assert api.delete("network", network["id"]).error == "NetworkNotFound"


def test_sharing_ends_only_when_nobody_else_uses_it(api: Api) -> None:
    network = api.network(shared=True, project_id="p1")
    api.subnet(network, "10.0.0.0/24")
    port = api.as_project("p2").port(network)
    answer = api.update("network", network["id"], shared=False)
    assert (answer.status, answer.error) == (409, "InvalidSharedSetting")
    api.delete("port", port["id"])
    assert api.update("network", network["id"], shared=False).status == 200


def test_bulk_is_all_or_nothing(api: Api) -> None:
    assert api.bulk("network", [{"name": "a"}, {"name": "b", "mtu": 9000}]).status == 400
    assert api.get("networks")["networks"] == []
    answer = api.bulk("network", [{"name": "a"}, {"network": {"name": "b"}}])
    assert [network["name"] for network in answer.body["networks"]] == ["a", "b"]
