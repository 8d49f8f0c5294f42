"""Suggestions against real engines: where a plan is looked for, what it holds, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from agentmodel import Agent, AgentModel, Domain, Settings, Tool, UserToolMapping
from agentmodel._values.categories import derived_name
from agentmodel.access.trace_import import ANONYMOUS
from agentmodel.exceptions import NotFound, TableUnavailable, ValidationError
from agentmodel.keys import EXECUTION
from agentmodel.suggest._chance import RunCounts, chance_of_success
from agentmodel.suggest._types import Failing, ToolRef
from agentmodel.suggest.plan import EmbeddingSimilarity, Planner
from tests.integration.suggest_world import TODAY, catalogue, learn, opened, run


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    with opened(settings) as model:
        catalogue(model, agents=3)
        yield model


def mapping(
    user_id: str,
    category: str,
    agent_id: str = "AGT001",
    *,
    requests: Sequence[str] = (),
    score: float = 1.0,
    runs: tuple[int, int] = (4, 4),
    tools: Sequence[str] = ("TL001", "TL002"),
    expires_at: datetime | None = None,
) -> UserToolMapping:
    """A mapping as a publish leaves it; ``runs`` are executions and successes."""
    keys = [EXECUTION.build(f"PRC{n:03d}", agent_id, tool, 1) for n, tool in enumerate(tools, start=1)]
    return UserToolMapping(
        user_id=user_id,
        category=category,
        processes={f"PRC{n:03d}": f"step {n}" for n, _ in enumerate(tools, start=1)},
        agents={agent_id: agent_id},
        tools=dict(zip(keys, tools, strict=True)),
        score=score,
        executions=runs[0],
        successes=runs[1],
        counts={key: [runs[0], runs[1]] for key in keys},
        requests=list(requests),
        expires_at=expires_at,
    )


class FailingTools:
    """A watch that knows these tools to fail."""

    def __init__(self, *places: ToolRef) -> None:
        self._places = places

    def failing(
        self, places: Iterable[ToolRef], tools: Mapping[ToolRef, Tool], /, *, user_id: str | None = None
    ) -> Mapping[ToolRef, Failing]:
        since = datetime(2025, 6, 14, tzinfo=UTC)
        return {place: Failing(since, "9 of 10 calls failed") for place in places if place in self._places}


CAFE = "find me a quiet café near the stadium"
KOREAN = "잠실종합운동장 근처 맛집 찾아줘"


def test_the_lookup_order(model: AgentModel) -> None:
    """Own category, own similar request, the category of all, similar requests of all, best agent: each in its turn."""
    repository = model.repository
    repository.put(Agent(agent_id="AGT003", domain_id="DMN001", name="best", score=9.0))
    found = []
    for made in (
        None,
        mapping("USR002", "places to drink", requests=["please find a quiet cafe near the stadium"]),
        mapping("USR002", "cafe search"),
        mapping("USR001", "old cafes", requests=["find a quiet café near the big stadium"]),
        mapping("USR001", "cafe search"),
    ):
        if made is not None:
            repository.put(made)
        model.planner.load()
        plan = model.suggest("USR001", category="cafe search", request=CAFE)
        found.append(plan.source)

    assert [
        "agent of the domain",
        "similar requests of all users",
        "similar users",
        "own similar request",
        "own mapping",
    ] == found


def test_a_plan_says_what_was_seen(model: AgentModel) -> None:
    """A plan from the user's history has its steps with share and calls, how sure it is, and alternatives."""
    for _ in range(3):
        run(model)
    run(model, failing=[2], succeeded=False)
    run(model, "USR002", "AGT002", tools=[2])
    learn(model)
    model.publish(as_of=TODAY)

    plan = model.suggest("USR001", category="cafe search")

    assert ("own mapping", "AGT001", "DMN001", 4) == (plan.source, plan.agent_id, plan.domain_id, plan.runs)
    assert [("step 1", "locate", 4, 1.0), ("step 2", "search", 4, 0.75), ("step 3", "format", 4, 1.0)] == [
        (step.process, step.tool, step.calls, step.success_share) for step in plan.steps
    ]
    assert plan.confidence is not None
    assert 0 < plan.confidence.low < 0.75 < plan.confidence.high < 1
    assert not plan.needs_review
    assert [("AGT002", ("search",), "similar users")] == [
        (other.agent_id, other.tools, other.source) for other in plan.alternatives
    ]


