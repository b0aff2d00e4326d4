"""Agents: the hypervisors' daemons, as administrators see them.

Rows are written by the agents' reports (`controller.store.agents`). `alive` is the age of the last report, judged
when it is asked.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, false, or_

from controller.api import kinds
from controller.api.attributes import ANYONE, Attribute
from controller.api.errors import AgentNotFound, InvalidInput
from controller.api.identity import Identity
from controller.api.resource import Behaviour, Resource, Row, Work, table
from controller.settings import Settings
from controller.store.agents import alive_since
from controller.store.schema import agents
from controller.store.topology import of_agents


def _blank(stamp: str) -> str:
    """A stored time in the form in which Neutron shows agents' times."""
    return stamp.replace("T", " ").removesuffix("Z")


ATTRIBUTES = table(
    Attribute("id", kind=kinds.uuid_text, column=agents.c.id, filter=True, sort=True),
    Attribute("agent_type", column=agents.c.agent_type, filter=True, sort=True),
    Attribute("binary", column=agents.c.binary, filter=True, sort=True),
    Attribute("topic", column=agents.c.topic, filter=True, sort=True),
    Attribute("host", column=agents.c.host, filter=True, sort=True),
    Attribute("admin_state_up", kind=kinds.boolean, put=ANYONE, column=agents.c.admin_state_up, filter=True, sort=True),
    Attribute("created_at", column=agents.c.created_at, shown=_blank, sort=True),
    Attribute("started_at", column=agents.c.started_at, shown=_blank, sort=True),
    Attribute("heartbeat_timestamp", column=agents.c.heartbeat_timestamp, shown=_blank, sort=True),
    Attribute("alive", column=agents.c.heartbeat_timestamp),
    Attribute("configurations", column=agents.c.configurations),
    Attribute(
        "description", kind=kinds.or_none(kinds.string(255)), put=ANYONE, column=agents.c.description, filter=True
    ),
)


def _alive(values: Sequence[str], settings: Settings) -> ColumnElement[bool]:
    oldest = alive_since(settings.agent_down_time)
    try:
        wanted = {kinds.boolean(value) for value in values}
    except kinds.Unfit as reason:
        raise InvalidInput(error_message=f"alive: {reason}") from None
    heartbeat = agents.c.heartbeat_timestamp
    return or_(*(heartbeat >= oldest if alive else heartbeat < oldest for alive in wanted))


class Agents(Behaviour):
    """What only agents do."""

    special = {"alive": _alive}

    def sees(self, identity: Identity) -> ColumnElement[bool]:
        return false()

    def present(self, view: Row, settings: Settings) -> None:
        if "alive" in view:
            view["alive"] = view["alive"] >= alive_since(settings.agent_down_time)

    def may_change(self, identity: Identity, row: Row) -> bool:
        return False

    def delete(self, work: Work, row: Row) -> None:
        statement = agents.select().where(agents.c.id == row["id"])
        work.meant(of_agents(work.transaction.execute(statement).all()))


RESOURCE = Resource(
    name="agent",
    plural="agents",
    table=agents,
    attributes=ATTRIBUTES,
    behaviour=Agents(),
    not_found=AgentNotFound,
    operations=frozenset({"list", "show", "update", "delete"}),
    standard=False,
)
