"""A double of the Redshift Data API: its wire (JSON over HTTP, as botocore signs and checks it), on a real PostgreSQL.

Sessions are PostgreSQL connections, so transactions, errors and types are real. What a caller may see of the service is
played: a statement is SUBMITTED, then STARTED, before it has FINISHED; results come in pages; SessionId refuses company;
parameters are texts that are not empty.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

PAGE = 7
STATES = ("SUBMITTED", "STARTED")


class Refused(Exception):
    """A call that the service refuses."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass
class Statement:
    """A statement that ran."""

    session: str
    sql: str
    status: str = "FINISHED"
    error: str | None = None
    columns: list[dict[str, Any]] | None = None
    records: list[list[dict[str, Any]]] = field(default_factory=list)
    changed: int = -1
    looked_at: int = 0


class DataApi:
    """The service; ``connect`` opens a database connection for a session, ``translated`` rewrites its SQL."""

    def __init__(self, connect: Callable[[], Any], translated: Callable[[str], str] = str) -> None:
        self._connect = connect
        self._translated = translated
        self._lock = Lock()
        self.sessions: dict[str, Any] = {}
        self.statements: dict[str, Statement] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.never_ends: str | None = None
        self.keeps_sessions = True
        self.cancelled: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                operation = self.headers["X-Amz-Target"].rpartition(".")[2]
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    status, answer = 200, service.answer(operation, request)
                except Refused as problem:
                    status, answer = 400, {"__type": problem.code, "Message": str(problem)}
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in self.sessions.values():
            connection.close()

    def answer(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.requests.append((operation, request))
        method = re.sub(r"(?<!^)([A-Z])", r"_\1", operation).lower()
        found: dict[str, Any] = getattr(self, f"_{method}")(request)  # a session may wait for another one's lock
        return found

    def sql(self) -> list[str]:
        """What ran, in order."""
        return [request["Sql"] for operation, request in self.requests if operation == "ExecuteStatement"]

    def end_sessions(self) -> None:
        """End every session, as the service does it after a while."""
        for connection in self.sessions.values():
            connection.close()
        self.sessions.clear()

    # the operations

    def _execute_statement(self, request: dict[str, Any]) -> dict[str, Any]:
        named = [name for name in ("WorkgroupName", "ClusterIdentifier", "SessionId") if name in request]
        if len(named) != 1 or ("SessionId" in request and "Database" in request):
            raise Refused("ValidationException", "name a workgroup, a cluster or a session, and a session alone")
        session = request.get("SessionId")
        if session is None:
            session = str(uuid.uuid4())
            self.sessions[session] = self._connect()
        elif session not in self.sessions:
            raise Refused("ValidationException", f"Session {session} is not available.")
        parameters = {each["name"]: each["value"] for each in request.get("Parameters", [])}
        if "" in parameters.values():
            raise Refused("ValidationException", "a parameter has no value")
        statement = Statement(session, request["Sql"])
        key = str(uuid.uuid4())
        self.statements[key] = statement
        if self.never_ends is not None and self.never_ends in request["Sql"]:
            statement.status = "STARTED"
        else:
            self._run(statement, parameters)
        return {"Id": key, **({"SessionId": session} if self.keeps_sessions else {})}

    def _run(self, statement: Statement, parameters: dict[str, str]) -> None:
        sql = self._translated(statement.sql).replace("%", "%%")
        for name in parameters:
            sql = re.sub(rf"(?<![:\w]):{name}\b", f"%({name})s", sql)
        cursor = self.sessions[statement.session].cursor()
        try:
            cursor.execute(sql, parameters)
        except Exception as problem:  # noqa: BLE001  # whatever the database refuses, the service reports
            statement.status, statement.error = "FAILED", f"ERROR: {problem}"
            return
        statement.changed = cursor.rowcount
        if cursor.description is not None:
            types = [cursor.connection.adapters.types[column.type_code].name for column in cursor.description]
            statement.columns = [
                {"name": column.name, "label": column.name, "typeName": name, "nullable": 1}
                for column, name in zip(cursor.description, types, strict=True)
            ]
            statement.records = [[sent(value) for value in row] for row in cursor.fetchall()]

    def _describe_statement(self, request: dict[str, Any]) -> dict[str, Any]:
        statement = self._of(request)
        status = statement.status
        if status == "FINISHED" and statement.looked_at < len(STATES):
            status = STATES[statement.looked_at]
        statement.looked_at += 1
        told: dict[str, Any] = {"Id": request["Id"], "Status": status, "ResultRows": statement.changed}
        if statement.error is not None:
            told["Error"] = statement.error
        return {**told, "HasResultSet": statement.columns is not None}

    def _get_statement_result(self, request: dict[str, Any]) -> dict[str, Any]:
        statement = self._of(request)
        start = int(request.get("NextToken", "0"))
        page = {"Records": statement.records[start : start + PAGE], "ColumnMetadata": statement.columns}
        more = start + PAGE < len(statement.records)
        return {**page, "TotalNumRows": len(statement.records), **({"NextToken": str(start + PAGE)} if more else {})}

    def _cancel_statement(self, request: dict[str, Any]) -> dict[str, Any]:
        statement = self._of(request)
        if statement.status != "STARTED":
            raise Refused("ValidationException", "Could not cancel a query that has ended")
        statement.status = "ABORTED"
        self.cancelled.append(statement.sql)
        return {"Status": True}

    def _of(self, request: dict[str, Any]) -> Statement:
        found = self.statements.get(request["Id"].partition(":")[0])
        if found is None:
            raise Refused("ResourceNotFoundException", "Query does not exist.")
        return found


def sent(value: Any) -> dict[str, Any]:
    """A value as the Data API sends it: only whole numbers, doubles and truth have a type of their own."""
    if value is None:
        return {"isNull": True}
    if isinstance(value, bool):
        return {"booleanValue": value}
    if isinstance(value, int):
        return {"longValue": value}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, datetime):
        return {"stringValue": value.isoformat(sep=" ")}
    if isinstance(value, date | Decimal | str):
        return {"stringValue": str(value)}
    raise AssertionError(type(value))
