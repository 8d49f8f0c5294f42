"""One request to the MCP server: who calls, what the tools share, and errors as a model may read them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ParamSpec, TypeVar

from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from agentmodel._log import logger
from agentmodel.callers import ROLES, Caller, is_loopback
from agentmodel.client import AgentModel
from agentmodel.exceptions import AgentModelError, Conflict, NotAllowed, NotFound, ValidationError
from agentmodel.integrations.mcp._sizes import AnswerSize

__all__ = [
    "Cursor",
    "CutText",
    "Limit",
    "OfUser",
    "Offset",
    "Request",
    "ServerState",
    "caller",
    "caller_of",
    "readable",
    "state_of",
]

_log = logger("agentmodel.mcp")
P = ParamSpec("P")
R = TypeVar("R")

Limit = Annotated[
    int, Field(ge=1, le=100, description="Return at most this many rows; fewer where they would be too large.")
]
Cursor = Annotated[str | None, Field(description="The cursor of the page before; without one, the first page.")]
CutText = Annotated[
    str | None, Field(description="Name of one text that was cut, as it stands there: return the rest of that text.")
]
Offset = Annotated[int, Field(ge=0, description="With text: the characters to leave out at its beginning.")]
OfUser = Annotated[str | None, Field(description="Only for operators: id of another user, such as USR001.")]


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the tools of a server share."""

    model: AgentModel
    caller: Caller | None
    self_review: bool
    size: AnswerSize


Request = Context[ServerState, Any]


def readable(tool: Callable[P, R]) -> Callable[P, R]:
    """Turn errors into what a model may read: the message of an input error, but no detail of an outage."""

    @functools.wraps(tool)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return tool(*args, **kwargs)
        except (ValidationError, NotFound, NotAllowed, Conflict) as error:
            raise ToolError(str(error)) from None
        except AgentModelError as error:
            _log.warning("mcp.failed tool=%s: %s", tool.__name__, error)
            raise ToolError(
                f"{tool.__name__} failed: the history cannot be reached or read now; try again later, or continue "
                "without it"
            ) from None

    return call


def state_of(ctx: Request) -> ServerState:
    """Return what the tools of the server share."""
    return ctx.request_context.lifespan_context


def caller_of(ctx: Request) -> Caller:
    """Return the caller of a tool."""
    return caller(ctx.request_context.request, state_of(ctx).caller)


def caller(request: Any, fixed: Caller | None) -> Caller:
    """Return the caller: the user of the request's token, or on stdio the user named when the server was started.

    Args:
        request: The HTTP request; None on stdio.
        fixed: The caller of every request without a token.
    """
    scope = getattr(request, "scope", {})
    token = getattr(scope.get("user"), "access_token", None)
    if isinstance(token, AccessToken):
        if not token.subject:
            raise ToolError("not allowed: the token names no user; use a token that has a subject")
        roles = frozenset(ROLES).intersection(token.scopes)
        return Caller(user_id=token.subject, roles=roles)
    if fixed is None:
        raise ToolError("not allowed: the request has no bearer token; send one")
    host = (scope.get("client") or ("127.0.0.1",))[0]
    if not is_loopback(host):  # whatever address the server listens on
        raise ToolError(
            f"not allowed: this server has no tokens, so it answers calls from its own machine only, not from {host}"
        )
    return fixed
