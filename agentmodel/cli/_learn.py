"""Commands on what was learnt: evaluate, savings; and how `agentmodel tools` joins failures with health."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmodel.cli import _show
from agentmodel.cli._model import opened
from agentmodel.cli._options import Json, stack_of
from agentmodel.cli._output import Output, plain, printable
from agentmodel.client import AgentModel
from agentmodel.exceptions import ValidationError
from agentmodel.suggest.detector import State

if TYPE_CHECKING:  # the reports load SQLAlchemy, which few commands need
    from agentmodel.redshift.reports import ToolFailures
    from agentmodel.suggest.evaluate import Evaluation
    from agentmodel.suggest.offpolicy import OffPolicyRow
    from agentmodel.suggest.savings import SavingsRow

__all__ = ["ToolRow", "add", "show_tools", "tool_rows"]

_TOOLS = 15  # of a long table
_PREDICTORS = ("evidence", "success share")
_FIRST = {"open": 0, "half-open": 1}


# evaluate


def evaluate(
    ctx: typer.Context,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE…]", help="Trace files to replay instead of your history.")
    ] = None,
    *,
    learn: Annotated[
        float, typer.Option(metavar="SHARE", help="Part of each domain's runs that is learnt from before the first.")
    ] = 0.6,
    off_policy: Annotated[
        bool, typer.Option("--off-policy", help="Value the recorded suggestions too; reads the whole table.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare both rankings with baselines.

    On your own history as of the last refresh, or on trace files, replayed in time order: rankings, plans, next tools,
    chances.
    """
    if files and off_policy:
        raise ValidationError(
            "--off-policy", True, "suggestions are in the table, not in trace files"
        )  # the value of the option
    if not 0 < learn < 1:
        raise ValidationError("--learn", learn, "a share above 0 and below 1")
    out = Output(as_json=as_json)
    values = None
    if files:
        found = _replayed(files, learn)
    else:
        with opened(stack_of(ctx)) as model, out.progress("evaluate"):
            found = model.evaluate(learn=learn)
            values = _values(model) if off_policy else None
    errors = _errors(found)
    if as_json:
        out.data({**plain(found), "calibration_error": errors, "off_policy": values})
    elif not found.runs:
        out.line("no runs yet: record or import some, then `agentmodel drain` and `agentmodel refresh`")
    else:
        _show_evaluation(out, found, errors, learn)
    if not as_json and values is not None:
        _show_values(out, values)


def _replayed(files: Sequence[Path], learn: float) -> Evaluation:
    from agentmodel.suggest.evaluate import evaluate as replay
    from agentmodel.suggest.runs import runs_of_traces

    return replay(runs_of_traces(files), learn=learn)


def _values(model: AgentModel) -> list[OffPolicyRow]:
    from agentmodel.suggest.offpolicy import best_scored, off_policy, uniform

    return off_policy(model.suggestions.all(), {"best scored": best_scored, "any candidate": uniform})


def _errors(found: Evaluation) -> dict[str, float | None]:
    """How far each predictor is off on average."""
    from agentmodel.suggest.evaluate import calibration_error

    errors = {name: calibration_error(found.calibration, name) for name in _PREDICTORS}
    return {name: None if math.isnan(error) else error for name, error in errors.items()}


