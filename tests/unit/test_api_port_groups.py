"""The security groups of ports: who gets which, what is refused, and how ports are found by them."""

from typing import Any

import pytest

from tests.rest import Api, Json

NOWHERE = "eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"
NEEDS_SECURITY = "Port security must be enabled and port must have an IP address in order to use security groups."


def groups_of(api: Api, port: Json) -> list[str]:
    found: list[str] = api.get(f"ports/{port['id']}")["port"]["security_groups"]
    return found


def test_a_port_has_the_groups_that_it_asks_for(api: Api) -> None:
    """Its project's default group if nobody said, none for an empty list or null, several in one order."""
    network = api.network()
    ids = sorted(api.group()["id"] for _ in range(3))
    for wish, expected in (
        ({}, [api.default_group("p1")["id"]]),
        ({"security_groups": []}, []),
        ({"security_groups": None}, []),
        ({"security_groups": [ids[1]]}, [ids[1]]),
        ({"security_groups": ids[::-1]}, ids),
    ):
        port = api.port(network, project_id="p1", **wish)
        assert port["security_groups"] == groups_of(api, port) == expected
        assert api.get(f"ports?id={port['id']}&fields=security_groups")["ports"] == [{"security_groups": expected}]


def test_the_default_group_is_that_of_the_port_s_project(api: Api) -> None:
    """In bulk too, for several projects at once; also for the project without a name that an administrator may have."""
    network = api.network(shared=True)
    bodies = [{"network_id": network["id"], "project_id": project} for project in ("p1", "p2", "", "p1")]
    ports = api.bulk("port", bodies).body["ports"]
    one, two, nameless, again = (port["security_groups"] for port in ports)
    assert one == again == [api.default_group("p1")["id"]]
    assert two == [api.default_group("p2")["id"]]
    assert len(nameless) == 1
    assert nameless not in (one, two)
    assert api.as_project("p1").port(network)["security_groups"] == one


@pytest.mark.parametrize("owner", ["network:dhcp", "network:router_interface"])
def test_ports_of_the_network_itself_are_trusted(api: Api, owner: str) -> None:
    group = api.group()
    assert api.port(api.network(), device_owner=owner)["security_groups"] == []
    assert api.port(api.network(), device_owner=owner, security_groups=[group["id"]])["security_groups"] == []
    assert api.delete("security_group", group["id"]).status == 204


def test_without_port_security_there_are_no_groups(api: Api) -> None:
    network, group = api.network(), api.group()
    assert api.port(network, port_security_enabled=False)["security_groups"] == []
    assert api.port(network, port_security_enabled=False, security_groups=[])["security_groups"] == []
    body = {"network_id": network["id"], "port_security_enabled": False, "security_groups": [group["id"]]}
    answer = api.create("port", **body)
    assert (answer.status, answer.error) == (400, "PortSecurityAndIPRequiredForSecurityGroups")
    assert answer.message == NEEDS_SECURITY
    bare = api.network(port_security_enabled=False)
    assert api.port(bare)["security_groups"] == []
    assert api.create("port", network_id=bare["id"], security_groups=[group["id"]]).status == 400


def test_port_security_goes_with_the_groups_and_comes_without(api: Api) -> None:
    network, group = api.network(), api.group()
    port = api.port(network)
    answer = api.update("port", port["id"], port_security_enabled=False)
    assert (answer.status, answer.error) == (409, "PortSecurityPortHasSecurityGroup")
    assert answer.message.startswith("Port has security group associated. Cannot disable port security")
    answer = api.update("port", port["id"], port_security_enabled=False, security_groups=[group["id"]])
    assert (answer.status, answer.message) == (400, NEEDS_SECURITY)
    answer = api.update("port", port["id"], port_security_enabled=False, security_groups=[])
    assert answer.body["port"]["security_groups"] == groups_of(api, port) == []
    assert api.update("port", port["id"], security_groups=[group["id"]]).message == NEEDS_SECURITY
    assert api.update("port", port["id"], port_security_enabled=True).body["port"]["security_groups"] == []
    answer = api.update("port", port["id"], security_groups=[group["id"]])
    assert answer.body["port"]["security_groups"] == groups_of(api, port) == [group["id"]]


