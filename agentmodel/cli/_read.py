"""Commands that read: `suggest`, `route`, `agents`, `tools`, `patterns`, `report`, `stats`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from agentmodel._lookup.ids import Ids
from agentmodel._runtime.files import write_file
from agentmodel.access.pagination import every
from agentmodel.cli import _show
from agentmodel.cli._learn import show_tools, tool_rows
from agentmodel.cli._model import open_model, parse_as_of
from agentmodel.cli._options import AsOf, Domain, Json, Limit, User, WithIds, stack_of
from agentmodel.cli._output import Output, plain, printable
from agentmodel.cli._stations import count_stations
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import Domain as DomainEntity
from agentmodel.exceptions import MissingExtraError, NotFound, ValidationError
from agentmodel.keys import id_of
from agentmodel.suggest.plan import Language

if TYPE_CHECKING:
    from agentmodel.redshift.reports import ToolFailures
    from agentmodel.redshift.warehouse import Warehouse

__all__ = ["add"]


def suggest(
    ctx: typer.Context,
    user: User,
    *,
    category: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Category of the request, such as 'cafe search'.")
    ] = None,
    request: Annotated[str | None, typer.Option(metavar="TEXT", help="The request in the user's own words.")] = None,
    domain: Domain = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="LANGUAGE", help="Print the plan as text for a model's prompt, in English (en) or Korean (ko)."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Suggest an agent and steps for a request, with reasons.

    Give --category, --request or --domain; without --domain, the request says which domain it belongs to. The plan
    names the agent, the steps, the tools to avoid and alternatives; it is made from what the last publish wrote, and it
    is recorded as a suggestion.
    """
    user = id_of("USR", user, field="USER")
    language = _language(prompt)
    with open_model(stack_of(ctx)) as model:
        if request is not None:
            model.planner.load()  # this process makes no second plan, for which it could load them in the background
        # a user that is not known yet has a plan too, so the beginning of another one's id names a user of its own
        plan = model.suggest(user, category=category, request=request, domain_id=Ids(model).domain(domain))
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
        raise ValidationError("--prompt", text, "must be one of " + ", ".join(get_args(Language)))
    return None


def route(
    ctx: typer.Context,
    request: Annotated[str, typer.Argument(metavar="REQUEST", help="The request in the user's own words.")],
    *,
    as_json: Json = False,
) -> None:
    """Find the domain that a request belongs to.

    Lists the domains that fit, best first, by earlier requests, or by names, descriptions and tools as long as fewer
    than five requests of a domain are known. Lists none where none fits.
    """
    with open_model(stack_of(ctx)) as model:
        found = model.route(request)
    out = Output(as_json=as_json)
    if as_json:
        out.data(found)
        return
    rows = ((each.domain_id, each.name, f"{each.likelihood:.0%}", each.basis, each.reason) for each in found)
    columns = ("domain", "name", "likelihood>", "found by", "why")
    out.table("Domains that fit the request", columns, rows, empty="No domain fits the request.")


def agents(
    ctx: typer.Context, *, domain: Domain = None, ids: WithIds = False, limit: Limit = 20, as_json: Json = False
) -> None:
    """Rank the agents of each domain, best first.

    Shows the scores that the last publish wrote.
    """
    out = Output(as_json=as_json)
    with open_model(stack_of(ctx)) as model:
        read = model.repository
        rankings = [(each, list(read.top_agents(each.domain_id, limit=limit))) for each in _domains(model, domain)]
    if as_json:
        out.data([agent for _, ranked in rankings for agent in ranked])
        return
    for each, ranked in rankings:
        _show.agents(out, each.name, ranked, ids=ids)
    if rankings:
        _show.ranking_legend(out)
    else:
        out.tell("No domain yet. Run `agentmodel import FILE…` with trace files, or `agentmodel seed` for the demo's.")


def _domains(model: AgentModel, wanted: str | None) -> Iterator[DomainEntity]:
    """Yield all domains, or only the one that is wanted."""
    read = model.repository
    if wanted is None:
        yield from every(read.domains, limit=1000)
        return
    found = read.domain(Ids(model).domain(wanted) or "")
    if found is None:
        raise NotFound("domain", wanted)
    yield found


def _reports(model: AgentModel) -> tuple[ModuleType, Warehouse]:
    """Return the module of reports and the warehouse; opening that first names the extra that is missing, if one is."""
    warehouse = model.warehouse
    from agentmodel.redshift import reports

    return reports, warehouse


def tools(ctx: typer.Context, *, domain: Domain = None, ids: WithIds = False, as_json: Json = False) -> None:
    """List the tools that fail: how often, and whether now.

    Counts are as of the last refresh. A tool works, is failing, or is being tried again. With --json, tools that never
    failed are listed too.
    """
    with open_model(stack_of(ctx)) as model:
        domains = [each.domain_id for each in _domains(model, domain)]
        failures: list[ToolFailures] = []
        if model.settings.warehouse_url is not None:  # without a warehouse, only the current health is known
            reports, warehouse = _reports(model)
            failures = reports.tool_failures(warehouse, None if domain is None else domains[0])
        rows = tool_rows(model, domains, failures)
    out = Output(as_json=as_json)
    if as_json:
        out.data(rows)
    else:
        show_tools(out, rows, ids=ids)


