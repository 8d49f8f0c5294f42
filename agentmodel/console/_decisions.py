"""Past decisions: what people answered before, by reviewer, queue, user, agent, tool, answer and time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.responses import Response

from agentmodel._log import logger
from agentmodel._lookup.decisions import ANSWERS, page_of_decisions
from agentmodel._runtime.process import ForkSafeLock
from agentmodel.client import AgentModel
from agentmodel.console._entrance import Visit
from agentmodel.console._reader import WarehouseReader
from agentmodel.console._sessions import SPANS
from agentmodel.console._site import Site
from agentmodel.dynamo.models import Review
from agentmodel.exceptions import WarehouseUnavailable

if TYPE_CHECKING:
    from agentmodel.redshift.decisions import PastDecision

__all__ = ["DecisionPages", "Earlier"]

_log = logger(__name__)
_SHOWN = 50  # decisions of a page
_NARROW = ("by", "queue", "user", "agent", "tool", "answer", "since")
_OF_A_TOOL = 200  # of its newest decisions, which are counted beside a question
_BESIDE = 4  # of them that are shown, of the user and of others
_KEPT_SECONDS = 60.0
_TOOLS = 500  # whose decisions are kept


@dataclass(frozen=True, slots=True)
class Earlier:
    """What was decided about a tool before.

    Attributes:
        counts: How many of the newest decisions ended how, by status.
        own: The newest of them that were about the user.
        others: The newest of them that were about others.
    """

    counts: dict[str, int]
    own: list[PastDecision]
    others: list[PastDecision]


class DecisionPages:
    """The page of past decisions, and those beside a question.

    Args:
        model: The installation.
        site: Makes the pages.
        reader: Gives the warehouse.
    """

    def __init__(self, model: AgentModel, site: Site, reader: WarehouseReader) -> None:
        self._model, self._site, self._reader = model, site, reader
        self._kept: dict[tuple[str, str], tuple[float, list[PastDecision]]] = {}
        self._lock = ForkSafeLock()

    def decisions(self, visit: Visit) -> Response:
        """Show what was decided, newest first, as of the last refresh."""
        visit.caller.need("reviewer", "operator")
        asked = {name: visit.asked(name) for name in _NARROW}
        kept, after = {name: text for name, text in asked.items() if text}, visit.asked("after")
        rows: list[PastDecision] = []
        cursor = None
        if self._reader.is_set:
            span = SPANS.get(asked["since"])
            narrow = {name: text for name, text in kept.items() if name != "since"}
            with self._reader.opened() as warehouse:
                rows, cursor = page_of_decisions(
                    self._model, warehouse, **narrow, since=None if span is None else datetime.now(UTC) - span,
                    limit=_SHOWN, cursor=after,
                )  # fmt: skip
        return self._site.page(
            visit.request, "decisions.html", visit, rows=rows, asked=asked, answers=ANSWERS, after=after,
            first=f"?{urlencode(kept)}", missing=not self._reader.is_set,
            older=None if cursor is None else f"?{urlencode({**kept, 'after': cursor})}",
        )  # fmt: skip

    def earlier(self, review: Review) -> Earlier | None:
        """Return what was decided about the tool of a question before; None where there is no warehouse to ask."""
        if not self._reader.is_set or not review.agent_id or not review.tool_id:
            return None
        try:
            found = self._of_tool(review.agent_id, review.tool_id)
        except WarehouseUnavailable as error:
            _log.warning("decisions.not_shown: the question is shown without earlier decisions: %s", error)
            return None
        found = [each for each in found if each.session_id != review.session_id]
        counts: dict[str, int] = {}
        for each in found:
            counts[each.status] = counts.get(each.status, 0) + 1
        own = [each for each in found if each.user_id == review.user_id]
        others = [each for each in found if each.user_id != review.user_id]
        return Earlier(counts, own[:_BESIDE], others[:_BESIDE])

    def _of_tool(self, agent_id: str, tool_id: str) -> list[PastDecision]:
        from agentmodel.redshift.decisions import DecisionFilter, past_decisions

        key = agent_id, tool_id
        with self._lock:
            read, found = self._kept.get(key, (-_KEPT_SECONDS, []))
            if time.monotonic() - read < _KEPT_SECONDS:
                return found
            with self._reader.opened() as warehouse:
                narrow = DecisionFilter(agent=agent_id, tool=tool_id)
                found = past_decisions(warehouse, narrow, limit=_OF_A_TOOL)
            if len(self._kept) >= _TOOLS:
                self._kept.clear()
            self._kept[key] = time.monotonic(), found
            return found
