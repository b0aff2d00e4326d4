"""The agent's core in any order of events, with losses, repetitions and restarts: one state in the end."""

from collections import deque
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.session import FeedMessages
from selvedge.topology import Rule
from tests.unit.surroundings import HERE, SEGMENTS, World

PORTS = [1, 2, 3, 4]
SOURCES = ["database", "switch", "feed", "report", "subscribe", "claim", "wired"]
names = st.sampled_from(PORTS).map(lambda number: f"p{number}")
sets = st.sets(st.sampled_from(["web", "db"])).map(lambda groups: tuple(sorted(groups)))
rules = st.sampled_from([(1, "web"), (2, "web"), (3, "db"), (4, "db")])
remotes = st.sampled_from([{}, {"cidr": "10.0.0.0/8"}, {"remote_group": "web"}, {"remote_addresses": "office"}])
actions = st.one_of(
    st.tuples(st.just("deliver"), st.sampled_from(SOURCES), st.integers(1, 5)),
    st.tuples(st.just("deliver"), st.sampled_from(SOURCES), st.integers(1, 5)),
    st.tuples(
        st.just("create"),
        st.sampled_from(PORTS),
        st.sampled_from(sorted(SEGMENTS)),
        st.sampled_from([None, HERE, "hv2"]),
    ),
    st.tuples(st.just("bind"), names, st.sampled_from([None, HERE, "hv2", "hv3"])),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("plug"), names),
    st.tuples(st.just("unplug"), names),
    st.tuples(st.just("number")),
    st.tuples(st.just("address"), names, st.integers(50, 52)),
    st.tuples(st.just("admin"), names, st.booleans()),
    st.tuples(st.just("segment"), st.sampled_from(sorted(SEGMENTS)), st.booleans()),
    st.tuples(st.just("groups"), names, sets),
    st.tuples(st.just("groups"), names, sets),
    st.tuples(st.just("secure"), names, st.booleans()),
    st.tuples(st.just("rule"), rules, remotes),
    st.tuples(st.just("unrule"), rules),
    st.tuples(st.just("lose")),
    st.tuples(st.just("repeat")),
    st.tuples(st.just("broker"), st.booleans()),
    st.tuples(st.just("vswitchd")),
    st.tuples(st.just("agent")),
    st.tuples(st.just("controllers"), st.booleans()),
    st.tuples(st.just("headless")),
    st.tuples(st.just("pause"), st.sampled_from([0.05, 0.2, 1.0, 31.0])),
)


def act(world: World, action: tuple[Any, ...]) -> None:
    """Do one thing, if it makes sense at the moment."""
    verb, *rest = action
    ports, rows = world.controller.ports, world.rows.tables
    feed = world.queues.get("feed", deque())
    heard = bool(feed) and isinstance(feed[-1], FeedMessages)
    bridged = any(row["name"] == "br-int" for row in rows["Bridge"].values())
    known = bool(rest) and rest[0] in ports
    deeds: dict[str, tuple[bool, Callable[..., object]]] = {
        "deliver": (True, world.deliver),
        "create": (bool(rest) and f"p{rest[0]}" not in ports, world.controller.create),
        "bind": (known, world.controller.bind),
        "delete": (known, world.controller.delete),
        "plug": (bridged and bool(rest) and not world.plugged(rest[0]), world.plug),
        "unplug": (bool(rest) and world.plugged(rest[0]), world.unplug),
        "number": (True, world.number),
        "address": (known, lambda name, last: world.controller.update(name, addresses=(f"10.0.0.{last}",))),
        "admin": (known, lambda name, up: world.controller.update(name, up=up)),
        "segment": (True, lambda name, up: world.controller.update_segment(name, up=up)),
        "groups": (
            known and ports[rest[0]].endpoint.secure,
            lambda name, groups: world.controller.update(name, groups=groups),
        ),
        "secure": (known, lambda name, secure: world.controller.update(name, secure=secure, groups=())),
        "rule": (True, lambda rule, remote: world.controller.rule(*rule, **remote)),
        "unrule": (True, lambda rule: world.controller.delete_rule(*rule)),
        "lose": (heard, feed.pop),
        "repeat": (heard, lambda: feed.append(feed[-1])),
        "broker": (True, world.feed_breaks),
        "vswitchd": (True, world.switch.restart),
        "agent": (True, world.start),
        "headless": (True, world.run_headless),
        "controllers": (True, lambda there: world.controllers_come() if there else world.controllers_go()),
        "pause": (True, world.pause),
    }
    sensible, deed = deeds[verb]
    if sensible:
        deed(*rest)


begins = st.lists(
    st.tuples(st.sampled_from(sorted(SEGMENTS)), st.sampled_from([HERE, None, "hv2"]), st.booleans(), sets),
    min_size=len(PORTS),
    max_size=len(PORTS),
)
"""Segment, host, whether it is plugged, and groups, of each port."""


@given(begins, st.booleans(), st.lists(actions, min_size=12, max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_order_ends_in_the_same_state(
    begin: list[tuple[Any, ...]], rested: bool, actions: list[tuple[Any, ...]]
) -> None:
    """Whatever happens in whatever order, with losses, repetitions, restarts, and nobody who answers for a while: in
    the end the switch has exactly what a full compilation gives, every plugged port without a host is claimed, and the
    API tells what is true. No conntrack zone goes from one port to another without a flush, and in the end only ports
    that are bound here have one."""
    world = World()
    world.controller.addresses("office", "198.51.100.0/24")
    for group in ("web", "db"):
        world.controller.group(group, Rule(f"r-{group}", 800 + len(group), group, "ingress", 4, remote_group=group))
    for number, (segment, host, plugged, groups) in zip(PORTS, begin, strict=True):
        world.controller.create(number, segment, host, groups=groups)
        if plugged:
            act(world, ("deliver", "database", 5))
            act(world, ("plug", f"p{number}"))
    if rested:
        world.settle(reports=0)
    for action in actions:
        act(world, action)
    world.controllers_come()
    world.settle(reports=3)
    world.check()
    assert world.zones().keys() == {name for name, port in world.controller.ports.items() if port.host == HERE}
    for name, port in world.controller.ports.items():
        assert port.host is not None or not world.plugged(name), f"{name} is plugged, free and not claimed"
