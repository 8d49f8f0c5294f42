"""States of a question: check its terms and answers, and change its state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, get_args

from agentmodel import keys
from agentmodel._values.text import NAME_BYTES, storable_text
from agentmodel.dynamo.models import Review, ReviewStatus
from agentmodel.exceptions import Conflict, ValidationError
from agentmodel.suggest.review._decision import NOBODY_ANSWERED, Decision, canonical, status_now

__all__ = [
    "OPEN", "check_decision", "check_terms", "close", "escalate", "event_of", "expire", "is_past", "person",
    "still_open", "with_event",
]  # fmt: skip

_MAX_TRAIL = 200  # events that a question keeps: beyond DynamoDB's 400 KB nobody could decide it any more

OPEN = ("pending", "claimed")
"""Statuses of a question that can still be answered."""


def check_terms(
    allowed: Sequence[str],
    on_expiry: str,
    answer_within: timedelta,
    escalate_after: timedelta | None = None,
    escalate_to: str | None = None,
) -> None:
    """Raise a `ValidationError` for terms that no question can have; see `Reviews.ask`."""
    known = get_args(Decision)
    for each in allowed:
        if each not in known:
            raise ValidationError("allowed", each, "must be one of " + ", ".join(known))
    if on_expiry not in ("approve", "reject"):
        raise ValidationError(
            "on_expiry", on_expiry, "must be approve or reject, because the other decisions need a person"
        )
    if answer_within <= timedelta(0):
        raise ValidationError("answer_within", answer_within, "must be longer than 0")
    if (escalate_after is None) != (escalate_to is None):
        raise ValidationError("escalate_to", escalate_to, "must be given together with escalate_after")


def check_decision(
    review: Review,
    decision: str,
    by: str,
    at: datetime,
    *,
    reason: str | None = None,
    arguments: Any = None,
    response: str | None = None,
    arguments_hash: str | None = None,
) -> None:
    """Raise the errors that `Reviews.decide` raises, for a question that has been read.

    Raises:
        Conflict: The question has been answered, has expired, or is claimed by another person.
        ValidationError: The answer is not allowed, or a part of it is missing.
    """
    still_open(review, at, by=person(by))
    if review.phase == "post":
        raise ValidationError(
            "phase", review.phase, "must be `pre`: give a verdict on a run that has ended, with `Reviews.verdict`"
        )
    if decision not in (review.allowed or ()):
        raise ValidationError("decision", decision, "must be one of " + ", ".join(review.allowed or ()))
    if decision == "reject" and not reason:
        raise ValidationError("reason", reason, "must be given for a rejection")
    if decision == "edit" and arguments is None:
        raise ValidationError("arguments", arguments, "must be given for an edit: the arguments to call the tool with")
    if decision == "respond" and response is None:
        raise ValidationError("response", response, "must be given for a response: the text that the model reads")
    if decision == "edit":
        canonical(arguments)
    elif arguments is not None:
        raise ValidationError("arguments", arguments, "must only be given for an edit")
    if arguments_hash is not None and arguments_hash != review.arguments_hash:
        rule = f"must be {review.arguments_hash}: the question is about other arguments than the ones you saw"
        raise ValidationError("arguments_hash", arguments_hash, rule)


def still_open(review: Review, at: datetime, *, by: str | None) -> None:
    """Raise a `Conflict` unless the question is open, and not claimed by another person than ``by``."""
    status = status_now(review, at)
    if status not in OPEN:
        who = f" by {review.decided_by}" if review.decided_by else ""
        raise Conflict(f"review {review.review_id} is already {status}{who}: nothing was changed")
    if status == "claimed" and by is not None and review.claimed_by != by:
        raise Conflict(
            f"review {review.review_id} is claimed by {review.claimed_by}: try again after {review.claimed_until}"
        )


def person(by: str) -> str:
    """Return the name of a person; raise a `ValidationError` for an empty one."""
    if not isinstance(by, str) or not by.strip():
        raise ValidationError("by", by, "must be the name of the person who decides")
    return by


def close(
    review: Review, status: ReviewStatus, decision: str | None, by: str, at: datetime, *, reason: str | None
) -> None:
    """Close a question with a decision; it leaves its queue."""
    review.status, review.decision = status, decision
    review.decided_by, review.decided_at, review.decision_reason = by, at, reason
    review.queue = review.due_at = None
    review.claimed_by = review.claimed_until = None


def expire(review: Review, at: datetime) -> None:
    """Close a question that has passed its deadline."""
    if review.status not in OPEN:
        raise Conflict(f"review {review.review_id} is already {review.status}")
    decision = review.on_expiry or "reject"
    review.final_arguments = review.arguments
    close(review, "expired", decision, "", review.answer_until or at, reason=NOBODY_ANSWERED)


def escalate(review: Review, at: datetime) -> None:
    """Move a question to the queue that it escalates to."""
    still_open(review, at, by=None)
    review.queue = review.queue_name = review.escalate_to
    review.escalate_at = None
    review.status, review.claimed_by, review.claimed_until = "pending", None, None


def is_past(until: datetime | None, at: datetime) -> bool:
    """Return whether a time has come."""
    return until is not None and at >= until


def event_of(
    at: datetime, what: str, *, by: str, note: str | None = None, before: str = "", after: str = "pending"
) -> dict[str, str]:
    """Return an entry of a question's trail."""
    by = storable_text(by, limit=NAME_BYTES) or ""
    event = {"at": keys.format_time("at", at), "what": what, "by": by, "from": before, "to": after, "note": note or ""}
    return {name: value for name, value in event.items() if value}


def with_event(trail: Sequence[dict[str, str]] | None, event: dict[str, str]) -> list[dict[str, str]]:
    """Return a trail with one event more; of too many, the oldest but the first is left out."""
    events = [*(trail or ()), event]
    return events if len(events) <= _MAX_TRAIL else [events[0], *events[-_MAX_TRAIL + 1 :]]
