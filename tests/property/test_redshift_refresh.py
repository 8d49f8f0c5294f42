"""Any history, cut into any batches, gives what a plain-Python reading of it gives.

The oracle below knows no SQL and no increments: it reads the whole history anew each time. `Feed` plays DynamoDB
zero-ETL with history mode: versions of items that become visible late, and in another order than they were written.
"""

from __future__ import annotations

import gzip
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from agentmodel.exceptions import WarehouseUnavailable
from agentmodel.redshift import models as m
from agentmodel.redshift import reports, score
from agentmodel.redshift.pipeline import Warehouse

Item = dict[str, dict[str, Any]]
START = datetime(2025, 6, 14, 9, tzinfo=UTC)
HALF_LIFE = 30.0
TRACES = Path(__file__).parents[2].parent / "shared" / "data" / "traces"


# -- the oracle -------------------------------------------------------------------------------------------------------


def s(item: Item, name: str) -> str | None:
    value = item.get(name, {}).get("S")
    return None if value is None else str(value)


def n(item: Item, name: str) -> float | None:
    value = item.get(name, {}).get("N")
    return None if value is None or not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]+)?", value) else float(value)


def is_time(value: str | None) -> bool:
    """Whether a text has the shape of a time; that February has no 30th is the calendar's to know."""
    if value is None or not re.fullmatch("[1-9][0-9]{13,19}", value):
        return False
    month, day, hour, minute, second = (int(value[at : at + 2]) for at in (4, 6, 8, 10, 12))
    return 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60


