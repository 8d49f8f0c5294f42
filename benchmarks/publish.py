"""Measure a publish after few new runs, beside histories that grow: what it reads, and how long it takes.

    python benchmarks/publish.py                                        # 500 and 5,000 sessions
    DYNOXIDE=/path/to/dynoxide python benchmarks/publish.py --table dynoxide

200 users have one category each, so that ten times the history is ten times the sessions of each mapping. After a first
publish, 50 sessions of 10 users are added, and the next publish is measured, and one after it with nothing new:
sessions that the warehouse returned and that were read from the table, runs whose calls were read, and seconds. Moving
the expiries of the new sessions is most of the former's time. "All" is a publish that reads every session of 60 days
and the newest 40 runs of every category.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from pydantic import SecretStr
from servers import serving

from agentmodel import Agent, AgentModel, Domain, Settings, Tool, ToolExecution, UserSession, UserSessionProcess
from agentmodel.suggest.publish import _run_writes, _warehouse_queries

SIZES = (500, 5_000)
USERS, NEW_USERS, NEW = 200, 10, 50
TOOLS = ("TL001", "TL002", "TL003")
NOW = datetime.now(UTC)


def session(number: int, user: int, days: int) -> list[dict[str, Any]]:
    """Return the items of a session of three calls, one in five of which failed."""
    user_id, session_id = f"USR{user:04}", f"SESS{number:07}"
    at = NOW - timedelta(minutes=number % 20_000)
    kept: Any = {"expires_at": at + timedelta(days=days)}
    ids: Any = {"user_id": user_id, "session_id": session_id}
    own = UserSession(**ids, name="s", category="cafe", started_at=at, succeeded=number % 5 > 0, ttl_days=days, **kept)
    found: list[Any] = [own]
    for place, name in enumerate(TOOLS, start=1):
        process_id = f"PRC{place:03}"
        found.append(UserSessionProcess(**ids, process_id=process_id, name="step", started_at=at, **kept))
        values = json.dumps({"amount": number % 3})
        found.append(ToolExecution(**ids, process_id=process_id, agent_id="AGT001", tool_id=name, tool_name=name,
                                   values=values, executed_at=at, succeeded=True, result="ok", **kept))  # fmt: skip
    return [each.to_item() for each in found]


@contextmanager
def counted(*, everything: bool) -> Iterator[Counter[str]]:
    """Count what a publish reads while the block runs; with ``everything`` it reads all there is."""
    found: Counter[str] = Counter()
    scores, calls, are_of = _warehouse_queries.session_scores, _warehouse_queries.run_calls, _run_writes._are_of

    def session_scores(warehouse: Any, settings: Settings, **options: Any) -> Any:
        all_of_them = settings.model_copy(update={"ttl_score": -1.0, "ttl_days_low": 98, "ttl_days_high": 99})
        rows = scores(warehouse, all_of_them if everything else settings, **options)
        found["sessions"] += len(rows)
        return rows

    def run_calls(warehouse: Any, scopes: Any) -> Any:
        rows = calls(warehouse, scopes)
        found["runs"] += sum(map(len, rows.values()))
        return rows

    with (
        patch.object(_warehouse_queries, "session_scores", session_scores),
        patch.object(_warehouse_queries, "run_calls", run_calls),
        patch.object(_run_writes, "_are_of", (lambda *_: False) if everything else are_of),
    ):
        yield found


def publish(model: AgentModel, *, everything: bool) -> tuple[Counter[str], float]:
    """Publish, and return what was read and the seconds."""
    with counted(everything=everything) as found:
        begun = time.perf_counter()
        model.publish(as_of=NOW)
        return found, time.perf_counter() - begun


def measure(size: int, engine: str) -> None:
    """Print a line for the publish as it is, and one for the publish that reads everything."""
    with serving(engine) as endpoint:
        settings = Settings(
            endpoint=endpoint, access_key_id="local", secret_access_key=SecretStr("local"), warehouse_url="duckdb://",
            dynamodb_timeout=300.0,
        )  # fmt: skip
        with AgentModel(settings) as model:
            model.table.create()
            model.repository.put(
                Domain(domain_id="DMN001", name="search"), Agent(agent_id="AGT001", domain_id="DMN001", name="finder"),
                *(Tool(agent_id="AGT001", tool_id=name, domain_id="DMN001", name=name) for name in TOOLS),
            )  # fmt: skip
            add(model, range(size), USERS, 60)
            model.refresh(as_of=NOW)
            model.publish(as_of=NOW)
            for everything in (True, False):
                at = size + NEW * (1 + everything)
                add(model, range(at, at + NEW), NEW_USERS, 30)
                for news in (NEW, 0):
                    model.refresh(as_of=NOW)
                    found, seconds = publish(model, everything=everything)
                    print(f"{size:>8,}  {'all' if everything else 'changed':8} {news:>3} new {found['sessions']:>8,} "
                          f"sessions {found['runs']:>8,} runs {seconds:>7.2f} s", flush=True)  # fmt: skip


def add(model: AgentModel, numbers: range, users: int, days: int) -> None:
    """Write the sessions of these numbers."""
    for start in range(numbers.start, numbers.stop, 1_000):
        part = range(start, min(start + 1_000, numbers.stop))
        left = model.writer.put_many([item for number in part for item in session(number, number % users, days)])
        if left:
            raise SystemExit(f"error: {len(left)} items were not written")


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, nargs="*", default=SIZES)
    parser.add_argument("--table", choices=("moto", "dynoxide"), default="moto")
    given = parser.parse_args()
    for size in given.sessions:
        measure(size, given.table)


if __name__ == "__main__":
    main()
