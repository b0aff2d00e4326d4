"""A proxy between one agent and the broker that mangles deliveries: AMQP 0-9-1 understood as far as that needs.

A delivery is three kinds of frames on one channel: the method `basic.deliver`, a content header with the body's size,
and bodies. Whole deliveries of the feed (by their exchange) and answers to calls are treated by chance, from a seed;
everything else passes as it is, and so does all that the agent says. What the agent sees is always sound AMQP: the
faults are a bad network's and a bad sender's, not a bad library's.

Delivery tags stay the broker's. A lost delivery is acknowledged with a later one (the agent's acknowledgements are
`multiple`), and at the end of the connection given again otherwise. A doubled one may be acknowledged twice, if the
copies end in two batches; the broker then closes the channel, and the agent connects anew: one more fault, and fair.
"""

import asyncio
import base64
import contextlib
import random
import re
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

METHOD, HEADER, BODY = 1, 2, 3
END = b"\xce"
DELIVER = struct.pack("!HH", 60, 60)
FEED = b"selvedge.feed"

DELAY = 0.02, 0.8
"""Seconds that a delayed delivery takes longer."""

SWAP = 0.3
"""Seconds after which a delivery that should come after the next one comes all the same."""

FAULTS = ("lose", "double", "delay", "reorder", "truncate", "flip", "newer")


@dataclass
class Delivery:
    """The frames of one delivery, as they came."""

    channel: int
    method: bytes
    header: bytes
    body: bytes = b""

    @property
    def size(self) -> int:
        """Of the body, as its header says."""
        size: int = struct.unpack_from("!Q", self.header, 4)[0]
        return size

    @property
    def feed(self) -> bool:
        """Whether it comes from the feed's exchange."""
        tag = self.method[4]
        exchange = 5 + tag + 9
        return self.method[exchange + 1 : exchange + 1 + self.method[exchange]] == FEED

    def frames(self, largest: int) -> bytes:
        """What goes to the agent; the header says how long the body is now."""
        header = self.header[:4] + struct.pack("!Q", len(self.body)) + self.header[12:]
        parts = [_frame(METHOD, self.channel, self.method), _frame(HEADER, self.channel, header)]
        parts += [
            _frame(BODY, self.channel, self.body[start : start + largest])
            for start in range(0, len(self.body), largest)
        ]
        return b"".join(parts)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack("!BHI", kind, channel, len(payload)) + payload + END


@dataclass
class Reader:
    """The broker's stream, cut into deliveries and whatever else passes. Pure."""

    _rest: bytes = b""
    _open: dict[int, Delivery] = field(default_factory=dict)

    def feed(self, data: bytes) -> Iterator[bytes | Delivery]:
        self._rest += data
        while len(self._rest) >= 8:
            kind, channel, size = struct.unpack_from("!BHI", self._rest)
            if len(self._rest) < size + 8:
                return
            frame, self._rest = self._rest[: size + 8], self._rest[size + 8 :]
            payload = frame[7:-1]
            if kind == METHOD and payload[:4] == DELIVER:
                self._open[channel] = Delivery(channel, payload, b"")
            elif channel in self._open and kind in (HEADER, BODY):
                delivery = self._open[channel]
                if kind == HEADER:
                    delivery.header = payload
                else:
                    delivery.body += payload
                if len(delivery.body) >= delivery.size:
                    yield self._open.pop(channel)
            else:
                yield frame


@dataclass
class Plan:
    """What is done to deliveries: a probability for each fault. Faults of `answers` happen to answers of calls too."""

    chances: dict[str, float] = field(default_factory=dict)
    answers: tuple[str, ...] = ()

    def choose(self, chance: random.Random, feed: bool) -> str | None:
        """At most one fault for a delivery."""
        mark = chance.random()
        for fault, probability in self.chances.items():
            if mark < probability:
                return fault if feed or fault in self.answers else None
            mark -= probability
        return None


QUIET = Plan()


def evenly(share: float, answers: tuple[str, ...] = ("lose", "double", "delay", "flip")) -> Plan:
    """All faults alike, to this share of everything."""
    return Plan(dict.fromkeys(FAULTS, share / len(FAULTS)), answers)


