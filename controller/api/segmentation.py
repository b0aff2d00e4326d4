"""Which segment a network asks for: reading the provider attributes against the configuration. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.api.attributes import UNSET
from controller.api.errors import InvalidInput
from controller.ipam.intervals import Intervals, normal
from controller.settings import Networks
from selvedge.topology import OVERLAYS

KINDS = ("geneve", "vxlan", "vlan", "flat")

OVERHEAD = {"geneve": 20 + 8 + 8 + 12 + 14, "vxlan": 20 + 8 + 8 + 14, "vlan": 0, "flat": 0}
"""Bytes between the underlay's IP packet and the tenant's: IPv4, UDP, tunnel header (RFC 8926 with our option of 8
bytes and its header of 4; RFC 7348), Ethernet. A VLAN's tag is outside of the physical network's MTU."""

_NUMBERS = {"geneve": (1, 2**24 - 1), "vxlan": (1, 2**24 - 1), "vlan": (1, 4094)}


@dataclass(frozen=True, slots=True)
class SegmentWish:
    """A kind; a physical network if it must be that one; a number if it must be that one (0 for flat)."""

    kind: str
    physical_network: str | None
    number: int | None


def largest_mtu(kind: str, settings: Networks) -> int:
    """Bytes of the largest IP packet that a segment of this kind carries."""
    return settings.physical_mtu - OVERHEAD[kind]


def wish_of(row: Mapping[str, Any], settings: Networks) -> SegmentWish:
    """What a network's row with `kind`, `physical_network`, `number` (or UNSET) asks for. Raises InvalidInput."""
    kind, physical, number = (
        None if row[name] is UNSET else row[name] for name in ("kind", "physical_network", "number")
    )
    if kind is None:
        if physical or number is not None:
            raise InvalidInput(error_message="provider:network_type required")
        kind = settings.default_kind
    if kind not in KINDS:
        raise InvalidInput(error_message=f"provider:network_type value '{kind}' not supported")
    if kind in OVERLAYS and physical:
        raise InvalidInput(error_message=f"provider:physical_network specified for {kind} network")
    if number is not None:
        _check_number(kind, physical, number)
    if kind == "vlan" and physical and physical not in settings.vlans:
        raise InvalidInput(error_message=f"physical_network '{physical}' unknown for VLAN provider network")
    if kind == "flat":
        if not physical:
            raise InvalidInput(error_message="provider:physical_network required for flat provider network")
        if "*" not in settings.flat and physical not in settings.flat:
            raise InvalidInput(error_message=f"physical_network '{physical}' unknown for flat provider network")
        number = 0
    return SegmentWish(kind, physical or None, number)


def _check_number(kind: str, physical: str | None, number: int) -> None:
    if kind == "flat":
        raise InvalidInput(error_message="provider:segmentation_id specified for flat network")
    if kind == "vlan" and not physical:
        raise InvalidInput(
            error_message="provider:segmentation_id requires provider:physical_network for VLAN provider network"
        )
    low, high = _NUMBERS[kind]
    if not low <= number <= high:
        raise InvalidInput(error_message=f"provider:segmentation_id out of range ({low} through {high})")


def ranges_of(wish: SegmentWish, settings: Networks) -> Iterable[tuple[str, Intervals]]:
    """(physical network, numbers that may be drawn) for a wish without a number, in the order to try them."""
    if wish.kind == "geneve":
        return [("", normal(settings.geneve_vnis))]
    if wish.kind == "vxlan":
        return [("", normal(settings.vxlan_vnis))]
    where = [wish.physical_network] if wish.physical_network else sorted(settings.vlans)
    return [(physical, normal(settings.vlans[physical])) for physical in where]
