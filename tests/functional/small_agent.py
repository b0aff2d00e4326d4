"""An agent that only programs: a programmer and a switch's thread, joined as the agent's reactor joins them."""

import queue
import time

from openflow.batch import Batch, Confirmed, Connected, Disconnected, Key, Rejected, SwitchEvent
from openflow.flow import Flow, GroupEntry
from openflow.programmer import Programmer
from openflow.switch import Switch
from tests.functional.vswitch import Vswitch


class Agent:
    """`want` and `unwant`, then `settle`; `seen` are the switch's events, `batches` what was sent."""

    def __init__(self, ovs: Vswitch, **options: float) -> None:
        self.programmer = Programmer()
        self.events: queue.SimpleQueue[SwitchEvent] = queue.SimpleQueue()
        self.switch = Switch(str(ovs.door()), self.events.put, **options)  # type: ignore[arg-type]
        self.seen: list[SwitchEvent] = []
        self.batches: list[Batch] = []
        self.switch.start()

    def step(self, seconds: float = 10) -> SwitchEvent:
        """Wait for an event and do what the reactor does."""
        event = self.events.get(timeout=seconds)
        self.seen.append(event)
        if isinstance(event, Connected):
            self.programmer.connected(event)
        elif isinstance(event, Disconnected):
            self.programmer.disconnected()
        elif isinstance(event, Confirmed):
            self.programmer.confirmed(event.batch_id)
        elif isinstance(event, Rejected):
            self.programmer.rejected(event, time.monotonic())
        self.send()
        return event

    def send(self) -> None:
        if (batch := self.programmer.next_batch(time.monotonic())) is not None:
            self.batches.append(batch)
            self.switch.submit(batch)

    def want(self, *entries: Flow | GroupEntry, owner: str | None = None) -> None:
        flows = {entry.key: entry for entry in entries if isinstance(entry, Flow)}
        groups = {entry.id: entry for entry in entries if isinstance(entry, GroupEntry)}
        owners: dict[Key, str] = {} if owner is None else {entry.key: owner for entry in entries}
        self.programmer.change(dict(flows), dict(groups), owners)

    def unwant(self, *keys: Key) -> None:
        flows = {key: None for key in keys if isinstance(key, bytes)}
        self.programmer.change(dict(flows), {key: None for key in keys if isinstance(key, int)}, {})

    def settle(self) -> None:
        """Send until the switch has everything."""
        self.programmer.release()
        self.send()
        while not self.programmer.synced:
            self.step()

    def until(self, kind: type[SwitchEvent]) -> SwitchEvent:
        while not isinstance(event := self.step(), kind):
            pass
        return event
