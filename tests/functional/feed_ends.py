"""The two ends of the feed for tests: a controller without REST, and an agent without a switch.

`Controller` is the service of one process, and the transactions of a tenant. `Host` is session, calls and topics, whose
reactor is the test itself: `until` drives any number of them until something is so.
"""

import queue
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import func, insert, select, update

from agents.calls import Answer, Calls
from agents.session import FeedDown, FeedEvent, FeedMessages, FeedUp, Session
from agents.topics import Request, Topics
from controller.feed.service import Service
from controller.store import schema
from controller.store.engine import Store, Transaction
from controller.store.topology import deltas, of_ports, of_segments, placed, select_ports, select_segments, snapshots
from devstack.labs.broker import Broker
from selvedge import broker as names
from selvedge import options, rpc
from selvedge.tls import access
from selvedge.topics import Update

NOW = "2026-01-01T00:00:00Z"


def files(directory: Path, broker: Broker, **agent: str) -> list[str]:
    """Arguments that name a configuration file made for this test."""
    path = directory / "selvedge.conf"
    lines = [f"[DEFAULT]\ntransport_url = {broker.url}\n", *(f"{name} = {value}\n" for name, value in agent.items())]
    path.write_text("".join(lines) + f"[agents]\naccounts = shared\n[agent]\nstate_dir = {directory}\n")
    return ["--config-file", str(path)]


class Controller:
    """A controller's process without REST: its service, and the transactions of a tenant."""

    def __init__(self, url: str, arguments: list[str]) -> None:
        self.store = Store(url)
        self.service = Service(options.load_controller(arguments), self.store)
        self.service.start()

    def stop(self) -> None:
        self.service.stop()
        self.store.dispose()

    def network(self) -> str:
        """A Geneve network; returns its segment's id."""
        network, segment = str(uuid.uuid4()), str(uuid.uuid4())
        standard = dict.fromkeys(("project_id", "name", "description"), "") | {"created_at": NOW, "updated_at": NOW}

        def work(transaction: Transaction) -> None:
            transaction.execute(
                insert(schema.networks).values(
                    id=network,
                    **standard,
                    revision_number=1,
                    admin_state_up=True,
                    status="ACTIVE",
                    shared=False,
                    mtu=1442,
                    port_security_enabled=True,
                )
            )
            number = uuid.UUID(network).int % 0xFFFFFF
            transaction.execute(
                insert(schema.segments).values(
                    id=segment, network_id=network, kind="geneve", physical_network="", number=number
                )
            )
            rows = transaction.execute(select_segments().where(schema.segments.c.id == segment)).all()
            self.service.outbox.record(transaction, deltas({}, of_segments(rows)))

        self.store.transaction(work)
        return segment

    def ports(self, segment: str, host: str, count: int = 1) -> list[str]:
        """Ports of a segment, bound to `host` (empty: to none); one transaction."""
        identities = [str(uuid.uuid4()) for _ in range(count)]

        def work(transaction: Transaction) -> None:
            network = transaction.execute(
                select(schema.segments.c.network_id).where(schema.segments.c.id == segment)
            ).scalar_one()
            transaction.execute(
                insert(schema.ports),
                [
                    {
                        **dict.fromkeys(("project_id", "name", "description", "device_id", "device_owner"), ""),
                        **dict.fromkeys(("created_at", "updated_at"), NOW),
                        **dict.fromkeys(("vnic_type", "vif_type"), "ovs"),
                        "vif_details": {},
                        "profile": {},
                        **dict.fromkeys(("admin_state_up", "port_security_enabled"), True),
                        "id": identity,
                        "network_id": network,
                        "mac_address": ":".join(identity[n : n + 2] for n in (0, 2, 4, 6, 9, 11)),
                        "status": "DOWN",
                        "revision_number": 1,
                        "allowed_address_pairs": [],
                        "host": host,
                        "binding_claimed": False,
                    }
                    for identity in identities
                ],
            )
            rows = transaction.execute(select_ports().where(schema.ports.c.id.in_(identities))).all()
            changes = deltas({}, of_ports(placed(transaction.conn, rows)))
            if changes:
                self.service.outbox.record(transaction, changes)

        self.store.transaction(work)
        return identities

    def toggle(self, port: str, up: bool) -> None:
        """admin_state_up of a port."""

        def work(transaction: Transaction) -> None:
            mine = schema.ports.c.id == port
            before = transaction.execute(select_ports().where(mine).with_for_update(of=schema.ports)).all()
            transaction.execute(update(schema.ports).where(mine).values(admin_state_up=up))
            after = transaction.execute(select_ports().where(mine)).all()
            old, new = (of_ports(placed(transaction.conn, rows)) for rows in (before, after))
            self.service.outbox.record(transaction, deltas(old, new))

        self.store.transaction(work)

    def toggle_often(self, port: str, count: int) -> None:
        for n in range(count):
            self.toggle(port, bool(n % 2))

    def left_in_outbox(self) -> int:
        return self.store.read(lambda conn: conn.execute(select(func.count()).select_from(schema.outbox)).scalar_one())


