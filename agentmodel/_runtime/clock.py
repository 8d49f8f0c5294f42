"""Make version numbers that grow with time; within a process they never repeat and never decrease.

A version is the milliseconds since 1970, shifted by 16 bits, plus a counter for writes within one millisecond (a
hybrid clock). The writer makes it and not a store, because a store could lose its counter in a failover, and later
writes would look stale. Between hosts the later clock wins. Each process counts from a random number of its own, so
that processes such as forked workers give different versions to their writes of one millisecond.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from agentmodel._runtime.process import ForkSafeLock, renew_in_child

__all__ = ["HybridClock"]

_BITS = 16
_FIRST = 1 << (_BITS - 1)  # the counter of a millisecond begins below; this leaves 32,768 versions for each


class HybridClock:
    """Returns a new version at each call.

    Args:
        milliseconds: Returns the current time in milliseconds since 1970.

    >>> clock = HybridClock(milliseconds=lambda: 1)
    >>> first, second = clock(), clock()
    >>> first >> 16, second - first
    (1, 1)
    """

    def __init__(self, *, milliseconds: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._milliseconds = milliseconds
        self._last = 0
        self._lock = ForkSafeLock()
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Count from another random number in a forked child."""
        self._first = secrets.randbelow(_FIRST)

    def __call__(self) -> int:
        """Return the next version, which is greater than all before it."""
        with self._lock:
            self._last = max((self._milliseconds() << _BITS) + self._first, self._last + 1)
            return self._last
