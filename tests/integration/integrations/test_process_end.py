"""What every way of recording keeps when a process forks and ends without closing anything."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentmodel import AgentModel, Settings
from agentmodel._runtime.process import SIGTERM_STATUS
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.suggest.plan import ToolRef
from tests.integration.integrations.process_end import RECORDERS
from tests.integration.suggest_world import catalogue

PROGRAM = Path(__file__).with_name("process_end.py")
PACKAGES = {
    "LangChain": "langchain",
    "Strands": "strands",
    "OpenAI Agents": "agents",
    "Pydantic AI": "pydantic_ai",
    "Google ADK": "google.adk",
    "Claude Agent SDK": "claude_agent_sdk",
    "CrewAI": "crewai",
    "OpenTelemetry": "opentelemetry.sdk",
}
ENDS = {"end of the script": 0, "exit": 3, "exception": 1}
USERS = ("USRbefore", "USRchild", "USRafter")


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a process that uses the same engines."""
    names = ("table", "endpoint", "access_key_id", "valkey_url")
    told = {name: getattr(settings, name) for name in names} | {"secret_access_key": "test"}
    return os.environ | {f"AGENTMODEL_{name.upper()}": str(value) for name, value in told.items()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize(
    ("recorder", "end"),
    list(zip(RECORDERS, itertools.cycle(ENDS), strict=False)),
    ids=[name.lower() for name in RECORDERS],
)
def test_every_call_is_kept_once(settings: Settings, recorder: str, end: str) -> None:
    """Calls before a fork, in the child and after it are each recorded and learnt from once, though nobody closes."""
    if recorder in PACKAGES:
        pytest.importorskip(PACKAGES[recorder], reason="the framework is an extra")
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        # warnings: from 3.12 on Python warns of every fork of a process with threads, which is what is tried here
        command = [sys.executable, "-W", "ignore", str(PROGRAM), recorder, end]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=150, check=False, env=environment(settings)
        )
        model.drain()
        executions = [
            execution
            for user_id in USERS
            for session in model.repository.sessions(user_id)
            for execution in model.repository.session_history(user_id, session.session_id).executions
        ]
        tool_refs = {ToolRef(execution.agent_id, execution.tool_id) for execution in executions}
        health = model.health.health(tool_refs, {})

    assert ENDS[end] == done.returncode, done.stderr
    assert list(USERS) == [execution.user_id for execution in executions], done.stderr
    assert [3] == [round(known.calls) for known in health.values()]


RUNNING = """
import os, sys
from agentmodel import AgentModel
from agentmodel.integrations._tracking.tracker import Tracker

tracker = Tracker(AgentModel.from_settings())
run = tracker.run("thread", user="ada")
attempt = run.start("c1", agent="finder", tool="search")
if os.fork() == 0:
    run.finish()
    tracker.flush()
    sys.exit(0)
assert os.wait()[1] == 0
run.end("c1", attempt, status="ok")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_call_that_runs_at_the_fork(settings: Settings) -> None:
    """A call that was running at the fork is the parent's: a child that ends the run does not interrupt it."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        command = [sys.executable, "-W", "ignore", "-c", RUNNING]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=150, check=False, env=environment(settings)
        )
        model.drain()
        executions = [
            execution
            for session in model.repository.sessions("USRada")
            for execution in model.repository.session_history("USRada", session.session_id).executions
        ]

    assert ["ok"] == [execution.status for execution in executions], done.stderr


