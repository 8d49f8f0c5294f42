"""What the MCP server bounds: the size of every answer, the calls of a caller, what may be recorded, what it costs."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

pytest.importorskip("mcp", reason="the MCP server is an extra")

from mcp import Client, MCPError
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult

from agentmodel import Agent, AgentModel, Domain, Settings, Tool, ToolExecution, UserSession, UserToolMapping, keys
from agentmodel._version import installed_version
from agentmodel.callers import ROLES, Caller, Role
from agentmodel.integrations.mcp import mcp_server
from agentmodel.integrations.mcp._schemas import Saved
from agentmodel.integrations.mcp._sizes import AnswerSize, _cost, cut_text
from agentmodel.suggest.review import Reviews
from tests.integration.suggest_world import catalogue, opened

USER, OTHER = "USR001", "USR002"
LONG = '"\\' * 16_000  # each character of it becomes up to six in an answer
WIDE = "카페\n\u202e" * 8_000
NAME = '"' * 590
MOST = 40_000
SESSION = "SESS" + "9" * 120


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"mcp_calls_per_minute": 0})


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model)
        yield model


def client(model: AgentModel, *roles: Role, user: str = USER, **options: Any) -> Client:
    server = mcp_server(model, caller=Caller(user_id=user, roles=frozenset(roles)), self_review=True)
    return Client(server, **options)


def size_of(answer: Any) -> int:
    """How many characters an answer has, as it is sent."""
    return len(answer.model_dump_json(by_alias=True, exclude_none=True))


def told(result: CallToolResult) -> str:
    return "".join(getattr(block, "text", "") for block in result.content)


def given(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, told(result)
    assert result.structured_content is not None
    assert result.structured_content == json.loads(told(result)), "both say the same"
    return result.structured_content


def large_records(model: AgentModel, *, steps: int = 100) -> str:
    """Put the largest value of every field into records of every kind, and return the reference of a question."""
    token = "x" * 125
    agents = [f"AGT{token}{n:03d}" for n in range(12)]
    model.repository.put(
        Domain(domain_id="DMN009", name=NAME, description=LONG, examples=[WIDE[:1000]] * 50),
        *[Agent(agent_id=agent, domain_id="DMN009", name=NAME, description=LONG, executions=9) for agent in agents],
        *[
            Tool(agent_id=agent, tool_id=f"TL{token}{n}", domain_id="DMN009", name=NAME, description=WIDE, calls=10,
                 errors=9, last_error=LONG, last_error_at=datetime.now(UTC), spec={"about": LONG})
            for agent in agents for n in range(3)
        ],
    )  # fmt: skip
    places = [(f"PRC{n:03d}", agents[n % 3], f"TL{token}{n % 3}") for n in range(1, steps + 1)]
    named: dict[str, str] = {keys.EXECUTION.build(*place, 1): NAME for place in places}
    model.repository.put(
        *[
            UserToolMapping(
                user_id=USER, category=f"{n} " + '"' * 250, processes={place[0]: NAME for place in places},
                agents=dict.fromkeys(agents, NAME), tools=named, score=9.0, executions=9, successes=9,
                counts={key: [9, 9] for key in named}, requests=[LONG[:9000]],
            )
            for n in range(12)
        ],
        UserSession(user_id=USER, session_id=SESSION, name=NAME[:200], request=LONG, category='"' * 250, summary=LONG),
        *[
            UserSession(user_id=USER, session_id=f"SESS{n}", name=WIDE[:200], request=WIDE, category="c")
            for n in range(30)
        ],
    )  # fmt: skip
    for n in range(12):
        model.recorder.record(
            ToolExecution(
                user_id=USER, session_id=SESSION, process_id=f"PRC{n:03d}", agent_id=agents[0], tool_id=f"TL{token}0",
                tool_name=NAME, values=LONG if n % 2 else WIDE, result=LONG, succeeded=False, error_type=NAME,
                executed_at=datetime.now(UTC),
            )
        )  # fmt: skip
    for n in range(8):
        asked = model.reviews.ask(
            USER, SESSION, LONG, arguments={"exact": LONG, "more": [WIDE]}, reason=WIDE, call_id=str(n),
            agent_id=agents[0], tool_id=f"TL{token}0",
        )  # fmt: skip
    return Reviews.reference(asked)


FIRST = f"AGT{'x' * 125}000"

ANSWERS: list[tuple[str, dict[str, Any]]] = [
    ("list_domains", {}),
    ("list_agents", {"domain_id": "DMN009", "limit": 100}),
    ("list_tools", {"agent_id": FIRST}),
    ("list_tools", {"agent_id": FIRST, "text": f"TL{'x' * 125}0/spec"}),
    ("route_request", {"request": LONG}),
    ("recommend_process", {"category": "0 " + '"' * 250}),
    ("recommend_process", {"request": LONG}),
    ("recommend_process", {"domain_id": "DMN009", "request": WIDE, "category": LONG}),
    ("next_tools", {"session_id": SESSION, "limit": 20}),
    ("next_tools", {"agent_id": FIRST, "done": [NAME] * 1000, "limit": 20}),
    ("agent_ranking", {"domain_id": "DMN009", "limit": 100}),
    ("tool_health", {"domain_id": "DMN009"}),
    ("session_history", {"limit": 100}),
    ("session_history", {"session_id": SESSION, "limit": 100}),
    ("session_history", {"session_id": SESSION, "text": "request"}),
    ("list_reviews", {"limit": 100}),
    ("savings_report", {}),
    ("record_execution", {"agent_id": "AGT001", "tool_id": "TL001", "succeeded": True, "arguments": LONG,
                          "result": WIDE, "request": LONG, "process": LONG, "error_type": LONG}),
    # errors
    ("list_agents", {"domain_id": LONG}),
    ("list_tools", {"agent_id": FIRST, "text": LONG}),
    ("route_request", {"request": ""}),
    ("next_tools", {"agent_id": LONG}),
    ("agent_ranking", {"domain_id": LONG}),
    ("tool_health", {"domain_id": "DMN009", "cursor": LONG}),
    ("session_history", {"session_id": LONG}),
    ("session_history", {"session_id": SESSION, "text": LONG}),
    ("list_reviews", {"text": f"{LONG}/arguments"}),
    ("list_reviews", {"queue": LONG}),
    ("record_execution", {"agent_id": LONG, "tool_id": LONG, "succeeded": LONG, LONG: LONG}),
    ("record_execution", {"agent_id": "AGT001", "tool_id": "TL001", "succeeded": True, "call_id": LONG}),
    ("record_execution", {"agent_id": "AGT001", "tool_id": "TL001", "succeeded": True, "user_id": LONG}),
    ("decide_review", {"review": LONG}),
    (LONG, {}),
]  # fmt: skip


def test_no_answer_is_too_large(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the largest value in every field, each tool, resource, form and error stays below the number of characters."""
    which = large_records(model)
    row = Saved(category='"' * 1000, hits=1, sessions=1, timed=1, seconds=1.0, metered=1, tokens=1, priced=1, cost=1.0)
    monkeypatch.setattr(model, "savings", lambda: [row] * 500)
    forms: list[int] = []

    async def person(context: Any, params: ElicitRequestParams) -> ElicitResult:
        forms.append(size_of(params))
        return ElicitResult(action="decline")

    async def scenario() -> dict[str, int]:
        sizes: dict[str, int] = {}
        async with client(model, *ROLES, elicitation_callback=person) as asking:
            sizes["tools/list"] = size_of(await asking.list_tools())
            for n, (name, arguments) in enumerate([*ANSWERS, ("decide_review", {"review": which})]):
                sizes[f"{n} {name[:20]}"] = size_of(await asking.call_tool(name, arguments))
            for uri in (
                "agentmodel://domains/DMN009/agents",
                f"agentmodel://users/{USER}/processes",
                f"agentmodel://users/{USER}/processes?cursor={'9' * 9000}",
                f"agentmodel://domains/{'x' * 50_000}/agents",
                f"agentmodel://none/{'x' * 50_000}",
            ):
                try:
                    sizes[uri[:60]] = size_of(await asking.read_resource(uri))
                except MCPError as error:
                    sizes[uri[:60]] = size_of(error.error)
        return sizes

    sizes = asyncio.run(scenario())

    assert {} == {name: size for name, size in sizes.items() if size > MOST}
    assert [True] == [size < MOST for size in forms]
    assert len(ANSWERS) + 7 == len(sizes)


