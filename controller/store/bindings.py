"""What an agent says about ports: `claim` and `wired`, each one transaction of a few statements for any number.

A port belongs to one host. A claim takes a port that belongs nowhere; who comes second is told `elsewhere`. A port
that was claimed is released when it is unplugged, so that its next plug, anywhere, claims it again; a port that a
request bound stays bound.
"""

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, func, select, update

from controller.store.clock import timestamp
from controller.store.engine import Transaction
from controller.store.schema import agents, ports
from controller.store.topology import Changes, chunks, deltas, of_ports, placed, select_ports
from selvedge.rpc import Active, Wired

Record = Callable[[Transaction, Changes], None]
"""`controller.feed.outbox.record`: the last statements of a transaction that changes the topology."""

CLAIMED, ELSEWHERE, UNKNOWN = "claimed", "elsewhere", "unknown"

UNBOUND: dict[str, Any] = {"host": "", "vif_type": "unbound", "vif_details": {}, "binding_claimed": False}
"""The binding columns of a port that belongs nowhere."""


def bound(datapath_type: str = "system", bridge: str = "br-int") -> dict[str, Any]:
    """The binding columns, besides the host, of a port that belongs to a host with such a bridge."""
    return {
        "vif_type": "ovs",
        "vif_details": {
            "connectivity": "l2",
            "port_filter": True,
            "ovs_hybrid_plug": False,
            "bridge_name": bridge,
            "datapath_type": datapath_type,
        },
    }


def plugging(transaction: Transaction, hosts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Host → the binding columns of ports bound to it, from what its agent reported (or the usual, if none did)."""
    wanted = set(hosts)
    found: dict[str, dict[str, Any]] = {}
    for chunk in chunks(wanted):
        for host, said in transaction.execute(
            select(agents.c.host, agents.c.configurations).where(agents.c.host.in_(chunk))
        ):
            found[host] = bound(
                str(said.get("datapath_type") or "system"), str(said.get("integration_bridge") or "br-int")
            )
    return {host: {"host": host, **(found.get(host) or bound())} for host in wanted}


def claim(transaction: Transaction, host: str, port_ids: Iterable[str], record: Record) -> dict[str, str]:
    """Binds those of the ports that belong nowhere to `host`. Port → `claimed`, `elsewhere` or `unknown`."""
    wanted = list(dict.fromkeys(port_ids))
    columns = plugging(transaction, [host])[host]
    taken: set[str] = set()
    results = dict.fromkeys(wanted, UNKNOWN)
    for chunk in chunks(wanted):
        # One statement both looks and takes, so two hosts cannot both find the port free.
        statement = (
            update(ports)
            .where(ports.c.id.in_(chunk), ports.c.host == "")
            .values(**columns, binding_claimed=True, status="DOWN", **_touched())
            .returning(ports.c.id)
        )
        taken.update(transaction.execute(statement).scalars())
    rows = [row for chunk in chunks(wanted) for row in transaction.execute(select_ports().where(ports.c.id.in_(chunk)))]
    results.update((row.id, CLAIMED if row.host == host else ELSEWHERE) for row in rows)
    if taken:
        record(transaction, deltas({}, of_ports(placed(transaction.conn, [row for row in rows if row.id in taken]))))
    return results


def wired(transaction: Transaction, request: Wired, record: Record) -> tuple[str, ...]:
    """Sets the status of ports of a host, and releases claimed ones that are unplugged.

    Returns the ports that are not bound to the host; nothing is changed for them. A port in several lists is what
    the last of up, down, unplugged says.
    """
    host, unplugged = request.host, set(request.unplugged)
    falling = unplugged.union(request.down)
    rising = set(request.up) - falling
    wanted = rising | falling
    rows = [
        row
        for chunk in chunks(wanted)
        for row in transaction.execute(select_ports().where(ports.c.id.in_(chunk), ports.c.host == host))
    ]
    for status, names in (("ACTIVE", rising), ("DOWN", falling)):
        changed = [row.id for row in rows if row.id in names and row.status != status]
        for chunk in chunks(changed):
            # The host is asked again: the port may have been bound elsewhere since the read.
            mine = (ports.c.id.in_(chunk), ports.c.host == host)
            transaction.execute(update(ports).where(*mine).values(status=status, **_touched()))
    released = [row for row in rows if row.id in unplugged and row.binding_claimed]
    freed: set[str] = set()
    for chunk in chunks(row.id for row in released):
        claimed = (ports.c.id.in_(chunk), ports.c.host == host, ports.c.binding_claimed)
        statement = update(ports).where(*claimed).values(**UNBOUND, **_touched()).returning(ports.c.id)
        freed.update(transaction.execute(statement).scalars())
    if freed:
        gone = [row for row in released if row.id in freed]
        record(transaction, deltas(of_ports(placed(transaction.conn, gone)), {}))
    return tuple(sorted(wanted - {row.id for row in rows}))


def active(conn: Connection, host: str) -> Active:
    """The ports of a host that the API calls ACTIVE."""
    mine = (ports.c.host == host, ports.c.status == "ACTIVE")
    row = conn.execute(select(func.count(), func.coalesce(func.sum(ports.c.key), 0)).where(*mine)).one()
    return Active(int(row[0]), int(row[1]))


def _touched() -> dict[str, Any]:
    return {"updated_at": timestamp(), "revision_number": ports.c.revision_number + 1}
