"""Effect: what plans change, what cached answers saved, how runs went week by week, and how long history is kept."""

from __future__ import annotations

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


class EffectPages:
    """The page of effects, for operators.

    Args:
        model: The installation.
        site: Makes the pages.
        reader: Gives the warehouse.
    """

    def __init__(self, model: AgentModel, site: Site, reader: WarehouseReader) -> None:
        self._model, self._site, self._reader = model, site, reader

    def effect(self, visit: Visit) -> Response:
        """Show what plans and the cache change, as of the last refresh."""
        visit.caller.need("operator")
        settings = self._model.settings
        told: dict[str, Any] = {
            "missing": not self._reader.is_set, "impact": None, "rows": (), "savings": (), "course": "", "tokens": "",
            "keeping": settings, "saved": {},
        }  # fmt: skip
        if self._reader.is_set:
            with self._reader.opened() as warehouse:
                from agentmodel.redshift.reports import executions_per_day, tokens_per_tool

                found = self._model.impact()
                savings = self._model.savings()
                used = [each for each in tokens_per_tool(warehouse) if each.input_tokens or each.output_tokens]
                told |= {
                    "impact": found,
                    "rows": [_row(row) for row in found.rows[:_ROWS]],
                    "savings": savings[:_ROWS],
                    "saved": {
                        name: sum(getattr(row, name) for row in savings) for name in ("hits", "seconds", "tokens")
                    },
                    "course": weeks(executions_per_day(warehouse)),
                    "tokens": shares(
                        [(each.tool_name, each.input_tokens, each.output_tokens) for each in used[:_TOOLS]]
                    ),
                }
        return self._site.page(visit.request, "effect.html", visit, **told)


def _row(row: ImpactRow) -> dict[str, Any]:
    return {"row": row, "picture": _picture(row.success), "costs": [row.calls, row.tokens, row.seconds]}


def _picture(effect: Effect) -> Markup:
    if effect.low is None or effect.high is None or effect.change is None:
        return Markup("")
    return change(effect.low, effect.change, effect.high)