def _show_evaluation(out: Output, found: Evaluation, errors: dict[str, float | None], learn: float) -> None:
    none = "too little history"
    out.line(
        f"{found.runs} runs, {found.learnt} of them ({learn:.0%} of each domain) learnt from before the first case"
    )
    out.line("regret: how much lower the success rate of the chosen agent is than that of the best one")
    out.line()
    rankings = (
        (row.ranking, _digits(row.regret), _between(row.low, row.high), f"{row.hits:.0%}", row.cases)
        for row in found.rankings
    )
    out.table("Which agent", ("ranking", "regret>", "90 %>", "chose a best>", "cases>"), rankings, empty=none)
    _show_uses(out, found)
    plans = (
        (row.domain, row.scope, f"{row.equal:.0%}", f"{row.best_equal:.0%}", _digits(row.distance),
         _digits(row.best_distance), f"{row.first_step:.0%}", row.cases)
        for row in found.plans
    )  # fmt: skip
    names = ("domain", "plan of", "equal>", "at best>", "edit distance>", "at best>", "first step>", "cases>")
    out.table("Which steps: plans against later runs that succeeded", names, plans, empty=none)
    nexts = ((row.domain, f"{row.top1:.0%}", f"{row.top3:.0%}", row.cases) for row in found.next_tools)
    out.table("The next tool", ("domain", "first guess>", "among three>", "cases>"), nexts, empty=none)
    chances = (
        (row.predictor, f"{row.low:.0%} to {row.high:.0%}", f"{row.predicted:.0%}", f"{row.observed:.0%}", row.cases)
        for row in found.calibration
    )
    columns = ("predictor", "chances", "given>", "succeeded>", "cases>")
    out.table("How sure: what chance was given, and how it went", columns, chances, empty=none)
    for name, error in errors.items():
        if error is not None:
            out.line(f"{name} is off by {error:.3f} on average")


def _show_uses(out: Output, found: Evaluation) -> None:
    """Regret by mean use: a line each, a column for every ranking."""
    if not found.uses:
        return  # no domain has two agents with enough runs
    rankings = list(dict.fromkeys(row.ranking for row in found.uses))
    regrets = {(row.use, row.ranking): row for row in found.uses}
    rows = (
        (use, *(_digits(regrets[use, ranking].regret) for ranking in rankings), regrets[use, rankings[0]].cases)
        for use in dict.fromkeys(row.use for row in found.uses)
    )
    columns = ("runs an agent>", *(f"{ranking}>" for ranking in rankings), "cases>")
    out.table("Regret where use and quality are unrelated (simulated from the runs)", columns, rows)


def _show_values(out: Output, values: Sequence[OffPolicyRow]) -> None:
    rows = (
        (row.policy, None if row.snips is None else _digits(row.snips), _digits(row.dr),
         _between(row.dr_low, row.dr_high), f"{row.ess:.1f}", row.cases, row.explored)
        for row in values
    )  # fmt: skip
    columns = ("way to choose", "SNIPS>", "doubly robust>", "90 %>", "effective cases>", "cases>", "explored>")
    out.table("Success rate of other ways to choose", columns, rows, empty="no suggestion was taken and ended yet")


def _digits(value: float) -> str:
    return f"{value:.3f}"


def _between(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}"


# savings


