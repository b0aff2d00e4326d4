"""What the wire carries comes back as it was, and nothing else is let in."""

import ipaddress
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selvedge import rpc, wire
from selvedge.broker import amqp_urls
from selvedge.topics import Snapshot, Update
from selvedge.topology import (
    AddressGroup,
    Binding,
    Endpoint,
    Group,
    Host,
    Membership,
    Object,
    Pair,
    Ref,
    Rule,
    Segment,
    ref,
)

TEXT = st.text(max_size=40)
TEXTS = st.lists(TEXT, max_size=4).map(tuple)
KEYS = st.integers(1, 2**31 - 1)
MACS = st.integers(0, 2**48 - 1).map(lambda n: ":".join(f"{n:012x}"[i : i + 2] for i in range(0, 12, 2)))
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)

OBJECTS: st.SearchStrategy[Object] = st.one_of(
    st.builds(Host, id=TEXT, key=KEYS, tunnel_ip=ADDRESSES),
    st.builds(Binding, id=TEXT, segment=TEXT, groups=TEXTS),
    st.builds(
        Segment,
        id=TEXT,
        key=KEYS,
        network=TEXT,
        kind=st.sampled_from(["geneve", "vxlan", "vlan", "flat"]),
        number=st.integers(0, 2**24 - 1),
        physical_network=st.none() | TEXT,
        mtu=st.integers(68, 65535),
        up=st.booleans(),
    ),
    st.builds(
        Endpoint,
        id=TEXT,
        key=KEYS,
        segment=TEXT,
        host=TEXT,
        mac=MACS,
        addresses=st.lists(ADDRESSES, max_size=4).map(tuple),
        pairs=st.lists(st.builds(Pair, mac=MACS, cidr=ADDRESSES), max_size=3).map(tuple),
        secure=st.booleans(),
        up=st.booleans(),
        identity=st.integers(0, 2**32 - 1),
        groups=TEXTS,
    ),
    st.builds(Group, id=TEXT, key=KEYS, stateful=st.booleans()),
    st.builds(
        Rule,
        id=TEXT,
        key=KEYS,
        group=TEXT,
        direction=st.sampled_from(["ingress", "egress"]),
        version=st.sampled_from([4, 6]),
        protocol=st.none() | st.integers(0, 255),
        first=st.none() | st.integers(0, 65535),
        last=st.none() | st.integers(0, 65535),
        cidr=st.none() | ADDRESSES,
        remote_group=st.none() | TEXT,
        remote_addresses=st.none() | TEXT,
    ),
    st.builds(Membership, id=TEXT, group=TEXT, identity=KEYS),
    st.builds(AddressGroup, id=TEXT, key=KEYS, prefixes=TEXTS),
)
KINDS = ["segment", "endpoint", "binding", "host", "group", "rule", "membership", "addresses"]
REFS = st.builds(Ref, kind=st.sampled_from(KINDS), id=TEXT)
UPDATES = st.builds(
    Update,
    topic=TEXT,
    version=st.integers(1, 2**62),
    upserts=st.lists(OBJECTS, max_size=5).map(tuple),
    deletes=st.lists(REFS, max_size=5).map(tuple),
)


def endpoints(count: int) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(f"p{n}", n, "s", "hv1", f"fa:16:3e:00:{n >> 8:02x}:{n & 255:02x}", (str(ipaddress.IPv4Address(n)),))
        for n in range(1, count + 1)
    )


def sealed(form: bytes, body: bytes) -> bytes:
    """A message with a right checksum around anything."""
    return bytes((wire.SCHEMA,)) + form + b"%08x" % zlib.crc32(form + body) + body


@given(UPDATES)
def test_an_update_comes_back_as_it_was(update: Update) -> None:
    back = wire.decode(wire.from_text(wire.to_text(wire.encode(update))), Update)
    assert back == update
    assert [ref(thing) for thing in back.upserts] == [ref(thing) for thing in update.upserts]
    assert all(isinstance(name, Ref) for name in back.deletes)


def test_a_large_snapshot_is_deflated_and_comes_back() -> None:
    snapshot = Snapshot("segment/s", 7, endpoints(1000))
    data = wire.encode(rpc.SubscribeReply((snapshot,)))
    assert data[1] == ord("Z") and len(data) < 40_000
    assert wire.decode(data, rpc.SubscribeReply).snapshots == (snapshot,)


