"""Effect: what plans change, cached answers saved and models cost, how runs went, and how long history is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from starlette.responses import Response

from agentmodel._runtime.process import ForkSafeLock
from agentmodel.client import AgentModel
from agentmodel.console._entrance import Visit
from agentmodel.console._reader import WarehouseReader
from agentmodel.console._site import Site
from agentmodel.console._timeline import bars, change, shares, weeks
from agentmodel.console._words import LANGUAGES, translator
from agentmodel.suggest.evaluate import Effect, ImpactRow, WrongStepRow

if TYPE_CHECKING:
    from agentmodel.redshift.warehouse import Warehouse

__all__ = ["EffectPages"]

_ROWS = 100  # of each table
_BARS = 15  # of each chart
_COMPARED = 10_000  # calls of a history whose runs a visit compares: .25 s of processor time


class EffectPages:
    """The page of effects, for operators.

    Args:
        model: The installation.
        site: Makes the pages.
        reader: Gives the warehouse.
    """

    def __init__(self, model: AgentModel, site: Site, reader: WarehouseReader) -> None:
        self._model, self._site, self._reader = model, site, reader
        self._lock = ForkSafeLock()  # of several who ask at once, one computes
        self._known: tuple[str, Mapping[str, Any]] = ("", {})

    def effect(self, visit: Visit) -> Response:
        """Show what plans and the cache change, as of the last refresh."""
        visit.caller.need("operator")
        language = self._site.language(visit.request)
        say, _ = translator(language)
        told: dict[str, Any] = {"missing": not self._reader.is_set, "keeping": self._model.settings}
        if self._reader.is_set:
            with self._reader.opened() as warehouse:
                found = self._model.impact()
                sentence = " ".join(say(text).format(**values) for text, values in found.texts)
                told |= {"sentence": sentence, "rows": [_row(row) for row in found.rows[:_ROWS]]}
                told |= self._counted(warehouse)
                told |= {"course": told["courses"][language], "wrong": _wrong(told["wrong_steps"] or (), say)}
        return self._site.page(visit.request, "effect.html", visit, **told)

    def _counted(self, warehouse: Warehouse) -> Mapping[str, Any]:
        """Return what is counted from all calls, and is counted again after a refresh or an erasure."""
        from sqlalchemy import func

        from agentmodel.redshift import models as m
        from agentmodel.redshift.reports import (
            costs,
            executions_per_day,
            recommended_patterns,
            tokens_per_tool,
            tool_failures,
        )

        marks = m.rows_of(m.RefreshWatermark.seen_until, m.RefreshWatermark.as_of)
        erased = m.rows_of(func.count()).select_from(m.ErasedUser)
        with self._lock:
            seen = [*warehouse.read(marks)]
            state = repr([*seen, *warehouse.read(erased)])
            known, counted = self._known
            if known == state:
                return counted
            savings, paid, failures = self._model.savings(), costs(warehouse), tool_failures(warehouse)
            used = [each for each in tokens_per_tool(warehouse) if each.input_tokens or each.output_tokens]
            daily, days = executions_per_day(warehouse), [day for _, day in seen if day is not None]
            patterns = recommended_patterns(warehouse, as_of=max(days, default=datetime.now(UTC)), most=_BARS)
            best = sorted(patterns, key=lambda row: -row.score)
            calls = sum(each.calls for each in failures)
            wrong = sorted(self._model.wrong_steps(), key=lambda row: -row.runs) if calls <= _COMPARED else None
            names = {each.agent_id: each.agent_name for each in failures}
            counted = {
                "savings": savings[:_ROWS],
                "saved": {key: sum(getattr(row, key) for row in savings) for key in ("hits", "seconds", "tokens")},
                "costs": [{"agent": names.get(row.agent_id, row.agent_id), "cost": row} for row in paid[:_ROWS]],
                "courses": {language: weeks(daily, language=language) for language in LANGUAGES},
                "patterns": bars([(" · ".join((row.user_id, row.category or "–", row.tool_sequence)),
                                   f"{row.score:,.2f}", row.score) for row in best]),
                "shown": len(best),
                "wrong_steps": None if wrong is None else wrong[:_BARS],
                "failing": shares(
                    [(f"{each.tool_name} · {each.agent_name}", each.errors, each.calls - each.errors)
                     for each in failures[:_BARS] if each.errors], ("bad", "good")
                ),
                "tokens": shares([(each.tool_name, each.input_tokens, each.output_tokens) for each in used[:_BARS]]),
            }  # fmt: skip
            self._known = state, counted
            return counted


def _row(row: ImpactRow) -> dict[str, Any]:
    costs = (("%.1f", 1, row.calls), ("%.0f", 1, row.tokens), ("%.1f", 1, row.seconds), ("%.6f", 1_000_000, row.money))
    return {"row": row, "picture": _picture(row.success), "costs": [_means(*each) for each in costs]}


def _wrong(rows: Sequence[WrongStepRow], say: Callable[[str], str]) -> Markup:
    """Draw where failed runs went wrong, in a language."""
    return bars(
        [(" · ".join((row.domain, row.category or "–", say(row.answer), *filter(None, [row.tool]))), f"{row.runs:,}",
          row.runs) for row in rows], "bad"
    )  # fmt: skip


def _means(form: str, unit: int, effect: Effect) -> str:
    """Return the means with a plan and without; a mean that is not known is a dash."""
    return " / ".join("–" if each is None else form % (each / unit) for each in (effect.with_plan, effect.without_plan))


def _picture(effect: Effect) -> Markup:
    if effect.low is None or effect.high is None or effect.change is None:
        return Markup("")
    return change(effect.low, effect.change, effect.high)
