"""One coroutine for threads and for asyncio."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from agentmodel.suggest.guard import inline, run_inline

ERRORS = [LookupError("gone"), StopIteration(3), SystemExit(1), RuntimeError("coroutine raised something")]


def test_everything_is_done_in_this_thread() -> None:
    """Results are those of the functions, called in order, in the context of the caller."""
    number = contextvars.ContextVar("number", default=0)

    async def steps() -> int:
        first: int = await inline(lambda: 20)
        number.set(first + await inline(lambda more: more, more=22))
        return number.get()

    assert 42 == run_inline(steps())
    assert 42 == number.get()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_raised_as_it_is(error: BaseException) -> None:
    """An error of a function goes through coroutines that act on it, and is raised unchanged."""
    recorded: list[str] = []

    def fail() -> Any:
        raise error

    async def call() -> Any:
        return await inline(fail)

    async def steps() -> Any:
        try:
            return await call()
        except BaseException:
            await inline(recorded.append, "the end")
            raise

    with pytest.raises(type(error)) as caught:
        run_inline(steps())

    assert error is caught.value
    assert ["the end"] == recorded


def test_waiting_is_refused() -> None:
    """A coroutine that would wait for an event loop is a mistake, and says so."""

    async def steps() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="must await nothing but `inline`"):
        run_inline(steps())
