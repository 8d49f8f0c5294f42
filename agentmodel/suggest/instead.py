"""Instead: what does the same as a tool that fails now, and works."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from agentmodel.access.repository import Repository
from agentmodel.dynamo.models import Tool
from agentmodel.exceptions import AgentModelError
from agentmodel.suggest.advise import Place, Watch
from agentmodel.suggest.plan import Plan
from agentmodel.suggest.similar import Similarity, TextSimilarity

__all__ = ["Instead", "Substitutes"]

_log = logging.getLogger(__name__)

_MOST = 3
_TOOLS = 1000  # of a domain that are looked through


@dataclass(frozen=True, slots=True)
class Instead:
    """Something that works in the place of a tool.

    Attributes:
        agent_id: The agent.
        tool: The tool's name; None where an agent does the whole in another way.
        tool_id: The tool.
        agent: The agent's name, where it is known.
    """

    agent_id: str
    tool: str | None = None
    tool_id: str | None = None
    agent: str | None = None

    def told(self, agent_id: str) -> str:
        """In words, for a model that acts as this agent.

        >>> Instead("AGT001", "lookup").told("AGT001"), Instead("AGT002", "search").told("AGT001")
        ('lookup', 'search of agent AGT002')
        """
        if self.agent_id == agent_id and self.tool is not None:
            return self.tool
        whose = f"agent {self.agent_id}" if self.agent is None else f"agent {self.agent} ({self.agent_id})"
        return whose if self.tool is None else f"{self.tool} of {whose}"


class Substitutes:
    """Finds what does the same as a tool.

    Args:
        repository: The catalogue.
        watch: Knows which tools fail now.
        similarity: Says how alike the descriptions of two tools are.
    """

    def __init__(self, repository: Repository, watch: Watch, *, similarity: Similarity | None = None) -> None:
        self._repository = repository
        self._watch = watch
        self._similarity: Similarity = similarity if similarity is not None else TextSimilarity()

    def of(self, place: Place, name: str, item: Tool | None, plan: Plan | None = None) -> tuple[Instead, ...]:
        """What works in the place of a tool: the agent's own tools first, then other agents'; at most three.

        A tool does the same when it has the same name, or a description alike. The alternatives of a plan count when
        none of their tools is the failing one or fails too.

        Args:
            place: The tool that fails.
            name: Its name.
            item: Its item, if the catalogue has one.
            plan: The plan that is followed.
        """
        try:
            tools = [] if item is None else list(self._repository.domain_tools(item.domain_id, limit=_TOOLS))
            known = {(tool.agent_id, tool.tool_id): tool for tool in tools}
            alike = [tool for tool in self._alike(name, item, tools) if (tool.agent_id, tool.tool_id) != place]
            failing = self._watch.failing(known, known)
        except AgentModelError as error:
            _log.warning("guard: what works instead of %s is not known: %s", name, error)
            return ()
        sound = [tool for tool in alike if (tool.agent_id, tool.tool_id) not in failing]
        sound.sort(key=lambda tool: (tool.agent_id != place[0], tool.name != name))
        bad = {(agent_id, known[agent_id, tool_id].name) for agent_id, tool_id in failing} | {(place[0], name)}
        found = [Instead(tool.agent_id, tool.name, tool.tool_id) for tool in sound]
        of_plan = [] if plan is None else list(_of_plan(plan, place[0], bad))
        own = [each for each in found if each.agent_id == place[0]]
        others = [each for each in found if each.agent_id != place[0]]
        return tuple([*own, *of_plan, *others][:_MOST])

    def _alike(self, name: str, item: Tool | None, tools: list[Tool]) -> Iterator[Tool]:
        purpose = "" if item is None else item.description or ""
        described = [tool for tool in tools if purpose and tool.description]
        scores = self._similarity.scores(purpose, [tool.description or "" for tool in described])
        same = {tool.key for tool, score in zip(described, scores, strict=True) if score >= self._similarity.threshold}
        return (tool for tool in tools if tool.name == name or tool.key in same)


def _of_plan(plan: Plan, agent_id: str, bad: set[tuple[str, str]]) -> Iterator[Instead]:
    for each in plan.alternatives:
        if each.agent_id != agent_id and not any((each.agent_id, tool) in bad for tool in each.tools):
            yield Instead(each.agent_id, agent=each.agent)
