"""Behind the back of who records: what was recorded is learnt from a moment later, many things at once.

A record waits for the journal alone. Who reads what was learnt calls `Behind.settle` first, so a process always sees
its own calls; other processes see them after `LINGER` and a round trip.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

from agentmodel.exceptions import Unavailable

__all__ = ["LINGER", "MOST", "Behind", "Learn"]

Learn: TypeAlias = Callable[[Sequence[Any]], None]
"""Learns from some things, in the order in which they were put."""

LINGER = 0.02
"""Seconds from a record to the learning, in which others join it."""

MOST = 1000
"""Things that may wait; who puts more does the learning itself, so nothing is dropped."""

_log = logging.getLogger(__name__)


class Behind:
    """Hands things to those who learn from them, one at a time, in a thread that ends with its owner.

    What goes wrong there is logged; it never reaches who records. At the interpreter's end what waits is still learnt.
    A forked process begins with nothing: what waited is its parent's to learn.

    Args:
        linger: Seconds until the learning begins.
        most: Things that may wait.
    """

    def __init__(self, *, linger: float = LINGER, most: int = MOST) -> None:
        self._linger = linger
        self._most = most
        self._own()

    def _own(self) -> None:
        """Belong to this process, with nothing that waits."""
        self._process = os.getpid()
        self._waiting: list[tuple[Learn, Any]] = []
        self._lock = threading.Lock()  # for what waits
        self._turn = threading.RLock()  # for learning, one at a time
        self._learning = False
        self._due = False
        self._closed = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="agentmodel-behind")

    def put(self, learn: Learn, things: Sequence[Any]) -> None:
        """Have ``learn`` called with these, and with what else waits for it, in a moment."""
        if not things:
            return
        self._here()
        with self._lock:
            self._waiting += [(learn, thing) for thing in things]
            full = len(self._waiting) > self._most
            begun = self._due or self._begun()
            self._due = begun
        if full or not begun:
            self.settle()

    def settle(self) -> None:
        """Have learnt, on return, everything that was put before. Within a ``learn`` it does nothing."""
        self._here()
        with self._turn:
            if self._learning:
                return
            self._learning = True
            try:
                with self._lock:
                    waiting, self._waiting = self._waiting, []
                for learn in dict.fromkeys(learn for learn, _ in waiting):
                    _learnt(learn, [thing for whose, thing in waiting if whose == learn])
            finally:
                self._learning = False

    def close(self) -> None:
        """Settle, and end the thread. What is put later is learnt at once."""
        self._here()
        self._closed.set()
        self._pool.shutdown()
        self.settle()

    def _here(self) -> None:
        if self._process != os.getpid():
            self._own()

    def _begun(self) -> bool:
        """Starts the learning in a moment; False where no thread can be started: after `close`, or at the very end."""
        try:
            self._pool.submit(self._in_a_moment)
        except RuntimeError:
            return False
        return True

    def _in_a_moment(self) -> None:
        self._closed.wait(self._linger)
        with self._lock:
            self._due = False
        self.settle()


def _learnt(learn: Learn, things: list[Any]) -> None:
    try:
        learn(things)
    except Unavailable as error:
        _log.warning("%d records were kept, but not everybody learnt of them: %s", len(things), error)
    except Exception:  # noqa: BLE001 - what learning meets must not reach who records, or end the thread
        _log.exception("%d records were kept, but learning from them failed", len(things))
