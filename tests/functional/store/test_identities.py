"""Identities: one number for each set of security groups, memberships for each number, and their end."""

import pytest
from sqlalchemy import event, func, select

from controller.feed.publisher import Publisher
from controller.feed.sweeper import Sweeper
from controller.store import identities
from controller.store.engine import Store
from controller.store.identities import KEPT, GroupInUse
from controller.store.schema import identity_groups
from controller.store.topology import snapshot
from selvedge.topics import addresses_topic, group_topic, host_topic, members_topic
from selvedge.topology import AddressGroup, Binding, Endpoint, Group, Membership, Object, Ref, Rule
from tests.functional.store.tenant import Tenant

DAY = 86_400.0


@pytest.fixture
def tenant(store: Store) -> Tenant:
    return Tenant(store)


def members(tenant: Tenant, group: str) -> set[int]:
    """The identities in a group, which must be the same for who follows and for who asks."""
    topic = members_topic(group)
    asked = {one.identity for one in objects(tenant, topic) if isinstance(one, Membership)}
    followed = {one.identity for one in tenant.held().get(topic, {}).values() if isinstance(one, Membership)}
    assert followed == asked
    return asked


def objects(tenant: Tenant, topic: str) -> tuple[Object, ...]:
    return tenant.store.read(lambda conn: snapshot(conn, topic)).objects


def endpoints(tenant: Tenant) -> dict[str, Endpoint]:
    things = [thing for topic in tenant.found().values() for thing in topic.values()]
    return {thing.id: thing for thing in things if isinstance(thing, Endpoint)}


def test_ports_with_the_same_groups_have_one_number(tenant: Tenant) -> None:
    """Given groups a and b: {a, b} is one set in whatever order it is written, {a} is another, {} has no number."""
    a, b = sorted((tenant.group(), tenant.group()))
    both, swapped, one, none = tenant.port(a, b), tenant.port(b, a, b), tenant.port(a), tenant.port()
    seen = endpoints(tenant)
    assert seen[both].identity == seen[swapped].identity > 0
    assert seen[one].identity not in (0, seen[both].identity)
    assert (seen[none].identity, seen[none].groups) == (0, ())
    assert seen[both].groups == seen[swapped].groups == (a, b)
    assert seen[one].groups == (a,)
    assert members(tenant, a) == {seen[both].identity, seen[one].identity}
    assert members(tenant, b) == {seen[both].identity}
    bindings = {thing.id: thing for thing in objects(tenant, host_topic("hv1")) if isinstance(thing, Binding)}
    assert bindings[both].groups == (a, b)
    assert bindings[none].groups == ()


def test_a_member_more_of_a_known_set_tells_nobody_but_its_segment_and_its_host(tenant: Tenant) -> None:
    a, b = tenant.group(), tenant.group()
    tenant.port(a, b)
    before = {topic: len(messages) for topic, messages in tenant.updates().items()}
    assert before[members_topic(a)] == before[members_topic(b)] == 1
    tenant.port(b, a, host="hv2")
    after = {topic: len(messages) for topic, messages in tenant.updates().items()}
    changed = {topic.partition("/")[0] for topic in after if after[topic] != before.get(topic)}
    assert changed == {"segment", "host"}


def test_a_membership_is_told_before_the_endpoint_that_needs_it(tenant: Tenant) -> None:
    """Messages of one transaction leave in the order of their topics' names."""
    group = tenant.group()
    port = tenant.port(group)
    segment = endpoints(tenant)[port].segment
    assert members_topic(group) < f"segment/{segment}"
    assert members(tenant, group) == {tenant.identity(port)}


def test_what_is_not_secure_has_no_identity(tenant: Tenant) -> None:
    """A port without port security, and one of the network itself, whatever its row says."""
    group = tenant.group()
    open_port = tenant.port(group, port_security_enabled=False)
    dhcp = tenant.port(group, device_owner="network:dhcp")
    seen = endpoints(tenant)
    for port in (open_port, dhcp):
        assert (seen[port].secure, seen[port].identity, seen[port].groups) == (False, 0, ())
    found = objects(tenant, host_topic("hv1"))
    assert {thing.groups for thing in found if isinstance(thing, Binding)} == {()}
    assert tenant.held() == tenant.found()


