"""The history as an MCP server: plans, rankings, health, sessions, reviews and savings as tools of any MCP client.

Who may do what is decided by who calls (`Caller`), never by an argument that a model fills in. On stdio the caller is
named at the start; over HTTP it is whom the bearer token belongs to.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, cast

try:
    from mcp.server import MCPServer
    from mcp.server.auth.provider import AccessToken, TokenVerifier
    from mcp.server.auth.settings import AuthSettings
    from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
    from mcp.server.mcpserver import Context
    from mcp.server.mcpserver.exceptions import ResourceError, ToolError
    from mcp.server.mcpserver.resolve import Elicit, Resolve
    from mcp.server.request_state import RequestStateSecurity
    from mcp.server.transport_security import TransportSecuritySettings
except ModuleNotFoundError as error:
    from agentmodel.exceptions import MissingExtraError

    raise MissingExtraError("mcp", "the MCP server", error.name) from error
from pydantic import BaseModel, ConfigDict, Field

from agentmodel.client import AgentModel
from agentmodel.dynamo.models import VERDICTS, Review, Verdict
from agentmodel.exceptions import AgentModelError, ConfigurationError, Conflict, NotFound, ValidationError
from agentmodel.integrations._answers import (
    AgentScore,
    Call,
    Health,
    ProcessList,
    ProcessScore,
    Question,
    Ranking,
    Recorded,
    Saved,
    Savings,
    SessionList,
    SessionRow,
    ToolList,
    Waiting,
)  # fmt: skip
from agentmodel.integrations._callers import ROLES, Caller, Role, Tokens, roles_of
from agentmodel.suggest.plan import Plan
from agentmodel.suggest.review import DEFAULT_QUEUE, Reviews

__all__ = [
    "ROLES", "Caller", "ReviewAnswer", "ReviewVerdict", "Role", "Tokens", "http_security", "mcp_server", "roles_of",
]  # fmt: skip

_log = logging.getLogger("agentmodel.mcp")
P = ParamSpec("P")
R = TypeVar("R")

Limit = Annotated[int, Field(ge=1, le=100, description="The most rows.")]
OfUser = Annotated[str | None, Field(description="Only for operators: another user than the caller's own.")]


OtherStatus = Literal["rejected", "edited", "blocked", "cache_hit", "interrupted", "expired", "unknown_tool"]
MADE = ("edited", "cache_hit")
Took = Annotated[int | None, Field(ge=0, description="How long the call took, where that is known.")]


class _Answered(BaseModel):
    """What a person answers; the fields are flat, as forms of MCP clients are."""

    model_config = ConfigDict(extra="forbid")


class ReviewAnswer(_Answered):
    """What a person answers to a question that is asked before a step."""

    decision: Literal["approve", "edit", "reject", "respond"] = Field(description="What is to be done.")
    reason: str = Field(default="", description="Why; a rejection needs it.")
    text: str = Field(default="", description="With edit: the arguments as JSON. With respond: what is given back.")


class ReviewVerdict(_Answered):
    """What a person says of a run that has ended."""

    verdict: Verdict = Field(description="How the run went.")
    outcome: Literal["succeeded", "failed"] | None = Field(
        default=None, description="Whether it succeeded; left out, correct succeeded, wrong and harmful failed."
    )
    reason: str = Field(default="", description="Why.")


Said = Annotated[
    ReviewAnswer | ReviewVerdict | None,
    Field(description="Only where the client has no forms: what a person answered; a verdict where the run has ended."),
]


@dataclass(frozen=True, slots=True)
class _Desk:
    """What the tools work with."""

    model: AgentModel
    caller: Caller | None
    self_review: bool


_Ctx = Context[_Desk, Any]


def _readable(tool: Callable[P, R]) -> Callable[P, R]:
    """Errors as a model may read them: bad input in its own words, nothing of what is inside."""

    @functools.wraps(tool)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return tool(*args, **kwargs)
        except (ValidationError, NotFound, Conflict) as error:
            raise ToolError(str(error)) from None
        except AgentModelError as error:
            _log.warning("mcp.failed tool=%s: %s", tool.__name__, error)
            raise ToolError("the history cannot be reached or read now; try again later, or go on without it") from None

    return told


def _desk(ctx: _Ctx) -> _Desk:
    return ctx.request_context.lifespan_context


def _caller(ctx: _Ctx) -> Caller:
    """Who calls: whom the token of this request belongs to, or on stdio who was named at the start."""
    scope = getattr(ctx.request_context.request, "scope", {})
    user = scope.get("user")
    token = getattr(user, "access_token", None)
    if isinstance(token, AccessToken):
        if not token.subject:
            raise ToolError("not allowed: the token names no user")
        return Caller(user_id=token.subject, roles=frozenset(role for role in ROLES if role in token.scopes))
    fixed = _desk(ctx).caller
    if fixed is None:
        raise ToolError("not allowed: nobody is known to call; give a bearer token")
    if scope.get("client") and not _is_loopback(scope["client"][0]):  # however the server was bound
        raise ToolError("not allowed: without tokens only this machine may call")
    return fixed


# Read


@_readable
def recommend_process(
    ctx: _Ctx,
    category: str | None = None,
    request: str | None = None,
    domain_id: str | None = None,
    user_id: OfUser = None,
) -> Plan:
    """What to do for a request: which agent, which steps, what to avoid, and why."""
    user = _caller(ctx).scope(user_id, "reader")
    return _desk(ctx).model.suggest(user, category=category, request=request, domain_id=domain_id)


@_readable
def agent_ranking(ctx: _Ctx, domain_id: str, limit: Limit = 10) -> Ranking:
    """The agents of a domain, best first, with the scores that were last published."""
    _caller(ctx).need("reader", "operator")
    page = _desk(ctx).model.repository.top_agents(domain_id, limit)
    return Ranking(domain_id=domain_id, agents=tuple(AgentScore.model_validate(agent) for agent in page.items))


@_readable
def tool_health(ctx: _Ctx, domain_id: str) -> ToolList:
    """The tools of a domain and whether they fail now, failing ones first."""
    _caller(ctx).need("reader", "operator")
    tools = _desk(ctx).model.health.tools(domain_id)
    return ToolList(domain_id=domain_id, tools=tuple(Health.model_validate(tool) for tool in tools))


@_readable
def session_history(
    ctx: _Ctx,
    session_id: str | None = None,
    limit: Limit = 20,
    cursor: str | None = None,
    user_id: OfUser = None,
) -> SessionList:
    """The caller's sessions, newest first; with ``session_id`` the calls of that session in their order."""
    user = _caller(ctx).scope(user_id, "reader")
    repository = _desk(ctx).model.repository
    if session_id is None:
        page = repository.sessions(user, limit, cursor=cursor)
        rows = tuple(SessionRow.model_validate(session) for session in page.items)
        return SessionList(user_id=user, sessions=rows, cursor=page.cursor)
    history = repository.session_history(user, session_id, limit=limit, cursor=cursor)
    calls = tuple(Call.model_validate(call) for call in history.executions)
    return SessionList(user_id=user, calls=calls, cursor=history.cursor)


