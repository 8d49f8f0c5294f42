"""AsyncAgentModel and AsyncRecorder: the same names, awaited.

The synchronous classes are the source; these run them in threads, so nothing is written twice. Records that are made
while another write is under way wait for it and go together in the next one (group commit): many tasks that record at
once share round trips.

    async with AsyncAgentModel.local() as model:
        async with model.session("USR001", "find a café") as session:
            async with session.process("locate") as process:
                async with process.call("AGT001", "TL001", values={"place": "stadium"}) as call:
                    call.result = await find_location("stadium")
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, cast

from agentmodel.access.delivery import History, Receipt
from agentmodel.access.pages import Page
from agentmodel.access.recorder import (
    CallRecorder,
    ProcessRecorder,
    Recorder,
    SessionRecorder,
)
from agentmodel.access.repository import Repository, SessionHistory
from agentmodel.client import AgentModel, Progress
from agentmodel.config import Settings
from agentmodel.dynamo.attributes import Change
from agentmodel.dynamo.entity import Entity, ItemKey
from agentmodel.dynamo.models import (
    Agent,
    Domain,
    Status,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)

if TYPE_CHECKING:
    from agentmodel.access.importing import Imported
    from agentmodel.cache.client import Credentials
    from agentmodel.cache.drain import Drained
    from agentmodel.cache.stats import CacheStats
    from agentmodel.redshift.intake import Source
    from agentmodel.redshift.pipeline import Refreshed
    from agentmodel.suggest.advise import Plan
    from agentmodel.suggest.answers import Decision
    from agentmodel.suggest.awaited import AsyncAdviser, AsyncGuard, AsyncHealthBook, AsyncReviews, AsyncSuggestions
    from agentmodel.suggest.evaluate import Evaluation
    from agentmodel.suggest.functions import Functions
    from agentmodel.suggest.guard import Rule
    from agentmodel.suggest.publish import Published
    from agentmodel.suggest.savings import KnownAnswers, SavingsRow, Scope

__all__ = [
    "AsyncAgentModel",
    "AsyncCallRecorder",
    "AsyncKnownAnswers",
    "AsyncProcessRecorder",
    "AsyncRecorder",
    "AsyncRepository",
    "AsyncSessionRecorder",
]

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound=History)
E = TypeVar("E", bound=Entity)

_MOST = 500  # records of one group


def _silent(what: str, done: int, of: int) -> None:
    """Shows no progress."""


async def _in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(function, *args, **kwargs)


class AsyncRecorder:
    """A `Recorder` for asyncio; many tasks that record at once share round trips.

    Args:
        recorder: The recorder that writes.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.sync = recorder
        self._waiting: list[tuple[History, asyncio.Future[Receipt[Any]]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, entity: R) -> Receipt[R]:
        """Write one entity of the history; see `Recorder.record`."""
        answer: asyncio.Future[Receipt[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append((entity, answer))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return cast("Receipt[R]", await answer)

    async def record_many(self, entities: Sequence[R]) -> list[Receipt[R]]:
        """Write entities of the history, in one round trip to the journal when there is one."""
        return await _in_thread(self.sync.record_many, entities)

    def session(
        self,
        user_id: str,
        request: str | None = None,
        *,
        category: str | None = None,
        name: str | None = None,
        session_id: str | None = None,
        started_at: datetime | None = None,
    ) -> AsyncSessionRecorder:
        """A session of a user; see `Recorder.session`."""
        inner = self.sync.session(
            user_id, request, category=category, name=name, session_id=session_id, started_at=started_at
        )
        return AsyncSessionRecorder(self, inner)

    async def _write(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            try:
                receipts = await _in_thread(self.sync.record_many, [entity for entity, _ in group])
            except Exception as error:  # noqa: BLE001  # it is handed to everybody who waits for this group
                if len(group) == 1:
                    _answer(group[0][1], error=error)
                else:  # one bad record fails alone
                    await asyncio.gather(*(self._write_alone(entity, answer) for entity, answer in group))
                continue
            for (_, answer), receipt in zip(group, receipts, strict=True):
                _answer(answer, receipt)

    async def _write_alone(self, entity: History, answer: asyncio.Future[Receipt[Any]]) -> None:
        try:
            _answer(answer, await _in_thread(self.sync.record, entity))
        except Exception as error:  # noqa: BLE001  # it is handed to the one who waits
            _answer(answer, error=error)


def _answer(
    future: asyncio.Future[Receipt[Any]], receipt: Receipt[Any] | None = None, *, error: Exception | None = None
) -> None:
    if future.done():
        return  # its task was cancelled; the record is kept all the same
    if receipt is not None:
        future.set_result(receipt)
    elif error is not None:
        future.set_exception(error)


class AsyncSessionRecorder:
    """One session while it runs; see `SessionRecorder`."""

    def __init__(self, recorder: AsyncRecorder, inner: SessionRecorder) -> None:
        self._recorder = recorder
        self.sync = inner

    @property
    def user_id(self) -> str:
        """The user."""
        return self.sync.user_id

    @property
    def session_id(self) -> str:
        """The session."""
        return self.sync.session_id

    @property
    def entity(self) -> UserSession:
        """The session as it is so far."""
        return self.sync.entity

    async def __aenter__(self) -> Self:
        await _in_thread(self.sync.__enter__)
        self.sync.begin()  # in this task: what a thread sets ends with it
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sync.leave()
        await self._recorder.record(self.sync.ended(error))

    def succeed(self, summary: str | None = None) -> None:
        """The session reached what was asked."""
        self.sync.succeed(summary)

    def fail(self, summary: str | None = None) -> None:
        """The session did not reach what was asked."""
        self.sync.fail(summary)

    def process(
        self, name: str, *, description: str | None = None, prompt: str | None = None, number: int | None = None
    ) -> AsyncProcessRecorder:
        """A step of the session; see `SessionRecorder.process`."""
        inner = self.sync.process(name, description=description, prompt=prompt, number=number)
        return AsyncProcessRecorder(self._recorder, inner)


class AsyncProcessRecorder:
    """One step of a session while it runs; see `ProcessRecorder`."""

    def __init__(self, recorder: AsyncRecorder, inner: ProcessRecorder) -> None:
        self._recorder = recorder
        self.sync = inner

    @property
    def process_id(self) -> str:
        """The step's id."""
        return self.sync.process_id

    async def __aenter__(self) -> Self:
        self.sync.entity = (await self._recorder.record(self.sync.entity)).entity
        self.sync.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sync.leave()

    def call(
        self,
        agent_id: str,
        tool_id: str,
        *,
        values: Any = None,
        tool_name: str | None = None,
        call_id: str | None = None,
    ) -> AsyncCallRecorder:
        """One call of a tool; see `ProcessRecorder.call`."""
        inner = self.sync.call(agent_id, tool_id, values=values, tool_name=tool_name, call_id=call_id)
        return AsyncCallRecorder(self._recorder, inner)


class AsyncCallRecorder:
    """One call of a tool while it runs; see `CallRecorder`.

    Attributes:
        result: What the tool gave.
        input_tokens: Tokens that asked for the call.
        output_tokens: Tokens it took to make.
        receipt: What the record reached, after the block.
    """

    def __init__(self, recorder: AsyncRecorder, inner: CallRecorder) -> None:
        self._recorder = recorder
        self.sync = inner
        self.result: Any = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.receipt: Receipt[ToolExecution] | None = None

    async def __aenter__(self) -> Self:
        if self.sync.starts_at_once:
            self.sync.__enter__()
        else:
            await _in_thread(self.sync.__enter__)
        return self

    def fail(self, message: Any = None, *, error_type: str | None = None, status: Status = "error") -> None:
        """The call failed without raising, or did not take place (``status``)."""
        self.sync.fail(None, error_type=error_type, status=status)
        if message is not None:
            self.result = message

    def mark(self, status: Status) -> None:
        """Say how the call came about where it was not made as asked: ``edited``, ``cache_hit``."""
        self.sync.mark(status)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        inner = self.sync
        inner.result, inner.input_tokens, inner.output_tokens = self.result, self.input_tokens, self.output_tokens
        self.receipt = await self._recorder.record(inner.ended(error))


class AsyncRepository:
    """A `Repository` for asyncio: the same methods, awaited.

    Args:
        repository: The repository that reads and writes.
    """

    def __init__(self, repository: Repository) -> None:
        self.sync = repository

    async def domains(self, name: str = "", *, limit: int = 100, cursor: str | None = None) -> Page[Domain]:
        """Access pattern 1; see `Repository.domains`."""
        return await _in_thread(self.sync.domains, name, limit=limit, cursor=cursor)

    async def top_agents(self, domain_id: str, limit: int = 10, *, cursor: str | None = None) -> Page[Agent]:
        """Access pattern 2; see `Repository.top_agents`."""
        return await _in_thread(self.sync.top_agents, domain_id, limit, cursor=cursor)

    async def domain_tools(self, domain_id: str, limit: int = 100, *, cursor: str | None = None) -> Page[Tool]:
        """Access pattern 3; see `Repository.domain_tools`."""
        return await _in_thread(self.sync.domain_tools, domain_id, limit, cursor=cursor)

    async def agent_tools(self, agent_id: str, limit: int = 100, *, cursor: str | None = None) -> Page[Tool]:
        """Access pattern 4; see `Repository.agent_tools`."""
        return await _in_thread(self.sync.agent_tools, agent_id, limit, cursor=cursor)

    async def sessions(
        self, user_id: str, limit: int = 100, *, newest_first: bool = True, cursor: str | None = None
    ) -> Page[UserSession]:
        """Access pattern 5; see `Repository.sessions`."""
        return await _in_thread(self.sync.sessions, user_id, limit, newest_first=newest_first, cursor=cursor)

    async def session_history(
        self,
        user_id: str,
        session_id: str,
        *,
        newest_first: bool = False,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SessionHistory:
        """Access pattern 6; see `Repository.session_history`."""
        return await _in_thread(
            self.sync.session_history, user_id, session_id, newest_first=newest_first, limit=limit, cursor=cursor
        )

    async def user_mappings(
        self, user_id: str, category: str = "", *, limit: int = 100, cursor: str | None = None
    ) -> Page[UserToolMapping]:
        """Access pattern 7; see `Repository.user_mappings`."""
        return await _in_thread(self.sync.user_mappings, user_id, category, limit=limit, cursor=cursor)

    async def mappings(
        self, category: str = "", *, limit: int = 100, cursor: str | None = None
    ) -> Page[UserToolMapping]:
        """Access pattern 8; see `Repository.mappings`."""
        return await _in_thread(self.sync.mappings, category, limit=limit, cursor=cursor)

    async def domain(self, domain_id: str) -> Domain | None:
        """A domain, or None."""
        return await _in_thread(self.sync.domain, domain_id)

    async def agent(self, agent_id: str) -> Agent | None:
        """An agent, or None."""
        return await _in_thread(self.sync.agent, agent_id)

    async def tool(self, agent_id: str, tool_id: str) -> Tool | None:
        """A tool of an agent, or None."""
        return await _in_thread(self.sync.tool, agent_id, tool_id)

    async def user(self, user_id: str) -> User | None:
        """A user, or None."""
        return await _in_thread(self.sync.user, user_id)

    async def session(self, user_id: str, session_id: str) -> UserSession | None:
        """A session, or None."""
        return await _in_thread(self.sync.session, user_id, session_id)

    async def process(self, user_id: str, session_id: str, process_id: str) -> UserSessionProcess | None:
        """A process of a session, or None."""
        return await _in_thread(self.sync.process, user_id, session_id, process_id)

    async def execution(
        self, user_id: str, session_id: str, process_id: str, agent_id: str, tool_id: str, *, attempt: int = 1
    ) -> ToolExecution | None:
        """A tool call, or None."""
        return await _in_thread(
            self.sync.execution, user_id, session_id, process_id, agent_id, tool_id, attempt=attempt
        )

    async def mapping(self, user_id: str, category: str) -> UserToolMapping | None:
        """The best known way for exactly this category of a user, or None."""
        return await _in_thread(self.sync.mapping, user_id, category)

    async def put(self, *entities: Entity) -> None:
        """Write entities of the catalogue; see `Repository.put`."""
        await _in_thread(self.sync.put, *entities)

    async def put_new(self, entity: Entity) -> None:
        """Write an entity under a key that holds nothing yet; see `Repository.put_new`."""
        await _in_thread(self.sync.put_new, entity)

    async def update(self, target: E | ItemKey[E], *changes: Change) -> E:
        """Change single attributes of a stored item; see `Repository.update`."""
        return await _in_thread(self.sync.update, target, *changes)

    async def delete(self, entity: Entity) -> None:
        """Delete an entity's item; see `Repository.delete`."""
        await _in_thread(self.sync.delete, entity)


class AsyncKnownAnswers:
    """Answers of read-only tools to calls that were made before, for asyncio; see `KnownAnswers`.

    Args:
        answers: What keeps them.

    Attributes:
        sync: The same.
    """

    def __init__(self, answers: KnownAnswers) -> None:
        self.sync = answers

    async def call(
        self,
        process: AsyncProcessRecorder,
        agent_id: str,
        tool_id: str,
        make: Callable[[], Awaitable[Any]],
        *,
        arguments: Any = None,
        scope: Scope = "user",
    ) -> Any:
        """Answer a call from what is known, else await ``make``; both are recorded. See `KnownAnswers.call`."""
        user_id = process.sync.entity.user_id
        found = await _in_thread(self.sync.look, agent_id, tool_id, arguments, user_id=user_id, scope=scope)
        async with process.call(agent_id, tool_id, values=arguments) as call:
            if found.hit:
                call.mark("cache_hit")
                call.result = found.result
            else:
                call.result = await make()
        if not found.hit:
            await _in_thread(self.sync.keep, found, call.result)
        return call.result

    async def forget(self, agent_id: str, tool_id: str) -> None:
        """Drop all answers of a tool."""
        await _in_thread(self.sync.forget, agent_id, tool_id)


class AsyncAgentModel:
    """An `AgentModel` for asyncio: the same names, awaited.

    Args:
        model: The model it runs.

    Attributes:
        sync: The same.
        repository: Reads and writes typed entities.
        recorder: Writes history.
    """

    def __init__(self, model: AgentModel) -> None:
        self.sync = model
        self.settings = model.settings
        self.repository = AsyncRepository(model.repository)
        self.recorder = AsyncRecorder(model.recorder)

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        valkey_credentials: Credentials | None = None,
        **overrides: Any,
    ) -> Self:
        """The installation that ``AGENTMODEL_*`` describes; see `AgentModel.from_settings`."""
        return cls(AgentModel.from_settings(settings, valkey_credentials=valkey_credentials, **overrides))

    @classmethod
    def local(cls, directory: str | Path | None = None, **overrides: Any) -> Self:
        """An installation on embedded engines; see `AgentModel.local`. It blocks while they start, about a second."""
        return cls(AgentModel.local(directory, **overrides))

    def session(
        self,
        user_id: str,
        request: str | None = None,
        *,
        category: str | None = None,
        name: str | None = None,
        session_id: str | None = None,
        started_at: datetime | None = None,
        plan: Plan | None = None,
    ) -> AsyncSessionRecorder:
        """A session of a user, recorded from ``async with`` to the end of the block; see `AgentModel.session`."""
        session = self.recorder.session(
            user_id, request, category=category, name=name, session_id=session_id, started_at=started_at
        )
        if plan is not None:
            session.entity.suggestion_id = plan.suggestion_id
        return session

    async def import_traces(
        self, *paths: str | Path, timezone: str = "UTC", strict: bool = False, progress: Progress = _silent
    ) -> Imported:
        """Put trace files into history and catalogue; see `AgentModel.import_traces`."""
        return await _in_thread(self.sync.import_traces, *paths, timezone=timezone, strict=strict, progress=progress)

    async def drain(self, *, progress: Callable[[Drained], None] | None = None) -> Drained:
        """Write everything that the journal holds into the table; see `AgentModel.drain`."""
        return await _in_thread(self.sync.drain, progress=progress)

    async def refresh(
        self,
        *,
        as_of: date | datetime | None = None,
        full: bool = False,
        source: Source | None = None,
        progress: Progress = _silent,
    ) -> Refreshed:
        """Compute scores and patterns anew; see `AgentModel.refresh`."""
        return await _in_thread(self.sync.refresh, as_of=as_of, full=full, source=source, progress=progress)

    async def publish(self, *, as_of: date | datetime | None = None, progress: Progress = _silent) -> Published:
        """Write scores and best processes back; see `AgentModel.publish`."""
        return await _in_thread(self.sync.publish, as_of=as_of, progress=progress)

    async def suggest(
        self, user_id: str, *, category: str | None = None, request: str | None = None, domain_id: str | None = None
    ) -> Plan:
        """What to do for a user's request; see `AgentModel.suggest`."""
        return await _in_thread(self.sync.suggest, user_id, category=category, request=request, domain_id=domain_id)

    async def evaluate(self, *, learn: float = 0.6) -> Evaluation:
        """Compare rankings, plans and chances with what happened; see `AgentModel.evaluate`."""
        return await _in_thread(self.sync.evaluate, learn=learn)

    async def savings(self) -> list[SavingsRow]:
        """What known answers saved in each category; see `AgentModel.savings`."""
        return await _in_thread(self.sync.savings)

    async def report(self, path: str | Path, *, as_of: date | datetime | None = None, rows: int = 500) -> Path:
        """Write what was learnt as one HTML page; see `AgentModel.report`."""
        return await _in_thread(self.sync.report, path, as_of=as_of, rows=rows)

    @cached_property
    def adviser(self) -> AsyncAdviser:
        """Makes the plans."""
        from agentmodel.suggest.awaited import AsyncAdviser

        return AsyncAdviser(self.sync.adviser)

    @cached_property
    def suggestions(self) -> AsyncSuggestions:
        """What was suggested, and what became of it."""
        from agentmodel.suggest.awaited import AsyncSuggestions

        return AsyncSuggestions(self.sync.suggestions)

    @cached_property
    def health(self) -> AsyncHealthBook:
        """Which tools fail now."""
        from agentmodel.suggest.awaited import AsyncHealthBook

        return AsyncHealthBook(self.sync.health)

    @cached_property
    def known_answers(self) -> AsyncKnownAnswers:
        """Answers of read-only tools to calls that were made before."""
        return AsyncKnownAnswers(self.sync.known_answers)

    @cached_property
    def reviews(self) -> AsyncReviews:
        """Questions to people, before a step and after a run."""
        from agentmodel.suggest.awaited import AsyncReviews

        return AsyncReviews(self.sync.reviews)

    def guard(
        self,
        *,
        review: Rule = "marked",
        cache: Scope | Literal[False] = "user",
        block: bool | Collection[str] = True,
        queue: str = "review",
        allowed: Sequence[Decision] = ("approve", "edit", "reject", "respond"),
        answer_within: timedelta = timedelta(hours=24),
        on_expiry: Decision = "reject",
        domain: str = "agents",
    ) -> AsyncGuard:
        """What decides before each call; see `AgentModel.guard`."""
        from agentmodel.suggest.awaited import AsyncGuard

        return AsyncGuard(
            self.sync.guard(
                review=review,
                cache=cache,
                block=block,
                queue=queue,
                allowed=allowed,
                answer_within=answer_within,
                on_expiry=on_expiry,
                domain=domain,
            )
        )

    def tool(
        self,
        *,
        agent: str,
        name: str | None = None,
        domain: str = "agents",
        cache: Scope | Literal[False] = False,
        review: Rule = "never",
        block: bool = True,
        queue: str = "review",
        answer_within: timedelta = timedelta(hours=24),
        on_expiry: Decision = "reject",
        wait: bool | float = False,
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Make a tool of a plain function; see `AgentModel.tool`. A synchronous function holds the loop up."""
        return self.sync.tool(
            agent=agent,
            name=name,
            domain=domain,
            cache=cache,
            review=review,
            block=block,
            queue=queue,
            answer_within=answer_within,
            on_expiry=on_expiry,
            wait=wait,
        )

    @property
    def functions(self) -> Functions:
        """What records the functions that `tool` made tools of."""
        return self.sync.functions

    async def settle(self) -> None:
        """Have learnt from everything that was recorded; see `AgentModel.settle`."""
        await _in_thread(self.sync.settle)

    async def stats(self) -> CacheStats | None:
        """What Valkey does for this model; see `AgentModel.stats`."""
        return await _in_thread(self.sync.stats)

    async def close(self) -> None:
        """Close connections, and stop embedded engines that were started for this model."""
        await _in_thread(self.sync.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
