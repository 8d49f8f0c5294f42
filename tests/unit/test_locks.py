"""A lock is unlocked after its block, whatever ends the block: a signal's handler that raises, or a fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from agentmodel._runtime.process import ForkSafeLock

SECONDS = 1.0  # how long blocks are interrupted
APART = 0.0002  # seconds from one signal to the next


class Interrupted(Exception):
    """What the handler of a signal raises, as that of Ctrl-C raises `KeyboardInterrupt`."""


def is_free(lock: ForkSafeLock) -> bool:
    """Whether another thread gets the lock."""

    def take() -> None:
        with lock:
            pass

    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    thread.join(1.0)
    return not thread.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such timers")
def test_an_interrupted_block_leaves_no_lock_locked() -> None:
    """SIGTERM and Ctrl-C raise between any two steps of the program; the lock of that moment is unlocked all the same."""
    lock = ForkSafeLock()

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    until, interrupted = time.monotonic() + SECONDS, 0
    try:
        while time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, APART)
                while True:
                    with lock:
                        pass
            except Interrupted:
                interrupted += 1
            assert is_free(lock), f"after {interrupted} interruptions"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_thread_that_forks_unlocks_its_own_lock() -> None:
    """In the child the block of the thread that forked goes on and ends; a lock of another thread is unlocked."""
    code = """
        import os, threading
        from agentmodel._runtime.process import ForkSafeLock
        from tests.unit.test_locks import is_free

        own, other, held, done = ForkSafeLock(), ForkSafeLock(), threading.Event(), threading.Event()

        def hold():
            with other:
                held.set()
                done.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait(60)
        with own:
            child = os.fork()
            inside = is_free(own), is_free(other)
        if child == 0:
            print("child", *inside, is_free(own), flush=True)
            os._exit(0)
        os.wait()
        print("parent", *inside, is_free(own))
        done.set()
    """
    # from 3.12 on Python warns of every fork of a process with threads, which is what is tried here
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert ["child False True True", "parent False False True"] == done.stdout.splitlines(), done.stderr
