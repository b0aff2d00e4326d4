"""Relations: what follows from each single fact, and the window through which compilers look at all of it.

A relation is a set of values under a key: who is on this segment at that host, who claims this address. Its rows are
derived from one fact at a time (`rows`), so a changed fact changes a handful of rows, whatever the number of facts;
relating two facts to each other is the reader's business. The engine keeps rows as multisets, and a key counts as
changed only when its set of distinct values does: the second endpoint of a host on a segment changes nothing for
whoever asked which hosts have members.

A `Node` names what can be read: a fact by its `Ref`, or a relation's key. `View` is the one way for a compiler to
read, and records every node it was asked for. So a compiler cannot forget to declare what it depends on.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, cast, get_args

from openflow import addresses
from openflow import pipeline as p
from openflow import rules as rules_of
from openflow.facts import SELF, Fact, Patch, Plug, Posture, Self, TunnelKind, TunnelPort, Zone
from selvedge.topology import AddressGroup, Direction, Endpoint, Group, Host, Membership, Ref, Rule, Segment

Node = tuple[object, ...]
"""What can be read: `Ref(kind, id)` of a fact, or `(relation, key…)`. The nodes that have a compiler are owners."""

Row = tuple[Node, object]

NOTHING: Collection[object] = ()

LARGEST_KEY = (1 << 32) - 1
"""Of an endpoint, and of an identity: a register has 32 bits, and 0 in it is nobody."""


class Station(NamedTuple):
    """An endpoint (`port` is its id) that receives what is sent to a MAC address, and its identity."""

    key: int
    host: str
    identity: int
    port: str


class Claim(NamedTuple):
    """An endpoint that says an address is its own. `fixed`: a fixed IP; otherwise an allowed pair names it."""

    key: int
    host: str
    mac: int
    fixed: bool


class Peer(NamedTuple):
    """A remote tunnel end that we can reach."""

    key: int
    address: addresses.Address


def rows(fact: Fact) -> Iterator[Row]:
    """The rows that follow from one fact; they may repeat.

    Raises ValueError for a fact that cannot be understood: an address that is none, a key that fits into no register.
    Others read these of an endpoint and a host (floods name all members), so they must not be hurt by them.
    """
    if isinstance(fact, Host):
        _check_key(fact.key, p.LARGEST_HOST)
    if isinstance(fact, Host | Self) and fact.tunnel_ip:
        addresses.address(fact.tunnel_ip)
    if isinstance(fact, Endpoint):
        _check_key(fact.key, LARGEST_KEY)
        _check_identity(fact.identity)
        if fact.up:
            yield from _endpoint_rows(fact)
    elif isinstance(fact, Zone):
        _check_key(fact.number, p.LARGEST_ZONE)
    elif isinstance(fact, Posture):
        _check_identity(fact.policy)
        _check_identity(fact.sends)
        yield ("policy", fact.policy), fact.groups
        yield ("postures", fact.segment), fact.groups
    elif isinstance(fact, Rule):
        _check_rule(fact)
        yield ("rules", fact.group), fact
        if fact.remote_group is not None:
            yield ("remotes", fact.group, fact.direction), True
    elif isinstance(fact, Membership):
        _check_key(fact.identity, LARGEST_KEY)
        yield ("members", fact.group), fact.identity
    elif isinstance(fact, AddressGroup):
        for text in fact.prefixes:
            addresses.prefix(text)


def _check_key(key: int, largest: int) -> None:
    if not 0 < key <= largest:
        raise ValueError(f"the key {key} is not between 1 and {largest}")


def _check_identity(number: int) -> None:
    if not 0 <= number <= LARGEST_KEY:
        raise ValueError(f"the identity {number} is not between 0 and {LARGEST_KEY}")


def _check_rule(rule: Rule) -> None:
    """A rule about what no packet is, or Open vSwitch cannot tell apart, would else be its whole policy's failure."""
    _check_key(rule.key, LARGEST_KEY)
    if rule.direction not in get_args(Direction) or rule.version not in (4, 6):
        raise ValueError(f"no packet is {rule.direction} of IP version {rule.version}")
    if rule.protocol is not None and not 0 <= rule.protocol <= 255:
        raise ValueError(f"the protocol {rule.protocol} is not between 0 and 255")
    rules_of.span(rule)
    if sum(remote is not None for remote in (rule.cidr, rule.remote_group, rule.remote_addresses)) > 1:
        raise ValueError("a rule has one remote side")
    if rule.cidr is not None and addresses.prefix(rule.cidr).version != rule.version:
        raise ValueError(f"{rule.cidr} is not of IP version {rule.version}")


