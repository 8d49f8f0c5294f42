"""The embedded DynamoDB server answers as moto's own server does, shortcuts or not."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import botocore.config
import botocore.exceptions
import botocore.session
import pytest

from agentmodel.embedded import DynamoServer

Client = Any

TEXTS = {"AttributeType": "S"}
TABLE: dict[str, Any] = {
    "TableName": "T",
    "AttributeDefinitions": [{"AttributeName": name, **TEXTS} for name in ("PK", "SK", "G1", "G2")],
    "KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
    "BillingMode": "PAY_PER_REQUEST",
    "GlobalSecondaryIndexes": [
        {
            "IndexName": "All",
            "KeySchema": [{"AttributeName": "G1", "KeyType": "HASH"}, {"AttributeName": "G2", "KeyType": "RANGE"}],
            "Projection": {"ProjectionType": "ALL"},
        },
        {
            "IndexName": "Keys",
            "KeySchema": [{"AttributeName": "G1", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        },
    ],
}
BY_NUMBER: dict[str, Any] = {
    "TableName": "N",
    "AttributeDefinitions": [
        {"AttributeName": "PK", "AttributeType": "S"},
        {"AttributeName": "SK", "AttributeType": "N"},
    ],
    "KeySchema": TABLE["KeySchema"],
    "BillingMode": "PAY_PER_REQUEST",
}
PLAIN: dict[str, Any] = {
    "TableName": "H",
    "AttributeDefinitions": [{"AttributeName": "PK", **TEXTS}],
    "KeySchema": TABLE["KeySchema"][:1],
    "BillingMode": "PAY_PER_REQUEST",
}
EVERY_TYPE: dict[str, Any] = {
    "text": {"S": "안녕 \U0001f600 \"'\\"},
    "empty": {"S": ""},
    "number": {"N": "1.50"},
    "bytes": {"B": b"\x00\xffbytes"},
    "yes": {"BOOL": True},
    "no": {"BOOL": False},
    "null": {"NULL": True},
    "texts": {"SS": ["a", "b"]},
    "numbers": {"NS": ["1", "2"]},
    "blobs": {"BS": [b"x", b"\xfe"]},
    "list": {"L": [{"N": "1"}, {"L": []}, {"M": {}}, {"B": b"in a list"}]},
    "map": {"M": {"deep": {"M": {"b": {"B": b"in a map"}, "l": {"L": [{"NULL": True}]}, "s": {"SS": ["z"]}}}}},
}


def key(partition: int, number: int) -> dict[str, Any]:
    return {"PK": {"S": f"p{partition}"}, "SK": {"S": f"s{number:03}"}}


def item(partition: int, number: int, **more: Any) -> dict[str, Any]:
    index = {"G1": {"S": f"g{number % 3}"}, "G2": {"S": f"x{number % 7}"}} if number % 5 else {}
    return {**key(partition, number), **index, "n": {"N": str(number)}, **more}


def put(partition: int, number: int, **more: Any) -> dict[str, Any]:
    return {"Put": {"TableName": "T", "Item": item(partition, number), **more}}


def update(
    partition: int, number: int, expression: str = "SET n = n + :one, m.a = :one", **more: Any
) -> dict[str, Any]:
    return {
        "TableName": "T",
        "Key": key(partition, number),
        "UpdateExpression": expression,
        "ExpressionAttributeValues": {":one": {"N": "1"}},
        **more,
    }


@pytest.fixture(scope="module")
def reference() -> Iterator[str]:
    """URL of moto's own server, as its documentation starts it."""
    pytest.importorskip("flask")
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[DynamoServer]:
    server = DynamoServer().start()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def ours() -> Iterator[str]:
    """URL of a server with the shortcuts."""
    server = DynamoServer().start()
    try:
        yield server.endpoint
    finally:
        server.close()


