"""Functions that are tools, against real engines: what is recorded where, and what is asked once only."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from datetime import timedelta
from typing import Any

import pytest
import redis

from agentmodel import AgentModel, AsyncAgentModel, Review, Settings, Tool, ToolExecution
from agentmodel.access.recorder import running
from agentmodel.exceptions import (
    CallRejected,
    ConfigurationError,
    HistoryUnavailable,
    NotCalled,
    ReviewPending,
    TableUnavailable,
    ToolBlocked,
    ValidationError,
)
from tests.integration.suggest_world import opened
from tests.integration.test_guard import fail


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        yield model


def calls(model: AgentModel, user_id: str = "USR001") -> list[ToolExecution]:
    """The calls of a user's sessions, oldest session first."""
    sessions = list(model.repository.sessions(user_id, newest_first=False))
    return [call for each in sessions for call in model.repository.session_history(user_id, each.session_id).executions]


def told(model: AgentModel, user_id: str = "USR001") -> list[tuple[str, str, int]]:
    """Tool, status and attempt of each."""
    return [(call.tool_name, str(call.status), call.attempt) for call in calls(model, user_id)]


class Payments:
    """Pays, and remembers what."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def pay(self, amount: int, *, to: str = "shop") -> str:
        """Pay."""
        self.made.append((amount, to))
        return f"paid {amount}"


def test_what_is_too_long_is_cut_in_the_record_alone(model: AgentModel) -> None:
    """Arguments, results and errors of any length pass as they are; the record has their beginning and says so."""

    @model.tool(agent="finder")
    def search(q: str) -> str:
        if q.startswith("no"):
            raise ValueError(q)
        return q * 2

    with model.session("USR001"):
        found = search("\N{HANGUL SYLLABLE GA}" * 300_000)
        with pytest.raises(ValueError, match="no") as caught:
            search("no" * 300_000)
    kept = [str(text) for one in calls(model) for text in (one.values, one.result)]

    assert (600_000, 600_000) == (len(found), len(str(caught.value)))
    assert ["ok", "error"] == [one.status for one in calls(model)]
    assert all(1000 < len(text.encode()) <= 65_535 for text in kept), [len(text) for text in kept]


class Opaque:
    """Can be called, and does not say how."""

    __signature__ = "unknown"

    def __call__(self) -> None:
        """Do nothing."""


@pytest.fixture
def questions(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> queue.Queue[Review]:
    """Each question once it is asked."""
    return told_of_questions(model, monkeypatch)


def told_of_questions(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> queue.Queue[Review]:
    questions: queue.Queue[Review] = queue.Queue()
    ask = model.reviews.ask

    def told(*args: Any, **options: Any) -> Review:
        review = ask(*args, **options)
        questions.put(review)
        return review

    monkeypatch.setattr(model.reviews, "ask", told)
    return questions


# Where a call belongs


def test_the_function_stays_what_it_was(model: AgentModel) -> None:
    """Name, docstring and signature are those of the function, and so is its result."""

    @model.tool(agent="finder")
    def search(near: str, *, most: int = 3) -> list[str]:
        """Find cafés.

        Near a place.
        """
        return [near] * most

    tool = model.tool(agent="finder", name="other")
    search("the park")
    stored = model.repository.tool(
        *next((call.agent_id, call.tool_id) for call in calls(model, "USR~anonymous")),
    )

    assert ["x", "x"] == search("x", most=2)
    assert ("search", "(near: 'str', *, most: 'int' = 3) -> 'list[str]'") == (
        search.__name__, str(inspect.signature(search)),
    )  # fmt: skip
    assert stored is not None
    assert ("search", "Find cafés.", None) == (stored.name, stored.description, stored.read_only)
    assert {"near", "most"} == set((stored.spec or {})["properties"])
    assert callable(tool)


def test_a_call_belongs_to_the_block(model: AgentModel) -> None:
    """It is in the block's session and process; a second call of the same tool is no retry, so it has another one."""

    @model.tool(agent="finder")
    def search(near: str) -> str:
        return near

    with model.session("USR001", "find") as session:
        search("a")
        with session.process("locate"):
            search("b")
            search("c")
        search("d")
    (found,) = list(model.repository.sessions("USR001"))
    history = model.repository.session_history("USR001", found.session_id)
    names = {process.process_id: process.name for process in history.processes}

    assert [("search", "ok", 1)] * 4 == told(model)
    assert ["search", "locate", "locate", "search"] == [names[call.process_id] for call in history.executions]
    assert [1, 2, 3, 4] == [call.call_number for call in history.executions]
    assert '{"near": "b"}' == history.executions[1].values
    assert running() is None


