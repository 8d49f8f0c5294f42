"""A gate that any number of transactions pass together, and that one rewrite of the file passes alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from agentmodel._runtime.process import renew_in_child

__all__ = ["Gate"]


class Gate:
    """Lets many in at once, or one alone. A thread that is in may enter again."""

    def __init__(self) -> None:
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin open and empty in a forked child."""
        self._changed = threading.Condition()
        self._inside = 0
        self._closed = False
        self._own = threading.local()

    @property
    def is_inside(self) -> bool:
        """Whether this thread is inside, so that it would wait for itself to be alone."""
        return getattr(self._own, "depth", 0) > 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Enter with others; wait while one is alone inside."""
        depth: int = getattr(self._own, "depth", 0)
        with self._changed:
            self._changed.wait_for(lambda: depth > 0 or not self._closed)
            self._inside += 1
        self._own.depth = depth + 1
        try:
            yield
        finally:
            self._own.depth = depth
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Enter once nobody is inside, and let nobody in until the end of the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            self._changed.wait_for(lambda: self._inside == 0)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()
