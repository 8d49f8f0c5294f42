"""Mistakes with keys, conditions and PynamoDB's methods: every line is an error to both checkers, by the rule it names."""

# ruff: noqa: B015 -- a comparison that is only looked at
from __future__ import annotations

from agentmodel import Agent, Review, Tool


def texts_of_keys(agent: Agent) -> None:
    """A key is compared with text, and is not set."""
    Tool.sk.startswith(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Tool.sk.eq(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Tool.sk.between("TL1", 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Tool.sk > 5  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    Agent.gsi1_sk.le(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    agent.pk = "AGT1"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]


def attributes_of_keys() -> None:
    """An attribute of a key is compared with values of its type."""
    Tool.tool_id.startswith(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Tool.tool_id.between(1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Agent.score.ge("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Agent.score > "5"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]
    Agent.score.startswith("5")  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    Review.due_at.lt("today")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Tool.tool_di.eq("TL1")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def methods() -> None:
    """A method takes keys of its class and conditions, in their places."""
    Agent.get(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Agent.get(Tool.at("AGT1", "TL1"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Tool.batch_get(["AGT1"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Tool.query(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Tool.query("AGT1", "TL1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Agent.gsi1.query(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Agent.gsi2.query("DMN1")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