@contextmanager
def asking(region: str, *endpoints: str) -> Iterator[Callable[..., Any]]:
    """Makes the tables in both; sends requests to both, asserts that they say the same, and returns what they said."""
    config = botocore.config.Config(retries={"total_max_attempts": 1}, parameter_validation=False)
    options = {"region_name": region, "aws_access_key_id": "a", "aws_secret_access_key": "b", "config": config}
    session = botocore.session.get_session()
    with ExitStack() as clients:
        theirs, ours = (
            clients.enter_context(closing(session.create_client("dynamodb", endpoint_url=url, **options)))
            for url in endpoints
        )

        def ask(action: str, **arguments: Any) -> Any:
            told = _told(theirs, action, arguments)
            assert told == _told(ours, action, arguments)
            return told

        for client in (ours, theirs):
            for table in (TABLE, BY_NUMBER, PLAIN):
                client.create_table(**table)
        try:
            yield ask
        finally:
            for client in (ours, theirs):
                for table in (TABLE, BY_NUMBER, PLAIN):
                    client.delete_table(TableName=table["TableName"])


@pytest.fixture
def both(reference: str, ours: str) -> Iterator[Callable[..., Any]]:
    """Asks both servers, with empty tables."""
    with asking("eu-west-1", reference, ours) as ask:
        yield ask


@pytest.fixture(scope="module")
def filled(reference: str, ours: str) -> Iterator[Callable[..., Any]]:
    """Asks both servers, with tables that tests only read."""
    with asking("eu-central-1", reference, ours) as ask:
        fill(ask, 40)
        yield ask


def _told(client: Client, action: str, arguments: dict[str, Any]) -> Any:
    try:
        told = getattr(client, action)(**arguments)
    except botocore.exceptions.ClientError as error:
        told = error.response
    metadata = told.pop("ResponseMetadata")
    if metadata["HTTPStatusCode"] == 500:  # moto cannot do it, and its server says that in HTML
        return {}, 500
    # the checksum says that the bodies are the same, byte for byte
    return told, metadata["HTTPStatusCode"], metadata["HTTPHeaders"].get("x-amz-crc32")


def fill(ask: Callable[..., Any], count: int) -> None:
    items = [item(number % 3, number, m={"M": {"a": {"N": "0"}}}) for number in range(count)]
    for start in range(0, count, 25):
        entries = [{"PutRequest": {"Item": one}} for one in items[start : start + 25]]
        assert 200 == ask("batch_write_item", RequestItems={"T": entries})[1]


class TestItems:
    """Requests for one item."""

    def test_every_type_comes_back(self, both: Callable[..., Any]) -> None:
        """Each type of attribute value is stored and told alike, nested ones included."""
        both("put_item", TableName="T", Item=item(1, 1) | EVERY_TYPE)
        both("put_item", TableName="T", Item=item(1, 1) | EVERY_TYPE, ReturnValues="ALL_OLD")
        told = both("get_item", TableName="T", Key=key(1, 1))
        both("get_item", TableName="T", Key=key(1, 1), ProjectionExpression="map.deep.l, list[0], bytes")
        both("query", TableName="T", KeyConditionExpression="PK = :p", ExpressionAttributeValues={":p": {"S": "p1"}})
        both("scan", TableName="T")

        assert item(1, 1) | EVERY_TYPE == told[0]["Item"]

    def test_conditions_are_met_or_not(self, both: Callable[..., Any]) -> None:
        """A condition that holds and one that fails are answered alike, with the old item where it is wanted."""
        absent = "attribute_not_exists(PK)"
        both("put_item", TableName="T", Item=item(1, 1), ConditionExpression=absent)
        for more in ({}, {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}):
            told = both("put_item", TableName="T", Item=item(1, 1), ConditionExpression=absent, **more)
        both("delete_item", TableName="T", Key=key(1, 1), ConditionExpression="n = :n",
             ExpressionAttributeValues={":n": {"N": "7"}})  # fmt: skip
        both("delete_item", TableName="T", Key=key(1, 1), ReturnValues="ALL_OLD")
        both("delete_item", TableName="T", Key=key(1, 1), ReturnValues="ALL_OLD")

        assert "ConditionalCheckFailedException" == told[0]["Error"]["Code"]

    @pytest.mark.parametrize("what", ["ALL_NEW", "ALL_OLD", "UPDATED_NEW", "UPDATED_OLD", "NONE"])
    def test_updates(self, both: Callable[..., Any], what: str) -> None:
        """An update changes the same and tells the same."""
        both("put_item", TableName="T", Item=item(1, 1, m={"M": {}}, gone={"S": "x"}))
        both("update_item", **update(1, 1, "SET n = n + :one, m.a = :one REMOVE gone"), ReturnValues=what)
        both("update_item", **update(1, 2, "SET fresh = :one"), ReturnValues=what)
        both("update_item", **update(1, 1, "SET nowhere.b = :one"), ReturnValues=what)
        both("get_item", TableName="T", Key=key(1, 1))

    def test_wrong_requests(self, both: Callable[..., Any]) -> None:
        """What moto refuses is refused in its words."""
        both("put_item", TableName="missing", Item=item(1, 1))
        both("put_item", TableName="T", Item={"PK": {"S": "p"}})
        both("put_item", TableName="T", Item=item(1, 1) | {"SK": {"N": "1"}})
        both("put_item", TableName="T", Item=item(1, 1) | {"PK": {"S": ""}})
        both("put_item", TableName="T", Item=item(1, 1, n={"N": "many"}))
        both("put_item", TableName="T", Item=item(1, 1, big={"S": "x" * 500_000}))
        both("put_item", TableName="T", Item=item(1, 1, big={"S": "x" * 350_000}))
        both("get_item", TableName="T", Key={"PK": {"S": "p"}})
        both("query", TableName="T", KeyConditionExpression="SK = :p", ExpressionAttributeValues={":p": {"S": "p1"}})
        both("query", TableName="T", IndexName="missing", KeyConditionExpression="G1 = :p",
             ExpressionAttributeValues={":p": {"S": "p1"}})  # fmt: skip
        both("update_item", **update(1, 1, "SET a = :two"))


