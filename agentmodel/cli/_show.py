"""Show entities, plans and reports as tables and lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from agentmodel.access.trace_import import Imported
from agentmodel.cli._output import Output, printable, with_id
from agentmodel.cli._stations import Stations
from agentmodel.dynamo.models import Agent
from agentmodel.exceptions import KeyFormatError
from agentmodel.keys import parse_time
from agentmodel.suggest.plan import Confidence, Plan, fallback_text
from agentmodel.traces import BadLine

if TYPE_CHECKING:  # the reports load SQLAlchemy, which few commands need
    from agentmodel.redshift.reports import RecommendedPattern, ToolFailures
    from agentmodel.suggest.evaluate import WrongStepRow
    from agentmodel.suggest.review import RunCheck, WrongStep

__all__ = [
    "agents", "bad_lines", "imported", "moment", "money", "patterns", "plan", "ranking_legend", "run_check",
    "stations", "tools", "wrong_steps",
]  # fmt: skip

_BAD_LINES = 20  # lines that are named; further ones are only counted
_ROWS = 15  # rows that a long table shows
_JOURNAL = {
    "depth": "entries not in the table yet",
    "pending": "of these, taken by a drainer",
    "dead": "dead letters",
    "oldest_seconds": "age of the oldest entry (s)",
    "level": "durability of a recorded entry",
}
_ITEMS = {
    "Domain": "domains", "Agent": "agents", "Tool": "tools", "User": "users", "UserSession": "sessions",
    "UserSessionProcess": "processes of sessions", "ToolExecution": "tool calls",
    "UserToolMapping": "mappings of users",
    "Review": "questions to people, and outcomes", "Suggestion": "suggestions", "internal": "of agentmodel itself",
}  # fmt: skip
_BREAKER = {"closed": "works", "open": "does not answer"}


def agents(out: Output, domain: str, ranked: Sequence[Agent], *, ids: bool = False) -> None:
    """Show the agents of a domain, best first."""
    rows = (
        (
            rank, agent.name, *([agent.agent_id] if ids else []), agent.executions or 0, agent.successes or 0,
            _share(agent.successes, agent.executions), None if agent.last_run_at is None else agent.last_run_at.date(),
            agent.score, _evidence(out, agent), *_revision(out, agent),
        )
        for rank, agent in enumerate(ranked, start=1)
    )  # fmt: skip
    columns = ("rank>", "agent", *(["agent id"] if ids else []), "executions>", "successes>", "success rate>",
               "last run", "score>", "evidence (90 %)>", "revision", "its successes>", "earlier ones>")  # fmt: skip
    none = "No agent yet. Import calls with `agentmodel import`, or record calls by the name of their agent."
    out.table(out.say("Agents of {domain}, best first", domain=printable(domain)), columns, rows, empty=none)
    for agent in ranked:
        if agent.health is not None:
            worse = out.say("{agent} has become worse: {note}", agent=agent.name, note=agent.health_note)
            out.line(printable(worse))


def ranking_legend(out: Output) -> None:
    """Explain the columns of `agents` whose names do not."""
    for text in (
        "execution: what one agent did in one session. score: what the agents are ordered by, from the last publish.",
        "revision: that of the newest execution; in score and evidence, what earlier ones did fades.",
        "evidence: estimated success rate, 0 to 1, with its 90 % interval; few executions make it wide.",
    ):
        out.line(out.say(text))
    out.line()


def _revision(out: Output, agent: Agent) -> tuple[str | None, str | None, str | None]:
    """Return an agent's present revision, its successes, and those of earlier revisions."""
    if agent.ranked_revision is None:
        return None, None, None
    good, runs = agent.revision_successes or 0, agent.revision_executions or 0
    before = (agent.executions or 0) - runs
    earlier = out.say("{part} of {whole}", part=(agent.successes or 0) - good, whole=before) if before else None
    return agent.ranked_revision, out.say("{part} of {whole}", part=good, whole=runs), earlier


def _evidence(out: Output, agent: Agent) -> str | None:
    if agent.evidence is None:
        return None
    low, high = agent.evidence_low or 0.0, agent.evidence_high or 0.0
    return out.say("{mean} ({low} to {high})", mean=f"{agent.evidence:.2f}", low=f"{low:.2f}", high=f"{high:.2f}")


def _share(part: int | None, whole: int | None) -> str | None:
    return f"{(part or 0) / whole:.0%}" if whole else None


