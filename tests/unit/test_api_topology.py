"""What requests mean to switches: topics' changes, and the law that following them is as good as a snapshot."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.store.schema import metadata
from controller.store.topology import Changes, deltas, snapshot, snapshots, versions
from selvedge.topics import HOSTS, host_topic, segment_topic
from selvedge.topology import Binding, Endpoint, Host, Object, Pair, Ref, Segment, ref
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
    port = api.port(network, allowed_address_pairs=[{"ip_address": "10.9.0.0/16"}, {"ip_address": "fd00::5"}])
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


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("network", "subnet", "port", "ports", "move", "addresses", "gone", "end")),
        st.integers(0, 7),
        st.sampled_from(("hv1", "hv2", "")),
        st.booleans(),
    ),
    min_size=3,
    max_size=12,
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


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_following_changes_is_as_good_as_a_snapshot(api: Api, steps: list[tuple[str, int, str, bool]]) -> None:
    """After any requests, whoever applied every change holds what a snapshot of each topic holds."""
    for table in reversed(metadata.sorted_tables):
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
