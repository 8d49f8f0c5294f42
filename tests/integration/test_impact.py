"""Plans are withheld at random, recorded, counted by one statement, and stopped where they do harm."""

from __future__ import annotations

import logging
import math
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from agentmodel import Agent, AgentModel, Domain, Settings, UserSession
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import Suggestion
from agentmodel.embedded import ValkeyServer
from agentmodel.exceptions import NotFound, ValidationError
from agentmodel.integrations._enforcer import RunEnforcer
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.keys import format_time
from agentmodel.redshift.reports import PlanSums, plan_sums
from agentmodel.suggest.plan import Plan
from tests.integration.suggest_world import TODAY, catalogue, learn, opened, run

CAFE = "cafe search"


@pytest.fixture(scope="module")
def model(
    dynamodb_endpoint: str, valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AgentModel]:
    """An installation that knows a plan, and withholds half of all plans; the tests have domains of their own."""
    settings = Settings.load(
        table=f"Test-{uuid.uuid4().hex[:12]}", endpoint=dynamodb_endpoint, access_key_id="test",
        secret_access_key="test", dynamodb_timeout=10.0, valkey_url=valkey_server.url, valkey_timeout=2.0,
        valkey_prefix="impact", holdout=0.5,
        warehouse_url=f"duckdb:///{tmp_path_factory.mktemp('impact') / 'warehouse.duckdb'}",
    )  # fmt: skip
    with opened(settings) as model:
        catalogue(model)
        for n in range(2):
            run(model, succeeded=n == 0)
        learn(model)
        model.publish(as_of=TODAY)
        yield model


def plans(model: AgentModel, count: int = 30, **asked: str) -> tuple[list[Plan], list[Plan]]:
    """Some plans that are given, and some that are withheld."""
    found = [model.suggest("USR001", **(asked or {"category": CAFE})) for _ in range(count)]
    return [each for each in found if each.source != "withheld"], [each for each in found if each.source == "withheld"]


def kept(model: AgentModel, plan: Plan) -> Suggestion:
    assert plan.suggestion_id is not None
    found = model.table.get(Suggestion.at(plan.user_id, plan.suggestion_id), consistent=True)
    assert found is not None
    return found


def test_a_withheld_plan_is_recorded_and_not_given(model: AgentModel) -> None:
    """The log has the whole plan, whether it was withheld, and the share; who asked gets nothing of it but why."""
    given, withheld = plans(model)
    one, none = kept(model, given[0]), kept(model, withheld[0])

    assert 5 < len(withheld) < 25
    assert ("own mapping", "AGT001", ["TL001", "TL002", "TL003"]) == (one.source, one.choice, one.steps)
    assert (one.source, one.choice, one.steps, one.candidates) == (
        none.source, none.choice, none.steps, none.candidates,
    )  # fmt: skip
    assert (False, 0.5, True, 0.5) == (one.withheld, one.holdout, none.withheld, none.holdout)
    bare = Plan(
        user_id="USR001", category=CAFE, source="withheld", suggestion_id=withheld[0].suggestion_id,
        reasons=withheld[0].reasons,
    )  # fmt: skip
    assert bare == withheld[0]
    assert ["held_out"] == [each.code for each in bare.reasons]
    assert ("", "") == (bare.as_prompt(), bare.as_prompt(language="ko"))


def test_where_nothing_is_known_nothing_is_withheld(model: AgentModel) -> None:
    """A request without a plan is not in the comparison."""
    model.repository.put(Domain(domain_id="DMN009", name="empty"))
    found = model.suggest("USR001", domain_id="DMN009")

    assert "nothing known" == found.source
    assert (False, None) == (kept(model, found).withheld, kept(model, found).holdout)


def test_all_plans_of_a_session_are_given_or_withheld(model: AgentModel) -> None:
    """The session decides, by whichever entry point its plans are made, and records the first of them."""
    seen = set()
    for number in range(8):
        session_id = f"SESS{number}"
        ways = [model.suggest("USR001", category=CAFE, session_id=session_id)]
        guarded = model.guard().plan("USR001", category=CAFE, session_id=session_id)
        with model.session("USR001", category=CAFE, session_id=session_id) as session:
            ways += [model.suggest("USR001", category=CAFE) for _ in range(2)]
            other = model.suggest("USR002", category=CAFE)

            assert session.entity.suggestion_id == ways[1].suggestion_id != other.suggestion_id
        assert guarded is not None
        sources = {each.source == "withheld" for each in (*ways, guarded)}

        assert 1 == len(sources)
        seen |= sources
    assert {True, False} == seen


