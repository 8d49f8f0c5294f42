"""Mistakes with a function that is a tool: every line is an error to both checkers, by the rule it names."""

from __future__ import annotations

from agentmodel import AgentModel


def tools(model: AgentModel) -> None:
    """A function that is a tool: its arguments and its result are checked as before."""

    @model.tool(agent="finder")
    def search(near: str) -> list[str]:
        """Find."""
        return [near]

    search(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    search(naer="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    search()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    search("x").keys()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    model.tool(agent="finder", cache="nobody")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    model.tool()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
