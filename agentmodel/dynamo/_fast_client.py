"""Make botocore's DynamoDB client faster: send and read items without a walk over every value.

The parameters of a DynamoDB request are its JSON already, and so are the answers. Yet botocore walks over every value
of both by its service model, which costs more than everything else that it does for a batch or a page. `speed_up`
removes these walks from one botocore client. Retries, credentials and their refresh, signing, endpoints, connection
pool, events and the CRC32 check stay botocore's.

It replaces two private parts of that one client object: ``_serializer``, and the endpoint's
``_response_parser_factory``. First, once in a process, it compares its own results with botocore's. If they differ, or
if the parts are missing, the client stays as it is and one warning is logged. Operations on tables, errors, and
requests or answers with binary values are handled by botocore.
"""

# The private parts are the subject of this module:
# ruff: noqa: SLF001

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from botocore.hooks import HierarchicalEmitter
from botocore.loaders import create_loader
from botocore.session import Session
from pynamodb.connection.base import Connection

from agentmodel._log import logger
from agentmodel._redaction import Redaction
from agentmodel._runtime.process import renew_in_child
from agentmodel.dynamo._deletion_marks import Send
from agentmodel.dynamo._key_conditions import refuse_key_parts

__all__ = ["NOT_JSON", "SharedConnection", "speed_up"]

NOT_JSON = "agentmodel.not_json"
"""Set in an answer whose body is not JSON; botocore would return an empty answer."""

_OPERATIONS = (
    "BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "Scan", "TransactGetItems",
    "TransactWriteItems", "UpdateItem",
)  # fmt: skip
_OUTPUTS = frozenset(f"{operation}Output" for operation in _OPERATIONS)

_log = logger("agentmodel.dynamo")
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_warned = threading.Event()
_agreeing: set[tuple[type, ...]] = set()
"""Classes of botocore's private parts whose results were compared in this process, and were the same."""


