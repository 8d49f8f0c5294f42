"""The client's way to DynamoDB, without the walks over shapes.

A request to DynamoDB is its own JSON, and so is an answer; yet botocore walks over every value of both by its service
model, which costs more than all else it does for a batch or a page. `shorten` leaves one botocore client everything
but these walks: retries, credentials and their refresh, signing, endpoints, connection pool, events and the CRC32
check stay botocore's.

It replaces two private parts of that one client object (``_serializer`` and the endpoint's
``_response_parser_factory``). Before it does, it compares what it makes with what botocore makes; where they differ,
or the parts are not there, the client is left as it is and a warning is logged once. Operations on tables, errors,
and requests or answers that hold binary values go botocore's way.
"""

# The private parts are the subject of this module:
# ruff: noqa: SLF001

from __future__ import annotations

import json
import logging
import threading
from typing import Any

from pynamodb.connection.base import Connection

__all__ = ["UNREADABLE", "SharedConnection", "shorten"]

UNREADABLE = "agentmodel.unreadable"
"""Set in an answer whose body is no JSON, which botocore would hand on as an empty answer."""

_OPERATIONS = (
    "BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "Scan", "TransactGetItems",
    "TransactWriteItems", "UpdateItem",
)  # fmt: skip
_OUTPUTS = frozenset(f"{operation}Output" for operation in _OPERATIONS)

_log = logging.getLogger("agentmodel.dynamo")
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_warned = threading.Event()


class SharedConnection(Connection):
    """PynamoDB's connection, with a client that takes the short way, made once however many threads ask for it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._making = threading.Lock()
        self._short: Any = None

    @property
    def client(self) -> Any:
        """The one botocore client."""
        short: Any = self._short
        if short is not None and (short._request_signer is None or short._request_signer._credentials):
            return short
        with self._making:
            client = super().client  # PynamoDB makes another one while there are no credentials
            if client is not self._short:
                shorten(client)
                self._short = client
        return client

    def close(self) -> None:
        """Close the client's connections."""
        with self._making:
            client, self._client, self._short = self._client, None, None
        if client is not None:
            client.close()


def shorten(client: Any) -> bool:
    """Let a botocore client of DynamoDB send and read items without walking over shapes; whether it does.

    Args:
        client: The client; no other one is touched.
    """
    try:
        serializer, factory = client._serializer, client._endpoint._response_parser_factory
        direct, answers = _Requests(serializer), _Answers(factory)
        _compare(client.meta.service_model, serializer, direct, factory, answers)
    except Exception as error:  # noqa: BLE001  # botocore's private parts may raise anything: then they are not used
        if not _warned.is_set():
            _warned.set()
            _log.warning("botocore is not as expected, its ordinary and slower way is taken: %r", error)
        return False
    client._serializer = direct
    client._endpoint._response_parser_factory = answers
    return True


class _Requests:
    """Makes requests: for items of the request itself, else by botocore's serializer."""

    def __init__(self, ordinary: Any) -> None:
        self._ordinary = ordinary
        self._templates: dict[str, dict[str, Any]] = {}

    def serialize_to_request(self, parameters: dict[str, Any], operation_model: Any) -> dict[str, Any]:
        name = operation_model.name
        if name not in _OPERATIONS:
            return self._by_botocore(parameters, operation_model)
        try:
            body = _dumps(parameters).encode()
        except (TypeError, ValueError):  # binary values, and what botocore words better
            return self._by_botocore(parameters, operation_model)
        template = self._templates.get(name)
        if template is None:  # all but the body is the same for every request of an operation
            template = self._templates[name] = self._by_botocore(parameters, operation_model)
        return template | {"headers": dict(template["headers"]), "body": body}

    def _by_botocore(self, parameters: dict[str, Any], operation_model: Any) -> dict[str, Any]:
        request: dict[str, Any] = self._ordinary.serialize_to_request(parameters, operation_model)
        return request


