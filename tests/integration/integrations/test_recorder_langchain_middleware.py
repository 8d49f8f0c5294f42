"""The LangChain middleware that acts, driven by real agents with scripted models: alone, and beside the callback."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel import Agent, AgentModel, Domain, Settings, Tool, ToolExecution, keys
from tests.integration.integrations.recorders import tell
from tests.integration.integrations.scenario import (
    AGENT,
    CATEGORY,
    DOMAIN,
    REQUEST,
    expected,
    learned_that_searches_stay,
    shown,
)
from tests.integration.suggest_world import opened

pytest.importorskip("langchain", reason="the extra langchain is not installed")

import pydantic
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, ToolRetryMiddleware, wrap_tool_call
from langchain_core.messages import AIMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from agentmodel.integrations.langchain import AgentModelCallback, AgentModelMiddleware, Tracker
from tests.integration.integrations.scripted_langchain import (
    ASKED,
    CONFIG,
    Scripted,
    broken,
    flaky,
    pay,
    scripted,
    search,
)

AGENT_ID = keys.stable_id("AGT", DOMAIN, AGENT)
DECISIONS = (
    {"decision": "reject", "by": "kim", "reason": "too much"},
    {"decision": "edit", "by": "kim", "arguments": {"amount": 5}},
)


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model whose catalogue says that a search changes nothing."""
    with opened(settings) as model:
        domain_id = keys.stable_id("DMN", DOMAIN)
        model.repository.put(
            Domain(domain_id=domain_id, name=DOMAIN),
            Agent(agent_id=AGENT_ID, domain_id=domain_id, name=AGENT),
            Tool(agent_id=AGENT_ID, tool_id="TLsearch", domain_id=domain_id, name="search", read_only=True),
            Tool(agent_id=AGENT_ID, tool_id="TLpay", domain_id=domain_id, name="pay"),
        )
        yield model


@pytest.fixture
def tracker(model: AgentModel) -> Iterator[Tracker]:
    """What the recorders share; none of them may have failed."""
    with Tracker(model, domain=DOMAIN) as tracker:
        yield tracker
    assert 0 == tracker.errors


@wrap_tool_call
def readable(request: Any, handler: Callable[[Any], Any]) -> Any:
    """Let the model read what fails."""
    try:
        return handler(request)
    except ValueError as error:
        return ToolMessage(str(error), tool_call_id=request.tool_call["id"], status="error")


@wrap_tool_call
async def readable_async(request: Any, handler: Callable[[Any], Any]) -> Any:
    """As `readable`, for an agent that is awaited."""
    try:
        return await handler(request)
    except ValueError as error:
        return ToolMessage(str(error), tool_call_id=request.tool_call["id"], status="error")


def retry() -> ToolRetryMiddleware:
    """Try flaky once more."""
    return ToolRetryMiddleware(max_retries=1, tools=["flaky"], initial_delay=0.0, jitter=False)


def an_agent(middleware: Sequence[Any], *, said: Any = None, tools: Sequence[Any] = (), saver: Any = None) -> Any:
    """An agent that says what it is told to, by default the scenario."""
    return create_agent(
        Scripted(messages=scripted() if said is None else iter(said)),
        list(tools) or [search, flaky(), broken, pay],
        name=AGENT,
        checkpointer=saver or InMemorySaver(),
        middleware=list(middleware),
    )


def asks(*calls: tuple[str, dict[str, Any]], first: int = 1) -> AIMessage:
    """A message that asks for calls, numbered from ``first``."""
    numbered = enumerate(calls, start=first)
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"c{n}"} for n, (name, args) in numbered])


def guarded(tracker: Tracker, **rules: Any) -> AgentModelMiddleware:
    """The middleware, with a guard that asks about payments."""
    return AgentModelMiddleware(tracker, tracker.model.guard(domain=DOMAIN, **{"review": {"pay"}, **rules}))


