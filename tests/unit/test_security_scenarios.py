"""The five scenarios of docs/security.md, packet by packet; and that they cost what the document says.

`Project.send` compares the oracle with the flows on every packet; here is what both must say.
"""

from dataclasses import replace

from openflow.flow import Conjunction, Flow, Track
from tests.oracle import WIRE
from tests.oracle_packets import SCTP, TCP, UDP
from tests.project import ANYBODY, STRANGER, Project
from tests.security_scenarios import default_group, overlapping, stateless, tcp, vlan_members, web_servers


def rules_of(project: Project, host: str = "hv1") -> list[Flow]:
    """The flows of a host that are there for rules."""
    switch = project.fabric.hypervisors[host].switch()
    return [flow for table in (55, 75) for flow in switch.tables.get(table, [])]


def test_members_of_the_default_group_reach_each_other() -> None:
    """Given the default group: its members reach each other here and across hosts; a stranger reaches nobody."""
    project = default_group()
    assert tcp(project, "a", "b", 22) and tcp(project, "a", "c", 22) and tcp(project, "c", "b", 443)
    assert not project.reaches("x", "a") and not project.reaches("x", "c")
    assert project.reaches("a", "x") is False, "x accepts nothing"
    assert project.reaches("b", "a", SCTP) and project.reaches("b", "a", 1, kind=8)


def test_a_stranger_may_answer_and_no_more() -> None:
    """Given x lets its own connections' answers in: a stranger answers a member, and starts nothing itself."""
    project = default_group()
    project.rule("other", "ingress", protocol="udp", ports=(53, 53))
    question = project.packet("a", "x", UDP, target_port=53)
    assert project.send("a", question) == {"x"}
    assert project.send("x", project.answer(question)) == {"a"}
    assert not project.reaches("x", "a", UDP, source_port=53, target_port=5001), "another connection"


def test_one_member_more_moves_no_rule() -> None:
    """A member more of the default group, here and elsewhere, changes no flow of any rule on any host."""
    project = default_group()
    before = rules_of(project), rules_of(project, "hv2")
    project.port("d", "net", "hv1", "10.0.0.4", groups=["default"])
    project.port("e", "net", "hv2", "10.0.0.5", groups=["default"])
    assert (rules_of(project), rules_of(project, "hv2")) == before
    assert tcp(project, "d", "a", 22) and tcp(project, "e", "d", 22) and tcp(project, "a", "e", 22)


def test_web_servers_are_behind_proxies() -> None:
    """Given web servers: a proxy of either set of groups reaches the range of ports and no port beside it."""
    project = web_servers()
    for proxy in ("p1", "p2"):
        for server in ("w1", "w2"):
            assert tcp(project, proxy, server, 8080) and tcp(project, proxy, server, 8089)
            assert not tcp(project, proxy, server, 8079) and not tcp(project, proxy, server, 8090)
            assert not project.reaches(proxy, server, UDP, target_port=8080)
    assert not tcp(project, "w1", "w2", 8080), "a web server is no proxy, and may send nothing"


def test_ssh_comes_from_one_subnet() -> None:
    """Given the rule for SSH: a router with an address of the subnet reaches port 22, with another address not."""
    project = web_servers()
    project.port("gate", "net", "hv2", "10.0.0.50", groups=["proxy"], pairs=[("", "10.0.9.0/24"), ("", "10.0.8.0/24")])
    for source, passes in (("10.0.9.7", True), ("10.0.8.7", False)):
        assert project.reaches("gate", "w1", TCP, source=source, target_port=22) is passes


def test_a_prefix_within_another_costs_nothing() -> None:
    """Given overlapping rules: the narrow one has no flow of its own; when the wide one goes, the narrow one holds."""
    project = overlapping()

    def reaches(source: str, port: int) -> bool:
        return project.reaches("router", "d", TCP, source=source, target_port=port)

    assert reaches("10.1.2.3", 5432) and reaches("10.2.0.1", 5432) and not reaches("11.0.0.1", 5432)
    with_both = len(rules_of(project))
    project.delete_rule("narrow")
    assert len(rules_of(project)) == with_both
    again = {"protocol": "tcp", "remote_ip_prefix": "10.1.0.0/16"}
    project.rule("db", "ingress", ports=(5432, 5432), **again)
    project.delete_rule("wide")
    assert reaches("10.1.2.3", 5432) and not reaches("10.2.0.1", 5432)


