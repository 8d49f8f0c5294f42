"""Write the table as a model file: for NoSQL Workbench, and for the MCP server of DynamoDB.

Both hold the keys, the index, sample items of every entity and the eight access patterns. The formats are those of
NoSQL Workbench's version 3 files, and of ``dynamodb_data_model.json`` of awslabs' dynamodb-mcp-server, whose
``dynamodb_data_model_validation`` creates the table, loads the items and runs each access pattern.

>>> sorted(FILES)
['agentmodel_workbench.json', 'dynamodb_data_model.json']
>>> FILES["agentmodel_workbench.json"]("History")["DataModel"][0]["TableName"]
'History'
"""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from typing import Any, Final

from agentmodel import keys
from agentmodel.access.patterns import PATTERNS, AccessPattern
from agentmodel.access.repository import Repository
from agentmodel.dynamo.entity import Entity, Item, known_attributes
from agentmodel.dynamo.models import (
    Agent,
    Domain,
    Review,
    Suggestion,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.dynamo.table import DEFINITION

__all__ = ["FILES", "mcp_model", "workbench_model"]

_DAY: Final = datetime(2025, 6, 14, 14, 6, 5, tzinfo=UTC)
_KEYS: Final[dict[str, Any]] = {"user_id": "USR001", "session_id": "SESS20250614001"}

_VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "domains": (), "top_agents": ("DMN001",), "domain_tools": ("DMN001",), "agent_tools": ("AGT001",),
    "sessions": ("USR001",), "session_history": ("USR001", "SESS20250614001"), "user_mappings": ("USR001",),
    "mappings": (0,),
}  # fmt: skip
"""Values of each access pattern's partition key, with which it finds sample items."""


def _samples() -> list[Entity]:
    """Return an entity or two of each class, of one short history."""
    tools: dict[str, str] = {keys.EXECUTION.build("PRC001", "AGT001", "TL001", 1): "FIND_PLACE"}
    return [
        Domain(domain_id="DMN001", name="store search", description="Finds stores, cafés and their opening hours."),
        Agent(agent_id="AGT001", domain_id="DMN001", name="map agent", score=2.5, executions=3, successes=3),
        Agent(agent_id="AGT002", domain_id="DMN001", name="web agent", score=0.5, executions=2, successes=1),
        Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="FIND_PLACE", spec={"type": "object"}),
        Tool(agent_id="AGT002", tool_id="TL001", domain_id="DMN001", name="SEARCH"),
        User(user_id="USR001", name="mina", created_at=_DAY),
        UserSession(**_KEYS, name="a café near the stadium", category="cafe search", started_at=_DAY, succeeded=True),
        UserSessionProcess(**_KEYS, process_id="PRC001", name="locate", prompt="Where is the stadium?"),
        ToolExecution(
            **_KEYS, process_id="PRC001", agent_id="AGT001", tool_id="TL001", tool_name="FIND_PLACE", succeeded=True,
            values='{"place": "stadium"}', result="Jamsil", executed_at=_DAY, status="ok", duration_ms=120,
        ),
        UserToolMapping(
            user_id="USR001", category="cafe search", processes={"PRC001": "locate"}, agents={"AGT001": "map agent"},
            tools=tools, score=1.0,
        ),
        Review(**_KEYS, review_id="r1", question="Book the table?", queue="bookings", due_at=_DAY, asked_at=_DAY),
        Suggestion(
            user_id="USR001", suggestion_id="s1", suggested_at=_DAY, source="best agent of the domain", choice="AGT001",
            steps=[], candidates={"AGT001": 2.5},
        ),
    ]  # fmt: skip


def _items() -> list[Item]:
    """Return the sample items, as DynamoDB JSON."""
    return [entity.to_item() for entity in _samples()]


