"""Commands `sessions`, `session`, `users` and `errors`: what happened, to whom, and why it failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agentmodel._lookup.diagnosis import Diagnosis, diagnose
from agentmodel._lookup.ids import Ids
from agentmodel._lookup.sessions import ListedSession, SessionFinder, SessionPage
from agentmodel._values.outcomes import OUTCOME_SOURCES
from agentmodel.cli import _show
from agentmodel.cli._model import agent_names, open_model, parse_since
from agentmodel.cli._options import Cursor, Json, Limit, Since, WithIds, stack_of
from agentmodel.cli._output import Output, printable, with_id
from agentmodel.client import AgentModel
from agentmodel.exceptions import NotFound, ValidationError
from agentmodel.keys import id_of
from agentmodel.prices import Prices

if TYPE_CHECKING:  # the warehouse loads SQLAlchemy, which few commands need
    from agentmodel.access.repository import SessionHistory
    from agentmodel.dynamo.models import ToolExecution, UserSession
    from agentmodel.redshift.session_list import ErrorCount, UserActivity

__all__ = ["add"]

_INCOMPLETE = (
    "Valkey does not answer: records that are not in the table yet may be missing. Run the command again once it "
    "answers; `agentmodel stats` shows whether it does."
)
_CELL = 300  # characters of arguments and results in a table
_TIME = len("SESS20250614140530000000")  # of a session's id: its time, which few others have

Agent = Annotated[str | None, typer.Option(metavar="AGENT", help="Only of this agent: its name or id.")]
Tool = Annotated[str | None, typer.Option(metavar="TOOL", help="Only of this tool: its name or id.")]


def sessions(
    ctx: typer.Context,
    *,
    user: Annotated[str | None, typer.Option(metavar="USER", help="Only of this user: USRmina or mina.")] = None,
    since: Since = None,
    failed: Annotated[
        bool | None, typer.Option("--failed/--succeeded", help="Only those that failed, or that succeeded.")
    ] = None,
    agent: Agent = None,
    tool: Tool = None,
    category: Annotated[str | None, typer.Option(metavar="TEXT", help="Only of this category.")] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="Only with this text in the request.")] = None,
    ids: WithIds = False,
    limit: Limit = 20,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List sessions of all users, newest first.

    From the warehouse, as of the last refresh; newer ones are marked as new. With --user and no other option, from
    table and journal.
    """
    moment, user = parse_since(since), None if user is None else id_of("USR", user, field="--user")
    with open_model(stack_of(ctx)) as model:
        known = Ids(model)
        listed = SessionFinder(model)
        who = None if user is None else known.user(user, field="--user")
        narrowed = any(each is not None for each in (moment, failed, agent, tool, category, text))
        if who is not None and not narrowed:
            page = listed.of_user(who, limit=limit, cursor=cursor)
            if not page.rows and page.complete and cursor is None and model.repository.user(who) is None:
                raise NotFound("user", who)
        else:
            warehouse = model.warehouse
            from agentmodel.redshift.session_list import SessionFilter

            outcome: dict[bool | None, Literal["failed", "succeeded"] | None] = {
                True: "failed", False: "succeeded", None: None,
            }  # fmt: skip
            narrow = SessionFilter(
                user_id=who, since=moment, category=category, agent=known.agent(agent), tool=known.tool(tool),
                outcome=outcome[failed], text=text,
            )  # fmt: skip
            page = listed.of_all(warehouse, narrow, limit=limit, cursor=cursor)
    out = Output(as_json=as_json)
    if as_json:
        out.data({"sessions": page.rows, "cursor": page.cursor, "complete": page.complete})
    else:
        _show_sessions(out, page, ids=ids)
    if not page.complete:
        out.note(_INCOMPLETE)


def _show_sessions(out: Output, page: SessionPage, *, ids: bool) -> None:
    short = _short_ids([row.session_id for row in page.rows])
    rows = [
        (row.session_id if ids else short[row.session_id], _show.moment(row.started), *([row.user_id] if ids else []),
         row.user_name, row.category, _cut(row.request), _outcome(out, row.outcome), _count(out, row),
         ", ".join(row.agents), out.say("new") if row.is_new else " ")
        for row in page.rows
    ]  # fmt: skip
    columns = ("session", "began (UTC)", *(["user id"] if ids else []), "user", "category", "request", "outcome",
               "failed calls>", "agents", "since the refresh")  # fmt: skip
    none = "No session. Record or import some, then run `agentmodel drain` and `agentmodel refresh`; or ask for more."
    out.table("Sessions, newest first", columns, rows, empty=none)
    if page.cursor is not None:
        out.line(out.say("There may be more: add --cursor {cursor}", cursor=page.cursor))
    if page.rows:
        out.line(out.say("`agentmodel session ID` shows one; the beginning of its id is enough."))