def listened(tracker: Tracker) -> dict[str, Any]:
    """A config with the callback handler."""
    return {**CONFIG, "callbacks": [AgentModelCallback(tracker)]}


def last_result(state: dict[str, Any]) -> ToolMessage:
    """What the model read last of a tool."""
    return [message for message in state["messages"] if isinstance(message, ToolMessage)][-1]


def hearing(said: Sequence[AIMessage]) -> tuple[Scripted, list[str]]:
    """A model that says what it is told to, and the system prompts that it is given."""
    prompts: list[str] = []

    class Hearing(Scripted):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            prompts.append("".join(each.text for each in messages if isinstance(each, SystemMessage)))
            return super()._generate(messages, *args, **kwargs)

    return Hearing(messages=iter(said)), prompts


def statuses(model: AgentModel) -> list[tuple[str, str]]:
    """Tool and status of the recorded calls."""
    return [(call.tool, call.status) for call in shown(model)]


class TestScenario:
    """The scenario that every recorder is driven through."""

    def run(self, tracker: Tracker, config: dict[str, Any], middleware: Sequence[Any]) -> None:
        """Run it with people who reject one payment and edit the other."""
        learned_that_searches_stay(tracker.model)
        agent = an_agent(middleware)
        agent.invoke(ASKED, config)
        for decision in DECISIONS:
            agent.invoke(Command(resume=decision), config)
        assert tracker.flush()

    def test_beside_the_callback(self, model: AgentModel, tracker: Tracker) -> None:
        """Callback and middleware together show everything, each call once."""
        self.run(tracker, listened(tracker), [readable, guarded(tracker), retry()])

        assert expected() == shown(model)
        tell("LangChain, callback handler and middleware", shown(model))
        (session,) = list(model.repository.sessions("USRada"))
        assert (session.request, session.category) == (REQUEST, CATEGORY)

    def test_beside_the_callback_and_inside_of_retries(self, model: AgentModel, tracker: Tracker) -> None:
        """Placed inside of what retries, it sees each attempt, and still no call is recorded twice."""
        self.run(tracker, listened(tracker), [readable, retry(), guarded(tracker)])

        assert expected() == shown(model)

    def test_alone_inside_of_retries(self, model: AgentModel, tracker: Tracker) -> None:
        """Alone and inside of what retries, the middleware shows everything by itself."""
        self.run(tracker, CONFIG, [readable, retry(), guarded(tracker)])

        assert expected() == shown(model)
        tell("LangChain, middleware inside of retries", shown(model))
        (session,) = list(model.repository.sessions("USRada"))
        assert session.ended_at is not None

    def test_alone_outside_of_retries(self, model: AgentModel, tracker: Tracker) -> None:
        """Alone and outside of what retries, it sees the last attempt only."""
        self.run(tracker, CONFIG, [readable, guarded(tracker), retry()])

        seen = [call for call in expected() if (call.tool, call.status) != ("flaky", "error")]
        calls = shown(model)
        assert [(call.tool, call.status) for call in seen] == [(call.tool, call.status) for call in calls]
        assert [1] == [call.attempt for call in calls if call.tool == "flaky"]
        tell("LangChain, middleware outside of retries", calls)

    def test_asyncio(self, model: AgentModel, tracker: Tracker) -> None:
        """An agent that is awaited is guarded and recorded the same."""
        learned_that_searches_stay(model)

        async def run() -> None:
            agent, config = an_agent([readable_async, guarded(tracker), retry()]), listened(tracker)
            await agent.ainvoke(ASKED, config)
            for decision in DECISIONS:
                await agent.ainvoke(Command(resume=decision), config)

        asyncio.run(run())

        assert tracker.flush()
        assert expected() == shown(model)

    def test_asyncio_alone(self, model: AgentModel, tracker: Tracker) -> None:
        """So it is without the callback."""
        learned_that_searches_stay(model)

        async def run() -> None:
            agent = an_agent([readable_async, retry(), guarded(tracker)])
            await agent.ainvoke(ASKED, CONFIG)
            for decision in DECISIONS:
                await agent.ainvoke(Command(resume=decision), CONFIG)

        asyncio.run(run())

        assert tracker.flush()
        assert expected() == shown(model)