def test_groups_change_on_a_port(api: Api) -> None:
    a, b = sorted(api.group()["id"] for _ in range(2))
    port = api.port(api.network(), security_groups=[a])
    for wish, expected in (([b], [b]), ([b, a], [a, b]), ([a, b], [a, b]), (None, []), ([], []), ([a], [a])):
        answer = api.update("port", port["id"], security_groups=wish)
        assert answer.body["port"]["security_groups"] == groups_of(api, port) == expected
    assert api.update("port", port["id"], name="x").body["port"]["security_groups"] == [a]


@pytest.mark.parametrize("action", ["create", "update"])
def test_groups_that_are_not_there_are_refused(api: Api, action: str) -> None:
    """Nor are those of other projects, but for an administrator."""
    one = api.as_project("p1")
    network = one.network()
    mine, theirs = one.group()["id"], api.as_project("p2").group()["id"]
    port = one.port(network)

    def give(who: Api, *ids: str) -> Any:
        if action == "create":
            return who.create("port", network_id=network["id"], security_groups=list(ids))
        return who.update("port", port["id"], security_groups=list(ids))

    for wrong in (NOWHERE, theirs, mine.upper() if mine.upper() != mine else NOWHERE):
        answer = give(one, mine, wrong)
        assert (answer.status, answer.error) == (404, "SecurityGroupNotFound")
        assert answer.message == f"Security group {wrong} does not exist"
    assert give(api, mine, theirs).body["port"]["security_groups"] == sorted([mine, theirs])


@pytest.mark.parametrize("wish", ["x", ["x"], [5], {}, [NOWHERE, NOWHERE]])
def test_groups_are_a_list_of_identifiers(api: Api, wish: Any) -> None:
    answer = api.create("port", network_id=api.network()["id"], security_groups=wish)
    assert (answer.status, answer.error) == (400, "HTTPBadRequest")
    assert "security_groups" in answer.message


def test_stateful_and_stateless_groups_do_not_mix(api: Api) -> None:
    network = api.network()
    stateful, stateless = api.group()["id"], [api.group(stateful=False)["id"] for _ in range(2)]
    port = api.port(network, security_groups=stateless)
    for answer in (
        api.create("port", network_id=network["id"], security_groups=[stateful, *stateless]),
        api.update("port", port["id"], security_groups=[stateful, *stateless]),
        api.bulk(
            "port", [{"network_id": network["id"], "security_groups": ids} for ids in ([], [stateful, *stateless])]
        ),
    ):
        assert (answer.status, answer.error) == (409, "SecurityGroupConflict")
        assert answer.message == (
            "Error Cannot apply both stateful and stateless security groups on the same port at the same time while "
            "attempting the operation."
        )
    assert groups_of(api, port) == sorted(stateless)


def test_ports_are_found_by_their_groups(api: Api) -> None:
    network = api.network()
    a, b = (api.group()["id"] for _ in range(2))
    ports = [api.port(network, security_groups=ids)["id"] for ids in ([a], [b], [a, b], [])]

    def found(query: str) -> set[str]:
        return {port["id"] for port in api.get(f"ports?{query}")["ports"]}

    assert found(f"security_groups={a}") == {ports[0], ports[2]}
    assert found(f"security_groups={a}&security_groups={b}") == set(ports[:3])
    assert found(f"security_groups={NOWHERE}") == found("security_groups=") == set()
    assert found(f"security_groups={a}&id={ports[0]}") == {ports[0]}
    limited = api.get(f"ports?security_groups={a}&limit=1&sort_key=id")["ports"]
    assert [port["id"] for port in limited] == [min(ports[0], ports[2])]
