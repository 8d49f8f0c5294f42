"""The evaluation: what it measures on history whose answer is known, and on real runs."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agentmodel import Settings
from agentmodel.dynamo.models import Suggestion
from agentmodel.exceptions import ValidationError
from agentmodel.suggest._sequences import Followers, likely_next
from agentmodel.suggest.evaluate import (
    RANKINGS,
    AgentHistory,
    AnswerRow,
    ReplayedCall,
    ReplayedRun,
    best_scored,
    evaluate,
    off_policy,
    prefer,
    runs_from_traces,
    uniform,
)
from agentmodel.suggest.evaluate._answers import answers
from agentmodel.suggest.evaluate._evaluation import (
    _area,
    calibration,
    calibration_error,
    chances,
    next_tools,
    plans,
    ranking_regret,
)
from agentmodel.suggest.evaluate._replay import by_domain, planned
from agentmodel.suggest.evaluate._requests import requests

TRACES = Path(__file__).parents[2].parent / "shared" / "data" / "traces"
DAY = datetime(2025, 6, 1, tzinfo=UTC)


def made(
    agent: str, at: int, *, succeeded: bool, tools: tuple[str, ...] = ("a", "b"), category: str = "c"
) -> ReplayedRun:
    return ReplayedRun("domain", agent, "user", category, DAY + timedelta(hours=at), tools, succeeded)


@pytest.fixture(scope="module")
def real() -> list[ReplayedRun]:
    files = sorted(TRACES.glob("*.jsonl.gz"))
    if not files:
        pytest.skip("the real traces are not beside this checkout")
    return runs_from_traces(files)


def test_a_ranking_that_knows_has_no_regret() -> None:
    """Where the busy agent is the bad one, evidence chooses the good one, and volume does not."""
    draw = random.Random(1)  # noqa: S311  # a simulation
    runs = [made("good", 10 * n, succeeded=True) for n in range(20)]
    runs += [made("busy", 10 * (n // 4) + 1 + n % 4, succeeded=draw.random() < 0.5) for n in range(80)]

    rows = {row.ranking: row for row in ranking_regret(runs)}

    assert set(RANKINGS) == set(rows)
    assert (0.0, 1.0) == (rows["evidence"].regret, rows["evidence"].hits)
    assert rows["most used"].regret > 0.3
    assert 0.0 < rows["random"].regret < rows["most used"].regret
    assert 1 == len({row.cases for row in rows.values()})


def test_an_interval_is_that_of_other_tasks() -> None:
    """Choices that the same few tasks judge are no independent proof: the interval is wide, however many they are."""
    wide, narrow = (
        {
            row.ranking: row
            for row in ranking_regret(
                made(agent, n, succeeded=(n % tasks + skill) % 3 > 0, category=f"task {n % tasks}")
                for n in range(300)
                for skill, agent in enumerate(("a", "b"))
            )
        }
        for tasks in (4, 100)
    )

    assert {235} == {row.cases for row in (*wide.values(), *narrow.values())}
    for ranking in RANKINGS:
        assert wide[ranking].high > 2 * narrow[ranking].high
        assert narrow[ranking].low <= narrow[ranking].regret < narrow[ranking].high


def test_the_future_is_not_known() -> None:
    """What is judged is decided before it is learnt: a change of quality costs the rankings that look back."""
    runs = [made(agent, n, succeeded=(agent == "old") == (n < 60)) for n in range(100) for agent in ("old", "new")]

    rows = {row.ranking: row for row in ranking_regret(runs)}

    assert (1.0, 0.0) == (rows["classic"].regret, rows["classic"].hits)


def test_runs_without_a_time_come_first() -> None:
    """Runs of unknown time are learnt from before all others, in the order they were given."""
    undated = ReplayedRun("domain", "a", "user", "c", None, ("x",), succeeded=True)

    assert [undated, made("a", 1, succeeded=True)] == by_domain([made("a", 1, succeeded=True), undated])["domain"]


def test_a_share_that_is_none_is_refused() -> None:
    """Learning from everything leaves nothing to judge."""
    with pytest.raises(ValidationError, match="train_share"):
        evaluate([made("a", 1, succeeded=True)], train_share=1.0)


def test_nothing_to_judge_gives_no_rows() -> None:
    """Without runs there are no figures, rather than zeros."""
    found = evaluate([])

    assert (0, (), (), (), (), (), (), ()) == (
        found.runs, found.rankings, found.regimes, found.plans, found.requests, found.next_tools, found.calibration, found.chances,
    )  # fmt: skip


def test_the_plan_is_the_best_then_the_most_central() -> None:
    """What succeeded more often is planned; of sequences that were run once, the one nearest to all."""
    often = [made("a", 1, succeeded=True, tools=("z",)), made("a", 2, succeeded=True, tools=("z",))]
    once = [("a", "b", "c"), ("a", "b"), ("a", "b", "d")]

    assert ("z",) == planned([*often, made("a", 3, succeeded=True)])
    assert ("a", "b") == planned([made("a", n, succeeded=True, tools=tools) for n, tools in enumerate(once)])
    assert planned([made("a", 1, succeeded=False)]) is None


def test_plans_are_compared_with_later_successes() -> None:
    """Equal, nearly equal and other sequences are told apart; failed runs are no model."""
    runs = [made("a", n, succeeded=True, tools=("x", "y")) for n in range(6)]
    runs += [
        made("a", 7, succeeded=True, tools=("x", "y")),
        made("b", 8, succeeded=True, tools=("x", "y", "z", "w")),
        made("a", 9, succeeded=False, tools=("q",)),
        made("a", 10, succeeded=True, tools=("q",), category="never seen"),
    ]

    rows = {row.scope: row for row in plans(runs)}

    assert (1, 1.0, 0.0) == (rows["category"].cases, rows["category"].equal, rows["category"].distance)
    assert (1, 1.0) == (rows["category and agent"].cases, rows["category and agent"].equal)
    assert (2, 0.5, 0.25, 1.0) == (
        rows["every run"].cases, rows["every run"].equal, rows["every run"].distance, rows["every run"].first_step,
    )  # fmt: skip


def asked(user: str, request: str, at: int, *tools: str, category: str) -> ReplayedRun:
    return ReplayedRun("domain", "a", user, category, DAY + timedelta(hours=at), tools, succeeded=True, request=request)


def test_a_request_finds_its_plan_with_and_without_categories() -> None:
    """Both ways find the user's own way; with a category also the words that nobody used before are understood."""
    runs = [asked("mina", "find a café near the stadium", n, "locate", "search", category="cafe") for n in range(3)]
    runs += [asked("mina", "cancel my last order", n, "cancel", category="order") for n in range(3, 6)]
    runs += [
        asked("mina", "please find a café near the stadium", 6, "locate", "search", category="cafe"),
        asked("juno", "cancel my last order now", 7, "cancel", category="order"),
        asked("mina", "an espresso would be nice", 8, "locate", "search", category="cafe"),
        asked("mina", "a kind that is new", 9, "other", category="new"),
    ]

    known, derived = requests(runs)

    assert ("known", 3, 1.0, 1.0, 0.0) == (
        known.categories, known.cases, known.with_plan, known.equal, known.distance,
    )  # fmt: skip
    assert ("derived", 3, 2 / 3, 2 / 3, 0.0) == (
        derived.categories, derived.cases, derived.with_plan, derived.equal, derived.distance,
    )  # fmt: skip


