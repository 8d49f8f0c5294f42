"""Prices of models: the formats of LiteLLM and genai-prices, and what is unknown."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentmodel import ToolExecution
from agentmodel._values.counts import Usage
from agentmodel.exceptions import ValidationError
from agentmodel.prices import ModelPrice, Prices

LITELLM: dict[str, Any] = {
    "sample_spec": {"input_cost_per_token": "what a token costs", "output_cost_per_token": 0.0},
    "small": {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6, "litellm_provider": "own"},
    "us.deep-v1:0": {
        "input_cost_per_token": 2e-6,
        "output_cost_per_token": 8e-6,
        "cache_read_input_token_cost": 2e-7,
        "cache_creation_input_token_cost": 2.5e-6,
        "output_cost_per_reasoning_token": 6e-6,
        "input_cost_per_token_above_200k_tokens": 4e-6,
        "output_cost_per_token_above_200k_tokens": 12e-6,
        "input_cost_per_token_above_200k_tokens_priority": 9e-6,
    },
    "free": {"input_cost_per_token": 0.0, "output_cost_per_token": 0.0},
    "painter": {"output_cost_per_image": 0.04},
    "asker": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "input_cost_per_request": 0.005},
    "sleeper": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6, "off_peak_pricing": {"hours_utc": "0-8"}},
    "searcher": {"tiered_pricing": [{"max_results_range": [0, 25], "input_cost_per_query": 0.005}]},
    "ranged": {
        "tiered_pricing": [
            {"range": [0, 200000.0], "input_cost_per_token": 2e-6, "output_cost_per_token": 8e-6},
            {"range": [200000.0, 1000000.0], "input_cost_per_token": 4e-6, "output_cost_per_token": 12e-6},
        ],
    },
}
GENAI: list[dict[str, Any]] = [
    {
        "id": "maker",
        "model_match": {"or": [{"starts_with": "small"}, {"regex": "^deep-?[0-9]"}]},
        "models": [
            {"id": "small", "match": {"equals": "small"}, "prices": {"input_mtok": 1, "output_mtok": 4}},
            {
                "id": "deep",
                "match": {"and": [{"contains": "deep"}, {"ends_with": "-v1"}]},
                "prices": {
                    "input_mtok": {"base": 2, "tiers": [{"start": 200000, "price": 4}]},
                    "output_mtok": {"base": 8, "tiers": [{"start": 200000, "price": 12}]},
                    "cache_read_mtok": 0.2,
                    "cache_write_mtok": 2.5,
                },
            },
            {
                "id": "small-dated",
                "match": {"starts_with": "small-2"},
                "prices": [
                    {"prices": {"input_mtok": 1, "output_mtok": 4}},
                    {"constraint": {"start_date": "2026-03-01"}, "prices": {"input_mtok": 2, "output_mtok": 8}},
                ],
            },
            {
                "id": "small-ask",
                "match": {"equals": "small-ask"},
                "prices": {"input_mtok": 1, "output_mtok": 4, "requests_kcount": 12},
            },
            {
                "id": "small-nightly",
                "match": {"equals": "small-night"},
                "prices": [
                    {"constraint": {"start_time": "00:30:00Z", "end_time": "16:30:00Z"}, "prices": {"input_mtok": 1}},
                    {"prices": {"input_mtok": 2, "output_mtok": 8}},
                ],
            },
        ],
    },
    {
        "id": "shop",
        "models": [{"id": "small", "match": {"equals": "small"}, "prices": {"input_mtok": 3, "output_mtok": 9}}],
    },
]


def call(model_name: str | None = "small", **told: Any) -> ToolExecution:
    """A call of a model."""
    given: dict[str, Any] = {
        "input_tokens": 1000,
        "output_tokens": 100,
        "executed_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return ToolExecution(
        user_id="USR001", session_id="SESS1", process_id="PRC001", agent_id="AGT001", tool_id="TL001", tool_name="t",
        succeeded=True, model_name=model_name, **given | told,
    )  # fmt: skip


def test_litellm_prices_tokens() -> None:
    """A name is found as it is, in either case, and behind its provider; cached and reasoning tokens have prices."""
    prices = Prices(LITELLM)
    deep = {"cached_tokens": 500, "cache_write_tokens": 100, "reasoning_tokens": 50}

    assert [0.0014] * 3 == [prices.cost(call(name)) for name in ("small", "Small", "own/small")]
    cost = prices.cost(call("bedrock/us.deep-v1:0", **deep))
    assert cost == pytest.approx(400 * 2e-6 + 500 * 2e-7 + 100 * 2.5e-6 + 50 * 8e-6 + 50 * 6e-6)
    assert 0.0 == prices.cost(call("free"))  # free is a price


def test_genai_prices_follows_its_rules() -> None:
    """A name without a provider is looked up at the provider whose rule it fits, one with a provider at that one."""
    prices = Prices(GENAI)

    assert [0.0014, 0.0014, 0.0039] == [
        pytest.approx(prices.cost(call(name))) for name in ("small", "maker:small", "shop/small")
    ]
    assert 0.0028 == pytest.approx(prices.cost(call("deep3-v1")))
    assert 0.00234 == pytest.approx(prices.cost(call("deep3-v1", cached_tokens=300, cache_write_tokens=160)))
    assert Prices({"providers": GENAI}).cost(call()) == prices.cost(call())


@pytest.mark.parametrize(("table", "name"), [(LITELLM, "us.deep-v1:0"), (LITELLM, "ranged"), (GENAI, "deep3-v1")])
def test_a_long_request_has_the_price_of_its_length(table: Any, name: str) -> None:
    """The length of the request decides, not the share of it that a call has: the shares cost what the request does."""
    prices = Prices(table)
    short, long = (Usage(tokens, 300, model_name=name) for tokens in (200_000, 200_001))
    told = [[call(**share._asdict()) for share in usage.shares(3)] for usage in (short, long)]

    assert [0.4024, 0.803604] == [pytest.approx(prices.total(each)[0]) for each in told]
    assert [0.4024, 0.803604] == [pytest.approx(prices.cost(call(**each._asdict()))) for each in (short, long)]
    assert [(0, 200_000), (200_000, None)] == [(one.above_input, one.most_input) for one in prices.of(name)]


def test_genai_prices_itself_agrees() -> None:
    """Each model that has prices of lengths in genai-prices costs what that package says."""
    genai: Any = pytest.importorskip("genai_prices", reason="it comes with Pydantic AI")
    providers = pytest.importorskip("genai_prices.data").providers
    models = [model for provider in providers for model in provider.models]
    tiered = [model.prices for model in models if not isinstance(model.prices, list) and "+tiers" in str(model.prices)]
    both = [priced for priced in tiered if priced.output_mtok is not None]

    assert len(both) >= 20
    for priced in both:
        rows = {name: _json(one) for name, one in vars(priced).items() if one is not None}
        ours = Prices([{"id": "own", "models": [{"id": "it", "match": {"equals": "it"}, "prices": rows}]}])
        for tokens in (1_000, 128_000, 128_001, 200_001, 272_001, 1_000_000):
            usage = genai.Usage(input_tokens=tokens, output_tokens=700, cache_read_tokens=300)
            wanted = priced.calc_price(usage)["total_price"]
            got = ours.cost(call("own:it", input_tokens=tokens, output_tokens=700, cached_tokens=300))
            assert float(wanted) == pytest.approx(got), (str(priced), tokens)


def _json(price: Any) -> Any:
    """A price as ``data.json`` has it."""
    if isinstance(price, Decimal):
        return float(price)
    tiers = [{"start": each.start, "price": float(each.price)} for each in price.tiers]
    return {"base": float(price.base), "tiers": tiers}


def test_a_price_holds_for_its_time() -> None:
    """A call has the price of its day; without a day it has none where there are several."""
    prices = Prices(GENAI)
    days = (datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC), None)

    assert [0.0014, 0.0028, None] == [prices.cost(call("small-2", executed_at=day)) for day in days]
    first, second = prices.of("small-2")
    assert (None, date(2026, 3, 1), date(2026, 3, 1), None) == (first.since, first.until, second.since, second.until)


@pytest.mark.parametrize(
    "unknown",
    [
        call("large"),
        call(None),
        call("painter"),
        call("searcher"),
        call("small-night"),
        call(input_tokens=None),
        call(output_tokens=None),
        call("asker"),
        call("sleeper"),
        call("small-ask"),
    ],
)
def test_what_has_no_price_is_unknown(unknown: ToolExecution) -> None:
    """An unknown model, untold tokens, a price of a time of day and one of each request: unknown, not zero."""
    assert [None, None] == [Prices(table).cost(unknown) for table in (LITELLM, GENAI)]
    assert (None, 0) == Prices(LITELLM).total([unknown])


def test_a_total_says_how_much_of_it_is_known() -> None:
    """The sum is of what is known, with how many calls that is."""
    total, known = Prices(LITELLM).total([call(), call("large"), call()])

    assert (0.0028, 2) == (total, known)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ([], ""),
        ({}, "must be LiteLLM's object"),
        (3, "must be LiteLLM's object"),
        ({"small": 1}, "must be LiteLLM's object"),
        (
            {"small": {"input_cost_per_token": "1", "output_cost_per_token": 1}},
            "input_cost_per_token of small in table",
        ),
        (
            {"small": {"input_cost_per_token": 1, "output_cost_per_token": -1}},
            "output_cost_per_token of small in table",
        ),
        ([{"id": "a", "models": [{"id": "m", "prices": 3}]}], "prices of m"),
        ([{"id": "a", "models": [{"id": "m", "prices": {"input_mtok": True}}]}], "input_mtok of m in table"),
        (
            [{"id": "a", "models": [{"id": "m", "prices": [{"constraint": {"start_date": "May"}, "prices": {}}]}]}],
            "start_date of m",
        ),
        ([{"id": "a", "models": None}], "models of a"),
        ([{"id": "a", "models": ["m"]}], "models of a"),
        ([{"id": "a", "models": [], "model_match": {"or": [{"contains": "b"}, {"regex": "("}]}}], "models of a"),
        ([{"id": "a", "models": [{"id": "m", "match": {"and": 5}, "prices": {}}]}], "models of a"),
        ([{"id": "a", "models": [{"id": "m", "prices": {"input_mtok": {"tiers": [{"price": 2}]}}}]}], "models of a"),
        ({"small": {"tiered_pricing": [{"input_cost_per_token": 1}]}}, "tiered_pricing of small"),
        ({"small": {"tiered_pricing": [{"input_cost_per_token": 1, "range": [0.5]}]}}, "tiered_pricing of small"),
        ({"small": {"tiered_pricing": [7]}}, "tiered_pricing of small"),
    ],
)
def test_a_wrong_table_is_told(table: Any, told: str) -> None:
    """A table of another form, and a price that is none, raise an error that names the model and the field."""
    if table == []:
        assert Prices(table).cost(call()) is None  # a table without a price
        return
    with pytest.raises(ValidationError, match=told):
        Prices(table)


def test_a_file_is_read(tmp_path: Path) -> None:
    """A file that cannot be read, or is no JSON, is named."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(LITELLM), encoding="utf-8")
    assert (ModelPrice(1e-6, 4e-6),) == Prices.read(path).of("small")
    path.write_text("{", encoding="utf-8")
    for wrong, rule in ((path, "must be JSON"), (tmp_path / "none.json", "cannot be read")):
        with pytest.raises(ValidationError, match=rule):
            Prices.read(wrong)
