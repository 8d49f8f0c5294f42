"""Do work in the background, while the caller goes on: learn, write to trackers, record spans.

    worker = BackgroundWorker("tracker", max_waiting=10_000, when_full="drop")
    worker.put(write, [event])   # returns at once; `write` is called soon, in the worker's thread, with many events
    worker.flush()               # everything that was put before is done
    worker.close()

What a `BackgroundWorker` guarantees:

- Items are handled in the order in which they were put, many at once, by one daemon thread. The first item starts it,
  and it ends after `IDLE` seconds without work, so that an owner that was never closed can be garbage-collected.
- The number of waiting items is bounded. When it is reached, ``when_full`` decides: the newest items are dropped, or
  the caller waits up to ``max_wait`` seconds first. What is dropped is counted and logged once in `LOG_EVERY` seconds.
- A handler sees the variables in `CARRIED` as whoever put its items saw them; they have values that can be hashed.
- An error of a handler is counted and logged. It neither reaches the caller nor ends the thread.
- A forked child starts with an empty queue, new locks and no thread: what waited is done by the parent.
- At the end of the process (end of script, ``sys.exit``, an exception, SIGTERM, the end of a `multiprocessing` child)
  everything that waits is still done, within `EXIT_TIMEOUT` seconds for all workers together.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, Literal, NamedTuple, TypeAlias

from agentmodel._log import logger
from agentmodel._runtime.process import FORK_GATE, exit_on_sigterm, renew_in_child
from agentmodel.exceptions import Unavailable

__all__ = [
    "BATCH", "CARRIED", "EXIT_TIMEOUT", "FLUSH_TIMEOUT", "IDLE", "LINGER", "LOG_EVERY", "MAX_WAIT", "MAX_WAITING",
    "BackgroundWorker", "Handler", "WhenFull", "works_in_background",
]  # fmt: skip

Handler: TypeAlias = Callable[[Sequence[Any]], None]
"""Handles some items, in the order in which they were put."""

WhenFull: TypeAlias = Literal["drop", "wait"]
"""What `BackgroundWorker.put` does at the bound: drop the new items, or wait for room and drop them only then."""

MAX_WAITING = 10_000
"""Items that may wait, by default."""

BATCH = 200
"""Items that are handled at once, by default; when so many wait, the thread does not linger."""

LINGER = 0.1
"""Seconds that an item waits for others to be handled together with it, by default."""

MAX_WAIT = 1.0
"""Seconds that `BackgroundWorker.put` waits for room with ``when_full="wait"``, by default."""

FLUSH_TIMEOUT = 30.0
"""Seconds that `BackgroundWorker.flush` and `BackgroundWorker.close` wait, by default."""

EXIT_TIMEOUT = 10.0
"""Seconds that the end of the process waits for all workers together."""

IDLE = 60.0
"""Seconds without work after which the thread ends; the next item starts another one."""

LOG_EVERY = 60.0
"""Seconds from one log line about dropped items to the next."""

CARRIED: list[ContextVar[Any]] = []
"""Variables that are handed on with the items; a module appends its own when it is imported."""

_log = logger(__name__)
_works: ContextVar[bool] = ContextVar("works", default=False)


def works_in_background() -> bool:
    """Return whether this is the handler of a worker."""
    return _works.get()


def dropped_by_worker() -> dict[str, int]:
    """Return how many items each kind of worker of this process has dropped, by its name."""
    counts: dict[str, int] = {}
    for worker in list(_workers):
        counts[worker.name] = counts.get(worker.name, 0) + worker.dropped
    return counts


class BackgroundWorker:
    """Handles items in a thread of its own, while the caller goes on.

    Args:
        name: What the items are for; part of the thread's name and of every log line.
        max_waiting: Items that may wait or be under way. An empty worker takes more at once, such as one long trace.
        batch: Items that are handled at once. Items that were put together stay together.
        linger: Seconds that an item waits for others to be handled together with it.
        when_full: What `put` does when ``max_waiting`` is reached: ``"drop"`` the new items at once, or ``"wait"`` for
            room and drop them if there is none after ``max_wait`` seconds.
        max_wait: Seconds that ``"wait"`` waits. After a wait that timed out, `put` drops at once until something was
            handled.
        before_exit: Called at the end of the process, before the last flush, to put what the owner has kept until now.

    Attributes:
        dropped: Items that were not handled, because too many waited or because time ran out at the end.
        errors: Calls of handlers that raised.
    """

    def __init__(
        self,
        name: str,
        *,
        max_waiting: int = MAX_WAITING,
        batch: int = BATCH,
        linger: float = LINGER,
        when_full: WhenFull = "drop",
        max_wait: float = MAX_WAIT,
        before_exit: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.dropped = 0
        self.errors = 0
        self._max_waiting = max_waiting
        self._batch = batch
        self._linger = linger
        self._when_full = when_full
        self._max_wait = max_wait
        self._before_exit = before_exit
        self._closed = False
        self._drop_reason = ""
        self._logged_at: float | None = None
        self._logged_drops = 0
        self._runs_before_others_at_exit = False
        self._queue = _Queue()
        _workers.add(self)
        renew_in_child(self)

    @property
    def waiting(self) -> int:
        """Return the size of what was put and is not handled yet."""
        return self._queue.outstanding

    def renew(self) -> None:
        """Begin anew in a forked child, with nothing that waits."""
        self._queue = _Queue()
        self._runs_before_others_at_exit = False

    # What callers call

    def put(self, handle: Handler, items: Sequence[Any], *, size: int | None = None) -> bool:
        """Have ``handle`` called soon with these items and with others that wait for it.

        It never raises what a handler raises. It waits in two cases: with ``when_full="wait"``, up to ``max_wait``
        seconds for room; and at the end of the process, when no thread can be started or the last flush is over, up to
        `EXIT_TIMEOUT` seconds until the work is done.

        Args:
            handle: Called with the items.
            items: Any number; they are taken or dropped together.
            size: What they count at the bound; their number when not given.

        Returns:
            Whether they were taken. A closed worker takes none; with ``when_full="wait"`` it calls ``handle`` at once.
        """
        if not items:
            return True
        queue, size = self._queue, len(items) if size is None else size
        entry = _QueueEntry(handle, items, size, tuple(map(ContextVar.get, CARRIED)))
        must_flush = False
        with queue.lock:  # each call in here is one that every event of an agent waits for
            has_room = queue.put - queue.done + size <= self._max_waiting or self._has_room(queue, size)
            taken = has_room and (not self._closed or queue.is_handled_here())
            if taken:
                queue.add(entry, batch=self._batch)
                must_flush = (queue.thread is None and not self._has_thread(queue)) or _process.ended
        if not taken:
            if self._closed and self._when_full == "wait":
                with self._errors_counted(len(items)):
                    handle(items)
                return True
            self._drop(
                len(items), "the worker is closed" if self._closed else f"{queue.outstanding} were waiting already"
            )
        elif must_flush:
            self.flush(EXIT_TIMEOUT)
        return taken

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Wait until everything that was put before is done; return whether it took at most ``timeout`` seconds.

        Within a handler of this worker it returns at once, since that would wait for itself.
        """
        queue, deadline = self._queue, time.monotonic() + timeout
        target = queue.put
        while queue.done < target and not queue.is_handled_here():
            with queue.lock:
                if queue.done >= target:  # done since the look without the lock: no thread is needed for it
                    return True
                queue.skip_linger(target)
                if self._has_thread(queue) or queue.handling is not None:
                    left = deadline - time.monotonic()
                    if queue.done < target and (left <= 0 or not queue.progress.wait(left)):
                        return queue.done >= target
                    continue
                batch = queue.take(self._batch)
            self._handle_batch(queue, batch)  # no thread can be started any more
        return queue.done >= target

    def close(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Flush and end the thread; what is not done after ``timeout`` seconds is dropped, counted and logged."""
        deadline = time.monotonic() + timeout
        self._closed = True
        queue, thread = self._queue, self._queue.thread
        self.flush(timeout)
        with queue.lock:
            thread = queue.thread or thread  # a thread that is about to end is not in the queue any more
            queue.work.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
        if not queue.is_handled_here():
            self.drop_waiting(f"closing the worker took longer than {timeout:g} seconds")

    def prepare_exit(self) -> None:
        """Have the owner put what it has kept until now, because the process ends."""
        if self._before_exit is not None:
            with self._errors_counted(0):
                self._before_exit()

    def drop_waiting(self, why: str) -> None:
        """Drop, count and log what still waits, and log drops that were not logged yet."""
        self._log_drops()
        left = self._queue.clear()
        if left:
            self._drop(left, why)
            self._log_drops()

    # At the bound

    def _has_room(self, queue: _Queue, size: int) -> bool:
        """Return whether items of this size may be put now, after waiting for room if ``when_full`` is ``"wait"``."""
        if self._fits(queue, size) or queue.is_handled_here():  # a handler cannot wait for itself
            return True
        if self._when_full == "drop" or queue.stalled:
            return False
        queue.skip_linger(queue.put)
        room = queue.progress.wait_for(lambda: self._fits(queue, size), self._max_wait)
        queue.stalled = not room
        return room

    def _fits(self, queue: _Queue, size: int) -> bool:
        return self._closed or queue.outstanding == 0 or queue.outstanding + size <= self._max_waiting

    def _drop(self, count: int, why: str) -> None:
        with self._queue.lock:
            self.dropped += count
            self._drop_reason = why
            now = time.monotonic()
            due = self._logged_at is None or now - self._logged_at >= LOG_EVERY
            if due:
                self._logged_at = now
        if due:
            self._log_drops()

    def _log_drops(self) -> None:
        with self._queue.lock:
            count, self._logged_drops = self.dropped - self._logged_drops, self.dropped
        if count:
            _log.error(
                "%s.dropped: dropped %d items (%d in all), because %s",
                self.name,
                count,
                self.dropped,
                self._drop_reason,
            )

    # The thread

    def _has_thread(self, queue: _Queue) -> bool:
        """Start the thread if there is none; return False if none can be started, as when the interpreter ends."""
        if queue.thread is not None:
            return True
        queue.thread = threading.Thread(target=self._work, args=(queue,), name=f"agentmodel-{self.name}", daemon=True)
        try:
            queue.thread.start()
        except RuntimeError:
            queue.thread = None
            return False
        if not self._runs_before_others_at_exit:
            self._runs_before_others_at_exit = True
            _process.finish_before_others()
            exit_on_sigterm()
        return True

    def _work(self, queue: _Queue) -> None:
        try:
            while batch := self._next(queue):
                self._handle_batch(queue, batch)
        finally:
            if queue is self._queue:
                with queue.lock:
                    queue.thread = None if queue.thread is threading.current_thread() else queue.thread
                    queue.progress.notify_all()

    def _next(self, queue: _Queue) -> list[_QueueEntry]:
        """Return the next entries; none when the thread has to end."""
        if queue is not self._queue:
            return []
        with queue.lock:
            queue.work.wait_for(lambda: queue.entries or self._closed, IDLE)
            queue.work.wait_for(lambda: self._closed or queue.skips_linger(self._batch), self._linger)
            if not queue.entries:
                queue.thread = None  # under the lock, so that the next put starts another thread
                return []
            return queue.take(self._batch)

    def _handle_batch(self, queue: _Queue, batch: Sequence[_QueueEntry]) -> None:
        by_handler: dict[Handler, list[tuple[tuple[Any, ...], list[Any]]]] = {}
        for entry in batch:
            parts = by_handler.setdefault(entry.handle, [])
            if not parts or parts[-1][0] != entry.carried:
                parts.append((entry.carried, []))
            parts[-1][1].extend(entry.items)
        try:
            for handle, parts in by_handler.items():
                for carried, items in parts:
                    with self._errors_counted(len(items)), FORK_GATE.work():
                        copy_context().run(_handle_with, carried, handle, items)
        finally:
            if queue is self._queue:  # otherwise a handler forked and this is the child, where the old lock may be held
                queue.finish(sum(entry.size for entry in batch))

    @contextmanager
    def _errors_counted(self, count: int) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            self.errors += 1
            _log.warning("%s.failed: %d items were not handled: %s", self.name, count, error)
        except BaseException as error:
            if not isinstance(error, Exception) and threading.current_thread() is not self._queue.thread:
                raise  # the caller's own thread runs the handler, so the interrupt is meant for the caller
            self.errors += 1
            _log.exception("%s.failed: %d items were not handled", self.name, count)


class _QueueEntry(NamedTuple):
    """Items that were put together, their handler, what they count at the bound, and the values of `CARRIED`."""

    handle: Handler
    items: Sequence[Any]
    size: int
    carried: tuple[Any, ...]


def _handle_with(carried: tuple[Any, ...], handle: Handler, items: Sequence[Any]) -> None:
    """Handle items where the variables have these values; to be run in a context of its own."""
    for variable, value in zip(CARRIED, carried, strict=False):  # one may have been added since
        variable.set(value)
    _works.set(True)
    handle(items)


class _Queue:
    """What waits for one worker in one process.

    Attributes:
        lock: Protects all fields. It is re-entrant, because a signal handler may put while its thread is in `put`.
        work: Notified when the thread has something to do.
        progress: Notified when something was done.
        put: Size of everything that was put, ever.
        done: Size of what was handled or cleared of it.
        thread: The worker's thread, while it runs.
        handling: The thread that is in a handler now, by its ident.
        stalled: A wait for room timed out, and nothing was handled since.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.work = threading.Condition(self.lock)
        self.progress = threading.Condition(self.lock)
        self.entries: deque[_QueueEntry] = deque()
        self.put = 0
        self.done = 0
        self.thread: threading.Thread | None = None
        self.handling: int | None = None
        self.stalled = False
        self._wanted = 0
        self._queued = 0
        self._cleared = 0  # size of what was dropped, counted as done after what was taken before it

    @property
    def outstanding(self) -> int:
        """Return the size of what waits or is being handled."""
        return self.put - self.done

    def is_handled_here(self) -> bool:
        """Return whether the calling thread is inside a handler."""
        return self.handling == threading.get_ident()

    def add(self, entry: _QueueEntry, *, batch: int) -> None:
        """Append items, and wake the thread where it waits for them."""
        before = self._queued
        self.entries.append(entry)
        self._queued += entry.size
        self.put += entry.size
        if before == 0 or before < batch <= self._queued:
            self.work.notify_all()

    def take(self, batch: int) -> list[_QueueEntry]:
        """Remove the next entries, of at most ``batch`` or one that is larger, to be handled by this thread."""
        taken: list[_QueueEntry] = []
        size = 0
        while self.entries and (not taken or size + self.entries[0].size <= batch):
            taken.append(self.entries.popleft())
            size += taken[-1].size
        self._queued -= size
        self.handling = threading.get_ident() if taken else None
        return taken

    def finish(self, size: int) -> None:
        """Record that the entries that were taken are handled."""
        with self.lock:
            self.handling = None
            self.stalled = False
            self.done += size + self._cleared
            self._cleared = 0
            self.progress.notify_all()

    def skip_linger(self, target: int) -> None:
        """Have everything up to ``target`` handled without lingering."""
        self._wanted = max(self._wanted, target)
        self.work.notify_all()

    def skips_linger(self, batch: int) -> bool:
        """Return whether the thread handles the next items without lingering."""
        return self._wanted > self.done or self._queued >= batch

    def clear(self) -> int:
        """Remove what waits, and return how many items that were."""
        with self.lock:
            count = sum(len(entry.items) for entry in self.entries)
            self._cleared, self._queued = self._cleared + self._queued, 0
            self.entries.clear()
            if self.handling is None:
                self.finish(0)
            return count


# The end of the process


class _Process:
    """The state of this process's end.

    Attributes:
        ended: The last flush of all workers is over, so a put from now on waits until its items are handled.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin anew in a forked child."""
        self.ended = False
        self._deadline: float | None = None
        self._finalized = False

    def seconds_left(self) -> float:
        """Return how long the end of the process may still wait, counted from the first time it is asked."""
        if self._deadline is None:
            self._deadline = time.monotonic() + EXIT_TIMEOUT
        return max(0.0, self._deadline - time.monotonic())

    def finish_before_others(self) -> None:
        """Have `_finish` run before every `atexit` handler that was registered until now.

        Among those are the ends of embedded engines, which the waiting work needs.
        """
        atexit.unregister(_finish_early)
        atexit.register(_finish_early)
        # a child of multiprocessing ends by os._exit, without atexit, but calls the finalizers of multiprocessing.util
        if not self._finalized and "multiprocessing" in sys.modules:
            from multiprocessing import parent_process, util

            if parent_process() is not None:
                util.Finalize(None, _finish, exitpriority=100)
                self._finalized = True


def _finish() -> None:
    """Flush all workers within `EXIT_TIMEOUT` seconds; what is left then is dropped, counted and logged."""
    for worker in list(_workers):
        worker.prepare_exit()
    # several rounds, because one worker's handler may put something into another worker
    while _process.seconds_left() and (busy := [worker for worker in list(_workers) if worker.waiting]):
        for worker in busy:
            worker.flush(_process.seconds_left())
    for worker in list(_workers):
        worker.drop_waiting(f"the end of the process took longer than {EXIT_TIMEOUT:g} seconds")
    _process.ended = True


def _finish_early() -> None:
    """Do the same as `_finish`; each worker registers it again with its first item, so that it runs first."""
    _finish()


_workers: weakref.WeakSet[BackgroundWorker] = weakref.WeakSet()
_process = _Process()
renew_in_child(_process)
# stays registered, because `_finish_early` does not run if a worker registers it during the exit
atexit.register(_finish)
