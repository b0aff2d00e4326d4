"""Rows → topology: what the database's rows mean to a switch, in one place.

Snapshots and changes use the same mapping, so an agent that reads a snapshot and one that followed every change hold
the same objects. All of it is pure but the readers at the end.

A port is an `Endpoint` of its segment and a `Binding` of its host while it has a host; an unbound port is nothing.
What security groups mean is in `controller.store.security`; only their snapshots are read here.
A writer describes what its rows meant before and after (`Topics`); `deltas` is what `controller.feed.outbox` records.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, FromClause, Row, Select, select

from controller.store.schema import (
    address_associations,
    address_groups,
    agents,
    identities,
    identity_groups,
    ip_allocations,
    networks,
    ports,
    security_group_rules,
    security_groups,
    segments,
    topics,
)
from controller.store.security import address_group_of, group_of, membership_of, rule_of
from selvedge.topics import (
    HOSTS,
    Snapshot,
    addresses_topic,
    group_topic,
    host_topic,
    members_topic,
    segment_topic,
)
from selvedge.topology import Binding, Endpoint, Host, Object, Pair, Ref, Segment, ref

Topics = Mapping[str, Sequence[Object]]
"""Topic → objects in it, as far as the writer is concerned."""

Changes = dict[str, tuple[tuple[Object, ...], tuple[Ref, ...]]]
"""Topic → (upserts, deletes). A topic without either is not in it."""

Name = TypeVar("Name", str, int)

CHUNK = 5_000
"""Names in one IN (…): below every database's limit of parameters."""


def segment_of(row: Any) -> Segment:
    """From a row of `select_segments`."""
    return Segment(
        id=row.id,
        key=row.key,
        network=row.network_id,
        kind=row.kind,
        number=row.number,
        physical_network=row.physical_network or None,
        mtu=row.mtu,
        up=row.admin_state_up,
    )


def endpoint_of(row: Any, addresses: Sequence[str], segment: str) -> Endpoint | None:
    """From a row of `select_ports` and its addresses in order; None for a port without a host."""
    if not row.host:
        return None
    secure = is_secure(row)
    return Endpoint(
        id=row.id,
        key=row.key,
        segment=segment,
        host=row.host,
        mac=row.mac_address,
        addresses=tuple(addresses),
        pairs=tuple(
            Pair(pair["mac_address"], with_prefix(pair["ip_address"])) for pair in row.allowed_address_pairs or ()
        ),
        secure=secure,
        up=row.admin_state_up,
        identity=(row.identity or 0) if secure else 0,
        groups=_groups_of(row),
    )


def binding_of(row: Any, segment: str) -> Binding | None:
    """From a row of `select_ports`; None for a port without a host."""
    return Binding(id=row.id, segment=segment, groups=_groups_of(row)) if row.host else None


def _groups_of(row: Any) -> tuple[str, ...]:
    """The security groups of a row of `select_ports`, as far as they matter to a switch."""
    return tuple(row.groups or ()) if is_secure(row) else ()


def is_secure(row: Any) -> bool:
    """Whether guard and groups apply. The network's own ports (DHCP servers, routers) are trusted, as in Neutron."""
    return bool(row.port_security_enabled) and not row.device_owner.startswith("network:")


def host_of(row: Any) -> Host | None:
    """From a row of `agents`; None for one without a tunnel end point."""
    return Host(id=row.host, key=row.key, tunnel_ip=row.tunnel_ip) if row.tunnel_ip else None


def with_prefix(address: str) -> str:
    """`address` with its prefix length, which is the whole address if none is written."""
    if "/" in address:
        return address
    return f"{address}/{128 if ':' in address else 32}"


def of_segments(rows: Iterable[Any]) -> dict[str, list[Object]]:
    """The topics of rows of `select_segments`."""
    return {segment_topic(row.id): [segment_of(row)] for row in rows}


