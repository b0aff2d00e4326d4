"""The codec against a real Open vSwitch: what is sent comes back byte for byte, what it refuses we refuse.

The module has an ovsdb-server and an ovs-vswitchd of its own (userspace datapath) in a directory and a network
namespace of its own, and speaks to the bridge through its `.mgmt` socket with nothing but the codec.
"""

import ipaddress
import os
import struct
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from openflow.codec import bundles, errors, flows, frames, groups, session
from openflow.codec.decode import read_flow, read_group
from openflow.codec.text import flow_text, group_text
from openflow.fields import TABLE, Field
from openflow.flow import (
    CONTROLLER,
    Action,
    BadFlow,
    Bucket,
    Conjunction,
    CtClear,
    Flow,
    GroupEntry,
    InPort,
    Load,
    Match,
    Move,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    Term,
    ToGroup,
    Track,
    match,
)
from openflow.match import Value
from tests.functional.bridge import Bridge
from tests.functional.vswitch import Vswitch
from tests.unit import codec_values
from tests.unit.codec_values import context_of
from tests.unit.test_codec_golden import FLOWS, blocks

OPTION = session.Option(0xFF5E, 1, 8, 0)
MARKER, MARKER_MASK = 0x5E << 56, 0xFF << 56

QUICK = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the bridge is cleared in the test
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes; the message names the flows
)


@pytest.fixture(scope="module")
def vswitch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vswitch]:
    made = Vswitch(tmp_path_factory.mktemp("ovs"))
    try:
        made.start_database()
        made.start_switch()
        made.add_bridge()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def connection(vswitch: Vswitch) -> Bridge:
    made = Bridge(vswitch)
    if OPTION not in made.options():
        assert made.do(session.option_add(made.next(), OPTION)) == []
    return made


@pytest.fixture
def bridge(connection: Bridge) -> Bridge:
    """The bridge with empty tables."""
    connection.clear()
    return connection


def same(bridge: Bridge, wanted: list[Flow]) -> None:
    """The switch takes all these flows, and its dump is their bytes."""
    assert bridge.add(wanted) == []
    found = bridge.flows()
    expected = {flow.key: flow.body for flow in wanted}
    sent = sorted(flow_text(flow) for flow in wanted if found.get(flow.key) != flow.body)
    assert found == expected, f"sent {sent}, came back {[(key.hex(), body.hex()) for key, body in found.items()]}"


def test_the_switch_introduces_itself(bridge: Bridge) -> None:
    """Features and echo are answered and read."""
    bridge.send(session.features_request(bridge.next()))
    told = session.features(bridge.receive(frames.FEATURES_REPLY))
    shown = bridge.vswitch.vsctl("get", "bridge", "br-int", "datapath_id").strip().strip('"')
    assert told == session.Features(int(shown, 16), 254)
    bridge.send(session.echo_request(77, b"alive?"))
    answer = bridge.receive(frames.ECHO_REPLY)
    assert frames.xid_of(answer) == 77
    assert answer[8:] == b"alive?"


@pytest.mark.parametrize("known", TABLE, ids=str)
def test_every_field_comes_back_as_it_was_sent(bridge: Bridge, known: Field) -> None:
    """Exact, zero, full, and every kind of mask."""
    context = context_of(known)
    numbers = (0, 1, known.full >> 1, known.full)
    if known.form == "port":
        numbers = (1, 0xFEFF, 0xFFFFFFFE, CONTROLLER)
    elif known.name == "vlan_vid":
        numbers = (0, 0x1000, 0x1001, 0x1FFF)
    elif known.name == "ct_nw_proto":
        numbers = (1, 6, 58, 255)
    terms: list[dict[str, Value]] = [{**context, known.name: number} for number in numbers]
    if known.maskable:
        masks = ((1, 1), (0, 1), (0, known.full >> 1), (known.full, known.full), (0, 0))
        terms += [{**context, known.name: pair} for pair in masks]
    wanted = {each: Flow(3, 7, MARKER, each, (), 4) for each in (match(**chosen) for chosen in terms)}
    same(bridge, list(wanted.values()))


