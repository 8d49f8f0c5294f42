"""Tools for the tests of applications: Hypothesis strategies for all entities of the table, and pytest fixtures.

Import the strategies from this module; Hypothesis is loaded when the first of them is used. The fixtures come with the
pytest plugin `agentmodel.testing.plugin`, which pytest loads by itself::

    from hypothesis import HealthCheck, given, settings

    from agentmodel import Agent
    from agentmodel.testing import agents


    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(agents(domain_id="DMN001", expires_at=None))
    def test_every_agent_is_found_by_its_id(agentmodel_model, agent: Agent) -> None:
        agentmodel_model.repository.put(agent)
        assert agent == agentmodel_model.repository.agent(agent.agent_id)

>>> from agentmodel.testing import HARD_TEXTS, HARD_TOKENS
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