def test_korean_requests_find_korean_ones(model: AgentModel) -> None:
    """A request in Korean, spaced otherwise, finds the known one of another user among English ones; how similar it is, is not told."""
    model.repository.put(
        mapping("USR002", "맛집 검색", "AGT002", requests=["잠실 종합운동장 주변 맛집 찾아 줘"]),
        mapping("USR002", "trains", requests=["book a train to Busan", "부산 가는 기차표 예매해 줘"]),
    )

    model.planner.load()
    plan = model.suggest("USR001", request=KOREAN)

    assert ("similar requests of all users", "AGT002") == (plan.source, plan.agent_id)
    assert plan.similarity is None


def test_a_long_request_is_found_again(model: AgentModel) -> None:
    """Of a long request the beginning is kept, so only the beginning of what is asked is compared with it."""
    long = "summarise this contract for me\n\n" + "the tenant pays the rent on the first day of each month. " * 9_000
    run(model, "USR001", request=long[:20_000], category=None)
    learn(model)
    model.publish(as_of=TODAY)
    own = model.suggest("USR001", request=long)
    others = model.suggest("USR002", request=long)

    assert ("own similar request", 1.0) == (own.source, own.similarity)
    assert "similar requests of all users" == others.source


def test_what_others_asked_is_not_shown(model: AgentModel) -> None:
    """A plan found by another user's request says neither how similar it is nor in which words it was asked."""
    known = ["please find a quiet cafe near the stadium for my mother"]
    model.repository.put(mapping("USR002", "places to drink", requests=known))
    model.planner.load()
    of_another = model.suggest("USR001", request=CAFE)
    own = model.suggest("USR002", request=CAFE)

    assert ("similar requests of all users", None) == (of_another.source, of_another.similar_to)
    assert of_another.similarity is None
    assert [None] * len(of_another.steps) == [step.process for step in of_another.steps]
    assert "my mother" not in of_another.model_dump_json()
    assert ("own similar request", known[0]) == (own.source, own.similar_to)


def test_a_category_is_named_once_three_users_have_it(model: AgentModel) -> None:
    """The reasons of a plan from other users name its category from the third user on, who may be the one that asks."""
    told = []
    for user_id in ("USR002", "USR003", "USR004"):
        model.repository.put(mapping(user_id, "cafe search"))
        told.append("`cafe search`" in str(model.suggest("USR001", category="cafe search").reasons[0]))

    assert [False, False, True] == told


def test_anonymous_users_have_no_mapping_of_their_own(model: AgentModel) -> None:
    """What one anonymous user asked and did is shown to the next one as to any other: tools and numbers only."""
    model.repository.put(mapping(ANONYMOUS, "cafe search", requests=[CAFE]))
    model.planner.load()
    plans = [model.suggest(ANONYMOUS, category="cafe search"), model.suggest(ANONYMOUS, request=CAFE)]

    assert ["similar users", "similar requests of all users"] == [plan.source for plan in plans]
    assert {None} == {step.process for plan in plans for step in plan.steps}
    assert [(None, None)] * 2 == [(plan.similar_to, plan.similarity) for plan in plans]


def test_only_what_the_catalogue_has_is_taken_from_others(model: AgentModel) -> None:
    """A sequence of another user with a tool or an agent that is not in the catalogue is no plan, for others only."""
    model.repository.put(
        mapping("USR002", "cafe search", tools=["TL001", "TLmade-up"]), mapping("USR003", "cafe search", "AGTmade-up")
    )

    assert "agent of the domain" == model.suggest("USR001", category="cafe search").source
    assert "own mapping" == model.suggest("USR002", category="cafe search").source


def test_what_is_not_alike_is_not_taken(model: AgentModel) -> None:
    """Another request in the same language falls through to the best agent."""
    model.repository.put(mapping("USR001", "trains", requests=["book a train to Busan tomorrow morning"]))

    plan = model.suggest("USR001", request=CAFE)

    assert "agent of the domain" == plan.source


def test_embeddings_find_translations(model: AgentModel) -> None:
    """With an embedder of the caller's own, a translation counts as similar."""

    class Meanings:
        def embed(self, texts: Sequence[str], /) -> list[list[float]]:
            return [[1.0, 0.0] if "맛집" in text or "restaurant" in text else [0.0, 1.0] for text in texts]

    model.repository.put(mapping("USR002", "restaurants", "AGT002", requests=["find a restaurant"]))
    planner = Planner(model.repository, similarity=EmbeddingSimilarity(Meanings()))
    planner.load()

    plan = planner.suggest("USR001", request=KOREAN)

    assert ("similar requests of all users", "AGT002") == (plan.source, plan.agent_id)


