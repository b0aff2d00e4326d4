"""The attributes that resources have in common, as lines for their tables."""

from sqlalchemy import Table

from controller.api.attributes import ANYONE, NOBODY, REQUIRED, Attribute
from controller.api.kinds import Kind, boolean, name, none_is, string, uuid_text


def identifiers(table: Table, name_kind: Kind | None = None) -> tuple[Attribute, ...]:
    """Who it is and whose. `name_kind` is for names that are not as other resources' are."""
    return (
        identifier(table),
        Attribute(
            "name",
            kind=name_kind or name(255),
            post=ANYONE,
            put=ANYONE,
            default="",
            column=table.c.name,
            filter=True,
            sort=True,
        ),
        project(table),
    )


def identifier(table: Table) -> Attribute:
    """Drawn by the machine."""
    return Attribute("id", kind=uuid_text, post=NOBODY, column=table.c.id, filter=True, sort=True)


def project(table: Table) -> Attribute:
    """Set by the machine from who asks; only an administrator may name another project."""
    return Attribute(
        "project_id",
        kind=string(255),
        post=ANYONE,
        default=REQUIRED,
        column=table.c.project_id,
        filter=True,
        sort=True,
    )


def standard(table: Table) -> tuple[Attribute, ...]:
    """Neutron's standard attributes."""
    return (
        Attribute(
            "description",
            kind=none_is("", string(255)),
            post=ANYONE,
            put=ANYONE,
            default="",
            column=table.c.description,
            filter=True,
            sort=True,
        ),
        Attribute("created_at", column=table.c.created_at, filter=True, sort=True),
        Attribute("updated_at", column=table.c.updated_at, filter=True, sort=True),
        Attribute("revision_number", column=table.c.revision_number, filter=True, sort=True),
    )


def admin_state(table: Table) -> Attribute:
    """Whether its owner wants it to work."""
    return Attribute(
        "admin_state_up",
        kind=boolean,
        post=ANYONE,
        put=ANYONE,
        default=True,
        column=table.c.admin_state_up,
        filter=True,
        sort=True,
    )


def status(table: Table) -> Attribute:
    """Whether it does work."""
    return Attribute("status", column=table.c.status, filter=True, sort=True)
