"""The spans of real instrumentations as recorders of the scenario: while the program runs, and from a file of spans.

Each emitter is run anew by ``emit.py``, in a process of its own, on two scripts: `PLAIN`, and the scenario, which the
span processor records while it runs.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.embedded import ValkeyServer
from agentmodel.integrations.otlp import _records as records
from agentmodel.integrations.otlp import import_otlp
from agentmodel.traces import TraceRecord
from tests.integration.integrations.recorders import RECORDERS, tell
from tests.integration.integrations.scenario import (
    AGENT,
    DOMAIN,
    EXPECTED,
    SCRIPT,
    SESSION,
    USER,
    Asked,
    Shown,
    Turn,
    expected,
    shown,
)

REQUEST = "find a café"
EMIT = Path(__file__).with_name("emit.py")
PAGE = Path(__file__).parents[3] / "docs" / "integrations" / "opentelemetry.md"

PLAIN = (
    Turn((Asked("c1", "search", {"q": "a"}), Asked("c2", "search", {"q": "b", "near": "sea"})), 11, 5),
    Turn((Asked("c3", "broken", {"q": "z"}),), 11, 5),
)


@dataclass(frozen=True)
class Emitter:
    """An emitter, and what it shows of the scenario.

    Attributes:
        name: In the docs.
        needs: The module without which it cannot run.
        differs: Cases that differ in another field, an error type only where there is one; ``*`` is every case.
        told: Agent, user, session and request; None for what it does not tell.
        failed: The result of a call that failed.
    """

    name: str
    needs: str
    differs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    told: tuple[str | None, str | None, str | None, str | None] = (AGENT, USER, SESSION, REQUEST)
    failed: Any = "no route to z"

    @property
    def recorder(self) -> str:
        """Its name in the table of all recorders."""
        return f"spans of {self.name}"

    @property
    def without(self) -> tuple[str, ...]:
        """Cases it does not show."""
        return RECORDERS[self.recorder].without

    @property
    def looks(self) -> Mapping[str, str]:
        """Cases that look like another status."""
        return RECORDERS[self.recorder].looks

    def wanted(self) -> list[Shown]:
        """The executions it gives of the scenario."""
        rows = expected(without=self.without, looks=self.looks)
        cases = [call.case for call in EXPECTED if call.case not in self.without]
        return [self._differing(case, row) for case, row in zip(cases, rows, strict=True)]

    def _differing(self, case: str, row: Shown) -> Shown:
        for name, value in (*self.differs.get("*", {}).items(), *self.differs.get(case, {}).items()):
            if name != "error_type" or row.error_type is not None:
                row = replace(row, **{name: value})
        return row

    @property
    def user_id(self) -> str:
        """Under whom its calls are recorded."""
        return ANONYMOUS if self.told[1] is None else f"USR{self.told[1]}"


UNCOUNTED = {"tokens": (None, None)}
AGAIN = {"attempt": 1, "tokens": (20, 4)}
STRANDS: dict[str, Any] = {
    "needs": "strands",
    "differs": {"invalid arguments": {"error_type": "ValueError"}},
}  # fmt: skip
PYDANTIC_AI: dict[str, Any] = {
    "needs": "pydantic_ai",
    "differs": {"retry": {**AGAIN, "error_type": "ModelRetry"}, "failure": {"error_type": "ModelRetry"}},
    "told": (AGENT, None, SESSION, REQUEST),
}  # fmt: skip
OPENAI: dict[str, Any] = {
    "differs": {"*": {**UNCOUNTED, "error_type": "_OTHER"}, "retry": {"attempt": 1}, "edited": {"arguments": {"amount": 8}}},
    "told": (AGENT, None, None, None), "failed": "An error occurred while running the tool. Please try again.",
}  # fmt: skip

EMITTERS = {
    "strands": Emitter("Strands", **STRANDS, failed="Error: no route to z"),
    "strands-latest": Emitter("Strands, latest conventions", **STRANDS),
    "pydantic-ai": Emitter("PydanticAI, version 5", **PYDANTIC_AI),
    "pydantic-ai-2": Emitter("PydanticAI, version 2", **PYDANTIC_AI),
    "openinference-langchain": Emitter(
        "OpenInference, LangChain", "openinference.instrumentation.langchain"
    ),
    "openllmetry-langchain": Emitter(
        "OpenLLMetry, LangChain", "opentelemetry.instrumentation.langchain"
    ),
    "both-langchain": Emitter("both at once", "opentelemetry.instrumentation.langchain"),
    "langsmith": Emitter(
        "LangSmith's exporter", "langchain",
        differs={"*": {**UNCOUNTED, "error_type": "Exception"}}, failed={},
    ),
    "openinference-openai-agents": Emitter(
        "OpenInference, OpenAI Agents", "openinference.instrumentation.openai_agents", **OPENAI
    ),
    "openllmetry-openai-agents": Emitter(
        "OpenLLMetry, OpenAI Agents", "opentelemetry.instrumentation.openai_agents", **OPENAI
    ),
}  # fmt: skip


def is_there(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@dataclass(frozen=True)
class Emitted:
    """What an emitter made: the files of its spans, and where the processor recorded the scenario."""

    plain: Path
    scenario: Path
    recorded: Settings


@pytest.fixture(scope="session")
def emitted(
    tmp_path_factory: pytest.TempPathFactory, dynamodb_endpoint: str, valkey_server: ValkeyServer
) -> Callable[[str, str], Emitted]:
    """Runs an emitter, once."""
    folder = tmp_path_factory.mktemp("spans")
    scripts = []
    for name, script in (("plain", PLAIN), ("scenario", SCRIPT)):
        scripts.append(folder / f"{name}.json")
        scripts[-1].write_text(json.dumps([asdict(turn) for turn in script]), "utf-8")
    done: dict[str, Emitted] = {}

    def made(emitter: str, needs: str) -> Emitted:
        if not is_there(needs) or not is_there("opentelemetry.sdk"):
            pytest.skip(f"{needs} is not installed")
        if emitter not in done:
            told = {
                "table": f"Spans-{os.getpid()}-{emitter}",
                "endpoint": dynamodb_endpoint,
                "access_key_id": "test",
                "secret_access_key": "test",
                "valkey_url": valkey_server.url,
                "valkey_prefix": emitter,
            }
            environment = os.environ | {f"AGENTMODEL_{name.upper()}": value for name, value in told.items()}
            command = [sys.executable, "-W", "ignore", str(EMIT), emitter, str(folder), *map(str, scripts)]
            subprocess.run(command, check=True, timeout=180, env=environment)
            plain, scenario = (folder / f"{emitter}-{script.name}" for script in scripts)
            done[emitter] = Emitted(plain, scenario, Settings.load(**told))
        return done[emitter]

    return made


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model on an empty table."""
    with AgentModel.from_settings(settings) as made:
        made.table.create()
        yield made
        made.table.delete()


