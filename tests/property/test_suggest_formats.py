"""What must hold for every plan, request, set of arguments and history of calls."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmodel.suggest._sequences import (
    Followers,
    common_sequences,
    distance,
    likely_next,
    packed_sequences,
    unpacked_sequences,
)
from agentmodel.suggest.health import Cusum
from agentmodel.suggest.plan import TextSimilarity, confidence_of
from agentmodel.suggest.review import arguments_hash, canonical
from agentmodel.testing import json_values, texts

AT = datetime(2025, 6, 14, tzinfo=UTC)
TOOLS = st.lists(st.sampled_from("abcd"), max_size=8)


class TestArguments:
    """An answer holds for exactly the arguments it was given for."""

    @given(json_values())
    def test_equal_json_has_one_hash(self, value: Any) -> None:
        """Written and read again, with the names in another order, it is the same."""
        assert arguments_hash(value) == arguments_hash(json.loads(json.dumps(value)))

    @given(st.dictionaries(texts(), st.integers(), min_size=1), st.randoms(use_true_random=False))
    def test_the_order_of_names_does_not_count(self, value: dict[str, int], draw: random.Random) -> None:
        """Names in any order are one text."""
        names = list(value)
        draw.shuffle(names)

        assert canonical(value) == canonical({name: value[name] for name in names})

    @given(json_values(), json_values())
    def test_other_json_has_another(self, one: Any, other: Any) -> None:
        """Arguments whose texts differ have hashes that differ."""
        assert (canonical(one) == canonical(other)) == (arguments_hash(one) == arguments_hash(other))


class TestLikeness:
    """Likeness is a share, and symmetric."""

    @given(texts(), texts())
    def test_it_is_a_symmetric_share(self, one: str, other: str) -> None:
        """From 0 to 1, and the same from both sides."""
        ((there,), (back,)) = (TextSimilarity().scores(one, [other]), TextSimilarity().scores(other, [one]))

        assert 0 <= there <= 1
        assert abs(there - back) < 1e-9

    @given(texts())
    def test_a_text_is_like_itself(self, text: str) -> None:
        """Whatever the script."""
        assert [1.0] == TextSimilarity().scores(text, [text])


class TestSureness:
    """The interval holds the mean, and narrows with runs."""

    @given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 1))
    def test_the_interval_holds_the_mean(self, successes: int, failures: int, prior: float) -> None:
        """0 ≤ low ≤ mean ≤ high ≤ 1."""
        found = confidence_of(successes, successes + failures, prior=prior)

        assert 0 <= found.low <= found.mean <= found.high <= 1

    @given(st.integers(1, 100), st.integers(1, 100))
    def test_more_of_the_same_is_surer(self, successes: int, failures: int) -> None:
        """Ten times as many runs with the same share give a narrower interval."""
        few = confidence_of(successes, successes + failures)
        many = confidence_of(10 * successes, 10 * (successes + failures))

        assert many.high - many.low < few.high - few.low or few.high - few.low == 1


class TestSequences:
    """Distances are shares, and what was learnt is foretold."""

    @given(TOOLS, TOOLS)
    def test_distance_is_a_symmetric_share(self, one: list[str], other: list[str]) -> None:
        """0 exactly where they are equal."""
        assert 0 <= distance(one, other) == distance(other, one) <= 1
        assert (distance(one, other) == 0) == (one == other)

    @given(st.lists(TOOLS, min_size=1, max_size=5), TOOLS)
    def test_only_what_was_seen_is_foretold(self, learnt: list[list[str]], before: list[str]) -> None:
        """Tools that were learnt, the most likely first, with probabilities that sum to one."""
        sequences = common_sequences(learnt, 3)
        likely = likely_next(before, [Followers(sequences), Followers(sequences[:1])])

        assert likely.keys() <= {tool for tools in learnt for tool in tools}
        assert sorted(likely.values(), reverse=True) == list(likely.values())
        assert not likely or sum(likely.values()) == pytest.approx(1)

    @given(st.lists(TOOLS, max_size=5))
    def test_packed_sequences_come_back(self, learnt: list[list[str]]) -> None:
        """What an item holds gives the same sequences, through JSON too."""
        sequences = [(times, list(tools)) for times, tools in common_sequences(learnt, 5)]

        assert sequences == unpacked_sequences(json.loads(json.dumps(packed_sequences(sequences))))

    @pytest.mark.parametrize(
        "runs",
        ["[[Infinity, 0]]", "[[NaN, 0]]", "[[-3, 0]]", "[[1, 9]]", "[[1, 0.5]]", "[[]]", '{"a": 1}', "7", "null"],
    )
    def test_a_damaged_one_has_none(self, runs: str) -> None:
        """Runs of another shape, or fewer than one of them, are none."""
        assert [] == unpacked_sequences(json.loads(f'{{"tools": ["locate"], "runs": {runs}}}'))


class TestHealth:
    """Whatever is called, the state stays sound and survives storage after every call."""

    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 4000)), max_size=200))
    def test_every_history_of_calls(self, calls: list[tuple[bool, int]]) -> None:
        """Counts never run backwards below zero, an open tool has a since and an end, a closed one has neither."""
        health, at = Cusum(), AT
        for failed, seconds in calls:
            at += timedelta(seconds=seconds)
            health = Cusum.from_dict(json.loads(json.dumps(health.after(failed=failed, at=at).as_dict())))

            assert 0 <= health.failures <= health.calls
            assert 0 <= health.run_failures <= health.run_calls
            assert health.sum >= 0
            assert 0 < health.baseline <= 1
            assert (health.state(at) == "closed") == (health.since is None) == (health.half_open_at is None)

    @given(st.integers(0, 300))
    def test_success_alone_never_opens(self, calls: int) -> None:
        """A tool that always works is closed."""
        health = Cusum()
        for _ in range(calls):
            health = health.after(failed=False, at=AT)

        assert "closed" == health.state(AT)
