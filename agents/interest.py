"""Which topics this host needs: a pure function of what is bound to it, and of the rules known of the groups here.

An agent that is not interested in a topic receives nothing of it and does nothing for it, so this is what keeps a
change of one segment or group from waking a whole region. Needed are the segments of the ports bound here, the rules of
their groups, and, for each group or address group that such a rule names, its members or its addresses.

`topics` is the function. `Interest` counts who needs what, so that one more port of a known segment and a known set of
groups costs nothing: the function is asked again only if `changed`. Owned by `agents.enforcement`; later resources
(routers) add their topics here.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable

from selvedge.topics import HOSTS, addresses_topic, group_topic, host_topic, members_topic, segment_topic
from selvedge.topology import Rule

Rules = Callable[[str], Iterable[Rule]]
"""The rules known of a group, by its id."""


def topics(host: str, segments: Iterable[str], groups: Iterable[str], rules: Rules) -> frozenset[str]:
    """What `host` needs for ports on these segments in these groups."""
    needed = {HOSTS, host_topic(host)}
    needed.update(map(segment_topic, segments))
    for group in groups:
        needed.add(group_topic(group))
        needed |= {topic for rule in rules(group) if (topic := remote(rule)) is not None}
    return frozenset(needed)


def remote(rule: Rule) -> str | None:
    """The topic of who is on a rule's other side, if that is not said by the rule itself."""
    if rule.remote_group is not None:
        return members_topic(rule.remote_group)
    return None if rule.remote_addresses is None else addresses_topic(rule.remote_addresses)


class Interest:
    """Who needs what."""

    def __init__(self, host: str) -> None:
        self.changed = True
        """Whether `topics` may say something else than before; whoever asks clears it, and sets it for new rules."""
        self._host = host
        self._needs: dict[Hashable, tuple[str, tuple[str, ...]]] = {}
        self._segments: Counter[str] = Counter()
        self._sets: Counter[tuple[str, ...]] = Counter()

    def need(self, who: Hashable, segment: str, groups: tuple[str, ...]) -> None:
        """From now on this is what `who` needs."""
        if self._needs.get(who) == (segment, groups):
            return
        before = self._needs.pop(who, None)
        self._needs[who] = segment, groups
        self._segments[segment] += 1
        self._sets[groups] += 1
        self.changed |= self._segments[segment] == 1 or self._sets[groups] == 1
        if before is not None:
            self._less(*before)

    def forget(self, who: Hashable) -> None:
        """`who` needs nothing any more."""
        if (before := self._needs.pop(who, None)) is not None:
            self._less(*before)

    def _less(self, segment: str, groups: tuple[str, ...]) -> None:
        self._segments[segment] -= 1
        self._sets[groups] -= 1
        if not self._segments[segment]:
            del self._segments[segment]
            self.changed = True
        if not self._sets[groups]:
            del self._sets[groups]
            self.changed = True

    @property
    def groups(self) -> frozenset[str]:
        """The groups of all who need something."""
        return frozenset().union(*self._sets)

    def topics(self, rules: Rules) -> frozenset[str]:
        """All topics that are needed now."""
        return topics(self._host, self._segments, self.groups, rules)
