"""The history as an MCP server: plans, rankings, health, sessions, reviews and savings as tools of any MCP client.

What is allowed depends on the caller (`Caller`), never on an argument that a model fills in. On stdio the caller is
named when the server starts; over HTTP the bearer token names the caller.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Annotated, Any, Literal, TypeVar, cast

from mcp.server import MCPServer
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceError, ToolError
from mcp.server.request_state import RequestStateSecurity
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel, Field

from agentmodel import keys
from agentmodel._monitoring.probes import PATHS, Probes, starlette_probe
from agentmodel._values.counts import MAX_COUNT
from agentmodel._values.names import takes_names
from agentmodel._values.text import one_line
from agentmodel._version import installed_version
from agentmodel.access.repository import Repository
from agentmodel.callers import Caller, is_loopback
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import OutcomeSource, ToolExecution, UserSession, UserToolMapping
from agentmodel.exceptions import ConfigurationError, NotFound, ValidationError
from agentmodel.integrations.mcp._catalogue import list_agents, list_domains, list_tools, route_request
from agentmodel.integrations.mcp._rate import RateLimit
from agentmodel.integrations.mcp._record import CallToRecord, check_known, record
from agentmodel.integrations.mcp._request import (
    Cursor,
    CutText,
    Limit,
    Offset,
    OfUser,
    Request,
    ServerState,
    caller_of,
    readable,
    state_of,
)
from agentmodel.integrations.mcp._reviews import decide_review, list_reviews
from agentmodel.integrations.mcp._schemas import (
    CallView,
    LikelyNext,
    NextToolList,
    OutcomeResult,
    ProcessList,
    ProcessScore,
    RankedAgent,
    Ranking,
    RecordResult,
    Saved,
    Savings,
    SessionList,
    SessionRow,
    ToolHealthView,
    ToolList,
)  # fmt: skip
from agentmodel.integrations.mcp._sizes import AnswerSize
from agentmodel.suggest.plan import LikelyTool, Plan, Reason, ReasonCode, fallback_text

__all__ = ["http_security", "mcp_server"]

OtherStatus = Literal["rejected", "edited", "blocked", "cache_hit", "interrupted", "expired", "unknown_tool"]
DurationMs = Annotated[
    int | None, Field(ge=0, le=MAX_COUNT, description="How long the call took in milliseconds, if it is known.")
]
A = TypeVar("A", bound=BaseModel)


# Read


@readable
@takes_names
def recommend_process(
    ctx: Request,
    category: str | None = None,
    request: str | None = None,
    domain_id: str | None = None,
    *,
    first_step: Annotated[int, Field(ge=1, description="First step to return of a plan with many steps.")] = 1,
    user_id: OfUser = None,
) -> Plan:
    """Recommend an agent and steps for a request, say which tools to avoid, and why.

    Pass ``category``, ``request`` or ``domain_id``, or several of them.
    """
    user = caller_of(ctx).scope(user_id, "reader")
    plan = state_of(ctx).model.suggest(user, category=category, request=request, domain_id=domain_id)
    return _fitted(state_of(ctx).size, plan, first_step)


def _fitted(size: AnswerSize, plan: Plan, first_step: int) -> Plan:
    """Return a plan that can be sent; what is left out is told in its reasons."""
    texts = {name: one_line(text, longest=1000) for name in ("category", "request", "similar_to")
             if (text := getattr(plan, name)) is not None}  # fmt: skip
    plan = plan.model_copy(update=texts | {"steps": plan.steps[first_step - 1 :]})
    longest = sorted(_LISTS, key=lambda name: len(str(getattr(plan, name))), reverse=True)
    for name in longest:
        if size.fits(plan):
            return plan
        whole = getattr(plan, name)

        def some(rows: Sequence[Any], name: str = name, plan: Plan = plan, total: int = len(whole)) -> Plan:
            shown = first_step + len(rows)
            values: dict[str, str | int | float] = {"left": total - len(rows)}
            if name == "steps":
                values["next"] = shown
            told = Reason(code=_LISTS[name], values=values)
            return plan.model_copy(update={name: tuple(rows), "reasons": (*plan.reasons, told)})

        plan = some(whole[: size.rows(whole, some)])
    return size.shortened(plan)


_LISTS: dict[str, ReasonCode] = {"steps": "more_steps", "alternatives": "more_alternatives", "avoid": "more_avoid"}


@readable
@takes_names
def next_tools(
    ctx: Request,
    session_id: str | None = None,
    agent_id: str | None = None,
    done: Annotated[
        Sequence[str], Field(description="Without session_id: names or ids of the tools called so far, in order.")
    ] = (),
    *,
    category: str | None = None,
    request: str | None = None,
    limit: Annotated[int, Field(ge=1, le=20, description="Return at most this many tools.")] = 3,
    user_id: OfUser = None,
) -> NextToolList:
    """Predict the tools that an agent in the middle of a run calls next, with a fallback for one that may fail.

    Pass ``session_id`` where the calls were recorded; else ``agent_id`` and ``done``, and what the run is for
    (``category`` or ``request``).
    """
    model, size = state_of(ctx).model, state_of(ctx).size
    if session_id is not None:
        if done or category is not None or request is not None:
            raise ValidationError("session_id", session_id, "cannot be combined with done, category or request")
        user = caller_of(ctx).history_of(user_id)
        found = model.next_tools(session_id, user_id=user, agent_id=agent_id, limit=limit)
    else:
        user = caller_of(ctx).scope(user_id, "reader")
        if agent_id is None:
            raise ValidationError("agent_id", agent_id, "must be given where no session_id is")
        found = model.planner.next_tools(
            user, agent_id=agent_id, done=done, category=category, request=request, limit=limit
        )

    tools = tuple(_likely(each) for each in found.tools)

    def last(calls: Sequence[str]) -> NextToolList:
        done = tuple(reversed(calls))
        return NextToolList(agent_id=found.agent_id, done=done, tools=tools, withheld=found.withheld)

    calls = found.done[::-1]
    return size.shortened(last(calls[: size.rows(calls, last)]))


def _likely(tool: LikelyTool) -> LikelyNext:
    fallback = None if tool.fallback is None else fallback_text(tool.fallback, tool.agent_id)
    return LikelyNext(
        tool_id=tool.tool_id, tool=tool.tool, probability=tool.probability, success_share=tool.success_share,
        warning=None if tool.warning is None else tool.warning.text, fallback=fallback,
    )  # fmt: skip


@readable
@takes_names
def agent_ranking(ctx: Request, domain_id: str, limit: Limit = 10, cursor: Cursor = None) -> Ranking:
    """List the agents of a domain, best first, with the scores that were last published."""
    caller_of(ctx).need("reader", "operator")

    def page(most: int) -> Ranking:
        found = state_of(ctx).model.repository.top_agents(domain_id, most, cursor=cursor)
        agents = tuple(RankedAgent.model_validate(agent) for agent in found.items)
        return Ranking(domain_id=domain_id, agents=agents, cursor=found.cursor)

    return state_of(ctx).size.page(limit, page)


@readable
@takes_names
def tool_health(ctx: Request, domain_id: str, cursor: Cursor = None) -> ToolList:
    """List the tools of a domain and whether each is failing now for the caller; those that are failing come first."""
    caller = caller_of(ctx)
    caller.need("reader", "operator")
    rows = state_of(ctx).model.health.tools(domain_id, user_id=caller.user_id)
    tools = [ToolHealthView.model_validate(tool) for tool in rows]
    return state_of(ctx).size.slice(
        tools, cursor, lambda some, after: ToolList(domain_id=domain_id, tools=tuple(some), cursor=after)
    )


@readable
def session_history(
    ctx: Request,
    session_id: str | None = None,
    *,
    limit: Limit = 20,
    cursor: Cursor = None,
    text: CutText = None,
    offset: Offset = 0,
    user_id: OfUser = None,
) -> SessionList:
    """List the caller's sessions, newest first; with ``session_id``, list the calls of that session in order.

    With ``session_id`` and ``text``, return the rest of one text that was cut.
    """
    user = caller_of(ctx).history_of(user_id)
    repository, size = state_of(ctx).model.repository, state_of(ctx).size
    if text is not None:
        if session_id is None:
            raise ValidationError("session_id", session_id, "must be given with text: it is a text of a session")
        return SessionList(user_id=user, text=size.part(text, _text_of(repository, user, session_id, text), offset))

    def sessions(most: int) -> SessionList:
        found = repository.sessions(user, most, cursor=cursor)
        rows = tuple(_session_row(size, each, repository.outcome(each)) for each in found.items)
        return SessionList(user_id=user, sessions=rows, cursor=found.cursor, complete=found.complete)

    def calls(most: int) -> SessionList:
        found = repository.session_history(user, session_id or "", limit=most, cursor=cursor)
        rows = tuple(_call_view(size, call) for call in found.executions)
        return SessionList(user_id=user, calls=rows, cursor=found.cursor, complete=found.complete)

    return size.page(limit, sessions if session_id is None else calls)


def _session_row(size: AnswerSize, session: UserSession, outcome: bool | None) -> SessionRow:
    row = SessionRow.model_validate(session)
    request = size.line(row.request, _with_session(session.session_id), "request")
    return row.model_copy(update={"request": request, "succeeded": outcome})


def _call_view(size: AnswerSize, call: ToolExecution) -> CallView:
    tool, shown = _with_session(call.session_id), {}
    for name in ("values", "result"):
        text: str | None = getattr(call, name)
        shown[name] = None if text is None else size.cut(text, tool, f"{call.sk}/{name}")
    return CallView(
        call=call.sk, process_id=call.process_id, agent_id=call.agent_id, tool_id=call.tool_id,
        tool_name=call.tool_name, values=shown["values"], result=shown["result"], succeeded=call.succeeded,
        status=call.status, duration_ms=call.duration_ms,
    )  # fmt: skip


def _with_session(session_id: str) -> str:
    return f"session_history with session_id={session_id}"


def _text_of(repository: Repository, user_id: str, session_id: str, text: str) -> str:
    """Return a text of a session, by the name that stands where it was cut."""
    call, _, name = text.rpartition("/")
    if text == "request":
        session = repository.session(user_id, session_id)
        if session is None:
            raise NotFound("session", session_id)
        return session.request or ""
    if name not in ("values", "result"):
        raise ValidationError("text", text, "must be the name of a text, as it stands where the text was cut")
    process_id, agent_id, tool_id, attempt = keys.EXECUTION.parse(call)
    found = repository.execution(user_id, session_id, process_id, agent_id, tool_id, attempt=attempt)
    if found is None:
        raise NotFound("call", call)
    return getattr(found, name) or ""


@readable
def savings_report(ctx: Request, cursor: Cursor = None) -> Savings:
    """Report what cached results saved in each category, over all users, as of the last refresh. For operators."""
    caller_of(ctx).need("operator")
    rows = [Saved.model_validate(row) for row in state_of(ctx).model.savings()]
    return state_of(ctx).size.slice(rows, cursor, lambda some, after: Savings(rows=tuple(some), cursor=after))


# Record


@readable
@takes_names
def record_execution(
    ctx: Request,
    *,
    agent_id: str,
    tool_id: str,
    succeeded: bool,
    process: str = "call",
    session_id: str | None = None,
    request: str | None = None,
    category: str | None = None,
    arguments: Any = None,
    result: Any = None,
    error_type: str | None = None,
    status: OtherStatus | None = None,
    duration_ms: DurationMs = None,
    call_id: str | None = None,
    revision: Annotated[
        str | None, Field(description="Revision of the agent: of its prompt, model and tools, such as v3.")
    ] = None,
    user_id: OfUser = None,
) -> RecordResult:
    """Record one call of a tool; without ``session_id``, in a new session.

    Pass ``status`` only for a call that was not made as requested; such a call counts in no score. Pass ``session_id``
    and a ``call_id`` of your own if you may repeat this request: then the call is recorded once.
    """
    caller, model = caller_of(ctx), state_of(ctx).model
    user = caller.scope(user_id, "recorder")
    call = CallToRecord(
        agent_id=agent_id, tool_id=tool_id, succeeded=succeeded, process=process, arguments=arguments, result=result,
        error_type=error_type, status=status, duration_ms=duration_ms, call_id=call_id,
        revision=revision,
    )  # fmt: skip
    speaks: AbstractContextManager[None] = nullcontext()
    if "operator" in caller.roles:
        speaks = model.health.for_everybody()
    with speaks:
        return record(
            model,
            user,
            call,
            session_id=session_id,
            request=request,
            category=category,
            may_add=not caller.roles.isdisjoint({"curator", "operator"}),
        )


@readable
def record_outcome(
    ctx: Request,
    *,
    session_id: str,
    succeeded: bool | None = None,
    score: Annotated[float | None, Field(ge=0, le=1, description="How good the run was, from 0 to 1.")] = None,
    source: Annotated[
        OutcomeSource,
        Field(description="Who says so. Only an operator reports an event, and only a reviewer what a person said."),
    ] = "evaluator",
    by: Annotated[str | None, Field(description="Name of the evaluator or event, such as refund.")] = None,
    reason: str | None = None,
    agent_id: Annotated[str | None, Field(description="The run of this agent only.")] = None,
    user_id: OfUser = None,
) -> OutcomeResult:
    """Record how a session went, as known from outside of it, such as by an evaluation.

    Pass ``succeeded``, or a ``score``, which means success from 0.5 up. Recorded again by the same ``by``, it replaces
    what was recorded before.
    """
    caller, state = caller_of(ctx), state_of(ctx)
    user = caller.scope(user_id, "recorder")
    if source == "event":
        caller.need("operator")
    if source == "person":
        caller.need("reviewer")
        if user == caller.user_id and not state.self_review:
            raise ToolError(f"not allowed: {user} is the caller; another reviewer must say how this session went")
        by = caller.user_id
    check_known(state.model, user, session_id)
    said = state.model.outcome(
        session_id, user_id=user, succeeded=succeeded, score=score, source=source, by=by, reason=reason,
        agent_id=agent_id,
    ).entity  # fmt: skip
    return OutcomeResult(
        user_id=user, session_id=session_id, agent_id=said.agent_id, source=source, succeeded=said.outcome is True,
        score=said.score,
    )  # fmt: skip


# The server


class _Server(MCPServer[ServerState]):
    """An MCP server that serves over HTTP only where that is safe."""

    async def run_streamable_http_async(self, *, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
        """Serve over HTTP; without tokens, on loopback only."""
        security = http_security(host, port, verified=self.settings.auth is not None)
        options.setdefault("transport_security", security)
        await super().run_streamable_http_async(host=host, port=port, **options)


def mcp_server(
    model: AgentModel,
    *,
    caller: Caller | None = None,
    verifier: TokenVerifier | None = None,
    url: str = "http://127.0.0.1:8000/mcp",
    issuer: str | None = None,
    self_review: bool = False,
    state_keys: Sequence[str] = (),
) -> MCPServer[ServerState]:
    """Return an MCP server with the tools of this module.

    Args:
        model: The installation.
        caller: The caller of every request without a token: on stdio, or on loopback.
        verifier: Verifies bearer tokens: a token's ``subject`` is the user, its scopes are the roles. It must reject
            tokens that were issued for another server.
        url: URL at which clients reach the server; they get it together with ``issuer``.
        issuer: URL of the OAuth server that issues the tokens; clients without a token are sent there. None if tokens
            are handed out in another way.
        self_review: Whether a reviewer may answer questions about their own sessions.
        state_keys: Secrets of at least 32 bytes that seal open forms; needed if several workers serve.

    Raises:
        ConfigurationError: Both a caller and a verifier are given, or neither.
    """
    if (caller is None) == (verifier is None):
        raise ConfigurationError(
            "mcp_server() must be given either a caller or a verifier of tokens, and "
            f"{'neither was given' if caller is None else 'both were given'}"
        )

    size = AnswerSize(model.settings.mcp_answer_characters)
    rate = RateLimit(model.settings.mcp_calls_per_minute, valkey=model.valkey, fixed=caller)

    @asynccontextmanager
    async def lifespan(_: MCPServer[ServerState]) -> AsyncIterator[ServerState]:
        yield ServerState(model, caller, self_review, size)

    # as text: a URL object gets a slash at its end, and issuers are compared character by character
    urls = {"issuer_url": issuer or url, "resource_server_url": issuer and url}
    # mcp 2.3 can compare the resource of a token, which would reject every token of a verifier that gives none
    auth = AuthSettings.model_validate({**urls, "validate_token_resource": False})
    server = _Server(
        "agentmodel",
        version=installed_version() or "unknown",
        instructions="Execution history of AI agents. Call recommend_process before you work on a request, and "
        "record_execution after each tool call.",
        lifespan=lifespan,
        token_verifier=verifier,
        auth=None if verifier is None else auth,
        request_state_security=RequestStateSecurity(keys=list(state_keys)) if state_keys else None,
        log_level="WARNING",
        middleware=[size.hold, rate.hold],
    )
    for tool in (
        list_domains, list_agents, list_tools, route_request,
        recommend_process, next_tools, agent_ranking, tool_health, session_history, record_execution, record_outcome,
        list_reviews, decide_review, savings_report,
    ):  # fmt: skip
        server.tool()(tool)
    for address, read in (
        ("agentmodel://domains/{domain_id}/agents{?cursor}", _agents),
        ("agentmodel://users/{user_id}/processes{?cursor}", _processes),
    ):
        server.resource(address, mime_type="application/json")(read)
    probes = Probes(model, "mcp")
    knows = None if verifier is None else functools.partial(_knows, verifier)
    for path in PATHS:
        server.custom_route(path, ["GET"])(starlette_probe(probes, path, knows))
    return server


async def _knows(verifier: TokenVerifier, token: str) -> bool:
    return await verifier.verify_token(token) is not None


def _as_resource(read: Callable[[], BaseModel]) -> str:
    try:
        return read().model_dump_json()
    except ToolError as error:
        raise ResourceError(str(error)) from None


def _agents(ctx: Context, domain_id: str, cursor: str | None = None) -> str:  # not `Request`: it would be copied empty
    """Return the agents of a domain with their scores, best first."""
    return _as_resource(functools.partial(agent_ranking, cast("Request", ctx), domain_id, cursor=cursor))


def _processes(ctx: Context, user_id: str, cursor: str | None = None) -> str:
    """Return the best known processes for a user's requests with their scores, best first."""
    return _as_resource(functools.partial(_process_list, cast("Request", ctx), user_id, cursor))