def test_requests_of_no_typed_kind_are_not_judged() -> None:
    """Where no category was typed, nothing says which later run is of the same kind."""
    runs = [asked("mina", "find a café", n, "locate", category=category) for category in ("", "~x · 1") for n in (1, 2)]

    assert [] == requests(runs)


def test_the_next_tool_of_a_known_category() -> None:
    """What always follows is foretold; categories that were never seen are not judged."""
    runs = [made("a", n, succeeded=True, tools=("x", "y", "z")) for n in range(10)]
    runs.append(made("a", 11, succeeded=True, tools=("other",), category="new"))

    (row,) = next_tools(runs)

    assert (15 - 3, 1.0, 1.0) == (row.cases, row.top1, row.top3)


def test_nearer_history_counts_more() -> None:
    """The category's habit wins over the domain's, and the domain answers where the category is new."""
    domain = Followers([(10, ["x", "y"]), (1, ["x", "z"])])
    quiet = Followers([(1, ["x", "z"])])

    assert "z" == next(iter(likely_next(["x"], [domain, quiet])))
    assert "y" == next(iter(likely_next(["x"], [domain, Followers()])))
    assert {} == likely_next(["x"], [Followers()])


def test_calibration_of_a_known_chance() -> None:
    """Where an agent succeeds as often as it always did, prediction and observation agree."""
    runs = [made("a", n, succeeded=n % 4 != 0) for n in range(400)]

    rows = calibration(runs)

    assert calibration_error(rows, "evidence") < 0.02
    assert 3 * 160 == sum(row.cases for row in rows)
    assert math.isnan(calibration_error([], "evidence"))


