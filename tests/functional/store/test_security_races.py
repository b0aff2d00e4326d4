"""Many requests at once about security groups: one default group, one of equal rules, no group deleted in use.

`storm` ends every test with the proof that all topics' logs are whole and that they lead to what snapshots hold.
"""

import random
from collections import Counter
from typing import Any

import pytest

from tests.functional.store.test_concurrency import THREADS, Storm, at_once, feed, storm  # noqa: F401
from tests.rest import Answer, Json

KINDS = ("network", "port", "ports", "list", "group")


def refusals(answers: list[Answer]) -> Counter[str]:
    """How many answers there are of each error; '' is success."""
    return Counter(answer.error for answer in answers)


def test_a_project_gets_one_default_group_whoever_needs_it_first(storm: Storm) -> None:  # noqa: F811
    """Eight first uses of a project at once: networks, ports (one or many), lists, groups."""
    network = storm.network(shared=True)
    body = {"network_id": network["id"], "binding:host_id": "hv1", "project_id": "new"}

    def use(number: int) -> Any:
        kind = KINDS[number % len(KINDS)]
        if kind == "network":
            return storm.network(project_id="new")
        if kind == "port":
            return storm.made("port", **body)
        if kind == "ports":
            return storm.bulk("port", [body] * 20)
        if kind == "list":
            return storm.get("security-groups?project_id=new")
        return storm.group(project_id="new", name="mine")

    at_once(use)
    groups = storm.get("security-groups?project_id=new")["security_groups"]
    (default,) = [group for group in groups if group["name"] == "default"]
    assert len(default["security_group_rules"]) == 4
    ports = storm.get("ports?project_id=new")["ports"]
    assert {tuple(port["security_groups"]) for port in ports} == {(default["id"],)}


def test_one_of_many_makes_a_rule(storm: Storm) -> None:  # noqa: F811
    group = storm.group(name="g")
    wish = {"security_group_id": group["id"], "direction": "ingress", "port_range_min": 80, "port_range_max": 80}
    answers = at_once(lambda n: storm.create("security_group_rule", **wish, protocol=("tcp", "6")[n % 2]))
    assert refusals(answers) == {"": 1, "SecurityGroupRuleExists": THREADS - 1}


@pytest.mark.parametrize("known", [True, False], ids=["known set", "new set"])
def test_a_group_that_goes_and_a_port_that_comes(storm: Storm, known: bool) -> None:  # noqa: F811
    network = storm.network()
    for turn in range(8):
        group = storm.group(name="g")
        if known:
            storm.delete("port", storm.port(network, security_groups=[group["id"]])["id"])
        answers = at_once(
            lambda n, turn=turn, group=group: (  # type: ignore[misc]
                storm.delete("security_group", group["id"])
                if n == turn % THREADS
                else storm.create(
                    "port", network_id=network["id"], security_groups=[group["id"]], **{"binding:host_id": "hv1"}
                )
            )
        )
        gone = answers.pop(turn % THREADS)
        if gone.status == 204:
            assert refusals(answers) == {"SecurityGroupNotFound": THREADS - 1}
        else:
            assert gone.error == "SecurityGroupInUse"
            assert refusals(answers) == {"": THREADS - 1}


def test_a_group_that_goes_and_rules_that_name_it(storm: Storm) -> None:  # noqa: F811
    """Rules that name the group come and go while it goes: none is left, and each end is told once."""
    for _ in range(5):
        group, other = storm.group(name="g"), storm.group(name="h")
        old = [storm.rule(other, remote_group_id=group["id"], protocol=str(n))["id"] for n in range(2, 2 + THREADS)]

        def work(number: int, group: Json = group, other: Json = other, old: list[str] = old) -> Answer:
            if number == 0:
                return storm.delete("security_group", group["id"])
            if number % 2:
                return storm.delete("security_group_rule", old[number])
            wish = {"security_group_id": other["id"], "direction": "ingress", "remote_group_id": group["id"]}
            return storm.create("security_group_rule", **wish, protocol=str(100 + number))

        answers = at_once(work)
        assert answers[0].status == 204
        left = storm.get(f"security-groups/{other['id']}")["security_group"]["security_group_rules"]
        assert [rule for rule in left if rule["remote_group_id"]] == []


