"""Commands `evaluate`, `impact` and `savings`, and the rows of `tools`: past failures with current health."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentmodel._lookup.ids import Ids
from agentmodel.cli import _show
from agentmodel.cli._model import open_model
from agentmodel.cli._options import Json, stack_of
from agentmodel.cli._output import Output, plain, printable, with_id
from agentmodel.client import AgentModel
from agentmodel.exceptions import ValidationError
from agentmodel.suggest.health import HealthState
from agentmodel.suggest.plan import ToolRef

if TYPE_CHECKING:  # the reports load SQLAlchemy, which few commands need
    from agentmodel.redshift.reports import SavingsRow, ToolFailures
    from agentmodel.suggest.evaluate import Effect, Evaluation, Impact, OffPolicyRow, RegimeRow

__all__ = ["ToolLine", "add", "show_tools", "tool_rows"]

_TOOLS = 15  # rows that the table of failing tools shows
_PREDICTORS = ("chance", "evidence", "success share")
_ORDER = {"open": 0, "half-open": 1}  # order of circuit states in that table; others come after


# The command evaluate


def evaluate(
    ctx: typer.Context,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Trace files to replay instead of the recorded history.")
    ] = None,
    *,
    learn: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Share of each domain's runs to learn from before the first prediction, between 0 and 1.",
        ),
    ] = 0.6,
    off_policy: Annotated[
        bool,
        typer.Option(
            "--off-policy", help="Also estimate other ways to choose, from recorded suggestions; reads the whole table."
        ),
    ] = False,
    read_only: Annotated[
        list[str] | None,
        typer.Option(
            "--read-only",
            metavar="TOOL",
            help="A tool of the trace files that only reads, or a pattern such as 'get_*'; for what the response cache "
            "would have answered. Give it several times. The recorded history has it in the catalogue.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how good rankings and plans would have been.

    Replays the history as of the last refresh, or trace files, in time order. Learns from the first runs and compares
    with the others: which agent to choose (both rankings, beside baselines; also where use and work are spread over the
    agents in a known way), which steps, which plan a request finds with its category and without any, which domain,
    which next tool, how well predicted success rates match the actual ones, and what the response cache would have
    answered.
    """
    if files and off_policy:
        raise ValidationError(
            "--off-policy", off_policy, "cannot be combined with trace files because they hold no suggestions"
        )
    if not 0 < learn < 1:
        raise ValidationError("--learn", learn, "must be above 0 and below 1")
    out = Output(as_json=as_json)
    values = None
    if files:
        found = _replay(files, learn, read_only or ())
    else:
        with open_model(stack_of(ctx)) as model, out.progress("evaluate"):
            found = model.evaluate(train_share=learn)
            values = _policy_values(model) if off_policy else None
    errors = _errors(found)
    if as_json:
        out.data({**plain(found), "calibration_error": errors, "off_policy": values})
    elif not found.runs:
        out.tell("No run yet. Record or import runs, then run `agentmodel drain` and `agentmodel refresh`.")
    else:
        _show_evaluation(out, found, learn)
    if not as_json and values is not None:
        _show_values(out, values)


def _replay(files: Sequence[Path], learn: float, read_only: Sequence[str]) -> Evaluation:
    from agentmodel.suggest.evaluate import evaluate as replay
    from agentmodel.suggest.evaluate import runs_from_traces

    return replay(runs_from_traces(files), train_share=learn, read_only=read_only)


def _policy_values(model: AgentModel) -> list[OffPolicyRow]:
    from agentmodel.suggest.evaluate import best_scored, off_policy, uniform

    return off_policy(model.suggestions.all(), {"best scored": best_scored, "any candidate": uniform})


def _errors(found: Evaluation) -> dict[str, float | None]:
    """Return how far each predictor is off on average; None where nothing was predicted."""
    from agentmodel.suggest.evaluate import calibration_error

    errors = {name: calibration_error(found.calibration, name) for name in _PREDICTORS}
    return {name: None if math.isnan(error) else error for name, error in errors.items()}


