"""Every read shows all that was acknowledged, or says that something may be missing, also while Valkey is paused."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, AsyncAgentModel, Settings, ToolExecution, UserSession, UserSessionProcess
from agentmodel.embedded import ValkeyServer
from agentmodel.exceptions import CacheUnavailable

USER, SESSION = "USR001", "SESS20250614001"


class PausedServer:
    """A real Valkey that can be paused: it takes connections and answers nothing."""

    def __init__(self, folder: Path) -> None:
        self._server = ValkeyServer(folder).start()
        self.url = self._server.url
        self._pid: int = self._server._server._process.pid

    def pause(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._pid, signal.SIGCONT)

    def close(self) -> None:
        self.resume()
        self._server.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PausedServer]:
    """A Valkey of the test's own."""
    server = PausedServer(tmp_path / "valkey")
    yield server
    server.close()


@pytest.fixture
def model(settings: Settings, server: PausedServer) -> Iterator[AgentModel]:
    """A model that waits a tenth of a second for Valkey."""
    changed = {"valkey_url": server.url, "valkey_timeout": 0.1}
    with AgentModel.from_settings(settings.model_copy(update=changed)) as model:
        model.table.create()
        yield model
        server.resume()
        model.table.delete()


def record(model: AgentModel, number: int = 1) -> str:
    """Record a session, a process and a call; return the call's id."""
    session = f"SESS{number}"
    model.recorder.record(UserSession(user_id=USER, session_id=session, name="x"))
    model.recorder.record(UserSessionProcess(user_id=USER, session_id=SESSION, process_id="PRC001", name="x"))
    call = ToolExecution(
        user_id=USER, session_id=SESSION, process_id="PRC001", agent_id="AGT001", tool_id="TL001", tool_name="find",
        succeeded=True, call_number=number,
    )  # fmt: skip
    return model.recorder.record(call).entity.call_id or ""


def await_answers(model: AgentModel) -> None:
    """Wait until the breaker lets calls through again."""
    assert model._valkey is not None
    while not model._valkey.available:
        threading.Event().wait(0.01)


LISTS: dict[str, Callable[[AgentModel], tuple[int, bool]]] = {
    "session_history": lambda model: _history(model.repository.session_history(USER, SESSION)),
    "newest first": lambda model: _history(model.repository.session_history(USER, SESSION, newest_first=True)),
    "a page": lambda model: _history(model.repository.session_history(USER, SESSION, limit=10)),
    "sessions": lambda model: _page(model.repository.sessions(USER)),
    "asyncio session_history": lambda model: _history(
        asyncio.run(AsyncAgentModel(model).repository.session_history(USER, SESSION))
    ),
    "asyncio sessions": lambda model: _page(asyncio.run(AsyncAgentModel(model).repository.sessions(USER))),
}
"""Reads of lists: each returns how many records it shows, and whether it says that these are all."""

GETS: dict[str, Callable[[AgentModel], Any]] = {
    "session": lambda model: model.repository.session(USER, "SESS1"),
    "process": lambda model: model.repository.process(USER, SESSION, "PRC001"),
    "execution": lambda model: model.repository.execution(USER, SESSION, "PRC001", "AGT001", "TL001"),
    "asyncio session": lambda model: asyncio.run(AsyncAgentModel(model).repository.session(USER, "SESS1")),
}


def _history(history: Any) -> tuple[int, bool]:
    return len(history.executions), history.complete


def _page(page: Any) -> tuple[int, bool]:
    return len(page), page.complete


@pytest.mark.parametrize("read", LISTS)
def test_a_list_says_that_it_may_be_incomplete(model: AgentModel, server: PausedServer, read: str) -> None:
    """A list that is read while Valkey is paused says so, from the first one on; before and after it is complete."""
    record(model)
    before = LISTS[read](model)
    server.pause()
    meanwhile = [LISTS[read](model) for _ in range(3)]
    server.resume()
    await_answers(model)

    assert (1, True) == before == LISTS[read](model)
    assert [(0, False)] * 3 == meanwhile


@pytest.mark.parametrize("read", GETS)
def test_a_get_does_not_say_that_nothing_exists(model: AgentModel, server: PausedServer, read: str) -> None:
    """An item that waits in a paused Valkey is not reported as missing: the read raises what to do."""
    record(model)
    before = GETS[read](model)
    server.pause()
    for _ in range(3):
        with pytest.raises(CacheUnavailable, match=r"could not find out whether .* read it again later"):
            GETS[read](model)
    server.resume()
    await_answers(model)

    assert before is not None
    assert (True, before) == (before.complete, GETS[read](model))


