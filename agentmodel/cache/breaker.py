"""The circuit breaker: after a failure nobody waits for Valkey until it answers again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Literal

__all__ = ["Breaker"]

_log = logging.getLogger("agentmodel.cache")


def _in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="agentmodel-valkey-probe", daemon=True).start()


class Breaker:
    """Closed: calls go through. Open: calls are refused at once, and a probe asks now and then in the background.

    No caller ever pays for a probe: the first call after ``every`` seconds starts one in a short-lived thread and is
    itself refused.

    Args:
        probe: Asks the server; raises when it does not answer.
        every: Seconds between two probes.
        clock: Monotonic seconds.
        start: Runs the probe; a thread by default.
    """

    def __init__(
        self,
        probe: Callable[[], None],
        *,
        clock: Callable[[], float],
        every: float = 1.0,
        start: Callable[[Callable[[], None]], None] = _in_thread,
    ) -> None:
        self._probe = probe
        self._every = every
        self._clock = clock
        self._start = start
        self._lock = threading.Lock()
        self._due: float | None = None
        self._reason = ""
        self.opened = 0
        """How often it opened: one outage, one count."""

    @property
    def state(self) -> Literal["closed", "open"]:
        """Whether calls go through."""
        return "closed" if self._due is None else "open"

    @property
    def reason(self) -> str:
        """Why it is open; empty while it is closed."""
        return self._reason

    def allows(self) -> bool:
        """Whether a call may go to the server now."""
        if self.state == "closed":
            return True
        with self._lock:
            due, now = self._due, self._clock()
            if due is None:
                return True
            if now < due:
                return False
            self._due = now + self._every
        self._start(self._ask)
        return False

    def failed(self, reason: str) -> None:
        """A call failed although it was tried twice."""
        with self._lock:
            first = self._due is None
            self._due = self._clock() + self._every
            self._reason = reason
            self.opened += first
        if first:
            _log.warning("valkey.down: %s; reads and writes go to the table until it answers", reason)

    def _ask(self) -> None:
        try:
            self._probe()
        except Exception as error:  # noqa: BLE001 - whatever the probe meets, the server is not usable yet
            self._reason = str(error)
            return
        with self._lock:
            self._due = None
            self._reason = ""
        _log.warning("valkey.back: Valkey answers again")