def test_the_better_of_all_users_is_taken(model: AgentModel) -> None:
    """Among all users the ranking decides: by score, volume wins; by evidence, the share of success."""
    model.repository.put(
        mapping("USR002", "cafe search", "AGT001", score=8.0, runs=(50, 20)),
        mapping("USR003", "cafe search", "AGT002", score=3.0, runs=(10, 10)),
    )

    classic = Planner(model.repository).suggest("USR001", category="cafe search")
    evidence = Planner(model.repository, ranking="evidence").suggest("USR001", category="cafe search")

    assert ("AGT001", "AGT002") == (classic.agent_id, evidence.agent_id)


def test_the_beginning_of_a_category_finds_the_shortest(model: AgentModel) -> None:
    """Without a mapping of exactly the category, the shortest one counts that begins with it, the user's own first."""
    model.repository.put(
        mapping("USR001", "매장검색:카페,식당", "AGT002"),
        mapping("USR001", "매장검색:카페,식당,주점"),
        mapping("USR002", "매장검색:카페"),
    )

    own, others = (model.suggest(user, category="매장검색") for user in ("USR001", "USR003"))
    exact = model.suggest("USR001", category="매장검색:카페,식당,주점")

    assert ("own mapping", "AGT002") == (own.source, own.agent_id)
    assert "`매장검색:카페,식당` begins with it." in str(own.reasons[1])
    assert ("similar users", "AGT001") == (others.source, others.agent_id)
    assert "매장검색" not in " ".join(map(str, others.reasons))
    assert "AGT001" == exact.agent_id
    assert "begins" not in " ".join(map(str, exact.reasons))


def test_a_derived_category_is_nobody_elses(model: AgentModel) -> None:
    """No beginning finds a derived category, and its name is shown to nobody, however many users have one."""
    derived = derived_name("find a café for Mina")
    model.repository.put(*(mapping(f"USR00{n}", derived, requests=["find a café for Mina"]) for n in range(1, 6)))
    model.planner.load()

    plans = [model.suggest(user, category=derived) for user in ("USR001", "USR009")]
    plans += [model.suggest(user, request="find a café for Mina") for user in ("USR001", "USR009")]
    beginnings = [model.suggest("USR009", category=text).source for text in ("~", "~find a café")]

    assert ["own mapping", "similar users", "own similar request", "similar requests of all users"] == [
        plan.source for plan in plans
    ]
    assert all("~" not in plan.model_copy(update={"category": None}).model_dump_json() for plan in plans)
    assert "You made a similar request before (100 % similar): `find a café for Mina`." == str(plans[2].reasons[0])
    assert ["agent of the domain"] * 2 == beginnings


def test_a_sequence_with_a_failing_tool_gives_way(model: AgentModel) -> None:
    """What fails now is passed over for the next sequence, and named under avoid with its time."""
    model.repository.put(mapping("USR001", "cafe search", "AGT001"), mapping("USR002", "cafe search", "AGT002"))
    planner = Planner(model.repository, health=FailingTools(ToolRef("AGT001", "TL002")))

    plan = planner.suggest("USR001", category="cafe search")

    assert ("similar users", "AGT002", False) == (plan.source, plan.agent_id, plan.needs_review)
    assert [("AGT001", "TL002", "search", True)] == [(a.agent_id, a.tool_id, a.tool, a.failing_now) for a in plan.avoid]
    assert datetime(2025, 6, 14, tzinfo=UTC) == plan.avoid[0].since
    assert "A better sequence was passed over, because it uses a tool that is failing now." == str(plan.reasons[-1])


def test_where_every_sequence_fails_a_person_looks_first(model: AgentModel) -> None:
    """When nothing else is known the failing sequence is given, with the advice to ask a person."""
    model.repository.put(mapping("USR001", "cafe search", "AGT001"))
    planner = Planner(model.repository, health=FailingTools(ToolRef("AGT001", "TL002")))

    plan = planner.suggest("USR001", category="cafe search")

    assert ("own mapping", True) == (plan.source, plan.needs_review)
    assert ["The tool `search` of a step is failing now."] == list(map(str, plan.review_reasons))
    assert ("failing", None) == (plan.steps[1].warning and plan.steps[1].warning.code, plan.steps[0].warning)
    assert () == plan.avoid