@_readable
def savings_report(ctx: _Ctx) -> Savings:
    """What known answers saved in each category, over all users, as of the last refresh; for operators."""
    _caller(ctx).need("operator")
    return Savings(rows=tuple(Saved.model_validate(row) for row in _desk(ctx).model.savings()))


# Record


@_readable
def record_execution(
    ctx: _Ctx,
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
    duration_ms: Took = None,
    call_id: str | None = None,
    user_id: OfUser = None,
) -> Recorded:
    """Record one call of a tool; without ``session_id`` a new session is begun.

    ``status`` says of a call that it was not made as asked; only calls without one count in scores.
    Give ``session_id`` and a ``call_id`` of your own to make trying again harmless: the same call is recorded once.
    """
    user = _caller(ctx).scope(user_id, "recorder")
    if succeeded and status not in (None, *MADE):
        raise ValidationError("succeeded", succeeded, f"a call that is {status} was not made: it did not succeed")
    model = _desk(ctx).model
    if session_id is not None and call_id is not None:
        for known in model.repository.session_history(user, session_id).executions:
            if known.call_id == call_id:
                return Recorded(user_id=user, session_id=session_id, process_id=known.process_id, call_id=call_id)
    with (
        model.session(user, request, category=category, session_id=session_id) as session,
        session.process(process) as step,
    ):
        call = step.call(agent_id, tool_id, values=arguments, call_id=call_id)
        call.__enter__()  # what is measured here is not the call: it was made elsewhere
        call.result = result
        if not succeeded:
            call.fail(error_type=error_type, status=status or "error")
        elif status is not None:
            call.mark(status)
        entity = call.ended(None)
        entity.duration_ms = duration_ms
        made = model.recorder.record(entity).entity
    return Recorded(user_id=user, session_id=session.session_id, process_id=step.process_id, call_id=made.call_id or "")


# Review


