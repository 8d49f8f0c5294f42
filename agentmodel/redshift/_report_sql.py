"""Select the rows of the reports, for `agentmodel.redshift.reports` and for the rendered SQL folder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Date, Double, String, and_, case, cast, extract, func, literal_column

from agentmodel.redshift import _executions_sql as history
from agentmodel.redshift import models as m
from agentmodel.redshift import score
from agentmodel.redshift._constructs import ListAgg, Ratio, Rows, constant, time_of, total
from agentmodel.redshift._costs_sql import cost_of, has_price
from agentmodel.redshift._requests_sql import first_prompts, request_of, typed_category
from agentmodel.redshift._scores_sql import agent_scores
from agentmodel.redshift.models import agent_name, newest_days, rows_of, tool_names

__all__ = [
    "agent_ranking", "costs", "domain_requests", "example_requests", "executions_per_day", "impact", "patterns",
    "requests", "savings", "steps", "tokens", "tool_errors", "tool_failures",
]  # fmt: skip

MAX_AGENTS: Final = 100
"""The most agents of a session that are listed: LISTAGG over 65,535 bytes fails."""

NEWEST_SESSIONS: Final = 20
"""The newest sessions of a user and category, in which different requests are looked for."""

DOMAIN_SESSIONS: Final = 1_000
"""The newest sessions of a domain, in which different requests are looked for."""

REQUEST_CHARACTERS: Final = 500
"""Characters of a request by which others are routed."""

EMPTY: ColumnElement[str] = literal_column("''")


def agent_ranking(
    as_of: ColumnElement[date],
    half_life: ColumnElement[float],
    revision_prior: ColumnElement[float] | None = None,
    *,
    evidence: bool = False,
) -> Rows:
    """Select agents with their scores and their rank in their domain."""
    s = agent_scores(as_of, half_life, revision_prior).subquery("s")
    order = s.c.evidence if evidence else s.c.score
    rank = func.rank().over(partition_by=s.c.domain_id, order_by=order.desc()).label("score_rank")
    labels = {"name": "agent_name", "last_day": "last_execution"}
    return rows_of(*(column.label(labels.get(column.name, column.name)) for column in s.c), rank).order_by(
        s.c.domain_id, rank, s.c.agent_id
    )


def patterns(as_of: ColumnElement[date], condition: Sequence[ColumnElement[bool]] = (), *, named: bool = False) -> Rows:
    """Select the patterns of users, each user's best first; age is counted from the domain's newest execution.

    With ``named``, the sequence has the names of `steps`, those of today; `agentmodel.redshift.reports` reads them too.
    """
    p, a, newest = m.UserProcessPattern, m.AgentRow, newest_days()
    own_day = func.least(newest.c.day, as_of, type_=Date())
    value = score.pattern_score_expression(p.executions, p.successes, last=p.decay_day, as_of=own_day)
    sequence: ColumnElement[Any] = p.tool_sequence.label("tool_sequence")
    of_today = None
    if named:
        step = _placed_steps(condition).subquery("step")
        name = func.left(step.c.tool_name, constant(history.STEP_CHARACTERS))
        listed = ListAgg(
            case((step.c.place <= constant(history.MAX_STEPS), name)),
            "->",
            order_by=[step.c.place, step.c.process_id, step.c.tool_id],
        )
        of_today = rows_of(step.c.pattern_key, listed.label("names")).group_by(step.c.pattern_key).subquery("named")
        sequence = func.coalesce(of_today.c.names, p.tool_sequence).label("tool_sequence")
    rows = (
        rows_of(
            p.pattern_key,
            p.user_id.label("user_id"),
            p.category,
            p.agent_id.label("agent_id"),
            func.coalesce(agent_name(a), p.agent_id).label("agent_name"),
            p.process_pattern,
            sequence,
            p.executions.label("executions"),
            p.successes.label("successes"),
            Ratio(p.successes, p.executions).label("success_rate"),
            value.label("score"),
            p.first_day.label("first_used"),
            p.last_day.label("last_used"),
            p.recommended.label("recommended"),
        )
        .outerjoin(newest, newest.c.agent_id == p.agent_id)
        .outerjoin(a, a.agent_id == p.agent_id)
    )
    if of_today is not None:
        rows = rows.outerjoin(of_today, of_today.c.pattern_key == p.pattern_key)
    return rows.where(*condition).order_by(p.user_id, p.pattern_score.desc(), p.pattern_key)


def steps(condition: Sequence[ColumnElement[bool]] = ()) -> Rows:
    """Select the steps of patterns, in order, with their calls and successful calls."""
    step = _placed_steps(condition).subquery("step")
    columns = [column for column in step.c if column.name != "place"]
    return rows_of(*columns).order_by(step.c.pattern_key, step.c.place, step.c.process_id, step.c.tool_id)


def _placed_steps(condition: Sequence[ColumnElement[bool]]) -> Any:
    """Select the steps of patterns with their place in the sequence."""
    e, p, process = m.AgentExecution, m.UserProcessPattern, m.UserSessionProcessRow
    key = ("user_id", "session_id", "agent_id", "process_id", "tool_id")
    step, called = history.steps_of_sessions(), tool_names()
    c = history.calls(cached=True).subquery("c")
    step_key = [c.c[name] for name in key]
    tries = (
        rows_of(*step_key, func.count(c.c.ok).label("calls"), total(func.coalesce(c.c.ok, constant(0))).label("good"))
        .group_by(*step_key)
        .subquery("tries")
    )
    named = and_(
        process.user_id == step.c.user_id,
        process.session_id == step.c.session_id,
        process.process_id == step.c.process_id,
    )
    of_step = [e.pattern_key, step.c.process_id, step.c.agent_id, step.c.tool_id]
    of_execution = [getattr(e, name) == step.c[name] for name in key[:3]]
    return (
        rows_of(
            e.pattern_key,
            step.c.process_id.label("process_id"),
            func.coalesce(func.max(process.name), EMPTY).label("process_name"),
            step.c.agent_id.label("agent_id"),
            step.c.tool_id.label("tool_id"),
            func.coalesce(func.max(called.c.tool_name), func.max(step.c.label)).label("tool_name"),
            total(tries.c.calls).label("calls"),
            total(tries.c.good).label("successes"),
            func.min(step.c.place).label("place"),
        )
        .join(step, and_(*of_execution))
        .join(tries, and_(*(tries.c[name] == step.c[name] for name in key)))
        .outerjoin(process, named)
        .outerjoin(called, and_(called.c.agent_id == step.c.agent_id, called.c.tool_id == step.c.tool_id))
        .where(e.pattern_key.in_(rows_of(p.pattern_key).where(*condition)))
        .group_by(*of_step)
    )


def tool_errors() -> Rows:
    """Select agents that had tool errors, most errors first, as the sample's report does."""
    t = m.ToolErrorSummary
    names = t.agent_id.label("agent_id"), t.name.label("agent_name")
    rows = rows_of(*names, t.errors.label("errors"), t.calls.label("executions"), t.error_rate, t.failed_tools)
    return rows.order_by(t.errors.desc(), t.error_rate.desc(), t.agent_id)


