"""What 0.1.0 stored is read by the present code: its table, its journal and its warehouse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agentmodel import (
    Agent,
    AgentModel,
    Domain,
    Review,
    Settings,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.access._attempt_numbers import claimed_number
from agentmodel.cache import Drained, Entry, Leaderboard, NumberClaim, NumberTaken, Valkey
from agentmodel.cache._item_codec import decode, version_of
from agentmodel.cli._doctor import check_items
from agentmodel.dynamo.entity import entity_of
from agentmodel.dynamo.models import Suggestion
from agentmodel.dynamo.table import Table
from agentmodel.redshift import models as m
from agentmodel.redshift import reports
from agentmodel.redshift.warehouse import Warehouse
from tests.integration import stored
from tests.integration.redshift_oracle import expected, held

LAST = date(2025, 6, 20)  # what its last refresh was as of
NEXT = date(2025, 6, 21)

Item = dict[str, Any]


def key_of(item: Item) -> tuple[str, str]:
    return item["PK"]["S"], item["SK"]["S"]


def call_of(item: Item) -> str | None:
    call: str | None = item.get("CallID", {}).get("S")
    return call


def entries() -> list[bytes]:
    """The items of the journal, as its entries hold them."""
    streams = [key["content"] for key in stored.journal_keys() if key["key"].endswith(":j")]
    fields = [dict(zip(one[::2], one[1::2], strict=True)) for stream in streams for _, one in stream["entries"]]
    return [str(one["d"]).encode() for one in fields]


@pytest.fixture
def filled(settings: Settings) -> Iterator[Settings]:
    """Settings of a table that holds what was stored; Valkey and the warehouse are empty."""
    stored.fill_table(settings.table, str(settings.endpoint))
    yield settings
    with Table(settings) as table:
        table.delete()


@pytest.fixture
def model(filled: Settings) -> Iterator[AgentModel]:
    """A model on the stored table and the stored Valkey."""
    stored.fill_valkey(str(filled.valkey_url))
    with AgentModel.from_settings(filled) as made:
        yield made


class TestTheTable:
    def test_holds_every_kind(self) -> None:
        """Each of the ten entities is among the items, and so is each further kind that 0.1.0 stores."""
        kinds = Counter(item["EntityType"]["S"] for item in stored.table_items())
        others = {key_of(item)[0].partition("#")[::2] for item in stored.table_items() if entity_of(item) is None}

        assert {
            "Domain": 3, "Agent": 5, "Tool": 13, "UserInfo": 4, "UserSession": 22, "UserSessionProcess": 43,
            "UserSessPrcToolMappHist": 78, "UserPrcToolMapp": 4, "Review": 14, "Suggestion": 5, "OUTAGE": 6,
            "PublishRun": 1,
        } == kinds  # fmt: skip
        assert {
            ("OUTAGE", ""), ("OUTAGE", "USR002%23SESS20250620002"), ("OUTAGE", "USR002%23SESS20250620003"),
            ("PUBLISH", ""),
        } == others  # fmt: skip

    def test_is_put_back_as_it_was(self, filled: Settings) -> None:
        """The engine gives every item back as the file has it."""
        assert stored.table_items() == stored.all_items(filled.table, str(filled.endpoint))

    def test_items_are_read_as_their_classes_and_written_back(self, filled: Settings) -> None:
        """Every item of an entity is read as its class, which knows all of it, and makes the very same item again."""
        read: Counter[type[Any]] = Counter()
        changed, unknown = [], set()
        for item in stored.all_items(filled.table, str(filled.endpoint)):
            kind = entity_of(item)
            if kind is not None:
                entity = kind.from_item(item)
                read[kind] += 1
                changed += [key_of(item)] if entity.to_item() != item else []
                unknown |= {(entity.pk, name) for name in entity.extra}

        assert {
            Domain: 3, Agent: 5, Tool: 13, User: 4, UserSession: 22, UserSessionProcess: 43, ToolExecution: 78,
            UserToolMapping: 4, Review: 14, Suggestion: 5,
        } == read  # fmt: skip
        assert [] == changed
        assert {("USR001", "LoyaltyTier"), ("USR001", "Visits")} == unknown  # the application's own

    def test_needs_no_mending(self, filled: Settings) -> None:
        """A check of the items finds nothing."""
        with Table(filled) as table:
            assert [] == list(check_items(table))

    def test_access_patterns(self, filled: Settings) -> None:
        """The repository finds what was stored by every access pattern, without what has expired."""
        with AgentModel.from_settings(filled.model_copy(update={"valkey_url": None})) as model:
            repository = model.repository
            names = [domain.name for domain in repository.domains()]
            agents = [agent.agent_id for agent in repository.top_agents("DMN001")]
            tools = len(repository.domain_tools("DMN001")), len(repository.agent_tools("AGT001"))
            sessions = {session.session_id for session in repository.sessions("USR002")}
            history = repository.session_history("USR001", "SESS20250605001")
            categories = [mapping.category for mapping in repository.mappings("저녁 식사 #1")]
            own = [mapping.category for mapping in repository.user_mappings("USR001")]

        assert ["agents", "booking", "매장검색서비스"] == names
        assert ["AGT001", "AGT003", "AGT002"] == agents
        assert (9, 3) == tools
        assert "SESS20250606001" in sessions
        assert "SESS20250601001" not in sessions
        assert [(1, False, "TimeoutError"), (2, True, None), (1, True, None)] == [
            (call.attempt, call.succeeded, call.error_type) for call in history.executions
        ]
        assert (2, 12) == (len(history.processes), len(history.reviews))
        assert ["저녁 식사 #1 (50 % off)"] == categories
        assert ["카페 검색"] == own

    def test_reviews(self, filled: Settings) -> None:
        """Questions stand where they stood, and the sweep finishes the verdict that was not applied."""
        with AgentModel.from_settings(filled.model_copy(update={"valkey_url": None})) as model:
            states = Counter(
                review.status
                for run in (("USR001", "SESS20250605001"), ("USR002", "SESS20250607002"))
                for review in model.repository.session_history(*run).reviews
            )
            queues = [len(model.reviews.inbox(queue)) for queue in ("review", "urgent", "team leads")]
            swept = model.reviews.sweep()
            session = model.repository.session("USR002", "SESS20250607002")

        assert {
            "pending": 3, "claimed": 1, "approved": 1, "edited": 1, "rejected": 1, "responded": 1, "cancelled": 1,
            "expired": 1, "completed": 3,
        } == states  # fmt: skip
        assert [2, 2, 1] == queues
        assert (0, 0, 1) == (swept.expired, swept.escalated, swept.applied)
        assert session is not None
        assert (True, False) == (session.succeeded, session.corrected)


class TestTheJournal:
    def test_is_put_back_as_it_was(self, valkey_url: str) -> None:
        """Every key of the file is in the server, with its content, its consumer groups and its lifetime."""
        stored.fill_valkey(valkey_url)
        was, now = stored.journal_keys(), stored.valkey_keys(valkey_url)

        assert [one | {"ttl_ms": None} for one in was] == [one | {"ttl_ms": None} for one in now]
        assert [one["ttl_ms"] is None for one in was] == [one["ttl_ms"] is None for one in now]
        assert all(0 < (one["ttl_ms"] or 1) <= (other["ttl_ms"] or 1) for one, other in zip(now, was, strict=True))

    def test_bytes_are_put_back(self, valkey_url: str) -> None:
        """What is no UTF-8 text comes back too."""
        key = {"key": "k", "type": "hash", "ttl_ms": None, "content": [["\0known", {"base64": "/w=="}]]}
        stored.fill_valkey(valkey_url, stored=[key])

        assert [key] == stored.valkey_keys(valkey_url)

    def test_holds_what_was_under_way(self, model: AgentModel) -> None:
        """Fresh entries, some that killed drainers took once and twice, and a dead letter."""
        assert model.journal is not None
        stats = model.journal.stats()
        taken = Counter(
            times
            for key in stored.journal_keys()
            if key["type"] == "stream"
            for group in key["content"]["groups"]
            for consumer in group["consumers"]
            for _, _, times in consumer["pending"]
        )

        assert (14, 12, 1) == (stats.depth, stats.pending, stats.dead)
        assert {1: 8, 2: 4} == taken

    def test_drains(self, model: AgentModel) -> None:
        """Everything lands, what killed drainers had taken too; only older versions of sessions do not."""
        waiting = [found[0] for data in entries() if (found := decode(data)) is not None]
        calls = {call_of(item) for item in (*stored.table_items(), *waiting)}
        drained = model.drain()
        table = {key_of(item): item for item in stored.all_items(model.table.name, str(model.settings.endpoint))}
        assert model.journal is not None
        stats = model.journal.stats()

        assert 14 == len(waiting)
        assert Drained(written=11, stale=3) == drained
        assert (0, 0, 1) == (stats.depth, stats.pending, stats.dead)
        assert calls == {call_of(item) for item in table.values()}
        by_call = {call_of(item): item for item in table.values()}
        for item in waiting:  # a call may have another number now, a session has its key
            there = table[key_of(item)] if call_of(item) is None else by_call[call_of(item)]
            content = {name: value for name, value in item.items() if name not in ("SK", "AttemptNo")}
            assert content.items() <= there.items() or version_of(there) > version_of(item)

    def test_nothing_is_overwritten(self, model: AgentModel) -> None:
        """Calls that wait under numbers which an outage gave to others get the next numbers."""
        run = "USR002", "SESS20250620003"
        before = model.repository.session_history(*run, limit=1000)
        model.drain()
        with AgentModel.from_settings(model.settings.model_copy(update={"valkey_url": None})) as other:
            after = other.repository.session_history(*run)

        assert ["PRC001", "PRC002"] == [process.process_id for process in before.processes]
        assert ["PRC001", "PRC002"] == [process.process_id for process in after.processes]
        assert ["outage", "taken twice"] == [process.prompt for process in after.processes]
        assert {1, 2} == {call.attempt for call in after.executions}

    def test_dead_letters(self, model: AgentModel) -> None:
        """The dead letter is listed with its reason, is read by its user, and is gone from both once it is dropped."""
        letter, *others = model.drainer.dead()
        named = letter.partition, letter.sort, letter.at.date()
        there = model.repository.process("USR001", "SESS20250620001", "PRC001")
        dropped = model.drainer.drop(letter.id)
        gone = model.repository.process("USR001", "SESS20250620001", "PRC001")

        assert [] == others
        assert ("USR001#SESS20250620001", "PRC001", NEXT) == named
        assert "empty string value" in letter.reason
        assert there is not None
        assert ("못 쓰는 단계", True, None) == (there.name, dropped, gone)
        assert [] == model.drainer.dead()

    def test_own_writes_are_read_before_they_are_drained(self, model: AgentModel) -> None:
        """A session that waits in the journal is read from the overlay."""
        session = model.repository.session("USR민수", "SESS20250620005")

        assert session is not None
        assert "아직 도는 중" == session.name

    def test_numbers_go_on(self, model: AgentModel) -> None:
        """A call that waits keeps its number when it is recorded again; another one gets the next, as Valkey knows."""
        waiting = model.repository.session_history("USR001", "SESS20250620004").executions[0]
        number = claimed_number(waiting)
        assert model.journal is not None
        assert number is not None
        claim = NumberClaim(number.family, "yet another", 1)
        answers = model.journal.append([Entry("USR001", waiting.to_item(), 1, immutable=True, number_claim=claim)])
        again = model.recorder.record(waiting)
        values = {**waiting.attribute_values, "call_id": "another"}
        other = model.recorder.record(ToolExecution(**values))

        assert [NumberTaken(2, already_claimed=False)] == answers
        assert (1, True) == (again.entity.attempt, again.repeated)
        assert (2, False) == (other.entity.attempt, other.repeated)

    def test_rankings_are_known(self, model: AgentModel) -> None:
        """The ranking of the last publish is in Valkey, and the agents' items have its scores."""
        with Valkey(model.settings) as valkey:
            ranking = Leaderboard(valkey).top("DMN001", 3)
        agents = [(agent.agent_id, agent.score) for agent in model.repository.top_agents("DMN001")]

        assert [("AGT001", 2.924038), ("AGT003", 0.904837), ("AGT002", 0.803185)] == ranking
        assert agents == ranking

    def test_health_is_known(self, model: AgentModel) -> None:
        """The tool that failed is known by Valkey with its baseline, and may be tried again by now."""
        tool, *others = model.health.tools("DMN001")

        assert ("AGT003", "TL002", "half-open", 23) == (tool.agent_id, tool.tool_id, tool.state, tool.calls)
        assert datetime(2025, 6, 19, 9, 20, tzinfo=UTC) == tool.since
        assert {"closed"} == {other.state for other in others}


