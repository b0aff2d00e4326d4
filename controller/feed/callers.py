"""Who may speak for which host in a call, and whose bindings it may ask for.

With one broker account per agent (`[agents] accounts = per_host`), an agent speaks for the host that its account is
named after, and for no other, whatever the call says; the account is the one that the broker vouches for
(`selvedge.transports`). Nor may it subscribe to what is bound to another host. With a shared account everybody who may
send calls is believed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from selvedge import rpc, transports
from selvedge.accounts import host_of
from selvedge.topics import host_topic

HOST_TOPIC = host_topic("")


@dataclass
class Counters:
    foreign: int = 0
    """Calls for a host that is not the account's, or for such a host's topic."""
    nonsense: int = 0
    """Messages that are no call, or wanted their answer sent to somebody else."""


class Callers:
    """One per server; any thread. A count lost in a race harms nobody."""

    def __init__(self, accounts: str) -> None:
        """`accounts`: the option, `per_host` or `shared`."""
        self.counters = Counters()
        self.per_host = accounts == "per_host"

    @property
    def scheme(self) -> str:
        """The transport that calls have to come by."""
        return transports.CONTROLLER if self.per_host else transports.PLAIN

    def check(self, context: Mapping[str, Any], host: str, topics: Iterable[str] = ()) -> None:
        """Raises Refused if the caller may not speak for `host`, or may not know one of `topics`."""
        if not self.per_host:
            return
        account = context.get(transports.ACCOUNT)
        if account is None or host_of(account) != host:
            self.counters.foreign += 1
            who = f"the broker account '{account}'" if account is not None else "a call that names no broker account"
            raise rpc.Refused(f"{who} may not speak for host '{host}'; 'selvedge host add {host}' makes its account")
        for topic in topics:
            if topic.startswith(HOST_TOPIC) and topic != host_topic(host):
                self.counters.foreign += 1
                raise rpc.Refused(f"host '{host}' may not read the topic '{topic}'")
