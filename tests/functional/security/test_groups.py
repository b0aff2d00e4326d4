"""Who is in which group: the default one, none, several, and the groups that rules name, over hosts and segments."""

import time

import pytest

from devstack.labs.api import Resource
from devstack.labs.process import LabError, wait_for
from devstack.labs.vm import Vm
from tests.functional.security.traffic import Attempt, expect, expect_all, outcomes
from tests.functional.verbs import OPEN, SETTLE, World, allow

RULE_TABLES = ("table=50,", "table=52,", "table=55,", "table=58,", "table=70,", "table=71,", "table=75,", "table=78,")


def both(a: Vm, b: Vm, protocol: str = "tcp", port: int = 80) -> list[Attempt]:
    """Both families, one way."""
    return [Attempt(a, b, protocol, port, version) for version in (4, 6)]


def test_ports_of_a_project_reach_each_other_and_nobody_else_reaches_them(three: World) -> None:
    """No group said: the project's default one. Its members talk, here and elsewhere; a port with another group does
    not reach them, though they reach it."""
    blue = three.network("geneve")
    stranger = three.port(blue, "hv3", security_groups=[three.group(*OPEN, egress=False)])
    a, near, far = (three.port(blue, on) for on in ("hv1", "hv1", "hv2"))
    default = three.api.show("port", a.port)["security_groups"]
    assert [three.api.show("security_group", group)["name"] for group in default] == ["default"]
    assert three.api.show("port", far.port)["security_groups"] == default
    expect_all("answered", *both(a, near), *both(a, far), *both(far, a), *both(a, stranger), *both(far, stranger))
    expect_all("stopped", *both(stranger, a), *both(stranger, far), *both(stranger, a, "icmp", 0))


def test_a_port_without_groups_has_its_guard_and_no_rule(three: World) -> None:
    """security_groups [] lets nothing in or out but what every port needs; without port security everything passes."""
    blue = three.network("geneve")
    open_group = three.group(*OPEN, egress=False)
    other = three.port(blue, "hv2", security_groups=[open_group])
    mute, free = three.port(blue, "hv1", security_groups=[]), three.port(blue, "hv1", port_security_enabled=False)
    assert three.api.show("port", mute.port)["security_groups"] == []
    assert three.api.show("port", free.port)["security_groups"] == []
    expect_all("stopped", *both(mute, other), *both(other, mute), *both(free, mute))
    expect_all("answered", *both(free, other), *both(other, free), *both(other, free, "icmp", 0))
    assert three.status(mute) == "ACTIVE"
    mute.ping(other.address(), 1, wait=SETTLE)
    assert other.want.mac in mute.run("ip", "neigh", "show", other.address())


@pytest.mark.parametrize("kind", ("geneve", "vxlan", "vlan", "flat"))
def test_a_remote_group_is_its_members_wherever_they_are(three: World, kind: str) -> None:
    """Web servers admit the balancers' group: members here, there, and of two groups at once pass; others, and members
    with an address that is not theirs, do not. Each family by a rule of its own."""
    blue = three.network(kind)
    balancers, others = three.group(), three.group()
    web = three.group(allow("tcp", 80, group=balancers), allow("tcp", 80, version=6, group=balancers))
    server = three.port(blue, "hv1", security_groups=[web])
    near, far = (three.port(blue, on, security_groups=[balancers]) for on in ("hv1", "hv2"))
    of_two = three.port(blue, "hv3", security_groups=[balancers, others])
    strangers = [three.port(blue, on, security_groups=[others]) for on in ("hv1", "hv2")]
    passing = [attempt for member in (near, far, of_two) for attempt in both(member, server)]
    stopped = [attempt for stranger in strangers for attempt in both(stranger, server)]
    stopped += [attempt for member in (near, far, of_two) for attempt in both(member, server, "tcp", 81)]
    expect(dict.fromkeys(passing, "answered") | dict.fromkeys(stopped, "stopped"))


def test_a_group_spans_segments(three: World) -> None:
    """One group on a Geneve, a VXLAN and a VLAN network: its members are let in on each, by one rule, and on none of
    them is anybody else."""
    members, others = three.group(), three.group()
    web = three.group(allow(group=members), allow(version=6, group=members))
    wanted: dict[Attempt, str] = {}
    for kind in ("geneve", "vxlan", "vlan"):
        net = three.network(kind)
        server = three.port(net, "hv1", security_groups=[web])
        member = three.port(net, "hv2", security_groups=[members])
        stranger = three.port(net, "hv2", security_groups=[others])
        wanted |= dict.fromkeys(both(member, server) + both(member, server, "icmp", 0), "answered")
        wanted |= dict.fromkeys(both(stranger, server) + both(stranger, server, "icmp", 0), "stopped")
    expect(wanted)


