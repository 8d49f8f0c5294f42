"""The one carrying-out of a guard's decisions, against real engines; a framework's own tests need only its own part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.dynamo.models import Review
from agentmodel.exceptions import TableUnavailable
from agentmodel.suggest.guard import Enforcer, InterruptAnswer, Resolution
from tests.integration.suggest_world import catalogue, opened

SESSION = "SESS20250614001"
PAY = {"amount": 7}
KIM = {"by": "kim"}


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model with a catalogue."""
    with opened(settings) as model:
        catalogue(model)
        yield model


class Framework:
    """What a framework has: an enforcer, and a count of what failed."""

    def __init__(self, model: AgentModel, **rules: Any) -> None:
        self.failures: list[str] = []
        self.guard = model.guard(**rules)
        self.enforcer = Enforcer(self.guard, failed=self.failures.append)

    def resolve(self, **more: Any) -> Resolution:
        """Resolve a call of search."""
        call = {"agent_id": "AGT001", "tool_id": "TL002", "user_id": "USR001", "session_id": SESSION, "call_id": "c1"}
        decide = partial(self.guard.before, **(call | more), tool="search", arguments=PAY)
        return self.enforcer.resolve("search", PAY, decide=decide)


def down(*_: object, **__: object) -> Any:
    """A table that does not answer."""
    raise TableUnavailable("the table does not answer")


def question(model: AgentModel) -> Review:
    """The one open question."""
    (review,) = model.reviews.inbox()
    return review


def test_a_result_is_given_again(model: AgentModel) -> None:
    """What a read-only tool gave is cached, and is the content of the next equal call."""
    tool = model.repository.tool("AGT001", "TL002")
    assert tool is not None
    tool.read_only = True
    model.repository.put(tool)
    framework = Framework(model, review="never")
    first = framework.resolve()
    framework.enforcer.keep(first, ["found"])
    second = framework.resolve(call_id="c2")

    assert (True, None) == (first.permits, first.status)
    assert (False, "cache_hit", False, ["found"]) == (
        second.permits,
        second.status,
        second.is_error,
        second.content,
    )
    assert [] == framework.failures


@pytest.mark.parametrize(
    ("rule", "made"),
    [("never", True), (["pay"], True), ("marked", False), ("always", False), (["search"], False)],
)
def test_a_guard_that_fails(model: AgentModel, rule: Any, *, made: bool) -> None:
    """The failure is counted; the call is made, except where a person may have to be asked about the tool."""
    framework = Framework(model, review=rule)
    resolution = framework.enforcer.resolve("search", PAY, decide=down)

    assert framework.enforcer.undecided("search", PAY) == resolution
    assert ("search", PAY, made) == (resolution.tool, resolution.arguments, resolution.permits)
    assert (None if made else "blocked") == resolution.status
    assert ["the decision about a call of search"] == framework.failures


@pytest.mark.parametrize(
    ("given", "status", "content", "arguments"),
    [
        ({"decision": "approve"}, None, None, PAY),
        ({"decision": "edit", "arguments": {"amount": 5}}, "edited", None, {"amount": 5}),
        (
            {"decision": "reject", "reason": "too much"},
            "rejected",
            (
                "`search` was not called: `kim` rejected it. Reason: `too much`. "
                "Do not repeat this call unless you are asked to."
            ),
            PAY,
        ),
        ({"decision": "respond", "response": "nothing there"}, "rejected", "nothing there", PAY),
    ],
    ids=["approve", "edit", "reject", "respond"],
)
@pytest.mark.parametrize("form", [dict, InterruptAnswer.model_validate], ids=["mapping", "object"])
def test_what_a_person_answers(
    model: AgentModel, form: Any, given: dict[str, Any], status: str | None, content: str | None, *, arguments: Any
) -> None:
    """The answer is stored under the person's name, and says what becomes of the call."""
    framework = Framework(model, review="always")
    waiting = framework.resolve()
    review = question(model)
    resolution = framework.enforcer.answer(waiting, form(given | KIM))

    assert waiting.waits
    assert not resolution.waits
    assert (status, content, arguments) == (resolution.status, resolution.content, resolution.arguments)
    assert ("kim", given["decision"]) == (model.reviews.get(review).decided_by, model.reviews.get(review).decision)
    assert resolution.answer == framework.resolve().answer  # a run that goes on finds it
    assert [] == framework.failures