def test_a_flagged_tool_asks_for_a_person(model: AgentModel) -> None:
    """A tool that is marked for review makes the plan ask for one."""
    tool = model.repository.tool("AGT001", "TL002")
    assert tool is not None
    tool.needs_review = True
    model.repository.put(tool, mapping("USR001", "cafe search"))

    plan = model.suggest("USR001", category="cafe search")
    assert ["`search` may only be called after a person approved."] == list(map(str, plan.review_reasons))


def test_little_evidence_asks_for_a_person(model: AgentModel) -> None:
    """What succeeded seldom is given with the advice to ask a person, and so is nothing at all."""
    model.repository.put(mapping("USR001", "cafe search", runs=(8, 1)))

    seldom = model.suggest("USR001", category="cafe search")
    untried = Planner(model.repository).suggest("USR001", domain_id="DMN001")  # no agent ever ran

    assert seldom.needs_review
    assert untried.needs_review
    for plan in (seldom, untried):
        assert plan.confidence is not None
        low = round(100 * plan.confidence.low)
        assert (f"Little is known of it: it may succeed in as few as {low} % of cases.",) == tuple(
            map(str, plan.review_reasons)
        )


def test_the_chance_of_success_asks_for_a_person(settings: Settings) -> None:
    """It is that of agent and category, as published; below the bound, or in the least likely share, a person is asked."""
    with opened(settings.model_copy(update={"review_share": 0.5})) as model:
        catalogue(model)
        for number in range(8):
            run(model, succeeded=number > 0)
            run(model, "USR002", category="hard", tools=[2], succeeded=number == 0)
        learn(model)
        model.publish(as_of=TODAY)
        share = model.repository.domain("DMN001")
        easy, hard = (
            model.suggest(user, category=kind) for user, kind in (("USR001", "cafe search"), ("USR002", "hard"))
        )
        unknown = model.suggest("USR003", category="never asked", domain_id="DMN001")
        calm = Planner(model.repository, review_below=0.0).suggest("USR002", category="hard")
        wanted = chance_of_success(RunCounts(8, 16), RunCounts(1, 8), RunCounts(8, 16))

        assert easy.confidence is not None
        assert hard.confidence is not None
        assert wanted == pytest.approx(hard.confidence.mean)
        assert hard.confidence.low <= wanted <= hard.confidence.high
        assert 0.5 == pytest.approx(unknown.confidence.mean if unknown.confidence else None)
        assert share is not None
        assert easy.confidence.mean == pytest.approx(share.review_below, abs=2e-6)
        assert (False, True, True) == (easy.needs_review, hard.needs_review, calm.needs_review)
        assert f"It is expected to succeed in only {round(100 * wanted)} % of cases." in map(str, hard.review_reasons)

    model_of_bound = settings.model_copy(update={"review_share": None})
    with opened(model_of_bound) as model:
        model.publish(as_of=TODAY)
        found = {
            below: Planner(model.repository, review_below=below).suggest("USR002", category="hard")
            for below in (0.1, 0.3)
        }

    assert {0.1: False, 0.3: True} == {below: plan.needs_review for below, plan in found.items()}


def test_nothing_known(settings: Settings) -> None:
    """Without domain and history the plan says so, and asks for a person."""
    with opened(settings) as model:
        plan = model.suggest("USR001", category="cafe search")

    assert ("nothing known", None, (), True) == (plan.source, plan.agent_id, plan.steps, plan.needs_review)
    assert "No plan is known for requests of this kind." in plan.as_prompt()


def test_the_domain_narrows(model: AgentModel) -> None:
    """A mapping whose agent works in another domain is not taken for this one."""
    model.repository.put(Domain(domain_id="DMN002", name="trains"), mapping("USR001", "cafe search"))

    assert "own mapping" == model.suggest("USR001", category="cafe search", domain_id="DMN001").source
    assert "nothing known" == model.suggest("USR001", category="cafe search", domain_id="DMN002").source


def test_expired_mappings_are_not_taken(model: AgentModel) -> None:
    """A mapping that has expired but is not deleted yet is as if it were not there."""
    past = datetime.now(UTC) - timedelta(seconds=2)
    model.repository.put(mapping("USR001", "cafe search", requests=[CAFE], expires_at=past))

    assert "agent of the domain" == model.suggest("USR001", category="cafe search", request=CAFE).source


def test_bad_questions_are_refused(model: AgentModel) -> None:
    """An id that is none, a domain that does not exist and a question about nothing are refused."""
    with pytest.raises(ValidationError, match="user_id"):
        model.suggest("AGT001", category="cafe search")
    with pytest.raises(ValidationError, match="must be given, or a request or a domain_id"):
        model.suggest("USR001")
    with pytest.raises(NotFound, match="DMN009"):
        model.suggest("USR001", domain_id="DMN009")


