"""Commands for the journal: `drain`, and `dead list`, `dead retry` and `dead drop`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from agentmodel._lookup.ids import only_one
from agentmodel._monitoring.probes import Probes, serving_probes
from agentmodel.cache import Drained
from agentmodel.callers import Tokens
from agentmodel.cli._model import drain_progress, open_model
from agentmodel.cli._options import Json, Limit, stack_of
from agentmodel.cli._output import Output
from agentmodel.cli._signals import stop_event
from agentmodel.client import AgentModel
from agentmodel.exceptions import NotFound, ValidationError

__all__ = ["add"]


_MOST = 10_000  # dead letters that a beginning is looked for in

dead = typer.Typer(help="List, retry or drop records that cannot be written.", rich_markup_mode=None)
Letter = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id of the dead letter, as `agentmodel dead list` prints it, or its beginning."),
]


def drain(
    ctx: typer.Context,
    *,
    keep_on: Annotated[
        bool, typer.Option("--keep-on", help="Keep draining until SIGTERM or Ctrl-C, also when the journal is empty.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Make one pass only, of some hundred entries.")] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="With --keep-on: serve /healthz and /metrics on this port; 0 is any."),
    ] = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="With --port: address to listen on.")] = "127.0.0.1",
    tokens: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --port: file of hashed tokens that /metrics asks for.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the journal's entries into the table.

    Ends when the journal is empty. With --keep-on it runs as a service: it waits while Valkey or the table is down,
    logs once a minute what it wrote, and on SIGTERM or Ctrl-C finishes the current pass; the rest stays in the journal.
    """
    if keep_on and once:
        raise ValidationError("--once", once, "cannot be combined with --keep-on: give one of the two")
    if port is not None and not keep_on:
        raise ValidationError("--port", port, "must be used with --keep-on")
    out, known = Output(as_json=as_json), None if tokens is None else Tokens.of_file(tokens)
    stack = stack_of(ctx)  # what is drained may go into the warehouse too: AGENTMODEL_FEED=journal
    with (
        open_model(stack, fails_without_valkey=not keep_on, changes_warehouse=True) as model,
        out.progress("drain") as update,
    ):
        progress = drain_progress(update)
        if keep_on:
            with _minute_log(), stop_event() as stop:
                out.note(f"Draining the journal into table {model.table.name} until SIGTERM or Ctrl-C.")
                with _probes(model, out, host=host, port=port, tokens=known):
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
        told = (
            "Entries written to the table: {written}, superseded by a newer version: {stale}, put aside as dead "
            "letters: {dead}, left in the journal: {left}."
        )
        out.tell(told, written=done.written, stale=done.stale, dead=done.dead, left=done.left)
        if done.dead:
            out.tell("Run `agentmodel dead list` to see why they could not be written.")


@contextmanager
def _probes(model: AgentModel, out: Output, *, host: str, port: int | None, tokens: Tokens | None) -> Iterator[None]:
    """Serve /healthz and /metrics while the block runs, where a port is given."""
    if port is None:
        yield
        return
    with serving_probes(Probes(model, "drain"), host=host, port=port, tokens=tokens) as address:
        out.note(f"Health and metrics are at {address}/healthz and {address}/metrics .")
        yield


@contextmanager
def _minute_log() -> Iterator[None]:
    """Show the drainer's log line of each minute on stderr, and no other line below a warning."""
    log = logging.getLogger("agentmodel.cache")
    before, shown = log.level, logging.StreamHandler()
    shown.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    shown.addFilter(lambda record: record.levelno == logging.INFO)  # the root logger shows warnings
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

    A dead letter is a record that the table refused for good. Each is listed with the reason and the id that
    `agentmodel dead retry` and `agentmodel dead drop` take.
    """
    with open_model(stack_of(ctx), fails_without_valkey=True) as model:
        letters = model.drainer.dead(limit)
    out = Output(as_json=as_json)
    if as_json:
        out.data(letters)
        return
    rows = [(one.id, f"{one.at:%Y-%m-%d %H:%M:%S}", one.partition, one.sort, one.reason) for one in letters]
    out.table("Dead letters", ("id", "failed at (UTC)", "PK", "SK", "reason"), rows, empty="No dead letter.")


@dead.command()
def retry(ctx: typer.Context, letter: Letter, *, as_json: Json = False) -> None:
    """Put a dead letter back into the journal, to be written again.

    Remove the cause first, or the record becomes a dead letter again.
    """
    with open_model(stack_of(ctx), fails_without_valkey=True) as model:
        letter = _whole(model, letter)
        done = model.drainer.retry(letter)
    _report(letter, done, "Dead letter {letter} is in the journal again, for the next drain.", as_json=as_json)


@dead.command()
def drop(ctx: typer.Context, letter: Letter, *, as_json: Json = False) -> None:
    """Delete a dead letter for good.

    The record is lost; whoever recorded it can no longer read it.
    """
    with open_model(stack_of(ctx), fails_without_valkey=True) as model:
        letter = _whole(model, letter)
        done = model.drainer.drop(letter)
    _report(letter, done, "Dead letter {letter} is deleted.", as_json=as_json)


def _whole(model: AgentModel, letter: str) -> str:
    """Return the id of a dead letter that is given by it, or by a beginning that no other one has."""
    known = [each.id for each in model.drainer.dead(_MOST)]
    if letter in known:
        return letter
    return only_one((each for each in known if each.startswith(letter)), letter, field="ID") or letter


def _report(letter: str, done: bool, told: str, *, as_json: bool) -> None:
    if not done:
        raise NotFound("dead letter", letter)
    out = Output(as_json=as_json)
    if as_json:
        out.data({"letter": letter, "done": done})
    else:
        out.tell(told, letter=letter)


def add(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(drain)
    app.add_typer(dead, name="dead")
