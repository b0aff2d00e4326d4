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
from agents.door import Door
from agents.effects import Event
from agents.journal import NAME, Journal
from agents.mirror import COLUMNS
from agents.ovsdb import Database, Operations, Updated
from agents.reactor import STOP, Queue, Reactor
from agents.remembered import Record
from agents.session import FeedMessages, Session
from agents.topics import Topics
from agents.underlay import Underlay
from openflow.announce import Packet
from openflow.batch import Order
from openflow.pipeline import GENEVE_OPTION
from openflow.switch import Switch
from selvedge import options
from selvedge.tls import access

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
    door: Door
    journal: Journal

    def start(self) -> None:
        """The slowest first: calls import oslo.messaging."""
        self.calls.start()
        self.database.start()
        self.switch.start()
        self.session.start()
        self.underlay.start()
        self.door.start()
        self.journal.start()

    def stop(self) -> None:
        self.door.stop()
        self.calls.stop()
        self.underlay.stop()
        self.database.stop()
        self.session.stop()
        self.switch.stop()
        self.journal.stop()

    def transact(self, tag: str, operations: Operations) -> None:
        self.database.transact(tag, operations)

    def submit(self, order: Order) -> None:
        self.switch.submit(order)

    def call(self, kind: Kind, request: Question) -> None:
        self.calls.submit(kind, request)

    def send(self, packet: Packet) -> None:
        self.switch.send(packet)

    def warm(self, peers: frozenset[str], again: bool) -> None:
        self.underlay.want(peers, again)

    def took(self, events: Sequence[Event]) -> None:
        """Who reads from outside may give more."""
        for event in events:
            if isinstance(event, FeedMessages):
                self.session.took(1)
            elif isinstance(event, Updated):
                self.database.took(1)

    def remember(self, records: tuple[Record, ...], topics: Topics) -> None:
        self.journal.append(records, topics.snapshots)

    def counters(self) -> dict[str, int]:
        feed, calls = self.session.counters, self.calls.counters
        return {
            "messages_received": feed["received"],
            "feed_bytes": feed["bytes"],
            "unreadable_messages": feed["unreadable"],
            "feed_connects": feed["connects"],
            "feed_ghosts": feed["ghosts"],
            "feed_held_back": feed["held_back"],
            "feed_waiting_bytes": feed["waiting_bytes"],
            "calls_sent": calls["sent"],
            "calls_retried": calls["retries"],
            "calls_unanswered": calls["timeouts"],
            "flow_mods_sent": self.switch.counters.flow_mods_sent,
            "group_mods_sent": self.switch.counters.group_mods_sent,
            "bundles": self.switch.counters.bundles,
            "zones_flushed": self.switch.counters.zones_flushed,
            "switch_errors": self.switch.counters.errors,
            "switch_connects": self.switch.counters.connects,
            "ovsdb_transactions": self.database.transactions,
            "door_unreadable": self.door.unreadable,
            "ovsdb_held_back": self.database.held_back,
            "underlay_probes": self.underlay.probes,
            **{f"topology_{what}": count for what, count in self.journal.counters.items()},
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
        audit_interval=float(agent.audit_interval),
        keep_foreign=agent.foreign_flows == "keep",
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
    events: Queue = Queue()
    chosen = settings(conf)
    rundir = Path(conf.agent.ovs_rundir)
    threads = IOThreads(
        calls=Calls(conf, events.put),
        database=Database(
            str(rundir / "db.sock"), {table: tuple(columns) for table, columns in COLUMNS.items()}, events.put
        ),
        switch=Switch(str(rundir / f"{chosen.integration_bridge}.mgmt"), events.put, option=GENEVE_OPTION),
        session=Session(access(conf), chosen.host, events.put),
        underlay=Underlay(),
        door=Door(Path(conf.agent.state_dir), events.put),
        journal=Journal(Path(conf.agent.state_dir) / NAME, chosen.host),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: events.put(STOP))
    threads.start()
    LOG.info("host %s, bridge %s in %s", chosen.host, chosen.integration_bridge, rundir)
    core = Core(chosen, time.monotonic(), threads.journal.read())
    Reactor(core, events, threads, Path(conf.agent.state_dir)).run()
    threads.stop()
    LOG.info("stopped; flows stay as they are")
    return 0
