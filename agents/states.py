"""What every port that is bound here is at the moment, and who has to hear of it.

A port is judged anew (`agents.conditions`) only when something happened to it: a thousand ports at rest cost nothing.
The verdicts go to `agents.wiring`, which keeps what the controllers were told, and to the log. Pure; owned by
`agents.core`.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping

from agents.conditions import WAITING, Conditions, Status
from agents.inventory import Inventory, Role
from agents.news import News
from agents.wiring import Claims, Wiring
from openflow.announce import Packet, announcement
from openflow.incremental import Engine
from selvedge.topology import OVERLAYS, Binding, Endpoint, Ref, Segment


class States:
    """See the module. `ports` may be read by others."""

    def __init__(
        self,
        bindings: Mapping[str, Binding],
        *,
        conditions: Conditions,
        news: News,
        inventory: Inventory,
        wiring: Wiring,
        claims: Claims,
    ) -> None:
        self.ports: dict[str, Status] = {}
        self._bindings, self._conditions, self._inventory = bindings, conditions, inventory
        self._wiring, self._claims, self._news = wiring, claims, news
        self._recheck: set[str] = set()
        self._recheck_all = False
        self._waiting: set[str] = set()
        self._failing: set[str] = set()
        self._aboard: frozenset[str] = frozenset()
        self._arrived: set[str] = set()

    def recheck(self, ports: Iterable[str]) -> None:
        """Something happened to these."""
        self._recheck.update(ports)

    def recheck_all(self) -> None:
        """Something happened that may concern anybody."""
        self._recheck_all = True

    def forget(self, port: str) -> None:
        """It is not bound here any more."""
        self.ports.pop(port, None)
        self._conditions.oversize.pop(port, None)
        self._waiting.discard(port)
        self._failing.discard(port)

    def judge(self) -> None:
        """Find anew what ports are."""
        ports = self._bindings if self._recheck_all else self._recheck & self._bindings.keys()
        for port in list(ports):
            self._judge(port)
        self._recheck_all = False
        self._recheck.clear()

    # The batch on its way -----------------------------------------------------------------------------------------

    def departs(self) -> None:
        """A batch leaves that has all that is pending."""
        self._aboard = frozenset(self._waiting)

    def lost(self) -> None:
        """Nothing is on its way any more."""
        self._aboard = frozenset()

    def confirmed(self, whole: bool) -> None:
        """The batch has taken effect. `whole`: it had all that was pending when it left."""
        aboard, self._aboard = self._aboard, frozenset()
        for port in aboard:
            if port in self._waiting:
                self._judge(port, aboard=whole)
        self._recheck |= self._waiting | self._failing

    # How ----------------------------------------------------------------------------------------------------------

    def _judge(self, port: str, aboard: bool = False) -> None:
        status = self._conditions.of(port, aboard)
        for ledger, belongs in ((self._waiting, status is WAITING), (self._failing, status.failed)):
            if belongs:
                ledger.add(port)
            else:
                ledger.discard(port)
        before = self.ports.get(port)
        self.ports[port] = status
        unplugged = Role("port", port) not in self._inventory.roles
        if unplugged and port in self._claims.claimed:
            self._claims.claimed.discard(port)
            self._wiring.doubt(port)  # it is bound here on our word only: to say that it is unplugged releases it
        if status.state != "pending":
            self._wiring.want(port, "unplugged" if unplugged else status.state)
        if status.state == "up" and (before is None or before.state != "up"):
            self._arrived.add(port)
        if status != before and status.state == "down" and before is not None and before.state == "up":
            self._news.add(logging.INFO, "ports down", f"{port}: {status.reason}")

    def here_before(self) -> None:
        """The ports that are up were here before us, and the wire knows them."""
        self._arrived.clear()

    def announcements(self, engine: Engine) -> Iterator[Packet]:
        """For ports on provider networks that came up: their switches learn that they are here now."""
        arrived, self._arrived = self._arrived, set()
        for port in sorted(arrived):
            endpoint = engine.fact(Ref("endpoint", port))
            if isinstance(endpoint, Endpoint):
                segment = engine.fact(Ref("segment", endpoint.segment))
                if isinstance(segment, Segment) and segment.kind not in OVERLAYS:
                    yield announcement(segment, endpoint)
