"""Select what calls cost by the prices of models, in the warehouse; in plain Python it is `agentmodel.prices`."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Date, Double, and_, case, cast, delete, func, insert, or_, select

from agentmodel.prices import Prices
from agentmodel.redshift import models as m
from agentmodel.redshift._constructs import constant, constant_day, day_of

__all__ = ["cost_of", "has_price", "load_prices"]

_ALWAYS: Final = date.max
"""The day until which a price without an end holds."""

_UNKNOWN_DAY: Final = date(9999, 12, 30)
"""A day on which only a price without an end holds."""


def has_price(call: Any, price: Any) -> ColumnElement[bool]:
    """Return whether a price is that of a call's model, and holds on its day for its request; see `ModelPrice.holds`.

    Args:
        call: The model of tool calls, or the columns of a select of it.
        price: The model of prices.
    """
    day = day_of(call.time)
    length = func.coalesce(call.request_input_tokens, call.input_tokens)
    return and_(
        or_(price.above_input == constant(0), length > price.above_input),
        or_(price.most_input.is_(None), length <= price.most_input),
        price.model_name == call.model_name,
        price.since <= func.coalesce(day, constant_day(m.UNDATED), type_=Date()),
        price.until > func.coalesce(day, constant_day(_UNKNOWN_DAY), type_=Date()),
    )


def cost_of(call: Any, price: Any) -> ColumnElement[float]:
    """Return what the model took for a call costs; NULL where it is unknown. See `ModelPrice.cost`.

    Args:
        call: As in `has_price`.
        price: The price that it is joined with, or none.
    """
    zero = constant(0)
    cached, kept, reasoning = (
        func.coalesce(part, zero) for part in (call.cached_tokens, call.cache_write_tokens, call.reasoning_tokens)
    )
    read = func.greatest(call.input_tokens - cached - kept, zero)
    written = func.greatest(call.output_tokens - reasoning, zero)
    parts: list[tuple[Any, Any]] = [
        (read, price.input),
        (cached, func.coalesce(price.cache_read, price.input)),
        (kept, func.coalesce(price.cache_write, price.input)),
        (written, price.output),
        (reasoning, func.coalesce(price.reasoning, price.output)),
    ]
    first, *others = (cast(tokens, Double) * each for tokens, each in parts)
    cost = first
    for other in others:
        cost = cost + other
    # engines differ in what the greatest of a number and NULL is
    told = and_(call.input_tokens.is_not(None), call.output_tokens.is_not(None))
    return cast(case((told, cost)), Double)


def load_prices(connection: Connection, prices: Prices) -> None:
    """Store the prices of the models that calls name; nothing is written where they are stored already."""
    h, p = m.UserToolMappingHist, m.ModelPriceRow
    named = connection.execute(select(h.model_name).distinct()).scalars()
    wanted = {
        (
            name, price.since or m.UNDATED, price.until or _ALWAYS, price.input, price.output, price.cache_read,
            price.cache_write, price.reasoning, price.above_input, price.most_input,
        )
        for name in named
        if name
        for price in prices.of(name)
    }  # fmt: skip
    columns = (
        p.model_name, p.since, p.until, p.input, p.output, p.cache_read, p.cache_write, p.reasoning, p.above_input,
        p.most_input,
    )  # fmt: skip
    if wanted != {tuple(row) for row in connection.execute(select(*columns))}:
        connection.execute(delete(p))
        if wanted:
            rows = [dict(zip((column.key for column in columns), row, strict=True)) for row in sorted(wanted, key=str)]
            connection.execute(insert(p).values(rows))
