"""Commands that bring the loop on: table, seed, import, refresh, publish."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentmodel.cli import _show
from agentmodel.cli._model import as_of_day, opened
from agentmodel.cli._options import AsOf, Files, Json, Timezone, stack_of
from agentmodel.cli._output import Output, plain
from agentmodel.demo.world import seed as seed_catalogue
from agentmodel.exceptions import ValidationError
from agentmodel.integrations.otlp import import_otlp

__all__ = ["add"]

table = typer.Typer(help="The DynamoDB table.", rich_markup_mode=None)


@table.command()
def create(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Create the table with its index and TTL.

    One that is there stays as it is.
    """
    with opened(stack_of(ctx)) as model:
        made = model.table.create()
        name = model.table.name
    out = Output(as_json=as_json)
    if as_json:
        out.data({"table": name, "created": made})
    else:
        out.line(f"table {name} created" if made else f"table {name} is there already")


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
    as_json: Json = False,
) -> None:
    """Learn scores and patterns from the history.

    Where the warehouse is DuckDB, the table is read into it first; to Redshift, zero-ETL brings it.
    """
    day = as_of_day(as_of)
    out = Output(as_json=as_json)
    with opened(stack_of(ctx)) as model, out.progress("refresh") as told:
        done = model.refresh(as_of=day, full=full, progress=told)
    if as_json:
        out.data(done)
        return
    how = "built anew" if done.full else "brought up to date"
    out.table(f"Warehouse as of {done.as_of}, {how}", ("table", "rows>"), done.rows.items())


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