def workbench_model(name: str) -> dict[str, Any]:
    """Return the table as NoSQL Workbench imports it; each access pattern is a facet.

    Args:
        name: The table's name.

    >>> table = workbench_model("History")["DataModel"][0]
    >>> table["TableName"], table["KeyAttributes"]["PartitionKey"]["AttributeName"]
    ('History', 'PK')
    """
    key, index = DEFINITION["KeySchema"], DEFINITION["GlobalSecondaryIndexes"][0]
    kinds: dict[str, str] = {"EntityType": "S", "SchemaVer": "N"}
    for entity in {type(sample): None for sample in _samples()}:
        kinds |= {stored: attribute.attr_type for stored, attribute in known_attributes(entity).items()}
    table = {
        "TableName": name,
        "KeyAttributes": _pair(key),
        "NonKeyAttributes": [{"AttributeName": each, "AttributeType": kind} for each, kind in sorted(kinds.items())],
        "TableFacets": [_facet(pattern) for pattern in PATTERNS],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": index["IndexName"],
                "KeyAttributes": _pair(index["KeySchema"]),
                "Projection": index["Projection"],
            }
        ],
        "TableData": _items(),
        "DataAccess": {"MySql": {}},
        "BillingMode": DEFINITION["BillingMode"],
    }
    about = {
        "Author": "agentmodel", "DateCreated": "Jun 14, 2025, 02:06 PM", "DateLastModified": "Jun 14, 2025, 02:06 PM",
        "Description": "The execution history of AI agents in one table.", "AWSService": "Amazon DynamoDB",
        "Version": "3.0",
    }  # fmt: skip
    return {"ModelName": "agentmodel", "ModelMetadata": about, "DataModel": [table]}


def _pair(schema: list[dict[str, str]]) -> dict[str, Any]:
    names = ("PartitionKey", "SortKey")
    return {
        name: {"AttributeName": each["AttributeName"], "AttributeType": "S"}
        for name, each in zip(names, schema, strict=True)
    }


def _facet(pattern: AccessPattern) -> dict[str, Any]:
    keys = pattern.returns[0].layout.keys
    names = sorted({stored for entity in pattern.returns for stored in known_attributes(entity)})
    return {
        "FacetName": pattern.name,
        "KeyAttributeAlias": {"PartitionKeyAlias": keys["PK"].format.form, "SortKeyAlias": keys["SK"].format.form},
        "TableData": [],
        "NonKeyAttributes": ["EntityType", *names],
        "DataAccess": {"MySql": {}},
    }


def mcp_model(name: str) -> dict[str, Any]:
    """Return the table as the MCP server of DynamoDB reads it from ``dynamodb_data_model.json``.

    Args:
        name: The table's name.

    >>> mcp_model("History").keys()
    dict_keys(['tables', 'items', 'access_patterns'])
    """
    return {
        "tables": [{"TableName": name, **DEFINITION}],
        "items": {name: [{"PutRequest": {"Item": item}} for item in _items()]},
        "access_patterns": [_pattern(name, pattern) for pattern in PATTERNS],
    }


def _pattern(name: str, pattern: AccessPattern) -> dict[str, Any]:
    request = pattern.query(*_VALUES[pattern.name]).request()
    command = ["aws", "dynamodb", "query", "--table-name", name]
    if pattern.index is not None:
        command += ["--index-name", pattern.index]
    values = json.dumps(request["ExpressionAttributeValues"], ensure_ascii=False)
    command += ["--key-condition-expression", request["KeyConditionExpression"]]
    command += ["--expression-attribute-values", values]
    if not request["ScanIndexForward"]:
        command.append("--no-scan-index-forward")
    documented = getattr(Repository, pattern.name).__doc__ or pattern.name
    return {
        "pattern": str(pattern.number),
        "description": f"{pattern.name}: {documented.splitlines()[0]}",
        "table": name,
        **({} if pattern.index is None else {"index": pattern.index}),
        "dynamodb_operation": "Query",
        "implementation": shlex.join(command),
    }


FILES: Final = {"agentmodel_workbench.json": workbench_model, "dynamodb_data_model.json": mcp_model}
"""The names under which the files are written, and what makes each for a table's name."""