class Host:
    """An agent without a switch, whose reactor is the test itself."""

    def __init__(
        self, directory: Path, broker: Broker, name: str, *interest: str, arguments: list[str] | None = None
    ) -> None:
        """`arguments` name its configuration; default: one made for it, with the broker's shared account."""
        directory.mkdir()
        self.name = name
        self.interest = set(interest)
        self.topics = Topics()
        self.topics.set_interest(interest)
        self.answers: list[Answer] = []
        self.up: list[bool] = []
        self.downs = 0
        self.outstanding: Request | None = None
        self.connected = False
        self.events: queue.SimpleQueue[FeedEvent | Answer] = queue.SimpleQueue()
        conf = options.load_agent(arguments or files(directory, broker, host=name))
        self.session = Session(access(conf), name, self.events.put)
        self.calls = Calls(conf, self.events.put)
        self.calls.start()
        self.session.start()

    def stop(self) -> None:
        self.session.stop()
        self.calls.stop()
        Path(f"/dev/shm/{self.name}_selvedge-agent_qmanager").unlink(missing_ok=True)  # oslo.messaging's counter

    @property
    def queue(self) -> str:
        return names.agent_queue(self.name)

    def step(self, timeout: float) -> None:
        """What a reactor does between two events."""
        self.topics.set_interest(self.interest)
        now = time.monotonic()
        if self.connected and (request := self.topics.request(now)):
            self.calls.submit("subscribe", rpc.Subscribe(self.name, request.topics, request.drop))
            self.outstanding = request
        try:
            event = self.events.get(timeout=timeout)
        except queue.Empty:
            return
        now = time.monotonic()
        if isinstance(event, FeedUp):
            self.connected = True
            self.up.append(event.fresh)
            if event.fresh:
                self.topics.lost()
        elif isinstance(event, FeedDown):
            self.connected = False
            self.downs += 1
        elif isinstance(event, FeedMessages):
            for message in event.updates:
                assert isinstance(message, Update)
                self.topics.update(message, now)
            self.session.took(1)
        elif isinstance(event.reply, rpc.SubscribeReply):
            self.topics.answer(event.reply, now)
        elif isinstance(event.reply, rpc.ReportReply) and isinstance(event.request, rpc.Report):
            self.topics.suspect(event.request.topics, event.reply.stale, now)
            self.answers.append(event)
        else:
            self.answers.append(event)

    def objects(self, topic: str) -> set[object]:
        return set(self.topics[topic].objects.values()) if topic in self.topics else set()

    def call(self, kind: str, request: object, timeout: float = 15.0) -> Answer:
        seen = len(self.answers)
        self.calls.submit(kind, request)  # type: ignore[arg-type]
        until([self], lambda: len(self.answers) > seen, timeout)
        return self.answers[-1]

    def report(self) -> rpc.ReportReply:
        number = sum(self.name.encode()) % 250
        answer = self.call(
            "report", rpc.Report(self.name, f"192.0.2.{number}", {}, NOW, self.topics.versions()), timeout=30.0
        )
        assert isinstance(answer.reply, rpc.ReportReply), answer.error
        return answer.reply


def until(hosts: list[Host], done: Callable[[], bool], timeout: float = 15.0) -> float:
    """Drive the hosts until it is done; returns the seconds it took."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < timeout, "not done in time"
        for host in hosts:
            host.step(0.002)
        if not hosts:
            time.sleep(0.005)
    return time.monotonic() - began


def truth(controller: Controller, topic: str) -> set[object]:
    return set(controller.store.read(lambda conn: snapshots(conn, [topic]))[0].objects)