class TestPages:
    """Requests for many items."""

    @pytest.mark.parametrize("forward", [True, False])
    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"Limit": 4},
            {"FilterExpression": "n > :n", "Limit": 5},
            {"ProjectionExpression": "n, m.a"},
            {"Select": "COUNT"},
        ],
        ids=lambda more: "-".join(more) or "all",
    )
    @pytest.mark.parametrize(
        ("index", "condition"),
        [
            (None, "PK = :p"),
            (None, "PK = :p AND SK BETWEEN :a AND :b"),
            (None, "PK = :p AND begins_with(SK, :s)"),
            ("All", "G1 = :g"),
            ("All", "G1 = :g AND G2 >= :x"),
            ("Keys", "G1 = :g"),
        ],
    )
    def test_query(
        self, filled: Callable[..., Any], index: str | None, condition: str, more: dict[str, Any], forward: bool
    ) -> None:
        """A query gives the same items in the same order and pages, of the table and of its indexes."""
        values = {":p": "p1", ":a": "s003", ":b": "s030", ":s": "s01", ":g": "g1", ":x": "x3"}
        wanted = f"{condition} {more.get('FilterExpression', '')}"
        given = {name: {"S": text} for name, text in values.items() if name in wanted.split() or f"{name})" in wanted}
        given |= {":n": {"N": "10"}} if "FilterExpression" in more else {}
        arguments = {"TableName": "T", "KeyConditionExpression": condition, "ScanIndexForward": forward, **more}
        arguments |= {} if index is None else {"IndexName": index}
        pages = 0
        while pages < 20:
            told = filled("query", ExpressionAttributeValues=given, **arguments)
            pages += 1
            if "LastEvaluatedKey" not in told[0]:
                break
            arguments["ExclusiveStartKey"] = told[0]["LastEvaluatedKey"]

        assert 200 == told[1]
        assert pages < 20

    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"Limit": 7},
            {"Limit": 7, "FilterExpression": "attribute_exists(G1)"},
            {"Limit": 7, "IndexName": "All"},
            {"Limit": 7, "Segment": 1, "TotalSegments": 2},
        ],
        ids=lambda more: "-".join(more) or "all",
    )
    def test_scan(self, filled: Callable[..., Any], more: dict[str, Any]) -> None:
        """A scan gives the same items in the same order and pages."""
        arguments = {"TableName": "T", **more}
        pages = 0
        while pages < 20:  # moto before 5.1 pages through an index for ever
            told = filled("scan", **arguments)
            pages += 1
            if "LastEvaluatedKey" not in told[0]:
                break
            arguments["ExclusiveStartKey"] = told[0]["LastEvaluatedKey"]

        assert 200 == told[1]

    def test_a_page_ends_at_a_megabyte(self, both: Callable[..., Any]) -> None:
        """Pages are as long as moto's."""
        for number in range(8):
            both("put_item", TableName="T", Item=item(1, number, big={"S": "x" * 200_000}))
        first = both("scan", TableName="T")[0]
        both("scan", TableName="T", ExclusiveStartKey=first["LastEvaluatedKey"])
        both("query", TableName="T", KeyConditionExpression="PK = :p", ExpressionAttributeValues={":p": {"S": "p1"}})

        assert first["Count"] < 8

    def test_batches(self, both: Callable[..., Any]) -> None:
        """Items written and read by the batch are the same."""
        entries = [{"PutRequest": {"Item": item(1, number)}} for number in range(20)]
        both("batch_write_item", RequestItems={"T": [*entries, {"DeleteRequest": {"Key": key(2, 1)}}]})
        told = both("batch_get_item", RequestItems={"T": {"Keys": [key(1, number) for number in range(25)]}})
        both("transact_get_items", TransactItems=[{"Get": {"TableName": "T", "Key": key(1, 3)}}] * 2)

        assert 20 == len(told[0]["Responses"]["T"])

    def test_other_kinds_of_keys(self, both: Callable[..., Any]) -> None:
        """Tables whose keys are no two texts are served as well."""
        for number in (10, 9, 1, 100):
            both("put_item", TableName="N", Item={"PK": {"S": "p"}, "SK": {"N": str(number)}})
            both("put_item", TableName="H", Item={"PK": {"S": f"p{number}"}})
        for table in ("N", "H"):
            both("query", TableName=table, KeyConditionExpression="PK = :p",
                 ExpressionAttributeValues={":p": {"S": "p"}})  # fmt: skip
            told = both("scan", TableName=table)

        assert 4 == told[0]["Count"]


