"""Questions to people as LangGraph's interrupts: what is shown, what may be answered, what the model reads of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from langchain_core.messages import ToolMessage
from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from agentmodel.dynamo.models import Review
from agentmodel.exceptions import Conflict
from agentmodel.suggest.answers import Answer, Decision
from agentmodel.suggest.review import Reviews, check_decision

__all__ = ["ReviewAnswer", "answers", "question", "refusal", "with_notice"]


class ReviewAnswer(BaseModel):
    """What the interrupt of a question is resumed with; ``True`` or ``{}`` says that it was answered elsewhere.

    Attributes:
        decision: ``approve``, ``edit``, ``reject`` or ``respond``; None to look it up in the history.
        by: Who decides.
        reason: Why; a rejection needs one.
        arguments: With ``edit``: what to call with.
        response: With ``respond``: what the model reads instead of a result.
    """

    model_config = ConfigDict(extra="forbid")

    decision: Decision | None = None
    by: str | None = None
    reason: str | None = None
    arguments: dict[str, Any] | None = None
    response: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _elsewhere(cls, given: Any) -> Any:
        return {} if given is True else given


def question(review: Review, tool: str) -> dict[str, Any]:
    """What an interrupt shows of a question."""
    return {
        "type": "agentmodel_review",
        "review": Reviews.reference(review),
        "question": review.question,
        "reason": review.reason,
        "tool": tool,
        "arguments": review.arguments,
        "allowed": list(review.allowed or ()),
        "answer_until": None if review.answer_until is None else review.answer_until.isoformat(),
    }


def answers(review: Review, answer: Answer | None) -> Any:
    """The type of what the interrupt may be resumed with; LangGraph keeps what it refuses out of the graph's state."""

    def check(given: ReviewAnswer) -> ReviewAnswer:
        if answer is not None:
            return given  # it was answered elsewhere, and the first answer holds
        if given.decision is None:
            raise ValueError("nobody has answered yet: the question stays open")
        try:
            check_decision(
                review,
                given.decision,
                given.by or "",
                datetime.now(UTC),
                reason=given.reason,
                arguments=given.arguments,
                response=given.response,
            )
        except Conflict as error:
            raise ValueError(str(error)) from error
        return given

    return Annotated[ReviewAnswer, AfterValidator(check)]


def refusal(answer: Answer) -> str:
    """What the model reads where a person did not permit a call."""
    if answer.response is not None:
        return answer.response
    if answer.status == "expired":
        return "This call was not made: nobody agreed to it in time."
    reason = f": {answer.reason}" if answer.reason else ""
    return f"This call was not made: {answer.by or 'a person'} rejected it{reason}. Do not make it again unasked."


def with_notice(result: ToolMessage, tool: str, answer: Answer) -> ToolMessage:
    """A result after a note that a person changed the call: the model's own message still has its arguments."""
    arguments = json.dumps(answer.arguments, ensure_ascii=False)
    notice = f"{answer.by or 'A person'} changed this call before it was made, to {tool} with {arguments}. Its result:"
    content: Any = f"{notice}\n{result.content}"
    if not isinstance(result.content, str):
        content = [{"type": "text", "text": notice}, *result.content]
    return result.model_copy(update={"content": content})