def of_ports(rows: Iterable[tuple[Any, Sequence[str], str]]) -> dict[str, list[Object]]:
    """The topics of (row of `select_ports`, addresses, segment's id)."""
    found: dict[str, list[Object]] = defaultdict(list)
    for row, addresses, segment in rows:
        endpoint, binding = endpoint_of(row, addresses, segment), binding_of(row, segment)
        if endpoint and binding:
            found[segment_topic(segment)].append(endpoint)
            found[host_topic(row.host)].append(binding)
    return dict(found)


def of_agents(rows: Iterable[Any]) -> dict[str, list[Object]]:
    """The topics of rows of `agents`."""
    return {HOSTS: [host for host in map(host_of, rows) if host]}


def deltas(before: Topics, after: Topics) -> Changes:
    """What must be told so that one who holds `before` holds `after`: upserts and deletes in the order given."""
    changes: Changes = {}
    for topic in sorted(before.keys() | after.keys()):
        old = {ref(thing): thing for thing in before.get(topic, ())}
        new = {ref(thing): thing for thing in after.get(topic, ())}
        upserts = tuple(thing for name, thing in new.items() if old.get(name) != thing)
        deletes = tuple(name for name in old if name not in new)
        if upserts or deletes:
            changes[topic] = (upserts, deletes)
    return changes


# Readers.


def select_segments() -> Select[Any]:
    """Segments with what their network adds to them."""
    return select(segments, networks.c.mtu, networks.c.admin_state_up).join(
        networks, networks.c.id == segments.c.network_id
    )


def ports_with_groups() -> FromClause:
    """Ports, and the identity that each has or has not."""
    return ports.outerjoin(identities, identities.c.key == ports.c.identity)


def select_ports() -> Select[Any]:
    """Ports with the security groups (`groups`: sorted ids, or None) that their identity stands for."""
    return select(ports, identities.c.groups).select_from(ports_with_groups())


def chunks(names: Iterable[Name]) -> Iterable[list[Name]]:
    """`names` without repetition, sorted, in lists that fit an IN (…)."""
    ordered = sorted(set(names))
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))


def addresses_of(conn: Connection, port_ids: Iterable[str]) -> dict[str, list[str]]:
    """Port → its addresses in order. Ports without addresses are absent."""
    found: dict[str, list[str]] = defaultdict(list)
    for chunk in chunks(port_ids):
        statement = (
            select(ip_allocations.c.port_id, ip_allocations.c.ip_address)
            .where(ip_allocations.c.port_id.in_(chunk))
            .order_by(ip_allocations.c.port_id, ip_allocations.c.ordinal, ip_allocations.c.position)
        )
        for port_id, address in conn.execute(statement):
            found[port_id].append(address)
    return found


def segments_of_networks(conn: Connection, network_ids: Iterable[str]) -> dict[str, str]:
    """Network → its segment's id."""
    found: dict[str, str] = {}
    for chunk in chunks(network_ids):
        statement = select(segments.c.network_id, segments.c.id).where(segments.c.network_id.in_(chunk))
        found.update((network, segment) for network, segment in conn.execute(statement))
    return found


def placed(conn: Connection, rows: Sequence[Row[Any]]) -> list[tuple[Any, Sequence[str], str]]:
    """What `of_ports` takes, for rows of `select_ports`: two statements."""
    addresses = addresses_of(conn, (row.id for row in rows))
    where = segments_of_networks(conn, (row.network_id for row in rows))
    return [(row, addresses.get(row.id, ()), where[row.network_id]) for row in rows]


def versions(conn: Connection, names: Iterable[str]) -> dict[str, int]:
    """Topic → its version; 0 for those that do not exist."""
    wanted = list(names)
    found = dict.fromkeys(wanted, 0)
    for chunk in chunks(wanted):
        found.update(
            (name, version)
            for name, version in conn.execute(select(topics.c.name, topics.c.version).where(topics.c.name.in_(chunk)))
        )
    return found


