"""Savings: what answers from the response cache saved, measured on recorded runs.

Runs with answers from the cache are compared with runs of the same category without.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from agentmodel.redshift.warehouse import Warehouse

__all__ = ["SavingsRow", "savings"]

_Z90 = 1.6448536269514722  # standard deviations of a central 90 % interval


@dataclass(frozen=True, slots=True)
class SavingsRow:
    """What runs of a category cost with cached answers, and without.

    Attributes:
        category: The kind of request; empty where it has none.
        unit: What is counted: ``calls`` that were made, or the recorded ``tokens`` of all calls.
        hits: Calls that were answered from the cache.
        runs_with: Runs with such an answer.
        runs_without: Runs without one.
        mean_with: Mean of the unit in runs with a cached answer; None where there are none.
        mean_without: Mean of the unit in runs without one; None where there are none.
        saved: The difference of the means; None where there are not at least two runs of each kind.
        low: Lower bound of the 90 % interval of ``saved``.
        high: Upper bound of the interval.
    """

    category: str
    unit: Literal["calls", "tokens"]
    hits: int
    runs_with: int
    runs_without: int
    mean_with: float | None
    mean_without: float | None
    saved: float | None
    low: float | None
    high: float | None


def savings(warehouse: Warehouse) -> list[SavingsRow]:
    """Measure on the runs of a refreshed warehouse what cached answers saved in each category.

    Calls are those that were made; tokens are those of all calls, since the model asked for each. Runs were not
    assigned to the two kinds at random, so the difference is what was seen, and need not have been caused by caching.

    Returns:
        A row for the calls of each category with cached answers, and one for its tokens where they were recorded.
    """
    from sqlalchemy import ColumnElement, and_, case, func, literal_column, or_

    from agentmodel.redshift import models as m
    from agentmodel.redshift.models import rows_of

    h, s = m.UserToolMappingHist, m.UserSessionRow
    one: ColumnElement[int] = literal_column("1")
    none: ColumnElement[int] = literal_column("0")
    cached = h.status == literal_column("'cache_hit'")
    made = or_(h.status.is_(None), h.status.in_([literal_column(f"'{status}'") for status in ("", "ok", "error")]))
    rows = (
        rows_of(
            func.coalesce(s.category, literal_column("''")).label("category"),
            h.user_id,
            h.session_id,
            func.sum(case((cached, one), else_=none)),
            func.sum(case((made, one), else_=none)),
            func.sum(func.coalesce(h.input_tokens, none) + func.coalesce(h.output_tokens, none)),
            func.count(h.input_tokens) + func.count(h.output_tokens),
        )
        .outerjoin(s, and_(s.user_id == h.user_id, s.session_id == h.session_id))
        .group_by(s.category, h.user_id, h.session_id)
        .order_by(s.category, h.user_id, h.session_id)
    )
    runs: dict[str, list[tuple[int, int, int | None]]] = defaultdict(list)
    for category, _, _, hits, calls, tokens, counted in warehouse.read(rows):
        runs[category].append((int(hits), int(calls), int(tokens) if counted else None))
    found = []
    for category, own in sorted(runs.items()):
        if any(hits for hits, _, _ in own):
            found.append(_row(category, "calls", [(hits, calls) for hits, calls, _ in own]))
            measured = [(hits, tokens) for hits, _, tokens in own if tokens is not None]
            if measured:
                found.append(_row(category, "tokens", measured))
    return found


def _row(category: str, unit: Literal["calls", "tokens"], runs: Sequence[tuple[int, int]]) -> SavingsRow:
    with_ = [amount for hits, amount in runs if hits]
    without = [amount for hits, amount in runs if not hits]
    saved = low = high = None
    if len(with_) > 1 and len(without) > 1:
        saved = _mean(without) - _mean(with_)
        spread = _Z90 * math.sqrt(_variance(without) / len(without) + _variance(with_) / len(with_))
        low, high = saved - spread, saved + spread
    return SavingsRow(
        category=category,
        unit=unit,
        hits=sum(hits for hits, _ in runs),
        runs_with=len(with_),
        runs_without=len(without),
        mean_with=_mean(with_) if with_ else None,
        mean_without=_mean(without) if without else None,
        saved=saved,
        low=low,
        high=high,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)
