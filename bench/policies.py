"""The security group of benchmarks: ten rules as tenants write them, one of each kind, and how one of them changes.

Two of the ten are there from the start (Neutron's template: all egress, both IP versions). The others: the group's own
members, ports, ranges of ports, ICMP, networks, an address group. A rule cannot be edited in Neutron's API, so "one
rule changed" is what every tool makes of it: the old one is deleted and the new one created, two requests.
"""

from typing import Any

from bench.outcome import WrongShape
from devstack.labs.api import Api

RULES: dict[str, dict[str, Any]] = {
    "ssh": {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22},
    "web": {"protocol": "tcp", "port_range_min": 80, "port_range_max": 80},
    "port": {
        "protocol": "tcp",
        "port_range_min": 3306,
        "port_range_max": 3306,
        "remote_ip_prefix": "172.16.0.0/12",
    },
    "range": {
        "protocol": "tcp",
        "port_range_min": 8000,
        "port_range_max": 8100,
        "remote_ip_prefix": "10.0.0.0/8",
    },
    "media": {
        "protocol": "udp",
        "port_range_min": 5000,
        "port_range_max": 5999,
        "remote_ip_prefix": "192.168.0.0/16",
    },
    "icmp": {"protocol": "icmp"},
}
"""Ingress, IPv4. `self` (the group's members) and `names` (UDP 53 from the address group) name what is made first."""

CHANGES: dict[str, dict[str, int]] = {
    "port": {"port_range_min": 3307, "port_range_max": 3307},
    "range": {"port_range_min": 8000, "port_range_max": 8200},
}
"""What a rule changes to, and back from, round by round."""


class Policy:
    """One group with its ten rules. `id` is the group's, `addresses` the address group's."""

    def __init__(self, api: Api, name: str = "bench", stateful: bool = True) -> None:
        self._api = api
        self.id = api.create("security_group", name=name, stateful=stateful)["id"]
        self.addresses = api.create("address_group", name=name, addresses=["203.0.113.0/28", "198.51.100.7/32"])["id"]
        self._rules = {kind: self._rule(words) for kind, words in RULES.items()}
        self._rule({"remote_group_id": self.id})
        self._rule(
            {
                "protocol": "udp",
                "port_range_min": 53,
                "port_range_max": 53,
                "remote_address_group_id": self.addresses,
            }
        )
        self._changed: set[str] = set()
        self._added = 0
        found = len(api.show("security_group", self.id)["security_group_rules"])
        if found != 10:
            raise WrongShape(f"the benchmark's group has {found} rules instead of ten")

    def _rule(self, words: dict[str, Any]) -> str:
        identity: str = self._api.create(
            "security_group_rule", security_group_id=self.id, direction="ingress", ethertype="IPv4", **words
        )["id"]
        return identity

    def change(self, kind: str) -> None:
        """The rule of this kind (of `CHANGES`) gives way to its other form."""
        self._changed ^= {kind}
        words = RULES[kind] | (CHANGES[kind] if kind in self._changed else {})
        self._api.delete("security_group_rule", self._rules[kind])
        self._rules[kind] = self._rule(words)

    def add_address(self) -> None:
        """One more address in the address group, far from all others."""
        self._added += 1
        address = f"100.64.{self._added >> 4}.{(self._added & 15) * 16 + 1}/32"
        self._api.act("address_group", self.addresses, "add_addresses", addresses=[address])
