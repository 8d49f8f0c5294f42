"""What lies where: counts per station."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentmodel.client import AgentModel
from agentmodel.dynamo.models import Agent, Tool, UserToolMapping

__all__ = ["Stations", "count"]


@dataclass(frozen=True, slots=True)
class Stations:
    """Counts per station; a station that is not set up is None.

    Attributes:
        cache: The journal in Valkey: entries that wait (``depth``), that a drainer holds (``pending``), that can never
            be written (``dead``), the age of the oldest, what a receipt is worth (``level``), and the breaker.
        dynamo: Items of the table in all (``items``) and by kind (``entities``, where they were counted).
        redshift: Rows of each table of the warehouse, with those that landed.
        suggest: Agents, tools and mappings that carry what a publish wrote, where they were counted.
    """

    cache: Mapping[str, Any] | None
    dynamo: Mapping[str, Any]
    redshift: Mapping[str, int] | None
    suggest: Mapping[str, int] = field(default_factory=dict)


def count(model: AgentModel, *, scan: bool) -> Stations:
    """Count.

    Args:
        model: The installation.
        scan: Read the whole table to count its items by kind; otherwise DynamoDB is asked for its own count, which it
            brings up to date every six hours.

    Raises:
        Unavailable: A station does not answer.
    """
    dynamo: dict[str, Any]
    published: dict[str, int] = {}
    if scan:
        kinds, published = _scanned(model)
        dynamo = {"items": kinds.total(), "entities": dict(sorted(kinds.items()))}
    else:
        told = model.table.call("DescribeTable", TableName=model.table.name)
        dynamo = {"items": told["Table"]["ItemCount"], "entities": None}
    warehouse = None if model.settings.warehouse_url is None else model.warehouse.counts()
    return Stations(_journal(model), dynamo, warehouse, published)


def _journal(model: AgentModel) -> dict[str, Any] | None:
    if model.journal is None:
        return None
    stats = model.journal.stats()
    return {
        "depth": stats.depth,
        "pending": stats.pending,
        "dead": stats.dead,
        "oldest_seconds": round(stats.oldest_seconds, 3),
        "level": stats.level,
        "breaker": stats.breaker,
    }


def _scanned(model: AgentModel) -> tuple[Counter[str], dict[str, int]]:
    """Items by kind, and how many of them a publish has written to; two attributes of each item are read."""
    kinds: Counter[str] = Counter()
    published: Counter[str] = Counter()
    request: dict[str, Any] = {
        "TableName": model.table.name,
        "ProjectionExpression": "EntityType, ScoreRunDT",
    }
    while True:
        answer = model.table.call("Scan", **request)
        for item in answer["Items"]:
            kind = item.get("EntityType", {}).get("S", "without EntityType")
            kinds[kind] += 1
            published[kind] += "ScoreRunDT" in item
        if answer.get("LastEvaluatedKey") is None:
            break
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
    places = {"agents": Agent.kind, "tools": Tool.kind, "mappings": UserToolMapping.kind}
    return kinds, {name: published[kind] for name, kind in places.items()}
