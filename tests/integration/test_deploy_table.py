"""The table of the template for AWS is the one that `agentmodel table create --protect` makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agentmodel import Settings
from agentmodel.aws.template import template
from agentmodel.cli._doctor import check_table
from agentmodel.dynamo.table import Table

BY_OTHER_CALLS = {"TimeToLiveSpecification", "PointInTimeRecoverySpecification"}
BY_POLICY = "ResourcePolicy"  # lets zero-ETL export the table; no engine here reads it
OWN = {
    "TableArn",
    "TableId",
    "TableName",
    "CreationDateTime",
    "IndexArn",
    "ItemCount",
    "TableSizeBytes",
    "IndexSizeBytes",
}


@pytest.fixture
def made_by_template(settings: Settings) -> Iterator[Table]:
    """A table that is made with the rendered properties, by the calls that CloudFormation makes for them."""
    name = f"{settings.table}-template"
    values = {"TableName": name, "DeletionProtection": True}
    properties = {key: values[each["Ref"]] if isinstance(each, dict) and "Ref" in each else each
                  for key, each in template()["Resources"]["Table"]["Properties"].items()}  # fmt: skip
    with Table(settings.model_copy(update={"table": name})) as table:
        table.call(
            "CreateTable", **{key: each for key, each in properties.items() if key not in {*BY_OTHER_CALLS, BY_POLICY}}
        )
        table._wait_until_active()
        table.call("UpdateTimeToLive", TableName=name, TimeToLiveSpecification=properties["TimeToLiveSpecification"])
        table.call(
            "UpdateContinuousBackups",
            TableName=name,
            PointInTimeRecoverySpecification=properties["PointInTimeRecoverySpecification"],
        )
        yield table


def described(value: Any) -> Any:
    """A description without what is each table's own."""
    if isinstance(value, dict):
        return {key: described(each) for key, each in value.items() if key not in OWN}
    if isinstance(value, list):
        return sorted((described(each) for each in value), key=str)
    return value


def test_template_and_program_make_the_same_table(settings: Settings, made_by_template: Table) -> None:
    """Keys, index, billing, protection, TTL and recovery are the same, and `agentmodel check` finds nothing in either."""
    with Table(settings) as table:
        created = table.create()
        unprotected = [problem.code for problem in check_table(table)]
        protected = table.protect(), table.protect()

        assert (True, ["T205"], (True, False)) == (created, unprotected, protected)
        assert [] == list(check_table(table)) == list(check_table(made_by_template))
        assert described(table.describe()) == described(made_by_template.describe())
        for call, answer in (("DescribeTimeToLive", "TimeToLiveDescription"),):
            one, other = (each.call(call, TableName=each.name)[answer] for each in (table, made_by_template))
            assert one == other
        assert table.describe()["DeletionProtectionEnabled"] is True
