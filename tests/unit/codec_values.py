"""Random values of the codec that Open vSwitch takes, for property tests here and on a real switch.

A match starts from a context (the prerequisites of some protocol) and adds any fields that the context allows; actions
are those that the match allows.
"""

from typing import Any

from hypothesis import strategies as st

from openflow.fields import BY_NAME, CT_INV, CT_TRK, TABLE, Field
from openflow.flow import (
    CONTROLLER,
    LOCAL,
    Action,
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
    ToGroup,
    Track,
    match,
)
from openflow.match import Value

TRACKED = (CT_TRK, CT_TRK | CT_INV)
"""A ct_state that says that there is a connection."""

CONTEXTS: tuple[dict[str, Value], ...] = (
    {},
    {"eth_type": 0x88CC},
    {"eth_type": 0x0806},
    {"eth_type": 0x0800},
    {"eth_type": 0x86DD},
    {"eth_type": 0x8847},
    {"eth_type": 0x0800, "ip_proto": 89},
    {"eth_type": 0x0800, "ip_proto": 6},
    {"eth_type": 0x86DD, "ip_proto": 6},
    {"eth_type": 0x0800, "ip_proto": 17},
    {"eth_type": 0x86DD, "ip_proto": 17},
    {"eth_type": 0x0800, "ip_proto": 132},
    {"eth_type": 0x86DD, "ip_proto": 132},
    {"eth_type": 0x0800, "ip_proto": 1},
    {"eth_type": 0x86DD, "ip_proto": 58},
    {"eth_type": 0x86DD, "ip_proto": 58, "icmpv6_type": 135, "icmpv6_code": 0},
    {"eth_type": 0x86DD, "ip_proto": 58, "icmpv6_type": 136, "icmpv6_code": 0},
    {"ct_state": TRACKED, "ct_nw_proto": 6},
    {"eth_type": 0x0800, "ip_proto": 6, "ct_state": TRACKED, "ct_nw_proto": 6},
    {"eth_type": 0x86DD, "ct_state": TRACKED, "ct_nw_proto": 58},
)

GROUPS = (1, 2, 3)
"""Groups that a switch must have for `flows`."""

PORTS = st.one_of(st.integers(1, 0xFEFF), st.sampled_from([LOCAL, CONTROLLER]))
SPECIAL = (InPort(), Output(CONTROLLER, 0xFFFF), Output(CONTROLLER, 128), Output(LOCAL))
MASK = 0xFFFFFFFFFFFFFFFF

ZONES = st.one_of(st.integers(0, 0xFFFF), st.sampled_from(["reg9", "metadata", "ct_zone"]))
NEXT = st.one_of(st.none(), st.integers(0, 254))


def allowed(known: Field, context: dict[str, Any]) -> bool:
    """Whether the context meets the field's prerequisites."""
    if known.connected and context.get("ct_state") != TRACKED:
        return False
    return all(context.get(needed) in values for needed, values in known.requires)


def context_of(known: Field) -> dict[str, Value]:
    """The least match that a field needs beside it."""
    needs: dict[str, Value] = {needed: min(values) for needed, values in known.requires}
    if known.connected:
        needs["ct_state"] = TRACKED
    if known.name == "vlan_pcp":
        needs["vlan_vid"] = 0x1064
    return needs


@st.composite
def values(draw: st.DrawFn, known: Field) -> Value:
    """A number, or a (number, mask), that the field may be matched for."""
    if known.form == "port":
        return draw(PORTS)
    if known.name == "vlan_vid":
        vlan = draw(st.integers(0, 4095))
        choices: list[Value] = [0, 0x1000 | vlan, (0x1000, 0x1000), (0x1000 | vlan & 0xFF0, 0x1FF0)]
        return draw(st.sampled_from(choices))
    if known.name == "ip_frag":
        worded: list[Value] = [0, 1, 3, (1, 1), (0, 2)]  # those that ovs-ofctl has words for
        return draw(st.sampled_from(worded))
    if known.name == "ct_nw_proto":
        return draw(st.integers(1, known.full))
    number = draw(st.one_of(st.integers(0, known.full), st.sampled_from([0, 1, known.full])))
    if known.maskable and draw(st.booleans()):
        length = draw(st.integers(0, known.bits))
        mask = known.full >> length << length
        if known.form != "ipv6":  # of which ovs-ofctl reads many masks as a prefix length
            mask = draw(st.sampled_from([mask, draw(st.integers(0, known.full))]))
        return number & mask, mask
    return number


