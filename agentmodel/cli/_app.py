"""The application that all commands are added to; errors become a line on stderr and an exit code here."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.main import get_command

from agentmodel._values.text import one_line
from agentmodel._version import installed_version
from agentmodel.cli import (
    _backup,
    _check,
    _console,
    _demo,
    _deploy,
    _env,
    _erase,
    _export,
    _journal,
    _learn,
    _mcp,
    _read,
    _reviews,
    _sessions,
    _up,
    _write,
)
from agentmodel.cli._model import DEFAULT_STACK
from agentmodel.exceptions import AgentModelError, ValidationError

__all__ = ["app", "run"]

# click's UsageError and ClickException; newer versions of typer contain click and do not export these classes
_USAGE_ERROR, _CLICK_ERROR = cast("tuple[type[Exception], type[Exception]]", typer.BadParameter.__mro__[1:3])

_FAILURE, _WRONG_USE, _INTERRUPTED = 1, 2, 130
_LONGEST_ERROR = 4000  # characters of the line

_HELP = """Record what AI agents do, learn which agents and tools work, and suggest them for the next request.

Try `agentmodel demo` first. Other commands work on the stores that AGENTMODEL_… environment variables name; a store
that they do not name is taken from the local stack that `agentmodel up` runs in the folder --dir."""

app = typer.Typer(
    name="agentmodel",
    help=_HELP,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"agentmodel {installed_version() or '(version unknown: not installed, run from its sources)'}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def agentmodel(
    ctx: typer.Context,
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Folder of the local stack that `agentmodel up` runs.")
    ] = DEFAULT_STACK,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep the folder of the local stack for the command; without a command, print the help and exit with 2."""
    ctx.obj = directory
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(_WRONG_USE)


_demo.add(app)
_up.add(app)
_env.add(app)
_backup.add(app)
_write.add(app)
_journal.add(app)
_read.add(app)
_sessions.add(app)
_learn.add(app)
_reviews.add(app)
_erase.add(app)
_export.add(app)
_check.add(app)
_mcp.add(app)
_console.add(app)
_deploy.add(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    _prepare_output()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        for text in given:
            text.encode()  # fails for bytes that the terminal's encoding could not decode
        code = _command().main(args=given, prog_name="agentmodel", standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        return _print_error("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # nobody reads stdout any more; the interpreter would report that once more when it exits
        return _FAILURE
    except Exception as error:  # noqa: BLE001  # any error is reported as one line
        return _print_error(*_describe(error))
    return code if isinstance(code, int) else 0


@cache
def _command() -> Any:
    return get_command(app)  # takes longer than most commands, which tests call by the hundred in one process


def _describe(error: Exception) -> tuple[str, int]:
    """Return the line to print for an error, and the exit code."""
    if isinstance(error, AgentModelError):
        return f"{error} ({error.code})", _WRONG_USE if isinstance(error, ValidationError) else _FAILURE
    if isinstance(error, UnicodeEncodeError):
        text = "an argument cannot be decoded: {!r} has bytes that are not text in the terminal's encoding ({})"
        return text.format(error.object, sys.getfilesystemencoding()), _WRONG_USE
    if isinstance(error, _CLICK_ERROR):
        text = str(cast("Any", error).format_message())
        if isinstance(error, _USAGE_ERROR):
            context = cast("Any", error).ctx
            return f"{text} (see `{'agentmodel' if context is None else context.command_path} --help`)", _WRONG_USE
        return text, _FAILURE
    if isinstance(error, OSError):
        return f"{error.filename or 'the operating system'}: {error.strerror or error}", _FAILURE
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"agentmodel has a bug, please report it: {error!r} in {where.filename}, line {where.lineno}", _FAILURE


def _print_error(text: str, code: int) -> int:
    sys.stderr.write(f"error: {one_line(text, longest=_LONGEST_ERROR)}\n")
    return code


def _prepare_output() -> None:
    """Print characters that the terminal cannot show as escapes, and log warnings as one line each on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logging.basicConfig(format="warning: %(message)s", level=logging.WARNING)
