"""`agentmodel demo`: run the whole loop on embedded engines, with simulated sessions or with trace files."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from agentmodel import traces as trace_files
from agentmodel._demo.simulation import SESSIONS, Simulation
from agentmodel._demo.world import USERS
from agentmodel._demo.world import seed as seed_catalogue
from agentmodel.access.pagination import every
from agentmodel.cli import _show
from agentmodel.cli._model import drain_progress
from agentmodel.cli._options import Json, Timezone
from agentmodel.cli._output import Output
from agentmodel.cli._stations import count_stations
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import Agent, Domain
from agentmodel.exceptions import ConfigurationError

__all__ = ["add"]

_SEED = 1


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the history comes from: the simulated demo world, or trace files."""

    seed: int
    sessions: int
    traces: Sequence[Path]
    timezone: str


def demo(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Trace files to import; give --traces too.")
    ] = None,
    *,
    traces: Annotated[
        bool, typer.Option("--traces", help="Import trace files instead of simulating sessions.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help=f"Seed of the simulation: the same seed, the same sessions. [default: {_SEED}]"),
    ] = None,
    sessions: Annotated[
        int | None, typer.Option(metavar="N", min=1, help=f"Number of sessions to simulate. [default: {SESSIONS}]")
    ] = None,
    timezone: Timezone = "UTC",
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the data in this new folder; `agentmodel up --dir DIR` runs it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the whole loop once on example data and show the results.

    Records simulated sessions (or imports trace files), drains the journal, refreshes the warehouse, publishes the
    scores and suggests a plan. It starts its own Valkey, DynamoDB server and DuckDB, and deletes their data at the end
    unless --keep names a folder.
    """
    if traces and not files:
        raise typer.BadParameter("--traces needs a trace file, as in: agentmodel demo --traces calls.jsonl.gz")
    if files and not traces:
        raise typer.BadParameter(f"to import a trace file, give --traces too: agentmodel demo --traces {files[0]}")
    if traces and (seed is not None or sessions is not None):
        raise typer.BadParameter(
            "--seed and --sessions cannot be given with --traces: they are for simulated sessions, not for trace files"
        )
    if keep is not None and (keep / "tables").exists():
        raise typer.BadParameter(f"--keep: folder {keep} holds a stack already; name a new folder")
    for path in files or ():
        next(iter(trace_files.read(path, timezone=timezone)), None)  # fails on an unreadable file before engines start
    source = _Source(_SEED if seed is None else seed, sessions or SESSIONS, files or (), timezone)
    out = Output(as_json=as_json)
    with out.progress("start Valkey, DynamoDB and DuckDB"):
        model = AgentModel.local(keep, redact=None if traces else True)
    with model:
        _run(model, source, out)
    if keep is not None:
        folder = shlex.quote(str(keep))
        kept = (
            "The data is kept in {keep}. Run `agentmodel up --dir {folder}`; then, in another terminal, "
            "`agentmodel --dir {folder} agents` or any other command works on it."
        )
        out.note(out.say(kept, keep=keep, folder=folder))
    elif not as_json:
        out.note(out.say("The data is deleted. Run `agentmodel demo --keep DIR` to keep it for the other commands."))


def _run(model: AgentModel, source: _Source, out: Output) -> None:
    today = datetime.now(UTC).date()
    recorded, as_of = _record(model, source, today, out)
    with out.progress("drain") as update:
        model.drain(progress=drain_progress(update))
    with out.progress("refresh") as update:
        model.refresh(as_of=as_of, progress=update)
    with out.progress("publish") as update:
        model.publish(as_of=as_of, progress=update)
    _show_results(model, as_of, recorded, out)


def _record(model: AgentModel, source: _Source, today: date, out: Output) -> tuple[dict[str, Any], date | datetime]:
    """Record or import; return what was recorded, as data, and the day or time as of which to refresh."""
    if source.traces:
        with out.progress("import") as update, _without_health_warnings():
            done = model.import_traces(*source.traces, timezone=source.timezone, progress=update)
        _show.bad_lines(out, done.bad)
        if done.lines == 0:
            raise ConfigurationError(
                "no line of the trace files could be imported, so there is nothing to learn from: the lines above say "
                "why; correct them or name other files"
            )
        if not out.as_json:
            _show.imported(out, done)
        return {"imported": done, "as_of_from": "traces" if done.last_at else "today"}, done.last_at or today
    with out.progress("add the agents and tools of the demo"):
        seed_catalogue(model)
    with out.progress("record") as update, _without_health_warnings():
        recorded = Simulation(seed=source.seed, sessions=source.sessions, as_of=today).run(model, update)
    if not out.as_json:
        told = (
            "Recorded {sessions} simulated sessions with {calls} tool calls: {failures} calls failed, and {retries} "
            "calls were retries (seed {seed})."
        )
        out.tell(
            told, sessions=recorded.sessions, calls=recorded.calls, failures=recorded.failures,
            retries=recorded.retries, seed=source.seed,
        )  # fmt: skip
        masked = "The API key among the arguments of the first call was masked: {arguments}"
        out.tell(masked, arguments=recorded.first_arguments)
    return {"seed": source.seed, "recorded": recorded, "as_of_from": "today"}, today


@contextmanager
def _without_health_warnings() -> Iterator[None]:
    """Log no warning about failing tools: weeks pass in seconds here, and a table shows these tools at the end."""
    log = logging.getLogger("agentmodel.suggest.health._monitor")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _show_results(model: AgentModel, as_of: date | datetime, recorded: dict[str, Any], out: Output) -> None:
    from agentmodel.redshift import reports

    domains = list(model.repository.domains())
    ranked = {domain.domain_id: list(model.repository.top_agents(domain.domain_id, limit=100)) for domain in domains}
    failures = [failure for failure in reports.tool_failures(model.warehouse) if failure.errors]
    # the id of a suggestion differs in each run, and this suggestion is only shown
    plan = model.suggest(**_example_request(model, domains)).model_copy(update={"suggestion_id": None})
    stations = count_stations(model, scan=True)
    if out.as_json:
        agents = [_ranking_row(rank, agent) for of in ranked.values() for rank, agent in enumerate(of, start=1)]
        data = {"as_of": as_of, **recorded, "agents": agents, "tools": failures, "plan": plan, "stations": stations}
        out.data(data)
        return
    told = "Computed and published the scores as of {day}, today in UTC."
    if recorded["as_of_from"] == "traces":
        told = "Computed and published the scores as of {day}, the latest time in the traces."
    out.tell(told, day=f"{as_of:%Y-%m-%d}")
    out.line()
    for domain in domains:
        _show.agents(out, domain.name, ranked[domain.domain_id])
    _show.ranking_legend(out)
    _show.tools(out, failures)
    _show.plan(out, plan)
    _show.stations(out, stations)


def _ranking_row(rank: int, agent: Agent) -> dict[str, Any]:
    """Return an agent's row of the ranking, as data."""
    return {
        "domain_id": agent.domain_id,
        "rank": rank,
        "agent_id": agent.agent_id,
        "name": agent.name,
        "executions": agent.executions or 0,
        "successes": agent.successes or 0,
        "last_run": None if agent.last_run_at is None else agent.last_run_at.date(),
        "score": agent.score,
        "evidence": agent.evidence,
        "evidence_low": agent.evidence_low,
        "evidence_high": agent.evidence_high,
    }


def _example_request(model: AgentModel, domains: Sequence[Domain]) -> dict[str, Any]:
    """Return the request to plan for: user and category of the best mapping, or without one a user and a domain."""
    mappings = every(model.repository.mappings, limit=1000)
    best = max(mappings, key=lambda each: (each.score or 0.0, each.user_id, each.category), default=None)
    if best is None:
        return {"user_id": USERS[0][0], "domain_id": domains[0].domain_id}
    return {"user_id": best.user_id, "category": best.category}


def add(app: typer.Typer) -> None:
    """Add the command `demo` to the application."""
    app.command()(demo)
