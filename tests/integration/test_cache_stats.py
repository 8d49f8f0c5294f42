"""The numbers that a model gives of its cache: the journal, the breaker, hits and misses of every access pattern."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from agentmodel import Agent, AgentModel, Domain, Settings, Tool
from agentmodel.access.patterns import PATTERNS
from agentmodel.aio import AsyncAgentModel
from agentmodel.cache import CacheStats, Counts


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with AgentModel.from_settings(settings) as made:
        made.table.create()
        made.repository.put(
            Domain(domain_id="DMN001", name="cafes"),
            Agent(agent_id="AGT001", domain_id="DMN001", name="finder", score=1.0),
            Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="find"),
        )
        yield made
        made.table.delete()


def stats(model: AgentModel) -> CacheStats:
    found = model.stats()
    assert found is not None
    return found


def read_all(model: AgentModel) -> None:
    """Asks every access pattern once."""
    read = model.repository
    read.domains()
    read.top_agents("DMN001")
    read.domain_tools("DMN001")
    read.agent_tools("AGT001")
    read.sessions("USR001")
    read.session_history("USR001", "SESS20250614001")
    read.user_mappings("USR001")
    read.mappings()


def test_every_pattern_is_counted(model: AgentModel) -> None:
    """Each of the eight access patterns goes through the cache: a miss at first, and then a hit."""
    read_all(model)
    first = stats(model).patterns
    read_all(model)
    second = stats(model).patterns
    names = {pattern.name for pattern in PATTERNS}

    assert names <= set(first)
    # sessions and mappings of a user lie in one partition, which is near after the first of them is read
    assert {name: 0 if name == "user_mappings" else 1 for name in names} == {n: first[n].misses for n in names}
    assert dict.fromkeys(names, 1) == {n: second[n].hits - first[n].hits for n in names}


def test_a_published_ranking_is_a_hit(model: AgentModel) -> None:
    """The ranking of a publish counts as a hit of its pattern."""
    assert model._caches is not None
    model._caches.leaderboard.replace("DMN001", {"AGT001": 1.0}, 1)
    model.repository.top_agents("DMN001")

    assert Counts(hits=1) == stats(model).patterns["top_agents"]


def test_journal_and_breaker(model: AgentModel) -> None:
    """What waits in the journal is there, and whether Valkey answers."""
    with model.session("USR001", "a café"):
        pass
    found = stats(model)

    assert ("closed", "", 0) == (found.breaker, found.reason, found.outages)
    assert found.journal is not None
    assert found.journal.depth > 0


def test_valkey_away(settings: Settings) -> None:
    """Without an answer of Valkey the breaker says why, and the journal is not known."""
    with AgentModel.from_settings(settings.model_copy(update={"valkey_url": "valkey://127.0.0.1:1"})) as model:
        found = stats(model)

        assert ("open", 1, None) == (stats(model).breaker, found.outages, found.journal)
        assert "127.0.0.1:1" in stats(model).reason


def test_no_valkey(settings: Settings) -> None:
    """Without Valkey there is nothing to tell."""
    with AgentModel.from_settings(settings.model_copy(update={"valkey_url": None})) as model:
        assert model.stats() is None


def test_awaited(model: AgentModel) -> None:
    """The awaited twin gives the same."""
    assert model.stats() == asyncio.run(AsyncAgentModel(model).stats())
