"""Waiting for an answer in a thread or a task, by polling at growing intervals."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from agentmodel.exceptions import Conflict

if TYPE_CHECKING:
    from agentmodel.dynamo.models import Review
    from agentmodel.suggest.review._decision import Answer

__all__ = ["Polling"]

_FIRST_PAUSE, _MAX_PAUSE = 0.2, 5.0  # seconds


class Polling(ABC):
    """Adds waiting to a class that can look up answers.

    Args:
        now: Returns the present time.
        sleep: Waits some seconds.
    """

    def __init__(self, now: Callable[[], datetime], sleep: Callable[[float], None]) -> None:
        self._now = now
        self._sleep = sleep

    @abstractmethod
    def answer(self, which: Review | str) -> Answer | None:
        """Return the answer to a question, or None while it is open."""

    def wait(self, which: Review | str, *, timeout: float | None = None) -> Answer:
        """Wait for the answer; the deadline of the question gives one at the latest.

        Args:
            which: The question.
            timeout: Seconds to wait at most; None waits until the deadline.

        Raises:
            Conflict: ``timeout`` has passed; the question stays open.
            NotFound: There is no such question.
        """
        for pause in self._pauses(timeout):
            answer = self.answer(which)
            if answer is not None:
                return answer
            self._sleep(pause)
        return self._answer_or_raise(which)

    async def wait_async(self, which: Review | str, *, timeout: float | None = None) -> Answer:  # noqa: ASYNC109  # as `wait`
        """Do the same as `wait`, for asyncio: other tasks run meanwhile."""
        for pause in self._pauses(timeout):
            answer = await asyncio.to_thread(self.answer, which)
            if answer is not None:
                return answer
            await asyncio.sleep(pause)
        return await asyncio.to_thread(self._answer_or_raise, which)

    def _answer_or_raise(self, which: Review | str) -> Answer:
        answer = self.answer(which)
        if answer is None:
            raise Conflict("the question was not answered before the timeout: it stays open; wait for it again")
        return answer

    def _pauses(self, timeout: float | None) -> Iterator[float]:
        began, pause = self._now(), _FIRST_PAUSE
        while True:
            if timeout is None:
                yield pause
            else:
                left = timeout - (self._now() - began).total_seconds()
                if left <= 0:
                    return
                yield min(pause, left)
            pause = min(pause * 1.5, _MAX_PAUSE)
