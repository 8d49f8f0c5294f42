"""The guard against real engines: what is decided before a call, and that it stays decided."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agentmodel import AgentModel, AsyncAgentModel, Settings, Tool, ToolExecution, keys
from agentmodel._values.text import storable_text
from agentmodel.dynamo.models import Review
from agentmodel.exceptions import CacheUnavailable, Conflict, TableUnavailable, ValidationError
from agentmodel.suggest.guard import Ask, Blocked, Cached, Go, Guard, GuardDecision
from agentmodel.suggest.plan import Alternative, Confidence, Plan
from tests.integration.suggest_world import catalogue, opened

SESSION = "SESS20250614001"
PAY = {"amount": 7}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """However busy the machine is, no store counts as away."""
    return settings.model_copy(
        update={"dynamodb_timeout": 60.0, "valkey_timeout": 60.0, "valkey_connect_timeout": 10.0}
    )


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model)
        yield model


def before(guard: Guard, tool_id: str = "TL002", arguments: Any = None, **options: Any) -> GuardDecision:
    """Decide about a call of AGT001."""
    given = {"agent_id": "AGT001", "user_id": "USR001", "session_id": SESSION} | options
    return guard.before(tool_id=tool_id, arguments=PAY if arguments is None else arguments, **given)


def asked(step: GuardDecision) -> Review:
    """The question of a step that asks one."""
    assert isinstance(step, Ask)
    return step.review


def mark(model: AgentModel, tool_id: str, **values: Any) -> None:
    tool = model.repository.tool("AGT001", tool_id)
    assert tool is not None
    for name, value in values.items():
        setattr(tool, name, value)
    model.repository.put(tool)


def trusted(model: AgentModel) -> None:
    """Let the agent have a history that speaks for it."""
    agent = model.repository.agent("AGT001")
    assert agent is not None
    agent.executions = agent.successes = 100
    model.repository.put(agent)


def fail(model: AgentModel, agent_id: str = "AGT001", tool_id: str = "TL002", *, at: datetime | None = None) -> None:
    """Let a tool begin to fail, by calls of two users."""
    for n in range(46):
        model.recorder.record(
            ToolExecution(
                user_id=f"USR00{2 + n % 2}", session_id=SESSION, process_id="PRC001", agent_id=agent_id,
                tool_id=tool_id, tool_name="search", succeeded=n < 40,
                executed_at=(at or datetime.now(UTC)) + timedelta(milliseconds=n),
            )
        )  # fmt: skip


def down(*_: object, **__: object) -> Any:
    raise TableUnavailable("the table does not answer")


# Health


def test_a_tool_that_works_is_called(model: AgentModel) -> None:
    """Nothing is known against it, so it is called, and its answer is not kept: it is not marked read-only."""
    assert Go() == before(model.guard(review="never"))


def test_a_failing_tool_is_blocked(model: AgentModel) -> None:
    """The model is told which tool fails, since when, what was seen, and that another agent's works."""
    fail(model)
    step = before(model.guard(review="never"))

    assert isinstance(step, Blocked)
    assert step.since is not None
    assert f"`search` was not called: it has been failing since {step.since:%Y-%m-%d %H:%M} UTC (" in step.message
    assert "calls failed; its usual failure rate is 0 %)" in step.message
    assert step.message.endswith("Use `search` of agent `AGT002` instead.")
    assert "blocked" == step.status
    assert [("AGT002", "TL002")] == [(each.agent_id, each.tool_id) for each in step.fallbacks]


def test_a_substitute_that_fails_too_is_not_named(model: AgentModel) -> None:
    """Where nothing that works does the same, the message says so."""
    fail(model)
    fail(model, "AGT002")
    step = before(model.guard(review="never"))

    assert isinstance(step, Blocked)
    assert () == step.fallbacks
    assert step.message.endswith("No other working tool is known that does the same.")