@pytest.mark.parametrize("raises", [True, False])
def test_what_the_sdk_does_not_catch_is_short_too(
    raises: bool, model: AgentModel, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that the SDK would send whole, or log with every frame, is a few words to the client and in the log."""

    async def scenario() -> MCPError:
        async with client(model, *ROLES, raise_exceptions=raises) as asking:
            with pytest.raises(MCPError) as caught:
                await asking.get_prompt("zz" * 3000)
            return caught.value

    error = asyncio.run(scenario())

    assert "prompts/get failed: this server cannot answer it" == error.error.message
    assert ["mcp.failed method=prompts/get: ValueError"] == [line.getMessage() for line in caplog.records]


def paged(model: AgentModel, tool: str, rows: str, **arguments: Any) -> list[dict[str, Any]]:
    """The rows of all pages."""

    async def scenario() -> list[dict[str, Any]]:
        found, cursor = [], None
        async with client(model, *ROLES) as asking:
            while True:
                answer = await asking.call_tool(tool, arguments | ({} if cursor is None else {"cursor": cursor}))
                page = given(answer)
                assert size_of(answer) <= MOST
                found += page[rows]
                cursor = page["cursor"]
                if cursor is None:
                    return found

    return asyncio.run(scenario())


def test_pages_end_by_size_and_go_on(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that end early have a cursor, and together they have every row once, whatever limit was asked for."""
    large_records(model)
    row = Saved(category='"' * 1000, hits=1, sessions=1, timed=1, seconds=1.0, metered=1, tokens=1, priced=1, cost=1.0)
    monkeypatch.setattr(model, "savings", lambda: [row.model_copy(update={"hits": n}) for n in range(60)])

    agents = paged(model, "agent_ranking", "agents", domain_id="DMN009", limit=100)
    tools = paged(model, "tool_health", "tools", domain_id="DMN009")
    sessions = paged(model, "session_history", "sessions", limit=100)
    calls = paged(model, "session_history", "calls", session_id=SESSION, limit=100)
    reviews = paged(model, "list_reviews", "reviews", limit=100)
    savings = paged(model, "savings_report", "rows")

    assert (12, 36, 31, 12, 8, 60) == tuple(map(len, (agents, tools, sessions, calls, reviews, savings)))
    assert 12 == len({agent["agent_id"] for agent in agents})
    assert 36 == len({(tool["agent_id"], tool["tool_id"]) for tool in tools})
    assert 12 == len({call["call"] for call in calls})
    assert 8 == len({review["review"] for review in reviews})
    assert list(range(60)) == [each["hits"] for each in savings]


def rest_of(model: AgentModel, cut: str, **arguments: Any) -> str:
    """A text that was cut, put together again as the words where it was cut say."""
    where = re.search(r'… \[cut, (\d+) characters; (\w+)(?: with session_id=(\S+))? returns the rest: text=(".*"), '
                      r"offset=(\d+)\]$", cut, re.DOTALL)  # fmt: skip
    assert where is not None, cut[-300:]
    characters, tool, session_id, name, offset = where.groups()
    asked = {"text": json.loads(name)} | ({} if session_id is None else {"session_id": session_id})
    whole = "" if offset == "0" else cut[: where.start()]

    async def scenario() -> str:
        found: str = whole
        after: int | None = int(offset)
        async with client(model, *ROLES) as asking:
            while after is not None:
                answer = await asking.call_tool(tool, asked | {"offset": after})
                assert size_of(answer) <= MOST
                part = given(answer)["text"]
                found, after = found + part["content"], part["next_offset"]
        return found

    found = asyncio.run(scenario())
    assert int(characters) == len(found)
    return found


def test_the_rest_of_every_text_can_be_read(model: AgentModel) -> None:
    """The words at the end of a cut text lead to all of it: arguments, results, requests, questions and reasons."""
    large_records(model)
    calls = paged(model, "session_history", "calls", session_id=SESSION, limit=1)
    sessions = {each["session_id"]: each for each in paged(model, "session_history", "sessions", limit=100)}
    review = paged(model, "list_reviews", "reviews", limit=1)[0]
    stored = model.reviews.get(review["review"])

    assert {LONG, WIDE} == {rest_of(model, call["values"]) for call in calls[:2]}
    assert LONG == rest_of(model, calls[0]["result"])
    assert LONG == rest_of(model, sessions[SESSION]["request"])
    assert stored.question == rest_of(model, review["question"])
    assert stored.reason == rest_of(model, review["reason"])
    assert stored.arguments == json.loads(rest_of(model, review["arguments"]))


def test_a_long_plan_is_read_in_parts(model: AgentModel) -> None:
    """A plan whose steps do not fit says with which step the next answer begins; the parts have every step once."""
    large_records(model, steps=30)

    async def scenario() -> list[str]:
        found: list[str] = []
        async with client(model, "reader") as asking:
            first: int | None = 1
            while first is not None:
                plan = given(
                    await asking.call_tool("recommend_process", {"category": "0 " + '"' * 250, "first_step": first})
                )
                found += [step["tool_id"] for step in plan["steps"]]
                told_next = [re.search(r"first_step=(\d+)", reason["text"]) for reason in plan["reasons"]]
                first = next((int(each[1]) for each in told_next if each is not None), None)
        return found

    steps = asyncio.run(scenario())

    assert [f"{n % 3}" for n in range(1, 31)] == [step[-1] for step in steps]


def test_a_small_answer_is_whole(model: AgentModel) -> None:
    """What fits is given as it was recorded, without a word of cutting."""
    with (
        model.session(USER, "find a café") as session,
        session.process("look") as process,
        process.call("AGT001", "TL001", values={"near": "park"}) as call,
    ):
        call.result = "x" * 500

    (found,) = paged(model, "session_history", "calls", session_id=session.session_id)

    assert ('{"near": "park"}', "x" * 500) == (found["values"], found["result"])


@pytest.mark.parametrize("text", [LONG, WIDE, "plain" * 9000, '"' * 50_000, "\x00" * 9000, "é" * 20_000])
@pytest.mark.parametrize("most", [200, 4900, 38_000])
def test_a_cut_text_takes_what_it_may(text: str, most: int) -> None:
    """A text is cut to what it may take, and to hardly less."""
    cut = cut_text(text, most, hint=lambda left: f"[{left}]")

    assert _cost(cut) <= most
    assert _cost(cut) > most - 40 or cut == text


def test_the_number_of_characters_is_a_setting(settings: Settings) -> None:
    """A server sends larger answers where the setting allows them."""
    assert 30_000 - 600 > AnswerSize(30_000)._most - 1
    with opened(settings.model_copy(update={"mcp_answer_characters": 400_000})) as model:
        catalogue(model)
        large_records(model)

        async def scenario() -> int:
            async with client(model, "reader") as asking:
                answer = await asking.call_tool("session_history", {"session_id": SESSION, "limit": 100})
                assert not answer.is_error
                return size_of(answer)

        assert MOST < asyncio.run(scenario()) <= 400_000


# What recording costs


@contextmanager
def counted(model: AgentModel) -> Iterator[Counter[str]]:
    """Requests to DynamoDB and commands to Valkey, and the bytes of both, while the block runs."""
    seen: Counter[str] = Counter()
    table, valkey = model.table.call, model.valkey
    send = None if valkey is None else valkey._send

    def call(operation: str, **request: Any) -> dict[str, Any]:
        answer = table(operation, **request)
        seen["DynamoDB requests"] += 1
        seen["DynamoDB bytes"] += len(str(request)) + len(str(answer))
        return answer

    def sent(commands: Sequence[Any], node_of: str | None) -> list[Any]:
        assert send is not None
        answers = send(commands, node_of)
        seen["Valkey trips"] += 1
        seen["Valkey bytes"] += len(str(commands)) + len(str(answers))
        return answers

    model.table.call = call  # type: ignore[method-assign]  # a counter around the one way to DynamoDB
    if valkey is not None:
        valkey._send = sent  # type: ignore[method-assign]  # likewise
    try:
        yield seen
    finally:
        model.table.call = table  # type: ignore[method-assign]  # as it was
        if valkey is not None and send is not None:
            valkey._send = send  # type: ignore[method-assign]  # as it was


def in_one_session(model: AgentModel, calls: int, *, drained: bool) -> tuple[str, dict[int, Counter[str]]]:
    """Record calls in one session, each with an id; what each of them cost."""
    costs: dict[int, Counter[str]] = {}

    async def scenario() -> str:
        session: dict[str, Any] = {}
        async with client(model, "recorder") as asking:
            for n in range(1, calls + 1):
                made = {"agent_id": "AGT001", "tool_id": "TL001", "succeeded": True, "call_id": f"call-{n:06d}"}
                if drained and n == calls:
                    await asyncio.to_thread(model.drain)
                model.settle()
                with counted(model) as cost:
                    recorded = given(await asking.call_tool("record_execution", made | session))
                    model.settle()
                costs[n] = cost
                session = {"session_id": recorded["session_id"]}
        return str(session["session_id"])

    return asyncio.run(scenario()), costs


@pytest.mark.parametrize("kind", ["Valkey", "Valkey, drained", "table alone", "durability dynamodb"])
def test_the_thousandth_call_costs_what_the_first_does(settings: Settings, kind: str) -> None:
    """Requests and bytes to DynamoDB and Valkey of a call do not grow with the session, and no call is lost."""
    changes: dict[str, dict[str, Any]] = {
        "table alone": {"valkey_url": None},
        "durability dynamodb": {"durability": "dynamodb"},
    }
    changed = changes.get(kind, {})
    count = 1000 if kind == "Valkey" else 250
    with opened(settings.model_copy(update=changed)) as model:
        catalogue(model)
        session_id, costs = in_one_session(model, count, drained="drained" in kind)
        history = model.repository.session_history(USER, session_id)

    second, last = costs[30], costs[count]
    assert count == len(history.executions) == len(history.processes)
    assert [f"call-{n:06d}" for n in range(1, count + 1)] == [call.call_id for call in history.executions]
    for name in ("DynamoDB requests", "Valkey trips"):
        assert last[name] <= max(costs[1][name], second[name]), name
    for name in ("DynamoDB bytes", "Valkey bytes"):
        assert last[name] <= 1.1 * max(costs[1][name], second[name]) + 100, name


@pytest.mark.parametrize("kind", ["Valkey", "table alone"])
def test_calls_of_two_servers_at_once(settings: Settings, kind: str) -> None:
    """Calls that two servers record in one session at once are each one step with a number of its own."""
    plain = settings.model_copy(update={"valkey_url": None}) if kind == "table alone" else settings
    made = {"agent_id": "AGT001", "tool_id": "TL001", "succeeded": True, "session_id": SESSION}

    async def at_once(*models: AgentModel) -> list[bool]:
        async with client(models[0], "recorder") as one, client(models[1], "recorder") as two:
            told = [
                each.call_tool("record_execution", made | {"call_id": f"call-{n}"})
                for n in range(12)
                for each in ((one, two) if n % 3 == 0 else (one,) if n % 3 == 1 else (two,))
            ]
            return [bool(answer.is_error) for answer in await asyncio.gather(*told)]

    with opened(plain) as model, AgentModel(plain) as other:
        catalogue(model)
        failed = asyncio.run(at_once(model, other))
        history = model.repository.session_history(USER, SESSION)

    assert [False] * 16 == failed
    assert sorted(f"call-{n}" for n in range(12)) == sorted(str(call.call_id) for call in history.executions)
    assert 12 == len({call.call_number for call in history.executions}) == len(history.processes)


@pytest.mark.parametrize("kind", ["Valkey", "Valkey, drained", "table alone"])
def test_a_repeated_call_is_one(settings: Settings, kind: str) -> None:
    """A call that is told again under its id is recorded once: by another server, after a drain, and without Valkey."""
    plain = settings.model_copy(update={"valkey_url": None}) if kind == "table alone" else settings
    made = {"agent_id": "AGT001", "tool_id": "TL001", "succeeded": True}

    async def told_to(model: AgentModel, **more: Any) -> dict[str, Any]:
        async with client(model, "recorder") as asking:
            return given(await asking.call_tool("record_execution", made | more))

    with opened(plain) as model, AgentModel(plain) as other:
        catalogue(model)
        first = asyncio.run(told_to(model, call_id="call-1"))
        same = {"session_id": first["session_id"]}
        for n in range(2, 5):
            asyncio.run(told_to(other, call_id=f"call-{n}", **same))
        if kind == "Valkey, drained":
            model.drain()
        again = [asyncio.run(told_to(one, call_id="call-1", result="another", **same)) for one in (model, other)]
        asyncio.run(told_to(other, call_id="call-5", **same))
        asyncio.run(told_to(model, **same))
        history = model.repository.session_history(USER, first["session_id"])
        session = model.repository.session(USER, first["session_id"])

    assert [first, first] == again
    assert ["call-1", "call-2", "call-3", "call-4", "call-5"] == [call.call_id for call in history.executions][:5]
    assert 6 == len(history.executions) == len(history.processes)
    assert [1, 2, 3, 4, 5, 6] == [call.call_number for call in history.executions]
    assert session is not None
    assert session.ended_at is not None


def test_a_session_keeps_what_was_told_of_it(model: AgentModel) -> None:
    """A later call of a session neither loses its request nor keeps an old category; an id of one's own is taken."""
    made = {"agent_id": "AGT001", "tool_id": "TL001", "succeeded": True, "session_id": "SESSmine"}

    async def scenario() -> None:
        async with client(model, "recorder") as asking:
            given(await asking.call_tool("record_execution", made | {"request": "find a café", "category": "old"}))
            given(await asking.call_tool("record_execution", made | {"category": "new"}))

    asyncio.run(scenario())
    model.drain()
    session = model.repository.session(USER, "SESSmine")

    assert session is not None
    assert ("find a café", "new", None) == (session.request, session.category, session.succeeded)


# What may be recorded, and whose failures count


def recorded(model: AgentModel, *roles: Role, user: str = USER, **more: Any) -> CallToolResult:
    async def scenario() -> CallToolResult:
        async with client(model, *roles, user=user) as asking:
            made = {"agent_id": "AGT001", "tool_id": "TL001", "succeeded": True}
            return await asking.call_tool("record_execution", made | more)

    return asyncio.run(scenario())


def test_a_recorder_records_what_the_catalogue_has(model: AgentModel) -> None:
    """An agent or tool that the catalogue lacks is rejected with what to do, and nothing is recorded; curators may."""
    agent = recorded(model, "recorder", agent_id="AGTmade-up")
    tool = recorded(model, "recorder", tool_id="TLmade-up")
    before = model.repository.sessions(USER).items
    curated = recorded(model, "recorder", "curator", tool_id="TLmade-up")
    operated = recorded(model, "operator", agent_id="AGTmade-up")
    alone = recorded(model, "curator")

    assert "agent_id ('AGTmade-up') must be in the catalogue" in told(agent)
    assert "tool_id ('TLmade-up') must be in the catalogue" in told(tool)
    assert "give the caller the role curator" in told(tool)
    assert () == before
    assert "made-up" == model.repository.session_history(USER, given(curated)["session_id"]).executions[0].tool_name
    assert not operated.is_error
    assert "this needs the role recorder or operator" in told(alone)


def test_a_recorder_decides_for_itself_alone_that_a_tool_fails(model: AgentModel) -> None:
    """Failures that a recorder tells of hold for that caller; those that an operator tells of hold for everybody."""

    def state(user: str) -> str:
        async def scenario() -> str:
            async with client(model, "reader", user=user) as asking:
                tools = given(await asking.call_tool("tool_health", {"domain_id": "DMN001"}))["tools"]
                return next(
                    each["state"] for each in tools if (each["agent_id"], each["tool_id"]) == ("AGT001", "TL001")
                )

        return asyncio.run(scenario())

    for _ in range(25):
        recorded(model, "recorder", user=OTHER)
    for _ in range(12):
        recorded(model, "recorder", succeeded=False)

    assert ("open", "closed", "closed") == (state(USER), state(OTHER), state("USR003"))

    for _ in range(6):
        recorded(model, "operator", user="USR009", succeeded=False)

    assert ("open", "open", "open") == (state(USER), state(OTHER), state("USR003"))


# How often


def calls_of(model: AgentModel, count: int, user: str = USER) -> list[str | None]:
    """Ask so often; the texts of the rejections. The client lists the tools once, which is a request too."""

    async def scenario() -> list[str | None]:
        async with client(model, "reader", user=user) as asking:
            results = [await asking.call_tool("session_history", {}) for _ in range(count)]
            return [told(each) if each.is_error else None for each in results]

    return asyncio.run(scenario())


async def rejected(ask: Callable[[], Awaitable[object]]) -> str:
    """Ask until the rejection, and return it."""
    for _ in range(6):
        try:
            await ask()
        except MCPError as error:
            if "not now" in str(error):
                return str(error)
    return "served"


@pytest.mark.parametrize("shared", [True, False])
def test_a_caller_who_asks_too_often_is_told_when_to_come_back(settings: Settings, shared: bool) -> None:
    """One call too many in a minute is rejected, by every server that shares Valkey; other callers are served."""
    changed = {"mcp_calls_per_minute": 5} | ({} if shared else {"valkey_url": None})
    few = settings.model_copy(update=changed)
    with opened(few) as model, AgentModel(few) as other:
        mine = calls_of(model, 7)
        elsewhere = calls_of(other, 1)
        others = calls_of(model, 1, OTHER)

        async def scenario() -> dict[str, str]:
            async with client(model, "reader") as asking:
                ways: dict[str, Callable[[], Awaitable[object]]] = {
                    "resource": lambda: asking.read_resource(f"agentmodel://users/{USER}/processes"),
                    "tools": asking.list_tools,
                    "resources": asking.list_resources,
                    "templates": asking.list_resource_templates,
                    "prompts": asking.list_prompts,
                    "a prompt": lambda: asking.get_prompt("none"),
                }
                return {name: await rejected(way) for name, way in ways.items()}

        others_of_mine = asyncio.run(scenario())

    assert [None] * 4 == mine[:4]
    assert re.fullmatch(
        r"not now: USR001 may make 5 calls in a minute \(AGENTMODEL_MCP_CALLS_PER_MINUTE\), and has made them; "
        r"call again in \d+ seconds, from \d\d:\d\d:\d\d UTC on",
        str(mine[4]),
    )
    assert shared == (elsewhere[0] is not None)
    assert [None] == others
    assert [] == [name for name, text in others_of_mine.items() if "not now: USR001" not in text]


def test_clients_see_the_version_of_the_server(model: AgentModel) -> None:
    """A client that reports a fault can say which version it talked to."""

    async def scenario() -> str | None:
        async with client(model, "reader") as asking:
            return None if asking.server_info is None else asking.server_info.version

    assert (installed_version() or "unknown") == asyncio.run(scenario())


@pytest.mark.parametrize("junk", [b"hello", b"inf", b"nan", b"1e300", b"-1e300", b"\xff", b"9" * 5000])
def test_a_damaged_bucket_is_a_full_one(settings: Settings, junk: bytes) -> None:
    """Whatever is in a bucket in Valkey, a caller is answered, and counted from then on."""
    from agentmodel.integrations.mcp._rate import RateLimit

    with (
        opened(settings) as model,
        closing(redis.Redis.from_url(str(settings.valkey_url).replace("valkey:", "redis:", 1))) as server,
    ):
        known, new = (RateLimit(2, valkey=model.valkey, fixed=None, now=lambda: 1000.0) for _ in range(2))
        known.take("a")
        (bucket,) = server.keys("*:mcp-rate:*")
        server.set(bucket, junk)
        taken = [known.take("a"), new.take("a"), new.take("a")]

    assert [0.0, 0.0, 30.0] == taken


def test_the_bucket_fills_up_again(settings: Settings) -> None:
    """A minute after all calls were made, as many may be made again; after a part of it, a part."""
    from agentmodel.integrations.mcp._rate import RateLimit

    now = [1000.0]
    with opened(settings) as model:
        limit = RateLimit(6, valkey=model.valkey, fixed=None, now=lambda: now[0])
        first = [limit.take("a") for _ in range(8)]
        now[0] += 20
        part = [limit.take("a") for _ in range(3)]
        now[0] += 600
        full = [limit.take("a") for _ in range(7)]

    assert ([0.0] * 6, [10.0, 10.0]) == (first[:6], first[6:])
    assert [0.0, 0.0, 10.0] == part
    assert [*[0.0] * 6, 10.0] == full
