"""`agentmodel mcp`: the history as tools of an MCP client."""

from __future__ import annotations

import asyncio
import signal
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agentmodel.cli._model import opened, resolved
from agentmodel.cli._options import stack_of
from agentmodel.exceptions import ConfigurationError
from agentmodel.keys import check_id

__all__ = ["add"]


class Transport(StrEnum):
    """How clients reach the server."""

    STDIO = "stdio"
    HTTP = "http"


def mcp(
    ctx: typer.Context,
    *,
    transport: Annotated[Transport, typer.Option(help="How clients reach it.")] = Transport.STDIO,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Who calls; AGENTMODEL_MCP_USER if not given.")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE", help="What the caller may do, once for each; AGENTMODEL_MCP_ROLES if not given."),
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With http: hashed bearer tokens, whose they are, their roles.")
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="With http: where to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="With http: the port.")] = 8000,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With http: a Host header that a proxy passes on.")
    ] = None,
    stateless: Annotated[bool, typer.Option("--stateless", help="With http: keep nothing between requests.")] = False,
) -> None:
    """Serve the history to an MCP client.

    On stdio until the client closes it or Ctrl-C; with http until Ctrl-C.
    """
    from agentmodel.integrations.mcp import Caller, Tokens, http_security, mcp_server, roles_of

    settings = resolved(stack_of(ctx))
    if tokens is not None and transport is Transport.STDIO:
        raise ConfigurationError("--tokens is for --transport http: on stdio the caller is --user")
    verifier = None if tokens is None else Tokens.of_file(tokens)
    caller = None
    if verifier is None:
        name = user or settings.mcp_user
        if name is None:
            raise ConfigurationError("nobody is named who calls: give --user, or set AGENTMODEL_MCP_USER")
        caller = Caller(user_id=check_id("user", name, "USR"), roles=roles_of(role or settings.mcp_roles.split(",")))
    security = http_security(host, port, verified=verifier is not None, allowed=allow_host or ())
    secret = settings.mcp_state_key
    with opened(stack_of(ctx)) as model:
        server = mcp_server(
            model,
            caller=caller,
            verifier=verifier,
            self_review=settings.mcp_self_review,
            state_keys=() if secret is None else [secret.get_secret_value()],
        )
        if transport is Transport.STDIO:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # its reader cannot be cancelled while it waits for a line
            asyncio.run(server.run_stdio_async())
        else:
            asyncio.run(
                server.run_streamable_http_async(
                    host=host,
                    port=port,
                    json_response=stateless,
                    stateless_http=stateless,
                    transport_security=security,
                )
            )


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(mcp)
