"""Regimes of the evaluation: worlds drawn from generated histories whose true rates are known."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmodel.exceptions import ValidationError
from agentmodel.suggest.evaluate import RANKINGS, RegimeRow, ReplayedRun, evaluate
from agentmodel.suggest.evaluate._regimes import REGIMES, regimes
from agentmodel.suggest.evaluate._routes import routes
from tests.routing_requests import DOMAINS, TOOLS, requests

DAY = datetime(2025, 6, 1, tzinfo=UTC)
AGENTS = {f"a{n}": 0.05 * n for n in range(7)}  # what each adds to the success rate of a category


def history(
    runs: int,
    *,
    categories: int = 40,
    work: Mapping[str, float] | None = None,
    skills: Mapping[str, float] = AGENTS,
    seed: int = 7,
) -> list[ReplayedRun]:
    """Make so many runs of each agent, in turn; `work` is the share of the hard half in an agent's."""
    draw = random.Random(seed)  # noqa: S311  # a simulation
    rates = [0.15 + 0.5 * n / (categories - 1) for n in range(categories)]  # the hardest first
    made = []
    for at in range(runs):
        for agent, skill in skills.items():
            is_hard = draw.random() < (work or {}).get(agent, 0.5)
            category = draw.randrange(categories // 2) + (0 if is_hard else categories // 2)
            succeeded = draw.random() < rates[category] + skill
            day = DAY + timedelta(hours=at)
            made.append(ReplayedRun("domain", agent, "user", f"c{category}", day, ("x",), succeeded))
    return made


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, str], RegimeRow]:
    """The figures of a history of equal work, at 20 uses."""
    return {(row.regime, row.ranking): row for row in regimes(history(150), worlds=120)}


def test_each_regime_has_each_ranking_beside_an_oracle(rows: Mapping[tuple[str, str], RegimeRow]) -> None:
    """The oracle, who knows the worths, has no regret, and any choice has more."""
    rankings = {*RANKINGS, "evidence without categories", "oracle"}

    assert {(regime, ranking) for regime in REGIMES for ranking in rankings} == rows.keys()
    for regime in REGIMES:
        assert 0.0 == rows[regime, "oracle"].regret == rows[regime, "oracle"].low
        assert all(0.0 < rows[regime, ranking].regret for ranking in ("evidence", "random"))
    assert {(7, 7, 120, False)} == {(row.agents, row.measured, row.cases, row.says_little) for row in rows.values()}


def test_use_misleads_what_counts_it(rows: Mapping[tuple[str, str], RegimeRow]) -> None:
    """Volume is right where good agents are used more, and wrong where bad ones are; evidence is neither."""
    good, bad = "good agents used more", "bad agents used more"

    assert rows[good, "most used"].regret < rows[good, "evidence"].regret
    assert rows[bad, "most used"].regret > rows[bad, "random"].regret > rows[bad, "evidence"].regret
    assert rows[bad, "classic"].regret > rows[bad, "evidence"].high


def test_hard_work_misleads_what_takes_no_account_of_it(rows: Mapping[tuple[str, str], RegimeRow]) -> None:
    """Where good agents get the hard tasks, categories take off a third, and nowhere cost more than .02."""
    hard = "good agents get the hard tasks"

    assert 1.5 * rows[hard, "evidence"].regret < rows[hard, "evidence without categories"].regret
    for regime in REGIMES:
        assert rows[regime, "evidence"].regret <= rows[regime, "evidence without categories"].regret + 0.02


def test_worths_are_those_on_the_usual_work() -> None:
    """Where the better agents got the hard work, what they were given is taken out of what they are worth, too."""
    work = {agent: 0.85 if skill >= 0.15 else 0.15 for agent, skill in AGENTS.items()}
    misled = regimes(history(200, work=work), uses=(60,), worlds=40)
    found = {(row.regime, row.ranking): row.regret for row in misled}

    assert 2 * found["unrelated", "evidence"] < found["unrelated", "evidence without categories"]


