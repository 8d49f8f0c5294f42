"""Serve moto's DynamoDB over HTTP, faster than moto does. The answers are the same.

moto's own server tries the URL patterns of every AWS service on each request, runs an application of Flask, and closes
the connection after each answer. Here moto's handler of DynamoDB is called directly, and connections stay open.

Each shortcut below saves work and changes no answer: `tests/integration/test_moto.py` sends the same requests to moto's
own server and compares. If a version of moto lacks what a shortcut needs, or a request is unusual, moto's code runs.
"""

from __future__ import annotations

import base64
import copy
import inspect
import io
import json
import os
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from http.server import BaseHTTPRequestHandler
from types import FunctionType, MethodType
from typing import Any, cast

__all__ = ["Answer", "MotoServer", "answer", "shorten"]

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


# HTTP


class MotoServer(socketserver.ThreadingTCPServer):
    """An HTTP/1.1 server that keeps connections open, with a thread for each of them.

    Args:
        host: Address to bind.
        respond: Answers a request, which is given as a WSGI environment.
        port: Port to bind; 0 is any.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, respond: Callable[[dict[str, Any]], Answer], *, port: int = 0) -> None:
        self.respond = respond
        self.ending = False
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((host, port), _Connection)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread of its own, and remember it until it ends."""
        with self._changed:
            self._open.add(request)
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the interpreter is ending and starts no thread: this one answers one request
            self.ending = True
            self.process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection, and forget it."""
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing when a client closes its connection, because that is not an error of the server."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Accept nothing more and end the open connections; an answer that is being written still goes out."""
        super().server_close()
        with self._changed:
            for connection in self._open:
                with suppress(OSError):  # it has just ended
                    connection.shutdown(socket.SHUT_RD)
            self._changed.wait_for(lambda: not self._open, timeout=5.0)

    def abandon(self) -> None:
        """Close the copies of all sockets in a forked child, where no thread serves them; the parent's stay open."""
        for connection in (self.socket, *self._open):
            if connection.fileno() != -1:
                os.close(connection.detach())  # `close` would wait for the files that the threads made of it


class _Connection(BaseHTTPRequestHandler):
    server: MotoServer  # pyright: ignore[reportIncompatibleVariableOverride]  # only a `MotoServer` makes these
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise an answer in two packets waits for the client's acknowledgement, 40 ms
    wbufsize = -1  # headers and body leave together

    def do_POST(self) -> None:  # http.server calls it by the method's name
        self.close_connection = self.close_connection or self.server.ending
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if length < 0 or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self._send(411, {}, b"")
            return
        self._send(*self.server.respond(self._environ(self.rfile.read(length))))

    do_GET = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_POST  # noqa: N815  # likewise; moto answers them

    def _environ(self, body: bytes) -> dict[str, Any]:
        path, _, query = self.path.partition("?")
        host, port = self.server.server_address[:2]
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_URI": self.path,
            "RAW_URI": self.path,
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": self.client_address[0],
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
        }
        for name, value in self.headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
        environ["CONTENT_LENGTH"] = str(len(body))
        return environ

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Date", self.date_time_string())
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it so
        """Log nothing: an access log would only fill the terminal."""


def answer(environ: dict[str, Any]) -> Answer:
    """Answer one request as moto's handler of DynamoDB, or of DynamoDB Streams, does."""
    from werkzeug.exceptions import HTTPException

    request, url, headers = _request(environ)
    try:
        streams = environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDBStreams_")
        handler = _streams_handler() if streams else _handler()
        status, answer_headers, body = handler.dispatch(request, url, headers)
    except HTTPException as error:  # moto rejects the request before it knows the action
        answer_headers, status, body = dict(error.get_headers()), error.code or 500, error.get_body()
    except Exception as error:  # noqa: BLE001  # any other exception in moto is an error of the server, not of the caller
        answer_headers, status = {}, 500
        body = json.dumps({"__type": "InternalFailure", "message": f"moto failed: {error!r}"})
    # older moto leaves the content type to Flask, which would send text/html
    answer_headers = {"Content-Type": "application/x-amz-json-1.0", **answer_headers}
    kept = {
        name: str(value) for name, value in answer_headers.items() if name.lower() not in {"content-length", "status"}
    }
    return int(status), kept, body if isinstance(body, bytes) else str(body).encode()