@pytest.fixture
def copies(tmp_path: Path) -> tuple[str, str]:
    """URLs of two copies of the stored warehouse, brought up to this version."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = map(stored.warehouse_url, folders)
    for url in (first, second):
        with Warehouse.open(url) as warehouse:
            warehouse.migrate()
    return first, second


class TestTheWarehouse:
    def test_reports(self, copies: tuple[str, str]) -> None:
        """The reports read what the last refresh learnt, as of its day."""
        with Warehouse.open(copies[0]) as warehouse:
            warehouse.create()  # as a model does when it opens one
            ranking = reports.agent_ranking(warehouse, as_of=LAST)
            patterns = reports.recommended_patterns(warehouse, as_of=LAST, user_id="USR001")
            failures = reports.tool_failures(warehouse)[0]
            requests = reports.session_requests(warehouse, "USR001")
            days = reports.executions_per_day(warehouse, "AGT001")
            tokens = reports.tokens_per_tool(warehouse, "AGT001")[0]
            watermark = warehouse.read(select(m.RefreshWatermark.as_of))

        assert [
            ("AGT001", 7, 5, 3.231562), ("AGT003", 4, 2, 1.0), ("AGT002", 6, 4, 0.887656), ("AGT004", 1, 0, 0.0),
            ("AGTagents-finder~91b6c2ea3f96", 2, 2, 2.0),
        ] == [(row.agent_id, row.executions, row.successes, round(row.score, 6)) for row in ranking]  # fmt: skip
        assert [("카페 검색", "FIND_LOC->USE_SEARCH_ENGINE_API->FORMAT_RESULTS", 4)] == [
            (pattern.category, pattern.tool_sequence, pattern.executions) for pattern in patterns
        ]
        assert ("AGT003", "TL002", 31, 8) == (failures.agent_id, failures.tool_id, failures.calls, failures.errors)
        assert [True, True, True, False, False, True] == [request.outcome for request in requests]
        assert [(2, 1), (3, 1), (4, 1), (5, 0), (10, 1), (18, 1)] == [
            (each.day.day, each.successes) for each in days if each.day is not None
        ]
        assert ("TL001", 7, 480, 180) == (tokens.tool_id, tokens.calls, tokens.input_tokens, tokens.output_tokens)
        assert [(LAST,)] == watermark

    def test_a_refresh_goes_on(self, filled: Settings, copies: tuple[str, str]) -> None:
        """What the table has beyond the last refresh is brought in, and all tables are as a full build makes them."""
        items = {key_of(item): item for item in (*stored.departed(copies[0]), *stored.table_items())}
        tables = []
        for url, full in zip(copies, (False, True), strict=True):
            with AgentModel.from_settings(filled.model_copy(update={"warehouse_url": url, "valkey_url": None})) as one:
                before = one.warehouse.counts()["usersession"]
                refreshed = one.refresh(as_of=NEXT, full=full)
                tables.append(held(one.warehouse))
                assert (full, before + 3) == (refreshed.full, refreshed.rows["usersession"])

        assert tables[0] == tables[1]
        assert expected(items, NEXT) == tables[0]

    def test_publish_goes_on(self, filled: Settings, copies: tuple[str, str]) -> None:
        """A newer publish ends the one that was killed, and writes the scores of the refresh into the table."""
        settings = filled.model_copy(update={"warehouse_url": copies[0], "valkey_url": None})
        with AgentModel.from_settings(settings) as model:
            model.refresh(as_of=NEXT)
            published = model.publish(as_of=NEXT)
            mark = [item for item in model.table.scan() if item["EntityType"]["S"] == "PublishRun"]
            ranking = {row.agent_id: row.score for row in reports.agent_ranking(model.warehouse, as_of=NEXT)}
            agents = [model.repository.agent(agent_id) for agent_id in ranking]

        assert (5, 0) == (published.agents, published.stale)
        assert "Writing" not in mark[0]
        assert [round(one, 6) for one in ranking.values()] == [agent.score for agent in agents if agent is not None]