def test_an_own_tool_of_the_same_purpose_comes_first(model: AgentModel) -> None:
    """A tool of the agent itself whose description is alike is named before other agents' tools."""
    mark(model, "TL002", description="Searches places near an address.")
    model.repository.put(
        Tool(agent_id="AGT001", tool_id="TL009", domain_id="DMN001", name="lookup",
             description="Search places near an address"),
    )  # fmt: skip
    fail(model)
    step = before(model.guard(review="never"))

    assert isinstance(step, Blocked)
    assert step.message.endswith("Use `lookup` or `search` of agent `AGT002` instead.")


def test_the_alternatives_of_the_plan_are_named(model: AgentModel) -> None:
    """Another agent of the plan is named, but not one whose way has the failing tool or another that fails."""
    fail(model)
    fail(model, "AGT002", "TL001")
    confidence = Confidence(0.5, 0.2, 0.8)
    ways = [("AGT001", ("search",)), ("AGT002", ("locate",)), ("AGT003", ("ask",))]
    plan = Plan(
        user_id="USR001",
        alternatives=tuple(
            Alternative(agent_id=agent, agent="other", tools=tools, confidence=confidence, source="own mapping")
            for agent, tools in ways
        ),
    )
    step = before(model.guard(review="never"), plan=plan)

    assert isinstance(step, Blocked)
    assert ["AGT003", "AGT002"] == [each.agent_id for each in step.fallbacks]
    assert "agent `other` (`AGT003`) or `search` of agent `AGT002`" in step.message


def test_a_half_open_tool_may_be_tried(model: AgentModel) -> None:
    """After the waiting time it is called again; so is one that is not among those to block."""
    fail(model, at=datetime.now(UTC) - timedelta(minutes=20))
    half_open = before(model.guard(review="never"))
    fail(model, "AGT001", "TL001")

    assert Go() == half_open
    assert Go() == before(model.guard(review="never", block=["format"]), "TL001")
    assert isinstance(before(model.guard(review="never", block=["locate"]), "TL001"), Blocked)


# Review


def test_a_question_is_asked_once(model: AgentModel, settings: Settings) -> None:
    """Asked again, also by another process, it is the same question; another call's is another."""
    first = asked(before(model.guard(review=["search"]), call_id="c1"))
    with AgentModel(settings) as other:
        again = asked(before(other.guard(review=["search"]), call_id="c1"))
    others = asked(before(model.guard(review=["search"]), call_id="c2"))
    changed = asked(before(model.guard(review=["search"]), arguments={"amount": 8}, call_id="c1"))

    assert first == again
    assert 3 == len({first.review_id, others.review_id, changed.review_id})
    assert (PAY, "pre") == (first.arguments, first.phase)
    assert "search needs a person's approval" == first.reason
    assert Go() == before(model.guard(review=["search"]), "TL001", call_id="c1")


def test_an_answer_survives_a_restart(model: AgentModel, settings: Settings) -> None:
    """What a person decided is found by a model that was made after it, for exactly the arguments it is for."""
    review = asked(before(model.guard(review="always"), call_id="c1"))
    open_answer = model.guard(review="always").answer(review)
    model.reviews.decide(review, "edit", "kim", arguments={"amount": 5})
    with AgentModel(settings) as later:
        guard = later.guard(review="always")
        answer = guard.answer(asked(before(guard, call_id="c1")))

    assert open_answer is None
    assert answer is not None
    assert (True, {"amount": 5}, "edited") == (answer.permits, answer.arguments, answer.call_status)
    answer.check({"amount": 5})
    with pytest.raises(Conflict, match="about other arguments"):
        answer.check(PAY)