@pytest.mark.parametrize("count", [1, 300])
def test_any_number_of_sets_is_a_constant_number_of_statements(tenant: Tenant, count: int) -> None:
    """Four if they are new (look, insert, memberships; once more for what others may have inserted), one if not."""
    groups = [tenant.group() for _ in range(25)]
    sets = [(groups[n % 25], groups[(n // 25 + n + 1) % 25]) for n in range(count)]
    sent: list[str] = []

    def note(conn: object, cursor: object, statement: str, *more: object) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(tenant.store.engine, "before_cursor_execute", note)
    given = tenant.store.transaction(lambda transaction: identities.identities_of(transaction, sets))
    assert len(given.numbers) == len(set(given.numbers.values())) == len({frozenset(one) for one in sets})
    assert sum(map(len, given.created.values())) == 2 * len(given.numbers)
    assert len(sent) <= 4
    sent.clear()
    again = tenant.store.transaction(lambda transaction: identities.identities_of(transaction, sets))
    assert again == (given.numbers, {})
    assert len(sent) == 1


def test_a_change_of_a_ports_groups_tells_its_segment_and_its_host(tenant: Tenant) -> None:
    a, b = tenant.group(), tenant.group()
    port = tenant.port(a)
    tenant.regroup(port, a, b)
    assert endpoints(tenant)[port].groups == tuple(sorted((a, b)))
    tenant.regroup(port)
    assert endpoints(tenant)[port].identity == 0
    assert tenant.held() == tenant.found()


def test_a_group_that_a_port_has_cannot_go(tenant: Tenant) -> None:
    a, b = tenant.group(), tenant.group()
    port = tenant.port(a, b)
    with pytest.raises(GroupInUse):
        tenant.remove_group(a)
    tenant.regroup(port, b)
    tenant.remove_group(a)
    assert members(tenant, a) == set()
    assert members(tenant, b) == {tenant.identity(port)}


def test_a_group_that_goes_takes_its_sets_its_rules_and_rules_that_name_it(tenant: Tenant) -> None:
    """Given a and b, a port that once had both, and a rule of b for members of a: nothing of a is left anywhere."""
    a, b = tenant.group(), tenant.group()
    tenant.rule(a)
    naming, own = tenant.rule(b, remote_group_id=a), tenant.rule(b)
    tenant.remove_port(tenant.port(a, b))
    tenant.remove_group(a)
    assert members(tenant, a) == members(tenant, b) == set()
    assert tenant.updates()[members_topic(b)][-1].deletes == (Ref("membership", f"{b}/1"),)
    assert tenant.updates()[group_topic(b)][-1].deletes == (Ref("rule", naming),)
    assert set(tenant.found()[group_topic(b)]) == {Ref("group", b), Ref("rule", own)}
    assert tenant.held() == tenant.found()
    left = select(func.count()).select_from(identity_groups)
    assert tenant.store.read(lambda conn: conn.execute(left).scalar_one()) == 0


def test_a_number_is_never_used_again(tenant: Tenant) -> None:
    group = tenant.group()
    numbers = []
    for day in range(3):
        port = tenant.port(group)
        numbers.append(tenant.identity(port))
        tenant.remove_port(port)
        tenant.sweep(day * DAY)
        assert tenant.sweep(day * DAY + KEPT + 1) == 1
    assert numbers == sorted(set(numbers)), "a set that comes again gets a new number"


def test_a_set_without_ports_is_known_for_ten_minutes_more(tenant: Tenant) -> None:
    a, b = tenant.group(), tenant.group()
    tenant.remove_port(tenant.port(a, b))
    kept = tenant.port(a)
    assert tenant.sweep(1000.0) == 0
    assert tenant.sweep(1000.0 + KEPT) == 0
    assert len(members(tenant, a)) == 2
    assert tenant.sweep(1001.0 + KEPT) == 1
    assert members(tenant, a) == {tenant.identity(kept)}
    assert members(tenant, b) == set()
    assert tenant.held() == tenant.found()


def test_a_set_that_is_used_again_keeps_its_number_and_starts_anew(tenant: Tenant) -> None:
    group = tenant.group()
    first = tenant.port(group)
    number = tenant.identity(first)
    tenant.remove_port(first)
    tenant.sweep(1000.0)
    second = tenant.port(group)
    assert tenant.identity(second) == number
    tenant.remove_port(second)
    assert tenant.sweep(1001.0 + KEPT) == 0, "the port that came in between ended the wait"
    assert tenant.sweep(1002.0 + 2 * KEPT) == 1


def test_a_sweep_with_nothing_to_do_writes_nothing(tenant: Tenant) -> None:
    tenant.port(tenant.group())
    assert not tenant.store.read(lambda conn: identities.due(conn, DAY))
    other = tenant.group()
    tenant.remove_port(tenant.port(other))
    assert tenant.store.read(lambda conn: identities.due(conn, DAY))
    tenant.sweep(DAY)
    assert not tenant.store.read(lambda conn: identities.due(conn, DAY + KEPT))


def test_the_sweeper_of_a_controller_does_it(tenant: Tenant) -> None:
    group = tenant.group()
    tenant.remove_port(tenant.port(group))
    sweeper = Sweeper(tenant.store, Publisher("rabbit://nowhere.invalid/", "test"))
    sweeper._forget(1000.0)
    sweeper._forget(1000.0 + KEPT / 2)
    assert sweeper.forgotten == 0
    sweeper._forget(1001.0 + KEPT)
    assert sweeper.forgotten == 1
    assert members(tenant, group) == set()


def test_rules_and_address_groups_mean_what_a_packet_carries(tenant: Tenant) -> None:
    """ICMP of IPv6 is protocol 58, a prefix has no bits beyond its length, an address is a prefix."""
    group, other, addresses = (
        tenant.group(stateful=False),
        tenant.group(),
        tenant.address_group("fd00::1", "10.1.0.0/16"),
    )
    icmp = tenant.rule(group, ethertype="IPv6", protocol="icmp", port_range_min=128)
    web = tenant.rule(group, protocol="tcp", port_range_min=80, port_range_max=443, remote_ip_prefix="10.0.0.9/24")
    peers = tenant.rule(group, direction="egress", remote_group_id=other)
    listed = tenant.rule(group, remote_address_group_id=addresses)
    found = {thing.id: thing for thing in objects(tenant, group_topic(group))}
    assert found[group] == Group(group, 1, stateful=False)
    assert found[icmp] == Rule(icmp, 1, group, "ingress", 6, 58, first=128)
    assert found[web] == Rule(web, 2, group, "ingress", 4, 6, 80, 443, cidr="10.0.0.0/24")
    assert found[peers] == Rule(peers, 3, group, "egress", 4, remote_group=other)
    assert found[listed] == Rule(listed, 4, group, "ingress", 4, remote_addresses=addresses)
    topic = addresses_topic(addresses)
    assert objects(tenant, topic) == (AddressGroup(addresses, 1, ("10.1.0.0/16", "fd00::1/128")),)
    tenant.set_addresses(addresses)
    assert objects(tenant, topic) == (AddressGroup(addresses, 1),)
    tenant.remove_rule(peers)
    assert tenant.held() == tenant.found()
