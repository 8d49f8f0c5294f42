"""The published sample's items are read by the repository; what is written is found by the sample's own conditions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.dynamodb.conditions import Key

from agentmodel import (
    Agent,
    AgentModel,
    Domain,
    Settings,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "aws_sample_items.jsonl"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]  # year, month, day and what follows


@pytest.fixture
def sample() -> list[dict[str, Any]]:
    if not SAMPLE.exists():
        pytest.skip("the AWS sample's items are not beside this checkout")
    return [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]


@pytest.fixture(params=["valkey", "no valkey"])
def model(request: pytest.FixtureRequest, settings: Settings) -> Iterator[AgentModel]:
    """A model on an empty table, with Valkey and without."""
    given = settings if request.param == "valkey" else settings.model_copy(update={"valkey_url": None})
    with AgentModel.from_settings(given) as made:
        made.table.create()
        yield made
        made.table.delete()


def boto(settings: Settings, kind: str) -> Any:
    """Plain boto3, no code of ours."""
    make = boto3.resource if kind == "resource" else boto3.client
    return make(
        "dynamodb",
        region_name=settings.region,
        endpoint_url=settings.endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@pytest.fixture
def loaded(model: AgentModel, sample: list[dict[str, Any]]) -> AgentModel:
    """The model with the sample's items in its table, put there one by one with plain boto3."""
    client = boto(model.settings, "client")
    for item in sample:
        client.put_item(TableName=model.settings.table, Item=item)
    client.close()
    return model


