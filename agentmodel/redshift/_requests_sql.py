"""Select what sessions asked for: the request, and the category that was typed for it or derived from it."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Executable,
    String,
    Subquery,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
)

from agentmodel._values.categories import DERIVED
from agentmodel.redshift import models as m
from agentmodel.redshift._constructs import Rows, constant, constant_text
from agentmodel.redshift.models import rows_of

__all__ = [
    "READ_CHARACTERS", "affect_without_category", "drop_unused_categories", "first_prompts", "of_affected_sessions",
    "request_of", "same_request", "typed_category", "unassigned_requests",
]  # fmt: skip

READ_CHARACTERS: Final = 2_000
"""Characters of a request that are read to derive a category; blanks and invisible characters are not compared."""

_EMPTY: Final[ColumnElement[str]] = literal_column("''", String())


def of_affected_sessions(rows: Rows, user: Any, session: Any) -> Rows:
    """Keep only the rows of affected sessions, those that a changed item belongs to."""
    work = m.WorkSession
    return rows.join(work, and_(work.user_id == user, work.session_id == session))


def first_prompts(*, affected: bool = False) -> Subquery:
    """Select the first prompt of the processes of each session that has no request of its own."""
    s, p = m.UserSessionRow, m.UserSessionProcessRow
    place = func.row_number().over(partition_by=[p.user_id, p.session_id], order_by=p.process_id).label("place")
    rows = (
        rows_of(p.user_id, p.session_id, p.prompt, place)
        .join(s, and_(s.user_id == p.user_id, s.session_id == p.session_id))
        .where(func.coalesce(s.request, _EMPTY) == _EMPTY, func.coalesce(p.prompt, _EMPTY) != _EMPTY)
    )
    ranked = (of_affected_sessions(rows, p.user_id, p.session_id) if affected else rows).subquery("ranked")
    first = rows_of(ranked.c.user_id, ranked.c.session_id, ranked.c.prompt).where(ranked.c.place == constant(1))
    return first.subquery("opening")


def request_of(session: Any, opening: Any) -> ColumnElement[str]:
    """Return the request of a session, else the first prompt of its processes; NULL where it has neither."""
    return func.coalesce(func.nullif(session.request, _EMPTY), opening.c.prompt, type_=String())


def typed_category(session: Any) -> ColumnElement[str]:
    """Return the category that was typed for a session; NULL where none was, or one that looks like a derived one."""
    looks_derived = func.left(session.category, constant(len(DERIVED))) == constant_text(DERIVED)
    return case((or_(session.category == _EMPTY, looks_derived), null()), else_=session.category)


def same_request(derived: Any, session: Any, opening: Any) -> ColumnElement[bool]:
    """Return whether a row of `DerivedCategory` is that of a session's request; no typed category is looked up."""
    key = case((typed_category(session).is_(None), func.md5(request_of(session, opening))))
    return and_(derived.user_id == session.user_id, derived.request_key == key)


def unassigned_requests(*, affected: bool) -> Rows:
    """Select the requests that have neither a typed nor a derived category yet, in the order of their sessions.

    A request belongs to the first domain of the agents that worked for it; '' where they are not in the catalogue.
    """
    s, h, d = m.UserSessionRow, m.UserToolMappingHist, m.DerivedCategory
    domain = func.min(func.coalesce(m.AgentRow.domain_id, _EMPTY, type_=String())).label("domain_id")
    calls = rows_of(h.user_id, h.session_id, domain).outerjoin(m.AgentRow, m.AgentRow.agent_id == h.agent_id)
    calls = of_affected_sessions(calls, h.user_id, h.session_id) if affected else calls
    worked = calls.group_by(h.user_id, h.session_id).subquery("worked")
    opening = first_prompts(affected=affected)
    request = request_of(s, opening)
    return (
        rows_of(
            s.user_id,
            worked.c.domain_id,
            func.md5(request).label("request_key"),
            func.left(request, constant(READ_CHARACTERS)).label("request"),
        )
        .join(worked, and_(worked.c.user_id == s.user_id, worked.c.session_id == s.session_id))
        .outerjoin(opening, and_(opening.c.user_id == s.user_id, opening.c.session_id == s.session_id))
        .outerjoin(d, same_request(d, s, opening))
        .where(typed_category(s).is_(None), request.is_not(None), d.user_id.is_(None))
        .order_by(s.user_id, func.coalesce(s.started, _EMPTY), s.session_id)
    )


def affect_without_category() -> Executable:
    """Add the sessions to the affected ones whose executions have no category, though there is a request."""
    e, s, w, opening = m.AgentExecution, m.UserSessionRow, m.WorkSession, first_prompts()
    rows = (
        rows_of(e.user_id, e.session_id)
        .distinct()
        .join(s, and_(s.user_id == e.user_id, s.session_id == e.session_id))
        .outerjoin(opening, and_(opening.c.user_id == s.user_id, opening.c.session_id == s.session_id))
        .where(
            e.category == _EMPTY,
            request_of(s, opening).is_not(None),
            ~exists().where(w.user_id == e.user_id, w.session_id == e.session_id),
        )
    )
    return insert(w).from_select([w.user_id, w.session_id], rows)


def drop_unused_categories(*, affected: bool) -> Executable:
    """Delete the assignments of derived categories that no execution has any more, since its sessions were deleted."""
    d, e, w = m.DerivedCategory, m.AgentExecution, m.WorkSession
    used = rows_of(_of_user(e))  # compared as one text: sqlalchemy-redshift does not correlate a subquery of DELETE
    if not affected:
        return delete(d).where(_of_user(d).not_in(used))
    users = rows_of(w.user_id)
    return delete(d).where(d.user_id.in_(users), _of_user(d).not_in(used.where(e.user_id.in_(users))))


def _of_user(row: Any) -> ColumnElement[str]:
    text: ColumnElement[str] = row.user_id.concat(literal_column("'#'", String())).concat(row.category)
    return text
