"""The OpenFlow conversation with one switch, without a socket: bytes in, events out, bytes out.

A channel lives as long as one connection. It begins with a hello, tells the bridge to show the ports of fragments that
have them, and asks at once for the Geneve options, the groups and the flows; when all is answered it is `ready`, says
`Connected` and carries batches, one at a time, and flushes of connections between them. For an audit groups and flows
are asked for again while batches go on, and the bridge is told of fragments again. All that may be said is in this
file; who carries the bytes is `openflow.switch`, what they look like is `openflow.codec`.

What Open vSwitch does, and the channel is built on (all probed on 3.1): a bad message in a bundle is answered by an
error when it is added, is left out, and a commit then succeeds without it; so all messages go first with a barrier
behind, and the commit follows only if no error came. An error at the commit (a full table, a group that is not there)
undoes everything, and names the message at fault by its number (xid) before the commit's own failure is told. A flush
cannot ride in a bundle and is done when its message is read: so it waits until the bundle before it has ended.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count

from openflow.announce import Packet
from openflow.batch import (
    Audited,
    Batch,
    Confirmed,
    Connected,
    Flush,
    Flushed,
    Key,
    Refusal,
    Rejected,
    SwitchEvent,
    Trouble,
)
from openflow.codec import bundles, errors, flows, frames, groups, packets, session
from openflow.codec.session import Option
from openflow.pipeline import MARKER
from openflow.reading import Reading

OURS, OURS_MASK = MARKER << 56, 0xFF << 56
"""A cookie of ours, by its bits 56 to 63."""

OUR_HELLO, OUR_CONFIG, OUR_OPTIONS, OUR_GROUPS, OUR_FLOWS, OUR_OPTION = range(1, 7)
"""The numbers (xid) of what begins every connection; batches and echoes count on from there."""


MOST_WAITING = 16 << 20
"""Bytes of answers to echoes that may wait for a switch which asks and does not read."""

MOST_TROUBLES = 10
"""Troubles that are kept until the connection has been told of."""


class ChannelLost(Exception):
    """The conversation cannot go on; the text says why."""


@dataclass
class Counters:
    """What was done since the thread began, over all connections. Written by the switch's thread alone.

    `connects` are connections that were accepted, `bundles` all that were sent (also those discarded), with
    `flow_mods_sent` and `group_mods_sent` in them; `zones_flushed` are those of the connection tracker that the switch
    was asked to flush; `errors` are all errors that the switch sent.
    """

    connects: int = 0
    bundles: int = 0
    flow_mods_sent: int = 0
    group_mods_sent: int = 0
    zones_flushed: int = 0
    errors: int = 0


class Outbox:
    """Bytes that wait to be written."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._start = 0

    def put(self, data: bytes) -> None:
        """Append."""
        self._chunks.append(data)

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def peek(self, most: int) -> memoryview:
        """What to write next: at least one byte, `most` at most."""
        return memoryview(self._chunks[0])[self._start : self._start + most]

    def advance(self, written: int) -> None:
        """So many bytes of what `peek` gave are written."""
        self._start += written
        if self._start == len(self._chunks[0]):
            self._chunks.popleft()
            self._start = 0


class Phase(Enum):
    """Of a bundle: its messages are being judged, or it takes effect, or it is being thrown away."""

    ADDING = auto()
    COMMITTING = auto()
    DISCARDING = auto()


@dataclass
class Bundle:
    """A batch on its way. Its messages bear the numbers from `first` on; `control` is that of the question now open."""

    batch: Batch
    keys: tuple[Key, ...]
    first: int
    control: int
    phase: Phase = Phase.ADDING
    failures: dict[Key, Refusal] = field(default_factory=dict)
    cause: Refusal | None = None

    @property
    def opening(self) -> int:
        """The number of the message that opened it."""
        return self.first - 1