def test_outside_of_a_session(model: AgentModel) -> None:
    """A call has a session of its own, of the anonymous user; what it calls itself belongs to it."""

    @model.tool(agent="finder")
    def locate(place: str) -> str:
        return place

    @model.tool(agent="finder")
    def search(near: str) -> str:
        return locate(near)

    search("a")
    locate("b")

    assert [("search", "ok", 1), ("locate", "ok", 1), ("locate", "ok", 1)] == told(model, "USR~anonymous")
    assert ["search", "locate"] == [
        session.name for session in model.repository.sessions("USR~anonymous", newest_first=False)
    ]
    assert running() is None


def test_another_models_session_is_not_this_ones(model: AgentModel, settings: Settings) -> None:
    """A tool records into its own model, whose session it has to be."""

    @model.tool(agent="finder")
    def search(near: str) -> str:
        return near

    with AgentModel(settings) as other, other.session("USR001", "find"):
        search("a")

    assert [] == told(model)
    assert [("search", "ok", 1)] == told(model, "USR~anonymous")


def test_blocks_within_blocks(model: AgentModel) -> None:
    """After an inner session the outer one goes on."""

    @model.tool(agent="finder")
    def search(near: str) -> str:
        return near

    with model.session("USR001", "outer"):
        with model.session("USR002", "inner"):
            search("a")
        search("b")

    assert [("search", "ok", 1)] == told(model)
    assert [("search", "ok", 1)] == told(model, "USR002")


def test_threads_take_the_context_along(model: AgentModel) -> None:
    """In a thread that runs in a copy of the context the calls belong to the block, and each has its own number."""
    together = threading.Barrier(4)

    @model.tool(agent="finder")
    def search(near: int) -> int:
        together.wait(30)
        return near

    with model.session("USR001", "find"), ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(copy_context().run, search, n) for n in range(4)]
        assert [0, 1, 2, 3] == [one.result() for one in waiting]

    assert [("search", "ok", 1)] * 4 == told(model)
    assert [1, 2, 3, 4] == sorted(call.call_number or 0 for call in calls(model))


def test_tasks_belong_to_their_block(settings: Settings) -> None:
    """Coroutine functions are recorded in the session and process of their task, at the same time."""

    async def main() -> None:
        async with AsyncAgentModel(opened(settings)) as model:

            @model.tool(agent="finder")
            async def search(near: str) -> str:
                await asyncio.sleep(0)
                return near

            async def run(user_id: str) -> None:
                async with model.session(user_id, "find") as session, session.process("locate"):
                    await asyncio.gather(search(user_id), search(user_id + "x"))
                await search("alone")

            await asyncio.gather(run("USR001"), run("USR002"))
            assert inspect.iscoroutinefunction(search)
            for user_id in ("USR001", "USR002"):
                assert [("search", "ok", 1)] * 2 == told(model.sync, user_id)
                assert {f'{{"near": "{user_id}"}}', f'{{"near": "{user_id}x"}}'} == {
                    call.values for call in calls(model.sync, user_id)
                }
            assert [("search", "ok", 1)] * 2 == told(model.sync, "USR~anonymous")

    asyncio.run(main())


# How it ends


