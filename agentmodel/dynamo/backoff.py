"""Trying again: full-jitter back-off within a deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from agentmodel.exceptions import TableUnavailable

__all__ = ["Backoff"]


class Backoff:
    """Attempts until a deadline; the caller ends the loop, or waits for the next attempt.

    The wait before attempt n is drawn evenly from 0 to ``first`` × 2ⁿ, at most ``most`` ("full jitter": waiters that
    were refused together do not come back together).

    Args:
        seconds: From the first attempt to the last.
        first: Upper bound of the first wait, in seconds.
        most: Upper bound of any wait, in seconds.
    """

    def __init__(self, *, seconds: float, first: float = 0.05, most: float = 5.0) -> None:
        self._end = time.monotonic() + seconds
        self._bound = first
        self._most = most

    def __iter__(self) -> Iterator[Backoff]:
        while True:
            yield self

    def wait(self, error: Exception | str) -> None:
        """Sleep before the next attempt; past the deadline raise ``error``."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TableUnavailable(error) if isinstance(error, str) else error
        time.sleep(min(left, random.uniform(0, self._bound)))  # noqa: S311  # spreads load, guards no secret
        self._bound = min(self._bound * 2, self._most)