def snapshot(conn: Connection, topic: str) -> Snapshot:
    """One topic; see `snapshots`."""
    return snapshots(conn, (topic,))[0]


def snapshots(conn: Connection, names: Iterable[str]) -> tuple[Snapshot, ...]:
    """The topics' objects and versions at one moment (call it in `Store.read`), in a constant number of statements.

    A topic of no known form is empty, at whatever version it has.
    """
    wanted = list(dict.fromkeys(names))
    version = versions(conn, wanted)
    objects: dict[str, list[Object]] = defaultdict(list)
    if HOSTS in version:
        objects.update(of_agents(conn.execute(select(agents).where(agents.c.tunnel_ip.is_not(None)))))
    for topic_of, read in _READERS:
        prefix = topic_of("")
        for chunk in chunks(name[len(prefix) :] for name in wanted if name.startswith(prefix) and name != prefix):
            for id, thing in read(conn, chunk):
                objects[topic_of(id)].append(thing)
    return tuple(Snapshot(name, version[name], tuple(objects.get(name, ()))) for name in wanted)


# What is in the topics of one kind: (what follows the kind in the topic's name, object), for the names in `chunk`.


def _in_segments(conn: Connection, chunk: Sequence[str]) -> Iterator[tuple[str, Object]]:
    rows = conn.execute(select_segments().where(segments.c.id.in_(chunk))).all()
    for row in rows:
        yield row.id, segment_of(row)
    where = {row.network_id: row.id for row in rows}
    bound = [
        row
        for part in chunks(where)
        for row in conn.execute(select_ports().where(ports.c.network_id.in_(part), ports.c.host != ""))
    ]
    addresses = addresses_of(conn, (row.id for row in bound))
    for row in bound:
        endpoint = endpoint_of(row, addresses.get(row.id, ()), where[row.network_id])
        if endpoint:
            yield endpoint.segment, endpoint


def _on_hosts(conn: Connection, chunk: Sequence[str]) -> Iterator[tuple[str, Object]]:
    columns = (ports.c.id, ports.c.host, ports.c.port_security_enabled, ports.c.device_owner, identities.c.groups)
    statement = select(*columns, segments.c.id.label("segment")).select_from(
        ports_with_groups().join(segments, segments.c.network_id == ports.c.network_id)
    )
    for row in conn.execute(statement.where(ports.c.host.in_(chunk))):
        binding = binding_of(row, row.segment)
        if binding:
            yield row.host, binding


def _of_groups(conn: Connection, chunk: Sequence[str]) -> Iterator[tuple[str, Object]]:
    for row in conn.execute(select(security_groups).where(security_groups.c.id.in_(chunk))):
        yield row.id, group_of(row)
    for row in conn.execute(select(security_group_rules).where(security_group_rules.c.security_group_id.in_(chunk))):
        yield row.security_group_id, rule_of(row)


def _members(conn: Connection, chunk: Sequence[str]) -> Iterator[tuple[str, Object]]:
    for row in conn.execute(select(identity_groups).where(identity_groups.c.security_group_id.in_(chunk))):
        yield row.security_group_id, membership_of(row.security_group_id, row.identity)


def _addresses(conn: Connection, chunk: Sequence[str]) -> Iterator[tuple[str, Object]]:
    found: dict[str, list[str]] = defaultdict(list)
    for row in conn.execute(select(address_associations).where(address_associations.c.address_group_id.in_(chunk))):
        found[row.address_group_id].append(row.address)
    for row in conn.execute(select(address_groups).where(address_groups.c.id.in_(chunk))):
        yield row.id, address_group_of(row, found[row.id])


_Reader = Callable[[Connection, Sequence[str]], Iterator[tuple[str, Object]]]

_READERS: tuple[tuple[Callable[[str], str], _Reader], ...] = (
    (segment_topic, _in_segments),
    (host_topic, _on_hosts),
    (group_topic, _of_groups),
    (members_topic, _members),
    (addresses_topic, _addresses),
)