def test_no_cached_result_after_a_write(model: AgentModel, tracker: Tracker) -> None:
    """The read is answered from the cache until a call that may write comes between."""
    read: tuple[str, dict[str, Any]] = ("search", {"q": "a"})
    asked = [asks(each, first=n) for n, each in enumerate((read, read, ("pay", {"amount": 8}), read), start=1)]
    an_agent([guarded(tracker, review="never")], said=[*asked, AIMessage("done")]).invoke(ASKED, listened(tracker))
    tracker.flush()

    assert [("search", "ok"), ("search", "cache_hit"), ("pay", "ok"), ("search", "ok")] == statuses(model)


class TestPlan:
    """What is suggested for a request stands in the prompt."""

    @pytest.fixture
    def model(self, model: AgentModel) -> AgentModel:
        """A model that has learnt how requests of this kind succeed."""
        with (
            model.session("USRada", REQUEST, category=CATEGORY) as session,
            session.process("look") as process,
            process.call(AGENT_ID, "TLsearch") as call,
        ):
            call.result = "found"
        model.drain()
        model.refresh()
        model.publish()
        return model

    def test_the_same_text_in_every_turn(self, model: AgentModel, tracker: Tracker) -> None:
        """Each turn of a run reads one and the same plan after the system prompt, and no message of the state has it."""
        said = [asks(("search", {"q": "a"})), asks(("search", {"q": "b"}), first=2), AIMessage("done")]
        yours, prompts = hearing(said)
        agent: Any = create_agent(
            yours, [search], name=AGENT, middleware=[guarded(tracker)], system_prompt="Be kind.",
            checkpointer=InMemorySaver(),
        )  # fmt: skip
        state = agent.invoke(ASKED, CONFIG)

        assert tracker.flush()
        assert 3 == len(prompts)
        assert {prompts[0]} == set(prompts)
        assert prompts[0].startswith("Be kind.\n\nThis plan worked before")
        assert "search" in prompts[0]
        assert [] == [message for message in state["messages"] if isinstance(message, SystemMessage)]
        assert "agentmodel" not in state
        session = max(model.repository.sessions("USRada"), key=lambda each: each.suggestion_id or "")
        assert session.suggestion_id is not None

    def test_a_resumed_run_keeps_it(self, model: AgentModel, tracker: Tracker) -> None:
        """Another process that takes the run up reads the plan that it began with, and asks for none."""
        saver = InMemorySaver()
        first, prompts = hearing([asks(("pay", {"amount": 7}))])
        agent: Any = create_agent(first, [pay], name=AGENT, middleware=[guarded(tracker)], checkpointer=saver)
        agent.invoke(ASKED, CONFIG)
        second, later = hearing([AIMessage("done")])
        with Tracker(model, domain=DOMAIN) as other:
            agent = create_agent(second, [pay], name=AGENT, middleware=[guarded(other)], checkpointer=saver)
            agent.invoke(Command(resume={"decision": "approve", "by": "kim"}), CONFIG)

        assert prompts == later

    def test_nothing_known(self, model: AgentModel, tracker: Tracker) -> None:
        """Where nothing is known the prompt stays as it is."""
        yours, prompts = hearing([AIMessage("done")])
        agent: Any = create_agent(yours, [search], name=AGENT, middleware=[AgentModelMiddleware(tracker)])
        agent.invoke(ASKED, CONFIG)

        assert [""] == prompts


