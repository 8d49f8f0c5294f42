"""A program that uses an entry point, forks four children at once that use it too, and uses it again.

    python fork_children.py ENTRY [mutant]

``AGENTMODEL_*`` says where the engines are. Every process uses the entry point for a name of its own; what it does for
one name it must never do or see for another. A child that sees what is wrong ends with status 1 and says so. With ``mutant``, the children use their
parent's connections to the table.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agentmodel import AgentModel, AsyncAgentModel, User
from agentmodel.dynamo._fast_client import SharedConnection
from agentmodel.suggest.guard import Go

CHILDREN = tuple(f"child{number}" for number in range(4))
ROUNDS = 30

Use = Callable[[str], None]
"""Uses the entry point for one name."""


def record(model: AgentModel, name: str) -> None:
    """Record one session with one call, whose result is the name."""
    with (
        model.session(f"USR{name}", "find it", category="search") as session,
        session.process("look") as process,
        process.call("AGTfinder", "TLsearch", values={}, tool_name="search") as call,
    ):
        call.result = name


def reads(model: AgentModel) -> Use:
    """Reads items that nobody has read before, many times, from the table and from Valkey."""
    names = ("parent", *CHILDREN, "again")
    model.repository.put(*(User(user_id=f"USR{name}-{n}", name=name) for name in names for n in range(ROUNDS)))

    def use(name: str) -> None:
        for n in range(ROUNDS):
            for user_id in (f"USR{name}-{n}", f"USR{name}-0"):
                user = model.repository.user(user_id)
                assert user is not None
                assert name == user.name
            stored = model.table.get(User(user_id=f"USR{name}-{n}", name="").key, consistent=True)
            assert stored is not None
            assert name == stored.name
        record(model, name)

    return use


def recorder(model: AgentModel) -> Use:
    """Records by the recorder, and reads back at once."""

    def use(name: str) -> None:
        record(model, name)
        (session,) = model.repository.sessions(f"USR{name}").items
        (execution,) = model.repository.session_history(f"USR{name}", session.session_id).executions
        assert name == execution.result

    return use


def around_valkey(model: AgentModel) -> Use:
    """Records into the table, as where no Valkey is set up."""
    return recorder(AgentModel.from_settings(model.settings.model_copy(update={"valkey_url": None})))


def function(model: AgentModel) -> Use:
    """Records by a function that `model.tool` made a tool of."""

    @model.tool(agent="finder")
    def search(q: str) -> str:
        return q

    def use(name: str) -> None:
        with model.session(f"USR{name}", "find it"):
            assert name == search(name)

    return use


def tracker(model: AgentModel) -> Use:
    """Records by a tracker, in the background."""
    from agentmodel.integrations._tracking.tracker import Tracker

    shared = Tracker(model)

    def use(name: str) -> None:
        run = shared.run(name, user=name)
        number = run.start("c1", agent="finder", tool="search")
        run.end("c1", number, status="ok", result=name)
        run.finish()
        assert shared.flush()
        assert 0 == shared.errors

    return use


def guard(model: AgentModel) -> Use:
    """Asks a guard before a call."""
    shared = model.guard()

    def use(name: str) -> None:
        with model.session(f"USR{name}", "find it") as session, session.process("look") as process:
            decision = shared.before(
                agent_id="AGTfinder", tool_id="TLsearch", user_id=f"USR{name}", session_id=session.session_id
            )
            assert isinstance(decision, Go), decision
            with process.call("AGTfinder", "TLsearch", values={}, tool_name="search") as call:
                call.result = name
        model.settle()

    return use


def suggest(model: AgentModel) -> Use:
    """Asks for a plan."""

    def use(name: str) -> None:
        record(model, name)
        assert f"USR{name}" == model.suggest(f"USR{name}", category="search").user_id

    return use


def reviews(model: AgentModel) -> Use:
    """Asks people."""

    def use(name: str) -> None:
        asked = model.reviews.ask(f"USR{name}", f"SESS{name}", name)
        assert name == model.reviews.get(model.reviews.reference(asked)).question
        record(model, name)

    return use


def line(name: str) -> dict[str, Any]:
    """A call as a trace file has it."""
    ids = {"domain": "agents", "agent": "finder", "user": name, "session": name, "step": 1, "tool": "search"}
    return {**ids, "success": True, "result": name, "started_at": "2025-06-14T09:00:00Z"}


def span(name: str) -> dict[str, Any]:
    """The same call as a file of spans has it."""
    told = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "gen_ai.agent.name": "finder",
            "gen_ai.conversation.id": name, "user.id": name, "gen_ai.tool.call.result": name}  # fmt: skip
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in told.items()]
    times = {"startTimeUnixNano": "1750000000000000000", "endTimeUnixNano": "1750000001000000000"}
    made = {"traceId": name.encode().hex().ljust(32, "0"), "spanId": "1" * 16, "name": "execute_tool search", **times}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [made | {"attributes": attributes}]}]}]}


def imports(made: Callable[[str], Any], load: Callable[[Path], Any]) -> Use:
    """Imports a file of one call."""

    def use(name: str) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "calls.jsonl"
            path.write_text(json.dumps(made(name)), encoding="utf-8")
            assert 1 == load(path).sessions

    return use


def otlp(model: AgentModel) -> Use:
    """Imports a file of spans."""
    from agentmodel.integrations.otlp import import_otlp

    return imports(span, lambda path: import_otlp(model, path))


def mcp(model: AgentModel) -> Use:
    """Records by an MCP server."""
    from mcp import Client

    from agentmodel.callers import Caller
    from agentmodel.integrations.mcp import mcp_server

    async def one(name: str) -> bool:
        caller = Caller(user_id=f"USR{name}", roles=frozenset({"recorder", "curator"}))
        call = {"agent_id": "AGTfinder", "tool_id": "TLsearch", "result": name, "succeeded": True}
        async with Client(mcp_server(model, caller=caller)) as client:
            return bool((await client.call_tool("record_execution", call)).is_error)

    def use(name: str) -> None:
        assert not asyncio.run(one(name))

    return use


def drain(model: AgentModel) -> Use:
    """Drains the journal."""

    def use(name: str) -> None:
        for _ in range(5):
            model.drain()
        record(model, name)
        model.drain()

    return use


def twin(model: AgentModel) -> Use:
    """Records by the asyncio model."""
    shared = AsyncAgentModel(model)

    async def one(name: str) -> None:
        async with (
            shared.session(f"USR{name}", "find it") as session,
            session.process("look") as process,
            process.call("AGTfinder", "TLsearch", values={}, tool_name="search") as call,
        ):
            call.result = name

    return lambda name: asyncio.run(one(name))


ENTRIES: dict[str, Callable[[AgentModel], Use]] = {
    "reads": reads,
    "recorder": recorder,
    "around Valkey": around_valkey,
    "model.tool": function,
    "tracker": tracker,
    "guard": guard,
    "suggest": suggest,
    "reviews": reviews,
    "trace import": lambda model: imports(line, model.import_traces),
    "OTLP import": otlp,
    "MCP server": mcp,
    "drain": drain,
    "asyncio": twin,
}


@contextmanager
def at_once() -> Iterator[Callable[[], None]]:
    """Give children what makes them wait until all of them have been forked."""
    reader, writer = os.pipe()

    def wait() -> None:
        os.close(writer)
        os.read(reader, 1)

    yield wait
    os.close(writer)
    os.close(reader)


def main(entry: str, *mutant: str) -> None:
    """Use, fork, and use again."""
    model = AgentModel.from_settings()
    use = ENTRIES[entry](model)
    use("parent")
    if mutant:
        SharedConnection.renew = lambda _: None  # type: ignore[method-assign,assignment]  # the fault that the test must see
    children = []
    with at_once() as wait:
        for name in CHILDREN:
            child = os.fork()
            if child == 0:
                if name != "child0":
                    gc.freeze()  # at the end to look through all that the parent loaded takes longer than all else
                wait()
                try:
                    use(name)
                except BaseException:  # noqa: BLE001  # whatever it is, the parent is told
                    traceback.print_exc()
                    sys.stderr.flush()
                    os._exit(1)
                model.close() if name == "child0" else None
                sys.exit(0)
            children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    use("again")
    sys.exit(any(statuses))


if __name__ == "__main__":
    main(*sys.argv[1:])
