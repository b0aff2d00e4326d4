"""The pipeline's declarations: numbers that are fixed for ever, contradictions refused, the document current."""

import subprocess
import sys
from pathlib import Path

import pytest

from openflow import pipeline
from openflow.declaration import BadPipeline, Family, Register, Table, validate
from openflow.flow import BadFlow, Conjunction, InPort, Output, Resubmit, SetField, Track
from openflow.pipeline import FAMILIES, REGISTERS, TABLES, Kind, cookie, group_id, host_place, ours, own_group, owner_of

ROOT = Path(__file__).parents[2]

A = Table(1, "A", "", matches=frozenset({"in_port"}), writes=frozenset({"reg0"}), next=(2,), resubmits=(2,))
B = Table(2, "B", "", matches=frozenset({"reg0"}), sends=True)
FIRST = Family(A, "first", 10, "base", "")
SECOND = Family(B, "second", 10, "base", "")


def test_numbers_are_fixed() -> None:
    """Table numbers and the registers in packets of running clouds never change."""
    assert {table.name: table.number for table in TABLES} == {
        "CLASSIFY": 0,
        "TUNNEL": 5,
        "IDENTIFY": 7,
        "SOURCE_GUARD": 10,
        "ND_OPTION": 12,
        "ND_TARGET": 14,
        "RESPOND": 20,
        "ND_ANSWER": 21,
        "ROUTE": 30,
        "NEIGHBOUR": 35,
        "FORWARD": 40,
        "ADDRESSED": 45,
        "EGRESS_TRACK": 50,
        "EGRESS_STATE": 52,
        "EGRESS_POLICY": 55,
        "EGRESS_FRAGMENTS": 56,
        "EGRESS_VERDICT": 58,
        "DELIVER": 60,
        "INGRESS_TRACK": 70,
        "INGRESS_BASICS": 71,
        "INGRESS_STATE": 72,
        "INGRESS_POLICY": 75,
        "INGRESS_FRAGMENTS": 76,
        "INGRESS_VERDICT": 78,
        "OUTPUT": 80,
    }
    assert pipeline.GENEVE_OPTION == (0xFF5E, 1, 8, 0)
    assert (pipeline.HERE, pipeline.PROVIDER, pipeline.FLOOD) == (1 << 28, 2 << 28, 3 << 28)
    assert host_place("geneve", 7) == 0x40000007 and host_place("vxlan", 7) == 0x50000007