def test_a_failure_and_its_retry(model: AgentModel) -> None:
    """An exception is recorded with its type and raised; the same call made again is its next attempt."""
    failures = iter([ConnectionError("gone"), TimeoutError("late")])

    @model.tool(agent="finder")
    def search(near: str) -> str:
        for failure in failures:
            raise failure
        return near

    with model.session("USR001", "find"):
        for expected in (ConnectionError, TimeoutError):
            with pytest.raises(expected):
                search("a")
        search("a")
        search("a")
    found = calls(model)

    assert [("search", "error", 1), ("search", "error", 2), ("search", "ok", 3), ("search", "ok", 1)] == told(model)
    assert ["ConnectionError", "TimeoutError", None, None] == [call.error_type for call in found]
    assert [1, 1, 1, 2] == [call.call_number for call in found]
    assert "gone" == found[0].result
    assert found[0].process_id == found[2].process_id != found[3].process_id


def test_arguments_that_do_not_fit(model: AgentModel) -> None:
    """They are a TypeError, recorded as the call's failure with what was given."""

    @model.tool(agent="finder")
    def search(near: str) -> str:
        return near

    with model.session("USR001", "find"):
        with pytest.raises(TypeError, match=r"search\(\): missing a required argument: 'near'"):
            search(at="x")  # type: ignore[call-arg]  # that is what is tried
        with pytest.raises(TypeError):
            search("a", "b")  # type: ignore[call-arg]  # likewise

    assert [("search", "error", 1), ("search", "error", 1)] == told(model)
    assert [{"at": "x"}, {"args": ["a", "b"]}] == [json.loads(call.values or "") for call in calls(model)]
    assert {"TypeError"} == {call.error_type for call in calls(model)}


def test_a_cancelled_task_is_interrupted(settings: Settings) -> None:
    """It is recorded, and no failure of the tool."""

    async def main() -> None:
        async with AsyncAgentModel(opened(settings)) as model:
            begun = asyncio.Event()

            @model.tool(agent="finder")
            async def search(near: str) -> str:
                begun.set()
                await asyncio.Event().wait()
                return near

            async with model.session("USR001", "find"):
                task = asyncio.create_task(search("a"))
                await begun.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

            assert [("search", "interrupted", 1)] == told(model.sync)

    asyncio.run(main())