def test_a_suggestion_learns_what_became_of_it(model: AgentModel) -> None:
    """The suggestion is kept with its candidates; the session that was begun with it says if it was followed."""
    model.repository.put(mapping("USR001", "cafe search"), mapping("USR002", "cafe search", "AGT002", score=0.5))
    followed = model.suggest("USR001", category="cafe search")
    other = model.suggest("USR001", category="cafe search")
    ignored = model.suggest("USR001", category="cafe search")
    with model.session("USR001", CAFE, category="cafe search", plan=followed) as session:
        for tool in ("TL001", "TL003", "TL002"):
            with session.process("step") as process, process.call("AGT001", tool):
                pass
    with (
        model.session("USR001", CAFE, category="cafe search", plan=other) as session,
        session.process("step") as process,
        process.call("AGT002", "TL002") as call,
    ):
        call.fail("no answer")
    kept = {each.suggestion_id: each for each in model.suggestions.of_user("USR001")}

    assert [followed.suggestion_id, other.suggestion_id, ignored.suggestion_id] == list(kept)
    first, second, third = kept.values()
    assert ("AGT001", {"AGT001": 1.0, "AGT002": 0.5}, 1.0) == (first.choice, first.candidates, first.propensity)
    assert (True, "AGT001", True) == (first.followed, first.taken, first.succeeded)
    assert (False, "AGT002", False) == (second.followed, second.taken, second.succeeded)
    assert (None, None, None) == (third.followed, third.taken, third.session_id)
    assert 3 == sum(1 for _ in model.suggestions.all())


def test_a_suggestion_that_cannot_be_kept_is_given(
    model: AgentModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the table takes no writes the plan is given all the same, without an id, and a warning says so."""
    model.repository.put(mapping("USR001", "cafe search"))

    def refuse(entity: object) -> None:
        raise TableUnavailable("no writes")

    monkeypatch.setattr(model.writer, "put_new", refuse)
    plan = model.suggest("USR001", category="cafe search")

    assert ("own mapping", None) == (plan.source, plan.suggestion_id)
    assert "was not written into the log: no writes" in caplog.text


def test_exploring_gives_others_a_chance(model: AgentModel) -> None:
    """With a share to explore, every agent of the domain is drawn at times, and how likely it was is kept."""
    for n, score in ((1, 5.0), (2, 3.0), (3, 1.0)):
        model.repository.put(Agent(agent_id=f"AGT{n:03d}", domain_id="DMN001", name=f"agent {n}", score=score))
    draws = iter([0.1, 0.9, 0.5, 0.05, 0.4])  # explore and draw the last; do not; explore and draw the second
    planner = Planner(model.repository, log=model.suggestions, explore=0.3, random_number=lambda: next(draws))

    plans = [planner.suggest("USR001", domain_id="DMN001") for _ in range(3)]
    kept = model.suggestions.of_user("USR001")

    assert ["AGT003", "AGT001", "AGT002"] == [plan.agent_id for plan in plans]
    assert [0.1, 0.8, 0.1] == pytest.approx([each.propensity for each in kept])


def test_the_agent_that_could_be_the_best_is_tried(model: AgentModel) -> None:
    """With the upper bound, the agent whose interval reaches highest is chosen, whatever its rank; that is certain."""
    numbers = ((1, 9.0, 0.7, 0.8), (2, 8.0, 0.6, 0.75), (3, 7.0, 0.5, 0.7), (4, 6.0, 0.5, 0.6), (5, 5.0, 0.4, 0.9))
    for n, score, mean, high in numbers:
        agent = Agent(agent_id=f"AGT{n:03d}", domain_id="DMN001", name=f"agent {n}", score=score, executions=9)
        agent.evidence, agent.evidence_low, agent.evidence_high = mean, 0.1, high
        model.repository.put(agent)
    planner = Planner(model.repository, log=model.suggestions, explore="upper-bound")

    plan = planner.suggest("USR001", domain_id="DMN001")
    kept = model.suggestions.of_user("USR001")[-1]

    assert ("AGT005", "agent of the domain", 3) == (plan.agent_id, plan.source, len(plan.alternatives))
    assert "`agent 5` could be the best agent: by its runs it succeeds in up to 90 % of cases." in str(plan.reasons[0])
    assert (1.0, "AGT005", 5) == (kept.propensity, kept.choice, len(kept.candidates))
