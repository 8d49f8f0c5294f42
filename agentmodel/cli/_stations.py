"""Count what each store holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from agentmodel.cache import Journal
from agentmodel.client import AgentModel
from agentmodel.dynamo.entity import entity_of
from agentmodel.dynamo.models import Agent, Tool, UserToolMapping
from agentmodel.exceptions import TableNotFound, Unavailable

__all__ = ["Stations", "count_stations"]


@dataclass(frozen=True, slots=True)
class Stations:
    """What each store holds; a store that is not set up, or does not answer, has no counts.

    Attributes:
        cache: The journal in Valkey: entries that are not in the table yet (``depth``), those of them that a drainer
            has taken (``pending``), dead letters (``dead``), the age of the oldest entry in seconds
            (``oldest_seconds``), the durability that a receipt names (``level``), and the state of the circuit breaker
            (``breaker``). None without Valkey.
        dynamo: The state of the table's circuit breaker (``breaker``), and its items, all (``items``) and by kind
            (``entities``): the names of their classes, and ``internal`` for items that only agentmodel itself reads;
            None where they were not counted.
        redshift: Rows of each table of the warehouse, the landed table among them. None without one.
        suggest: Agents, tools and mappings that a publish has written to; empty where they were not counted.
        failed: Why a store could not be counted, by the names above.
    """

    cache: Mapping[str, Any] | None
    dynamo: Mapping[str, Any]
    redshift: Mapping[str, int] | None
    suggest: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


def count_stations(model: AgentModel, *, scan: bool) -> Stations:
    """Count what each store holds.

    Args:
        model: The model whose stores are counted.
        scan: Read the whole table to count its items by kind; otherwise use DynamoDB's own count, which it updates
            every six hours.

    Raises:
        TableNotFound: The table does not exist.
    """
    failed: dict[str, str] = {}

    @contextmanager
    def counting(store: str) -> Iterator[None]:
        try:
            yield
        except TableNotFound:
            raise
        except Unavailable as error:
            failed[store] = f"{error} ({error.code})"

    dynamo: dict[str, Any] = {"items": None, "entities": None}
    published: dict[str, int] = {}
    with counting("dynamo"):
        if scan:
            kinds, published = _scanned(model)
            dynamo = {"items": kinds.total(), "entities": dict(sorted(kinds.items()))}
        else:
            dynamo["items"] = model.table.describe()["ItemCount"]
    cache: dict[str, Any] | None = None
    if model.valkey is not None and model.journal is not None:
        cache = {}
        with counting("cache"):
            cache |= _journal(model.journal)
        cache["breaker"] = model.valkey.breaker.state
    warehouse: dict[str, int] | None = None
    if model.settings.warehouse_url is not None:
        warehouse = {}
        with counting("redshift"):
            warehouse = model.warehouse.counts()
    return Stations(cache, {"breaker": model.table.breaker.state, **dynamo}, warehouse, published, failed)


def _journal(journal: Journal) -> dict[str, Any]:
    stats = journal.stats()
    return {
        "depth": stats.depth,
        "pending": stats.pending,
        "dead": stats.dead,
        "oldest_seconds": round(stats.oldest_seconds, 3),
        "level": stats.level,
    }


def _scanned(model: AgentModel) -> tuple[Counter[str], dict[str, int]]:
    """Return the number of items by kind, and of those that a publish has written to, from two attributes of each."""
    kinds: Counter[str] = Counter()
    published: Counter[str] = Counter()
    request: dict[str, Any] = {"TableName": model.table.name, "ProjectionExpression": "EntityType, ScoreRunDT"}
    while True:
        answer = model.table.call("Scan", **request)
        for item in answer["Items"]:
            entity = entity_of(item)
            kind = "internal" if entity is None else entity.__name__
            kinds[kind] += 1
            published[kind] += "ScoreRunDT" in item
        if answer.get("LastEvaluatedKey") is None:
            break
        request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
    names = {"agents": Agent, "tools": Tool, "mappings": UserToolMapping}
    return kinds, {name: published[entity.__name__] for name, entity in names.items()}
