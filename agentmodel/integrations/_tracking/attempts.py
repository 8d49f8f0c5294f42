"""Attempts of calls while they run, reported by one recorder or several; in memory only.

The nth start of a call is its nth attempt, whoever reports it. An attempt is over when every source that began it has
ended it. What the sources report of its end is `merged` until the attempt is sealed to be written.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from agentmodel._runtime.process import ForkSafeLock
from agentmodel.dynamo.models import Status

__all__ = ["MAX_CALLS", "Attempt", "AttemptOutcome", "Attempts", "StartedAttempt", "merged"]

MAX_CALLS = 10_000
"""Calls of a run that are remembered."""

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

    >>> from datetime import datetime
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


class StartedAttempt(int):
    """The number of an attempt, which also says which call it is of: agents at once may use one id for two calls."""

    call_id: str

    def __new__(cls, number: int, call_id: str) -> Self:
        made = super().__new__(cls, number)
        made.call_id = call_id
        return made


class Attempts:
    """The attempts of one run; reported from any thread.

    A ``scope`` is one of several agents that run at once and number their calls by themselves: the same id in another
    scope is another call.

    Args:
        max_calls: Calls that are remembered; of more, the oldest that has ended is forgotten.
    """

    def __init__(self, max_calls: int = MAX_CALLS) -> None:
        self._lock = ForkSafeLock()
        self._max_calls = max_calls
        self._known: OrderedDict[str, tuple[str, str, int]] = OrderedDict()  # by own id: id, scope, number
        self._forgotten = 0
        self._sources: set[str] = set()
        self._starts: dict[tuple[str, str], int] = {}  # by call and source
        self._open: dict[tuple[str, int], Attempt] = {}
        self._sealed: set[tuple[str, int]] = set()
        self._edited: dict[str, Any] = {}  # by call
        self._begun: set[str] = set()  # calls with an attempt
        self._asked: dict[str, int] = {}  # how many calls of this id there are, by the framework's id
        self._last: dict[tuple[str, str], tuple[str, int]] = {}  # by id and scope: the call's own id, which it is
        self._asked_at: dict[str, datetime] = {}  # when each call was asked for, by its own id

    def ask(self, call_id: str, scope: str = "") -> str:
        """Note that the model asks for a call, and return the call's own id.

        Some servers number the calls of each answer anew. A retry starts before the model's next turn; so an id that is
        asked for again, after every attempt of its call has ended, is a new call. A turn that a second recorder reports
        again comes before its calls begin, and changes nothing.
        """
        with self._lock:
            own = self._own(call_id, scope)
            if own in self._begun and not any(one.running for one in self._open.values() if one.call_id == own):
                own = self._new(call_id, scope)
            self._asked_at.setdefault(own, datetime.now(UTC))
            return own

    def asked(self, call_id: str, scope: str = "") -> tuple[int, datetime | None]:
        """Return which of the calls of the framework's id was asked for last, and when; None if that was not seen."""
        with self._lock:
            own, number = self._last.get((call_id, scope)) or self._last.get((call_id, "")) or (call_id, 1)
            return number, self._asked_at.get(own)

    def _own(self, call_id: str, scope: str) -> str:
        """Return the id of the call that was asked for last under the framework's id, in this scope."""
        if (call_id, scope) in self._last:
            return self._last[call_id, scope][0]
        unscoped = self._last.get((call_id, ""))  # its turn was reported without a scope
        if unscoped is not None:
            return unscoped[0]
        if not scope and call_id in self._asked:  # reported without a scope: the last one
            return _numbered(call_id, self._asked[call_id])
        return self._new(call_id, scope)

    def _new(self, call_id: str, scope: str) -> str:
        # as many calls were forgotten as an id that is unknown can have had, so its number is none of theirs
        number = self._asked[call_id] = self._asked.get(call_id, self._forgotten) + 1
        own = _numbered(call_id, number)
        self._last[call_id, scope] = own, number
        self._known[own] = call_id, scope, number
        if len(self._known) > self._max_calls:
            self._forget_oldest()
        return own

    def _forget_oldest(self) -> None:
        running = {call_id for call_id, _ in self._open}
        own = next((each for each in self._known if each not in running), None)
        if own is None:
            return
        call_id, scope, number = self._known.pop(own)
        self._forgotten += 1
        attempts = max((self._starts.pop((own, source), 0) for source in self._sources), default=0)
        self._sealed.difference_update((own, each) for each in range(1, attempts + 1))
        self._begun.discard(own)
        self._edited.pop(own, None)
        self._asked_at.pop(own, None)
        if self._asked.get(call_id) == number:
            del self._asked[call_id]
        if self._last.get((call_id, scope)) == (own, number):
            del self._last[call_id, scope]

    def start(
        self, call_id: str, source: str, *, agent: str, tool: str, arguments: Any, at: datetime, scope: str = ""
    ) -> tuple[StartedAttempt, bool, bool]:
        """Note that an attempt begins.

        Returns:
            Its number; whether this is the first source that reports it; and whether a turn asked for its call.
        """
        with self._lock:
            call_id = self._own(call_id, scope)
            self._begun.add(call_id)
            self._sources.add(source)
            number = self._starts[call_id, source] = self._starts.get((call_id, source), 0) + 1
            key, started = (call_id, number), StartedAttempt(number, call_id)
            attempt = self._open.get(key)
            if attempt is not None:
                attempt.running.add(source)
                if attempt.arguments is None:
                    attempt.arguments = arguments
                if attempt.outcome is None:  # the later of the starts is closer to the tool
                    attempt.at = max(attempt.at, at)
            elif key not in self._sealed:
                self._open[key] = Attempt(call_id, number, agent, tool, arguments, at, {source})
                return started, True, call_id in self._asked_at
            return started, False, call_id in self._asked_at

    def end(self, call_id: str, number: int, source: str, outcome: AttemptOutcome) -> Attempt | None:
        """Note an end and return the attempt; None if this source did not begin it, or reported its end before."""
        with self._lock:
            own = number.call_id if isinstance(number, StartedAttempt) else self._own(call_id, "")
            attempt = self._open.get((own, int(number)))
            if attempt is None or source not in attempt.running:
                return None
            attempt.running.discard(source)
            attempt.outcome = merged(attempt.outcome, outcome)
            return attempt

    def edited(self, call_id: str, arguments: Any, scope: str = "") -> None:
        """Note that a call was edited: its attempts that succeed from now on are ``edited``.

        Args:
            call_id: The call.
            arguments: What it is made with; None keeps what its attempts were started with.
            scope: As in `start`.
        """
        with self._lock:
            self._edited[self._own(call_id, scope)] = arguments

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


def _numbered(call_id: str, number: int) -> str:
    return call_id if number == 1 else f"{call_id}~{number}"
