"""Who sees and may do what.

What a project may not see is 404, what it may not do is 403, and hidden attributes are absent.
"""

from typing import Any

import pytest

from tests.rest import Api

PROVIDER = {"provider:network_type", "provider:physical_network", "provider:segmentation_id"}
BINDING = {"binding:host_id", "binding:profile", "binding:vif_type", "binding:vif_details"}


def test_a_project_sees_its_own_and_what_is_shared(api: Api) -> None:
    mine = api.network(project_id="p1")
    common = api.network(project_id="p2", shared=True)
    theirs = api.network(project_id="p2")
    for network in (mine, common, theirs):
        api.subnet(network, "10.0.0.0/24", project_id=network["project_id"])
    one = api.as_project("p1")
    assert {network["id"] for network in one.get("networks")["networks"]} == {mine["id"], common["id"]}
    assert {subnet["network_id"] for subnet in one.get("subnets")["subnets"]} == {mine["id"], common["id"]}
    answer = one.call("GET", f"/v2.0/networks/{theirs['id']}")
    assert (answer.status, answer.error) == (404, "NetworkNotFound")
    assert len(api.get("networks")["networks"]) == 3


def test_ports_are_seen_by_their_project_and_their_network_s(api: Api) -> None:
    network = api.network(project_id="p1", shared=True)
    port = api.as_project("p2").port(network)
    assert port["project_id"] == "p2"
    for project, seen in (("p1", True), ("p2", True), ("p3", False)):
        assert bool(api.as_project(project).get("ports")["ports"]) is seen
        assert api.as_project(project).call("GET", f"/v2.0/ports/{port['id']}").status == (200 if seen else 404)


def test_administrators_attributes_are_hidden_and_refused(api: Api) -> None:
    one = api.as_project("p1")
    network = one.network()
    port = one.port(network)
    assert not PROVIDER & set(network)
    assert not PROVIDER & set(one.get(f"networks/{network['id']}")["network"])
    assert not BINDING & set(port)
    assert not BINDING & set(one.get("ports")["ports"][0])
    assert port["binding:vnic_type"] == "normal"
    assert one.call("GET", "/v2.0/ports?binding:host_id=hv1").status == 400
    for kind, wish in (
        ("network", {"shared": True}),
        ("network", {"provider:network_type": "vxlan"}),
        ("port", {"network_id": network["id"], "binding:host_id": "hv1"}),
        ("port", {"network_id": network["id"], "binding:profile": {"a": 1}}),
    ):
        name = list(wish)[-1]
        answer = one.create(kind, **wish)
        assert (answer.status, answer.error) == (403, "PolicyNotAuthorized")
        assert answer.message == f"(rule:create_{kind} and rule:create_{kind}:{name}) is disallowed by policy"
    assert one.update("network", network["id"], shared=True).status == 403
    assert one.update("port", port["id"], **{"binding:host_id": "hv1"}).status == 403
    assert one.create("network", shared=False).status == 201


def test_only_a_network_s_owner_chooses_addresses_on_it(api: Api) -> None:
    network = api.network(project_id="p1", shared=True)
    subnet = api.subnet(network, "10.0.0.0/24", project_id="p1")
    owner, guest = api.as_project("p1"), api.as_project("p2")
    wishes = (
        {"fixed_ips": [{"ip_address": "10.0.0.5"}]},
        {"mac_address": "02:aa:bb:cc:dd:01"},
        {"port_security_enabled": False},
        {"allowed_address_pairs": [{"ip_address": "10.0.0.9"}]},
        {"device_owner": "network:dhcp"},
    )
    for wish in wishes:
        answer = guest.create("port", network_id=network["id"], **wish)
        assert (answer.status, answer.error) == (403, "PolicyNotAuthorized"), wish
        assert owner.create("port", network_id=network["id"], **wish).status == 201, wish
    allowed: dict[str, Any] = {
        "fixed_ips": [{"subnet_id": subnet["id"]}],
        "device_owner": "compute:nova",
        "device_id": "vm",
    }
    port = guest.port(network, **allowed)
    assert guest.update("port", port["id"], fixed_ips=[{"ip_address": "10.0.0.77"}]).status == 403
    assert guest.update("port", port["id"], name="x").status == 200
    assert owner.delete("port", port["id"]).status == 204


def test_what_is_seen_but_not_owned_is_refused(api: Api) -> None:
    common = api.network(project_id="p2", shared=True)
    subnet = api.subnet(common, "10.0.0.0/24", project_id="p2")
    theirs = api.network(project_id="p2")
    one = api.as_project("p1")
    for kind, id in (("network", common["id"]), ("subnet", subnet["id"])):
        assert one.update(kind, id, name="x").error == "PolicyNotAuthorized"
        assert one.delete(kind, id).status == 403
    assert one.update("network", theirs["id"], name="x").error == "NetworkNotFound"
    assert one.delete("network", theirs["id"]).status == 404
    body = {"cidr": "10.1.0.0/24", "ip_version": 4}
    assert one.create("subnet", network_id=common["id"], **body).error == "PolicyNotAuthorized"
    assert one.create("subnet", network_id=theirs["id"], **body).error == "NetworkNotFound"
    assert one.create("port", network_id=theirs["id"]).error == "NetworkNotFound"


def test_a_project_makes_things_for_itself_only(api: Api) -> None:
    one = api.as_project("p1")
    assert one.network()["project_id"] == "p1"
    assert one.network(project_id="p1", tenant_id="p1")["tenant_id"] == "p1"
    assert one.create("network", project_id="p2").status == 400
    assert one.create("network", project_id="p1", tenant_id="p2").message == "'project_id' and 'tenant_id' do not match"
    assert api.as_project("", roles="admin").network(tenant_id="p9")["project_id"] == "p9"


@pytest.mark.parametrize(
    ("roles", "reads", "writes"),
    [("reader", True, False), ("", False, False), ("creator,Member", True, True), ("ADMIN", True, True)],
)
def test_roles_say_what_a_user_may_do(api: Api, roles: str, reads: bool, writes: bool) -> None:
    network = api.network(project_id="p1")
    user = api.as_project("p1", roles)
    assert bool(user.get("networks")["networks"]) is reads
    assert user.create("network").status == (201 if writes else 403)
    assert user.update("network", network["id"], name="x").status == (200 if writes else 403 if reads else 404)


def test_headers_without_roles_are_a_member_and_no_headers_an_administrator(api: Api) -> None:
    user = api.as_project("p1")
    del user.identity["X-Roles"]
    assert not PROVIDER & set(user.network())
    assert set(api.network()) > PROVIDER


def test_agents_are_the_administrator_s(api: Api) -> None:
    assert api.as_project("p1").get("agents")["agents"] == []