@readable
def _process_list(ctx: Request, user_id: str, cursor: str | None) -> ProcessList:
    user, size = caller_of(ctx).history_of(user_id), state_of(ctx).size
    known: list[ProcessScore] = []
    after = None
    while True:
        page = state_of(ctx).model.repository.user_mappings(user, cursor=after)
        known += [_process_score(size, mapping) for mapping in page.items]
        after = page.cursor
        if after is None:
            break
    known.sort(key=lambda each: -(each.score or 0.0))
    return size.slice(known, cursor, lambda some, last: ProcessList(user_id=user, processes=tuple(some), cursor=last))


def _process_score(size: AnswerSize, mapping: UserToolMapping) -> ProcessScore:
    """Return a process with so many of its steps that it takes a part of an answer."""
    whole = ProcessScore.model_validate(mapping)
    steps = list(whole.tools)

    def some(count: int) -> ProcessScore:
        cut = {name: dict(list(getattr(whole, name).items())[:count]) for name in ("processes", "agents", "tools")}
        return whole.model_copy(update=cut | {"more_steps": len(steps) - count})

    count = len(steps)
    while count > 1 and not size.fits_part(some(count)):
        count //= 2
    return some(count) if count < len(steps) else whole


def http_security(host: str, port: int, *, verified: bool, allowed: Sequence[str] = ()) -> TransportSecuritySettings:
    """Return which Host headers an HTTP server accepts; protection against DNS rebinding is always on.

    Args:
        host: Address that the server listens on.
        port: Port that it listens on.
        verified: Whether tokens are verified.
        allowed: Further host names at which clients reach it, such as that of a proxy.

    Raises:
        ConfigurationError: Other machines could reach the server, and it has no tokens.

    >>> http_security("127.0.0.1", 8321, verified=False).allowed_hosts
    ['127.0.0.1:8321', 'localhost:8321', '[::1]:8321']
    >>> http_security("0.0.0.0", 8321, verified=False)
    Traceback (most recent call last):
        ...
    agentmodel.exceptions.ConfigurationError: cannot listen on 0.0.0.0 without tokens, because ...
    """
    if not verified and not is_loopback(host):
        raise ConfigurationError(
            f"cannot listen on {host} without tokens, because every machine that reaches it could call: give a token "
            "file (--tokens), or listen on 127.0.0.1"
        )
    own = [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]
    hosts = [*own, *allowed]
    return TransportSecuritySettings(
        allowed_hosts=hosts, allowed_origins=[f"{scheme}://{name}" for name in hosts for scheme in ("http", "https")]
    )
