"""The units of a month are computed from what the code reads and writes, which is measured here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.cli import _units as units
from agentmodel.cli import main
from agentmodel.cli._units import Volume, priced, usage
from agentmodel.exceptions import ValidationError
from tests.integration.suggest_world import catalogue, opened

PAGE = Path(__file__).parents[2] / "docs" / "capacity.md"
STEPS, CALLS = 3, 4


@contextmanager
def counted(model: AgentModel) -> Iterator[Counter[str]]:
    """Count write units by the kind of item, and reads by operation, of all calls of DynamoDB's API."""
    found: Counter[str] = Counter()
    client = model.table.client
    original = client._make_api_call

    def call(operation: str, request: dict[str, Any]) -> Any:
        answer = original(operation, request)
        if operation == "PutItem":
            item = request["Item"]
            found[item["EntityType"]["S"]] += 1 + ("GSI1_PK" in item)
        elif operation == "UpdateItem" and "ExpiresAt" in request["UpdateExpression"]:
            found["moved"] += 1 + ("TTLDays" in request["UpdateExpression"])  # the session, which is in the index
        elif operation == "BatchGetItem":
            for each in request["RequestItems"].values():
                kind = each["Keys"][0]["SK"]["S"].partition("#")[0]
                of = "mappings" if kind == "UserPrcToolMapp" else "looked at" if kind.startswith("SESS") else "others"
                found[of] += len(each["Keys"]) * (2 if each.get("ConsistentRead") else 1)  # in halves of a unit
        elif operation in ("Query", "GetItem"):
            found["reads"] += 1
        return answer

    client._make_api_call = call
    try:
        yield found
    finally:
        client._make_api_call = original


def record(model: AgentModel, user_id: str, plan: Any = None) -> None:
    with model.session(user_id, "find a café", category="cafe search", plan=plan) as session:
        for step in range(STEPS):
            with session.process(f"step {step}") as process:
                for tool in range(CALLS - STEPS + 1 if step == 0 else 1):
                    with process.call("AGT001", f"TL{tool + 1:03}", values={"place": "stadium"}) as call:
                        call.result = "found"
        session.succeed()
    model.settle()


def test_the_facts_are_those_of_the_code(settings: Settings) -> None:
    """Records, plans, moved expiries and what a publish looks at take as many units as the computation says."""
    with opened(settings) as model:
        catalogue(model)
        for user in ("USR001", "USR002"):
            record(model, user)
        with counted(model) as drained:
            model.drain()
        model.refresh()
        with counted(model) as published:
            model.publish()
        with counted(model) as asked:
            plan = model.suggest("USR001", category="cafe search")
        with counted(model) as followed:
            record(model, "USR001", plan)
            model.drain()
        model.refresh()
        with counted(model) as again:
            model.publish()
        with counted(model) as before_it_landed:
            model.publish()
        model.refresh()
        with counted(model) as afterwards:
            model.publish()
        index = model.table.client.query(TableName=model.table.name, IndexName="GSI1", KeyConditionExpression="GSI1_PK = :p",
                                         ExpressionAttributeValues={":p": {"S": "UserPrcToolMapp"}},
                                         ReturnConsumedCapacity="TOTAL")  # fmt: skip

    assert 2 * (units._SESSION_WRITES + STEPS + CALLS) == sum(drained[kind] for kind in (
        "UserSession", "UserSessionProcess", "UserSessPrcToolMappHist"))  # fmt: skip
    assert 2 * (units._MOVED_WRITES + STEPS + CALLS) == published["moved"]
    assert units._MOVED_WRITES + STEPS + CALLS == again["moved"]
    assert units._PLAN_WRITES == asked["Suggestion"] + followed["Suggestion"]
    assert asked["reads"] * 0.5 <= units._PLAN_READS
    looked_at = [each["looked at"] for each in (published, again, before_it_landed, afterwards)]
    assert [2, 1, 1, 0] == looked_at  # those that move, and once more until the move has landed
    assert 0.5 == units._LOOKED_AT_READS
    assert 2 * index["Count"] == afterwards["mappings"]
    assert index["Count"] > 0
    assert units._MAPPING_READS >= 1 + 0.5 * 0.8 / 4


