"""Functions that are tools, called in threads: the session is kept by a helper, or the call says that it was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import Barrier, Thread
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.aio import AsyncAgentModel
from agentmodel.exceptions import ConfigurationError
from tests.integration.suggest_world import opened

USER = "USR001"


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        yield model


def searcher(model: AgentModel, **options: Any) -> Any:
    """A function that is a tool."""

    @model.tool(agent="finder", **options)
    def search(place: str) -> str:
        return f"near {place}"

    return search


def calls(model: AgentModel, user_id: str) -> list[tuple[str, str]]:
    """Name of the step and arguments of every call of a user."""
    found = []
    for session in model.repository.sessions(user_id):
        history = model.repository.session_history(user_id, session.session_id)
        names = {process.process_id: process.name for process in history.processes}
        found += [(names[call.process_id], str(call.values)) for call in history.executions]
    return sorted(found)


def test_a_thread_pool_keeps_the_session(model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
    """Calls that several threads make at once by the helper belong to the session and step of the block."""
    search, together = searcher(model), Barrier(3)

    def both(place: str) -> str:
        together.wait(timeout=30)
        return str(search(place))

    with (
        model.session(USER) as session,
        session.process("look") as process,
        ThreadPoolExecutor(3) as pool,
    ):
        found = list(pool.map(model.in_session(both), "abc"))
        assert USER == process.entity.user_id

    assert ["near a", "near b", "near c"] == found
    assert [("look", f'{{"place": "{place}"}}') for place in "abc"] == calls(model, USER)
    assert [] == calls(model, ANONYMOUS)
    assert "no_session" not in caplog.text


def test_the_helper_is_for_one_block(model: AgentModel) -> None:
    """A function keeps the block that it was made in, whatever block its thread is in; the thread keeps its own."""
    search = searcher(model)
    with model.session(USER):
        kept = model.in_session(search)
    with model.session("USR002"):
        kept("there")
        search("here")

    assert [("search", '{"place": "there"}')] == calls(model, USER)
    assert [("search", '{"place": "here"}')] == calls(model, "USR002")


def test_outside_of_a_session_there_is_nothing_to_keep(model: AgentModel) -> None:
    """The helper refuses to be made where no session is, and says where to make it."""
    with pytest.raises(ConfigurationError, match=r"in the `with model.session\(...\)` block"):
        model.in_session(searcher(model))


@pytest.mark.parametrize("started", ["pool", "thread"])
def test_a_lost_session_is_told_once(model: AgentModel, caplog: pytest.LogCaptureFixture, started: str) -> None:
    """A call in a thread without the session warns, once in a process, with what to do, and is nobody's."""
    search = searcher(model, cache="user")
    with model.session(USER):
        search("mine")
        with ThreadPoolExecutor(1) as pool:
            for place in ("mine", "b"):
                if started == "pool":
                    assert f"near {place}" == pool.submit(search, place).result()
                else:
                    thread = Thread(target=search, args=(place,))
                    thread.start()
                    thread.join()
    lost = [record.getMessage() for record in caplog.records if "functions.no_session" in record.getMessage()]

    assert 1 == len(lost)
    assert logging.WARNING == next(one.levelno for one in caplog.records if "no_session" in one.getMessage())
    assert "model.in_session(search)" in lost[0]
    assert [("search", '{"place": "b"}'), ("search", '{"place": "mine"}')] == calls(model, ANONYMOUS)
    assert ["ok", "ok"] == [
        call.status
        for session in model.repository.sessions(ANONYMOUS)
        for call in model.repository.session_history(ANONYMOUS, session.session_id).executions
    ], "none is answered from the cache of a user"


def test_where_python_copies_the_context_nothing_is_needed(model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
    """Tasks, `asyncio.to_thread` and a copied context keep the session by themselves, in asyncio too."""
    search = searcher(model)

    @model.tool(agent="finder")
    async def fetch(place: str) -> str:
        return place

    async def scenario() -> None:
        async with AsyncAgentModel(model).session(USER):
            await asyncio.gather(asyncio.to_thread(search, "a"), asyncio.create_task(fetch("b")))
            with ThreadPoolExecutor(1) as pool:
                pool.submit(copy_context().run, search, "c").result()
                kept = AsyncAgentModel(model).in_session(search)
                await asyncio.get_running_loop().run_in_executor(pool, kept, "d")

    asyncio.run(scenario())

    assert 4 == len(calls(model, USER))
    assert [] == calls(model, ANONYMOUS)
    assert "no_session" not in caplog.text


def test_without_any_session_nothing_is_lost(model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
    """A call in a thread while no session is open, or after it ended, is no warning."""
    search = searcher(model)
    with model.session(USER):
        search("a")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(search, "b").result()

    assert 1 == len(calls(model, ANONYMOUS))
    assert "no_session" not in caplog.text
