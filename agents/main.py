"""selvedge-agent: reads the configuration, starts the threads, runs the reactor, stops on SIGTERM or SIGINT.

All threads start at once, and each imports what only it needs: the database is loaded and flows are read back while
oslo.messaging is still being imported. Stopping leaves everything as it is, flows and bridges: the data plane does
not depend on this process. Missing sockets and brokers are waited for, a configuration that cannot be used is one line.
"""

import gc
import logging
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agents.calls import Calls, Kind, Question
from agents.conditions import Settings
from agents.core import Core
from agents.inbox import STOP, Inbox
from agents.mirror import COLUMNS
from agents.ovsdb import Database, Operations
from agents.reactor import Reactor
from agents.session import Session
from agents.underlay import Underlay
from openflow.announce import Packet
from openflow.batch import Batch, Flush
from openflow.pipeline import GENEVE_OPTION
from openflow.switch import Switch
from selvedge import options

LOG = logging.getLogger(__name__)

GARBAGE = (50_000, 20, 100)
"""Thresholds of the garbage collector: by default it looks through all that a host's topology is made of several times
while that is read, which costs a fifth of the start. Nearly everything here is freed by its reference count."""


@dataclass(frozen=True)
class IOThreads:
    """The threads that carry out effects (`agents.reactor.Threads`)."""

    database: Database
    switch: Switch
    session: Session
    calls: Calls
    underlay: Underlay

    def start(self) -> None:
        """The slowest first: calls import oslo.messaging."""
        self.calls.start()
        self.database.start()
        self.switch.start()
        self.session.start()
        self.underlay.start()

    def stop(self) -> None:
        self.calls.stop()
        self.underlay.stop()
        self.database.stop()
        self.session.stop()
        self.switch.stop()

    def transact(self, tag: str, operations: Operations) -> None:
        self.database.transact(tag, operations)

    def submit(self, order: Batch | Flush) -> None:
        self.switch.submit(order)

    def call(self, kind: Kind, request: Question) -> None:
        self.calls.submit(kind, request)

    def send(self, packet: Packet) -> None:
        self.switch.send(packet)

    def warm(self, peers: frozenset[str], again: bool) -> None:
        self.underlay.want(peers, again)

    def counters(self) -> dict[str, int]:
        feed, calls = self.session.counters, self.calls.counters
        return {
            "messages_received": feed["received"],
            "feed_bytes": feed["bytes"],
            "unreadable_messages": feed["unreadable"],
            "feed_connects": feed["connects"],
            "feed_pauses": feed["pauses"],
            "calls_sent": calls["sent"],
            "calls_retried": calls["retries"],
            "flow_mods_sent": self.switch.counters.flow_mods_sent,
            "group_mods_sent": self.switch.counters.group_mods_sent,
            "bundles": self.switch.counters.bundles,
            "zones_flushed": self.switch.counters.zones_flushed,
            "switch_errors": self.switch.counters.errors,
            "switch_connects": self.switch.counters.connects,
            "ovsdb_transactions": self.database.transactions,
            "underlay_probes": self.underlay.probes,
        }


def settings(conf: Any) -> Settings:
    """The options that matter to the core."""
    agent = conf.agent
    return Settings(
        host=conf.host,
        tunnel_ip=agent.tunnel_ip or None,
        tunnel_types=tuple(dict.fromkeys(agent.tunnel_types)),
        bridge_mappings=dict(agent.bridge_mappings),
        integration_bridge=agent.integration_bridge,
        datapath_type=agent.datapath_type,
        report_interval=float(agent.report_interval),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    try:
        conf = options.load_agent(argv)
    except options.BadOption as error:
        print(f"selvedge-agent: {error}", file=sys.stderr)
        return 1
    gc.set_threshold(*GARBAGE)
    options.setup_logging(conf, "selvedge-agent")
    events = Inbox()
    chosen = settings(conf)
    rundir = Path(conf.agent.ovs_rundir)
    threads = IOThreads(
        calls=Calls(conf, events.put),
        database=Database(
            str(rundir / "db.sock"), {table: tuple(columns) for table, columns in COLUMNS.items()}, events.put
        ),
        switch=Switch(str(rundir / f"{chosen.integration_bridge}.mgmt"), events.put, option=GENEVE_OPTION),
        session=Session(conf.transport_url, chosen.host, events.put, events.full),
        underlay=Underlay(),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: events.put(STOP))
    threads.start()
    LOG.info("host %s, bridge %s in %s", chosen.host, chosen.integration_bridge, rundir)
    Reactor(Core(chosen, time.monotonic()), events, threads, Path(conf.agent.state_dir)).run()
    threads.stop()
    LOG.info("stopped; flows stay as they are")
    return 0
