"""A thread of LangGraph over several processes: asked in one, decided on the command line, gone on with in another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentmodel import Settings
from tests.integration.suggest_world import opened
from tests.integration.test_cli_errors import environment

pytest.importorskip("langchain", reason="the extra langchain is not installed")
pytest.importorskip("langgraph_checkpoint_aws", reason="the checkpoint savers are not installed")

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"


def process(settings: Settings, *arguments: str) -> str:
    """What a process of its own prints, given the settings by its environment."""
    run = subprocess.run(
        [sys.executable, *arguments],
        cwd=EXAMPLES,
        env={**os.environ, **environment(settings)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == run.returncode, run.stderr
    return run.stdout


def part(settings: Settings, name: str) -> str:
    """What a part of the documentation's example prints in a process of its own."""
    program = (
        f"from agentmodel import AgentModel; from langgraph_checkpoints import {name}\n"
        f"with AgentModel.from_settings() as model: {name}(model)"
    )
    return process(settings, "-c", program)


def test_a_thread_outlives_its_processes(settings: Settings) -> None:
    """A payment waits in DynamoDB for a person, who changes it on the command line; then it is made, once."""
    with opened(settings) as model:
        began = part(settings, "first_process")
        (asked,) = json.loads(process(settings, "-m", "agentmodel", "reviews", "list", "--json"))["reviews"]
        told = ("--values", '{"amount": 5}', "--by", "lee")
        process(settings, "-m", "agentmodel", "reviews", "edit", asked["reference"], *told)
        ended = part(settings, "later_process")
        (session,) = model.repository.sessions("USRkim")
        calls = model.repository.session_history("USRkim", session.session_id).executions

    assert began.endswith("DynamoDB: the payer waits, pay? {'amount': 7}\n")
    assert ended.endswith("paid 5\n")
    assert [("search", "ok"), ("pay", "edited")] == [(call.tool_name, call.status) for call in calls]
