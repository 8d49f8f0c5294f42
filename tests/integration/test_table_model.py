"""The table's model files: the table is built again from each, and holds what the access patterns find."""

from __future__ import annotations

import json
import shlex
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from agentmodel import Settings
from agentmodel.access.patterns import PATTERNS
from agentmodel.cli import main
from agentmodel.cli._table_model import FILES
from agentmodel.dynamo.entity import entity_of
from agentmodel.dynamo.table import Table

Model = dict[str, Any]


@pytest.fixture
def client(dynamodb_endpoint: str) -> Iterator[Any]:
    made = boto3.client(
        "dynamodb", region_name="us-east-1", endpoint_url=dynamodb_endpoint, aws_access_key_id="test",
        aws_secret_access_key="test",
    )  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def name(client: Any) -> Iterator[str]:
    """The name of a table that a test makes."""
    made = f"Model-{uuid.uuid4().hex[:8]}"
    yield made
    client.delete_table(TableName=made)


@pytest.fixture
def models(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Model]:
    """The files of the command, by name."""
    monkeypatch.setenv("AGENTMODEL_TABLE", name)
    assert 0 == main(["table", "model", "--to", str(tmp_path / "made")])
    assert {*FILES} == {path.name for path in (tmp_path / "made").iterdir()}
    return {file: json.loads((tmp_path / "made" / file).read_text("utf-8")) for file in FILES}


def shape(client: Any, name: str) -> dict[str, Any]:
    """What makes a table: keys, types, indexes and billing."""
    found = client.describe_table(TableName=name)["Table"]
    indexes = [
        {part: index[part] for part in ("IndexName", "KeySchema", "Projection")}
        for index in found["GlobalSecondaryIndexes"]
    ]
    kinds = sorted((each["AttributeName"], each["AttributeType"]) for each in found["AttributeDefinitions"])
    return {
        "keys": found["KeySchema"], "kinds": kinds, "indexes": indexes,
        "billing": found["BillingModeSummary"]["BillingMode"],
    }  # fmt: skip


def expected(client: Any, settings: Settings) -> dict[str, Any]:
    """The shape of the table that agentmodel creates."""
    with Table(settings) as table:
        table.create()
        found = shape(client, table.name)
        table.delete()
    return found


def put(client: Any, name: str, items: list[Any]) -> None:
    assert not client.batch_write_item(RequestItems={name: items})["UnprocessedItems"]


def test_the_mcp_servers_file_makes_the_table(
    client: Any, name: str, models: dict[str, Model], settings: Settings
) -> None:
    """The table is created and filled from the file as the server does it, and every access pattern finds items."""
    model = models["dynamodb_data_model.json"]
    assert ["tables", "items", "access_patterns"] == list(model)
    client.create_table(**model["tables"][0])
    put(client, name, model["items"][name])
    assert expected(client, settings) == shape(client, name)

    for pattern, entry in zip(PATTERNS, model["access_patterns"], strict=True):
        found = client.query(**arguments(entry["implementation"]))["Items"]
        kinds = [entity_of(item) for item in found]
        assert (str(pattern.number), name, "Query") == (entry["pattern"], entry["table"], entry["dynamodb_operation"])
        assert pattern.index == entry.get("index")
        assert entry["description"].startswith(f"{pattern.name}: ")
        assert found, pattern.name
        assert {*kinds} <= {*pattern.returns}, pattern.name
        for item, kind in zip(found, kinds, strict=True):
            assert kind is not None
            assert item == kind.from_item(item).to_item()
        if pattern.name == "top_agents":
            assert ["AGT001", "AGT002"] == [item["PK"]["S"] for item in found]


def arguments(command: str) -> dict[str, Any]:
    """A command of the AWS CLI as arguments of boto3."""
    program, service, operation, *options = shlex.split(command)
    assert ("aws", "dynamodb", "query") == (program, service, operation)
    forward = "--no-scan-index-forward" not in options
    options = [each for each in options if each != "--no-scan-index-forward"]
    given = dict(zip(options[::2], options[1::2], strict=True))
    names = {
        "--table-name": "TableName", "--index-name": "IndexName",
        "--key-condition-expression": "KeyConditionExpression",
    }  # fmt: skip
    values = json.loads(given.pop("--expression-attribute-values"))
    return {
        **{names[option]: value for option, value in given.items()},
        "ExpressionAttributeValues": values, "ScanIndexForward": forward,
    }  # fmt: skip


def test_the_workbenchs_file_makes_the_table(
    client: Any, name: str, models: dict[str, Model], settings: Settings
) -> None:
    """The table is created from keys, index and billing of the file; its items, attributes and facets fit together."""
    model = models["agentmodel_workbench.json"]
    (table,) = model["DataModel"]
    pairs = [table["KeyAttributes"], *(index["KeyAttributes"] for index in table["GlobalSecondaryIndexes"])]
    both = ("PartitionKey", "HASH"), ("SortKey", "RANGE")

    def schema(pair: Model) -> list[Any]:
        return [{"AttributeName": pair[part]["AttributeName"], "KeyType": kind} for part, kind in both]

    client.create_table(
        TableName=table["TableName"], BillingMode=table["BillingMode"], KeySchema=schema(table["KeyAttributes"]),
        AttributeDefinitions=[part for pair in pairs for part in pair.values()],
        GlobalSecondaryIndexes=[
            {
                "IndexName": index["IndexName"], "KeySchema": schema(index["KeyAttributes"]),
                "Projection": index["Projection"],
            }
            for index in table["GlobalSecondaryIndexes"]
        ],
    )  # fmt: skip
    put(client, name, [{"PutRequest": {"Item": item}} for item in table["TableData"]])
    found = client.scan(TableName=name)["Items"]
    kinds = {each["AttributeName"]: each["AttributeType"] for each in table["NonKeyAttributes"]}
    keys = {part["AttributeName"] for pair in pairs for part in pair.values()}
    used = {stored: next(iter(value)) for item in found for stored, value in item.items() if stored not in keys}

    assert expected(client, settings) == shape(client, name)
    assert len(table["TableData"]) == len(found)
    assert 10 == len({item["EntityType"]["S"] for item in found})
    assert used.items() <= kinds.items()
    assert [pattern.name for pattern in PATTERNS] == [facet["FacetName"] for facet in table["TableFacets"]]
    assert all({*facet["NonKeyAttributes"]} <= {*kinds} for facet in table["TableFacets"])
    assert ["<user_id>#<session_id>", "<process_id>"] == list(table["TableFacets"][5]["KeyAttributeAlias"].values())
