"""Attempts as several recorders tell them: counted by start, put together at the end, sealed once."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from agentmodel.dynamo.models import STATUSES
from agentmodel.integrations._attempts import Attempts, Outcome, merged

AT = datetime(2025, 6, 14, tzinfo=UTC)
NEVER_MADE = {"rejected", "blocked", "cache_hit", "expired", "unknown_tool"}

statuses = st.sampled_from(STATUSES)
outcomes = st.builds(Outcome, st.just(AT), statuses)


def begun(attempts: Attempts, source: str) -> tuple[int, bool]:
    """The start of a call ``c1``."""
    return attempts.start("c1", source, agent="finder", tool="pay", arguments=None, at=AT)


@given(st.lists(outcomes, min_size=1, max_size=4))
def test_merged_status(told: list[Outcome]) -> None:
    """A status of a call that was never made wins over others, an error over a success, edited over a plain ok."""
    end: Outcome | None = None
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
    first, second = Outcome(AT, "error"), Outcome(AT, "error", "gone", "ConnectionError")

    assert second == merged(first, second)
    assert second == merged(second, first)
    assert Outcome(AT, "rejected", "too much") == merged(
        Outcome(AT, "error", "failed", "ToolError"), Outcome(AT, "rejected", "too much")
    )


def test_starts_are_counted_by_source() -> None:
    """The nth start of any source is the nth attempt; only the first to tell of it begins it."""
    attempts = Attempts()
    told = [begun(attempts, source) for source in ("a", "b", "b", "a", "a")]

    assert [(1, True), (1, False), (2, True), (2, False), (3, True)] == told


def test_sealed_when_all_have_ended() -> None:
    """An attempt is sealed when every source that began it has ended it, and once."""
    attempts = Attempts()
    for source in ("a", "b"):
        begun(attempts, source)
    attempt = attempts.end("c1", 1, "a", Outcome(AT, "ok"))
    assert attempt is not None

    assert None is attempts.seal(attempt)
    assert None is attempts.end("c1", 1, "a", Outcome(AT, "rejected"))
    assert attempt is attempts.end("c1", 1, "b", Outcome(AT, "error"))
    assert Outcome(AT, "error") == attempts.seal(attempt)
    assert None is attempts.seal(attempt)
    assert None is attempts.end("c1", 1, "b", Outcome(AT, "rejected"))


def test_settle() -> None:
    """What waits for one source more is settled as it is; what has not ended at all only with an end given."""
    attempts = Attempts()
    for source in ("a", "b"):
        begun(attempts, source)
    attempts.end("c1", 1, "a", Outcome(AT, "ok"))
    begun(attempts, "a")

    assert [1] == [attempt.number for attempt in attempts.settle()]
    assert [(2, "interrupted")] == [
        (attempt.number, attempt.outcome.status if attempt.outcome else None)
        for attempt in attempts.settle(Outcome(AT, "interrupted"))
    ]
