"""Plain Python functions as tools: each call is decided by the guard, made, and recorded.

    @model.tool(agent="finder", cache="user")
    def search(near: str) -> list[str]: ...

    with model.session("USR001", "find a café"):
        search("the park")

A call belongs to the session of the block it is made in, and to that block's process; without a process it has one of
its own, named after the tool. Outside of a session it is a session of its own, of the anonymous user.

The same call made again after it failed is another attempt of it; any other call is a new one. What cannot be recorded
is logged and counted, and the function never learns of it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from agentmodel import keys
from agentmodel.access.importing import ANONYMOUS
from agentmodel.access.recorder import Recorder, SessionRecorder, fitting
from agentmodel.access.repository import Repository
from agentmodel.dynamo.models import Agent, Domain, Tool, User
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import ValidationError
from agentmodel.suggest._function_call import Call, FunctionTool, Made
from agentmodel.suggest.advise import Place
from agentmodel.suggest.bound import schema_of
from agentmodel.suggest.guard import Guard
from agentmodel.suggest.review import Reviews

__all__ = ["Functions"]

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)

_AGAIN = 30.0  # seconds until the catalogue is tried again that did not answer


class Functions:
    """Makes tools of functions; `AgentModel.tool` is its `tool`.

    Args:
        recorder: Writes history.
        repository: The catalogue.
        table: The table.
        reviews: Waits for people.

    Attributes:
        errors: Calls, or parts of them, that were not recorded; each is logged as ``functions.not_recorded``.
    """

    def __init__(self, recorder: Recorder, repository: Repository, table: Table, *, reviews: Reviews) -> None:
        self.recorder = recorder
        self.reviews = reviews
        self.errors = 0
        self._repository = repository
        self._table = table
        self._states: weakref.WeakKeyDictionary[SessionRecorder, Made] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()
        self._there: set[Place] = set()
        self._try_at = 0.0

    def tool(
        self,
        guard: Guard,
        *,
        agent: str,
        name: str | None = None,
        domain: str = "agents",
        read_only: bool = False,
        asks: bool = False,
        wait: bool | float = False,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """What makes a tool of a function; see `AgentModel.tool`.

        Args:
            guard: Decides before each call.
            agent: Name or id of the agent whose tool it is.
            name: The tool's name; the function's when not given.
            domain: Of the agent.
            read_only: Whether it only reads.
            asks: Whether the guard may ask people.
            wait: Whether to wait for them, or for how many seconds.

        Raises:
            ValidationError: A generator, which has no one result, or a function without a signature.
        """

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
                raise ValidationError("function", function, "a function with one result, not a generator")
            try:
                signature = inspect.signature(function)
            except (TypeError, ValueError) as error:
                raise ValidationError("function", function, f"a function with a signature: {error}") from None
            called = name or getattr(function, "__name__", None)
            if called is None:
                raise ValidationError("name", name, "a name, for a function that has none")
            tool = FunctionTool(
                function=function,
                signature=signature,
                name=called,
                agent=agent,
                domain=domain,
                place=(keys.id_of("AGT", agent, domain), keys.id_of("TL", called)),
                read_only=read_only,
                guard=guard,
                asks=asks,
                wait=wait,
            )
            if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
                return cast("Callable[P, R]", self._awaited(tool))
            return cast("Callable[P, R]", self._plain(tool))

        return decorate

    def _plain(self, tool: FunctionTool) -> Callable[..., Any]:
        @functools.wraps(tool.function)
        def call(*args: Any, **kwargs: Any) -> Any:
            made = Call(self, tool)
            try:
                made.begin(args, kwargs)
                if made.asked is not None:
                    with made.waiting():
                        answer = self.reviews.wait(made.asked, timeout=made.patience)
                    made.decided(answer)
                if not made.answered:
                    made.enter()
                    made.result = tool.function(*made.args, **made.kwargs)
            except BaseException as error:
                made.leave()
                made.end(error)
                raise
            made.leave()
            made.end(None)
            return made.result

        return call

    def _awaited(self, tool: FunctionTool) -> Callable[..., Any]:
        @functools.wraps(tool.function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            made = Call(self, tool)
            try:
                await asyncio.to_thread(made.begin, args, kwargs)
                if made.asked is not None:
                    with made.waiting():
                        answer = await self.reviews.wait_async(made.asked, timeout=made.patience)
                    await asyncio.to_thread(made.decided, answer)
                if not made.answered:
                    made.enter()
                    made.result = await tool.function(*made.args, **made.kwargs)
            except (Exception, asyncio.CancelledError) as error:
                made.leave()
                await asyncio.to_thread(made.end, error)
                raise
            except BaseException as error:  # the loop is ending: nothing can be awaited
                made.leave()
                made.end(error)
                raise
            made.leave()
            await asyncio.to_thread(made.end, None)
            return made.result

        return call

    # What a call needs

    def failed(self, what: str) -> None:
        """Count and log what could not be recorded; called inside ``except``."""
        with self._lock:
            self.errors += 1
        _log.exception("functions.not_recorded: %s", what)

    def state(self, session: SessionRecorder) -> Made:
        """What is known of the calls of a session."""
        with self._lock:
            return self._states.setdefault(session, Made())

    def used(self, session: SessionRecorder) -> set[str]:
        """Identities of the calls that a session that goes on has recorded before."""
        if session.new:
            return set()
        history = self._repository.session_history(session.user_id, session.session_id)
        return {call.call_id for call in history.executions if call.call_id is not None}

    def catalogue(self, tool: FunctionTool) -> None:
        """Have domain, agent and tool in the catalogue; asked once in a process's life."""
        if tool.place in self._there or time.monotonic() < self._try_at:
            return
        agent_id, tool_id = tool.place
        domain_id = keys.id_of("DMN", tool.domain)
        described = inspect.getdoc(tool.function)
        wanted = [
            User(user_id=ANONYMOUS, name="anonymous"),
            Domain(domain_id=domain_id, name=tool.domain),
            Agent(agent_id=agent_id, domain_id=domain_id, name=tool.agent),
            Tool(
                agent_id=agent_id,
                tool_id=tool_id,
                domain_id=domain_id,
                name=tool.name,
                description=None if described is None else fitting(described.split("\n\n")[0]),
                spec=schema_of(tool.function),
                read_only=True if tool.read_only else None,
            ),
        ]
        try:
            found = self._table.get_many([entity.key for entity in wanted])
            absent = [entity for entity, there in zip(wanted, found, strict=True) if there is None]
            stored = found[-1]
            if tool.read_only and isinstance(stored, Tool) and stored.read_only is None:
                stored.read_only = True
                absent.append(stored)
            if absent:
                self._repository.put(*absent)
        except Exception:  # noqa: BLE001  # the function is called all the same
            self._try_at = time.monotonic() + _AGAIN
            self.failed(f"the catalogue of {tool.name}")
            return
        self._there.add(tool.place)