def _last_errors() -> Any:
    """Select the failed calls of each tool, numbered from the last one."""
    c = history.calls().subquery("c")
    newest = func.row_number().over(
        partition_by=[c.c.agent_id, c.c.tool_id],
        order_by=[
            func.coalesce(c.c.clock, EMPTY).desc(),
            c.c.user_id.desc(),
            c.c.session_id.desc(),
            func.coalesce(c.c.call_number, constant(0)).desc(),
            c.c.process_id.desc(),
            c.c.attempt.desc(),
        ],
    )
    failed = rows_of(c.c.agent_id, c.c.tool_id, c.c.time, c.c.result, c.c.user_id, newest.label("place")).where(
        c.c.ok == constant(0)
    )
    return failed.subquery("f")


def tool_failures() -> Rows:
    """Select every called tool of every agent, with calls, errors and the last error; most errors first."""
    t, a, named = m.AgentTool, m.AgentRow, tool_names()
    calls, errors = total(t.calls), total(t.errors)
    f = _last_errors()
    return (
        rows_of(
            a.domain_id.label("domain_id"),
            a.agent_id.label("agent_id"),
            agent_name(a).label("agent_name"),
            t.tool_id.label("tool_id"),
            named.c.tool_name,
            calls.label("calls"),
            errors.label("errors"),
            Ratio(errors, calls).label("error_rate"),
            func.max(f.c.time).label("last_error_at"),
            func.max(f.c.result).label("last_message"),
            func.max(func.md5(f.c.user_id)).label("last_error_by"),
        )
        .join(a, a.agent_id == t.agent_id)
        .join(named, and_(named.c.agent_id == t.agent_id, named.c.tool_id == t.tool_id))
        .outerjoin(f, and_(f.c.agent_id == t.agent_id, f.c.tool_id == t.tool_id, f.c.place == constant(1)))
        .where(a.domain_id.is_not(None))
        .group_by(a.domain_id, a.agent_id, a.name, t.tool_id, named.c.tool_name)
        .order_by(errors.desc(), a.agent_id, t.tool_id)
    )


