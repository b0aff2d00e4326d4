"""Keeps Open vSwitch's tunnel neighbours warm, so that the first packet to a new tunnel peer is not lost.

The userspace datapath resolves a tunnel's next hop itself: it learns from ARP replies that pass through the underlay's
bridge, and drops tenants' packets (for a second, measured) while it asks. So as soon as a peer is known, this thread
makes the kernel ask: by NTF_USE where the kernel knows no neighbour, and where it does, by setting the entry to
NUD_PROBE (rtnetlink(7), `ip neigh change … nud probe`), since a kernel that knows sends nothing that could be learnt
from. Open vSwitch forgets after 15 minutes without use; every peer is probed again long before. For datapath type
`system` the kernel itself is the one that needs the entry, so it helps there too.

Peers that do not answer are tried again with growing pauses; many peers are probed at a bounded rate; peers behind one
gateway are one neighbour. Nothing waits for this thread: it takes the set of peers and reports nothing.
"""

import errno
import heapq
import logging
import os
import random
import threading
import time
from typing import Any, NamedTuple

LOG = logging.getLogger(__name__)

REFRESH = 300.0
"""Seconds between two probes of a peer that answers."""

CHECK = 0.25
"""Seconds after which an answer should be there; doubled up to `REFRESH` while there is none."""

SPACING = 0.005
"""Seconds between two probes: five thousand peers take 25 s and not one moment."""

AT_REST = 1.5
"""Seconds after which the start of the agent is surely over."""

SAME_NEXT_HOP = 1.0
"""Seconds in which one next hop is probed once, for however many peers."""


class NextHop(NamedTuple):
    """Where packets to a peer go first: an address on a link."""

    link: int
    address: str


class Underlay(threading.Thread):
    """`want` and `stop` may be called from any thread and return at once."""

    def __init__(self) -> None:
        super().__init__(name="underlay", daemon=True)
        self._changed = threading.Condition()
        self._wanted: frozenset[str] = frozenset()
        self._again = self._stopping = False
        self._due: list[tuple[float, str, float]] = []
        """(when, peer, pause): pause 0 is a probe, else a check that an answer came."""
        self._probed: dict[NextHop, float] = {}
        self._known: set[str] = set()
        self.probes = 0
        """Probes sent so far."""

    def want(self, peers: frozenset[str], again: bool = False) -> None:
        """These peers (IPv4 addresses) must be warm from now on. `again`: whoever learnt them has forgotten."""
        with self._changed:
            self._wanted = peers
            self._again |= again
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        with self._changed:
            # The library is ready before the first peer is known, but does not take the processor from the start.
            self._changed.wait_for(lambda: self._wanted or self._stopping, AT_REST)
        if self._stopping:
            return
        with _Neighbours() as neighbours:
            while self._wait():
                now = time.monotonic()
                _, peer, pause = heapq.heappop(self._due)
                if peer in self._known:
                    heapq.heappush(self._due, self._visit(neighbours, peer, pause, now))
                time.sleep(SPACING)

    def _wait(self) -> bool:
        """Until a peer is due (True) or the end (False)."""
        with self._changed:
            while not self._stopping:
                self._take_over()
                now = time.monotonic()
                if self._due and self._due[0][0] <= now:
                    return True
                self._changed.wait(self._due[0][0] - now if self._due else None)
        return False

    def _take_over(self) -> None:
        if self._again:
            self._again = False
            self._known.clear()
            self._due.clear()
            self._probed.clear()
        now = time.monotonic()
        for peer in self._wanted - self._known:
            heapq.heappush(self._due, (now, peer, 0.0))
        if self._known - self._wanted:
            self._due = [item for item in self._due if item[1] in self._wanted]
            heapq.heapify(self._due)
        self._known = set(self._wanted)

    def _visit(self, neighbours: "_Neighbours", peer: str, pause: float, now: float) -> tuple[float, str, float]:
        """Probe or check one peer; when to come back to it."""
        hop = neighbours.next_hop(peer)
        if hop is not None and pause and neighbours.link_address(hop) is not None:
            return now + REFRESH * random.uniform(0.9, 1.1), peer, 0.0
        if hop is not None and now - self._probed.get(hop, -SAME_NEXT_HOP) >= SAME_NEXT_HOP:
            self._probed[hop] = now
            self.probes += 1
            neighbours.probe(hop)
        pause = min(pause * 2, REFRESH) or CHECK
        return now + pause, peer, pause


class _Neighbours:
    """The kernel's routes and neighbours, by rtnetlink. Refusals are logged and mean "not now"."""

    def __init__(self) -> None:
        from pyroute2 import IPRoute  # 0.1 s that an agent without peers need not pay

        self._netlink: Any = IPRoute()
        self._told = False

    def __enter__(self) -> "_Neighbours":
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def next_hop(self, peer: str) -> NextHop | None:
        """None if there is no route, or the peer is this host."""
        from pyroute2.netlink.exceptions import NetlinkError
        from pyroute2.netlink.rtnl import rt_type

        try:
            (route, *_) = self._netlink.route("get", dst=peer)
        except NetlinkError as error:
            LOG.debug("no route to tunnel peer %s: %s", peer, os.strerror(error.code))
            return None
        if route["type"] != rt_type["unicast"]:
            return None
        return NextHop(route.get_attr("RTA_OIF"), route.get_attr("RTA_GATEWAY") or peer)

    def link_address(self, hop: NextHop) -> str | None:
        """The neighbour's MAC, if the kernel has one that it believes in."""
        from pyroute2.netlink.exceptions import NetlinkError
        from pyroute2.netlink.rtnl.ndmsg import NUD_FAILED, NUD_INCOMPLETE, NUD_NOARP

        try:
            (entry, *_) = self._netlink.neigh("get", dst=hop.address, ifindex=hop.link)
        except NetlinkError:  # ENOENT: never heard of
            return None
        if entry["state"] in (0, NUD_FAILED, NUD_INCOMPLETE, NUD_NOARP):
            return None
        mac: str | None = entry.get_attr("NDA_LLADDR")
        return mac

    def probe(self, hop: NextHop) -> None:
        """Make the kernel ask for the neighbour now."""
        from pyroute2.netlink.exceptions import NetlinkError
        from pyroute2.netlink.rtnl.ndmsg import NTF_USE, NUD_PROBE

        mac = self.link_address(hop)
        try:
            if mac is None:
                self._netlink.neigh("replace", dst=hop.address, ifindex=hop.link, flags=NTF_USE, state=0)
            else:
                self._netlink.neigh("change", dst=hop.address, ifindex=hop.link, lladdr=mac, state=NUD_PROBE)
        except NetlinkError as error:
            if error.code == errno.EPERM and not self._told:
                self._told = True
                LOG.warning("cannot ask for tunnel peers beforehand, their first packets may be lost: no CAP_NET_ADMIN")
            # Else the entry or the link went this moment: the check comes back to it.
