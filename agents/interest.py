"""Which topics this host needs: a pure function of what is bound to it.

An agent that is not interested in a topic receives nothing of it and does nothing for it, so this function is what
keeps a change of one segment from waking a whole region. Later resources (routers, groups) add their topics here.
"""

from collections.abc import Iterable

from selvedge.topics import HOSTS, host_topic, segment_topic
from selvedge.topology import Binding


def topics(host: str, bindings: Iterable[Binding]) -> frozenset[str]:
    """The tunnel end points, what is bound to `host`, and every segment that has a port bound here."""
    return frozenset({HOSTS, host_topic(host)}) | {segment_topic(binding.segment) for binding in bindings}
