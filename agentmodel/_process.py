"""What holds when a process forks, and when it is asked to end.

A forked child has a copy of everything in memory, but only the thread that forked. So a lock that another thread held
stays locked there for ever, and a connection is used by two processes, of which each may read the other's answers.
`renew_in_child` and `ForkSafeLock` are the one mechanism against both: every object that has such state replaces it in
the child, before anything else runs there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import weakref
from types import FrameType, TracebackType
from typing import Any, Protocol

__all__ = ["SIGTERM_STATUS", "ForkSafeLock", "Renewable", "exit_on_sigterm", "never_collect", "renew_in_child"]

SIGTERM_STATUS = 128 + signal.SIGTERM
"""The exit status of a process that ended in order after SIGTERM, as shells report it."""


class Renewable(Protocol):
    """An object with locks, connections or other state that a forked child must not inherit."""

    def renew(self) -> None:
        """Replace that state; called in the child before anything else runs there. It must not close what it drops."""


def renew_in_child(owner: Renewable) -> None:
    """Have ``owner.renew()`` called in every forked child; the owner is referenced weakly."""
    _renewable.add(owner)


class ForkSafeLock:
    """A lock for ``with`` that a forked child finds unlocked, whichever thread of its parent held it.

    Args:
        reentrant: Whether the thread that holds it may take it again.
    """

    def __init__(self, *, reentrant: bool = False) -> None:
        self._reentrant = reentrant
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin unlocked in a forked child."""
        self._lock: Any = threading.RLock() if self._reentrant else threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def never_collect(value: object) -> None:
    """Keep an object of the parent from being collected in a forked child, even when the child ends.

    Some objects do more than free memory: a DuckDB database writes into its file, which the parent has open.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))


def exit_on_sigterm() -> None:
    """Have SIGTERM end this process like `sys.exit` does, so that what waits is written and engines are stopped.

    It changes nothing where the application, a framework or whoever started the process has decided about SIGTERM
    already, and in another thread than the main one, where Python takes no handler. A second SIGTERM ends the process
    at once.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def _exit(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(SIGTERM_STATUS)


def _after_fork() -> None:
    for owner in list(_renewable):
        owner.renew()


_renewable: weakref.WeakSet[Renewable] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
