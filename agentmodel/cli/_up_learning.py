"""Let a running local stack learn by itself: refresh and publish soon after its first sessions, then at intervals."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from datetime import UTC, datetime

from agentmodel.cache import Drained
from agentmodel.cli._output import Output
from agentmodel.client import AgentModel
from agentmodel.exceptions import AgentModelError

__all__ = ["Learning"]

_FIRST = 10.0  # seconds from the first records to the first time, so that their session has mostly ended
_AGAIN = 60.0  # seconds after a failure, such as where another process has the warehouse
_LOOK = 0.5  # seconds between two looks at the clock


class _Stopped(Exception):  # no error: what is under way is rolled back
    """The stack stops while it learns."""


class Learning:
    """Refreshes the warehouse and publishes its scores, in a thread.

    Args:
        model: The installation.
        every: Seconds between two times; 0 for never.
        out: Prints the line that says what was done; on stderr where stdout is JSON.
    """

    def __init__(self, model: AgentModel, *, every: float, out: Output) -> None:
        self._model, self._every, self._out = model, every, out
        self._due = time.monotonic() + every
        self._has_records = False

    def drained(self, done: Drained) -> None:
        """Take what was drained so far: the first records are learned from soon."""
        if done.written and not self._has_records:
            self._has_records = True
            self.soon()

    def soon(self) -> None:
        """Learn in a moment."""
        self._due = min(self._due, time.monotonic() + _FIRST)

    def run(self, stop: threading.Event) -> None:
        """Learn when it is time, until the event is set; what is under way then is rolled back."""
        while self._every and not stop.wait(_LOOK):
            if time.monotonic() >= self._due:
                pause = self._learn(stop)
                self._due = time.monotonic() + pause

    def _learn(self, stop: threading.Event) -> float:
        """Learn, and say what was done; return the seconds to the next time."""

        def going_on(*_: object) -> None:
            if stop.is_set():
                raise _Stopped

        try:
            with closing(self._model.warehouse):  # another process may refresh it afterwards
                landed = self._model.refresh(progress=going_on).landed
                published = self._model.publish(progress=going_on)
        except _Stopped:
            return self._every
        except AgentModelError as error:
            pause = min(self._every, _AGAIN)
            told = "{at} UTC: learning failed and is tried again in {pause} seconds: {error}"
            self._print(self._out.say(told, at=_now(), pause=f"{pause:.0f}", error=error))
            return pause
        changed = 0 if landed is None else landed.changed
        if changed:
            told = (
                "{at} UTC: learned from {changed} new or changed items; updated agents: {agents}, tools: {tools}, "
                "plans of users: {plans}"
            )
            found = {"agents": published.agents, "tools": published.tools, "plans": published.mappings}
            self._print(self._out.say(told, at=_now(), changed=changed, **found))
        return self._every

    def _print(self, text: str) -> None:
        (self._out.note if self._out.as_json else self._out.line)(text)


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