def test_calls_without_ids_are_told_by_their_number(model: AgentModel) -> None:
    """Where all calls have one id, each equal one asks the rule anew, and finds an open question, also elsewhere."""
    now = datetime.now(UTC)
    rules: list[str | None] = [None, "too much"]
    sometimes = model.guard(review=lambda *_: rules.pop(0))
    free = before(sometimes, call_id="all", equal_calls=True, asked_at=now)
    first = asked(before(sometimes, call_id="all", equal_calls=True, asked_at=now))
    elsewhere = asked(before(model.guard(review="always"), call_id="all", equal_calls=True, asked_at=datetime.now(UTC)))
    model.reviews.decide(first, "approve", "kim")
    later = datetime.now(UTC)
    second = asked(before(model.guard(review="always"), call_id="all", equal_calls=True, asked_at=later, asked=2))

    assert Go() == free
    assert [] == rules
    assert first.review_id == elsewhere.review_id != second.review_id


def test_a_call_without_id_that_another_process_made(model: AgentModel) -> None:
    """An approval is for one of the equal calls: who asked for it asks anew once another process has made that call."""
    guard, since = model.guard(review="always"), datetime.now(UTC)

    def ask(at: datetime) -> Review:
        return asked(before(guard, call_id="all", equal_calls=True, asked_at=at))

    decided = model.reviews.decide(ask(since), "approve", "kim")
    assert decided.decided_at is not None
    not_made = ask(since)
    model.recorder.record(
        ToolExecution(
            user_id="USR001", session_id=SESSION, process_id="PRC001", agent_id="AGT001", tool_id="TL002",
            tool_name="search", values=storable_text(PAY), succeeded=True, executed_at=decided.decided_at,
        )
    )  # fmt: skip
    anew, elsewhere = ask(since), ask(datetime.now(UTC))

    assert decided.review_id == not_made.review_id
    assert decided.review_id != anew.review_id == elsewhere.review_id


def test_an_id_that_is_used_again(model: AgentModel) -> None:
    """A model may give a later call the id of one that was decided and made; it is asked about, as a call of its own."""
    start = datetime.now(UTC)
    first = asked(before(model.guard(review="always"), call_id="c1", asked_at=start))
    decided = model.reviews.decide(first, "approve", "kim")
    assert decided.decided_at is not None
    made, later = decided.decided_at + timedelta(seconds=1), decided.decided_at + timedelta(seconds=2)
    not_made = asked(before(model.guard(review="always"), call_id="c1", asked_at=later))
    model.recorder.record(
        ToolExecution(
            user_id="USR001", session_id=SESSION, process_id="PRC001", agent_id="AGT001", tool_id="TL002",
            tool_name="search", values=storable_text(PAY), succeeded=True, executed_at=made,
        )
    )  # fmt: skip
    repeated = asked(before(model.guard(review="always"), call_id="c1", asked_at=start, asked=2))
    same, sooner, other = (
        asked(before(model.guard(review="always"), call_id="c1", asked_at=at)) for at in (start, made, later)
    )

    assert [first.review_id] * 4 == [each.review_id for each in (not_made, repeated, same, sooner)]
    assert "approved" == same.status
    assert (PAY, "pending") == (other.arguments, other.status)
    assert first.review_id != other.review_id


def test_a_rejected_call_stays_rejected_when_the_rule_changes(model: AgentModel, settings: Settings) -> None:
    """The rule is not looked at again: a tool that no rule would ask about now still has its question."""
    reasons = iter(["it looked risky"])
    review = asked(before(model.guard(review=lambda *_: next(reasons, None)), call_id="c1"))
    model.reviews.decide(review, "reject", "kim", reason="no")
    with AgentModel(settings) as later:
        guard = later.guard(review=lambda *_: None)
        answer = guard.answer(asked(before(guard, call_id="c1")))

    assert answer is not None
    assert (False, "rejected", "no") == (answer.permits, answer.call_status, answer.reason)


def test_an_open_question_is_not_lost(model: AgentModel, settings: Settings) -> None:
    """While nobody has answered the call waits, though the tool became healthy, or fails by now."""
    review = asked(before(model.guard(review=lambda *_: "it fails"), call_id="c1"))
    fail(model)
    with AgentModel(settings) as later:
        assert review == asked(before(later.guard(review=lambda *_: None), call_id="c1"))


