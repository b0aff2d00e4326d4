"""`selvedge check [HOST …]`: are the database and the live hosts' switches the same, and if not, where do they differ?

    selvedge check [HOST …] [--config-file FILE] [--timeout SECONDS] [--json]

Runs on a controller's host, with the controller's configuration, beside the controllers. A message to each host's queue
asks its agent, which compares (`agents.checks`) and answers with a report; that is found in the agent's row. Exit
status: 0 all equal, 1 drift, 2 not all could be checked (a dead agent, no answer in time, no broker, no database).
"""

import argparse
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import amqp
from oslo_config import cfg
from sqlalchemy import select
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from controller.store.agents import alive_since
from controller.store.engine import Contention, DatabaseAway, Store
from controller.store.schema import agents
from selvedge import options, verdict, wire
from selvedge.broker import agent_queue
from selvedge.messaging import connect
from selvedge.tls import access
from selvedge.topics import Check

POLL = 0.1
"""Seconds between two looks for answers."""

PATIENCE = 0.7
"""The part of the time that an agent may take; the rest is for the way."""


class Trouble(Exception):
    """Nothing can be checked; the text is one line."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(
        prog="selvedge check", description="Compare the database with what live hosts know and their switches have."
    )
    found.add_argument("host", nargs="*", help="as in binding:host_id; default: all whose agents live")
    found.add_argument("--config-file", action="append", metavar="FILE", help="the controller's")
    found.add_argument("--timeout", type=float, default=15.0, metavar="SECONDS", help="(default: %(default)g)")
    found.add_argument("--json", action="store_true")
    found.add_argument("--here", action="store_true", help="this hypervisor, by its own agent; see --here --help")
    return found


def check(conf: cfg.ConfigOpts, hosts: Sequence[str], timeout: float) -> dict[str, verdict.Verdict]:
    """Ask the hosts (none: all live ones) and wait for their answers. Raises Trouble, DatabaseAway."""
    store = Store(conf.database.connection, pool_size=1)
    try:
        oldest = alive_since(conf.agent_down_time)
        rows = store.read(lambda conn: conn.execute(select(agents.c.host, agents.c.heartbeat_timestamp)).all())
        seen = {row.host: row.heartbeat_timestamp for row in rows}
        verdicts: dict[str, verdict.Verdict] = {}
        asked: dict[str, str] = {}
        for host in dict.fromkeys(hosts or sorted(host for host, beat in seen.items() if beat >= oldest)):
            if host not in seen:
                verdicts[host] = "no agent of a host of this name has ever reported"
            elif seen[host] < oldest:
                verdicts[host] = f"its agent has not reported since {seen[host]}"
            else:
                verdicts[host] = f"its agent did not answer within {timeout:g} s"
                asked[host] = str(uuid.uuid4())
        end = time.monotonic() + timeout
        _publish(conf, asked, timeout)
        while asked and time.monotonic() < end:
            time.sleep(POLL)
            for host, told in _answers(store, asked).items():
                if asked[host] in told:
                    verdicts[host] = told[asked.pop(host)]
        return verdicts
    finally:
        store.dispose()


def _publish(conf: cfg.ConfigOpts, asked: Mapping[str, str], timeout: float) -> None:
    """To the hosts' queues. Who does not come in time need not come."""
    try:
        connection = connect(access(conf), "selvedge check", heartbeat=0)
        try:
            channel = connection.channel()
            for host, number in asked.items():
                body = wire.encode(Check(number, timeout * PATIENCE))
                message = amqp.Message(body, delivery_mode=1, expiration=str(int(timeout * 1000)))
                channel.basic_publish(message, exchange="", routing_key=agent_queue(host))
        finally:
            connection.close()
    except (OSError, amqp.AMQPError) as error:
        raise Trouble(f"the broker cannot be reached: {error}") from error


def _answers(store: Store, hosts: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Host → number of a check → the agent's answer."""
    statement = select(agents.c.host, agents.c.configurations).where(agents.c.host.in_(list(hosts)))
    rows = store.read(lambda conn: conn.execute(statement).all())
    return {row.host: row.configurations.get("checks") or {} for row in rows}


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    asked = parser().parse_args(sys.argv[2:] if argv is None else argv)
    files = [word for name in asked.config_file or () for word in ("--config-file", name)]
    try:
        verdicts = check(options.load_controller(files), asked.host, asked.timeout)
    except (options.BadOption, Trouble) as error:
        print(f"selvedge check: {error}", file=sys.stderr)
        return verdict.UNCHECKED
    except (DatabaseAway, Contention, ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        print(f"selvedge check: the database cannot be read: {str(error).partition(chr(10))[0]}", file=sys.stderr)
        return verdict.UNCHECKED
    if asked.json:
        print(verdict.as_json(verdicts))
    else:
        verdict.show(verdicts)
    return verdict.status(verdicts)
