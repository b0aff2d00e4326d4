"""A controller in memory, with its feed: topics with versions, the agents' calls, and what the API says of ports.

Whatever changes is said to a `Listener` as the feed's messages, in the order of its topic; nothing is lost here, that
is the business of whoever delivers.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from agents.session import FeedMessages
from selvedge import rpc
from selvedge.topics import (
    HOSTS,
    Snapshot,
    Update,
    addresses_topic,
    group_topic,
    host_topic,
    members_topic,
    segment_topic,
)
from selvedge.topology import (
    AddressGroup,
    Binding,
    Endpoint,
    Group,
    Host,
    Membership,
    Object,
    Ref,
    Rule,
    Segment,
    ref,
)

HERE = "hv1"
HOSTS_KNOWN = {
    HERE: Host(HERE, 1, "192.0.2.1"),
    "hv2": Host("hv2", 2, "192.0.2.2"),
    "hv3": Host("hv3", 3, "192.0.2.3"),
}
SEGMENTS = {
    "s1": Segment("s1", 11, "n1", "geneve", 101, None, 1442),
    "s2": Segment("s2", 12, "n2", "vlan", 102, "physnet1", 1500),
    "s3": Segment("s3", 13, "n3", "vxlan", 103, None, 1450),
}


@dataclass
class Port:
    """A port as the controller has it."""

    endpoint: Endpoint
    host: str | None = None
    claimed: bool = False
    status: str = "DOWN"


class Listener(Protocol):
    """Who hears what a simulated source says."""

    def say(self, source: str, event: Any) -> None: ...


class Controller:
    """Topics with versions, the four calls, and what the API says of ports."""

    def __init__(self, world: "Listener") -> None:
        self._world = world
        self.ports: dict[str, Port] = {}
        self.topics: dict[str, dict[Ref, Object]] = {}
        self.versions: dict[str, int] = {}
        self.bound: set[str] = set()
        self.identities: dict[tuple[str, ...], int] = {(): 0}
        self.calls: list[rpc.Report | rpc.Subscribe | rpc.Inspect | rpc.Claim | rpc.Wired] = []
        self._change({HOSTS: list(HOSTS_KNOWN.values())})
        for segment in SEGMENTS.values():
            self._change({segment_topic(segment.id): [segment]})

    # --- the API

    def create(self, number: int, segment: str, host: str | None = None, **values: Any) -> str:
        name = f"p{number}"
        endpoint = Endpoint(name, 100 + number, segment, "", f"fa:16:3e:00:00:{number:02x}", (f"10.0.0.{number}",))
        self.ports[name] = Port(replace_struct(endpoint, **self._grouped(values)))
        self.bind(name, host)
        return name

    def bind(self, name: str, host: str | None, claimed: bool = False) -> None:
        port = self.ports[name]
        if port.host == host:
            return
        if port.host is not None:
            self._change({}, {host_topic(port.host): [Ref("binding", name)]})
        port.host, port.status, port.claimed = host, "DOWN", claimed
        segment = port.endpoint.segment
        if host is None:
            self._change({}, {segment_topic(segment): [Ref("endpoint", name)]})
            return
        port.endpoint = replace_struct(port.endpoint, host=host)
        self._tell(port, host)

    def update(self, name: str, **values: Any) -> None:
        port = self.ports[name]
        port.endpoint = replace_struct(port.endpoint, **self._grouped(values))
        if port.host is not None:
            self._tell(port, port.host)

    def _tell(self, port: Port, host: str) -> None:
        """The states of a bound port, and of its set of groups, if that is the first of its kind."""
        endpoint = port.endpoint
        binding = Binding(endpoint.id, endpoint.segment, endpoint.groups)
        upserts: dict[str, list[Any]] = {segment_topic(endpoint.segment): [endpoint]}
        if self.topics.get(host_topic(host), {}).get(ref(binding)) != binding:
            upserts[host_topic(host)] = [binding]
        self._change(upserts)

    def _grouped(self, values: dict[str, Any]) -> dict[str, Any]:
        """`groups` with the number of the set, which is new if nobody had it before."""
        if "groups" not in values:
            return values
        groups = tuple(sorted(values["groups"]))
        if groups not in self.identities:
            number = self.identities[groups] = len(self.identities)
            self._change({members_topic(group): [Membership(f"{group}/{number}", group, number)] for group in groups})
        return values | {"groups": groups, "identity": self.identities[groups]}

    def group(self, name: str, *rules: Rule, stateful: bool = True) -> None:
        self._change({group_topic(name): [Group(name, 500 + len(self.topics), stateful), *rules]})

    def rule(self, number: int, group: str, **values: Any) -> None:
        rule = replace_struct(Rule(f"r{number}", 700 + number, group, "ingress", 4), **values)
        self._change({group_topic(group): [rule]})

    def delete_rule(self, number: int, group: str) -> None:
        self._change({}, {group_topic(group): [Ref("rule", f"r{number}")]})

    def addresses(self, name: str, *prefixes: str) -> None:
        self._change({addresses_topic(name): [AddressGroup(name, 600, prefixes)]})

    def delete(self, name: str) -> None:
        self.bind(name, None)
        del self.ports[name]

    def update_segment(self, name: str, **values: Any) -> None:
        old = self.topics[segment_topic(name)][Ref("segment", name)]
        self._change({segment_topic(name): [replace_struct(old, **values)]})

    def _change(self, upserts: dict[str, list[Any]], deletes: dict[str, list[Ref]] | None = None) -> None:
        deletes = deletes or {}
        for topic in sorted(upserts.keys() | deletes.keys()):
            objects = self.topics.setdefault(topic, {})
            for name in deletes.get(topic, []):
                objects.pop(name, None)
            objects.update({ref(thing): thing for thing in upserts.get(topic, [])})
            self.versions[topic] = self.versions.get(topic, 0) + 1
            if topic in self.bound:
                gone = tuple(deletes.get(topic, []))
                self._world.say(
                    "feed", FeedMessages((Update(topic, self.versions[topic], tuple(upserts.get(topic, [])), gone),))
                )

    # --- the calls

    def call(self, request: Any) -> Any:
        self.calls.append(request)
        match request:
            case rpc.Report(topics=known, active=told):
                stale = tuple(t for t, v in known.items() if self.versions.get(t, 0) != v)
                up = [port.endpoint.key for port in self.ports.values() if (port.host, port.status) == (HERE, "ACTIVE")]
                return rpc.ReportReply(stale, told is not None and told != rpc.Active(len(up), sum(up)))
            case rpc.Subscribe(topics=known, drop=drop):
                self.bound = (self.bound - set(drop)) | known.keys()
                return rpc.SubscribeReply(
                    tuple(
                        Snapshot(topic, self.versions.get(topic, 0), tuple(self.topics.get(topic, {}).values()))
                        for topic, version in known.items()
                        if version != self.versions.get(topic, 0)
                    )
                )
            case rpc.Inspect(topics=names):
                return rpc.InspectReply(
                    tuple(
                        Snapshot(topic, self.versions.get(topic, 0), tuple(self.topics.get(topic, {}).values()))
                        for topic in names
                    )
                )
            case rpc.Claim(ports=names):
                return rpc.ClaimReply({name: self._claim(name) for name in names})
            case rpc.Wired():
                states = [(name, "up") for name in request.up] + [(name, "down") for name in request.down]
                states += [(name, "unplugged") for name in request.unplugged]
                return rpc.WiredReply(tuple(name for name, state in states if not self._wired(name, state)))
        raise AssertionError(request)

    def _claim(self, name: str) -> str:
        port = self.ports.get(name)
        if port is None:
            return "unknown"
        if port.host not in (None, HERE):
            return "elsewhere"
        if port.host is None:
            self.bind(name, HERE, claimed=True)
        return "claimed"

    def _wired(self, name: str, state: str) -> bool:
        port = self.ports.get(name)
        if port is None or port.host != HERE:
            return False
        port.status = "ACTIVE" if state == "up" else "DOWN"
        if state == "unplugged" and port.claimed:
            self.bind(name, None)
        return True


def replace_struct(thing: Any, **values: Any) -> Any:
    return msgspec.structs.replace(thing, **values)