def _short_ids(session_ids: Sequence[str]) -> dict[str, str]:
    """Return for each id a beginning that no other one has, without ``SESS``; it has the whole time.

    >>> _short_ids(["SESS20250614140530000000-k3v9", "SESS20250614140530000000-z1"])["SESS20250614140530000000-k3v9"]
    '20250614140530000000-k'
    """
    ids = set(session_ids)

    def is_unique(beginning: str) -> bool:
        return sum(each.startswith(beginning) for each in ids) == 1

    return {
        each: next((each[4:end] for end in range(_TIME, len(each)) if is_unique(each[:end])), each[4:]) for each in ids
    }


def _count(out: Output, row: ListedSession) -> str | None:
    return None if row.calls is None else out.say("{part} of {whole}", part=row.failed, whole=row.calls)


def _outcome(out: Output, outcome: bool | None) -> str:
    return out.say("unknown" if outcome is None else "succeeded" if outcome else "failed")


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _CELL else f"{text[:_CELL]}…"


def session(
    ctx: typer.Context,
    session_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the session, or the beginning of it, with or without SESS.")
    ],
    *,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Whose session it is, where several begin so: USRmina or mina.")
    ] = None,
    ids: WithIds = False,
    as_json: Json = False,
) -> None:
    """Show a session: its calls, where it went wrong, and its outcome.

    Each attempt of a call is a row, in the order in which they were made, with its arguments and milliseconds.
    """
    user = None if user is None else id_of("USR", user, field="--user")
    with open_model(stack_of(ctx)) as model:
        who = None if user is None else Ids(model).user(user, field="--user")
        warehouse = model.warehouse if who is None and model.settings.warehouse_url is not None else None
        who, session_id = SessionFinder(model).find(session_id, user_id=who, warehouse=warehouse)
        read = model.repository
        found, history = read.session(who, session_id), read.session_history(who, session_id)
        if found is None and not history.processes and not history.executions:
            raise NotFound("session", f"{session_id} of {who}")
        diagnosis = None if found is None else diagnose(found, history)
        outcome = None if diagnosis is None else diagnosis.outcome
        has_ended = found is not None and found.ended_at is not None
        check = model.run_checks.check(who, session_id) if has_ended else None
        wrong = model.run_checks.wrong_step(who, session_id) if has_ended and outcome is False else None
        names = _names(model, who, history)
        prices = model.prices
    out = Output(as_json=as_json)
    if as_json:
        parts = {"processes": history.processes, "executions": history.executions, "reviews": history.reviews}
        told = {"check": check, "wrong_step": wrong, "complete": history.complete}
        cost, priced = (None, 0) if prices is None else prices.total(history.executions)
        out.data({"session": found, "outcome": outcome, "cost": cost, "priced_calls": priced, **parts, **told})
    else:
        if found is not None and diagnosis is not None:
            _show_outcome(out, found, diagnosis, names)
        _show_calls(out, session_id, history, names, ids=ids, prices=prices)
        _show_said(out, history, names)
        _show.run_check(out, check, wrong)
    if not history.complete:
        out.note(_INCOMPLETE)


def _names(model: AgentModel, user_id: str, history: SessionHistory) -> dict[str, str]:
    """Return the names of a user, of processes and of agents by id."""
    user = model.repository.user(user_id)
    names = {process.process_id: process.name for process in history.processes}
    names |= {} if user is None else {user_id: user.name}
    agents = (*(call.agent_id for call in history.executions), *(one.agent_id for one in history.reviews))
    return names | agent_names(model, agents)


def _show_outcome(out: Output, found: UserSession, diagnosis: Diagnosis, names: dict[str, str]) -> None:
    basis = {
        "reviewed": "Outcome: {outcome}, as a person judged.",
        "reported": "Outcome: {outcome}, as it was reported from outside.",
        "recorded": "Outcome: {outcome}, as it was recorded.",
        "calls": "Outcome: {outcome}, judged by its calls.",
        "nothing": "Outcome: {outcome}.",
    }[diagnosis.basis]
    out.line(f"{printable(found.request or found.name)}")
    told = [out.say("began {at} UTC", at=printable(found.started_at))]
    if found.ended_at is not None:
        told.append(out.say("ended {at} UTC", at=printable(found.ended_at)))
    if found.category is not None:
        told.append(out.say("category {category}", category=printable(found.category)))
    out.line(", ".join([printable(names.get(found.user_id, found.user_id)), *told]))
    out.line(out.say(basis, outcome=_outcome(out, diagnosis.outcome)))
    for call in diagnosis.unresolved:
        step = printable(names.get(call.process_id, call.process_id))
        error = "" if call.error_type is None else out.say(" with {error}", error=printable(call.error_type))
        failed = "Failed, and not made good later: {tool} in {step}{error}"
        why = "" if not call.result else f": {printable(_cut(call.result))}"
        out.line(out.say(failed, tool=printable(call.tool_name), step=step, error=error) + why)
    for review in diagnosis.refused:
        by = "" if review.decided_by is None else out.say(" by {name}", name=printable(review.decided_by))
        refused = out.say("Not approved{by} ({status})", by=by, status=out.say(review.status or "rejected"))
        out.line(f"{refused}: {printable(_cut(review.question))}")
    out.line()