class TestBlock:
    """A tool that fails now is not called."""

    def test_the_alternative_is_named(self, model: AgentModel, tracker: Tracker) -> None:
        """The model reads what fails and what works instead, and the call is recorded as blocked."""
        domain_id = keys.stable_id("DMN", DOMAIN)
        model.repository.put(
            Agent(agent_id="AGT002", domain_id=domain_id, name="other"),
            Tool(agent_id="AGT002", tool_id="TLpay", domain_id=domain_id, name="pay"),
        )
        for n in range(46):
            model.recorder.record(
                ToolExecution(
                    user_id=f"USR00{2 + n % 2}", session_id="SESS20250614001", process_id="PRC001", agent_id=AGENT_ID,
                    tool_id="TLpay", tool_name="pay", succeeded=n < 40,
                    executed_at=datetime.now(UTC) + timedelta(milliseconds=n),
                )
            )  # fmt: skip
        agent = an_agent([guarded(tracker)], said=[asks(("pay", {"amount": 7})), AIMessage("done")])
        result = last_result(agent.invoke(ASKED, listened(tracker)))

        assert tracker.flush()
        assert "error" == result.status
        assert "`pay` was not called: it has been failing since" in result.text
        assert "`pay` of agent `AGT002` instead." in result.text
        assert [("pay", "blocked")] == statuses(model)


def paying(paid: list[int], failures: int = 0) -> Any:
    """A tool that keeps what it paid; at first it fails."""
    left = iter([ConnectionError("gone")] * failures)

    @tool("pay")
    def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        for failure in left:
            raise failure
        return f"paid {amount}"

    return pay


EDITED = '`kim` edited this call: `pay` was called with {"amount": 5}. Its result:\npaid 5'
REJECTED = (
    "`pay` was not called: `kim` rejected it. Reason: `too much`. Do not repeat this call unless you are asked to."
)
ONE_PAYMENT = (asks(("pay", {"amount": 7})), AIMessage("done"))


