"""Connections: every packet of one, in both directions, is judged by the rules in force now. Fragments and ICMP errors.

All packets are sent through both worlds (`tests.project`), which must agree.
"""

from dataclasses import replace
from typing import Any

import pytest

from selvedge.topology import SegmentKind
from tests.oracle import WIRE
from tests.oracle_packets import SCTP, TCP, UDP, Packet
from tests.packets import fields_of
from tests.project import Project
from tests.random_projects import KINDS


@pytest.fixture(params=KINDS)
def project(request: pytest.FixtureRequest) -> Project:
    """vm on hv1 is in group "vm", without rules yet; peer on hv2 and near on hv1 let everything out, and nothing in."""
    kind: SegmentKind = request.param
    made = Project("hv1", "hv2")
    made.network("net", kind)
    made.group("vm")
    made.group("peers")
    for ethertype in ("IPv4", "IPv6"):
        made.rule("peers", "egress", ethertype)
    made.port("vm", "net", "hv1", "10.0.0.1", "fd00::1", groups=["vm"])
    made.port("peer", "net", "hv2", "10.0.0.2", "fd00::2", groups=["peers"])
    made.port("near", "net", "hv1", "10.0.0.3", "fd00::3", groups=["peers"])
    return made


def passes(project: Project, sender: str, packet: Packet) -> bool:
    """Whether a packet reaches a port."""
    return bool(project.send(sender, packet) - {WIRE})


