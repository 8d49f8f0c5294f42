"""List what people decided before, for the command line and the console."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, cast

from agentmodel._lookup.ids import Ids
from agentmodel._lookup.sessions import cursor_of, position_of
from agentmodel.client import AgentModel
from agentmodel.dynamo.models import VERDICTS
from agentmodel.exceptions import ValidationError

if TYPE_CHECKING:
    from agentmodel.redshift.decisions import PastDecision
    from agentmodel.redshift.warehouse import Warehouse

__all__ = ["ANSWERS", "page_of_decisions"]

ANSWERS = ("approved", "edited", "rejected", "responded", "expired", "cancelled", *VERDICTS)
"""How a question can end: a status, or the verdict on a run."""


def page_of_decisions(
    model: AgentModel,
    warehouse: Warehouse,
    *,
    by: str | None = None,
    queue: str | None = None,
    user: str | None = None,
    agent: str | None = None,
    tool: str | None = None,
    answer: str | None = None,
    since: datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
    dashes: str = "",
) -> tuple[list[PastDecision], str | None]:
    """Return decisions, newest first, and the cursor of the next page; None where this is the last.

    Args:
        model: The installation.
        warehouse: Its warehouse.
        by: Only of this reviewer.
        queue: Only of this queue.
        user: Only about sessions of this user: a name, an id, or the beginning of one.
        agent: Only about this agent, likewise.
        tool: Only about this tool, likewise.
        answer: Only those that ended so, see `ANSWERS`.
        since: Only those of this time or later.
        limit: The most decisions.
        cursor: Where the page begins.
        dashes: What stands before the name of a field in an error.

    Raises:
        CursorError: The cursor is not one of this list.
        ValidationError: An answer is none, or a beginning is that of several.
        WarehouseUnavailable: The warehouse does not answer.
    """
    from agentmodel.redshift.decisions import DecisionFilter, past_decisions

    if answer is not None and answer not in ANSWERS:
        raise ValidationError(f"{dashes}answer", answer, "must be one of " + ", ".join(ANSWERS))
    ids = Ids(model)
    narrow = DecisionFilter(
        by=by, queue=queue, user_id=None if user is None else ids.user(user, field=f"{dashes}user"),
        agent=ids.agent(agent, field=f"{dashes}agent"), tool=ids.tool(tool, field=f"{dashes}tool"), answer=answer,
        since=since,
    )  # fmt: skip
    after = cast("tuple[str, str, str, str] | None", position_of(cursor or "", 4))
    rows = past_decisions(warehouse, narrow, after=after, limit=limit + 1)
    return rows[:limit], cursor_of(rows[limit - 1].position) if len(rows) > limit else None
