"""What a publish asks the warehouse beside its reports: the requests of each category, and how good each session was.

Both are single selects over tables that a refresh keeps, spelt alike on Redshift and DuckDB.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, literal_column, or_, select

from agentmodel.redshift import models as m
from agentmodel.redshift.dialects import rows_of
from agentmodel.redshift.pipeline import day_of

if TYPE_CHECKING:
    from agentmodel.redshift.pipeline import Warehouse

__all__ = ["EXAMPLES", "SessionScore", "example_requests", "seen_until", "session_scores"]

EXAMPLES = 5
"""Requests a mapping keeps to be found by: the newest different ones of its category."""

_CHARACTERS = 500  # of one example
_LOOKED_AT = "20"  # newest sessions of a category that are looked at for different requests


@dataclass(frozen=True, slots=True)
class SessionScore:
    """How good the sequence of a session is, by the score of its best pattern."""

    user_id: str
    session_id: str
    score: float


def seen_until(warehouse: Warehouse) -> datetime:
    """How far the last refresh saw; the year 1 where nothing had landed, or zero-ETL keeps no history."""
    marks = warehouse.read(select(m.RefreshWatermark.seen_until))
    seen: datetime | None = max((mark for (mark,) in marks if mark is not None), default=None)
    return datetime(1, 1, 1, tzinfo=UTC) if seen is None else seen.replace(tzinfo=UTC)


def example_requests(warehouse: Warehouse) -> dict[tuple[str, str], list[str]]:
    """The newest different requests of each user and category, at most `EXAMPLES`, newest first.

    A session without a request of its own has the prompt of its first process.
    """
    s, process = m.UserSession, m.UserSessionProcess
    first = func.row_number().over(partition_by=[process.user_id, process.session_id], order_by=process.process_id)
    p = rows_of(process.user_id, process.session_id, process.prompt, first.label("at")).subquery("p")
    newest = func.row_number().over(partition_by=[s.user_id, s.category], order_by=s.session_id.desc())
    asked = (
        rows_of(s.user_id, s.category, func.coalesce(s.request, p.c.prompt).label("request"), newest.label("place"))
        .outerjoin(p, and_(p.c.user_id == s.user_id, p.c.session_id == s.session_id, p.c.at == literal_column("1")))
        .where(s.category.is_not(None))
        .subquery("asked")
    )
    rows = (
        rows_of(asked.c.user_id, asked.c.category, asked.c.request)
        .where(asked.c.place <= literal_column(_LOOKED_AT), asked.c.request.is_not(None))
        .order_by(asked.c.user_id, asked.c.category, asked.c.place)
    )
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for user_id, category, request in warehouse.read(rows):
        text = " ".join(request.split())[:_CHARACTERS]
        known = found[user_id, category]
        if text and text not in known and len(known) < EXAMPLES:
            known.append(text)
    return {place: texts for place, texts in found.items() if texts}


def session_scores(warehouse: Warehouse, *, as_of: date, loaded_since: datetime) -> list[SessionScore]:
    """The score of each session that was loaded since a time: that of the best pattern its agents took.

    What was loaded before has outlived the longest lifetime, and is not in the table any more.
    """
    e, p, s = m.AgentExecution, m.UserProcessPattern, m.UserSession
    since = loaded_since.replace(tzinfo=None)
    rows = (
        rows_of(e.user_id, e.session_id, func.max(p.score(day_of(as_of))))
        .join(p, and_(p.user_id == e.user_id, p.pattern_key == e.pattern_key))
        .join(s, and_(s.user_id == e.user_id, s.session_id == e.session_id))
        .where(or_(s.loaded_at.is_(None), s.loaded_at >= since))
        .group_by(e.user_id, e.session_id)
        .order_by(e.user_id, e.session_id)
    )
    return [SessionScore(*row) for row in warehouse.read(rows)]
