"""Rule by rule: each lets through exactly what it says, both ways of looking, near and far, in both families.

A subject whose group has no rule, between two others that allow everything: one beside it, one on another hypervisor.
So whatever does not pass was stopped by the subject's own rules, and whatever passes was let through by the one rule
that it has at that moment.
"""

from dataclasses import dataclass, field

import pytest

from devstack.labs.api import Resource
from devstack.labs.vm import Vm
from tests.functional.security.traffic import Attempt, expect, expect_all
from tests.functional.verbs import OPEN, World, allow

PROBES = (("tcp", 80), ("tcp", 81), ("tcp", 8080), ("udp", 53), ("udp", 8080), ("sctp", 2905), ("icmp", 0), ("gre", 0))
"""What everybody tries: a kind and a port."""

KINDS = ("geneve", "vxlan", "vlan")


@dataclass(frozen=True)
class Street:
    """The subject and its neighbours."""

    world: World
    group: str
    open_group: str
    subject: Vm
    near: Vm
    far: Vm
    tried: list[str] = field(default_factory=list)

    def attempts(self, direction: str) -> list[Attempt]:
        """Everything, of both families, that the subject is asked (ingress) or asks (egress)."""
        pairs = [(other, self.subject) for other in (self.near, self.far)]
        if direction == "egress":
            pairs = [(target, source) for source, target in pairs]
        return [
            Attempt(source, target, kind, port, version)
            for source, target in pairs
            for kind, port in PROBES
            for version in (4, 6)
        ]

    def try_rules(self, passing: set[str], *rules: Resource, only: Vm | None = None) -> None:
        """Rules of one direction replace those that were tried before: `passing` (as "tcp/80") is answered in their
        families, of `only` one neighbour or both; nothing else is."""
        families = {rule["ethertype"] for rule in rules}
        wanted = {
            attempt: "answered"
            if _name(attempt) in passing
            and f"IPv{attempt.version}" in families
            and only in (None, attempt.source, attempt.target)
            else "stopped"
            for attempt in self.attempts(rules[0]["direction"])
        }
        made = self.world.rules(self.group, *rules)
        self.world.unrule(*self.tried)
        self.tried[:] = made
        expect(wanted, because=f"with {rules}")

    def without_rules(self) -> None:
        self.world.unrule(*self.tried)
        self.tried.clear()
        expect_all("stopped", *self.attempts("ingress"), *self.attempts("egress"), because="without rules")


def _name(attempt: Attempt) -> str:
    return f"{attempt.protocol}/{attempt.port}" if attempt.port else attempt.protocol


def streets(world: World, kind: str) -> Street:
    group, open_group = world.group(egress=False), world.group(*OPEN, egress=False)
    net = world.network(kind)
    subject = world.port(net, "hv1", "10.0.0.10", "fd00:10::10", security_groups=[group])
    near = world.port(net, "hv1", "10.0.0.20", "fd00:10::20", security_groups=[open_group])
    far = world.port(net, "hv2", "10.0.0.130", "fd00:10::130", security_groups=[open_group])
    return Street(world, group, open_group, subject, near, far)


EVERYTHING = {_name(Attempt(None, None, kind, port)) for kind, port in PROBES}  # type: ignore[arg-type]
ALL_TCP = {"tcp/80", "tcp/81", "tcp/8080"}
ALL_UDP = {"udp/53", "udp/8080"}

BY_PROTOCOL: tuple[tuple[Resource, set[str]], ...] = (
    (allow("tcp", 80), {"tcp/80"}),
    (allow("tcp", 80, 81), {"tcp/80", "tcp/81"}),
    (allow("tcp", 81, 9000), {"tcp/81", "tcp/8080"}),
    (allow("tcp", 1, 65535), ALL_TCP),
    (allow("udp", 53), {"udp/53"}),
    (allow("6"), ALL_TCP),
    (allow("udp"), ALL_UDP),
    (allow("sctp", 2905), {"sctp/2905"}),
    (allow("sctp", 2906), set()),
    (allow("gre"), {"gre"}),
    (allow("icmp"), {"icmp"}),
    (allow("icmp", 8), {"icmp"}),
    (allow("icmp", 8, 0), {"icmp"}),
    (allow("icmp", 13), set()),
    (allow(), EVERYTHING),
)
"""Rules of IPv4, and what each lets through; for IPv6 the same, with its own names and types of ICMP."""


def of_six(rule: Resource) -> Resource:
    """The same rule for IPv6."""
    changed: Resource = {"ethertype": "IPv6"}
    if rule.get("protocol") == "icmp":
        changed["protocol"] = "ipv6-icmp"
        if "port_range_min" in rule:
            changed["port_range_min"] = {8: 128, 13: 133}[rule["port_range_min"]]
    return rule | changed


