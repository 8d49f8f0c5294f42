"""Select the calls that count, and the sample's staging rows of them; the models' view is made of this select."""

from __future__ import annotations

from typing import Any

from sqlalchemy import String, case, func, literal_column, null, or_, select

from agentmodel.redshift._constructs import TIME, Matches, Rows, constant, constant_text, day_of, time_of

__all__ = ["counted_calls", "staging"]


def counted_calls(history: Any, *, cached: bool = False) -> Rows:
    """Select the calls that count, with typed columns.

    A call counts when the tool was really called: its status is ``ok`` or ``error``, or it has no status, and then
    SuccYN holds its outcome. A call that a person rejected, or that the cache answered, does not count for the agent.

    Args:
        history: The model of tool calls.
        cached: Whether calls that the cache answered are selected too, as steps of a sequence; their ``ok`` is NULL.
    """
    h = history
    status = func.nullif(h.status, literal_column("''"), type_=String())
    statuses = ("ok", "error", "cache_hit") if cached else ("ok", "error")
    ok = case(
        (status == constant_text("ok"), constant(1)),
        (status == constant_text("error"), constant(0)),
        (status == constant_text("cache_hit"), null()),
        (h.succeeded == constant_text("Y"), constant(1)),
        else_=constant(0),
    )
    columns: list[Any] = [
        h.user_id,
        h.session_id,
        h.process_id,
        h.agent_id,
        h.tool_id,
        h.attempt,
        h.tool_name,
        ok.label("ok"),
        day_of(h.time).label("day"),
        case((Matches(h.time, TIME), func.rpad(h.time, constant(20), literal_column("'0'")))).label("clock"),
        h.call_number,
        h.duration_ms,
        h.input_tokens,
        h.output_tokens,
        h.cached_tokens,
        h.cache_write_tokens,
        h.reasoning_tokens,
        h.model_name,
        h.request_input_tokens,
        h.time,
        h.values,
        h.result,
        func.nullif(h.revision, literal_column("''"), type_=String()).label("revision"),
    ]
    made: Any = select(*columns)
    rows: Rows = made
    return rows.where(or_(status.is_(None), status.in_([constant_text(each) for each in statuses])))


def staging(history: Any, agents: Any) -> Rows:
    """Select the sample's staging rows: the calls that count, with the domain that their agent works in now.

    Args:
        history: The model of tool calls.
        agents: The model of agents.
    """
    call = counted_calls(history).subquery("call")
    columns: list[Any] = [
        call.c.user_id,
        call.c.session_id,
        call.c.process_id,
        agents.domain_id,
        call.c.agent_id,
        call.c.tool_id,
        call.c.attempt,
        call.c.tool_name,
        call.c.day.label("execution_date"),
        time_of(call.c.time).label("execution_datetime"),
        (call.c.ok == 1).label("success_flag"),
        call.c["values"].label("tool_values"),
        call.c.result.label("result_message"),
    ]
    made: Any = select(*columns)
    rows: Rows = made
    return rows.select_from(call.outerjoin(agents.__table__, agents.agent_id == call.c.agent_id))
