"""What happens in a random project: packets, answers, errors, fragments, lies, and changes of the project in between.

Packets come from small pools as well, and more often than not some rule is about them, on an edge of it.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, Literal

from tests.oracle import Row, number
from tests.oracle_packets import ICMP, SCTP, TCP, UDP, Arp, Frame, Other, Packet, link_local
from tests.project import ANYBODY, STRANGER, Project
from tests.random_projects import ADDRESS_GROUPS, PREFIXES, VIRTUAL, groups, port, rule, some

ADDRESSES = {
    4: (
        *("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.63", "10.0.0.64", "10.0.0.100", "10.0.0.128", "10.0.0.192"),
        *("10.8.1.1", "10.9.255.255", "10.10.0.1"),
    ),
    6: (
        *("fd00::1", "fd00::2", "fd00::3", "fd00::100", "fd00::1ff", "fd00::200", "fd00::300"),
        *("fd08::1", "fd09::1", "fd0a::1"),
    ),
}
"""Within and beside the prefixes, on their edges."""
PORTS = (1, 22, 79, 80, 81, 443, 444, 1023, 1024, 5000, 65535)
DHCP = (67, 68, 546, 547)
"""Never fragmented, and nobody complains of it: a flood's own copy, which falls at the sender's interface only, may
make the sender's zone take a DHCP request (which is not tracked on its way out) for one that it got."""
NUMBERS = (TCP, UDP, TCP, UDP, 1, 58, SCTP, 47, 0, 33, 112)
NONSENSE = {4: (58,), 6: (0, 1)}
"""The other version's ICMP, which trackers do not understand, and what is a header of IPv6 and no protocol."""
NO_RULE: Row = {"protocol": None, "ethertype": None}


def speakers(random: Random, made: Project) -> tuple[str, str, Row]:
    """Who sends something to whom, and which rule it may be about."""
    known = made.oracle.ports
    rules = list(made.oracle.security_group_rules.values())
    meant = random.choice(rules) if rules and random.random() < 0.7 else NO_RULE
    subjects = [name for name, row in known.items() if meant.get("security_group_id") in row["security_groups"]]
    one = random.choice(subjects or sorted(known))
    network = known[one]["network_id"]
    others = [name for name, row in known.items() if row["network_id"] == network and name != one] or [one]
    members = [name for name in others if meant.get("remote_group_id") in known[name]["security_groups"]]
    other = random.choice(members if members and random.random() < 0.6 else others)
    return (other, one, meant) if meant.get("direction") == "ingress" else (one, other, meant)


def packet(random: Random, made: Project) -> tuple[str, Frame]:
    """Who sends what, mostly with true addresses."""
    sender, target, meant = speakers(random, made)
    if random.random() < 0.1:
        return sender, basic(random, made, sender)
    common = [version for version in (4, 6) if {version} <= _versions(made, sender) & _versions(made, target)]
    version = random.choice(common if common and random.random() < 0.8 else (4, 6))
    if meant["ethertype"] and random.random() < 0.8:
        version = 6 if meant["ethertype"] == "IPv6" else 4
    source_mac, source = _ends(random, made, sender, version)
    target_mac, destination = _ends(random, made, target, version)
    if random.random() < 0.07:
        target_mac = random.choice((ANYBODY, STRANGER, VIRTUAL))
    said = Packet(source_mac, target_mac, source, destination, UDP)
    said = replace(said, **_inside(random, meant, version))
    return sender, said if random.random() < 0.8 else replace(said, fragment=_fragment(random))


