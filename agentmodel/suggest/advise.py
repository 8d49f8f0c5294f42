"""Advise: which agent, which steps, what to avoid, with the reasons; from what the last publish left in the table.

Looked up in this order, the first that is found is the plan: the user's own mapping of the category, the best mapping
of the category among all users, the best agent of the domain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from agentmodel.access.repository import Repository
from agentmodel.dynamo.models import Agent, Tool, UserToolMapping
from agentmodel.exceptions import NotFound, ValidationError
from agentmodel.keys import EXECUTION, check_id

__all__ = ["Adviser", "Avoid", "Plan", "Source", "Step"]

Source = Literal["own mapping", "similar users", "best agent of the domain", "nothing known"]
"""Where a plan comes from."""

_ENOUGH_CALLS = 5  # before a share of failures says anything
_FAILING = 0.3  # share of failed calls from which a tool is to be avoided


class Step(BaseModel):
    """One step of a plan.

    Attributes:
        process: What the step does.
        agent_id: The agent that takes it.
        tool_id: The tool it calls.
        tool: The tool's name.
        calls: Calls of the tool by this agent that were seen; None where nobody counted.
        success_share: Share of them that succeeded, 0 to 1.
    """

    model_config = ConfigDict(frozen=True)

    process: str
    agent_id: str
    tool_id: str
    tool: str
    calls: int | None = None
    success_share: float | None = None


class Avoid(BaseModel):
    """A tool to avoid, and why.

    Attributes:
        agent_id: Whose tool it is.
        tool_id: The tool.
        tool: Its name.
        reason: What was seen.
    """

    model_config = ConfigDict(frozen=True)

    agent_id: str
    tool_id: str
    tool: str
    reason: str


class Plan(BaseModel):
    """What to do for a request.

    Attributes:
        user_id: Who asks.
        category: The kind of request, if it was given.
        domain_id: The domain of the agent, if one is known.
        agent_id: The agent to take, if one is known.
        agent: Its name.
        steps: What to do, in order; empty where only an agent is known.
        avoid: Tools that fail.
        source: Where the plan comes from.
        reasons: The same for people, a sentence each.
    """

    model_config = ConfigDict(frozen=True)

    user_id: str
    category: str | None = None
    request: str | None = None
    domain_id: str | None = None
    agent_id: str | None = None
    agent: str | None = None
    steps: tuple[Step, ...] = ()
    avoid: tuple[Avoid, ...] = ()
    source: Source = "nothing known"
    reasons: tuple[str, ...] = ()


class Adviser:
    """Makes plans.

    Args:
        repository: Reads what was published.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def suggest(
        self, user_id: str, *, category: str | None = None, request: str | None = None, domain_id: str | None = None
    ) -> Plan:
        """The plan for a user's request.

        Raises:
            ValidationError: Neither a category nor a request nor a domain is given, or an id is none.
            NotFound: The domain does not exist.
        """
        check_id("user_id", user_id, "USR")
        if category is None and request is None and domain_id is None:
            raise ValidationError("category", None, "give a category, a request or a domain_id to plan for")
        if domain_id is not None and self._repository.domain(domain_id) is None:
            raise NotFound("domain", domain_id)
        asked = {"user_id": user_id, "category": category, "request": request}
        if category is not None:
            for mapping, source in self._mappings(user_id, category):
                agent = self._agent_of(mapping)
                if domain_id is None or (agent is not None and agent.domain_id == domain_id):
                    return self._from_mapping(mapping, agent, source, asked)
        return self._from_domain(domain_id, asked)

    def _mappings(self, user_id: str, category: str) -> Iterable[tuple[UserToolMapping, Source]]:
        own = self._repository.mapping(user_id, category)
        if own is not None:
            yield own, "own mapping"
        cursor, best = None, None
        while True:
            page = self._repository.mappings(category, cursor=cursor)
            for mapping in page:
                if mapping.category == category and mapping.user_id != user_id:
                    best = max(best or mapping, mapping, key=lambda each: (each.score or 0.0, each.successes or 0))
            cursor = page.cursor
            if cursor is None:
                break
        if best is not None:
            yield best, "similar users"

    def _agent_of(self, mapping: UserToolMapping) -> Agent | None:
        return next((self._repository.agent(agent_id) for agent_id in mapping.agents), None)

    def _from_mapping(
        self, mapping: UserToolMapping, agent: Agent | None, source: Source, asked: dict[str, str | None]
    ) -> Plan:
        steps = []
        for text, name in mapping.tools.items():
            process_id, agent_id, tool_id, _ = EXECUTION.parse(text)
            steps.append(self._step(mapping.processes.get(process_id, name), agent_id, tool_id, name))
        first = steps[0].agent_id if steps else next(iter(mapping.agents), None)
        avoid = self._avoid(None if agent is None else agent.domain_id, steps)
        whose = "your own history" if source == "own mapping" else f"{mapping.user_id}, the best of all users in it"
        reasons = [f"In category {mapping.category!r} this sequence worked: it comes from {whose}."]
        if mapping.executions:
            reasons.append(f"It was run {mapping.executions} times and succeeded {mapping.successes} times.")
        reasons += [f"Step {s.process!r} uses {s.tool}, which fails now: see avoid." for s in steps if _fails(s, avoid)]
        return Plan.model_validate(
            asked
            | {
                "domain_id": None if agent is None else agent.domain_id,
                "agent_id": first,
                "agent": next(iter(mapping.agents.values()), None) if agent is None else agent.name,
                "steps": tuple(steps),
                "avoid": avoid,
                "source": source,
                "reasons": tuple(reasons),
            }
        )

    def _from_domain(self, domain_id: str | None, asked: dict[str, str | None]) -> Plan:
        top = self._repository.top_agents(domain_id, limit=2).items if domain_id is not None else ()
        if not top:
            why = "No history of this category" if domain_id is None else "The domain has no agent"
            return Plan.model_validate(asked | {"domain_id": domain_id, "reasons": (f"{why} is known yet.",)})
        best = top[0]
        reasons = [
            f"No sequence of this category is known; {best.name} has the highest score of the domain: {best.score:g}."
        ]
        if best.executions:
            reasons.append(f"It ran {best.executions} times and succeeded {best.successes} times.")
        if len(top) > 1:
            reasons.append(f"Next best is {top[1].name} with {top[1].score:g}.")
        return Plan.model_validate(
            asked
            | {
                "domain_id": domain_id,
                "agent_id": best.agent_id,
                "agent": best.name,
                "avoid": self._avoid(domain_id, ()),
                "source": "best agent of the domain",
                "reasons": tuple(reasons),
            }
        )

    def _step(self, process: str, agent_id: str, tool_id: str, name: str) -> Step:
        tool = self._repository.tool(agent_id, tool_id)
        share = None if tool is None or not tool.calls else 1 - (tool.errors or 0) / tool.calls
        return Step(
            process=process,
            agent_id=agent_id,
            tool_id=tool_id,
            tool=name if tool is None else tool.name,
            calls=None if tool is None else tool.calls,
            success_share=share,
        )

    def _avoid(self, domain_id: str | None, steps: Sequence[Step]) -> tuple[Avoid, ...]:
        """Tools of the domain that fail; without a domain, those of the steps."""
        if domain_id is not None:
            tools = self._all_tools(domain_id)
        else:
            found = (self._repository.tool(step.agent_id, step.tool_id) for step in steps)
            tools = [tool for tool in found if tool is not None]
        return tuple(_avoided(tool) for tool in tools if _is_failing(tool))

    def _all_tools(self, domain_id: str) -> list[Tool]:
        tools: list[Tool] = []
        cursor = None
        while True:
            page = self._repository.domain_tools(domain_id, cursor=cursor)
            tools += page
            cursor = page.cursor
            if cursor is None:
                return tools


def _is_failing(tool: Tool) -> bool:
    return (tool.calls or 0) >= _ENOUGH_CALLS and (tool.errors or 0) / (tool.calls or 1) >= _FAILING


def _avoided(tool: Tool) -> Avoid:
    reason = f"{tool.errors} of {tool.calls} calls failed"
    if tool.last_error_at is not None:
        reason += f", last on {tool.last_error_at:%Y-%m-%d %H:%M} UTC"
    if tool.last_error:
        reason += f": {tool.last_error[:200]}"
    return Avoid(agent_id=tool.agent_id, tool_id=tool.tool_id, tool=tool.name, reason=reason)


def _fails(step: Step, avoid: Sequence[Avoid]) -> bool:
    return any((step.agent_id, step.tool_id) == (each.agent_id, each.tool_id) for each in avoid)