def test_a_small_message_is_plain_json() -> None:
    data = wire.encode(Update("hosts", 1, (Host("hv1", 1, "10.0.0.1"),)))
    assert data[:2] == bytes((wire.SCHEMA, ord("J")))
    assert json.loads(data[wire.HEAD :])["upserts"][0] == {
        "type": "host",
        "id": "hv1",
        "key": 1,
        "tunnel_ip": "10.0.0.1",
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\x03", "truncated"),
        (b"\x03J1234567", "truncated"),
        (b"\x02J{}", "schema 2"),
        (b"\x04J{}", "schema 4"),
        (b"\x03J00000000{}", "checksum"),
        (sealed(b"Q", b"{}"), "unknown form"),
        (sealed(b"J", b"{"), "not a Update"),
        (sealed(b"J", b'{"type":"update","topic":"t","version":"one"}'), "not a Update"),
        (sealed(b"J", b'{"type":"snapshot","topic":"t","version":1}'), "not a Update"),
        (sealed(b"J", b'{"type":"update","topic":"t","version":1,"upserts":[{"type":"router"}]}'), "not a Update"),
        (sealed(b"J", b'{"type":"update","topic":"t","version":1,"new":' + b"[" * 100_000), "not a Update"),
        (sealed(b"J", b"\xff\xfe"), "not a Update"),
        (sealed(b"J", b'{"type":"update","topic":"\\ud800","version":1}'), "not a Update"),
        (sealed(b"J", b'{"type":"update","topic":"t","version":' + b"9" * 5000 + b"}"), "not a Update"),
        (sealed(b"J", b'{"type":"update","topic":"t","version":1e400}'), "not a Update"),
        (sealed(b"Z", b"garbage"), "not a Update"),
        (sealed(b"Z", zlib.compress(b"{}" * 100)[:-3]), "truncated or too large"),
    ],
)
def test_what_is_not_ours_is_unreadable_and_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(wire.Unreadable, match=reason):
        wire.decode(data, Update)


def test_a_bomb_is_refused_before_it_fills_the_memory() -> None:
    bomb = zlib.compress(b" " * (wire.LARGEST + 1))
    with pytest.raises(wire.Unreadable, match="too large"):
        wire.decode(sealed(b"Z", bomb), Update)


@given(UPDATES, st.data())
def test_a_message_with_any_bit_turned_or_its_end_cut_off_is_refused(update: Update, data: st.DataObject) -> None:
    """Else a host would believe another address, at the right version, and nothing would ever heal it."""
    sound = wire.encode(update)
    bit = data.draw(st.integers(0, len(sound) * 8 - 1))
    altered = bytearray(sound)
    altered[bit // 8] ^= 1 << bit % 8
    cut = data.draw(st.integers(0, len(sound) - 1))
    for broken in (bytes(altered), sound[:cut], sound + b"}"):
        with pytest.raises(wire.Unreadable):
            wire.decode(broken, Update)


@given(st.binary(max_size=200) | st.builds(sealed, st.sampled_from([b"J", b"Z"]), st.binary(max_size=200)))
def test_any_bytes_are_decoded_or_refused_and_never_anything_else(data: bytes) -> None:
    try:
        wire.decode(data, Update)
    except wire.Unreadable as error:
        assert str(error)


@given(st.text(max_size=50))
def test_any_text_is_base_64_or_refused(text: str) -> None:
    try:
        assert isinstance(wire.from_text(text), bytes)
    except wire.Unreadable as error:
        assert "base 64" in str(error)


@pytest.mark.parametrize(
    ("url", "amqp"),
    [
        ("rabbit://u:p@h:5673/v", ["amqp://u:p@h:5673/v"]),
        ("rabbit://h", ["amqp://guest:guest@h:5672/%2F"]),
        ("rabbit://u:p%40x@h//", ["amqp://u:p%40x@h:5672/%2F"]),
        ("rabbit://u:p@[::1]:1/v?ssl=0", ["amqp://u:p@[::1]:1/v"]),
        ("rabbit://u:p@a,x:y@b:1,c/v", ["amqp://u:p@a:5672/v", "amqp://x:y@b:1/v", "amqp://x:y@c:5672/v"]),
    ],
)
def test_transport_urls_in_their_two_dialects(url: str, amqp: list[str]) -> None:
    assert list(amqp_urls(url)) == amqp


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://user:secret@h/", "rabbit://"),
        ("rabbit://user:secret/x@h/", "%2F"),
        ("rabbit://user:secret,x@h/", "%2C"),
        ("rabbit://user:x@:5/", "no name"),
    ],
)
def test_a_transport_url_of_another_kind_is_an_error_that_tells_no_password(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        amqp_urls(url)
    assert "secret" not in str(caught.value)


def test_with_tls_a_host_without_a_port_has_another_one() -> None:
    assert amqp_urls("rabbit://u:p@a,b:1/", 5671) == ("amqp://u:p@a:5671/%2F", "amqp://u:p@b:1/%2F")
