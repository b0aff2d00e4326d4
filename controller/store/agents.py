"""What an agent says about itself: `report` makes its row, keeps it alive, and tells its peers where its tunnels end.

The row's key is the host's number in the datapath. `alive` is not stored: it is the heartbeat's age, judged by
whoever asks (`alive_since`).
"""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from controller.store.bindings import Record
from controller.store.clock import timestamp
from controller.store.engine import Transaction
from controller.store.schema import agents
from controller.store.topology import deltas, of_agents
from selvedge.rpc import Report

AGENT_TYPE = "Selvedge agent"
"""Not "Open vSwitch agent": that is Neutron's own agent, and clients tell the two apart by this."""


def report(transaction: Transaction, request: Report, record: Record) -> None:
    """Writes what `request` says; the topic `hosts` changes only if the tunnel end point does."""
    now = timestamp()
    mine = agents.c.host == request.host
    said: dict[str, Any] = {
        "heartbeat_timestamp": now,
        "started_at": request.started_at,
        "configurations": request.configurations,
        "tunnel_ip": request.tunnel_ip,
    }
    before = transaction.execute(select(agents).where(mine).with_for_update()).all()
    if before:
        transaction.execute(update(agents).where(mine).values(**said))
        if before[0].tunnel_ip == request.tunnel_ip:
            return
    else:
        fixed = {
            "id": str(uuid.uuid4()),
            "agent_type": AGENT_TYPE,
            "binary": "selvedge-agent",
            "topic": "N/A",
            "host": request.host,
            "description": None,
            "admin_state_up": True,
            "created_at": now,
        }
        transaction.execute(agents.insert().values(**fixed, **said))
    after = transaction.execute(select(agents).where(mine)).all()
    changes = deltas(of_agents(before), of_agents(after))
    if changes:
        record(transaction, changes)


def alive_since(down_time: int, now: datetime | None = None) -> str:
    """The oldest `heartbeat_timestamp` of an agent that is alive, for one that may be silent `down_time` seconds."""
    return timestamp((now or datetime.now(UTC)) - timedelta(seconds=down_time))