@pytest.mark.parametrize("given", [None, {}, True])
def test_decided_elsewhere(model: AgentModel, given: Any) -> None:
    """With nothing said, the decision is looked up; without one, the call waits on."""
    framework = Framework(model, review="always")
    waiting = framework.enforcer.answer(framework.resolve(), given)
    model.reviews.decide(question(model), "approve", "kim")
    resolution = framework.enforcer.answer(waiting, given)

    assert (True, "") == (waiting.waits, waiting.trouble)
    assert resolution.permits


def test_the_first_decision_counts(model: AgentModel) -> None:
    """An answer that comes after another changes nothing."""
    framework = Framework(model, review="always")
    waiting = framework.resolve()
    model.reviews.decide(question(model), "reject", "lee", reason="no")
    resolution = framework.enforcer.answer(waiting, {"decision": "approve"} | KIM)

    assert ("rejected", "") == (resolution.status, resolution.trouble)


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        ("yes", "it must be an object with the fields decision, by"),
        ({"decison": "approve"} | KIM, "decison"),
        ({"answer": {"decision": "approve"}, "by": {"name": "kim"}}, "by Input should be a valid string"),
        ({"decision": "edit", "arguments": {1: 5}} | KIM, "arguments.1.[key] Input should be a valid string"),
        ({"decision": "approve"}, "the name of the person"),
        ({"decision": "reject"} | KIM, "must be given for a rejection"),
        ({"decision": "approve", "arguments_hash": "other"} | KIM, "other arguments"),
    ],
)
def test_an_answer_that_is_not_accepted(model: AgentModel, given: Any, trouble: str) -> None:
    """The call waits on, with what was wrong; that is no failure of ours."""
    framework = Framework(model, review="always")
    resolution = framework.enforcer.answer(framework.resolve(), given)

    assert resolution.waits
    assert str(resolution.trouble).startswith("the last answer was not accepted: ")
    assert trouble in str(resolution.trouble)
    assert "pending" == model.reviews.status(question(model))
    assert [] == framework.failures


def test_a_claimed_question(model: AgentModel) -> None:
    """What another person has claimed is not answered."""
    framework = Framework(model, review="always")
    waiting = framework.resolve()
    model.reviews.claim(question(model), "lee")
    resolution = framework.enforcer.answer(waiting, {"decision": "approve"} | KIM)

    assert resolution.waits
    assert "claimed by lee" in str(resolution.trouble)


@pytest.mark.parametrize(
    ("away", "trouble"),
    [("decide", "could not be stored: the table does not answer"), ("answer", "could not be read: the table")],
)
def test_a_store_that_is_away(model: AgentModel, monkeypatch: pytest.MonkeyPatch, away: str, trouble: str) -> None:
    """An answer that cannot be stored or read permits nothing: the call waits on, and the failure is counted."""
    framework = Framework(model, review="always")
    waiting = framework.resolve()
    with monkeypatch.context() as patch:
        patch.setattr(model.reviews if away == "decide" else framework.guard, away, down)
        resolution = framework.enforcer.answer(waiting, {"decision": "approve"} | KIM)

    assert (True, False, "blocked") == (resolution.waits, resolution.permits, resolution.status)
    assert trouble in str(resolution.trouble)
    assert "what they decided cannot be read at present" in resolution.content
    assert 1 == len(framework.failures)


@pytest.mark.parametrize(("on_expiry", "status"), [("reject", "expired"), ("approve", None)])
def test_nobody_answers(model: AgentModel, on_expiry: Any, status: str | None) -> None:
    """From the deadline on the default decision counts, without anybody being asked again."""
    framework = Framework(model, review="always", answer_within=timedelta(microseconds=1), on_expiry=on_expiry)
    resolution = framework.resolve()

    assert not resolution.waits
    assert ("approve" == on_expiry, status) == (resolution.permits, resolution.status)
