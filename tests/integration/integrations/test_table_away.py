"""Every way of recording while the table is away: everything is in the journal, and arrives once."""

from __future__ import annotations

import asyncio

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.dynamo.models import ToolExecution
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.suggest.plan import ToolRef
from tests.integration.away import FAULTS, Endpoint, Fault
from tests.integration.integrations.process_end import RECORDERS
from tests.integration.integrations.test_process_end import PACKAGES

USERS = ("USRbefore", "USRada", "USRbob")
NAMES = {"Claude Agent SDK": ("claude", "mcp__cafes__search")}  # as the SDK names them; the others' are ours


def executions(model: AgentModel, user_id: str) -> list[ToolExecution]:
    """The calls of a user, by session and in order."""
    sessions = sorted(model.repository.sessions(user_id), key=lambda session: session.session_id)
    return [
        execution
        for session in sessions
        for execution in model.repository.session_history(user_id, session.session_id).executions
    ]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("recorder", RECORDERS)
def test_every_call_arrives_once(
    away_settings: Settings, settings: Settings, endpoint: Endpoint, recorder: str, fault: Fault
) -> None:
    """Calls before an outage, and in it by an old and by new users, arrive once, each as a first attempt, with names."""
    if recorder in PACKAGES:
        pytest.importorskip(PACKAGES[recorder], reason="the framework is an extra")
    with AgentModel.from_settings(away_settings) as warm:
        RECORDERS[recorder](warm)("before")
    with AgentModel.from_settings(away_settings) as model:
        model.drain()
        run = RECORDERS[recorder](model)
        with endpoint.away(fault):
            for user in ("before", "ada", "bob", "ada"):
                run(user)
            for close in tuple(model.on_close):  # trackers and processors write what they have
                close()
        model.drain()
        found = {user_id: executions(model, user_id) for user_id in USERS}
    with AgentModel.from_settings(settings.model_copy(update={"valkey_url": None})) as far:
        stored = {user_id: executions(far, user_id) for user_id in USERS}
        tool_refs = {ToolRef(one.agent_id, one.tool_id) for calls in stored.values() for one in calls}
        names = {ref: (far.repository.agent(ref.agent_id), far.repository.tool(*ref)) for ref in tool_refs}

    assert {"USRbefore": 2, "USRada": 2, "USRbob": 1} == {user_id: len(calls) for user_id, calls in stored.items()}
    assert stored == found
    assert {1} == {one.attempt for calls in stored.values() for one in calls}
    assert 5 == len({one.call_id for calls in stored.values() for one in calls})
    if recorder != "Plain Python":  # it takes ids, and leaves the catalogue to the application
        assert {NAMES.get(recorder, ("finder", "search"))} == {
            (agent.name, tool.name) for agent, tool in names.values() if agent is not None and tool is not None
        }


@pytest.mark.parametrize("fault", FAULTS)
def test_one_thread_goes_on(away_settings: Settings, endpoint: Endpoint, fault: Fault) -> None:
    """A session by its id in the history goes on in a tracker while the table is away, after the calls it has."""
    with AgentModel.from_settings(away_settings) as model:
        with (
            model.session("USRada", "find it", session_id="SESSmine") as session,
            session.process("look") as process,
            process.call("AGTfinder", "TLsearch") as call,
        ):
            call.result = "before"
        model.drain()
        assert model._valkey is not None
        model._valkey.execute(("FLUSHALL",))
        with endpoint.away(fault), Tracker(model) as tracker:
            run = tracker.run("SESSmine", user="USRada")
            for call_id in ("c1", "c2"):
                run.turn("model", calls=[call_id])
                attempt = run.start(call_id, agent="AGTfinder", tool="TLsearch")
                run.end(call_id, attempt, status="error" if call_id == "c1" else "ok", result=call_id)
            attempt = run.start("c1", agent="AGTfinder", tool="TLsearch")
            run.end("c1", attempt, status="ok", result="c1 again")
            run.finish(succeeded=True)
        model.drain()
        found = [(one.result, one.attempt) for one in executions(model, "USRada")]
        ended = model.repository.session("USRada", "SESSmine")

    assert 0 == tracker.errors
    assert [("before", 1), ("c1", 1), ("c1 again", 2), ("c2", 1)] == found
    assert ended is not None
    assert ("find it", True) == (ended.request, ended.succeeded)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_mcp_server_records(away_settings: Settings, endpoint: Endpoint, fault: Fault) -> None:
    """`record_execution` takes calls with and without a session while the table is away; a repeated one is one."""
    pytest.importorskip("mcp", reason="the MCP server is an extra")
    from mcp import Client

    from agentmodel.callers import Caller
    from agentmodel.integrations.mcp import mcp_server

    async def record(model: AgentModel) -> list[bool]:
        caller = Caller(user_id="USR001", roles=frozenset({"recorder"}))
        call = {"agent_id": "AGT001", "tool_id": "TL001", "result": "found", "succeeded": True}
        own = call | {"session_id": "SESSmine", "call_id": "c1"}
        async with Client(mcp_server(model, caller=caller)) as client:
            answers = [await client.call_tool("record_execution", arguments) for arguments in (call, own, own)]
        return [bool(answer.is_error) for answer in answers]

    with AgentModel.from_settings(away_settings) as model:
        with endpoint.away(fault):
            failed = asyncio.run(record(model))
        model.drain()
        found = executions(model, "USR001")

    assert [False, False, False] == failed
    assert [1, 1] == [one.attempt for one in found]
    assert 1 == sum(one.call_id == "c1" for one in found)