def _show_evaluation(out: Output, found: Evaluation, learn: float) -> None:
    none = "The history is too short to measure this."
    told = "{runs} runs; the first {learned} ({share} of each domain) were learned from before the first prediction."
    out.tell(told, runs=found.runs, learned=found.training_runs, share=f"{learn:.0%}")
    out.tell("Regret is how much lower the success rate of the chosen agent is than that of the best one; 0 is best.")
    out.line()
    rankings = (
        (out.say(row.ranking), _digits(row.regret), _between(row.low, row.high), f"{row.hits:.0%}", row.cases)
        for row in found.rankings
    )
    agent_columns = ("ranking", "regret>", "90 % interval>", "chose a best agent>", "cases>")
    out.table("Choosing the agent", agent_columns, rankings, empty=none)
    _show_regimes(out, found)
    plans = (
        (row.domain, out.say(row.scope), f"{row.equal:.0%}", f"{row.best_equal:.0%}", _digits(row.distance),
         _digits(row.best_distance), f"{row.first_step:.0%}", row.cases)
        for row in found.plans
    )  # fmt: skip
    plan_columns = ("domain", "plan for", "same tools>", "at best>", "edit distance>", "at best>", "same first tool>",
                    "cases>")  # fmt: skip
    out.table("Choosing the steps: plans compared with later runs that succeeded", plan_columns, plans, empty=none)
    asked = (
        (
            row.domain,
            out.say(row.categories),
            f"{row.with_plan:.0%}",
            f"{row.equal:.1%}",
            _digits(row.distance),
            row.cases,
        )
        for row in found.requests
    )
    request_columns = ("domain", "categories", "with a plan>", "same tools>", "edit distance>", "cases>")
    out.table("Plans for requests of a kind that was asked before", request_columns, asked, empty=none)
    _show_routes(out, found)
    nexts = ((row.domain, f"{row.top1:.0%}", f"{row.top3:.0%}", row.cases) for row in found.next_tools)
    tool_columns = ("domain", "first guess right>", "among first three>", "cases>")
    out.table("Predicting the next tool", tool_columns, nexts, empty=none)
    chances = (
        (
            out.say(row.predictor),
            f"{row.low:.0%}–{row.high:.0%}",
            f"{row.predicted:.0%}",
            f"{row.observed:.0%}",
            row.cases,
        )
        for row in found.calibration
    )
    columns = ("predictor", "predicted between", "mean prediction>", "actual success rate>", "runs>")
    out.table("Predicted and actual success rates", columns, chances, empty=none)
    _show_answers(out, found)
    _show_checks(out, found)
    predictors = (
        (out.say(row.predictor), _digits(row.error), None if row.auc is None else _digits(row.auc),
         f"{row.failures:.0%}", row.cases)
        for row in found.chances
    )  # fmt: skip
    columns = ("predictor", "off by, on average>", "area under ROC>", "lowest 15 % that failed>", "runs>")
    out.table("How well predictions tell the runs that fail", columns, predictors, empty=none)


def _show_regimes(out: Output, found: Evaluation) -> None:
    """Show the regret in each regime, a table for each domain with a column for each ranking."""
    lines: dict[str, dict[tuple[str, int], dict[str, RegimeRow]]] = {}
    for row in found.regimes:
        lines.setdefault(row.domain, {}).setdefault((row.regime, row.use), {})[row.ranking] = row
    for domain, own in lines.items():
        some = next(iter(own.values()))
        rankings = [name for name in some if name != "oracle"]
        rows = (
            (out.say(regime), use, *(_digits(each[name].regret) for name in rankings),
             _between(each["evidence"].low, each["evidence"].high), f"0–{_digits(each['oracle'].high)}")
            for (regime, use), each in own.items()
        )  # fmt: skip
        columns = ("use and work", "runs per agent>", *(f"{name}>" for name in rankings), "evidence, 90 %>",
                   "oracle, 90 %>")  # fmt: skip
        mark = " *" if some["oracle"].says_little else ""
        title = "Regret in {domain}, if use and work were spread in a known way (simulated)"
        out.table(out.say(title, domain=f"{domain}{mark}"), columns, rows)
    if any(row.says_little for row in found.regimes):
        out.line(out.say("* Fewer than three agents have 20 later runs, so little is known of how good they are."))
        out.line()