def test_a_framework_gets_no_text_of_a_withheld_plan(model: AgentModel) -> None:
    """What the integrations share asks by the session of the run, so a run has one answer."""
    with Tracker(model, domain="store search") as tracker:
        enforcer = RunEnforcer(model.guard(), tracker)
        runs = [tracker.run(f"thread {number}", user="USR001") for number in range(12)]
        made = [[enforcer.plan(each, request=None, category=CAFE) for _ in range(2)] for each in runs]
    sources = [{plan.source for plan in both if plan is not None} for both in made]

    assert all(1 == len(each) for each in sources)
    assert {"withheld", "own mapping"} == set().union(*sources)


def test_the_next_tools_of_such_a_session_are_withheld_too(model: AgentModel) -> None:
    """A session without its plan gets no other advice on what to call."""
    given, withheld = plans(model)
    told = []
    for plan in (given[0], withheld[0]):
        with (
            model.session("USR001", category=CAFE, plan=plan) as session,
            session.process("locate") as process,
            process.call("AGT001", "TL001"),
        ):
            pass
        told.append(model.next_tools(session))

    assert ["search"] == [each.tool for each in told[0].tools[:1]]
    assert ((), True, "") == (told[1].tools, told[1].withheld, told[1].as_prompt())


def recorded(model: AgentModel) -> dict[tuple[str, float, bool], list[tuple[bool, int, int | None]]]:
    """Sessions of two categories with tokens in some, outcomes of all kinds; what is expected of each arm."""
    expected = defaultdict(list)
    for number in range(24):
        category = ("counted", "counted too")[number % 2]
        plan = model.suggest("USR003", category=category, domain_id="DMN001")
        calls, tokens = number % 3, None
        with model.session("USR003", f"request {number}", category=category, plan=plan) as session:
            for at in range(calls):
                with session.process("locate") as process, process.call("AGT001", "TL001") as call:
                    if number % 4 == 1:
                        call.fail("no answer")
                    if number % 5:
                        call.input_tokens, tokens = 10 * number + at, (tokens or 0) + 10 * number + at
            if number % 4 == 0:
                session.succeed()
        succeeded = {0: True, 1: False if calls else None}.get(number % 4, True if calls else None)
        if number % 8 == 3:
            asked = model.reviews.ask("USR003", session.session_id, "Was it right?", phase="post")
            model.reviews.verdict(asked, "wrong", by="USR002")
            succeeded = False
        if succeeded is not None:
            expected[category, 0.5, plan.source == "withheld"].append((succeeded, calls, tokens))
    return expected


def counted(model: AgentModel) -> dict[tuple[str, float, bool], PlanSums]:
    rows = (row for row in plan_sums(model.warehouse) if row.category.startswith("counted"))
    return {(row.category, row.share, row.withheld): row for row in rows}


def sums(costs: list[int]) -> tuple[int, float, float, float]:
    logs = [math.log1p(each) for each in costs]
    return len(costs), sum(costs), sum(logs), sum(each**2 for each in logs)


def test_the_statement_counts_what_happened(model: AgentModel) -> None:
    """Success, calls and tokens of each arm are those of its sessions, also where a person corrected the outcome."""
    expected = recorded(model)
    learn(model)
    found = counted(model)

    assert set(expected) == set(found)
    check(expected, found)
    model.refresh(full=True)
    check(expected, counted(model))
    model.erase_user("USR003")
    assert {} == counted(model)


