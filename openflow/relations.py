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
from typing import NamedTuple, cast

from openflow import addresses
from openflow import pipeline as p
from openflow.facts import SELF, Fact, Patch, Plug, Self, TunnelKind, TunnelPort
from selvedge.topology import Endpoint, Host, Ref, Segment

Node = tuple[object, ...]
"""What can be read: `Ref(kind, id)` of a fact, or `(relation, key…)`. The nodes that have a compiler are owners."""

Row = tuple[Node, object]

NOTHING: Collection[object] = ()

LARGEST_KEY = (1 << 32) - 1
"""Of an endpoint: a register has 32 bits, and 0 in it is nobody."""


class Station(NamedTuple):
    """An endpoint that receives what is sent to a MAC address."""

    key: int
    host: str


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
        if fact.up:
            yield from _endpoint_rows(fact)


def _check_key(key: int, largest: int) -> None:
    if not 0 < key <= largest:
        raise ValueError(f"the key {key} is not between 1 and {largest}")


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
    yield ("station", segment, own), Station(key, host)
    for text in fact.addresses:
        version, value = addresses.address(text)
        yield ("address", segment, version, value), Claim(key, host, own, fixed=True)
    for pair in fact.pairs:
        # A pair without a MAC is about the port's own.
        hardware = _station(pair.mac) if pair.mac else own
        yield ("station", segment, hardware), Station(key, host)
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
