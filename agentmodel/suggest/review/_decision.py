"""Answers to questions: what was decided, for exactly which arguments, and the status of a question at a time."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from agentmodel._values.text import error_text
from agentmodel.dynamo.models import Review, ReviewStatus, Status, Verdict
from agentmodel.exceptions import Conflict, ValidationError

__all__ = ["NOBODY_ANSWERED", "Answer", "Decision", "answer_of", "arguments_hash", "canonical", "status_now"]

Decision = Literal["approve", "edit", "reject", "respond"]
"""What a person can decide about a call before it is made."""

NOBODY_ANSWERED = "nobody answered before the deadline"
"""Reason of the decision that counts when nobody answered before the deadline."""


def canonical(arguments: Any) -> str:
    """Return arguments as one text: the same for equal JSON, whatever the order of its names.

    >>> canonical({"b": 1, "a": "é"}) == canonical({"a": "é", "b": 1})
    True

    Raises:
        ValidationError: The arguments are not JSON.
    """
    try:
        text = json.dumps(arguments, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
        text.encode()  # which half a surrogate pair has not
    except Exception as error:  # noqa: BLE001  # code of the value may raise anything
        raise ValidationError("arguments", arguments, f"must be JSON: {error_text(error)}") from None
    return text


def arguments_hash(arguments: Any) -> str:
    """Return the SHA-256 of arguments: an answer is valid for these arguments and no others.

    >>> arguments_hash({"seats": 2, "place": "park"}) == arguments_hash({"place": "park", "seats": 2})
    True
    """
    return hashlib.sha256(canonical(arguments).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer to a question.

    Attributes:
        status: Status that the question ended with.
        decision: What was decided; None for a verdict.
        arguments: Arguments to call the tool with: as asked, or as edited; redacted, if the installation redacts.
        arguments_hash: Hash of the arguments of the question, before they were redacted, or of the edited ones.
        response: Text to return instead of the tool's result.
        by: Who decided; empty if nobody did before the deadline.
        reason: Why.
        verdict: Verdict on a run.
        outcome: Corrected outcome of a run.

    >>> question = model.reviews.ask("USR281", "SESS1", "Book a table?", arguments={"seats": 2}, call_id="1")
    >>> question = model.reviews.decide(question, "edit", "lee", arguments={"seats": 4})
    >>> answer = model.reviews.answer(question)
    >>> answer.permits, answer.arguments, answer.by
    (True, {'seats': 4}, 'lee')
    >>> answer.check({"seats": 4})
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
        """Whether the tool may be called with `arguments`."""
        return self.decision in ("approve", "edit")

    @property
    def call_status(self) -> Status | None:
        """Status to record the call with; None if it is made as asked, and so ends as it ends."""
        if self.status == "expired" and not self.permits:
            return "expired"
        if self.decision == "edit":
            return "edited"
        return None if self.decision == "approve" else "rejected"

    def check(self, arguments: Any) -> None:
        """Raise an error unless the answer permits a call with these arguments.

        Raises:
            Conflict: The answer does not permit the call, or is about other arguments.

        >>> question = model.reviews.ask("USR295", "SESS1", "Book a table?", arguments={"seats": 2}, call_id="1")
        >>> question = model.reviews.decide(question, "approve", "lee")
        >>> model.reviews.answer(question).check({"seats": 8})
        Traceback (most recent call last):
            ...
        agentmodel.exceptions.Conflict: the answer is about other arguments: ask a new question about these
        """
        if not self.permits:
            raise Conflict(
                f"the call is not permitted: the question was {self.status}" + (f" by {self.by}" if self.by else "")
            )
        if arguments_hash(arguments) != self.arguments_hash:
            raise Conflict("the answer is about other arguments: ask a new question about these")


def status_now(review: Review, now: datetime) -> ReviewStatus:
    """Return the status of a question at a time: expired from its deadline on, pending once a claim has ended."""
    status = review.status or "pending"
    if status not in ("pending", "claimed"):
        return status
    if review.answer_until is not None and now >= review.answer_until:
        return "expired"
    if status == "claimed" and review.claimed_until is not None and now >= review.claimed_until:
        return "pending"
    return status


def answer_of(review: Review, now: datetime) -> Answer | None:
    """Return the answer to a question at a time, or None while it is open."""
    status = status_now(review, now)
    if status in ("pending", "claimed"):
        return None
    stored = review.status == status  # otherwise the deadline has passed, and no sweep has stored it yet
    edited = stored and review.decision == "edit"
    arguments = review.final_arguments if edited else review.arguments
    return Answer(
        status=status,
        decision=review.decision if stored else review.on_expiry or "reject",
        arguments=arguments,
        arguments_hash=arguments_hash(arguments) if edited else review.arguments_hash or arguments_hash(arguments),
        response=review.response,
        by=review.decided_by or "",
        reason=review.decision_reason if stored else NOBODY_ANSWERED,
        verdict=review.verdict,
        outcome=review.outcome,
    )
