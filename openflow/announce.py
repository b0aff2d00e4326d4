"""An announcement: one broadcast frame by which a provider's switches learn where a MAC address is now.

An overlay knows its endpoints and needs none. A provider network learns from frames, and until a VM that was moved says
something its switches deliver to where it was. So its new host speaks for it, with a reverse ARP request (RFC 903), as
hypervisors do after a live migration: it says nothing about IP addresses, so nobody's neighbours are touched.

The frame takes the segment's own way onto the wire (DELIVER), which knows its tag and its patch.
"""

import importlib
import threading
from typing import NamedTuple

from openflow import pipeline as p
from openflow.actions import Action, Resubmit, SetField
from selvedge.topology import Endpoint, Segment

RARP = 0x8035
REVERSE_REQUEST = 3
BROADCAST = "ff:ff:ff:ff:ff:ff"
SHORTEST = 60
"""Bytes of an Ethernet frame without its checksum."""


class Packet(NamedTuple):
    """A frame, and what the switch should do with it."""

    frame: bytes
    actions: tuple[Action, ...]


def prepare() -> None:
    """Begins to load what announcements are made with (0.3 s), so that the first one does not wait for it."""
    name = "os_ken.lib.packet.arp"
    threading.Thread(target=importlib.import_module, args=(name,), name="announce-load", daemon=True).start()


def announcement(segment: Segment, endpoint: Endpoint) -> Packet:
    """The announcement of an endpoint on a provider segment."""
    # Here, since agents without provider networks never need it, and others not while they start: see `prepare`.
    from os_ken.lib.packet import arp, ethernet

    mac = endpoint.mac
    header = ethernet.ethernet(BROADCAST, mac, RARP).serialize(bytearray(), None)
    request = arp.arp(opcode=REVERSE_REQUEST, src_mac=mac, dst_mac=mac).serialize(bytearray(), None)
    onto_wire = (SetField(p.SEGMENT, segment.key), SetField(p.PLACE, p.PROVIDER), Resubmit(p.DELIVER.number))
    return Packet(bytes(header + request).ljust(SHORTEST, b"\0"), onto_wire)