def _show_routes(out: Output, found: Evaluation) -> None:
    """Show how many requests find their domain, where there are several."""
    counts = {row.domain: (row.cases, row.right, row.wrong) for row in found.routes}
    if not counts:
        return
    if len(counts) > 1:
        counts["all"] = tuple(map(sum, zip(*counts.values(), strict=True)))  # type: ignore[assignment]  # three again
    rows = (
        (domain, cases, f"{right / cases:.1%}", f"{wrong / cases:.1%}", f"{(cases - right - wrong) / cases:.1%}")
        for domain, (cases, right, wrong) in counts.items()
    )
    columns = ("domain", "different later requests>", "routed right>", "routed wrong>", "not routed>")
    out.table("Finding the domain of a request", columns, rows)


def _show_answers(out: Output, found: Evaluation) -> None:
    """Show what the response cache would have answered within sessions."""
    counts = {row.domain: (row.repeats, row.outdated, row.answered, row.stale) for row in found.answers}
    if len(counts) > 1:
        counts["all"] = tuple(map(sum, zip(*counts.values(), strict=True)))  # type: ignore[assignment]  # four again
    shown = ((domain, *each, f"{each[2] / each[0]:.1%}") for domain, each in counts.items())
    columns = ("domain", "repeated reads>", "with another result>", "answered>", "answered wrongly>", "answered>")
    none = "No tool is known to be read-only: mark it in the catalogue, or name it by --read-only for trace files."
    out.table("Answering repeated reads of a session from the cache", columns, shown, empty=none)


def _show_checks(out: Output, found: Evaluation) -> None:
    """Show how well runs are told from failed ones by what they wrote, and what is known of wrong steps."""
    rows = (
        (row.domain, row.runs, row.compared, None if row.auc is None else _digits(row.auc), row.marked,
         out.say("{part} of {whole}", part=row.right, whole=row.failed), f"{row.false_alarms:.1%}",
         out.say("{part} of {whole}", part=row.asked_right, whole=row.asked))
        for row in found.checks
    )  # fmt: skip
    columns = ("domain", "later runs>", "compared>", "AUC>", "marked>", "failed runs marked>", "false alarms>",
               "asked before a write, and failed>")  # fmt: skip
    none = "The history has no calls to compare."
    out.table(
        "Runs that look wrong: compared with earlier successes of their user and category", columns, rows, empty=none
    )
    steps = (
        (row.domain, out.say(answer), count, f"{count / sum(row.wrong_steps.values()):.0%}")
        for row in found.checks
        for answer, count in row.wrong_steps.items()
    )
    out.table("Where failed runs went wrong", ("domain", "answer", "runs>", "share>"), steps, empty=none)


def _show_values(out: Output, values: Sequence[OffPolicyRow]) -> None:
    rows = (
        (out.say(row.policy), None if row.snips is None else _digits(row.snips), _digits(row.dr),
         _between(row.dr_low, row.dr_high), f"{row.ess:.1f}", row.cases, row.explored)
        for row in values
    )  # fmt: skip
    columns = ("way to choose", "SNIPS>", "doubly robust>", "90 % interval>", "effective cases>", "cases>",
               "cases with a choice>")  # fmt: skip
    none = "No suggestion was followed to the end of a session yet. Pass the plan to `model.session(…, plan=plan)`."
    out.table("Estimated success rate of other ways to choose the agent", columns, rows, empty=none)


def _digits(value: float) -> str:
    return f"{value:.3f}"


def _between(low: float, high: float) -> str:
    return f"{low:.3f}–{high:.3f}"


# The command impact


