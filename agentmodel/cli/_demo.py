"""`agentmodel demo`: the whole loop on embedded engines, with the demo world or with trace files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from agentmodel import traces as trace_files
from agentmodel.cli import _show
from agentmodel.cli._model import draining
from agentmodel.cli._options import Json, Timezone
from agentmodel.cli._output import Output
from agentmodel.cli._stations import count
from agentmodel.client import AgentModel
from agentmodel.demo.simulation import SESSIONS, Simulation
from agentmodel.demo.world import USERS
from agentmodel.demo.world import seed as seed_catalogue
from agentmodel.dynamo.models import Agent, Domain, UserToolMapping
from agentmodel.exceptions import ConfigurationError

__all__ = ["add"]

_SEED = 1


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the history comes from: the demo world, or trace files."""

    seed: int
    sessions: int
    traces: Sequence[Path]
    timezone: str


def demo(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE…]", help="Trace files, after --traces.")] = None,
    *,
    traces: Annotated[bool, typer.Option("--traces", help="Take the trace files instead of the demo world.")] = False,
    seed: Annotated[int | None, typer.Option(metavar="N", help=f"Decides what happens; {_SEED} if not given.")] = None,
    sessions: Annotated[
        int | None, typer.Option(metavar="N", min=1, help=f"How many to record; {SESSIONS} if not given.")
    ] = None,
    timezone: Timezone = "UTC",
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the data in a new folder, for `agentmodel up --dir`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the whole loop once and show what came of it.

    Record (or import), drain, refresh, publish, suggest. The engines are embedded and are gone afterwards, unless
    --keep says where to keep their data.
    """
    if traces != bool(files):
        raise typer.BadParameter("--traces goes together with one file or more, as in: demo --traces calls.jsonl.gz")
    if traces and (seed is not None or sessions is not None):
        raise typer.BadParameter("--seed and --sessions are for the demo world, not for trace files")
    if keep is not None and (keep / "tables").exists():
        raise typer.BadParameter(f"--keep: {keep} holds a stack already, name a new folder")
    for path in files or ():
        next(iter(trace_files.read(path, timezone=timezone)), None)  # tells what cannot be read, before engines start
    source = _Source(_SEED if seed is None else seed, sessions or SESSIONS, files or (), timezone)
    out = Output(as_json=as_json)
    with out.progress("start the engines"):
        model = AgentModel.local(keep)
    with model:
        _run(model, source, out)
    if keep is not None:
        out.note(
            f"kept in {keep}: `agentmodel up --dir {keep}` runs it, `agentmodel --dir {keep} agents` looks into it"
        )


def _run(model: AgentModel, source: _Source, out: Output) -> None:
    today = datetime.now(UTC).date()
    found, as_of = _recorded(model, source, today, out)
    with out.progress("drain") as told:
        model.drain(progress=draining(told))
    with out.progress("refresh") as told:
        model.refresh(as_of=as_of, progress=told)
    with out.progress("publish") as told:
        model.publish(as_of=as_of, progress=told)
    _shown(model, as_of, found, out)


def _recorded(model: AgentModel, source: _Source, today: date, out: Output) -> tuple[dict[str, Any], date | datetime]:
    """Record; what was recorded, and the time that the refresh is counted to."""
    if source.traces:
        with out.progress("import") as told, _without_alarms():
            done = model.import_traces(*source.traces, timezone=source.timezone, progress=told)
        _show.bad_lines(out, done.bad)
        if done.lines == 0:
            raise ConfigurationError("no line of the trace files could be imported: there is nothing to learn from")
        if not out.as_json:
            _show.imported(out, done)
        return {"imported": done, "as_of_from": "traces" if done.last_at else "today"}, done.last_at or today
    with out.progress("seed"):
        seed_catalogue(model)
    with out.progress("record") as told, _without_alarms():
        recorded = Simulation(seed=source.seed, sessions=source.sessions, as_of=today).run(model, told)
    if not out.as_json:
        out.line(
            f"recorded {recorded.sessions} sessions with {recorded.calls} tool calls, {recorded.failures} of which "
            f"failed and {recorded.retries} were retries (seed {source.seed})"
        )
    return {"seed": source.seed, "recorded": recorded, "as_of_from": "today"}, today


@contextmanager
def _without_alarms() -> Iterator[None]:
    """Hold back the log of tools that begin to fail: weeks pass in seconds here, and a table shows them at the end."""
    log = logging.getLogger("agentmodel.suggest.health")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _shown(model: AgentModel, as_of: date | datetime, found: dict[str, Any], out: Output) -> None:
    from agentmodel.redshift import reports

    domains = list(model.repository.domains())
    ranked = {domain.domain_id: list(model.repository.top_agents(domain.domain_id, limit=100)) for domain in domains}
    failures = [failure for failure in reports.tool_failures(model.warehouse) if failure.errors]
    # the id of a suggestion is new every time, and nobody follows this one
    plan = model.suggest(**_asked(model, domains)).model_copy(update={"suggestion_id": None})
    stations = count(model, scan=True)
    if out.as_json:
        agents = [_ranked(place, agent) for of in ranked.values() for place, agent in enumerate(of, start=1)]
        data = {"as_of": as_of, **found, "agents": agents, "tools": failures, "plan": plan, "stations": stations}
        out.data(data)
        return
    why = "the latest time in the traces" if found["as_of_from"] == "traces" else "today (UTC)"
    out.line(f"refreshed and published as of {as_of:%Y-%m-%d}, {why}")
    out.line()
    for domain in domains:
        _show.agents(out, domain.name, ranked[domain.domain_id])
    _show.tools(out, failures)
    _show.plan(out, plan)
    _show.stations(out, stations)


def _ranked(place: int, agent: Agent) -> dict[str, Any]:
    """An agent's line of the ranking."""
    return {
        "domain_id": agent.domain_id,
        "rank": place,
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


def _asked(model: AgentModel, domains: Sequence[Domain]) -> dict[str, Any]:
    """The request to plan for: the category and user of the best mapping; without any, a user and a domain."""
    best: UserToolMapping | None = None
    cursor = None
    while True:
        page = model.repository.mappings(limit=1000, cursor=cursor)
        for mapping in page:
            best = max(best or mapping, mapping, key=lambda each: (each.score or 0.0, each.user_id, each.category))
        cursor = page.cursor
        if cursor is None:
            break
    if best is None:
        return {"user_id": USERS[0][0], "domain_id": domains[0].domain_id}
    return {"user_id": best.user_id, "category": best.category}


def add(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)
