"""Review policy: find the reasons for which a person should approve a call of a tool."""

from __future__ import annotations

from collections.abc import Mapping

from agentmodel._values.names import takes_names
from agentmodel.access.repository import Repository
from agentmodel.dynamo.models import Agent, Tool
from agentmodel.suggest._types import Failing, HealthSource, ToolRef
from agentmodel.suggest.plan import confidence_of

__all__ = ["ReviewPolicy", "approval_reason"]


def approval_reason(tool: str) -> str:
    """Return the reason for a review of a tool that is marked, or named in a guard's rule.

    >>> approval_reason("pay")
    "pay needs a person's approval"
    """
    return f"{tool} needs a person's approval"


class ReviewPolicy:
    """Finds the reasons for which a person should approve a call of a tool.

    Args:
        repository: The agents and tools.
        watch: Tells which tools are failing.
        evidence_below: Calls of an agent whose lower bound of its success rate is below this need approval.

    >>> policy = ReviewPolicy(model.repository)
    >>> policy.reasons("AGT002", "TL003"), policy.reasons("AGT002", "TL002")
    (("book_table needs a person's approval",), ())
    """

    def __init__(
        self, repository: Repository, *, watch: HealthSource | None = None, evidence_below: float = 0.2
    ) -> None:
        self._repository = repository
        self._watch = watch
        self._evidence_below = evidence_below

    @takes_names
    def reasons(
        self,
        agent_id: str,
        tool_id: str,
        *,
        tool: Tool | None = None,
        agent: Agent | None = None,
        failing: Mapping[ToolRef, Failing] | None = None,
    ) -> tuple[str, ...]:
        """Return the reasons for which a person should approve a call; empty if none is needed.

        A reason is: the tool is not in the catalogue, it is marked ``needs_review``, it is failing, there is little
        evidence that the agent succeeds, or its present revision is worse than the ones before.

        Args:
            agent_id: The agent.
            tool_id: The tool.
            tool: The tool's item; read when not given.
            agent: The agent's item; read when not given.
            failing: Tools that are failing; read when not given.
        """
        tool = self._repository.tool(agent_id, tool_id) if tool is None else tool
        agent = self._repository.agent(agent_id) if agent is None else agent
        ref = ToolRef(agent_id, tool_id)
        found = []
        if tool is None:
            found.append(f"{tool_id} is not in the catalogue")
        elif tool.needs_review:
            found.append(approval_reason(tool.name))
        if failing is None:
            failing = {} if self._watch is None else self._watch.failing([ref], {} if tool is None else {ref: tool})
        if ref in failing:
            found.append(f"{tool_id if tool is None else tool.name} is failing: {failing[ref].note}")
        low = 0.0
        if agent is not None:
            known = confidence_of(agent.successes or 0, agent.executions or 0).low
            low = known if agent.evidence_low is None else agent.evidence_low
        if agent is not None and agent.health is not None:
            runs, good = agent.revision_executions or 0, agent.revision_successes or 0
            found.append(f"{agent.name} has become worse: {good} of {runs} runs of its present revision succeeded")
        if low < self._evidence_below:
            name = agent_id if agent is None else agent.name
            found.append(f"the success rate of {name} may be as low as {100 * low:.0f} %")
        return tuple(found)