class TestTheSampleIsRead:
    """The 39 items through the eight access patterns, each entity as its class, with the sample's values."""

    def test_there_are_39_items(self, sample: list[dict[str, Any]]) -> None:
        """The file is the published sample: so many items of so many kinds."""
        kinds = [item["EntityType"]["S"] for item in sample]

        assert 39 == len(kinds)
        assert {
            "Domain": 1, "Agent": 3, "Tool": 9, "UserInfo": 3, "UserSession": 3, "UserSessionProcess": 9,
            "UserSessPrcToolMappHist": 9, "UserPrcToolMapp": 2,
        } == {kind: kinds.count(kind) for kind in kinds}  # fmt: skip

    def test_domains(self, loaded: AgentModel) -> None:
        """1: the sample's domain."""
        description = "지역 기반의 매장 검색 서비스로 사용자가 요청한 지역의 카페, 레스토랑을 다양한 카테고리별로 검색하여 찾아주는 서비스"

        for name in ("", "매장"):
            page = loaded.repository.domains(name)
            assert (Domain(domain_id="DMN001", name="매장검색서비스", description=description),) == page.items
            assert (None, ()) == (page.cursor, page.unreadable)
        assert () == loaded.repository.domains("장").items

    def test_top_agents(self, loaded: AgentModel) -> None:
        """2: the three agents by their scores, which the sample wrote as text and without digits in front."""
        page = loaded.repository.top_agents("DMN001")

        assert [("AGT001", 60.0), ("AGT003", 50.0), ("AGT002", 40.0)] == [(a.agent_id, a.score) for a in page]
        assert page[0] == Agent(
            agent_id="AGT001",
            domain_id="DMN001",
            name="매장 검색 에이전트",
            score=60,
            description="지역기반 매장 검색서비스로 최근매장 리스트업이 잘되있음",
        )

    def test_domain_tools(self, loaded: AgentModel) -> None:
        """3: the nine tools of the domain, by name."""
        page = loaded.repository.domain_tools("DMN001")
        names = ["FIND_LOC"] * 3 + ["FORMAT_RESULTS"] * 3 + ["USE_SEARCH_ENGINE_API"] * 3

        assert names == [tool.name for tool in page]
        assert {Tool} == {type(tool) for tool in page}
        assert {"AGT001", "AGT002", "AGT003"} == {tool.agent_id for tool in page}

    def test_agent_tools(self, loaded: AgentModel) -> None:
        """4: the three tools of an agent, specifications as objects."""
        page = loaded.repository.agent_tools("AGT002")

        assert ["TL001", "TL002", "TL003"] == [tool.tool_id for tool in page]
        assert page[0] == Tool(
            agent_id="AGT002",
            tool_id="TL001",
            domain_id="DMN001",
            name="FIND_LOC",
            spec={"description": "특정 지역 검색", "parameters": {"location": "string", "radius": "string"}},
            description="특정지역주변의 매장을 검색하는 도구",
        )

    def test_sessions(self, loaded: AgentModel) -> None:
        """5: a user's session."""
        page = loaded.repository.sessions("USR001")

        assert (
            UserSession(
                user_id="USR001",
                session_id="SESS20250614001",
                name="잠실종합운동장 맛집 검색 세션",
                summary="잠실종합 운동장 주변 맛집 검색 및 추천",
                started_at=utc(2025, 6, 14, 14, 5, 30),
                detail_location="S3://usersess/2025...",
            ),
        ) == page.items

    def test_session_history(self, loaded: AgentModel) -> None:
        """6: three processes and three executions of a session, in order; newest first on request."""
        history = loaded.repository.session_history("USR001", "SESS20250614001")
        backwards = loaded.repository.session_history("USR001", "SESS20250614001", newest_first=True)

        assert ["PRC001", "PRC002", "PRC003"] == [process.process_id for process in history.processes]
        assert ["TL001", "TL002", "TL003"] == [execution.tool_id for execution in history.executions]
        assert history.processes[2] == UserSessionProcess(
            user_id="USR001",
            session_id="SESS20250614001",
            process_id="PRC003",
            prompt="잠실종합운동장 근처에 있는 N매장 근처의 최근에 생긴 카페를 찾아줘",
            name="결과포맷팅",
            description="검색한결과를 포맷팅해서 최종결과를 응답한다",
            started_at=utc(2025, 6, 14, 14, 6, 2),
        )
        assert history.executions[0] == ToolExecution(
            user_id="USR001",
            session_id="SESS20250614001",
            process_id="PRC001",
            agent_id="AGT001",
            tool_id="TL001",
            tool_name="FIND_LOC",
            values="잠실종합운동장 근처에 있는 N매장 근처의 최근에 생긴 카페를 찾아줘",
            executed_at=utc(2025, 6, 14, 14, 6, 5),
            succeeded=True,
            result="사용자의 요청, 잠실종합운동장 위치",
        )
        assert history.processes[::-1] == backwards.processes
        assert history.executions[::-1] == backwards.executions
        assert ((), (), None) == (history.reviews, history.unreadable, history.cursor)

    def test_a_failed_execution(self, loaded: AgentModel) -> None:
        """The sample's one failure is False, with its message."""
        history = loaded.repository.session_history("USR002", "SESS20250614002")

        assert [True, True, False] == [execution.succeeded for execution in history.executions]
        assert "포맷팅 실패" == history.executions[2].result

    @pytest.mark.parametrize("category", ["", "매장", "매장검색:카페,식당"])
    def test_user_mappings(self, loaded: AgentModel, category: str) -> None:
        """7: a user's mapping, with or without the beginning of its category."""
        page = loaded.repository.user_mappings("USR003", category)

        assert (
            UserToolMapping(
                user_id="USR003",
                category="매장검색:카페,식당",
                processes={"PRC001": "위치검색", "PRC002": "매장검색", "PRC003": "결과포맷팅"},
                agents={"AGT003": "매장검색에이전트"},
                tools={
                    "PRC001#AGT003#TL001": "위치검색",
                    "PRC002#AGT003#TL002": "매장검색",
                    "PRC003#AGT003#TL003": "결과포맷팅",
                },
            ),
        ) == page.items

    def test_mappings(self, loaded: AgentModel) -> None:
        """8: the mappings of all users, with or without the beginning of a category."""
        for category in ("", "매장검색"):
            assert {"USR001", "USR003"} == {mapping.user_id for mapping in loaded.repository.mappings(category)}
        assert () == loaded.repository.mappings("카페").items

    def test_users(self, loaded: AgentModel) -> None:
        """A user by id, with a login of 16 digits."""
        assert loaded.repository.user("USR001") == User(
            user_id="USR001",
            name="돌칼",
            profile={"birth": "19741126", "HP": "010-2222-3333", "ADDR": "서울시 송파구 잠실동", "age": "51"},
            last_login_at=utc(2025, 6, 14, 14, 10, 2, 230_000),
            created_at=utc(2025, 6, 1, 9, 32, 10),
        )

    def test_a_session_is_continued(self, loaded: AgentModel) -> None:
        """A recorder that goes on with a session of the sample takes the numbers that come next."""
        with loaded.session("USR001", session_id="SESS20250614001") as session, session.process("again") as process:
            with process.call("AGT001", "TL001") as call:
                call.result = "stadium"
            known = loaded.repository.session("USR001", "SESS20250614001")

        assert "PRC004" == process.process_id
        assert known is not None
        assert "잠실종합운동장 맛집 검색 세션" == known.name
        history = loaded.repository.session_history("USR001", "SESS20250614001")
        assert 4 == len(history.processes) == len(history.executions)

    def test_nothing_of_the_sample_is_lost_by_a_save(self, loaded: AgentModel, sample: list[dict[str, Any]]) -> None:
        """Every item read and put again holds what it held, but for the score, which is written as a number."""
        from agentmodel.dynamo.entity import entity_of

        for item in sample:
            kind = entity_of(item)
            assert kind is not None
            again = kind.from_item(item).to_item()
            for name in item.keys() - {"Score", "ToolSpec", "UserProfile", "Proclist", "AgentList", "Toollist"}:
                if name == "GSI1_SK" and "Score" in item:
                    assert {"S": f"AGTSCORE#{float(item['Score']['S']):015.6f}"} == again[name]
                elif name.endswith("DT"):
                    assert {"S": item[name]["S"].ljust(20, "0")} == again[name]
                else:
                    assert item[name] == again[name], name