def _show_calls(
    out: Output, session_id: str, history: SessionHistory, names: dict[str, str], *, ids: bool, prices: Prices | None
) -> None:
    def named(each: str, name: str | None = None) -> str:
        return with_id(name or names.get(each), each, ids=ids)

    rows = (
        (e.call_number, named(e.process_id), named(e.agent_id), named(e.tool_id, e.tool_name), e.attempt,
         _cut(e.values), _status(e), e.duration_ms,
         e.executed_at, *([] if prices is None else [_show.money(prices.cost(e))]), _cut(e.result))
        for e in history.executions
    )  # fmt: skip
    columns = ("call>", "process", "agent", "tool", "attempt>", "arguments", "status", "took (ms)>",
               "called at (UTC)", *([] if prices is None else ["cost>"]), "result")  # fmt: skip
    title = out.say("Tool calls of {session}, in order", session=session_id)
    out.table(title, columns, rows, empty="No tool call yet.")
    if prices is not None:
        total, priced = prices.total(history.executions)
        if total is None:
            out.line(out.say("Cost: unknown."))
        else:
            told = "Cost: {cost}, of {priced} of {calls} calls; a call without a known model and price adds none."
            out.line(out.say(told, cost=_show.money(total), priced=priced, calls=len(history.executions)))


def _status(call: ToolExecution) -> str:
    status = call.status or ("ok" if call.succeeded else "error")
    return status if call.error_type is None else f"{status}: {call.error_type}"


def _show_said(out: Output, history: SessionHistory, names: dict[str, str]) -> None:
    """Show what was said of a session from outside."""
    said = [one for one in history.reviews if one.source is not None]
    if said:
        outcomes = (
            (one.source, one.decided_by, names.get(one.agent_id or "", one.agent_id or "all"), one.outcome, one.score,
             one.decided_at, one.decision_reason)
            for one in sorted(said, key=lambda one: OUTCOME_SOURCES.index(one.source or "evaluator"))
        )  # fmt: skip
        heads = ("source", "by", "agent", "succeeded", "score>", "said at (UTC)", "reason")
        out.table("Outcomes from outside, the most trusted source first", heads, outcomes)


def users(ctx: typer.Context, *, ids: WithIds = False, limit: Limit = 50, as_json: Json = False) -> None:
    """List users with their sessions, the most recent first.

    As of the last refresh.
    """
    with open_model(stack_of(ctx)) as model:
        warehouse = model.warehouse
        from agentmodel.redshift.session_list import active_users

        found: list[UserActivity] = active_users(warehouse, limit=limit)
    out = Output(as_json=as_json)
    if as_json:
        out.data(found)
        return
    rows = ((each.name, *([each.user_id] if ids else []), each.sessions, _show.moment(each.newest)) for each in found)
    columns = ("user", *(["user id"] if ids else []), "sessions>", "last session began (UTC)")
    none = "No user yet. Record or import sessions, then run `agentmodel drain` and `agentmodel refresh`."
    out.table("Users, the most recent first", columns, rows, empty=none)


def errors(
    ctx: typer.Context,
    *,
    runs: Annotated[
        bool, typer.Option("--runs", help="Show where failed runs went wrong instead, by category.")
    ] = False,
    since: Since = None,
    agent: Agent = None,
    tool: Tool = None,
    ids: WithIds = False,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """Count failed tool calls by type of error, tool and agent.

    The most frequent first, as of the last refresh. With --runs, each failed run is compared with the other runs of its
    user and category.
    """
    moment = parse_since(since)
    out = Output(as_json=as_json)
    if runs:
        for name, given in (("--since", since), ("--agent", agent), ("--tool", tool)):
            if given is not None:
                raise ValidationError(name, given, "cannot be combined with --runs: leave out one of the two")
        with open_model(stack_of(ctx)) as model:
            steps = model.wrong_steps()
        if as_json:
            out.data(steps)
        else:
            _show.wrong_steps(out, steps)
        return
    with open_model(stack_of(ctx)) as model:
        warehouse = model.warehouse
        from agentmodel.redshift.session_list import error_types

        known = Ids(model)
        found = error_types(warehouse, since=moment, agent=known.agent(agent), tool=known.tool(tool), limit=limit)
    if as_json:
        out.data(found)
    else:
        _show_errors(out, found, ids=ids)


def _show_errors(out: Output, found: Sequence[ErrorCount], *, ids: bool) -> None:
    rows: list[tuple[Any, ...]] = [
        (each.error_type or out.say("no type recorded"), with_id(each.tool_name, each.tool_id, ids=ids),
         with_id(each.agent_name, each.agent_id, ids=ids), each.failures, each.sessions, _show.moment(each.newest))
        for each in found
    ]  # fmt: skip
    columns = ("error type", "tool", "agent", "failed calls>", "sessions>", "last (UTC)")
    out.table("Failed tool calls by type of error", columns, rows, empty="No tool failed.")


def add(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (sessions, session, users, errors):
        app.command()(command)
