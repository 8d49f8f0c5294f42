"""Revisions of agents: recorded by every way in, fading in scores, shown by `agents`, and reported when they got worse."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from agentmodel import AgentModel, Settings
from agentmodel.dynamo.models import Agent, Domain, Tool
from agentmodel.exceptions import ConfigurationError, ValidationError
from agentmodel.integrations._tracking.revisions import fingerprint
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.redshift import reports, score
from agentmodel.redshift.warehouse import Warehouse

USER = "USR001"


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        model.repository.put(
            Domain(domain_id="DMN001", name="cafes"),
            *(Agent(agent_id=f"AGT00{number}", domain_id="DMN001", name=f"agent {number}") for number in (1, 2)),
            *(Tool(agent_id=f"AGT00{number}", tool_id="TL001", domain_id="DMN001", name="find") for number in (1, 2)),
        )
        yield model


def runs(
    model: AgentModel, revision: str | None, *succeeded: bool, agent: str = "AGT001", of_call: str | None = None
) -> None:
    for good in succeeded:
        with model.session(USER, category="cafe search", revision=revision) as session:
            with session.process("locate") as process, process.call(agent, "TL001", revision=of_call) as call:
                call.result = "found"
            session.entity.succeeded = good


def learn(model: AgentModel, *, full: bool = False) -> dict[str, reports.AgentScore]:
    model.drain()
    done = model.refresh(full=full)
    return {row.agent_id: row for row in reports.agent_ranking(model.warehouse, as_of=done.as_of)}


def recorded(model: AgentModel) -> set[str | None]:
    model.drain()
    calls = (item for item in model.table.scan() if item["EntityType"]["S"] == "UserSessPrcToolMappHist")
    return {call.get("AgentVer", {}).get("S") for call in calls}


class TestScores:
    def test_earlier_revisions_are_a_fading_prior(self, model: AgentModel) -> None:
        """100 good runs of v1 count as at most ten beside v2, and half of that after ten runs of v2."""
        model.repository.update(Agent.at("AGT001"), Agent.description.to("a finder"))
        runs(model, "v1", *[True] * 40)
        before = learn(model)["AGT001"]
        runs(model, "v2", *[False] * 2)
        after = learn(model)["AGT001"]

        assert ("v1", 40, 40, 40.0) == (
            before.revision, before.revision_executions, before.revision_successes, round(before.score, 6)
        )  # fmt: skip
        assert ("v2", 2, 0, 42, 40) == (
            after.revision, after.revision_executions, after.revision_successes, after.executions, after.successes
        )  # fmt: skip
        weight = score.revision_weight(2, 40, prior=10)
        counted, good = 2 + 40 * weight, 40 * weight
        assert counted * (good / counted) ** 2 == pytest.approx(after.score)
        assert after.evidence < before.evidence - 0.1
        assert after == learn(model, full=True)["AGT001"]

    def test_an_agent_without_revisions_is_counted_as_before(self, model: AgentModel) -> None:
        """Nothing fades where no revision is known; runs from before the first one are its predecessors."""
        runs(model, None, True, True)
        assert (None, 2.0) == ((row := learn(model)["AGT001"]).revision, row.score)
        runs(model, "v1", True)
        row = learn(model)["AGT001"]
        assert ("v1", 1, 3) == (row.revision, row.revision_executions, row.executions)
        assert 1 + 2 * score.revision_weight(1, 2) == pytest.approx(row.score)

    def test_the_last_call_of_a_day_decides(self, model: AgentModel) -> None:
        """Of two revisions on one day the one that was called last is present: going back is a change, too."""
        runs(model, "v2", True)
        runs(model, "v1", True)
        assert "v1" == learn(model)["AGT001"].revision
        runs(model, "v2", True)
        assert "v2" == learn(model)["AGT001"].revision

    def test_a_setting_says_how_much_they_count(self, settings: Settings) -> None:
        """The prior is at least one execution."""
        with AgentModel.from_settings(settings.model_copy(update={"revision_prior": 3.0})) as model:
            assert 3.0 == model.warehouse.revision_prior
        with pytest.raises(ConfigurationError, match="revision_prior is 0"):
            Warehouse.open("duckdb://", revision_prior=0)

    def test_a_warehouse_of_before_gets_the_columns(self, model: AgentModel) -> None:
        """What an older version made goes on: its executions are of an unknown revision."""
        runs(model, None, True)
        learn(model)
        with model.warehouse.begin() as connection:
            for table in ("agent_execution", "user_tool_mapping_hist"):
                connection.execute(text(f"ALTER TABLE {table} DROP COLUMN agentver"))
            connection.execute(text("ALTER TABLE agent_daily DROP COLUMN agentver"))
        model.warehouse.migrate()
        runs(model, "v1", True)

        row = learn(model)["AGT001"]
        assert ("v1", 1, 2) == (row.revision, row.revision_executions, row.executions)
        assert row == learn(model, full=True)["AGT001"]


class TestReports:
    def test_a_regression_is_reported(self, model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
        """A revision that is clearly worse is logged once, marked in the catalogue, and asks for a person."""
        runs(model, "v1", *[True] * 20)
        learn(model)
        model.publish()
        runs(model, "v2", *[False] * 5, True)
        learn(model)
        with caplog.at_level(logging.WARNING, logger="agentmodel"):
            first, again = model.publish(), model.publish()
        agent = model.repository.agent("AGT001")

        assert agent is not None
        assert ("regressed", "v2", 6, 1) == (
            agent.health, agent.ranked_revision, agent.revision_executions, agent.revision_successes
        )  # fmt: skip
        assert (1, 0) == (first.regressed, again.regressed)
        assert 1 == sum("agent.regressed" in line for line in caplog.messages)
        assert any("has become worse" in reason for reason in model.reviews.needed("AGT001", "TL001"))
        plan = model.suggest("USR002", domain_id="DMN001")
        assert ("AGT001", True) == (plan.agent_id, plan.needs_review)
        assert "Since its present revision, `agent 1` succeeds less often: in 1 of 6 runs." in [
            str(reason) for reason in plan.review_reasons
        ]
        runs(model, "v1", *[True] * 3)  # back to what worked
        learn(model)
        model.publish()
        agent = model.repository.agent("AGT001")
        assert agent is not None
        assert (None, "v1", None) == (agent.health, agent.ranked_revision, agent.health_note)

    def test_a_few_failures_are_no_regression(self, model: AgentModel) -> None:
        """While the intervals overlap nothing is said."""
        runs(model, "v1", *[True] * 8, False)
        runs(model, "v2", False, True, True)
        learn(model)
        assert 0 == model.publish().regressed


class TestRecording:
    def test_python(self, model: AgentModel) -> None:
        """A call's own comes before its session's, and that before the catalogue's."""
        model.repository.update(Agent.at("AGT002"), Agent.revision.to("catalogue"))
        runs(model, "session", True)
        runs(model, "session", True, of_call="call")
        runs(model, None, True, agent="AGT002")

        assert {"session", "call", "catalogue"} == recorded(model)

    def test_functions(self, model: AgentModel) -> None:
        """A function's own comes before its session's."""

        @model.tool(agent="AGT001", domain="DMN001", revision="tool")
        def find() -> str:
            return "found"

        @model.tool(agent="AGT001", domain="DMN001")
        def look() -> str:
            return "found"

        with model.session(USER, revision="session"):
            find()
            look()

        assert {"tool", "session"} == recorded(model)

    def test_trackers(self, model: AgentModel) -> None:
        """A tracker knows the revision of each agent by its name, or makes one of what the framework shows."""
        with Tracker(model, domain="support", revisions={"finder": "v3"}) as tracker:
            tracker.run("t-1").call("c1", agent="finder", tool="search", status="ok")
            tracker.run("t-1").call("c2", agent="other", tool="search", status="ok")
            tracker.revisions.see("finder", prompt="x", model="m", tools=list)  # not asked for
        assert {"v3", None} == recorded(model)
        with Tracker(model, domain="support", revisions="auto") as tracker:
            tracker.revisions.see("finder", prompt="Find it.", model="m", tools=lambda: [["search", "…"]])
            tracker.run("t-2").call("c1", agent="finder", tool="search", status="ok")
        assert {"v3", None, fingerprint("Find it.", "m", [["search", "…"]])} == recorded(model)
        with pytest.raises(ValidationError, match="must be auto, or map names"):
            Tracker(model, revisions="v3")  # type: ignore[arg-type]  # that is what is wrong

    def test_a_fingerprint(self) -> None:
        """It differs where prompt, model or a tool differs, and not by the order of the tools."""
        given = [("p", "m", ["a", "b"]), ("q", "m", ["a", "b"]), ("p", "n", ["a", "b"]), ("p", "m", ["a"])]
        assert 4 == len({fingerprint(*one) for one in given})
        assert fingerprint("p", "m", ["a", "b"]) == fingerprint("p", "m", ["b", "a"])

    def test_traces(self, model: AgentModel, tmp_path: Path) -> None:
        """A line may have one; a line without one is the call that it always was."""
        line = {"domain": "d", "agent": "a", "user": "u", "session": "s", "tool": "t", "success": True}
        path = tmp_path / "t.jsonl"
        path.write_text(
            "".join(json.dumps(one) + "\n" for one in (line | {"step": 1}, line | {"step": 2, "revision": "v9"}))
        )
        model.import_traces(path)

        assert {None, "v9"} == recorded(model)
        assert 2 == model.import_traces(path).repeated
