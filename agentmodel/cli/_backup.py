"""`agentmodel backup` and `agentmodel restore`: keep a copy of the local stack in a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from agentmodel.cli._options import Json, stack_of
from agentmodel.cli._output import Output
from agentmodel.embedded import back_up
from agentmodel.embedded import restore as restore_stack
from agentmodel.exceptions import ValidationError

__all__ = ["add"]


def backup(
    ctx: typer.Context,
    to: Annotated[
        Path, typer.Argument(metavar="FILE", help="File to write, or a folder, in which it is named by its time.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Write the local stack into a file: table, journal and warehouse.

    The stack may run meanwhile; whoever records waits for a moment. The file holds everything that was recorded.
    """
    done = back_up(stack_of(ctx), to)
    out = Output(as_json=as_json)
    if as_json:
        out.data(done)
    else:
        told = "Wrote {path}: {files} files of the stack, {size} MB before compression."
        out.tell(told, path=done.path, files=done.files, size=f"{done.size / 1e6:.1f}")


def restore(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="File that `agentmodel backup` wrote.")],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete the stack that the folder holds now. Asks before.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation before deleting.")] = False,
    as_json: Json = False,
) -> None:
    """Put the stack of a backup into the folder of the local stack.

    The folder must be empty or missing, unless --replace is given, and its stack must not run. The file is checked
    before anything is changed. Whoever was erased after the backup is back: erase them again.
    """
    directory = stack_of(ctx)
    if replace and not yes:
        if not sys.stdin.isatty():
            raise ValidationError(
                "--yes", yes, "must be given, because it cannot be undone and nobody can be asked here"
            )
        typer.confirm(f"Delete the stack that {directory} holds now? It cannot be undone.", abort=True, err=True)
    done = restore_stack(path, directory, replace=replace)
    out = Output(as_json=as_json)
    if as_json:
        out.data(done)
    else:
        told = "Restored the stack of {at} UTC into {folder}: {files} files."
        out.tell(told, at=f"{done.made_at:%Y-%m-%d %H:%M:%S}", folder=directory, files=done.files)
    warn = out.note if as_json else out.line
    warn(out.say("Whoever was erased after that time is back: run `agentmodel up`, and erase them again."))


def add(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(backup)
    app.command()(restore)
