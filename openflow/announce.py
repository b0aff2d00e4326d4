"""An announcement: one broadcast frame by which a provider's switches learn where a MAC address is now.

An overlay knows its endpoints and needs none. A provider network learns from frames, and until a VM that was moved says
something its switches deliver to where it was. So its new host speaks for it, with a reverse ARP request (RFC 903), as
hypervisors do after a live migration: it says nothing about IP addresses, so nobody's neighbours are touched.

The frame takes the segment's own way onto the wire (DELIVER), which knows its tag and its patch.
"""

from typing import NamedTuple

from openflow import addresses
from openflow import pipeline as p
from openflow.actions import Action, Resubmit, SetField
from selvedge.topology import Endpoint, Segment

RARP = 0x8035
REVERSE_REQUEST = 3
BROADCAST = b"\xff" * 6
SHORTEST = 60
"""Bytes of an Ethernet frame without its checksum."""


class Packet(NamedTuple):
    """A frame, and what the switch should do with it."""

    frame: bytes
    actions: tuple[Action, ...]


def announcement(segment: Segment, endpoint: Endpoint) -> Packet:
    """The announcement of an endpoint on a provider segment. Raises ValueError for a MAC that is none."""
    mac = addresses.mac(endpoint.mac).to_bytes(6, "big")
    who = mac + bytes(4)
    request = b"\x00\x01\x08\x00\x06\x04" + REVERSE_REQUEST.to_bytes(2, "big") + who + who
    frame = (BROADCAST + mac + RARP.to_bytes(2, "big") + request).ljust(SHORTEST, b"\0")
    onto_wire = (SetField(p.SEGMENT, segment.key), SetField(p.PLACE, p.PROVIDER), Resubmit(p.DELIVER.number))
    return Packet(frame, onto_wire)