def found(path: Path) -> list[TraceRecord]:
    """The calls in a file of spans."""
    return [one for one in records(path) if isinstance(one, TraceRecord)]


@pytest.mark.parametrize("name", EMITTERS)
class TestEmitters:
    def test_the_scenario_while_it_runs(self, name: str, emitted: Callable[[str, str], Emitted]) -> None:
        """The span processor records the scenario, but for what the emitter is said not to show."""
        emitter = EMITTERS[name]
        with AgentModel.from_settings(emitted(name, emitter.needs).recorded) as model:
            assert emitter.wanted() == shown(model, user_id=emitter.user_id)
            tell(emitter.recorder, shown(model, user_id=emitter.user_id))
            assert {emitter.told[3]} == {session.request for session in model.repository.sessions(emitter.user_id)}

    def test_the_scenario_from_a_file(
        self, name: str, emitted: Callable[[str, str], Emitted], model: AgentModel
    ) -> None:
        """The same spans imported from a file are the same executions; imported again, they change nothing."""
        emitter = EMITTERS[name]
        path = emitted(name, emitter.needs).scenario

        import_otlp(model, path, domain=DOMAIN)
        again = import_otlp(model, path, domain=DOMAIN)
        model.drain()

        assert emitter.wanted() == shown(model, user_id=emitter.user_id)
        assert again.lines == again.repeated == len(emitter.wanted())

    def test_arguments_results_and_who(self, name: str, emitted: Callable[[str, str], Emitted]) -> None:
        """All arguments, what came back, and agent, user, session and request are as the emitter tells them."""
        emitter = EMITTERS[name]
        got = found(emitted(name, emitter.needs).plain)

        assert [
            ("search", {"q": "a"}, "found a near park", True),
            ("search", {"q": "b", "near": "sea"}, "found b near sea", True),
            ("broken", {"q": "z"}, emitter.failed, False),
        ] == [(one.tool, one.arguments, one.result, one.success) for one in got]
        agent, user, session, request = emitter.told
        assert {(agent, user, request)} == {(one.agent, one.user, one.request) for one in got}
        assert 1 == len({one.session for one in got})
        assert session in (None, got[0].session)


