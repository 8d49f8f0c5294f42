"""The client's short way: what is sent and read is what botocore sends and reads, and the rest stays botocore's."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError
from pydantic import SecretStr

from agentmodel.config import Settings
from agentmodel.dynamo import _fast_client as wire
from agentmodel.dynamo.table import Table
from agentmodel.exceptions import Conflict, Rejected, TableNotFound, TableUnavailable

ITEM: dict[str, Any] = {
    "PK": {"S": '한글 #%"\\'}, "N": {"N": "1.5"}, "L": {"L": [{"S": "a"}, {"M": {"x": {"BOOL": False}}}, {"NULL": True}]},
}  # fmt: skip


class Scripted:
    """An HTTP server on loopback that gives the answers it was told, in order, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes, dict[str, str]]] = []
        self.requests: list[tuple[dict[str, str], Any]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                owner.requests.append(({k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
                status, answer, headers = owner.answers.pop(0)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(answer)), "x-amzn-RequestId": "r1"} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def will(self, answer: object, *, status: int = 200, crc: int | None = None, **headers: str) -> None:
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        check = binascii.crc32(body) if crc is None else crc
        self.answers.append((status, body, {"x-amz-crc32": str(check), **headers}))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.close()


@pytest.fixture
def table(scripted: Scripted) -> Iterator[Table]:
    with Table(_settings(scripted.url)) as table:
        assert type(table.client._serializer).__name__ == "_RequestSerializer"
        yield table


def _settings(url: str, attempts: int = 2) -> Settings:
    return Settings(
        table="Test",
        endpoint=url,
        access_key_id="key",
        secret_access_key=SecretStr("secret"),
        dynamodb_attempts=attempts,
    )


def _client(url: str = "http://127.0.0.1:9", **options: Any) -> Any:
    session = botocore.session.get_session()
    session.set_credentials("key", "secret")
    return session.create_client(
        "dynamodb", "us-east-1", endpoint_url=url, config=Config(parameter_validation=False, **options)
    )


class TestItemsArriveAsBotocoreHasThem:
    def test_the_request_is_botocores(self, scripted: Scripted) -> None:
        """Body and headers of a shortened request are those of an ordinary client (but for time and signature)."""
        requests = {}
        for name in ("ordinary", "short"):
            client = _client(scripted.url)
            assert name == "ordinary" or wire.speed_up(client)
            scripted.will({})
            client.put_item(TableName="Test", Item=ITEM, ConditionExpression="attribute_not_exists(PK)")
            requests[name] = scripted.requests.pop()
            client.close()
        differing = {"authorization", "x-amz-date", "amz-sdk-invocation-id", "content-length"}

        assert requests["ordinary"][1] == requests["short"][1]
        assert {k: v for k, v in requests["ordinary"][0].items() if k not in differing} == {
            k: v for k, v in requests["short"][0].items() if k not in differing
        }

    def test_it_is_signed(self, scripted: Scripted, table: Table) -> None:
        """A shortened request carries botocore's signature."""
        scripted.will({})
        table.call("GetItem", TableName="Test", Key={"PK": {"S": "a"}})

        assert scripted.requests[0][0]["authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/")

    def test_the_answer_is_botocores(self, scripted: Scripted, table: Table) -> None:
        """An answer comes as DynamoDB JSON, absent parts absent, with botocore's metadata."""
        scripted.will({"Items": [ITEM], "Count": 1, "ScannedCount": 1, "LastEvaluatedKey": None})
        answer = table.call("Query", TableName="Test")

        assert [ITEM] == answer["Items"]
        assert "LastEvaluatedKey" not in answer
        assert ("r1", 200) == (answer["ResponseMetadata"]["RequestId"], answer["ResponseMetadata"]["HTTPStatusCode"])

    @pytest.mark.parametrize(
        "value",
        [{"B": b"\x00\xff"}, {"BS": [b"a", b"\x01"]}, {"L": [{"B": b"x"}]}, {"M": {"b": {"B": b""}}}],
        ids=str,
    )
    def test_bytes_go_and_come(self, scripted: Scripted, table: Table, value: dict[str, Any]) -> None:
        """Binary values are sent as base64 and read as bytes, nested or not."""
        scripted.will({})
        table.call("PutItem", TableName="Test", Item={"PK": {"S": "a"}, "V": value})
        sent = scripted.requests[0][1]["Item"]
        scripted.will({"Item": sent})
        read = table.call("GetItem", TableName="Test", Key={"PK": {"S": "a"}})["Item"]

        assert {"PK": {"S": "a"}, "V": value} == read
        assert all(part not in json.dumps(sent) for part in ("\\x00", "\\x01"))

    def test_text_that_looks_binary(self, scripted: Scripted, table: Table) -> None:
        """An attribute called B whose value is text stays text."""
        item = {"PK": {"S": "a"}, "B": {"S": base64.b64encode(b"text").decode()}}
        scripted.will({"Item": item})

        assert item == table.call("GetItem", TableName="Test", Key={"PK": {"S": "a"}})["Item"]

    def test_tables_go_botocores_way(self, scripted: Scripted, table: Table) -> None:
        """Operations on tables are read by botocore: their times are times."""
        scripted.will({"Table": {"TableName": "Test", "CreationDateTime": 1750000000.0, "TableStatus": "ACTIVE"}})

        assert isinstance(table.call("DescribeTable", TableName="Test")["Table"]["CreationDateTime"], datetime)


class TestErrorsAndRetriesAreBotocores:
    @pytest.mark.parametrize(
        ("status", "code"),
        [(500, "InternalServerError"), (503, "ServiceUnavailable"), (400, "ThrottlingException"),
         (400, "ProvisionedThroughputExceededException")],
    )  # fmt: skip
    def test_passing_faults_are_tried_again(self, scripted: Scripted, table: Table, status: int, code: str) -> None:
        """After a server fault or throttling the call is sent again, and its answer is read the short way."""
        scripted.will({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "again"}, status=status)
        scripted.will({"Item": ITEM})

        assert ITEM == table.call("GetItem", TableName="Test", Key={"PK": {"S": "a"}})["Item"]
        assert 2 == len(scripted.requests)

    def test_tries_end(self, scripted: Scripted, table: Table) -> None:
        """When the tries are used up, the error says what DynamoDB answered."""
        for _ in range(2):
            scripted.will({"__type": "x#ThrottlingException", "message": "slow down"}, status=400)

        with pytest.raises(TableUnavailable, match="ThrottlingException: slow down"):
            table.call("GetItem", TableName="Test", Key={"PK": {"S": "a"}})

        assert 2 == len(scripted.requests)

    @pytest.mark.parametrize(
        ("code", "error"),
        [("ResourceNotFoundException", TableNotFound), ("ConditionalCheckFailedException", Conflict),
         ("ValidationException", Rejected)],
    )  # fmt: skip
    def test_other_errors_are_ours_at_once(
        self, scripted: Scripted, table: Table, code: str, error: type[Exception]
    ) -> None:
        """Errors that trying again cannot mend are raised after one request."""
        scripted.will({"__type": f"x#{code}", "message": "no"}, status=400)

        with pytest.raises(error):
            table.call("GetItem", TableName="Test", Key={"PK": {"S": "a"}})

        assert 1 == len(scripted.requests)

    def test_cancelled_transactions_give_their_reasons(self, scripted: Scripted) -> None:
        """The reasons of a cancelled transaction, an item with bytes among them, are in the error as botocore has them."""
        client = _client(scripted.url)
        assert wire.speed_up(client)
        reasons = [{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Message": "no", "Item": {"V": {"B": "AAE="}}}]
        scripted.will(
            {"__type": "x#TransactionCanceledException", "Message": "cancelled", "CancellationReasons": reasons},
            status=400,
        )
        with pytest.raises(ClientError) as caught:
            client.transact_write_items(TransactItems=[{"Put": {"TableName": "Test", "Item": ITEM}}])
        client.close()

        assert {"V": {"B": b"\x00\x01"}} == caught.value.response["CancellationReasons"][1]["Item"]
        assert "None" == caught.value.response["CancellationReasons"][0]["Code"]

    def test_a_wrong_checksum_is_tried_again(self, scripted: Scripted, table: Table) -> None:
        """An answer whose CRC32 does not fit is asked for again, also when it is no JSON any more."""
        scripted.will(json.dumps({"Item": ITEM}).encode()[:-3], crc=1)
        scripted.will({"Item": ITEM})

        assert ITEM == table.call("GetItem", TableName="Test", Key={"PK": {"S": "a"}})["Item"]

    def test_an_answer_that_is_no_json_is_no_empty_answer(self, scripted: Scripted, table: Table) -> None:
        """A page of a proxy in the way is an error, not an item that does not exist."""
        scripted.will(b"<html>log in here</html>")

        with pytest.raises(TableUnavailable, match="not JSON"):
            table.call("GetItem", TableName="Test", Key={"PK": {"S": "a"}})


class TestTheClientStaysBotocores:
    def test_credentials_are_refreshed(self, scripted: Scripted) -> None:
        """Credentials that end are fetched anew by botocore between two calls of one shortened client."""
        fetched: list[int] = []

        def fetch() -> dict[str, str]:
            fetched.append(1)
            soon = datetime.now(UTC) + timedelta(seconds=1 if len(fetched) == 1 else 7200)
            return {
                "access_key": f"key{len(fetched)}",
                "secret_key": "s",
                "token": "t",
                "expiry_time": soon.isoformat(),
            }

        session = botocore.session.get_session()
        session._credentials = RefreshableCredentials.create_from_metadata(fetch(), fetch, "test")
        client = session.create_client("dynamodb", "us-east-1", endpoint_url=scripted.url)
        assert wire.speed_up(client)
        for _ in range(2):
            scripted.will({})
            client.get_item(TableName="Test", Key={"PK": {"S": "a"}})
        client.close()

        assert 2 == len(fetched)
        assert "Credential=key2/" in scripted.requests[-1][0]["authorization"]

    def test_no_other_client_is_touched(self) -> None:
        """Shortening one client leaves another of the same session as it is."""
        session = botocore.session.get_session()
        session.set_credentials("key", "secret")
        one, other = (session.create_client("dynamodb", "us-east-1") for _ in range(2))
        before = (type(other._serializer), type(other._endpoint._response_parser_factory))
        assert wire.speed_up(one)

        assert before == (type(other._serializer), type(other._endpoint._response_parser_factory))

    def test_many_threads_get_one_client(self, scripted: Scripted) -> None:
        """However many threads ask first, one client is made."""
        with Table(_settings(scripted.url)) as table:
            barrier, found = threading.Barrier(8), []

            def ask() -> None:
                barrier.wait()
                found.append(table.client)

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert 8 == len(found)
        assert 1 == len({id(client) for client in found})


class TestOtherBotocores:
    @pytest.fixture(autouse=True)
    def _not_warned(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wire, "_warned", threading.Event())
        monkeypatch.setattr(wire, "_agreeing", set())

    @pytest.mark.parametrize("missing", ["_serializer", "_endpoint"])
    def test_without_the_private_parts_the_ordinary_way_is_taken(
        self, missing: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """When botocore has other private parts, the client is left alone and one warning is logged."""
        with caplog.at_level(logging.WARNING, "agentmodel.dynamo"):
            for _ in range(2):
                client = _client()
                delattr(client, missing)
                before = dict(vars(client))
                assert not wire.speed_up(client)
                assert before == vars(client)

        assert 1 == len(caplog.records)

    def test_a_changed_request_is_noticed(self) -> None:
        """When botocore writes requests differently, its way is taken."""
        client = _client()
        ordinary = client._serializer.serialize_to_request

        class Other:
            def serialize_to_request(self, parameters: Any, operation: Any) -> Any:
                request = ordinary(parameters, operation)
                return request | {"body": json.dumps({"wrapped": json.loads(request["body"])}).encode()}

        client._serializer = Other()

        assert not wire.speed_up(client)
        assert isinstance(client._serializer, Other)

    def test_the_ordinary_way_works(self, scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
        """A table whose client could not be shortened reads and writes all the same."""
        monkeypatch.setattr(wire, "_compare", lambda *_: 1 / 0)
        with Table(_settings(scripted.url)) as table:
            scripted.will({"Item": ITEM})
            found = table.call("GetItem", TableName="Test", Key={"PK": {"S": "a"}})["Item"]

            assert ITEM == found
            assert type(table.client._serializer).__name__ != "_RequestSerializer"


class TestOnceInAProcess:
    """What botocore would do for each client is done once in a process."""

    def test_handlers_of_one_session_are_not_those_of_another(self) -> None:
        """Every session has botocore's own handlers, and a handler that is added to one is called by that one alone."""
        one, other, ordinary = (
            *(wire.SharedConnection(region="us-east-1").session for _ in range(2)),
            botocore.session.Session(),
        )
        called: list[str] = []
        one.register("ours.event", lambda **_: called.append("one"))
        for session in (one, other):
            session.get_component("event_emitter").emit("ours.event")

        assert ["one"] == called
        for event in ("before-parameter-build.s3.PutObject", "choose-service-name", "needs-retry.dynamodb.GetItem"):
            handlers = [each._original_handler._handlers.prefix_search(event) for each in (ordinary, other)]
            assert list(handlers[0]) == list(handlers[1])

    def test_results_are_compared_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Our way is compared with botocore's for the first client, and for another one with the same parts no more."""
        compared: list[Any] = []
        monkeypatch.setattr(wire, "_agreeing", set())
        monkeypatch.setattr(wire, "_compare", lambda *parts: compared.append(parts))

        assert [True, True] == [wire.speed_up(_client()) for _ in range(2)]
        assert 1 == len(compared)

    def test_two_connections_share_what_is_parsed(self) -> None:
        """Connections share the loader of the data files, and neither client nor session."""
        one, other = (wire.SharedConnection(region="us-east-1") for _ in range(2))

        assert one.session is not other.session
        assert one.session.get_component("data_loader") is other.session.get_component("data_loader")

    def test_another_path_is_another_loader(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A data path of the environment is searched, as botocore does it, and not what was loaded without it."""
        usual = wire.SharedConnection(region="us-east-1").session.get_component("data_loader")
        monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
        loader = wire.SharedConnection(region="us-east-1").session.get_component("data_loader")

        assert usual is not loader
        assert str(tmp_path) in loader.search_paths