def day_of(value: str | None) -> date | None:
    if value is None or not is_time(value):
        return None
    try:
        return datetime.strptime(value[:8], "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None


@dataclass(frozen=True)
class Call:
    user: str
    session: str
    process: str
    agent: str
    tool: str
    attempt: int
    item: Item

    @property
    def status(self) -> str | None:
        return s(self.item, "Status") or None

    @property
    def counts(self) -> bool:
        return self.status in (None, "ok", "error")

    @property
    def ok(self) -> bool:
        return self.status == "ok" or (self.status is None and s(self.item, "SuccYN") == "Y")

    @property
    def day(self) -> date | None:
        return day_of(s(self.item, "TransactDT"))

    @property
    def clock(self) -> str:
        value = s(self.item, "TransactDT") or ""
        return value.ljust(20, "0") if is_time(value) else "9" * 20


@dataclass(frozen=True)
class Execution:
    category: str
    success: bool
    calls: int
    first: date | None
    last: date | None
    seconds: float | None
    processes: str
    tools: str


def first(days: Iterable[date | None]) -> date | None:
    return min((day for day in days if day is not None), default=None)


def last(days: Iterable[date | None]) -> date | None:
    return max((day for day in days if day is not None), default=None)


@dataclass
class Oracle:
    """What the present items say, as of a day."""

    items: dict[tuple[str, str], Item]
    as_of: date
    calls: list[Call] = field(init=False)

    def __post_init__(self) -> None:
        self.calls = [call for call in map(self._call, self.of("UserSessPrcToolMappHist")) if call.counts]

    def of(self, kind: str) -> list[Item]:
        return [item for item in self.items.values() if s(item, "EntityType") == kind]

    def _call(self, item: Item) -> Call:
        user, session = item["PK"]["S"].split("#")[:2]
        process, agent, tool, *attempt = item["SK"]["S"].split("#")
        return Call(user, session, process, agent, tool, int(attempt[0]) if attempt else 1, item)

    def executions(self) -> dict[tuple[str, str, str], Execution]:
        groups: dict[tuple[str, str, str], list[Call]] = defaultdict(list)
        for call in self.calls:
            groups[call.user, call.session, call.agent].append(call)
        return {key: self._execution(key, calls) for key, calls in groups.items()}

    def _execution(self, key: tuple[str, str, str], calls: list[Call]) -> Execution:
        session = self.items.get(key[:2], {})
        steps: dict[tuple[str, str], list[Call]] = defaultdict(list)
        for call in calls:
            steps[call.process, call.tool].append(call)

        def place(step: tuple[tuple[str, str], list[Call]]) -> Any:
            numbers = [n(call.item, "CallNo") for call in step[1]]
            number = min(math.inf if number is None else number for number in numbers)
            return number, min(call.clock for call in step[1]), step[0]

        ordered = sorted(steps.items(), key=place)
        labels = [max((s(c.item, "ToolNM") or "" for c in tries), default="") or tool for (_, tool), tries in ordered]
        milliseconds = [ms for call in calls if (ms := n(call.item, "DurationMs")) is not None]
        return Execution(
            category=s(session, "Category") or "",
            success=score.succeeded(
                reviewed=s(session, "ReviewedSuccYN"),
                recorded=s(session, "SessionSuccYN"),
                last_attempts=[max(tries, key=lambda c: c.attempt).ok for tries in steps.values()],
            ),
            calls=len(calls),
            first=first(call.day for call in calls),
            last=last(call.day for call in calls),
            seconds=sum(milliseconds) / 1000 if milliseconds else None,
            processes="->".join(process for (process, _), _ in ordered),
            tools="->".join(labels),
        )

    def patterns(self) -> set[tuple[Any, ...]]:
        groups: dict[tuple[str, ...], list[Execution]] = defaultdict(list)
        for (user, _, agent), execution in self.executions().items():
            groups[user, execution.category, agent, execution.processes, execution.tools].append(execution)
        users: dict[str, list[tuple[tuple[str, ...], list[Execution]]]] = defaultdict(list)
        for key, group in groups.items():
            users[key[0]].append((key, group))
        return {row for patterns in users.values() for row in self._patterns_of_user(patterns)}

    def _patterns_of_user(self, patterns: list[tuple[tuple[str, ...], list[Execution]]]) -> Iterator[tuple[Any, ...]]:
        lasts = [last(e.last for e in group) for _, group in patterns]
        newest, oldest = last(lasts), first(lasts)
        own_day = self.as_of if newest is None else min(newest, self.as_of)
        rows = []
        for (key, group), day in zip(patterns, lasts, strict=True):
            good = sum(e.success for e in group)
            value = score.pattern_score(len(group), good, last=day or oldest, as_of=own_day)
            rows.append((key, len(group), good, value, first(e.first for e in group), day))
        threshold = percentile([row[3] for row in rows])
        for key, count, good, value, begin, day in rows:
            flag = score.recommended(value, successes=good, threshold=threshold)
            yield (*key, count, good, near(value), begin, day, flag)

    def scores(self) -> set[tuple[Any, ...]]:
        domain = {item["PK"]["S"]: s(item, "GSI1_PK") for item in self.of("Agent")}
        runs: dict[str, list[Execution]] = defaultdict(list)
        for (_, _, agent), execution in self.executions().items():
            if domain.get(agent) is not None:
                runs[agent].append(execution)
        rows = set()
        for one in set(domain.values()):
            rows |= set(self._scores_of({agent: group for agent, group in runs.items() if domain[agent] == one}, one))
        return rows

    def _scores_of(self, runs: dict[str, list[Execution]], domain: str | None) -> Iterator[tuple[Any, ...]]:
        oldest_agent = first(last(e.last for e in group) for group in runs.values())
        oldest_run = first(e.last for group in runs.values() for e in group)

        def weigh(group: list[Execution]) -> tuple[float, float]:
            weights = [score.discount(e.last or oldest_run, self.as_of, half_life=HALF_LIFE) for e in group]
            return sum(w for w, e in zip(weights, group, strict=True) if e.success), sum(weights)

        weighed = {agent: weigh(group) for agent, group in runs.items()}
        prior = score.domain_rate(
            sum(good for good, _ in weighed.values()), sum(total for _, total in weighed.values())
        )
        for agent, group in runs.items():
            good, day = sum(e.success for e in group), last(e.last for e in group)
            value = score.score(len(group), good, last=day or oldest_agent, as_of=self.as_of)
            proof = score.evidence(*weighed[agent], prior=prior)
            yield (domain, agent, len(group), good, day, near(value), *map(near, proof))

    def tools(self) -> set[tuple[Any, ...]]:
        groups: dict[tuple[str, str, str], list[Call]] = defaultdict(list)
        for call in self.calls:
            groups[call.agent, call.tool, s(call.item, "ToolNM") or ""].append(call)

        def total(calls: list[Call], name: str) -> int:
            return sum(int(n(call.item, name) or 0) for call in calls)

        return {
            (*key, len(g), sum(not c.ok for c in g), total(g, "InputTokens"), total(g, "OutputTokens"))
            for key, g in groups.items()
        }

    def tool_errors(self) -> set[tuple[Any, ...]]:
        domain = {item["PK"]["S"]: s(item, "GSI1_PK") for item in self.of("Agent")}
        rows = set()
        for agent in {call.agent for call in self.calls if domain.get(call.agent) is not None}:
            calls = [call for call in self.calls if call.agent == agent]
            errors = sum(not call.ok for call in calls)
            if errors:
                rows.add((agent, errors, len(calls), near(errors / len(calls))))
        return rows


def percentile(values: list[float]) -> float:
    """The 80th percentile, interpolated."""
    ordered = sorted(values)
    place = 0.8 * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def near(value: float) -> str:
    """Nine digits of a number: engines add in different orders."""
    return f"{value:.9g}"


def rounded(row: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(near(value) if isinstance(value, float) else value for value in row)


# -- what the warehouse holds -----------------------------------------------------------------------------------------


def stored(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    """Every table of the warehouse, its rows sorted; the watermark aside, which says how far the feed was seen."""
    hidden = {*(model.__table__ for model in m.WORK), m.RefreshWatermark.__table__}
    tables = [table for table in m.Base.metadata.sorted_tables if table not in hidden and not table.info.get("view")]
    return {table.name: sorted(map(rounded, warehouse.read(select(table))), key=repr) for table in tables}


def check(warehouse: Warehouse, items: dict[tuple[str, str], Item], as_of: date) -> None:
    """Compare each computed table with the oracle's."""
    oracle = Oracle(items, as_of)
    e, p, a, t, x = m.AgentExecution, m.UserProcessPattern, m.AgentScoreSummary, m.AgentTool, m.ToolErrorSummary
    executions = {
        (*key, e_.category, e_.success, e_.calls, e_.first, e_.last, e_.seconds, e_.processes, e_.tools)
        for key, e_ in oracle.executions().items()
    }
    found = {
        tuple(row)
        for row in warehouse.read(
            select(e.user_id, e.session_id, e.agent_id, e.category, e.succeeded, e.calls, e.first_day, e.last_day,
                   e.seconds, e.process_pattern, e.tool_sequence)
        )
    }  # fmt: skip
    patterns = select(p.user_id, p.category, p.agent_id, p.process_pattern, p.tool_sequence, p.executions, p.successes,
                      p.pattern_score, p.first_day, p.last_day, p.recommended)  # fmt: skip
    scores = select(a.domain_id, a.agent_id, a.executions, a.successes, a.last_day, a.calculated_score, a.evidence,
                    a.evidence_low, a.evidence_high)  # fmt: skip
    tools = select(t.agent_id, t.tool_id, t.tool_name, t.calls, t.errors, t.input_tokens, t.output_tokens)
    errors = select(x.agent_id, x.errors, x.calls, x.error_rate)

    assert executions == found
    assert oracle.patterns() == set(map(rounded, warehouse.read(patterns)))
    assert oracle.scores() == set(map(rounded, warehouse.read(scores)))
    assert oracle.tools() == set(map(rounded, warehouse.read(tools)))
    assert oracle.tool_errors() == set(map(rounded, warehouse.read(errors)))


# -- histories --------------------------------------------------------------------------------------------------------

USERS = ["USR001", "USR002", "USR김"]
SESSIONS = ["SESS1", "SESS2"]
AGENTS = ["AGT001", "AGT002", "AGT003"]
TIMES = [
    None, "20250614140605", "2025061414060512", "20250614140605000001", "20250612090000", "20250520235959",
    "20250630000000", "20250230101010", "2025", "", "20259999999999",
]  # fmt: skip


def texts(*values: str | None) -> st.SearchStrategy[str | None]:
    return st.sampled_from(values)


def attributes(**drawn: str | None) -> Item:
    """Attributes that are not None, numbers (names ending in #) under N."""
    return {
        name.removesuffix("_N"): {"N" if name.endswith("_N") else "S": value}
        for name, value in drawn.items()
        if value is not None
    }


@st.composite
def agents(draw: st.DrawFn) -> Item:
    return {
        "PK": {"S": draw(st.sampled_from(AGENTS[:2]))},
        "SK": {"S": "METADATA"},
        "EntityType": {"S": "Agent"},
        **attributes(
            GSI1_PK=draw(texts("DMN001", "DMN002", "DMN001")),
            AgentNM=draw(texts("검색", None)),
            Score=draw(texts("60", "x")),
        ),
    }


@st.composite
def sessions(draw: st.DrawFn) -> Item:
    return {
        "PK": {"S": draw(st.sampled_from(USERS))},
        "SK": {"S": draw(st.sampled_from(SESSIONS))},
        "EntityType": {"S": "UserSession"},
        **attributes(
            SessionSuccYN=draw(texts(None, None, "Y", "N", "")),
            ReviewedSuccYN=draw(texts(None, None, None, "Y", "N")),
            Category=draw(texts(None, "카페#1", "cafe", "")),
        ),
    }


@st.composite
def calls(draw: st.DrawFn) -> Item:
    process, tool = draw(texts("PRC001", "PRC002")), draw(texts("TL001", "TL002"))
    attempt = draw(st.sampled_from(["", "", "#002", "#003"]))
    return {
        "PK": {"S": f"{draw(st.sampled_from(USERS))}#{draw(st.sampled_from(SESSIONS))}"},
        "SK": {"S": f"{process}#{draw(st.sampled_from(AGENTS))}#{tool}{attempt}"},
        "EntityType": {"S": "UserSessPrcToolMappHist"},
        **attributes(
            ToolNM=draw(texts("FIND", "찾기->", "", None)),
            TransactDT=draw(texts(*TIMES)),
            SuccYN=draw(texts("Y", "Y", "Y", "N", None)),
            Status=draw(texts(None, None, None, "ok", "error", "rejected", "cache_hit", "")),
            CallNo_N=draw(texts(None, "1", "2", "10")),
            DurationMs_N=draw(texts(None, "1500", "0.5")),
            InputTokens_N=draw(texts(None, "120")),
            OutputTokens_N=draw(texts(None, "7")),
            ExpiresAt_N=draw(texts(None, "1", str(int(START.timestamp()) + 3600))),
        ),
    }


@dataclass(frozen=True)
class Change:
    """One write: an item, or with ``gone`` its deletion; ``lag`` minutes until zero-ETL shows it."""

    item: Item
    gone: bool
    wait: int
    lag: int


changes = st.builds(
    Change,
    item=st.one_of(calls(), calls(), calls(), sessions(), agents()),
    gone=st.sampled_from([False, False, False, True]),
    wait=st.integers(1, 40),
    lag=st.integers(0, 50),
)
batches = st.lists(st.lists(changes, max_size=12), min_size=1, max_size=4)
days = st.sampled_from([date(2025, 6, 14), date(2025, 6, 13), date(2025, 6, 24), date(2025, 7, 20)])


@dataclass
class Version:
    item: Item
    created: datetime
    shown: datetime
    deleted: datetime | None = None
    deletion_shown: datetime | None = None


class Feed:
    """Zero-ETL with history mode: every version of every item, shown with a lag."""

    def __init__(self) -> None:
        self.now = START
        self.versions: dict[tuple[str, str], list[Version]] = defaultdict(list)

    def write(self, change: Change) -> None:
        self.now += timedelta(minutes=change.wait)
        key = (change.item["PK"]["S"], change.item["SK"]["S"])
        known = self.versions[key]
        shown = self.now + timedelta(minutes=change.lag)
        if known:
            newest = known[-1]
            shown = max([shown, newest.shown, *([newest.deletion_shown] if newest.deletion_shown else [])])
            if newest.deleted is None:
                newest.deleted, newest.deletion_shown = self.now, shown
            elif change.gone:
                return
        elif change.gone:
            return
        if not change.gone:
            known.append(Version(change.item, self.now, shown))

    def rows(self) -> list[dict[str, Any]]:
        rows = []
        for (pk, sk), versions in self.versions.items():
            for version in versions:
                if version.shown > self.now:
                    continue
                known = version.deletion_shown is not None and version.deletion_shown <= self.now
                gone = version.deleted.replace(tzinfo=None) if known and version.deleted else None
                rows.append({"pk": pk, "sk": sk, "item": json.dumps(version.item), "active": gone is None,
                             "created": version.created.replace(tzinfo=None), "deleted": gone})  # fmt: skip
        return rows

    def present(self) -> dict[tuple[str, str], Item]:
        """What counts of what is shown: items that are there, and those that had expired when they were deleted."""
        items = {}
        for key, versions in self.versions.items():
            shown = [version for version in versions if version.shown <= self.now]
            if not shown:
                continue
            newest = shown[-1]
            known = newest.deletion_shown is not None and newest.deletion_shown <= self.now
            if (
                newest.deleted is None
                or not known
                or (n(newest.item, "ExpiresAt") or math.inf) <= newest.deleted.timestamp()
            ):
                items[key] = newest.item
        return items

    def show(self, warehouse: Warehouse) -> None:
        """Make the landed table what zero-ETL shows now."""
        insert = text(
            'INSERT INTO "AgentTable" ("PK","SK","value","_record_is_active","_record_create_time","_record_delete_time") '
            "VALUES (:pk, :sk, CAST(:item AS JSON), :active, :created, :deleted)"
        )
        with warehouse.begin() as connection:
            connection.execute(text('DELETE FROM "AgentTable"'))
            for row in self.rows():
                connection.execute(insert, row)


def opened() -> Warehouse:
    warehouse = Warehouse.open("duckdb://", threads=1)
    warehouse.create()
    return warehouse


class TestAnyBatches:
    """A history cut into any batches equals one full build."""

    @settings(max_examples=12)
    @given(batches, st.lists(days, min_size=4, max_size=4))
    def test_every_refresh_equals_the_oracle(self, history: list[list[Change]], as_of: list[date]) -> None:
        """After every refresh the tables are what the items shown so far say; a full build then changes nothing."""
        feed = Feed()
        with opened() as warehouse:
            for batch, day in zip(history, as_of, strict=False):
                for change in batch:
                    feed.write(change)
                feed.show(warehouse)
                warehouse.refresh(as_of=day)

                check(warehouse, feed.present(), day)
            feed.now += timedelta(hours=1)
            feed.show(warehouse)
            warehouse.refresh(as_of=as_of[0])
            incremental = stored(warehouse)
            warehouse.refresh(as_of=as_of[0], full=True)

            check(warehouse, feed.present(), as_of[0])
            assert incremental == stored(warehouse)

    @settings(max_examples=4)
    @given(batches, days)
    def test_a_second_run_changes_nothing(self, history: list[list[Change]], day: date) -> None:
        """Whatever a refresh reads again it counts once."""
        feed = Feed()
        with opened() as warehouse:
            for batch in history:
                for change in batch:
                    feed.write(change)
                feed.show(warehouse)
                warehouse.refresh(as_of=day)
            before = stored(warehouse)
            warehouse.refresh(as_of=day)

            assert before == stored(warehouse)


class _Killed(Exception):
    pass


class TestInterruption:
    """A refresh is one transaction."""

    @settings(max_examples=5)
    @given(st.lists(changes, min_size=3, max_size=12), st.lists(changes, min_size=1, max_size=8), st.integers(0, 60))
    def test_a_kill_between_statements_is_mended(self, early: list[Change], late: list[Change], after: int) -> None:
        """A refresh that dies after any statement changes nothing, and the next one does its work."""
        feed, day = Feed(), date(2025, 6, 24)

        def kill(_name: str, done: int, _total: int) -> None:
            if done > after:
                raise _Killed

        with opened() as warehouse:
            for change in early:
                feed.write(change)
            feed.show(warehouse)
            warehouse.refresh(as_of=day)
            before = stored(warehouse)
            for change in late:
                feed.write(change)
            feed.now += timedelta(hours=1)
            feed.show(warehouse)
            try:
                warehouse.refresh(as_of=day, progress=kill)
            except _Killed:
                assert before == stored(warehouse)
            warehouse.refresh(as_of=day)

            check(warehouse, feed.present(), day)

    def test_a_failing_statement_rolls_everything_back(self) -> None:
        """A statement that the engine refuses leaves the warehouse as it was, and says so in one line."""
        with opened() as warehouse:
            warehouse.refresh(as_of=date(2025, 6, 14))
            before = stored(warehouse)
            with warehouse.begin() as connection:
                connection.execute(text("DROP TABLE agent_tool"))
            with pytest.raises(WarehouseUnavailable, match="agent_tool"):
                warehouse.refresh(as_of=date(2025, 6, 14))
            warehouse.create()

            assert before == stored(warehouse)


class TestOrder:
    """No order changes merely because days pass."""

    @settings(max_examples=6)
    @given(st.lists(calls(), min_size=1, max_size=20), st.lists(agents(), min_size=1, max_size=3), st.integers(1, 4000))
    def test_days_change_no_order(self, history: list[Item], known: list[Item], later: int) -> None:
        """Ranks and recommendations are the same on any day from the newest one on."""
        newest = date(2025, 6, 30)
        with opened() as warehouse:
            warehouse.land([*history, *known], at=START)
            warehouse.refresh(as_of=newest)
            then = newest + timedelta(days=later)

            def ranks(day: date) -> list[tuple[str, int]]:
                return [(row.agent_id, row.rank) for row in reports.agent_ranking(warehouse, as_of=day)]

            def good(day: date) -> list[tuple[str, str]]:
                patterns = reports.recommended_patterns(warehouse, as_of=day)
                return [(row.user_id, row.tool_sequence) for row in patterns]

            before = ranks(newest), good(newest)
            assert before == (ranks(then), good(then))
            warehouse.refresh(as_of=then)
            assert before == (ranks(then), good(then))

    @settings(max_examples=6)
    @given(st.lists(calls(), min_size=1, max_size=20), st.lists(agents(), min_size=1, max_size=3), days, days)
    def test_a_report_of_any_day_equals_a_refresh_of_that_day(
        self, history: list[Item], known: list[Item], refreshed: date, asked: date
    ) -> None:
        """What is read for a day is what a refresh for that day stores."""
        with opened() as warehouse:
            warehouse.land([*history, *known], at=START)
            warehouse.refresh(as_of=refreshed)
            read = reports.agent_ranking(warehouse, as_of=asked)
            warehouse.refresh(as_of=asked)
            a = m.AgentScoreSummary
            columns = (a.agent_id, a.calculated_score, a.evidence, a.evidence_low, a.evidence_high, a.days_since)

            assert sorted(
                rounded((r.agent_id, r.score, r.evidence, r.evidence_low, r.evidence_high, r.days_since)) for r in read
            ) == sorted(map(rounded, warehouse.read(select(*columns))))


# -- real runs --------------------------------------------------------------------------------------------------------


def recorded(path: Path) -> dict[tuple[str, str], Item]:
    """The lines of a trace file as items: ids by first appearance, retries of a tool in a step numbered."""
    numbers: dict[tuple[str, str], int] = {}
    tries: dict[tuple[str, str], int] = defaultdict(int)
    items: dict[tuple[str, str], Item] = {}

    def known(prefix: str, name: str) -> str:
        return f"{prefix}{numbers.setdefault((prefix, name), len(numbers) + 1):05}"

    def put(pk: str, sk: str, kind: str, **values: str | None) -> None:
        items[pk, sk] = {"PK": {"S": pk}, "SK": {"S": sk}, "EntityType": {"S": kind}, **attributes(**values)}

    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            row = json.loads(line)
            user, session = known("USR", row["user"] or ""), known("SESS", row["session"])
            agent, tool = known("AGT", row["agent"]), known("TL", row["tool"])
            put(agent, "METADATA", "Agent", GSI1_PK=known("DMN", row["domain"]), AgentNM=row["agent"])
            outcome = None if row["session_success"] is None else "NY"[row["session_success"]]
            put(user, session, "UserSession", SessionSuccYN=outcome, Category=row["category"])
            process = f"PRC{row['step']:03}"
            partition, key = f"{user}#{session}", f"{process}#{agent}#{tool}"
            tries[partition, key] += 1
            attempt = "" if tries[partition, key] == 1 else f"#{tries[partition, key]:03}"
            time = row["started_at"] and re.sub("[^0-9]", "", row["started_at"])[:20]
            put(partition, key + attempt, "UserSessPrcToolMappHist", ToolNM=row["tool"], TransactDT=time,
                SuccYN="NY"[row["success"]], ResultMsg=row["result"], CallNo_N=str(number))  # fmt: skip
    return items


@pytest.mark.parametrize("domain", ["retail", "airline", "telecom", "medical_fhir"])
def test_real_runs(domain: str) -> None:
    """On real agents' runs, some of them without times, every table is the oracle's."""
    path = TRACES / f"{domain}.jsonl.gz"
    if not path.exists():
        pytest.skip("the trace files are not beside this checkout")
    items, day = recorded(path), date(2026, 1, 1)
    with opened() as warehouse:
        half = dict(list(items.items())[: len(items) // 2])
        for at, present in enumerate((half, items)):
            warehouse.land(present.values(), at=START + timedelta(hours=at))
            warehouse.refresh(as_of=day)
            check(warehouse, present, day)
