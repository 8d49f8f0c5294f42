"""What a question may ask, what may be answered, and how it goes from one state to the next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, get_args

from agentmodel import keys
from agentmodel.dynamo.models import Review, ReviewStatus
from agentmodel.exceptions import Conflict, ValidationError
from agentmodel.suggest.answers import Decision, status_now

__all__ = [
    "OPEN",
    "check_decision",
    "check_terms",
    "close",
    "escalate",
    "event_of",
    "expire",
    "is_past",
    "person",
    "still_open",
]

OPEN = ("pending", "claimed")
"""Where a question stands that can be answered."""


def check_terms(
    allowed: Sequence[str],
    on_expiry: str,
    answer_within: timedelta,
    escalate_after: timedelta | None = None,
    escalate_to: str | None = None,
) -> None:
    """Refuse terms that no question can have; see `Reviews.ask`."""
    known = get_args(Decision)
    for each in (*allowed, on_expiry):
        if each not in known:
            raise ValidationError("allowed", each, "one of " + ", ".join(known))
    if on_expiry not in ("approve", "reject"):
        raise ValidationError("on_expiry", on_expiry, "approve or reject: the others need a person")
    if answer_within <= timedelta(0):
        raise ValidationError("answer_within", answer_within, "a time above 0")
    if (escalate_after is None) != (escalate_to is None):
        raise ValidationError("escalate_to", escalate_to, "escalate_after and escalate_to are given together")


def check_decision(
    review: Review,
    decision: str,
    by: str,
    at: datetime,
    *,
    reason: str | None = None,
    arguments: Any = None,
    response: str | None = None,
) -> None:
    """Refuse what `Reviews.decide` would refuse, as far as a question that was read tells.

    Raises:
        Conflict: It is answered already, expired, or kept by somebody else.
        ValidationError: The answer is not allowed, or lacks its part.
    """
    still_open(review, at, by=person(by))
    if review.phase == "post":
        raise ValidationError("phase", review.phase, "after a run a verdict is given")
    if decision not in (review.allowed or ()):
        raise ValidationError("decision", decision, "one of " + ", ".join(review.allowed or ()))
    if decision == "reject" and not reason:
        raise ValidationError("reason", reason, "a rejection says why")
    if decision == "edit" and arguments is None:
        raise ValidationError("arguments", arguments, "an edit gives the arguments to call with")
    if decision == "respond" and response is None:
        raise ValidationError("response", response, "a response is text")
    if decision != "edit" and arguments is not None:
        raise ValidationError("arguments", arguments, "only an edit changes them")


def still_open(review: Review, at: datetime, *, by: str | None) -> None:
    """Refuse to change what is answered or expired, or what somebody else keeps."""
    status = status_now(review, at)
    if status not in OPEN:
        who = f" by {review.decided_by}" if review.decided_by else ""
        raise Conflict(f"review {review.review_id} is {status}{who} already: nothing was changed")
    if status == "claimed" and by is not None and review.claimed_by != by:
        raise Conflict(f"review {review.review_id} is kept by {review.claimed_by} until {review.claimed_until}")


def person(by: str) -> str:
    """The name of a person."""
    if not isinstance(by, str) or not by.strip():
        raise ValidationError("by", by, "the name of the person who does it")
    return by


def close(
    review: Review, status: ReviewStatus, decision: str | None, by: str, at: datetime, *, reason: str | None
) -> None:
    """Answer it: it leaves its queue."""
    review.status, review.decision = status, decision
    review.decided_by, review.decided_at, review.decision_reason = by, at, reason
    review.queue = review.due_at = None
    review.claimed_by = review.claimed_until = None


def expire(review: Review, at: datetime) -> None:
    """Answer it by its deadline."""
    if review.status not in OPEN:
        raise Conflict(f"review {review.review_id} is {review.status} already")
    decision = review.on_expiry or "reject"
    review.final_arguments = review.arguments
    close(review, "expired", decision, "", review.answer_until or at, reason="nobody answered in time")


def escalate(review: Review, at: datetime) -> None:
    """Move it to the other queue."""
    still_open(review, at, by=None)
    review.queue = review.queue_name = review.escalate_to
    review.escalate_at = None
    review.status, review.claimed_by, review.claimed_until = "pending", None, None


def is_past(until: datetime | None, at: datetime) -> bool:
    """Whether a time has come."""
    return until is not None and at >= until


def event_of(
    at: datetime, what: str, *, by: str, note: str | None = None, before: str = "", after: str = "pending"
) -> dict[str, str]:
    """A line of the trail."""
    event = {"at": keys.format_time("at", at), "what": what, "by": by, "from": before, "to": after, "note": note or ""}
    return {name: value for name, value in event.items() if value}
