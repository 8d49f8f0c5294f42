"""What calls cost by a table of prices: in sessions, reports, savings and impact, on the warehouse as in plain Python."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agentmodel import AgentModel, Settings
from agentmodel.exceptions import ValidationError
from agentmodel.integrations._tracking.tracker import Tracker
from agentmodel.prices import Prices
from agentmodel.redshift import models as m
from agentmodel.redshift import reports
from agentmodel.redshift._costs_sql import cost_of, has_price
from tests.integration.suggest_world import TODAY, catalogue, opened

PRICES = [
    {
        "id": "maker",
        "model_match": {"contains": "-"},
        "models": [
            {
                "id": "deep",
                "match": {"starts_with": "deep-"},
                "prices": {
                    "input_mtok": {"base": 2, "tiers": [{"start": 1000, "price": 4}]},
                    "output_mtok": 8, "cache_read_mtok": 0.5, "cache_write_mtok": 2.5,
                },
            },
            {
                "id": "dated",
                "match": {"equals": "dated-1"},
                "prices": [
                    {"prices": {"input_mtok": 1, "output_mtok": 4}},
                    {"constraint": {"start_date": f"{TODAY:%Y-%m-%d}"}, "prices": {"input_mtok": 3, "output_mtok": 9}},
                ],
            },
            {"id": "free", "match": {"equals": "free-1"}, "prices": {"input_mtok": 0, "output_mtok": 0}},
        ],
    }
]  # fmt: skip

CALLS: list[dict[str, Any]] = [
    {"model_name": "deep-1", "input_tokens": 900, "output_tokens": 100},
    {"model_name": "deep-2", "input_tokens": 900, "output_tokens": 100, "cached_tokens": 500, "cache_write_tokens": 50},
    {"model_name": "deep-1", "input_tokens": 900, "output_tokens": 100, "reasoning_tokens": 70, "cached_tokens": 950},
    {"model_name": "deep-1", "input_tokens": 1001, "output_tokens": 100},
    {"model_name": "deep-1", "input_tokens": 900},
    {"model_name": "dated-1", "input_tokens": 900, "output_tokens": 100},
    {"model_name": "free-1", "input_tokens": 900, "output_tokens": 100},
    {"model_name": "other", "input_tokens": 900, "output_tokens": 100},
    {"input_tokens": 900, "output_tokens": 100},
    {"model_name": "deep-1"},
]


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings that name a file of prices."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES), encoding="utf-8")
    return settings.model_copy(update={"prices": str(path)})


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """An installation with a catalogue."""
    with opened(settings) as model:
        catalogue(model)
        yield model


def record(model: AgentModel, user_id: str, *calls: dict[str, Any], cached: bool = False, arguments: Any = None) -> str:
    """Record a session of calls that the model took this for; its id."""
    with model.session(user_id, "find a café", category="cafe search") as session:
        for number, told in enumerate(calls, start=1):
            values = {"n": number} if arguments is None else arguments
            with session.process("step") as process, process.call("AGT001", "TL001", values=values) as call:
                for name, value in told.items():
                    setattr(call, name, value)
                if cached:
                    call.mark("cache_hit")
    return session.session_id


def test_the_warehouse_says_what_python_says(model: AgentModel, tmp_path: Path) -> None:
    """The cost of each call is the same in SQL and in plain Python, unknown ones included; so are sums by model."""
    session_id = record(model, "USR001", *CALLS)
    model.drain()
    model.refresh(as_of=TODAY)
    stored = model.repository.session_history("USR001", session_id).executions
    h, p = m.UserToolMappingHist, m.ModelPriceRow
    rows = select(h.call_number, cost_of(h, p)).outerjoin(p, has_price(h, p)).order_by(h.call_number)
    assert model.prices is not None
    wanted = [model.prices.cost(call) for call in stored]

    told = [0.0026, 0.001875, 0.001275, 0.004804, None, 0.0036, 0.0, None, None, None]
    assert [None if cost is None else pytest.approx(cost) for cost in told] == wanted
    assert wanted == [None if cost is None else pytest.approx(cost) for _, cost in model.warehouse.read(rows)]
    found = {row.model_name: (row.calls, row.priced, row.cost) for row in reports.costs(model.warehouse)}
    assert {
        "deep-1": (4, 3, pytest.approx(0.008679)), "deep-2": (1, 1, pytest.approx(0.001875)),
        "dated-1": (1, 1, pytest.approx(0.0036)), "free-1": (1, 1, 0.0), "other": (1, 0, None), "": (1, 0, None),
    } == found  # fmt: skip
    assert model.prices.total(stored)[0] == pytest.approx(0.014154)
    (tokens,) = reports.tokens_per_tool(model.warehouse)
    assert (10, 6) == (tokens.calls, tokens.priced)
    assert tokens.cost == pytest.approx(0.014154)
    page = model.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert {"0.008679", "unknown", "not told"} <= set(re.findall(r">([^<]+)</td>", page))


def test_prices_are_stored_once(model: AgentModel, tmp_path: Path) -> None:
    """A second refresh changes nothing; other prices replace those that were stored; without any they stay."""
    record(model, "USR001", *CALLS)
    model.drain()
    for prices in (PRICES, PRICES, {"deep-1": {"input_cost_per_token": 1.0, "output_cost_per_token": 0.0}}, None):
        model.warehouse.prices = None if prices is None else Prices(prices)
        model.refresh(as_of=TODAY)
        stored = sorted(model.warehouse.read(select(m.ModelPriceRow.model_name, m.ModelPriceRow.input)))
        deep = [(name, price) for name in ("deep-1", "deep-2") for price in (2e-6, 4e-6)]  # by length
        wanted = [("dated-1", 1e-6), ("dated-1", 3e-6), *deep, ("free-1", 0.0)]
        assert (wanted if prices is PRICES else [("deep-1", 1.0)]) == [(name, price) for name, price in stored]


def test_savings_have_a_cost(model: AgentModel) -> None:
    """An answer from the cache saved what the last equal call cost, less its own; without a price it is unknown."""
    same = {"near": "park"}
    record(model, "USR001", CALLS[0], arguments=same)
    record(
        model, "USR001", {"model_name": "deep-1", "input_tokens": 100, "output_tokens": 0}, cached=True, arguments=same
    )
    record(model, "USR001", CALLS[7], cached=True, arguments=same)
    record(model, "USR001", {}, cached=True, arguments=same)
    record(model, "USR001", {}, cached=True, arguments={"near": "nowhere"})
    model.drain()
    model.refresh(as_of=TODAY)

    (row,) = model.savings()
    assert (4, 3, 2) == (row.hits, row.metered, row.priced)
    assert row.cost == pytest.approx(0.0024 + 0.0026)


def test_impact_has_money(settings: Settings) -> None:
    """Sessions with a plan are compared with others by what the model cost, where every call's cost is known."""
    with opened(settings.model_copy(update={"holdout": 0.5})) as model:
        catalogue(model)
        arms = {True: 0, False: 0}  # sessions by whether their plan was withheld
        while min(arms.values()) < 4:
            plan = model.suggest("USR001", domain_id="DMN001", category="cafe search")
            with (
                model.session("USR001", "find a café", category="cafe search", plan=plan) as session,
                session.process("step") as process,
                process.call("AGT001", "TL001") as call,
            ):
                withheld = model.suggestions.was_withheld(session.entity)
                call.model_name, call.output_tokens = ("deep-1" if arms[withheld] else "other"), 100
                call.input_tokens = 900 if withheld else 400
                arms[withheld] += 1
            session.succeed()
        model.drain()
        model.refresh(as_of=TODAY)
        sums = reports.plan_sums(model.warehouse)

        assert arms == {each.withheld: each.sessions for each in sums}
        assert {arm: number - 1 for arm, number in arms.items()} == {
            each.withheld: each.money.sessions for each in sums
        }
        means = {each.withheld: each.money.total / each.money.sessions for each in sums}
        assert {True: pytest.approx(2600.0), False: pytest.approx(1600.0)} == means
        row = model.impact().rows[0]
        assert row.money.with_plan == pytest.approx(1600.0)
        assert row.money.without_plan == pytest.approx(2600.0)