def requests() -> Rows:
    """Select each session's request and outcome: as reviewed, reported or recorded, else that of its executions."""
    s, e, first = m.UserSessionRow, m.AgentExecution, first_prompts()
    number = func.row_number().over(partition_by=[e.user_id, e.session_id], order_by=e.agent_id).label("place")
    run = rows_of(e.user_id, e.session_id, e.agent_id, e.succeeded.label("success"), number).subquery("run")
    listed = case((run.c.place <= constant(MAX_AGENTS), run.c.agent_id))
    agents = (
        rows_of(
            run.c.user_id,
            run.c.session_id,
            func.min(run.c.success).label("ok"),
            ListAgg(listed, ",", order_by=[listed]).label("agents"),
        )
        .group_by(run.c.user_id, run.c.session_id)
        .subquery("agents")
    )
    opening = and_(first.c.user_id == s.user_id, first.c.session_id == s.session_id)
    said = history.reported()
    of_all = and_(said.c.user_id == s.user_id, said.c.session_id == s.session_id, said.c.agent_id == EMPTY)
    return (
        rows_of(
            s.user_id.label("user_id"),
            s.session_id.label("session_id"),
            func.coalesce(s.category, EMPTY).label("category"),
            func.coalesce(request_of(s, first), EMPTY).label("request"),
            history.outcome(s, agents.c.ok, func.coalesce(said.c.best, EMPTY)).label("outcome"),
            func.coalesce(agents.c.agents, EMPTY).label("agent_ids"),
        )
        .outerjoin(agents, and_(agents.c.user_id == s.user_id, agents.c.session_id == s.session_id))
        .outerjoin(first, opening)
        .outerjoin(said, of_all)
        .order_by(s.user_id, s.session_id)
    )


def example_requests() -> Rows:
    """Select the requests of the newest sessions of each user and category, newest first."""
    s, e, opening = m.UserSessionRow, m.AgentExecution, first_prompts()
    request = request_of(s, opening)
    category = func.min(e.category).label("category")  # the agents of a session have the same one
    learned = rows_of(e.user_id, e.session_id, category).group_by(e.user_id, e.session_id).subquery("learned")
    newest = func.row_number().over(partition_by=[s.user_id, learned.c.category], order_by=s.session_id.desc())
    asked = (
        rows_of(s.user_id, learned.c.category, request.label("request"), newest.label("age"))
        .join(learned, and_(learned.c.user_id == s.user_id, learned.c.session_id == s.session_id))
        .outerjoin(opening, and_(opening.c.user_id == s.user_id, opening.c.session_id == s.session_id))
        .where(learned.c.category != EMPTY, request.is_not(None))
        .subquery("asked")
    )
    columns = asked.c.user_id.label("user_id"), asked.c.category, asked.c.request
    rows = rows_of(*columns).where(asked.c.age <= constant(NEWEST_SESSIONS))
    return rows.order_by(asked.c.user_id, asked.c.category, asked.c.age)


def domain_requests() -> Rows:
    """Select the requests of the newest sessions that an agent of each domain worked in, newest first."""
    s, e, a, opening = m.UserSessionRow, m.AgentExecution, m.AgentRow, first_prompts()
    worked = (
        rows_of(a.domain_id, e.user_id, e.session_id)
        .join(e, e.agent_id == a.agent_id)
        .where(a.domain_id.is_not(None))
        .distinct()
        .subquery("worked")
    )
    request = request_of(s, opening)
    order = (worked.c.session_id.desc(), worked.c.user_id)
    newest = func.row_number().over(partition_by=worked.c.domain_id, order_by=order)
    asked = (
        rows_of(worked.c.domain_id, worked.c.user_id, request.label("request"), newest.label("age"))
        .join(s, and_(s.user_id == worked.c.user_id, s.session_id == worked.c.session_id))
        .outerjoin(opening, and_(opening.c.user_id == s.user_id, opening.c.session_id == s.session_id))
        .where(request.is_not(None))
        .subquery("asked")
    )
    request = func.left(asked.c.request, constant(REQUEST_CHARACTERS)).label("request")
    rows = rows_of(asked.c.domain_id.label("domain_id"), asked.c.user_id.label("user_id"), request)
    return rows.where(asked.c.age <= constant(DOMAIN_SESSIONS)).order_by(asked.c.domain_id, asked.c.age)


