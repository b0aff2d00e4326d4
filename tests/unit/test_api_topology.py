"""What requests mean to switches: topics' changes, and the law that following them is as good as a snapshot."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.store.schema import default_security_group_rules, metadata
from controller.store.topology import Changes, deltas, snapshot, snapshots, versions
from selvedge.topics import HOSTS, addresses_topic, group_topic, host_topic, members_topic, segment_topic
from selvedge.topology import (
    AddressGroup,
    Binding,
    Endpoint,
    Group,
    Host,
    Membership,
    Object,
    Pair,
    Ref,
    Rule,
    Segment,
    ref,
)
from tests.rest import Api, Json, addresses, replay

SLAAC = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}


def segment_id(api: Api) -> str:
    """The only segment that was ever made."""
    (topic,) = [topic for topic in replay(api.recorded) if topic.startswith("segment/")]
    return topic.removeprefix("segment/")


def test_a_network_is_a_segment_from_birth_to_death(api: Api) -> None:
    network = api.network(mtu=1400)
    id = segment_id(api)
    segment = Segment(
        id=id,
        key=1,
        network=network["id"],
        kind="geneve",
        number=network["provider:segmentation_id"],
        physical_network=None,
        mtu=1400,
    )
    assert api.recorded == [{segment_topic(id): ((segment,), ())}]
    api.update("network", network["id"], name="no switch cares")
    assert len(api.recorded) == 1
    api.update("network", network["id"], mtu=1300, admin_state_up=False)
    (after,) = api.recorded[-1][segment_topic(id)][0]
    assert isinstance(after, Segment)
    assert (after.mtu, after.up, after.key) == (1300, False, 1)
    api.delete("network", network["id"])
    assert api.recorded[-1] == {segment_topic(id): ((), (Ref("segment", id),))}
    assert replay(api.recorded) == {}


def test_a_port_is_an_endpoint_while_it_has_a_host(api: Api) -> None:
    network = api.network()
    api.subnet(network, "10.0.0.0/24")
    id = segment_id(api)
    pairs = [{"ip_address": "10.9.0.0/16"}, {"ip_address": "fd00::5"}]
    port = api.port(network, allowed_address_pairs=pairs, security_groups=[])
    assert len(api.recorded) == 1
    api.update("port", port["id"], **{"binding:host_id": "hv1"})
    endpoint = Endpoint(
        id=port["id"],
        key=1,
        segment=id,
        host="hv1",
        mac=port["mac_address"],
        addresses=tuple(addresses(port)),
        pairs=(Pair(port["mac_address"], "10.9.0.0/16"), Pair(port["mac_address"], "fd00::5/128")),
    )
    binding = Binding(port["id"], id)
    assert api.recorded[-1] == {segment_topic(id): ((endpoint,), ()), host_topic("hv1"): ((binding,), ())}
    api.update("port", port["id"], name="no switch cares", device_id="x")
    assert len(api.recorded) == 2
    api.update("port", port["id"], **{"binding:host_id": "hv2"})
    moved = api.recorded[-1]
    assert moved[host_topic("hv1")] == ((), (Ref("binding", port["id"]),))
    assert moved[host_topic("hv2")] == ((binding,), ())
    assert moved[segment_topic(id)][0][0].host == "hv2"  # type: ignore[union-attr]
    api.delete("port", port["id"])
    gone = (Ref("endpoint", port["id"]),)
    assert api.recorded[-1] == {
        segment_topic(id): ((), gone),
        host_topic("hv2"): ((), (Ref("binding", port["id"]),)),
    }


def test_bulk_is_one_change_of_each_topic(api: Api) -> None:
    network = api.network()
    api.port(network)
    bodies = [{"network_id": network["id"], "binding:host_id": f"hv{n % 2}"} for n in range(10)]
    api.bulk("port", bodies)
    changes = api.recorded[-1]
    assert {topic: len(upserts) for topic, (upserts, _) in changes.items()} == {
        "host/hv0": 5,
        "host/hv1": 5,
        segment_topic(segment_id(api)): 10,
    }


def test_keys_are_never_used_again(api: Api) -> None:
    network = api.network()
    keys = []
    for _ in range(3):
        port = api.port(network, host="hv1")
        (endpoint,) = [one for one in api.recorded[-1][segment_topic(segment_id(api))][0] if isinstance(one, Endpoint)]
        keys.append(endpoint.key)
        api.delete("port", port["id"])
    assert keys == [1, 2, 3]


def test_a_group_is_a_topic_of_its_own_from_birth_to_death(api: Api) -> None:
    """The group and its rules, each change by itself; a name interests no switch."""
    api.port(api.network())
    group = api.group(stateful=False)
    topic = group_topic(group["id"])
    (changes,) = api.recorded[-1:]
    assert set(changes) == {topic}
    thing, *rules = changes[topic][0]
    assert thing == Group(group["id"], 2, stateful=False)
    assert {(rule.direction, rule.version) for rule in rules if isinstance(rule, Rule)} == {
        ("egress", 4),
        ("egress", 6),
    }
    api.update("security_group", group["id"], name="no switch cares")
    assert api.recorded[-1] is changes
    api.update("security_group", group["id"], stateful=True)
    assert api.recorded[-1] == {topic: ((Group(group["id"], 2),), ())}
    made = api.rule(group, protocol="tcp", port_range_min=80, port_range_max=81, remote_ip_prefix="10.0.0.1/8")
    rule = Rule(
        id=made["id"],
        key=7,
        group=group["id"],
        direction="ingress",
        version=4,
        protocol=6,
        first=80,
        last=81,
        cidr="10.0.0.0/8",
    )
    assert api.recorded[-1] == {topic: ((rule,), ())}
    api.update("security_group_rule", made["id"], description="no switch cares")
    assert api.recorded[-1] == {topic: ((rule,), ())}
    api.delete("security_group_rule", made["id"])
    assert api.recorded[-1] == {topic: ((), (Ref("rule", made["id"]),))}
    api.delete("security_group", group["id"])
    gone = {Ref("group", group["id"]), *(Ref("rule", one["id"]) for one in group["security_group_rules"])}
    assert {topic: set(deletes) for topic, (_, deletes) in api.recorded[-1].items()} == {topic: gone}


def test_many_rules_are_one_change(api: Api) -> None:
    group = api.group()
    bodies = [
        {"security_group_id": group["id"], "direction": "ingress", "protocol": number} for number in range(100, 150)
    ]
    api.bulk("security_group_rule", bodies)
    ((topic, (upserts, deletes)),) = api.recorded[-1].items()
    assert (topic, len(upserts), deletes) == (group_topic(group["id"]), 50, ())


def test_with_a_group_go_the_rules_of_others_that_name_it(api: Api) -> None:
    gone, stays = api.group(), api.group()
    rule = api.rule(stays, remote_group_id=gone["id"])
    api.delete("security_group", gone["id"])
    assert api.recorded[-1][group_topic(stays["id"])] == ((), (Ref("rule", rule["id"]),))


def test_an_address_group_is_one_object(api: Api) -> None:
    group = api.made("address_group", addresses=["10.0.0.0/24"])
    topic = addresses_topic(group["id"])
    assert api.recorded[-1] == {topic: ((AddressGroup(group["id"], 1, ("10.0.0.0/24",)),), ())}
    path = f"/v2.0/address-groups/{group['id']}"
    api.call("PUT", f"{path}/add_addresses", {"addresses": ["fd00::1", "10.1.0.0/16"]})
    both = AddressGroup(group["id"], 1, ("10.0.0.0/24", "10.1.0.0/16", "fd00::1/128"))
    assert api.recorded[-1] == {topic: ((both,), ())}
    told = len(api.recorded)
    api.call("PUT", f"{path}/add_addresses", {"addresses": []})
    api.update("address_group", group["id"], name="no switch cares")
    assert len(api.recorded) == told
    api.call("PUT", f"{path}/remove_addresses", {"addresses": ["10.0.0.0/24", "10.1.0.0/16"]})
    assert api.recorded[-1] == {topic: ((AddressGroup(group["id"], 1, ("fd00::1/128",)),), ())}
    api.delete("address_group", group["id"])
    assert api.recorded[-1] == {topic: ((), (Ref("addresses", group["id"]),))}


def test_only_a_new_set_of_groups_is_a_new_membership(api: Api) -> None:
    """The first port with a set tells every group of it; the second tells segment and host, and nobody else."""
    network = api.network()
    a, b = sorted(api.group()["id"] for _ in range(2))

    def told() -> dict[str, list[Object]]:
        return {topic: list(upserts) for topic, (upserts, _) in api.recorded[-1].items() if "members" in topic}

    first = api.port(network, host="hv1", security_groups=[b, a])
    assert told() == {members_topic(id): [Membership(f"{id}/1", id, 1)] for id in (a, b)}
    (endpoint,) = api.recorded[-1][segment_topic(segment_id(api))][0]
    assert isinstance(endpoint, Endpoint)
    assert (endpoint.identity, endpoint.groups) == (1, (a, b))
    (binding,) = api.recorded[-1][host_topic("hv1")][0]
    assert isinstance(binding, Binding)
    assert binding.groups == (a, b)
    api.port(network, host="hv2", security_groups=[a, b])
    assert set(api.recorded[-1]) == {segment_topic(segment_id(api)), host_topic("hv2")}
    api.update("port", first["id"], security_groups=[a])
    assert told() == {members_topic(a): [Membership(f"{a}/2", a, 2)]}
    (endpoint,) = api.recorded[-1][segment_topic(segment_id(api))][0]
    assert isinstance(endpoint, Endpoint)
    assert (endpoint.identity, endpoint.groups) == (2, (a,))
    api.update("port", first["id"], security_groups=[])
    (endpoint,) = api.recorded[-1][segment_topic(segment_id(api))][0]
    assert isinstance(endpoint, Endpoint)
    assert (endpoint.identity, endpoint.groups, endpoint.secure) == (0, (), True)


def test_a_set_without_ports_goes_with_any_group_of_it(api: Api) -> None:
    a, b = (api.group()["id"] for _ in range(2))
    port = api.port(api.network(), security_groups=[a, b])
    api.delete("port", port["id"])
    api.delete("security_group", a)
    for id in (a, b):
        assert api.recorded[-1][members_topic(id)] == ((), (Ref("membership", f"{id}/1"),))


def test_a_port_of_the_network_itself_has_neither_guard_nor_groups(api: Api) -> None:
    """One that becomes the network's keeps its groups in the API, and they mean nothing until it is a VM's again."""
    network, group = api.network(), api.group()["id"]
    made = api.port(network, host="hv1", device_owner="network:dhcp")
    assert made["security_groups"] == []
    became = api.port(network, host="hv1", security_groups=[group])
    api.update("port", became["id"], device_owner="network:router_interface")
    told = replay(api.recorded)
    for port in (made, became):
        endpoint = told[segment_topic(segment_id(api))][Ref("endpoint", port["id"])]
        assert isinstance(endpoint, Endpoint)
        assert (endpoint.secure, endpoint.identity, endpoint.groups) == (False, 0, ())
        assert told[host_topic("hv1")][Ref("binding", port["id"])] == Binding(port["id"], segment_id(api))
    api.update("port", became["id"], device_owner="compute:nova")
    (endpoint,) = api.recorded[-1][segment_topic(segment_id(api))][0]
    assert isinstance(endpoint, Endpoint)
    assert (endpoint.secure, endpoint.identity, endpoint.groups) == (True, 1, (group,))


THINGS = st.builds(Binding, id=st.sampled_from("abc"), segment=st.sampled_from("st")) | st.builds(
    Host, id=st.sampled_from("ab"), key=st.integers(1, 2), tunnel_ip=st.sampled_from(("192.0.2.1", "192.0.2.2"))
)
STATES = st.dictionaries(st.sampled_from(("x", "y")), st.lists(THINGS, max_size=4, unique_by=ref), max_size=2)


@given(STATES, STATES)
def test_deltas_lead_from_before_to_after_and_say_nothing_else(
    before: dict[str, list[Object]], after: dict[str, list[Object]]
) -> None:
    changes = deltas(before, after)
    begin: Changes = {topic: (tuple(things), ()) for topic, things in before.items()}
    end: Changes = {topic: (tuple(things), ()) for topic, things in after.items()}
    assert replay([begin, changes]) == replay([end])
    for topic, (upserts, deletes) in changes.items():
        assert upserts or deletes
        assert not set(upserts) & set(before.get(topic, ()))
        assert not {ref(thing) for thing in upserts} & set(deletes)


MAIN_ROAD = ("network", "subnet", "port", "ports", "move", "addresses", "gone", "end")
GROUPS = ("group", "rule", "named", "groups", "prefixes", "drop_rule", "drop_group", "drop_prefixes")

STEPS = st.lists(
    st.tuples(
        st.sampled_from(MAIN_ROAD + GROUPS),
        st.integers(0, 7),
        st.sampled_from(("hv1", "hv2", "")),
        st.booleans(),
    ),
    min_size=3,
    max_size=20,
)

CIDRS: tuple[tuple[str, dict[str, str]], ...] = (("10.0.0.0/24", {}), ("fd00::/64", SLAAC), ("fd01::/64", SLAAC))


def take(api: Api, step: str, number: int, host: str, up: bool) -> None:
    """One request of the law's test; what it applies to follows from `number`. It may be refused."""
    networks: list[Json] = api.get("networks?sort_key=name")["networks"]
    ports: list[Json] = api.get("ports?sort_key=name")["ports"]
    if step == "network" or not networks:
        api.network(admin_state_up=up, name=str(len(networks)))
        return
    network = networks[number % len(networks)]
    port = ports[number % len(ports)] if ports else None
    if step == "subnet":
        cidr, modes = CIDRS[number % 3]
        api.create("subnet", network_id=network["id"], cidr=cidr, ip_version=6 if modes else 4, **modes)
    elif step == "port":
        api.port(network, host=host, port_security_enabled=up, name=str(len(ports)))
    elif step == "ports":
        body = {"network_id": network["id"], "binding:host_id": host, "name": f"x{len(ports)}"}
        api.bulk("port", [body] * 3)
    elif step == "gone":
        for subnet in network["subnets"]:
            api.delete("subnet", subnet)
    elif port and step == "move":
        api.update("port", port["id"], **{"binding:host_id": host, "admin_state_up": up})
    elif port and step == "addresses":
        api.update("port", port["id"], fixed_ips=[{"ip_address": f"10.0.0.{5 + number}"}] if up else [])
    elif port and step == "end":
        api.delete("port", port["id"])
        api.delete("network", port["network_id"])
    else:
        take_groups(api, step, number, up, port)