def tools(out: Output, failures: Iterable[ToolFailures]) -> None:
    """Show the tools that failed, most failures first."""
    failing = [each for each in failures if each.errors]
    rows = (
        (f.agent_name, f.tool_name, f.calls, f.errors, f"{f.error_rate:.0%}", moment(f.last_error_at), f.last_message)
        for f in failing[:_ROWS]
    )
    columns = ("agent", "tool", "calls>", "failed>", "failure rate>", "last failure (UTC)", "last error message")
    title = out.say("Tools that failed (the first {shown} of {all})", shown=_ROWS, all=len(failing))
    title = title if len(failing) > _ROWS else "Tools that failed"
    out.table(title, columns, rows, empty="No tool failed.")


def moment(text: str | None) -> datetime | str | None:
    """Return a stored time to be shown; a text that is no time is returned as it is."""
    if text is None:
        return None
    try:
        return parse_time(text)
    except KeyFormatError:
        return text


def patterns(out: Output, found: Iterable[RecommendedPattern], *, every: bool, ids: bool) -> None:
    """Show tool sequences, each user's best first; ``every`` says that not only recommended ones were asked for."""
    rows = (
        (p.user_id, p.category, with_id(p.agent_name, p.agent_id, ids=ids), p.tool_sequence, p.executions, p.successes,
         p.score, p.last_used, p.recommended)
        for p in found
    )  # fmt: skip
    columns = ("user", "category", "agent", "tool sequence", "executions>", "successes>", "score>", "last used",
               "recommended")  # fmt: skip
    none = "No tool sequence yet. Record or import runs, then run `agentmodel drain` and `agentmodel refresh`."
    none_recommended = "No tool sequence is recommended yet. `agentmodel patterns --all` lists all of them."
    out.table("Tool sequences, each user's best first", columns, rows, empty=none if every else none_recommended)


def plan(out: Output, suggested: Plan) -> None:
    """Show a plan: the agent, the steps, the reasons, what to avoid and the alternatives."""
    request = suggested.category or suggested.request or suggested.domain_id
    agent = (
        out.say("no agent is known")
        if suggested.agent_id is None
        else out.say("use {agent} ({id})", agent=suggested.agent, id=suggested.agent_id)
    )
    head = "Plan for {user}, {request}: {agent} [source: {source}]"
    out.line(
        printable(out.say(head, user=suggested.user_id, request=request, agent=agent, source=out.say(suggested.source)))
    )
    for line in _plan_lines(out, suggested):
        out.line(printable(line))
    out.line()


def _plan_lines(out: Output, suggested: Plan) -> Iterator[str]:
    """Yield the lines of a plan below its first one."""
    for number, step in enumerate(suggested.steps, start=1):
        share = "" if step.success_share is None else f"{step.success_share:.0%}"
        rate = out.say(", {share} of {calls} calls succeeded", share=share, calls=step.calls) if share else ""
        what = "" if step.process is None else f"{step.process}: "
        yield f"{number}. {what}{step.tool} ({step.agent_id}, {step.tool_id}){rate}"
        if step.warning is not None:
            yield out.say("   caution: {reason}", reason=step.warning.in_language(out.language))
            if step.fallback is not None:
                instead = fallback_text(step.fallback, step.agent_id, language=out.language)
                yield out.say("   if it fails, use {other}", other=instead)
    if suggested.confidence is not None:
        rate = _confidence(out, suggested.confidence)
        yield out.say("expected success rate (and 90 % interval): {rate}", rate=rate)
    yield from (out.say("why: {reason}", reason=reason.in_language(out.language)) for reason in suggested.reasons)
    for avoid in suggested.avoid:
        yield out.say(
            "avoid: {tool} of {agent}: {reason}",
            tool=avoid.tool, agent=avoid.agent or avoid.agent_id, reason=avoid.reason.in_language(out.language),
        )  # fmt: skip
    for other in suggested.alternatives:
        tools = f", {' -> '.join(other.tools)}" if other.tools else ""
        yield out.say(
            "alternative: {agent} ({id}){tools}: {rate} [source: {source}]", agent=other.agent, id=other.agent_id,
            tools=tools, rate=_confidence(out, other.confidence), source=out.say(other.source),
        )  # fmt: skip
    for why in suggested.review_reasons:
        yield out.say("ask a person first: {reason}", reason=why.in_language(out.language))


def _confidence(out: Output, confidence: Confidence) -> str:
    mean, low, high = (f"{value:.0%}" for value in (confidence.mean, confidence.low, confidence.high))
    return out.say("{mean} ({low} to {high})", mean=mean, low=low, high=high)


def money(cost: float | None) -> str | None:
    """Return a cost with six digits after the point, in the currency of the prices; None where it is unknown."""
    return None if cost is None else f"{cost:,.6f}"


