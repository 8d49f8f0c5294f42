"""The catalogue as tools of the MCP server: domains, agents and tools, and which domain a request belongs to."""

from __future__ import annotations

from agentmodel._values.names import takes_names
from agentmodel._values.text import json_text
from agentmodel.dynamo.models import Domain, Tool
from agentmodel.exceptions import NotFound, ValidationError
from agentmodel.integrations.mcp._request import Cursor, CutText, Limit, Offset, Request, caller_of, readable, state_of
from agentmodel.integrations.mcp._schemas import (
    AgentEntry,
    AgentList,
    DomainEntry,
    DomainList,
    Route,
    RoutedDomain,
    ToolCatalogue,
    ToolEntry,
)
from agentmodel.integrations.mcp._sizes import AnswerSize

__all__ = ["list_agents", "list_domains", "list_tools", "route_request"]

_EXAMPLES = 20  # of a domain


@readable
def list_domains(ctx: Request, limit: Limit = 50, cursor: Cursor = None) -> DomainList:
    """List the domains by name, each with its description and up to 20 requests that it is for."""
    caller_of(ctx).need("reader", "operator")

    def page(most: int) -> DomainList:
        found = state_of(ctx).model.repository.domains(limit=most, cursor=cursor)
        return DomainList(domains=tuple(map(_domain, found.items)), cursor=found.cursor)

    return state_of(ctx).size.page(limit, page)


def _domain(domain: Domain) -> DomainEntry:
    examples = tuple(domain.examples or ())[:_EXAMPLES]
    return DomainEntry(domain_id=domain.domain_id, name=domain.name, description=domain.description, examples=examples)


@readable
@takes_names
def list_agents(ctx: Request, domain_id: str, limit: Limit = 50, cursor: Cursor = None) -> AgentList:
    """List the agents of a domain with their descriptions, the best first; `agent_ranking` has their scores."""
    caller_of(ctx).need("reader", "operator")

    def page(most: int) -> AgentList:
        found = state_of(ctx).model.repository.top_agents(domain_id, most, cursor=cursor)
        agents = tuple(map(AgentEntry.model_validate, found.items))
        return AgentList(domain_id=domain_id, agents=agents, cursor=found.cursor)

    return state_of(ctx).size.page(limit, page)


@readable
@takes_names
def list_tools(
    ctx: Request,
    agent_id: str,
    *,
    limit: Limit = 50,
    cursor: Cursor = None,
    text: CutText = None,
    offset: Offset = 0,
) -> ToolCatalogue:
    """List the tools of an agent with their descriptions and specs.

    With ``text``, return the rest of one spec that was cut.
    """
    caller_of(ctx).need("reader", "operator")
    repository, size = state_of(ctx).model.repository, state_of(ctx).size
    if text is not None:
        tool_id, _, name = text.partition("/")
        if name != "spec":
            raise ValidationError("text", text, "must be the name of a text, as it stands where the text was cut")
        tool = repository.tool(agent_id, tool_id)
        if tool is None:
            raise NotFound("tool", tool_id)
        return ToolCatalogue(agent_id=agent_id, text=size.part(text, json_text(tool.spec), offset))

    def page(most: int) -> ToolCatalogue:
        found = repository.agent_tools(agent_id, most, cursor=cursor)
        return ToolCatalogue(
            agent_id=agent_id, tools=tuple(_entry(size, each) for each in found.items), cursor=found.cursor
        )

    return size.page(limit, page)


def _entry(size: AnswerSize, tool: Tool) -> ToolEntry:
    where, name = f"list_tools with agent_id={tool.agent_id}", f"{tool.tool_id}/spec"
    spec = None if tool.spec is None else size.cut(json_text(tool.spec), where, name)
    return ToolEntry(
        tool_id=tool.tool_id, name=tool.name, description=tool.description, spec=spec, read_only=bool(tool.read_only),
        needs_review=bool(tool.needs_review),
    )  # fmt: skip


@readable
def route_request(ctx: Request, request: str, limit: Limit = 5) -> Route:
    """Find the domains that a request belongs to, best first, each with its likelihood and a reason.

    No domain is returned where none fits. With ``basis`` descriptions, little is known of earlier requests: read the
    descriptions of `list_domains`, and decide yourself.
    """
    caller_of(ctx).need("reader", "operator")
    found = state_of(ctx).model.route(request)[:limit]
    domains = (RoutedDomain.model_validate(each.model_dump() | {"reason": each.reason.text}) for each in found)
    return Route(domains=tuple(domains))
