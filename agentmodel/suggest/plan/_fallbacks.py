"""Fallbacks: working tools and agents that do the same as a failing tool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agentmodel._log import logger
from agentmodel._values.text import one_line
from agentmodel.access.repository import Repository
from agentmodel.dynamo.models import Tool
from agentmodel.exceptions import AgentModelError
from agentmodel.suggest._types import HealthSource, ToolRef
from agentmodel.suggest.plan._failing_tools import KnownTools, often_failing
from agentmodel.suggest.plan._plan import Fallback, Plan
from agentmodel.suggest.plan._similarity import Similarity, TextSimilarity

__all__ = ["Fallbacks"]

_log = logger(__name__)

_MAX_FALLBACKS = 3
_MAX_COMPARED = 1000  # tools of a domain
_COMPARED_CHARACTERS = 1000  # of their descriptions


class Fallbacks:
    """Finds working tools and agents that do the same as a failing tool.

    Args:
        repository: The catalogue.
        health: Tells which tools are failing; without it none counts as failing now.
        similarity: Compares the descriptions of two tools.
    """

    def __init__(
        self, repository: Repository, health: HealthSource | None, *, similarity: Similarity | None = None
    ) -> None:
        self._repository = repository
        self._health = health
        self._similarity: Similarity = similarity if similarity is not None else TextSimilarity()

    def of(
        self,
        ref: ToolRef,
        name: str,
        item: Tool | None,
        plan: Plan | None = None,
        *,
        user_id: str | None = None,
        known: KnownTools | None = None,
    ) -> tuple[Fallback, ...]:
        """Return at most three fallbacks: the agent's own tools first, then agents of the plan, then other agents.

        A tool does the same if it has the same name or a similar description. One that often fails is no fallback. An
        alternative of the plan is left out if it uses the failing tool, or another one that is failing.

        Args:
            ref: The tool that is failing.
            name: Its name.
            item: Its item, if the catalogue has one.
            plan: The plan that the agent follows.
            user_id: The user that the fallbacks must work for; see `HealthSource.failing`.
            known: What is known of the tools of the domain; read when not given.
        """
        try:
            known = self._of_domain(item) if known is None else known
            others = [tool for at, tool in known.tools.items() if at != ref and at not in known.often]
            similar = list(self._similar(name, item, others))
            of_plan = set() if plan is None else {each.agent_id for each in plan.alternatives}
            wanted = {ToolRef(tool.agent_id, tool.tool_id) for tool in similar}
            wanted |= {each for each in known.tools if each.agent_id in of_plan}
            failing = {each: known.failing[each] for each in wanted & known.failing.keys()}
            unknown = wanted.difference(known.asked)
            if self._health is not None and unknown:
                failing |= self._health.failing(unknown, known.tools, user_id=user_id)
        except AgentModelError as error:
            _log.warning("could not look for fallbacks of %s; naming none: %s", name, error)
            return ()
        working = [tool for tool in similar if (tool.agent_id, tool.tool_id) not in failing]
        working.sort(key=lambda tool: (tool.agent_id != ref.agent_id, tool.name != name))
        bad = {(agent_id, known.tools[ToolRef(agent_id, tool_id)].name) for agent_id, tool_id in failing}
        found = [Fallback(tool.agent_id, one_line(tool.name), tool.tool_id) for tool in working]
        others_of_plan = [] if plan is None else list(_of_plan(plan, ref.agent_id, bad | {(ref.agent_id, name)}))
        own = [each for each in found if each.agent_id == ref.agent_id]
        of_others = [each for each in found if each.agent_id != ref.agent_id]
        return tuple([*own, *others_of_plan, *of_others][:_MAX_FALLBACKS])

    def _of_domain(self, item: Tool | None) -> KnownTools:
        tools = () if item is None else self._repository.domain_tools(item.domain_id, limit=_MAX_COMPARED).items
        return KnownTools({ToolRef(tool.agent_id, tool.tool_id): tool for tool in tools}, {}, often_failing(tools))

    def _similar(self, name: str, item: Tool | None, tools: Iterable[Tool]) -> Iterator[Tool]:
        purpose = "" if item is None else item.description or ""
        described = [tool for tool in tools if purpose and tool.description]
        texts = [(tool.description or "")[:_COMPARED_CHARACTERS] for tool in described]
        scores = self._similarity.scores(purpose[:_COMPARED_CHARACTERS], texts)
        same = {tool.key for tool, score in zip(described, scores, strict=True) if score >= self._similarity.threshold}
        return (tool for tool in tools if tool.name == name or tool.key in same)


def _of_plan(plan: Plan, agent_id: str, bad: set[tuple[str, str]]) -> Iterator[Fallback]:
    for each in plan.alternatives:
        if each.agent_id != agent_id and not any((each.agent_id, tool) in bad for tool in each.tools):
            yield Fallback(each.agent_id, agent=each.agent)