def take_groups(api: Api, step: str, number: int, up: bool, port: Json | None) -> None:
    """The same for what has to do with security groups."""
    groups = [group["id"] for group in api.get("security-groups?sort_key=name&sort_key=created_at")["security_groups"]]
    rules = [rule["id"] for rule in api.get("security-group-rules?sort_key=id")["security_group_rules"]]
    prefixes = [group["id"] for group in api.get("address-groups?sort_key=name")["address_groups"]]
    one = groups[number % len(groups)] if groups else None
    other = groups[(number // 2) % len(groups)] if groups else None
    if step == "group":
        api.create("security_group", name=str(len(groups)), stateful=up or number > 1)
    elif step == "rule":
        body = {"security_group_id": one, "protocol": number or None, "ethertype": "IPv6" if number % 2 else "IPv4"}
        api.create("security_group_rule", direction="ingress", **body)
    elif step == "named":
        remote = {"remote_group_id": other} if up or not prefixes else {"remote_address_group_id": prefixes[-1]}
        api.create("security_group_rule", security_group_id=one, direction="egress", **remote)
    elif step == "groups" and port:
        api.update("port", port["id"], security_groups=sorted({one, other} - {None}, key=str) if up else [])
    elif step == "prefixes":
        cidr = f"10.{number}.0.0/16"
        if up or not prefixes:
            api.create("address_group", name=str(len(prefixes)), addresses=[cidr])
        else:
            action = "add_addresses" if number % 2 else "remove_addresses"
            api.call("PUT", f"/v2.0/address-groups/{prefixes[0]}/{action}", {"addresses": [cidr]})
    elif step == "drop_rule" and rules:
        api.delete("security_group_rule", rules[number % len(rules)])
    elif step == "drop_group" and one:
        api.delete("security_group", one) if up else api.update("security_group", one, stateful=number % 2 == 0)
    elif step == "drop_prefixes" and prefixes:
        api.delete("address_group", prefixes[number % len(prefixes)])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_following_changes_is_as_good_as_a_snapshot(api: Api, steps: list[tuple[str, int, str, bool]]) -> None:
    """After any requests, whoever applied every change holds what a snapshot of each topic holds."""
    for table in reversed(metadata.sorted_tables):
        if table is default_security_group_rules:
            continue
        api.store.transaction(lambda transaction, table=table: transaction.execute(table.delete()))  # type: ignore[misc]
    api.recorded.clear()
    for step in steps:
        take(api, *step)
    held = replay(api.recorded)
    topics = {topic for changes in api.recorded for topic in changes} | {HOSTS}
    found = api.store.read(lambda conn: snapshots(conn, topics))
    assert {one.topic: {ref(thing): thing for thing in one.objects} for one in found if one.objects} == held


def test_an_unknown_topic_is_empty_at_version_0(api: Api) -> None:
    assert api.store.read(lambda conn: versions(conn, ["segment/none"])) == {"segment/none": 0}
    for topic in ("segment/none", "host/none", HOSTS, "nonsense", "segment/"):
        found = api.store.read(lambda conn, topic=topic: snapshot(conn, topic))  # type: ignore[misc]
        assert (found.topic, found.version, found.objects) == (topic, 0, ())
