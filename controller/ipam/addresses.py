"""The forms of an address: text for people, integers for arithmetic, and fixed-width hexadecimal for the database."""

import ipaddress
from functools import lru_cache
from random import Random
from typing import NamedTuple

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Space(NamedTuple):
    """A subnet as numbers: its version (4, 6), its first and last address, and the length of its prefix."""

    version: int
    first: int
    last: int
    prefix: int

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and self.first <= number <= self.last

    @property
    def hosts(self) -> tuple[int, int]:
        """First and last address that a host may have. In IPv4 the network's and the broadcast address are not,
        except on links too short to have them (RFC 3021); in IPv6 the first is the routers' anycast address."""
        if self.last - self.first < 2:
            return self.first, self.last
        return self.first + 1, self.last - (self.version == 4)


@lru_cache(4096)
def space(cidr: str) -> Space:
    """Raises ValueError for what is no CIDR. Host bits are ignored."""
    network = ipaddress.ip_network(cidr, strict=False)
    return Space(network.version, int(network.network_address), int(network.broadcast_address), network.prefixlen)


def number(text: str) -> int:
    """The address as an integer. Raises ValueError."""
    return int(ipaddress.ip_address(text))


def text(version: int, value: int) -> str:
    """The canonical text of an address. Raises ValueError for a number that is none."""
    return str(ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value))


def position(version: int, value: int) -> str:
    """Fixed-width hexadecimal, which sorts as the numbers of one version do."""
    return f"{value:08x}" if version == 4 else f"{value:032x}"


def eui64(prefix: int, mac: str) -> int:
    """The address that a host with `mac` gives itself below a /64 `prefix` (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    interface = bytes((octets[0] ^ 2, octets[1], octets[2], 0xFF, 0xFE, *octets[3:]))
    return prefix | int.from_bytes(interface)


def random_mac(base: str, chance: Random) -> str:
    """A MAC that begins as `base` does: its first three octets, or four if the fourth is not 00."""
    octets = base.lower().split(":")
    kept = 3 if octets[3] == "00" else 4
    return ":".join((*octets[:kept], *(f"{chance.getrandbits(8):02x}" for _ in range(6 - kept))))