@pytest.mark.parametrize("known", [known for known in TABLE if known.requires and not known.connected], ids=str)
def test_a_missing_prerequisite_is_refused_by_both(bridge: Bridge, known: Field) -> None:
    """Each prerequisite is needed: without it we raise, and the switch refuses the bytes."""
    for missing, _values in known.requires:
        terms = {**context_of(known), known.name: 1}
        del terms[missing]
        with pytest.raises(BadFlow):
            match(**terms)
        refused = bridge.add([Flow(0, 1, 0, unchecked(terms))])
        assert [error.name for error in refused] == ["OFPBMC_BAD_PREREQ"], f"without {missing}"


def unchecked(terms: dict[str, Value]) -> Match:
    """A match that may lack what it needs."""
    chosen = [(known, terms[known.name]) for known in TABLE if known.name in terms]
    return Match(tuple(Term(known, *((value, None) if isinstance(value, int) else value)) for known, value in chosen))


def test_every_action_comes_back_as_it_was_sent(bridge: Bridge) -> None:
    """Each kind with its extremes, each field that can be set, loaded, moved from and to."""
    assert bridge.do(groups.add(1, GroupEntry(1, ()).body, bridge.next())) == []
    plain: list[tuple[dict[str, Value], Action]] = [
        ({}, action)
        for action in (
            *(Output(1), Output(0xFEFF), Output(0xFFFFFFFE), Output(CONTROLLER, 0xFFFF), Output(CONTROLLER, 128)),
            *(InPort(), ToGroup(1), PushVlan(), Resubmit(0), Resubmit(254), CtClear()),
            *(Conjunction(0, 1, 2), Conjunction(0xFFFFFFFF, 64, 64)),
        )
    ]
    plain.append(({"vlan_vid": 0x1005}, PopVlan()))
    zones: tuple[int | str, ...] = (0, 1, 0xFFFF, "reg9", "ct_zone")
    for zone, table, commit in product(zones, (None, 0, 254), (False, True)):
        plain += [({"eth_type": kind}, Track(zone, table, commit)) for kind in (0x0800, 0x86DD)]
    for known in TABLE:
        context = {**context_of(known), **({"vlan_vid": 0x1001} if known.name == "vlan_vid" else {})}
        if known.settable:
            low = 0x1000 if known.name == "vlan_vid" else 0
            plain += [(context, SetField(known.name, number)) for number in {low, low | 1, known.full}]
        if known.slice:
            width = min(32, known.slice)
            plain.append((context, Move(known.name, "reg0", width, known.slice - width, 0)))
        if known.slice and known.writable:
            plain.append((context, Move("reg0", known.name, width)))
            plain += [(context, Load(known.name, 1, start, 1)) for start in {0, known.slice - 1}]
            plain.append((context, Load(known.name, 1, 0, min(64, known.slice))))
    same(bridge, [Flow(1, number, MARKER, match(**terms), (action,)) for number, (terms, action) in enumerate(plain)])


def test_instructions_come_back_as_they_were_sent(bridge: Bridge) -> None:
    """Nothing at all, only goto, only actions, both; the largest flow that fits."""
    some = (SetField("reg0", 7), Resubmit(60))
    many = tuple(Load("reg1", number) for number in range(2600))
    combinations: list[tuple[tuple[Action, ...], int | None]] = [((), None), ((), 10), (some, None), (some, 254)]
    combinations.append((many, 9))
    same(bridge, [Flow(5, number, MARKER | number, match(), *each) for number, each in enumerate(combinations)])


def test_the_golden_flows_are_what_the_switch_makes_of_them(bridge: Bridge) -> None:
    """ovs-ofctl reads each text, and the switch says these bytes. UPDATE_GOLDEN=1 writes what it says."""
    wanted = blocks(FLOWS)
    assert _three_groups(bridge) == []
    made = []
    for text, *_ in wanted:
        bridge.vswitch.ofctl("add-flow", text)
        ((key, body),) = bridge.flows().items()
        made.append(f"{text}\nkey  {key.hex()}\nbody {body.hex()}\n")
        assert bridge.do(flows.delete_strict(key, bridge.next())) == []
    if os.environ.get("UPDATE_GOLDEN"):
        FLOWS.write_text("\n".join(made))
    assert "\n".join(made) == FLOWS.read_text()


def _three_groups(bridge: Bridge) -> list[errors.SwitchError]:
    return bridge.do(*(groups.add(number, GroupEntry(number, ()).body, 5) for number in codec_values.GROUPS))


