"""For the tests of applications: Hypothesis strategies of everything the table holds, and pytest fixtures.

The strategies are names of this module and load Hypothesis when the first of them is used; the fixtures come with the
pytest plugin `agentmodel.testing.plugin`, which pytest finds by itself::

    from hypothesis import HealthCheck, given, settings

    from agentmodel import Agent
    from agentmodel.testing import agents


    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(agents(domain_id="DMN001", expires_at=None))
    def test_every_agent_is_found_by_its_id(agentmodel_model, agent: Agent) -> None:
        agentmodel_model.repository.put(agent)
        assert agent == agentmodel_model.repository.agent(agent.agent_id)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentmodel.testing.strategies import (
        HARD_TEXTS,
        HARD_TOKENS,
        History,
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
    "HARD_TEXTS",
    "HARD_TOKENS",
    "History",
    "agents",
    "domains",
    "entities",
    "executions",
    "histories",
    "ids",
    "json_values",
    "key_texts",
    "mappings",
    "numbers",
    "processes",
    "reviews",
    "scores",
    "suggestions",
    "texts",
    "times",
    "tools",
    "user_sessions",
    "users",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agentmodel.testing import strategies

    return getattr(strategies, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