def impact() -> Rows:
    """Count the sessions whose plan was given or withheld at random: the sums that their difference is computed from.

    A row is a domain, a category, the share that was withheld, since when plans are given, and whether they were. A
    session counts once, by its first plan, when its outcome is known: as reviewed, as reported, as recorded, else that
    of its executions. Of what a session cost it has the number of sessions, the sum, and the sums of ln(1 + cost) and
    of its square: calls that were made, tokens where they were recorded, whole seconds from beginning to end, and
    millionths of money where the cost of every call is known that has tokens.
    """
    g, s, e, h = m.SuggestionRow, m.UserSessionRow, m.AgentExecution, m.UserToolMappingHist
    p = m.ModelPriceRow
    cost = cost_of(h, p)
    first = func.row_number().over(partition_by=[g.user_id, g.session_id], order_by=g.key).label("place")
    made = rows_of(g.user_id, g.session_id, g.domain_id, g.share, g.since, g.withheld, first)
    asked = made.where(g.session_id.is_not(None), g.domain_id.is_not(None), g.share > 0).subquery("asked")
    own = (asked.c.user_id, asked.c.session_id)
    run = (
        rows_of(
            e.user_id,
            e.session_id,
            func.min(e.category).label("category"),
            func.min(e.succeeded).label("ok"),
            total(e.calls).label("calls"),
        )
        .group_by(e.user_id, e.session_id)
        .subquery("run")
    )
    tokens = (
        rows_of(
            h.user_id,
            h.session_id,
            total(func.coalesce(h.input_tokens, constant(0)) + func.coalesce(h.output_tokens, constant(0))).label("n"),
            cast(case((func.count(cost) == func.count(), func.sum(cost, type_=Double()))), Double).label("money"),
        )
        .outerjoin(p, has_price(h, p))
        .where(func.coalesce(h.input_tokens, h.output_tokens).is_not(None))
        .group_by(h.user_id, h.session_id)
        .subquery("tokens")
    )
    began, ended = (cast(extract("epoch", time_of(time)), BigInteger) for time in (s.started, s.ended))
    said = history.reported()
    of_all = and_(said.c.user_id == own[0], said.c.session_id == own[1], said.c.agent_id == EMPTY)
    success = history.outcome(s, run.c.ok, func.coalesce(said.c.best, EMPTY))
    costs = {
        "calls": func.coalesce(run.c.calls, constant(0)),
        "tokens": tokens.c.n,
        "seconds": case((ended >= began, ended - began)),
        "money": tokens.c.money * 1_000_000,
    }
    session = (
        rows_of(
            asked.c.domain_id,
            func.coalesce(run.c.category, typed_category(s), EMPTY).label("category"),
            asked.c.share,
            func.coalesce(asked.c.since, EMPTY).label("since"),
            asked.c.withheld,
            func.coalesce(s.started, EMPTY).label("started"),
            success.label("success"),
            *(cast(each, Double).label(name) for name, each in costs.items()),
        )
        .join(s, and_(s.user_id == own[0], s.session_id == own[1]))
        .outerjoin(run, and_(run.c.user_id == own[0], run.c.session_id == own[1]))
        .outerjoin(tokens, and_(tokens.c.user_id == own[0], tokens.c.session_id == own[1]))
        .outerjoin(said, of_all)
        .where(asked.c.place == constant(1), success.is_not(None))
        .subquery("session")
    )
    logs = (cast(func.ln(1 + session.c[name]), Double).label(f"{name}_log") for name in costs)
    c = rows_of(*session.c, *logs).subquery("c").c
    key = [c[name] for name in ("domain_id", "category", "share", "since", "withheld")]
    sums: list[ColumnElement[Any]] = []
    for name in costs:
        plain, log = c[name], c[f"{name}_log"]
        parts = (func.sum(each, type_=Double()) for each in (plain, log, log * log))
        sums += [func.count(plain), *(func.coalesce(part, constant(0), type_=Double()) for part in parts)]
    counts = func.min(c.started), func.count(), total(c.success)
    return rows_of(*key, *counts, *sums).group_by(*key).order_by(*key)