def test_equal_times_to_live_move_nothing(settings: Settings) -> None:
    """Where both retentions are the same, no expiry is moved, so `moved` is 0."""
    with opened(settings.model_copy(update={"ttl_days_low": 60, "ttl_days_high": 60})) as model:
        catalogue(model)
        record(model, "USR001")
        model.drain()
        model.refresh()
        with counted(model) as published:
            model.publish()

    assert 0 == published["moved"]


def test_the_computation_adds_up() -> None:
    """A hundred times as many calls use a hundred times of what grows; larger calls use more units; the rest stays."""
    small, large = ({row.unit: row.amount for row in usage(Volume(calls=calls))} for calls in (10_000, 1_000_000))
    wide = {row.unit: row.amount for row in usage(Volume(calls=10_000, call_kb=3.5, moved=0, planned=0))}

    assert 100 * small["dynamodb write request units"] == large["dynamodb write request units"]
    assert 10_000 / 4 * (9 + 9 + 2) == small["dynamodb write request units"]
    assert 10_000 / 4 * 5 + 10_000 * 4 == wide["dynamodb write request units"]
    assert small["redshift rpu hours"] == large["redshift rpu hours"] == 1440 * 60 * 8 / 3600


def test_prices_are_the_readers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command multiplies by the prices of a file, names their day, and leaves out units without one."""
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({"as_of": "2026-12-01", "prices": {"redshift rpu hours": 0.5}}), encoding="utf-8")

    assert 0 == main(["deploy", "units", "--calls", "10000", "--prices", str(file), "--json"])
    costs = {row["unit"]: row["cost"] for row in json.loads(capsys.readouterr().out)}
    assert {"redshift rpu hours": 96.0} == {unit: cost for unit, cost in costs.items() if cost is not None}
    assert 0 == main(["deploy", "units", "--calls", "10000", "--prices", str(file)])
    assert "as of 2026-12-01: 96.00." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prices", "told"),
    [
        ({"prices": {}}, "as_of .* must be the day"),
        ({"as_of": "2026-12-01", "prices": {"rpu": 1}}, r"prices \('rpu'\) must be one of the units: dynamodb"),
        ({"as_of": "2026-12-01", "prices": {"redshift rpu hours": "1"}}, "price of redshift rpu hours"),
        ({"as_of": "2026-12-01", "prices": {"redshift rpu hours": float("nan")}}, "price of redshift rpu hours"),
        ({"as_of": "2026-12-01", "prices": {"redshift rpu hours": float("inf")}}, "price of redshift rpu hours"),
        ({"as_of": "2026-12-01", "prices": [0.36]}, "must be an object of prices by unit"),
        ({"as_of": "2026-12-01", "prices": None}, "must be an object of prices by unit"),
    ],
)
def test_prices_that_are_none(prices: dict[str, Any], told: str) -> None:
    """A file without a day, of another unit, without an object of prices, or with no number for one is refused."""
    with pytest.raises(ValidationError, match=told):
        priced(usage(Volume(calls=1)), prices)


@pytest.mark.parametrize("wrong", [{"calls": -1}, {"calls_of_session": 0}, {"moved": 1.5}, {"peak": float("nan")}])
def test_volumes_that_are_none(wrong: dict[str, Any]) -> None:
    """A number that no month can have is refused by its name."""
    with pytest.raises(ValidationError, match=f"{next(iter(wrong))} .* must be"):
        usage(Volume(**({"calls": 1} | wrong)))


@pytest.mark.skipif(not PAGE.exists(), reason="the source folder is out of the way")
def test_the_page_has_these_numbers() -> None:
    """The table of the page is the computation's, for ten thousand, a million and a hundred million calls."""
    months = [usage(Volume(calls=calls)) for calls in (10_000, 1_000_000, 100_000_000)]
    rows = [
        f"| {row.unit} | {' | '.join(f'{month[at].amount:,.1f}' for month in months)} | {row.made_of} |"
        for at, row in enumerate(months[0])
    ]
    page = PAGE.read_text(encoding="utf-8").splitlines()

    assert [] == [row for row in rows if row not in page]