TERMINATED = """
import asyncio, os, signal
from agentmodel import AgentModel

model = AgentModel.from_settings()
model.recorder._late[0]._worker._linger = 60  # so that nothing but the end of the process has it written

@model.tool(agent="finder")
async def search(q):
    return q

async def main():
    await search("a")
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_asyncio_is_ended_by_sigterm(settings: Settings) -> None:
    """Calls of asyncio's functions are recorded in other threads, where no handler of SIGTERM can be installed."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        command = [sys.executable, "-W", "ignore", "-c", TERMINATED]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=150, check=False, env=environment(settings)
        )
        sessions = model.repository.sessions(ANONYMOUS).items
        executions = [
            execution
            for session in sessions
            for execution in model.repository.session_history(ANONYMOUS, session.session_id).executions
        ]

    assert SIGTERM_STATUS == done.returncode, done.stderr
    assert ['{"q": "a"}'] == [execution.values for execution in executions], done.stderr
    assert [True] == [session.ended_at is not None for session in sessions]


FOLLOWED = """
from agentmodel import AgentModel

model = AgentModel.from_settings()
model._background._linger = 60  # so that nothing but the end of the process has it written
with model.session("USRada", plan=model.suggest("USRada", domain_id="DMN001")) as session, session.process("look") as process:
    with process.call("AGT001", "TL001"):
        pass
raise ValueError("the end")
"""


NO_END = """
import atexit
from agentmodel._runtime import background

atexit.unregister(background._finish)
background._finish = lambda: None
"""
"""The mutant: nothing is finished at the end of the process."""


@pytest.mark.parametrize("mutant", ["", NO_END], ids=["", "mutant"])
def test_the_outcome_of_a_suggestion(settings: Settings, mutant: str) -> None:
    """A plan that was followed right before the end has its outcome; the mutant that finishes nothing loses it."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        catalogue(model)
        done = subprocess.run(
            [sys.executable, "-c", mutant + FOLLOWED],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
            env=environment(settings),
        )
        (suggestion,) = model.suggestions.of_user("USRada")

    assert done.stderr.endswith("ValueError: the end\n")
    assert ((None, None) if mutant else (True, "AGT001")) == (suggestion.succeeded, suggestion.taken)


MANY = """
import atexit
from agentmodel import AgentModel, Domain

model = AgentModel.from_settings()
domains = [Domain(domain_id=f"DMN{number:03d}", name=f"Domain {number}") for number in range(1, 101)]
atexit.register(lambda: model.repository.put(*domains))
"""


def test_batches_while_the_interpreter_ends(settings: Settings) -> None:
    """Many items that are written at the very end are written, though no thread can be started any more."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        done = subprocess.run(
            [sys.executable, "-c", MANY],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
            env=environment(settings),
        )

        assert 100 == len(model.repository.domains(limit=200)), done.stderr


LOCAL = """
from agentmodel import AgentModel
from agentmodel.integrations._tracking.tracker import Tracker

model = AgentModel.local({directory!r})
tracker = Tracker(model)
run = tracker.run("thread", user="ada")
for number in range(300):  # more than go into one batch
    attempt = run.start(f"c{{number}}", agent="finder", tool="search")
    run.end(f"c{{number}}", attempt, status="ok")
{end}
"""


@pytest.mark.parametrize("end", ["", "raise ValueError"])
def test_embedded_engines_of_the_process_itself(tmp_path: Path, end: str) -> None:
    """A script on engines of its own writes what waits before these engines end with it."""
    code = LOCAL.format(directory=str(tmp_path), end=end)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150, check=False)
    with AgentModel.local(tmp_path) as model:
        model.drain()
        executions = [
            execution
            for session in model.repository.sessions("USRada")
            for execution in model.repository.session_history("USRada", session.session_id).executions
        ]

    assert 300 == len(executions), done.stderr


def test_closing_the_model_closes_its_trackers() -> None:
    """What was reported to a tracker that nobody closed is written when the model is closed."""
    with AgentModel.local() as model:
        tracker = Tracker(model)
        run = tracker.run("thread", user="ada")
        run.end("c1", run.start("c1", agent="finder", tool="search"), status="ok")
        model.on_close.insert(0, lambda: seen.extend(model.repository.sessions(run.user_id)))
        seen: list[object] = []

    assert 1 == len(seen)
    assert [] == model.on_close
    assert 0 == tracker.errors