@settings(QUICK, max_examples=60)
@given(wanted=st.lists(codec_values.flows(), min_size=1, max_size=20, unique_by=lambda flow: flow.key))
def test_random_flows_come_back_as_they_were_sent(bridge: Bridge, wanted: list[Flow]) -> None:
    """Any mixture of fields and actions; and what the dump says reads as what was meant."""
    bridge.clear()
    assert _three_groups(bridge) == []
    same(bridge, wanted)
    assert {read_flow(key, body) for key, body in bridge.flows().items()} == set(wanted)


@settings(QUICK, max_examples=30)
@given(wanted=st.lists(codec_values.flows(), min_size=1, max_size=20, unique_by=lambda flow: flow.key))
def test_the_text_of_a_flow_means_the_flow(bridge: Bridge, wanted: list[Flow]) -> None:
    """ovs-ofctl reads our one-line form, and makes the same flow of it."""
    bridge.clear()
    assert _three_groups(bridge) == []
    bridge.vswitch.ofctl("add-flows", "-", text="".join(f"{flow_text(flow)}\n" for flow in wanted))
    assert bridge.flows() == {flow.key: flow.body for flow in wanted}


@settings(QUICK, max_examples=30)
@given(wanted=st.lists(codec_values.groups(), min_size=1, max_size=5, unique_by=lambda group: group.id))
def test_groups_come_back_as_they_were_sent(bridge: Bridge, wanted: list[GroupEntry]) -> None:
    """Added, then modified, then deleted; and ovs-ofctl reads their text."""
    bridge.clear()
    assert bridge.do(*(groups.add(group.id, group.body, 5) for group in wanted)) == []
    assert {number: body.hex() for number, body in bridge.groups().items()} == {g.id: g.body.hex() for g in wanted}
    assert {read_group(number, body) for number, body in bridge.groups().items()} == set(wanted)
    changed = [GroupEntry(group.id, (*group.buckets, Bucket((Load("reg3", 5), Resubmit(80))))) for group in wanted]
    assert bridge.do(*(groups.modify(group.id, group.body, 5) for group in changed)) == []
    assert bridge.groups() == {group.id: group.body for group in changed}
    assert bridge.do(*(groups.delete(group.id, 5) for group in changed)) == []
    assert bridge.groups() == {}
    bridge.vswitch.ofctl("add-groups", "-", text="".join(f"{group_text(group)}\n" for group in wanted))
    assert bridge.groups() == {group.id: group.body for group in wanted}


def test_a_group_as_large_as_a_message(bridge: Bridge) -> None:
    """700 buckets of load and resubmit come back whole, over several parts of the answer."""
    many = [
        GroupEntry(number, tuple(Bucket((SetField("reg3", key), Resubmit(80))) for key in range(700)))
        for number in (20, 21, 22)
    ]
    assert bridge.do(*(groups.add(group.id, group.body, 5) for group in many)) == []
    assert bridge.groups() == {group.id: group.body for group in many}


def test_only_flows_with_our_marker_are_dumped_and_deleted(bridge: Bridge) -> None:
    """A filter on the cookie's top byte leaves other people's flows out; so does a delete."""
    ours, theirs = Flow(0, 1, MARKER | 9, match(in_port=1)), Flow(0, 2, 9, match(in_port=1))
    assert bridge.add([ours, theirs]) == []
    assert bridge.flows(MARKER, MARKER_MASK) == {ours.key: ours.body}
    assert bridge.do(flows.delete_strict(theirs.key, 5, MARKER, MARKER_MASK)) == []
    assert set(bridge.flows()) == {ours.key, theirs.key}
    assert bridge.do(flows.delete_strict(ours.key, 5, MARKER, MARKER_MASK)) == []
    assert set(bridge.flows()) == {theirs.key}


def test_adding_replaces_the_flow_and_its_cookie(bridge: Bridge) -> None:
    """What the programmer relies on: a change is an add, after which there is one flow and nothing of the old one."""
    old = Flow(0, 1, MARKER | 1, match(in_port=1), (), 10)
    new = Flow(0, 1, MARKER | 2, match(in_port=1), (), 20)
    assert bridge.add([old]) == []
    assert bridge.add([new]) == []
    assert bridge.flows() == {new.key: new.body}