def test_an_address_group_meets_ranges_by_a_conjunction() -> None:
    """Given offices and two ranges of ports: all offices reach all ports of both, nobody else any; the product is one
    conjunction, which costs its sides and not their product."""
    project = overlapping()
    offices = ("192.0.2.1", "192.0.2.254", "198.51.100.40", "203.0.113.7", "10.7.0.1")
    for source in offices:
        for port in (5430, 5439, 6000, 6007):
            assert project.reaches("router", "d", TCP, source=source, target_port=port)
        assert not project.reaches("router", "d", TCP, source=source, target_port=5999)
    assert not project.reaches("router", "d", TCP, source="203.0.113.8", target_port=6000)
    clauses = [flow for flow in rules_of(project) if any(isinstance(action, Conjunction) for action in flow.actions)]
    assert 10 < len(clauses) < 20
    assert len(rules_of(project)) < 30


def test_a_new_office() -> None:
    """Given one address more: it reaches the ports at once; one less: its connections are cut, the others go on."""
    project = overlapping()
    known = project.oracle.address_groups["offices"]["addresses"]
    assert not project.reaches("router", "d", TCP, source="172.16.0.1", target_port=6001)
    project.address_group("offices", *known, "172.16.0.0/24")
    said = project.packet("router", "d", TCP, source="172.16.0.1", target_port=6001)
    other = project.packet("router", "d", TCP, source="192.0.2.1", target_port=6001)
    assert project.send("router", said) and project.send("d", project.answer(said))
    assert project.send("router", other) and project.send("d", project.answer(other))
    project.address_group("offices", *known)
    assert not project.send("router", said) and not project.send("d", project.answer(said))
    assert project.send("router", other) and project.send("d", project.answer(other))


def test_stateless_groups_know_no_answers() -> None:
    """Given a stateless DNS server: its answers pass by their own rule, and fall when that goes; no flow hit tracks."""
    project = stateless()
    question = project.packet("client", "server", UDP, target_port=53)
    assert project.send("client", question) == {"server"}
    assert project.send("server", project.answer(question)) == {"client"}
    switch = project.fabric.hypervisors["hv1"].switch()
    tracked = [flow for flow in switch.hits if any(isinstance(action, Track) for action in flow.actions)]
    assert {flow.table for flow in tracked} == {71}, "the client's own stage, and no other"
    project.delete_rule("answers")
    assert not project.send("server", project.answer(question))


def test_a_vlan_knows_members_by_their_addresses() -> None:
    """Given a VLAN: balancers and applications find each other across hosts by MAC and address; others do not."""
    project = vlan_members()
    for balancer in ("lb1", "lb2"):
        for application in ("app1", "app2"):
            assert tcp(project, balancer, application, 443), (balancer, application)
            assert not tcp(project, balancer, application, 444)
    assert not tcp(project, "lb1", "lb2", 443) and not tcp(project, "app1", "app2", 443)


def test_a_stranger_on_the_wire_is_nobody() -> None:
    """Given a VLAN: a stranger does not become a member by a member's address alone, nor by its MAC alone."""
    project = vlan_members()
    true = project.packet("lb2", "app1", TCP, target_port=443)
    assert not project.send_wire("net", replace(true, source_mac=STRANGER))
    assert not project.send_wire("net", replace(true, source="10.0.0.77"))


def test_egress_to_a_group_means_its_addresses() -> None:
    """Given egress to group app: an application's fixed address and its pair are reached, another one behind its MAC
    (it could route) is not, nor a stranger's MAC with a member's address, nor everybody."""
    project = vlan_members()
    true = project.packet("lb1", "app2", TCP, target_port=443)
    assert project.send("lb1", true) == {"app2", WIRE}
    assert project.send("lb1", replace(true, target="10.0.0.100")) == {"app2", WIRE}
    assert project.send("lb1", replace(true, target="10.0.0.77")) == set()
    assert project.send("lb1", replace(true, target_mac=STRANGER)) == set()
    assert project.send("lb1", replace(true, target_mac=ANYBODY)) == set()
