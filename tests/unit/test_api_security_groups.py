"""Security groups: a project's default group, making and changing groups, and what keeps one from being deleted."""

from typing import Any

import pytest

from tests.rest import Answer, Api, Json

NOWHERE = "eb5fb9bf-29b3-4bc2-a1d1-41a9d9d4d9a1"


def meaning(rules: list[Json], group: str) -> set[tuple[str, str, bool]]:
    """Rules in short: direction, ethertype, whether the remote side is the group itself. Nothing else may be said."""
    for rule in rules:
        assert {rule[name] for name in ("protocol", "port_range_min", "port_range_max", "remote_ip_prefix")} == {None}
        assert rule["remote_group_id"] in (None, group)
    return {(rule["direction"], rule["ethertype"], rule["remote_group_id"] == group) for rule in rules}


OPEN = {("egress", "IPv4", False), ("egress", "IPv6", False)}
OURSELVES = {("ingress", "IPv4", True), ("ingress", "IPv6", True)}


def test_the_first_list_shows_the_default_group(api: Api) -> None:
    """Egress open, ingress from the group itself; it is made once, however it is asked for."""
    one = api.as_project("p1")
    (group,) = one.get("security-groups")["security_groups"]
    assert (group["name"], group["description"], group["project_id"]) == ("default", "Default security group", "p1")
    assert group["stateful"] is True
    assert meaning(group["security_group_rules"], group["id"]) == OPEN | OURSELVES
    assert one.get("security-groups")["security_groups"] == [group]
    assert one.get(f"security-groups/{group['id']}")["security_group"] == group
    assert {rule["id"] for rule in one.get("security-group-rules")["security_group_rules"]} == {
        rule["id"] for rule in group["security_group_rules"]
    }


@pytest.mark.parametrize("first", ["rules", "security_group", "network", "port"])
def test_a_project_s_first_use_makes_its_default_group(api: Api, first: str) -> None:
    network = api.network(shared=True)
    one = api.as_project("p1")
    if first == "rules":
        assert len(one.get("security-group-rules")["security_group_rules"]) == 4
    elif first == "port":
        port = one.port(network)
        assert port["security_groups"] == [api.default_group("p1")["id"]]
    else:
        one.made(first)
    found = api.get("security-groups?name=default&project_id=p1&fields=id")["security_groups"]
    assert len(found) == 1
    assert sum(any(topic.startswith("group/") for topic in changes) for changes in api.recorded) == 1


def test_a_default_group_is_made_for_oneself_or_by_an_administrator(api: Api) -> None:
    one = api.as_project("p1")
    assert one.get("security-groups?project_id=p2")["security_groups"] == []
    assert api.get("security-groups")["security_groups"] == []
    assert len(api.get("security-groups?tenant_id=p2")["security_groups"]) == 1
    assert api.as_project("p3", roles="nobody").get("security-groups")["security_groups"] == []
    assert {group["project_id"] for group in api.get("security-groups")["security_groups"]} == {"p2"}


def test_a_project_that_no_row_can_name_has_no_default_group(api: Api) -> None:
    """To ask for it is no error, also for a database that refuses texts longer than their column."""
    longest, beyond = "p" * 255, "p" * 256
    for kind in ("security-groups", "security-group-rules"):
        assert list(api.get(f"{kind}?project_id={beyond}").values()) == [[]]
    assert api.as_project(beyond).get("security-groups")["security_groups"] == []
    assert api.recorded == []
    assert len(api.as_project(longest).get("security-groups")["security_groups"]) == 1


def test_a_new_group_has_neutron_s_attributes_and_may_send(api: Api) -> None:
    one = api.as_project("p1")
    group = one.group(name="web", description="servers")
    assert api.get(f"security-groups/{group['id']}")["security_group"] == group
    expected = {
        "name": "web",
        "description": "servers",
        "project_id": "p1",
        "tenant_id": "p1",
        "stateful": True,
        "revision_number": 1,
    }
    assert {name: group[name] for name in expected} == expected
    assert set(group) == {*expected, "id", "security_group_rules", "created_at", "updated_at"}
    assert meaning(group["security_group_rules"], group["id"]) == OPEN
    assert one.group()["name"] == ""
    assert one.group(name="web")["id"] != group["id"]


def test_many_are_made_at_once_or_none(api: Api) -> None:
    one = api.as_project("p1")
    answer = one.bulk("security_group", [{"name": "a"}, {"name": "b", "stateful": False}])
    assert [(group["name"], group["stateful"]) for group in answer.body["security_groups"]] == [
        ("a", True),
        ("b", False),
    ]
    assert all(len(group["security_group_rules"]) == 2 for group in answer.body["security_groups"])
    assert one.bulk("security_group", [{"name": "c"}, {"name": "Default"}]).status == 409
    assert len(one.get("security-groups")["security_groups"]) == 3


@pytest.mark.parametrize("name", ["default", "DEFAULT", "Default"])
def test_there_is_one_default_group(api: Api, name: str) -> None:
    def refused(answer: Answer) -> bool:
        return (answer.status, answer.error, answer.message) == (
            409,
            "SecurityGroupDefaultAlreadyExists",
            "Default security group already exists.",
        )

    assert refused(api.create("security_group", name=name, project_id="p1"))
    assert refused(api.update("security_group", api.group()["id"], name=name))