def test_an_mcp_server_alone(emitted: Callable[[str, str], Emitted]) -> None:
    """A server that is seen alone shows names and outcomes of what reached it, and no more."""
    got = found(emitted("mcp-server", "mcp").scenario)

    assert [
        ("search", True), ("search", True), ("flaky", False), ("flaky", True), ("broken", False), ("search", False),
        ("nope", False), ("pay", True),
    ] == [(one.tool, one.success) for one in got]  # fmt: skip
    assert {"tool_error"} == {one.error_type for one in got if not one.success}
    assert {(None, (("cafes", "{}"),))} == {(one.user, ((one.agent, json.dumps(one.arguments)),)) for one in got}


def test_rounds_of_an_mcp_call(emitted: Callable[[str, str], Emitted]) -> None:
    """A tool that asks the user back is one call within an agent's span; a server alone shows each round as a call.

    The server's spans have ended, in the agent's process, long before the agent's own.
    """
    made = emitted("mcp-rounds", "mcp")
    with AgentModel.from_settings(made.recorded) as model:
        sessions = sorted(model.repository.sessions(ANONYMOUS), key=lambda session: str(session.started_at))
        recorded = [
            [call.tool_name for call in model.repository.session_history(ANONYMOUS, session.session_id).executions]
            for session in sessions
        ]

    assert ["cafes_book", "book", "book"] == [one.tool for one in found(made.scenario) if one.success]
    assert [["cafes_book"], ["book"], ["book"]] == recorded


def test_table_in_the_docs() -> None:
    """The docs say of each emitter what of the scenario it does not show, and what it shows otherwise."""
    lines = ["| emitter | does not show | shows otherwise | tells |", "|---|---|---|---|"]
    for emitter in EMITTERS.values():
        otherwise = [f"{case} as `{status}`" for case, status in emitter.looks.items()]
        otherwise += [f"{case}: {_said(fields)}" for case, fields in emitter.differs.items() if case != "*"]
        always = emitter.differs.get("*", {})
        otherwise += [f"every error as `{always['error_type']}`"] if "error_type" in always else []
        tells = [
            what for what, value in zip(("agent", "user", "session", "request"), emitter.told, strict=True) if value
        ]
        tells += [] if "tokens" in always else ["tokens"]
        without = ", ".join(emitter.without)
        lines.append(f"| {emitter.name} | {without} | {'; '.join(otherwise)} | {', '.join(tells)} |")

    assert "\n".join(lines) in PAGE.read_text("utf-8"), "\n".join(lines)


def _said(fields: Mapping[str, Any]) -> str:
    words = {
        "attempt": "the model asks again, which is another call",
        "error_type": f"`{fields.get('error_type')}`",
        "arguments": "cannot be edited, so approved as asked",
    }
    return ", ".join(words[name] for name in fields if name in words)
