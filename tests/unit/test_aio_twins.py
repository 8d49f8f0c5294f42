"""Each asynchronous class has the methods of its synchronous class: no more, no fewer, with the same parameters."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from agentmodel import aio
from agentmodel.access.recorder import CallRecorder, ProcessRecorder, Recorder, SessionRecorder
from agentmodel.access.repository import Repository
from agentmodel.client import AgentModel
from agentmodel.suggest.guard import Guard, ResponseCache
from agentmodel.suggest.health import HealthMonitor
from agentmodel.suggest.plan import Planner, SuggestionLog
from agentmodel.suggest.review import Reviews, RunChecks

TWINS: dict[type, type] = {
    AgentModel: aio.AsyncAgentModel,
    CallRecorder: aio.AsyncCallRecorder,
    Guard: aio.AsyncGuard,
    HealthMonitor: aio.AsyncHealthMonitor,
    Planner: aio.AsyncPlanner,
    ProcessRecorder: aio.AsyncProcessRecorder,
    Recorder: aio.AsyncRecorder,
    Repository: aio.AsyncRepository,
    ResponseCache: aio.AsyncResponseCache,
    Reviews: aio.AsyncReviews,
    RunChecks: aio.AsyncRunChecks,
    SessionRecorder: aio.AsyncSessionRecorder,
    SuggestionLog: aio.AsyncSuggestionLog,
}

SYNC_ONLY = {
    # stations that the model's own methods use; who needs one has `sync`
    AgentModel: {"drainer", "prices", "valkey", "warehouse"},
    # what the tool functions and the integrations make records with, in threads of their own
    Recorder: {
        "agent_revision",
        "cached_tool_name",
        "close",
        "continued",
        "dropped",
        "has_session_elsewhere",
        "journal_sink",
        "known_history",
        "left",
        "next_process_id",
        "open",
        "put_missing",
        "opened",
        "outcome_of",
        "record_each",
        "record_later",
        "stored_outcomes",
        "resume",
        "settle",
        "tool_name",
        "wait_for",
        "waiting",
    },
    # the ends of the block, which the twin's `async with` calls on `sync`
    SessionRecorder: {"begin", "ended", "leave", "new", "next_call", "recorder"},
    ProcessRecorder: {"begin", "leave"},
    CallRecorder: {"ended", "starts_at_once"},
    # what plans are made of, which the planner reads in a thread of its own
    Repository: {
        "best_mappings",
        "cache_best_mappings",
        "mappings_at",
        "own_mappings",
        "prefetched",
        "request_log",
    },
    # sent ahead of a decision by the guard
    ResponseCache: {"marks"},
    # called in a forked child, where the twin's `sync` is, by an erasure, and by the planner
    HealthMonitor: {"forget_user", "reads", "renew"},
    # the twin's `wait` is this one
    Reviews: {"wait_async"},
}

TWIN_ONLY = {
    # attributes that the synchronous object has from its `__init__`
    HealthMonitor: {"on_change"},
    Reviews: {"on_verdict"},
    SessionRecorder: {"entity"},
}

AT_ONCE = {
    # they begin blocks or return objects, and wait for nothing
    AgentModel: {"bind", "bound", "from_settings", "from_stack", "guard", "in_session", "local", "session", "tool"},
    Recorder: {"session"},
    SessionRecorder: {"fail", "process", "succeed"},
    ProcessRecorder: {"call"},
    CallRecorder: {"fail", "mark"},
    # they look at what the process knows already
    Guard: {"may_ask", "undecided"},
    HealthMonitor: {"calls_in", "for_everybody"},
    ResponseCache: {"writes_in"},
    RunChecks: {"ended_in"},
    Reviews: {"id_of", "reference"},
    SuggestionLog: {"ended_in"},
}

OTHER_TYPES = {
    # the iterator of a table must not run in the event loop
    (SuggestionLog, "all"): {"return": "list[Suggestion]"},
    # a tool of an asynchronous application is awaited
    (ResponseCache, "call"): {"process": "AsyncProcessRecorder", "make": "Callable[[], Awaitable[Any]]"},
    # aliases, which the other module has no need of
    (Reviews, "wait"): {"which": "Review | str"},
}

PAIRS = sorted(TWINS.items(), key=lambda pair: pair[0].__name__)


def public(kind: type) -> dict[str, Any]:
    """Methods and properties of a class by name, those that it inherits from a class of ours too."""
    return {
        name: value
        for each in reversed(kind.__mro__)
        if each.__module__.startswith("agentmodel.")
        for name, value in vars(each).items()
        if not name.startswith("_") and (callable(value) or hasattr(value, "__get__"))
    }


def types_of(function: Any) -> tuple[list[inspect.Parameter], dict[str, Any]]:
    """The parameters without their types, and the types, which are texts."""
    signature = inspect.signature(function)
    types = {each.name: each.annotation for each in signature.parameters.values()} | {
        "return": signature.return_annotation
    }
    return [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()], types


def twin_type(annotation: Any) -> Any:
    """What a synchronous class is called in asynchronous signatures."""
    names = {sync.__name__: twin.__name__ for sync, twin in TWINS.items()}
    return names.get(annotation, annotation)


def test_every_asynchronous_class_is_compared() -> None:
    """The table above has every public class of `agentmodel.aio`."""
    assert sorted(aio.__all__) == sorted(twin.__name__ for twin in TWINS.values())


@pytest.mark.parametrize(("sync", "twin"), PAIRS)
def test_the_names_are_the_same(sync: type, twin: type) -> None:
    """A method that is added to one side only is noticed; an exception that is none any more, too."""
    sync_only, twin_only = SYNC_ONLY.get(sync, set()), TWIN_ONLY.get(sync, set())

    assert set(public(sync)) - sync_only == set(public(twin)) - twin_only
    assert set() == sync_only - set(public(sync))
    assert set() == twin_only - set(public(twin))


@pytest.mark.parametrize(("sync", "twin"), PAIRS)
def test_the_signatures_are_the_same(sync: type, twin: type) -> None:
    """Each method takes the same parameters with the same defaults and types, and returns the same type."""
    compared = [name for name in public(twin) if callable(getattr(sync, name, None))]
    assert compared
    for name in compared:
        parameters, types = types_of(getattr(sync, name))
        own_parameters, own_types = types_of(getattr(twin, name))
        wanted = {each: twin_type(annotation) for each, annotation in types.items()}

        assert parameters == own_parameters, name
        assert wanted | OTHER_TYPES.get((sync, name), {}) == own_types, name


@pytest.mark.parametrize(("sync", "twin"), PAIRS)
def test_what_may_wait_is_awaited(sync: type, twin: type) -> None:
    """Each method is a coroutine function but those that are known to wait for nothing."""
    methods = {name for name in public(twin) if callable(getattr(twin, name))}
    at_once = {name for name in methods if not inspect.iscoroutinefunction(getattr(twin, name))}

    assert AT_ONCE.get(sync, set()) == at_once


@pytest.mark.parametrize(("sync", "twin"), PAIRS)
def test_the_docstrings_are_taken_over(sync: type, twin: type) -> None:
    """Each method has a docstring: that of the synchronous one, or one of its own."""
    assert [] == [name for name, each in public(twin).items() if not inspect.getdoc(each)]