class SharedConnection(Connection):
    """PynamoDB's connection with one faster client, which is created once, however many threads ask for it.

    A forked child creates its own: over its parent's kept-alive connections it would read the answers of others.

    Args:
        prepare: Called with each client that is created.
        sender: Sends each request of PynamoDB's own methods, by what it is given, the operation and the request.
        options: Those of PynamoDB's connection.

    Attributes:
        redaction: Redacts what PynamoDB's own methods write; set by `Table`.
    """

    redaction: Redaction

    def __init__(
        self,
        *,
        prepare: Callable[[Any], None] = lambda _: None,
        sender: Callable[[Send, str, dict[str, Any]], dict[str, Any]] = lambda send, *request: send(*request),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._prepare, self._sender = prepare, sender
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin without a client in a forked child, and without the session, whose credentials have locks."""
        self._lock = threading.Lock()
        self._local = threading.local()  # PynamoDB's own, with the session
        self._client = None
        self._fast: Any = None

    def _check_condition(self, name: str, condition: Any) -> None:
        """Check a condition or filter of any method of PynamoDB's."""
        super()._check_condition(name, condition)  # type: ignore[no-untyped-call]  # PynamoDB's
        if condition is not None and name != "range_key_condition":
            refuse_key_parts(name, condition)

    @property
    def session(self) -> Any:
        """This thread's botocore session, with handlers and data files that the process has already."""
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = Session(event_hooks=copy.copy(_handlers()), include_builtin_handlers=False)
            if self._aws_access_key_id and self._aws_secret_access_key:
                session.set_credentials(self._aws_access_key_id, self._aws_secret_access_key, self._aws_session_token)
            session.register_component("data_loader", _data_loader(session.get_config_variable("data_path")))
        return session

    @property
    def client(self) -> Any:
        """The one botocore client."""
        fast: Any = self._fast
        if fast is not None and (fast._request_signer is None or fast._request_signer._credentials):
            return fast
        with self._lock:
            client = super().client  # PynamoDB creates another one while there are no credentials
            if client is not self._fast:
                speed_up(client)
                self._prepare(client)
                self._fast = client
        return client

    def _make_api_call(self, operation_name: str, operation_kwargs: dict[str, Any]) -> Any:
        """Send a request of PynamoDB's own methods."""
        return self._sender(super()._make_api_call, operation_name, operation_kwargs)

    def close(self) -> None:
        """Close the client's connections."""
        with self._lock:
            client, self._client, self._fast = self._client, None, None
        if client is not None:
            client.close()


@cache
def _handlers() -> Any:
    """Return botocore's own handlers of events, to be copied: to register them took half of the time of a session."""
    hooks = HierarchicalEmitter()
    Session(event_hooks=hooks)
    return hooks


@cache
def _data_loader(data_path: str | None) -> Any:
    """Return the process's loader of botocore's data files.

    Each session has a loader of its own, which parses a megabyte of endpoints and DynamoDB's model again: a client took
    70 ms of processor time, and takes 14 with what another one has loaded. Clients of one session share a loader too.
    """
    return create_loader(data_path)


def speed_up(client: Any) -> bool:
    """Let a botocore client of DynamoDB send and read items without walks over their values.

    Args:
        client: The client; no other client is changed.

    Returns:
        Whether the client was changed; False if botocore's private parts are not as expected.
    """
    try:
        serializer, factory = client._serializer, client._endpoint._response_parser_factory
        direct, parsers = _RequestSerializer(serializer), _ParserFactory(factory)
        kinds = type(serializer), type(factory)
        if kinds not in _agreeing:
            _compare(client.meta.service_model, serializer, direct, factory, parsers)
            _agreeing.add(kinds)
    except Exception as error:  # noqa: BLE001  # private parts may raise anything; the client then stays as it is
        if not _warned.is_set():
            _warned.set()
            _log.warning("could not speed up the DynamoDB client; using botocore's own, slower code: %r", error)
        return False
    client._serializer = direct
    client._endpoint._response_parser_factory = parsers
    return True


class _RequestSerializer:
    """Serializes requests that hold items itself, and all others by botocore's serializer."""

    def __init__(self, botocores: Any) -> None:
        self._botocore = botocores
        self._templates: dict[str, dict[str, Any]] = {}

    def serialize_to_request(self, parameters: dict[str, Any], operation_model: Any) -> dict[str, Any]:
        name = operation_model.name
        if name not in _OPERATIONS:
            return self._by_botocore(parameters, operation_model)
        try:
            body = _dumps(parameters).encode()
        except (TypeError, ValueError):  # binary values, and mistakes for which botocore has the better message
            return self._by_botocore(parameters, operation_model)
        template = self._templates.get(name)
        if template is None:  # requests of one operation differ in their bodies only
            template = self._templates[name] = self._by_botocore(parameters, operation_model)
        return template | {"headers": dict(template["headers"]), "body": body}

    def _by_botocore(self, parameters: dict[str, Any], operation_model: Any) -> dict[str, Any]:
        request: dict[str, Any] = self._botocore.serialize_to_request(parameters, operation_model)
        return request


class _ParserFactory:
    """Creates botocore's parsers, which then parse the bodies of answers with items directly."""

    def __init__(self, botocores: Any) -> None:
        self._botocore = botocores
        self._classes: dict[type[Any], type[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._botocore, name)

    def create_parser(self, protocol_name: str) -> Any:
        parser = self._botocore.create_parser(protocol_name)
        botocore_class = type(parser)
        kind = self._classes.get(botocore_class)
        if kind is None:
            kind = self._classes[botocore_class] = _direct(botocore_class)
        parser.__class__ = kind  # keeps the state that botocore gave it
        return parser


def _direct(botocore_class: type[Any]) -> type[Any]:
    walk = botocore_class._handle_json_body

    def _handle_json_body(self: Any, raw_body: bytes, shape: Any) -> Any:
        if shape.name not in _OUTPUTS or b'"B"' in raw_body or b'"BS"' in raw_body:
            return walk(self, raw_body, shape)
        try:
            answer = json.loads(raw_body) if raw_body else {}
        except ValueError:
            return walk(self, raw_body, shape) | {NOT_JSON: True}  # tried again when its CRC32 is wrong
        if not isinstance(answer, dict):
            return walk(self, raw_body, shape)
        return {name: value for name, value in answer.items() if value is not None}

    return type(f"Direct{botocore_class.__name__}", (botocore_class,), {"_handle_json_body": _handle_json_body})


# Samples to compare with botocore

_SAMPLE_ITEM: dict[str, Any] = {
    "PK": {"S": "한글 \"'\\ é"}, "N": {"N": "-1.50"}, "Y": {"BOOL": True}, "Z": {"NULL": True},
    "L": {"L": [{"S": "a"}, {"M": {"b": {"SS": ["c", "d"]}}}]}, "E": {"M": {}},
}  # fmt: skip
_SAMPLE_REQUESTS: dict[str, dict[str, Any]] = {
    "PutItem": {"TableName": "Table", "Item": _SAMPLE_ITEM, "ConditionExpression": "attribute_not_exists(PK)"},
    "Query": {
        "TableName": "Table",
        "Limit": 3,
        "ScanIndexForward": False,
        "ExpressionAttributeValues": {":a": {"S": "x"}},
    },
    "BatchWriteItem": {"RequestItems": {"Table": [{"PutRequest": {"Item": _SAMPLE_ITEM}}]}},
}
_SAMPLE_RESPONSES: dict[str, dict[str, Any]] = {
    "GetItem": {"Item": _SAMPLE_ITEM},
    "Query": {"Items": [_SAMPLE_ITEM, {}], "Count": 2, "ScannedCount": 2, "LastEvaluatedKey": {"PK": {"S": "a"}}},
    "BatchWriteItem": {"UnprocessedItems": {"T": [{"DeleteRequest": {"Key": {"PK": {"S": "a"}}}}]}},
}


def _compare(model: Any, serializer: Any, direct: _RequestSerializer, factory: Any, parsers: _ParserFactory) -> None:
    """Raise an error if a sample is serialized or parsed differently than by botocore."""
    for name, parameters in _SAMPLE_REQUESTS.items():
        operation = model.operation_model(name)
        ours = direct.serialize_to_request(parameters, operation)
        theirs = serializer.serialize_to_request(parameters, operation)
        ours["body"], theirs["body"] = json.loads(ours["body"]), json.loads(theirs["body"])
        if ours != theirs:
            raise ValueError(f"a {name} request differs from botocore's")
    protocol = getattr(model, "resolved_protocol", None) or model.metadata["protocol"]
    for name, body in _SAMPLE_RESPONSES.items():
        response = {"status_code": 200, "headers": {"x-amzn-requestid": "1"}, "body": json.dumps(body).encode()}
        shape = model.operation_model(name).output_shape
        parsed = parsers.create_parser(protocol)
        if type(parsed) is type(factory.create_parser(protocol)):
            raise TypeError("botocore's parsers cannot be replaced")
        if parsed.parse(dict(response), shape) != factory.create_parser(protocol).parse(dict(response), shape):
            raise ValueError(f"a parsed {name} answer differs from botocore's")
