"""Policy: when a person is asked before a tool is called, beside the caller's own word."""

from __future__ import annotations

from collections.abc import Mapping

from agentmodel.access.repository import Repository
from agentmodel.dynamo.models import Agent, Tool
from agentmodel.suggest.advise import Failing, Place, Watch
from agentmodel.suggest.plan import sureness

__all__ = ["Policy"]


class Policy:
    """Says why a person should look before a tool is called.

    Args:
        repository: The agents and tools.
        watch: Knows which tools fail at present.
        evidence_below: An agent whose lower bound of success is below this is watched.
    """

    def __init__(self, repository: Repository, *, watch: Watch | None = None, evidence_below: float = 0.2) -> None:
        self._repository = repository
        self._watch = watch
        self._evidence_below = evidence_below

    def reasons(
        self,
        agent_id: str,
        tool_id: str,
        *,
        tool: Tool | None = None,
        agent: Agent | None = None,
        failing: Mapping[Place, Failing] | None = None,
    ) -> tuple[str, ...]:
        """Why a person should look before this agent calls this tool; empty where nobody need.

        A reason is: the tool fails at present, it is marked ``needs_review``, it is not in the catalogue, or little
        speaks for the agent.

        Args:
            agent_id: The agent.
            tool_id: The tool.
            tool: Its item, where it is at hand.
            agent: The agent's item, likewise.
            failing: Tools that fail now, likewise.
        """
        tool = self._repository.tool(agent_id, tool_id) if tool is None else tool
        agent = self._repository.agent(agent_id) if agent is None else agent
        place = (agent_id, tool_id)
        found = []
        if tool is None:
            found.append(f"{tool_id} is not in the catalogue")
        elif tool.needs_review:
            found.append(f"{tool.name} is used only after a person agreed")
        if failing is None:
            failing = {} if self._watch is None else self._watch.failing([place], {} if tool is None else {place: tool})
        if place in failing:
            found.append(f"{tool_id if tool is None else tool.name} fails at present: {failing[place].note}")
        low = 0.0
        if agent is not None:
            known = sureness(agent.successes or 0, agent.executions or 0).low
            low = known if agent.evidence_low is None else agent.evidence_low
        if low < self._evidence_below:
            name = agent_id if agent is None else agent.name
            found.append(f"{name} may succeed in as few as {low:.0%} of cases")
        return tuple(found)
