"""What goes back, for asyncio: the same methods, awaited.

The synchronous classes are the source; these run their methods in threads, so nothing is written twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from agentmodel.dynamo.models import Review, Suggestion
from agentmodel.suggest.advise import Adviser
from agentmodel.suggest.answers import Answer
from agentmodel.suggest.guard import Blocked, Go, Guard
from agentmodel.suggest.health import Changed, HealthBook
from agentmodel.suggest.review import Reviews
from agentmodel.suggest.suggestions import Suggestions

__all__ = ["AsyncAdviser", "AsyncGuard", "AsyncHealthBook", "AsyncReviews", "AsyncSuggestions"]

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def _awaited(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[Any, P], Awaitable[T]]:
    """The method of ``self.sync``, run in a thread."""

    @wraps(method)
    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, self.sync, *args, **kwargs)

    return call


class AsyncReviews:
    """Questions to people, for asyncio; see `Reviews`, which has the same methods.

    Args:
        reviews: What asks and answers.

    Attributes:
        sync: The same.
    """

    def __init__(self, reviews: Reviews) -> None:
        self.sync = reviews

    reference = staticmethod(Reviews.reference)
    id_of = staticmethod(Reviews.id_of)
    about = _awaited(Reviews.about)
    needed = _awaited(Reviews.needed)
    ask = _awaited(Reviews.ask)
    get = _awaited(Reviews.get)
    status = _awaited(Reviews.status)
    answer = _awaited(Reviews.answer)
    inbox = _awaited(Reviews.inbox)
    claim = _awaited(Reviews.claim)
    release = _awaited(Reviews.release)
    decide = _awaited(Reviews.decide)
    cancel = _awaited(Reviews.cancel)
    verdict = _awaited(Reviews.verdict)
    sweep = _awaited(Reviews.sweep)

    async def wait(self, which: Review | str, *, timeout: float | None = None) -> Answer:  # noqa: ASYNC109  # as the synchronous one
        """Wait for the answer without holding a thread; see `Reviews.wait`."""
        return await self.sync.wait_async(which, timeout=timeout)

    wait_async = wait


class AsyncHealthBook:
    """Which tools fail, for asyncio; see `HealthBook`, which has the same methods.

    Args:
        book: What knows it.

    Attributes:
        sync: The same.
        on_change: Called in a thread with a tool and its health after its state has changed.
    """

    def __init__(self, book: HealthBook) -> None:
        self.sync = book
        self.on_change: list[Changed] = book.on_change

    noted = staticmethod(HealthBook.noted)
    observe = _awaited(HealthBook.observe)
    learn = _awaited(HealthBook.learn)
    health = _awaited(HealthBook.health)
    failing = _awaited(HealthBook.failing)
    tools = _awaited(HealthBook.tools)


class AsyncSuggestions:
    """What was suggested, for asyncio; see `Suggestions`, which has the same methods.

    Args:
        suggestions: What keeps it.

    Attributes:
        sync: The same.
    """

    def __init__(self, suggestions: Suggestions) -> None:
        self.sync = suggestions

    keep = _awaited(Suggestions.keep)
    of_user = _awaited(Suggestions.of_user)
    noted = staticmethod(Suggestions.noted)
    observe = _awaited(Suggestions.observe)
    learn = _awaited(Suggestions.learn)

    async def all(self) -> list[Suggestion]:
        """Everything that was suggested, in no order; reads the whole table."""
        return await asyncio.to_thread(lambda: list(self.sync.all()))


class AsyncAdviser:
    """Makes plans, for asyncio; see `Adviser`, which has the same methods.

    Args:
        adviser: What makes them.

    Attributes:
        sync: The same.
    """

    def __init__(self, adviser: Adviser) -> None:
        self.sync = adviser

    suggest = _awaited(Adviser.suggest)
    forget = _awaited(Adviser.forget)


class AsyncGuard:
    """Decides before each call, for asyncio; see `Guard`, which has the same methods.

    Args:
        guard: What decides.

    Attributes:
        sync: The same.
    """

    def __init__(self, guard: Guard) -> None:
        self.sync = guard

    plan = _awaited(Guard.plan)
    before = _awaited(Guard.before)
    after = _awaited(Guard.after)
    answer = _awaited(Guard.answer)

    def may_ask(self, tool: str) -> bool:
        """See `Guard.may_ask`, which waits for nothing."""
        return self.sync.may_ask(tool)

    def undecided(self, tool: str) -> Go | Blocked:
        """See `Guard.undecided`, which waits for nothing."""
        return self.sync.undecided(tool)
