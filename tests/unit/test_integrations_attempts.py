"""Attempts as several recorders tell them: counted by start, put together at the end, sealed once."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from agentmodel.dynamo.models import UserSession
from agentmodel.integrations._tracking.attempts import MAX_CALLS, AttemptOutcome, Attempts, merged
from agentmodel.integrations._tracking.session_writer import _CallState, _SessionState, _StepState
from agentmodel.traces import STATUSES

AT = datetime(2025, 6, 14, tzinfo=UTC)
NEVER_MADE = {"rejected", "blocked", "cache_hit", "expired", "unknown_tool"}

statuses = st.sampled_from(STATUSES)
outcomes = st.builds(AttemptOutcome, st.just(AT), statuses)


def begun(attempts: Attempts, source: str) -> tuple[int, bool, bool]:
    """The start of a call ``c1``."""
    return attempts.start("c1", source, agent="finder", tool="pay", arguments=None, at=AT)


def begun_call(attempts: Attempts) -> tuple[int, str]:
    """The number of the start of a call ``c1``, and the call's own id."""
    number = attempts.start("c1", "a", agent="finder", tool="pay", arguments=None, at=AT)[0]
    return number, number.call_id


@given(st.lists(outcomes, min_size=1, max_size=4))
def test_merged_status(told: list[AttemptOutcome]) -> None:
    """A status of a call that was never made wins over others, an error over a success, edited over a plain ok."""
    end: AttemptOutcome | None = None
    for outcome in told:
        end = merged(end, outcome)

    assert end is not None
    seen = [outcome.status for outcome in told]
    wins = [status for status in seen if status in NEVER_MADE] or [
        status for status in ("interrupted", "error", "edited", "ok") if status in seen
    ]
    assert wins[0] == end.status


def test_merged_details() -> None:
    """What one of two equal recorders does not tell is taken from the other; no error of one that did not win."""
    first, second = AttemptOutcome(AT, "error"), AttemptOutcome(AT, "error", "gone", "ConnectionError")

    assert second == merged(first, second)
    assert second == merged(second, first)
    assert AttemptOutcome(AT, "rejected", "too much") == merged(
        AttemptOutcome(AT, "error", "failed", "ToolError"), AttemptOutcome(AT, "rejected", "too much")
    )


def test_starts_are_counted_by_source() -> None:
    """The nth start of any source is the nth attempt; only the first to tell of it begins it."""
    attempts = Attempts()
    told = [begun(attempts, source) for source in ("a", "b", "b", "a", "a")]

    assert [(1, True), (1, False), (2, True), (2, False), (3, True)] == [(number, first) for number, first, _ in told]


def test_starts_say_whether_a_turn_asked() -> None:
    """A start says whether a turn has asked for its call, also for a retry, and not for a call that no turn asked for."""
    attempts = Attempts()
    unasked = begun(attempts, "a")
    attempts.ask("c2")
    asked = [attempts.start("c2", "a", agent="finder", tool="pay", arguments=None, at=AT) for _ in range(2)]

    assert (1, True, False) == unasked
    assert [(1, True, True), (2, True, True)] == asked


def test_sealed_when_all_have_ended() -> None:
    """An attempt is sealed when every source that began it has ended it, and once."""
    attempts = Attempts()
    for source in ("a", "b"):
        begun(attempts, source)
    attempt = attempts.end("c1", 1, "a", AttemptOutcome(AT, "ok"))
    assert attempt is not None

    assert None is attempts.seal(attempt)
    assert None is attempts.end("c1", 1, "a", AttemptOutcome(AT, "rejected"))
    assert attempt is attempts.end("c1", 1, "b", AttemptOutcome(AT, "error"))
    assert AttemptOutcome(AT, "error") == attempts.seal(attempt)
    assert None is attempts.seal(attempt)
    assert None is attempts.end("c1", 1, "b", AttemptOutcome(AT, "rejected"))


def test_settle() -> None:
    """What waits for one source more is settled as it is; what has not ended at all only with an end given."""
    attempts = Attempts()
    for source in ("a", "b"):
        begun(attempts, source)
    attempts.end("c1", 1, "a", AttemptOutcome(AT, "ok"))
    begun(attempts, "a")

    assert [1] == [attempt.number for attempt in attempts.settle()]
    assert [(2, "interrupted")] == [
        (attempt.number, attempt.outcome.status if attempt.outcome else None)
        for attempt in attempts.settle(AttemptOutcome(AT, "interrupted"))
    ]


def test_an_id_that_is_asked_for_again_is_a_new_call() -> None:
    """An id whose call has ended begins at attempt 1 again; a turn told twice, or while the call runs, changes nothing."""
    attempts = Attempts()

    assert ["c1", "c1"] == [attempts.ask("c1") for _ in range(2)]
    assert (1, "c1") == begun_call(attempts)
    assert "c1" == attempts.ask("c1")
    ended = attempts.end("c1", 1, "a", AttemptOutcome(AT, "error"))
    assert ended is not None
    assert attempts.seal(ended) is not None
    assert (2, "c1") == begun_call(attempts)
    ended = attempts.end("c1", 2, "a", AttemptOutcome(AT, "ok"))
    assert ended is not None
    assert attempts.seal(ended) is not None
    assert ["c1~2", "c1~2"] == [attempts.ask("c1") for _ in range(2)]
    assert (1, "c1~2") == begun_call(attempts)


def test_a_long_run_stays_small() -> None:
    """Of many calls the newest are remembered, and one that still runs; an id that comes again is never an old call."""
    attempts = Attempts(max_calls=50)
    attempts.start("runs", "hook", agent="finder", tool="pay", arguments=None, at=AT)
    own = []
    for number in range(2_000):
        call_id = f"call_{number % 70}" if number % 2 else f"unique {number}"
        own.append(attempts.ask(call_id, str(number % 3)))
        scope = str(number % 3)
        started = {
            source: attempts.start(call_id, source, agent="finder", tool="pay", arguments=None, at=AT, scope=scope)[0]
            for source in ("callback", "hook")
        }
        attempts.edited(call_id, None, scope)
        for source, attempt in started.items():
            ended = attempts.end(call_id, attempt, source, AttemptOutcome(AT, "ok"))
            assert ended is not None
        assert ended is not None
        assert attempts.seal(ended) is not None

    assert len(own) == len(set(own))
    kept = {name: len(value) for name, value in vars(attempts).items() if isinstance(value, dict | set)}
    assert all(size <= 2 * 51 for size in kept.values()), kept
    running = attempts.end("runs", 1, "hook", AttemptOutcome(AT, "ok"))
    assert running is not None
    assert "ok" == getattr(attempts.seal(running), "status", None)


def test_a_long_session_stays_small() -> None:
    """The writer remembers the newest calls of a session and their steps."""
    state = _SessionState(UserSession(user_id="USR001", session_id="SESS1", name="n"), 0, 0)
    step = _StepState("model")
    for number in range(MAX_CALLS + 20):
        state.add(f"c{number}", _CallState(number))
        state.steps[f"c{number}"] = step

    assert (MAX_CALLS, MAX_CALLS + 1) >= (len(state.calls), len(state.steps))
    assert "c19" not in state.calls
