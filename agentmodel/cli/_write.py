"""Commands that write: `table`, `warehouse`, `seed`, `import`, `outcome`, `refresh` and `publish`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from agentmodel._demo.world import seed as seed_catalogue
from agentmodel._lookup.ids import Ids
from agentmodel._lookup.sessions import SessionFinder
from agentmodel._runtime.files import write_file
from agentmodel._runtime.lease import WAIT
from agentmodel._values.outcomes import OutcomeSource, check_outcome
from agentmodel.cli import _show
from agentmodel.cli._model import open_model, parse_as_of
from agentmodel.cli._options import AsOf, Files, Json, Timezone, User, Wait, stack_of
from agentmodel.cli._output import Output, plain, printable
from agentmodel.cli._table_model import FILES
from agentmodel.config import FeedName, Settings
from agentmodel.exceptions import ValidationError
from agentmodel.integrations.otlp import import_otlp
from agentmodel.keys import id_of

if TYPE_CHECKING:
    from agentmodel.redshift.ingest import FeedSource

__all__ = ["add"]

_PUBLISHED = {
    "agents": "agents with a new score",
    "tools": "tools with a new failure rate",
    "mappings": "mappings (best tool sequence of a user and category) added or changed",
    "rankings": "domains whose ranking in Valkey was replaced",
    "unchanged": "items that were up to date already",
    "stale": "items that a newer publish has written",
    "unknown": "agents, tools and domains of the history that are not in the catalogue",
    "retired": "mappings that are no longer recommended and expire sooner",
    "extended": "sessions that are kept for a longer time, since their score is high",
    "shortened": "sessions that are kept for a shorter time, since their score fell",
    "routes": "domains whose newest requests, which others are routed by, were replaced",
    "domains": "domains with other counts of their runs, or other sequences of tools",
    "stopped": "domains in which no plans are given any more, since they did harm",
    "refused": "items that are damaged or would become too large",
    "regressed": "agents whose present revision is worse than the ones before",
}

table = typer.Typer(help="Create the DynamoDB table, verify it, or write it as a model.", rich_markup_mode=None)


@table.command()
def create(
    ctx: typer.Context,
    *,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Switch the table's stream on, new table or not, for `refresh --from stream`."),
    ] = False,
    protect: Annotated[
        bool,
        typer.Option(
            "--protect", help="Enable point-in-time recovery and deletion protection, new table or not, as on AWS."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Create the table with its index and TTL.

    A table that exists is left as it is.
    """
    with open_model(stack_of(ctx)) as model:
        created = model.table.create()
        switched = stream and model.table.enable_stream()
        protected = protect and model.table.protect()
        name = model.table.name
    out = Output(as_json=as_json)
    if as_json:
        out.data({"table": name, "created": created, "stream_switched_on": switched, "protected": protected})
        return
    out.tell("Created table {name}." if created else "Table {name} exists already; nothing was changed.", name=name)
    if stream:
        out.tell("Switched its stream on." if switched else "Its stream was on already.")
    if protect:
        out.tell("It is protected now." if protected else "It was protected already.")


