"""Yield every statement of a refresh in order, each with a name and a description.

Data goes from landed items to base tables, to the calls that count, to `agent_execution` (one row per user, session and
agent), to rollups and patterns, and to scores. A full build reads everything that landed into the base tables. An
incremental refresh reads the changes since the watermark, subtracts the old counts of the affected sessions and adds
their new ones. Both are made of the same selects, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Date,
    Executable,
    String,
    Subquery,
    Table,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    union,
    union_all,
)
from sqlalchemy.types import TIMESTAMP

from agentmodel.redshift import models as m
from agentmodel.redshift import score
from agentmodel.redshift._base_tables_sql import (
    ENTITIES,
    ITEM,
    PROGRAM,
    RefreshParameters,
    delete_changed,
    extract_texts,
    load,
    newest_versions,
    set_aside,
    table_of,
)
from agentmodel.redshift._constructs import (
    ListAgg,
    Merge,
    Ratio,
    Rows,
    bounded,
    constant,
    constant_text,
    key_part,
    total,
)
from agentmodel.redshift._derived_categories import derive_categories
from agentmodel.redshift._executions_sql import (
    EXECUTION,
    count_columns,
    daily_counts,
    executed_patterns,
    executions,
    insert_recommended_patterns,
    insert_scored_patterns,
    rollup_columns,
    tool_counts,
    unchanged_patterns,
)
from agentmodel.redshift._requests_sql import (
    affect_without_category,
    drop_unused_categories,
    of_affected_sessions,
)
from agentmodel.redshift._scores_sql import agent_scores
from agentmodel.redshift.models import agent_name, rows_of, tool_names

__all__ = [
    "PROGRAM",
    "RefreshParameters",
    "RefreshStep",
    "count_days",
    "erase_user",
    "full_refresh",
    "incremental_refresh",
    "refresh_parameters",
    "set_aside",
]


MAX_FAILED_TOOLS: Final = 100
"""The most failed tools of an agent that are listed, each by 100 characters: LISTAGG over 65,535 bytes fails."""


@dataclass(frozen=True)
class RefreshStep:
    """One statement of a refresh, its name for progress reports, and its description for the rendered SQL.

    A step of the program is a function; the rendered SQL has no such steps.
    """

    name: str
    description: str
    statement: Executable | Callable[[Connection], None]

    def run(self, connection: Connection) -> None:
        """Run the step in a transaction."""
        if isinstance(self.statement, Executable):
            connection.execute(self.statement)
        else:
            self.statement(connection)


# -- scores -----------------------------------------------------------------------------------------------------------


def _write_scores(parameters: RefreshParameters) -> Executable:
    t = m.AgentScoreSummary
    rows = agent_scores(parameters.as_of, parameters.half_life, parameters.revision_prior).subquery("scored")
    columns = [
        t.domain_id, t.agent_id, t.name, t.executions, t.successes, t.failures, t.success_rate, t.last_day,
        t.days_since, t.decay, t.calculated_score, t.evidence, t.evidence_executions, t.domain_rate,
        t.revision, t.revision_executions, t.revision_successes, t.counted_executions, t.counted_successes,
        t.updated_at,
    ]  # fmt: skip
    return insert(t).from_select(columns, rows_of(*rows.c, cast(parameters.as_of, TIMESTAMP)))


def _errors_per_tool() -> Subquery:
    """Select calls and errors of each tool of each agent, under the name that is shown for the tool."""
    t, a, named = m.AgentTool, m.AgentRow, tool_names()
    rows = (
        rows_of(
            a.domain_id, a.agent_id, agent_name(a).label("name"), t.calls, t.errors, named.c.tool_name.label("tool")
        )
        .join(a, a.agent_id == t.agent_id)
        .join(named, and_(named.c.agent_id == t.agent_id, named.c.tool_id == t.tool_id))
        .where(a.domain_id.is_not(None))
        .subquery("rows_")
    )
    key = [rows.c.domain_id, rows.c.agent_id, rows.c.name, rows.c.tool]
    sums = rows_of(*key, total(rows.c.errors).label("errors"), total(rows.c.calls).label("calls"))
    t_ = sums.group_by(*key).subquery("sums")
    order = [case((t_.c.errors > 0, constant(0)), else_=constant(1)), t_.c.tool]
    place = func.row_number().over(partition_by=[t_.c.domain_id, t_.c.agent_id, t_.c.name], order_by=order)
    return rows_of(*t_.c, place.label("place")).subquery("per_tool")


def _write_tool_errors() -> Executable:
    per_tool = _errors_per_tool()
    key = [per_tool.c.domain_id, per_tool.c.agent_id, per_tool.c.name]
    is_listed = and_(per_tool.c.errors > 0, per_tool.c.place <= constant(MAX_FAILED_TOOLS))
    failed = case((is_listed, func.left(per_tool.c.tool, constant(100))), else_=null())
    errors, calls = total(per_tool.c.errors), total(per_tool.c.calls)
    others = total(case((per_tool.c.errors > 0, constant(1)), else_=constant(0))) - constant(MAX_FAILED_TOOLS)
    text = (
        literal_column("', and '", String())
        .concat(cast(others, String(20)))
        .concat(literal_column("' more'", String()))
    )
    more = case((others > 0, text), else_=literal_column("''", String()))
    t = m.ToolErrorSummary
    rows = rows_of(
        *key,
        errors,
        calls,
        Ratio(errors, calls),
        ListAgg(failed, ", ", order_by=[failed]).concat(more),
    )
    columns = [t.domain_id, t.agent_id, t.name, t.errors, t.calls, t.error_rate, t.failed_tools]
    return insert(t).from_select(columns, rows.group_by(*key).having(errors > 0))


def _watermark(parameters: RefreshParameters) -> Executable:
    w = m.RefreshWatermark
    name = constant_text(parameters.refreshed_by).label("name")
    columns, values = [w.name, w.as_of], [name, parameters.as_of.label("as_of")]
    if not parameters.history:
        return insert(w).from_select(columns, rows_of(*values))
    row = parameters.landed.alias("landed")
    seen_until = func.max(func.greatest(row.c[m.CREATED], row.c[m.DELETED]))
    return insert(w).from_select([*columns, w.seen_until], rows_of(*values, seen_until.label("seen_until")))


CALL: Final = "UserSessPrcToolMappHist"
CHANGE: Final = [getattr(m.WorkChange, name) for name in ("pk", "sk", "value", "kind", "present", "loaded_at")]


# -- the two refreshes ------------------------------------------------------------------------------------------------


def _clear(models: Sequence[Any]) -> Iterator[RefreshStep]:
    for model in models:
        name = model.__tablename__
        yield RefreshStep(f"clear {name}", f"Empty {name} by DELETE, because TRUNCATE would commit.", delete(model))


def full_refresh(parameters: RefreshParameters) -> Iterator[RefreshStep]:
    """Yield the statements that build every table from all that landed; they need history mode."""
    yield from _clear([*m.WORK, *(entity.model for entity in ENTITIES)])
    item = newest_versions(parameters).subquery("item")
    without_calls = rows_of(*(item.c[name] for name in ITEM)).where(item.c.kind != constant_text(CALL))
    yield RefreshStep(
        "find items",
        "Find all items except calls, which are most of them; so each item's kind is checked twice, not eight times.",
        insert(m.WorkChange).from_select(CHANGE, without_calls),
    )
    for entity in ENTITIES:
        name = entity.model.__tablename__
        source = extract_texts(entity, item) if entity.kind == CALL else table_of(m.WorkChange)
        yield RefreshStep(f"load {name}", f"Read the items of kind {entity.kind} into {name}.", load(entity, source))
    yield from _derive(parameters, affected=False)
    yield from _clear([m.AgentExecution, m.AgentDaily, m.AgentTool, m.UserProcessPattern])
    order: list[ColumnElement[Any]] = [literal_column("2"), literal_column("1")]
    yield RefreshStep(
        "build executions",
        "Insert one row per user, session and agent, in the order of sessions, so that look-ups read few blocks.",
        insert(m.AgentExecution).from_select(EXECUTION, executions().order_by(*order)),
    )
    yield _drop_unused_categories(affected=False)
    yield RefreshStep(
        "roll up days",
        "Count executions and successes per agent, category and day.",
        count_days(),
    )
    yield RefreshStep(
        "roll up tools",
        "Count calls, errors and tokens per agent and tool.",
        insert(m.AgentTool).from_select(rollup_columns(m.AgentTool), tool_counts()),
    )
    yield from _clear([m.WorkPattern])
    yield RefreshStep(
        "score patterns",
        "Find every user's patterns, and compute their scores.",
        insert_scored_patterns(executed_patterns(), parameters.as_of),
    )
    yield from _score_and_finish(parameters)


def count_days() -> Executable:
    """Insert the counts of all executions into the daily rollup, which is empty."""
    d = m.AgentDaily
    columns = [d.agent_id, d.category, d.revision, d.day, d.executions, d.successes]
    return insert(d).from_select(columns, daily_counts(m.AgentExecution, constant(1)))


def incremental_refresh(parameters: RefreshParameters) -> Iterator[RefreshStep]:
    """Yield the statements that update every table with the changes since the watermark."""
    yield from _clear(m.WORK)
    yield from _replace_base_rows(parameters)
    yield from _derive(parameters, affected=True)
    yield from _replace_executions()
    yield from _update_rollups()
    yield from _update_patterns(parameters)
    yield from _score_and_finish(parameters)


OF_USERS: Final = (
    m.UserInfo, m.UserSessionRow, m.SessionOutcome, m.UserSessionProcessRow, m.UserToolMappingHist, m.SuggestionRow
)  # fmt: skip
"""The base tables with rows of users."""


def erase_user(parameters: RefreshParameters, user_key: str) -> Iterator[RefreshStep]:
    """Yield the statements that build one user's rows anew, after `ErasedUser` was changed; the watermark stays.

    Args:
        parameters: Those of the last refresh, reading all that landed.
        user_key: The MD5 of the user's id.
    """
    w, s, h, e = m.WorkChange, m.UserSessionRow, m.UserToolMappingHist, m.AgentExecution
    yield from _clear(m.WORK)
    item = newest_versions(parameters).subquery("item")
    own = rows_of(*(item.c[name] for name in ITEM)).where(func.md5(key_part(item.c.PK, 1)) == user_key)
    yield RefreshStep(
        "find items", "Find what landed of the user and is not erased.", insert(w).from_select(CHANGE, own)
    )
    sessions = union(
        _sessions_of(table_of(w).c),
        *(rows_of(t.user_id, t.session_id).where(func.md5(t.user_id) == user_key) for t in (s, h, e)),
    )
    yield RefreshStep("find sessions", "Find the user's sessions, as they were and as they are now.", _affect(sessions))
    yield RefreshStep("count old calls", "Count the user's calls as they were, negative.", _count_calls(-1))
    yield RefreshStep("keep old executions", "Save the user's executions as they were.", _save_executions(-1))
    for entity in ENTITIES:
        if entity.model in OF_USERS:
            name = entity.model.__tablename__
            erased = delete(entity.model).where(func.md5(entity.model.user_id) == user_key)
            yield RefreshStep(f"erase {name}", f"Delete the user's rows from {name}.", erased)
            yield RefreshStep(f"load {name}", "Insert those that are not erased.", load(entity, table_of(w)))
    d = m.DerivedCategory
    forgotten = delete(d).where(func.md5(d.user_id) == user_key)
    yield RefreshStep("erase derived_category", "Delete the categories that were derived from the requests.", forgotten)
    yield from _derive(parameters, affected=True)
    yield from _replace_executions()
    yield from _update_rollups()
    yield from _update_patterns(parameters)
    yield from _score(parameters)
    yield from _clear(m.WORK)


def _sessions_of(change: Any) -> CompoundSelect[Any]:
    """Select the sessions that changed items belong to."""
    return union(
        _ids(key_part(change.PK, 1), key_part(change.PK, 2)).where(
            change.kind.in_([constant_text(kind) for kind in (CALL, "UserSessionProcess", "Review")])
        ),
        _ids(change.PK, change.SK).where(change.kind == constant_text("UserSession")),
    )


def _affect(sessions: CompoundSelect[Any]) -> Executable:
    return insert(m.WorkSession).from_select([m.WorkSession.user_id, m.WorkSession.session_id], sessions)


def _replace_base_rows(parameters: RefreshParameters) -> Iterator[RefreshStep]:
    w = m.WorkChange
    changed = insert(w).from_select(CHANGE, newest_versions(parameters))
    yield RefreshStep("find changes", "Find the newest version of each item that changed since the watermark.", changed)
    yield RefreshStep(
        "find sessions",
        "Find the sessions that those items belong to, the affected sessions; everything about them is computed again.",
        _affect(_sessions_of(table_of(w).c)),
    )
    if parameters.finds_sessions_without_category:
        yield RefreshStep(
            "find sessions without category",
            "Find the sessions, too, that were learned without a category and have a request.",
            affect_without_category(),
        )
    yield RefreshStep(
        "count old calls", "Count the calls of the affected sessions as they were, negative.", _count_calls(-1)
    )
    yield RefreshStep(
        "keep old executions", "Save the executions of the affected sessions as they were.", _save_executions(-1)
    )
    for entity in ENTITIES:
        name = entity.model.__tablename__
        yield RefreshStep(f"delete changed {name}", f"Delete the changed rows from {name}.", delete_changed(entity))
        insert_current = load(entity, table_of(w))
        yield RefreshStep(
            f"load {name}",
            f"Insert them into {name} as they are now, except those that a person deleted.",
            insert_current,
        )


def _derive(parameters: RefreshParameters, *, affected: bool) -> Iterator[RefreshStep]:
    if parameters.refreshed_by == PROGRAM:
        yield RefreshStep(
            "derive categories",
            "Derive a category from each new request that has none.",
            partial(derive_categories, affected=affected),
        )


def _drop_unused_categories(*, affected: bool) -> RefreshStep:
    return RefreshStep(
        "drop unused categories",
        "Delete derived categories that no execution has any more.",
        drop_unused_categories(affected=affected),
    )


def _ids(*texts: Any) -> Rows:
    """Select ids, except those that are longer than the columns for ids, whose items are set aside."""
    rows = rows_of(*(func.left(text, constant(m.ID), type_=String()) for text in texts))
    return rows.where(*(func.length(text) <= constant(m.ID) for text in texts))


def _count_calls(sign: int) -> Executable:
    rows = tool_counts(affected=True).subquery("counted")
    amounts = [rows.c[name] * constant(sign) for name in ("calls", "errors", "inputs", "outputs")]
    return insert(m.WorkCall).from_select(
        [*rollup_columns(m.WorkCall), m.WorkCall.change],
        rows_of(rows.c.agent_id, rows.c.tool_id, rows.c.name, *amounts, constant(sign)),
    )


def _save_executions(sign: int) -> Executable:
    w, e = m.WorkExecution, m.AgentExecution
    names = ("user_id", "session_id", "agent_id", "category", "revision", "succeeded", "last_day", "pattern_key")
    rows = rows_of(*(getattr(e, name) for name in names), constant(sign))
    columns = [*(getattr(w, name) for name in names), w.change]
    return insert(w).from_select(columns, of_affected_sessions(rows, e.user_id, e.session_id))


def _replace_executions() -> Iterator[RefreshStep]:
    e, w = m.AgentExecution, m.WorkSession
    yield RefreshStep(
        "drop executions",
        "Delete the executions of the affected sessions.",
        delete(e).where(e.user_id == w.user_id, e.session_id == w.session_id),
    )
    order: list[ColumnElement[Any]] = [literal_column("2"), literal_column("1")]
    yield RefreshStep(
        "build executions",
        "Insert them as they are now.",
        insert(e).from_select(EXECUTION, executions(affected=True).order_by(*order)),
    )
    yield _drop_unused_categories(affected=True)
    yield RefreshStep("count new calls", "Count the calls of the affected sessions as they are now.", _count_calls(1))
    yield RefreshStep(
        "keep new executions", "Save the executions of the affected sessions as they are now.", _save_executions(1)
    )


def _update_rollups() -> Iterator[RefreshStep]:
    w, d = m.WorkDaily, m.AgentDaily
    rows = daily_counts(m.WorkExecution, table_of(m.WorkExecution).c.change).subquery("changed")
    changed = rows_of(*rows.c).where(or_(rows.c.executions != 0, rows.c.successes != 0))
    yield RefreshStep(
        "count days",
        "Compute the change per agent, category and day: new counts minus old ones.",
        insert(w).from_select([w.agent_id, w.category, w.revision, w.day, w.executions, w.successes], changed),
    )
    yield RefreshStep(
        "merge days",
        "Add the changes to the daily rollup.",
        _merge_counts(d, w, ("agentid", "category", "agentver", "execution_date"), ("executions", "successes")),
    )
    yield RefreshStep("drop empty days", "Delete days without executions.", delete(d).where(d.executions == 0))
    call, tool = m.WorkCall, m.WorkTool
    sums = [total(column).label(f"n{index}") for index, column in enumerate(count_columns(call))]
    keys = [call.agent_id, call.tool_id, call.tool_name]
    change = rows_of(*keys, *sums).group_by(*keys).subquery("total")
    counts = [change.c[column.key] for column in sums]
    yield RefreshStep(
        "count tools",
        "Compute the change per agent and tool: new counts minus old ones.",
        insert(tool).from_select(
            rollup_columns(tool), rows_of(*change.c).where(or_(*(count != 0 for count in counts)))
        ),
    )
    names = ("calls", "errors", "inputtokens", "outputtokens")
    yield RefreshStep(
        "merge tools",
        "Add the changes to the rollup of tools.",
        _merge_counts(m.AgentTool, tool, ("agentid", "toolid", "toolnm"), names),
    )
    yield RefreshStep(
        "drop unused tools", "Delete tools without calls.", delete(m.AgentTool).where(m.AgentTool.calls == 0)
    )


def _merge_counts(target: Any, source: Any, on: Sequence[str], amounts: Sequence[str]) -> Merge:
    to, of = table_of(target), table_of(source)
    return Merge(
        to, of, on=on, update={name: bounded(to.c[name] + of.c[name]) for name in amounts}, insert=[*on, *amounts]
    )


def _update_patterns(parameters: RefreshParameters) -> Iterator[RefreshStep]:
    p, w = m.UserProcessPattern, m.WorkUser
    users: list[Rows] = [rows_of(m.WorkExecution.user_id)]
    if parameters.previous_as_of is not None:
        # a day in the future counts as today, so the weight changes until that day is reached
        known_until = func.least(parameters.previous_as_of, parameters.as_of, type_=Date())
        users.append(rows_of(p.user_id).where(p.last_day > known_until))
    yield RefreshStep(
        "find users",
        "Find users whose patterns changed, or had a day in the future.",
        insert(w).from_select([w.user_id], union(*users)),
    )
    rows = union_all(executed_patterns(affected=True), unchanged_patterns())
    yield RefreshStep(
        "score patterns",
        "Find the patterns of those users, and compute their scores.",
        insert_scored_patterns(rows, parameters.as_of),
    )
    yield RefreshStep("drop patterns", "Delete the patterns of those users.", delete(p).where(p.user_id == w.user_id))
    yield RefreshStep(
        "drop foreign patterns",
        "Delete patterns without a key, which the sample's own statements made.",
        delete(p).where(p.pattern_key == literal_column("''")),
    )


def _score_and_finish(parameters: RefreshParameters) -> Iterator[RefreshStep]:
    yield from _score(parameters)
    yield from _clear([*m.WORK, m.RefreshWatermark])
    yield RefreshStep("set watermark", "Store how far this refresh has read.", _watermark(parameters))


def _score(parameters: RefreshParameters) -> Iterator[RefreshStep]:
    yield RefreshStep(
        "recommend patterns",
        "Insert the patterns; from the 80th percentile of their user and category up they are recommended.",
        insert_recommended_patterns(),
    )
    yield from _clear([m.AgentScoreSummary])
    yield RefreshStep(
        "score agents", "Compute every agent's score and evidence as of the day.", _write_scores(parameters)
    )
    yield from _clear([m.ToolErrorSummary])
    yield RefreshStep(
        "sum up tool errors", "Count errors per agent, and list the tools that failed.", _write_tool_errors()
    )


def refresh_parameters(
    landed: Table,
    *,
    as_of: date,
    half_life_days: float,
    revision_prior: float = score.REVISION_PRIOR,
    since: datetime | None = None,
    previous_as_of: date | None = None,
    erasures: bool = True,
    finds_sessions_without_category: bool = False,
) -> RefreshParameters:
    """Return the parameters of a refresh by this program, with their values as bind parameters."""
    return RefreshParameters(
        landed,
        as_of=score.as_of_expression(as_of),
        half_life=score.half_life_expression(half_life_days),
        revision_prior=score.revision_prior_expression(revision_prior),
        since=None if since is None else bindparam("since", since, TIMESTAMP),
        previous_as_of=None
        if previous_as_of is None
        else cast(bindparam("previous_as_of", previous_as_of, Date), Date),
        erasures=erasures,
        refreshed_by=PROGRAM,
        finds_sessions_without_category=finds_sessions_without_category,
    )