class TestTransactions:
    """All or nothing, without a copy of the tables."""

    @pytest.mark.parametrize(
        "entries",
        [
            [put(1, 1), {"Update": update(0, 3)}, {"Delete": {"TableName": "T", "Key": key(0, 6)}}],
            [
                {"Update": update(0, 3)},
                {"Update": update(0, 6)},
                put(0, 9, ConditionExpression="attribute_not_exists(PK)"),
            ],
            [
                {"Delete": {"TableName": "T", "Key": key(0, 3)}},
                put(9, 9),
                put(1, 4, ConditionExpression="n = n AND attribute_not_exists(PK)"),
            ],
            [put(0, 3, ReturnValuesOnConditionCheckFailure="ALL_OLD", ConditionExpression="attribute_not_exists(PK)")],
            [put(7, 1), put(7, 2), put(7, 1)],
            [{"Update": update(0, 3)}, {"Update": update(5, 5, "SET m.a = :one")}],
            [put(7, 1), {"Put": {"TableName": "missing", "Item": item(1, 1)}}],
            [put(7, 1), {"Put": {"TableName": "T", "Item": {"PK": {"S": "p"}}}}],
            [
                put(7, 1),
                {"Put": {"TableName": "H", "Item": {"PK": {"S": "p1"}}, "ConditionExpression": "attribute_exists(PK)"}},
            ],
            [
                {"Delete": {"TableName": "H", "Key": {"PK": {"S": "p1"}}}},
                {
                    "ConditionCheck": {
                        "TableName": "T",
                        "Key": key(0, 3),
                        "ConditionExpression": "attribute_not_exists(PK)",
                    }
                },
            ],
        ],
        ids=lambda entries: "-".join(name for entry in entries for name in entry),
    )
    def test_all_or_nothing(self, both: Callable[..., Any], entries: list[dict[str, Any]]) -> None:
        """A transaction that is refused leaves every table as it was, and one that is not changes it, as moto's does."""
        fill(both, 12)
        both("put_item", TableName="H", Item={"PK": {"S": "p1"}, "m": {"M": {}}})
        both("transact_write_items", TransactItems=entries)
        both("scan", TableName="T")
        both("scan", TableName="H")
        both("scan", TableName="T", IndexName="All")


