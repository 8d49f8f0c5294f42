"""Tools that fail often, or are failing now, with the reason to tell."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from agentmodel._runtime.background import BackgroundWorker
from agentmodel._values.text import one_line
from agentmodel.access.repository import Repository
from agentmodel.dynamo.models import Agent, Tool
from agentmodel.suggest._types import Failing, HealthSource, ToolRef
from agentmodel.suggest.plan._lookup import Reads
from agentmodel.suggest.plan._plan import Avoid
from agentmodel.suggest.plan._texts import Reason, ReasonCode

__all__ = ["FailingTools", "KnownTools", "often_failing", "step_reason"]

_MIN_CALLS = 5  # from which on a failure rate says something
_RATE = 0.3  # the expected failure rate from which on a tool fails often
_PRIOR_CALLS = 10  # the weight of the tool's rate over all agents, in calls
_TOOLS_OF_A_DOMAIN = 1000  # that are looked at
_WATCHED = 100  # of them whose health is asked for
_CACHED_SECONDS = 60.0  # after which the tools of a domain are read again, in the background
_AVOIDED = 20  # the most tools to avoid of a plan


def often_failing(tools: Iterable[Tool]) -> dict[ToolRef, Reason]:
    """Return the tools that often fail, by the counts of the last publish.

    Few calls by one agent say little, so the rate of the tools of this name over all agents counts as ten calls more.
    A tool that never failed in calls of its own is left out.

    Args:
        tools: The tools of a domain, of all its agents.
    """
    known = list(tools)
    calls: dict[str, int] = defaultdict(int)
    errors: dict[str, int] = defaultdict(int)
    for tool in known:
        calls[tool.name] += tool.calls or 0
        errors[tool.name] += tool.errors or 0
    found = {}
    for tool in known:
        of_all = calls[tool.name]
        if of_all < _MIN_CALLS or (tool.calls and not tool.errors):
            continue
        expected = ((tool.errors or 0) + _PRIOR_CALLS * errors[tool.name] / of_all) / ((tool.calls or 0) + _PRIOR_CALLS)
        if expected >= _RATE:
            values = {"errors": tool.errors or 0, "calls": tool.calls or 0}
            code: ReasonCode = "often_fails" if of_all == tool.calls else "fails_everywhere"
            if code == "fails_everywhere":
                values |= {"all_errors": errors[tool.name], "all_calls": of_all}
            found[ToolRef(tool.agent_id, tool.tool_id)] = Reason(code=code, values=values, at=tool.last_error_at)
    return found


def step_reason(calls: int | None, success_share: float | None) -> Reason | None:
    """Return the reason to warn of a step that often failed in its sequence, by its recorded calls; else None."""
    if calls is None or success_share is None or calls < _MIN_CALLS or 1 - success_share < _RATE:
        return None
    return Reason(code="often_fails", values={"errors": round(calls * (1 - success_share)), "calls": calls})


def failing_reason(failing: Failing) -> Reason:
    """Return the reason to tell of a tool that is failing now."""
    if not failing.calls:
        return Reason(code="failing", at=failing.since)
    values = {"failures": failing.failures, "calls": failing.calls}
    if failing.usual_share is not None:
        values["usual"] = round(100 * failing.usual_share)
    return Reason(code="failing_for_user" if failing.own else "failing_now", values=values, at=failing.since)


@dataclass(frozen=True, slots=True)
class KnownTools:
    """The tools that matter for a plan.

    Attributes:
        tools: Their items.
        failing: Those that are failing now.
        often: Those that often fail, with the reason.
        asked: Those whose health was asked for.
    """

    tools: Mapping[ToolRef, Tool]
    failing: Mapping[ToolRef, Failing]
    often: Mapping[ToolRef, Reason]
    asked: Collection[ToolRef] = ()

    def reason(self, ref: ToolRef) -> Reason | None:
        """Return why a tool may fail; None where nothing says so."""
        failing = self.failing.get(ref)
        return self.often.get(ref) if failing is None else failing_reason(failing)

    def avoid(
        self, agent_id: str | None, steps: Iterable[ToolRef] = (), *, agents: Iterable[Agent | None] = ()
    ) -> tuple[Avoid, ...]:
        """Return the tools to avoid; see `Plan.avoid`.

        Args:
            agent_id: The agent of the plan.
            steps: The tools of its steps, which are left out.
            agents: Agents whose names are known.
        """

        def order(ref: ToolRef) -> tuple[bool, bool, bool, int, ToolRef]:
            failing, tool = self.failing.get(ref), self.tools.get(ref)
            errors = 0 if tool is None else tool.errors or 0
            return failing is None or not failing.own, ref.agent_id != agent_id, failing is None, -errors, ref

        names = {each.agent_id: one_line(each.name) for each in agents if each is not None}
        refs = (self.failing.keys() | self.often.keys()) - set(steps)
        return tuple(self._avoided(ref, names.get(ref.agent_id)) for ref in sorted(refs, key=order)[:_AVOIDED])

    def _avoided(self, ref: ToolRef, agent: str | None) -> Avoid:
        reason = failing_reason(self.failing[ref]) if ref in self.failing else self.often[ref]
        tool = self.tools.get(ref)
        return Avoid(
            agent_id=ref.agent_id,
            agent=agent,
            tool_id=ref.tool_id,
            tool=one_line(ref.tool_id if tool is None else tool.name),
            reason=reason,
            since=reason.at,
            failing_now=ref in self.failing,
        )


class FailingTools:
    """Finds the tools of a domain that fail.

    Args:
        repository: Reads the catalogue.
        health: Knows which tools are failing now; without it none counts as failing now.
        worker: Reads the tools of a domain again.
    """

    def __init__(self, repository: Repository, health: HealthSource | None, worker: BackgroundWorker) -> None:
        self._repository = repository
        self._health = health
        self._worker = worker
        self._cached: dict[str, tuple[float, list[Tool]]] = {}
        self._domains: dict[str, str] = {}  # by agent

    def forget(self) -> None:
        """Drop the cached tools, because their counts were published anew."""
        self._cached, self._domains = {}, {}

    def watched(self, agent_ids: Iterable[str]) -> set[ToolRef]:
        """Return the tools whose health `look` asks for in the domains of these agents, as far as they are cached."""
        return {
            ref
            for each in self.domains_of(agent_ids)
            for ref in _suspects(_by_ref(self._cached.get(each, (0.0, []))[1]))
        }

    def domains_of(self, agent_ids: Iterable[str]) -> set[str]:
        """Return the domains of these agents, as far as they are cached."""
        return {self._domains[each] for each in agent_ids if each in self._domains}

    def to_read(self, domain_id: str | None) -> set[str]:
        """Return the domain, where `look` will read its tools."""
        return set() if domain_id is None or domain_id in self._cached else {domain_id}

    def look(
        self, domain_id: str | None, tools: Mapping[ToolRef, Tool], used: set[ToolRef], *, user_id: str, read: Reads
    ) -> KnownTools:
        """Return what is known of the tools of a plan, and of the others of its domain.

        Args:
            domain_id: The domain, if one is known.
            tools: The tools of the agents of the plan.
            used: The tools that it may use.
            user_id: The user who asks.
            read: Reads from the repository.
        """
        others = [] if domain_id is None else self._of_domain(domain_id, read)
        known = _by_ref(others)
        asked = used | set(tools) | set(_suspects(known))
        known |= tools
        failing = {} if self._health is None else self._health.failing(asked, known, user_id=user_id)
        return KnownTools(known, failing, often_failing(known.values()), asked)

    def _of_domain(self, domain_id: str, read: Reads) -> list[Tool]:
        if domain_id not in self._cached:
            return self._read(domain_id, read)
        until, tools = self._cached[domain_id]
        if until < time.monotonic():
            self._cached[domain_id] = time.monotonic() + _CACHED_SECONDS, tools
            self._worker.put(self._read_again, (domain_id,))
        return tools

    def _read_again(self, domain_ids: Iterable[str]) -> None:
        for domain_id in domain_ids:
            self._read(domain_id, Reads())

    def _read(self, domain_id: str, read: Reads) -> list[Tool]:
        """Read the tools of a domain; what the table does not answer stays as it was."""
        tools: list[Tool] = []
        cursor = None
        while len(tools) < _TOOLS_OF_A_DOMAIN:
            page = read(self._repository.domain_tools, domain_id, cursor=cursor)
            if page is None:
                return tools
            tools += page
            cursor = page.cursor
            if cursor is None:
                break
        self._cached[domain_id] = time.monotonic() + _CACHED_SECONDS, tools
        self._domains.update({tool.agent_id: domain_id for tool in tools})
        return tools


def _by_ref(tools: Iterable[Tool]) -> dict[ToolRef, Tool]:
    return {ToolRef(tool.agent_id, tool.tool_id): tool for tool in tools}


def _suspects(tools: Mapping[ToolRef, Tool]) -> list[ToolRef]:
    """Return the tools whose health is asked for: those with most errors, then those that were not counted yet."""
    return sorted(tools, key=lambda ref: (tools[ref].errors == 0, -(tools[ref].errors or 0), ref))[:_WATCHED]
