"""Reviews as LangGraph's interrupts: which answers an interrupt accepts, and how an edited call's result is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from langchain_core.messages import ToolMessage
from langgraph.types import Command
from pydantic import AfterValidator

from agentmodel.exceptions import Conflict
from agentmodel.integrations.langchain._messages import answer_in
from agentmodel.suggest.guard import InterruptAnswer, Resolution
from agentmodel.suggest.review import check_decision

__all__ = ["accepted_answers", "with_notice"]


def accepted_answers(resolution: Resolution) -> Any:
    """Return the type of the answers that resume an interrupt; LangGraph keeps other values out of the state."""

    def check(given: InterruptAnswer) -> InterruptAnswer:
        review = resolution.review
        if review is None or not resolution.waits:
            return given  # it was decided elsewhere, and the first decision counts
        if given.decision is None:
            raise ValueError(
                "the question has not been answered yet: resume with a decision (approve, edit, reject or respond)"
            )
        try:
            check_decision(review, at=datetime.now(UTC), **given.model_dump())
        except Conflict as error:
            raise ValueError(str(error)) from error
        return given

    return Annotated[InterruptAnswer, AfterValidator(check)]


def with_notice(result: ToolMessage | Command[Any], call_id: str, notice: str) -> ToolMessage | Command[Any]:
    """Return a result whose answer to the call has the notice that a person edited the call before it."""
    answer = answer_in(result, call_id)
    if answer is None:
        return result
    content: Any = f"{notice}\n{answer.content}"
    if not isinstance(answer.content, str):
        content = [{"type": "text", "text": notice}, *answer.content]
    noticed = answer.model_copy(update={"content": content})
    if isinstance(result, ToolMessage):
        return noticed

    def replaced(messages: Any) -> Any:
        return [noticed if one is answer else one for one in messages] if isinstance(messages, list) else messages

    update = result.update
    if isinstance(update, Mapping):
        return replace(result, update={name: replaced(each) for name, each in update.items()})
    return replace(result, update=replaced(update))
