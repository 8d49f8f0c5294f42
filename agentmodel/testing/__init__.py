"""Tools for the tests of applications: Hypothesis strategies for all entities of the table, and pytest fixtures.

Import the strategies from this module; Hypothesis is loaded when the first of them is used. The fixtures come with the
pytest plugin `agentmodel.testing.plugin`, which pytest loads by itself.

>>> from hypothesis import Phase, given, settings, strategies
>>> from agentmodel.testing import *
>>> quick = settings(max_examples=2, database=None, deadline=None, phases=[Phase.generate])
>>> @quick
... @given(agents(domain_id="DMN001"), histories(user_id="USR001"))
... def test_attributes_that_are_given_stay(agent, history):
...     assert agent.domain_id == "DMN001"
...     assert isinstance(history, GeneratedHistory) and history.session.user_id == "USR001"
>>> of_one_class = [domains(), tools(), users(), user_sessions(), processes(), executions(), mappings(), reviews()]
>>> @quick
... @given(strategies.tuples(entities(), suggestions(), *of_one_class))
... def test_what_is_stored_is_read(drawn):
...     assert all(type(entity).from_item(entity.to_item()) == entity for entity in drawn)
>>> @quick
... @given(ids("AGT"), key_texts(), texts(), numbers(), scores(), times(), json_values())
... def test_values(agent_id, key_text, text, number, score, time, value):
...     assert agent_id.startswith("AGT") and key_text and number >= 0 and score >= 0 and time.tzinfo
>>> test_attributes_that_are_given_stay(), test_what_is_stored_is_read(), test_values()
(None, None, None)
>>> "METADATA" in HARD_TEXTS, "METADATA" in HARD_TOKENS
(True, True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmodel.testing._strategies import (
        HARD_TEXTS,
        HARD_TOKENS,
        GeneratedHistory,
        agents,
        domains,
        entities,
        executions,
        histories,
        ids,
        json_values,
        key_texts,
        mappings,
        numbers,
        processes,
        reviews,
        scores,
        suggestions,
        texts,
        times,
        tools,
        user_sessions,
        users,
    )

__all__ = [
    "HARD_TEXTS", "HARD_TOKENS", "GeneratedHistory", "agents", "domains", "entities", "executions", "histories", "ids",
    "json_values", "key_texts", "mappings", "numbers", "processes", "reviews", "scores", "suggestions", "texts",
    "times", "tools", "user_sessions", "users",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agentmodel.testing import _strategies as strategies

    return getattr(strategies, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
