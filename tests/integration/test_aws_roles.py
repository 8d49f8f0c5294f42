"""Each role of the template allows what its part calls on the embedded engines, and nothing else without a reason."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import timedelta

import pytest

pytest.importorskip("mcp", reason="the MCP server is an extra")
pytest.importorskip("starlette", reason="the console is an extra")

from mcp import Client
from starlette.testclient import TestClient

from agentmodel import Agent, AgentModel, Settings
from agentmodel.aws import handlers
from agentmodel.aws._roles import ACTIONS
from agentmodel.aws.template import template
from agentmodel.callers import ROLES, Caller
from agentmodel.console import console
from agentmodel.integrations.mcp import mcp_server
from tests.integration.aws_calls import allowed, recorded
from tests.integration.integrations.test_mcp import ALLOWED
from tests.integration.integrations.test_mcp import allowed as allowed_tools
from tests.integration.suggest_world import TODAY, catalogue, opened, run
from tests.integration.test_aws_handlers import put_into_environment

AWAY = {"valkey_url": "valkey://127.0.0.1:1/0"}

DATA_API = {  # what is about Redshift is recorded by test_redshift_data_api.py
    ("statement", "redshift-data:CancelStatement"): "a statement takes too long",
    ("statement", "redshift-data:DescribeStatement"): "the Data API",
    ("statement", "redshift-data:GetStatementResult"): "the Data API",
    ("workgroup", "redshift-data:ExecuteStatement"): "the Data API",
    ("workgroup", "redshift-serverless:GetCredentials"): "the Data API",
}

REASONS: dict[str, dict[tuple[str, str], str]] = {
    "application": {},
    "console": DATA_API,
    "mcp": DATA_API
    | {("table", "dynamodb:DeleteItem"): "a user is erased while Valkey is away: what was written is taken back"},
    "drain": {
        ("table", "dynamodb:DeleteItem"): "a user is erased while a pass is written: what was written is taken back",
    },
    "learn": DATA_API,
    "sweep": {
        ("table", "dynamodb:DeleteItem"): "a user is erased while a verdict is applied: the session is taken back",
    },
    "watch": {},
}
"""What a part may call although it was not seen to call it here, and why."""

ONLY_HERE = {
    # DuckDB's feed reads the table; Redshift gets the items by zero-ETL
    "learn": {("table", "dynamodb:DescribeTable"), ("table", "dynamodb:Scan")},
}


def settled(settings: Settings, does: Callable[[AgentModel], object], **more: object) -> None:
    """Do something with a model of its own, which writes all it holds before it is closed."""
    with AgentModel(settings.model_copy(update=more)) as model:
        does(model)
        model.settle()


def ask_and_answer(model: AgentModel) -> None:
    """Ask people twice and answer once; the other question is overdue at once."""
    session_id = run(model)
    review = model.reviews.ask("USR001", session_id, "May it?")
    model.reviews.claim(review, "RVW001")
    model.reviews.decide(review, "approve", by="RVW001")
    model.reviews.ask("USR001", session_id, "May it really?", answer_within=timedelta(microseconds=1))


def plan_and_follow(model: AgentModel) -> None:
    """Ask for a plan, and end a session that follows it."""
    plan = model.suggest("USR001", request="find a café near the stadium", category="cafe search")
    with model.session("USR001", "find a café", category="cafe search", plan=plan) as session:
        with session.process("step") as process, process.call("AGT001", "TL001") as call:
            call.result = "found"
        session.succeed()


def application(settings: Settings) -> None:
    """What an application does: the catalogue, recording, plans, pages, reviews, changes and deletions."""

    def everything(model: AgentModel) -> None:
        catalogue(model)
        ask_and_answer(model)
        plan_and_follow(model)
        repository = model.repository
        repository.update(Agent.at("AGT001"), Agent.description.to("finds places"))
        list(repository.top_agents("DMN001"))
        list(repository.mappings())
        list(repository.sessions("USR001"))
        repository.delete(repository.session_history("USR001", run(model)).executions[0])

    settled(settings, everything)
    settled(settings, everything, valkey_url=None)
    settled(settings, run, **AWAY)


def console_pages(settings: Settings) -> None:
    """What people do in the console: each page, a decision of each kind, changes of the catalogue, a plan."""
    with AgentModel(settings) as model:
        session_id = run(model)
        asked = [model.reviews.ask("USR001", session_id, f"May it {number}?", agent_id="AGT001") for number in range(3)]
        judged = model.reviews.ask("USR001", run(model), "Was it right?", phase="post")
        model.settle()
        client = TestClient(console(model), base_url="http://localhost", client=("127.0.0.1", 4000))

        def send(path: str, **form: str) -> None:
            secret = re.search('name="csrf" value="([0-9a-f]+)"', client.get("/plans").text)
            assert secret is not None
            answer = client.post(path, data={"csrf": secret[1], **form}, follow_redirects=False)
            assert answer.status_code in {200, 303}, answer.text

        for path in ("/", "/inbox", "/inbox/news", "/decisions", "/sessions", "/agents", "/agents/AGT001", "/effect"):
            assert client.get(path).status_code == 200
        assert client.get(f"/sessions/USR001/{session_id}").status_code == 200
        for review, decision in zip([*asked, judged], ("claim", "approve", "reject", "verdict"), strict=True):
            reference = model.reviews.reference(review)
            assert client.get(f"/inbox/{reference}").status_code == 200
            send(
                f"/decide/{reference}",
                decision=decision,
                verdict="wrong",
                reason="no",
                hash=review.arguments_hash or "",
            )
        send("/agents/AGT001", description="Finds places.")
        send("/agents/AGT001/TL001", description="Searches.", needs_review="", read_only="yes")
        send("/plans", user="USR001", request="find a café near the stadium")


def mcp_tools(settings: Settings) -> None:
    """What agents do through the MCP server: each tool and each resource."""
    caller = Caller(user_id="USR001", roles=frozenset(ROLES))
    with AgentModel(settings) as model:
        session_id, asked = run(model), model.reviews.ask("USR002", run(model, "USR002"), "May it?", agent_id="AGT001")

        async def every() -> set[str]:
            async with Client(mcp_server(model, caller=caller)) as client:
                return await allowed_tools(client, model.reviews.reference(asked), session_id)

        assert set(ALLOWED) == asyncio.run(every())
        model.settle()


def verdict_killed(model: AgentModel) -> None:
    """Judge a run, and be killed before its outcome is corrected."""
    judged = model.reviews.ask("USR001", run(model), "Was it right?", phase="post")
    judged.status, judged.verdict, judged.outcome, judged.decided_by = "completed", "wrong", False, "kim"
    model.repository.put(judged)


def call_once(model: AgentModel) -> None:
    """Record a call in a session whose id is the application's own, with the first number it finds free."""
    with (
        model.session("USR002", "where?", session_id="SESS1") as session,
        session.process("look") as process,
        process.call("AGT001", "TL001") as call,
    ):
        call.result = "there"


