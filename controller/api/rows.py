"""Rows as they are written, whoever writes them: what every new row begins with, and inserting with datapath keys."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table, select

from controller.store.clock import timestamp
from controller.store.engine import Transaction
from controller.store.topology import chunks

Row = dict[str, Any]


def beginning() -> Row:
    """The timestamps and the revision number of rows that are made now."""
    now = timestamp()
    return {"created_at": now, "updated_at": now, "revision_number": 1}


def insert(transaction: Transaction, table: Table, rows: Sequence[Row]) -> None:
    """Inserts `rows`, which may hold more than the table does, and puts the database's `key` into each."""
    keyed = "key" in table.c
    columns = [column.key for column in table.c if column.key != "key"]
    values = [{key: row[key] for key in columns} for row in rows]
    if keyed and len(rows) == 1:
        rows[0]["key"] = transaction.execute(table.insert().returning(table.c.key), values[0]).scalar_one()
        return
    transaction.execute(table.insert(), values)
    if keyed:
        # Asked for afterwards: RETURNING for many rows is one statement of a megabyte, and three times slower.
        keys: dict[str, int] = {}
        for chunk in chunks(row["id"] for row in rows):
            found = transaction.execute(select(table.c.id, table.c.key).where(table.c.id.in_(chunk)))
            keys.update((id, key) for id, key in found)
        for row in rows:
            row["key"] = keys[row["id"]]