def _request(environ: dict[str, Any]) -> tuple[Any, str, dict[str, str]]:
    """Return the request in the form that this version of moto takes, with its URL and headers."""
    kind = _request_class()
    request = kind(environ)
    return request, getattr(request, "raw_url", None) or request.url, dict(request.headers)


@cache
def _request_class() -> type[Any]:
    try:
        from moto.core.request import Request  # since moto 5.2
    except ImportError:
        from werkzeug.wrappers import Request as WerkzeugRequest

        return WerkzeugRequest
    if not hasattr(Request, "from_wsgi_server"):
        from werkzeug.wrappers import Request as WerkzeugRequest

        return WerkzeugRequest
    return type("Request", (Request,), {"from_wsgi_server": True})  # as moto's server sets it


@cache
def _streams_handler() -> type[Any]:
    from moto.dynamodbstreams.responses import DynamoDBStreamsHandler

    handler: type[Any] = DynamoDBStreamsHandler
    return handler


@cache
def _handler() -> type[Any]:
    """Return moto's handler of DynamoDB with the shortcut that writes answers as text."""
    from moto.core import responses
    from moto.dynamodb.responses import DynamoHandler

    # moto lists all methods of the handler for each request, to see whether it has the one that is asked for
    known = {name: cache(getattr(responses, name)) for name in _PURE if hasattr(responses, name)}

    class Base(responses.BaseResponse):
        call_action = _with_globals(responses.BaseResponse.call_action, **known)

    class Handler(DynamoHandler, Base):
        def serialized(self, action_result: Any) -> Any:
            """Have `_attribute_json` write attribute values; older moto writes JSON itself and does not call this."""
            return super().serialized(cast("Any", _Shortened(action_result)))

    return Handler


_PURE = ("method_names_from_class", "camelcase_to_underscores")


def _with_globals(function: Any, **names: Any) -> Any:
    """Return a copy of a function of moto in which these global names have other values; moto itself is not changed."""
    return FunctionType(
        function.__code__, {**function.__globals__, **names}, function.__name__, function.__defaults__, None
    )


# An answer's attribute values
#
# For each value moto looks up all ten types of an AttributeValue, each under several attribute names. That took 3.0 of
# the 4.0 ms of a GetItem.


class _Shortened:
    """A result that a serializer with the shortcut writes."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self.result = original.result

    def execute_result(self, context: Any) -> Any:
        if hasattr(context, "serializer_class"):
            context.serializer_class = _serializer(context.serializer_class)
        return self._original.execute_result(context)


@cache
def _serializer(kind: type[Any]) -> type[Any]:
    if not hasattr(kind, "_serialize_type_map") or not hasattr(kind, "_default_serialize"):
        return kind

    class Serializer(kind):  # type: ignore[misc]  # a class of moto's
        def _serialize_type_map(self, serialized: Any, value: Any, shape: Any, key: str) -> None:
            if shape.value.name == "AttributeValue" and type(value) is dict:
                try:
                    written = {name: _attribute_json(part) for name, part in value.items()}
                except _UnusualError:
                    pass
                else:
                    self._default_serialize(serialized, written, shape, key)
                    return
            super()._serialize_type_map(serialized, value, shape, key)

    return Serializer


class _UnusualError(Exception):
    """Raised for a value that is not usual DynamoDB JSON; then moto's own code writes it."""


def _attribute_json(value: Any) -> dict[str, Any]:
    """Return an attribute value as JSON: unchanged, except that bytes become base64."""
    if type(value) is not dict or len(value) != 1:
        raise _UnusualError
    [(kind, content)] = value.items()
    writer = _WRITERS.get((kind, type(content)))
    if writer is None:
        raise _UnusualError
    return {kind: writer(content)}


def _same(content: Any) -> Any:
    return content


def _base64(content: bytes) -> str:
    if type(content) is not bytes:
        raise _UnusualError
    return base64.b64encode(content).decode()