def test_a_flow_with_a_timeout_never_looks_like_ours(bridge: Bridge) -> None:
    """Somebody gave our flow a timeout: it would go away, so its bytes must differ from what we want."""
    ours = Flow(0, 1, MARKER, match(in_port=1), (), 10)
    text = flow_text(ours).replace("priority", "idle_timeout=1000,priority")
    bridge.vswitch.ofctl("add-flow", text)
    assert bridge.flows() == {ours.key: ours.body + flows.ALTERED}


def test_errors_have_names_and_say_which_message(bridge: Bridge) -> None:
    """A port that cannot be, a missing group, an unmapped option: each is named and carries the transaction."""
    bad = [
        (Flow(0, 1, 0, match(), (Output(0xFFFE),)), "OFPBAC_BAD_OUT_PORT"),
        (Flow(0, 1, 0, match(), (ToGroup(99),)), "OFPBAC_BAD_OUT_GROUP"),
        (Flow(0, 1, 0, match(), (PopVlan(),)), "OFPBAC_MATCH_INCONSISTENT"),
    ]
    for flow, name in bad:
        message = flows.add(flow.key, flow.body, 4242)
        (error,) = bridge.do(message)
        assert (error.name, error.xid) == (name, 4242)
        assert message.startswith(error.data)
    (error,) = bridge.do(session.option_add(4243, OPTION))
    assert (error.name, error.xid) == ("NXTTMFC_ALREADY_MAPPED", 4243)
    (error,) = bridge.do(groups.modify(77, GroupEntry(77, ()).body, 4244))
    assert (error.name, error.xid) == ("OFPGMFC_UNKNOWN_GROUP", 4244)


def test_geneve_options_are_listed_added_and_deleted(bridge: Bridge) -> None:
    """Our option is there; another comes and goes."""
    other = session.Option(0xFF5E, 2, 4, 1)
    assert bridge.options() == (OPTION,)
    assert bridge.do(session.option_add(bridge.next(), other)) == []
    assert sorted(bridge.options()) == [OPTION, other]
    assert bridge.do(session.option_delete(bridge.next(), other)) == []
    assert bridge.options() == (OPTION,)


def test_a_bundle_takes_effect_as_a_whole(bridge: Bridge) -> None:
    """Nothing before the commit, all after it; a discarded one leaves nothing; what is refused is named when added."""
    good = [Flow(0, number, MARKER, match(in_port=number), (ToGroup(5),)) for number in range(1, 50)]
    group = GroupEntry(5, (Bucket((Output(1),)),))

    def bundle(number: int, end: int, extra: tuple[Flow, ...] = ()) -> list[errors.SwitchError]:
        messages = [groups.add(group.id, group.body, 100)]
        messages += [flows.add(flow.key, flow.body, 1000 + place) for place, flow in enumerate((*good, *extra))]
        refused = bridge.do(
            bundles.control(bundles.OPEN, number, bridge.next()), *(bundles.add(number, inner) for inner in messages)
        )
        assert bridge.flows() == {}
        bridge.send(bundles.control(end, number, 50))
        assert bundles.answer(bridge.receive(frames.BUNDLE_CONTROL)) == bundles.Answer(number, end)
        return refused

    bad = Flow(0, 1, MARKER, match(), (Output(0xFFFE),))
    assert [(error.name, error.xid) for error in bundle(1, bundles.DISCARD, (bad,))] == [
        ("OFPBAC_BAD_OUT_PORT", 1000 + len(good))
    ]
    assert (bridge.flows(), bridge.groups()) == ({}, {})
    assert bundle(2, bundles.COMMIT) == []
    assert bridge.flows() == {flow.key: flow.body for flow in good}
    assert bridge.groups() == {group.id: group.body}


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def _neighbour(source: str, target: str, kind: int, flags: int, options: bytes) -> bytes:
    """An ICMPv6 neighbour message behind its IPv6 header (RFC 4861, 4.3 and 4.4), with a right checksum."""
    ends = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(target).packed
    head = struct.pack("!BB", kind, 0)
    rest = struct.pack("!I", flags) + ipaddress.IPv6Address("fe80::5").packed + options
    length = len(head) + 2 + len(rest)
    checksum = _checksum(ends + struct.pack("!II", length, 58) + head + b"\0\0" + rest)
    return struct.pack("!IHBB", 6 << 28, length, 58, 255) + ends + head + struct.pack("!H", checksum) + rest


