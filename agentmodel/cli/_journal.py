"""Commands of the journal: drain, and dead list, retry and drop."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from agentmodel.cache.drain import Drained
from agentmodel.cli._model import draining, opened
from agentmodel.cli._options import Json, Limit, stack_of
from agentmodel.cli._output import Output
from agentmodel.cli._signals import stop_asked
from agentmodel.exceptions import NotFound, ValidationError

__all__ = ["add"]


dead = typer.Typer(help="Records that the table refuses for good.", rich_markup_mode=None)
Letter = Annotated[str, typer.Argument(metavar="ID", help="Id of the dead letter, as `agentmodel dead list` shows it.")]


def drain(
    ctx: typer.Context,
    *,
    keep_on: Annotated[
        bool, typer.Option("--keep-on", help="Do not end when the journal is empty: drain until SIGTERM or Ctrl-C.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="One pass only: some hundred entries.")] = False,
    as_json: Json = False,
) -> None:
    """Write what the journal holds into the table.

    Until the journal is empty, unless told otherwise. A long run waits out the stores' outages, says once a minute what
    it did, and ends cleanly: the pass under way is finished, and the rest stays in the journal.
    """
    if keep_on and once:
        raise ValidationError("--once", "--keep-on", "give one of the two")
    out = Output(as_json=as_json)
    with opened(stack_of(ctx), ends_without_valkey=not keep_on) as model, out.progress("drain") as told:
        progress = draining(told)
        if keep_on:
            with _every_minute_said(), stop_asked() as stop:
                out.note(f"draining into table {model.table.name} until SIGTERM or Ctrl-C")
                done = model.drainer.run(stop, progress=progress)
        elif once:
            done = model.drainer.drain(until_empty=False, progress=progress)
        else:
            done = model.drain(progress=progress)
    _show(out, done)


def _show(out: Output, done: Drained) -> None:
    if out.as_json:
        out.data(done)
    else:
        out.line(f"written {done.written}, overtaken {done.stale}, dead letters {done.dead}, left {done.left}")


@contextmanager
def _every_minute_said() -> Iterator[None]:
    """The drain's own lines, one a minute, are shown; others below a warning are not."""
    log = logging.getLogger("agentmodel.cache")
    before, shown = log.level, logging.StreamHandler()
    shown.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    shown.addFilter(lambda record: record.levelno == logging.INFO)  # warnings are shown already
    log.addHandler(shown)
    log.setLevel(logging.INFO)
    quiet = [(each, each.level) for each in logging.getLogger().handlers]
    for each, _ in quiet:
        each.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for each, level in quiet:
            each.setLevel(level)
        log.setLevel(before)
        log.removeHandler(shown)


@dead.command("list")
def list_(ctx: typer.Context, *, limit: Limit = 100, as_json: Json = False) -> None:
    """List dead letters, oldest first.

    With the reason of each, and the id by which it is retried or dropped.
    """
    with opened(stack_of(ctx), ends_without_valkey=True) as model:
        letters = model.drainer.dead(limit)
    out = Output(as_json=as_json)
    if as_json:
        out.data(letters)
        return
    rows = [(one.id, f"{one.at:%Y-%m-%d %H:%M:%S}", one.partition, one.sort, one.reason) for one in letters]
    out.table("Dead letters", ("id", "at (UTC)", "PK", "SK", "reason"), rows, empty="none")


@dead.command()
def retry(ctx: typer.Context, letter: Letter, *, as_json: Json = False) -> None:
    """Put a dead letter back into the journal."""
    with opened(stack_of(ctx), ends_without_valkey=True) as model:
        done = model.drainer.retry(letter)
    _told(letter, done, "is in the journal again", as_json=as_json)


@dead.command()
def drop(ctx: typer.Context, letter: Letter, *, as_json: Json = False) -> None:
    """Give a dead letter up; it is gone then."""
    with opened(stack_of(ctx), ends_without_valkey=True) as model:
        done = model.drainer.drop(letter)
    _told(letter, done, "is gone", as_json=as_json)


def _told(letter: str, done: bool, what: str, *, as_json: bool) -> None:
    if not done:
        raise NotFound("dead letter", letter)
    out = Output(as_json=as_json)
    if as_json:
        out.data({"letter": letter, "done": done})
    else:
        out.line(f"{letter} {what}")


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(drain)
    app.add_typer(dead, name="dead")
