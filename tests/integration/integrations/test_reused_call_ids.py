"""A server that numbers the calls of each answer anew (`call_0`) gets no approval of an earlier call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.integrations._enforcer import RunEnforcer
from agentmodel.integrations._tracking.tracker import TrackedRun, Tracker
from agentmodel.suggest.guard import Resolution


class Process:
    """One process of an application: its model, its tracker, and the run of one session."""

    def __init__(self, settings: Settings) -> None:
        self.model = AgentModel.from_settings(settings)
        self.tracker = Tracker(self.model)
        self.run: TrackedRun = self.tracker.run("thread-7", user="ada")
        self._enforcer = RunEnforcer(self.model.guard(review="always"), self.tracker)

    def asks(self, amount: int = 5, *, turn: bool = True) -> Resolution:
        """The model asks for a payment as `call_0`, or, without a turn, its step is run again."""
        if turn:
            self.run.turn("model", calls=["call_0"])
        return self._enforcer.resolve_call(self.run, "teller", "pay", {"amount": amount}, call_id="call_0")

    def decide(self, resolution: Resolution, decision: str) -> Resolution:
        """A person decides."""
        return self._enforcer.answer(resolution, {"decision": decision, "by": "boss", "reason": "because"})

    def pays(self, resolution: Resolution) -> None:
        """The call is made and recorded."""
        attempt = self.run.start("call_0", agent="teller", tool="pay", arguments=resolution.arguments)
        self.run.end("call_0", attempt, status="ok", result="paid")
        assert self.tracker.flush()


@pytest.fixture
def processes(settings: Settings) -> Iterator[Any]:
    """Starts processes on one empty table."""
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(settings))
        if len(started) == 1:
            started[0].model.table.create()
        return started[-1]

    yield start
    for process in started[1:]:
        process.model.close()
    started[0].model.table.delete()
    started[0].model.close()


@pytest.mark.parametrize("restarted", [False, True])
def test_a_later_turn_is_asked_about_anew(processes: Any, restarted: bool) -> None:
    """The same id with the same arguments in a later turn is a new question, in the same process and in another one."""
    first = processes()
    question = first.asks()
    approved = first.decide(question, "approve")
    first.pays(approved)
    first.model.drain()
    second = processes() if restarted else first
    later = second.asks()

    assert (True, True, True) == (question.waits, approved.permits, later.waits)
    assert question.review is not None
    assert later.review is not None
    assert question.review.review_id != later.review.review_id


@pytest.mark.parametrize("restarted", [False, True])
def test_a_step_that_is_run_again_finds_its_answer(processes: Any, restarted: bool) -> None:
    """A step that was interrupted and is run again finds the approval of its own question, not of an earlier turn's."""
    first = processes()
    first.pays(first.decide(first.asks(), "approve"))
    question = first.asks()
    other = processes() if restarted else first
    waiting = other.asks(turn=False)
    first.decide(question, "approve")
    again = other.asks(turn=False)

    assert (True, True, True) == (question.waits, waiting.waits, again.permits)
    assert question.review is not None
    assert again.review is not None
    assert question.review.review_id == again.review.review_id


def test_a_question_that_waits_is_asked_once(processes: Any) -> None:
    """A model that is asked again while its call waits for a person, or is approved and not made, gets that question."""
    first = processes()
    question = first.asks()
    again = first.asks()
    first.decide(question, "approve")
    approved = first.asks()

    assert (True, True, True) == (question.waits, again.waits, approved.permits)
    assert question.review is not None
    assert again.review is not None
    assert question.review.review_id == again.review.review_id


def test_many_turns(processes: Any) -> None:
    """Each of five turns has a question of its own."""
    process = processes()
    questions = set()
    for _ in range(5):
        question = process.asks()
        assert question.review is not None
        questions.add(question.review.review_id)
        process.pays(process.decide(question, "approve"))

    assert 5 == len(questions)


def test_other_arguments_are_another_question(processes: Any) -> None:
    """An approval is valid for the exact arguments it was given for, whatever the id."""
    process = processes()
    process.decide(process.asks(), "approve")

    assert process.asks(6).waits