def savings() -> Rows:
    """Count by category the calls that the cache answered, and the time, the tokens and the money that this saved.

    An answer saved what the last equal call took that was made and succeeded (same agent, tool and arguments), less
    what the answer itself took. Where no such call was recorded, only the call counts. Only calls that equal an
    answered one are looked at, which are few of a large history.
    """
    c, s, p = history.calls(cached=True).subquery("c"), m.UserSessionRow, m.ModelPriceRow
    cost = cost_of(c.c, p)
    made, zero = c.c.ok == constant(1), constant(0)
    equal = _equal_calls(c.c)
    answered = history.calls(cached=True).subquery("answered")
    wanted = rows_of(*_equal_calls(answered.c)).where(answered.c.ok.is_(None)).distinct().subquery("wanted")
    is_wanted = and_(*(own == other for own, other in zip(equal, wanted.c, strict=True)))
    order = [
        func.coalesce(c.c.clock, EMPTY), c.c.user_id, c.c.session_id, func.coalesce(c.c.call_number, zero),
        c.c.process_id, c.c.attempt,
    ]  # fmt: skip
    before = func.count(case((made, constant(1)))).over(partition_by=equal, order_by=order, rows=(None, 0))
    tokens = func.coalesce(c.c.input_tokens, zero) + func.coalesce(c.c.output_tokens, zero)
    known = func.coalesce(c.c.input_tokens, c.c.output_tokens).is_not(None)
    turn = rows_of(
        c.c.user_id, c.c.session_id, c.c.ok, c.c.duration_ms,
        *(part.label(f"equal{at}") for at, part in enumerate(equal)),
        before.label("turn"), case((made, c.c.duration_ms)).label("made_ms"), tokens.label("tokens"),
        case((and_(made, known), tokens)).label("made_tokens"), case((made, cost)).label("made_cost"),
        cast(case((known, cost), else_=zero), Double).label("cost"),
    ).select_from(c.join(wanted, is_wanted).outerjoin(p, has_price(c.c, p))).subquery("turn")  # fmt: skip
    since = [turn.c.equal0, turn.c.equal1, turn.c.equal2, turn.c.turn]
    milliseconds, last, paid = (
        func.max(turn.c[name]).over(partition_by=since) for name in ("made_ms", "made_tokens", "made_cost")
    )
    call = rows_of(
        turn.c.user_id, turn.c.session_id, turn.c.ok,
        func.coalesce(turn.c.duration_ms, zero, type_=Double()).label("ms"),
        turn.c.tokens, milliseconds.label("made_ms"), last.label("made_tokens"),
        (paid - turn.c.cost).label("saved_cost"),
    ).subquery("call")  # fmt: skip
    category = func.coalesce(s.category, EMPTY)
    saved_ms = cast(case((call.c.made_ms > call.c.ms, call.c.made_ms - call.c.ms), else_=zero), Double)
    saved_tokens = case((call.c.made_tokens > call.c.tokens, call.c.made_tokens - call.c.tokens), else_=zero)
    saved = rows_of(
        category.label("category"),
        call.c.user_id,
        call.c.session_id,
        call.c.made_ms,
        call.c.made_tokens,
        saved_ms.label("saved_ms"),
        saved_tokens.label("saved_tokens"),
        cast(case((call.c.saved_cost < zero, zero), else_=call.c.saved_cost), Double).label("saved_cost"),
    )
    joined = saved.outerjoin(s, and_(s.user_id == call.c.user_id, s.session_id == call.c.session_id))
    hit = joined.where(call.c.ok.is_(None)).subquery("hit")
    session = hit.c.user_id.concat(literal_column("'#'", String())).concat(hit.c.session_id)
    return (
        rows_of(
            hit.c.category,
            func.count().label("hits"),
            func.count(session.distinct()).label("sessions"),
            func.count(hit.c.made_ms).label("timed"),
            Ratio(func.sum(hit.c.saved_ms, type_=Double()), constant(1000)).label("seconds"),
            func.count(hit.c.made_tokens).label("metered"),
            total(hit.c.saved_tokens).label("tokens"),
            func.count(hit.c.saved_cost).label("priced"),
            func.sum(hit.c.saved_cost, type_=Double()).label("cost"),
        )
        .group_by(hit.c.category)
        .order_by(hit.c.category)
    )