def test_a_group_changes_its_state_only_while_nobody_has_it(storm: Storm) -> None:  # noqa: F811
    """Given a group that becomes stateless while ports come that have it with a stateful one: never both on a port."""
    network = storm.network()
    for turn in range(8):
        group, other = storm.group(name="g"), storm.group(name="h")
        both = [group["id"], other["id"]]
        if turn % 2:
            storm.delete("port", storm.port(network, security_groups=both)["id"])
        answers = at_once(
            lambda n, group=group, both=both: (  # type: ignore[misc]
                storm.update("security_group", group["id"], stateful=False)
                if n == 3
                else storm.create("port", network_id=network["id"], security_groups=both)
            )
        )
        changed = answers.pop(3)
        if changed.status == 200:
            assert refusals(answers) == {"SecurityGroupConflict": THREADS - 1}
        else:
            assert changed.error == "SecurityGroupInUse"
            assert refusals(answers) == {"": THREADS - 1}


def test_an_address_group_that_goes_and_a_rule_that_comes(storm: Storm) -> None:  # noqa: F811
    """One of those who add an address does; and a group that a rule names stays."""
    group = storm.group(name="g")
    wish = {"security_group_id": group["id"], "direction": "ingress"}
    for _ in range(8):
        listed = storm.made("address_group")["id"]

        def work(number: int, listed: str = listed) -> Answer:
            if number == 0:
                return storm.delete("address_group", listed)
            if number == 1:
                return storm.create("security_group_rule", **wish, remote_address_group_id=listed)
            body = {"addresses": [f"10.0.{number}.0/24"]}
            return storm.call("PUT", f"/v2.0/address-groups/{listed}/add_addresses", body)

        gone, rule, *added = at_once(work)
        if gone.status == 204:
            assert rule.error == "AddressGroupNotFound"
        else:
            assert gone.error == "AddressGroupInUse"
            assert rule.status == 201
            shown = storm.get(f"address-groups/{listed}")["address_group"]
            assert len(shown["addresses"]) == len(added) == THREADS - 2


def test_a_storm_of_everything(storm: Storm) -> None:  # noqa: F811
    """Groups, rules, address groups and ports come, change and go; whatever is refused is refused with a reason."""
    network = storm.network()
    storm.subnet(network, "10.0.0.0/20")
    groups = [storm.group(name=f"g{n}")["id"] for n in range(6)]
    rules: list[str] = []
    ports = [storm.port(network, host="hv1")["id"] for _ in range(6)]
    addresses = [storm.made("address_group", addresses=["10.9.0.0/16"])["id"] for _ in range(2)]

    def step(draw: random.Random) -> Answer:
        kind, group, other = draw.randrange(9), draw.choice(groups), draw.choice(groups)
        port, listed = draw.choice(ports), draw.choice(addresses)
        if kind == 0:
            wish = {"security_group_id": group, "direction": draw.choice(("ingress", "egress"))}
            remote = draw.choice(({"remote_group_id": other}, {"remote_address_group_id": listed}, {}))
            made = storm.create("security_group_rule", **wish, **remote, protocol=str(draw.randrange(2, 30)))
            if made.status == 201:
                rules.append(made.body["security_group_rule"]["id"])
            return made
        if kind == 1 and rules:
            return storm.delete("security_group_rule", draw.choice(rules))
        if kind == 2:
            return storm.delete("security_group", group)
        if kind == 3:
            made = storm.create("security_group", name="new")
            groups.append(made.body["security_group"]["id"])
            return made
        if kind == 4:
            return storm.update("port", port, security_groups=[group, other][: draw.randrange(3)])
        if kind == 5:
            body = {"network_id": network["id"], "binding:host_id": "hv2", "security_groups": [group, other]}
            made = storm.bulk("port", [body] * 3)
            if made.status == 201:
                ports.extend(one["id"] for one in made.body["ports"])
            return made
        if kind == 6:
            return storm.delete("port", port)
        action = draw.choice(("add_addresses", "remove_addresses"))
        body = {"addresses": [f"10.{draw.randrange(3)}.0.0/16"]}
        return storm.call("PUT", f"/v2.0/address-groups/{listed}/{action}", body)

    def work(number: int) -> list[Answer]:
        draw = random.Random(number)
        return [step(draw) for _ in range(40)]

    answers = [answer for several in at_once(work) for answer in several]
    assert {answer.status for answer in answers} <= {200, 201, 204, 400, 404, 409}
    assert all(answer.error or answer.status < 300 for answer in answers)
