"""What users were told and may rely on: each resource that the API has answered for, and what it must be at the end.

One writer per model (a user of `users`). An answered request is a fact. One without an answer may have been carried
out, may be still under way in a controller that is paused, or not at all: of a change both values are possible from
then on, a creation may have left something (and once more for each attempt), a deletion counts when it is answered.
`compare` holds the facts against what the API lists, in words; `doubles` needs no model: no address, MAC, VNI or VLAN
is there twice.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Resource = Mapping[str, Any]

PREFIX = "chaos "
"""Of the name, or for rules the description, of everything that a user makes."""

LABEL = {"security_group_rule": "description"}
"""Where a kind's name stands; `name` for all others."""


@dataclass
class Thing:
    """One resource. `values` are the last answered ones, `maybe` those of requests that were never answered."""

    kind: str
    id: str
    name: str
    values: dict[str, Any]
    maybe: defaultdict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def wrong(self, found: Resource) -> list[str]:
        """What is not as it was answered."""
        return [
            f"{self.kind} {self.name!r} {self.id}: {key} is {plain(found[key])!r}, and {value!r} was answered"
            for key, value in self.values.items()
            if plain(found[key]) not in (value, *self.maybe[key])
        ]


class Model:
    """See the module."""

    def __init__(self) -> None:
        self.things: dict[str, Thing] = {}
        self.gone: dict[str, Thing] = {}
        self.uncertain: set[str] = set()

    def made(self, kind: str, name: str, found: Resource, *keys: str) -> Thing:
        """A creation was answered, with these attributes."""
        thing = Thing(kind, found["id"], name, {key: plain(found[key]) for key in keys})
        self.things[thing.id] = thing
        return thing

    def unanswered(self, name: str) -> None:
        """A creation of this name was not: there may be one more of it."""
        self.uncertain.add(name)

    def attempted(self, thing: Thing, key: str, value: Any) -> None:
        """A change was not answered."""
        thing.maybe[key].append(plain(value))

    def changed(self, thing: Thing, key: str, value: Any) -> None:
        """A change was answered."""
        thing.values[key] = plain(value)

    def deleted(self, thing: Thing) -> None:
        """A deletion was answered."""
        self.gone[thing.id] = self.things.pop(thing.id)

    def of(self, kind: str) -> list[Thing]:
        """In the order of their making."""
        return [thing for thing in self.things.values() if thing.kind == kind]


def plain(value: Any) -> Any:
    """A value as it is compared: lists of the API have no order."""
    return tuple(sorted(map(str, value))) if isinstance(value, list | tuple) else value


def compare(models: Iterable[Model], lists: Mapping[str, Iterable[Resource]]) -> list[str]:
    """Changes that are lost, or there although nobody made them; `lists` are the API's, by kind."""
    models = list(models)
    found = {resource["id"]: (kind, resource) for kind, resources in lists.items() for resource in resources}
    known = {identity for model in models for identity in (*model.things, *model.gone)}
    uncertain = {name for model in models for name in model.uncertain}
    wrong = []
    for model in models:
        for thing in model.things.values():
            if thing.id not in found:
                wrong.append(f"{thing.kind} {thing.name!r} {thing.id} was answered and is not there")
            else:
                wrong += thing.wrong(found[thing.id][1])
        wrong += [
            f"{thing.kind} {thing.name!r} {thing.id} is there, and its deletion was answered"
            for thing in model.gone.values()
            if thing.id in found
        ]
    for identity, (kind, resource) in found.items():
        name = str(resource.get(LABEL.get(kind, "name")) or "")
        if name.startswith(PREFIX) and identity not in known and name not in uncertain:
            wrong.append(f"{kind} {name!r} {identity} is there, and nobody has made it")
    return wrong


def doubles(lists: Mapping[str, Iterable[Resource]]) -> list[str]:
    """What was handed out twice."""
    seen: dict[tuple[Any, ...], str] = {}
    wrong = []
    taken: list[tuple[tuple[Any, ...], str]] = []
    for port in lists["port"]:
        taken.append((("MAC", port["network_id"], port["mac_address"]), port["id"]))
        taken += [(("address", fixed["subnet_id"], fixed["ip_address"]), port["id"]) for fixed in port["fixed_ips"]]
    for network in lists["network"]:
        segment = [network[f"provider:{key}"] for key in ("network_type", "physical_network", "segmentation_id")]
        taken.append((("segment", *segment), network["id"]))
    for key, identity in taken:
        if key in seen:
            wrong.append(f"{' '.join(map(str, key))} is of {seen[key]} and of {identity}")
        seen[key] = identity
    return wrong
