"""Executions by the million: every row of every computed table is the oracle's.

The sessions are generated one by one from their numbers, twice: once to land them, as they were first and then as they
were corrected, and once to be read by the oracle, which never holds more than its counts.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from agentmodel.redshift import models as m
from agentmodel.redshift import reports
from agentmodel.redshift.warehouse import Warehouse
from tests.integration.redshift_oracle import CALL, Item, Oracle, category_of, compared, in_order, normal

AT = datetime(2025, 6, 14, 20, tzinfo=UTC)
DAY = date(2025, 6, 14)
AGENTS = [f"AGT{number:03}" for number in range(1, 201)]
LATER = str(int(AT.timestamp()) + 3600)
"""When calls that expire do: before the second state is shown."""

TIMES = [
    *[(DAY - timedelta(days=ago)).strftime("%Y%m%d") + "140605" for ago in (0, 0, 1, 2, 9, 30, 90, 365, 700)],
    *["20250614140605000001", "2025061414060512", "20250614140605"],
    *["20250701000000", "20991231235959", "20250230101010", "2025", ""],
]
CATEGORIES = [None, "", "카페", "카페#1", "stadium"]
NAMES = [None, "", "찾기", "지도에서 가까운 카페 찾기", "FIND_LOC"]


# -- sessions from their numbers --------------------------------------------------------------------------------------


def item(pk: str, sk: str, kind: str, texts: dict[str, str | None], numbers: dict[str, str | None]) -> Item:
    made: Item = {"PK": {"S": pk}, "SK": {"S": sk}, "EntityType": {"S": kind}}
    made |= {name: {"S": value} for name, value in texts.items() if value is not None}
    made |= {name: {"N": value} for name, value in numbers.items() if value is not None}
    return made


def one_of(pick: random.Random, pool: Sequence[Any]) -> Any:
    """One of a few, three times as fast as `Random.choice`."""
    return pool[int(pick.random() * len(pool))]


def catalogue() -> list[Item]:
    """Agents, some without a name and some without a domain, and their tools."""
    items = []
    for number, agent in enumerate(AGENTS):
        domain = None if number % 50 == 49 else f"DMN{number % 8:03}"
        name = [None, "", f"검색 에이전트 {number}"][number % 3]
        items.append(item(agent, "METADATA", "Agent", {"GSI1_PK": domain, "AgentNM": name}, {"Score": "60"}))
        for tool in range(1, 6):
            named = {"GSI1_PK": domain, "ToolNM": ["", f"도구 {tool}"][tool % 2]}
            items.append(item(agent, f"TL{tool:03}", "Tool", named, {}))
    return items


@dataclass
class Told:
    """A session in its first and in its last state; ``gone`` are the items that were deleted in between."""

    session: Item
    calls: list[Item]
    first: list[Item]
    changed: list[Item] = field(default_factory=list)
    gone: list[Item] = field(default_factory=list)


def told(number: int) -> Told:
    """Make a session: a user has ten, which go the same few ways."""
    pick = random.Random(number)  # noqa: S311 -- a history, not a secret
    user, name = f"USR{number // 10:07}", f"SESS{number % 10:03}"
    way = random.Random(number // 10 * 3 + one_of(pick, (0, 1, 2)))  # noqa: S311 -- likewise
    partition = f"{user}#{name}"
    outcome = one_of(pick, [None, None, "Y", "N", ""])
    values = {"Category": one_of(way, CATEGORIES), "SessionSuccYN": outcome, "UserRequest": "가까운 카페를 찾아줘"}
    session = item(user, name, "UserSession", values, {})
    agents = [one_of(way, AGENTS) for _ in range(1 + (number % 10 == 0))]
    calls = {}
    for step in range(one_of(way, (1, 2, 3))):
        key = f"PRC{step + 1:03}#{agents[step % len(agents)]}#TL{one_of(way, (1, 2, 3, 4, 5)):03}"
        tool = one_of(way, NAMES)
        for attempt in ["", "#002", "#003"][: one_of(pick, [1, 1, 1, 1, 2, 3])]:
            calls[key + attempt] = _call(pick, partition, key + attempt, tool)
    made = list(calls.values())
    return _history(number, session, made)


def _call(pick: random.Random, partition: str, key: str, tool: str | None) -> Item:
    texts = {
        "ToolNM": tool,
        "TransactDT": one_of(pick, TIMES),
        "SuccYN": one_of(pick, ["Y", "Y", "Y", "N", None]),
        "Status": one_of(pick, [None, None, None, "ok", "error", "rejected", ""]),
        "ResultMsg": "결과",
    }
    numbers = {
        "CallNo": one_of(pick, [None, "1", "2", "2", "10"]),
        "DurationMs": one_of(pick, [None, "1500", "1001"]),
        "InputTokens": one_of(pick, [None, "120"]),
        "OutputTokens": one_of(pick, [None, "7"]),
        "ExpiresAt": one_of(pick, [None, LATER]),
    }
    return item(partition, key, CALL, texts, numbers)


def _history(number: int, session: Item, calls: list[Item]) -> Told:
    """Say what came late: a review, an outcome put right, a call, a deletion by TTL, an erasure."""
    if number % 101 == 0:
        # what had expired was deleted by TTL, whoever deletes the session: it counts
        expired = [call for call in calls if "ExpiresAt" in call]
        return Told({}, expired, [session, *calls], gone=[session, *calls])
    if number % 37 == 0:
        reviewed = session | {"ReviewedSuccYN": {"S": "NY"[number % 2]}}
        return Told(reviewed, calls, [session, *calls], changed=[reviewed])
    if number % 41 == 0:
        return Told(session, calls, [session, *calls[:-1]], changed=[calls[-1]])
    if number % 43 == 0:
        right = calls[0] | {"SuccYN": {"S": "Y"}, "Status": {"S": "ok"}}
        return Told(session, [right, *calls[1:]], [session, *calls], changed=[right])
    if number % 53 == 0:
        return Told(session, calls, [session, *calls], gone=[call for call in calls if "ExpiresAt" in call])
    return Told(session, calls, [session, *calls])


# -- into the warehouse -----------------------------------------------------------------------------------------------


def later(count: int) -> Iterator[Told]:
    """The sessions that have another state later."""
    return (told(number) for number in range(count) if any(number % every == 0 for every in (101, 37, 41, 43, 53)))


def delete(warehouse: Warehouse, count: int, at: datetime) -> None:
    """Show deletions as zero-ETL with history mode does: the last version stays, with its time of deletion."""
    keys = [(gone["PK"]["S"], gone["SK"]["S"]) for one in later(count) for gone in one.gone]
    with warehouse.begin() as connection:
        connection.execute(text('CREATE TEMP TABLE gone ("PK" VARCHAR, "SK" VARCHAR)'))
        fill = text("INSERT INTO gone SELECT unnest(CAST(:pk AS VARCHAR[])), unnest(CAST(:sk AS VARCHAR[]))")
        connection.execute(fill, {"pk": [pk for pk, _ in keys], "sk": [sk for _, sk in keys]})
        mark = 'UPDATE "AgentTable" SET _record_is_active = FALSE, _record_delete_time = :at FROM gone'
        same = ' WHERE "AgentTable"."PK" = gone."PK" AND "AgentTable"."SK" = gone."SK"'
        connection.execute(text(mark + same), {"at": at.replace(tzinfo=None)})


# -- and compared -----------------------------------------------------------------------------------------------------


def rows_of(warehouse: Warehouse, model: Any, *order: Any) -> Iterator[tuple[Any, ...]]:
    """The rows of a table, a few at a time."""
    with warehouse.begin() as connection:
        result = connection.execute(select(*model.__table__.columns).order_by(*order))
        while rows := result.fetchmany(20_000):
            yield from map(tuple, rows)


def compare_executions(warehouse: Warehouse, oracle: Oracle, count: int) -> int:
    """Compare every execution with the oracle's, session by session; returns how many there are."""
    e = m.AgentExecution
    found = rows_of(warehouse, e, e.user_id, e.session_id, e.agent_id)
    seen = 0
    for number in range(count):
        one = told(number)
        category = category_of(one.session, (), derived=True)
        wanted = sorted((*row[:11], row.key, *row[11:]) for row in oracle.add_session(one.session, one.calls, category))
        assert wanted == list(islice(found, len(wanted))), number
        seen += len(wanted)
    assert [] == list(found)
    return seen


