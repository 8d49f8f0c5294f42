"""The statistics of impact: what is held out, what the interval says, and that it holds at every look."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from agentmodel import AgentModel, Domain, Settings
from agentmodel.exceptions import ConfigurationError, ValidationError
from agentmodel.redshift.reports import CostSums, PlanSums
from agentmodel.suggest.evaluate import impact
from agentmodel.suggest.evaluate._effect import Sums, Terms, cost_effect, effect, interval, runs_to_find, terms
from agentmodel.suggest.plan import Planner
from agentmodel.suggest.plan._holdout import held_out
from tests.impact_worlds import KINDS, first_look, looks, runs


def counted(good: int, of: int) -> Sums:
    return Sums(of, good, good)


class TestWhoIsHeldOut:
    """A share of sessions is held out, by a stable hash."""

    def test_the_share_is_held_out(self) -> None:
        """Of many sessions about the share is held out, whatever their ids look like."""
        sessions = [f"USR{user}#SESS{number}" for user in range(100) for number in range(100)]

        for share in (0.05, 0.2, 0.5):
            held = sum(held_out(each, share) for each in sessions) / len(sessions)

            assert abs(held - share) < 4 * math.sqrt(share * (1 - share) / len(sessions))

    def test_a_larger_share_keeps_who_was_held_out(self) -> None:
        """A session that is held out at one share is so at every larger one; none is at 0."""
        sessions = [f"SESS{number}" for number in range(300)]
        before: set[str] = set()

        for share in (0.0, 0.1, 0.3, 0.9):
            now = {each for each in sessions if held_out(each, share)}

            assert before <= now
            before = now
        assert not any(held_out(each, 0.0) for each in sessions)

    @pytest.mark.parametrize("share", [-0.1, 1, 10])
    def test_a_share_that_leaves_no_plan_is_refused(self, share: float) -> None:
        """Below 0, and 1 or more, such as a number of percent, is refused by setting and planner."""
        with pytest.raises(ConfigurationError, match="AGENTMODEL_HOLDOUT"):
            Settings.load(holdout=share)
        with pytest.raises(ValidationError, match="holdout"):
            Planner(AgentModel(Settings()).repository, holdout=share)


class TestOneLook:
    """What the interval says of given counts."""

    def test_all_successes_in_a_small_holdout_are_no_certainty(self) -> None:
        """30 of 30 against 270 of 270 is a difference of 0, plus or minus 9.7 points."""
        found = interval(terms(counted(270, 270), counted(30, 30)))

        assert found is not None
        assert pytest.approx((0.0, -0.097, 0.097), abs=5e-4) == found

    def test_few_runs_say_nothing(self) -> None:
        """Below 30 runs of an arm there are means, and no interval."""
        found = effect([(counted(9, 20), counted(1, 5))])

        assert (0.45, 0.2, None, None) == (found.with_plan, found.without_plan, found.low, found.high)

    def test_a_stratum_with_one_arm_says_nothing(self) -> None:
        """Runs that have nothing to be compared with change no number."""
        both = (counted(150, 200), counted(60, 100))

        assert effect([both]) == effect([both, (counted(0, 900), counted(0, 0)), (counted(0, 0), counted(70, 70))])

    def test_the_mix_does_not_count(self) -> None:
        """Where more of the hard work was without a plan, equal rates within each category are no difference."""
        found = effect([(counted(90, 100), counted(900, 1000)), (counted(300, 1000), counted(30, 100))])

        assert pytest.approx(0.0) == found.change
        assert found.with_plan == pytest.approx(found.without_plan)

    def test_sums_of_parts_are_the_whole(self) -> None:
        """Terms are added and taken away without a trace."""
        one, two = terms(counted(5, 10), counted(3, 9)), terms(counted(50, 70), counted(30, 90))

        assert one == pytest.approx(one.plus(two).minus(two))
        assert two == Terms().plus(two)

    def test_costs_are_compared_by_logarithms(self) -> None:
        """A cost that is a fifth less in every run is found as a fifth; where no run differs nothing is said."""
        draw = random.Random(5)  # noqa: S311  # a simulation
        without = [draw.lognormvariate(6, 0.5) for _ in range(2000)]
        given = [0.8 * draw.lognormvariate(6, 0.5) for _ in range(2000)]

        def plain_and_log(costs: list[float]) -> tuple[Sums, Sums]:
            logs = [math.log1p(each) for each in costs]
            return Sums(len(costs), sum(costs)), Sums(len(logs), sum(logs), sum(each**2 for each in logs))

        (plain1, log1), (plain0, log0) = plain_and_log(given), plain_and_log(without)
        found = cost_effect([(plain1, plain0, log1, log0)])
        same = plain_and_log([3.0] * 40)
        flat = cost_effect([(same[0], same[0], same[1], same[1])])

        assert found.low is not None
        assert found.high is not None
        assert -0.3 < found.low < -0.2 < found.high < -0.1
        assert found.with_plan == pytest.approx(sum(given) / 2000)
        assert 3.0 == pytest.approx(flat.with_plan)
        assert (None, None) == (flat.low, flat.high)


class TestEveryLook:
    """The interval holds at every look; the figures of many worlds are those of `python -m benchmarks impact`."""

    def test_nothing_is_found_where_there_is_nothing(self) -> None:
        """In 50 worlds of all kinds, looked at after every run, at most one sees a difference."""
        alarms = 0
        for number in range(50):
            draw = random.Random(number)  # noqa: S311  # a simulation
            world = runs(800, share=(0.1, 0.3)[number % 2], rate=0.6, kind=KINDS[number % len(KINDS)], draw=draw)
            alarms += first_look(world) is not None

        assert alarms <= 1

    @pytest.mark.parametrize("change", [0.1, -0.1])
    def test_what_plans_change_is_found(self, change: float) -> None:
        """Planted 10 points are found in their direction, within twice the runs of theory, in most of 15 worlds."""
        most = round(2 * runs_to_find(change, success_rate=0.7, share=0.5))
        found = []
        for number in range(15):
            draw = random.Random(number)  # noqa: S311  # a simulation
            found.append(first_look(runs(most, share=0.5, rate=0.7, change=change, draw=draw)))

        assert sum(each is not None and (each[1] > 0) == (change > 0) for each in found) >= 9
        assert all(each is None or (each[1] > 0) == (change > 0) for each in found)

    def test_looks_of_a_world_are_those_of_its_counts(self) -> None:
        """What is added up run by run is what the sums of all runs say."""
        draw = random.Random(3)  # noqa: S311  # a simulation
        world = list(runs(600, share=0.3, rate=0.5, kind="both", change=0.2, draw=draw))
        (last,) = islice(looks(iter(world)), len(world) - 1, None)
        strata = {each.stratum for each in world}

        def arm(stratum: tuple[int, float], *, given: bool) -> Sums:
            own = [each.succeeded for each in world if each.stratum == stratum and each.given == given]
            return counted(sum(own), len(own))

        whole = effect((arm(each, given=True), arm(each, given=False)) for each in strata)

        assert last == pytest.approx((whole.change, whole.low, whole.high))


def landed(given: tuple[int, int], withheld: tuple[int, int], *, domain: str = "DMN001", **more: Any) -> list[PlanSums]:
    """Sessions with a plan and without: how many of how many succeeded."""
    cost = CostSums(0, 0.0, 0.0, 0.0)
    values: dict[str, Any] = {"category": "c", "share": 0.5, "since": "", "first": "20260101"} | more
    return [
        PlanSums(
            domain_id=domain, withheld=held, sessions=of, successes=good, calls=cost, tokens=cost, seconds=cost,
            money=cost, **values,
        )
        for held, (good, of) in ((False, given), (True, withheld))
        if of
    ]  # fmt: skip


STORES, TRAINS = Domain(domain_id="DMN001", name="stores"), Domain(domain_id="DMN002", name="trains")


class TestTheResult:
    """Rows and a sentence, for each domain and its categories."""

    @pytest.mark.parametrize(
        ("given", "withheld", "verdict", "says"),
        [
            ((0, 0), (0, 0), "nothing withheld", "cannot be said what plans change"),
            ((15, 20), (2, 5), "too few runs", "Sessions with a plan: 20, without: 5."),
            ((132, 200), (62, 100), "no difference shown", "With a plan 66 of 100 requests succeed, without one 62"),
            ((180, 200), (100, 200), "helps", "the difference lies between 26 and 54 points: plans help"),
            ((100, 200), (180, 200), "harms", "between -54 and -26 points: plans do harm"),
        ],
    )
    def test_the_first_row_as_a_sentence(
        self, given: tuple[int, int], withheld: tuple[int, int], verdict: str, says: str
    ) -> None:
        """It says what was measured, or what is missing."""
        found = impact(landed(given, withheld), [STORES], share=0.5)

        assert (verdict, "stores", None) == (found.rows[0].verdict, found.rows[0].domain, found.rows[0].category)
        assert says in found.sentence
        assert (found.rows[0].runs_missing > 0) == (min(given[1], withheld[1]) < 30)

    def test_what_is_missing_is_counted_at_the_present_share(self) -> None:
        """25 more without a plan take 250 sessions where a tenth is withheld."""
        found = impact(landed((15, 40), (2, 5)), [STORES], share=0.1)

        assert 250 == found.rows[0].runs_missing

    def test_domains_together_come_first(self) -> None:
        """With several domains all are one row, in which domains are strata; a domain without sessions is a row too."""
        rows = landed((100, 200), (60, 100)) + landed((30, 100), (3, 10), domain="DMN002")
        found = impact(rows, [STORES, TRAINS, Domain(domain_id="DMN003", name="empty")], share=0.5)

        assert [
            (None, None),
            ("DMN001", None),
            ("DMN001", "c"),
            ("DMN002", None),
            ("DMN002", "c"),
            ("DMN003", None),
        ] == [(row.domain_id, row.category) for row in found.rows]
        assert (300, 110) == (found.rows[0].success.runs_with, found.rows[0].success.runs_without)

    def test_categories_are_looked_at_with_care(self) -> None:
        """Each category that appeared later has a wider interval than the one before, and all a wider one than the domain."""
        rows = [
            one
            for name, first in (("b", "20260102"), ("a", "20260103"), ("c", "20260101"))
            for one in landed((90, 100), (50, 100), category=name, first=first)
        ]
        domain, *categories = impact(rows, [STORES], share=0.5).rows
        lows = [row.success.low or 0.0 for row in categories]

        assert ["c", "b", "a"] == [row.category for row in categories]
        assert (domain.success.low or 0.0) > lows[0] > lows[1] > lows[2]

    def test_a_changed_share_is_a_stratum_of_its_own(self) -> None:
        """Where quality rose when the share was raised, there is no difference: each share is compared with itself."""
        rows = landed((180, 900), (20, 100), share=0.1) + landed((400, 500), (400, 500), share=0.5)

        assert "no difference shown" == impact(rows, [STORES], share=0.5).rows[0].verdict
        assert 0.0 == pytest.approx(impact(rows, [STORES], share=0.5).rows[0].success.change)

    def test_only_what_a_person_resumed_counts(self) -> None:
        """Sessions before plans were resumed do not count, and unknown domains do not."""
        resumed = Domain(domain_id="DMN001", name="stores", plans_resumed_at=datetime(2026, 3, 1, tzinfo=UTC))
        before, after = landed((10, 200), (150, 200)), landed((90, 100), (50, 100), since="20260301000000000000")
        found = impact(before + after + landed((1, 90), (90, 90), domain="DMN404"), [resumed], share=0.5)

        assert ("helps", 100) == (found.rows[0].verdict, found.rows[0].success.runs_with)


def test_theory_knows_how_many_runs_it_takes() -> None:
    """Fewer where more is withheld or the change is larger; more to be found in 80 % of installations."""
    half, tenth = (runs_to_find(0.1, success_rate=0.6, share=share) for share in (0.5, 0.1))

    assert half < tenth < runs_to_find(0.05, success_rate=0.6, share=0.1)
    assert half < runs_to_find(0.1, success_rate=0.6, share=0.5, certain=True) < 2 * half
