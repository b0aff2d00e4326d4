"""Alembic's entry for its own command line; the controller migrates by `controller.store.migrate`.

`run` has a connection of its own, to the database that `-x url=…` names:
`alembic -x url=sqlite:////tmp/x.db revision --autogenerate` makes the next revision while developing.
"""

from alembic import context
from sqlalchemy import create_engine

from controller.store.schema import metadata


def run() -> None:
    """Runs on a connection of its own to the database that `-x url=…` names."""
    url = context.get_x_argument(as_dictionary=True)["url"]
    with create_engine(url).connect() as conn:
        context.configure(connection=conn, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()
        conn.commit()


run()
