"""Commands that bring the loop on: table, seed, import, refresh, publish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from agentmodel.cli import _show
from agentmodel.cli._model import as_of_day, opened
from agentmodel.cli._options import AsOf, Files, Json, Timezone, stack_of
from agentmodel.cli._output import Output, plain
from agentmodel.config import FeedName
from agentmodel.demo.world import seed as seed_catalogue
from agentmodel.exceptions import ValidationError
from agentmodel.integrations.otlp import import_otlp

if TYPE_CHECKING:
    from agentmodel.redshift.intake import Source

__all__ = ["add"]

table = typer.Typer(help="The DynamoDB table.", rich_markup_mode=None)


@table.command()
def create(
    ctx: typer.Context,
    *,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Switch its stream on, for `refresh --from stream`; also of one that is there."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the table with its index and TTL.

    One that is there stays as it is.
    """
    with opened(stack_of(ctx)) as model:
        made = model.table.create()
        switched = stream and model.table.switch_stream_on()
        name = model.table.name
    out = Output(as_json=as_json)
    if as_json:
        out.data({"table": name, "created": made, "stream_switched_on": switched})
        return
    out.line(f"table {name} created" if made else f"table {name} is there already")
    if stream:
        out.line("its stream is on now" if switched else "its stream was on already")


@table.command()
def verify(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Compare the live table with the design.

    Exit 1 and a line for each difference.
    """
    with opened(stack_of(ctx)) as model:
        problems = model.table.verify()
        name = model.table.name
    out = Output(as_json=as_json)
    if as_json:
        out.data({"table": name, "problems": problems})
    for problem in problems:
        out.note(f"error: table {name}: {problem}")
    if problems:
        raise typer.Exit(1)
    if not as_json:
        out.line(f"table {name} fits the design")


def seed(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Put the demo's catalogue into the table.

    A domain, agents, tools and users. Entries that are there stay as they are.
    """
    with opened(stack_of(ctx)) as model:
        made = seed_catalogue(model)
    out = Output(as_json=as_json)
    if as_json:
        out.data({"made": made})
    else:
        told = ", ".join(f"{number} {kind}" for kind, number in sorted(made.items()))
        out.line(f"made: {told}" if told else "the catalogue is there already")


def import_(
    ctx: typer.Context,
    files: Files,
    *,
    timezone: Timezone = "UTC",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first bad line, and import nothing.")] = False,
    otlp: Annotated[bool, typer.Option("--otlp", help="The files hold spans as OTLP-JSON.")] = False,
    domain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Domain of the agents in spans; else their service.name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Import trace files; importing again changes nothing.

    With --otlp, the tool calls among the spans that a GenAI-instrumented program exported.

    Lines that cannot be read are named on stderr, and the rest is imported; exit 1 if no line could be.
    """
    out = Output(as_json=as_json)
    with opened(stack_of(ctx)) as model, out.progress("import") as told:
        try:
            if otlp:
                done = import_otlp(model, *files, domain=domain, strict=strict, progress=told)
            else:
                done = model.import_traces(*files, timezone=timezone, strict=strict, progress=told)
        except ValidationError as error:
            if ", line " not in error.field:
                raise
            out.note(f"error: {error}")  # what is wrong is in the file, not in how the command was called
            raise typer.Exit(1) from None
    _show.bad_lines(out, done.bad)
    if as_json:
        out.data({**_plain_import(plain(done))})
    else:
        _show.imported(out, done)
    if done.bad and not done.lines:
        raise typer.Exit(1)


def _plain_import(done: dict[str, Any]) -> dict[str, Any]:
    return {**done, "refused": len(done["bad"])}


def refresh(
    ctx: typer.Context,
    *,
    as_of: AsOf = None,
    full: Annotated[bool, typer.Option("--full", help="Build everything anew, not only what changed.")] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FEED",
            help="How items come into DuckDB: scan, stream, journal, or the folder of a table export. "
            "[default: AGENTMODEL_FEED]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Learn scores and patterns from the history.

    Where the warehouse is DuckDB, the table's items are brought into it first; to Redshift, zero-ETL brings them.
    """
    day = as_of_day(as_of)
    out = Output(as_json=as_json)
    with opened(stack_of(ctx)) as model, out.progress("refresh") as told:
        done = model.refresh(as_of=day, full=full, source=_source(source), progress=told)
    if done.landed is not None and done.landed.told:
        out.note(done.landed.told)
    if as_json:
        out.data(done)
        return
    if done.landed is not None:
        out.line(
            f"landed: {done.landed.items} items, {done.landed.changed} of them new or changed; "
            f"{done.landed.expired} expired, {done.landed.erased} erased"
        )
    how = "built anew" if done.full else "brought up to date"
    out.table(f"Warehouse as of {done.as_of}, {how}", ("table", "rows>"), done.rows.items())


def _source(text: str | None) -> Source | None:
    """A feed by its name, else the folder of an export."""
    for name in get_args(FeedName):
        if text == name:
            found: FeedName = name
            return found
    if text is not None and not Path(text).is_dir():
        raise ValidationError("--from", text, f"give {', '.join(get_args(FeedName))}, or the folder of a table export")
    return None if text is None else Path(text)


def publish(ctx: typer.Context, *, as_of: AsOf = None, as_json: Json = False) -> None:
    """Write scores and best processes back.

    To the agents, tools and mappings of the table, and to the ranking in Valkey.
    """
    day = as_of_day(as_of)
    out = Output(as_json=as_json)
    with opened(stack_of(ctx)) as model, out.progress("publish") as told:
        done = model.publish(as_of=day, progress=told)
    if as_json:
        out.data(done)
    else:
        out.table("Published", ("what", "items>"), plain(done).items())


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(table, name="table")
    app.command()(seed)
    app.command("import")(import_)
    for command in (refresh, publish):
        app.command()(command)
