"""A policy: the rules of one set of security groups, for all ports here that have exactly these groups.

What the rules allow is in normal form first (`openflow.rules`). A permit then is, in the table of its direction:

- *start*: packets of who started the connection, by their headers (the other side is the source of ingress);
- *answer*: packets of the other one, by the mirrored headers (and the mirrored ICMP type, if there is an answer);
- *later fragments*, where the headers that the rule asks for are in the first one only. They are allowed by what
  conntrack knows of the connection, without its ports; but none is delivered without the first, which passes or falls
  by its ports (`stages`). They have a table of their own: what conntrack knows is asked of no other packet.

So every packet of a connection is judged by the rules in force now, in both directions: a rule that goes takes its
connections with it, and one that has nothing to do with them changes nothing. Stateless groups have starts only.

The packet's direction (`ct_state` rpl) is asked where start and answer differ. Products of many other sides and many
ports are conjunctions. All of the policy's groups must be known, or nothing passes.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from openflow import pipeline as p
from openflow import rules
from openflow.compilers import packets
from openflow.fields import CT_INV, CT_RPL, CT_TRK
from openflow.flow import Action, Conjunction, Flow, SetField
from openflow.judgement import Stage
from openflow.match import Value
from openflow.relations import Node, View
from openflow.rules import ANY, Atom, Block, Permit, Piece
from selvedge.topology import Direction, Rule

Terms = dict[str, Value]

ALLOW: Final[tuple[Action, ...]] = (SetField(p.VERDICT, 1),)

START: Final = (CT_TRK, CT_TRK | CT_INV | CT_RPL)
ANSWER: Final = (CT_TRK | CT_RPL, CT_TRK | CT_INV | CT_RPL)
EITHER: Final = (CT_TRK, CT_TRK | CT_INV)

ECHOES: Final[Mapping[int, Mapping[int, int]]] = {
    4: {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17},
    6: {128: 129, 129: 128},
}
"""By IP version, the ICMP type that answers a type, as conntrack has it."""


class Side(NamedTuple):
    """A direction and IP version of rules: where the other side is in a packet that starts a connection, in its
    answer, and in what conntrack knows of a later fragment's connection; and the stage whose kinds of flows these are.
    """

    version: int
    start: str
    answer: str
    later: str
    stage: Stage

    @property
    def ip(self) -> packets.Terms:
        """The version as a term."""
        return packets.IPV6 if self.version == 6 else packets.IPV4


SIDES: Final[Mapping[tuple[Direction, int], Side]] = {
    ("egress", 4): Side(4, "ipv4_dst", "ipv4_src", "ct_nw_dst", p.SENDER),
    ("egress", 6): Side(6, "ipv6_dst", "ipv6_src", "ct_ipv6_dst", p.SENDER),
    ("ingress", 4): Side(4, "ipv4_src", "ipv4_dst", "ct_nw_src", p.RECEIVER),
    ("ingress", 6): Side(6, "ipv6_src", "ipv6_dst", "ct_ipv6_src", p.RECEIVER),
}


def compile_policy(view: View, owner: Node) -> list[Flow]:
    """All rules of one policy. Raises ValueError if its number stands for several sets of groups."""
    number = owner[1]
    assert isinstance(number, int)
    me = view.me()
    sets = view.policy(number)
    if me is None or not number or not sets or True not in view.population(me.host):
        return []
    if len(sets) > 1:
        raise ValueError(f"{number} stands for several sets of security groups")
    (groups,) = sets
    tracked = view.tracks(groups)
    if tracked is None:
        return []
    allowed: dict[Side, list[Permit]] = {side: [] for side in SIDES.values()}
    for group in groups:
        for rule in view.rules(group):
            allowed[SIDES[rule.direction, rule.version]] += _permits(view, rule)
    flows: list[Flow] = []
    for side, permits in allowed.items():
        flows += _Compiler(side, number, tracked).flows(permits)
    # Of equal flows the engine takes the first: the one of the oldest rule.
    return sorted(flows, key=_cookie)


def _cookie(flow: Flow) -> int:
    return flow.cookie


def _permits(view: View, rule: Rule) -> list[Permit]:
    protocol = ANY if rule.protocol is None else rule.protocol
    first, last = rules.span(rule)
    identities = () if rule.remote_group is None else view.identities(rule.remote_group)
    prefixes = () if rule.remote_addresses is None else view.prefixes(rule.remote_addresses)
    return [Permit(atom, protocol, first, last, rule.key) for atom in rules.atoms(rule, prefixes, identities)]


class _Compiler:
    """The flows of one policy on one side."""

    def __init__(self, side: Side, policy: int, tracked: bool) -> None:
        self._side = side
        self._tracked = tracked
        self._ours: Terms = {p.POLICY: policy, **side.ip}
        self._clauses: dict[tuple[tuple[str, Value], ...], list[tuple[int, Conjunction]]] = {}

    def flows(self, permits: list[Permit]) -> list[Flow]:
        """What the permits allow."""
        kept = rules.irredundant(permits)
        flows = self._later_fragments(kept)
        for block in rules.blocks(kept):
            atoms = sum(len(part.atoms) for part in block.parts)
            pieces = len(block.parts[0].pieces)
            if atoms * pieces > atoms + pieces + 1:
                flows.append(self._join(block))
            else:
                flows += self._product(block)
        for terms, joins in self._clauses.items():
            actions = tuple(join for _, join in sorted(joins, key=lambda item: item[1].id))
            key = min(key for key, _ in joins)
            flows.append(self._side.stage.clause.flow(p.cookie(p.Kind.RULE, key), dict(terms), actions))
        return flows

    def _product(self, block: Block) -> Iterator[Flow]:
        for part in block.parts:
            for piece, key in part.pieces:
                for atom in part.atoms:
                    for terms in self._forms(self._atom(atom), self._piece(piece)):
                        yield self._side.stage.rule.flow(p.cookie(p.Kind.RULE, key), terms, ALLOW)

    def _join(self, block: Block) -> Flow:
        """The sides of the product become clauses; the flow that is hit when both are met is returned.

        Start and answer share the number: no packet is both.
        """
        atoms = [(atom, part.key) for part in block.parts for atom in part.atoms]
        pieces = [(piece, min(dict(part.pieces)[piece] for part in block.parts)) for piece, _ in block.parts[0].pieces]
        nothing: tuple[Terms, Terms | None] = ({}, {})
        for atom, key in atoms:
            self._meet(self._forms(self._atom(atom), nothing), key, Conjunction(block.key, 1, 2))
        for piece, key in pieces:
            self._meet(self._forms(nothing, self._piece(piece)), key, Conjunction(block.key, 2, 2))
        met: Terms = {"conj_id": block.key, **self._ours}
        return self._side.stage.joined.flow(p.cookie(p.Kind.RULE, block.key), met, ALLOW)

    def _meet(self, ways: Iterator[Terms], key: int, join: Conjunction) -> None:
        for terms in ways:
            self._clauses.setdefault(tuple(terms.items()), []).append((key, join))

    def _forms(self, atom: tuple[Terms, Terms | None], piece: tuple[Terms, Terms | None]) -> Iterator[Terms]:
        """Start and answer, or one for both. An answer that is None does not exist."""
        start = {**self._ours, **atom[0], **piece[0]}
        if not self._tracked:
            yield start
            return
        if atom[1] is None or piece[1] is None:
            yield {"ct_state": START, **start}
            return
        answer = {**self._ours, **atom[1], **piece[1]}
        if answer == start:
            yield {"ct_state": EITHER, **start}
        else:
            yield {"ct_state": START, **start}
            yield {"ct_state": ANSWER, **answer}

    def _atom(self, atom: Atom) -> tuple[Terms, Terms | None]:
        """The other side as terms, in a start and in an answer."""
        return self._remote(atom, self._side.start), self._remote(atom, self._side.answer)

    def _remote(self, atom: Atom, where: str) -> Terms:
        if atom.kind == rules.IDENTITY_KIND:
            return {p.REMOTE: atom.value}
        return {where: (atom.value, atom.mask)} if atom.kind == rules.PREFIX_KIND else {}

    def _piece(self, piece: Piece) -> tuple[Terms, Terms | None]:
        """Protocol and ports as terms, in a start and in an answer."""
        protocol, value, mask = piece
        if protocol == ANY:
            return {}, {}
        known: Terms = {"ip_proto": protocol}
        if not mask:
            return known, known
        name = rules.PORTS.get(protocol)
        if name is not None:
            ports = (value, mask)
            return {**known, f"{name}_dst": ports}, {**known, f"{name}_src": ports}
        answer = ECHOES[self._side.version].get(value >> 8)
        start = {**known, **self._icmp(value >> 8, value & 0xFF, mask)}
        return start, None if answer is None else {**known, **self._icmp(answer, value & 0xFF, mask)}

    def _icmp(self, kind: int, code: int, mask: int) -> Terms:
        name = f"icmpv{self._side.version}"
        return {f"{name}_type": kind, f"{name}_code": code} if mask & 0xFF else {f"{name}_type": kind}

    def _later_fragments(self, permits: list[Permit]) -> list[Flow]:
        """A later fragment has no ports, and of IPv6 not even its protocol: conntrack knows that, a stateless policy
        does not. (Open vSwitch takes a match of protocol 0, but forgets it.)"""
        six = self._side.version == 6
        wanted: dict[tuple[Atom, int], int] = {}
        for atom, protocol, first, last, key in permits:
            if protocol == ANY or (not six and (first, last) == (0, rules.LARGEST)):
                continue
            if self._tracked and not protocol:
                continue
            known = ANY if six and not self._tracked else protocol
            wanted[atom, known] = min(key, wanted.get((atom, known), key))
        whole = [Permit(atom, known, 0, rules.LARGEST, key) for (atom, known), key in wanted.items()]
        return [self._later_fragment(permit) for permit in rules.irredundant(whole)]

    def _later_fragment(self, permit: Permit) -> Flow:
        atom, protocol = permit.atom, permit.protocol
        terms: Terms = dict(self._ours)
        if self._tracked:
            terms |= {"ct_state": EITHER, "ct_nw_proto": protocol, **self._remote(atom, self._side.later)}
        else:
            terms |= self._remote(atom, self._side.start)
            if protocol != ANY:
                terms["ip_proto"] = protocol
        return self._side.stage.later_rule.flow(p.cookie(p.Kind.RULE, permit.key), terms, ALLOW)
