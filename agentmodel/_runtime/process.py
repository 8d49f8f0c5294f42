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
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

__all__ = [
    "FORK_GATE",
    "SIGTERM_STATUS",
    "ForkSafeLock",
    "Renewable",
    "exit_on_sigterm",
    "never_collect",
    "renew_in_child",
]

SIGTERM_STATUS = 128 + signal.SIGTERM
"""The exit status of a process that ended in order after SIGTERM, as shells report it."""


class Renewable(Protocol):
    """An object with locks, connections or other state that a forked child must not inherit."""

    def renew(self) -> None:
        """Replace that state; called in the child before anything else runs there. It must not close what it drops."""


def renew_in_child(owner: Renewable) -> None:
    """Have ``owner.renew()`` called in every forked child; the owner is referenced weakly."""
    _renewable.add(owner)


_RLock: Any = type(threading.RLock())


class ForkSafeLock(_RLock):  # type: ignore[misc]  # a class, which the type stubs do not name
    """A lock for ``with`` that a forked child finds unlocked, whichever other thread of its parent held it.

    The thread that holds it may take it again. It is one of Python's own: methods of ours around it would be where a
    signal handler raises, such as that of Ctrl-C or SIGTERM, and a lock would stay locked for ever.
    """

    def __init__(self) -> None:
        renew_in_child(self)

    def renew(self) -> None:
        """Begin unlocked in a forked child, unless the thread that forked holds it and is to unlock it."""
        if not self._is_owned():  # as `threading.Condition` asks
            self._at_fork_reinit()  # as `logging` does


class _ForkGate:
    """Lets a fork wait until work in other threads is done, since libraries have locks that no child can renew.

    A thread that imports a module, resolves an address or takes a connection holds a lock of Python, of the C library
    or of a client. A child that is forked meanwhile would wait for it for ever.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self.renew()

    def renew(self) -> None:
        """Begin with no work in a forked child."""
        self._changed = threading.Condition()
        self._working = 0
        self._forks = 0

    @contextmanager
    def work(self) -> Iterator[None]:
        """Keep forks of other threads waiting, and begin after those that are under way."""
        changed = self._changed
        with changed:
            changed.wait_for(lambda: not self._forks, _FORK_SECONDS)
            self._working += 1
        self._own.depth = getattr(self._own, "depth", 0) + 1
        try:
            yield
        finally:
            self._own.depth -= 1
            if changed is self._changed:  # otherwise the work forked, and this is the child
                with changed:
                    self._working -= 1
                    changed.notify_all()

    def before(self) -> None:
        """Wait until no other thread works, for a second at most."""
        with self._changed:
            self._forks += 1
            own = getattr(self._own, "depth", 0)
            self._changed.wait_for(lambda: self._working <= own, _FORK_SECONDS)

    def after(self) -> None:
        """Let work go on in the parent."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()


_FORK_SECONDS = 1.0
FORK_GATE = _ForkGate()
"""Background work runs in ``with FORK_GATE.work():``; a fork waits for it, for a second at most."""


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
    FORK_GATE.renew()
    for owner in list(_renewable):
        owner.renew()


_renewable: weakref.WeakSet[Renewable] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=FORK_GATE.before, after_in_parent=FORK_GATE.after, after_in_child=_after_fork)