@pytest.mark.parametrize("kind", ("geneve", "vlan"))
def test_an_egress_rule_may_name_a_group(three: World, kind: str) -> None:
    """A client may talk to the databases' group alone: to its members here and there, by their own addresses."""
    net = three.network(kind)
    databases, others = three.group(*OPEN, egress=False), three.group(*OPEN, egress=False)
    words: Resource = {"direction": "egress", "group": databases}
    client_group = three.group(allow("tcp", 80, **words), allow("tcp", 80, version=6, **words), egress=False)
    client = three.port(net, "hv1", security_groups=[client_group])
    near, far = (three.port(net, on, security_groups=[databases]) for on in ("hv1", "hv2"))
    stranger = three.port(net, "hv2", security_groups=[others])
    passing = both(client, near) + both(client, far)
    expect(dict.fromkeys(passing, "answered") | dict.fromkeys(both(client, stranger), "stopped"))
    borrowed = "10.0.0.77"
    far.run("ip", "addr", "add", f"{borrowed}/24", "dev", "eth0")
    client.run("ip", "neigh", "replace", borrowed, "lladdr", far.want.mac, "dev", "eth0")
    # The frame would get to a member, by its MAC; but the address is nobody's.
    assert outcomes(Attempt(client, far, "tcp", 80, to_address=borrowed)) == ["stopped"]


def test_groups_of_a_live_port_change_at_once(three: World) -> None:
    """A running VM's groups: one more, another, none, the first again; each time the others' rules that name them and
    its own follow, at both ends and without an interruption of what stays allowed."""
    blue = three.network("geneve")
    members, more = three.group(), three.group(allow("udp", 53))
    web = three.group(allow("tcp", 80, group=members), allow("icmp"))
    server = three.port(blue, "hv1", security_groups=[web])
    client = three.port(blue, "hv2", security_groups=[members])
    tcp, icmp = Attempt(client, server, "tcp", 80), Attempt(client, server, "icmp")
    back = Attempt(server, client, "udp", 53)
    expect({tcp: "answered", icmp: "answered", back: "stopped"})
    for groups, wanted in (
        ((members, more), ("answered", "answered", "answered")),
        ((more,), ("stopped", "answered", "answered")),
        ((), ("stopped", "stopped", "stopped")),
        ((members,), ("answered", "answered", "stopped")),
    ):
        three.regroup(client, *groups)
        expect(dict(zip((tcp, icmp, back), wanted, strict=True)))
        assert three.status(client) == "ACTIVE"


def test_a_new_member_changes_no_rules(three: World) -> None:
    """A VM joins a group that others' rules name, on another host: where it is not, two flows come and none of a rule
    table comes, goes or changes."""
    blue = three.network("geneve", "10.0.0.0/24")
    members = three.group()
    web = three.group(allow("tcp", 80, group=members))
    server = three.port(blue, "hv1", security_groups=[web])
    three.port(blue, "hv2", security_groups=[members])
    host = three.hypervisor("hv1")
    time.sleep(SETTLE)
    before = host.flows()
    new = three.port(blue, "hv2", security_groups=[members])
    expect_all("answered", Attempt(new, server, "tcp", 80))
    after = host.flows()
    assert not set(before) - set(after)
    added = set(after) - set(before)
    assert len(added) <= 2, "\n".join(sorted(added))
    assert not [flow for flow in added if any(table in flow for table in RULE_TABLES)]


def test_a_group_in_use_stays(three: World) -> None:
    """DELETE of a port's group is refused, and its rules go on; of a group that only rules name it is not: those rules
    go with it."""
    blue = three.network("geneve")
    members = three.group()
    web = three.group(allow("tcp", 80, group=members), allow("icmp"))
    server, client = three.port(blue, "hv1", security_groups=[web]), three.port(blue, "hv2", security_groups=[members])
    tcp, icmp = Attempt(client, server, "tcp", 80), Attempt(client, server, "icmp")
    expect({tcp: "answered", icmp: "answered"})
    with pytest.raises(LabError, match="409 SecurityGroupInUse"):
        three.api.delete("security_group", members)
    expect({tcp: "answered", icmp: "answered"})
    three.regroup(client, three.group())
    expect({tcp: "stopped", icmp: "answered"})
    three.ungroup(members)
    rules = three.api.show("security_group", web)["security_group_rules"]
    assert not [rule for rule in rules if rule["remote_group_id"] == members]
    wait_for("the answer", lambda: outcomes(icmp) == ["answered"], 5)
