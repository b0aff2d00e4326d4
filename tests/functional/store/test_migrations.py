"""Migrations make exactly the schema, once, whoever starts at the same moment."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, inspect, select

from controller.store.engine import Store, Transaction
from controller.store.identities import identities_of
from controller.store.migrate import current, head, upgrade
from controller.store.schema import (
    default_security_group_rules,
    default_security_groups,
    metadata,
    ports,
    security_group_rules,
)
from controller.store.security import fingerprint
from controller.store.topology import snapshots
from devstack.labs.postgres import Postgres
from selvedge.topics import group_topic, members_topic
from selvedge.topology import Binding, Endpoint, Membership, Rule

PROGRAM = """
import sys
from controller.store.engine import Store
from controller.store.migrate import upgrade
print(upgrade(Store(sys.argv[1])))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fresh.db"
    server: Postgres = request.getfixturevalue("postgres")
    server.drop_database("fresh")
    return server.create_database("fresh")


def test_migrations_make_the_schema(fresh: str) -> None:
    store = Store(fresh)
    assert store.read(current) is None
    assert upgrade(store) is True
    assert upgrade(store) is False
    assert store.read(current) == head()
    compared = store.read(
        lambda conn: compare_metadata(MigrationContext.configure(conn, opts={"compare_type": True}), metadata)
    )
    assert compared == []
    constraints = store.read(
        lambda conn: {
            tuple(unique["column_names"])
            for table in ("ports", "segments", "agents", "security_group_rules", "identities")
            for unique in inspect(conn).get_unique_constraints(table)
        }
    )
    assert {
        ("network_id", "mac_address"),
        ("kind", "physical_network", "number"),
        ("host",),
        ("security_group_id", "fingerprint"),
        ("digest",),
    } <= constraints
    foreign = store.read(
        lambda conn: {
            (table, key["constrained_columns"][0]): (key["referred_table"], key["options"].get("ondelete"))
            for table in metadata.tables
            for key in inspect(conn).get_foreign_keys(table)
        }
    )
    assert foreign == {
        (table.name, column.name): (key.column.table.name, key.ondelete)
        for table in metadata.sorted_tables
        for column in table.c
        for key in column.foreign_keys
    }
    store.dispose()


# Revision 0001's rows: (port's name, project, device owner, port security, host). Ports p1 and p2 need one group.
BEFORE = (
    ("p1", "blue", "compute:nova", True, "hv1"),
    ("p2", "blue", "", True, ""),
    ("p3", "blue", "network:dhcp", True, "hv1"),
    ("p4", "blue", "compute:nova", False, "hv1"),
    ("p5", "", "compute:nova", True, "hv2"),
    ("p6", "green", "network:router_interface", True, "hv2"),
)


def fill(store: Store) -> None:
    """A network with ports in a database of revision 0001, and the topics that were told of them."""

    def work(transaction: Transaction) -> None:
        old = MetaData()
        old.reflect(transaction.conn)
        history = {"description": "", "created_at": "", "updated_at": "", "revision_number": 1}
        network = {"id": "n", "project_id": "blue", "name": "", **history, "admin_state_up": True, "status": "ACTIVE"}
        transaction.execute(
            old.tables["networks"].insert(),
            {**network, "shared": False, "mtu": 1442, "port_security_enabled": True},
        )
        transaction.execute(
            old.tables["segments"].insert(),
            {"id": "s", "network_id": "n", "kind": "geneve", "physical_network": "", "number": 7},
        )
        blank = dict.fromkeys(("device_id", "vnic_type", "vif_type"), "") | {"binding_claimed": False, "status": "DOWN"}
        documents = {"allowed_address_pairs": "[]", "vif_details": "{}", "profile": "{}"}
        for name, project, owner, secure, host in BEFORE:
            row = {
                "id": name,
                "name": name,
                "project_id": project,
                "network_id": "n",
                "mac_address": name,
                "host": host,
            }
            more = {"device_owner": owner, "port_security_enabled": secure, "admin_state_up": True}
            transaction.execute(old.tables["ports"].insert(), {**row, **more, **blank, **documents, **history})
        told = [{"name": name, "version": 5} for name in ("hosts", "segment/s", "host/hv1", "host/hv2")]
        transaction.execute(old.tables["topics"].insert(), told)

    store.transaction(work)


