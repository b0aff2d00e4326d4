"""Who asks: one value, however it was found out.

An authenticator takes a request's headers and returns an `Identity`. `noauth` believes the headers that
keystonemiddleware sets (`X-User-Id`, `X-Project-Id`, `X-Roles`), so that policies mean the same without Keystone;
with Keystone the same function reads them after the middleware has made sure that they are its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

READ_ROLES = frozenset({"reader", "member", "manager", "admin", "service"})
WRITE_ROLES = frozenset({"member", "manager", "admin", "service"})


@dataclass(frozen=True, slots=True)
class Identity:
    """A user in a project with roles (lower case)."""

    user: str
    project: str
    roles: frozenset[str]

    @property
    def admin(self) -> bool:
        """May do everything, for every project."""
        return "admin" in self.roles

    @property
    def reads(self) -> bool:
        return not self.roles.isdisjoint(READ_ROLES)

    @property
    def writes(self) -> bool:
        return not self.roles.isdisjoint(WRITE_ROLES)


Authenticator = Callable[[Mapping[str, str]], Identity]
"""From a WSGI environment."""

ADMINISTRATOR = Identity("", "", frozenset({"admin"}))


def from_headers(environ: Mapping[str, str]) -> Identity | None:
    """What the identity headers say; None if there are none.

    Without `X-Roles` the user is a member: keystonemiddleware always sends that header, curl's user forgets it.
    """
    user, project = environ.get("HTTP_X_USER_ID"), environ.get("HTTP_X_PROJECT_ID")
    roles = environ.get("HTTP_X_ROLES")
    if user is None and project is None and roles is None:
        return None
    named = "member,reader" if roles is None else roles
    return Identity(user or "", project or "", frozenset(filter(None, map(str.strip, named.lower().split(",")))))


def noauth(environ: Mapping[str, str]) -> Identity:
    """The identity in the headers; without them an administrator."""
    return from_headers(environ) or ADMINISTRATOR


STRATEGIES: dict[str, Authenticator] = {"noauth": noauth}
"""By the option `auth_strategy`."""