@pytest.mark.parametrize("other", ["near", "peer"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_removed_rule_cuts_both_directions(project: Project, other: str, version: int) -> None:
    """Given an established connection that one rule allows: when the rule goes, nothing passes in either direction;
    when it comes again, the connection goes on."""
    rule: dict[str, Any] = {"ethertype": f"IPv{version}", "protocol": "tcp", "ports": (80, 80)}
    name = project.rule("vm", "ingress", **rule)
    said = project.packet(other, "vm", TCP, version)
    back = project.answer(said)
    assert passes(project, other, said) and passes(project, "vm", back) and passes(project, other, said)
    project.delete_rule(name)
    assert not passes(project, other, said) and not passes(project, "vm", back)
    project.rule("vm", "ingress", **rule)
    assert passes(project, "vm", back) and passes(project, other, said)


def test_a_connection_that_another_rule_allows_too_goes_on(project: Project) -> None:
    """Given overlapping rules: a connection stays as long as one of them allows it, whichever goes first."""
    names = [
        project.rule("vm", "ingress", protocol="tcp", ports=(80, 80)),
        project.rule("vm", "ingress", protocol="tcp", ports=(1, 1023), remote_ip_prefix="10.0.0.0/24"),
        project.rule("vm", "ingress", remote_group_id="peers"),
    ]
    said = project.packet("peer", "vm", TCP)
    back = project.answer(said)
    for name in names:
        assert passes(project, "peer", said) and passes(project, "vm", back)
        project.delete_rule(name)
    assert not passes(project, "peer", said) and not passes(project, "vm", back)


def test_an_answer_is_no_right_to_begin(project: Project) -> None:
    """Given a VM that accepts TCP 80 and may send nothing: it answers, and begins nothing, not even to that peer."""
    project.rule("vm", "ingress", protocol="tcp", ports=(80, 80))
    said = project.packet("peer", "vm", TCP)
    assert not passes(project, "vm", project.answer(said)), "before anybody asked"
    assert passes(project, "peer", said) and passes(project, "vm", project.answer(said))
    assert not passes(project, "vm", replace(project.answer(said), target_port=5001))


def test_who_may_begin_gets_answers_only(project: Project) -> None:
    """Given a VM that may send everything and accepts nothing: peers answer what it began."""
    project.rule("vm", "egress")
    project.rule("peers", "ingress", protocol="udp")
    said = project.packet("vm", "peer", UDP)
    assert not passes(project, "peer", project.answer(said))
    assert passes(project, "vm", said) and passes(project, "peer", project.answer(said))
    assert not passes(project, "peer", replace(project.answer(said), source_port=81))


def test_echo(project: Project) -> None:
    """Given a rule for echo requests: each is answered once asked for; an answer without a question passes nowhere."""
    for version, protocol, kind, answer in ((4, "icmp", 8, 0), (6, "icmpv6", 128, 129)):
        project.rule("vm", "ingress", f"IPv{version}", protocol=protocol, ports=(kind, None))
        ask = project.packet("peer", "vm", 1 if version == 4 else 58, version, ident=7)
        assert passes(project, "peer", ask) and passes(project, "vm", project.answer(ask))
        assert not passes(project, "vm", replace(project.answer(ask), ident=8))
        unasked = replace(project.answer(ask), kind=answer, ident=9)
        assert not passes(project, "vm", unasked)


def test_a_rule_about_a_protocol_is_about_no_other(project: Project) -> None:
    """SCTP and GRE by name and number, and IPv6's ICMP by each of its names; no rule means another protocol."""
    project.rule("vm", "ingress", protocol="sctp", ports=(80, 80))
    project.rule("vm", "ingress", protocol="47")
    assert project.reaches("peer", "vm", SCTP) and project.reaches("peer", "vm", 47)
    assert not project.reaches("peer", "vm", SCTP, target_port=81) and not project.reaches("peer", "vm", 50)
    assert not project.reaches("peer", "vm", SCTP, 6) and not project.reaches("peer", "vm", 47, 6)
    for name in ("icmp", "icmpv6", "ipv6-icmp", "58"):
        added = project.rule("vm", "ingress", "IPv6", protocol=name)
        assert project.reaches("peer", "vm", 58, 6, ident=3), name
        project.delete_rule(added)
        assert not project.reaches("peer", "vm", 58, 6, ident=3), name


def test_ports_nobody_can_read_allow_nothing(project: Project) -> None:
    """Given rules for DCCP and UDP-Lite with ports, which no switch can read: they allow nothing, and the group's other
    rules hold; without ports they allow the protocol."""
    project.rule("vm", "ingress", protocol="dccp", ports=(80, 80))
    project.rule("vm", "ingress", protocol="udplite")
    project.rule("vm", "ingress", protocol="tcp", ports=(22, 22))
    assert not project.reaches("peer", "vm", 33) and project.reaches("peer", "vm", 136)
    assert project.reaches("peer", "vm", TCP, target_port=22)


@pytest.mark.parametrize("version", [4, 6])
def test_icmp_errors_about_a_connection(project: Project, version: int) -> None:
    """Given a connection of the VM: "unreachable" about it passes, from the peer or from a router on the way; about
    another one, or about a packet that the VM did not send, it does not."""
    project.rule("vm", "egress", f"IPv{version}")
    said = project.packet("vm", "peer", UDP, version)
    number, kind = (1, 3) if version == 4 else (58, 1)

    def error(about: Packet) -> Packet:
        return replace(project.packet("peer", "vm", number, version), kind=kind, code=1, quoted=about)

    project.send("vm", said)
    assert passes(project, "peer", error(said)) is False, "the peer's own groups know of no connection: it refused it"
    project.rule("peers", "ingress", f"IPv{version}")
    assert passes(project, "vm", said) and passes(project, "peer", error(said))
    assert not passes(project, "peer", error(replace(said, target_port=81)))
    assert not passes(project, "peer", error(replace(said, source=said.target, target=said.source)))


@pytest.mark.parametrize("version", [4, 6])
def test_later_fragments_pass_with_their_first(project: Project, version: int) -> None:
    """Given a rule with a port: all fragments of a datagram to it pass, and so do those of the answer; of another
    protocol, or from an address that no rule is about, none does."""
    prefix = "10.0.0.2/32" if version == 4 else "fd00::2/128"
    ethertype = f"IPv{version}"
    project.rule("vm", "ingress", ethertype, protocol="udp", ports=(80, 80), remote_ip_prefix=prefix)
    said = project.packet("peer", "vm", UDP, version)
    for packet in (said, project.answer(said)):
        sender = "peer" if packet is said else "vm"
        assert passes(project, sender, replace(packet, fragment="first"))
        assert passes(project, sender, replace(packet, fragment="later"))
    first = replace(said, target_port=81, fragment="first")
    assert not passes(project, "peer", first), "and without it nobody can make anything of the later ones"
    other = project.packet("near", "vm", UDP, version)
    assert not passes(project, "near", replace(other, fragment="later"))
    assert not passes(project, "peer", replace(said, protocol=TCP, fragment="later"))


def test_new_groups_take_effect_at_once(project: Project) -> None:
    """Given a connection: a port that leaves the group that allows it is cut off at once; it comes back, it goes on; a
    second group changes nothing for it."""
    project.rule("vm", "ingress", protocol="tcp", remote_group_id="peers")
    project.group("more")
    said = project.packet("peer", "vm", TCP)
    back = project.answer(said)
    assert passes(project, "peer", said) and passes(project, "vm", back)
    project.regroup("vm", "vm", "more")
    assert passes(project, "peer", said) and passes(project, "vm", back)
    project.regroup("vm", "more")
    assert not passes(project, "peer", said) and not passes(project, "vm", back)
    project.regroup("vm", "vm")
    project.regroup("peer", "more")
    project.rule("more", "egress")
    assert not passes(project, "peer", said), "the peer is no member any more"
    project.regroup("peer", "more", "peers")
    assert passes(project, "peer", said) and passes(project, "vm", back)


def test_without_groups_nothing_passes(project: Project) -> None:
    """Given a port without groups: it sends and gets nothing, not even answers or errors, but what needs no rule."""
    project.rule("vm", "egress")
    project.rule("peers", "ingress")
    said = project.packet("vm", "peer", UDP)
    assert passes(project, "vm", said)
    project.regroup("vm")
    assert not passes(project, "vm", said) and not passes(project, "peer", project.answer(said))
    request = replace(said, source_port=68, target_port=67)
    assert passes(project, "peer", replace(project.answer(request), source_port=67, target_port=68)) is False, "guard"
    project.port("dhcp", "net", "hv2", "10.0.0.9", secure=False)
    offer = project.packet("dhcp", "vm", UDP, source_port=67, target_port=68)
    assert passes(project, "dhcp", offer)


@pytest.mark.parametrize("fact", ["posture", "zone"])
def test_a_port_that_nobody_has_decided_about_is_closed(project: Project, fact: str) -> None:
    """Given rules that allow everything, and a host that does not know a port's policy or zone yet: not even ARP or
    DHCP pass, in either direction."""
    project.rule("vm", "egress")
    project.rule("vm", "ingress")
    said = project.packet("near", "vm", UDP)
    assert passes(project, "near", said)
    project.fabric.undecided("vm", fact)
    for packet in (said, replace(said, source_port=67, target_port=68)):
        assert project.fabric.reached("near", fields_of(packet)) == []
    assert project.fabric.reached("vm", fields_of(project.answer(said))) == []
