"""Run one coroutine in asyncio or, without an event loop, in this thread: there, all that it awaits runs inline."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["inline", "run_inline"]

R = TypeVar("R")


async def inline(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function in this thread; stands for `asyncio.to_thread` where there is no event loop."""
    return function(*args, **kwargs)


def run_inline(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine that waits for nothing, and return its result.

    >>> run_inline(inline(max, 1, 2))
    2
    """
    try:
        coroutine.send(None)
    except StopIteration as returned:
        return returned.value  # type: ignore[no-any-return]  # what the coroutine returned
    except RuntimeError as error:
        stopped = error.__cause__
        if not isinstance(stopped, StopIteration) or str(error) != "coroutine raised StopIteration":
            raise
    else:
        coroutine.close()
        raise RuntimeError("the coroutine waited for something: it must await nothing but `inline`")
    raise stopped  # a function raised it, and Python lets no coroutine raise it
