"""Attempts of calls while they run, reported by one recorder or several; in memory only.

The nth start of a call is its nth attempt, whoever reports it. An attempt is over when every source that began it has
ended it. What the sources report of its end is `merged` until the attempt is sealed to be written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from agentmodel._process import ForkSafeLock
from agentmodel.dynamo.models import Status

__all__ = ["Attempt", "AttemptOutcome", "Attempts", "merged"]

_WEAKEST_FIRST: tuple[Status, ...] = ("ok", "edited", "error", "interrupted")  # every other status is stronger


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """How an attempt ended, as one recorder saw it."""

    at: datetime
    status: Status
    result: Any = None
    error_type: str | None = None


def merged(first: AttemptOutcome | None, second: AttemptOutcome) -> AttemptOutcome:
    """Merge what two recorders report of the end of one attempt.

    The stronger status wins, whichever comes first: ``ok`` is the weakest, then ``edited`` (it succeeded with other
    arguments), ``error``, ``interrupted``, and strongest is what never reached a tool (``rejected``, ``blocked``,
    ``cache_hit``, ``expired``, ``unknown_tool``). Of equal ones the first wins, and the second fills in what the first
    leaves out. The time is the first one's, which is closer to the tool.

    >>> at = datetime.fromisoformat("2025-06-14T00:00Z")
    >>> merged(AttemptOutcome(at, "error", "no"), AttemptOutcome(at, "rejected")).status
    'rejected'
    >>> merged(AttemptOutcome(at, "rejected"), AttemptOutcome(at, "ok", "paid")).status
    'rejected'
    """
    if first is None:
        return second
    winner, other = (second, first) if _strength(second.status) > _strength(first.status) else (first, second)
    return AttemptOutcome(
        first.at,
        winner.status,
        other.result if winner.result is None else winner.result,
        other.error_type if winner.error_type is None and winner.status == other.status else winner.error_type,
    )


def _strength(status: Status) -> int:
    return _WEAKEST_FIRST.index(status) if status in _WEAKEST_FIRST else len(_WEAKEST_FIRST)


@dataclass(slots=True)
class Attempt:
    """One attempt of a call.

    Attributes:
        running: Sources that reported its start and not its end.
        outcome: Its end, as far as it was reported.
    """

    call_id: str
    number: int
    agent: str
    tool: str
    arguments: Any
    at: datetime
    running: set[str]
    outcome: AttemptOutcome | None = None

    @property
    def label(self) -> str:
        """Return what the attempt is called in the log."""
        return f"call {self.call_id} of {self.tool}"


class Attempts:
    """The attempts of one run; reported from any thread."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._starts: dict[tuple[str, str], int] = {}  # by call and source
        self._open: dict[tuple[str, int], Attempt] = {}
        self._sealed: set[tuple[str, int]] = set()
        self._edited: dict[str, Any] = {}  # by call
        self._begun: set[str] = set()  # calls with an attempt
        self._asked: dict[str, int] = {}  # how often a call of this id was asked for anew, by the framework's id
        self._asked_at: dict[str, datetime] = {}  # when each call was asked for, by its own id

    def ask(self, call_id: str) -> str:
        """Note that the model asks for a call, and return the call's own id.

        Some servers number the calls of each answer anew. A retry starts before the model's next turn; so an id that is
        asked for again, after every attempt of its call has ended, is a new call. A turn that a second recorder reports
        again comes before its calls begin, and changes nothing.
        """
        with self._lock:
            own = self._own(call_id)
            if own in self._begun and not any(one.running for one in self._open.values() if one.call_id == own):
                self._asked[call_id] = self._asked.get(call_id, 1) + 1
                own = self._own(call_id)
            self._asked_at.setdefault(own, datetime.now(UTC))
            return own

    def asked(self, call_id: str) -> tuple[int, datetime | None]:
        """Return how many calls of the framework's id were asked for, and when the last one was; None if unseen."""
        with self._lock:
            return self._asked.get(call_id, 1), self._asked_at.get(self._own(call_id))

    def _own(self, call_id: str) -> str:
        """Return the id of the call that was asked for last under the framework's id."""
        times = self._asked.get(call_id, 1)
        return call_id if times == 1 else f"{call_id}~{times}"

    def start(
        self, call_id: str, source: str, *, agent: str, tool: str, arguments: Any, at: datetime
    ) -> tuple[int, str | None]:
        """Note that an attempt begins; return its number, and the call's own id to the first source that reports it."""
        with self._lock:
            call_id = self._own(call_id)
            self._begun.add(call_id)
            number = self._starts[call_id, source] = self._starts.get((call_id, source), 0) + 1
            key = call_id, number
            attempt = self._open.get(key)
            if attempt is not None:
                attempt.running.add(source)
                if attempt.arguments is None:
                    attempt.arguments = arguments
                if attempt.outcome is None:  # the later of the starts is closer to the tool
                    attempt.at = max(attempt.at, at)
            elif key not in self._sealed:
                self._open[key] = Attempt(call_id, number, agent, tool, arguments, at, {source})
                return number, call_id
            return number, None

    def end(self, call_id: str, number: int, source: str, outcome: AttemptOutcome) -> Attempt | None:
        """Note an end and return the attempt; None if this source did not begin it, or reported its end before."""
        with self._lock:
            attempt = self._open.get((self._own(call_id), number))
            if attempt is None or source not in attempt.running:
                return None
            attempt.running.discard(source)
            attempt.outcome = merged(attempt.outcome, outcome)
            return attempt

    def edited(self, call_id: str, arguments: Any) -> None:
        """Note that a call was edited: its attempts that succeed from now on are ``edited``.

        Args:
            call_id: The call.
            arguments: What it is made with; None keeps what its attempts were started with.
        """
        with self._lock:
            self._edited[self._own(call_id)] = arguments

    def settle(self, default: AttemptOutcome | None = None) -> list[Attempt]:
        """Stop waiting for further sources, and return the attempts that are complete by that.

        Args:
            default: The end of attempts that no source has ended; None leaves them running.
        """
        with self._lock:
            running = [attempt for attempt in self._open.values() if attempt.running]
            for attempt in running:
                attempt.outcome = attempt.outcome or default
            settled = [attempt for attempt in running if attempt.outcome is not None]
            for attempt in settled:
                attempt.running.clear()
            return settled

    def seal(self, attempt: Attempt) -> AttemptOutcome | None:
        """Return the final end of an attempt; None if a source is still running, or if it was sealed before."""
        key = attempt.call_id, attempt.number
        with self._lock:
            if attempt.running or key in self._sealed or attempt.outcome is None:
                return None
            self._sealed.add(key)
            del self._open[key]
            outcome = attempt.outcome
            if outcome.status == "ok" and attempt.call_id in self._edited:
                arguments = self._edited[attempt.call_id]
                attempt.arguments = attempt.arguments if arguments is None else arguments
                outcome = replace(outcome, status="edited")
            return outcome