def test_a_call_that_was_let_go_is_not_asked_about(model: AgentModel, settings: Settings) -> None:
    """Run again in another process, it goes again: others of its step may have been made meanwhile."""
    went = before(model.guard(review=lambda *_: None), call_id="c1")
    with AgentModel(settings) as later:
        guard = later.guard(review=lambda *_: "it fails now")
        again = before(guard, call_id="c1")
        other = before(guard, call_id="c2")

    assert (Go(), Go()) == (went, again)
    assert isinstance(other, Ask)


def test_other_arguments_are_another_call(model: AgentModel) -> None:
    """An id that was let go with one set of arguments says nothing of the same id with others."""
    guard = model.guard(review=lambda _agent, _tool, arguments: "large" if arguments["amount"] > 100 else None)

    assert Go() == before(guard, call_id="c1")
    assert "large" == asked(before(guard, arguments={"amount": 700}, call_id="c1")).reason
    assert Go() == before(guard, call_id="c1")


def test_without_valkey_this_process_knows(settings: Settings) -> None:
    """Without Valkey a call that was let go is not asked about in the same process."""
    with opened(settings.model_copy(update={"valkey_url": None, "durability": "dynamodb"})) as model:
        catalogue(model)
        reasons = iter([None])
        guard = model.guard(review=lambda *_: next(reasons, "it fails now"))

        assert Go() == before(guard, call_id="c1") == before(guard, call_id="c1")
        assert isinstance(before(guard, call_id="c2"), Ask)


EVENTS = ["run", "rule asks", "rule does not ask", "restart", "tool fails", "approve", "reject", "forget"]


@given(events=st.lists(st.sampled_from(EVENTS), min_size=3, max_size=12))
@hypothesis_settings(max_examples=60)
def test_whatever_happens_a_decision_stays(model: AgentModel, events: list[str]) -> None:
    """A call that was asked about only goes by its answer; one that was let go is asked about only if Valkey forgot it."""
    call_id, tool_id = uuid.uuid4().hex, f"TL{uuid.uuid4().hex}"
    reason: list[str | None] = [None]
    guard = model.guard(review=lambda *_: reason[0])
    review, gone, said = None, False, None
    for event in [*events, "restart", "run"]:
        if event.startswith("rule"):
            reason[0] = "it looks risky" if event == "rule asks" else None
        elif event == "restart":
            guard = model.guard(review=lambda *_: reason[0])
        elif event == "tool fails" and review is not None:
            model.repository.put(failing(tool_id))
        elif event == "forget" and model._valkey is not None:
            model._valkey.execute(("FLUSHALL",))
            guard = model.guard(review=lambda *_: reason[0])
            gone = False
        elif event in ("approve", "reject") and review is not None and said is None:
            model.reviews.decide(review, event, "kim", reason="so")  # type: ignore[arg-type]  # one of two
            said = event
        elif event == "run":
            step = before(guard, tool_id, call_id=call_id)
            if review is not None:
                answer = guard.answer(asked(step))
                assert review.review_id == asked(step).review_id
                assert said == (None if answer is None else answer.decision)
            elif gone or reason[0] is None:
                assert Go() == step
                gone = True
            else:
                review = asked(step)


def failing(tool_id: str) -> Tool:
    """A tool that fails now, as the table has it."""
    now = datetime.now(UTC)
    return Tool(
        agent_id="AGT001", tool_id=tool_id, domain_id="DMN001", name="pay", health="open", health_since=now,
        health_until=now + timedelta(hours=1),
    )  # fmt: skip