@st.composite
def terms(draw: st.DrawFn) -> dict[str, Value]:
    """Arguments of `match`."""
    context: dict[str, Value] = dict(draw(st.sampled_from(CONTEXTS)))
    free = [
        known for known in TABLE if known.name not in (*context, "eth_type", "ip_proto") and allowed(known, context)
    ]
    # The type of a neighbour message brings other fields with it; it comes with its context only.
    free = [known for known in free if not known.name.startswith("icmpv6_")]
    chosen = draw(st.lists(st.sampled_from(free), max_size=8, unique=True)) if free else []
    for known in chosen:
        context[known.name] = draw(values(known))
    if "vlan_pcp" in context:
        context["vlan_vid"] = 0x1000 | draw(st.integers(0, 4095))
    if "ip_frag" in context and any("ip_proto" in dict(BY_NAME[name].requires) for name in context):
        del context["ip_frag"]
    names = draw(st.permutations(sorted(context)))
    return {name: context[name] for name in names}


def matches() -> st.SearchStrategy[Match]:
    """Any match of the vocabulary."""
    return terms().map(lambda chosen: match(**chosen))


def tracking(context: Match | None) -> st.SearchStrategy[Action]:
    """What a flow may have the connection tracker do: nothing unless it is for IP, and no commit of what is invalid."""
    state = context.get("ct_state") if context else None
    number = state[0] if isinstance(state, tuple) else state or 0
    if context and context.get("eth_type") not in (0x0800, 0x86DD):
        return st.just(CtClear())
    commits = st.just(False) if number & CT_INV else st.booleans()
    return st.one_of(st.builds(Track, ZONES, NEXT, commits), st.just(CtClear()))


@st.composite
def actions_for(draw: st.DrawFn, context: Match | None = None, groups: bool = True) -> tuple[Action, ...]:
    """Up to six actions that fit a match (none: a bucket, where there is no match)."""
    known_terms = {known.name: value for known, value, mask in context.terms if mask is None} if context else {}
    if "ip_frag" in known_terms:
        known_terms.pop("ip_proto", None)  # a later fragment has no ports to write
    usable = [known for known in TABLE if allowed(known, known_terms) and known.name not in ("vlan_vid", "vlan_pcp")]
    settable = [known for known in usable if known.settable and not known.name.startswith(("icmpv6", "nd_"))]
    settable = [known for known in settable if not known.name.startswith("mpls")]
    loadable = [known for known in settable if known.slice]
    readable = [known for known in usable if known.slice and known.name != "in_port"]
    result: list[Action] = []
    tags = 0
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.integers(0, 10))
        if kind == 0:
            result.append(Output(draw(st.integers(1, 0xFEFF))))
        elif kind == 1:
            result.append(draw(st.sampled_from(SPECIAL)))
        elif kind == 2 and groups:
            result.append(ToGroup(draw(st.sampled_from(GROUPS))))
        elif kind == 3:
            result.append(Resubmit(draw(st.integers(0, 254))))
        elif kind == 4 and tags < 1:
            tags += 1
            result += [PushVlan(), SetField("vlan_vid", 0x1000 | draw(st.integers(0, 4095)))]
        elif kind == 5 and tags:
            tags -= 1
            result.append(PopVlan())
        elif kind == 6:
            target = draw(st.sampled_from(loadable))
            start = draw(st.integers(0, target.slice - 1))
            bits = draw(st.integers(1, min(64, target.slice - start)))
            result.append(Load(target.name, draw(st.integers(0, (1 << bits) - 1)), start, bits))
        elif kind == 7:
            source, target = draw(st.sampled_from(readable)), draw(st.sampled_from(loadable))
            bits = draw(st.integers(1, min(source.slice, target.slice)))
            source_start = draw(st.integers(0, source.slice - bits))
            result.append(Move(source.name, target.name, bits, source_start, draw(st.integers(0, target.slice - bits))))
        elif kind == 8:
            result.append(draw(tracking(context)))
        else:
            target = draw(st.sampled_from(settable))
            result.append(SetField(target.name, draw(st.integers(0, target.full))))
    return tuple(result)


@st.composite
def conjunctions(draw: st.DrawFn) -> tuple[Action, ...]:
    """What a flow may do that is part of conjunctions: nothing else."""
    sizes = draw(st.lists(st.integers(2, 64), min_size=1, max_size=4))
    return tuple(Conjunction(draw(st.integers(0, 0xFFFFFFFF)), draw(st.integers(1, of)), of) for of in sizes)


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    """Any flow of the vocabulary that Open vSwitch takes."""
    chosen = draw(matches())
    table = draw(st.integers(0, 253))
    goto = draw(st.one_of(st.none(), st.integers(table + 1, 254)))
    cookie = draw(st.integers(0, MASK - 1))
    priority = draw(st.integers(0, 0xFFFF))
    if draw(st.integers(0, 5)) == 0:
        return Flow(table, priority, cookie, chosen, draw(conjunctions()))
    return Flow(table, priority, cookie, chosen, draw(actions_for(chosen)), goto)


@st.composite
def groups(draw: st.DrawFn) -> GroupEntry:
    """A group of up to five buckets."""
    buckets = draw(st.lists(actions_for(groups=False).map(Bucket), max_size=5))
    return GroupEntry(draw(st.integers(10, 0xFFFFFF00)), tuple(buckets))
