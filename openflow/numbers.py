"""The numbers of the pipeline: which register holds what, cookies, groups, places. Fixed for ever: flows of running
clouds carry them. `openflow.pipeline` has their meaning, and all of these names too.
"""

from enum import IntEnum
from typing import Final

# Registers --------------------------------------------------------------------------------------------------------

SEGMENT: Final = "reg0"
SOURCE: Final = "reg1"
SOURCE_IDENTITY: Final = "reg2"
DESTINATION: Final = "reg3"
DESTINATION_IDENTITY: Final = "reg4"
PLACE: Final = "reg5"
VERDICT: Final = "reg6"
POLICY: Final = "reg7"
REMOTE: Final = "reg8"
SOURCE_ZONE: Final = "reg9"
DESTINATION_ZONE: Final = "reg10"
SOURCE_POLICY: Final = "reg11"
OPTION: Final = "tun_metadata0"

FREE: Final = 1 << 16
"""In SOURCE_ZONE: nothing that the sender sends is judged."""
STATELESS: Final = 1 << 17
"""In either zone: the endpoint's groups are stateless; the zone puts fragments together, and remembers nothing."""

LARGEST_ZONE: Final = FREE - 1
"""Of conntrack, whose zones have 16 bits; 0 is everybody's who names none."""

HERE: Final = 1 << 28
PROVIDER: Final = 2 << 28
FLOOD: Final = 3 << 28
LARGEST_HOST: Final = (1 << 28) - 1


def host_place(kind: str, host: int) -> int:
    """The PLACE of a host (by its key) behind a kind of tunnel. Raises ValueError for a key that does not fit."""
    if not 0 <= host <= LARGEST_HOST:
        raise ValueError(f"the host's key {host} does not fit into PLACE")
    return (4 if kind == "geneve" else 5) << 28 | host


GENEVE_OPTION: Final = (0xFF5E, 1, 8, 0)
"""Our Geneve option: class (of the experimental range, RFC 8926), type, bytes, and its index (`tun_metadata0`)."""

# Cookies and groups -----------------------------------------------------------------------------------------------

MARKER: Final = 0x5E
"""Bits 56 to 63 of every cookie of ours."""


class Kind(IntEnum):
    """Bits 48 to 55 of a cookie: what kind of object the flow is there for."""

    BASE = 1
    SEGMENT = 2
    ENDPOINT = 3
    HOST = 4
    RULE = 5


def cookie(kind: Kind, key: int) -> int:
    """The cookie of a flow that is there for an object: bits 0 to 47 are its key."""
    if key >> 48:
        raise ValueError(f"the key {key} does not fit into a cookie")
    return MARKER << 56 | kind << 48 | key


def ours(number: int) -> bool:
    """Whether a cookie is one of ours; flows with others are foreign."""
    return number >> 56 == MARKER


def owner_of(number: int) -> tuple[Kind, int] | None:
    """The kind and the key of the object that a cookie names; None when it is not ours."""
    if not ours(number):
        return None
    try:
        return Kind(number >> 48 & 0xFF), number & (1 << 48) - 1
    except ValueError:
        return None


BASE_COOKIE: Final = cookie(Kind.BASE, 0)

FIRST_GROUP: Final = 1_000_000_000
LEAF_STRIDE: Final = 40_000_000
LEAVES: Final = 64
END_GROUP: Final = FIRST_GROUP + (LEAVES + 1) * LEAF_STRIDE
"""Groups of ours are FIRST_GROUP ≤ id < END_GROUP, and read well in decimal: `group:1000000007` is segment 7."""
ONE_GROUP: Final = 256
"""A group of more buckets is a root that leads to leaves: each is one message, and a change rewrites one of them."""
LEAF_SIZE: Final = 64
"""How many buckets a leaf should have."""


def group_id(segment: int, leaf: int = 0) -> int:
    """The group of a segment (by its key), or its leaf 1 to LEAVES. Raises ValueError for a key that does not fit."""
    if not 0 <= segment < LEAF_STRIDE or not 0 <= leaf <= LEAVES:
        raise ValueError(f"there is no group for leaf {leaf} of segment {segment}")
    return FIRST_GROUP + leaf * LEAF_STRIDE + segment


def own_group(number: int) -> bool:
    """Whether a group is one of ours; others are foreign."""
    return FIRST_GROUP <= number < END_GROUP