def _question(model: AgentModel, review: Review, note: str | None = None) -> Question:
    answer_of = model.reviews.status(review)
    return Question(
        review=Reviews.reference(review),
        question=review.question,
        phase=review.phase or "pre",
        status=answer_of,
        agent_id=review.agent_id,
        tool_id=review.tool_id,
        arguments=review.arguments,
        reason=review.reason,
        allowed=VERDICTS if review.phase == "post" else tuple(review.allowed or ()),
        answer_until=review.answer_until,
        decision=review.decision,
        verdict=review.verdict,
        outcome=review.outcome,
        decided_by=review.decided_by,
        note=note,
    )


@_readable
def list_reviews(ctx: _Ctx, queue: str = DEFAULT_QUEUE, limit: Limit = 20, cursor: str | None = None) -> Waiting:
    """The open questions of a queue, nearest deadline first; for reviewers."""
    _caller(ctx).need("reviewer")
    model = _desk(ctx).model
    page = model.reviews.inbox(queue, limit=limit, cursor=cursor)
    return Waiting(reviews=tuple(_question(model, review) for review in page.items), cursor=page.cursor)


def _may_decide(ctx: _Ctx, which: str) -> tuple[Caller, Review]:
    caller, desk = _caller(ctx), _desk(ctx)
    caller.need("reviewer")
    review = desk.model.reviews.get(which)
    if review.user_id == caller.user_id and not desk.self_review:
        raise ToolError("not allowed: the question is about the caller's own session; another reviewer has to decide")
    return caller, review


@_readable
def _asked(ctx: _Ctx, review: str, said: Said = None) -> Elicit[_Answered] | _Answered:
    """The form for the person at the client; where the client has no forms, what its call says."""
    _, found = _may_decide(ctx, review)
    model = _desk(ctx).model
    kind, told = (ReviewVerdict, _run(model, found)) if found.phase == "post" else (ReviewAnswer, _step(found))
    able = ctx.client_capabilities
    form = None if able is None else able.elicitation
    if form is not None and (form.form is not None or form.url is None):
        return Elicit(f"{found.question}\n{told}", kind)
    if said is None:
        raise ToolError(
            f"review {review} stays open: this client has no form to ask a person by. "
            "Ask the person, and call again with the answer as `said`"
        )
    if not isinstance(said, kind):
        fields = ", ".join(kind.model_fields)
        raise ToolError(f"review {review} stays open: as `said` it takes {fields} ({told.partition(chr(10))[0]})")
    return said


def _step(review: Review) -> str:
    """What a person decides about, exactly."""
    exact = json.dumps(review.arguments, ensure_ascii=True, sort_keys=True)
    about = f"{review.tool_id or 'a step'} of {review.agent_id or 'no agent'}"
    return f"{about} with {exact}\nSHA-256 {review.arguments_hash}"


def _run(model: AgentModel, review: Review) -> str:
    """What a person judges: a run that has ended, and its first calls."""
    lines = [f"the run {review.session_id} of {review.user_id} has ended"]
    session = model.repository.session(review.user_id, review.session_id)
    if session is None:
        return f"{lines[0]}; its history does not exist any more"
    calls = model.repository.session_history(review.user_id, review.session_id, limit=20).executions
    lines += [f"asked for: {session.request}"] if session.request else []
    lines += [f"{call.tool_name}: {call.status or ('ok' if call.succeeded else 'error')}" for call in calls]
    return "\n".join(lines)


@_readable
def decide_review(
    ctx: _Ctx,
    review: str,
    answer: Annotated[ElicitationResult[_Answered], Resolve(_asked)],
    said: Said = None,  # noqa: ARG001  # `_asked` takes it
) -> Question:
    """Have the person at the client answer a question, by a form. For reviewers.

    A question that is asked before a step is decided; of a run that has ended the person gives a verdict. ``said``
    counts only where the client has no forms, and must be what a person said.
    """
    caller, found = _may_decide(ctx, review)
    model = _desk(ctx).model
    if not isinstance(answer, AcceptedElicitation):
        return _question(model, found, f"nothing was decided: the person chose to {answer.action}")
    person = answer.data
    if isinstance(person, ReviewVerdict):
        outcome = None if person.outcome is None else person.outcome == "succeeded"
        done = model.reviews.verdict(
            review, person.verdict, caller.user_id, outcome=outcome, reason=person.reason or None
        )
    else:
        done = _decided(model.reviews, found, cast("ReviewAnswer", person), caller.user_id)
    return _question(model, done)