def compare(warehouse: Warehouse, name: str, wanted: Iterable[Iterable[Any]]) -> int:
    """Compare a table with the oracle's rows; returns how many there are."""
    table = compared()[name]
    found = Counter(normal(table, row) for row in warehouse.read(select(*table.columns)))

    assert Counter(normal(table, row) for row in wanted) == found
    return found.total()


def compare_rankings(warehouse: Warehouse, oracle: Oracle) -> None:
    """Compare both rankings: agents in order, equals on one place."""
    for ranking, column in (("classic", 10), ("evidence", 11)):
        value = {row[1]: row for row in in_order(compared()["agent_score_summary"], oracle.scores())}
        for domain, agents in oracle.domains().items():
            ranked = reports.agent_ranking(warehouse, as_of=DAY, domain_id=domain, ranking=ranking)  # type: ignore[arg-type]  # one of the two
            best = [float(value[row.agent_id][column]) for row in ranked]

            assert sorted(agents) == sorted(row.agent_id for row in ranked)
            assert sorted(best, reverse=True) == best
            assert [1 + sum(other > one for other in best) for one in best] == [row.rank for row in ranked]


def prove(path: Path, count: int, say: Callable[[str], None]) -> None:
    """Land, build, correct, bring up to date, and compare with the oracle."""
    with Warehouse.open(f"duckdb:///{path / 'history.duckdb'}", memory_limit="2GB") as warehouse:
        warehouse.create()
        warehouse.land(catalogue(), at=AT, complete=False)
        first = (one for number in range(count) for one in told(number).first)
        say(f"{warehouse.land(first, at=AT, complete=False).changed:,} items landed")
        warehouse.refresh(as_of=DAY)
        say("built")
        then = AT + timedelta(hours=2)
        corrections = (changed for one in later(count) for changed in one.changed)
        changed = warehouse.land(corrections, at=then, complete=False).changed
        delete(warehouse, count, then)
        warehouse.refresh(as_of=DAY)
        say(f"brought up to date: {changed:,} corrected or late, and what was deleted")
        oracle = Oracle(DAY)
        for one in catalogue():
            oracle.add_item(one)
        say(f"{compare_executions(warehouse, oracle, count):,} executions are equal")
        tables = {
            "user_process_patterns": oracle.patterns(),
            "agent_score_summary": oracle.scores(),
            "tool_error_summary": oracle.tool_errors(),
            "agent_daily": oracle.daily(),
            "agent_tool": oracle.tool_counts(),
        }
        for name, wanted in tables.items():
            say(f"{name}: {compare(warehouse, name, wanted):,} rows are equal")
        compare_rankings(warehouse, oracle)
        say("both rankings are equal")


def test_many_executions_are_the_oracles(tmp_path: Path) -> None:
    """Landed, built, corrected and brought up to date, every row of eight thousand sessions is the oracle's."""
    prove(tmp_path, 8_000, lambda _line: None)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_executions_are_the_oracles(tmp_path: Path) -> None:
    """The same with a million sessions: run it with ``-m long -s`` to see what was compared."""
    prove(tmp_path, 1_000_000, print)
