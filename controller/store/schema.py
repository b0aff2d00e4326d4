"""The tables.

Three rules shape them. What must never be given out twice is held by a unique constraint, not by a lock: an address
in a subnet, a MAC in a network, a number in a physical network. What carries a datapath key has it as its
AUTOINCREMENT / IDENTITY primary key, so that a number once seen in a flow is never used again. And a list of small
things that is only ever read with its owner (allocation pools, host routes, address pairs) is a JSON document in the
owner's row, so that a list of a thousand resources is one statement.

Addresses are stored twice in `ip_allocations`: as canonical text, and as fixed-width hexadecimal (`position`), which
sorts like the number on every database; ranges are asked of the latter.

Foreign keys without CASCADE are there to refuse: a network with ports, a subnet with addresses in use, a set of
security groups that a port has (`identities`), a group in such a set, an address group that a rule names.
The migrations in `migrations/versions` make exactly these tables; a test compares them.
"""

from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_EMPTY: dict[str, type[Any]] = {"[]": list, "{}": dict}


class Json(TypeDecorator[Any]):
    """A JSON document as text: the same on every database, encoded and decoded by msgspec."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        empty = _EMPTY.get(value)
        return empty() if empty else msgspec.json.decode(value)


_Big = BigInteger().with_variant(Integer, "sqlite")
_UUID = String(36)


def _key() -> Column[int]:
    return Column("key", Integer, Identity(), primary_key=True)


def _standard() -> tuple[Column[Any], ...]:
    """What every resource has."""
    return (
        Column("project_id", String(255), nullable=False, index=True),
        Column("name", String(255), nullable=False),
        *_history(),
    )


def _history() -> tuple[Column[Any], ...]:
    """What every resource has, even one without a name."""
    return (
        Column("description", String(255), nullable=False),
        Column("created_at", String(20), nullable=False),
        Column("updated_at", String(20), nullable=False),
        Column("revision_number", _Big, nullable=False),
    )


def _allowance() -> tuple[Column[Any], ...]:
    """What a rule of a security group allows, as the API shows it, but for its remote side."""
    return (
        Column("direction", String(8), nullable=False),
        Column("ethertype", String(4), nullable=False),
        Column("protocol", String(40)),
        Column("port_range_min", Integer),
        Column("port_range_max", Integer),
        Column("remote_ip_prefix", String(64)),
    )


networks = Table(
    "networks",
    metadata,
    Column("id", _UUID, primary_key=True),
    *_standard(),
    Column("admin_state_up", Boolean, nullable=False),
    Column("status", String(16), nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("mtu", Integer, nullable=False),
    Column("port_security_enabled", Boolean, nullable=False),
)

segments = Table(
    "segments",
    metadata,
    _key(),
    Column("id", _UUID, nullable=False, unique=True),
    Column("network_id", _UUID, ForeignKey("networks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("kind", String(32), nullable=False),
    # Empty for overlays: NULLs would be distinct, and the constraint would hold nothing.
    Column("physical_network", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    UniqueConstraint("kind", "physical_network", "number"),
    sqlite_autoincrement=True,
)

subnets = Table(
    "subnets",
    metadata,
    Column("id", _UUID, primary_key=True),
    *_standard(),
    Column("network_id", _UUID, ForeignKey("networks.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("ip_version", Integer, nullable=False),
    Column("cidr", String(64), nullable=False),
    Column("gateway_ip", String(64)),
    Column("enable_dhcp", Boolean, nullable=False),
    Column("allocation_pools", Json, nullable=False),
    Column("host_routes", Json, nullable=False),
    Column("dns_nameservers", Json, nullable=False),
    Column("ipv6_ra_mode", String(16)),
    Column("ipv6_address_mode", String(16)),
)

ports = Table(
    "ports",
    metadata,
    _key(),
    Column("id", _UUID, nullable=False, unique=True),
    *_standard(),
    Column("network_id", _UUID, ForeignKey("networks.id"), nullable=False),
    Column("mac_address", String(32), nullable=False),
    Column("admin_state_up", Boolean, nullable=False),
    Column("status", String(16), nullable=False),
    Column("device_id", String(255), nullable=False, index=True),
    Column("device_owner", String(255), nullable=False),
    Column("port_security_enabled", Boolean, nullable=False),
    Column("allowed_address_pairs", Json, nullable=False),
    # The binding. `host` is empty for a port that belongs nowhere; `binding_claimed` tells that an agent's claim,
    # not a request, put it there, so that it is released when it is unplugged.
    Column("host", String(255), nullable=False, index=True),
    Column("vnic_type", String(64), nullable=False),
    Column("vif_type", String(64), nullable=False),
    Column("vif_details", Json, nullable=False),
    Column("profile", Json, nullable=False),
    Column("binding_claimed", Boolean, nullable=False),
    # The set of its security groups; NULL for none.
    Column("identity", Integer, ForeignKey("identities.key"), index=True),
    UniqueConstraint("network_id", "mac_address"),
    sqlite_autoincrement=True,
)

ip_allocations = Table(
    "ip_allocations",
    metadata,
    Column("subnet_id", _UUID, ForeignKey("subnets.id"), primary_key=True),
    Column("position", String(32), primary_key=True),
    Column("port_id", _UUID, ForeignKey("ports.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("ip_address", String(64), nullable=False, index=True),
    Column("ordinal", Integer, nullable=False),
)

security_groups = Table(
    "security_groups",
    metadata,
    _key(),
    Column("id", _UUID, nullable=False, unique=True),
    *_standard(),
    Column("stateful", Boolean, nullable=False),
    sqlite_autoincrement=True,
)

# One default group per project, whoever makes it first.
default_security_groups = Table(
    "default_security_groups",
    metadata,
    Column("project_id", String(255), primary_key=True),
    Column(
        "security_group_id", _UUID, ForeignKey("security_groups.id", ondelete="CASCADE"), nullable=False, unique=True
    ),
)

address_groups = Table(
    "address_groups",
    metadata,
    _key(),
    Column("id", _UUID, nullable=False, unique=True),
    *_standard(),
    sqlite_autoincrement=True,
)

address_associations = Table(
    "address_associations",
    metadata,
    Column("address_group_id", _UUID, ForeignKey("address_groups.id", ondelete="CASCADE"), primary_key=True),
    Column("address", String(64), primary_key=True),
)

security_group_rules = Table(
    "security_group_rules",
    metadata,
    _key(),
    Column("id", _UUID, nullable=False, unique=True),
    Column("project_id", String(255), nullable=False, index=True),
    Column("security_group_id", _UUID, ForeignKey("security_groups.id", ondelete="CASCADE"), nullable=False),
    *_allowance(),
    # `remote_ip_prefix` is as it was written, with bits beyond its length perhaps; this is without.
    Column("normalized_cidr", String(64)),
    Column("remote_group_id", _UUID, ForeignKey("security_groups.id", ondelete="CASCADE"), index=True),
    Column("remote_address_group_id", _UUID, ForeignKey("address_groups.id"), index=True),
    *_history(),
    # Of all that makes two rules the same (`controller.store.security.fingerprint`).
    Column("fingerprint", String(64), nullable=False),
    UniqueConstraint("security_group_id", "fingerprint"),
    sqlite_autoincrement=True,
)

# What new groups begin with. `remote_group_id` may be PARENT: the group that is being made.
default_security_group_rules = Table(
    "default_security_group_rules",
    metadata,
    Column("id", _UUID, primary_key=True),
    *_allowance(),
    Column("remote_group_id", _UUID),
    Column("remote_address_group_id", _UUID, ForeignKey("address_groups.id"), index=True),
    Column("used_in_default_sg", Boolean, nullable=False),
    Column("used_in_non_default_sg", Boolean, nullable=False),
    *_history(),
    # The rule's fingerprint where it is used, else NULL: the same rule may be there once for each kind of group.
    Column("fingerprint_in_default", String(64), unique=True),
    Column("fingerprint_in_non_default", String(64), unique=True),
)

# The distinct sets of groups that ports have or had; `controller.store.identities` is their only writer.
identities = Table(
    "identities",
    metadata,
    _key(),
    Column("groups", Json, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),
    # Seconds since 1970 at which it was found without a port; NULL while it has one.
    Column("unused_since", Float(53)),
    sqlite_autoincrement=True,
)

identity_groups = Table(
    "identity_groups",
    metadata,
    Column("identity", Integer, ForeignKey("identities.key", ondelete="CASCADE"), primary_key=True),
    Column("security_group_id", _UUID, ForeignKey("security_groups.id"), primary_key=True, index=True),
)

agents = Table(
    "agents",
    metadata,
    _key(),
    Column("id", _UUID, nullable=False, unique=True),
    Column("agent_type", String(255), nullable=False),
    Column("binary", String(255), nullable=False),
    Column("topic", String(255), nullable=False),
    Column("host", String(255), nullable=False, unique=True),
    Column("description", String(255)),
    Column("admin_state_up", Boolean, nullable=False),
    Column("created_at", String(20), nullable=False),
    Column("started_at", String(32), nullable=False),
    Column("heartbeat_timestamp", String(20), nullable=False),
    Column("configurations", Json, nullable=False),
    Column("tunnel_ip", String(64)),
    sqlite_autoincrement=True,
)

topics = Table(
    "topics",
    metadata,
    Column("name", String(300), primary_key=True),
    Column("version", _Big, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _Big, Identity(), primary_key=True),
    Column("topic", String(300), nullable=False),
    Column("version", _Big, nullable=False),
    Column("body", LargeBinary, nullable=False),
    # Seconds since 1970, by the database's writer: only ever compared with "older than a second".
    Column("created_at", Float(53), nullable=False),
    Index(None, "created_at"),
    sqlite_autoincrement=True,
)
