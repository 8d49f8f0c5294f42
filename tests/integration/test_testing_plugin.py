"""What applications get for their tests: fixtures, and names that load only when they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentmodel import testing

TEST = """
from hypothesis import HealthCheck, given, settings

from agentmodel import Agent
from agentmodel.testing import agents, histories


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=5)
@given(agents(domain_id="DMN001", version=None, expires_at=None))
def test_an_agent_is_found(agentmodel_model, agent: Agent) -> None:
    agentmodel_model.repository.put(agent)
    assert agent == agentmodel_model.repository.agent(agent.agent_id)


def test_the_table_is_empty(agentmodel_table, agentmodel_settings) -> None:
    assert [] == list(agentmodel_table.scan())
    assert agentmodel_table.name == agentmodel_settings.table


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=5)
@given(histories(user_id="USR001", expires_at=None))
def test_a_session_is_read(agentmodel_model, history) -> None:
    agentmodel_model.repository.put(*history.entities)
    assert history.session == agentmodel_model.repository.session("USR001", history.session.session_id)
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "agentmodel.testing.plugin", "-W", "error", *options, str(folder)],
        cwd=folder,
        env={
            "PYTHONPATH": str(Path(testing.__file__).parents[2]),
            "PATH": "",
            # the plugins of what else is installed here, and Hypothesis' table of characters, take longer than the tests
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(Path(__file__).parents[2] / ".hypothesis"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("how", ["option", "ini", "moto"])
def test_the_fixtures_give_a_table(tmp_path: Path, dynamodb_endpoint: str, how: str) -> None:
    """A test of an application has a table of its own, on the engine that is named or on moto's."""
    (tmp_path / "test_app.py").write_text(TEST, "utf-8")
    if how == "ini":
        (tmp_path / "pytest.ini").write_text(f"[pytest]\nagentmodel_endpoint = {dynamodb_endpoint}\n", "utf-8")
    done = run(tmp_path, *(["--agentmodel-endpoint", dynamodb_endpoint] if how == "option" else []))

    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_nothing_is_loaded_before_it_is_used() -> None:
    """Importing agentmodel.testing loads no Hypothesis; a name of it does."""
    program = (
        "import sys; from agentmodel import testing; assert 'hypothesis' not in sys.modules\n"
        "testing.ids; assert 'hypothesis' in sys.modules"
    )

    assert 0 == subprocess.run([sys.executable, "-c", program], check=False).returncode


def test_without_hypothesis_the_error_has_the_pip_line() -> None:
    """Where Hypothesis is not installed, using a strategy says what to install."""
    program = "import sys; sys.modules['hypothesis'] = None\nfrom agentmodel.testing import ids"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert "MissingExtraError" in done.stderr
    assert "pip install 'agentmodel[testing]'" in done.stderr


def test_every_name_is_there() -> None:
    """The names of agentmodel.testing are those of its strategies, and no others."""
    from agentmodel.testing import _strategies as strategies

    assert sorted(strategies.__all__) == sorted(testing.__all__)
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = testing.nothing