@pytest.mark.parametrize("direction", ("ingress", "egress"))
def test_each_rule_lets_through_what_it_says(three: World, direction: str) -> None:
    """TCP, UDP, SCTP, GRE, ICMP by type and code, ports and ranges, IPv4 and IPv6: that and nothing else."""
    street = streets(three, "geneve")
    street.without_rules()
    for rule, passing in BY_PROTOCOL:
        street.try_rules(passing, rule | {"direction": direction}, of_six(rule) | {"direction": direction})
    street.without_rules()


@pytest.mark.parametrize("direction", ("ingress", "egress"))
def test_each_prefix_is_what_it_says(three: World, direction: str) -> None:
    """A CIDR, an address group: one neighbour is meant, here or elsewhere, or both; in one family, not in the other."""
    street = streets(three, "geneve")
    for version, near, far in ((4, "10.0.0.20/32", "10.0.0.128/25"), (6, "fd00:10::20/128", "fd00:10::100/120")):
        both = three.addresses(near, far)
        words: Resource = {"direction": direction, "version": version}
        street.try_rules(EVERYTHING, allow(cidr=near, **words), only=street.near)
        street.try_rules({"tcp/80"}, allow("tcp", 80, cidr=far, **words), only=street.far)
        street.try_rules(ALL_UDP, allow("udp", addresses=both, **words))
        street.try_rules({"tcp/80", "tcp/81"}, allow("tcp", 80, 81, addresses=both, **words))
    street.without_rules()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("direction", ("ingress", "egress"))
def test_each_remote_group_is_who_it_says(three: World, kind: str, direction: str) -> None:
    """One neighbour is in the group that a rule names, then the other: on the same host, across a tunnel that carries
    identities, across one that does not, and across a wire."""
    street = streets(three, kind)
    own = three.group(*OPEN, egress=False)
    for only, other in ((street.near, street.far), (street.far, street.near)):
        three.regroup(only, street.open_group, own)
        three.regroup(other, street.open_group)
        words: Resource = {"direction": direction, "group": own}
        street.try_rules({"tcp/80"}, allow("tcp", 80, **words), only=only)
        street.try_rules(EVERYTHING, allow(**words), allow(version=6, **words), only=only)
    street.without_rules()


def test_overlapping_rules_hold_for_each_other(three: World) -> None:
    """The same packet is allowed by five rules, broad and narrow: four are removed, one by one, and it passes until
    the last one goes; whatever the order."""
    street = streets(three, "geneve")
    members = three.group(*OPEN, egress=False)
    three.regroup(street.far, street.open_group, members)
    home = three.addresses("10.0.0.128/26")
    rules = (
        allow("tcp", 80),
        allow("tcp", 1, 1000, cidr="10.0.0.0/16"),
        allow("tcp", cidr="10.0.0.130/32"),
        allow(group=members),
        allow("tcp", 64, 127, addresses=home),
    )
    asked = Attempt(street.far, street.subject, "tcp", 80)
    for first in range(len(rules)):
        made = three.rules(street.group, *rules)
        expect_all("answered", asked)
        order = made[first:] + made[:first]
        for rule in order[:-1]:
            three.unrule(rule)
            expect_all("answered", asked, *[asked] * 3, because=f"rule {rule} went, others hold")
        three.unrule(order[-1])
        expect_all("stopped", asked)


def test_overlapping_prefixes_are_one_set(three: World) -> None:
    """Prefixes within prefixes, with other ports each, in one address group and beside it: whoever is in two of them
    has the ports of both; a prefix taken out of the group takes its ports along and leaves the other's."""
    street = streets(three, "geneve")
    wide, narrow = three.addresses("10.0.0.0/24", "10.0.0.0/25"), three.addresses("10.0.0.16/28", "10.0.0.128/25")
    three.rules(street.group, allow("tcp", 80, 81, addresses=wide), allow("tcp", 81, 9000, addresses=narrow))
    three.rules(street.group, allow("udp", 53, cidr="10.0.0.20/30"), allow("udp", 53, cidr="10.0.0.20/32"))

    def of(who: Vm, *names: str) -> dict[Attempt, str]:
        return {
            Attempt(who, street.subject, kind, port): "answered" if f"{kind}/{port}" in names else "stopped"
            for kind, port in PROBES[:5]
        }

    expect(of(street.near, *ALL_TCP, "udp/53") | of(street.far, *ALL_TCP))
    three.api.act("address_group", wide, "remove_addresses", addresses=["10.0.0.0/24"])
    expect(of(street.near, *ALL_TCP, "udp/53") | of(street.far, "tcp/81", "tcp/8080"))
    three.api.act("address_group", narrow, "remove_addresses", addresses=["10.0.0.16/28"])
    expect(of(street.near, "tcp/80", "tcp/81", "udp/53") | of(street.far, "tcp/81", "tcp/8080"))
    three.api.act("address_group", wide, "add_addresses", addresses=["10.0.0.130/32"])
    expect(of(street.near, "tcp/80", "tcp/81", "udp/53") | of(street.far, *ALL_TCP))
