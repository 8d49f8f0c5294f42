"""The next tool of an agent in the middle of a run, from what was published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from agentmodel import Agent, AgentModel, Domain, Settings, Tool
from agentmodel.exceptions import NotFound, ValidationError
from agentmodel.suggest.evaluate import runs_from_warehouse
from agentmodel.suggest.evaluate._evaluation import next_tools
from agentmodel.suggest.plan import NextTools
from tests.integration.suggest_world import TODAY, catalogue, counted, days, learn, opened, run


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """Two agents; USR001's cafe searches go on with `format`, those of others with `search`."""
    with opened(settings) as model:
        catalogue(model)
        for _ in range(4):
            run(model, tools=(1, 3))
            run(model, "USR002", "AGT002", tools=(1, 2, 3), category="shop search", request="a bookshop in the centre")
        run(model, tools=(1, 2), failing=[2], succeeded=False)
        learn(model)
        model.publish(as_of=TODAY)
        yield model


def names(found: NextTools) -> list[str]:
    return [each.tool for each in found.tools]


def test_the_users_own_way_comes_first(model: AgentModel) -> None:
    """In the category, the user's own sequences decide; without one, those of the domain do."""
    own = model.planner.next_tools("USR001", agent_id="AGT001", done=["locate"], category="cafe search")
    similar = model.planner.next_tools(
        "USR001", agent_id="AGT001", done=["TL001"], request="find a café near a stadium"
    )
    unknown = model.planner.next_tools("USR003", agent_id="AGT001", done=["locate"])
    first = model.planner.next_tools("USR003", agent_id="AGT001")

    assert ["format", "search"] == names(own)[:2]
    assert own.tools == similar.tools
    assert {"format", "search"} == set(names(unknown)[:2])
    assert "locate" == names(first)[0]
    assert 1 == pytest.approx(sum(each.probability for each in own.tools))
    assert [("AGT001", "TL003", 4, 1.0)] == [
        (each.agent_id, each.tool_id, each.calls, each.success_share) for each in own.tools[:1]
    ]


def test_a_session_in_the_middle(model: AgentModel) -> None:
    """A session, or its id, gives what was called so far; a call that the cache answered is part of it."""
    with model.session("USR001", "find a café near the stadium", category="cafe search") as session:
        with pytest.raises(ValidationError, match="agent_id"):
            model.next_tools(session)
        with session.process("step 1") as process, process.call("AGT001", "TL001") as call:
            call.mark("cache_hit")
        with counted(model.table) as calls:
            found = model.next_tools(session)
        with pytest.raises(ValidationError, match="user_id"):
            model.next_tools(session.session_id)

        assert ("locate",) == found.done
        assert "format" == names(found)[0]
        assert found == model.next_tools(session.session_id, user_id="USR001")
        assert [1] == [len(model.next_tools(session, limit=1).tools)]
        assert not calls["Scan"]


def test_what_may_fail_says_what_to_use(model: AgentModel) -> None:
    """A tool that often fails comes with a warning and a fallback, in a text of one line."""
    model.repository.put(Tool(agent_id="AGT002", tool_id="TL004", domain_id="DMN001", name="format"))
    tool = model.repository.tool("AGT001", "TL003")
    assert tool is not None
    tool.calls, tool.errors = 10, 6
    model.repository.put(tool)
    model.planner.load()

    found = model.planner.next_tools("USR001", agent_id="AGT001", done=["locate"], category="cafe search", limit=1)

    assert "fails_everywhere" == (found.tools[0].warning and found.tools[0].warning.code)
    assert ("AGT002", "TL003") == (found.tools[0].fallback and (found.tools[0].fallback.agent_id, "TL003"))
    text = found.as_prompt()
    assert text.startswith("Tools that are usually called next: `format` (")
    assert "`format`: Caution: 6 of 10 calls failed" in text
    assert "If it fails, use `format` of agent `AGT002`." in text
    assert 1 == len(text.splitlines()) == len(found.as_prompt(language="ko").splitlines())


def test_nothing_of_others_is_told_but_the_catalogue(model: AgentModel) -> None:
    """A tool that is not in the catalogue is in no sequence of the domain, and is never named to another user."""
    with (
        model.session("USR002", "mine", category="cafe search") as session,
        session.process("step") as process,
        process.call("AGT001", "TLsecret-of-mina") as call,
    ):
        call.result = "x"
    learn(model)
    model.publish(as_of=TODAY)
    domain = model.repository.domain("DMN001")

    assert domain is not None
    assert domain.sequences is not None
    assert {"locate", "search", "format"} == set(domain.sequences["tools"])
    found = model.planner.next_tools("USR003", agent_id="AGT001", category="cafe search")
    assert "secret" not in found.model_dump_json()


def test_what_is_not_known(model: AgentModel) -> None:
    """An agent without history has no next tool, and says so; one that does not exist is an error."""
    model.repository.put(
        Domain(domain_id="DMN002", name="trains"), Agent(agent_id="AGT009", domain_id="DMN002", name="rail")
    )
    found = model.planner.next_tools("USR001", agent_id="AGT009", category="cafe search")

    assert () == found.tools
    assert "It is not known which tool is usually called next." == found.as_prompt()
    with pytest.raises(NotFound, match="AGT077"):
        model.planner.next_tools("USR001", agent_id="AGT077")
    with pytest.raises(ValidationError, match="limit"):
        model.planner.next_tools("USR001", agent_id="AGT009", limit=0)


def test_what_is_measured_is_what_is_offered(model: AgentModel) -> None:
    """After a publish, `evaluate` and `next_tools` name the same tools for a run that comes next."""
    runs = runs_from_warehouse(model.warehouse)
    last = replace(runs[0], at=TODAY + days(1))
    (row,) = next_tools([*runs, last], train_share=len(runs) / (len(runs) + 1) + 0.001)
    hits = [
        names(model.planner.next_tools(last.user, agent_id=last.agent, done=last.tools[:at], category=last.category))
        for at in range(len(last.tools))
    ]

    assert row.cases == len(last.tools)
    assert row.top1 == sum(each[:1] == [tool] for each, tool in zip(hits, last.tools, strict=True)) / row.cases
    assert row.top3 == sum(tool in each for each, tool in zip(hits, last.tools, strict=True)) / row.cases


def test_a_publish_writes_sequences_once(model: AgentModel) -> None:
    """A second publish of the same history changes no domain."""
    assert 0 == model.publish(as_of=TODAY).domains