def _station(text: str) -> int:
    """A MAC that one station may have. A group address would let an endpoint take what is meant for all."""
    mac = addresses.mac(text)
    if mac & addresses.MULTICAST_BIT:
        raise ValueError(f"{text} is the address of a group")
    return mac


def _endpoint_rows(fact: Endpoint) -> Iterator[Row]:
    segment, host, key = fact.segment, fact.host, fact.key
    yield ("inhabited", segment, host), True
    yield ("hosts", segment), host
    yield ("segments", host), segment
    yield ("member", segment, host), key
    yield ("population", host), fact.secure
    own = _station(fact.mac)
    station = Station(key, host, fact.identity if fact.secure else 0, fact.id)
    yield ("station", segment, own), station
    for text in fact.addresses:
        version, value = addresses.address(text)
        yield ("address", segment, version, value), Claim(key, host, own, fixed=True)
    for pair in fact.pairs:
        # A pair without a MAC is about the port's own.
        hardware = _station(pair.mac) if pair.mac else own
        yield ("station", segment, hardware), station
        version, value, mask = addresses.prefix(pair.cidr)
        if mask == addresses.exact(version):
            yield ("address", segment, version, value), Claim(key, host, hardware, fixed=False)


class View:
    """What one run of a compiler sees; `reads` are the nodes it asked for."""

    __slots__ = ("_facts", "_index", "reads")

    def __init__(self, facts: Mapping[Node, Fact], index: Mapping[Node, Collection[object]]) -> None:
        self._facts = facts
        self._index = index
        self.reads: set[Node] = set()

    # Facts ------------------------------------------------------------------------------------------------------

    def _fact(self, node: Node) -> Fact | None:
        self.reads.add(node)
        return self._facts.get(node)

    def me(self) -> Self | None:
        """Who we are."""
        return cast("Self | None", self._fact(SELF))

    def segment(self, identifier: str) -> Segment | None:
        """The segment, if it is known and up: one that is down carries nothing."""
        segment = cast("Segment | None", self._fact(Ref("segment", identifier)))
        return segment if segment is not None and segment.up else None

    def endpoint(self, identifier: str) -> Endpoint | None:
        """The endpoint, if it is known and up: one that is down is as if it were not there."""
        endpoint = cast("Endpoint | None", self._fact(Ref("endpoint", identifier)))
        return endpoint if endpoint is not None and endpoint.up else None

    def host(self, identifier: str) -> Host | None:
        """The host."""
        return cast("Host | None", self._fact(Ref("host", identifier)))

    def plug(self, port: str) -> int | None:
        """The OpenFlow port of a port's interface, once it is plugged."""
        plug = cast("Plug | None", self._fact(Ref("plug", port)))
        return None if plug is None else plug.ofport

    def tunnel(self, kind: TunnelKind) -> int | None:
        """The OpenFlow port of our tunnels of a kind."""
        port = cast("TunnelPort | None", self._fact(Ref("tunnel", kind)))
        return None if port is None else port.ofport

    def patch(self, physical_network: str) -> int | None:
        """The OpenFlow port that leads to a physical network's wire."""
        patch = cast("Patch | None", self._fact(Ref("patch", physical_network)))
        return None if patch is None else patch.ofport

    def zone(self, port: str) -> int | None:
        """The conntrack zone of a port bound here, once it is chosen for good."""
        zone = cast("Zone | None", self._fact(Ref("zone", port)))
        return None if zone is None else zone.number

    def posture(self, port: str) -> Posture | None:
        """Which policy is in force for a port bound here."""
        return cast("Posture | None", self._fact(Ref("posture", port)))

    def prefixes(self, address_group: str) -> tuple[str, ...]:
        """The CIDRs of an address group; none while it is not known."""
        group = cast("AddressGroup | None", self._fact(Ref("addresses", address_group)))
        return () if group is None else group.prefixes

    # Relations --------------------------------------------------------------------------------------------------

    def _values(self, node: Node) -> Collection[object]:
        self.reads.add(node)
        return self._index.get(node, NOTHING)

    def inhabited(self, segment: str, host: str) -> bool:
        """Whether a host has members of a segment."""
        return bool(self._values(("inhabited", segment, host)))

    def hosts(self, segment: str) -> Collection[str]:
        """The names of the hosts that have members of a segment."""
        return cast("Collection[str]", self._values(("hosts", segment)))

    def segments(self, host: str) -> Collection[str]:
        """The ids of the segments of which a host has members."""
        return cast("Collection[str]", self._values(("segments", host)))

    def members(self, segment: str, host: str) -> Collection[int]:
        """The keys of a host's endpoints on a segment."""
        return cast("Collection[int]", self._values(("member", segment, host)))

    def population(self, host: str) -> Collection[bool]:
        """Of a host's endpoints, whether they are secure: empty when it has none."""
        return cast("Collection[bool]", self._values(("population", host)))

    def stations(self, segment: str, mac: int) -> Collection[Station]:
        """Who receives what is sent to a MAC address on a segment."""
        return cast("Collection[Station]", self._values(("station", segment, mac)))

    def claims(self, segment: str, version: int, address: int) -> Collection[Claim]:
        """Who claims an address on a segment."""
        return cast("Collection[Claim]", self._values(("address", segment, version, address)))

    def policy(self, number: int) -> Collection[tuple[str, ...]]:
        """The sets of groups that a policy in force here stands for: one, unless somebody erred."""
        return cast("Collection[tuple[str, ...]]", self._values(("policy", number)))

    def rules(self, group: str) -> Collection[Rule]:
        """The rules of a group."""
        return cast("Collection[Rule]", self._values(("rules", group)))

    def identities(self, group: str) -> Collection[int]:
        """The identities of a group's members."""
        return cast("Collection[int]", self._values(("members", group)))

    # What several compilers ask in the same words ------------------------------------------------------------------

    def served(self, identifier: str) -> tuple[Self, Segment] | None:
        """The segment (and who we are) if we have anything to do with it: it is up and has members here."""
        me = self.me()
        if me is None or not self.inhabited(identifier, me.host):
            return None
        segment = self.segment(identifier)
        return None if segment is None else (me, segment)

    def peer(self, me: Self, identifier: str) -> Peer | None:
        """The tunnel end of a host, if it is known and one that ours can talk to (the same IP version)."""
        host = self.host(identifier)
        if host is None or not host.tunnel_ip or not me.tunnel_ip:
            return None
        theirs, ours = addresses.address(host.tunnel_ip), addresses.address(me.tunnel_ip)
        return Peer(host.key, theirs) if theirs.version == ours.version else None

    def tracks(self, groups: tuple[str, ...]) -> bool | None:
        """Whether the connections of a port with these groups are tracked; None while not all of them are known.

        Without groups there is nothing to track. All groups of a port are stateful or none is.
        """
        known = [cast("Group | None", self._fact(Ref("group", group))) for group in groups]
        if None in known:
            return None
        return bool(known) and all(group is not None and group.stateful for group in known)

    def names_groups(self, segment: str, direction: Direction) -> bool:
        """Whether a rule in force for a port here, on this segment, is about the members of a group."""
        in_force = cast("Collection[tuple[str, ...]]", self._values(("postures", segment)))
        # All of them are read, so that what was read does not depend on which comes first.
        found = [self._values(("remotes", group, direction)) for groups in in_force for group in groups]
        return any(found)
