"""The embedded DynamoDB: moto's server in a thread, whose tables are saved and loaded again."""

from __future__ import annotations

import gzip
import io
import json
import secrets
import threading
import zlib
from collections.abc import Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Self

from agentmodel._runtime.process import renew_in_child
from agentmodel.embedded._folder import PRIVATE_FOLDER
from agentmodel.embedded._moto import Answer, MotoServer, answer, shorten
from agentmodel.embedded._ports import LOOPBACK, reached
from agentmodel.embedded._table_log import (
    TableLog,
    alone,
    changed_keys,
    json_line,
    region_of,
    replace_file,
    sync_folder,
)
from agentmodel.exceptions import ConfigurationError, TableUnavailable

__all__ = ["DynamoServer"]


class DynamoServer:
    """moto's DynamoDB server, in a thread, with tables of its own.

    Requests are answered one after the other, because moto checks a condition and writes in two steps, between which
    another thread could write. moto has one state for each account in a process, so each server has its own account.

    Args:
        log: Keeps every change before it is acknowledged; None keeps them in memory only.
        host: The IPv4 address or name to listen on.
        port: The port to listen on; None takes any.

    Attributes:
        endpoint: The URL of the server, once it runs.

    >>> server = DynamoServer().start()
    >>> server.endpoint.startswith("http://127.0.0.1:")
    True
    >>> server.close()
    """

    def __init__(self, log: TableLog | None = None, *, host: str = LOOPBACK, port: int | None = None) -> None:
        self._changes: TableLog | None = log
        self._host, self._port = host, port
        self._account = f"{secrets.randbelow(10**12):012d}"
        self._turn = threading.Lock()
        self._closed = False
        self._server: MotoServer | None = None
        self._thread: threading.Thread | None = None
        self.endpoint = ""
        renew_in_child(self)

    def renew(self) -> None:
        """Leave the server to the parent in a forked child; an open socket of it would outlive the parent there."""
        server, self._server = self._server, None
        if server is not None:
            server.abandon()

    def start(self) -> Self:
        """Start to answer requests."""
        self._server = server = MotoServer(self._host, self._answer, port=self._port or 0)
        self.endpoint = f"http://{reached(self._host)}:{server.port}"
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="agentmodel-dynamodb", daemon=True
        )
        self._thread.start()
        return self

    def _answer(self, environ: dict[str, Any]) -> Answer:
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self._account
        with self._turn:
            if self._closed:
                return 503, {"Content-Type": "application/json"}, b'{"message": "the server stops"}'
            try:
                return answer(environ) if self._changes is None else self._logged(self._changes, environ)
            finally:
                if environ.get("HTTP_X_AMZ_TARGET", "").endswith(".CreateTable"):
                    self._shorten()
                _forget_copies()

    def _logged(self, log: TableLog, environ: dict[str, Any]) -> Answer:
        """Answer a request once its changes are on disk, and those of earlier requests that could not be written."""
        body = environ["wsgi.input"].read()
        environ["wsgi.input"] = io.BytesIO(body)
        try:
            with alone(log.path.parent, "change"):
                log.append([])
                answered = answer(environ)
                operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
                if answered[0] == 200:
                    log.append(self._changes_of(operation, json.loads(body or b"{}"), region_of(environ)))
        except OSError as error:
            told = f"the change cannot be kept in {log.path} ({error.strerror or error}): free some space there"
            return (
                400,
                {"Content-Type": "application/x-amz-json-1.0"},
                json.dumps({"__type": "DiskFull", "message": told}).encode(),
            )
        return answered

    def _changes_of(self, operation: str, body: dict[str, Any], region: str) -> list[dict[str, Any]]:
        """Return the lines for the log of a request that was answered."""
        from moto.dynamodb.models import dynamodb_backends

        tables: dict[str, Any] = dynamodb_backends[self._account][region].tables
        name = str(body.get("TableName"))
        if operation in ("CreateTable", "UpdateTable", "UpdateTimeToLive", "DeleteTable"):
            definition = _definition(tables[name]) if name in tables else None
            return [{"region": region, "table": name, "definition": definition}]
        changes = []
        for name, key in changed_keys(operation, body):
            table = tables[name]
            partition, sort = _item_key(table, key)
            item: Any = table.items.get(partition)
            item = item if sort is None or item is None else item.get(sort)
            stored = None if item is None else item.to_json()["Attributes"]
            names = [each for each in (table.hash_key_attr, table.range_key_attr) if each]
            own_key = {each: key[each] for each in names}
            changes.append({"region": region, "table": name, "key": own_key, "item": stored})
        return changes

    def _replay(self, change: dict[str, Any]) -> None:
        """Make a change of the log again."""
        from moto.dynamodb.models import dynamodb_backends

        backend, name = dynamodb_backends[self._account][change["region"]], change["table"]
        if "definition" in change:
            if change["definition"] is None:
                backend.tables.pop(name, None)
            elif name not in backend.tables:
                self._create(change["region"], change["definition"])
        elif name in backend.tables:
            table = backend.tables[name]
            partition, sort = _item_key(table, change["key"])
            if change["item"] is not None:
                table.put_item(change["item"])
            elif sort is None:
                table.items.pop(partition, None)
            else:
                table.items.get(partition, {}).pop(sort, None)

    def _shorten(self) -> None:
        from moto.dynamodb.models import dynamodb_backends

        for backend in list(dynamodb_backends[self._account].values()):
            shorten(backend)

    def save(self, folder: Path, *, last: bool = False) -> int:
        """Save every table in a folder, replacing each file atomically; return the number of items.

        Args:
            folder: The folder. Each table is saved as ``region/table.json`` (its definition) and
                ``region/table.jsonl.gz`` (its items).
            last: Whether to reject all further requests, so that no write is acknowledged that is not in the files.
        """
        with nullcontext() if self._changes is None else alone(folder, "save"):
            return self._save(folder, last=last)

    def _save(self, folder: Path, *, last: bool) -> int:
        kept: set[Path] = set()
        count = 0
        tables, logged = self._dump(last=last)
        for region, name, definition, items in tables:
            path = folder / region / f"{name}.jsonl.gz"
            for made in (folder, path.parent):
                made.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            lines = b"".join(json_line({"Item": item}) for item in items)
            replace_file(path, gzip.compress(lines, compresslevel=4, mtime=0))
            replace_file(path.with_name(f"{name}.json"), json.dumps(definition, indent=1).encode())
            kept |= {path, path.with_name(f"{name}.json")}
            count += len(items)
        for path in set(folder.glob("*/*.json*")) - kept:
            path.unlink()  # of a table that was deleted
            sync_folder(path.parent)
        if self._changes is not None:
            with self._turn:
                self._changes.cut(logged)
        return count

    def items(self, table: str, region: str) -> list[dict[str, Any]]:
        """Return the items of a table in DynamoDB JSON."""
        from moto.dynamodb.models import dynamodb_backends

        with self._turn:
            return [
                item.to_json()["Attributes"]
                for item in dynamodb_backends[self._account][region].tables[table].all_items()
            ]

    def _dump(self, *, last: bool) -> tuple[list[tuple[str, str, dict[str, Any], list[Any]]], int]:
        """Return the tables, and the size of the log whose changes they have."""
        from moto.dynamodb.models import dynamodb_backends

        with self._turn:
            self._closed = self._closed or last
            logged = 0 if self._changes is None else self._changes.size()
            return [
                (region, name, _definition(table), [item.to_json()["Attributes"] for item in table.all_items()])
                for region, backend in list(dynamodb_backends[self._account].items())
                for name, table in list(backend.tables.items())
            ], logged

    def load(self, folder: Path) -> int:
        """Create the tables that `save` wrote, and make the changes of the log again; return the number of items saved.

        Raises:
            ConfigurationError: A file cannot be read.
        """
        changes, self._changes = self._changes, None  # what is loaded is on disk already
        try:
            count = self._load_saved(folder)
            for change in () if changes is None else changes.read():
                self._replay(change)
        finally:
            self._changes = changes
        return count

    def _load_saved(self, folder: Path) -> int:
        from moto.dynamodb.models import dynamodb_backends

        count = 0
        for path in sorted(folder.glob("*/*.json")):
            region, name = path.parent.name, path.stem
            items = path.with_name(f"{name}.jsonl.gz")
            try:
                self._create(region, json.loads(path.read_text(encoding="utf-8")))
                with gzip.open(items, "rt", encoding="utf-8") as lines, self._turn:
                    table = dynamodb_backends[self._account][region].tables[name]
                    for line in lines:
                        table.put_item(json.loads(line)["Item"])
                        count += 1
            except (OSError, EOFError, ValueError, KeyError, zlib.error) as error:
                told = f"{type(error).__name__} {error}".strip()
                raise ConfigurationError(
                    f"the table {name} saved in {items} cannot be read ({told}): move {path.parent} away to start empty"
                ) from None
        return count

    def _create(self, region: str, definition: dict[str, Any]) -> None:
        import botocore.exceptions
        import botocore.session

        client = botocore.session.get_session().create_client(
            "dynamodb",
            endpoint_url=self.endpoint,
            region_name=region,
            aws_access_key_id="local",
            aws_secret_access_key="local",  # noqa: S106  # moto takes any
        )
        with closing(client):
            try:
                client.create_table(**definition["table"])
                if definition["ttl"]:
                    client.update_time_to_live(
                        TableName=definition["table"]["TableName"],
                        TimeToLiveSpecification={"Enabled": True, "AttributeName": definition["ttl"]},
                    )
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
                raise TableUnavailable(f"the embedded DynamoDB could not create a saved table: {error}") from error

    def close(self) -> None:
        """Stop answering and drop the tables."""
        server, self._server = self._server, None
        if server is None:
            return
        from moto.dynamodb.models import dynamodb_backends

        server.shutdown()
        with self._turn:
            self._closed = True
            dynamodb_backends.pop(self._account, None)
        server.server_close()
        if self._thread is not None:
            self._thread.join()


