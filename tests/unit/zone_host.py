"""A host for the tests of conntrack zones: whatever they do to it, it asserts the rules that must never be broken."""

from agents import zones as subject
from agents.zones import GRACE, KEY, Zones


class Host:
    """A database, a switch and a tracker of connections around the zones of one agent after the other.

    `flows` are the ports whose flows the switch may have, `tainted` whose connections a zone may have.
    """

    def __init__(self, **stored: str) -> None:
        self.database: dict[str, str] | None = {KEY + port: text for port, text in stored.items()}
        self.bound: dict[str, None] = {}
        self.flows: set[str] = set()
        self.tainted: dict[int, str] = {}
        self.now, self.batch, self.connected = 100.0, 0, True
        self.start()

    def start(self) -> None:
        """A new agent: it hears who is bound and what the database has; what was on its way is forgotten."""
        self.zones = Zones()
        self.facts: dict[str, int] = {}
        self.edit: subject.Edit | None = None
        self.flushing: tuple[int, ...] = ()
        self.zones.stored(self.database)
        for port in self.bound:
            self.zones.bind(port)
        self.settled = False
        self.step()

    def step(self) -> None:
        upserts, deletes = self.zones.facts()
        for name in deletes:
            del self.facts[name.id]
        for zone in upserts:
            assert self.database is not None and self.database[KEY + zone.id] == str(zone.number), "not safe yet"
            owner = self.tainted.setdefault(zone.number, zone.id)
            assert owner == zone.id, f"zone {zone.number} of {zone.id} has connections of {owner}"
            assert zone.id in self.bound
            self.facts[zone.id] = zone.number
        assert len(set(self.facts.values())) == len(self.facts), f"a zone of two ports: {self.facts}"
        self.flows |= self.facts.keys()
        if self.edit is None:
            self.edit = self.zones.request()

    def bind(self, port: str) -> None:
        self.bound[port] = None
        self.zones.bind(port)
        self.step()

    def unbind(self, port: str) -> None:
        self.bound.pop(port, None)
        self.zones.unbind(port)
        self.step()

    def write(self, works: bool = True) -> None:
        """The database carries out what was sent, or refuses."""
        if self.edit is None:
            return
        if works and self.database is not None:
            kept = {key: text for key, text in self.database.items() if key not in self.edit.removed}
            self.database = self.edit.added | kept  # an insertion replaces nothing
            self.zones.stored(self.database)
        self.edit = None
        self.zones.answered()
        self.step()

    def meddle(self, database: dict[str, str] | None) -> None:
        """Somebody else changes the row."""
        self.database = database
        self.zones.stored(database)
        self.step()

    def confirm(self) -> None:
        """The switch gets what is wanted, and says so."""
        if not self.connected:
            return
        self.batch += 1
        self.zones.departs(self.batch)
        wanted = set(self.facts)
        self.step()
        self.flows = wanted | self.facts.keys()
        if not self.settled:
            self.settled = True
            self.zones.sweep()
        self.zones.withdrawn(self.batch, self.now)
        self.step()

    def disconnect(self) -> None:
        self.connected, self.flushing = False, ()
        self.zones.departs(self.batch + 1)
        self.zones.lost()
        self.step()
        self.connected = True

    def flush(self) -> None:
        """What is due goes to the switch."""
        if self.connected and not self.flushing and (numbers := self.zones.flush(self.now)):
            self.flushing = numbers
        self.step()

    def flushed(self, works: bool = True) -> None:
        """The switch has flushed."""
        if not self.flushing:
            return
        for number in self.flushing:
            owner = self.tainted.get(number)
            assert owner not in self.flows or owner in self.bound, f"flushed while flows of {owner} lead into it"
            assert owner not in self.facts, f"flushed while {owner} uses it"
            if works:
                self.tainted.pop(number, None)
        numbers, self.flushing = self.flushing, ()
        self.zones.flushed(numbers if works else ())
        self.step()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.step()

    def settle(self) -> None:
        if self.database is None:
            self.meddle({})
        self.disconnect()  # what the switch refused is asked again
        for _ in range(8):
            self.write()
            self.confirm()
            self.wait(GRACE)
            self.flush()
            self.flushed()
            self.write()


def keys(**ports: int) -> dict[str, str]:
    return {KEY + port: str(number) for port, number in ports.items()}