def test_a_wrong_file_is_told(settings: Settings) -> None:
    """A file of prices that cannot be read is told when prices are asked for, and when the warehouse is opened."""
    with AgentModel(settings.model_copy(update={"prices": "missing.json"})) as model:
        for ask in (lambda: model.prices, lambda: model.warehouse):
            with pytest.raises(ValidationError, match="cannot be read"):
                ask()


def test_a_long_request_has_its_price_everywhere(model: AgentModel) -> None:
    """Calls that a long request asked for cost what the request does: in Python and in SQL."""
    with Tracker(model, domain="cafes") as tracker:
        run = tracker.run("long", user="USR001")
        run.turn("model", calls=["a", "b", "c"], input_tokens=1200, output_tokens=30, model_name="deep-1")
        for call_id in ("a", "b", "c"):
            run.call(call_id, agent="finder", tool="search", status="ok")
    model.drain()
    model.refresh(as_of=TODAY)
    (session,) = model.repository.sessions("USR001")
    stored = model.repository.session_history("USR001", session.session_id).executions

    assert [1200] * 3 == [call.request_input_tokens for call in stored]
    assert model.prices is not None
    wanted = 1200 * 4e-6 + 30 * 8e-6
    assert wanted == pytest.approx(model.prices.total(stored)[0])
    (row,) = reports.costs(model.warehouse)
    assert row.priced == 3
    assert row.cost == pytest.approx(wanted)
