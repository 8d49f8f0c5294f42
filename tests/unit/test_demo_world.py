from __future__ import annotations

from collections import Counter
from datetime import date

import pytest

from agentmodel._demo import world
from agentmodel._demo.simulation import DAYS, SESSIONS, Simulation
from agentmodel.config import Settings
from agentmodel.dynamo.models import Agent, Tool
from agentmodel.exceptions import ValidationError

DAY = date(2025, 6, 14)


def test_the_world_is_as_large_as_promised() -> None:
    """At least one domain, four agents with tools of their own, a dozen users, several categories."""
    entities = world.catalogue()
    kinds = Counter(entity.kind for entity in entities)
    tools = Counter(entity.agent_id for entity in entities if isinstance(entity, Tool))
    agents = {entity.agent_id for entity in entities if isinstance(entity, Agent)}

    assert kinds["Domain"] >= 1
    assert kinds["Agent"] >= 4
    assert kinds["UserInfo"] >= 12
    assert len(world.CATEGORIES) >= 3
    assert agents == set(tools)
    assert len({entity.key for entity in entities}) == len(entities)


def test_every_routine_uses_the_agents_own_tools() -> None:
    """An agent works with its own tools, and each tool is used in some way of working."""
    own = {tool.tool_id: tool.agent_id for tool in world.TOOLS}
    used = {(agent_id, tool_id) for agent_id, ways in world.ROUTINES.items() for way in ways for _, tool_id in way}

    assert {(agent_id, tool_id) for tool_id, agent_id in own.items()} == used


def test_every_agent_has_a_way_without_the_tool_that_may_break() -> None:
    """The tool in the middle of the longer way is not part of the shorter one."""
    assert all(long[1] not in short for short, long in world.ROUTINES.values())


@pytest.mark.parametrize("tool", world.TOOLS, ids=lambda tool: tool.name)
def test_every_tool_answers_every_request(tool: world.DemoTool) -> None:
    """A tool computes its answer from the stores of any place and category, and fails in its own way."""
    for place in world.PLACES:
        for category in world.CATEGORIES:
            found = [s for s in world.STORES if s.place == place and s.kind in category.kinds] or list(world.STORES)
            assert tool.run(place, found) is not None

    assert isinstance(tool.fault(), TimeoutError | ConnectionError | LookupError)


def test_the_demo_records_at_least_300_sessions_within_the_life_of_history() -> None:
    """What is recorded is enough to learn from, and none of it has expired when it is refreshed."""
    assert SESSIONS >= 300
    assert DAYS < Settings.model_fields["ttl_days_low"].default


def test_skill_is_drawn_from_the_seed() -> None:
    """The same seed gives the same agents; among a few seeds each agent is the best once."""
    drawn = [Simulation(seed=seed, as_of=DAY).recorded for seed in range(30)]
    best = {max(each.skills, key=lambda agent: each.skills[agent]) for each in drawn}

    assert drawn == [Simulation(seed=seed, as_of=DAY).recorded for seed in range(30)]
    assert {agent_id for agent_id, _, _ in world.AGENTS} == best
    assert len({each.broken_tool for each in drawn}) > 1


@pytest.mark.parametrize("sessions", [0, -1, 100_001])
def test_the_number_of_sessions_has_bounds(sessions: int) -> None:
    """None at all, and more than an embedded engine should hold, is refused."""
    with pytest.raises(ValidationError, match="sessions"):
        Simulation(seed=1, sessions=sessions, as_of=DAY)