class TestReview:
    """A person decides before a call."""

    @pytest.mark.parametrize(
        ("decision", "made", "result", "recorded"),
        [
            ({"decision": "approve"}, [7], ("success", "paid 7"), "ok"),
            ({"decision": "edit", "arguments": {"amount": 5}}, [5], ("success", EDITED), "edited"),
            ({"decision": "reject", "reason": "too much"}, [], ("error", REJECTED), "rejected"),
            ({"decision": "respond", "response": "by hand"}, [], ("success", "by hand"), "rejected"),
        ],
        ids=lambda given: given["decision"] if isinstance(given, dict) else "",
    )
    def test_what_was_decided(
        self, tracker: Tracker, decision: dict[str, Any], made: list[int], result: tuple[str, str], *, recorded: str
    ) -> None:
        """Each decision is kept under the reviewer's name, done, told to the model and recorded."""
        model, paid = tracker.model, list[int]()
        agent = an_agent([guarded(tracker)], said=ONE_PAYMENT, tools=[paying(paid)])
        (asked,) = agent.invoke(ASKED, listened(tracker))["__interrupt__"]
        assert tracker.flush()
        waiting = statuses(model)
        read = last_result(agent.invoke(Command(resume={**decision, "by": "kim"}), listened(tracker)))
        review = model.reviews.get(asked.value["review"])

        assert tracker.flush()
        assert [] == waiting
        assert ("pay", {"amount": 7}) == (asked.value["tool"], asked.value["arguments"])
        assert ["approve", "edit", "reject", "respond"] == asked.value["allowed"]
        assert ("kim", decision["decision"]) == (review.decided_by, review.decision)
        assert (made, result) == (paid, (read.status, read.text))
        assert [("pay", recorded)] == statuses(model)

    def test_answered_elsewhere(self, model: AgentModel, tracker: Tracker) -> None:
        """Somebody decided in another process; the run goes on with that, and with nothing else that it is given."""
        made: list[int] = []
        agent = an_agent([guarded(tracker)], said=[*ONE_PAYMENT, *ONE_PAYMENT], tools=[paying(made)])
        for decision, given in (("approve", {"decision": "reject", "by": "lee", "reason": "no"}), ("reject", True)):
            config = {**listened(tracker), "configurable": {"thread_id": decision}}
            (asked,) = agent.invoke(ASKED, config)["__interrupt__"]
            with AgentModel(model.settings) as other:
                other.reviews.decide(asked.value["review"], decision, "kim", reason="seen")  # type: ignore[arg-type]  # a literal
            agent.invoke(Command(resume=given), config)

        assert [7] == made

    def test_an_answer_that_is_none(self, model: AgentModel, tracker: Tracker) -> None:
        """What is no answer is refused and kept nowhere; the question stays open, and the run with it."""
        made: list[int] = []
        agent = an_agent([guarded(tracker)], said=ONE_PAYMENT, tools=[paying(made)])
        (asked,) = agent.invoke(ASKED, CONFIG)["__interrupt__"]
        refused: tuple[tuple[Any, str], ...] = (
            ({asked.id: {}}, "has not been answered yet"),
            (True, "has not been answered yet"),
            ("yes", "valid dictionary"),
            ({"decision": "approve"}, "name of the person"),
            ({"decision": "reject", "by": "kim"}, "must be given for a rejection"),
            ({"decison": "approve", "by": "kim"}, "Extra inputs"),
        )
        for given, why in refused:
            with pytest.raises(pydantic.ValidationError, match=why):
                agent.invoke(Command(resume=given), CONFIG)
        model.reviews.claim(asked.value["review"], "lee")
        with pytest.raises(pydantic.ValidationError, match="claimed by lee"):
            agent.invoke(Command(resume={"decision": "approve", "by": "kim"}), CONFIG)
        open_still = model.reviews.status(asked.value["review"])
        agent.invoke(Command(resume={"decision": "approve", "by": "lee"}), CONFIG)

        assert "claimed" == open_still
        assert [7] == made

    def test_in_another_process(self, model: AgentModel) -> None:
        """The rule is not asked again: a rejected call stays rejected, though nothing speaks against it by now."""
        reasons = iter(["new"])
        made: list[int] = []
        saver = InMemorySaver()

        def rule(agent_id: str, tool_id: str, arguments: Any) -> str | None:
            return next(reasons, None)

        with Tracker(model, domain=DOMAIN) as tracker:
            agent = an_agent([guarded(tracker, review=rule)], said=ONE_PAYMENT[:1], tools=[paying(made)], saver=saver)
            agent.invoke(ASKED, listened(tracker))
        with AgentModel(model.settings) as other, Tracker(other, domain=DOMAIN) as tracker:
            agent = an_agent([guarded(tracker, review=rule)], said=ONE_PAYMENT[1:], tools=[paying(made)], saver=saver)
            agent.invoke(Command(resume={"decision": "reject", "by": "kim", "reason": "no"}), listened(tracker))

        assert [] == made
        assert [("pay", "rejected")] == statuses(model)

    def test_nobody_answers_in_time(self, model: AgentModel, tracker: Tracker) -> None:
        """Time decides as the guard says; the call is not made, and counts for nothing."""
        made: list[int] = []
        hasty = guarded(tracker, answer_within=timedelta(microseconds=1))
        agent = an_agent([hasty], said=ONE_PAYMENT, tools=[paying(made)])
        result = last_result(agent.invoke(ASKED, listened(tracker)))

        assert tracker.flush()
        assert [] == made
        assert "`pay` was not called: nobody approved it before the deadline of the question." == result.text
        assert [("pay", "expired")] == statuses(model)

    def test_a_retry_is_not_asked_about_again(self, model: AgentModel, tracker: Tracker) -> None:
        """What a person approved is tried again without asking, though the middleware is inside of what retries."""
        made: list[int] = []
        retries = ToolRetryMiddleware(max_retries=1, initial_delay=0.0, jitter=False)
        agent = an_agent([retries, guarded(tracker)], said=ONE_PAYMENT, tools=[paying(made, failures=1)])
        agent.invoke(ASKED, listened(tracker))
        early = agent.invoke(Command(resume=True), listened(tracker))
        state = agent.invoke(Command(resume={"decision": "approve", "by": "kim"}), listened(tracker))

        assert tracker.flush()
        assert 1 == len(early["__interrupt__"])
        assert "__interrupt__" not in state
        assert [7, 7] == made
        assert [("pay", "error"), ("pay", "ok")] == statuses(model)

    def test_a_tool_that_asks_itself(self, model: AgentModel, tracker: Tracker) -> None:
        """A tool's own question gets its own answer, whether the review was answered here or elsewhere."""
        heard: list[str] = []

        @tool("pay")
        def pay(amount: int) -> str:
            """Pay, after asking how."""
            heard.append(str(interrupt("how?")))
            return "paid"

        agent = an_agent([guarded(tracker)], said=[*ONE_PAYMENT, *ONE_PAYMENT], tools=[pay])
        for thread, given in (("here", {"decision": "approve", "by": "kim"}), ("elsewhere", True)):
            config = {**listened(tracker), "configurable": {"thread_id": thread}}
            (asked,) = agent.invoke(ASKED, config)["__interrupt__"]
            if given is True:
                model.reviews.decide(asked.value["review"], "approve", "kim")
            (how,) = agent.invoke(Command(resume=given), config)["__interrupt__"]
            assert "how?" == how.value
            agent.invoke(Command(resume=f"card {thread}"), config)

        assert ["card here", "card elsewhere"] == heard

    def test_two_calls_at_once(self, model: AgentModel, tracker: Tracker) -> None:
        """Each of two calls of one turn has a question of its own, answered by the id of its interrupt."""
        made: list[int] = []
        said = [asks(("pay", {"amount": 7}), ("pay", {"amount": 8})), AIMessage("done")]
        agent = an_agent([guarded(tracker)], said=said, tools=[paying(made)])
        asked = {each.value["arguments"]["amount"]: each.id for each in agent.invoke(ASKED, CONFIG)["__interrupt__"]}
        no, yes = {"decision": "reject", "by": "kim", "reason": "no"}, {"decision": "approve", "by": "kim"}
        agent.invoke(Command(resume={asked[7]: no, asked[8]: yes}), CONFIG)

        assert tracker.flush()
        assert [8] == made
        assert [("pay", "rejected"), ("pay", "ok")] == statuses(model)

    def test_the_others_of_its_turn(self, model: AgentModel, tracker: Tracker) -> None:
        """A call that needed nobody is made once, though the run goes on after a question about another of its turn."""
        paid: list[int] = []
        looked: list[str] = []

        @tool("search")
        def search(q: str) -> str:
            """Search."""
            looked.append(q)
            return "found"

        said = [asks(("search", {"q": "a"}), ("pay", {"amount": 7})), AIMessage("done")]
        agent = an_agent([guarded(tracker)], said=said, tools=[search, paying(paid)])
        agent.invoke(ASKED, listened(tracker))
        agent.invoke(Command(resume={"decision": "approve", "by": "kim"}), listened(tracker))

        assert tracker.flush()
        assert (["a"], [7]) == (looked, paid)
        assert [("search", "ok"), ("pay", "ok")] == statuses(model)