def test_what_is_not_recorded_is_counted(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither stores that are down nor results that are no JSON reach the function's caller."""

    def down(*_: object, **__: object) -> Any:
        raise HistoryUnavailable("both are down")

    @model.tool(agent="finder")
    def search(near: str) -> object:
        return {near}

    with model.session("USR001", "find"):
        search("a")
        model.settle()
        monkeypatch.setattr(model.recorder._history_writer, "write", down)
        monkeypatch.setattr(model.table, "get_many", down)

        @model.tool(agent="finder")
        def other(near: str) -> str:
            return near

        assert "b" == other("b")
        assert {"b"} == search("b")
        model.settle()
        monkeypatch.undo()

    assert [("search", "ok", 1)] == told(model)
    assert 3 == model.functions.errors  # the catalogue, and each call


class Odd:
    """Has no words for itself."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("review", ["never", "always"])
def test_any_argument_is_taken(model: AgentModel, review: Any) -> None:
    """Text that is no Unicode, objects without words, and what holds itself reach the function as they are."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    itself: list[Any] = []
    itself.append(itself)
    odd = Odd()
    got: list[Any] = []

    @model.tool(agent="finder", review=review, cache="user")
    def search(near: Any) -> Any:
        got.append(near)
        return near

    given = ["caf\ud800", odd, itself, deep, float("nan"), b"\xff"]
    with model.session("USR001", "find"):
        for each in given:
            if review == "always":
                with pytest.raises(ReviewPending) as pending:
                    search(each)
                model.reviews.decide(pending.value.review, "approve", "kim")
            search(each)

    assert all(one is other for one, other in zip(given, got, strict=True))
    assert [("search", "ok", 1)] * 6 == told(model)
    told_of = "<Odd, no text: RuntimeError>"
    assert (f'{{"near": "{told_of}"}}', f'"{told_of}"') == (calls(model)[1].values, calls(model)[1].result)
    assert 0 == model.functions.errors


def test_a_generator_is_refused(model: AgentModel) -> None:
    """It has no one result that could be recorded."""

    def numbers() -> Iterator[int]:
        yield 1

    with pytest.raises(ValidationError, match="not a generator"):
        model.tool(agent="finder")(numbers)
    with pytest.raises(ValidationError, match="a function with a signature"):
        model.tool(agent="finder")(Opaque())
    with pytest.raises(ValidationError, match="must be given"):
        model.tool(agent="finder")(functools.partial(print))


# Health and known answers


def test_a_failing_tool_is_blocked(model: AgentModel) -> None:
    """The call is not made, recorded as blocked, and the error names the tool that does the same."""
    made: list[str] = []

    @model.tool(agent="AGT001", domain="cafes")
    def search(near: str) -> str:
        made.append(near)
        return near

    @model.tool(agent="AGT002", domain="cafes", name="search")
    def search_there(near: str) -> str:
        return near

    with model.session("USR001", "find"):
        search("a")
        search_there("a")
        model.settle()  # else the success may be learned between the failures, which are then too few for all users
        fail(model, "AGT001", "TLsearch")
        with pytest.raises(ToolBlocked, match=r"Use `search` of agent `AGT002` instead\.") as blocked:
            search("b")

    assert ["a"] == made
    assert ["AGT002"] == [each.agent_id for each in blocked.value.fallbacks]
    assert [("search", "ok", 1), ("search", "ok", 1), ("search", "blocked", 1)] == told(model)
    assert str(blocked.value) == calls(model)[2].result


def test_known_answers(model: AgentModel) -> None:
    """A tool that only reads is called once for the same arguments, however they are given; its item says so."""
    made: list[str] = []

    @model.tool(agent="finder", cache="user")
    def search(near: str, most: int = 3) -> list[str]:
        made.append(near)
        return [near] * most

    @model.tool(agent="finder", cache="everybody")
    def shared(near: object) -> str:
        made.append("shared")
        return "found"

    for user_id in ("USR001", "USR002"):
        with model.session(user_id, "find"):
            search("a")
            search(near="a", most=3)
            shared("a")
            shared({1, 2})  # no JSON: two that look alike may not be

    assert ["a", "shared", "shared", "a", "shared"] == made
    assert ["ok", "cache_hit", "ok", "ok"] == [str(call.status) for call in calls(model)]
    assert ["ok", "cache_hit", "cache_hit", "ok"] == [str(call.status) for call in calls(model, "USR002")]
    call = calls(model)[0]
    stored = model.table.get(Tool.at(call.agent_id, call.tool_id))
    assert stored is not None
    assert stored.read_only is True


def test_nobody_knows_whose_answers_are_not_shared(model: AgentModel) -> None:
    """Outside of a session a result of a user is neither cached nor given; one that is everybody's is."""
    made: list[str] = []

    @model.tool(agent="finder", cache="user")
    def balance() -> str:
        made.append("balance")
        return "7"

    @model.tool(agent="finder", cache="everybody")
    def rate() -> str:
        made.append("rate")
        return "3 %"

    for _ in range(2):
        balance()
        rate()

    assert ["balance", "rate", "balance"] == made


def test_the_catalogue_wins(model: AgentModel) -> None:
    """A tool that is there stays as it is; only what it does not say, that it may be answered, is added."""

    @model.tool(agent="AGT001", name="TL001", cache="user")
    def search(near: str) -> str:
        return near

    model.repository.put(Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="known", read_only=False))
    with model.session("USR001", "find"):
        search("a")
        search("a")
    stored = model.table.get(Tool.at("AGT001", "TL001"))

    assert stored is not None
    assert ("known", False) == (stored.name, stored.read_only)
    assert ["ok", "ok"] == [str(call.status) for call in calls(model)]


