"""`agentmodel mcp`: serve the history to an MCP client."""

from __future__ import annotations

import asyncio
import signal
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agentmodel.cli._model import open_model, resolve_settings
from agentmodel.cli._options import stack_of
from agentmodel.cli._output import Output
from agentmodel.exceptions import ConfigurationError
from agentmodel.keys import id_of

__all__ = ["add"]


class Transport(StrEnum):
    """How clients connect to the server."""

    STDIO = "stdio"
    HTTP = "http"


def mcp(
    ctx: typer.Context,
    *,
    transport: Annotated[Transport, typer.Option(help="How clients connect to the server.")] = Transport.STDIO,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="User who makes all calls. [default: AGENTMODEL_MCP_USER]")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE",
            help="Role of that user: reader, recorder, reviewer, operator or curator; repeat for more. "
            "[default: AGENTMODEL_MCP_ROLES]",
        ),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With http: file of hashed bearer tokens with the user and roles of each."),
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="With http: address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="With http: port to listen on.")] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="With http: accept this Host header, as a proxy sends it; repeat for more."),
    ] = None,
    stateless: Annotated[
        bool, typer.Option("--stateless", help="With http: keep no session between requests.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With http: print what is served as one line of JSON on stdout.")
    ] = False,
) -> None:
    """Serve the history to an MCP client.

    With stdio it runs until the client closes the connection or Ctrl-C; with http until Ctrl-C. It needs
    `pip install 'agentmodel[mcp]'`.
    """
    if as_json and transport is Transport.STDIO:
        raise ConfigurationError(
            "--json can be used with --transport http only: with stdio, stdout belongs to the protocol"
        )
    from agentmodel.callers import Caller, Tokens, roles_of
    from agentmodel.integrations.mcp import http_security, mcp_server

    settings = resolve_settings(stack_of(ctx))
    if tokens is not None and transport is Transport.STDIO:
        raise ConfigurationError(
            "--tokens can be used with --transport http only: with stdio, name the caller by --user instead"
        )
    verifier = None if tokens is None else Tokens.of_file(tokens)
    caller = None
    if verifier is None:
        name = user or settings.mcp_user
        if name is None:
            raise ConfigurationError("no user is named as the caller: give --user or set AGENTMODEL_MCP_USER")
        caller = Caller(user_id=id_of("USR", name, field="user"), roles=roles_of(role or settings.mcp_roles.split(",")))
    security = http_security(host, port, verified=verifier is not None, allowed=allow_host or ())
    secret = settings.mcp_state_key
    with open_model(stack_of(ctx)) as model:
        server = mcp_server(
            model,
            caller=caller,
            verifier=verifier,
            self_review=settings.mcp_self_review,
            state_keys=() if secret is None else [secret.get_secret_value()],
        )
        if transport is Transport.STDIO:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the thread that reads stdin cannot be cancelled
            asyncio.run(server.run_stdio_async())
        else:
            if as_json:
                Output(as_json=True).json_line(mcp=f"http://{f'[{host}]' if ':' in host else host}:{port}/mcp")
            asyncio.run(
                server.run_streamable_http_async(
                    host=host, port=port, json_response=stateless, stateless_http=stateless, transport_security=security
                )
            )


def add(app: typer.Typer) -> None:
    """Add the command `mcp` to the application."""
    app.command()(mcp)