@pytest.mark.parametrize(
    ("skills", "truth"),
    [
        (dict.fromkeys("abcdefghijkl", 0.15), 0.0),
        (dict(zip("abcdefghijkl", [0.05] * 6 + [0.35] * 6, strict=True)), 0.15),
        ({agent: 0.03 * n for n, agent in enumerate("abcdefghijkl")}, 0.165),
    ],
    ids=["all alike", "six good ones", "in even steps"],
)
def test_luck_is_no_regret(skills: Mapping[str, float], truth: float) -> None:
    """The best of twelve measured rates is partly lucky; the regret is that against the best agent, not against luck.

    With worths as measured, the regret of a random choice would be .05 to .16 too large.
    """
    regrets = []
    for seed in range(12):
        rows = regimes(history(60, skills=skills, seed=seed), uses=(1,), worlds=1, seed=seed)
        regrets += [row.regret for row in rows if (row.regime, row.ranking) == ("unrelated", "random")]

    assert statistics.fmean(regrets) == pytest.approx(truth, abs=0.04)


def test_few_later_runs_are_said() -> None:
    """Agents with fewer than 20 later runs are compared by all of them, and the oracle's row says how far that holds."""
    few = [row for row in regimes(history(40), worlds=5) if row.ranking == "oracle"]
    many = [row for row in regimes(history(400), worlds=5) if row.ranking == "oracle"]

    assert {(7, 0, True)} == {(row.agents, row.measured, row.says_little) for row in few}
    assert {(7, 7, False)} == {(row.agents, row.measured, row.says_little) for row in many}
    assert few[0].high > 2 * many[0].high > 0.0


def test_intervals_are_wider_where_tasks_are_few() -> None:
    """Runs of one task are no independent proof: the interval is that of other tasks, not of other runs."""
    wide, narrow = (
        [row for row in regimes(clustered(tasks), worlds=20) if row.ranking == "oracle"] for tasks in (4, 200)
    )

    assert wide[0].high > 2 * narrow[0].high


def clustered(tasks: int) -> list[ReplayedRun]:
    """Make runs of two agents, each of which can do every second task, and always does."""
    return [
        ReplayedRun(
            "domain", f"a{agent}", "user", "", None, ("x",), (at % tasks + agent) % 2 == 0, f"task {at % tasks}"
        )
        for at in range(400)
        for agent in (0, 1)
    ]


def test_the_same_seed_draws_the_same_worlds() -> None:
    """A figure can be computed again, and another seed draws others."""
    runs = history(30)

    assert regimes(runs, worlds=5) == regimes(runs, worlds=5)
    assert regimes(runs, worlds=5) != regimes(runs, worlds=5, seed=1)


@pytest.mark.parametrize("wrong", [{"uses": (20, 0)}, {"uses": (-3,)}, {"worlds": 0}])
def test_numbers_that_are_none(wrong: dict[str, Any]) -> None:
    """No runs and no worlds are refused by their name."""
    with pytest.raises(ValidationError, match=f"{next(iter(wrong))} .* must be a number from 1 up"):
        regimes(history(8), **wrong)


def test_one_agent_is_no_choice() -> None:
    """A domain with one agent, or with agents of few runs, has no row."""
    runs = history(7)

    assert [] == regimes(runs)
    assert [] == regimes([run for run in history(30) if run.agent == "a0"])


def asked(domain: str, texts: Sequence[str]) -> list[ReplayedRun]:
    """Make a run of each request, with the domain's tools."""
    return [
        ReplayedRun(domain, "a", f"user {at % 5}", "", DAY + timedelta(hours=at), TOOLS[domain], True, text, f"s{at}")
        for at, text in enumerate(texts)
    ]


def test_requests_find_their_domain() -> None:
    """Of the later requests at least 97 % are routed to their domain; an equal request is counted once."""
    runs = [run for domain in DOMAINS for run in asked(domain, [*requests(domain)[:60], requests(domain)[59]])]

    found = evaluate(runs).routes

    assert set(DOMAINS) == {row.domain for row in found}
    assert {24} == {row.cases for row in found}
    assert sum(row.right for row in found) >= 0.97 * sum(row.cases for row in found)
    assert 0 == sum(row.wrong for row in found)


def test_requests_about_other_matters_are_not_routed() -> None:
    """A domain whose requests change altogether is counted as not found, rather than as another one."""
    store, train = "DMNstore", "DMNtrain"
    runs = asked(store, requests(store)[:60]) + asked(train, [*requests(train)[:36], *requests("DMNreview")[:24]])

    (first, second) = routes(runs)

    assert (store, train) == (first.domain, second.domain)
    assert (24, 0, 0) == (second.cases, second.right, second.wrong)


def test_one_domain_is_not_routed() -> None:
    """Where there is one domain, nothing is to be found."""
    assert [] == routes(asked("DMNstore", requests("DMNstore")[:60]))