def test_a_long_history_is_the_same(both: Callable[..., Any]) -> None:
    """After two hundred requests of all kinds, drawn by lot, both hold the same items."""
    lot = random.Random(7)  # noqa: S311  # no secret
    for _ in range(200):
        place = lot.randrange(4), lot.randrange(12)
        what = lot.randrange(5)
        if what == 0:
            both("put_item", TableName="T", Item=item(*place, m={"M": {}}), ReturnValues="ALL_OLD")
        elif what == 1:
            both("update_item", **update(*place), ReturnValues="ALL_NEW", ConditionExpression="attribute_exists(m)")
        elif what == 2:
            both("delete_item", TableName="T", Key=key(*place), ReturnValues="ALL_OLD")
        elif what == 3:
            others = lot.sample([(one, two) for one in range(4) for two in range(12)], 3)
            condition: dict[str, Any] = {
                "ConditionExpression": "attribute_not_exists(PK) OR n < :n",
                "ExpressionAttributeValues": {":n": {"N": "9"}},
            }
            both(
                "transact_write_items",
                TransactItems=[{"Update": update(*others[0])}, *(put(*other, **condition) for other in others[1:])],
            )
        else:
            both(
                "query",
                TableName="T",
                KeyConditionExpression="PK = :p",
                ExpressionAttributeValues={":p": {"S": f"p{place[0]}"}},
                Limit=5,
            )

    assert both("scan", TableName="T")[0]["Count"] > 0


class TestHttp:
    """What a client sees of the connection."""

    def test_a_connection_stays_open(self, server: DynamoServer) -> None:
        """Many requests go through one connection, also after one that is refused."""
        parts = urlsplit(server.endpoint)
        with closing(http.client.HTTPConnection(parts.hostname or "", parts.port)) as connection:
            for target, status in (("ListTables", 200), ("DescribeTable", 400), ("ListTables", 200)):
                connection.request(
                    "POST",
                    "/",
                    b'{"TableName": "missing"}' if status == 400 else b"{}",
                    HEADERS | {"X-Amz-Target": f"DynamoDB_20120810.{target}"},
                )
                first = connection.sock
                answer = connection.getresponse()
                answer.read()

                assert status == answer.status
                assert first is connection.sock

    def test_what_moto_cannot_do_is_the_servers_error(self, server: DynamoServer) -> None:
        """An action that moto does not have, or a body that is no JSON, is answered with 500 and the cause."""
        parts = urlsplit(server.endpoint)
        with closing(http.client.HTTPConnection(parts.hostname or "", parts.port)) as connection:
            connection.request("POST", "/", b"{}", HEADERS | {"X-Amz-Target": "DynamoDB_20120810.Invented"})
            answer = connection.getresponse()

            assert 500 == answer.status
            assert b"InternalFailure" in answer.read()

    def test_a_body_of_unknown_length_is_refused(self, server: DynamoServer) -> None:
        """A body in chunks is refused, and the connection ends, since nobody knows where it does."""
        parts = urlsplit(server.endpoint)
        with closing(http.client.HTTPConnection(parts.hostname or "", parts.port)) as connection:
            connection.putrequest("POST", "/")
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()

            assert 411 == connection.getresponse().status

    def test_closing_ends_open_connections(self, server: DynamoServer) -> None:
        """A client that holds a connection learns that the server has gone."""
        parts = urlsplit(server.endpoint)
        with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)) as connection:
            connection.request("POST", "/", b"{}", HEADERS | {"X-Amz-Target": "DynamoDB_20120810.ListTables"})
            connection.getresponse().read()
            server.close()

            assert connection.sock is not None
            assert b"" == connection.sock.recv(1)


HEADERS = {
    "Content-Type": "application/x-amz-json-1.0",
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/20200101/eu-west-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
}
