"""List what people decided in reviews, from the items that landed in the warehouse.

For reviewers and operators. No table of its own is needed: reviews are few among what lands, and their keys say what
they are, so that an engine passes over the other items.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, String, and_, func, or_

from agentmodel import keys
from agentmodel.exceptions import ValidationError
from agentmodel.redshift import models as m
from agentmodel.redshift._base_tables_sql import erased_rows
from agentmodel.redshift._constructs import SuperText, constant_text, key_part
from agentmodel.redshift._report_sql import EMPTY
from agentmodel.redshift.models import rows_of
from agentmodel.redshift.warehouse import Warehouse

__all__ = ["DecisionFilter", "PastDecision", "past_decisions", "review_queues", "reviews_like"]

_MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionFilter:
    """Which decisions are listed; what is None does not narrow.

    Attributes:
        by: Decisions of this reviewer, as its name was given.
        queue: Decisions in this queue.
        user_id: Decisions about sessions of this user.
        agent: Decisions about this agent; its id or name.
        tool: Decisions about this tool; its id or name.
        answer: Decisions with this status, such as ``approved``, or this verdict, such as ``wrong``.
        since: Decisions that were made at this time or later, aware.

    >>> narrow = DecisionFilter(by="lee", answer="rejected")
    >>> [one.reason for one in past_decisions(model.warehouse, narrow)]
    ['nobody asked for one']
    """

    by: str | None = None
    queue: str | None = None
    user_id: str | None = None
    agent: str | None = None
    tool: str | None = None
    answer: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class PastDecision:
    """A question that is not open any more.

    Attributes:
        user_id: Whose session it is about.
        session_id: The session.
        review_id: The question.
        user_name: The user's name; its id where it has none.
        agent_id: The agent; '' where it is about none.
        agent_name: Its name; its id where it has none.
        tool_id: The tool; '' where it is about none.
        tool_name: Its name; its id where it has none.
        question: What was asked.
        queue: The queue that it was in.
        status: How it ended: ``approved``, ``edited``, ``rejected``, ``responded``, ``expired``, ``cancelled`` or
            ``completed``, which is a verdict.
        verdict: The verdict on a run; '' where it is none.
        by: Who decided; '' where nobody did in time.
        at: When it was decided: 20 digits in UTC, as the table stores times.
        reason: Why, in the reviewer's words; '' where none was given.

    >>> (one,) = past_decisions(model.warehouse, DecisionFilter(by="lee"))
    >>> one.tool_name, one.queue, one.reference.startswith("USR002/SESS3/")
    ('book_table', 'review', True)
    """

    user_id: str
    session_id: str
    review_id: str
    user_name: str
    agent_id: str
    agent_name: str
    tool_id: str
    tool_name: str
    question: str
    queue: str
    status: str
    verdict: str
    by: str
    at: str
    reason: str

    @property
    def reference(self) -> str:
        """The text that names it, see `Reviews.reference`."""
        return "/".join(self.position[1:])

    @property
    def position(self) -> tuple[str, str, str, str]:
        """Its place in the list, for ``after`` of `past_decisions`."""
        return self.at, self.user_id, self.session_id, self.review_id


def past_decisions(
    warehouse: Warehouse,
    narrow: DecisionFilter | None = None,
    *,
    after: tuple[str, str, str, str] | None = None,
    limit: int = 50,
) -> list[PastDecision]:
    """Return what people decided, newest first, as of what has landed, which a refresh begins with.

    Args:
        warehouse: A refreshed warehouse.
        narrow: Which decisions; all of them when not given.
        after: The `PastDecision.position` of the last one of the page before.
        limit: The most decisions, 1 to 1,000.

    Raises:
        ValidationError: ``limit`` is out of range, or ``since`` has no time zone.
        WarehouseUnavailable: The engine does not answer.

    >>> [(one.user_name, one.question, one.status, one.by) for one in past_decisions(model.warehouse)]
    [('Jun', 'Book a table?', 'rejected', 'lee')]
    """
    if not 1 <= limit <= _MAX_LIMIT:
        raise ValidationError("limit", limit, f"must be a whole number from 1 to {_MAX_LIMIT}")
    u, a, t = m.UserInfo, m.AgentRow, m.ToolRow
    page = _page(warehouse, narrow or DecisionFilter(), after).limit(limit).subquery("page")
    user_id, session_id, review_id = _names(page)
    told = {name: _text(page, attribute) for name, attribute in _TEXTS.items()}
    rows = (
        rows_of(
            user_id, session_id, review_id, func.coalesce(func.nullif(u.name, EMPTY), user_id),
            told.pop("agent_id"), func.coalesce(func.nullif(a.name, EMPTY), _text(page, "AgentID")),
            told.pop("tool_id"), func.coalesce(func.nullif(t.name, EMPTY), _text(page, "ToolID")), *told.values(),
        )
        .select_from(page)
        .outerjoin(u, u.user_id == user_id)
        .outerjoin(a, a.agent_id == _text(page, "AgentID"))
        .outerjoin(t, and_(t.agent_id == _text(page, "AgentID"), t.tool_id == _text(page, "ToolID")))
        .order_by(*_order(page))
    )  # fmt: skip
    return [PastDecision(*row) for row in warehouse.read(rows)]


def review_queues(warehouse: Warehouse) -> set[str]:
    """Return the names of the queues of the questions that have landed.

    >>> review_queues(model.warehouse)
    {'review'}
    """
    row = warehouse.landed.alias("landed")
    names = rows_of(_text(row, "QueueNM")).distinct().where(*_questions(row))
    return {name for (name,) in warehouse.read(names) if name}


def reviews_like(warehouse: Warehouse, beginning: str, *, limit: int = 10) -> list[tuple[str, str, str]]:
    """Return the landed questions whose id begins so, open or decided: user, session and review of each.

    >>> (one,) = past_decisions(model.warehouse, DecisionFilter(by="lee"))
    >>> reviews_like(model.warehouse, one.review_id[:6]) == [("USR002", "SESS3", one.review_id)]
    True
    """
    row = warehouse.landed.alias("landed")
    names = _names(row)
    fits = names[2].startswith(beginning, autoescape=True)
    rows = rows_of(*names).where(*_questions(row), fits).order_by(*names).limit(limit)
    return [(user, session, review) for user, session, review in warehouse.read(rows)]


_TEXTS: Final = {
    "agent_id": "AgentID", "tool_id": "ToolID", "question": "Question", "queue": "QueueNM", "status": "ReviewStatus",
    "verdict": "Verdict", "by": "DecidedBy", "at": "DecidedDT", "reason": "DecisionReason",
}  # fmt: skip


def _text(row: FromClause, name: str) -> ColumnElement[str]:
    return func.coalesce(SuperText(row.c.value, name, "S"), EMPTY, type_=String())


def _names(row: FromClause) -> tuple[ColumnElement[str], ColumnElement[str], ColumnElement[str]]:
    """Return the user, the session and the review of a row; a review's id may have any character."""
    review_id = func.substring(row.c.SK, len(keys.REVIEW.prefix()) + 1, type_=String())
    return key_part(row.c.PK, 1), key_part(row.c.PK, 2), review_id


