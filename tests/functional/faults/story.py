"""A tenant who does anything, from a seed: networks, subnets, ports, groups, rules, bindings, in no particular order.

What a story makes is the `World`'s to delete. Requests that the API refuses (a group in use, a network with ports) are
part of it.
"""

import random
from collections import Counter
from typing import Any

from devstack.labs.api import Refused
from tests.functional.verbs import World, allow

MOST = {"network": 6, "port": 30, "group": 6, "rule": 24}
"""What there is at most at a time: a story is long, the lab is small."""

WEIGHTS = {
    "make_network": 2,
    "change_network": 2,
    "delete_network": 1,
    "make_port": 14,
    "change_port": 10,
    "move_port": 12,
    "delete_port": 6,
    "make_group": 3,
    "regroup": 10,
    "make_rule": 10,
    "delete_rule": 7,
}


class Story:
    """`step` is one request or two. `told` counts what was done."""

    def __init__(self, world: World, seed: int) -> None:
        self.told: Counter[str] = Counter()
        self._world, self._api = world, world.api
        self._chance = random.Random(seed)
        self._hosts = [hypervisor.name for hypervisor in world.hypervisors]
        self._had: dict[str, list[str]] = {kind: [] for kind in MOST}

    def step(self) -> None:
        (name,) = self._chance.choices(list(WEIGHTS), list(WEIGHTS.values()))
        try:
            getattr(self, f"_{name}")()
        except Refused as error:
            if error.status not in (404, 409):
                raise
            self.told["refused"] += 1
        else:
            self.told[name] += 1

    def _any(self, kind: str) -> str:
        """One that there is, made if there is none."""
        if not self._had[kind]:
            getattr(self, f"_make_{kind}")()
        return self._chance.choice(self._had[kind])

    def _room(self, kind: str) -> bool:
        return len(self._had[kind]) < MOST[kind]

    def _groups(self) -> list[str]:
        return list({self._any("group") for _ in range(self._chance.randint(0, 2))})

    def _make_network(self) -> None:
        if self._room("network"):
            kind = self._chance.choice(["geneve", "vxlan", "vlan"])
            made = self._world.network(
                kind, *(["10.0.0.0/24"], ["10.0.0.0/24", "fd00:10::/64"])[self._chance.randint(0, 1)]
            )
            self._had["network"].append(made["id"])

    def _change_network(self) -> None:
        self._api.update("network", self._any("network"), admin_state_up=self._chance.random() < 0.7)

    def _delete_network(self) -> None:
        network = self._any("network")
        self._api.delete("network", network)  # refused while it has ports
        self._had["network"].remove(network)
        self._world.gone(network)

    def _make_port(self) -> None:
        if not self._room("port"):
            self._delete_port()
            return
        body: dict[str, Any] = {"network_id": self._any("network"), "security_groups": self._groups()}
        if self._chance.random() < 0.9:
            body["binding:host_id"] = self._chance.choice(self._hosts)
        self._had["port"].append(self._api.create("port", **body)["id"])

    def _change_port(self) -> None:
        change: dict[str, Any] = {"admin_state_up": self._chance.random() < 0.7}
        if self._chance.random() < 0.4:
            pair = {"ip_address": f"10.0.{self._chance.randint(1, 3)}.0/24"}
            change = {"allowed_address_pairs": [pair] if self._chance.random() < 0.6 else []}
        self._api.update("port", self._any("port"), **change)

    def _move_port(self) -> None:
        self._api.update("port", self._any("port"), **{"binding:host_id": self._chance.choice(["", *self._hosts])})

    def _delete_port(self) -> None:
        port = self._any("port")
        self._had["port"].remove(port)
        self._api.delete("port", port)

    def _make_group(self) -> None:
        if self._room("group"):
            self._had["group"].append(self._world.group())

    def _regroup(self) -> None:
        self._api.update("port", self._any("port"), security_groups=self._groups())

    def _make_rule(self) -> None:
        if not self._room("rule"):
            self._delete_rule()
            return
        first = self._chance.randint(1, 60000)
        remote: dict[str, Any] = self._chance.choice(
            [{}, {"cidr": f"10.{first % 200}.0.0/16"}, {"group": self._any("group")}]
        )
        rule = allow(self._chance.choice(["tcp", "udp"]), first, first + self._chance.randint(0, 9), **remote)
        self._had["rule"] += self._world.rules(self._any("group"), rule)

    def _delete_rule(self) -> None:
        rule = self._any("rule")
        self._had["rule"].remove(rule)
        self._world.unrule(rule)
