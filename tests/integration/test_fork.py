"""What every entry point does in the children of a process that has used it, and what their end leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentmodel import AgentModel, Settings
from tests.forks import forking
from tests.integration.fork_children import CHILDREN, ENTRIES

PROGRAM = Path(__file__).with_name("fork_children.py")
NAMES = ("parent", *CHILDREN, "again")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


# Warnings: from 3.12 on Python warns of every fork of a process with threads, which is what is tried here.
START = [sys.executable, "-W", "ignore"]


@pytest.fixture(scope="module")
def fork() -> Iterator[list[str]]:
    """The command that runs a file in a fork, in which no module of agentmodel has been imported before."""
    with forking("botocore.session", "pydantic_settings", "rapidfuzz", "redis", warns="ignore") as command:
        yield command


def run(settings: Settings, python: list[str], *arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
    """Run the program on the engines of the test."""
    names = ("table", "endpoint", "access_key_id", "valkey_url", "dynamodb_timeout")
    told = {name: str(getattr(settings, name)) for name in names} | {"secret_access_key": "test"} | changed
    return subprocess.run(
        [*python, str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env=os.environ | {f"AGENTMODEL_{name.upper()}": value for name, value in told.items()},
    )


@pytest.mark.parametrize("entry", ENTRIES)
def test_children_do_their_own_work(settings: Settings, fork: list[str], entry: str) -> None:
    """Four children at once each read what is theirs and record their own call, and the parent goes on."""
    if entry == "MCP server":
        pytest.importorskip("mcp", reason="the MCP server is an extra")
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        done = run(settings, START if entry == "recorder" else fork, entry)
        model.drain()
        results = {
            name: [
                execution.result
                for session in model.repository.sessions(f"USR{name}")
                for execution in model.repository.session_history(f"USR{name}", session.session_id).executions
            ]
            for name in NAMES
        }

    assert 0 == done.returncode, done.stderr
    assert {name: [name] for name in NAMES} == results, done.stderr


def test_the_mutant_is_caught(settings: Settings, fork: list[str]) -> None:
    """Children that use their parent's connections to the table read what others asked for, and the test sees it."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        for _ in range(5):  # whether two children read at once is up to the machine
            done = run(settings, fork, "reads", "mutant", dynamodb_timeout="2", dynamodb_attempts="1")
            if done.returncode:
                break

    assert 1 == done.returncode
    assert "in use" in done.stderr  # a child's traceback


LOCAL = """
import multiprocessing, os, sys
from agentmodel import AgentModel
from agentmodel.exceptions import WarehouseUnavailable

model = AgentModel.local({directory!r})
with model.session("USRparent", "find it", category="search") as session, session.process("look") as process:
    with process.call("AGTfinder", "TLsearch", values={{}}) as call:
        call.result = "found"
model.drain()
model.refresh()

def child(end):
    with model.session(f"USR{{end}}", "find it"):
        pass
    try:
        model.refresh()
    except WarehouseUnavailable as error:
        print(end, error, flush=True)

{ends}
"""

AFTER = """
model.drain()
print({end!r}, len(model.repository.sessions("USR{end}").items), "kept", flush=True)
print({end!r}, model.refresh().rows["usersession"], "learned", flush=True)
"""

ENDS = {
    "os._exit": "if os.fork() == 0: child({end!r}); os._exit(0)\nassert os.wait()[1] == 0",
    "sys.exit": "if os.fork() == 0: child({end!r}); sys.exit()\nassert os.wait()[1] == 0",
    "close": "if os.fork() == 0: child({end!r}); model.close(); sys.exit()\nassert os.wait()[1] == 0",
    "multiprocessing": (
        "one = multiprocessing.get_context('fork').Process(target=child, args=[{end!r}]); one.start(); one.join()\n"
        "assert one.exitcode == 0"
    ),
}


@pytest.mark.parametrize("kept", [True, False], ids=["folder", "no folder"])
def test_a_child_leaves_its_parents_engines_alone(tmp_path: Path, kept: bool) -> None:
    """However a child ends, its parent's engines run on; it may record, and is told that it cannot use the warehouse."""
    folder = tmp_path / "stack"
    ends = "".join(f"{how}\n{AFTER}".format(end=end) for end, how in ENDS.items())
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [*START, "-c", LOCAL.format(directory=str(folder) if kept else None, ends=ends)],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env=environment,
    )
    told = done.stdout.splitlines()

    assert (0, "") == (done.returncode, done.stderr)
    for number, end in enumerate(ENDS):
        refused, stored, learned = told[3 * number : 3 * number + 3]
        assert refused.startswith(f"{end} this process was forked after")
        assert [f"{end} 1 kept", f"{end} {number + 2} learned"] == [stored, learned]
    assert [folder] * kept == list(tmp_path.iterdir())
