"""`agentmodel env`: print the settings that reach the running local stack."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import Annotated

import typer

from agentmodel.cli._options import Json, stack_of
from agentmodel.cli._output import Output
from agentmodel.embedded import running_stack

__all__ = ["add"]


class Form(StrEnum):
    """A form of environment variables."""

    SHELL = "shell"
    DOTENV = "dotenv"


def env(
    ctx: typer.Context,
    *,
    form: Annotated[
        Form, typer.Option("--format", help="As commands of a shell, or as lines of a .env file.")
    ] = Form.SHELL,
    as_json: Json = False,
) -> None:
    """Print the AGENTMODEL_… variables that reach the running local stack.

    `eval "$(agentmodel env)"` sets them in a shell; `agentmodel env --format dotenv > .env` writes them into a file.
    """
    found = {f"AGENTMODEL_{name.upper()}": str(value) for name, value in running_stack(stack_of(ctx)).items()}
    out = Output(as_json=as_json)
    if as_json:
        out.data(found)
        return
    for name, value in found.items():
        out.line(f"export {name}={shlex.quote(value)}" if form is Form.SHELL else f"{name}={_quoted(value)}")


def _quoted(value: str) -> str:
    r"""Return a value as a .env file has it.

    >>> print(_quoted("plain"), _quoted("it's $5"))
    'plain' "it's \$5"
    """
    if "'" not in value:
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def add(app: typer.Typer) -> None:
    """Add the command `env` to the application."""
    app.command()(env)