def test_the_document_is_current() -> None:
    """docs/pipeline.md is what `python -m openflow.pipeline` prints."""
    printed = subprocess.run(
        [sys.executable, "-m", "openflow.pipeline"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert (ROOT / "docs" / "pipeline.md").read_text() == printed, "run: python -m openflow.pipeline > docs/pipeline.md"
    for family in FAMILIES:
        assert family.why in printed


def test_every_table_with_flows_is_reached() -> None:
    """A table that has kinds of flows is the first one, or another leads to it."""
    reached = {0} | {number for table in TABLES for number in (*table.next, *table.resubmits, *table.tracks)}
    assert {family.table.number for family in FAMILIES} <= reached


@pytest.mark.parametrize("kind", list(Kind))
def test_cookies_lead_to_objects(kind: Kind) -> None:
    """A cookie is read back as the object it was made for; others' cookies are nobody's."""
    number = cookie(kind, 0x123456789ABC)
    assert ours(number) and owner_of(number) == (kind, 0x123456789ABC)
    assert f"{number:#x}" == f"0x5e0{kind.value}123456789abc"
    for foreign in (0, 7, 0x5F << 56, number ^ 1 << 60, 0xFFFFFFFFFFFFFFFF):
        assert not ours(foreign) and owner_of(foreign) is None
    assert owner_of(0x5E << 56 | 0xFF << 48) is None, "ours, of a kind that is not known (any more)"
    with pytest.raises(ValueError, match="cookie"):
        cookie(kind, 1 << 48)


def test_groups_have_their_range() -> None:
    """Roots and leaves of all segments are distinct and in our range, which OpenFlow allows; small ids are others'."""
    ids = {group_id(key, leaf) for key in (1, 7, pipeline.LEAF_STRIDE - 1) for leaf in range(pipeline.LEAVES + 1)}
    assert len(ids) == 3 * (pipeline.LEAVES + 1)
    assert all(own_group(number) and number < 0xFFFFFF00 for number in ids)
    assert not own_group(7) and not own_group(pipeline.FIRST_GROUP - 1) and not own_group(pipeline.END_GROUP)
    assert group_id(7) == 1_000_000_007
    for key, leaf in ((pipeline.LEAF_STRIDE, 0), (1, pipeline.LEAVES + 1), (-1, 0)):
        with pytest.raises(ValueError, match="group"):
            group_id(key, leaf)


def test_the_pipelines_own_declarations_hold() -> None:
    """What the module checked at import holds; it has all its families."""
    validate(REGISTERS, TABLES, FAMILIES)
    assert len(FAMILIES) == len({(family.table.number, family.name) for family in FAMILIES}) > 30


@pytest.mark.parametrize(
    ("registers", "says"),
    [
        ((Register("X", "reg0", "", bits=16), Register("Y", "reg0", "", start=15, bits=2)), "overlaps"),
        ((Register("X", "reg0", "", start=8),), "does not fit"),
        ((Register("X", "reg0", "", bits=33),), "does not fit"),
        ((Register("X", "reg99", ""),), "no writable field"),
        ((Register("X", "eth_type", "", bits=16),), "no writable field"),
        ((Register("X", "reg0", ""), Register("X", "reg1", "")), "twice"),
    ],
)
def test_bad_registers_are_refused(registers: tuple[Register, ...], says: str) -> None:
    """Fields that overlap, are too long, or do not exist."""
    with pytest.raises(BadPipeline, match=says):
        validate(registers, (A, B), (FIRST,))


@pytest.mark.parametrize(
    ("tables", "families", "says"),
    [
        ((A, B, Table(2, "C", "")), (), "twice"),
        ((A, B, Table(3, "B", "")), (), "twice"),
        ((A,), (), "not a later table"),
        ((Table(3, "C", "", tracks=(3,)),), (), "not a later table"),
        ((Table(3, "C", "", next=(2,)), A, B), (), "not a later table"),
        ((Table(3, "C", "", resubmits=(9,)),), (), "no table"),
        ((Table(3, "C", "", matches=frozenset({"nonsense"})),), (), "does not exist"),
        ((Table(3, "C", "", writes=frozenset({"eth_type"})),), (), "read-only"),
        ((A, B), (FIRST, Family(A, "first", 20, "host", "")), "two families"),
        ((B,), (FIRST,), "not declared"),
        ((A, B), (Family(A, "x", 1 << 16, "base", ""),), "16 bits"),
    ],
)
def test_bad_tables_are_refused(tables: tuple[Table, ...], families: tuple[Family, ...], says: str) -> None:
    """Numbers twice, ways that lead nowhere or back, fields that are none, kinds of flows that clash."""
    with pytest.raises(BadPipeline, match=says):
        validate((), tables, families)


def test_a_flow_must_fit_its_table() -> None:
    """A flow that matches, writes, sends or leads where its table does not allow it is refused when it is made."""
    assert FIRST.flow(1, {"in_port": 5}, (SetField("reg0", 1), Resubmit(2)), goto=B).goto == 2
    assert SECOND.flow(1, {"reg0": 5}, (Output(3), InPort())).table == 2
    for _ in range(2):  # a refused shape is refused again
        with pytest.raises(BadFlow, match=r"table A.*'first'.*may not match reg0"):
            FIRST.flow(1, {"reg0": 5})
        with pytest.raises(BadFlow, match="may not write reg1"):
            FIRST.flow(1, {}, (SetField("reg1", 1),))
        with pytest.raises(BadFlow, match="do not leave"):
            FIRST.flow(1, {}, (Output(1),))
        with pytest.raises(BadFlow, match="may not resubmit to table 1"):
            FIRST.flow(1, {}, (Resubmit(1),))
        with pytest.raises(BadFlow, match="may not go on to table 1"):
            SECOND.flow(1, {}, goto=A)
        with pytest.raises(BadFlow, match="tracker may not hand on to table 2"):
            SECOND.flow(1, {}, (Track(7, table=2),))
        with pytest.raises(BadFlow, match="not remembered here"):
            SECOND.flow(1, {}, (Track(7, commit=True),))
        with pytest.raises(BadFlow, match="may not be a clause"):
            SECOND.flow(1, {}, (Conjunction(7, 1, 2),))


def test_priorities_of_a_family() -> None:
    """A family may have a range of priorities (a longer prefix goes first); beyond it there is none."""
    table = Table(1, "A", "", matches=frozenset({"in_port"}))
    longest = Family(table, "prefix", 100, "base", "", spread=32)
    assert longest.flow(1, {"in_port": 5}, more=24).priority == 124
    assert FIRST.flow(1, {"in_port": 5}).priority == 10
    for family, more in ((longest, 33), (longest, -1), (FIRST, 1)):
        with pytest.raises(BadFlow, match="priorities"):
            family.flow(1, {"in_port": 5}, more=more)


def test_a_table_of_the_tracker() -> None:
    """Where a table says so, packets go by the tracker, connections are remembered, and flows are clauses."""
    table = Table(1, "A", "", matches=frozenset({"eth_type"}), tracks=(2,), commits=True, joins=True)
    family = Family(table, "any", 10, "base", "")
    validate((), (table, B), (family,))
    for action in (Track(7, table=2), Track(7, commit=True), Conjunction(7, 1, 2)):
        assert family.flow(1, {"eth_type": 0x800}, (action,)).actions == (action,)
