"""What a check compares on a host, each step a pure function: database → replica → facts → flows.

    differing     what a controller read of a topic just now, with what this host has of it
    interest      the topics that the database says this host needs, with those it follows
    unfaithful    what the topics say, with what the engine was told
    miscompiled   what a fresh engine makes of the same facts, with what is wanted of the switch

The last step, flows → switch, is `openflow.drift`. What is still on its way is no difference: whatever a message
`touched` since the question was asked is left out. `agents.checks` asks, waits and puts the answers together.
"""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from agents.conditions import named
from agents.interest import topics
from agents.topics import TopicState
from openflow.batch import Key
from openflow.drift import place
from openflow.facts import Fact, Patch, Plug, Posture, Self, TunnelPort, Zone
from openflow.incremental import Engine
from openflow.programmer import Wanted
from selvedge.topics import Snapshot, host_topic
from selvedge.topology import Binding, Object, Ref, Rule, ref


class Finding(NamedTuple):
    """Something is not as it should be: between which two of the chain, how, the tenant's object, and details."""

    step: str
    kind: str
    object: str
    detail: str = ""


def differing(snapshot: Snapshot, state: TopicState, touched: Container[Ref]) -> Iterator[Finding]:
    """`snapshot`: of the database."""
    there = {ref(thing): thing for thing in snapshot.objects}
    for name in there.keys() - state.objects.keys():
        if name not in touched:
            yield Finding("database", "missing", _words(name), f"topic {snapshot.topic}: not known to the host")
    for name, thing in state.objects.items():
        if name in touched or there.get(name) == thing:
            continue
        if name not in there:
            yield Finding("database", "unknown", _words(name), f"topic {snapshot.topic}: not in the database")
        else:
            yield Finding("database", "altered", _words(name), _fields(thing, there[name]))


def needed(host: str, snapshots: Mapping[str, Snapshot], touched: Container[Ref] = ()) -> frozenset[str]:
    """The topics that a host needs, as far as these snapshots tell, for what was not touched."""
    here = snapshots[host_topic(host)].objects if host_topic(host) in snapshots else ()
    bindings = [thing for thing in here if isinstance(thing, Binding) and ref(thing) not in touched]
    rules: dict[str, list[Rule]] = {}
    for snapshot in snapshots.values():
        for thing in snapshot.objects:
            if isinstance(thing, Rule) and ref(thing) not in touched:
                rules.setdefault(thing.group, []).append(thing)
    segments = {binding.segment for binding in bindings}
    groups = {group for binding in bindings for group in binding.groups}
    return topics(host, segments, groups, lambda group: rules.get(group, ()))


def interest(wanted: Collection[str], followed: Collection[str]) -> Iterator[Finding]:
    """Topics of which the host hears nothing although it should."""
    for topic in sorted(set(wanted) - set(followed)):
        yield Finding("interest", "missing", f"topic {topic}", "needed by a port that is bound here, and not followed")


def unfaithful(known: Iterable[Object], engine: Engine) -> Iterator[Finding]:
    """`known`: all objects of all topics."""
    left = {name: fact for name, fact in engine.facts().items() if not isinstance(fact, _LOCAL)}
    for thing in known:
        name = ref(thing)
        fact = left.pop(name, None)
        if fact != thing:
            yield Finding("facts", "missing" if fact is None else "altered", _words(name))
    for stray in left:
        yield Finding("facts", "unknown", named(stray))


def miscompiled(engine: Engine, wanted: Mapping[Key, Wanted]) -> Iterator[Finding]:
    """Costs a whole compilation."""
    fresh = Engine()
    fresh.apply(engine.facts().values())
    fresh.recompute()
    owners = fresh.owners()
    should: dict[Key, Wanted] = {}
    should.update(fresh.flows().items())
    should.update(fresh.groups().items())
    for key, entry in should.items():
        there = wanted.get(key)
        if there is None or there.body != entry.body:
            yield Finding("flows", "missing" if there is None else "altered", named(owners[key]), place(key))
    for key in wanted.keys() - should.keys():
        yield Finding("flows", "unknown", "nothing asks for it", place(key))


_LOCAL = (Plug, TunnelPort, Patch, Self, Zone, Posture)


def _words(name: Ref) -> str:
    return f"{name.kind} {name.id}"


def _fields(here: Fact, there: Fact) -> str:
    """Which fields differ, and how."""
    pairs = ((field, getattr(here, field), getattr(there, field, None)) for field in here.__struct_fields__)
    return "; ".join(f"{field}: {mine!r} here, {its!r} in the database" for field, mine, its in pairs if mine != its)