def test_a_get_of_what_the_table_has_says_that_it_may_be_old(model: AgentModel, server: PausedServer) -> None:
    """A session whose newer version waits in a paused Valkey is read as the table has it, and says so."""
    session = model.recorder.record(UserSession(user_id=USER, session_id="SESS1", name="older")).entity
    model.drain()
    session.name = "newer"
    model.recorder.record(session)
    server.pause()
    found = model.repository.session(USER, "SESS1")

    assert found is not None
    assert ("older", False) == (found.name, found.complete)


def test_large_partitions_say_so_too(model: AgentModel, server: PausedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that is too large to be cached whole is read in pages, which say whether they may be incomplete."""
    monkeypatch.setattr("agentmodel.access.repository._MAX_CACHED", 0)
    record(model)
    model.drain()
    record(model, 2)
    before = LISTS["session_history"](model)
    server.pause()

    assert ((2, True), (1, False)) == (before, LISTS["session_history"](model))


def test_recording_goes_on(model: AgentModel, server: PausedServer) -> None:
    """A session with an id of the application's own is recorded while Valkey is paused, though it cannot be looked up."""
    server.pause()
    with model.session(USER, "find", session_id=SESSION) as session, session.process("look"):
        pass
    server.resume()
    await_answers(model)
    history = model.repository.session_history(USER, SESSION)

    assert ["look"] == [process.name for process in history.processes]


def test_the_outcome_of_a_suggestion_is_left_open(model: AgentModel, server: PausedServer) -> None:
    """What calls that cannot be read would say of a suggestion is not taken from those that can."""
    from agentmodel.dynamo.models import Suggestion
    from agentmodel.suggest.plan._suggestion_log import EndedSession

    record(model)
    suggestion = Suggestion(
        suggested_at=datetime.now(UTC),
        user_id=USER,
        suggestion_id="SUG1",
        steps=["TL001"],
        choice="AGT001",
        candidates={},
        source="own",
    )
    model.writer.put_new(suggestion)
    server.pause()
    model.suggestions._write_outcome(EndedSession(USER, SESSION, "SUG1"))
    found = model.table.get(suggestion.key, consistent=True)

    assert found is not None
    assert (SESSION, None, None, None) == (found.session_id, found.followed, found.taken, found.succeeded)


def test_every_read_shows_all_or_says_so(model: AgentModel, server: PausedServer) -> None:
    """While Valkey is paused and goes on again and again, no read leaves out an acknowledged record without a sign."""
    acknowledged: list[str] = []
    wrong: list[Any] = []
    complete: list[bool] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            expected = set(acknowledged)
            history = model.repository.session_history(USER, SESSION)
            complete.append(history.complete)
            if history.complete and not expected <= {call.call_id for call in history.executions}:
                wrong.append(expected)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 7):
        acknowledged.append(record(model, number))
        server.pause()
        acknowledged.append(record(model, 10 + number))
        server.resume()
        await_answers(model)
        if number == 3:
            model.drain()
    ended.set()
    reader.join()

    assert [] == wrong
    assert {True, False} == set(complete)
    assert set(acknowledged) == {call.call_id for call in model.repository.session_history(USER, SESSION).executions}


@pytest.mark.parametrize("arguments", [["sessions", "--user", USER], ["session", "SESS1", "--user", USER]])
def test_the_command_line_says_so(
    model: AgentModel,
    server: PausedServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    """`agentmodel sessions` and `session` say on stderr that records may be missing, and in their JSON."""
    pytest.importorskip("typer")
    from agentmodel.cli import main

    record(model)
    model.drain()
    for name in ("table", "endpoint", "access_key_id", "valkey_url", "valkey_timeout"):
        monkeypatch.setenv(f"AGENTMODEL_{name.upper()}", str(getattr(model.settings, name)))
    monkeypatch.setenv("AGENTMODEL_SECRET_ACCESS_KEY", "test")
    server.pause()
    code = main([*arguments, "--json"])
    said = capsys.readouterr()

    assert 0 == code
    assert "Valkey does not answer: records that are not in the table yet may be missing." in said.err
    assert json.loads(said.out)["complete"] is False


def test_the_mcp_server_says_so(model: AgentModel, server: PausedServer) -> None:
    """The tool `session_history` says in its answer whether records may be missing."""
    pytest.importorskip("mcp")
    from agentmodel.integrations.mcp._schemas import SessionList

    record(model)
    server.pause()
    page = model.repository.sessions(USER)

    assert "complete" in SessionList.model_json_schema()["properties"]
    assert SessionList(user_id=USER, complete=page.complete).complete is False
