"""What the controllers refuse to answer, or answer in words that this version cannot read: said once, and asked again
ever more rarely.

Controllers that are newer than this agent may stay so for days. Until the agent is upgraded everything on this host
stays as it is, each kind of call costs one line in the log and one attempt every `PAUSES[1]` seconds, and what is
refused stands among the problems of status.json. Pure; owned by `agents.core`. The answers come from `agents.calls`.
"""

import logging
import random
from dataclasses import dataclass

from agents.calls import Answer

LOG = logging.getLogger(__name__)

PAUSES = (5.0, 60.0)
"""Seconds until a refused call is repeated, at first and, doubling, at most."""


@dataclass
class _Trouble:
    text: str
    pause: float = PAUSES[0]


class Refusals:
    """By kind of call."""

    def __init__(self) -> None:
        self.count = 0
        """Refused calls since the start."""
        self._troubles: dict[str, _Trouble] = {}

    def heard(self, answer: Answer) -> None:
        """Take note of an answer, whatever it is."""
        if answer.error is None:
            if self._troubles.pop(answer.kind, None) is not None:
                LOG.info("the controllers answer a %s again", answer.kind)
            return
        self.count += 1
        text = str(answer.error.args[0] if answer.error.args else answer.error)  # without the remote side's traceback
        trouble = self._troubles.get(answer.kind)
        if trouble is None:
            self._troubles[answer.kind] = _Trouble(text)
        else:
            trouble.pause = min(trouble.pause * 2, PAUSES[1])
        if trouble is None or trouble.text != text:
            LOG.error("no answer to a %s, asked again every minute or more often: %s", answer.kind, text)
            self._troubles[answer.kind].text = text

    def pause(self, kind: str) -> float:
        """Seconds until this kind of call is worth another attempt; scattered, for all hosts fare alike."""
        trouble = self._troubles.get(kind)
        return 0.0 if trouble is None else trouble.pause * random.uniform(0.75, 1.0)

    @property
    def troubles(self) -> dict[str, str]:
        """Kind of call -> why it has no answer."""
        return {kind: trouble.text for kind, trouble in self._troubles.items()}
