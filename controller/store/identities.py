"""The numbers of sets of security groups: given when a set is first used, and taken away when no port has it.

A port has one set, and a set one number, its identity, for all ports that have it; a number is never used twice. So a
port more with a set that is known changes no membership of anything. Whoever needs a set looks it up and inserts it
only if it is not there; of two who insert the same one at a time, the second waits and finds it.

Nobody locks an identity to use it: `ports.identity` is a foreign key that refuses. If an identity is deleted between a
look and the insertion of a port, the port's transaction loses the race and runs again; if the port comes first, the
deletion finds it. Whoever deletes locks the identity's row first, which waits for such ports, and asks afterwards.

An identity without a port is kept for `KEPT` seconds, since packets with it may still be under way and the next port
often needs the same set. Every controller's sweeper takes part in that (`due`, `sweep`).
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from sqlalchemy import Connection, and_, delete, exists, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from controller.store.engine import Transaction
from controller.store.schema import identities, identity_groups, ports
from controller.store.security import of_identities
from controller.store.topology import Changes, chunks, deltas
from selvedge.topology import Object

KEPT = 600.0
"""Seconds that an identity is known after it was first found without a port."""

SWEPT = 500
"""Identities in one sweep, at most."""

Groups = tuple[str, ...]
"""A set of security groups: ids, sorted, none twice."""

_NEW = (identities.c.key, identities.c.digest)

_INSERT = {
    "sqlite": sqlite.insert(identities).on_conflict_do_nothing(index_elements=[identities.c.digest]).returning(*_NEW),
    "postgresql": (
        postgresql.insert(identities).on_conflict_do_nothing(index_elements=[identities.c.digest]).returning(*_NEW)
    ),
}

_IN_USE = exists().where(ports.c.identity == identities.c.key)


class GroupInUse(Exception):
    """A port has the security group."""


class Given(NamedTuple):
    """`numbers` of the sets that were asked for; `created` are the topics' new memberships, for those first used."""

    numbers: dict[Groups, int]
    created: dict[str, list[Object]]


def canonical(ids: Iterable[str]) -> Groups:
    """The set in its one form."""
    return tuple(sorted(set(ids)))


def digest(groups: Groups) -> str:
    """The column `digest`."""
    return hashlib.sha256(",".join(groups).encode()).hexdigest()


def identities_of(transaction: Transaction, sets: Iterable[Iterable[str]]) -> Given:
    """The numbers of all `sets`, by `canonical`; the empty set has none. One statement if all are known, else four.

    The groups must exist: one that does not is a race that can only be lost, again and again.
    """
    wanted = {digest(groups): groups for groups in map(canonical, sets) if groups}
    numbers, idle = _known(transaction, wanted)
    if idle:
        statement = update(identities).values(unused_since=None)
        for chunk in chunks(idle):
            transaction.execute(statement.where(identities.c.key.in_(chunk)))
    missing = {one: groups for one, groups in wanted.items() if groups not in numbers}
    mine: list[tuple[int, Groups]] = []
    if missing:
        mine = _insert(transaction, missing)
        numbers.update((groups, number) for number, groups in mine)
        theirs = {one: groups for one, groups in missing.items() if groups not in numbers}
        numbers.update(_known(transaction, theirs)[0])
    return Given(numbers, of_identities(mine))


def _known(transaction: Transaction, wanted: dict[str, Groups]) -> tuple[dict[Groups, int], list[int]]:
    """The numbers of those that are there, and which of these are marked as unused."""
    columns = (identities.c.digest, identities.c.key, identities.c.unused_since)
    numbers: dict[Groups, int] = {}
    idle: list[int] = []
    for chunk in chunks(wanted):
        for one, number, since in transaction.execute(select(*columns).where(identities.c.digest.in_(chunk))):
            numbers[wanted[one]] = number
            if since is not None:
                idle.append(number)
    return numbers, idle


def _insert(transaction: Transaction, missing: dict[str, Groups]) -> list[tuple[int, Groups]]:
    """Those of `missing` that nobody else inserts at the same time, with their numbers and memberships."""
    # In one order for all writers, so that they wait for each other rather than in a circle.
    rows = [{"groups": missing[one], "digest": one} for one in sorted(missing)]
    inserted = transaction.execute(_INSERT[transaction.conn.dialect.name], rows)
    made = [(number, missing[one]) for number, one in inserted]
    if made:
        pairs = [{"identity": number, "security_group_id": group} for number, groups in made for group in groups]
        transaction.execute(identity_groups.insert(), pairs)
    return made


def forget_group(transaction: Transaction, group: str) -> dict[str, list[Object]]:
    """Deletes the identities with `group`, and returns the memberships that go with them. Raises `GroupInUse`.

    For the deletion of the group, whose row is locked by then: so no identity with it is made meanwhile.
    """
    with_group = select(identity_groups.c.identity).where(identity_groups.c.security_group_id == group)
    mine = identities.c.key.in_(with_group)
    # Waits for ports that are being given one of these; those that come later find the identity gone.
    transaction.execute(select(identities.c.key).where(mine).order_by(identities.c.key).with_for_update())
    if transaction.execute(select(ports.c.key).where(ports.c.identity.in_(with_group)).limit(1)).first():
        raise GroupInUse(group)
    gone = transaction.execute(delete(identities).where(mine).returning(identities.c.key, identities.c.groups))
    return of_identities((number, groups) for number, groups in gone)


def due(conn: Connection, now: float) -> bool:
    """Whether `sweep` has anything to do."""
    unmarked, marked = identities.c.unused_since.is_(None), identities.c.unused_since.is_not(None)
    stale = or_(and_(unmarked, ~_IN_USE), and_(marked, _IN_USE), identities.c.unused_since < now - KEPT)
    return conn.execute(select(identities.c.key).where(stale).limit(1)).first() is not None


def sweep(transaction: Transaction, now: float, record: Callable[[Transaction, Changes], None]) -> int:
    """Marks identities that have lost their ports, and deletes those marked `KEPT` seconds ago. How many it deleted.

    Any number of controllers may do it at once: what one has locked, the others leave alone.
    """
    unmarked, marked = identities.c.unused_since.is_(None), identities.c.unused_since.is_not(None)
    transaction.execute(update(identities).where(marked, _IN_USE).values(unused_since=None))
    transaction.execute(update(identities).where(unmarked, ~_IN_USE).values(unused_since=now))
    old = (
        select(identities.c.key)
        .where(identities.c.unused_since < now - KEPT)
        .order_by(identities.c.key)
        .limit(SWEPT)
        .with_for_update(skip_locked=True)
    )
    locked = list(transaction.execute(old).scalars())
    if not locked:
        return 0
    # Asked again now that they are locked: a port may have come just before.
    unused = delete(identities).where(identities.c.key.in_(locked), ~_IN_USE)
    gone = transaction.execute(unused.returning(identities.c.key, identities.c.groups)).all()
    if gone:
        record(transaction, deltas(of_identities((number, groups) for number, groups in gone), {}))
    return len(gone)