def test_the_default_group_keeps_its_name(api: Api) -> None:
    group = api.default_group("p1")
    one = api.as_project("p1")
    answer = one.update("security_group", group["id"], name="mine")
    assert (answer.status, answer.error) == (409, "SecurityGroupCannotUpdateDefault")
    assert answer.message == "Updating default security group not allowed."
    assert one.update("security_group", group["id"], description="x").body["security_group"]["description"] == "x"


def test_only_an_administrator_deletes_a_default_group_and_the_next_use_makes_another(api: Api) -> None:
    group = api.default_group("p1")
    answer = api.as_project("p1").delete("security_group", group["id"])
    assert (answer.status, answer.error) == (409, "SecurityGroupCannotRemoveDefault")
    assert answer.message == "Insufficient rights for removing default security group."
    assert api.delete("security_group", group["id"]).status == 204
    assert api.default_group("p1")["id"] != group["id"]


@pytest.mark.parametrize(
    "wish",
    [
        {"name": 5},
        {"name": "x" * 256},
        {"stateful": "perhaps"},
        {"security_group_rules": []},
        {"id": NOWHERE},
        {"shared": True},
    ],
)
def test_a_value_that_does_not_fit_is_named(api: Api, wish: dict[str, Any]) -> None:
    answer = api.create("security_group", **wish)
    assert (answer.status, answer.error) == (400, "HTTPBadRequest")
    assert next(iter(wish)) in answer.message


def test_a_group_changes_its_name_and_gets_a_new_revision(api: Api) -> None:
    group = api.group(name="a")
    changed = api.update("security_group", group["id"], name="b", description="c").body["security_group"]
    assert changed == {**group, "name": "b", "description": "c", "revision_number": 2} | {
        "updated_at": changed["updated_at"]
    }
    assert api.get(f"security-groups/{group['id']}")["security_group"] == changed


def test_a_group_is_its_project_s(api: Api) -> None:
    one, two = api.as_project("p1"), api.as_project("p2")
    group = one.group(name="mine")
    assert two.call("GET", f"/v2.0/security-groups/{group['id']}").error == "SecurityGroupNotFound"
    assert two.update("security_group", group["id"], name="x").status == 404
    answer = two.delete("security_group", group["id"])
    assert (answer.status, answer.message) == (404, f"Security group {group['id']} does not exist")
    assert [found["name"] for found in two.get("security-groups")["security_groups"]] == ["default"]
    reader = api.as_project("p1", roles="reader")
    assert reader.get(f"security-groups/{group['id']}")["security_group"]["name"] == "mine"
    assert reader.delete("security_group", group["id"]).status == 403
    assert reader.create("security_group").status == 403
    assert one.create("security_group", project_id="p2").status == 400


def test_a_group_that_a_port_has_cannot_be_deleted(api: Api) -> None:
    network, group = api.network(), api.group()
    port = api.port(network, security_groups=[group["id"], api.group()["id"]])
    answer = api.delete("security_group", group["id"])
    assert (answer.status, answer.error) == (409, "SecurityGroupInUse")
    assert answer.message == f"Security Group {group['id']} in use."
    api.update("port", port["id"], security_groups=[])
    assert api.delete("security_group", group["id"]).status == 204
    assert api.call("GET", f"/v2.0/security-groups/{group['id']}").status == 404


def test_with_a_group_go_the_rules_that_name_it(api: Api) -> None:
    """Its own and those of other groups, which are revised by that."""
    gone, stays = api.group(), api.group()
    api.rule(stays, remote_group_id=gone["id"])
    api.rule(gone, remote_group_id=stays["id"])
    before = api.get(f"security-groups/{stays['id']}")["security_group"]
    assert api.delete("security_group", gone["id"]).status == 204
    after = api.get(f"security-groups/{stays['id']}")["security_group"]
    assert {rule["id"] for rule in after["security_group_rules"]} == {
        rule["id"] for rule in stays["security_group_rules"]
    }
    assert after["revision_number"] == before["revision_number"] + 1
    assert api.get(f"security-group-rules?security_group_id={gone['id']}")["security_group_rules"] == []


def test_statefulness_changes_while_no_port_has_the_group(api: Api) -> None:
    group = api.group(stateful=False)
    port = api.port(api.network(), security_groups=[group["id"]])
    answer = api.update("security_group", group["id"], stateful=True)
    assert (answer.status, answer.error) == (409, "SecurityGroupInUse")
    assert api.update("security_group", group["id"], stateful=False, name="x").status == 200
    api.delete("port", port["id"])
    assert api.update("security_group", group["id"], stateful=True).body["security_group"]["stateful"] is True


def test_lists_are_filtered_sorted_and_paged(api: Api) -> None:
    for name in ("b", "a", "c"):
        api.group(name=name, stateful=name != "a", description=f"d{name}")

    def names(query: str) -> list[str]:
        return [group["name"] for group in api.get(f"security-groups?{query}")["security_groups"]]

    assert names("sort_key=name") == ["a", "b", "c", "default"]
    assert names("stateful=false") == ["a"]
    assert names("description=dc&name=c&name=b") == ["c"]
    page = api.get("security-groups?sort_key=name&limit=2&fields=name")
    assert page["security_groups"] == [{"name": "a"}, {"name": "b"}]
    assert "/v2.0/security-groups?" in page["security_groups_links"][0]["href"]
