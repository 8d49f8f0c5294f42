"""A deadline for everything that a block waits for, in this thread or task."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["deadline", "half_of_what_is_left", "no_deadline", "seconds_left"]

_until: ContextVar[float | None] = ContextVar("until", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Let no call of a store in this block wait longer than until its end, counted from now; of two, the earlier holds.

    >>> with deadline(2.0):
    ...     0 < seconds_left() <= 2.0
    True
    """
    left = seconds_left()
    token = _until.set(time.monotonic() + (seconds if left is None else min(seconds, left)))
    try:
        yield
    finally:
        _until.reset(token)


@contextmanager
def no_deadline() -> Iterator[None]:
    """Let the block take its time: the deadline of the block around it is as much later."""
    until, began = _until.get(), time.monotonic()
    _until.set(None)
    try:
        yield
    finally:
        _until.set(None if until is None else until + time.monotonic() - began)


def seconds_left() -> float | None:
    """Return how long the block may still wait, at least 0; None without a deadline."""
    until = _until.get()
    return None if until is None else max(0.0, until - time.monotonic())


def half_of_what_is_left(longest: float) -> float:
    """Return how long to wait for what the block can go on without: half of its time, ``longest`` at most.

    >>> half_of_what_is_left(30.0)
    30.0
    """
    left = seconds_left()
    return longest if left is None else min(longest, left / 2)