def _texts(content: list[Any]) -> list[Any]:
    if any(type(part) is not str for part in content):
        raise _UnusualError
    return content


_WRITERS: dict[tuple[str, type], Callable[[Any], Any]] = {
    ("S", str): _same,
    ("N", str): _same,
    ("BOOL", bool): _same,
    ("NULL", bool): _same,
    ("B", bytes): _base64,
    ("SS", list): _texts,
    ("NS", list): _texts,
    ("BS", list): lambda content: [_base64(part) for part in content],
    ("L", list): lambda content: [_attribute_json(part) for part in content],
    ("M", dict): lambda content: {name: _attribute_json(part) for name, part in content.items()},
}


# Tables


def shorten(backend: Any) -> None:
    """Add the shortcuts below to a region's tables and transactions; called again after each CreateTable."""
    backend.transact_write_items = partial(_transact, backend)
    for table in list(backend.tables.values()):
        put = type(table).put_item
        if "isinstance" not in put.__code__.co_names:
            table.put_item = MethodType(_with_globals(put, Item=_made_item), table)
        if table.range_key_attr and {table.hash_key_type, table.range_key_type} == {"S"}:
            table.all_items = partial(_sorted_items, table)
            if list(inspect.signature(type(table).query).parameters)[8:9] == ["index_name"]:
                table.query = partial(_query, table)
                table.scan = partial(_scan, table)


def _made_item(hash_key: Any, range_key: Any, attrs: dict[str, Any]) -> Any:
    """Return an item with these attributes; moto measures the whole item again each time it sets one attribute."""
    from moto.dynamodb.models.dynamo_type import DynamoType, Item, LimitedSizeDict

    values = {name: DynamoType(value) for name, value in attrs.items()}
    if sum(len(name.encode()) + value.size() for name, value in values.items()) > 300_000:
        return Item(hash_key, range_key, attrs)  # it may exceed DynamoDB's limit, which moto checks
    made = object.__new__(Item)
    made.hash_key, made.range_key, made.attrs = hash_key, range_key, LimitedSizeDict()
    dict.update(made.attrs, values)
    return made


def _position(item: Any) -> tuple[str, str]:
    return item.hash_key.value, item.range_key.value


def _sorted_items(table: Any) -> list[Any]:
    """Return all items in the order of their keys, compared as texts.

    moto compares them by a method written in Python: with 30,000 items that takes most of a second. Comparing texts
    takes a tenth of that. The order is the same.
    """
    return sorted(_items(table), key=_position)


def _items(table: Any) -> Iterator[Any]:
    return (item for partition in table.items.values() for item in partition.values())


def _query(table: Any, hash_key: Any, *args: Any, **kwargs: Any) -> Any:
    """Query only the items of the partition: moto compares every item of the table with the query, then sorts them."""
    original = partial(type(table).query, table, hash_key, *args, **kwargs)
    if hash_key is None:
        return original()
    index = args[6] if len(args) > 6 else kwargs.get("index_name")
    if index is None:
        return _with_items(table, list(table.items.get(hash_key, {}).values()), original)
    schema: list[dict[str, str]] = next((one.schema for one in table.all_indexes() if one.name == index), [])
    hashes = [part["AttributeName"] for part in schema if part["KeyType"] == "HASH"]
    if len(hashes) != 1 or hash_key.type != "S":
        return original()
    items = [item for item in _items(table) if _has(item, hashes[0], hash_key.value)]
    with suppress(KeyError, TypeError):  # moto sorts them again, which is fast for items in order
        items.sort(key=lambda item: (*(item.attrs[part["AttributeName"]].value for part in schema), *_position(item)))
    return _with_items(table, items, original)


def _has(item: Any, name: str, text: str) -> bool:
    attribute = item.attrs.get(name)
    return attribute is not None and attribute.type == "S" and attribute.value == text


def _scan(table: Any, filters: Any, limit: Any, exclusive_start_key: Any, *args: Any, **kwargs: Any) -> Any:
    """Scan a page of only those items that come after the start key."""
    items = _sorted_items(table)
    try:
        start = tuple(exclusive_start_key[name]["S"] for name in (table.hash_key_attr, table.range_key_attr))
    except (TypeError, KeyError):  # the first page, or a key that moto will reject
        pass
    else:
        items = [item for item in items if _position(item) > start]
    original = partial(type(table).scan, table, filters, limit, exclusive_start_key, *args, **kwargs)
    return _with_items(table, items, original)


