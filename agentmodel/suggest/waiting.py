"""Waiting for an answer, in a thread or a task; the question is asked again at growing intervals."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from agentmodel.exceptions import Conflict

if TYPE_CHECKING:
    from agentmodel.dynamo.models import Review
    from agentmodel.suggest.answers import Answer

__all__ = ["Waits"]

_FIRST = 0.2  # seconds until it is asked for the first time again
_MOST = 5.0


class Waits(ABC):
    """Adds waiting to what can look up answers.

    Args:
        now: Gives the present time.
        sleep: Waits some seconds.
    """

    def __init__(self, now: Callable[[], datetime], sleep: Callable[[float], None]) -> None:
        self._now = now
        self._sleep = sleep

    @abstractmethod
    def answer(self, which: Review | str) -> Answer | None:
        """The answer to a question, or None while it is open."""

    def wait(self, which: Review | str, *, timeout: float | None = None) -> Answer:
        """Wait for the answer; at the latest the question's deadline gives one.

        Args:
            which: The question.
            timeout: Seconds after which to give up; None waits until the deadline.

        Raises:
            Conflict: ``timeout`` passed first; the question stays open.
            NotFound: There is no such question.
        """
        for pause in self._pauses(timeout):
            answer = self.answer(which)
            if answer is not None:
                return answer
            self._sleep(pause)
        return self._last(which)

    async def wait_async(self, which: Review | str, *, timeout: float | None = None) -> Answer:  # noqa: ASYNC109  # as `wait`
        """As `wait`, for asyncio: other tasks go on meanwhile."""
        for pause in self._pauses(timeout):
            answer = await asyncio.to_thread(self.answer, which)
            if answer is not None:
                return answer
            await asyncio.sleep(pause)
        return await asyncio.to_thread(self._last, which)

    def _last(self, which: Review | str) -> Answer:
        answer = self.answer(which)
        if answer is None:
            raise Conflict("nobody has answered yet: the question stays open, wait for it again")
        return answer

    def _pauses(self, timeout: float | None) -> Iterator[float]:
        began, pause = self._now(), _FIRST
        while True:
            if timeout is None:
                yield pause
            else:
                left = timeout - (self._now() - began).total_seconds()
                if left <= 0:
                    return
                yield min(pause, left)
            pause = min(pause * 1.5, _MOST)