def test_history_counts_as_the_formula_does() -> None:
    """The classic score counts days before the newest run; an agent without a time is as old as the oldest."""
    history = AgentHistory()
    for run in (made("a", 0, succeeded=True), made("a", 24, succeeded=False), made("b", 0, succeeded=True)):
        history.add(run)
    history.add(ReplayedRun("domain", "undated", "user", "c", None, (), succeeded=True))

    scores = history.classic()

    assert {"a": 0.5, "b": 0.904837, "undated": 0.904837} == {k: round(v, 6) for k, v in scores.items()}


def suggestion(n: int, choice: str, *, succeeded: bool, propensity: float, taken: str | None = None) -> Suggestion:
    return Suggestion(
        user_id="USR001", suggestion_id=str(n), suggested_at=DAY, source="best agent of the domain", choice=choice,
        propensity=propensity, candidates={"good": 1.0, "bad": 2.0}, steps=[], taken=taken or choice,
        succeeded=succeeded, followed=True,
    )  # fmt: skip


def test_off_policy_values_find_the_better_agent() -> None:
    """With exploration, SNIPS and DR tell what always choosing the other agent would have been worth."""
    draw = random.Random(3)  # noqa: S311  # a simulation
    kept = []
    for n in range(4000):
        choice, propensity = ("good", 0.1) if draw.random() < 0.1 else ("bad", 0.9)
        kept.append(
            suggestion(n, choice, succeeded=draw.random() < (0.9 if choice == "good" else 0.4), propensity=propensity)
        )

    rows = {r.policy: r for r in off_policy(kept, {"best": best_scored, "good": prefer("good"), "any": uniform})}

    assert 0.9 == pytest.approx(rows["good"].snips, abs=0.05)
    assert rows["good"].dr_low < 0.9 < rows["good"].dr_high
    assert 0.4 == pytest.approx(rows["best"].snips, abs=0.03)
    assert 0.65 == pytest.approx(rows["any"].dr, abs=0.05)
    assert rows["good"].ess == pytest.approx(sum(each.choice == "good" for each in kept))
    assert 4000 == rows["good"].explored == rows["good"].cases


def test_without_exploration_little_is_known_and_said() -> None:
    """Choices that were certain say nothing of the others: no SNIPS, no effective sample."""
    kept = [suggestion(n, "bad", succeeded=n % 2 == 0, propensity=1.0) for n in range(10)]

    (row,) = off_policy(kept, {"good": prefer("good")})

    assert (None, 0.0, 0, 10) == (row.snips, row.ess, row.explored, row.cases)


def test_what_was_not_taken_does_not_count() -> None:
    """A suggestion that nobody followed, that was withheld, or whose end is not known, is no outcome of its choice."""
    ignored = suggestion(1, "good", succeeded=True, propensity=0.5, taken="bad")
    open_ = suggestion(2, "good", succeeded=True, propensity=0.5)
    open_.succeeded = None
    withheld = suggestion(3, "good", succeeded=True, propensity=0.5)
    withheld.withheld = True

    assert [] == off_policy([ignored, open_, withheld], {"best": best_scored})


