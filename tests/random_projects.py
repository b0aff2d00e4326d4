"""Random projects, from a source of randomness: hypothesis' own, which shrinks, or a seeded one.

Everything comes from small pools, so that things meet: rules overlap, addresses are contested. What happens in a
project is in `random_stories`.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, TypeVar

from selvedge.topology import SegmentKind
from tests.oracle import number
from tests.oracle_packets import ICMP, SCTP, TCP, UDP
from tests.project import Project

HOSTS = ("hv1", "hv2", "hv3")
KINDS: tuple[SegmentKind, ...] = ("geneve", "vxlan", "vlan", "flat")
STATEFUL, STATELESS = ("web", "db"), ("fast",)
ADDRESS_GROUPS = ("offices", "nobody")
VIRTUAL = "00:00:5e:00:01:07"
PREFIXES = {
    4: (
        "0.0.0.0/0",
        "10.0.0.0/24",
        "10.0.0.0/26",
        "10.0.0.64/26",
        "10.0.0.128/26",
        "10.0.0.2/32",
        "10.0.0.3",
        "10.8.0.0/16",
        "10.9.0.0/16",
    ),
    6: ("::/0", "fd00::/64", "fd00::2/128", "fd00::100/120", "fd00::200/120", "fe80::/10", "fd08::/32", "fd09::/32"),
}
PAIRS = (
    ("", "10.0.0.100/32"),
    ("", "10.0.0.64/26"),
    ("", "fd00::100/128"),
    (VIRTUAL, "10.0.0.100/32"),
    (VIRTUAL, "10.0.0.96/27"),
    (VIRTUAL, "fd00::100/128"),
)
RANGES = ((80, 80), (22, 22), (79, 81), (1, 65535), (1, 1023), (1024, 65535), (80, 443), (81, 5000), (5000, 5000))
TYPES = {4: ((None, None), (8, None), (8, 0), (13, 0), (3, None), (0, None)), 6: ((None, None), (128, None), (128, 0))}
_NAMES = ("tcp", "udp", "tcp", "udp", "icmp", "icmp", "icmpv6", "sctp", "gre", "6", "17", "hopopt", "dccp", "any")
PROTOCOLS: tuple[str | None, ...] = (*_NAMES, None)

T = TypeVar("T")


def some(random: Random, pool: Sequence[T], most: int) -> list[T]:
    """Up to so many different things of a pool."""
    return random.sample(list(pool), min(len(pool), random.randint(0, most)))


def project(random: Random, kinds: Sequence[SegmentKind] = KINDS, hosts: int = len(HOSTS)) -> Project:
    """One or two networks on up to three hosts, groups of both sorts, rules, ports. Most groups let everything out."""
    made = Project(*HOSTS[: random.randint(1, hosts)])
    made.network("net", random.choice(kinds), 100)
    if random.random() < 0.3:
        made.network("other", random.choice(("geneve", "vxlan", "vlan")), 200)
    for group in STATEFUL:
        made.group(group)
    for group in STATELESS:
        made.group(group, stateful=False)
    for group in ADDRESS_GROUPS:
        made.address_group(group, *some(random, PREFIXES[4] + PREFIXES[6], 6))
    for group in (*STATEFUL, *STATELESS):
        for ethertype in ("IPv4", "IPv6") if random.random() < 0.7 else ():
            made.rule(group, "egress", ethertype)
    for _ in range(random.randint(0, 14)):
        rule(random, made)
    for _ in range(random.randint(2, 5)):
        port(random, made)
    return made


def rule(random: Random, made: Project) -> None:
    """A rule of any group; every other one is like another one, but for some of its attributes."""
    known = list(made.oracle.security_group_rules.values())
    like = random.choice(known) if known and random.random() < 0.5 else None
    ethertype = like["ethertype"] if like else random.choice(("IPv4", "IPv4", "IPv6"))
    version = 6 if ethertype == "IPv6" else 4
    parts = [_place(random), _ports(random, version), _remote(random, version)]
    for part in parts:
        if like and random.random() < 0.6:
            part.update({name: like[name] for name in part})
    where, what, who = parts
    made.rule(where["security_group_id"], where["direction"], ethertype, **what, **who)


def _place(random: Random) -> dict[str, Any]:
    direction = random.choice(("ingress", "ingress", "egress"))
    return {"security_group_id": random.choice(STATEFUL + STATEFUL + STATELESS), "direction": direction}


def _ports(random: Random, version: int) -> dict[str, Any]:
    protocol = random.choice(PROTOCOLS)
    value = number(protocol, version)
    first, last = None, None
    if value == ICMP[version]:
        first, last = random.choice(TYPES[version])
    elif value in (TCP, UDP, SCTP, 33) and random.random() < 0.8:
        first, last = random.choice(RANGES)
    return {"protocol": protocol, "port_range_min": first, "port_range_max": last}


def _remote(random: Random, version: int) -> dict[str, Any]:
    remote: dict[str, Any] = dict.fromkeys(("remote_ip_prefix", "remote_group_id", "remote_address_group_id"))
    pools = {
        "remote_ip_prefix": PREFIXES[version],
        "remote_group_id": STATEFUL + STATELESS,
        "remote_address_group_id": ADDRESS_GROUPS,
    }
    chosen = random.choice((None, "remote_ip_prefix", "remote_group_id", "remote_group_id", "remote_address_group_id"))
    if chosen:
        remote[chosen] = random.choice(pools[chosen])
    return remote


def groups(random: Random) -> list[str]:
    """The groups of one port: all stateful or none."""
    if random.random() < 0.1:
        return []
    if random.random() < 0.2:
        return [random.choice(STATELESS)]
    return sorted({random.choice(STATEFUL), random.choice(STATEFUL)})


def port(random: Random, made: Project) -> None:
    """A port with addresses of its own, and sometimes with pairs that others have too."""
    count = made.fabric._keys
    four, six = f"10.0.0.{count}", f"fd00::{count}"
    ips = random.choice(((four,), (six,), (four, six), (four, six)))
    pairs = some(random, PAIRS, 4) if random.random() < 0.4 else []
    network = random.choice(sorted(made.oracle.networks))
    host = random.choice(sorted(made.fabric.hypervisors))
    secure = random.random() < 0.8
    made.port(f"p{count}", network, host, *ips, groups=groups(random), pairs=pairs if secure else (), secure=secure)