def _inside(random: Random, meant: Row, version: int) -> dict[str, Any]:
    """Protocol and ports, or type and code: those of a rule, and those on the edges of its range."""
    protocol = number(meant["protocol"], version)
    first: int | None = meant.get("port_range_min")
    last: int = meant.get("port_range_max") or 0
    while protocol is None or protocol in NONSENSE[version]:
        protocol = random.choice(NUMBERS)
    if protocol == ICMP[version]:
        asks = (8, 8, 13, 0, 3, 17) if version == 4 else (128, 128, 129, 1, 151)
        kind = random.choice(asks) if first is None else first
        return {"protocol": protocol, "kind": kind, "code": random.choice((0, 0, 0, 1)), "ident": random.choice((1, 2))}
    target = (
        random.choice(PORTS if first is None else (first, last, (first + last) // 2, last, first - 1, last + 1)) % 65536
    )
    return {"protocol": protocol, "source_port": random.choice(PORTS), "target_port": target}


def _versions(made: Project, name: str) -> set[int]:
    return {6 if ":" in fixed["ip_address"] else 4 for fixed in made.oracle.ports[name]["fixed_ips"]}


def _fragment(random: Random) -> Literal["first", "later"]:
    return random.choice(("first", "later", "later"))


def _ends(random: Random, made: Project, name: str, version: int) -> tuple[str, str]:
    """A MAC and an address of a port: true, of a pair, or false."""
    row = made.oracle.ports[name]
    own = [(row["mac_address"], fixed["ip_address"]) for fixed in row["fixed_ips"]]
    own += [(row["mac_address"], link_local(row["mac_address"]))] if any(":" in ip for _, ip in own) else []
    for pair in row["allowed_address_pairs"]:
        address = pair["ip_address"].split("/")[0]
        own.append((pair.get("mac_address", row["mac_address"]), address))
    fitting = [(mac, ip) for mac, ip in own if (":" in ip) == (version == 6)]
    if fitting and random.random() < (0.95 if row["port_security_enabled"] else 0.5):
        return random.choice(fitting)
    return row["mac_address"], random.choice(ADDRESSES[version])


def basic(random: Random, made: Project, sender: str) -> Frame:
    """What needs no rule, or what no rule allows. The edge answers for known addresses, so nobody is asked for one."""
    row = made.oracle.ports[sender]
    mac, to = row["mac_address"], random.choice([row["mac_address"] for row in made.oracle.ports.values()])
    four, six = (_ends(random, made, sender, version)[1] for version in (4, 6))
    low, option = link_local(mac), random.choice(("", "", mac, STRANGER))
    makers: list[Callable[[], Frame]] = [
        lambda: Arp(mac, ANYBODY, random.choice((mac, STRANGER)), four, "10.0.0.77"),
        lambda: Arp(mac, ANYBODY, mac, "0.0.0.0", "10.0.0.77"),
        lambda: Arp(mac, to, mac, four, "10.0.0.77", operation=2),
        lambda: Other(mac, ANYBODY, 0x88CC),
        lambda: Packet(mac, ANYBODY, "0.0.0.0", "255.255.255.255", UDP, 68, 67),
        lambda: Packet(mac, to, four, "10.0.0.77", UDP, *random.choice(((68, 67), (67, 68)))),
        lambda: Packet(mac, to, six, "fd00::77", UDP, *random.choice(((546, 547), (547, 546)))),
        lambda: Packet(mac, "33:33:00:00:00:16", "::", "ff02::16", 58, kind=random.choice((131, 143, 132, 133))),
        lambda: Packet(mac, to, low, "ff02::1", 58, kind=random.choice((130, 131, 132, 133, 134, 143, 151))),
        lambda: Packet(mac, to, random.choice((six, low)), "fd00::77", 58, kind=135, asked="fd00::77", option=option),
        lambda: Packet(mac, to, six, "fd00::77", 58, kind=136, asked=random.choice((six, "fd00::3")), option=option),
    ]
    return random.choice(makers)()


def complaint(random: Random, said: Packet) -> Packet:
    """An ICMP error about a packet, from its receiver, or from somebody on its way."""
    own = said.back
    source = own.source if random.random() < 0.7 else random.choice(ADDRESSES[said.version])
    kind = random.choice((3, 11) if said.version == 4 else (1, 2, 3))
    protocol = ICMP[said.version]
    quoted = replace(said, fragment="")
    return Packet(said.target_mac, said.source_mac, source, own.target, protocol, kind=kind, code=1, quoted=quoted)


class Story:
    """A project and what was said in it; `step` does one more thing."""

    def __init__(self, random: Random, made: Project) -> None:
        self.random, self.project = random, made
        self.said: list[tuple[str, Packet, frozenset[str]]] = []
        self.arrived = self.refused = 0

    def step(self) -> None:
        """A packet, an answer to one that arrived, an error about one, or a change."""
        random = self.random
        chance = random.random()
        heard = [
            (name, said) for _, said, got in self.said for name in sorted(got) if name in self.project.oracle.ports
        ]
        if chance < 0.45 or not self.said:
            self.send()
        elif chance < 0.7 and heard:
            name, said = random.choice(heard)
            self._send(name, self._variant(self.project.answer(said)))
        elif chance < 0.76 and heard:
            name, said = random.choice(heard)
            if said.source_port not in DHCP:
                self._send(name, complaint(random, said))
        elif chance < 0.85:
            name, said, _ = random.choice(self.said)
            if name in self.project.oracle.ports:
                self._send(name, self._variant(said))
        else:
            self.change()

    def send(self) -> None:
        """A new packet, from a port or from a stranger."""
        random, made = self.random, self.project
        sender, said = packet(random, made)
        network = made.oracle.ports[sender]["network_id"]
        if made.oracle.networks[network]["provider:network_type"] in ("vlan", "flat") and random.random() < 0.15:
            if not isinstance(said, Arp):
                made.send_wire(network, said)
        else:
            self._send(sender, said)

    def change(self) -> None:
        """Something else holds from now on."""
        random, made = self.random, self.project
        kind = random.choice(("rule", "rule", "no rule", "no rule", "regroup", "addresses", "port", "no port"))
        if kind == "rule":
            rule(random, made)
        elif kind == "no rule" and made.oracle.security_group_rules:
            made.delete_rule(random.choice(sorted(made.oracle.security_group_rules)))
        elif kind == "addresses":
            made.address_group(random.choice(ADDRESS_GROUPS), *some(random, PREFIXES[4] + PREFIXES[6], 6))
        elif kind == "port" and len(made.oracle.ports) < 6:
            port(random, made)
        elif kind == "no port" and len(made.oracle.ports) > 2:
            made.delete_port(random.choice(sorted(made.oracle.ports)))
        elif kind == "regroup":
            secure = [name for name, row in made.oracle.ports.items() if row["port_security_enabled"]]
            if secure:
                made.regroup(random.choice(secure), *groups(random))

    def _variant(self, said: Packet) -> Packet:
        """The packet, or one that differs a little."""
        chance = self.random.random()
        if chance < 0.15 and said.quoted is None and said.source_port not in DHCP:
            return replace(said, fragment=_fragment(self.random))
        if chance < 0.25 and said.protocol in (TCP, UDP, SCTP):
            return replace(said, target_port=self.random.choice(PORTS))
        return said

    def _send(self, sender: str, said: Frame) -> set[str]:
        got = self.project.send(sender, said)
        self.arrived, self.refused = self.arrived + bool(got), self.refused + (not got)
        if isinstance(said, Packet) and not said.is_answer:
            self.said.append((sender, said, frozenset(got)))
        return got