class Mangler:
    """Listens at `address`, and connects to `broker` for each who connects. `plan` may be changed at any time."""

    def __init__(self, address: str, broker: tuple[str, int], seed: int) -> None:
        self.plan = QUIET
        self.counts: Counter[str] = Counter()
        """Faults done to deliveries of the feed, by their names; `passed`; and the same of answers, as `answer …`."""
        self._broker = broker
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._flows: set[Flow] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mangler", daemon=True)
        self._thread.start()
        server = asyncio.start_server(self._serve, address, 0)
        self._server = asyncio.run_coroutine_threadsafe(server, self._loop).result(5)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def quiet(self) -> None:
        """No more faults from now on; what is held back is let go."""
        self.plan = QUIET

        def release() -> None:
            for flow in self._flows:
                flow.release()

        self._loop.call_soon_threadsafe(release)

    def stop(self) -> None:
        async def end() -> None:
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _serve(self, agent: asyncio.StreamReader, to_agent: asyncio.StreamWriter) -> None:
        try:
            broker, to_broker = await asyncio.open_connection(*self._broker)
        except OSError:  # as if nobody listened here
            to_agent.close()
            return
        flow = Flow(to_agent, self._loop)
        self._flows.add(flow)
        try:
            pumps = [
                asyncio.create_task(_pump(agent, to_broker.write)),
                asyncio.create_task(self._mangle(broker, flow)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._flows.discard(flow)
            to_agent.close()
            to_broker.close()

    async def _mangle(self, broker: asyncio.StreamReader, flow: "Flow") -> None:
        reader = Reader()
        while data := await broker.read(1 << 16):
            for piece in reader.feed(data):
                if isinstance(piece, bytes):
                    flow.send(piece)
                else:
                    self._treat(piece, flow)
            await flow.writer.drain()

    def _treat(self, delivery: Delivery, flow: "Flow") -> None:
        fault = self.plan.choose(self._chance, delivery.feed)
        self.counts[f"{'' if delivery.feed else 'answer '}{fault or 'passed'}"] += 1
        if fault in ("truncate", "flip", "newer") and delivery.body:
            delivery.body = ALTER[fault](delivery.body, self._chance)
        frames = delivery.frames(1 << 16)
        if fault == "lose":
            return
        if fault == "delay":
            flow.later(self._chance.uniform(*DELAY), frames)
        elif fault == "reorder":
            flow.swap(frames)
        else:
            flow.send(frames * (2 if fault == "double" else 1), delivered=True)


class Flow:
    """What goes to one agent, and what is held back. Whole deliveries only, so their frames never mix."""

    def __init__(self, writer: asyncio.StreamWriter, loop: asyncio.AbstractEventLoop) -> None:
        self.writer = writer
        self._loop = loop
        self._held: dict[asyncio.TimerHandle, bytes] = {}
        self._next: list[asyncio.TimerHandle] = []

    def send(self, data: bytes, delivered: bool = False) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)
        if delivered:
            overtaken, self._next = self._next, []
            for handle in overtaken:
                self._let_go(handle)

    def later(self, seconds: float, data: bytes) -> asyncio.TimerHandle:
        handle: asyncio.TimerHandle = self._loop.call_later(seconds, lambda: self._let_go(handle))
        self._held[handle] = data
        return handle

    def swap(self, data: bytes) -> None:
        """Goes after the next delivery, or after `SWAP` seconds."""
        self._next.append(self.later(SWAP, data))

    def release(self) -> None:
        for handle in list(self._held):
            self._let_go(handle)

    def _let_go(self, handle: asyncio.TimerHandle) -> None:
        handle.cancel()
        if (data := self._held.pop(handle, None)) is not None:
            self.send(data)


async def _pump(source: asyncio.StreamReader, write: Callable[[bytes], object]) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            write(data)


# What becomes of a body


def truncate(body: bytes, chance: random.Random) -> bytes:
    return body[: chance.randrange(len(body))]


def flip(body: bytes, chance: random.Random) -> bytes:
    """One to four of its bytes are others."""
    altered = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        altered[chance.randrange(len(altered))] ^= chance.randint(1, 255)
    return bytes(altered)


RESULT = re.compile(rb'(\\?"result\\?": *\\?")([A-Za-z0-9+/=]+)')
"""Where oslo.messaging's answer has ours, in base 64."""


def newer(body: bytes, chance: random.Random) -> bytes:
    """As a controller of the next version would write it: in a message of the feed, or inside an answer."""
    if not body.startswith(b"{"):
        return bytes((body[0] + 1,)) + body[1:]

    def raised(match: "re.Match[bytes]") -> bytes:
        inner = base64.b64decode(match.group(2))
        return match.group(1) + base64.b64encode(bytes((inner[0] + 1,)) + inner[1:])

    return RESULT.sub(raised, body)


ALTER: dict[str, Callable[[bytes, random.Random], bytes]] = {"truncate": truncate, "flip": flip, "newer": newer}
