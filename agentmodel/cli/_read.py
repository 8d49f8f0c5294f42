"""Commands that look: suggest, agents, tools, patterns, errors, report, history, stats, sql."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from agentmodel.access.repository import Repository
from agentmodel.cli import _show
from agentmodel.cli._learn import show_tools, tool_rows
from agentmodel.cli._model import as_of_day, opened
from agentmodel.cli._options import AsOf, Domain, Json, Limit, User, stack_of
from agentmodel.cli._output import Output, plain, printable
from agentmodel.cli._stations import count
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import Domain as DomainEntity
from agentmodel.exceptions import MissingExtraError, NotFound, ValidationError
from agentmodel.keys import check_id
from agentmodel.suggest.plan import Language

if TYPE_CHECKING:
    from agentmodel.redshift.pipeline import Warehouse
    from agentmodel.redshift.reports import ToolFailures

__all__ = ["add"]


def suggest(
    ctx: typer.Context,
    user: User,
    *,
    category: Annotated[str | None, typer.Option(metavar="TEXT", help="The kind of request.")] = None,
    request: Annotated[str | None, typer.Option(metavar="TEXT", help="What is asked, in the user's words.")] = None,
    domain: Domain = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="LANGUAGE", help="Print the plan as text for a model's context: en or ko.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what to do for a request, and why.

    Which agent, which steps, what to avoid; from what the last publish left.
    """
    check_id("USER", user, "USR")
    language = _language(prompt)
    with opened(stack_of(ctx)) as model:
        plan = model.suggest(user, category=category, request=request, domain_id=domain)
    text = None if language is None else plan.as_prompt(language=language)
    out = Output(as_json=as_json)
    if as_json:
        out.data(plan if text is None else {**plain(plan), "prompt": text})
    elif text is None:
        _show.plan(out, plan)
    else:
        for line in text.splitlines():
            out.line(printable(line))


def _language(text: str | None) -> Language | None:
    for known in get_args(Language):
        if text == known:
            found: Language = known
            return found
    if text is not None:
        raise ValidationError("--prompt", text, "one of " + ", ".join(get_args(Language)))
    return None


def agents(ctx: typer.Context, *, domain: Domain = None, limit: Limit = 20, as_json: Json = False) -> None:
    """Rank the agents of each domain, best first.

    As the last publish left them.
    """
    out = Output(as_json=as_json)
    with opened(stack_of(ctx)) as model:
        read = model.repository
        ranked = [(each, list(read.top_agents(each.domain_id, limit=limit))) for each in _domains(read, domain)]
    if as_json:
        out.data([agent for _, of in ranked for agent in of])
        return
    for each, of in ranked:
        _show.agents(out, each.name, of)
    if not ranked:
        out.line("no domains yet: `agentmodel seed` puts those of the demo in, `agentmodel import` those of traces")


def _domains(read: Repository, wanted: str | None) -> Iterator[DomainEntity]:
    """All domains, or the wanted one."""
    if wanted is not None:
        found = read.domain(check_id("--domain", wanted, "DMN"))
        if found is None:
            raise NotFound("domain", wanted)
        yield found
        return
    cursor = None
    while True:
        page = read.domains(limit=1000, cursor=cursor)
        yield from page
        cursor = page.cursor
        if cursor is None:
            return


def _learnt(model: AgentModel) -> tuple[ModuleType, Warehouse]:
    """The reports, and the warehouse they are of; opening it first tells which extra is missing."""
    warehouse = model.warehouse
    from agentmodel.redshift import reports

    return reports, warehouse


def tools(ctx: typer.Context, *, domain: Domain = None, as_json: Json = False) -> None:
    """List the tools that fail, and how often.

    How often as of the last refresh, whether they fail now as the calls say; --json has those that do not fail, too.
    """
    with opened(stack_of(ctx)) as model:
        domains = [each.domain_id for each in _domains(model.repository, domain)]
        failures: list[ToolFailures] = []
        if model.settings.warehouse_url is not None:  # without one, health is what there is
            reports, warehouse = _learnt(model)
            failures = reports.tool_failures(warehouse, domain)
        rows = tool_rows(model, domains, failures)
    out = Output(as_json=as_json)
    if as_json:
        out.data(rows)
    else:
        show_tools(out, rows)


