"""The last known topology as bytes: the format of the file that `agents.journal` writes and an agent starts from.

The file is a log. A head says whose it is, then the base follows, a snapshot of every topic that was known when the
file was made, and after it every change since: an update or a snapshot that was applied, or topics that are not needed
any more. Each record bears its length and a checksum of both, and is written by the feed's own encoding.

Reading takes the longest prefix that is whole. A log has been through every one of its prefixes, so a torn tail (the
power failed, the disk was full) only means an older state, never one that never was. The base counts as one: half of it
is nothing. What was written for another host, by another format or with another schema is `Unusable` as a whole: the
agent then waits for the controllers, as one without a file does.

Pure. The law, held by hypothesis: whatever is cut off or flipped, what is read is a state that the log went through, or
nothing.
"""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

import msgspec

from selvedge import wire
from selvedge.topics import Snapshot, Update
from selvedge.topology import Object, Ref, ref

MAGIC = b"selvedge topology\n"
FORMAT = 1

FRAME = Struct(">II")
"""In front of each record: its length, and the CRC-32 of that length and the record."""


class Head(msgspec.Struct, frozen=True):
    """The first record. It is plain JSON, so that it can be read by versions that can read no more. `base` is how many
    snapshots the base has."""

    format: int
    schema: int
    host: str
    base: int


class Forgotten(msgspec.Struct, frozen=True, tag="forgotten"):
    """The host does not need these topics any more."""

    topics: tuple[str, ...]


Record = Snapshot | Update | Forgotten
"""What may happen to what is known of topics."""

_RECORD: Any = Record


class Unusable(Exception):
    """The file says nothing to this agent; the text says why, as one sentence without a subject."""


@dataclass(frozen=True)
class Memory:
    """What an agent knew of the topology."""

    snapshots: tuple[Snapshot, ...] = ()
    """Each topic that was known, at its version."""
    of: float = 0.0
    """When a controller last confirmed it, or it last changed (seconds since 1970)."""
    age: float = 0.0
    """How many seconds ago that was when it was read."""
    base: int = field(default=0, compare=False)
    """How many bytes of the file are the base."""
    good: int = field(default=0, compare=False)
    """How many bytes of the file it is made of, the base included."""
    damage: str = field(default="", compare=False)
    """What is wrong with the bytes that follow those, in words; empty if there are none."""


def base(host: str, snapshots: Iterable[Snapshot]) -> bytes:
    """A whole file: what is known now."""
    known = [_framed(wire.encode(snapshot)) for snapshot in snapshots]
    return MAGIC + _framed(msgspec.json.encode(Head(FORMAT, wire.SCHEMA, host, len(known)))) + b"".join(known)


def tail(records: Iterable[Record]) -> bytes:
    """What follows in the file when this happens."""
    return b"".join(_framed(wire.encode(record)) for record in records)


def read(data: bytes, host: str) -> Memory:
    """What the file of `host` says. Raises `Unusable`."""
    reader = _Reader(data)
    expected = reader.head(host)
    topics: dict[str, Topic] = {}
    base_end = reader.good
    for record in reader.records():
        if not happened(topics, record):
            reader.damage = "a change of a version that was not there"
            break
        reader.accepted += 1
        reader.good = reader.at
        base_end = reader.good if reader.accepted == expected else base_end
    if reader.accepted < expected:
        raise Unusable(f"is damaged: {reader.damage or 'it ends early'}")
    known = tuple(Snapshot(name, topic.version, tuple(topic.objects.values())) for name, topic in topics.items())
    return Memory(known, base=base_end, good=reader.good, damage=reader.damage)


@dataclass
class Topic:
    """One topic while the log is followed."""

    version: int = 0
    objects: dict[Ref, Object] = field(default_factory=dict)


def happened(topics: dict[str, Topic], record: Record) -> bool:
    """Do to `topics` what a record says; False, and nothing, if it does not follow from what is there."""
    if isinstance(record, Forgotten):
        for name in record.topics:
            topics.pop(name, None)
    elif isinstance(record, Snapshot):
        topics[record.topic] = Topic(record.version, {ref(thing): thing for thing in record.objects})
    else:
        topic = topics.get(record.topic) or Topic()
        if record.version != topic.version + 1:
            return False
        for gone in record.deletes:
            topic.objects.pop(Ref(*gone), None)
        topic.objects.update((ref(thing), thing) for thing in record.upserts)
        topic.version = record.version
        topics[record.topic] = topic
    return True


def _framed(payload: bytes) -> bytes:
    length = len(payload).to_bytes(4, "big")
    return FRAME.pack(len(payload), zlib.crc32(payload, zlib.crc32(length))) + payload


class _Reader:
    """Goes through a file's frames until one is not whole."""

    def __init__(self, data: bytes) -> None:
        self.at = self.good = self.accepted = 0
        self.damage = ""
        self._data = data

    def head(self, host: str) -> int:
        """How many records the base has."""
        if not self._data:
            raise Unusable("is empty")
        if not self._data.startswith(MAGIC):
            raise Unusable("is not a topology that an agent wrote")
        self.at = len(MAGIC)
        payload = self._payload()
        try:
            head = msgspec.json.decode(payload or b"", type=Head)
        except msgspec.MsgspecError as error:
            raise Unusable(f"is damaged: its head cannot be read: {error}") from error
        if head.format != FORMAT:
            raise Unusable(f"has format {head.format}, this version reads {FORMAT}")
        if head.schema != wire.SCHEMA:
            raise Unusable(f"has schema {head.schema}, this version reads {wire.SCHEMA}")
        if head.host != host:
            raise Unusable(f"is of host {head.host}, this one is {host}")
        self.good = self.at
        return head.base

    def records(self) -> Iterator[Record]:
        """Records as long as they are whole; `damage` says what stopped it before the end."""
        while self.at < len(self._data):
            if (payload := self._payload()) is None:
                return
            try:
                record: Record = wire.decode(payload, _RECORD)
            except wire.Unreadable as error:
                self.damage = f"a record that cannot be read: {error}"
                return
            yield record

    def _payload(self) -> bytes | None:
        """The next record's bytes; None if it is not whole."""
        start = self.at + FRAME.size
        if start > len(self._data):
            self.damage = "a record that is cut off"
            return None
        length, checksum = FRAME.unpack_from(self._data, self.at)
        payload = self._data[start : start + length]
        if len(payload) < length:
            self.damage = "a record that is cut off"
            return None
        if zlib.crc32(payload, zlib.crc32(self._data[self.at : self.at + 4])) != checksum:
            self.damage = "a record whose checksum is wrong"
            return None
        self.at = start + length
        return payload