def test_repeated_reads_are_answered_as_the_cache_would(real: list[ReplayedRun]) -> None:
    """On the real runs no answer would have been stale, and at least 77 % of the repeats would have been answered."""
    reads = ["get_*", "find_*", "list_*", "search_*", "check_*", "verify_*", "can_*", "fetch_*", "run_speed_test",
             "think", "calculate", "GET *"]  # fmt: skip
    rows = answers(real, read_only=reads)

    assert {"airline", "retail", "telecom"} == {row.domain for row in rows}
    assert 0 == sum(row.stale for row in rows)
    assert sum(row.answered for row in rows) >= 0.77 * sum(row.repeats for row in rows)
    assert 0 < sum(row.outdated for row in rows)


def test_answers_obey_writes() -> None:
    """A read after a write is not answered, one after another read is; without read-only tools there is no row."""
    calls = [("get", "1"), ("get", "1"), ("put", ""), ("get", "2"), ("get", "2")]
    replayed = tuple(ReplayedCall(tool, '{"id":"w100"}', succeeded=True, result=result) for tool, result in calls)
    runs = [replace(made("a", n, succeeded=True), calls=replayed) for n in range(4)]

    assert [AnswerRow("domain", repeats=6, answered=4, stale=0, outdated=2)] == answers(
        runs, read_only=["g*"], train_share=0.5
    )
    assert [] == answers(runs, read_only=[])


def test_plans_on_real_runs(real: list[ReplayedRun]) -> None:
    """In retail at least 30 % of plans equal a later successful run, at a mean distance of at most .26."""
    rows = {row.scope: row for row in plans(real) if row.domain == "retail"}

    for scope in ("category", "category and agent"):
        assert rows[scope].equal >= 0.30
        assert rows[scope].distance <= 0.26


def test_no_plan_of_a_category_fits_every_agent(real: list[ReplayedRun]) -> None:
    """Against every later run, whoever made it, no sequence that was seen reaches those figures, even in hindsight."""
    (row,) = [row for row in plans(real) if (row.domain, row.scope) == ("retail", "every run")]

    assert row.equal <= row.best_equal < 0.30
    assert row.distance >= row.best_distance > 0.26


def test_requests_without_categories_on_real_runs(real: list[ReplayedRun]) -> None:
    """In retail at least 45 % of the requests find the tools of a later good run, and at least 95 % find a plan."""
    retail = [row for row in requests([run for run in real if run.domain == "retail"]) if row.categories == "derived"]

    assert retail[0].equal >= 0.45
    assert retail[0].with_plan >= 0.95


def test_next_tools_on_real_runs(real: list[ReplayedRun]) -> None:
    """With the category's history the next tool is first in at least 66 %, and among three in at least 87 %."""
    rows = next_tools(real)
    cases = sum(row.cases for row in rows)

    assert sum(row.top1 * row.cases for row in rows) / cases >= 0.66
    assert sum(row.top3 * row.cases for row in rows) / cases >= 0.87


def test_the_chance_of_success_tells_failures_on_real_runs(real: list[ReplayedRun]) -> None:
    """It is off by at most .05, and its area under the ROC curve is at least .78, above that of the agent's record."""
    rows = {row.predictor: row for row in chances(real)}

    assert rows["chance"].error <= 0.05
    assert (rows["chance"].auc or 0.0) >= 0.78
    assert (rows["chance"].auc or 0.0) > (rows["evidence"].auc or 0.0)
    assert rows["chance"].failures > 0.75
    assert rows["chance"].cases > 800


def test_the_area_counts_pairs() -> None:
    """The area under the ROC curve is the share of pairs in the right order, ties as half; of one outcome there is none."""
    found = [(0.2, False), (0.5, True), (0.5, False), (0.9, True), (0.1, True)]
    pairs = [(good > bad) + 0.5 * (good == bad) for good, y in found if y for bad, z in found if not z]

    assert pytest.approx(sum(pairs) / len(pairs)) == _area(found)
    assert None is _area([(0.1, True), (0.2, True)])


def test_evidence_is_calibrated_on_real_runs(real: list[ReplayedRun]) -> None:
    """The chances that evidence gives are nearer to what happened than the plain share of success."""
    rows = calibration(real)

    assert calibration_error(rows, "evidence") < calibration_error(rows, "success share")


def test_settings_name_the_rankings() -> None:
    """What can be set as the ranking is what is evaluated."""
    assert Settings(ranking="evidence").ranking in RANKINGS
    assert Settings().ranking in RANKINGS
