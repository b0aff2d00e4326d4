"""What a step tells the log, gathered: a thousand ports that go down together are one line, not a thousand.

One line for each kind of news in a step; it names the first few and counts all. What is left out of the log stands in
`status.json` (`agents.report`). Written by `agents.core` and its
parts.
"""

import logging

LOG = logging.getLogger(__name__)

NAMED = 3
"""Whom a line names."""


class News:
    """The news of the step that runs."""

    def __init__(self) -> None:
        self._gathered: dict[tuple[int, str], list[str]] = {}

    def add(self, level: int, what: str, whom: str) -> None:
        """`what` happened to `whom`, both in words; `what` is the same for all that belong in one line."""
        self._gathered.setdefault((level, what), []).append(whom)

    def tell(self) -> None:
        """To the log, in the order of the first of each kind."""
        for (level, what), whom in self._gathered.items():
            rest = len(whom) - NAMED
            LOG.log(level, "%s: %s%s", what, "; ".join(whom[:NAMED]), f"; and {rest} more" if rest > 0 else "")
        self._gathered.clear()