# People


def test_asked_in_one_process_and_answered_for_another(model: AgentModel, settings: Settings) -> None:
    """After a restart the session goes on: the call finds its answer, and is made once."""
    payments = Payments()
    with pytest.raises(ReviewPending) as pending, model.session("USR001", "pay") as session:
        model.tool(agent="payer", review="always")(payments.pay)(7)
    model.reviews.decide(pending.value.review, "approve", "kim")
    with AgentModel(settings) as later:
        pay = later.tool(agent="payer", review="always")(payments.pay)
        with later.session("USR001", session_id=session.session_id):
            assert "paid 7" == pay(7)
            with pytest.raises(ReviewPending) as again:
                pay(7)

    assert [(7, "shop")] == payments.made
    assert again.value.review != pending.value.review
    assert [("pay", "ok", 1)] == told(model)
    found = model.repository.session("USR001", session.session_id)
    assert found is not None
    assert found.succeeded is None  # waiting for a person is no failure
    review = model.reviews.get(pending.value.review)
    assert {"amount": 7, "to": "shop"} == review.arguments


def test_an_answer_is_for_one_call(model: AgentModel, settings: Settings) -> None:
    """In a later process, too, a call that was made is over: the next one with the same arguments is asked about."""
    payments = Payments()
    pay = model.tool(agent="payer", review="always")(payments.pay)
    with model.session("USR001", "pay") as session:
        with pytest.raises(ReviewPending) as first:
            pay(7)
        model.reviews.decide(first.value.review, "approve", "kim")
        pay(7)
    with (
        AgentModel(settings) as later,
        later.session("USR001", session_id=session.session_id),
        pytest.raises(ReviewPending) as second,
    ):
        later.tool(agent="payer", review="always")(payments.pay)(7)

    assert first.value.review != second.value.review
    assert [(7, "shop")] == payments.made


def test_a_retry_of_an_approved_call(model: AgentModel) -> None:
    """The answer holds for the call: when it failed, it is tried again without another question."""
    failures = iter([ConnectionError("gone")])

    @model.tool(agent="payer", review="always")
    def pay(amount: int) -> str:
        for failure in failures:
            raise failure
        return f"paid {amount}"

    with model.session("USR001", "pay"):
        with pytest.raises(ReviewPending) as pending:
            pay(7)
        model.reviews.decide(pending.value.review, "approve", "kim")
        with pytest.raises(ConnectionError):
            pay(7)
        assert "paid 7" == pay(7)

    assert [("pay", "error", 1), ("pay", "ok", 2)] == told(model)


def test_what_people_say(model: AgentModel) -> None:
    """An edit is what the function gets, a response is its result, a rejection an error that says who and why."""
    payments = Payments()
    pay = model.tool(agent="payer", review=["pay"])(payments.pay)

    def decide(amount: int, decision: Any, **options: Any) -> None:
        with pytest.raises(ReviewPending) as pending:
            pay(amount)
        model.reviews.decide(pending.value.review, decision, "kim", **options)

    with model.session("USR001", "pay"):
        decide(1, "edit", arguments={"amount": 5, "to": "bank"})
        decide(2, "respond", response="it is paid already")
        decide(3, "reject", reason="too much")
        decide(4, "edit", arguments={"amout": 5})
        assert ("paid 5", "it is paid already") == (pay(1), pay(2))
        with pytest.raises(
            CallRejected, match=r"`pay` was not called: `kim` rejected it\. Reason: `too much`\."
        ) as rejected:
            pay(3)
        with pytest.raises(CallRejected, match="got an unexpected keyword argument 'amout'"):
            pay(4)

    assert [(5, "bank")] == payments.made
    assert ("kim", "too much") == (rejected.value.by, rejected.value.reason)
    assert ["edited", "rejected", "rejected", "rejected"] == [str(call.status) for call in calls(model)]
    assert '{"amount": 5, "to": "bank"}' == calls(model)[0].values