def _item_key(table: Any, item: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the keys of an item as moto has them; the second one is None where the table has no sort key."""
    from moto.dynamodb.models.dynamo_type import DynamoType

    sort = table.range_key_attr
    return DynamoType(item[table.hash_key_attr]), None if sort is None else DynamoType(item[sort])


def _definition(table: Any) -> dict[str, Any]:
    """Return what is needed to create the table again: the arguments of CreateTable, and its TTL attribute."""
    told = table.describe(base_key="Table")["Table"]
    indexes = [
        {part: index[part] for part in ("IndexName", "KeySchema", "Projection")}
        for index in told.get("GlobalSecondaryIndexes") or []
    ]
    definition = {
        "TableName": told["TableName"],
        "AttributeDefinitions": told["AttributeDefinitions"],
        "KeySchema": told["KeySchema"],
        "BillingMode": "PAY_PER_REQUEST",
    }
    if indexes:
        definition["GlobalSecondaryIndexes"] = indexes
    return {"table": definition, "ttl": (table.ttl or {}).get("AttributeName")}


def _forget_copies() -> None:
    """Free the objects that moto lists for its dashboard.

    moto lists every table and item that it ever created, including the copy of the whole table for each transaction.
    """
    from moto.core.model_instances import model_data

    models: dict[str, Any] = model_data["dynamodb"]
    for model in models.values():
        for name in ("instances_tracked", "instances"):  # the latter in older versions of moto
            getattr(model, name, []).clear()
