"""Who knows what about a port: what the controllers were told (`acknowledged`), and what is true (`desired`).

`Wiring` keeps both for every port that is bound here and says what the next `wired` call must carry: the difference,
whatever piled up meanwhile, in one call. `Claims` keeps which plugged interfaces were offered to the controllers. Both
are pure, and owned by `agents.core`.

A port is DOWN from its binding until an agent says otherwise, so that is news only for ports that existed before this
agent started, and for claimed ones that are unplugged: there, `unplugged` is what releases them.
"""

from typing import Literal, get_args

from selvedge.rpc import PORT

State = Literal["up", "down", "unplugged"]


class Wiring:
    """Desired and acknowledged state of the ports that are bound here."""

    def __init__(self) -> None:
        self.desired: dict[str, State] = {}
        self.acknowledged: dict[str, State] = {}
        self._differing: set[str] = set()
        self._sent: dict[str, State] | None = None
        self._refused: set[str] = set()

    def bind(self, port: str, presumed: State | None) -> None:
        """The port is bound here from now on; `presumed` is what the controllers hold it for, if that is known."""
        if presumed is not None:
            self.acknowledged[port] = presumed

    def forget(self, port: str) -> None:
        """The port is not bound here any more: its state is somebody else's concern."""
        for ledger in (self.desired, self.acknowledged):
            ledger.pop(port, None)
        self._differing.discard(port)
        self._refused.discard(port)

    def doubt(self, port: str) -> None:
        """Say what the port is, even if the controllers hold it for unplugged already."""
        if self.acknowledged.get(port) == "unplugged":
            del self.acknowledged[port]
            if port in self.desired:
                self._compare(port)

    def want(self, port: str, state: State) -> None:
        self.desired[port] = state
        self._compare(port)

    def request(self) -> dict[str, tuple[str, ...]] | None:
        """State -> ports for the next call; None while one is outstanding or there is nothing to tell."""
        if self._sent is not None or not self._differing:
            return None
        self._sent = {port: self.desired[port] for port in sorted(self._differing)}
        self._differing.clear()
        return {
            state: ports
            for state in get_args(State)
            if (ports := tuple(port for port, wanted in self._sent.items() if wanted == state))
        }

    def answered(self, refused: bool) -> None:
        """The call is done. What a refused one carried waits for `retry`: to repeat it at once would change nothing."""
        sent, self._sent = self._sent or {}, None
        for port, state in sent.items():
            if port in self.desired:
                if refused:
                    self._refused.add(port)
                else:
                    self.acknowledged[port] = state
                self._compare(port)

    @property
    def quiet(self) -> bool:
        """Whether the controllers know all that there is to tell."""
        return self._sent is None and not self._differing

    def restate(self) -> None:
        """The controllers hold the ports for something else than they were told: tell all of them again."""
        self.acknowledged.clear()
        for port in self.desired:
            self._compare(port)

    def retry(self) -> None:
        refused, self._refused = self._refused, set()
        for port in refused:
            self._compare(port)

    def _compare(self, port: str) -> None:
        told = self._sent.get(port) if self._sent is not None else None
        if self.desired[port] != (told or self.acknowledged.get(port)) and port not in self._refused:
            self._differing.add(port)
        else:
            self._differing.discard(port)


class Claims:
    """Interfaces that are plugged here and whose port is not bound here."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._asked: dict[str, str] = {}
        self._told: dict[str, str] = {}
        """Former answers of ports that are offered again."""
        self._sent: tuple[str, ...] | None = None
        self.claimed: set[str] = set()
        """Ports that the controllers gave to this host on our word."""

    def plugged(self, port: str) -> None:
        """An interface without a binding: ask, unless the answer is known already."""
        if not PORT.fullmatch(port):
            self._asked[port] = "no port has such an id"
        elif port not in self._asked:
            self._waiting.add(port)

    def bound(self, port: str) -> None:
        self._waiting.discard(port)

    def unbound(self, port: str) -> None:
        """The binding went while the interface is still there: somebody decided that: ask at the next report."""
        self._asked[port] = "unbound"
        self.claimed.discard(port)

    def unplugged(self, port: str) -> None:
        self._waiting.discard(port)
        self._asked.pop(port, None)
        self._told.pop(port, None)

    def again(self, unbound: bool) -> set[str]:
        """Forget the answers that were no; whoever is plugged and not bound should be offered again (`plugged`).

        `unbound`: those too whose binding somebody took away.
        """
        refused = {
            port
            for port, result in self._asked.items()
            if port not in (self._sent or ()) and (unbound or result != "unbound")
        }
        for port in refused:
            self._told[port] = self._asked.pop(port)
        return refused

    def request(self) -> tuple[str, ...] | None:
        """The ports of the next call; None while one is outstanding or there is nothing to ask."""
        if self._sent is not None or not self._waiting:
            return None
        self._sent = tuple(sorted(self._waiting))
        self._waiting.clear()
        self._asked |= dict.fromkeys(self._sent, "asked")
        return self._sent

    def answered(self, results: dict[str, str]) -> set[str]:
        """Port -> claimed, elsewhere or unknown; empty if the call was refused. Returns the ports with another answer
        than the time before."""
        sent, self._sent = self._sent or (), None
        news = {port for port in sent if self._told.pop(port, None) != results.get(port)}
        for port in sent:
            if port in self._asked:  # else it was unplugged meanwhile
                self._asked[port] = results.get(port, "refused")
            if results.get(port) == "claimed":
                self.claimed.add(port)
        return news

    @property
    def refused(self) -> dict[str, str]:
        """Plugged ports that are not ours, and what the controllers say of them."""
        return {port: result for port, result in self._asked.items() if result not in ("asked", "claimed")}
