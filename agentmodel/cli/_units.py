"""What an installation on AWS uses in a month, in the units that AWS bills, computed from what the code does.

How many items a session writes and reads was measured; a test measures it again. Prices are the reader's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from agentmodel.exceptions import ValidationError

__all__ = ["UnitUsage", "Volume", "priced", "usage"]

# of one session, measured by tests/integration/test_units.py
_SESSION_WRITES: Final = 2  # its item and the copy in the index; each step and each call is one more
_PLAN_WRITES: Final = 2  # a suggestion, and its outcome
_PLAN_READS: Final = 2.0  # four requests of half a unit at most; less once they are cached
_MOVED_WRITES: Final = 2  # as _SESSION_WRITES, where a publish moves the expiry; each step and each call is one more
_MOVED_READS: Final = 2.0  # its items once, consistently, and whether the run is still the newest
_LOOKED_AT_READS: Final = 0.5  # of a session whose expiry is moved, and again at each publish until the move has landed
_MAPPING_READS: Final = 1.1  # of each mapping at every publish: by its key, consistently, and 0.8 KB in the index
_ITEM_KB: Final = 0.4  # of a session or a step
_UNDRAINED_KB: Final = 1.6  # memory of Valkey for an entry that is not in the table yet
_MONTH_HOURS: Final = 730


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """What is recorded in a month.

    Attributes:
        calls: Tool calls.
        calls_of_session: Calls in a session.
        steps_of_session: Processes in a session.
        call_kb: KB of a call's item: its arguments, its result and 0.3.
        sessions_of_mapping: Sessions in a month for each mapping, which is a category of a user.
        planned: Share of sessions that ask for a plan.
        moved: Share of sessions whose expiry a publish moves, since their sequence of tools succeeds; 0 with equal
            AGENTMODEL_TTL_DAYS_LOW and AGENTMODEL_TTL_DAYS_HIGH.
        peak: How many times as much as the average the busiest second has.
        refreshes: Refreshes and publishes.
        refresh_seconds: Seconds that a refresh keeps the warehouse awake; Redshift Serverless bills 60 at least.
        base_rpu: Base capacity of Redshift Serverless.

    >>> for row in usage(Volume(calls=1_000_000))[:3]:
    ...     print(f"{row.amount:,.0f} {row.unit}: {row.made_of}")
    5,000,000 dynamodb write request units: records, moved expiries, suggestions
    21,050,000 dynamodb read request units: plans, moved expiries, and each publish reads every mapping
    2 dynamodb gb-months: items of 30 to 60 days, without indexes
    """

    calls: int
    calls_of_session: float = 4.0
    steps_of_session: float = 3.0
    call_kb: float = 0.6
    sessions_of_mapping: float = 10.0
    planned: float = 1.0
    moved: float = 1.0
    peak: float = 10.0
    refreshes: int = 720
    refresh_seconds: float = 60.0
    base_rpu: int = 8


@dataclass(frozen=True, slots=True)
class UnitUsage:
    """What is used of a unit in a month.

    Attributes:
        unit: The unit, as a file of prices names it.
        amount: How much of it.
        made_of: What it is made of.
        cost: What it costs at the reader's prices; None without one.

    >>> row = UnitUsage("dynamodb write request units", 5_000_000.0, "records", cost=3.5)
    >>> f"{row.cost:.2f} for {row.amount:,.0f} {row.unit}"
    '3.50 for 5,000,000 dynamodb write request units'
    """

    unit: str
    amount: float
    made_of: str
    cost: float | None = None


def usage(volume: Volume) -> list[UnitUsage]:
    """Return what a volume uses in a month, of the template with all its parts.

    Raises:
        ValidationError: A number of the volume is negative, or a count of a session or the peak is below its least.
    """
    _check(volume)
    v = volume
    sessions = v.calls / v.calls_of_session
    call_units = math.ceil(v.call_kb)
    recorded = sessions * (_SESSION_WRITES + v.steps_of_session) + v.calls * call_units
    moved = sessions * v.moved * (_MOVED_WRITES + v.steps_of_session + v.calls_of_session * call_units)
    writes = recorded + moved + sessions * v.planned * _PLAN_WRITES
    batches = 24 * 30  # of zero-ETL, one an hour
    looked_at = sessions * v.moved * _LOOKED_AT_READS * (1 + math.ceil(v.refreshes / batches))
    mappings = sessions / v.sessions_of_mapping * _MAPPING_READS * v.refreshes
    reads = sessions * v.planned * _PLAN_READS + sessions * v.moved * _MOVED_READS + looked_at + mappings
    written_gb = (v.calls * v.call_kb + sessions * _ITEM_KB * (1 + v.steps_of_session)) / 1e6
    kept_gb = written_gb * (30 + 30 * v.moved) / 30
    items_a_second = sessions * (1 + v.steps_of_session + v.calls_of_session) / (30 * 86_400)
    rpu_hours = (v.refreshes * max(60.0, v.refresh_seconds) + batches * 60) * v.base_rpu / 3600
    return [
        UnitUsage("dynamodb write request units", writes, "records, moved expiries, suggestions"),
        UnitUsage("dynamodb read request units", reads, "plans, moved expiries, and each publish reads every mapping"),
        UnitUsage("dynamodb gb-months", kept_gb, "items of 30 to 60 days, without indexes"),
        UnitUsage("dynamodb recovery gb-months", kept_gb, "point-in-time recovery, which zero-ETL needs"),
        UnitUsage("dynamodb export gb", written_gb * (1 + v.moved), "zero-ETL's incremental exports"),
        UnitUsage("valkey node hours", 2 * _MONTH_HOURS, "a shard with one replica"),
        UnitUsage("redshift rpu hours", rpu_hours, "refreshes, and an hourly batch of zero-ETL, 60 seconds at least"),
        UnitUsage("redshift gb-months", written_gb * 12, "landed and base tables after a year, before compression"),
        UnitUsage("fargate vcpu hours", 2 * 0.25 * _MONTH_HOURS, "two tasks of the drainer"),
        UnitUsage("fargate gb hours", 2 * 0.5 * _MONTH_HOURS, "two tasks of the drainer"),
        UnitUsage("lambda gb seconds", v.refreshes * v.refresh_seconds + 60 * 24 * 30 * 0.5,
              "learn as long as it waits, and a second of watch each minute"),
        UnitUsage("peak write units a second", v.peak * recorded / (30 * 86_400),
                  "not billed: records in the busiest second, to compare with the table's limit"),
        UnitUsage("valkey gb for an hour without table", items_a_second * v.peak * 3600 * _UNDRAINED_KB / 1e6,
              "not billed: memory of the nodes"),
    ]  # fmt: skip


def _check(volume: Volume) -> None:
    least = {"calls_of_session": 1, "sessions_of_mapping": 1, "peak": 1, "base_rpu": 4, "call_kb": 0.1}
    for name in Volume.__dataclass_fields__:
        value = getattr(volume, name)
        if not math.isfinite(value) or value < least.get(name, 0):
            raise ValidationError(name, value, f"must be a number from {least.get(name, 0)} up")
        if name in ("planned", "moved") and value > 1:
            raise ValidationError(name, value, "must be a share, from 0 to 1")


def priced(rows: list[UnitUsage], prices: Mapping[str, Any]) -> list[UnitUsage]:
    """Return the rows with what they cost.

    Args:
        rows: What `usage` returned.
        prices: ``as_of``, the day on which they were read, and ``prices`` by unit. A unit without one has no cost.

    Raises:
        ValidationError: There is no day, or a price is of no unit or is no number.

    >>> prices = {"as_of": "2026-01-01", "prices": {"dynamodb write request units": 7e-7}}
    >>> rows = priced(usage(Volume(calls=1_000_000)), prices)
    >>> rows[0].unit, round(rows[0].cost, 2), rows[1].cost
    ('dynamodb write request units', 3.5, None)
    """
    try:
        date.fromisoformat(str(prices.get("as_of")))
    except ValueError:
        raise ValidationError(
            "as_of", prices.get("as_of"), "must be the day the prices were read, as 2026-12-01"
        ) from None
    units = {row.unit for row in rows}
    given = prices.get("prices", {})
    if not isinstance(given, Mapping):
        raise ValidationError("prices", given, 'must be an object of prices by unit, as {"redshift rpu hours": 0.36}')
    for unit, price in given.items():
        if unit not in units:
            raise ValidationError("prices", unit, "must be one of the units: " + ", ".join(sorted(units)))
        if not isinstance(price, int | float) or isinstance(price, bool) or not 0 <= price < math.inf:
            raise ValidationError(f"price of {unit}", price, "must be a number from 0 up")
    return [
        UnitUsage(row.unit, row.amount, row.made_of, row.amount * given[row.unit] if row.unit in given else None)
        for row in rows
    ]
