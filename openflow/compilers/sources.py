"""What an endpoint may send as: its MACs, and with which of them which addresses.

Its own guard asks (`endpoint`), and where the wire carries no identity, whoever gets its packets (`station`).
"""

from typing import NamedTuple

from openflow import addresses
from openflow.addresses import Prefix
from selvedge.topology import Endpoint


class Sources(NamedTuple):
    """Its MACs, and (MAC, prefix) of its fixed IPs and allowed pairs."""

    macs: tuple[int, ...]
    prefixes: tuple[tuple[int, Prefix], ...]


def sources(endpoint: Endpoint) -> Sources:
    """A MAC with IPv6 addresses also has the link-local one that follows from it, and no other."""
    own = addresses.mac(endpoint.mac)
    macs = {own: None}
    prefixes = {(own, addresses.prefix(text)): None for text in endpoint.addresses}
    for pair in endpoint.pairs:
        mac = addresses.mac(pair.mac) if pair.mac else own
        macs[mac] = None
        prefixes[mac, addresses.prefix(pair.cidr)] = None
    for mac in [mac for mac, prefix in prefixes if prefix.version == 6]:
        prefixes[mac, Prefix(6, addresses.link_local(mac), addresses.exact(6))] = None
    return Sources(tuple(macs), tuple(prefixes))
