"""The commands put together, and the one place where errors become exit codes."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.main import get_command

from agentmodel.cli import _check, _demo, _journal, _learn, _mcp, _read, _reviews, _up, _write
from agentmodel.cli._model import STACK
from agentmodel.exceptions import AgentModelError, ValidationError

__all__ = ["app", "run"]

# click's base of wrong use; newer versions of typer bring click with them and do not export it
_USAGE, _CLICK = cast("tuple[type[Exception], type[Exception]]", typer.BadParameter.__mro__[1:3])

_FAILURE, _WRONG_USE, _INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="agentmodel",
    help="The execution-history data layer for AI agents: what was done is recorded, what works is learnt.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            found = metadata.version("agentmodel")
        except metadata.PackageNotFoundError:
            found = "that is not installed, but run from its sources"
        typer.echo(f"agentmodel {found}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def agentmodel(
    ctx: typer.Context,
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Folder of the stack that `agentmodel up` runs.")
    ] = STACK,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Every command reaches the stores that AGENTMODEL_… settings name, else the stack that runs in this folder."""
    ctx.obj = directory
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(_WRONG_USE)


_demo.add(app)
_up.add(app)
_write.add(app)
_journal.add(app)
_read.add(app)
_learn.add(app)
_reviews.add(app)
_check.add(app)
_mcp.add(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    _prepare()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        for text in given:
            text.encode()
        code = get_command(app).main(args=given, prog_name="agentmodel", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return _told("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # who read stdout is gone; the interpreter would complain once more at its end
        return _FAILURE
    except Exception as error:  # noqa: BLE001  # whatever it is, it ends in one line
        return _told(*_meant(error))
    return code if isinstance(code, int) else 0


def _meant(error: Exception) -> tuple[str, int]:
    """An error's line and its exit code."""
    if isinstance(error, AgentModelError):
        return str(error), _WRONG_USE if isinstance(error, ValidationError) else _FAILURE
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object!r} is not text: give it in the encoding of the terminal", _WRONG_USE
    if isinstance(error, _CLICK):
        text = str(cast("Any", error).format_message())
        return (f"{text} (see `agentmodel --help`)", _WRONG_USE) if isinstance(error, _USAGE) else (text, _FAILURE)
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}", _FAILURE
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"a mistake in agentmodel, {where.filename} line {where.lineno}: {error!r}", _FAILURE


def _told(text: str, code: int) -> int:
    sys.stderr.write(f"error: {' '.join(text.split())}\n")
    return code


def _prepare() -> None:
    """Let no character and no warning break what is printed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)
