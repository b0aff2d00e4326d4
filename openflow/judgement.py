"""The two stages of judgement as data: the sender's and the receiver's do the same, in tables of their own.

A `Stage` names its tables, the register that has the zone of the endpoint whose stage it is, and its kinds of flows.
`openflow.pipeline` has both (`SENDER`, `RECEIVER`), `openflow.compilers.stages` makes the flows that all endpoints
share, `openflow.compilers.policy` those of the rules.
"""

from dataclasses import dataclass, fields

from openflow.declaration import Family, Table

FRAGMENT_WHY = "looked up elsewhere, so that no other packet's cached flow depends on what only these are asked"
ONE_BY_ONE = (
    "conntrack keeps fragments until all are there: each goes on by itself, or the first would take the last one's way"
)


@dataclass(frozen=True, eq=False)
class Stage:
    """The kinds of flows of one stage, in the order of their tables, and where the packet goes."""

    zone: str
    onward: Table
    """Whither what is allowed goes."""

    basics: Family
    untracked: Family
    tracked: Family
    in_parts: Family
    related: Family
    forth: Family
    back: Family
    rule: Family
    clause: Family
    joined: Family
    later: Family
    later_rule: Family
    stateless: Family
    new_fragment: Family
    new: Family
    known_fragment: Family
    known: Family

    @property
    def families(self) -> tuple[Family, ...]:
        """All kinds of flows."""
        found = (getattr(self, field.name) for field in fields(self))
        return tuple(thing for thing in found if isinstance(thing, Family))


def stage(
    who: str, *, zone: str, onward: Table, track: Table, state: Table, policy: Table, fragments: Table, verdict: Table
) -> Stage:
    """The stage of `who` (the word for it: sender, receiver). What passes without rule is told by `track`'s purpose."""
    alone = f"the {who}'s groups are stateless: rules alone decide"
    return Stage(
        zone=zone,
        onward=onward,
        basics=Family(track, "basics", 100, "base", "ARP, DHCP, neighbour discovery, multicast listeners, routers"),
        untracked=Family(track, "stateless", 90, "base", f"{alone}; but fragments are tracked"),
        tracked=Family(track, "stateful", 80, "base", f"which connection is it of, in the {who}'s zone"),
        in_parts=Family(state, "stateless", 110, "base", f"a fragment, and {alone}"),
        related=Family(state, "related", 100, "base", "ICMP errors about a connection"),
        forth=Family(state, "forth", 100, "base", "the packet's sender started the connection"),
        back=Family(state, "back", 100, "base", "the packet's receiver started the connection, and gets an answer"),
        rule=Family(policy, "rule", 100, "policy", "(policy, other side, protocol and ports) is allowed"),
        clause=Family(policy, "clause", 90, "policy", "one side of a product: who, or protocol and ports"),
        joined=Family(policy, "product", 90, "policy", "all clauses are met"),
        later=Family(policy, "later fragment", 10, "base", FRAGMENT_WHY),
        later_rule=Family(fragments, "rule", 100, "policy", "(policy, other side, protocol) is allowed"),
        stateless=Family(verdict, "stateless", 120, "base", "allowed; there is no connection to remember"),
        new_fragment=Family(verdict, "new fragment", 115, "base", ONE_BY_ONE),
        new=Family(verdict, "new", 110, "base", "allowed, and the first of its connection"),
        known_fragment=Family(
            verdict, "fragment", 105, "base", "allowed if all others of its datagram are, for which conntrack keeps it"
        ),
        known=Family(verdict, "known", 100, "base", "allowed, of a connection that is remembered"),
    )
