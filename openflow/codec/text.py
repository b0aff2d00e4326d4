"""A flow or a group as one line, close to what `ovs-ofctl dump-flows` and `dump-groups` print, for people and tests."""

import ipaddress
from collections.abc import Callable

from openflow.actions import (
    ANY,
    CONTROLLER,
    LOCAL,
    Action,
    Conjunction,
    CtClear,
    InPort,
    Load,
    Move,
    Output,
    PopVlan,
    PushVlan,
    Resubmit,
    SetField,
    ToGroup,
    Track,
)
from openflow.fields import Field, field
from openflow.flow import Flow, GroupEntry
from openflow.match import Match

PORTS: dict[int, str] = {
    0xFFFFFFF8: "IN_PORT",
    0xFFFFFFF9: "TABLE",
    0xFFFFFFFA: "NORMAL",
    0xFFFFFFFB: "FLOOD",
    0xFFFFFFFC: "ALL",
    CONTROLLER: "CONTROLLER",
    LOCAL: "LOCAL",
    ANY: "ANY",
}


def _mac(value: int) -> str:
    return value.to_bytes(6, "big").hex(":")


_FORMS: dict[str, Callable[[int], str]] = {
    "dec": str,
    "hex": lambda value: f"{value:#x}" if value else "0",
    "ipv4": lambda value: str(ipaddress.IPv4Address(value)),
    "ipv6": lambda value: str(ipaddress.IPv6Address(value)),
    "mac": _mac,
    "port": lambda value: PORTS.get(value, str(value)),
}


def value_text(known: Field, value: int, mask: int | None = None) -> str:
    """A value of a field as people write it; with a mask, `value/mask`, or `address/length` where the mask is one."""
    if known.name == "ct_state":
        return state_text(value, known.full if mask is None else mask)
    form = _FORMS[known.form]
    if mask is None:
        return form(value)
    if known.form in ("ipv4", "ipv6"):
        zeros = (~mask & known.full).bit_length()
        if mask == known.full >> zeros << zeros:
            return f"{form(value)}/{known.bits - zeros}"
    if known.form == "dec":
        form = _FORMS["hex"]
    return f"{form(value)}/{form(mask)}"


CT_STATE: tuple[str, ...] = ("new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat")
"""The bits of ct_state from the lowest on."""


def state_text(value: int, mask: int) -> str:
    """A ct_state: `-new+est`, of the bits that matter; if all of them do, those that are set: `est|trk`, or 0."""
    if mask == 0xFF:
        return "|".join(name for bit, name in enumerate(CT_STATE) if value >> bit & 1) or "0"
    return "".join(f"{'+' if value >> bit & 1 else '-'}{name}" for bit, name in enumerate(CT_STATE) if mask >> bit & 1)


PROTOCOLS: dict[tuple[int | None, int | None], str] = {
    (0x0806, None): "arp",
    (0x0800, None): "ip",
    (0x86DD, None): "ipv6",
    (0x0800, 1): "icmp",
    (0x86DD, 58): "icmp6",
    (0x0800, 6): "tcp",
    (0x86DD, 6): "tcp6",
    (0x0800, 17): "udp",
    (0x86DD, 17): "udp6",
    (0x0800, 132): "sctp",
    (0x86DD, 132): "sctp6",
}
"""What ovs-ofctl calls an Ethernet type with an IP protocol."""

FRAGMENTS: dict[tuple[int, int | None], str] = {
    (0, None): "no",
    (1, 1): "yes",
    (1, None): "first",
    (3, None): "later",
    (0, 2): "not_later",
}
"""What ovs-ofctl calls the values (and masks) of ip_frag."""


