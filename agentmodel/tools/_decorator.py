"""Plain Python functions as tools: each call is decided about by a guard, made, and recorded.

    @model.tool(agent="finder", cache="user")
    def search(near: str) -> list[str]: ...

    with model.session("USR001", "find a café"):
        search("the park")

A call belongs to the session of the block it is made in, and to that block's process; without a process it has one of
its own, named after the tool. Outside of a session it has a session of its own, of the anonymous user.

The same call made again after it failed is another attempt; any other call is a new one. What cannot be recorded is
logged and counted, and the function is called all the same.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar, cast

from agentmodel import keys
from agentmodel._runtime.process import exit_on_sigterm
from agentmodel._values.text import NAME_BYTES, storable_text
from agentmodel.access.recorder import Recorder
from agentmodel.access.repository import Repository
from agentmodel.exceptions import ValidationError
from agentmodel.suggest.guard import Enforcer, Guard, inline, run_inline
from agentmodel.suggest.plan import ToolRef
from agentmodel.suggest.review import Reviews
from agentmodel.tools._call import Driver, FunctionCall
from agentmodel.tools._history import FunctionHistory, FunctionTool

__all__ = ["FunctionTools"]

P = ParamSpec("P")
R = TypeVar("R")


class FunctionTools:
    """Makes tools of functions; `AgentModel.tool` is its `tool`.

    Args:
        recorder: Writes the history.
        repository: The catalogue.
        reviews: Waits for people.

    Attributes:
        history: What the functions share.

    >>> tools = FunctionTools(model.recorder, model.repository, reviews=model.reviews)
    >>> @tools.tool(model.guard(review="never"), agent="finder")
    ... def find(near: str) -> str:
    ...     return f"a café at the {near}"
    >>> find("park"), tools.errors
    ('a café at the park', 0)
    """

    def __init__(self, recorder: Recorder, repository: Repository, *, reviews: Reviews) -> None:
        self.history = FunctionHistory(recorder, repository)
        self._reviews = reviews

    @property
    def errors(self) -> int:
        """Calls, or parts of them, that could not be recorded.

        Each is logged as ``functions.not_recorded``; what was dropped because too much waited, as ``calls.dropped``.
        """
        return self.history.errors

    def tool(
        self,
        guard: Guard,
        *,
        agent: str,
        name: str | None = None,
        domain: str = "agents",
        read_only: bool = False,
        wait: bool | float = False,
        revision: str | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Return a decorator that makes a tool of a function; see `AgentModel.tool`.

        Args:
            guard: Decides about each call.
            agent: Name or id of the agent whose tool it is.
            name: Name of the tool; that of the function when not given.
            domain: Domain of the agent.
            read_only: Whether the tool only reads.
            wait: Whether to wait for a person who is asked, or for how many seconds.
            revision: Revision of the agent; the session's when not given.

        Raises:
            ValidationError: The function is a generator, which has no single result, or has no signature or name.
        """

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                raise ValidationError("function", function, "must be a function with one result, not a generator")
            try:
                signature = inspect.signature(function)
            except (TypeError, ValueError) as error:
                raise ValidationError("function", function, f"must be a function with a signature: {error}") from None
            exit_on_sigterm()  # now: asyncio's calls are recorded in other threads, where Python takes no handler
            called = name or getattr(function, "__name__", None)
            if called is None:
                raise ValidationError("name", name, "must be given, because the function has no name")
            tool = FunctionTool(
                function=function,
                signature=signature,
                name=keys.name_of("TL", called),
                agent=agent,
                domain=domain,
                ref=ToolRef(keys.id_of("AGT", agent, domain, field="agent"), keys.lenient_id_of("TL", called)),
                read_only=read_only,
                enforcer=Enforcer(guard, failed=self.history.failed),
                wait=wait,
                revision=storable_text(revision, limit=NAME_BYTES),
            )
            if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
                return cast("Callable[P, R]", self._asynchronous(tool))
            return cast("Callable[P, R]", self._synchronous(tool))

        return decorate

    def _synchronous(self, tool: FunctionTool) -> Callable[..., Any]:
        do = Driver(in_thread=inline, call=inline, wait=partial(inline, self._reviews.wait))

        @wraps(tool.function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return run_inline(FunctionCall(self.history, tool).run(args, kwargs, do=do))

        return call

    def _asynchronous(self, tool: FunctionTool) -> Callable[..., Any]:
        do = Driver(
            in_thread=asyncio.to_thread,
            call=lambda function, *args, **kwargs: function(*args, **kwargs),
            wait=self._reviews.wait_async,
        )

        @wraps(tool.function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await FunctionCall(self.history, tool).run(args, kwargs, do=do)

        return call
