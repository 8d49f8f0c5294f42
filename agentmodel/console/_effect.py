"""Effect: what plans change, what cached answers saved, how runs went week by week, and how long history is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from agentmodel.client import AgentModel
from agentmodel.console._entrance import Visit
from agentmodel.console._reader import WarehouseReader
from agentmodel.console._site import Site
from agentmodel.console._timeline import change, shares, weeks
from agentmodel.suggest.evaluate import Effect, ImpactRow

__all__ = ["EffectPages"]

_ROWS = 100  # of each table
_TOOLS = 15  # of the chart of tokens
_KEPT_SECONDS = 300.0
_NOTHING: Mapping[str, Any] = {"impact": None, "rows": (), "savings": (), "saved": {}, "course": "", "tokens": ""}


class EffectPages:
    """The page of effects, for operators.

    Args:
        model: The installation.
        site: Makes the pages.
        reader: Gives the warehouse.
        now: Returns seconds.
    """

    def __init__(
        self, model: AgentModel, site: Site, reader: WarehouseReader, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._model, self._site, self._reader, self._now = model, site, reader, now
        self._lock = threading.Lock()  # of several who ask at once, one computes
        self._known: tuple[str, float, Mapping[str, Any]] = ("", 0.0, _NOTHING)

    def effect(self, visit: Visit) -> Response:
        """Show what plans and the cache change, as of the last refresh."""
        visit.caller.need("operator")
        told: dict[str, Any] = {"missing": not self._reader.is_set, "keeping": self._model.settings}
        measured = self._measured() if self._reader.is_set else _NOTHING
        return self._site.page(visit.request, "effect.html", visit, **told, **measured)

    def _measured(self) -> Mapping[str, Any]:
        """Return what the warehouse says, which is asked again after a refresh or an erasure, and after five minutes.

        Savings are computed from all calls, which takes seconds where there are millions.
        """
        with self._lock, self._reader.opened() as warehouse:
            from sqlalchemy import func

            from agentmodel.redshift import models as m
            from agentmodel.redshift.reports import executions_per_day, tokens_per_tool

            marks = m.rows_of(m.RefreshWatermark.seen_until, m.RefreshWatermark.as_of)
            erased = m.rows_of(func.count()).select_from(m.ErasedUser)
            state = repr([*warehouse.read(marks), *warehouse.read(erased)])
            known, at, measured = self._known
            if known == state and self._now() - at < _KEPT_SECONDS:
                return measured
            found, savings = self._model.impact(), self._model.savings()
            used = [each for each in tokens_per_tool(warehouse) if each.input_tokens or each.output_tokens]
            measured = {
                "impact": found,
                "rows": [_row(row) for row in found.rows[:_ROWS]],
                "savings": savings[:_ROWS],
                "saved": {key: sum(getattr(row, key) for row in savings) for key in ("hits", "seconds", "tokens")},
                "course": weeks(executions_per_day(warehouse)),
                "tokens": shares([(each.tool_name, each.input_tokens, each.output_tokens) for each in used[:_TOOLS]]),
            }
            self._known = state, self._now(), measured
            return measured


def _row(row: ImpactRow) -> dict[str, Any]:
    return {"row": row, "picture": _picture(row.success), "costs": [row.calls, row.tokens, row.seconds]}


def _picture(effect: Effect) -> Markup:
    if effect.low is None or effect.high is None or effect.change is None:
        return Markup("")
    return change(effect.low, effect.change, effect.high)
