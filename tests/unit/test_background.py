"""The background worker: in order, in batches, bounded, and complete after a fork and at the end of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import pytest

from agentmodel._runtime import background, process
from agentmodel._runtime.background import BackgroundWorker, Handler
from agentmodel._runtime.process import _ForkGate, renew_in_child
from agentmodel.exceptions import TableUnavailable

NEVER = 3600.0
"""A linger so long that only a full batch, `flush` and `close` bring anything about."""


class Notes:
    """Notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.threads: set[int] = set()

    def handle(self, items: Sequence[Any]) -> None:
        self.calls.append(list(items))
        self.threads.add(threading.get_ident())

    @property
    def items(self) -> list[Any]:
        return [item for call in self.calls for item in call]


class Gate:
    """A handler that is held until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def handle(self, items: Sequence[Any]) -> None:
        self.entered.set()
        assert self.opened.wait(60)

    def enter(self, worker: BackgroundWorker) -> None:
        """Have the worker's thread wait in here."""
        assert worker.put(self.handle, ["held"])
        hurry = threading.Thread(target=worker.flush)
        hurry.start()
        assert self.entered.wait(60)
        self._hurry = hurry

    def open(self) -> None:
        self.opened.set()
        self._hurry.join()


@pytest.fixture
def worker() -> Iterator[BackgroundWorker]:
    made = BackgroundWorker("test", linger=NEVER)
    yield made
    made.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


