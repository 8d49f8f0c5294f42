"""Outcomes from outside: who may say how a run went, and whose word counts.

The order of trust is a person's verdict in a review, then an outcome from outside by its source (`OUTCOME_SOURCES`),
then what the session itself recorded, then its calls. Of two outcomes from one source, the one about a single agent
counts for that agent before the one about the whole session, then the later one, then a failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, get_args

from agentmodel.exceptions import ValidationError

__all__ = ["OUTCOME_SOURCES", "PASSING_SCORE", "OutcomeSource", "ReportedOutcome", "check_outcome", "trusted"]

OutcomeSource = Literal["person", "event", "evaluator"]
"""Who says how a run went: a ``person`` (the user), a business ``event`` (a refund), or an ``evaluator`` (a model)."""

OUTCOME_SOURCES: Final[tuple[OutcomeSource, ...]] = get_args(OutcomeSource)
"""Every `OutcomeSource`, the most trusted first."""

PASSING_SCORE: Final = 0.5
"""A score from here up means success, where nothing else says so."""


class ReportedOutcome(NamedTuple):
    """What one source said about a run.

    Attributes:
        source: Who said it.
        succeeded: Whether the run succeeded.
        of_agent: Whether it is about one agent of the session.
        at: When it was said: 20 digits, or a datetime; comparable with the others. None counts as the oldest.
    """

    source: str
    succeeded: bool
    of_agent: bool = False
    at: Any = None


def trusted(outcomes: Iterable[ReportedOutcome]) -> bool | None:
    """Return what the most trusted of some outcomes says; None where there is none.

    >>> trusted([ReportedOutcome("evaluator", True), ReportedOutcome("event", False)])
    False
    >>> trusted([ReportedOutcome("event", False), ReportedOutcome("event", True, of_agent=True)])
    True
    """
    ranked = [
        (-OUTCOME_SOURCES.index(one.source), one.of_agent, one.at is not None, one.at or "", not one.succeeded)
        for one in outcomes
        if one.source in OUTCOME_SOURCES
    ]
    return not max(ranked)[-1] if ranked else None


def check_outcome(
    succeeded: bool | None, score: float | None, *, source: str, at: datetime | None = None
) -> tuple[bool, float | None]:
    """Return whether a run succeeded, and its score; a score alone decides by `PASSING_SCORE`.

    Raises:
        ValidationError: Neither is given, or one of them, the source or the time is not valid.

    >>> check_outcome(None, 0.25, source="evaluator"), check_outcome(True, None, source="person")
    ((False, 0.25), (True, None))
    """
    if source not in OUTCOME_SOURCES:
        raise ValidationError("source", source, "must be one of " + ", ".join(OUTCOME_SOURCES))
    if succeeded is not None and not isinstance(succeeded, bool):
        raise ValidationError("succeeded", succeeded, "must be True or False")
    if score is not None:
        is_number = isinstance(score, int | float) and not isinstance(score, bool)
        if not is_number or not 0 <= score <= 1:
            raise ValidationError("score", score, "must be a number from 0 to 1: divide by the highest score possible")
        score = float(score)
    if at is not None and (not isinstance(at, datetime) or at.tzinfo is None):
        raise ValidationError("at", at, "must be a datetime with a time zone")
    if succeeded is None and score is None:
        raise ValidationError("succeeded", None, "must be given, or a score from 0 to 1")
    return (score or 0.0) >= PASSING_SCORE if succeeded is None else succeeded, score
