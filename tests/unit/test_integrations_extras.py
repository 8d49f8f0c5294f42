from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.forks import forking

HIDDEN = """
import sys
sys.modules[sys.argv[2]] = None  # as if it were not installed
from agentmodel.exceptions import MissingExtraError
try:
    module, _, name = sys.argv[1].partition(":")
    getattr(__import__(module, fromlist=["*"]), name or "__name__")
except MissingExtraError as error:
    print(error)
"""
FRAMEWORKS = (
    "agents",
    "claude_agent_sdk",
    "crewai",
    "google.adk",
    "langchain",
    "langchain_core",
    "langgraph",
    "mcp",
    "opentelemetry",
    "pydantic_ai",
    "strands",
)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The command of the program: each time it is a new process that has imported no more than what all of them import."""
    file = tmp_path_factory.mktemp("hidden") / "hidden.py"
    file.write_text(HIDDEN, encoding="utf-8")
    with forking("botocore.session", "pydantic_settings", "rapidfuzz", "redis", warns="default") as python:
        yield [*python, str(file)]


@pytest.mark.parametrize(
    ("subject", "package", "extra"),
    [
        ("langchain", "langchain_core", "langchain"),
        ("langchain:AgentModelMiddleware", "langchain", "langchain"),
        ("strands", "strands", "strands"),
        ("openai_agents", "agents", "openai-agents"),
        ("pydantic_ai", "pydantic_ai", "pydantic-ai"),
        ("google_adk", "google.adk", "google-adk"),
        ("claude_agent_sdk", "claude_agent_sdk", "claude-agent-sdk"),
        ("crewai", "crewai", "crewai"),
        ("opentelemetry", "opentelemetry", "opentelemetry"),
        ("mcp", "mcp", "mcp"),
    ],
)
def test_a_framework_that_is_not_installed(hidden: list[str], subject: str, package: str, extra: str) -> None:
    """Whoever asks for an integration without its package reads which pip line brings it."""
    command = [*hidden, f"agentmodel.integrations.{subject}", package]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert f"pip install 'agentmodel[{extra}]'" in said


@pytest.mark.parametrize("package", ["starlette", "jinja2", "itsdangerous"])
def test_the_console_that_is_not_installed(hidden: list[str], package: str) -> None:
    """Whoever asks for the console without its packages reads which pip line brings them."""
    command = [*hidden, "agentmodel.console", package]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "pip install 'agentmodel[console]'" in said


def test_the_package_alone_loads_no_framework() -> None:
    """Importing the package, its model and its guard loads none of the frameworks."""
    code = (
        "import sys, agentmodel, agentmodel.client, agentmodel.suggest.guard, agentmodel.integrations; "
        f"print([name for name in {FRAMEWORKS} if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "[]" == said.strip()
