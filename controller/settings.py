"""What an operator may set, as frozen values with their defaults.

`controller.main` fills these from oslo.config; everything below it takes values, so that no module reads a global and
a test needs no configuration file. Ranges are inclusive pairs of numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random, SystemRandom

Ranges = tuple[tuple[int, int], ...]
"""Inclusive (first, last) pairs."""


@dataclass(frozen=True, slots=True)
class Networks:
    """Which segments may be made without an administrator's naming them.

    `vlans` maps each physical network to the VLAN IDs that may be chosen; a physical network may be named by an
    administrator only if it is in `vlans` or, for flat networks, in `flat` ("*" is any).
    """

    geneve_vnis: Ranges = ((1, 16777215),)
    vxlan_vnis: Ranges = ((1, 16777215),)
    vlans: Mapping[str, Ranges] = field(default_factory=dict)
    flat: tuple[str, ...] = ("*",)
    default_kind: str = "geneve"
    physical_mtu: int = 1500


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the API needs to know. Names are those of the options."""

    auth_strategy: str = "noauth"
    base_mac: str = "fa:16:3e:00:00:00"
    agent_down_time: int = 75
    max_fixed_ips_per_port: int = 5
    max_allowed_address_pair: int = 10
    max_dns_nameservers: int = 5
    max_subnet_host_routes: int = 20
    pagination_max_limit: int = -1
    allow_bulk: bool = True
    networks: Networks = field(default_factory=Networks)
    chance: Random = field(default_factory=SystemRandom, compare=False)
    """Where free addresses, MACs and numbers are drawn from; not an option."""
