"""Addresses as numbers: the canonical text of topology objects, turned to the integers that matches and actions carry.

All functions raise `ValueError` for text that is no address. `socket`'s parser is used rather than `ipaddress`, which
costs ten times as much; a segment of thousands of ports is parsed when an agent starts.
"""

import socket
from typing import NamedTuple

MULTICAST_BIT = 1 << 40
"""The group bit of a MAC address (IEEE 802): set in broadcast and multicast destinations."""

LINK_LOCAL = 0xFE80 << 112


class Address(NamedTuple):
    """An IP address: version 4 or 6, and its value."""

    version: int
    value: int


class Prefix(NamedTuple):
    """An IP prefix: version, value (host bits are zero) and mask, both as wide as an address of the version."""

    version: int
    value: int
    mask: int


def mac(text: str) -> int:
    """The value of a MAC address such as `fa:16:3e:00:00:01`."""
    parts = text.split(":")
    if len(parts) != 6 or any(len(part) != 2 for part in parts):
        raise ValueError(f"{text!r} is no MAC address")
    return int("".join(parts), 16)


def address(text: str) -> Address:
    """The version and value of an IPv4 or IPv6 address."""
    version, family = (6, socket.AF_INET6) if ":" in text else (4, socket.AF_INET)
    try:
        return Address(version, int.from_bytes(socket.inet_pton(family, text), "big"))
    except OSError:
        raise ValueError(f"{text!r} is no IP address") from None


def prefix(text: str) -> Prefix:
    """The prefix of a CIDR; without a length it is that one address."""
    head, slash, length = text.partition("/")
    version, value = address(head)
    width = 128 if version == 6 else 32
    bits = int(length) if slash else width
    if not 0 <= bits <= width:
        raise ValueError(f"{text!r} is no prefix")
    mask = ((1 << bits) - 1) << (width - bits)
    return Prefix(version, value & mask, mask)


def within(narrow: Prefix, wide: Prefix) -> bool:
    """Whether all addresses of one prefix are in the other."""
    return (narrow.version, narrow.value & wide.mask) == (wide.version, wide.value) and narrow.mask >= wide.mask


def exact(version: int) -> int:
    """The mask of one address of that version: all ones."""
    return (1 << 128) - 1 if version == 6 else (1 << 32) - 1


def link_local(hardware: int) -> int:
    """The IPv6 link-local address that a MAC's interface forms (modified EUI-64, RFC 4291 appendix A)."""
    high, low = hardware >> 24, hardware & 0xFFFFFF
    return LINK_LOCAL | ((high ^ 0x020000) << 40) | (0xFFFE << 24) | low