def _decided(reviews: Reviews, review: Review, person: ReviewAnswer, by: str) -> Review:
    return reviews.decide(
        review,
        person.decision,
        by,
        reason=person.reason or None,
        arguments=_edited(person.text) if person.decision == "edit" else None,
        response=(person.text or None) if person.decision == "respond" else None,
        arguments_hash=review.arguments_hash,
    )


def _edited(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValidationError("text", text, "with edit, the arguments to call with as JSON") from None


# The server


class _Server(MCPServer[_Desk]):
    """Serves by HTTP where it may."""

    async def run_streamable_http_async(self, *, host: str = "127.0.0.1", port: int = 8000, **options: Any) -> None:
        """Serve; without tokens on loopback only."""
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
) -> MCPServer[_Desk]:
    """A server with the tools of this module.

    Args:
        model: The installation.
        caller: Who calls where no token says it: on stdio, or on loopback.
        verifier: Says whom a bearer token belongs to: the token's ``subject`` is the user, its scopes are the roles. It
            must refuse tokens that were issued for another server.
        url: Under which clients reach the server; told to them together with ``issuer``.
        issuer: URL of the OAuth server that gives the tokens which ``verifier`` verifies: clients that have none are
            sent there. None where tokens are handed out otherwise.
        self_review: Whether a reviewer may decide about its own sessions.
        state_keys: Secrets of at least 32 bytes that seal open forms; needed when several workers answer.

    Raises:
        ConfigurationError: There is both a caller and a verifier, or neither.
    """
    if (caller is None) == (verifier is None):
        raise ConfigurationError("an MCP server needs either a caller or a verifier of tokens, and not both")

    @asynccontextmanager
    async def lifespan(_: MCPServer[_Desk]) -> AsyncIterator[_Desk]:
        yield _Desk(model, caller, self_review)

    # as text: a URL that is made before gets a slash at its end, and issuers are compared character by character
    told = {"issuer_url": issuer or url, "resource_server_url": issuer and url}
    # from mcp 2.3 on it could compare a token's resource; a verifier that does not give one would let nobody in
    auth = AuthSettings.model_validate({**told, "validate_token_resource": False})
    server = _Server(
        "agentmodel",
        instructions="Execution history of agents: ask for a plan before work, record calls after it.",
        lifespan=lifespan,
        token_verifier=verifier,
        auth=None if verifier is None else auth,
        request_state_security=RequestStateSecurity(keys=list(state_keys)) if state_keys else None,
        log_level="WARNING",
    )
    for tool in (
        recommend_process, agent_ranking, tool_health, session_history, record_execution, list_reviews, decide_review,
        savings_report,
    ):  # fmt: skip
        server.tool()(tool)
    server.resource("agentmodel://domains/{domain_id}/agents", mime_type="application/json")(_agents)
    server.resource("agentmodel://users/{user_id}/processes", mime_type="application/json")(_processes)
    return server


def _agents(ctx: Context, domain_id: str) -> str:  # not `_Ctx`: a resource's context would be copied empty into it
    """The agents of a domain with their scores."""
    try:
        return agent_ranking(cast("_Ctx", ctx), domain_id).model_dump_json()
    except ToolError as error:
        raise ResourceError(str(error)) from None


def _processes(ctx: Context, user_id: str) -> str:
    """The best known ways for a user's requests with their scores, the best first."""
    try:
        return _best(cast("_Ctx", ctx), user_id).model_dump_json()
    except ToolError as error:
        raise ResourceError(str(error)) from None


@_readable
def _best(ctx: _Ctx, user_id: str) -> ProcessList:
    user = _caller(ctx).scope(user_id, "reader")
    known = [ProcessScore.model_validate(each) for each in _desk(ctx).model.repository.user_mappings(user).items]
    return ProcessList(user_id=user, processes=tuple(sorted(known, key=lambda each: -(each.score or 0.0))))


def http_security(host: str, port: int, *, verified: bool, allowed: Sequence[str] = ()) -> TransportSecuritySettings:
    """Which Host headers an HTTP server takes; protection against DNS rebinding is always on.

    Args:
        host: Where it binds.
        port: And to which port.
        verified: Whether tokens are verified.
        allowed: Names under which clients reach it, such as behind a proxy.

    Raises:
        ConfigurationError: It would be reachable from elsewhere without tokens.
    """
    if not verified and not _is_loopback(host):
        raise ConfigurationError(
            f"without tokens the MCP server binds to 127.0.0.1 only, not to {host}: give a token file (--tokens)"
        )
    own = [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]
    hosts = [*own, *allowed]
    return TransportSecuritySettings(
        allowed_hosts=hosts, allowed_origins=[f"{scheme}://{name}" for name in hosts for scheme in ("http", "https")]
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