def patterns(
    ctx: typer.Context,
    *,
    user: Annotated[str | None, typer.Option(metavar="ID", help="Only this user, such as USR001.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Those that are not recommended too.")] = False,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """List the sequences of tools that work.

    Each user's best first, as of the last refresh.
    """
    day = as_of_day(as_of)
    if user is not None:
        check_id("--user", user, "USR")
    with opened(stack_of(ctx)) as model:
        reports, warehouse = _learnt(model)
        found = reports.recommended_patterns(warehouse, as_of=day, user_id=user, recommended_only=not every)
    out = Output(as_json=as_json)
    if as_json:
        out.data(found)
    else:
        _show.patterns(out, found)


def errors(ctx: typer.Context, *, as_json: Json = False) -> None:
    """List the agents whose tools failed.

    Most errors first, as of the last refresh.
    """
    with opened(stack_of(ctx)) as model:
        reports, warehouse = _learnt(model)
        found = reports.tool_errors(warehouse)
    out = Output(as_json=as_json)
    if as_json:
        out.data(found)
    else:
        _show.errors(out, found)


def report(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The page to write, such as report.html.")],
    *,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="The most rows of each table.")] = 500,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Write the reports as one HTML page with charts.

    Rankings, patterns, errors, days and tokens as of the last refresh; the page opens offline.
    """
    day = as_of_day(as_of)
    out = Output(as_json=as_json)
    with opened(stack_of(ctx)) as model, out.progress("report"):
        model.report(file, as_of=day, rows=rows)
    size = file.stat().st_size
    if as_json:
        out.data({"file": str(file), "bytes": size, "as_of": day})
    else:
        out.line(f"{file} written, {size / 1000:.0f} kB, as of {day:%Y-%m-%d}: open it in a browser")


def history(
    ctx: typer.Context,
    user: User,
    session: Annotated[str | None, typer.Argument(metavar="[SESSION]", help="Id of a session, for its calls.")] = None,
    *,
    limit: Limit = 20,
    cursor: Annotated[str | None, typer.Option(metavar="TEXT", help="Continue after the last page.")] = None,
    as_json: Json = False,
) -> None:
    """List a user's sessions, or one session's calls.

    Sessions newest first, calls in the order they were made.
    """
    check_id("USER", user, "USR")
    out = Output(as_json=as_json)
    with opened(stack_of(ctx)) as model:
        read = model.repository
        if session is None:
            page = read.sessions(user, limit=limit, cursor=cursor)
            if not page.items and cursor is None and read.user(user) is None:
                raise NotFound("user", user)
            if as_json:
                out.data({"sessions": page.items, "cursor": page.cursor})
            else:
                _show.sessions(out, user, page, page.cursor)
            return
        found, calls = read.session(user, session), read.session_history(user, session)
    if found is None and not calls.processes and not calls.executions:
        raise NotFound("session", f"{session} of {user}")
    if as_json:
        parts = {"processes": calls.processes, "executions": calls.executions, "reviews": calls.reviews}
        out.data({"session": found, **parts})
    else:
        _show.session(out, session, calls)


def stats(
    ctx: typer.Context,
    *,
    scan: Annotated[
        bool | None,
        typer.Option(help="Read the whole table to count its items by kind; unless told, only where it is not on AWS."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count what lies at which station.

    Entries of the journal, items of the table, rows of the warehouse, what was published.
    """
    with opened(stack_of(ctx), ends_without_valkey=True) as model:
        counts = count(model, scan=model.settings.endpoint is not None if scan is None else scan)
    out = Output(as_json=as_json)
    if as_json:
        out.data(counts)
    else:
        _show.stations(out, counts)


def sql(
    *,
    folder: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Write the files there; others in it are left alone.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the files in --to, else in sql/; exit 1 if one differs.")
    ] = False,
    landed_table: Annotated[
        str | None, typer.Option(metavar="NAME", help='Where zero-ETL lands the table, such as dbagent.public."T".')
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the warehouse's SQL for Redshift, or write it.

    Its tables and statements, one file a step, in the order to run them.
    """
    try:
        from agentmodel.redshift import render
    except ModuleNotFoundError as error:
        raise MissingExtraError("redshift", "rendering SQL", error.name) from error
    landed = render.LANDED if landed_table is None else landed_table
    out = Output(as_json=as_json)
    if check:
        compared = Path("sql") if folder is None else folder
        _checked(compared, render.drift(compared, landed_table=landed), out)
        return
    files = render.rendered(landed)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    if as_json:
        out.data(files if folder is None else {"folder": str(folder), "written": list(files)})
    elif folder is not None:
        out.line(f"{len(files)} files written into {folder}")
    else:
        typer.echo("\n".join(f"-- {name}\n{text}" for name, text in files.items()), nl=False)


def _checked(folder: Path, differing: list[str], out: Output) -> None:
    if out.as_json:
        out.data({"folder": str(folder), "differing": differing})
    elif not differing:
        out.line(f"{folder} is what is rendered")
    if differing:
        out.note(
            f"error: {len(differing)} files of {folder} are missing, superfluous or not what is rendered, run "
            f"`agentmodel sql --to {folder}`: {', '.join(differing)}"
        )
        raise typer.Exit(1)


def add(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (suggest, agents, tools, patterns, errors, report, history, stats, sql):
        app.command()(command)
