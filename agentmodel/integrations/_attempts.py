"""Attempts of calls while they run, told by one recorder or several; in memory only.

The nth start of a call is its nth attempt, whoever tells it. An attempt is over when every source that began it has
ended it; what they say of its end is `merged`, until it is sealed to be written.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from agentmodel.dynamo.models import Status

__all__ = ["Attempt", "Attempts", "Outcome", "merged"]

_LEAST_FIRST: tuple[Status, ...] = ("ok", "edited", "error", "interrupted")  # the others say more than these


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, as one recorder saw it."""

    at: datetime
    status: Status
    result: Any = None
    error_type: str | None = None


def merged(first: Outcome | None, second: Outcome) -> Outcome:
    """What two recorders say of the end of one attempt, as one.

    A status that says more wins over one that says less, whichever comes first: ``ok`` says least, then ``edited``
    (it ended well, with other arguments), ``error``, ``interrupted``, and most what never reached a tool
    (``rejected``, ``blocked``, ``cache_hit``, ``expired``, ``unknown_tool``). Of equals the first stays, and what it
    does not tell is taken from the second. The time is the first one's, which is nearer to the tool.

    >>> at = datetime.fromisoformat("2025-06-14T00:00Z")
    >>> merged(Outcome(at, "error", "no"), Outcome(at, "rejected")).status
    'rejected'
    >>> merged(Outcome(at, "rejected"), Outcome(at, "ok", "paid")).status
    'rejected'
    """
    if first is None:
        return second
    more, less = (second, first) if _says(second.status) > _says(first.status) else (first, second)
    return Outcome(
        first.at,
        more.status,
        less.result if more.result is None else more.result,
        less.error_type if more.error_type is None and more.status == less.status else more.error_type,
    )


def _says(status: Status) -> int:
    return _LEAST_FIRST.index(status) if status in _LEAST_FIRST else len(_LEAST_FIRST)


@dataclass(slots=True)
class Attempt:
    """One attempt of a call.

    Attributes:
        running: Sources that told its start and not its end.
        outcome: Its end, as far as it is told.
    """

    call_id: str
    number: int
    agent: str
    tool: str
    arguments: Any
    at: datetime
    running: set[str]
    outcome: Outcome | None = None


class Attempts:
    """The attempts of one run; told from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._starts: dict[tuple[str, str], int] = {}  # by call and source
        self._open: dict[tuple[str, int], Attempt] = {}
        self._sealed: set[tuple[str, int]] = set()
        self._edited: dict[str, Any] = {}  # by call

    def start(
        self, call_id: str, source: str, *, agent: str, tool: str, arguments: Any, at: datetime
    ) -> tuple[int, bool]:
        """The number of the attempt that begins, and whether this source is the first to tell of it."""
        with self._lock:
            number = self._starts[call_id, source] = self._starts.get((call_id, source), 0) + 1
            place = call_id, number
            known = self._open.get(place)
            if known is not None:
                known.running.add(source)
                if known.arguments is None:
                    known.arguments = arguments
                if known.outcome is None:  # the later of the starts is nearer to the tool
                    known.at = max(known.at, at)
            elif place not in self._sealed:
                self._open[place] = Attempt(call_id, number, agent, tool, arguments, at, {source})
                return number, True
            return number, False

    def end(self, call_id: str, number: int, source: str, outcome: Outcome) -> Attempt | None:
        """The attempt that this source ended; None if it began none such, or told its end before."""
        with self._lock:
            known = self._open.get((call_id, number))
            if known is None or source not in known.running:
                return None
            known.running.discard(source)
            known.outcome = merged(known.outcome, outcome)
            return known

    def edited(self, call_id: str, arguments: Any) -> None:
        """Attempts of this call that end well from now on were edited; None leaves their arguments."""
        with self._lock:
            self._edited[call_id] = arguments

    def settle(self, otherwise: Outcome | None = None) -> list[Attempt]:
        """Those that wait for a source no more; one that has not ended at all ends ``otherwise``, if that is given."""
        with self._lock:
            waiting = [known for known in self._open.values() if known.running]
            for known in waiting:
                known.outcome = known.outcome or otherwise
            settled = [known for known in waiting if known.outcome is not None]
            for known in settled:
                known.running.clear()
            return settled

    def seal(self, attempt: Attempt) -> Outcome | None:
        """The end of an attempt, from now on for good; None if it waits for a source, or was sealed before."""
        place = attempt.call_id, attempt.number
        with self._lock:
            if attempt.running or place in self._sealed or attempt.outcome is None:
                return None
            self._sealed.add(place)
            del self._open[place]
            outcome = attempt.outcome
            if outcome.status == "ok" and attempt.call_id in self._edited:
                given = self._edited[attempt.call_id]
                attempt.arguments = attempt.arguments if given is None else given
                outcome = replace(outcome, status="edited")
            return outcome