def test_ports_that_are_there_are_not_cut_off(fresh: str) -> None:
    """Given ports of three projects before there were groups: whoever has port security gets its project's default."""
    store = Store(fresh)
    upgrade(store, "0001")
    fill(store)
    assert upgrade(store) is True
    topics = ("hosts", "segment/s", "host/hv1", "host/hv2")
    hosts, segment, first, second = store.read(lambda conn: snapshots(conn, topics))
    assert [one.version for one in (hosts, segment, first, second)] == [5, 6, 6, 6], "agents must ask again"
    rows = store.read(lambda conn: conn.execute(select(default_security_groups)).all())
    default = {row.project_id: row.security_group_id for row in rows}
    assert set(default) == {"blue", ""}
    identities = store.read(lambda conn: dict(conn.execute(select(ports.c.id, ports.c.identity)).all()))
    assert identities["p1"] == identities["p2"] != identities["p5"]
    assert {name for name, identity in identities.items() if identity is None} == {"p3", "p4", "p6"}
    endpoints = {thing.id: thing for thing in segment.objects if isinstance(thing, Endpoint)}
    assert endpoints["p1"].groups == (default["blue"],)
    assert (endpoints["p3"].secure, endpoints["p4"].secure, endpoints["p5"].secure) == (False, False, True)
    bindings = {thing.id: thing for one in (first, second) for thing in one.objects if isinstance(thing, Binding)}
    assert {name: one.groups for name, one in bindings.items() if one.groups} == {
        "p1": (default["blue"],),
        "p5": (default[""],),
    }
    for project, member in (("blue", "p1"), ("", "p5")):
        group = default[project]
        named = (group_topic(group), members_topic(group))
        rules, members = store.read(lambda conn, named=named: snapshots(conn, named))  # type: ignore[misc]
        assert rules.version == members.version == 1
        assert members.objects == (Membership(f"{group}/{identities[member]}", group, identities[member]),)
        allowed = {(one.direction, one.version, one.remote_group) for one in rules.objects if isinstance(one, Rule)}
        assert allowed == {("egress", 4, None), ("egress", 6, None), ("ingress", 4, group), ("ingress", 6, group)}
    store.dispose()


def test_what_a_migration_wrote_is_what_the_store_would_write(fresh: str) -> None:
    """Sets are found again by their digests, and duplicates of the first rules are known as such."""
    store = Store(fresh)
    upgrade(store, "0001")
    fill(store)
    upgrade(store)
    rules = store.read(lambda conn: conn.execute(select(security_group_rules)).mappings().all())
    assert len(rules) == 8
    assert all(rule["fingerprint"] == fingerprint(dict(rule)) for rule in rules)
    template = store.read(lambda conn: conn.execute(select(default_security_group_rules)).mappings().all())
    flags = [(rule["used_in_default_sg"], rule["used_in_non_default_sg"]) for rule in template]
    assert sorted(flags) == [(True, False)] * 2 + [(True, True)] * 2
    for rule in template:
        expected = fingerprint(dict(rule))
        assert rule["fingerprint_in_default"] == expected
        assert rule["fingerprint_in_non_default"] == (expected if rule["used_in_non_default_sg"] else None)
    groups = store.read(lambda conn: conn.execute(select(default_security_groups.c.security_group_id)).scalars().all())
    given = store.transaction(lambda transaction: identities_of(transaction, [[group] for group in groups]))
    assert len(given.numbers) == 2
    assert given.created == {}
    store.dispose()


def test_many_processes_migrate_once(fresh: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, fresh], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    answers = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(answers) == ["False", "False", "False", "True"]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