def run_check(out: Output, check: RunCheck | None, wrong: WrongStep | None) -> None:
    """Show how a run that ended compares with earlier successes, and what went wrong in a failed one."""
    if check is not None:
        told = "This run looks wrong: {note}." if check.suspect else "Compared with earlier runs: {note}."
        note = "".join(out.say(text, **values) for text, values in check.texts)
        chance = "" if check.chance is None else f"{check.chance:.0%}"
        by_that = f" {out.say('Chance that it succeeded by that: {chance}.', chance=chance)}" if chance else ""
        out.line(out.say(told, note=note) + by_that)
    if wrong is not None:
        told = "{answer} of `{tool}`" if wrong.answer == "error" else "{answer} by `{tool}`"
        answer = out.say(wrong.answer)
        what = answer if wrong.tool is None else out.say(told, answer=answer, tool=wrong.tool)
        step = "" if wrong.step is None else out.say("step {number}, ", number=wrong.step)
        out.tell("What went wrong, as far as the record shows: {wrong}.", wrong=f"{step}{what}")


def wrong_steps(out: Output, found: Sequence[WrongStepRow]) -> None:
    """Show where failed runs went wrong, by category with counts."""
    rows = ((row.domain, row.category, out.say(row.answer), row.tool, row.runs) for row in found)
    columns = ("domain", "category", "what is known", "tool", "runs>")
    out.table("Where failed runs went wrong", columns, rows, empty="No run failed.")


def stations(out: Output, counts: Stations) -> None:
    """Show what each store holds."""
    rows: list[tuple[str, str, object]] = []
    cache, dynamo, warehouse = "cache (Valkey)", "dynamo (DynamoDB)", "redshift (warehouse)"
    if counts.cache is None:
        rows.append((cache, out.say("not used"), out.say("{name} is not set", name="AGENTMODEL_VALKEY_URL")))
    else:
        rows += [
            (cache, out.say("journal: {what}", what=out.say(_JOURNAL[name])), _number(value))
            for name, value in counts.cache.items()
            if name != "breaker"
        ]
        rows.append((cache, out.say("state"), out.say(_BREAKER[counts.cache["breaker"]])))
    rows.append((dynamo, out.say("state"), out.say(_BREAKER[counts.dynamo["breaker"]])))
    if counts.dynamo["items"] is not None:
        rows.append((dynamo, out.say("items"), _number(counts.dynamo["items"])))
    entities: Mapping[str, int] = counts.dynamo["entities"] or {}
    rows += [(dynamo, f"  {out.say(_ITEMS.get(kind, kind))}", _number(items)) for kind, items in entities.items()]
    if counts.redshift is None:
        rows.append((warehouse, out.say("not used"), out.say("{name} is not set", name="AGENTMODEL_WAREHOUSE_URL")))
    else:
        rows += [
            (warehouse, out.say("rows of {table}", table=name), _number(value))
            for name, value in counts.redshift.items()
        ]
        rows += [(warehouse, out.say("does not answer"), "")] * (not counts.redshift)
    rows += [
        ("suggest (last publish)", out.say("{what} with results", what=out.say(name)), _number(n))
        for name, n in counts.suggest.items()
    ]
    out.table("What each store holds", ("store", "what", "value>"), _once(rows))


def _number(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) else value


def _once(rows: Iterable[tuple[str, str, object]]) -> Iterable[tuple[str, str, object]]:
    """Yield the rows with the name of the store in its first row only."""
    before = ""
    for store, what, value in rows:
        yield (" " if store == before else store), what, value
        before = store


def bad_lines(out: Output, bad: Sequence[BadLine]) -> None:
    """Name the lines that were not imported, on stderr."""
    for line in bad[:_BAD_LINES]:
        out.note(f"not imported: {printable(line)}")
    if len(bad) > _BAD_LINES:
        out.note(f"not imported: {len(bad) - _BAD_LINES} more lines")


def added(out: Output, made: Mapping[str, int], *, none: str = "Nothing.") -> None:
    """Show how many of what were put into the catalogue."""
    told = ", ".join(f"{out.say(kind)} × {number}" for kind, number in sorted(made.items()))
    out.line(out.say("Added to the catalogue: {what}.", what=told) if told else out.say(none))


def imported(out: Output, done: Imported) -> None:
    """Show what an import did."""
    out.tell("Imported {lines} tool calls of {sessions} sessions.", lines=done.lines, sessions=done.sessions)
    if done.repeated:
        out.tell("{repeated} of them were imported before and are not stored twice.", repeated=done.repeated)
    if done.created:
        added(out, done.created)
    if done.outcomes:
        out.tell("Recorded {outcomes} outcomes from outside.", outcomes=done.outcomes)
    if done.unknown:
        names = ", ".join(map(printable, done.unknown[:_BAD_LINES]))
        out.note(f"not recorded: {len(done.unknown)} outcomes of sessions that were not imported, such as {names}")
    if done.bad:
        out.tell("Lines not imported: {number}.", number=len(done.bad))