class TestBesideOthers:
    """Other middleware on the same agent."""

    @pytest.mark.parametrize("outer", [True, False], ids=["before it", "after it"])
    def test_human_in_the_loop(self, model: AgentModel, tracker: Tracker, *, outer: bool) -> None:
        """What people said to LangChain's own middleware is recorded, on whichever side that stands."""
        made: list[int] = []
        people, ours = HumanInTheLoopMiddleware(interrupt_on={"pay": True}), guarded(tracker, review="never")
        said = [asks(*[("pay", {"amount": n}) for n in (7, 8, 9)]), AIMessage("done")]
        agent = an_agent([people, ours] if outer else [ours, people], said=said, tools=[paying(made)])
        agent.invoke(ASKED, listened(tracker))
        edit = {"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 5}}}
        decisions = [{"type": "reject", "message": "no"}, edit, {"type": "approve"}]
        agent.invoke(Command(resume={"decisions": decisions}), listened(tracker))

        assert tracker.flush()
        assert [5, 9] == sorted(made)
        seen = [(call.status, call.arguments["amount"]) for call in shown(model)]
        assert [("rejected", 7), ("edited", 5), ("ok", 9)] == seen

    def test_human_in_the_loop_for_each_call(self, model: AgentModel, tracker: Tracker) -> None:
        """So is a rejection where each call is asked about by itself."""
        people = HumanInTheLoopMiddleware(interrupt_on={"pay": True}, interrupt_mode="per_call")
        agent = an_agent([people, guarded(tracker, review="never")], said=ONE_PAYMENT)
        agent.invoke(ASKED, listened(tracker))
        agent.invoke(Command(resume={"type": "reject", "message": "no"}), listened(tracker))

        assert tracker.flush()
        assert [("pay", "rejected")] == statuses(model)

    def test_two_questions_about_one_call(self, model: AgentModel, tracker: Tracker) -> None:
        """Where LangChain's middleware asks about a call too, each gets its own answer, and ours sees the edited call."""
        made: list[int] = []
        people = HumanInTheLoopMiddleware(interrupt_on={"pay": True}, interrupt_mode="per_call")
        agent = an_agent([people, guarded(tracker)], said=ONE_PAYMENT, tools=[paying(made)])
        agent.invoke(ASKED, CONFIG)
        edit = {"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 6}}}
        (asked,) = agent.invoke(Command(resume=edit), CONFIG)["__interrupt__"]
        agent.invoke(Command(resume={"decision": "approve", "by": "kim"}), CONFIG)

        assert {"amount": 6} == asked.value["arguments"]
        assert [6] == made

    def test_without_a_thread(self, model: AgentModel, tracker: Tracker) -> None:
        """A run without a thread is one session, for the middleware alone and beside the callback."""
        metadata: dict[str, Any] = {"metadata": {"user_id": "ada"}}
        for config in (metadata, {**metadata, "callbacks": [AgentModelCallback(tracker)]}):
            said = [asks(("search", {"q": "a"})), asks(("search", {"q": "b"}), first=2), AIMessage("done")]
            yours = Scripted(messages=iter(said))
            create_agent(yours, [search], name=AGENT, middleware=[guarded(tracker)]).invoke(ASKED, config)  # type: ignore[call-overload]  # a config as plain dict

        assert tracker.flush()
        sessions = list(model.repository.sessions("USRada"))
        calls = [model.repository.session_history("USRada", each.session_id).executions for each in sessions]
        assert [2, 2] == [len(each) for each in calls]


class TestFailures:
    """The agent goes on, except past a person who must be asked."""

    def test_advice_that_fails(self, model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
        """A guard that fails is counted, and the agent does not learn of it."""
        with Tracker(model, domain=DOMAIN) as tracker:
            guard = model.guard(review="never", domain=DOMAIN)
            monkeypatch.setattr(guard, "before", lambda **_: 1 / 0)
            monkeypatch.setattr(guard, "plan", lambda *_, **__: 1 / 0)
            agent = an_agent([AgentModelMiddleware(tracker, guard)], said=[asks(("search", {"q": "a"})), AIMessage("")])
            result = last_result(agent.invoke(ASKED, CONFIG))

        assert "found a" == result.text
        assert 2 == tracker.errors

    @pytest.mark.parametrize("fails", ["run", "before"])
    def test_a_guard_that_fails_before_a_person_is_asked(
        self, model: AgentModel, monkeypatch: pytest.MonkeyPatch, fails: str
    ) -> None:
        """Where a person may have to agree, a call about which nothing can be decided is not made."""
        made: list[int] = []
        with Tracker(model, domain=DOMAIN) as tracker:
            guard = model.guard(review=["pay"], domain=DOMAIN)
            failing: Any = tracker if fails == "run" else guard
            monkeypatch.setattr(failing, fails, lambda *_, **__: 1 / 0)
            agent = an_agent([AgentModelMiddleware(tracker, guard)], said=ONE_PAYMENT, tools=[paying(made)])
            result = last_result(agent.invoke(ASKED, CONFIG))

        assert [] == made
        assert "a person may have to approve it first" in result.text
        assert tracker.errors > 0

    def test_a_person_who_cannot_be_asked(
        self, model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where the question cannot be kept the call is not made, and the model reads why."""
        made: list[int] = []
        monkeypatch.setattr(model.reviews, "ask", lambda *_, **__: 1 / 0)
        agent = an_agent([guarded(tracker)], said=ONE_PAYMENT, tools=[paying(made)])
        result = last_result(agent.invoke(ASKED, listened(tracker)))

        assert tracker.flush()
        assert [] == made
        assert "nobody can be asked" in result.text
        assert [("pay", "blocked")] == statuses(model)

    def test_a_decision_that_cannot_be_kept(self, model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor is it made when the decision cannot be put into the history."""
        made: list[int] = []
        with Tracker(model, domain=DOMAIN) as tracker:
            agent = an_agent([guarded(tracker)], said=ONE_PAYMENT, tools=[paying(made)])
            agent.invoke(ASKED, listened(tracker))
            monkeypatch.setattr(model.reviews, "decide", lambda *_, **__: 1 / 0)
            state = agent.invoke(Command(resume={"decision": "approve", "by": "kim"}), listened(tracker))

        assert [] == made
        assert "what they decided cannot be read at present" in last_result(state).text
        assert 1 == tracker.errors
        assert [("pay", "blocked")] == statuses(model)

    def test_other_tasks_go_on(self, model: AgentModel, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
        """While an awaited agent waits for the guard, other tasks of the event loop run."""
        guard = model.guard(review="never", domain=DOMAIN)
        waits, free = threading.Event(), threading.Event()
        decide = guard.before

        def slow(**call: Any) -> Any:
            waits.set()
            assert free.wait(30)
            return decide(**call)

        monkeypatch.setattr(guard, "before", slow)

        async def other() -> None:
            await asyncio.to_thread(waits.wait, 30)
            free.set()

        async def run() -> None:
            said = [asks(("search", {"q": "a"})), AIMessage("done")]
            agent = an_agent([AgentModelMiddleware(tracker, guard)], said=said)
            await asyncio.gather(agent.ainvoke(ASKED, CONFIG), other())

        asyncio.run(run())

        assert tracker.flush()
        assert [("search", "ok")] == statuses(model)

    def test_several_loops_at_once(self, model: AgentModel, tracker: Tracker) -> None:
        """One middleware decides and records for awaited agents in four event loops at once, each its own call."""
        middleware = guarded(tracker)
        begin = threading.Barrier(4)

        async def run(thread: str) -> Any:
            said = [asks(("search", {"q": thread})), AIMessage("done")]
            agent = an_agent([middleware], said=said)
            config = {"configurable": {"thread_id": thread}, "metadata": {"user_id": thread}}
            await asyncio.to_thread(begin.wait, 30)
            return last_result(await asyncio.wait_for(agent.ainvoke(ASKED, config), 120)).text

        with ThreadPoolExecutor(4) as loops:
            found = list(loops.map(lambda thread: asyncio.run(run(thread)), "abcd"))

        assert tracker.flush()
        assert [f"found {thread}" for thread in "abcd"] == found
        for thread in "abcd":
            (session,) = model.repository.sessions(f"USR{thread}")
            (one,) = model.repository.session_history(f"USR{thread}", session.session_id).executions
            assert (f'{{"q": "{thread}"}}', "ok") == (one.values, one.status)
