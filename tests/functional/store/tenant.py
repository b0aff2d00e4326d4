"""Groups, rules and ports of one tenant as rows, without the API: what the store's own tests are made of.

Every verb is one transaction, with the real outbox. Objects are told as the API will tell them: what they meant before
and what they mean after. `held` is what somebody holds who applied every message, `found` what snapshots hold.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import and_, delete, insert, or_, select, update

from controller.feed.outbox import Outbox
from controller.store import identities
from controller.store.engine import Store, Transaction
from controller.store.schema import (
    address_associations,
    address_groups,
    networks,
    outbox,
    ports,
    security_group_rules,
    security_groups,
    segments,
)
from controller.store.security import fingerprint, network, of_address_groups, of_rules, of_security_groups
from controller.store.topology import Changes, deltas, of_ports, of_segments, placed, select_ports, select_segments
from controller.store.topology import snapshots as snapshots_of
from selvedge import wire
from selvedge.topics import Update
from selvedge.topology import Object, Ref, ref
from tests.rest import replay

STANDARD: dict[str, Any] = {
    "project_id": "tenant",
    "description": "",
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
    "revision_number": 1,
}

PORT: dict[str, Any] = {
    **STANDARD,
    "name": "",
    "admin_state_up": True,
    "status": "DOWN",
    "device_id": "",
    "device_owner": "compute:nova",
    "port_security_enabled": True,
    "allowed_address_pairs": [],
    "vnic_type": "normal",
    "vif_type": "ovs",
    "vif_details": {},
    "profile": {},
    "binding_claimed": False,
}

Topics = dict[str, list[Object]]


class NoGroup(Exception):
    """A port or a rule names a group that is not there (any more)."""


class RuleExists(Exception):
    """The group has this rule."""


class Tenant:
    """One tenant with one network. Any thread."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.record: Callable[[Transaction, Changes], None] = Outbox(lambda rows: None).record
        self.network = str(uuid.uuid4())
        self._write(self._make_network)

    def _write(self, work: Callable[[Transaction, Topics, Topics], Any]) -> Any:
        """`work` tells what was before and what is after; the outbox gets the difference."""

        def once(transaction: Transaction) -> Any:
            was: Topics = defaultdict(list)
            now: Topics = defaultdict(list)
            result = work(transaction, was, now)
            self.record(transaction, deltas(was, now))
            return result

        return self.store.transaction(once)

    def _make_network(self, transaction: Transaction, was: Topics, now: Topics) -> None:
        more = {"name": "", "admin_state_up": True, "status": "ACTIVE", "shared": False, "mtu": 1442}
        network = {**STANDARD, **more, "id": self.network, "port_security_enabled": True}
        transaction.execute(insert(networks), network)
        number = uuid.UUID(self.network).int % 0xFFFFFF
        segment = {"id": str(uuid.uuid4()), "kind": "geneve", "physical_network": "", "number": number}
        transaction.execute(insert(segments), {**segment, "network_id": self.network})
        of_network = select_segments().where(segments.c.network_id == self.network)
        now.update(of_segments(transaction.execute(of_network).all()))

    # Groups and rules.

    def group(self, stateful: bool = True) -> str:
        """A security group without rules; its id."""
        id = str(uuid.uuid4())

        def work(transaction: Transaction, was: Topics, now: Topics) -> None:
            transaction.execute(insert(security_groups), {**STANDARD, "id": id, "name": id, "stateful": stateful})
            now.update(of_security_groups(_rows(transaction, security_groups, security_groups.c.id == id)))

        self._write(work)
        return id

    def rule(self, group: str, **values: Any) -> str:
        """A rule of a group (everything into it, if nothing is said); its id. Raises `NoGroup`, `RuleExists`."""
        id = str(uuid.uuid4())
        blank = dict.fromkeys(
            ("protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id")
        ) | dict.fromkeys(("normalized_cidr", "remote_address_group_id"))
        row = {**STANDARD, **blank, "direction": "ingress", "ethertype": "IPv4", "security_group_id": group, **values}
        if row["remote_ip_prefix"]:
            row["normalized_cidr"] = network(row["remote_ip_prefix"])
        row.update(id=id, fingerprint=fingerprint(row))

        def work(transaction: Transaction, was: Topics, now: Topics) -> None:
            _require(transaction, [one for one in (group, row["remote_group_id"]) if one])
            same = security_group_rules.c.fingerprint == row["fingerprint"]
            if _rows(transaction, security_group_rules, and_(security_group_rules.c.security_group_id == group, same)):
                raise RuleExists
            transaction.execute(insert(security_group_rules), row)
            now.update(of_rules(_rows(transaction, security_group_rules, security_group_rules.c.id == id)))

        self._write(work)
        return id

    def remove_rule(self, id: str) -> None:
        def work(transaction: Transaction, was: Topics, now: Topics) -> None:
            mine = security_group_rules.c.id == id
            was.update(of_rules(_locked(transaction, security_group_rules, mine)))
            transaction.execute(delete(security_group_rules).where(mine))

        self._write(work)

    def remove_group(self, id: str) -> None:
        """Raises `identities.GroupInUse`. Its rules go with it, and the rules of others that name it."""

        def work(transaction: Transaction, was: Topics, now: Topics) -> None:
            mine = security_groups.c.id == id
            was.update(of_security_groups(_locked(transaction, security_groups, mine)))
            rules = or_(security_group_rules.c.security_group_id == id, security_group_rules.c.remote_group_id == id)
            for topic, things in of_rules(_locked(transaction, security_group_rules, rules)).items():
                was[topic].extend(things)
            was.update(identities.forget_group(transaction, id))
            transaction.execute(delete(security_groups).where(mine))

        self._write(work)

    def address_group(self, *addresses: str) -> str:
        id = str(uuid.uuid4())

        def work(transaction: Transaction, was: Topics, now: Topics) -> None:
            transaction.execute(insert(address_groups), {**STANDARD, "id": id, "name": ""})
            self._set_addresses(transaction, id, addresses, now)

        self._write(work)
        return id

    def set_addresses(self, id: str, *addresses: str) -> None:
        self._write(lambda transaction, was, now: self._set_addresses(transaction, id, addresses, now))

    def _set_addresses(self, transaction: Transaction, id: str, addresses: Iterable[str], now: Topics) -> None:
        transaction.execute(delete(address_associations).where(address_associations.c.address_group_id == id))
        for address in addresses:
            transaction.execute(insert(address_associations), {"address_group_id": id, "address": address})
        rows = _rows(transaction, address_groups, address_groups.c.id == id)
        now.update(of_address_groups((row, addresses) for row in rows))

    # Ports.

    def port(self, *groups: str, host: str = "hv1", **values: Any) -> str:
        """A port with these security groups; its id."""
        return self.ports([groups], host=host, **values)[0]

    def ports(self, sets: Iterable[Iterable[str]], host: str = "hv1", **values: Any) -> list[str]:
        """A port for each of the sets, in one transaction. Raises `NoGroup`."""
        wanted = [identities.canonical(one) for one in sets]
        ids = [str(uuid.uuid4()) for _ in wanted]

        def work(transaction: Transaction, was: Topics, now: Topics) -> None:
            _require(transaction, {group for one in wanted for group in one})
            numbers, created = identities.identities_of(transaction, wanted)
            rows = [
                {**PORT, "id": id, "network_id": self.network, "host": host, "mac_address": _mac(id), **values}
                | {"identity": numbers.get(groups)}
                for id, groups in zip(ids, wanted, strict=True)
            ]
            transaction.execute(insert(ports), rows)
            now.update(created)
            now.update(self._meaning(transaction, ids))

        self._write(work)
        return ids

    def regroup(self, port: str, *groups: str) -> None:
        """The port gets other security groups. Raises `NoGroup`."""

        def work(transaction: Transaction, was: Topics, now: Topics) -> None:
            was.update(self._meaning(transaction, [port], lock=True))
            _require(transaction, groups)
            numbers, created = identities.identities_of(transaction, [groups])
            number = numbers.get(identities.canonical(groups))
            transaction.execute(update(ports).where(ports.c.id == port).values(identity=number))
            now.update(created)
            now.update(self._meaning(transaction, [port]))

        self._write(work)

    def remove_port(self, port: str) -> None:
        def work(transaction: Transaction, was: Topics, now: Topics) -> None:
            was.update(self._meaning(transaction, [port], lock=True))
            transaction.execute(delete(ports).where(ports.c.id == port))

        self._write(work)

    def _meaning(self, transaction: Transaction, ids: list[str], lock: bool = False) -> Topics:
        statement = select_ports().where(ports.c.id.in_(ids))
        statement = statement.with_for_update(of=ports) if lock else statement
        return of_ports(placed(transaction.conn, transaction.execute(statement).all()))

    def sweep(self, now: float) -> int:
        """What a controller's sweeper does at `now`; the number of identities that are gone."""
        if not self.store.read(lambda conn: identities.due(conn, now)):
            return 0
        return self.store.transaction(lambda transaction: identities.sweep(transaction, now, self.record))

    # What others see.

    def updates(self) -> dict[str, list[Update]]:
        """Topic → every message of it, in order."""
        found: dict[str, list[Update]] = defaultdict(list)
        bodies = select(outbox.c.body).order_by(outbox.c.version)
        for body in self.store.read(lambda conn: conn.execute(bodies).scalars().all()):
            message = wire.decode(body, Update)
            found[message.topic].append(message)
        return found

    def held(self) -> dict[str, dict[Ref, Object]]:
        """Topic → objects, for whoever followed every message. Asserts that no version is missing or doubled."""
        recorded: list[Changes] = []
        for topic, messages in self.updates().items():
            assert [message.version for message in messages] == list(range(1, len(messages) + 1)), topic
            recorded.extend({topic: (message.upserts, message.deletes)} for message in messages)
        return replay(recorded)

    def found(self) -> dict[str, dict[Ref, Object]]:
        """Topic → objects, for whoever asks for a snapshot of everything that was ever told of."""
        names = list(self.updates())
        found = self.store.read(lambda conn: snapshots_of(conn, names))
        return {one.topic: {ref(thing): thing for thing in one.objects} for one in found if one.objects}

    def identity(self, port: str) -> int:
        """Of a port that has groups."""
        statement = select(ports.c.identity).where(ports.c.id == port)
        return int(self.store.read(lambda conn: conn.execute(statement).scalar_one()))


def _rows(transaction: Transaction, table: Any, condition: Any) -> list[Any]:
    return list(transaction.execute(select(table).where(condition)))


def _locked(transaction: Transaction, table: Any, condition: Any) -> list[Any]:
    """Rows that will be deleted: of two who do it, the second finds them gone, so that their end is told once."""
    return list(transaction.execute(select(table).where(condition).order_by(table.c.key).with_for_update()))


def _require(transaction: Transaction, groups: Iterable[str]) -> None:
    if len(_rows(transaction, security_groups, security_groups.c.id.in_(set(groups)))) < len(set(groups)):
        raise NoGroup


def _mac(id: str) -> str:
    return ":".join(("02", *(id[place : place + 2] for place in (0, 2, 4, 6, 9))))
