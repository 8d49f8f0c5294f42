"""Stop calling a store after a failure until it answers again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from agentmodel._log import logger
from agentmodel._runtime.process import ForkSafeLock, renew_in_child

__all__ = ["CircuitBreaker", "reason_of"]


def _in_thread(work: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the interpreter is ending and starts no thread: the breaker stays as it is
        threading.Thread(target=work, name="agentmodel-probe", daemon=True).start()


class CircuitBreaker:
    """Let calls through while it is closed; reject them at once while it is open.

    While it is open, a probe calls the store at intervals, one probe at a time. No caller waits for a probe: the first
    call after ``interval`` seconds starts one in a short-lived thread, and is itself rejected. With ``probes`` above 1
    that thread goes on at the same intervals, so that the breaker closes without a further call. A forked child starts
    with a closed one.

    Args:
        probe: Calls the store; raises when the store does not answer.
        store: Name of the store, for the log.
        meanwhile: What happens while it is open, for the log.
        interval: Seconds between two probes.
        probes: The most probes that one thread makes.
        clock: Returns monotonic seconds.
        start: Runs the probe; in a thread by default.

    Attributes:
        outages: How often the breaker opened; each outage counts once.
    """

    def __init__(
        self,
        probe: Callable[[], None],
        *,
        clock: Callable[[], float],
        store: str = "Valkey",
        meanwhile: str = "reads and writes go to the table until Valkey answers",
        interval: float = 1.0,
        probes: int = 1,
        start: Callable[[Callable[[], None]], None] = _in_thread,
    ) -> None:
        self._probe = probe
        self._store = store
        self._meanwhile = meanwhile
        self._interval = interval
        self._probes = probes
        self._clock = clock
        self._start = start
        self._log = logger("agentmodel.cache" if store == "Valkey" else "agentmodel.dynamo")
        self._lock = ForkSafeLock()
        self._probing = ForkSafeLock()
        self.outages = 0
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin closed in a forked child: the thread that probes is the parent's."""
        self._next_probe: float | None = None  # None while the breaker is closed
        self._reason = ""
        self._watched = False  # a thread makes the next probes
        self._probed = 0
        self._stop = threading.Event()

    @property
    def state(self) -> Literal["closed", "open"]:
        """Return ``closed`` while calls go through, else ``open``."""
        return "closed" if self._next_probe is None else "open"

    @property
    def reason(self) -> str:
        """Return why the breaker is open; empty while it is closed."""
        return self._reason

    def allows(self) -> bool:
        """Return whether a call may go to the store now; start a probe when one is due."""
        if self.state == "closed":
            return True
        with self._lock:
            next_probe, now = self._next_probe, self._clock()
            if next_probe is None:
                return True
            if now < next_probe or self._watched:
                return False
            self._next_probe = now + self._interval
            self._watched = self._probes > 1
        self._start(self._watch if self._probes > 1 else self._run_probe)
        return False

    def record_failure(self, reason: str) -> None:
        """Open the breaker after a call that got no answer."""
        with self._lock:
            opened = self._next_probe is None
            self._next_probe = self._clock() + self._interval
            self._reason = reason
            self.outages += opened
            watch = opened and self._probes > 1 and not self._watched
            self._watched = self._watched or watch
        if opened:
            self._log.warning("%s.down: %s; %s", self._store.lower(), reason, self._meanwhile)
        if watch:
            self._start(self._watch)

    def probe_now(self) -> None:
        """Probe in the calling thread while the breaker is open, after a probe that is under way.

        That one may have begun before the store was back, so its failure does not count; one that began later does.
        """
        probed = self._probed
        if self.state == "open":
            with self._probing:
                if self._probed == probed:
                    self._run_probe_alone()

    def close(self) -> None:
        """Stop probing, because nobody calls the store any more."""
        self._stop.set()
        self._stop = threading.Event()

    def _watch(self) -> None:
        """Probe at intervals until the store answers, or for ``probes`` times; then the next call starts it again."""
        stop = self._stop
        for number in range(self._probes):  # the first one soon: a single call may have been slow
            if stop.wait(self._interval if number else self._interval / 10) or self.state == "closed":
                break
            self._run_probe()
        with self._lock:
            self._watched = False

    def _run_probe(self) -> None:
        with self._probing:
            self._run_probe_alone()

    def _run_probe_alone(self) -> None:
        self._probed += 1
        try:
            self._probe()
        except Exception as error:  # noqa: BLE001 - whatever error the probe meets, the store is not usable yet
            self._reason = str(error)
            return
        with self._lock:
            closed, self._next_probe = self._next_probe is not None, None
            self._reason = ""
        if closed:
            self._log.warning("%s.back: %s answers again", self._store.lower(), self._store)


def reason_of(error: BaseException) -> str:
    """Return what an error of a store says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
