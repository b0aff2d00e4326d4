"""Three views of one truth, in text files: what people write, what is on the wire, what it means.

- golden/codec/flows.txt: a flow as ovs-ofctl reads it, and the bytes Open vSwitch 3.1 made of it. The functional tests
  ask a real switch again; with `UPDATE_GOLDEN=1` they write what it says.
- golden/codec/answers.txt: messages of a real Open vSwitch 3.1, and what we read in them.
  `UPDATE_GOLDEN=1 pytest tests/unit/test_codec_golden.py` writes the latter.
- REQUESTS, below: messages that os_ken cannot make, against the layout in Open vSwitch's nicira-ext.h.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openflow.codec import bundles, errors, flows, groups, packets, session
from openflow.codec.decode import read_flow, read_group
from openflow.codec.text import flow_text, group_text
from openflow.flow import Flow, Load, SetField, Track, match

GOLDEN = Path(__file__).parent / "golden" / "codec"
FLOWS = GOLDEN / "flows.txt"
ANSWERS = GOLDEN / "answers.txt"
OPTION = session.Option(0xFF5E, 1, 8, 0)


def blocks(path: Path) -> list[list[str]]:
    """Blocks of lines that empty lines part."""
    return [block.splitlines() for block in path.read_text().strip().split("\n\n")]


@pytest.mark.parametrize("block", blocks(FLOWS), ids=lambda block: block[0].partition(" actions")[0])
def test_a_flow_in_three_views(block: list[str]) -> None:
    """The bytes read as the text, and the value they read as has these bytes."""
    text, key, body = block[0], bytes.fromhex(block[1][5:]), bytes.fromhex(block[2][5:])
    flow = read_flow(key, body)
    assert flow_text(flow) == text
    terms = {known.name: value if mask is None else (value, mask) for known, value, mask in flow.match.terms}
    again = Flow(flow.table, flow.priority, flow.cookie, match(**terms), flow.actions, flow.goto)
    assert (again.key.hex(), again.body.hex()) == (key.hex(), body.hex())


def _flow_dump(data: bytes) -> str:
    found: dict[bytes, bytes] = {}
    more = flows.read_flows(data, found)
    return f"{[flow_text(read_flow(*item)) for item in found.items()]} more={more}"


def _group_dump(data: bytes) -> str:
    found: dict[int, bytes] = {}
    more = groups.read_groups(data, found)
    return f"{[group_text(read_group(*item)) for item in found.items()]} more={more}"


READERS: dict[str, Callable[[bytes], Any]] = {
    "features reply": session.features,
    "options reply": session.options,
    "flow dump": _flow_dump,
    "group dump": _group_dump,
    "error bad out port": errors.error,
    "error option mapped already": errors.error,
    "bundle opened": bundles.answer,
    "packet in": packets.packet_in,
}


def test_answers_of_a_switch_are_read() -> None:
    """Every kind of message that a switch sends us."""
    pieces = {}
    for name, wire, _read in blocks(ANSWERS):
        pieces[name] = f"{name}\n{wire}\nread {READERS[name](bytes.fromhex(wire[5:]))}\n"
    assert set(pieces) == set(READERS)
    actual = "\n".join(pieces.values())
    if os.environ.get("UPDATE_GOLDEN"):
        ANSWERS.write_text(actual)
    assert actual == ANSWERS.read_text(), "if the change is meant, run with UPDATE_GOLDEN=1 and review it"


REQUESTS: tuple[tuple[bytes, str], ...] = (
    (session.options_request(1), "0504 0010 00000001  00002320 00000019"),
    (
        session.option_add(2, OPTION),
        "0504 0020 00000002  00002320 00000018  0000 000000000000  ff5e 01 08 0000 0000",
    ),
    (
        session.option_delete(3, OPTION),
        "0504 0020 00000003  00002320 00000018  0001 000000000000  ff5e 01 08 0000 0000",
    ),
    (match(tun_metadata0=7).wire, "0001 0010  00015008 0000000000000007"),
    (match(tun_metadata0=(0, 0xFFFFFFFF)).wire, "0001 0018  00015110 0000000000000000 00000000ffffffff"),
    (
        match(eth_type=0x86DD, ip_proto=58, icmpv6_type=136, nd_reserved=0x60000000, nd_options_type=2).wire,
        "0001 0021  80000a02 86dd  80001401 3a  80003a01 88  10000204 60000000  10000401 02  00000000000000",
    ),
    (session.flush_zone(4, 0x1234), "0504 0018 00000004  00002320 0000001d  000000000000 1234"),
    (
        match(eth_type=0x800, ct_state=(0x20, 0x30), ct_nw_src=(0x0A000000, 0xFF000000), ct_nw_dst=0x0B000001).wire,
        "0001 002a  80000a02 0800  0001d308 00000020 00000030  0001f108 0a000000 ff000000  0001f204 0b000001"
        "000000000000",
    ),
    (
        match(eth_type=0x86DD, ct_state=(0x28, 0x38), ct_nw_proto=17, ct_tp_dst=(0x80, 0xFFF0), ct_tp_src=53).wire,
        "0001 0029  80000a02 86dd  0001d308 00000028 00000038  0001ee01 11  0001f802 0035  0001fb04 0080fff0"
        "00000000000000",
    ),
    (Track("reg9", 52).wire, "ffff 0018 00002320 0023  0000 00011204 000f 34 000000 0000"),
    (Track(7, commit=True).wire, "ffff 0018 00002320 0023  0001 00000000 0007 ff 000000 0000"),
    (SetField("tun_metadata0", 0).wire, "0019 0008 00015000"),
    (SetField("tun_metadata0", 0x102).wire, "0019 0010 00015002 0102 000000000000"),
    (SetField("nd_reserved", 0x60000000).wire, "0019 0010 10000204 60000000 00000000"),
    (SetField("nd_options_type", 2).wire, "0019 0010 10000401 02 00000000000000"),
    (
        Load("tun_metadata0", 9, 0, 32).wire,
        "ffff 0018 00002320 0021  00015108 00000009 ffffffff 0000",
    ),
)


@pytest.mark.parametrize(("made", "wire"), REQUESTS, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_what_os_ken_cannot_make(made: bytes, wire: str) -> None:
    """Byte for byte."""
    assert made.hex() == wire.replace(" ", "")
