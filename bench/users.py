"""Users of the API during chaos: each asks any controller for something every moment, and insists until it is answered.

What a user does is drawn from dice of its own and from its `Model` alone, so the same seed gives the same wishes. An
error 503, a timeout or a broken connection is no answer: the user waits a moment and asks another controller, a
creation only after looking whether the first attempt has left it (by its name). Nothing counts as done that was not
answered. A 404 for something that was answered before is a lost change; a 500 is a defect; both are `findings`. Ports
are booted too: an interface of the port on its host's br-int, of type internal, plugged and pulled as libvirt does
it. All resources are of the user's own; only the network and group of the steady traffic are shared.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.excuses import Window
from bench.model import LABEL, PREFIX, Model, Thing
from devstack.labs.api import Api, Refused
from devstack.labs.hypervisor import Hypervisor
from devstack.labs.process import LabError

T = TypeVar("T")

PATIENCE_S = 5.0
"""After which a request counts as not answered."""

PACE_S = 0.6
"""Mean seconds between two wishes of one user."""

SETTLED_S = 0.2
"""After which an interface that came or went is no reason for a lost packet."""

MOST = {"network": 3, "port": 20, "security_group": 4, "security_group_rule": 16}
"""Of each kind, by one user; beyond, it deletes."""

WISHES = {
    "add_port": 8,
    "drop_port": 4,
    "move_port": 5,
    "regroup_port": 5,
    "boot_port": 5,
    "pull_port": 2,
    "describe": 3,
    "add_network": 2,
    "drop_network": 1,
    "add_group": 2,
    "drop_group": 1,
    "add_rule": 5,
    "drop_rule": 3,
}
"""How often each is wished for, compared with the others."""

HOST = "binding:host_id"


class Unanswered(Exception):
    """Nobody knows whether it was carried out."""


@dataclass(frozen=True)
class Site:
    """What users share: the steady network and group, which nobody deletes."""

    network: str
    group: str


class User:
    """One of them; ends after `finish`, when its last wish is answered."""

    def __init__(
        self,
        number: int,
        seed: int,
        urls: Sequence[str],
        *,
        hypervisors: Mapping[str, Hypervisor],
        site: Site,
        note: Callable[[str], None],
    ) -> None:
        """`note` is told what is answered, and when."""
        self.name = f"user{number}"
        self.thread = threading.Thread(target=self.run, name=self.name, daemon=True)
        self.model = Model()
        self.findings: list[str] = []
        self.answered = self.unanswered = 0
        self.plugged: dict[str, str] = {}
        self.plugs: list[Window] = []
        self.wish = "nothing yet"
        self._dice = random.Random(f"{seed} {number}")
        self._roads = random.Random(f"{seed} {number} roads")  # retries draw from here, so wishes do not depend on them
        self._apis = [Api(url, PATIENCE_S) for url in urls]
        self._hypervisors, self._site = hypervisors, site
        self._number, self._count, self._note = number, 0, note
        self._stopping = threading.Event()

    def finish(self) -> None:
        """No further wish."""
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.wait(self._dice.expovariate(1 / PACE_S)):
            self.wish = self._dice.choices(list(WISHES), list(WISHES.values()))[0]
            try:
                getattr(self, self.wish)()
            except Exception as error:
                self.findings.append(f"{self.name} wished {self.wish}: {type(error).__name__}: {error}")

    # Asking

    def _attempt(self, ask: Callable[[Api], T]) -> T:
        """Ask one of the controllers once. Raises Unanswered; Refused if that is the answer."""
        try:
            found = ask(self._roads.choice(self._apis))
        except Refused as error:
            if error.status == 500:
                self.findings.append(f"{self.name} wished {self.wish}: {error}")
            if error.status >= 500:
                self.unanswered += 1
                raise Unanswered from error
            self.answered += 1
            raise
        except LabError as error:
            self.unanswered += 1
            raise Unanswered from error
        self.answered += 1
        return found

    def _insist(self, ask: Callable[[Api], T], missed: Callable[[], None] = lambda: None) -> T:
        """Ask until there is an answer; `missed` is told of each attempt without one."""
        while True:
            try:
                return self._attempt(ask)
            except Unanswered:
                missed()
                time.sleep(self._roads.uniform(0.1, 0.5))

    def _new_name(self) -> str:
        self._count += 1
        return f"{PREFIX}{self._number}.{self._count}"

    def _create(self, kind: str, keys: Sequence[str] = (), **body: Any) -> Thing | None:
        """Create it; None if it is refused for a good reason (no room, in use)."""
        name, label = self._new_name(), LABEL.get(kind, "name")
        while True:
            refused = False
            try:
                made = self._attempt(lambda api: api.create(kind, **{label: name}, **body))
                self._note(f"{self.name}: {kind} {name!r} {made['id']} is made")
                return self.model.made(kind, name, made, *keys)
            except Unanswered:
                self.model.unanswered(name)
            except Refused as error:
                if error.status != 409:
                    raise
                refused = True
            if refused and name not in self.model.uncertain:
                return None
            time.sleep(self._roads.uniform(0.1, 0.5))
            there = self._insist(lambda api: api.list(f"{kind}s", **{label: name}))
            if there:
                return self.model.made(kind, name, there[0], *keys)
            if refused:
                return None

    def _change(self, thing: Thing, key: str, value: Any) -> None:
        def missed() -> None:
            self.model.attempted(thing, key, value)

        try:
            self._insist(lambda api: api.update(thing.kind, thing.id, **{key: value}), missed)
        except Refused as error:
            if error.status == 409:
                return  # it is forbidden just now, and nothing has changed
            if error.status != 404:
                raise
            self._lost(thing)
        else:
            self._note(f"{self.name}: {thing.kind} {thing.name!r} {thing.id} has {key} {value}")
            self.model.changed(thing, key, value)

    def _delete(self, thing: Thing) -> bool:
        """Whether it is gone; what is in use stays."""
        tried = False

        def missed() -> None:
            nonlocal tried
            tried = True

        try:
            self._insist(lambda api: api.delete(thing.kind, thing.id), missed)
        except Refused as error:
            if error.status == 409:
                return False
            if error.status != 404:
                raise
            if not tried:
                self._lost(thing)
                return False
        self._note(f"{self.name}: {thing.kind} {thing.name!r} {thing.id} is deleted")
        self.model.deleted(thing)
        return True

    def _lost(self, thing: Thing) -> None:
        self.findings.append(f"{thing.kind} {thing.name!r} {thing.id} was answered, and then the API said 404")
        self.model.things.pop(thing.id, None)

    def _any(self, kind: str) -> Thing | None:
        found = self.model.of(kind)
        return self._dice.choice(found) if found else None

    def _full(self, kind: str) -> bool:
        return len(self.model.of(kind)) >= MOST[kind]

    def _groups(self) -> list[str]:
        """One to three of the groups that there are."""
        found = [self._site.group, *(group.id for group in self.model.of("security_group"))]
        return sorted(self._dice.sample(found, min(len(found), self._dice.randint(1, 3))))

    def _host(self) -> str:
        return self._dice.choice(list(self._hypervisors))

    # Wishes

    def add_network(self) -> None:
        if self._full("network"):
            return
        kind = self._dice.choice(("geneve", "geneve", "vxlan", "vlan"))
        words: dict[str, Any] = {"provider:network_type": kind}
        if kind == "vlan":
            words["provider:physical_network"] = "physnet1"
        network = self._create("network", ("provider:segmentation_id",), **words)
        if network:
            cidr = f"10.{self._dice.randint(1, 250)}.0.0/24"
            self._create(
                "subnet", ("cidr", "network_id"), network_id=network.id, ip_version=4, cidr=cidr, gateway_ip=None
            )

    def drop_network(self) -> None:
        used = {port.values["network_id"] for port in self.model.of("port")}
        free = [network for network in self.model.of("network") if network.id not in used]
        if free and self._delete(free[0]):
            for subnet in self.model.of("subnet"):
                if subnet.values.get("network_id") == free[0].id:
                    self.model.deleted(subnet)

    def add_port(self) -> None:
        if self._full("port"):
            self.drop_port()
            return
        networks = [self._site.network, *(network.id for network in self.model.of("network"))]
        body = {
            "network_id": self._dice.choice(networks),
            HOST: self._host(),
            "security_groups": self._groups(),
            "device_owner": "compute:nova",
        }
        self._create("port", ("network_id", HOST, "security_groups", "mac_address"), **body)

    def drop_port(self) -> None:
        port = self._any("port")
        if port:
            self._pull(port)
            self._delete(port)

    def move_port(self) -> None:
        """To another host; a booted one is pulled, and booted there."""
        port, to = self._any("port"), self._host()
        if port:
            booted = self._pull(port)
            self._change(port, HOST, to)
            if booted:
                self._boot(port)

    def regroup_port(self) -> None:
        port, groups = self._any("port"), self._groups()
        if port:
            self._change(port, "security_groups", groups)

    def boot_port(self) -> None:
        port = self._any("port")
        if port:
            self._boot(port)

    def pull_port(self) -> None:
        port = self._any("port")
        if port:
            self._pull(port)

    def describe(self) -> None:
        thing = self._any(self._dice.choice(("network", "port", "security_group")))
        if thing:
            self._change(thing, "description", f"the {self._dice.randint(1, 999)}th")

    def add_group(self) -> None:
        if not self._full("security_group"):
            self._create("security_group", (), stateful=self._dice.random() < 0.8)

    def drop_group(self) -> None:
        used = {group for port in self.model.of("port") for group in port.values["security_groups"]}
        free = [group for group in self.model.of("security_group") if group.id not in used]
        if free and self._delete(free[0]):
            for rule in self.model.of("security_group_rule"):
                if rule.values["security_group_id"] == free[0].id:
                    self.model.deleted(rule)

    def add_rule(self) -> None:
        if self._full("security_group_rule"):
            self.drop_rule()
            return
        first = self._dice.randint(6000, 9000)
        body: dict[str, Any] = {
            "security_group_id": self._dice.choice(
                [self._site.group, *(group.id for group in self.model.of("security_group"))]
            ),
            "direction": "ingress",
            "ethertype": "IPv4",
            "protocol": self._dice.choice(("tcp", "udp")),
            "port_range_min": first,
            "port_range_max": first + self._dice.choice((0, 0, 9, 100)),
        }
        remote = self._dice.choice(("any", "group", "prefix"))
        if remote == "group":
            body["remote_group_id"] = self._site.group
        elif remote == "prefix":
            body["remote_ip_prefix"] = "10.0.0.0/8"
        self._create("security_group_rule", ("security_group_id", "port_range_min", "port_range_max"), **body)

    def drop_rule(self) -> None:
        rule = self._any("security_group_rule")
        if rule:
            self._delete(rule)

    # Interfaces

    def _boot(self, port: Thing) -> None:
        host, name = str(port.values[HOST]), f"vm{port.id[:11]}"
        identity = [f"external_ids:iface-id={port.id}", f"external_ids:attached-mac={port.values['mac_address']}"]
        self._switch(
            host, "--may-exist", "add-port", "br-int", name, "--", "set", "Interface", name, "type=internal", *identity
        )
        self.plugged[port.id] = host

    def _pull(self, port: Thing) -> bool:
        """Whether it was booted."""
        host = self.plugged.pop(port.id, None)
        if host is not None:
            self._switch(host, "--if-exists", "del-port", "br-int", f"vm{port.id[:11]}")
        return host is not None

    def _switch(self, host: str, *words: str) -> None:
        """One change in the host's Open vSwitch, as often as it takes: each may be repeated."""
        while True:
            begin = time.monotonic()
            try:
                self._hypervisors[host].run("ovs-vsctl", "--no-wait", "--timeout=5", *words)
                self._note(f"{self.name}: {host}: {' '.join(words[1:4])}")
                self.plugs.append(Window(host, begin, time.monotonic() + SETTLED_S, " ".join(words[1:4])))
                return
            except LabError:
                time.sleep(0.3)