def match_text(match: Match) -> str:
    """`arp,in_port=5,dl_src=fa:16:3e:00:00:01`; empty when everything matches."""
    exact = {known.name: value for known, value, mask in match.terms if mask is None}
    ethernet, protocol = exact.get("eth_type"), exact.get("ip_proto")
    named = PROTOCOLS.get((ethernet, protocol))
    pieces = [named] if named else []
    hidden = {"eth_type", "ip_proto"} if named else set()
    if named is None and (lower := PROTOCOLS.get((ethernet, None))):
        pieces, hidden = [lower], {"eth_type"}
    for known, value, mask in match.terms:
        if known.name == "ip_frag" and (value, mask) in FRAGMENTS:
            pieces.append(f"nw_frag={FRAGMENTS[value, mask]}")
        elif known.name not in hidden:
            pieces.append(f"{known.text}={value_text(known, value, mask)}")
    return ",".join(pieces)


IN_ACTIONS: dict[str, str] = {
    "ipv4_src": "ip_src",
    "ipv4_dst": "ip_dst",
    "ip_ecn": "nw_ecn",
    "ip_proto": "nw_proto",
    "icmpv4_type": "icmp_type",
    "icmpv4_code": "icmp_code",
}
"""Fields that ovs-ofctl calls otherwise in actions."""


def _slice(name: str, start: int, bits: int) -> str:
    known = field(name)
    name = IN_ACTIONS.get(name, name)
    if start == 0 and bits == known.slice and not known.largest:
        return f"{name}[]"
    return f"{name}[{start}]" if bits == 1 else f"{name}[{start}..{start + bits - 1}]"


PLAIN: dict[type[Action], str] = {
    InPort: "IN_PORT",
    PushVlan: "push_vlan:0x8100",
    PopVlan: "pop_vlan",
    CtClear: "ct_clear",
}
"""Actions that say no more than their name."""


def track_text(action: Track) -> str:
    """`ct(commit,table=52,zone=reg9[0..15])`; zone 0 is not said."""
    words = ["commit"] if action.commit else []
    if action.table is not None:
        words.append(f"table={action.table}")
    if action.zone:
        zone = action.zone
        words.append(f"zone={zone if isinstance(zone, int) else _slice(zone, 0, 16)}")
    return f"ct({','.join(words)})"


def action_text(action: Action) -> str:
    """One action."""
    match action:
        case InPort() | PushVlan() | PopVlan() | CtClear():
            return PLAIN[type(action)]
        case Output(port, max_len):
            name = PORTS.get(port)
            return f"CONTROLLER:{max_len}" if port == CONTROLLER else name or f"output:{port}"
        case ToGroup(group):
            return f"group:{group}"
        case Resubmit(table):
            return f"resubmit(,{table})"
        case Track():
            return track_text(action)
        case Conjunction(number, clause, of):
            return f"conjunction({number},{clause}/{of})"
        case SetField(name, value):
            return f"set_field:{value_text(field(name), value)}->{IN_ACTIONS.get(name, name)}"
        case Load(name, value, start, _):
            return f"load:{value:#x}->{_slice(name, start, action.width)}"
        case Move(src, dst, bits, src_start, dst_start):
            return f"move:{_slice(src, src_start, bits)}->{_slice(dst, dst_start, bits)}"
        case _:
            return repr(action)


def flow_text(flow: Flow) -> str:
    """`cookie=0x5e03000000000007, table=0, priority=100,in_port=5 actions=set_field:0x7->reg0,goto_table:10`."""
    what = ",".join(filter(None, (f"priority={flow.priority}", match_text(flow.match))))
    steps = [action_text(action) for action in flow.actions]
    if flow.goto is not None:
        steps.append(f"goto_table:{flow.goto}")
    return f"cookie={flow.cookie:#x}, table={flow.table}, {what} actions={','.join(steps) or 'drop'}"


def group_text(group: GroupEntry) -> str:
    """`group_id=7,type=all,bucket=actions=set_field:0x5->reg3,resubmit(,80)`."""
    buckets = "".join(
        f",bucket=actions={','.join(action_text(action) for action in bucket.actions) or 'drop'}"
        for bucket in group.buckets
    )
    return f"group_id={group.id},type=all{buckets}"