def _order(row: FromClause) -> list[ColumnElement[Any]]:
    return [_text(row, "DecidedDT").desc(), row.c.PK.desc(), row.c.SK.desc()]  # times are not unique


def _questions(row: FromClause) -> list[ColumnElement[bool]]:
    """Return the conditions on what landed that leave questions; an outcome from outside was never asked."""
    prefix = keys.REVIEW.prefix()
    where: list[ColumnElement[bool]] = [
        row.c.SK.between(constant_text(prefix), constant_text(prefix[:-1] + chr(ord(prefix[-1]) + 1))),
        SuperText(row.c.value, "OutcomeSource", "S").is_(None),
        ~erased_rows(row, made_at=row.c.get(m.CREATED)),
    ]
    return [*where, row.c[m.ACTIVE]] if m.ACTIVE in row.c else where


def _page(warehouse: Warehouse, narrow: DecisionFilter, after: tuple[str, str, str, str] | None) -> Any:
    """Select the landed questions that were decided, newest first."""
    row = warehouse.landed.alias("landed")
    at = _text(row, "DecidedDT")
    where = [*_questions(row), at != EMPTY]
    for name, value in (("DecidedBy", narrow.by), ("QueueNM", narrow.queue)):
        if value is not None:
            where.append(_text(row, name) == value)
    if narrow.answer is not None:
        where.append(or_(*(_text(row, name) == narrow.answer for name in ("ReviewStatus", "Verdict"))))
    if narrow.user_id is not None:
        where.append(key_part(row.c.PK, 1) == narrow.user_id)
    a, t = m.AgentRow, m.ToolRow
    for name, value, named in (
        ("AgentID", narrow.agent, rows_of(a.agent_id).where(a.name == narrow.agent)),
        ("ToolID", narrow.tool, rows_of(t.tool_id).where(t.name == narrow.tool)),
    ):
        if value is not None:
            where.append(or_(_text(row, name) == value, _text(row, name).in_(named)))
    if narrow.since is not None:
        where.append(at >= keys.format_time("since", narrow.since))
    if after is not None:
        day, user_id, session_id, review_id = after
        key = row.c.PK, row.c.SK
        last = keys.SESSION_ITEMS.build(user_id, session_id), keys.REVIEW.build(review_id)
        same = or_(key[0] < last[0], and_(key[0] == last[0], key[1] < last[1]))
        where += [at <= day, or_(at < day, same)]
    return rows_of(row.c.PK, row.c.SK, row.c.value).where(*where).order_by(*_order(row))