@dataclass
class Flushing:
    """A flush on its way. The messages for its zones bear the numbers from `first` on, then follows its barrier."""

    flush: Flush
    first: int
    refused: set[int] = field(default_factory=set)

    @property
    def barrier(self) -> int:
        """The number of the message whose reply ends it."""
        return self.first + len(self.flush.zones)


class Channel:
    """See the module. `connection` numbers this connection; `probe` and `dead` are seconds of silence (see `tick`)."""

    def __init__(
        self,
        connection: int,
        option: tuple[int, int, int, int],
        counters: Counters,
        now: float,
        *,
        probe: float = 5.0,
        dead: float = 15.0,
    ) -> None:
        self.connection = connection
        self.ready = False
        self.outgoing = Outbox()
        self._option = Option(*option)
        self._counters = counters
        self._framer = frames.Framer()
        self._greeted = False
        self._option_known = False
        self._reading: Reading | None = Reading((OUR_GROUPS, OUR_FLOWS), {OUR_GROUPS, OUR_FLOWS})
        self._troubles: list[Trouble] = []
        self._xid = OUR_OPTION
        self._bundle: Bundle | None = None
        self._waiting: list[Flush] = []
        """Flushes that came while a bundle was on its way."""
        self._flushes: deque[Flushing] = deque()
        self._flush_refused = False
        self._heard = now
        self._probed = False
        self._echoed = 0
        self._probe, self._dead = probe, dead
        self.outgoing.put(session.hello(OUR_HELLO))

    # Time -------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When `tick` has something to do, on the caller's clock."""
        return self._heard + (self._dead if self._probed else self._probe)

    def tick(self, now: float) -> None:
        """After `probe` seconds of silence ask for an echo. After `dead` seconds: raises `ChannelLost`."""
        silence = now - self._heard
        if silence >= self._dead:
            raise ChannelLost(f"the switch has been silent for {silence:.1f} s")
        if silence >= self._probe and not self._probed:
            self._probed = True
            if self._greeted:
                self.outgoing.put(session.echo_request(self._next()))

    # In ---------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[SwitchEvent]:
        """What these bytes mean. Raises `ChannelLost`, or `codec.frames.BadMessage` for what is no OpenFlow."""
        self._heard = now
        self._probed = False
        events: list[SwitchEvent] = []
        for message in self._framer.feed(data):
            events += self._understand(message)
        return events

    def _understand(self, message: bytes) -> Iterator[SwitchEvent]:
        kind, xid = frames.kind_of(message), frames.xid_of(message)
        if kind == frames.HELLO:
            self._greet(message)
        elif kind == frames.ECHO_REQUEST:
            self._echo(message)
        elif kind == frames.ERROR:
            yield from self._error(errors.error(message))
        elif kind == frames.MULTIPART_REPLY and self._reading and xid in self._reading.open:
            if self._reading.take(message):
                yield from self._answered()
        elif kind == frames.EXPERIMENTER and xid == OUR_OPTIONS and not self._option_known:
            self._check_options(session.options(message))
            self._option_known = True
            yield from self._answered()
        elif self._bundle and xid == self._bundle.control:
            if kind == frames.BARRIER_REPLY and self._bundle.phase is Phase.ADDING:
                self._decide(self._bundle)
            elif kind == frames.BUNDLE_CONTROL:
                yield self._finish(self._bundle)
        elif self._flushes and kind == frames.BARRIER_REPLY and xid == self._flushes[0].barrier:
            yield self._flushed(self._flushes.popleft())
        # Whatever else a switch says (packets, port states, echo replies) is none of this conversation's business.

    def _echo(self, message: bytes) -> None:
        self._echoed = len(message) + (self._echoed if self.outgoing else 0)
        if self._echoed > MOST_WAITING:
            raise ChannelLost("the switch asks for echoes and does not read them")
        self.outgoing.put(session.echo_reply(message))

    def _greet(self, message: bytes) -> None:
        if self._greeted:
            raise ChannelLost("the switch greets twice")
        if frames.VERSION not in session.hello_versions(message):
            raise ChannelLost("the bridge does not speak OpenFlow 1.4: its `protocols` lack OpenFlow14")
        self._greeted = True
        self.outgoing.put(
            session.set_config(OUR_CONFIG, miss_send_len=0, fragments=session.FRAGMENTS_MATCH)
            + session.options_request(OUR_OPTIONS)
            + groups.dump_request(OUR_GROUPS)
            + flows.dump_request(OUR_FLOWS)
        )

    def _answered(self) -> Iterator[SwitchEvent]:
        """Tell what was read, once that is whole and the connection is ready."""
        reading = self._reading
        if reading is None or reading.open or not self._option_known:
            return
        self._reading = None
        if self.ready:
            yield Audited(self.connection, *reading.told())
        else:
            self.ready = True
            yield Connected(self.connection, *reading.told())
            yield from self._troubles
            self._troubles = []

    def _check_options(self, known: tuple[Option, ...]) -> None:
        """Flows that name our Geneve option need it mapped; a mapping that is another's is not ours to break."""
        ours = self._option
        if ours in known:
            return
        for other in known:
            if other.slot == ours.slot or other[:2] == ours[:2]:
                text = f"the Geneve option {_name(ours)} cannot be mapped: the switch has {_name(other)}"
                self._troubles.append(Trouble(text))
                return
        self.outgoing.put(session.option_add(OUR_OPTION, ours))

    def _error(self, error: errors.SwitchError) -> Iterator[SwitchEvent]:
        self._counters.errors += 1
        refusal = Refusal(error.name, error.type, error.code)
        bundle = self._bundle
        if error.xid == OUR_OPTION:
            yield from self._trouble(f"the Geneve option {_name(self._option)} cannot be mapped: {refusal}")
        elif error.xid == OUR_CONFIG:
            yield from self._trouble(f"the bridge cannot be made to show the ports of fragments: {refusal}")
        elif error.xid == OUR_HELLO or not self._greeted:
            raise ChannelLost(f"the switch refuses our hello: {refusal}. Do the bridge's `protocols` have OpenFlow14?")
        elif error.xid == OUR_OPTIONS or (self._reading and error.xid in self._reading.open):
            raise ChannelLost(f"the switch refuses to be dumped: {refusal}")
        elif flushing := next((one for one in self._flushes if one.first <= error.xid < one.barrier), None):
            yield from self._refuse(flushing, error.xid, refusal)
        elif bundle is None:
            return
        elif bundle.first <= error.xid < bundle.first + len(bundle.keys):
            bundle.failures.setdefault(bundle.keys[error.xid - bundle.first], refusal)
        elif error.xid == bundle.opening:
            bundle.cause = refusal
        elif error.xid == bundle.control:
            if bundle.phase is Phase.COMMITTING:
                bundle.cause = refusal
            yield self._finish(bundle, failed=True)

    def _trouble(self, text: str) -> Iterator[Trouble]:
        """Tell it, or keep it until the connection has been told of."""
        if self.ready:
            yield Trouble(text)
        elif len(self._troubles) < MOST_TROUBLES:
            self._troubles.append(Trouble(text))

    def _refuse(self, flushing: Flushing, xid: int, refusal: Refusal) -> Iterator[Trouble]:
        """One zone is not flushed. All others will fare alike: tell it once."""
        zone = flushing.flush.zones[xid - flushing.first]
        flushing.refused.add(zone)
        if not self._flush_refused:
            self._flush_refused = True
            yield from self._trouble(f"the connections of zone {zone} cannot be flushed: {refusal}")

    def _flushed(self, flushing: Flushing) -> Flushed:
        return Flushed(tuple(zone for zone in flushing.flush.zones if zone not in flushing.refused))

    # Out --------------------------------------------------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """Send the batch as one bundle: open, add, barrier. One at a time, and only when `ready`."""
        if self._bundle is not None or not self.ready:
            raise RuntimeError("a batch may go when the channel is ready and no other is on its way")
        opening = self._next()
        first = opening + 1
        keys = tuple(batch.keys())
        messages = [bundles.control(bundles.OPEN, opening, opening)]
        messages += [bundles.add(opening, message) for message in _messages(batch, first)]
        self._xid = first + len(keys)
        messages.append(session.barrier_request(self._xid))
        self.outgoing.put(b"".join(messages))
        self._bundle = Bundle(batch, keys, first, self._xid)
        self._counters.bundles += 1
        self._counters.flow_mods_sent += len(batch.stale) + len(batch.foreign) + len(batch.flows)
        self._counters.group_mods_sent += len(batch.groups) + len(batch.dropped)

    def flush(self, flush: Flush) -> None:
        """Have the connections of these zones forgotten, once the batch on its way has come to its end."""
        if not self.ready:
            raise RuntimeError("a flush may go when the channel is ready")
        if self._bundle is not None:
            self._waiting.append(flush)
            return
        flushing = Flushing(flush, self._xid + 1)
        messages = [session.flush_zone(xid, zone) for xid, zone in enumerate(flush.zones, flushing.first)]
        self._xid = flushing.barrier
        self.outgoing.put(b"".join((*messages, session.barrier_request(flushing.barrier))))
        self._flushes.append(flushing)
        self._counters.zones_flushed += len(flush.zones)

    def audit(self) -> None:
        """Have groups and flows read again: `Audited` follows. One that comes during another is answered by that."""
        if self._reading is not None:
            return
        xids = self._next(), self._next()
        self._reading = Reading(xids, set(xids))
        self.outgoing.put(
            session.set_config(OUR_CONFIG, miss_send_len=0, fragments=session.FRAGMENTS_MATCH)
            + groups.dump_request(xids[0])
            + flows.dump_request(xids[1])
        )

    def send(self, packet: Packet) -> None:
        """Have the switch send a packet. Nobody waits for it; a refusal is counted as an error."""
        self.outgoing.put(packets.packet_out(packet.frame, packet.actions, self._next()))

    def _decide(self, bundle: Bundle) -> None:
        """All of the bundle has been judged: commit it, or throw it away."""
        good = not bundle.failures and bundle.cause is None
        bundle.phase = Phase.COMMITTING if good else Phase.DISCARDING
        bundle.control = self._next()
        asked = bundles.COMMIT if good else bundles.DISCARD
        self.outgoing.put(bundles.control(asked, bundle.opening, bundle.control))

    def _finish(self, bundle: Bundle, failed: bool = False) -> SwitchEvent:
        self._bundle = None
        waiting, self._waiting = self._waiting, []
        for flush in waiting:
            self.flush(flush)
        if bundle.phase is Phase.COMMITTING and not failed:
            return Confirmed(bundle.batch.id)
        return Rejected(bundle.batch.id, tuple(bundle.failures.items()), bundle.cause)

    def _next(self) -> int:
        self._xid += 1
        return self._xid


def _messages(batch: Batch, first: int) -> Iterator[bytes]:
    """The mods of a batch in the order of `Batch.keys`; their numbers count on from `first`."""
    xids = count(first)
    for group in batch.groups:
        yield groups.put(group.id, group.body, next(xids))
    for stale in batch.stale:
        yield flows.delete_strict(stale, next(xids), OURS, OURS_MASK)
    for foreign in batch.foreign:
        yield flows.delete_strict(foreign, next(xids))
    for flow in batch.flows:
        yield flows.add(flow.key, flow.body, next(xids))
    for dropped in batch.dropped:
        yield groups.delete(dropped, next(xids))


def _name(option: Option) -> str:
    """As ovs-ofctl has it."""
    kind = f"class={option.option_class:#x},type={option.type:#x},len={option.length}"
    return f"{{{kind}}}->tun_metadata{option.slot}"