def savings(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Show what known answers saved.

    Calls and tokens of each category, measured on the recorded runs as of the last refresh.
    """
    with opened(stack_of(ctx)) as model:
        found = model.savings()
    out = Output(as_json=as_json)
    if as_json:
        out.data(found)
    else:
        _show_savings(out, found)


def _show_savings(out: Output, found: Sequence[SavingsRow]) -> None:
    rows = (
        (row.category, row.unit, row.hits, row.runs_with, row.runs_without, row.mean_with, row.mean_without, row.saved,
         None if row.low is None or row.high is None else f"{row.low:.2f} to {row.high:.2f}")
        for row in found
    )  # fmt: skip
    columns = ("category", "unit", "answered>", "runs with>", "runs without>", "mean with>", "mean without>",
               "saved a run>", "90 %>")  # fmt: skip
    out.table("What known answers saved, as measured", columns, rows, empty="no call was answered from what is known")
    if any(row.saved is None for row in found):
        out.line("–: fewer than two runs of each kind, so nothing is said to be saved")


# tools


@dataclass(frozen=True, slots=True)
class ToolRow:
    """A tool of an agent: how often it failed, and whether it fails now.

    Attributes:
        domain_id: The domain; None where it is not known.
        agent_id: The agent.
        agent_name: Its name.
        tool_id: The tool.
        tool_name: Its name.
        calls: How often it was called, as of the last refresh.
        errors: How many of these failed.
        error_rate: Their share; None without a call.
        last_error_at: When it failed last.
        last_message: With what message.
        state: ``closed`` (it works), ``open`` (it fails now), ``half-open`` (it may be tried again), or None where
            nobody knows.
        since: When it began to fail.
        until: When it may be tried again.
        note: What was seen; empty unless it fails now.
    """

    domain_id: str | None
    agent_id: str
    agent_name: str | None
    tool_id: str
    tool_name: str | None
    calls: int = 0
    errors: int = 0
    error_rate: float | None = None
    last_error_at: str | None = None
    last_message: str | None = None
    state: State | None = None
    since: datetime | None = None
    until: datetime | None = None
    note: str = ""


def tool_rows(model: AgentModel, domains: Iterable[str], failures: Iterable[ToolFailures]) -> list[ToolRow]:
    """Join the failures of the history with the health of now; what fails now comes first.

    Args:
        model: The installation.
        domains: Those whose tools are looked at.
        failures: What the warehouse knows; empty where there is none.
    """
    seen: dict[tuple[str, str], dict[str, Any]] = {(row.agent_id, row.tool_id): plain(row) for row in failures}
    names = {agent_id: row["agent_name"] for (agent_id, _), row in seen.items()}
    for domain_id in domains:
        for tool in model.health.tools(domain_id):
            if tool.agent_id not in names:
                agent = model.repository.agent(tool.agent_id)
                names[tool.agent_id] = None if agent is None else agent.name
            row = seen.setdefault(
                (tool.agent_id, tool.tool_id),
                {"domain_id": domain_id, "agent_id": tool.agent_id, "agent_name": names[tool.agent_id],
                 "tool_id": tool.tool_id, "tool_name": tool.tool},
            )  # fmt: skip
            row |= {"state": tool.state, "since": tool.since, "until": tool.until, "note": tool.note}
    _uncatalogued(model, seen)
    rows = [ToolRow(**row) for row in seen.values()]
    return sorted(rows, key=lambda row: _FIRST.get(row.state or "", len(_FIRST)))


def _uncatalogued(model: AgentModel, seen: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Health of tools that were called but are not in the catalogue: Valkey may know it."""
    now = datetime.now(UTC)
    for place, health in model.health.health([place for place, row in seen.items() if "state" not in row], {}).items():
        state, note = health.state(now), health.note if health.opened else ""
        seen[place] |= {"state": state, "since": health.since, "until": health.half_open_at, "note": note}


def show_tools(out: Output, rows: Sequence[ToolRow]) -> None:
    """Tools that fail now or have failed."""
    told = [row for row in rows if row.errors or row.state in ("open", "half-open")]
    cells = (
        (row.agent_id, row.tool_id, row.tool_name, row.state, row.calls, row.errors,
         None if row.error_rate is None else f"{row.error_rate:.0%}", _show.moment(row.last_error_at), row.last_message)
        for row in told[:_TOOLS]
    )  # fmt: skip
    columns = ("agent", "id", "tool", "state", "calls>", "errors>", "rate>", "last error (UTC)", "which")
    title = "Tools that fail" + (f" (the first {_TOOLS} of {len(told)})" if len(told) > _TOOLS else "")
    out.table(title, columns, cells, empty="no tool failed")
    for row in told:
        if row.state in ("open", "half-open"):
            tried = "to be tried again from" if row.state == "open" else "may be tried again since"
            out.line(
                printable(
                    f"{row.tool_name or row.tool_id} of {row.agent_id} is {row.state}: failing since "
                    f"{printable(row.since)}, {tried} {printable(row.until)} (UTC): {row.note}"
                )
            )


def add(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(evaluate)
    app.command()(savings)
