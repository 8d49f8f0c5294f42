"""Agents and tools: who does best and how sure that is, what fails, and a form for who may edit the catalogue."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from starlette.responses import RedirectResponse, Response

from agentmodel.client import AgentModel
from agentmodel.console._entrance import Visit
from agentmodel.console._reader import WarehouseReader
from agentmodel.console._site import Site
from agentmodel.console._timeline import interval, weeks
from agentmodel.dynamo.entity import Change
from agentmodel.dynamo.models import Agent, Tool
from agentmodel.exceptions import NotFound, ValidationError
from agentmodel.suggest.health import FailingPeriod, Observation, counted_user, failing_periods
from agentmodel.suggest.plan import ToolRef, confidence_of

__all__ = ["AgentPages"]

_AGENTS = 100  # of a domain
_PERIODS = 10  # in which a tool was failing
_ANSWERS = {"yes": True, "no": False, "": None}


class AgentPages:
    """The pages of agents.

    Args:
        model: The installation.
        site: Makes the pages.
        reader: Gives the warehouse.
    """

    def __init__(self, model: AgentModel, site: Site, reader: WarehouseReader) -> None:
        self._model, self._site, self._reader = model, site, reader

    def agents(self, visit: Visit) -> Response:
        """Show the agents of a domain, best first, as of the last publish."""
        visit.caller.need("reader", "operator", "curator")
        repository = self._model.repository
        domains = list(repository.domains())
        wanted = visit.asked("domain")
        domain = next((each for each in domains if each.domain_id == wanted), None)
        if wanted and domain is None:
            raise NotFound("domain", wanted)
        domain = domain or next(iter(domains), None)
        rows, tools = [], []
        if domain is not None:
            rows = [_ranked(agent) for agent in repository.top_agents(domain.domain_id, _AGENTS)]
            names = {row["agent"].agent_id: row["agent"].name for row in rows}
            tools = [
                {"tool": each, "agent": names.get(each.agent_id, each.agent_id)}
                for each in self._model.health.tools(domain.domain_id)
                if each.state != "closed" or each.failing_users
            ]
        return self._site.page(
            visit.request, "agents.html", visit, domains=domains, domain=domain, rows=rows, failing=tools
        )

    def agent(self, visit: Visit) -> Response:
        """Show one agent with its tools, what each fails at, and its course over time."""
        visit.caller.need("reader", "operator", "curator")
        agent = self._agent(visit)
        states = self._model.health.tools(agent.domain_id)
        course, calls, past = self._courses(agent)
        health = {each.tool_id: each for each in states if each.agent_id == agent.agent_id}
        return self._site.page(
            visit.request, "agent.html", visit, row=_ranked(agent), may_edit="curator" in visit.caller.roles,
            is_operator="operator" in visit.caller.roles, saved=visit.asked("saved"), course=course,
            tools=[{"tool": tool, "health": health.get(tool.tool_id), "interval": _interval(tool),
                    "course": calls.get(tool.tool_id, ""), "past": past.get(tool.tool_id)}
                   for tool in self._model.repository.agent_tools(agent.agent_id)],
        )  # fmt: skip

    def _agent(self, visit: Visit) -> Agent:
        agent_id = visit.request.path_params["agent"]
        agent = self._model.repository.agent(agent_id)
        if agent is None:
            raise NotFound("agent", agent_id)
        return agent

    def _courses(self, agent: Agent) -> tuple[str, dict[str, str], dict[str, tuple[int, list[FailingPeriod]]]]:
        """Return pictures of the agent's runs and its tools' calls by week, and when each tool was failing."""
        if not self._reader.is_set:
            return "", {}, {}
        with self._reader.opened() as warehouse:
            from agentmodel.redshift.reports import executions_per_day
            from agentmodel.redshift.session_list import newest_calls, tool_days

            runs, calls = executions_per_day(warehouse, agent.agent_id), tool_days(warehouse, agent.agent_id)
            newest = newest_calls(warehouse, agent.agent_id)
        past = {tool_id: _past(ToolRef(agent.agent_id, tool_id), seen) for tool_id, seen in newest.items()}
        return weeks(runs), {tool_id: weeks(days, height=48) for tool_id, days in calls.items()}, past

    def describe(self, visit: Visit) -> Response:
        """Change the description of an agent."""
        visit.caller.need("curator")
        agent = self._agent(visit)
        text = visit.form.get("description", "").strip() or None
        self._model.repository.update(Agent.at(agent.agent_id), Agent.description.to(text))
        url = visit.request.url_for("agent", agent=agent.agent_id).include_query_params(saved=agent.agent_id)
        return RedirectResponse(f"{url.path}?{url.query}", 303)

    def edit(self, visit: Visit) -> Response:
        """Change description, review and read-only mark of a tool."""
        visit.caller.need("curator")
        path, form = visit.request.path_params, visit.form
        changes: list[Change] = []
        if "description" in form:
            changes.append(Tool.description.to(form["description"].strip() or None))
        for name, attribute in (("needs_review", Tool.needs_review), ("read_only", Tool.read_only)):
            if name in form:
                if form[name] not in _ANSWERS:
                    raise ValidationError(name, form[name], "must be yes, no, or empty for unknown")
                changes.append(attribute.to(_ANSWERS[form[name]]))
        if changes:
            self._model.repository.update(Tool.at(path["agent"], path["tool"]), *changes)
        url = visit.request.url_for("agent", agent=path["agent"]).include_query_params(saved=path["tool"])
        return RedirectResponse(f"{url.path}?{url.query}", 303)


def _ranked(agent: Agent) -> dict[str, Any]:
    """Return an agent with the interval of its success rate; None where it never ran."""
    if not agent.executions:
        return {"agent": agent, "mean": None, "low": None, "high": None, "picture": ""}
    low, mean, high = agent.evidence_low, agent.evidence, agent.evidence_high
    if low is None or mean is None or high is None:
        mean, low, high = confidence_of(agent.successes or 0, agent.executions)
    return {"agent": agent, "mean": mean, "low": low, "high": high, "picture": interval(low, mean, high)}


def _past(tool_ref: ToolRef, calls: list[tuple[datetime, bool, str, str]]) -> tuple[int, list[FailingPeriod]]:
    """Return how many calls of a tool were looked at, and when it was failing by them, for everybody."""
    seen = [Observation(at, failed, counted_user(user, session)) for at, failed, user, session in calls]
    return len(seen), failing_periods(tool_ref, seen)[:_PERIODS]


def _interval(tool: Tool) -> dict[str, Any] | None:
    if not tool.calls:
        return None
    mean, low, high = confidence_of(tool.calls - (tool.errors or 0), tool.calls)
    return {"mean": mean, "low": low, "high": high, "picture": interval(low, mean, high)}