class _Answers:
    """Makes parsers: those of botocore, but for the bodies of answers that hold items."""

    def __init__(self, ordinary: Any) -> None:
        self._ordinary = ordinary
        self._kinds: dict[type[Any], type[Any]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ordinary, name)

    def create_parser(self, protocol_name: str) -> Any:
        parser = self._ordinary.create_parser(protocol_name)
        ordinary = type(parser)
        kind = self._kinds.get(ordinary)
        if kind is None:
            kind = self._kinds[ordinary] = _direct(ordinary)
        parser.__class__ = kind  # its state stays botocore's
        return parser


def _direct(ordinary: type[Any]) -> type[Any]:
    walk = ordinary._handle_json_body

    def _handle_json_body(self: Any, raw_body: bytes, shape: Any) -> Any:
        if shape.name not in _OUTPUTS or b'"B"' in raw_body or b'"BS"' in raw_body:
            return walk(self, raw_body, shape)
        try:
            answer = json.loads(raw_body) if raw_body else {}
        except ValueError:
            return walk(self, raw_body, shape) | {UNREADABLE: True}  # tried again when its CRC32 is wrong
        if not isinstance(answer, dict):
            return walk(self, raw_body, shape)
        return {name: value for name, value in answer.items() if value is not None}

    return type(f"Direct{ordinary.__name__}", (ordinary,), {"_handle_json_body": _handle_json_body})


# What is compared before the short way is taken

_ITEM: dict[str, Any] = {
    "PK": {"S": "한글 \"'\\ é"}, "N": {"N": "-1.50"}, "Y": {"BOOL": True}, "Z": {"NULL": True},
    "L": {"L": [{"S": "a"}, {"M": {"b": {"SS": ["c", "d"]}}}]}, "E": {"M": {}},
}  # fmt: skip
_REQUESTS: dict[str, dict[str, Any]] = {
    "PutItem": {"TableName": "Table", "Item": _ITEM, "ConditionExpression": "attribute_not_exists(PK)"},
    "Query": {
        "TableName": "Table",
        "Limit": 3,
        "ScanIndexForward": False,
        "ExpressionAttributeValues": {":a": {"S": "x"}},
    },
    "BatchWriteItem": {"RequestItems": {"Table": [{"PutRequest": {"Item": _ITEM}}]}},
}
_ANSWERS: dict[str, dict[str, Any]] = {
    "GetItem": {"Item": _ITEM},
    "Query": {"Items": [_ITEM, {}], "Count": 2, "ScannedCount": 2, "LastEvaluatedKey": {"PK": {"S": "a"}}},
    "BatchWriteItem": {"UnprocessedItems": {"T": [{"DeleteRequest": {"Key": {"PK": {"S": "a"}}}}]}},
}


def _compare(model: Any, serializer: Any, direct: _Requests, factory: Any, answers: _Answers) -> None:
    """Raises what is wrong when the short way makes anything else than botocore's own."""
    for name, parameters in _REQUESTS.items():
        operation = model.operation_model(name)
        ours = direct.serialize_to_request(parameters, operation)
        theirs = serializer.serialize_to_request(parameters, operation)
        ours["body"], theirs["body"] = json.loads(ours["body"]), json.loads(theirs["body"])
        if ours != theirs:
            raise ValueError(f"a request of {name} differs")
    protocol = getattr(model, "resolved_protocol", None) or model.metadata["protocol"]
    for name, body in _ANSWERS.items():
        response = {"status_code": 200, "headers": {"x-amzn-requestid": "1"}, "body": json.dumps(body).encode()}
        shape = model.operation_model(name).output_shape
        parsed = answers.create_parser(protocol)
        if type(parsed) is type(factory.create_parser(protocol)):
            raise TypeError("parsers cannot be replaced")
        if parsed.parse(dict(response), shape) != factory.create_parser(protocol).parse(dict(response), shape):
            raise ValueError(f"an answer of {name} differs")
