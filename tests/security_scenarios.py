"""Five projects that explain security groups: told in docs/security.md, played in tests, written down as golden flows.

hv1 is the host whose flows are written down. Ports that are not said to be elsewhere are on it.
"""

from typing import Any

from tests.oracle_packets import TCP
from tests.project import Project


def default_group() -> Project:
    """The default group, as Neutron makes it: everything out, in from the group's own members. a and b here, c on hv2;
    x on hv2 is in another group, which lets everything out."""
    project = Project("hv1", "hv2")
    project.network("net", "geneve")
    project.group("default")
    for ethertype in ("IPv4", "IPv6"):
        project.rule("default", "egress", ethertype, name=f"out-{ethertype}")
        project.rule("default", "ingress", ethertype, name=f"members-{ethertype}", remote_group_id="default")
    project.group("other")
    project.rule("other", "egress", name="other-out")
    project.port("a", "net", "hv1", "10.0.0.1", groups=["default"])
    project.port("b", "net", "hv1", "10.0.0.2", groups=["default"])
    project.port("c", "net", "hv2", "10.0.0.3", groups=["default"])
    project.port("x", "net", "hv2", "10.0.0.9", groups=["other"])
    return project


def web_servers() -> Project:
    """Web servers behind proxies: TCP 8080-8089 from the members of group proxy, SSH from one subnet. The servers w1
    and w2 are here and share one policy; one proxy is here, one on hv2 is a member by a second set of groups."""
    project = Project("hv1", "hv2")
    project.network("net", "geneve")
    for group in ("web", "proxy", "monitored"):
        project.group(group)
    project.rule("web", "ingress", name="from-proxies", protocol="tcp", ports=(8080, 8089), remote_group_id="proxy")
    project.rule("web", "ingress", name="ssh", protocol="tcp", ports=(22, 22), remote_ip_prefix="10.0.9.0/24")
    project.rule("proxy", "egress", name="proxy-out")
    project.port("w1", "net", "hv1", "10.0.0.1", groups=["web"])
    project.port("w2", "net", "hv1", "10.0.0.2", groups=["web"])
    project.port("p1", "net", "hv1", "10.0.0.11", groups=["proxy"])
    project.port("p2", "net", "hv2", "10.0.0.12", groups=["proxy", "monitored"])
    return project


def overlapping() -> Project:
    """Overlapping CIDRs, and an address group with ranges of ports: PostgreSQL from 10.0.0.0/8, once more from a part
    of it, and TCP 5430-5439 and 6000-6007 from the offices, of which two are neighbours and one is within another."""
    project = Project("hv1")
    project.network("net", "geneve")
    project.group("db")
    offices = ("192.0.2.0/25", "192.0.2.128/25", "198.51.100.0/24", "198.51.100.32/27", "203.0.113.7", "10.7.0.0/16")
    project.address_group("offices", *offices)
    postgres: dict[str, Any] = {"protocol": "tcp", "ports": (5432, 5432)}
    project.rule("db", "ingress", name="wide", **postgres, remote_ip_prefix="10.0.0.0/8")
    project.rule("db", "ingress", name="narrow", **postgres, remote_ip_prefix="10.1.0.0/16")
    office: dict[str, Any] = {"protocol": "tcp", "remote_address_group_id": "offices"}
    project.rule("db", "ingress", name="office", **office, ports=(5430, 5439))
    project.rule("db", "ingress", name="office-too", **office, ports=(6000, 6007))
    project.port("d", "net", "hv1", "10.0.0.1", groups=["db"])
    project.port("router", "net", "hv1", "10.0.0.254", secure=False)
    return project


def stateless() -> Project:
    """A stateless group: a DNS server gets UDP 53, and needs a rule for its answers; nothing of it is tracked."""
    project = Project("hv1")
    project.network("net", "geneve")
    project.group("dns", stateful=False)
    project.rule("dns", "ingress", name="questions", protocol="udp", ports=(53, 53))
    project.rule("dns", "egress", name="answers", protocol="udp", ports=(1024, 65535))
    project.group("clients")
    project.rule("clients", "egress", name="clients-out")
    project.port("server", "net", "hv1", "10.0.0.53", groups=["dns"])
    project.port("client", "net", "hv1", "10.0.0.1", groups=["clients"])
    return project


def vlan_members() -> Project:
    """A VLAN, which carries no identities: applications get TCP 443 from load balancers, and these may send to members
    of group app only. lb1 and app1 are here, lb2 and app2 on hv2; both sides must be known by their addresses."""
    project = Project("hv1", "hv2")
    project.network("net", "vlan")
    for group in ("lb", "app"):
        project.group(group)
    https: dict[str, Any] = {"protocol": "tcp", "ports": (443, 443)}
    project.rule("app", "ingress", name="from-balancers", **https, remote_group_id="lb")
    project.rule("lb", "egress", name="to-applications", **https, remote_group_id="app")
    project.port("lb1", "net", "hv1", "10.0.0.1", groups=["lb"])
    project.port("app1", "net", "hv1", "10.0.0.2", groups=["app"])
    project.port("lb2", "net", "hv2", "10.0.0.3", groups=["lb"])
    project.port("app2", "net", "hv2", "10.0.0.4", groups=["app"], pairs=[("", "10.0.0.100/32")])
    return project


SCENARIOS = (default_group, web_servers, overlapping, stateless, vlan_members)


def tcp(project: Project, source: str, target: str, port: int, version: int = 4) -> bool:
    """Whether TCP to a port arrives, and its answer comes back."""
    said = project.packet(source, target, TCP, version, target_port=port)
    return target in project.send(source, said) and source in project.send(target, project.answer(said))
