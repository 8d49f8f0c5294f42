"""What agentmodel 0.1.0 stored, put back into real engines: where every test of an upgrade begins.

The files are in ``tests/fixtures/stored_0_1_0``; its README tells what is in them. Nothing here uses the package, so
what is put back stays what 0.1.0 had, whatever the package becomes.

`valkey_keys` and `fill_valkey` are each other's inverse. They go by commands rather than by DUMP and RESTORE, so that
neither the format of the dump nor the server's version matters.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import boto3
import duckdb
import redis

__all__ = [
    "FOLDER",
    "all_items",
    "departed",
    "fill_table",
    "fill_valkey",
    "journal_keys",
    "json_line",
    "table_items",
    "valkey_keys",
    "warehouse_url",
]

Item: TypeAlias = dict[str, dict[str, Any]]
Key: TypeAlias = dict[str, Any]

FOLDER = Path(__file__).parents[1] / "fixtures" / "stored_0_1_0"
"""Where the files are."""

_BATCH = 25  # DynamoDB's limit of one BatchWriteItem
_NAMES = ("PK", "SK", "GSI1_PK", "GSI1_SK")


# Files


def json_line(content: Any) -> str:
    """One line of a file: text as it is."""
    return json.dumps(content, ensure_ascii=False)


def table_items() -> list[Item]:
    """The items of the table, in the order of their keys."""
    return _lines("table.jsonl")


def journal_keys() -> list[Key]:
    """The keys of Valkey, in the order of their names."""
    return _lines("journal.jsonl")


def warehouse_url(folder: Path) -> str:
    """The URL of a copy of the warehouse in a folder: DuckDB writes into the files it opens."""
    copy = folder / "stored_0_1_0.duckdb"
    copy.write_bytes(gzip.decompress((FOLDER / "warehouse.duckdb.gz").read_bytes()))
    return f"duckdb:///{copy}"


def departed(url: str) -> list[Item]:
    """The items that TTL had deleted when the warehouse was refreshed; of what a person deleted only the keys are left.

    Args:
        url: A copy of the warehouse, which nobody has open.
    """
    with closing(duckdb.connect(url.removeprefix("duckdb:///"), read_only=True)) as warehouse:
        rows = warehouse.execute('SELECT value FROM "AgentTable" WHERE NOT _record_is_active').fetchall()
    return [item for (text,) in rows if "PK" in (item := json.loads(text))]


def _lines(name: str) -> list[Any]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


# The table


def fill_table(name: str, endpoint: str, *, stored: Sequence[Item] | None = None) -> None:
    """Make a table as 0.1.0 made it, and put the stored items (or others) there as they are.

    Args:
        name: The table's name.
        endpoint: The engine.
        stored: Other items than those of the file.
    """
    with closing(_dynamodb(endpoint)) as client:
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each in _NAMES],
            KeySchema=_schema(*_NAMES[:2]),
            GlobalSecondaryIndexes=[
                {"IndexName": "GSI1", "KeySchema": _schema(*_NAMES[2:]), "Projection": {"ProjectionType": "ALL"}}
            ],
        )
        client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
        client.update_time_to_live(
            TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ExpiresAt"}
        )
        puts = [{"PutRequest": {"Item": item}} for item in (table_items() if stored is None else stored)]
        while puts:
            some, puts = puts[:_BATCH], puts[_BATCH:]
            puts += client.batch_write_item(RequestItems={name: some})["UnprocessedItems"].get(name, [])


def all_items(name: str, endpoint: str) -> list[Item]:
    """Everything a table holds, expired or not, in the order of its keys; attributes and sets are in order too."""
    with closing(_dynamodb(endpoint)) as client:
        pages = client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
        found = [_in_order(item) for page in pages for item in page["Items"]]
    return sorted(found, key=lambda item: (item["PK"]["S"], item["SK"]["S"]))


def _in_order(item: Item) -> Item:
    return {
        name: {kind: sorted(inner) if kind in ("SS", "NS") else inner for kind, inner in value.items()}
        for name, value in sorted(item.items(), key=lambda pair: (pair[0] not in _NAMES[:2], pair[0]))
    }


def _schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def _dynamodb(endpoint: str) -> Any:
    return boto3.client(
        "dynamodb",
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


# Valkey


def valkey_keys(url: str) -> list[Key]:
    """Every key of a server: name, type, milliseconds it still lives (None: for ever) and content.

    Bytes that are UTF-8 are text, others ``{"base64": …}``. A stream has its entries with their ids and its consumer
    groups; what a consumer has taken and not acknowledged has the epoch millisecond and the number of deliveries.
    """
    with closing(_valkey(url)) as client:
        return [_read(client, name) for name in sorted(client.execute_command("KEYS", "*"))]


def fill_valkey(url: str, *, stored: Iterable[Key] | None = None) -> None:
    """Put the stored keys (or others) into an empty server.

    Lifetimes begin anew, since otherwise most keys had expired long ago; the times of deliveries are those of then.

    Args:
        url: The server.
        stored: Other keys than those of the file.
    """
    with closing(_valkey(url)) as client:
        for key in journal_keys() if stored is None else stored:
            name = _bytes(key["key"])
            _FILLS[key["type"]](client, name, key["content"])
            if key["ttl_ms"] is not None:
                client.execute_command("PEXPIRE", name, key["ttl_ms"])


def _valkey(url: str) -> Any:
    """A client that gives every answer as the server sent it."""
    client = redis.Redis.from_url(url.replace("valkey:", "redis:", 1), protocol=2)
    client.response_callbacks.clear()
    return client


def _text(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _bytes(text: Any) -> bytes:
    return base64.b64decode(text["base64"]) if isinstance(text, dict) else str(text).encode()


def _read(client: Any, name: bytes) -> Key:
    kind = client.execute_command("TYPE", name).decode()
    lives = client.execute_command("PTTL", name)
    content = _READS[kind](client, name)
    return {"key": _text(name), "type": kind, "ttl_ms": None if lives < 0 else lives, "content": content}


def _read_string(client: Any, name: bytes) -> Any:
    return _text(client.execute_command("GET", name))


def _fill_string(client: Any, name: bytes, content: Any) -> None:
    client.execute_command("SET", name, _bytes(content))


def _read_hash(client: Any, name: bytes) -> list[Any]:
    flat = client.execute_command("HGETALL", name)
    return [[_text(field), _text(value)] for field, value in sorted(zip(flat[::2], flat[1::2], strict=True))]


def _fill_hash(client: Any, name: bytes, content: Any) -> None:
    client.execute_command("HSET", name, *(_bytes(part) for pair in content for part in pair))


def _read_ranking(client: Any, name: bytes) -> list[Any]:
    flat = client.execute_command("ZRANGE", name, 0, -1, "WITHSCORES")
    return [[_text(member), rank.decode()] for member, rank in zip(flat[::2], flat[1::2], strict=True)]


def _fill_ranking(client: Any, name: bytes, content: Any) -> None:
    client.execute_command("ZADD", name, *(part for member, rank in content for part in (rank, _bytes(member))))


def _read_stream(client: Any, name: bytes) -> dict[str, Any]:
    told = _named(client.execute_command("XINFO", "STREAM", name, "FULL", "COUNT", 0))
    return {
        "last_id": told["last-generated-id"].decode(),
        "max_deleted_id": told["max-deleted-entry-id"].decode(),
        "entries_added": told["entries-added"],
        "entries": [[entry.decode(), [_text(part) for part in fields]] for entry, fields in told["entries"]],
        "groups": [_read_group(_named(group)) for group in told["groups"]],
    }


def _read_group(group: dict[str, Any]) -> dict[str, Any]:
    consumers = [_named(consumer) for consumer in group["consumers"]]
    return {
        "name": _text(group["name"]),
        "last_id": group["last-delivered-id"].decode(),
        "entries_read": group["entries-read"],
        "consumers": [
            {
                "name": _text(consumer["name"]),
                "pending": [[entry.decode(), at, times] for entry, at, times in consumer["pending"]],
            }
            for consumer in consumers
        ],
    }


def _named(flat: Sequence[Any]) -> dict[str, Any]:
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _fill_stream(client: Any, name: bytes, content: Any) -> None:
    for entry, fields in content["entries"]:
        client.execute_command("XADD", name, entry, *(_bytes(part) for part in fields))
    if not content["entries"]:  # a stream that is drained is there all the same
        client.execute_command("XADD", name, "0-1", "", "")
        client.execute_command("XDEL", name, "0-1")
    counts = "ENTRIESADDED", content["entries_added"], "MAXDELETEDID", content["max_deleted_id"]
    client.execute_command("XSETID", name, content["last_id"], *counts)
    for group in content["groups"]:
        _fill_group(client, name, group)


def _fill_group(client: Any, name: bytes, group: dict[str, Any]) -> None:
    known = [] if group["entries_read"] is None else ["ENTRIESREAD", group["entries_read"]]
    called = _bytes(group["name"])
    client.execute_command("XGROUP", "CREATE", name, called, group["last_id"], *known)
    for consumer in group["consumers"]:
        who = _bytes(consumer["name"])
        client.execute_command("XGROUP", "CREATECONSUMER", name, called, who)
        for entry, at, times in consumer["pending"]:
            as_taken = "TIME", at, "RETRYCOUNT", times, "FORCE", "JUSTID"
            client.execute_command("XCLAIM", name, called, who, 0, entry, *as_taken)


_READS = {"string": _read_string, "hash": _read_hash, "zset": _read_ranking, "stream": _read_stream}
_FILLS = {"string": _fill_string, "hash": _fill_hash, "zset": _fill_ranking, "stream": _fill_stream}
