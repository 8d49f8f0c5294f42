"""An installation that is made once for a file and put back for each test: to make it takes longer than most tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import redis

from agentmodel import Settings
from agentmodel.dynamo.entity import Item
from agentmodel.dynamo.table import Table


class Kept(NamedTuple):
    """What a table and a Valkey held."""

    items: list[Item]
    keys: dict[bytes, tuple[int, bytes]]


def kept_settings(endpoint: str, valkey_url: str, folder: Path) -> Settings:
    """Settings for an installation that several tests share."""
    return Settings.load(
        table=f"Test-{uuid4().hex[:12]}",
        endpoint=endpoint,
        access_key_id="test",
        secret_access_key="test",
        dynamodb_timeout=10.0,
        guard_timeout=60.0,
        valkey_url=valkey_url,
        valkey_timeout=10.0,  # a value of 2 MB on a busy machine
        valkey_connect_timeout=5.0,
        warehouse_url=f"duckdb:///{folder / 'warehouse.duckdb'}",
    )


@contextmanager
def plain_client(url: str) -> Iterator[Any]:
    """A client of redis-py."""
    with closing(redis.Redis.from_url(url.replace("valkey:", "redis:", 1))) as client:
        yield client


def keep(table: Table, valkey_url: str) -> Kept:
    """Return what a table and a Valkey hold; nothing may write meanwhile."""
    with plain_client(valkey_url) as client:
        found = {key: (max(0, client.pttl(key)), client.dump(key)) for key in client.keys("*")}
    return Kept(list(table.scan()), {key: (ttl, dump) for key, (ttl, dump) in found.items() if dump})


def put_back(kept: Kept, table: Table, valkey_url: str) -> None:
    """Have a table and a Valkey hold what they held, and nothing else."""
    there = {(item["PK"]["S"], item["SK"]["S"]): item for item in table.scan()}
    for item in kept.items:
        if there.pop((item["PK"]["S"], item["SK"]["S"]), None) != item:
            table.call("PutItem", TableName=table.name, Item=item)
    for pk, sk in there:
        table.call("DeleteItem", TableName=table.name, Key={"PK": {"S": pk}, "SK": {"S": sk}})
    with plain_client(valkey_url) as client:
        client.flushall()
        for key, (ttl, dump) in kept.keys.items():
            client.restore(key, ttl, dump)
