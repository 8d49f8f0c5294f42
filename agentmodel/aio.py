"""AsyncAgentModel and its parts: the synchronous classes for asyncio, with the same names, awaited.

The synchronous classes are the source. Every method here is made of one of theirs: `_awaited` runs it in a thread,
`_direct` calls a method that never waits, and `_converted` turns what a method returns into its asyncio twin. Only
what differs in kind is written by hand: the ``async with`` blocks, `AsyncRecorder.record`, which puts records that are
made at the same time into one write, `AsyncReviews.wait`, which holds no thread, and `AsyncResponseCache.call`, which
awaits the tool.

    async with AsyncAgentModel.local() as model:
        async with model.session("USR001", "find a café") as session:
            async with session.process("locate") as process:
                async with process.call("AGT001", "TL001", values={"place": "stadium"}) as call:
                    call.result = await find_location("stadium")
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cached_property, wraps
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack, cast

from agentmodel._runtime.background import CARRIED
from agentmodel._runtime.process import ForkSafeLock
from agentmodel._values.counts import Usage
from agentmodel.access.recorder import (
    CallRecorder,
    HistoryEntity,
    ProcessRecorder,
    Receipt,
    Recorder,
    SessionRecorder,
)
from agentmodel.access.repository import Repository
from agentmodel.client import AgentModel
from agentmodel.config import Settings, SettingsOptions
from agentmodel.dynamo.models import Review, Status, Suggestion, ToolExecution, UserSession
from agentmodel.suggest.guard import CacheScope, Guard, ResponseCache
from agentmodel.suggest.health import Changed, HealthMonitor
from agentmodel.suggest.plan import Planner, SuggestionLog
from agentmodel.suggest.review import Answer, Reviews, RunChecks

if TYPE_CHECKING:
    from agentmodel._redaction import Redaction
    from agentmodel.cache import Credentials
    from agentmodel.privacy import Redactor
    from agentmodel.suggest.plan import Router
    from agentmodel.tools import FunctionTools

__all__ = [
    "AsyncAgentModel",
    "AsyncCallRecorder",
    "AsyncGuard",
    "AsyncHealthMonitor",
    "AsyncPlanner",
    "AsyncProcessRecorder",
    "AsyncRecorder",
    "AsyncRepository",
    "AsyncResponseCache",
    "AsyncReviews",
    "AsyncRunChecks",
    "AsyncSessionRecorder",
    "AsyncSuggestionLog",
]

_P = ParamSpec("_P")
_R = TypeVar("_R", bound=HistoryEntity)
_S = TypeVar("_S")
_S_co = TypeVar("_S_co", covariant=True)
_T = TypeVar("_T")
_U = TypeVar("_U")
_W = TypeVar("_W", bound="_Twin[Any]")

_GROUP_LIMIT = 500  # records in one write


# How a twin is made


class _Twin(Generic[_S_co]):
    """Runs a synchronous object, its `sync`."""

    def __init__(self, sync: _S_co) -> None:
        self.sync = sync


def _awaited(
    method: Callable[Concatenate[_S, _P], _T],
) -> Callable[Concatenate[_Twin[_S], _P], Coroutine[Any, Any, _T]]:
    """Make the twin of a method that may wait: a coroutine function that runs it in a thread."""

    @wraps(method)
    async def call(twin: _Twin[_S], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.to_thread(method, twin.sync, *args, **kwargs)

    return call


def _direct(method: Callable[Concatenate[_S, _P], _T]) -> Callable[Concatenate[_Twin[_S], _P], _T]:
    """Make the twin of a method that never waits: a function that calls it at once."""

    @wraps(method)
    def call(twin: _Twin[_S], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return method(twin.sync, *args, **kwargs)

    return call


def _converted(
    method: Callable[Concatenate[Any, _P], _T],
) -> Callable[[Callable[[_W, _T], _U]], Callable[Concatenate[_W, _P], _U]]:
    """Make the twin of a method that never waits and returns an object that has a twin of its own.

    It decorates a function of the twin that gets what the method returned. The decorated function has the method's
    parameters, and its own docstring and return type.
    """

    def decorate(convert: Callable[[_W, _T], _U]) -> Callable[Concatenate[_W, _P], _U]:
        @wraps(convert)
        def call(twin: _W, /, *args: _P.args, **kwargs: _P.kwargs) -> _U:
            return convert(twin, method(twin.sync, *args, **kwargs))

        returns = inspect.signature(convert).return_annotation
        vars(call)["__signature__"] = inspect.signature(method).replace(return_annotation=returns)
        return call

    return decorate


# Recording


class AsyncRecorder(_Twin[Recorder]):
    """A `Recorder` for asyncio: tasks that record at the same time share one write.

    It may be used from several event loops; the tasks of one loop share writes.

    Attributes:
        sync: The recorder that writes.

    >>> from agentmodel import UserSession
    >>> import asyncio
    >>> async def main() -> list[str]:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         sessions = [UserSession(user_id="USR312", session_id=f"SESS{n}", name="a café") for n in (1, 2)]
    ...         receipts = await asyncio.gather(*map(own.recorder.record, sessions))  # one write
    ...         return [receipt.level for receipt in receipts]
    >>> asyncio.run(main())
    ['valkey', 'valkey']
    """

    def __init__(self, sync: Recorder) -> None:
        super().__init__(sync)
        self._groups: dict[tuple[asyncio.AbstractEventLoop, *tuple[Any, ...]], _GroupCommit] = {}
        self._lock = ForkSafeLock()  # each event loop has a thread of its own

    async def record(self, entity: _R) -> Receipt[_R]:
        """Write one entity of the history, together with what other tasks record meanwhile; see `Recorder.record`."""
        name = (asyncio.get_running_loop(), *[variable.get() for variable in CARRIED])  # which all of a write share
        with self._lock:
            if name not in self._groups:
                self._groups = {each: group for each, group in self._groups.items() if not each[0].is_closed()}
                self._groups[name] = _GroupCommit(self.sync)
            group = self._groups[name]
        return cast("Receipt[_R]", await group.record(entity))

    record_many = _awaited(Recorder.record_many)
    outcome = _awaited(Recorder.outcome)

    @_converted(Recorder.session)
    def session(self, session: SessionRecorder) -> AsyncSessionRecorder:
        """Record a session from ``async with`` to the end of the block; see `Recorder.session`."""
        return AsyncSessionRecorder(session, self)


class _GroupCommit:
    """Collects the records of one event loop while a write is under way, and writes them together after it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._pending: list[tuple[HistoryEntity, asyncio.Future[Receipt[Any]]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def record(self, entity: HistoryEntity) -> Receipt[Any]:
        receipt: asyncio.Future[Receipt[Any]] = asyncio.get_running_loop().create_future()
        self._pending.append((entity, receipt))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await receipt

    async def _write(self) -> None:
        while self._pending:
            group, self._pending = self._pending[:_GROUP_LIMIT], self._pending[_GROUP_LIMIT:]
            try:
                receipts = await asyncio.to_thread(self._recorder.record_many, [entity for entity, _ in group])
            except Exception as error:  # noqa: BLE001  # it is raised in every task that waits for this group
                if len(group) == 1:
                    _resolve(group[0][1], error=error)
                else:  # so that a record that cannot be written fails alone
                    await asyncio.gather(*(self._write_alone(entity, future) for entity, future in group))
                continue
            for (_, future), receipt in zip(group, receipts, strict=True):
                _resolve(future, receipt)

    async def _write_alone(self, entity: HistoryEntity, future: asyncio.Future[Receipt[Any]]) -> None:
        try:
            _resolve(future, await asyncio.to_thread(self._recorder.record, entity))
        except Exception as error:  # noqa: BLE001  # it is raised in the task that waits
            _resolve(future, error=error)


def _resolve(
    future: asyncio.Future[Receipt[Any]], receipt: Receipt[Any] | None = None, *, error: Exception | None = None
) -> None:
    if future.done():
        return  # its task was cancelled; the record is kept all the same
    if receipt is not None:
        future.set_result(receipt)
    elif error is not None:
        future.set_exception(error)


class AsyncSessionRecorder(_Twin[SessionRecorder]):
    """A `SessionRecorder` for asyncio; made by `AsyncAgentModel.session`.

    Attributes:
        sync: The session that is recorded.

    >>> import asyncio
    >>> async def main() -> bool | None:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         async with own.session("USR313", "a café") as session:
    ...             async with session.process("locate") as process:
    ...                 async with process.call("AGT001", "TL001", values={"place": "park"}) as call:
    ...                     call.result = ["Cafe Onda"]
    ...         return call.receipt.entity.succeeded
    >>> asyncio.run(main())
    True
    """

    def __init__(self, sync: SessionRecorder, recorder: AsyncRecorder) -> None:
        super().__init__(sync)
        self._recorder = recorder

    @property
    def user_id(self) -> str:
        """Return the id of the session's user."""
        return self.sync.user_id

    @property
    def session_id(self) -> str:
        """Return the id of the session."""
        return self.sync.session_id

    @property
    def entity(self) -> UserSession:
        """Return the session as it is so far."""
        return self.sync.entity

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.sync.__enter__)
        self.sync.begin()  # in this task: a context variable that is set in a thread ends with it
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sync.leave()
        await self._recorder.record(self.sync.ended(error))

    succeed = _direct(SessionRecorder.succeed)
    fail = _direct(SessionRecorder.fail)

    @_converted(SessionRecorder.process)
    def process(self, process: ProcessRecorder) -> AsyncProcessRecorder:
        """Record a step of the session when its ``async with`` block begins; see `SessionRecorder.process`."""
        return AsyncProcessRecorder(process, self._recorder)


class AsyncProcessRecorder(_Twin[ProcessRecorder]):
    """A `ProcessRecorder` for asyncio; made by `AsyncSessionRecorder.process`.

    Attributes:
        sync: The process that is recorded.

    >>> import asyncio
    >>> async def main() -> str:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         async with own.session("USR313") as session, session.process("locate") as process:
    ...             return process.process_id
    >>> asyncio.run(main())
    'PRC001'
    """

    def __init__(self, sync: ProcessRecorder, recorder: AsyncRecorder) -> None:
        super().__init__(sync)
        self._recorder = recorder

    @property
    def process_id(self) -> str:
        """Return the id of the process."""
        return self.sync.process_id

    async def __aenter__(self) -> Self:
        self.sync.entity, self.sync.written = (await self._recorder.record(self.sync.entity)).entity, True
        self.sync.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sync.leave()

    @_converted(ProcessRecorder.call)
    def call(self, call: CallRecorder) -> AsyncCallRecorder:
        """Record a tool call at the end of its ``async with`` block; see `ProcessRecorder.call`."""
        return AsyncCallRecorder(call, self._recorder)


class AsyncCallRecorder(_Twin[CallRecorder]):
    """A `CallRecorder` for asyncio; made by `AsyncProcessRecorder.call`.

    Attributes:
        sync: The call that is recorded.
        result: What the tool returned; set it in the block.
        input_tokens: Tokens of the model's request for the call; set it in the block.
        output_tokens: Tokens that the model took to make the call; set it in the block.
        cached_tokens: Of the input tokens, those that were read from the provider's cache.
        cache_write_tokens: Of the input tokens, those that were written into the provider's cache.
        reasoning_tokens: Of the output tokens, those of the model's reasoning.
        model_name: The model that asked for the call, as its provider names it.
        request_input_tokens: Where the model asked for several calls at once, the tokens that it read for all of them:
            some prices depend on it.
        receipt: What the record reached; None until the block has ended.

    >>> import asyncio
    >>> async def main() -> str:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         async with own.session("USR313") as session, session.process("locate") as process:
    ...             async with process.call("AGT001", "TL001") as call:
    ...                 call.fail("no such place", error_type="KeyError")
    ...         return call.receipt.entity.error_type
    >>> asyncio.run(main())
    'KeyError'
    """

    def __init__(self, sync: CallRecorder, recorder: AsyncRecorder) -> None:
        super().__init__(sync)
        self._recorder = recorder
        self.result: Any = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.cache_write_tokens: int | None = None
        self.reasoning_tokens: int | None = None
        self.model_name: str | None = None
        self.request_input_tokens: int | None = None
        self.receipt: Receipt[ToolExecution] | None = None

    async def __aenter__(self) -> Self:
        if self.sync.starts_at_once:
            self.sync.__enter__()
        else:
            await asyncio.to_thread(self.sync.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        inner = self.sync
        for name in ("result", *Usage._fields):
            setattr(inner, name, getattr(self, name))
        self.receipt = await self._recorder.record(inner.ended(error))

    mark = _direct(CallRecorder.mark)

    def fail(self, message: Any = None, *, error_type: str | None = None, status: Status = "error") -> None:
        """Say that the call failed without raising, or was not made (``status``); see `CallRecorder.fail`."""
        self.sync.fail(None, error_type=error_type, status=status)
        if message is not None:
            self.result = message


# Reading and writing


class AsyncRepository(_Twin[Repository]):
    """A `Repository` for asyncio: the same methods, awaited.

    Attributes:
        sync: The repository that reads and writes.

    >>> import asyncio
    >>> async def main() -> list[str]:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         return [agent.name for agent in await own.repository.top_agents("DMN001")]
    >>> asyncio.run(main())
    ['review agent', 'map agent']
    """

    @property
    def redaction(self) -> Redaction:
        """What redacts everything that is written."""
        return self.sync.redaction

    domains = _awaited(Repository.domains)
    top_agents = _awaited(Repository.top_agents)
    agents_by_score = _awaited(Repository.agents_by_score)
    domain_tools = _awaited(Repository.domain_tools)
    agent_tools = _awaited(Repository.agent_tools)
    sessions = _awaited(Repository.sessions)
    session_of_source = _awaited(Repository.session_of_source)
    session_history = _awaited(Repository.session_history)
    outcome = _awaited(Repository.outcome)
    user_mappings = _awaited(Repository.user_mappings)
    mappings = _awaited(Repository.mappings)

    domain = _awaited(Repository.domain)
    agent = _awaited(Repository.agent)
    tool = _awaited(Repository.tool)
    user = _awaited(Repository.user)
    session = _awaited(Repository.session)
    process = _awaited(Repository.process)
    execution = _awaited(Repository.execution)
    mapping = _awaited(Repository.mapping)

    put = _awaited(Repository.put)
    put_new = _awaited(Repository.put_new)
    update = _awaited(Repository.update)
    delete = _awaited(Repository.delete)
    invalidate = _awaited(Repository.invalidate)


# Suggestions, health, guard and reviews


class AsyncPlanner(_Twin[Planner]):
    """A `Planner` for asyncio: the same methods, awaited.

    Attributes:
        sync: The planner that makes the plans.

    >>> import asyncio
    >>> async def main() -> str | None:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         plan = await own.planner.suggest("USR002", category="cafe search")
    ...         return plan.agent
    >>> asyncio.run(main())
    'review agent'
    """

    suggest = _awaited(Planner.suggest)
    next_tools = _awaited(Planner.next_tools)
    load = _awaited(Planner.load)
    close = _awaited(Planner.close)


class AsyncSuggestionLog(_Twin[SuggestionLog]):
    """A `SuggestionLog` for asyncio: the same methods, awaited.

    Attributes:
        sync: The log that keeps the suggestions.

    >>> import asyncio
    >>> async def main() -> list[str]:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         plan = await own.suggest("USR317", category="cafe search")
    ...         return [suggestion.choice for suggestion in await own.suggestions.of_user("USR317")]
    >>> asyncio.run(main())
    ['AGT002']
    """

    keep = _awaited(SuggestionLog.keep)
    of_user = _awaited(SuggestionLog.of_user)
    ended_in = staticmethod(SuggestionLog.ended_in)
    learn = _awaited(SuggestionLog.learn)
    learn_drained = _awaited(SuggestionLog.learn_drained)
    was_withheld = _awaited(SuggestionLog.was_withheld)

    async def all(self) -> list[Suggestion]:
        """Return all suggestions, in no order; reads the whole table in a thread."""
        return await asyncio.to_thread(lambda: list(self.sync.all()))


class AsyncHealthMonitor(_Twin[HealthMonitor]):
    """A `HealthMonitor` for asyncio: the same methods, awaited.

    Attributes:
        sync: The monitor that knows which tools fail.

    >>> import asyncio
    >>> async def main() -> list[str]:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         return [tool.state for tool in await own.health.tools("DMN001")]
    >>> asyncio.run(main())
    ['closed', 'closed', 'closed']
    """

    @property
    def on_change(self) -> list[Changed]:
        """Return the functions that are called, in a thread, with a tool and its health after its state has changed."""
        return self.sync.on_change

    @contextmanager
    def for_everybody(self) -> Iterator[None]:
        """Let calls that are recorded in this block count for everybody; else failures of one user never do alone."""
        with self.sync.for_everybody():
            yield

    calls_in = staticmethod(HealthMonitor.calls_in)
    learn = _awaited(HealthMonitor.learn)
    health = _awaited(HealthMonitor.health)
    health_by_failures = _awaited(HealthMonitor.health_by_failures)
    failing = _awaited(HealthMonitor.failing)
    tools = _awaited(HealthMonitor.tools)


class AsyncGuard(_Twin[Guard]):
    """A `Guard` for asyncio: the same methods; those that ask a store are awaited.

    Attributes:
        sync: The guard that decides.

    >>> import asyncio
    >>> async def main() -> str:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         guard = own.guard(review=["book_table"])
    ...         call = {"agent_id": "AGT002", "tool_id": "TL003", "user_id": "USR314", "session_id": "SESS1"}
    ...         return type(await guard.before(**call)).__name__
    >>> asyncio.run(main())
    'Ask'
    """

    plan = _awaited(Guard.plan)
    before = _awaited(Guard.before)
    may_ask = _direct(Guard.may_ask)
    undecided = _direct(Guard.undecided)
    after = _awaited(Guard.after)
    answer = _awaited(Guard.answer)


class AsyncResponseCache(_Twin[ResponseCache]):
    """A `ResponseCache` for asyncio: the same methods, awaited.

    Attributes:
        sync: The cache that keeps the results.

    >>> import asyncio
    >>> async def main() -> list[str]:
    ...     async def read_reviews() -> list[str]:
    ...         return ["a café"]
    ...
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         async with own.session("USR315") as session, session.process("ask") as process:
    ...             return await own.response_cache.call(process, "AGT002", "TL002", read_reviews)
    >>> asyncio.run(main())
    ['a café']
    """

    async def call(
        self,
        process: AsyncProcessRecorder,
        agent_id: str,
        tool_id: str,
        make: Callable[[], Awaitable[Any]],
        *,
        arguments: Any = None,
        scope: CacheScope = "user",
    ) -> Any:
        """Return the cached result of a call, or else await ``make``; see `ResponseCache.call`."""
        user_id = process.sync.entity.user_id
        found = await self.look(agent_id, tool_id, arguments, user_id=user_id, scope=scope)
        async with process.call(agent_id, tool_id, values=arguments) as call:
            if found.hit:
                call.mark("cache_hit")
                call.result = found.result
            else:
                call.result = await make()
        if not found.hit:
            await self.keep(found, call.result)
        return call.result

    look = _awaited(ResponseCache.look)
    keep = _awaited(ResponseCache.keep)
    forget = _awaited(ResponseCache.forget)
    begins = _awaited(ResponseCache.begins)
    writes_in = staticmethod(ResponseCache.writes_in)
    learn = _awaited(ResponseCache.learn)
    health_changed = _awaited(ResponseCache.health_changed)


class AsyncRunChecks(_Twin[RunChecks]):
    """`RunChecks` for asyncio: the same methods, awaited.

    Attributes:
        sync: The checks.

    >>> import asyncio
    >>> async def main() -> bool:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         return (await own.run_checks.check("USR002", "SESS1")).suspect
    >>> asyncio.run(main())
    False
    """

    check = _awaited(RunChecks.check)
    wrong_step = _awaited(RunChecks.wrong_step)
    ended_in = staticmethod(RunChecks.ended_in)
    learn = _awaited(RunChecks.learn)


class AsyncReviews(_Twin[Reviews]):
    """`Reviews` for asyncio: the same methods, awaited.

    Attributes:
        sync: The reviews that ask and answer.

    >>> import asyncio
    >>> async def main() -> str:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         question = await own.reviews.ask("USR316", "SESS1", "Pay?", queue="payments", call_id="1")
    ...         await own.reviews.decide(question, "approve", "lee")
    ...         answer = await own.reviews.wait(question)
    ...         return answer.status
    >>> asyncio.run(main())
    'approved'
    """

    @property
    def on_verdict(self) -> list[Callable[[Review], None]]:
        """Return the functions that are called, in a thread, with a question after a verdict was applied."""
        return self.sync.on_verdict

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


# The model


class AsyncAgentModel(_Twin[AgentModel]):
    """An `AgentModel` for asyncio: the same names, awaited.

    Use it in an ``async with`` block, or await `close`.

    Attributes:
        sync: The model that does the work.
        settings: The settings of the model.
        repository: Reads and writes typed entities.
        recorder: Writes history.

    >>> import asyncio
    >>> async def main() -> str:
    ...     async with AsyncAgentModel.from_settings(model.settings) as own:
    ...         async with own.session("USR311", "a café") as session:
    ...             session.succeed("found one")
    ...         stored = await own.repository.session("USR311", session.session_id)
    ...         return stored.summary
    >>> asyncio.run(main())
    'found one'
    """

    def __init__(self, sync: AgentModel) -> None:
        super().__init__(sync)
        self.settings = sync.settings
        self.repository = AsyncRepository(sync.repository)
        self.recorder = AsyncRecorder(sync.recorder)

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        valkey_credentials: Credentials | None = None,
        redact: bool | str | Redactor | None = None,
        router: Router | None = None,
        **overrides: Unpack[SettingsOptions],
    ) -> Self:
        """Open the installation that ``AGENTMODEL_*`` describes; see `AgentModel.from_settings`."""
        given: dict[str, Any] = {"valkey_credentials": valkey_credentials, "redact": redact, "router": router}
        return cls(AgentModel.from_settings(settings, **given, **overrides))

    @classmethod
    def from_stack(
        cls,
        directory: str | Path = ".agentmodel",
        *,
        redact: bool | str | Redactor | None = None,
        router: Router | None = None,
        **overrides: Unpack[SettingsOptions],
    ) -> Self:
        """Open the installation of the local stack that ``agentmodel up`` runs; see `AgentModel.from_stack`."""
        return cls(AgentModel.from_stack(directory, redact=redact, router=router, **overrides))

    @classmethod
    def local(
        cls,
        directory: str | Path | None = None,
        *,
        redact: bool | str | Redactor | None = None,
        router: Router | None = None,
        **overrides: Unpack[SettingsOptions],
    ) -> Self:
        """Start an installation on embedded engines; see `AgentModel.local`. It blocks meanwhile, about a second."""
        return cls(AgentModel.local(directory, redact=redact, router=router, **overrides))

    @_converted(AgentModel.session)
    def session(self, session: SessionRecorder) -> AsyncSessionRecorder:
        """Record a session from ``async with`` to the end of the block; see `AgentModel.session`."""
        return AsyncSessionRecorder(session, self.recorder)

    outcome = _awaited(AgentModel.outcome)
    import_traces = _awaited(AgentModel.import_traces)
    drain = _awaited(AgentModel.drain)
    refresh = _awaited(AgentModel.refresh)
    publish = _awaited(AgentModel.publish)
    migrate = _awaited(AgentModel.migrate)
    export = _awaited(AgentModel.export)
    suggest = _awaited(AgentModel.suggest)
    route = _awaited(AgentModel.route)
    routing_prompt = _awaited(AgentModel.routing_prompt)
    next_tools = _awaited(AgentModel.next_tools)
    erase_user = _awaited(AgentModel.erase_user)
    tool = _direct(AgentModel.tool)
    in_session = _direct(AgentModel.in_session)
    bind = _direct(AgentModel.bind)
    bound = _direct(AgentModel.bound)

    @_converted(AgentModel.guard)
    def guard(self, guard: Guard) -> AsyncGuard:
        """Return a guard that decides before each call; see `AgentModel.guard`."""
        return AsyncGuard(guard)

    @cached_property
    def planner(self) -> AsyncPlanner:
        """Return the planner; see `AgentModel.planner`."""
        return AsyncPlanner(self.sync.planner)

    @cached_property
    def suggestions(self) -> AsyncSuggestionLog:
        """Return the log of suggestions; see `AgentModel.suggestions`."""
        return AsyncSuggestionLog(self.sync.suggestions)

    @cached_property
    def health(self) -> AsyncHealthMonitor:
        """Return the health monitor, which knows which tools are failing now."""
        return AsyncHealthMonitor(self.sync.health)

    @cached_property
    def response_cache(self) -> AsyncResponseCache:
        """Return the response cache, which keeps results of read-only tools."""
        return AsyncResponseCache(self.sync.response_cache)

    @cached_property
    def reviews(self) -> AsyncReviews:
        """Return the reviews: questions to people before a step, and verdicts on runs."""
        return AsyncReviews(self.sync.reviews)

    @cached_property
    def run_checks(self) -> AsyncRunChecks:
        """Return the checks of runs: whether one looks wrong, and which step of a failed one did it."""
        return AsyncRunChecks(self.sync.run_checks)

    @property
    def functions(self) -> FunctionTools:
        """Return the maker of function tools, which `tool` uses."""
        return self.sync.functions

    evaluate = _awaited(AgentModel.evaluate)
    impact = _awaited(AgentModel.impact)
    resume_plans = _awaited(AgentModel.resume_plans)
    savings = _awaited(AgentModel.savings)
    wrong_steps = _awaited(AgentModel.wrong_steps)
    report = _awaited(AgentModel.report)
    stats = _awaited(AgentModel.stats)
    settle = _awaited(AgentModel.settle)
    close = _awaited(AgentModel.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
