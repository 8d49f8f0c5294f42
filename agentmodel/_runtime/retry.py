"""Retry within a deadline, with exponential back-off and full jitter."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from agentmodel.exceptions import TableUnavailable

__all__ = ["Backoff"]


class Backoff:
    """Iterates over attempts until a deadline. The caller ends the loop, or waits for the next attempt.

    The wait after attempt n (from 0) is drawn evenly between 0 and ``first`` × 2ⁿ, at most ``longest``. This is called
    full jitter: callers that failed at the same time do not retry at the same time.

    Args:
        seconds: The time between the first attempt and the last, in seconds.
        first: Upper bound of the first wait, in seconds.
        longest: Upper bound of every wait, in seconds.
    """

    def __init__(self, *, seconds: float, first: float = 0.05, longest: float = 5.0) -> None:
        self._end = time.monotonic() + seconds
        self._next_bound = first
        self._longest = longest

    def __iter__(self) -> Iterator[Backoff]:
        while True:
            yield self

    def wait(self, error: Exception | str) -> None:
        """Sleep before the next attempt; after the deadline raise ``error`` (text becomes a `TableUnavailable`)."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TableUnavailable(error) if isinstance(error, str) else error
        time.sleep(min(left, random.uniform(0, self._next_bound)))  # noqa: S311  # spreads load, guards no secret
        self._next_bound = min(self._next_bound * 2, self._longest)