def test_nobody_answers_in_time(model: AgentModel) -> None:
    """A question that nobody answered is answered by what was said for that case."""
    rejects = model.guard(review="always", answer_within=timedelta(microseconds=1))
    agrees = model.guard(review="always", answer_within=timedelta(microseconds=1), on_expiry="approve")
    rejected = rejects.answer(asked(before(rejects, call_id="c1")))
    approved = agrees.answer(asked(before(agrees, call_id="c2")))

    assert rejected is not None
    assert approved is not None
    assert (False, "expired") == (rejected.permits, rejected.call_status)
    assert (True, None, PAY) == (approved.permits, approved.call_status, approved.arguments)


def test_marked_tools(model: AgentModel) -> None:
    """By default a person is asked about tools that are marked, and about no other, however new the agent is."""
    went = before(model.guard(), call_id="c1")
    unknown = before(model.guard(), tool_id="TL404", call_id="c1")
    mark(model, "TL002", needs_review=True)
    step = before(model.guard(), call_id="c2")

    assert [Go(), Go()] == [went, unknown]
    assert "search needs a person's approval" == asked(step).reason


def test_the_policy_asks(model: AgentModel) -> None:
    """By policy a person is asked where `Reviews.needed` gives a reason: for a new agent, or for a mark on the tool."""
    new = before(model.guard(review="policy"), call_id="c0")
    trusted(model)
    went = before(model.guard(review="policy"), call_id="c1")
    mark(model, "TL002", needs_review=True)
    step = before(model.guard(review="policy", queue="money"), call_id="c2")

    assert "may be as low as 5 %" in str(asked(new).reason)

    assert Go() == went
    assert "search needs a person's approval" == asked(step).reason
    assert [asked(step).review_id] == [review.review_id for review in model.reviews.inbox("money")]


def test_arguments_that_are_no_json(model: AgentModel) -> None:
    """They are asked about as text, and never answered from what is known."""
    mark(model, "TL002", read_only=True)
    guard = model.guard(review="always")

    review = asked(before(guard, arguments={"of": {1}}, call_id="c1"))

    assert ('{"of": "{1}"}', "every call needs approval") == (review.arguments, review.reason)
    assert Go() == before(model.guard(review="never"), arguments={"of": {1}})


# Known answers


def test_a_known_answer(model: AgentModel) -> None:
    """A read-only tool is called once for a user; `after` keeps what it gave."""
    mark(model, "TL002", read_only=True)
    guard = model.guard(review="never")
    first = before(guard)
    guard.after(first, {"found": 1})
    other_user = before(guard, user_id="USR002")

    assert isinstance(first, Go)
    assert isinstance(before(guard, arguments={"amount": 8}), Go)
    assert Cached({"found": 1}) == before(guard)
    assert "cache_hit" == Cached(1).status
    assert isinstance(other_user, Go)
    assert isinstance(before(model.guard(review="never", cache=False)), Go)


def test_everybody_shares_where_it_is_said(model: AgentModel) -> None:
    """With the scope everybody, another user's call is answered too."""
    mark(model, "TL002", read_only=True)
    guard = model.guard(review="never", cache="everybody")
    guard.after(before(guard), "found")

    assert Cached("found") == before(guard, user_id="USR002")


def test_a_question_comes_before_a_known_answer(model: AgentModel) -> None:
    """What a person must agree to is not answered from what is known without one."""
    mark(model, "TL002", read_only=True)
    free = model.guard(review="never")
    free.after(before(free), "found")

    assert isinstance(before(model.guard(review="always"), call_id="c1"), Ask)


# Stations that are down