def impact(
    ctx: typer.Context,
    *,
    resume: Annotated[
        str | None,
        typer.Option(metavar="DOMAIN", help="Let plans be given again in this domain, in which they were stopped."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what plans change: success, calls, tokens and time with a plan and without.

    AGENTMODEL_HOLDOUT is the share of plans that is withheld at random, to compare with. As of the last refresh, by
    domain and category. You may look as often as you like: the intervals hold at every look.
    """
    out = Output(as_json=as_json)
    with open_model(stack_of(ctx)) as model:
        if resume is not None:
            model.resume_plans(Ids(model).domain(resume, field="--resume") or resume)
        found = model.impact()
    if as_json:
        out.data(found)
    else:
        _show_impact(out, found)


def _show_impact(out: Output, found: Impact) -> None:
    rows = (
        (row.domain or out.say("all domains"),
         out.say("all") if row.category is None else row.category or out.say("none"),
         out.say("plans are stopped" if row.stopped_at is not None else row.verdict),
         row.success.runs_with, row.success.runs_without, _mean(row.success, "{:.0%}"),
         _change(row.success, f" {out.say('points')}"),
         _mean(row.calls, "{:.1f}"), _change(row.calls), _mean(row.tokens, "{:,.0f}"), _change(row.tokens),
         _mean(row.seconds, "{:.1f}"), _change(row.seconds), _mean(_in_units(row.money), "{:.6f}"), _change(row.money))
        for row in found.rows
    )  # fmt: skip
    columns = ("domain", "category", "plans", "with>", "without>", "success>", "difference>", "calls>", "change>",
               "tokens>", "change>", "seconds>", "change>", "cost>", "change>")  # fmt: skip
    out.table("With a plan and without", columns, rows, empty="The catalogue has no domain yet.")
    out.line(printable(" ".join(out.say(text, **values) for text, values in found.texts)))
    stopped = (
        "No plans are given in {domain} since {since} UTC, because they did harm. `agentmodel impact --resume {id}` "
        "lets them be given again."
    )
    for row in found.rows:
        if row.stopped_at is not None:
            told = out.say(stopped, domain=row.domain, since=printable(row.stopped_at), id=row.domain_id)
            out.line(printable(told))


def _mean(effect: Effect, form: str) -> str | None:
    if effect.with_plan is None or effect.without_plan is None:
        return None
    return f"{form.format(effect.with_plan)} / {form.format(effect.without_plan)}"


def _in_units(effect: Effect) -> Effect:
    """Return an effect on millionths of money as one on money."""
    with_plan, without = effect.with_plan, effect.without_plan
    return replace(
        effect,
        with_plan=None if with_plan is None else with_plan / 1_000_000,
        without_plan=None if without is None else without / 1_000_000,
    )


def _change(effect: Effect, unit: str = " %") -> str | None:
    if effect.low is None or effect.high is None:
        return None
    return f"{100 * effect.low:+.0f}…{100 * effect.high:+.0f}{unit}"


# The command savings


def savings(ctx: typer.Context, *, as_json: Json = False) -> None:
    """Show the calls, time and tokens that cached answers saved.

    Counts, for each category, the calls that were answered from the cache, and the time and tokens of the last equal
    call that was made before each of them, as of the last refresh.
    """
    with open_model(stack_of(ctx)) as model:
        found = model.savings()
    out = Output(as_json=as_json)
    if as_json:
        out.data(found)
    else:
        _show_savings(out, found)


def _show_savings(out: Output, found: Sequence[SavingsRow]) -> None:
    rows = (
        (row.category, row.hits, row.sessions, f"{row.seconds:,.1f}", row.timed, row.tokens, row.metered,
         _show.money(row.cost), row.priced)
        for row in found
    )  # fmt: skip
    columns = ("category", "calls not made>", "in sessions>", "seconds>", "timed calls>", "tokens>", "metered calls>",
               "cost>", "priced calls>")  # fmt: skip
    none = "No call was answered from the cache yet, as of the last refresh."
    out.table("Saved by cached answers", columns, rows, empty=none)
    if found:
        note = "Seconds, tokens and cost are those of the last equal call that was made; a call without one adds none."
        out.line(out.say(note))


# The rows of tools


@dataclass(frozen=True, slots=True)
class ToolLine:
    """A tool of an agent: how often it failed, and whether it is failing now.

    Attributes:
        domain_id: Id of the domain; None where it is not known.
        agent_id: Id of the agent.
        agent_name: Name of the agent.
        tool_id: Id of the tool.
        tool_name: Name of the tool.
        calls: Number of calls, as of the last refresh.
        errors: Number of calls that failed.
        error_rate: Share of calls that failed, 0 to 1; None without a call.
        last_error_at: Time of the last failure, as it is stored.
        last_message: Error message of the last failure.
        state: ``closed`` (it works), ``open`` (it is failing), ``half-open`` (it may be tried again), or None where
            that is not known.
        since: When it began to fail.
        until: When it may be tried again.
        note: The calls that show the failure; empty unless it is failing.
        failing_users: How many users it is failing for by their own calls alone, while it works for the others.
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
    state: HealthState | None = None
    since: datetime | None = None
    until: datetime | None = None
    note: str = ""
    failing_users: int = 0


def tool_rows(model: AgentModel, domains: Iterable[str], failures: Iterable[ToolFailures]) -> list[ToolLine]:
    """Join the failures of the history with the current health; tools that are failing now come first.

    Args:
        model: The model whose tools are listed.
        domains: Ids of the domains whose tools are listed.
        failures: Failures by tool from the warehouse; empty where there is no warehouse.
    """
    known: dict[tuple[str, str], dict[str, Any]] = {(row.agent_id, row.tool_id): plain(row) for row in failures}
    names = {agent_id: row["agent_name"] for (agent_id, _), row in known.items()}
    for domain_id in domains:
        for tool in model.health.tools(domain_id):
            if tool.agent_id not in names:
                agent = model.repository.agent(tool.agent_id)
                names[tool.agent_id] = None if agent is None else agent.name
            row = known.setdefault(
                (tool.agent_id, tool.tool_id),
                {"domain_id": domain_id, "agent_id": tool.agent_id, "agent_name": names[tool.agent_id],
                 "tool_id": tool.tool_id, "tool_name": tool.tool},
            )  # fmt: skip
            row |= {"state": tool.state, "since": tool.since, "until": tool.until, "note": tool.note}
            row |= {"failing_users": tool.failing_users}
    _add_uncatalogued(model, known)
    shown = {each.name for each in fields(ToolLine)}  # whose the last error is, is not
    rows = [ToolLine(**{name: value for name, value in row.items() if name in shown}) for row in known.values()]
    return sorted(rows, key=lambda row: _ORDER.get(row.state or "", len(_ORDER)))


def _add_uncatalogued(model: AgentModel, known: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Add the health of tools that were called but are not in the catalogue, where Valkey has it."""
    now = datetime.now(UTC)
    tools = [ToolRef(*ids) for ids, row in known.items() if "state" not in row]
    for tool, health in model.health.health(tools, {}).items():
        state, note = health.state(now), health.note if health.opened else ""
        known[tool] |= {"state": state, "since": health.since, "until": health.half_open_at, "note": note}


def _health(out: Output, row: ToolLine) -> str | None:
    """Return in words whether a tool is failing, and for how many users alone it is."""
    since = f"{printable(row.since)} UTC"
    words = {
        "closed": out.say("working"),
        "open": out.say("failing since {since}", since=since),
        "half-open": out.say("tried again, failing since {since}", since=since),
    }
    state = None if row.state is None else words[row.state]
    if row.state == "open" or not row.failing_users:
        return state
    some = "{state}, failing for {users} user" if row.failing_users == 1 else "{state}, failing for {users} users"
    return out.say(some, state=state or out.say("unknown"), users=row.failing_users)


def show_tools(out: Output, rows: Sequence[ToolLine], *, ids: bool = False) -> None:
    """Show the tools that are failing now or have failed."""
    failing = [row for row in rows if row.errors or row.failing_users or row.state in ("open", "half-open")]
    cells = (
        (with_id(row.agent_name, row.agent_id, ids=ids), with_id(row.tool_name, row.tool_id, ids=ids),
         _health(out, row), row.calls, row.errors,
         None if row.error_rate is None else f"{row.error_rate:.0%}", _show.moment(row.last_error_at), row.last_message)
        for row in failing[:_TOOLS]
    )  # fmt: skip
    columns = ("agent", "tool", "health", "calls>", "failed>", "failure rate>", "last failure (UTC)",
               "last error message")  # fmt: skip
    title = out.say("Tools that failed (the first {shown} of {all})", shown=_TOOLS, all=len(failing))
    title = title if len(failing) > _TOOLS else "Tools that failed"
    out.table(title, columns, cells, empty="No tool failed.")
    for row in failing:
        if row.state in ("open", "half-open"):
            told = out.say(
                "{tool} of {agent} is failing since {since} UTC; it is tried again from {until} UTC"
                if row.state == "open"
                else "{tool} of {agent} is failing since {since} UTC; it may be tried again since {until} UTC",
                tool=row.tool_name or row.tool_id, agent=row.agent_name or row.agent_id,
                since=printable(row.since), until=printable(row.until),
            )  # fmt: skip
            out.line(printable(f"{told}: {row.note}"))


def add(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(evaluate)
    app.command()(impact)
    app.command()(savings)
