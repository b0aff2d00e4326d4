"""A switch's answer to "what do you have": groups and flows, in as many parts as it likes.

Asked once when a connection begins and again for every audit, by `openflow.channel`; pure.
"""

from dataclasses import dataclass, field

from openflow.codec import flows, frames, groups
from openflow.pipeline import MARKER


@dataclass
class Reading:
    """A dump under way: the numbers of its two questions (groups, flows), which are open, and what came so far."""

    xids: tuple[int, int]
    open: set[int]
    flows: dict[bytes, bytes] = field(default_factory=dict)
    groups: dict[int, bytes] = field(default_factory=dict)

    def take(self, message: bytes) -> bool:
        """One part of an answer; whether it was the last of both."""
        xid = frames.xid_of(message)
        if xid == self.xids[0]:
            more = groups.read_groups(message, self.groups)
        else:
            more = flows.read_flows(message, self.flows)
        if not more:
            self.open.discard(xid)
        return not self.open

    def told(self) -> tuple[dict[bytes, bytes], dict[int, bytes], dict[bytes, bytes]]:
        """Flows of ours, groups, flows of others."""
        foreign = {key: body for key, body in self.flows.items() if body[0] != MARKER}
        for key in foreign:
            del self.flows[key]
        return self.flows, self.groups, foreign