@table.command()
def verify(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Verify that the table is set up as it should be.

    Compares keys, index and TTL of the live table with the design. Each difference is a line on stderr, and the command
    then exits with 1.
    """
    with open_model(stack_of(ctx)) as model:
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
        out.tell("Table {name} is set up as it should be.", name=name)


@table.command("model")
def write_model(
    *,
    folder: Annotated[Path, typer.Option("--to", metavar="DIR", help="Write the files into this folder.")] = Path(),
    as_json: Json = False,
) -> None:
    """Write the table as a model for NoSQL Workbench and for DynamoDB's MCP server.

    Two files, with sample items and the eight access patterns: agentmodel_workbench.json, to import in NoSQL Workbench,
    and dynamodb_data_model.json, which the server's dynamodb_data_model_validation reads. No store is asked.
    """
    name = Settings().table
    folder.mkdir(parents=True, exist_ok=True)
    for file, make in FILES.items():
        text = json.dumps(make(name), ensure_ascii=False, indent=2)
        write_file(folder / file, f"{text}\n")
    out = Output(as_json=as_json)
    if as_json:
        out.data({"folder": str(folder), "written": list(FILES)})
    else:
        told = "Wrote {files} into {folder}, of the table {name}."
        out.tell(told, files=", ".join(FILES), folder=folder, name=name)


def seed(ctx: typer.Context, *, wait: Wait = WAIT, as_json: Json = False) -> None:
    """Add the demo's domain, agents, tools and users to the table.

    Entries that exist are left as they are.
    """
    with open_model(stack_of(ctx)) as model:
        made = seed_catalogue(model, wait=wait)
    out = Output(as_json=as_json)
    if as_json:
        out.data({"made": made})
    else:
        _show.added(out, made, none="Nothing was added: the demo's entries exist already.")


def import_(
    ctx: typer.Context,
    files: Files,
    *,
    timezone: Timezone = "UTC",
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first bad line, before anything is imported.")
    ] = False,
    otlp: Annotated[bool, typer.Option("--otlp", help="Read the files as OpenTelemetry spans in OTLP-JSON.")] = False,
    domain: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --otlp: domain of the agents. [default: service.name of the spans]"),
    ] = None,
    wait: Wait = WAIT,
    as_json: Json = False,
) -> None:
    """Import tool calls from trace files.

    Importing a file again changes nothing. A line that cannot be read is named on stderr, and the others are imported;
    the command exits with 1 if no line could be imported.

    With --otlp, it imports the tool calls among the OpenTelemetry spans of a GenAI-instrumented program.
    """
    out = Output(as_json=as_json)
    with open_model(stack_of(ctx)) as model, out.progress("import") as update:
        try:
            if otlp:
                done = import_otlp(model, *files, domain=domain, strict=strict, progress=update, wait=wait)
            else:
                done = model.import_traces(*files, timezone=timezone, strict=strict, progress=update, wait=wait)
        except ValidationError as error:
            if ", line " not in error.field:
                raise
            out.note(f"error: {error} ({error.code})")  # the file is wrong, not the use of the command: exit 1
            raise typer.Exit(1) from None
    _show.bad_lines(out, done.bad)
    if as_json:
        out.data({**_plain_import(plain(done))})
    else:
        _show.imported(out, done)
    if done.bad and not done.lines:
        raise typer.Exit(1)


def outcome(
    ctx: typer.Context,
    user: User,
    session: Annotated[
        str, typer.Argument(metavar="SESSION", help="Id of the session, or the beginning of it, with or without SESS.")
    ],
    *,
    succeeded: Annotated[
        bool | None,
        typer.Option("--succeeded/--failed", help="Whether it did what was asked. [default: as the score implies]"),
    ] = None,
    score: Annotated[
        float | None,
        typer.Option(metavar="0..1", help="How good it was; alone, it means success from 0.5 up."),
    ] = None,
    source: Annotated[str, typer.Option(metavar="SOURCE", help="Who says so: person, event or evaluator.")] = "person",
    by: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the person, event or evaluator, such as refund.")
    ] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why.")] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="ID", help="The run of this agent only. [default: the whole session]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Record how a session went, as known from outside of it.

    The next refresh counts the most trusted outcome of a run: a verdict in a review, a person, an event, an evaluator,
    then what the session recorded itself, then its calls. Recorded again by the same name, it replaces the first.
    """
    check_outcome(succeeded, score, source=source)
    user = id_of("USR", user, field="USER")
    with open_model(stack_of(ctx)) as model:
        ids = Ids(model)
        user, session = SessionFinder(model).find(session, user_id=ids.user(user, field="USER"), field="SESSION")
        said = model.outcome(
            session, user_id=user, succeeded=succeeded, score=score, source=cast("OutcomeSource", source), by=by,
            reason=reason, agent_id=ids.agent_id(agent),
        )  # fmt: skip
    out = Output(as_json=as_json)
    if as_json:
        out.data({"level": said.level, **plain(said.entity)})
        return
    told = (
        "Recorded that {session} succeeded, by {by}."
        if said.entity.outcome
        else "Recorded that {session} failed, by {by}."
    )
    out.line(printable(out.say(told, session=session, by=source if by is None else f"{source} {by}")))
    out.tell("Run `agentmodel refresh` to count it in the scores.")


def _plain_import(done: dict[str, Any]) -> dict[str, Any]:
    return {**done, "refused": len(done["bad"])}


def refresh(
    ctx: typer.Context,
    *,
    as_of: AsOf = None,
    full: Annotated[bool, typer.Option("--full", help="Rebuild everything, not only what changed.")] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FEED",
            help="How to copy the table's items into DuckDB: scan, stream, journal, or the folder of a table export. "
            "[default: AGENTMODEL_FEED]",
        ),
    ] = None,
    wait: Wait = WAIT,
    as_json: Json = False,
) -> None:
    """Compute scores and patterns from the history.

    A score orders the agents of a domain; a pattern is a sequence of tools that a user's runs of a category used.

    With DuckDB, it first copies the table's items into the warehouse; with Redshift, zero-ETL does that.
    """
    day = parse_as_of(as_of)
    out = Output(as_json=as_json)
    with open_model(stack_of(ctx), changes_warehouse=True) as model, out.progress("refresh") as update:
        done = model.refresh(as_of=day, full=full, source=_source(source), progress=update, wait=wait)
    if done.landed is not None and done.landed.fallback_reason:
        out.note(done.landed.fallback_reason)
    if done.set_aside:
        out.note(f"{done.set_aside} items were left out: an id in their key has more than 132 characters.")
    if as_json:
        out.data(done)
        return
    if done.landed is not None:
        told = (
            "Copied {items} items into the warehouse, {changed} of them new or changed; {expired} had expired by TTL, "
            "{erased} had been deleted."
        )
        landed = done.landed
        out.tell(told, items=landed.items, changed=landed.changed, expired=landed.expired, erased=landed.erased)
    title = "Warehouse rebuilt as of {day}" if done.full else "Warehouse updated as of {day}"
    out.table(out.say(title, day=done.as_of), ("table", "rows>"), done.rows.items())
    out.tell("Run `agentmodel publish` to write the scores back to the table.")