ASKER, OWNER = bytes.fromhex("fa163e000001"), bytes.fromhex("fa163e000005")


def test_a_neighbour_solicitation_becomes_its_advertisement_in_flows(bridge: Bridge) -> None:
    """The recipe of the ND responder: a second table, reached by resubmit, knows that the message is an advertisement.

    Without the source's link-layer option (duplicate address detection) the question passes.
    """
    solicitation = {"eth_type": 0x86DD, "ip_proto": 58, "icmpv6_type": 135, "icmpv6_code": 0}
    advertisement = {**solicitation, "icmpv6_type": 136}
    answer: tuple[Action, ...] = (
        Move("eth_src", "eth_dst", 48),
        SetField("eth_src", int.from_bytes(OWNER, "big")),
        Move("ipv6_src", "ipv6_dst", 128),
        Move("nd_target", "ipv6_src", 128),
        SetField("icmpv6_type", 136),
        Resubmit(21),
    )
    finish = (
        Move("eth_src", "nd_tll", 48),
        SetField("nd_options_type", 2),
        SetField("nd_reserved", 0x60000000),
        Output(CONTROLLER, 0xFFFF),
    )
    target = int(ipaddress.IPv6Address("fe80::5"))
    same(
        bridge,
        [
            Flow(0, 110, 1, match(**solicitation, nd_sll=0), (SetField("reg0", 9), Output(CONTROLLER, 0xFFFF))),
            Flow(0, 100, 2, match(**solicitation, nd_target=target), answer),
            Flow(21, 100, 3, match(**advertisement), finish),
        ],
    )
    bridge.send(session.set_config(bridge.next()))
    multicast = "ff02::1:ff00:5"
    frame = bytes.fromhex("3333ff000005") + ASKER + b"\x86\xdd"
    question = frame + _neighbour("fe80::1", multicast, 135, 0, b"\1\1" + ASKER)
    expected = ASKER + OWNER + b"\x86\xdd" + _neighbour("fe80::5", "fe80::1", 136, 0x60000000, b"\2\1" + OWNER)
    detection = frame + _neighbour("::", multicast, 135, 0, b"")
    for _ in range(2):  # the first packet, and the ones after it, which take another way through the switch
        got = bridge.through(question)
        assert (got.data, got.table, got.cookie) == (expected, 21, 3)
        passed = bridge.through(detection)
        assert (passed.data, passed.table, passed.cookie) == (detection, 0, 1)
        assert passed.metadata.get("reg0") == 9


def test_an_arp_request_becomes_its_reply_in_flows(bridge: Bridge) -> None:
    """The recipe of the ARP responder, and the metadata that a packet brings to the controller."""
    answer: tuple[Action, ...] = (
        Move("eth_src", "eth_dst", 48),
        SetField("eth_src", int.from_bytes(OWNER, "big")),
        SetField("arp_op", 2),
        Move("arp_sha", "arp_tha", 48),
        Move("arp_spa", "arp_tpa", 32),
        SetField("arp_sha", int.from_bytes(OWNER, "big")),
        SetField("arp_spa", 0x0A000005),
        SetField("tun_metadata0", 0x100000002),
        Load("reg1", 0x33, 8, 8),
        Output(CONTROLLER, 0xFFFF),
    )
    same(bridge, [Flow(0, 100, 7, match(eth_type=0x0806, arp_op=1, arp_tpa=0x0A000005), answer)])
    bridge.send(session.set_config(bridge.next()))

    def arp(operation: int, sha: bytes, spa: int, tha: bytes, tpa: int) -> bytes:
        return struct.pack("!HHBBH6sI6sI", 1, 0x0800, 6, 4, operation, sha, spa, tha, tpa)

    question = b"\xff" * 6 + ASKER + b"\x08\x06" + arp(1, ASKER, 0x0A000001, bytes(6), 0x0A000005)
    got = bridge.through(question, 0xFFFFFFFE)
    assert got.data == ASKER + OWNER + b"\x08\x06" + arp(2, OWNER, 0x0A000005, ASKER, 0x0A000001)
    assert got.length == len(got.data)
    assert got.metadata.get("in_port") == 0xFFFFFFFE
    assert got.metadata.get("tun_metadata0") == 0x100000002
    assert got.metadata.get("reg1") == 0x3300
