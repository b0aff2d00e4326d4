"""Security groups, address groups, and the identities of ports' sets of groups.

Ports that are there and have port security get their project's default group, which is made for them: without a group
they would be cut off. Topics whose objects change by that get their next version, so that every agent asks for them.
"""

import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

PARENT = "PARENT"

RULES = (
    # direction, ethertype, remote_group_id, for default groups, for others
    ("egress", "IPv4", None, True, True),
    ("egress", "IPv6", None, True, True),
    ("ingress", "IPv4", PARENT, True, False),
    ("ingress", "IPv6", PARENT, True, False),
)


def upgrade() -> None:
    """Forward only: a database is restored from its backup, never downgraded."""
    _make_groups()
    _make_rules()
    _make_identities()
    _fill_template()
    _give_default_groups()


def _key() -> tuple[Any, ...]:
    return (
        sa.Column("key", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
    )


def _named() -> tuple[Any, ...]:
    return (
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
    )


def _history() -> tuple[Any, ...]:
    return (
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.String(length=20), nullable=False),
        sa.Column("updated_at", sa.String(length=20), nullable=False),
        sa.Column("revision_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
    )


def _allowance() -> tuple[Any, ...]:
    return (
        sa.Column("direction", sa.String(length=8), nullable=False),
        sa.Column("ethertype", sa.String(length=4), nullable=False),
        sa.Column("protocol", sa.String(length=40), nullable=True),
        sa.Column("port_range_min", sa.Integer(), nullable=True),
        sa.Column("port_range_max", sa.Integer(), nullable=True),
        sa.Column("remote_ip_prefix", sa.String(length=64), nullable=True),
        sa.Column("remote_group_id", sa.String(length=36), nullable=True),
        sa.Column("remote_address_group_id", sa.String(length=36), nullable=True),
    )


def _foreign(table: str, column: str, target: str, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_{table}_{column}"), ondelete=ondelete)


def _index(table: str, *columns: str) -> None:
    for column in columns:
        op.create_index(op.f(f"ix_{table}_{column}"), table, [column], unique=False)


def _make_groups() -> None:
    op.create_table(
        "security_groups",
        *_key(),
        *_named(),
        *_history(),
        sa.Column("stateful", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_security_groups")),
        sa.UniqueConstraint("id", name=op.f("uq_security_groups_id")),
        sqlite_autoincrement=True,
    )
    _index("security_groups", "project_id")
    op.create_table(
        "default_security_groups",
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("security_group_id", sa.String(length=36), nullable=False),
        _foreign("default_security_groups", "security_group_id", "security_groups.id", "CASCADE"),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_default_security_groups")),
        sa.UniqueConstraint("security_group_id", name=op.f("uq_default_security_groups_security_group_id")),
    )
    op.create_table(
        "address_groups",
        *_key(),
        *_named(),
        *_history(),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_address_groups")),
        sa.UniqueConstraint("id", name=op.f("uq_address_groups_id")),
        sqlite_autoincrement=True,
    )
    _index("address_groups", "project_id")
    op.create_table(
        "address_associations",
        sa.Column("address_group_id", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        _foreign("address_associations", "address_group_id", "address_groups.id", "CASCADE"),
        sa.PrimaryKeyConstraint("address_group_id", "address", name=op.f("pk_address_associations")),
    )


def _make_rules() -> None:
    op.create_table(
        "security_group_rules",
        *_key(),
        sa.Column("project_id", sa.String(length=255), nullable=False),
        sa.Column("security_group_id", sa.String(length=36), nullable=False),
        *_allowance(),
        sa.Column("normalized_cidr", sa.String(length=64), nullable=True),
        *_history(),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        _foreign("security_group_rules", "security_group_id", "security_groups.id", "CASCADE"),
        _foreign("security_group_rules", "remote_group_id", "security_groups.id", "CASCADE"),
        _foreign("security_group_rules", "remote_address_group_id", "address_groups.id"),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_security_group_rules")),
        sa.UniqueConstraint("id", name=op.f("uq_security_group_rules_id")),
        sa.UniqueConstraint(
            "security_group_id", "fingerprint", name=op.f("uq_security_group_rules_security_group_id_fingerprint")
        ),
        sqlite_autoincrement=True,
    )
    _index("security_group_rules", "project_id", "remote_group_id", "remote_address_group_id")
    table = "default_security_group_rules"
    op.create_table(
        table,
        sa.Column("id", sa.String(length=36), nullable=False),
        *_allowance(),
        sa.Column("used_in_default_sg", sa.Boolean(), nullable=False),
        sa.Column("used_in_non_default_sg", sa.Boolean(), nullable=False),
        *_history(),
        sa.Column("fingerprint_in_default", sa.String(length=64), nullable=True),
        sa.Column("fingerprint_in_non_default", sa.String(length=64), nullable=True),
        _foreign(table, "remote_address_group_id", "address_groups.id"),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
        sa.UniqueConstraint("fingerprint_in_default", name=op.f(f"uq_{table}_fingerprint_in_default")),
        sa.UniqueConstraint("fingerprint_in_non_default", name=op.f(f"uq_{table}_fingerprint_in_non_default")),
    )
    _index(table, "remote_address_group_id")


def _make_identities() -> None:
    op.create_table(
        "identities",
        sa.Column("key", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("groups", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("unused_since", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_identities")),
        sa.UniqueConstraint("digest", name=op.f("uq_identities_digest")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "identity_groups",
        sa.Column("identity", sa.Integer(), nullable=False),
        sa.Column("security_group_id", sa.String(length=36), nullable=False),
        _foreign("identity_groups", "identity", "identities.key", "CASCADE"),
        _foreign("identity_groups", "security_group_id", "security_groups.id"),
        sa.PrimaryKeyConstraint("identity", "security_group_id", name=op.f("pk_identity_groups")),
    )
    _index("identity_groups", "security_group_id")
    # As text, since SQLite takes a foreign key with a new column only, and Alembic would add it afterwards.
    op.execute("ALTER TABLE ports ADD COLUMN identity INTEGER CONSTRAINT fk_ports_identity REFERENCES identities (key)")
    _index("ports", "identity")


def _rows_of(table: str) -> sa.Table:
    return sa.Table(table, sa.MetaData(), autoload_with=op.get_bind())


def _new(**values: Any) -> dict[str, Any]:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"id": str(uuid.uuid4()), "created_at": now, "updated_at": now, "revision_number": 1, **values}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint(direction: str, ethertype: str, remote_group: str | None) -> str:
    return _sha256(f"{direction}_{ethertype}_+_+_+_+_{remote_group or '+'}_+")


def _fill_template() -> None:
    rows = [
        _new(
            direction=direction,
            ethertype=ethertype,
            remote_group_id=remote,
            description="",
            used_in_default_sg=default,
            used_in_non_default_sg=other,
            fingerprint_in_default=_fingerprint(direction, ethertype, remote) if default else None,
            fingerprint_in_non_default=_fingerprint(direction, ethertype, remote) if other else None,
        )
        for direction, ethertype, remote, default, other in RULES
    ]
    op.bulk_insert(_rows_of("default_security_group_rules"), rows)


def _give_default_groups() -> None:
    """Every project with ports that need one: a group, its rules, and the identity of the set that it alone makes."""
    conn = op.get_bind()
    ports, topics = _rows_of("ports"), _rows_of("topics")
    secure = (ports.c.port_security_enabled, ports.c.device_owner.not_like("network:%"))
    projects = sorted(conn.execute(sa.select(ports.c.project_id).where(*secure).distinct()).scalars())
    if not projects:
        return
    made = {project: str(uuid.uuid4()) for project in projects}
    groups = [
        _new(id=group, project_id=project, name="default", description="Default security group", stateful=True)
        for project, group in made.items()
    ]
    op.bulk_insert(_rows_of("security_groups"), groups)
    defaults = [{"project_id": project, "security_group_id": group} for project, group in made.items()]
    op.bulk_insert(_rows_of("default_security_groups"), defaults)
    rules = [
        _new(
            project_id=project,
            security_group_id=group,
            direction=direction,
            ethertype=ethertype,
            remote_group_id=remote and group,
            description="",
            fingerprint=_fingerprint(direction, ethertype, remote and group),
        )
        for project, group in made.items()
        for direction, ethertype, remote, _, _ in RULES
    ]
    op.bulk_insert(_rows_of("security_group_rules"), rules)
    identities, identity_groups = _rows_of("identities"), _rows_of("identity_groups")
    of = {_sha256(group): group for group in made.values()}
    sets = [{"groups": json.dumps([group]), "digest": digest} for digest, group in of.items()]
    op.bulk_insert(identities, sets)
    numbers = conn.execute(sa.select(identities.c.key, identities.c.digest))
    op.bulk_insert(identity_groups, [{"identity": key, "security_group_id": of[digest]} for key, digest in numbers])
    op.execute(
        "UPDATE ports SET identity = (SELECT identity_groups.identity FROM identity_groups"
        " JOIN default_security_groups USING (security_group_id)"
        " WHERE default_security_groups.project_id = ports.project_id)"
        " WHERE port_security_enabled AND device_owner NOT LIKE 'network:%'"
    )
    op.execute("UPDATE topics SET version = version + 1 WHERE name LIKE 'segment/%' OR name LIKE 'host/%'")
    new = [{"name": f"{kind}/{group}", "version": 1} for group in made.values() for kind in ("group", "members")]
    op.bulk_insert(topics, new)
