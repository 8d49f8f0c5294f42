"""`agentmodel console`: serve the console, the web pages for people."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from agentmodel._values.urls import http_url
from agentmodel.callers import Caller, Tokens, is_loopback, roles_of
from agentmodel.cli._model import open_model
from agentmodel.cli._options import JsonLine, stack_of
from agentmodel.cli._output import Output
from agentmodel.cli._signals import stop_event
from agentmodel.client import AgentModel
from agentmodel.exceptions import ConfigurationError
from agentmodel.keys import id_of

__all__ = ["DEFAULT_PORT", "add", "serving"]

DEFAULT_PORT = 8321
_ROLES = ("reader", "reviewer", "operator", "curator")


def console(
    ctx: typer.Context,
    *,
    tokens: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File of hashed tokens that people log in with, and their users and roles."),
    ] = None,
    user: Annotated[
        str, typer.Option(metavar="USER", help="Without tokens: the user who looks and decides, such as your name.")
    ] = "local",
    role: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE",
            help="Without tokens: role of that user: reader, reviewer, operator or curator; repeat for more. "
            "[default: all of them]",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 is any.")] = DEFAULT_PORT,
    as_json: JsonLine = False,
) -> None:
    """Serve the console: web pages for people who look at the history and answer questions.

    Runs until Ctrl-C. Without --tokens nobody logs in, and only this machine is answered. It needs
    `pip install 'agentmodel[console]'`.
    """
    if tokens is None and not is_loopback(host):
        raise ConfigurationError(
            f"cannot listen on {host} without tokens, because every machine that reaches it could read and decide: "
            "give a token file (--tokens), or listen on 127.0.0.1"
        )
    verifier = None if tokens is None else Tokens.of_file(tokens)
    caller = Caller(user_id=id_of("USR", user, field="--user"), roles=roles_of(role or _ROLES))
    out = Output(as_json=as_json)
    with (
        stop_event() as stop,
        open_model(stack_of(ctx)) as model,
        serving(model, host=host, port=port, tokens=verifier, caller=caller) as address,
    ):
        if verifier is not None and not is_loopback(host):
            out.note("warning: tokens are sent in clear text unless a proxy with TLS is in front of this address")
        if as_json:
            out.json_line(console=address)
        else:
            out.tell("The console is at {address} . Ctrl-C stops it.", address=address)
        stop.wait()
    if not as_json:
        out.tell("Stopped.")


@contextmanager
def serving(
    model: AgentModel,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    tokens: Tokens | None = None,
    caller: Caller | None = None,
    release: bool = True,
) -> Iterator[str]:
    """Serve the console in a thread while the block runs; give its address.

    Raises:
        ConfigurationError: The port is taken, or is none of this machine.
        MissingExtraError: The extra ``console`` is not installed.
    """
    from agentmodel.console import console as application

    app = application(model, tokens=tokens, caller=caller, release_warehouse=release)
    import uvicorn  # after the console, which says what to install

    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigurationError(
            f"the console cannot listen on {host} port {port} ({error.strerror or error}): give another --host or port"
        ) from None
    with listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        worker = threading.Thread(target=server.run, args=([listening],), name="agentmodel-console")
        worker.start()
        try:
            yield f"{http_url(host, listening.getsockname()[1])}/"
        finally:
            server.should_exit = True
            worker.join()


def add(app: typer.Typer) -> None:
    """Add the command `console` to the application."""
    app.command()(console)