class TestWork:
    def test_items_are_handled_without_a_flush(self) -> None:
        """What was put is handled by another thread without anybody asking."""
        done, notes = threading.Event(), Notes()

        def handle(items: Sequence[Any]) -> None:
            notes.handle(items)
            done.set()

        worker = BackgroundWorker("test", linger=0.0)
        worker.put(handle, [1, 2])
        in_time = done.wait(60)
        worker.close()

        assert in_time
        assert [[1, 2]] == notes.calls
        assert threading.get_ident() not in notes.threads

    def test_what_waits_is_handled_at_once(self, worker: BackgroundWorker) -> None:
        """Items that were put one by one are handed over together, in order, each to its own handler, once."""
        one, other = Notes(), Notes()
        for n in range(3):
            worker.put(one.handle, [n])
            worker.put(other.handle, [-n])
        worker.put(one.handle, [])
        flushed = worker.flush(), worker.flush()

        assert (True, True) == flushed
        assert [[0, 1, 2]] == one.calls
        assert [[0, -1, -2]] == other.calls
        assert 0 == worker.waiting

    def test_batches_are_bounded(self) -> None:
        """Of many items so many are handled at once, and for a full batch nobody lingers."""
        notes, first = Notes(), threading.Event()
        worker = BackgroundWorker("test", linger=NEVER, batch=3)

        def handle(items: Sequence[Any]) -> None:
            notes.handle(items)
            first.set()

        for n in range(3):
            worker.put(handle, [n])
        assert first.wait(60)
        for n in range(3, 10):
            worker.put(handle, [n])
        worker.close()

        assert list(range(10)) == notes.items
        assert all(len(call) <= 3 for call in notes.calls)

    def test_items_that_were_put_together_stay_together(self) -> None:
        """A batch never cuts what was put at once, even where that is larger than a batch."""
        notes, worker = Notes(), BackgroundWorker("test", linger=NEVER, batch=3)
        worker.put(notes.handle, [1, 2])
        worker.put(notes.handle, [3, 4])
        worker.put(notes.handle, [5, 6, 7, 8, 9])
        worker.close()

        assert [[1, 2], [3, 4], [5, 6, 7, 8, 9]] == notes.calls

    def test_carried_variables(self, worker: BackgroundWorker, monkeypatch: pytest.MonkeyPatch) -> None:
        """A handler sees a variable as whoever put its items saw it; the items stay in order."""
        shade: ContextVar[str] = ContextVar("shade", default="none")
        monkeypatch.setattr(background, "CARRIED", [*background.CARRIED, shade])
        seen: list[tuple[list[int], str]] = []

        def handle(items: Sequence[int]) -> None:
            seen.append((list(items), shade.get()))

        for number, value in enumerate(["red", "red", "blue", "red"]):
            token = shade.set(value)
            worker.put(handle, [number])
            shade.reset(token)

        assert worker.flush(60)
        assert [([0, 1], "red"), ([2], "blue"), ([3], "red")] == seen
        assert "none" == shade.get()

    def test_many_threads_lose_nothing(self) -> None:
        """Everything that several threads put is handled exactly once, that of each thread in its order."""
        notes, worker = Notes(), BackgroundWorker("test", linger=0.0, max_waiting=50, when_full="wait", max_wait=60.0)

        def put(thread: int) -> None:
            for n in range(500):
                worker.put(notes.handle, [(thread, n)])

        threads = [threading.Thread(target=put, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        worker.close()

        assert [(thread, n) for thread in range(4) for n in range(500)] == sorted(notes.items)
        assert all([n for t, n in notes.items if t == thread] == list(range(500)) for thread in range(4))
        assert 0 == worker.dropped

    def test_an_idle_thread_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without work the thread ends, so that its owner can be collected; the next item starts another one."""
        monkeypatch.setattr(background, "IDLE", 0.001)
        notes, worker = Notes(), BackgroundWorker("test", linger=0.0)
        before = worker._queue.thread
        for n in range(2):
            worker.put(notes.handle, [n])
            thread = worker._queue.thread
            assert worker.flush()
            if thread is not None:
                thread.join(60)
                assert not thread.is_alive()

        assert before is None
        assert worker._queue.thread is None
        assert [0, 1] == notes.items


class TestBound:
    def test_the_newest_is_dropped(self, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
        """At the bound the newest is dropped at once and counted, and a log line comes once, not with each of them."""
        notes, worker = Notes(), BackgroundWorker("test", linger=NEVER, max_waiting=3, when_full="drop")
        gate.enter(worker)
        taken = [worker.put(notes.handle, [n]) for n in range(6)]
        logged = list(caplog.messages)
        gate.open()
        worker.close()

        assert [True, True, False, False, False, False] == taken
        assert [0, 1] == notes.items
        assert 4 == worker.dropped
        assert ["test.dropped: dropped 1 items (1 in all), because 3 were waiting already"] == logged
        assert "test.dropped: dropped 3 items (4 in all), because 3 were waiting already" == caplog.messages[-1]

    def test_drops_are_logged_again_after_a_while(
        self, gate: Gate, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Drops that go on are logged from time to time with their number since."""
        monkeypatch.setattr(background, "LOG_EVERY", 0.0)
        worker = BackgroundWorker("test", linger=NEVER, max_waiting=1)
        gate.enter(worker)
        for _ in range(2):
            worker.put(gate.handle, [1])
        gate.open()
        worker.close()

        assert ["1 items (1 in all)", "1 items (2 in all)"] == [
            line.partition("dropped ")[2].partition(",")[0] for line in caplog.messages
        ]

    def test_one_put_that_is_larger_than_the_bound(self, gate: Gate) -> None:
        """An empty worker takes one put of any size, or it could never be handled; a second one is dropped."""
        notes, worker = Notes(), BackgroundWorker("test", linger=NEVER, max_waiting=2)
        taken = worker.put(notes.handle, [1, 2, 3]), worker.put(notes.handle, [4])
        worker.close()

        assert (True, False) == taken
        assert [1, 2, 3] == notes.items

    def test_the_size_of_an_item(self) -> None:
        """Items can count more than one at the bound; what is dropped is counted in items."""
        notes, worker = Notes(), BackgroundWorker("test", linger=NEVER, max_waiting=10)
        taken = [worker.put(notes.handle, [n], size=6) for n in range(2)]
        waiting = worker.waiting
        worker.close()

        assert [True, False] == taken
        assert (6, 1) == (waiting, worker.dropped)

    def test_the_caller_waits_for_room(self, gate: Gate) -> None:
        """With "wait" the caller goes on as soon as there is room, and nothing is dropped."""
        notes = Notes()
        worker = BackgroundWorker("test", linger=NEVER, max_waiting=1, when_full="wait", max_wait=60.0)
        gate.enter(worker)
        waiting = threading.Thread(target=worker.put, args=(notes.handle, [1]))
        waiting.start()
        gate.open()
        waiting.join(60)
        worker.close()

        assert [1] == notes.items
        assert 0 == worker.dropped

    def test_the_caller_waits_no_longer_than_stated(self, gate: Gate) -> None:
        """When there is no room in time the items are dropped and counted, and nobody waits again until work goes on."""
        notes = Notes()
        worker = BackgroundWorker("test", linger=NEVER, max_waiting=1, when_full="wait", max_wait=0.001)
        gate.enter(worker)
        taken = [worker.put(notes.handle, [1])]
        worker._max_wait = NEVER  # whoever waited now would wait until the test's time-out
        taken.append(worker.put(notes.handle, [2]))
        gate.open()
        taken.append(worker.put(notes.handle, [3]))
        worker.close()

        assert [False, False, True] == taken
        assert [3] == notes.items
        assert 2 == worker.dropped

    @pytest.mark.parametrize("when_full", ["drop", "wait"])
    def test_a_handler_may_put_at_the_bound(self, when_full: Any) -> None:
        """What a handler puts into its own worker is taken, since it cannot wait for itself."""
        notes = Notes()
        worker = BackgroundWorker("test", linger=NEVER, max_waiting=1, when_full=when_full, max_wait=NEVER)

        def handle(items: Sequence[Any]) -> None:
            worker.put(notes.handle, [1, 2, 3])

        worker.put(handle, ["full"])
        worker.close()

        assert [1, 2, 3] == notes.items


class TestErrors:
    def test_errors_reach_nobody(self, worker: BackgroundWorker, caplog: pytest.LogCaptureFixture) -> None:
        """What a handler raises is counted and logged, the other handlers are called, and the thread goes on."""
        notes = Notes()

        def down(items: Sequence[Any]) -> None:
            raise TableUnavailable("no table")

        def wrong(items: Sequence[Any]) -> None:
            raise KeyError("wrong")

        handlers: list[Handler] = [down, wrong, notes.handle]
        for handle in handlers:
            worker.put(handle, [1])
        worker.flush()
        worker.put(notes.handle, [2])
        worker.flush()

        assert [1, 2] == notes.items
        assert 2 == worker.errors
        assert [
            "test.failed: 1 items were not handled: no table",
            "test.failed: 1 items were not handled",
        ] == caplog.messages

    def test_a_handler_that_ends_its_thread(self, worker: BackgroundWorker) -> None:
        """A handler that calls `sys.exit` is an error like any other: its thread goes on."""
        notes = Notes()
        worker.put(lambda _: sys.exit(1), [1])
        worker.put(notes.handle, [2])

        assert worker.flush()
        assert [2] == notes.items
        assert 1 == worker.errors


class TestFlush:
    def test_it_gives_up(self, gate: Gate, worker: BackgroundWorker) -> None:
        """A flush says when what was put is not done in time."""
        gate.enter(worker)

        assert not worker.flush(0.001)
        gate.open()
        assert worker.flush()

    def test_a_handler_may_put_and_flush(self, worker: BackgroundWorker) -> None:
        """A handler may put, and read what flushes first, without waiting for itself."""
        notes = Notes()
        flushed = []

        def handle(items: Sequence[Any]) -> None:
            worker.put(notes.handle, items)
            flushed.append(worker.flush(NEVER))

        worker.put(handle, [1])
        worker.flush()
        before = list(notes.calls)
        worker.flush()

        assert ([], [[1]]) == (before, notes.calls)
        assert [False] == flushed

    @pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
    def test_a_signal_handler_may_put_and_flush(self, worker: BackgroundWorker) -> None:
        """A signal that arrives while its thread is inside the worker finds no lock that it would wait for."""
        notes = Notes()

        def arrived(*_: object) -> None:
            worker.put(notes.handle, [1])
            worker.flush()

        before = signal.signal(signal.SIGUSR1, arrived)
        try:
            with worker._queue.lock:
                signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)

        assert [1] == notes.items


class TestClose:
    def test_what_waits_is_done_and_the_thread_ends(self) -> None:
        """After `close` everything is done and the thread is gone; closing twice is harmless."""
        notes, worker = Notes(), BackgroundWorker("test", linger=NEVER)
        worker.put(notes.handle, [1])
        thread = worker._queue.thread
        worker.close()
        worker.close()

        assert [1] == notes.items
        assert thread is not None
        assert not thread.is_alive()

    @pytest.mark.parametrize(("when_full", "handled"), [("drop", []), ("wait", [[1], [2]])])
    def test_what_comes_later(self, when_full: Any, handled: list[list[int]]) -> None:
        """A closed worker drops and counts with "drop"; with "wait" the caller does the work, each time."""
        notes, worker = Notes(), BackgroundWorker("test", when_full=when_full)
        worker.close()
        taken = {worker.put(notes.handle, [1]), worker.put(notes.handle, [2])}

        assert {bool(handled)} == taken
        assert handled == notes.calls
        assert (0 if handled else 2) == worker.dropped

    def test_it_gives_up(self, gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
        """What is not done in time is dropped, counted and logged; nobody waits for it any more."""
        notes, worker = Notes(), BackgroundWorker("test", linger=NEVER)
        gate.enter(worker)
        worker.put(notes.handle, [1, 2])
        worker.close(0.001)
        gate.open()

        assert 2 == worker.dropped
        assert [
            "test.dropped: dropped 2 items (2 in all), because closing the worker took longer than 0.001 seconds"
        ] == (caplog.messages)
        assert worker.flush()
        assert [] == notes.items

    def test_within_a_handler(self) -> None:
        """A handler may close its own worker: what waits is done all the same."""
        notes, worker, both_put = Notes(), BackgroundWorker("test", linger=NEVER, batch=1), threading.Event()

        def close(_: object) -> None:
            both_put.wait(60)
            worker.close()

        worker.put(close, [1])
        worker.put(notes.handle, [2])
        both_put.set()

        assert worker.flush()
        assert [2] == notes.items


def program(text: str) -> tuple[int, list[str], str]:
    """Run a program in a process of its own: how it ended, the lines that it printed, and what it complained of."""
    start = """
        import atexit, os, signal, sys, threading
        from agentmodel._runtime import background
        from agentmodel._runtime.background import BackgroundWorker
        signal.alarm(60)  # a program that hangs ends

        def show(items):
            for item in items:
                print("parent" if os.getpid() == parent else "child", item, flush=True)

        parent = os.getpid()
    """
    code = textwrap.dedent(start) + textwrap.dedent(text)
    # from 3.12 on Python warns of every fork of a process with threads, which is what is tried here
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@needs_fork
class TestFork:
    @pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)", "worker.flush(); os._exit(0)"])
    def test_what_waited_is_done_once(self, end: str) -> None:
        """What waited at the fork is done by the parent, not by the child as well, however the child ends."""
        assert (0, ["parent 1"], "") == program(f"""
            worker = BackgroundWorker("test", linger=3600)
            worker.put(show, [1])
            if os.fork() == 0:
                {end}
            os.wait()
        """)

    def test_the_child_works_at_once(self) -> None:
        """The child's worker has a thread of its own, whatever the parent's was doing, and its own count."""
        assert (0, ["child 2", "parent 1"], "") == program("""
            worker = BackgroundWorker("test", linger=3600)
            worker.put(show, [1])
            if os.fork() == 0:
                worker.put(show, [2])
                assert worker.waiting == 1
                assert worker.flush()
                os._exit(0)
            os.wait()
        """)

    @pytest.mark.parametrize("closed", [False, True])
    def test_the_lock_is_held_by_another_thread(self, closed: bool) -> None:
        """A fork while another thread is inside the worker leaves no lock behind in the child."""
        assert (0, ["child 2", "parent 1"], "") == program(f"""
            worker = BackgroundWorker("test", linger=0, when_full="wait")
            locked, release = threading.Event(), threading.Event()

            def hold():
                with worker._queue.lock:
                    locked.set()
                    release.wait()

            holder = threading.Thread(target=hold)
            holder.start()
            locked.wait()
            if os.fork() == 0:
                if {closed}:
                    worker.close()
                worker.put(show, [2])
                sys.exit(0)
            os.wait()
            release.set()
            holder.join()
            worker.put(show, [1])
        """)

    def test_a_handler_is_at_work(self) -> None:
        """A fork while the thread is in a handler leaves nothing in the child that it would wait for."""
        assert (0, ["child 2", "parent 1"], "") == program("""
            worker = BackgroundWorker("test", linger=0)
            entered, release = threading.Event(), threading.Event()

            def handle(items):
                entered.set()
                release.wait()
                show(items)

            worker.put(handle, [1])
            entered.wait()
            if os.fork() == 0:
                worker.put(show, [2])
                worker.close()
                os._exit(0)
            os.wait()
            release.set()
        """)

    def test_a_handler_forks(self) -> None:
        """A handler may fork: the child's copy of the thread takes nothing more from the parent's queue."""
        assert (0, ["child 2", "parent 1"], "") == program("""
            worker = BackgroundWorker("test", linger=0, batch=1)

            def handle(items):
                if os.fork() == 0:
                    worker.put(show, [2])
                    assert worker.flush()
                    os._exit(0)
                os.wait()

            worker.put(handle, [0])
            worker.put(show, [1])
        """)

    def test_a_child_of_a_child(self) -> None:
        """Each generation does its own."""
        assert (0, ["child 3", "child 2", "parent 1"], "") == program("""
            worker = BackgroundWorker("test", linger=3600)
            worker.put(show, [1])
            if os.fork() == 0:
                worker.put(show, [2])
                if os.fork() == 0:
                    worker.put(show, [3])
                    sys.exit(0)
                os.wait()
                sys.exit(0)
            os.wait()
        """)

    def test_who_has_a_lock_makes_it_anew(self) -> None:
        """Owners that ask for it are renewed in each child, and are not kept alive by that."""

        class Owner:
            def renew(self) -> None:
                raise AssertionError("not in the parent")

        owner = Owner()
        renew_in_child(owner)
        before = owner in process._renewable
        del owner

        assert before
        assert not any(isinstance(each, Owner) for each in process._renewable)


PUT = """
worker = BackgroundWorker("test", linger=3600)
other = BackgroundWorker("other", linger=3600)
worker.put(lambda items: other.put(show, items), [1])
other.put(show, [2])
"""
"""Two workers with something that waits, of which one has the other do something."""


class TestEnd:
    @pytest.mark.parametrize(
        ("end", "status"),
        [("", 0), ("sys.exit(3)", 3), ("raise ValueError('no')", 1), ("raise KeyboardInterrupt", -signal.SIGINT)],
        ids=["end of the script", "sys.exit", "exception", "Ctrl-C"],
    )
    def test_what_waits_is_done(self, end: str, status: int) -> None:
        """However the interpreter ends, everything that was put is done, also what one worker hands to another."""
        ended, lines, _ = program(f"{textwrap.dedent(PUT)}\n{end}")

        assert status == ended
        assert ["parent 1", "parent 2"] == sorted(lines)

    def test_threads_that_outlive_the_script(self) -> None:
        """What a thread puts after the script has ended is done, also where it is the first item of all."""
        assert (0, ["parent 1"], "") == program("""
            worker = BackgroundWorker("test", linger=3600)

            def late():
                threading.main_thread().join()
                worker.put(show, [1])

            threading.Thread(target=late).start()
        """)

    @pytest.mark.parametrize("before", [True, False], ids=["registered before", "registered after"])
    @pytest.mark.parametrize("used", [True, False], ids=["a worker that was used", "a new worker"])
    def test_what_is_put_at_the_exit(self, before: bool, used: bool) -> None:
        """What the program's own exit handlers put is done, whenever they were registered."""
        lines = ["atexit.register(lambda: worker.put(show, [1]))", "worker.put(show, [0])" if used else ""]
        body = "\n".join(lines if before else lines[::-1])
        ended, printed, complaint = program(f"worker = BackgroundWorker('test', linger=3600)\n{body}")

        assert (0, "") == (ended, complaint)
        assert (["parent 0"] if used else []) + ["parent 1"] == sorted(printed)

    def test_before_engines_stop(self) -> None:
        """The work is done before what was registered for the exit until the first item, such as an engine's end."""
        assert (0, ["parent 1", "the engine stops"], "") == program("""
            worker = BackgroundWorker("test", linger=3600)
            atexit.register(print, "the engine stops", flush=True)
            worker.put(show, [1])
        """)

    def test_what_the_owner_held_back(self) -> None:
        """An owner is asked for what it held back before the last flush."""
        assert (0, ["parent held back"], "") == program("""
            worker = BackgroundWorker("test", before_exit=lambda: worker.put(show, ["held back"]))
        """)

    def test_it_gives_up(self) -> None:
        """An exit waits for work that hangs no longer than stated; what is left is counted and logged."""
        ended, lines, complaint = program("""
            background.EXIT_TIMEOUT = 0.01
            worker = BackgroundWorker("test", linger=0, batch=1)
            entered = threading.Event()

            def hang(items):
                entered.set()
                threading.Event().wait()

            atexit.register(lambda: print("dropped", worker.dropped, flush=True))
            worker.put(hang, [0])
            entered.wait()
            worker.put(show, [1])
        """)

        assert (0, ["dropped 1"]) == (ended, lines)
        assert (
            "test.dropped: dropped 1 items (1 in all), because the end of the process took longer than 0.01 seconds"
            in complaint
        )

    @needs_fork
    def test_children_of_multiprocessing(self) -> None:
        """A child of multiprocessing, which ends without exit handlers, does what it was given, once."""
        assert (0, ["child 2", "parent 1"], "") == program("""
            import multiprocessing
            worker = BackgroundWorker("test", linger=3600)
            worker.put(show, [1])
            child = multiprocessing.get_context("fork").Process(target=worker.put, args=(show, [2]))
            child.start()
            child.join()
        """)


def test_a_fork_waits_for_work_that_is_under_way() -> None:
    """A thread that is about to fork waits until the work of another one is done, and new work waits for the fork."""
    gate, begun, release = _ForkGate(), threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        with gate.work():
            begun.set()
            release.wait(5)
            order.append("work")

    def fork() -> None:
        gate.before()
        order.append("fork")
        gate.after()

    working, forking = threading.Thread(target=work), threading.Thread(target=fork)
    working.start()
    begun.wait(5)
    forking.start()
    while not gate._forks:
        forking.join(0.001)
    release.set()
    for thread in (working, forking):
        thread.join()

    assert ["work", "fork"] == order
    with gate.work():
        gate.before()  # a fork within the work does not wait for it
    gate.after()
