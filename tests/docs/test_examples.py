"""The examples of the documentation run, and print what the pages say."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forks import LIBRARIES, forking
from tests.integration.integrations.messages_api import MessagesApi, SaidTurn

ROOT = Path(__file__).parents[2]
TESTS = sorted((ROOT / "docs" / "examples").glob("*test_*.py"))
EXAMPLES = sorted(set((ROOT / "docs" / "examples").glob("*.py")).difference(TESTS))
CLAUDE: dict[str, list[SaidTurn]] = {
    "claude_agent_sdk_guard": [([("c1", "mcp__cafes__pay", {"amount": 8})], (9, 2))],
    "claude_agent_sdk_quickstart": [([("c1", "mcp__cafes__search", {"near": "park"})], (9, 2))],
}
"""What the model says in examples of the Claude Agent SDK, whose program asks a server."""
WARNS = ("crewai",)
"""Packages that warn of their own parts when they are imported: their examples run without warnings as errors."""
STARTED = ("crewai", "python_quickstart", "quickstart", "readme")
"""What the names of examples begin with that are started as a reader starts them; the others run in forks."""


def _missing(path: Path) -> list[str]:
    """Packages that an example imports and that are not installed: it belongs to an extra."""
    names = set(re.findall(r"^(?:from|import) (\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    return sorted(name for name in names if importlib.util.find_spec(name) is None)


@pytest.fixture(scope="module")
def fork() -> Iterator[list[str]]:
    """The command that runs a file in a fork, with warnings as errors."""
    with forking(*LIBRARIES) as command:
        yield command


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_the_page_says(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each example runs in an empty folder and prints its .out file, with warnings as errors."""
    if missing := _missing(path):
        pytest.skip(f"{', '.join(missing)} is not installed")
    warns = "ignore" if path.stem.startswith(WARNS) else "error"
    api = MessagesApi(CLAUDE[path.stem]) if path.stem in CLAUDE else None
    started = path.stem.startswith(STARTED)
    command = [sys.executable, "-W", warns] if started else request.getfixturevalue("fork")
    run = subprocess.run(
        [*command, str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        # CrewAI keeps files in the home, and sends what it sees to its makers
        env=os.environ
        | {"XDG_DATA_HOME": str(tmp_path), "CREWAI_DISABLE_TELEMETRY": "true"}
        | ({} if api is None else api.environment(tmp_path)),
    )
    if api is not None:
        api.close()

    assert "" == run.stderr
    assert 0 == run.returncode
    assert path.with_suffix(".out").read_text(encoding="utf-8") == run.stdout


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_tests_of_an_application_pass(path: Path, tmp_path: Path) -> None:
    """The fixtures and strategies that the pages show work in a run of pytest without anything of this project's."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert "4 passed" in run.stdout, run.stdout


@pytest.mark.parametrize(
    "path", [path for path in EXAMPLES if "_quickstart" in path.stem.removeprefix("ko_")], ids=lambda path: path.stem
)
def test_a_quickstart_of_a_framework_is_short(path: Path) -> None:
    """A framework's quickstart has fewer than 30 lines, empty ones and imports included."""
    assert len(path.read_text(encoding="utf-8").splitlines()) < 30


def test_the_readme_has_its_example() -> None:
    """The README's program and output are those that are tested."""
    check = subprocess.run([sys.executable, str(ROOT / "scripts" / "readme.py"), "--check"], check=False)

    assert 0 == check.returncode, "run: python scripts/readme.py"