class TestTheSampleFindsOurs:
    """What agentmodel writes is found by the sample's own key conditions, with plain boto3."""

    @pytest.fixture
    def table(self, model: AgentModel) -> Iterator[Any]:
        """A table that agentmodel has written every kind of item into, as boto3 shows it."""
        model.repository.put(
            Domain(domain_id="DMN001", name="store search"),
            Agent(agent_id="AGT001", domain_id="DMN001", name="one", score=9),
            Agent(agent_id="AGT002", domain_id="DMN001", name="two", score=10.5),
            Agent(agent_id="AGT003", domain_id="DMN001", name="three", score=0.25),
            Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="find", spec={"a": 1}),
            Tool(agent_id="AGT001", tool_id="TL002", domain_id="DMN001", name="rank"),
            User(user_id="USR001", name="Kim"),
            UserToolMapping(user_id="USR001", category="cafe", processes={"PRC001": "locate"}, agents={}, tools={}),
        )
        for day in (14, 15):
            with model.session(
                "USR001",
                "find a café",
                session_id=f"SESS202506{day}001",
                started_at=utc(2025, 6, day),
            ) as session:
                with session.process("locate") as process:
                    with process.call("AGT001", "TL001", values={"near": "here"}) as call:
                        call.fail("no answer")
                    with process.call("AGT001", "TL001", values={"near": "here"}) as call:
                        call.result = "there"
                session.succeed()
        if model.settings.valkey_url is not None:
            model.drain()
        resource = boto(model.settings, "resource")
        yield resource.Table(model.settings.table)
        resource.meta.client.close()

    def found(self, table: Any, condition: Any, **options: Any) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = table.query(KeyConditionExpression=condition, **options)["Items"]
        return items

    def test_domains(self, table: Any) -> None:
        """GSI1_PK = 'Domain'."""
        items = self.found(table, Key("GSI1_PK").eq("Domain"), IndexName="GSI1")

        assert [("DMN001", "METADATA", "Domain", "store search")] == [
            (item["PK"], item["SK"], item["EntityType"], item["DomainNM"]) for item in items
        ]

    def test_top_agents(self, table: Any) -> None:
        """GSI1_PK = 'DMN001' and begins_with(GSI1_SK, 'AGTSCORE'), descending, is the order of the scores."""
        condition = Key("GSI1_PK").eq("DMN001") & Key("GSI1_SK").begins_with("AGTSCORE")
        items = self.found(table, condition, IndexName="GSI1", ScanIndexForward=False)

        assert [("two", 10.5), ("one", 9), ("three", 0.25)] == [(item["AgentNM"], item["Score"]) for item in items]

    def test_domain_tools(self, table: Any) -> None:
        """GSI1_PK = 'DMN001' and begins_with(GSI1_SK, 'TL')."""
        condition = Key("GSI1_PK").eq("DMN001") & Key("GSI1_SK").begins_with("TL")

        assert ["find", "rank"] == [item["ToolNM"] for item in self.found(table, condition, IndexName="GSI1")]

    def test_agent_tools(self, table: Any) -> None:
        """PK = 'AGT001' and begins_with(SK, 'TL')."""
        items = self.found(table, Key("PK").eq("AGT001") & Key("SK").begins_with("TL"))

        assert [("TL001", '{"a":1}'), ("TL002", None)] == [(item["SK"], item.get("ToolSpec")) for item in items]

    def test_sessions(self, table: Any) -> None:
        """PK = 'USR001' and begins_with(SK, 'SESS'), descending, is newest first."""
        items = self.found(table, Key("PK").eq("USR001") & Key("SK").begins_with("SESS"), ScanIndexForward=False)

        assert [("SESS20250615001", "20250615000000000000"), ("SESS20250614001", "20250614000000000000")] == [
            (item["SK"], item["SessionStartDT"]) for item in items
        ]

    def test_session_history(self, table: Any) -> None:
        """PK = 'USR001#SESS20250614001' and begins_with(SK, 'PRC') gives processes and executions, the retry too."""
        items = self.found(table, Key("PK").eq("USR001#SESS20250614001") & Key("SK").begins_with("PRC"))

        assert [
            ("PRC001", "UserSessionProcess", None),
            ("PRC001#AGT001#TL001", "UserSessPrcToolMappHist", "N"),
            ("PRC001#AGT001#TL001#002", "UserSessPrcToolMappHist", "Y"),
        ] == [(item["SK"], item["EntityType"], item.get("SuccYN")) for item in items]
        assert ("find", '{"near": "here"}', "no answer") == tuple(
            items[1][name] for name in ("ToolNM", "ToolValues", "ResultMsg")
        )
        assert 20 == len(items[1]["TransactDT"])

    def test_user_mappings(self, table: Any) -> None:
        """PK = 'USR001' and begins_with(SK, 'UserPrcToolMapp')."""
        items = self.found(table, Key("PK").eq("USR001") & Key("SK").begins_with("UserPrcToolMapp"))

        assert [("UserPrcToolMapp#cafe", '{"PRC001":"locate"}')] == [(item["SK"], item["Proclist"]) for item in items]

    def test_mappings(self, table: Any) -> None:
        """GSI1_PK = 'UserPrcToolMapp'."""
        items = self.found(table, Key("GSI1_PK").eq("UserPrcToolMapp"), IndexName="GSI1")

        assert [("USR001", "cafe")] == [(item["PK"], item["GSI1_SK"]) for item in items]