def test_without_the_table(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A demanded question that cannot be kept blocks the call; where none is demanded the call goes on."""
    guard = model.guard(review=["search"])
    monkeypatch.setattr(model.table, "call", down)
    monkeypatch.setattr(model.table, "get_item", down)
    demanded = before(guard, call_id="c1", tool="search")
    unnamed = before(guard, "TL001", call_id="c2")

    assert isinstance(demanded, Blocked)
    assert "`search` was not called: a person may have to approve it first, and nobody can be asked" in demanded.message
    assert isinstance(unnamed, Blocked)
    assert Go() == before(guard, "TL001", call_id="c3", tool="locate")
    assert Go() == before(model.guard(review="never"))


def test_a_question_is_not_forgotten_without_the_table(
    model: AgentModel, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that was asked about is blocked while its answer cannot be read, though the rule would not ask now."""
    asked(before(model.guard(review=lambda *_: "it fails"), call_id="c1"))
    with AgentModel(settings) as later:
        monkeypatch.setattr(later.table, "call", down)
        monkeypatch.setattr(later.table, "get_item", down)
        guard = later.guard(review=lambda *_: None)

        assert isinstance(before(guard, call_id="c1"), Blocked)
        assert Go() == before(guard, call_id="c2")


def test_with_neither_store_a_call_that_may_need_a_person_is_blocked(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can know whether it was asked about."""
    assert model._valkey is not None

    def silent(*_: object) -> Any:
        raise CacheUnavailable("it does not answer")

    monkeypatch.setattr(model.table, "call", down)
    monkeypatch.setattr(model.table, "get_item", down)
    monkeypatch.setattr(model._valkey, "try_many", silent)

    assert isinstance(before(model.guard(review=lambda *_: None), call_id="c1"), Blocked)
    assert Go() == before(model.guard(review="never"), call_id="c1")


def test_a_rule_that_fails_blocks(model: AgentModel) -> None:
    """What a rule of the application would have said is not known, so the call is not made."""

    def rule(agent_id: str, tool_id: str, arguments: Any) -> str | None:
        raise KeyError("limit")

    step = before(model.guard(review=rule), call_id="c1")

    assert isinstance(step, Blocked)


def test_without_valkey_calls_go_on(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """No known answer, no mark, and the health that the table knows: the call is made."""
    assert model._valkey is not None

    def silent(*_: object) -> Any:
        raise CacheUnavailable("it does not answer")

    mark(model, "TL002", read_only=True)
    guard = model.guard(review=lambda *_: None)
    monkeypatch.setattr(model._valkey, "try_many", silent)
    step = before(guard, call_id="c1")
    guard.after(step, "found")

    assert isinstance(step, Go)
    assert isinstance(before(guard, call_id="c1"), Go)


def test_no_plan_is_no_error(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that cannot be made is None; one that can is the same as `suggest` makes, and is logged as suggested."""
    plan = model.guard().plan("USR001", category="cafe search")
    none = model.guard().plan("USR001", domain_id="DMN404", category="cafe search")
    monkeypatch.setattr(model.planner, "suggest", down)

    assert plan is not None
    assert plan.suggestion_id is not None
    assert none is None
    assert model.guard().plan("USR001", category="cafe search") is None


# What it costs


def test_round_trips(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything near, a decision takes these round trips: the table is asked only where a person may be."""
    asked: list[str] = []
    valkey = model._valkey
    assert valkey is not None
    attempt, call = valkey.try_many, model.table.call

    def counted(commands: Any) -> Any:
        asked.append("valkey")
        return attempt(commands)

    def called(operation: str, **request: Any) -> Any:
        asked.append(operation)
        return call(operation, **request)

    monkeypatch.setattr(valkey, "try_many", counted)
    monkeypatch.setattr(model.table, "call", called)

    def trips(guard: Guard, call_id: str) -> list[str]:
        asked.clear()
        before(guard, call_id=call_id)
        return list(asked)

    trusted(model)
    mark(model, "TL002", read_only=True)
    policy, marked, free = model.guard(review="policy"), model.guard(), model.guard(review="never")
    blocks = model.guard(review="never", cache=False)
    trips(policy, "c0")

    assert ["valkey"] == trips(blocks, "c1")  # the tool, its health, the agent and what is noted, all at once
    assert ["valkey"] * 2 == trips(free, "c1")  # and the answer
    assert ["valkey", "GetItem", "valkey", "valkey"] == trips(policy, "c1")  # the question, its outcome, the answer
    assert ["valkey"] * 2 == trips(policy, "c1")
    assert ["valkey", "GetItem", "valkey", "valkey"] == trips(marked, "c2")

    mark(model, "TL002", read_only=False)
    trips(blocks, "c3")
    (marks,) = valkey.scan("*:answers-writes:*")
    for number in range(1, 3):  # the mark that outdates cached results goes with the reads
        assert ["valkey"] == trips(blocks, f"c{3 + number}")
        assert 1 + number == valkey.execute(("XLEN", marks))


@pytest.mark.parametrize(
    "options",
    [
        {"review": "sometimes"},
        {"cache": "nobody"},
        {"on_expiry": "edit"},
        {"allowed": ["agree"]},
        {"answer_within": timedelta(0)},
        {"queue": ""},
    ],
)
def test_options_are_checked(model: AgentModel, options: dict[str, Any]) -> None:
    """A mistake is told when the guard is made, not by blocking every call."""
    with pytest.raises(ValidationError):
        model.guard(**options)


# By name, awaited


def test_a_domain_that_is_new(model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
    """Of a domain that nothing was recorded of there is no plan, and that is no warning."""
    assert model.guard().plan("USR001", request="find a café", domain_id="DMNnew") is None
    assert [] == caplog.records


def test_names_are_ids(model: AgentModel) -> None:
    """Agent, tool, user and session may be given by name: the ids are those that the recorders make."""
    guard = model.guard(review="always", domain="support")
    step = guard.before(agent_id="finder", tool_id="pay", user_id="ada", session_id="thread-7", call_id="c1")
    review = asked(step)

    assert ("USRada", "SESSthread-7", "TLpay") == (review.user_id, review.session_id, review.tool_id)
    assert (review.agent_id or "").startswith("AGTsupport-finder~")


def test_awaited(settings: Settings) -> None:
    """The same for asyncio."""

    async def main() -> None:
        async with AsyncAgentModel(opened(settings)) as model:
            catalogue(model.sync)
            guard = model.guard(review=["search"])
            step = await guard.before(
                agent_id="AGT001", tool_id="TL002", user_id="USR001", session_id=SESSION, arguments=PAY, call_id="c1"
            )
            review = asked(step)
            await model.reviews.decide(review, "approve", "kim")
            answer = await guard.answer(review)
            await guard.after(step, None)
            plan = await guard.plan("USR001", category="cafe search")

            assert answer is not None
            assert answer.permits
            assert plan is not None

    asyncio.run(main())


def test_who_may_be_asked(model: AgentModel) -> None:
    """It is known beforehand of which tools a person is never asked, by name or id."""
    rules: tuple[Any, ...] = (
        "never",
        [],
        ["pay"],
        [keys.id_of("TL", "pay")],
        "marked",
        "policy",
        "always",
        lambda *_call: None,
    )

    assert [False, False, *[True] * 6] == [model.guard(review=rule).may_ask("pay") for rule in rules]


def test_a_decision_is_of_one_user_and_session(model: AgentModel) -> None:
    """A call that was let go in one user's session is asked about in another's, also where the ids would join to one."""
    trusted(model)
    one: Any = {"user_id": "USRa", "session_id": "SESSb:SESSc", "call_id": "c1"}
    other: Any = {"user_id": "USRa:SESSb", "session_id": "SESSc", "call_id": "c1"}

    assert isinstance(before(model.guard(), **one), Go)
    asked(before(model.guard(review="always"), **other))
    facts = guarded(model)
    assert ["USRa#SESSb:SESSc", "USRa:SESSb#SESSc"] == [name.rpartition("guard:")[2] for name in facts]

    model.erase_user("USRa:SESSb")
    assert facts[:1] == guarded(model)


def guarded(model: AgentModel) -> list[str]:
    """The keys in Valkey that hold facts about guarded calls."""
    assert model.valkey is not None
    return sorted(model.valkey.scan("*:guard:*"))
