"""What a refresh costs: a full build, and 10,000 new executions on top of what is stored.

Run `python benchmarks/warehouse.py --calls 1000000 3000000`. Items are made by DuckDB itself, straight into the landed
table, so that only the refresh is measured. `--land N` measures landing N items through Arrow as well.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from agentmodel.redshift.pipeline import Warehouse

DAY = date(2025, 6, 14)
CALLS_PER_SESSION = 10
NEW = 10_000

CATALOGUE = """
INSERT INTO "AgentTable" ("PK", "SK", "value", "_record_is_active", "_record_create_time")
SELECT 'AGT' || n, 'METADATA',
  ('{"EntityType":{"S":"Agent"},"GSI1_PK":{"S":"DMN' || n % 3 || '"},'
   || '"AgentNM":{"S":"검색 ' || n || '"}}')::JSON,
  TRUE, TIMESTAMP '2025-01-01' FROM range(100, 140) t(n)
"""
HISTORY = """
INSERT INTO "AgentTable" ("PK", "SK", "value", "_record_is_active", "_record_create_time")
SELECT 'USR' || (s * 7919) % 20000 || '#SESS' || lpad(s::VARCHAR, 10, '0'),
  'PRC' || lpad((c % 4 + 1)::VARCHAR, 3, '0') || '#AGT' || (100 + s % 40) || '#TL' || lpad(c::VARCHAR, 3, '0'),
  ('{"EntityType":{"S":"UserSessPrcToolMappHist"},"ToolNM":{"S":"도구 ' || c || '"},"ToolValues":{"S":"값"},'
   || '"TransactDT":{"S":"' || strftime(TIMESTAMP '2025-01-01' + to_minutes(s % 200000), '%Y%m%d%H%M%S') || '000000"},'
   || '"SuccYN":{"S":"' || CASE WHEN (s * 31 + c * 7) % 23 = 0 THEN 'N' ELSE 'Y' END || '"},'
   || '"CallNo":{"N":"' || c || '"},'
   || '"ResultMsg":{"S":"결과"}}')::JSON,
  TRUE, TIMESTAMP '2025-01-01' + to_seconds(s::BIGINT * 10)
FROM range(:first, :last) sessions(s), range(1, :calls) calls(c)
WHERE c <= :calls - 1 - s % 5
ORDER BY s
"""


def timed(call: Callable[[], Any]) -> float:
    """Seconds of processor-shared wall time that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def make(warehouse: Warehouse, first: int, last: int) -> None:
    """Write the calls of the sessions from ``first`` to ``last`` into the landed table."""
    with warehouse.begin() as connection:
        connection.execute(text(HISTORY), {"first": first, "last": last, "calls": CALLS_PER_SESSION + 3})


def measure(calls: int, folder: Path, memory: str) -> tuple[int, float, float, float]:
    """Return rows, seconds of a full build, of a refresh after 10,000 new calls, and of one after nothing new."""
    sessions = calls // CALLS_PER_SESSION
    with Warehouse.open(f"duckdb:///{folder / f'{calls}.duckdb'}", memory_limit=memory) as warehouse:
        warehouse.create()
        with warehouse.begin() as connection:
            connection.execute(text(CATALOGUE))
        make(warehouse, 0, sessions)
        full = timed(lambda: warehouse.refresh(as_of=DAY))
        make(warehouse, sessions + 400, sessions + 400 + NEW // CALLS_PER_SESSION)
        new = timed(lambda: warehouse.refresh(as_of=DAY))
        idle = timed(lambda: warehouse.refresh(as_of=DAY))
        return warehouse.counts()["user_tool_mapping_hist"], full, new, idle


def items(count: int) -> Iterator[dict[str, dict[str, str]]]:
    """Make items as a table scan gives them."""
    for number in range(count):
        yield {
            "PK": {"S": f"USR{number % 999}#SESS{number // 10}"},
            "SK": {"S": f"PRC001#AGT001#TL{number % 10}"},
            "EntityType": {"S": "UserSessPrcToolMappHist"},
            "ToolNM": {"S": "FIND_LOC"},
            "ToolValues": {"S": "서울 잠실종합운동장"},
            "TransactDT": {"S": "20250614140605000000"},
            "SuccYN": {"S": "Y"},
            "ResultMsg": {"S": "ok"},
        }


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[300_000, 1_000_000])
    parser.add_argument("--land", type=int, default=100_000)
    parser.add_argument("--memory", default="4GB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'calls':>12} {'full s':>8} {'new s':>8} {'idle s':>8} {'new/full':>9}")
        for calls in options.calls:
            rows, full, new, idle = measure(calls, Path(folder), options.memory)
            print(f"{rows:>12,} {full:>8.2f} {new:>8.2f} {idle:>8.2f} {new / full:>9.1%}")
        with Warehouse.open(f"duckdb:///{Path(folder) / 'land.duckdb'}", memory_limit=options.memory) as warehouse:
            warehouse.create()
            now = datetime.now(UTC)
            seconds = timed(lambda: warehouse.land(items(options.land), at=now))
            again = timed(lambda: warehouse.land(items(options.land), at=now))
            rates = f"{options.land / seconds:,.0f}/s; unchanged: {options.land / again:,.0f}/s"
            print(f"landing {options.land:,} items: {rates}")


if __name__ == "__main__":
    main()
