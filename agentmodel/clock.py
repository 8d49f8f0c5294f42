"""Versions: numbers that grow with time and never repeat or run backwards within a process.

A version is milliseconds since 1970 shifted by 16 bits, plus a counter for what happens within one millisecond (a
hybrid clock). It is made by the writer, not by a store: a counter that a store loses in a failover would make later
writes look stale. Between hosts the later clock wins.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["HybridClock"]

_BITS = 16


class HybridClock:
    """Gives versions.

    Args:
        milliseconds: Where the time comes from.

    >>> clock = HybridClock(milliseconds=lambda: 1)
    >>> clock(), clock()
    (65536, 65537)
    """

    def __init__(self, *, milliseconds: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._milliseconds = milliseconds
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """The next version; it is greater than every one before it."""
        with self._lock:
            self._last = max(self._milliseconds() << _BITS, self._last + 1)
            return self._last