def test_objects_stay_objects(model: AgentModel) -> None:
    """A person sees what JSON can say of an argument; the function gets the object, unless it was edited."""
    got: list[Any] = []

    @model.tool(agent="payer", review="always")
    def pay(amount: int, to: object, *rest: int, **more: str) -> None:
        got.append((amount, to, rest, more))

    def call() -> None:
        pay(1, {"a"}, 2, 3, x="y")

    with model.session("USR001", "pay"):
        for decision in ("approve", "edit"):
            with pytest.raises(ReviewPending) as pending:
                call()
            review = model.reviews.get(pending.value.review)
            edit = review.arguments | {"amount": 9, "rest": [4]} if decision == "edit" else None
            model.reviews.decide(review, decision, "kim", arguments=edit)
            call()

    assert {"amount": 1, "to": "{'a'}", "rest": [2, 3], "more": {"x": "y"}} == {
        name: value if name != "to" else value.strip('"') for name, value in review.arguments.items()
    }
    assert [(1, {"a"}, (2, 3), {"x": "y"}), (9, {"a"}, (4,), {"x": "y"})] == got


def test_waiting_for_a_person(model: AgentModel, questions: queue.Queue[Review]) -> None:
    """A call that waits is made when the answer comes; one that has waited long enough says so."""
    payments = Payments()
    pay = model.tool(agent="payer", review="always", wait=True)(payments.pay)
    impatient = model.tool(agent="payer", review="always", wait=0.0)(payments.pay)
    short = model.tool(agent="payer", review="always", wait=True, answer_within=timedelta(microseconds=1))(payments.pay)

    def approve() -> None:
        model.reviews.decide(questions.get(timeout=30), "approve", "kim")

    person = threading.Thread(target=approve)
    person.start()
    assert "paid 7" == pay(7)
    person.join()
    with pytest.raises(ReviewPending):
        impatient(8)
    with pytest.raises(CallRejected, match="nobody approved it before the deadline"):
        short(9)

    assert [(7, "shop")] == payments.made
    assert ["ok", "expired"] == [status for _, status, _ in told(model, "USR~anonymous")]


def test_awaiting_a_person(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A coroutine that waits lets others go on."""

    async def main() -> None:
        async with AsyncAgentModel(opened(settings)) as model:
            questions = told_of_questions(model.sync, monkeypatch)

            @model.tool(agent="payer", review="always", wait=True)
            async def pay(amount: int) -> str:
                return f"paid {amount}"

            async with model.session("USR001", "pay"):
                task = asyncio.create_task(pay(7))
                review = await asyncio.to_thread(questions.get, timeout=30)
                await model.reviews.decide(review, "approve", "kim")
                assert "paid 7" == await task

    asyncio.run(main())


def test_cancelled_while_it_is_decided(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is cancelled meanwhile leaves no call behind: made again, it is the same one, with its question."""

    async def main() -> None:
        async with AsyncAgentModel(opened(settings)) as model:
            questions = told_of_questions(model.sync, monkeypatch)
            begun, goes_on = threading.Event(), threading.Event()
            catalogue = model.functions.history.ensure_in_catalogue

            def held(tool: Any) -> None:
                begun.set()
                goes_on.wait(30)
                catalogue(tool)

            monkeypatch.setattr(model.functions.history, "ensure_in_catalogue", held)

            @model.tool(agent="payer", review="always")
            async def pay(amount: int) -> str:
                return f"paid {amount}"

            async with model.session("USR001", "pay"):
                task = asyncio.create_task(pay(7))
                await asyncio.to_thread(begun.wait, 30)
                task.cancel()
                goes_on.set()
                with pytest.raises(asyncio.CancelledError):
                    await task
                review = questions.get(timeout=30)
                await model.reviews.decide(review, "approve", "kim")
                assert "paid 7" == await pay(7)

            assert [("pay", "ok", 1)] == told(model.sync)

    asyncio.run(main())


def test_two_at_once_are_two_questions(model: AgentModel, questions: queue.Queue[Review]) -> None:
    """One answer is not used by two equal calls that are made at the same time."""
    payments = Payments()
    pay = model.tool(agent="payer", review="always", wait=True)(payments.pay)

    with model.session("USR001", "pay"), ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(copy_context().run, pay, 7) for _ in range(2)]
        first, second = questions.get(timeout=30), questions.get(timeout=30)
        model.reviews.decide(first, "approve", "kim")
        model.reviews.decide(second, "reject", "kim", reason="once is enough")
        errors = [one.exception() for one in waiting]

    assert [(7, "shop")] == payments.made
    assert 1 == sum(isinstance(error, CallRejected) for error in errors)