def _equal_calls(call: Any) -> list[ColumnElement[str]]:
    """Return what calls have in common that are equal: agent, tool, and the MD5 of the arguments."""
    return [
        call.agent_id.label("agent_id"),
        call.tool_id.label("tool_id"),
        func.md5(func.coalesce(call["values"], EMPTY), type_=String()).label("arguments"),
    ]


def executions_per_day() -> Rows:
    """Select executions and successes per agent and day, undated ones first."""
    d = m.AgentDaily
    counts = total(d.executions).label("executions"), total(d.successes).label("successes")
    return (
        rows_of(d.agent_id.label("agent_id"), d.day.label("day"), *counts)
        .group_by(d.agent_id, d.day)
        .order_by(d.agent_id, d.day)
    )


def tokens() -> Rows:
    """Select calls, tokens and their cost per agent and tool, most tokens first, by the prices as of the last refresh.

    Calls whose history has expired keep their tokens; their cost is not known any more.
    """
    t, p, named = m.AgentTool, m.ModelPriceRow, tool_names()
    c = history.calls().subquery("c")
    paid = (
        rows_of(c.c.agent_id, c.c.tool_id, cost_of(c.c, p).label("cost"))
        .outerjoin(p, has_price(c.c, p))
        .where(func.coalesce(c.c.input_tokens, c.c.output_tokens).is_not(None))
        .subquery("paid")
    )
    tool = (paid.c.agent_id, paid.c.tool_id)
    sums = func.count(paid.c.cost).label("priced"), func.sum(paid.c.cost, type_=Double()).label("cost")
    known = rows_of(*tool, *sums).group_by(*tool).subquery("known")
    counts = [total(column) for column in (t.calls, t.input_tokens, t.output_tokens)]
    labels = [count.label(name) for count, name in zip(counts, ("calls", "input_tokens", "output_tokens"), strict=True)]
    rows = (
        rows_of(
            t.agent_id.label("agent_id"),
            t.tool_id.label("tool_id"),
            named.c.tool_name,
            *labels,
            func.coalesce(known.c.priced, constant(0)).label("priced"),
            known.c.cost,
        )
        .join(named, and_(named.c.agent_id == t.agent_id, named.c.tool_id == t.tool_id))
        .outerjoin(known, and_(known.c.agent_id == t.agent_id, known.c.tool_id == t.tool_id))
        .group_by(t.agent_id, t.tool_id, named.c.tool_name, known.c.priced, known.c.cost)
    )
    return rows.order_by((counts[1] + counts[2]).desc(), t.agent_id, t.tool_id)


def costs(condition: Sequence[ColumnElement[bool]] = ()) -> Rows:
    """Select what calls cost per agent and model, by the prices as of the last refresh, dearest first.

    Every call counts whose tokens were told, also one that was not made: the model asked for it.
    """
    h, p = m.UserToolMappingHist, m.ModelPriceRow
    named = func.coalesce(h.model_name, EMPTY, type_=String())
    call = (
        rows_of(h.agent_id, named.label("model_name"), h.input_tokens, h.output_tokens, cost_of(h, p).label("cost"))
        .outerjoin(p, has_price(h, p))
        .where(func.coalesce(h.input_tokens, h.output_tokens).is_not(None), *condition)
        .subquery("call")
    )
    c, cost = call.c, func.sum(call.c.cost, type_=Double())
    tokens = (total(func.coalesce(c[name], constant(0))).label(name) for name in ("input_tokens", "output_tokens"))
    sums = [func.count().label("calls"), *tokens, func.count(c.cost).label("priced"), cost.label("cost")]
    rows = rows_of(c.agent_id.label("agent_id"), c.model_name, *sums).group_by(c.agent_id, c.model_name)
    return rows.order_by(func.coalesce(cost, constant(0)).desc(), c.agent_id, c.model_name)
