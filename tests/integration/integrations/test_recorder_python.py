"""Plain Python functions made tools by `model.tool`, driven through the scenario."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, AsyncAgentModel
from agentmodel.exceptions import CallRejected, ReviewPending
from tests.integration.integrations.recorders import RECORDERS, tell
from tests.integration.integrations.scenario import (
    AGENT,
    CATEGORY,
    DOMAIN,
    EXPECTED,
    REQUEST,
    SCRIPT,
    Asked,
    Shown,
    expected,
    learned_that_searches_stay,
    shown,
)

RECORDER = "Python, `model.tool`"
WITHOUT = RECORDERS[RECORDER].without
ERRORS = {"invalid arguments": "TypeError"}
SAID: dict[str, Any] = {"c7": "reject", "c8": "edit"}


def told() -> list[Shown]:
    """What the history holds: without the case that Python does not show, and without tokens, which only a model has."""
    calls = [call for call in EXPECTED if call.case not in WITHOUT]
    return [
        replace(one, error_type=ERRORS.get(call.case, call.error_type), tokens=(None, None))
        for call, one in zip(calls, expected(without=WITHOUT), strict=True)
    ]


def functions() -> dict[str, Callable[..., str]]:
    """The functions of the scenario."""
    failures = iter([ConnectionError("gone")])

    def search(q: str) -> str:
        """Search."""
        return f"found {q}"

    def flaky(q: str) -> str:
        """Fail once."""
        for failure in failures:
            raise failure
        return f"found {q}"

    def broken(q: str) -> str:
        """Fail."""
        raise ValueError(f"no route to {q}")

    def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    return {"search": search, "flaky": flaky, "broken": broken, "pay": pay}


OPTIONS: dict[str, dict[str, Any]] = {"search": {"cache": "user"}, "pay": {"review": "always"}}


def say(model: AgentModel, call: Asked, pending: ReviewPending) -> None:
    """A person decides as the scenario has it."""
    if SAID[call.call_id] == "reject":
        model.reviews.decide(pending.review, "reject", "kim", reason="too much")
    else:
        model.reviews.decide(pending.review, "edit", "kim", arguments={"amount": 5})


def calls() -> list[Asked]:
    """The calls of the scenario that name a function there is."""
    return [call for turn in SCRIPT for call in turn.calls if call.tool != "nope"]


@pytest.fixture
def model() -> Iterator[AgentModel]:
    """A model on embedded engines."""
    with AgentModel.local() as model:
        yield model


def test_scenario(model: AgentModel) -> None:
    """Every call of the scenario is recorded, but for that of a tool that is not there."""
    learned_that_searches_stay(model)
    tools = {
        name: model.tool(agent=AGENT, domain=DOMAIN, **OPTIONS.get(name, {}))(function)
        for name, function in functions().items()
    }
    with model.session("USRada", REQUEST, category=CATEGORY):
        for call in calls():
            for _ in range(2):
                try:
                    tools[call.tool](**call.arguments)
                    break
                except ReviewPending as pending:
                    say(model, call, pending)
                except ConnectionError:
                    continue
                except (CallRejected, TypeError, ValueError):
                    break

    assert told() == shown(model)
    tell(RECORDER, shown(model))
    assert 0 == model.functions.errors


def test_scenario_of_coroutines(model: AgentModel) -> None:
    """The same with coroutine functions, the first two at the same time."""
    learned_that_searches_stay(model)

    def coroutine(name: str, function: Callable[..., str]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> str:
            await asyncio.sleep(0)
            return function(*args, **kwargs)

        call.__wrapped__ = function  # type: ignore[attr-defined]  # as functools.wraps has it: the signature
        return AsyncAgentModel(model).tool(agent=AGENT, domain=DOMAIN, name=name, **OPTIONS.get(name, {}))(call)

    async def make(call: Asked, tools: dict[str, Callable[..., Any]]) -> None:
        for _ in range(2):
            try:
                await tools[call.tool](**call.arguments)
                return
            except ReviewPending as pending:
                await asyncio.to_thread(say, model, call, pending)
            except ConnectionError:
                continue
            except (CallRejected, TypeError, ValueError):
                return

    async def main() -> None:
        tools = {name: coroutine(name, function) for name, function in functions().items()}
        first, second, *others = calls()
        async with AsyncAgentModel(model).session("USRada", REQUEST, category=CATEGORY):
            await asyncio.gather(make(first, tools), make(second, tools))
            for call in others:
                await make(call, tools)

    asyncio.run(main())

    together = sorted(shown(model)[:2], key=lambda call: str(call.arguments))  # nobody says which of them is first
    assert told() == together + shown(model)[2:]


def test_table_in_the_docs() -> None:
    """The docs say of each case of the scenario what the decorator makes of it."""
    page = Path(__file__).parents[3] / "docs" / "integrations" / "python.md"
    cases = dict.fromkeys(call.case for call in EXPECTED)
    words = dict.fromkeys(WITHOUT, "not shown") | {case: f"recorded as `{kind}`" for case, kind in ERRORS.items()}
    rows = [f"| {case} | {words.get(case, 'recorded')} |" for case in cases]

    assert "\n".join(["| case | `model.tool` |", "|---|---|", *rows]) in page.read_text(encoding="utf-8")