def test_a_question_needs_a_session(model: AgentModel) -> None:
    """Outside of one, an answer would not be found again; a call that waits for it needs none."""
    pay = model.tool(agent="payer", review="always")(Payments().pay)

    with pytest.raises(ConfigurationError, match=r"call it in a `with model\.session"):
        pay(7)


def test_an_answer_that_cannot_be_read_is_not_lost(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the table is away the call is not made; once it is back, the answer that was given holds."""

    def down(*_: object, **__: object) -> Any:
        raise TableUnavailable("it is down")

    payments = Payments()
    pay = model.tool(agent="payer", review="always")(payments.pay)
    with model.session("USR001", "pay"):
        with pytest.raises(ReviewPending) as pending:
            pay(7)
        model.reviews.decide(pending.value.review, "approve", "kim")
        with monkeypatch.context() as patch:
            patch.setattr(model.table, "call", down)
            patch.setattr(model.table, "get_item", down)
            with pytest.raises(NotCalled):
                pay(7)
        assert "paid 7" == pay(7)

    assert [(7, "shop")] == payments.made
    assert [("pay", "ok", 1)] == told(model)[-1:]


def test_a_person_who_cannot_be_asked(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is not made, and recorded as blocked."""

    def down(*_: object, **__: object) -> Any:
        raise TableUnavailable("it is down")

    payments = Payments()
    pay = model.tool(agent="payer", review="always")(payments.pay)
    with model.session("USR001", "pay"), monkeypatch.context() as patch:
        patch.setattr(model.table, "call", down)
        patch.setattr(model.table, "get_item", down)
        with pytest.raises(NotCalled, match="nobody can be asked at present") as error:
            pay(7)

    assert type(error.value) is NotCalled
    assert [] == payments.made
    assert [("pay", "blocked", 1)] == told(model)


_DAMAGED = [b"", b"\xff\xfe", b"{", b"null", b"7", b"[]", b"{}", b'{"epoch": "0"}', b'"text"', b"[" * 100_000]


@pytest.mark.parametrize("damaged", _DAMAGED, ids=lambda data: repr(data[:12]))
def test_a_damaged_cached_answer_is_dropped(model: AgentModel, settings: Settings, damaged: bytes) -> None:
    """A value in Valkey that is no cached answer costs one call of the function, whose result takes its place."""
    made: list[str] = []

    @model.tool(agent="finder", cache="user")
    def search(near: str) -> str:
        made.append(near)
        return f"found {near}"

    def answered() -> str:
        with model.session("USR001", "find"):
            return str(search("park"))

    answered()
    with closing(redis.Redis.from_url(str(settings.valkey_url).replace("valkey", "redis", 1))) as direct:
        names = [name for name in direct.scan_iter("*:answers:*") if name.count(b":") > 3]
        for name in names:
            direct.set(name, damaged)
    answers = [answered(), answered()]

    assert 1 == len(names)
    assert ["found park"] * 2 == answers
    assert ["park"] * 2 == made
    assert 0 == model.functions.errors
