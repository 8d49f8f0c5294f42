"""The scenario's agent for LangChain: a model that says what it is told to, and the tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from tests.integration.integrations.scenario import CATEGORY, REQUEST, SCRIPT, SESSION, USER

CONFIG: dict[str, Any] = {"configurable": {"thread_id": SESSION}, "metadata": {"user_id": USER, "category": CATEGORY}}
ASKED: dict[str, Any] = {"messages": [("user", REQUEST)]}


class Scripted(GenericFakeChatModel):
    """A model that says what it is told to."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """Know the tools already."""
        return self


def scripted() -> Iterator[AIMessage]:
    """The scenario's turns as messages, and an answer."""
    for turn in SCRIPT:
        yield AIMessage(
            "",
            tool_calls=[{"name": c.tool, "args": c.arguments, "id": c.call_id} for c in turn.calls],
            usage_metadata={
                "input_tokens": turn.input_tokens,
                "output_tokens": turn.output_tokens,
                "total_tokens": turn.input_tokens + turn.output_tokens,
            },
        )
    yield AIMessage("done")


@tool
def search(q: str) -> str:
    """Search."""
    return f"found {q}"


@tool
def broken(q: str) -> str:
    """Fail."""
    raise ValueError(f"no route to {q}")


@tool
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def flaky() -> Any:
    """A tool that fails at its first call."""
    failures = iter([ConnectionError("gone")])

    @tool("flaky")
    def flaky(q: str) -> str:
        """Fail once."""
        for failure in failures:
            raise failure
        return f"found {q}"

    return flaky
