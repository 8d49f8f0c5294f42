"""Events that wait for a thread of their own, which takes many at once: who puts one never waits.

The thread is woken by the first event and lingers until others have joined it, so it neither competes with the program
at every event nor starts a round trip for each.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

__all__ = ["LINGER", "MOST", "EventQueue"]

LINGER = 0.1
"""Seconds from an event to its writing, in which others join it."""

MOST = 200
"""Events that are taken at once; so many that wait are not lingered for."""


class EventQueue:
    """Acts on events in their order, in one thread.

    Args:
        commit: Called after each batch of events, in the thread.
        failed: Told what could not be done, inside ``except``.
        most: Events that may wait; of more, the newest is dropped.
        linger: Seconds in which others join an event.
    """

    def __init__(
        self, commit: Callable[[], None], failed: Callable[[str], None], *, most: int, linger: float = LINGER
    ) -> None:
        self._commit = commit
        self._failed = failed
        self._most = most
        self._linger = linger
        self._changed = threading.Condition(threading.Lock())
        self._events: deque[tuple[str, Callable[[], None]]] = deque()
        self._told = self._done = self._wanted = 0  # numbers of the last event put, done, and waited for
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="agentmodel-calls", daemon=True)
        self._thread.start()

    def put(self, what: str, act: Callable[[], None]) -> bool:
        """Have something done in its turn; False where there is no place, or no thread any more."""
        with self._changed:
            if self._closed or len(self._events) >= self._most:
                return False
            self._events.append((what, act))
            self._told += 1
            if len(self._events) in (1, MOST):
                self._changed.notify_all()
        return True

    def flush(self, timeout: float) -> bool:
        """Wait until everything put so far is done and committed; whether it was within ``timeout`` seconds."""
        with self._changed:
            target = self._wanted = self._told
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done >= target, timeout)

    def close(self) -> None:
        """Do what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    # The thread

    def _work(self) -> None:
        while batch := self._next():
            for what, act in batch:
                try:
                    act()
                except Exception:  # noqa: BLE001  # what fails here is never the program's: it is counted, and told
                    self._failed(what)
                time.sleep(0)  # whoever waits for the interpreter goes first
            try:
                self._commit()
            except Exception:  # noqa: BLE001  # likewise
                self._failed(f"{len(batch)} events")
            with self._changed:
                self._done += len(batch)
                self._changed.notify_all()

    def _next(self) -> list[tuple[str, Callable[[], None]]]:
        """The next events; none when it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._closed)
            self._changed.wait_for(self._hurries, self._linger)
            return [self._events.popleft() for _ in range(min(len(self._events), MOST))]

    def _hurries(self) -> bool:
        return self._closed or self._wanted > self._done or len(self._events) >= MOST
