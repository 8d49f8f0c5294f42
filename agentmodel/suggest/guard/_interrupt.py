"""Reviews as interrupts of a framework: the question that an interrupt shows, and the answer that resumes it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from agentmodel._values.text import one_line
from agentmodel.dynamo.models import Review
from agentmodel.suggest.review import Decision, Reviews

__all__ = ["InterruptAnswer", "interrupt_question"]

_CHARACTERS = 1000  # of a text that an interrupt shows


class InterruptAnswer(BaseModel):
    """Answer that resumes the interrupt of a review; ``True`` or ``{}`` means that it was decided elsewhere.

    Attributes:
        decision: ``approve``, ``edit``, ``reject`` or ``respond``; None to look the decision up in the history.
        by: Who decides; required for a decision.
        reason: Why; required for a rejection.
        arguments: With ``edit``: the arguments to call the tool with.
        response: With ``respond``: the text that the model reads instead of a result.
        arguments_hash: Hash of the arguments that the person saw; refused if the question is about others.

    >>> answer = InterruptAnswer(decision="edit", by="lee", arguments={"amount": 5})
    >>> answer.decision, answer.arguments, InterruptAnswer().decision
    ('edit', {'amount': 5}, None)
    """

    model_config = ConfigDict(extra="forbid")

    decision: Decision | None = None
    by: str = ""
    reason: str | None = None
    arguments: dict[str, Any] | None = None
    response: str | None = None
    arguments_hash: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _decided_elsewhere(cls, given: Any) -> Any:
        return {} if given is True else given


def interrupt_question(review: Review, tool: str, *, trouble: str = "") -> dict[str, Any]:
    """Return what an interrupt shows of a review, as JSON that frameworks can store.

    Each text is on one line and cut to 1000 characters; the arguments are exactly those of the call.

    Args:
        review: The review.
        tool: Name of the tool.
        trouble: What was wrong with the last answer, if there was one.
    """
    question = {
        "type": "agentmodel_review",
        "review": Reviews.reference(review),
        "question": one_line(review.question, longest=_CHARACTERS),
        "reason": None if review.reason is None else one_line(review.reason, longest=_CHARACTERS),
        "tool": one_line(tool),
        "arguments": review.arguments,
        "arguments_hash": review.arguments_hash,
        "allowed": list(review.allowed or ()),
        "answer_until": None if review.answer_until is None else review.answer_until.isoformat(),
    }
    return {**question, "trouble": one_line(trouble, longest=_CHARACTERS)} if trouble else question