@pytest.fixture
def seen(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[tuple[str, str]]]:
    """What each part calls, one part after the other on the same installation."""
    put_into_environment(settings, monkeypatch)
    later = {"as_of": (TODAY + timedelta(days=70)).isoformat()}
    found = {part: set[tuple[str, str]]() for part in ACTIONS}

    def seen_at(part: str, does: Callable[..., object], *arguments: object) -> None:
        with recorded() as calls:
            does(*arguments)
        found[part] |= calls - ONLY_HERE.get(part, set())

    with opened(settings) as model:
        catalogue(model)
        model.erase_user("USR003")  # with a mark in the table, each write looks whether it is of an erased user
    seen_at("application", application, settings)
    for does in (ask_and_answer, plan_and_follow, call_once, lambda model: run(model, "USR003")):
        settled(settings, does)
    settled(settings, call_once, **AWAY)  # takes the number that the call in the journal has
    seen_at("drain", handlers.drain, {}, None)
    seen_at("learn", handlers.learn, {}, None)
    seen_at("learn", handlers.learn, later, None)
    for url in (settings.valkey_url, None):
        for part, drive in (("console", console_pages), ("mcp", mcp_tools)):
            seen_at(part, drive, settings.model_copy(update={"valkey_url": url}))
    for url in (settings.valkey_url, None):
        settled(settings, verdict_killed, valkey_url=url)
        if url is None:
            monkeypatch.delenv("AGENTMODEL_VALKEY_URL")
        seen_at("sweep", handlers.sweep, {}, None)
    put_into_environment(settings, monkeypatch)
    seen_at("watch", handlers.watch, {}, None)
    return found


def test_a_role_allows_what_its_part_calls_and_no_more(seen: dict[str, set[tuple[str, str]]]) -> None:
    """No part calls what its role forbids; what a role allows was called here, or has its reason, which is not stale."""
    missing = {part: calls - allowed(part) for part, calls in seen.items()}
    idle = {part: allowed(part) - calls - REASONS[part].keys() for part, calls in seen.items()}
    stale = {part: REASONS[part].keys() & calls for part, calls in seen.items()}

    assert ACTIONS.keys() == seen.keys()
    assert {part: set() for part in seen} == missing
    assert {part: set() for part in seen} == idle
    assert {part: set() for part in seen} == stale


def test_the_policies_of_the_template_are_those() -> None:
    """Each policy of the template allows the actions of its part, on its own resource, and no action by a wildcard."""
    platform = ("logs:", "ec2:", "sqs:", "lambda:", "ecr:", "secretsmanager:")
    found: dict[str, set[str]] = {}
    for resource in template()["Resources"].values():
        part = resource.get("Metadata", {}).get("agentmodel", {}).get("part")
        if part is None:
            continue
        properties = resource["Properties"]
        documents = [
            properties.get("PolicyDocument"),
            *[one["PolicyDocument"] for one in properties.get("Policies", ())],
        ]
        statements = [each.get("Fn::If", ["", each])[1] for one in documents if one for each in one["Statement"]]
        actions = {action for each in statements for action in each["Action"]}
        assert not [action for action in actions if "*" in action]
        found.setdefault(part, set()).update(action for action in actions if not action.startswith(platform))

    assert {part: {action for _, action in allowed(part)} for part in ACTIONS} == {
        part: actions for part, actions in found.items() if part in ACTIONS
    }
    assert set() == set().union(*(actions for part, actions in found.items() if part not in ACTIONS))
