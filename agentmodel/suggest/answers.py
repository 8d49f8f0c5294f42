"""Answers of people: what was decided, for exactly which arguments, and where a question stands at a time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from agentmodel.dynamo.models import Review, ReviewStatus, Status, Verdict
from agentmodel.exceptions import Conflict, ValidationError

__all__ = ["Answer", "Decision", "answer_of", "arguments_hash", "canonical", "status_now"]

Decision = Literal["approve", "edit", "reject", "respond"]
"""What a person may decide before a step."""


def canonical(arguments: Any) -> str:
    """Arguments as one text: the same for equal JSON, whatever the order of its names.

    >>> canonical({"b": 1, "a": "é"}) == canonical({"a": "é", "b": 1})
    True

    Raises:
        ValidationError: They are not JSON.
    """
    try:
        return json.dumps(arguments, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValidationError("arguments", arguments, f"they are JSON: {error}") from None


def arguments_hash(arguments: Any) -> str:
    """The SHA-256 of arguments: an answer holds for these and no others."""
    return hashlib.sha256(canonical(arguments).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered.

    Attributes:
        status: How the question ended.
        decision: What was decided; None for a verdict.
        arguments: What to call the tool with: as asked, or as edited.
        arguments_hash: Of these.
        response: What to give back instead of the tool's result.
        by: Who decided; empty where time did.
        reason: Why.
        verdict: What was said of a run.
        outcome: The corrected outcome of a run.
    """

    status: ReviewStatus
    decision: str | None
    arguments: Any
    arguments_hash: str
    response: str | None = None
    by: str = ""
    reason: str | None = None
    verdict: Verdict | None = None
    outcome: bool | None = None

    @property
    def permits(self) -> bool:
        """Whether the tool may be called, with `arguments`."""
        return self.decision in ("approve", "edit")

    @property
    def call_status(self) -> Status | None:
        """The status to record the call with; None where it is called as asked and ends as it ends."""
        if self.status == "expired" and not self.permits:
            return "expired"
        if self.decision == "edit":
            return "edited"
        return None if self.decision == "approve" else "rejected"

    def check(self, arguments: Any) -> None:
        """Refuse to call with other arguments than those that were answered for.

        Raises:
            Conflict: The answer does not permit the call, or it is for other arguments.
        """
        if not self.permits:
            raise Conflict(f"the call is not permitted: it was {self.status}" + (f" by {self.by}" if self.by else ""))
        if arguments_hash(arguments) != self.arguments_hash:
            raise Conflict("the answer is for other arguments: ask again with these")


def status_now(review: Review, now: datetime) -> ReviewStatus:
    """Where a question stands at a time: from its deadline on it has expired, and an old claim counts no more."""
    status = review.status or "pending"
    if status not in ("pending", "claimed"):
        return status
    if review.answer_until is not None and now >= review.answer_until:
        return "expired"
    if status == "claimed" and review.claimed_until is not None and now >= review.claimed_until:
        return "pending"
    return status


def answer_of(review: Review, now: datetime) -> Answer | None:
    """The answer to a question at a time, or None while it is open."""
    status = status_now(review, now)
    if status in ("pending", "claimed"):
        return None
    swept = review.status == status
    arguments = review.final_arguments if swept and review.decision == "edit" else review.arguments
    return Answer(
        status=status,
        decision=review.decision if swept else review.on_expiry or "reject",
        arguments=arguments,
        arguments_hash=arguments_hash(arguments),
        response=review.response,
        by=review.decided_by or "",
        reason=review.decision_reason if swept else "nobody answered in time",
        verdict=review.verdict,
        outcome=review.outcome,
    )