def _source(text: str | None) -> FeedSource | None:
    """Return the feed of this name, or the folder of a table export; None for the feed of the settings."""
    for name in get_args(FeedName):
        if text == name:
            found: FeedName = name
            return found
    if text is not None and not Path(text).is_dir():
        raise ValidationError(
            "--from", text, f"must be {', '.join(get_args(FeedName))}, or the folder of a table export"
        )
    return None if text is None else Path(text)


def publish(ctx: typer.Context, *, as_of: AsOf = None, wait: Wait = WAIT, as_json: Json = False) -> None:
    """Write scores and the best tool sequences back to the table.

    Updates the agents, tools and mappings of the table and the ranking in Valkey, which `agentmodel suggest` and
    `agentmodel agents` read.
    """
    day = parse_as_of(as_of)
    out = Output(as_json=as_json)
    with open_model(stack_of(ctx)) as model, out.progress("publish") as update:
        done = model.publish(as_of=day, progress=update, wait=wait)
    if as_json:
        out.data(done)
    else:
        rows = ((out.say(_PUBLISHED[name]), number) for name, number in plain(done).items())
        out.table("Published", ("what", "number>"), rows)


warehouse = typer.Typer(help="Bring stored data of an earlier version up to this one.", rich_markup_mode=None)


@warehouse.callback()
def _of_warehouse() -> None:
    """Make `warehouse` a group also while it has one command."""


Apply = Annotated[bool, typer.Option("--apply", help="Make the changes, rather than show them.")]


@warehouse.command("migrate")
def migrate_warehouse(ctx: typer.Context, *, apply: Apply = False, wait: Wait = WAIT, as_json: Json = False) -> None:
    """Show what a new version changes in the warehouse alone, or make the changes.

    Also brings the warehouse of the AWS sample up to this version. Adds what is missing and keeps every row. There is
    no way back: make a snapshot of the warehouse before --apply. `agentmodel migrate` looks at the table too.
    """
    _migrate(ctx, "warehouse", apply=apply, wait=wait, as_json=as_json)


def migrate(ctx: typer.Context, *, apply: Apply = False, wait: Wait = WAIT, as_json: Json = False) -> None:
    """Show what a new version changes in the stored data, or make the changes.

    Looks at the table, and at the warehouse where one is set. Every record and every row is kept. There is no way back:
    make a backup of the table and a snapshot of the warehouse before --apply. Recorders may go on meanwhile; one that
    was stopped goes on where it was.
    """
    _migrate(ctx, None, apply=apply, wait=wait, as_json=as_json)


def _migrate(ctx: typer.Context, only: Literal["warehouse"] | None, *, apply: bool, wait: float, as_json: bool) -> None:
    out = Output(as_json=as_json)
    with open_model(stack_of(ctx), changes_warehouse=True) as model, out.progress("migrate") as update:
        changes = model.migrate(apply=apply, only=only, progress=update, wait=wait)
        table = model.table.name
    if as_json:
        out.data({"applied": apply, "changes": [{"table": each.table, "change": each.text} for each in changes]})
        return
    if not changes:
        out.tell("Everything is up to date; nothing was changed.")
        return
    out.table("Changed" if apply else "To change", ("table", "change"), ((each.table, each.text) for each in changes))
    if not apply:
        out.tell("Nothing was changed. Make a backup of what is listed, then run this command with --apply.")
    elif any(each.table != table for each in changes):
        out.tell("Run `agentmodel refresh` to compute the scores.")


def add(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(table, name="table")
    app.add_typer(warehouse, name="warehouse")
    app.command()(seed)
    app.command("import")(import_)
    for command in (outcome, refresh, publish, migrate):
        app.command()(command)
