"""Publish against real engines: what is written, what is not, and what survives a kill."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from agentmodel import Agent, AgentModel, Settings, UserToolMapping
from agentmodel.config import Ranking
from agentmodel.exceptions import TableUnavailable, ValidationError
from agentmodel.redshift.models import RefreshWatermark
from agentmodel.suggest.publish import scores_seen
from tests.integration.suggest_world import TODAY, catalogue, counted, days, learn, opened, run, writes


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model)
        yield model


def test_scores_patterns_and_tools_go_back(model: AgentModel) -> None:
    """After a publish the agent has its score, the tools their failures, and the user the mapping of the category."""
    run(model)
    run(model, failing=[2])
    run(model, agent_id="AGT002", succeeded=False)
    learn(model)

    published = model.publish(as_of=TODAY)
    best, other = model.repository.top_agents("DMN001")
    mapping = model.repository.mapping("USR001", "cafe search")
    tool = model.repository.tool("AGT001", "TL002")

    assert (2, 6, 1, 1, 1) == (
        published.agents, published.tools, published.mappings, published.rankings, published.domains
    )  # fmt: skip
    assert ("AGT001", 2.0, 2, 2) == (best.agent_id, best.score, best.executions, best.successes)
    assert ("AGT002", 0.0, 1, 0) == (other.agent_id, other.score, other.executions, other.successes)
    assert tool is not None
    assert (2, 1, "no answer") == (tool.calls, tool.errors, tool.last_error)
    assert mapping is not None
    assert {"AGT001": "agent 1"} == mapping.agents
    assert {"PRC001": "step 1", "PRC002": "step 2", "PRC003": "step 3"} == mapping.processes
    assert ["locate", "search", "format"] == list(mapping.tools.values())
    assert [2, 1] == (mapping.counts or {})["PRC002#AGT001#TL002"]
    assert ["find a café near the stadium"] == mapping.requests


def test_until_when_the_scores_have_seen_the_table(model: AgentModel) -> None:
    """Metrics and the time limit of a schedule rest on it; before the first publish nothing was seen."""
    assert scores_seen(model.table) is None
    model.publish(as_of=TODAY)
    assert scores_seen(model.table) is None  # of a warehouse without a refresh
    run(model)
    learn(model)
    model.publish(as_of=TODAY)

    [(until,)] = set(model.warehouse.read(select(RefreshWatermark.seen_until)))
    assert until.replace(tzinfo=UTC) == scores_seen(model.table)


@pytest.mark.parametrize("agents", [1, 5, 12])
def test_a_publish_of_n_agents_costs_n_writes(settings: Settings, agents: int) -> None:
    """One write for each agent, tool, mapping and domain that changed, three for the mark of the run, two for the lease."""
    with opened(settings) as model:
        catalogue(model, agents=agents, tools=("search",))
        for n in range(1, agents + 1):
            run(model, agent_id=f"AGT{n:03d}", tools=[1], succeeded=False)
        learn(model)

        with counted(model.table) as calls:
            published = model.publish(as_of=TODAY)

    assert agents == published.agents
    assert (2 * agents + 1, 4, 1) == (calls["PutItem"], calls["UpdateItem"], calls["DeleteItem"])
    assert 2 * agents + 6 == writes(calls)


def test_of_equal_scores_the_one_with_more_successes_is_published(model: AgentModel) -> None:
    """Two of four is scored as one of one; the sequence that succeeded twice becomes the mapping."""
    for succeeded in (True, True, False, False):
        run(model, tools=[1, 2], succeeded=succeeded)
    run(model, tools=[1, 3])
    learn(model)
    model.publish(as_of=TODAY)
    mapping = model.repository.mapping("USR001", "cafe search")

    assert mapping is not None
    assert (["locate", "search"], 1.0, 4, 2) == (
        list(mapping.tools.values()), mapping.score, mapping.executions, mapping.successes,
    )  # fmt: skip


def test_each_category_that_ever_succeeded_has_a_plan(model: AgentModel) -> None:
    """A category that is asked for once has its plan beside one that is asked for often; one that failed has none."""
    for category, times in (("rare", 1), ("seldom", 2), ("often", 5)):
        for _ in range(times):
            run(model, category=category, tools=[1])
    run(model, category="seldom", tools=[2], succeeded=False)
    run(model, category="never", tools=[1], succeeded=False)
    learn(model)
    model.publish(as_of=TODAY)

    assert {"rare", "seldom", "often"} == {mapping.category for mapping in model.repository.user_mappings("USR001")}


def test_a_second_publish_writes_nothing(model: AgentModel) -> None:
    """Neither the table nor the ranking in Valkey is written when nothing changed."""
    run(model)
    run(model, "USR002")
    learn(model)
    model.publish(as_of=TODAY)

    with counted(model.table) as calls:
        again = model.publish(as_of=TODAY)

    assert 0 == writes(calls)
    assert (0, 0, 0, 0) == (again.agents, again.tools, again.mappings, again.rankings)
    assert 8 == again.unchanged  # two agents, three tools, two mappings, the domain


def test_a_newer_run_that_changes_nothing_writes_its_mark(model: AgentModel) -> None:
    """A newer refresh whose numbers are the same costs one write, the mark, by which an older run is refused."""
    run(model, succeeded=False)
    learn(model)
    model.publish(as_of=TODAY)
    run(model, category=None, tools=[])
    learn(model)

    with counted(model.table) as calls:
        newer = model.publish(as_of=TODAY)

    assert (0, 0, 0, 0) == (newer.agents, newer.tools, newer.mappings, newer.rankings)
    assert (1, 1) == (calls["UpdateItem"], writes(calls))


def test_an_older_run_does_not_overwrite_a_newer_one(model: AgentModel) -> None:
    """A delayed run leaves score, mapping and ranking as the newer run wrote them."""
    run(model)
    learn(model)
    model.publish(as_of=TODAY + days(10))
    before = model.repository.top_agents("DMN001").items

    late = model.publish(as_of=TODAY)

    assert (0, 0, 0) == (late.agents, late.mappings, late.rankings)
    assert late.stale > 0
    assert before == model.repository.top_agents("DMN001").items


def test_scores_stay_while_nobody_runs_anything(model: AgentModel) -> None:
    """After 250 days without a run the better agent leads as it did, and no score is written anew."""
    for succeeded in (True, True, False):
        run(model, "USR001", "AGT002", succeeded=succeeded)
        run(model, "USR002", "AGT001", succeeded=not succeeded)
    learn(model)
    model.publish(as_of=TODAY)
    before = [(agent.agent_id, agent.score) for agent in model.repository.top_agents("DMN001")]
    model.refresh(as_of=TODAY + days(250))

    published = model.publish(as_of=TODAY + days(250))
    after = model.repository.top_agents("DMN001").items

    assert [("AGT002", 1.333333), ("AGT001", 0.333333)] == before
    assert before == [(agent.agent_id, agent.score) for agent in after]
    assert (0, 0) == (published.agents, published.mappings)


@pytest.mark.parametrize(
    ("ranking", "scores"),
    [
        ("classic", [("AGT001", 1.0), ("AGT009", 2e-6), ("AGT008", 1e-6), ("AGT002", 0.0)]),
        ("evidence", [("AGT001", 0.7037), ("AGT009", 0.666669), ("AGT008", 0.666668), ("AGT002", 0.666667)]),
    ],
)
def test_agents_without_executions_are_on_the_same_scale(
    settings: Settings, ranking: Ranking, scores: list[tuple[str, float]]
) -> None:
    """What somebody typed in is kept as a rating, which breaks ties only: in the index as in the ranking in Valkey."""
    with opened(settings.model_copy(update={"ranking": ranking})) as model:
        catalogue(model)
        for agent_id, typed in (("AGT008", 50.0), ("AGT009", 60.0)):
            model.repository.put(Agent(agent_id=agent_id, domain_id="DMN001", name=agent_id, score=typed))
        run(model)
        learn(model)
        model.publish(as_of=TODAY)
        again = model.publish(as_of=TODAY)
        agents = model.repository.top_agents("DMN001").items
        by_index = model.repository.agents_by_score("DMN001").items

    assert scores == [(agent.agent_id, agent.score) for agent in agents]
    assert agents == by_index
    assert [None, 60.0, 50.0, None] == [agent.rating for agent in agents]
    assert [1, 0, 0, 0] == [agent.executions for agent in agents]
    assert {0.666667} == {agent.evidence for agent in agents[1:]}
    assert (0, 0) == (again.agents, again.rankings)


def test_what_was_deleted_stays_deleted(model: AgentModel) -> None:
    """An agent that a person deletes while a publish runs is not made again."""
    run(model)
    learn(model)
    save = model.writer.save

    def delete_first(entity: Any, **options: Any) -> None:
        if isinstance(entity, Agent):
            model.writer.delete(entity.key)
        save(entity, **options)

    model.writer.save = delete_first  # type: ignore[method-assign]  # somebody comes in between
    published = model.publish(as_of=TODAY)

    assert (0, 2) == (published.agents, published.unknown)
    assert model.table.get(Agent.at("AGT001"), consistent=True) is None


def test_a_killed_publish_is_finished_by_the_next(model: AgentModel) -> None:
    """Killed at any write, the next publish does the rest: the same end as without the kill."""
    run(model)
    run(model, "USR002", "AGT002")
    learn(model)
    kills = 0
    original = model.table.call
    for allowed in range(100):
        left = [allowed]

        def dying(operation: str, left: list[int] = left, **request: Any) -> dict[str, Any]:
            if operation in ("PutItem", "UpdateItem"):
                if not left[0]:
                    raise TableUnavailable("killed")
                left[0] -= 1
            return original(operation, **request)

        model.table.call = dying  # type: ignore[method-assign]  # the process dies at its n-th write
        try:
            model.publish(as_of=TODAY)
        except TableUnavailable:
            kills += 1
        else:
            break
    model.table.call = original  # type: ignore[method-assign]  # as it was
    end = model.publish(as_of=TODAY)

    assert kills > 5
    assert (0, 0, 0, 0) == (end.agents, end.tools, end.mappings, end.rankings)
    assert [1.000001, 1.0] == [agent.score for agent in model.repository.top_agents("DMN001")]
    assert {"USR001", "USR002"} == {mapping.user_id for mapping in model.repository.mappings()}


def test_without_valkey_the_scores_are_in_the_index(model: AgentModel, settings: Settings) -> None:
    """Without Valkey everything is published but the ranking; readers get it from the index."""
    run(model)
    learn(model)
    with AgentModel(settings.model_copy(update={"valkey_url": None})) as plain:
        model.warehouse.close()
        published = plain.publish(as_of=TODAY)
        top = plain.repository.top_agents("DMN001").items

    assert (2, 0) == (published.agents, published.rankings)
    assert ["AGT001", "AGT002"] == [agent.agent_id for agent in top]


def test_a_lost_ranking_is_made_again(model: AgentModel) -> None:
    """When Valkey lost its ranking, a publish that has nothing else to write replaces it."""
    run(model)
    learn(model)
    model.publish(as_of=TODAY)
    assert model._caches is not None
    model._caches.leaderboard.drop("DMN001")

    again = model.publish(as_of=TODAY)

    assert (0, 1) == (again.agents, again.rankings)


def test_evidence_orders_when_it_is_the_ranking(settings: Settings) -> None:
    """With `evidence` as the ranking the published score is its mean."""
    with opened(settings.model_copy(update={"ranking": "evidence"})) as model:
        catalogue(model)
        run(model)
        learn(model)
        model.publish(as_of=TODAY)
        agent = model.repository.top_agents("DMN001", limit=1)[0]

    assert agent.score == agent.evidence
    assert (agent.evidence_low or 0.0) < agent.score < (agent.evidence_high or 0.0)


def test_high_scores_live_longer(model: AgentModel) -> None:
    """What scores high is kept for the days of high scores: the session, all in it, and the mapping."""
    session_id = run(model)
    low = run(model, "USR002", succeeded=False)
    learn(model)

    published = model.publish(as_of=TODAY)
    session = model.repository.session("USR001", session_id)
    history = model.repository.session_history("USR001", session_id)
    mapping = model.repository.mapping("USR001", "cafe search")
    fallen = model.repository.session("USR002", low)

    assert (1, 0) == (published.extended, published.shortened)
    assert session is not None
    assert mapping is not None
    assert fallen is not None
    for entity in (session, mapping, *history.processes, *history.executions):
        assert entity.expires_at is not None
        assert timedelta(days=59) < entity.expires_at - TODAY < timedelta(days=61)
    assert fallen.expires_at is not None
    assert fallen.expires_at - TODAY < timedelta(days=31)


def test_what_falls_lives_shorter_again(model: AgentModel) -> None:
    """When the score has fallen, session and mapping expire as what scores low does, counted from the record."""
    session_id = run(model)
    learn(model)
    model.publish(as_of=TODAY)
    run(model, succeeded=False)
    learn(model)

    published = model.publish(as_of=TODAY)
    session = model.repository.session("USR001", session_id)
    mapping = model.repository.mapping("USR001", "cafe search")

    assert (0, 1) == (published.extended, published.shortened)
    assert session is not None
    assert mapping is not None
    for entity in (session, mapping):
        assert entity.expires_at is not None
        assert timedelta(days=29) < entity.expires_at - TODAY < timedelta(days=31)


def test_what_has_no_expiry_keeps_none(model: AgentModel) -> None:
    """A session that was stored to stay is not given an expiry."""
    session_id = run(model)
    model.drain()
    session = model.repository.session("USR001", session_id)
    assert session is not None
    session.expires_at = None
    model.repository.put(session)
    model.refresh(as_of=TODAY)

    published = model.publish(as_of=TODAY)
    stored = model.repository.session("USR001", session_id)

    assert (0, 0) == (published.extended, published.shortened)
    assert stored is not None
    assert stored.expires_at is None


def test_a_mapping_that_is_not_recommended_any_more_fades(model: AgentModel) -> None:
    """A published mapping without a recommended pattern expires sooner; one that a person made is left alone."""
    run(model)
    learn(model)
    model.publish(as_of=TODAY)
    made = UserToolMapping(user_id="USR003", category="by hand", processes={}, agents={}, tools={})
    model.repository.put(made)
    for session in list(model.repository.sessions("USR001")):
        session.corrected = False  # a reviewer says: it did not succeed
        model.repository.put(session)
    model.refresh(as_of=TODAY)

    published = model.publish(as_of=TODAY)
    again = model.publish(as_of=TODAY)
    faded = model.repository.mapping("USR001", "cafe search")

    assert (1, 0) == (published.retired, again.retired)
    assert faded is not None
    assert faded.expires_at is not None
    assert faded.expires_at - TODAY < timedelta(days=31)
    assert made == model.repository.mapping("USR003", "by hand")


def test_a_naive_run_is_refused(model: AgentModel) -> None:
    """A time without a zone cannot order runs."""
    with pytest.raises(ValidationError, match="as_of"):
        model.publish(as_of=datetime(2025, 6, 14, tzinfo=UTC).replace(tzinfo=None))