def patterns(
    ctx: typer.Context,
    *,
    user: Annotated[str | None, typer.Option(metavar="USER", help="Use only this user: USRmina or mina.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also list sequences that are not recommended.")] = False,
    as_of: AsOf = None,
    ids: WithIds = False,
    as_json: Json = False,
) -> None:
    """List the patterns (tool sequences) that work for each user.

    Best first, as of the last refresh.
    """
    day = parse_as_of(as_of)
    user = None if user is None else id_of("USR", user, field="--user")
    with open_model(stack_of(ctx)) as model:
        user = None if user is None else Ids(model).user(user, field="--user")
        reports, warehouse = _reports(model)
        found = reports.recommended_patterns(warehouse, as_of=day, user_id=user, recommended_only=not every)
    out = Output(as_json=as_json)
    if as_json:
        out.data(found)
    else:
        _show.patterns(out, found, every=every, ids=ids)


def report(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="HTML file to write, such as report.html.")],
    *,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="Show at most this many rows in each table.")] = 500,
    as_of: AsOf = None,
    as_json: Json = False,
) -> None:
    """Write an HTML report with charts and tables.

    Shows rankings, tool sequences, failures, executions per day and tokens as of the last refresh, in one file that
    needs no network. It needs `pip install 'agentmodel[report]'`.
    """
    day = parse_as_of(as_of)
    out = Output(as_json=as_json)
    with open_model(stack_of(ctx)) as model, out.progress("report"):
        model.report(file, as_of=day, rows=rows)
    size = file.stat().st_size
    if as_json:
        out.data({"file": str(file), "bytes": size, "as_of": day})
    else:
        told = "Wrote {file} ({size} kB), as of {day}. Open it in a browser."
        out.tell(told, file=file, size=f"{size / 1000:.0f}", day=f"{day:%Y-%m-%d}")


def stats(
    ctx: typer.Context,
    *,
    scan: Annotated[
        bool | None,
        typer.Option(help="Read the whole table to count its items by kind. [default: yes, but not on AWS]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count what each store holds.

    Counts the journal's entries, the table's items, the warehouse's rows and what the last publish wrote. A store that
    does not answer is named, the others are counted, and the command ends with 1.
    """
    with open_model(stack_of(ctx), fails_without_valkey=True) as model:
        counts = count_stations(model, scan=model.settings.endpoint is not None if scan is None else scan)
    out = Output(as_json=as_json)
    if as_json:
        out.data(counts)
    else:
        _show.stations(out, counts)
    for reason in counts.failed.values():
        out.note(f"error: {printable(reason)}")
    if counts.failed:
        raise typer.Exit(1)


def sql(
    *,
    folder: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Write the files into this folder; other files in it stay."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare with the files in --to (or sql/) instead; exit with 1 if one differs."),
    ] = False,
    landed_table: Annotated[
        str | None,
        typer.Option(metavar="NAME", help='Name of the table that zero-ETL fills, such as dbagent.public."T".'),
    ] = None,
    schema: Annotated[
        str | None, typer.Option(metavar="NAME", help="Schema of the other tables. [default: the session's own]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print or write the warehouse's SQL for Redshift.

    The tables and statements, one file per step, in the order to run them. It needs
    `pip install 'agentmodel[redshift]'`.
    """
    try:
        from agentmodel.redshift import render_sql as render
    except ModuleNotFoundError as error:
        raise MissingExtraError("redshift", "rendering SQL", error.name) from error
    landed = render.LANDED if landed_table is None else landed_table
    out = Output(as_json=as_json)
    if check:
        compared = Path("sql") if folder is None else folder
        check_files(compared, render.drift(compared, landed_table=landed, schema=schema), out, command="sql")
        return
    files = render.rendered(landed, schema=schema)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_file(folder / name, text)
    if as_json:
        out.data(files if folder is None else {"folder": str(folder), "written": list(files)})
    elif folder is not None:
        out.tell("Wrote {number} files into {folder}.", number=len(files), folder=folder)
    else:
        typer.echo("\n".join(f"-- {name}\n{text}" for name, text in files.items()), nl=False)


def check_files(folder: Path, differing: list[str], out: Output, *, command: str) -> None:
    """Report which rendered files of a folder differ from what the command writes, and exit with 1 if one does."""
    if out.as_json:
        out.data({"folder": str(folder), "differing": differing})
    elif not differing:
        out.tell("The files in {folder} are up to date.", folder=folder)
    if differing:
        out.note(
            f"error: files in {folder} that are missing, out of date or no longer needed ({len(differing)}): "
            f"{', '.join(differing)}; run `agentmodel {command} --to {folder}` and delete those that are no longer "
            "needed"
        )
        raise typer.Exit(1)


def add(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (suggest, route, agents, tools, patterns, report, stats, sql):
        app.command()(command)