def check(
    expected: dict[tuple[str, float, bool], list[tuple[bool, int, int | None]]],
    found: dict[tuple[str, float, bool], PlanSums],
) -> None:
    for key, rows in expected.items():
        row = found[key]
        assert ("DMN001", len(rows), sum(each[0] for each in rows)) == (row.domain_id, row.sessions, row.successes)
        assert sums([each[1] for each in rows]) == pytest.approx(tuple(vars(row.calls).values()))
        assert sums([each[2] for each in rows if each[2] is not None]) == pytest.approx(
            tuple(vars(row.tokens).values())
        )
        assert row.sessions == row.seconds.sessions


def sessions(
    model: AgentModel, domain: str, counts: dict[bool, tuple[int, int]], *, since: datetime | None = None
) -> None:
    """Land ended sessions: of those with their plan given (False) or withheld (True), how many of how many succeed."""
    at = datetime.now(UTC)
    entities: list[Entity] = []
    for withheld, (good, of) in counts.items():
        for number in range(of):
            session_id = f"SESS{domain}-{since is None:d}{withheld:d}-{number}"
            entities += [
                UserSession(
                    user_id="USR001", session_id=session_id, name="n", category=CAFE, started_at=at,
                    ended_at=at + timedelta(seconds=number), succeeded=number < good,
                ),
                Suggestion(
                    user_id="USR001", suggestion_id=f"{format_time('at', at)}-{session_id}", suggested_at=at,
                    source="own mapping", category=CAFE, domain_id=domain, choice="AGT001", candidates={}, steps=[],
                    withheld=withheld, holdout=0.5, plans_since=since, session_id=session_id,
                ),
            ]  # fmt: skip
    model.warehouse.land([model.table.item(each) for each in entities], at=at, complete=False)
    model.warehouse.refresh(as_of=at)


def test_plans_that_do_harm_are_stopped_until_a_person_resumes_them(
    model: AgentModel, caplog: pytest.LogCaptureFixture
) -> None:
    """The next publish stops them in that domain alone, once, with a warning; what was before the person does not count."""
    for number in (2, 3):
        model.repository.put(
            Domain(domain_id=f"DMN00{number}", name="trains"),
            Agent(agent_id=f"AGT20{number}", domain_id=f"DMN00{number}", name="conductor"),
        )
    sessions(model, "DMN002", {False: (20, 100), True: (75, 100)})
    sessions(model, "DMN003", {False: (50, 100), True: (50, 100)})

    with caplog.at_level(logging.WARNING, logger="agentmodel"):
        published = [model.publish(as_of=TODAY).stopped for _ in range(2)]
    found = {(row.domain_id, row.category): row for row in model.impact().rows}

    assert [1, 0] == published
    assert 1 == sum("impact.plans_stopped" in each.message for each in caplog.records)
    assert ("harms", "no difference shown") == (found["DMN002", None].verdict, found["DMN003", None].verdict)
    assert (0.2, 0.75) == pytest.approx(
        (found["DMN002", None].success.with_plan, found["DMN002", None].success.without_plan)
    )
    assert None is not found["DMN002", None].stopped_at
    assert None is found["DMN003", None].stopped_at
    given, withheld = plans(model, 10, domain_id="DMN002")
    assert ([], {"plans_stopped"}) == (given, {each.reasons[0].code for each in withheld})
    assert (True, None) == (kept(model, withheld[0]).withheld, kept(model, withheld[0]).holdout)

    model.resume_plans("DMN002")
    given, _ = plans(model, 20, domain_id="DMN002")
    domain = model.repository.domain("DMN002")
    assert domain is not None
    assert given
    assert domain.plans_resumed_at == kept(model, given[0]).plans_since
    assert 0 == model.publish(as_of=TODAY).stopped
    assert "nothing withheld" == next(row.verdict for row in model.impact().rows if row.domain_id == "DMN002")
    sessions(model, "DMN002", {False: (95, 100), True: (40, 100)}, since=domain.plans_resumed_at)
    assert "helps" == next(row.verdict for row in model.impact().rows if row.domain_id == "DMN002")


def test_only_what_was_stopped_is_resumed(model: AgentModel) -> None:
    """A domain that does not exist, and one that has its plans, are refused."""
    with pytest.raises(NotFound, match="DMN404"):
        model.resume_plans("DMN404")
    with pytest.raises(ValidationError, match="domain_id"):
        model.resume_plans("DMN001")