def _with_items(table: Any, items: list[Any], do: Callable[[], Any]) -> Any:
    """Run a function of moto that finds only these items in the table; no other request is answered meanwhile."""
    view = _view_maker()
    table.all_items = lambda: [view(item) for item in items]
    try:
        return do()
    finally:
        table.all_items = partial(_sorted_items, table)


@cache
def _view_maker() -> Callable[[Any], Any]:
    """Return a function that makes a view of an item for one request.

    moto measures each item of a page twice, and copies it before it writes the answer. Nothing changes the items until
    the answer is written, so a view keeps its size, and its copy is the view itself.
    """
    from moto.dynamodb.models.dynamo_type import Item

    measure = Item.size

    def size(self: Any) -> int:
        if self.measured is None:
            self.measured = measure(self)
        return int(self.measured)

    # moto's metaclass registers instances under the name of their class
    body = {"__module__": Item.__module__, "measured": None, "size": size, "__deepcopy__": lambda view, _memo: view}
    kind: Any = type(Item)
    view_of = kind("Item", (Item,), body)

    def view(item: Any) -> Any:
        made = object.__new__(view_of)
        made.hash_key, made.range_key, made.attrs = item.hash_key, item.range_key, item.attrs
        return made

    return view


def _transact(backend: Any, transact_items: list[dict[str, Any]]) -> Any:
    """Write a transaction without a copy of its tables.

    Before a transaction moto copies each table with all its items, in older versions all tables of the region, so that
    it can restore them. Only the items that the transaction names can change, so only those are copied and restored.
    """
    original = partial(type(backend).transact_write_items, backend, transact_items)
    try:
        before = _before(backend.tables, transact_items)
    except Exception:  # noqa: BLE001  # if something is wrong with the request, moto's answer says what
        return original()
    tables = list(backend.tables.items())
    stand_ins = {name: copy.copy(table) for name, table in tables}
    for name, table in tables:
        table.__deepcopy__ = partial(_copied, stand_ins[name])
    try:
        return original()
    finally:
        for name, table in tables:
            del table.__deepcopy__
            if backend.tables.get(name) is stand_ins[name]:  # moto rolled back, which it does for some errors only
                backend.tables[name] = table
                for (changed, hash_key), contents in before.items():
                    if changed == name:
                        _restore(table, hash_key, contents)


def _copied(stand_in: Any, _memo: Any) -> Any:
    return stand_in


def _before(tables: dict[str, Any], transact_items: list[dict[str, Any]]) -> dict[tuple[str, Any], Any]:
    """Return the contents of the partitions that a transaction names: None, an item, or items by their range keys.

    Raises:
        LookupError: A table has a stream, which a transaction writes too, or the request is incomplete.
    """
    from moto.dynamodb.models.dynamo_type import DynamoType

    before: dict[tuple[str, Any], Any] = {}
    for entry in transact_items:
        [operation] = entry.values()
        name = operation["TableName"]
        table = tables[name]
        if table.stream_shard is not None:
            raise LookupError(name)
        key = operation["Key"] if "Key" in operation else operation["Item"]
        hash_key = DynamoType(key[table.hash_key_attr])
        contents = table.items.get(hash_key)
        if table.range_key_attr is None or contents is None:
            before[name, hash_key] = copy.deepcopy(contents)  # an update changes the item itself
            continue
        partition = before.setdefault((name, hash_key), dict(contents))
        range_key = DynamoType(key[table.range_key_attr])
        if range_key in partition:
            partition[range_key] = copy.deepcopy(partition[range_key])
    return before


def _restore(table: Any, hash_key: Any, contents: Any) -> None:
    if contents is None:
        table.items.pop(hash_key, None)
    elif table.range_key_attr is None:
        table.items[hash_key] = contents
    else:
        partition = table.items[hash_key]
        partition.clear()
        partition.update(contents)
