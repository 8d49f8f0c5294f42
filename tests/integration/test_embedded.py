"""The embedded engines: they start together, keep what they promise, and leave nothing behind."""

from __future__ import annotations

import gc
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions
import botocore.session
import pytest
import redis
from pydantic import SecretStr

from agentmodel import AgentModel, Domain
from agentmodel._runtime.process import SIGTERM_STATUS
from agentmodel.config import Settings
from agentmodel.embedded import DynamoServer, Engines, ValkeyServer, find_stack
from agentmodel.embedded._ports import problem_of
from agentmodel.exceptions import CacheUnavailable, ConfigurationError

TABLE = {
    "TableName": "History",
    "KeySchema": [{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
    "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK", "GSI1_PK")],
    "GlobalSecondaryIndexes": [
        {
            "IndexName": "GSI1",
            "KeySchema": [{"AttributeName": "GSI1_PK", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "ALL"},
        }
    ],
    "BillingMode": "PAY_PER_REQUEST",
}
ITEM: dict[str, Any] = {
    "PK": {"S": "USR001"},
    "SK": {"S": "커피#☕"},
    "GSI1_PK": {"S": "g"},
    "N": {"N": "12345678901234567890.5"},
    "B": {"B": b"\x00\xff"},
    "Set": {"SS": ["a", "b"]},
    "Map": {"M": {"list": {"L": [{"N": "1"}, {"BOOL": True}, {"NULL": True}]}}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a stack, with a blank in its name."""
    return tmp_path / "my project" / ".agentmodel"


def addresses(engines: Engines) -> list[str]:
    """The ports of Valkey and of the DynamoDB server."""
    return re.findall(r":([0-9]+)", f"{engines.settings.valkey_url} {engines.settings.endpoint}")


@contextmanager
def dynamodb(settings: Settings) -> Iterator[Any]:
    """A plain client of the table's engine."""
    assert settings.secret_access_key is not None
    client = botocore.session.get_session().create_client(
        "dynamodb",
        endpoint_url=settings.endpoint,
        region_name=settings.region,
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=settings.secret_access_key.get_secret_value(),
    )
    with closing(client):
        yield client


@contextmanager
def valkey(settings: Settings) -> Iterator[redis.Redis]:
    """A plain client of the cache's engine."""
    assert settings.valkey_url is not None
    with closing(
        redis.Redis.from_url(settings.valkey_url.replace("valkey:", "redis:", 1), decode_responses=True)
    ) as client:
        yield client


def answers(url: str | None) -> bool:
    """Whether anybody listens there."""
    parts = urlsplit(url or "")
    with socket.socket() as probe:
        return probe.connect_ex((parts.hostname or "", parts.port or 0)) == 0


def test_both_engines_answer_and_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a folder there is a Valkey, a DynamoDB and a warehouse address, and afterwards no server and no file."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Engines() as engines:
        settings = engines.settings
        with dynamodb(settings) as table, valkey(settings) as cache:
            tables = table.list_tables()["TableNames"]
            keeps = cache.config_get("appendonly")

        assert [] == tables
        assert {"appendonly": "no"} == keeps
        assert str(settings.warehouse_url).startswith(f"duckdb:///{tmp_path}")
        assert (urlsplit(settings.valkey_url or "").port or 0) < 32_768

    assert not answers(settings.valkey_url)
    assert not answers(settings.endpoint)
    assert [] == list(tmp_path.iterdir())


def test_two_at_once_share_nothing() -> None:
    """Two sets of engines in one process have tables of their own."""
    with Engines() as one, Engines() as other:
        with dynamodb(one.settings) as table:
            table.create_table(**TABLE)
        with dynamodb(other.settings) as table:
            others = table.list_tables()["TableNames"]

        assert [] == others


def test_closing_twice_and_starting_again_is_fine() -> None:
    """Engines can be closed twice, and started again empty."""
    engines = Engines().start()
    with dynamodb(engines.settings) as table:
        table.create_table(**TABLE)
    engines.close()
    engines.close()
    with pytest.raises(ConfigurationError, match="are not running"):
        _ = engines.settings

    with engines, dynamodb(engines.settings) as table:
        assert [] == table.list_tables()["TableNames"]


def test_an_engine_that_is_given_is_left_alone(valkey_url: str) -> None:
    """For an address in the settings no engine is started, and none is stopped."""
    with Engines(settings=Settings(valkey_url=valkey_url)) as engines:
        assert valkey_url == engines.settings.valkey_url

    assert answers(valkey_url)


def test_the_environment_chooses_all_but_the_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local engines never point at the servers of the environment, but take its other choices."""
    monkeypatch.setenv("AGENTMODEL_VALKEY_URL", "valkey://cache.example:6379")
    monkeypatch.setenv("AGENTMODEL_ENDPOINT", "https://dynamodb.example")
    monkeypatch.setenv("AGENTMODEL_TABLE", "Chosen")

    with Engines() as engines:
        assert "Chosen" == engines.settings.table
        assert "127.0.0.1" == urlsplit(engines.settings.valkey_url or "").hostname
        assert "127.0.0.1" == urlsplit(engines.settings.endpoint or "").hostname


def test_transactions_leave_no_copies_of_the_table() -> None:
    """The server holds the items of its tables, and not those that it copied for each transaction besides."""

    def held() -> int:
        gc.collect()
        return sum(type(one).__name__ == "Item" and type(one).__module__.startswith("moto") for one in gc.get_objects())

    server = DynamoServer().start()
    with dynamodb(Settings(endpoint=server.endpoint, access_key_id="a", secret_access_key=SecretStr("b"))) as table:
        table.create_table(**TABLE)
        before = held()
        for number in range(20):
            put = {"TableName": "History", "Item": {"PK": {"S": "P"}, "SK": {"S": str(number)}}}
            table.transact_write_items(TransactItems=[{"Put": put}])
        after = held()
    server.close()

    assert after - before <= 2 * 20


def test_conditional_writes_are_atomic() -> None:
    """Of many writers that each want to be the first, exactly one is."""
    server = DynamoServer().start()
    with dynamodb(Settings(endpoint=server.endpoint, access_key_id="a", secret_access_key=SecretStr("b"))) as table:
        table.create_table(**TABLE)

        def first(_: int) -> bool:
            try:
                table.put_item(TableName="History", Item=ITEM, ConditionExpression="attribute_not_exists(PK)")
            except table.exceptions.ConditionalCheckFailedException:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            winners = sum(pool.map(first, range(40)))
    server.close()

    assert 1 == winners


class TestKeptStack:
    """A stack with a folder keeps its data over a stop."""

    def test_tables_and_cache_survive(self, folder: Path) -> None:
        """Items of every type, the index, the time to live and the cache are there after a restart."""
        with Engines(folder) as engines:
            with dynamodb(engines.settings) as table:
                table.create_table(**TABLE)
                table.update_time_to_live(
                    TableName="History", TimeToLiveSpecification={"Enabled": True, "AttributeName": "ExpiresAt"}
                )
                table.put_item(TableName="History", Item=ITEM)
            with valkey(engines.settings) as cache:
                cache.set("key", "value")

        with Engines(folder) as engines:
            with dynamodb(engines.settings) as table:
                found = table.query(
                    TableName="History",
                    IndexName="GSI1",
                    KeyConditionExpression="GSI1_PK = :p",
                    ExpressionAttributeValues={":p": {"S": "g"}},
                )["Items"]
                ttl = table.describe_time_to_live(TableName="History")["TimeToLiveDescription"]
            with valkey(engines.settings) as cache:
                value = cache.get("key")

        assert [ITEM] == found
        assert {"TimeToLiveStatus": "ENABLED", "AttributeName": "ExpiresAt"} == ttl
        assert "value" == value

    def test_the_file_is_a_dynamodb_export(self, folder: Path) -> None:
        """Each line of a kept table is an item as DynamoDB's own export writes it."""
        with Engines(folder) as engines, dynamodb(engines.settings) as table:
            table.create_table(**TABLE)
            table.put_item(TableName="History", Item={"PK": {"S": "가"}, "SK": {"S": "b"}, "B": {"B": b"\x00"}})

        lines = (
            gzip.decompress((folder / "tables" / "us-east-1" / "History.jsonl.gz").read_bytes()).decode().splitlines()
        )

        assert [{"Item": {"PK": {"S": "가"}, "SK": {"S": "b"}, "B": {"B": "AA=="}}}] == [
            json.loads(line) for line in lines
        ]

    def test_saving_while_it_runs(self, folder: Path) -> None:
        """A save in between writes the same files as a stop, and a deleted table leaves them."""
        with Engines(folder) as engines, dynamodb(engines.settings) as table:
            table.create_table(**TABLE)
            table.put_item(TableName="History", Item=ITEM)
            saved = engines.save()
            there = (folder / "tables" / "us-east-1" / "History.jsonl.gz").is_file()
            table.delete_table(TableName="History")

        assert 1 == saved
        assert there
        assert [] == list((folder / "tables").glob("*/*"))

    def test_a_damaged_table_is_named_and_not_overwritten(self, folder: Path) -> None:
        """A kept table that cannot be read stops the start, is named, and stays as it is."""
        with Engines(folder) as engines, dynamodb(engines.settings) as table:
            table.create_table(**TABLE)
        path = folder / "tables" / "us-east-1" / "History.jsonl.gz"
        path.write_bytes(b"damaged")

        with pytest.raises(ConfigurationError, match=r"History\.jsonl\.gz cannot be read.*move"):
            Engines(folder).start()
        assert b"damaged" == path.read_bytes()
        assert find_stack(folder) is None

    def test_ports_stay_the_same(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        """The next start has the ports of the last one; one that somebody else has by then is replaced, and is told."""
        with Engines(folder) as engines:
            first = addresses(engines)
        with Engines(folder) as engines:
            again = addresses(engines)
        with socket.create_server(("127.0.0.1", int(first[0]))), Engines(folder) as engines:
            other = addresses(engines)
        with Engines(folder) as engines:
            kept = addresses(engines)

        assert first == again
        assert (True, first[1]) == (first[0] != other[0], other[1])
        assert other == kept
        assert f"port {first[0]} of the last start" in caplog.text

    def test_ports_that_are_asked_for(self, folder: Path) -> None:
        """Valkey gets the port and the DynamoDB server the next one; a taken one is refused, and nothing runs."""
        port = next(one for one in range(20_000, 30_000) if not problem_of("127.0.0.1", one))
        with Engines(folder, port=port) as engines:
            assert [str(port), str(port + 1)] == addresses(engines)
        with (
            socket.create_server(("127.0.0.1", port + 1)),
            pytest.raises(ConfigurationError, match=rf"port {port + 1} of the embedded engines .*give another --port"),
        ):
            Engines(folder, port=port).start()
        assert find_stack(folder) is None

    @pytest.mark.parametrize(("host", "reached"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")])  # noqa: S104  # what is tested
    def test_another_host(self, folder: Path, host: str, reached: str) -> None:
        """The engines listen on the address that is asked for, and their settings reach them there."""
        with Engines(folder, host=host) as engines:
            valkey_port, dynamodb_port = addresses(engines)
            assert reached in str(engines.settings.endpoint)
            assert reached in str(engines.settings.valkey_url)
            assert answers(engines.settings.valkey_url)
            assert answers(f"valkey://127.0.0.2:{valkey_port}/0")
            with dynamodb(engines.settings) as table:
                table.create_table(**TABLE)
            socket.create_connection(("127.0.0.2", int(dynamodb_port)), timeout=5).close()

    def test_an_empty_host(self, folder: Path) -> None:
        """No address is not taken for every address, as a socket would take it."""
        with pytest.raises(ConfigurationError, match=r"an address is missing.*give another --host"):
            Engines(folder, host="").start()

    def test_a_host_of_another_machine(self, folder: Path) -> None:
        """An address that this machine does not have is refused."""
        with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1 .*give another --host"):
            Engines(folder, host="192.0.2.1").start()

    def test_an_error_inside_still_saves(self, folder: Path) -> None:
        """An exception in the block stops the engines as a normal end does."""

        def interrupted() -> None:
            with Engines(folder) as engines, dynamodb(engines.settings) as table:
                table.create_table(**TABLE)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()

        assert find_stack(folder) is None
        with Engines(folder) as engines, dynamodb(engines.settings) as table:
            assert ["History"] == table.list_tables()["TableNames"]

    def test_a_running_stack_is_found(self, folder: Path) -> None:
        """What `find_stack` gives makes settings that reach the engines; before and after there is none."""
        before = find_stack(folder)
        with Engines(folder, settings=Settings(table="Chosen")) as engines:
            expected = engines.settings
            during = find_stack(folder)
        after = find_stack(folder)

        assert before is None
        assert during is not None
        assert expected == Settings(**during)
        assert after is None

    def test_a_second_start_is_refused(self, folder: Path) -> None:
        """A second stack in the folder is refused with the first one's process and time, and does it no harm."""
        with Engines(folder) as engines:
            with pytest.raises(ConfigurationError, match=rf"runs in .* already \(process {os.getpid()}, since 20"):
                Engines(folder).start()

            assert answers(engines.settings.valkey_url)
            assert find_stack(folder) is not None


RUN = """
import re
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that started the tests with & has it ignored
from agentmodel.embedded import Engines
with Engines(sys.argv[1]) as engines:
    try:
        print(engines.settings.valkey_url, flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        import redis
        client = redis.Redis.from_url(engines.settings.valkey_url.replace("valkey:", "redis:", 1))
        print("drained" if client.ping() else "", flush=True)
        client.close()
"""


@contextmanager
def another_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A stack in a process (and process group) of its own, and its Valkey's address."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder.parent.parent)},  # what a killed process leaves goes with the test
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


RECORD = """
import sys
from agentmodel import AgentModel
from agentmodel.integrations._tracking.tracker import Tracker

model = AgentModel.local(sys.argv[1])
with model.session("USRdrained", "first"):
    pass
model.drain()
with model.session("USRrecorded", "second"):
    pass
run = Tracker(model).run("thread", user="tracked")
run.end("c1", run.start("c1", agent="finder", tool="search"), status="ok")
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A connection to a server, on which reading returns when the server is gone."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as connection:
        yield connection


class TestEndings:
    """However the stack's process ends, the next one starts clean."""

    def test_ctrl_c_leaves_valkey_up_until_we_are_done(self, folder: Path) -> None:
        """The interrupt of a terminal reaches the whole process group, yet Valkey answers until it is stopped."""
        with another_process(folder) as (process, url):
            os.killpg(process.pid, signal.SIGINT)
            assert process.stdout is not None
            said, code = process.stdout.read(), process.wait(30)

        assert ("drained\n", 0) == (said, code)
        assert not answers(url)
        assert find_stack(folder) is None

    @pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
    def test_valkey_ends_with_its_process(self, folder: Path, sign: signal.Signals) -> None:
        """However the process of a stack ends, its Valkey ends too, and the folder can be used again."""
        with another_process(folder) as (process, url), connected(url) as connection:
            running = find_stack(folder)
            process.send_signal(sign)
            code = process.wait(30)
            end = connection.recv(1)  # waits for the server's end

        assert running is not None
        assert {signal.SIGTERM: SIGTERM_STATUS, signal.SIGKILL: -9}[sign] == code
        assert b"" == end
        assert find_stack(folder) is None
        with Engines(folder) as engines:
            assert answers(engines.settings.valkey_url)

    def test_sigterm_keeps_what_was_recorded_and_drained(self, folder: Path) -> None:
        """After SIGTERM the folder has what a recorder, a tracker and a drain were told, and the process is gone."""
        with subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", RECORD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.terminate()
            code = process.wait(60)
        with AgentModel.local(folder) as model:
            drained = model.repository.sessions("USRdrained").items
            model.drain()
            recorded = model.repository.sessions("USRrecorded").items
            tracked = model.repository.sessions("USRtracked").items

        assert SIGTERM_STATUS == code
        assert [1, 1, 1] == [len(drained), len(recorded), len(tracked)]

    @pytest.mark.parametrize("handler", ["signal.SIG_IGN", "lambda *_: print('mine', flush=True)"])
    def test_a_handler_of_the_application_stays(self, handler: str) -> None:
        """Where the application has decided about SIGTERM, engines and recorders leave that as it is."""
        code = f"import signal; signal.signal(signal.SIGTERM, {handler}); before = signal.getsignal(signal.SIGTERM)"
        code += "\nfrom agentmodel.embedded import Engines\nwith Engines() as engines:"
        code += "\n    print(signal.getsignal(signal.SIGTERM) is before)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

        assert "True\n" == done.stdout

    def test_a_valkey_that_outlived_its_stack_is_stopped(self, folder: Path) -> None:
        """The next start stops a Valkey that still uses the folder: two servers would destroy its file."""
        orphan = ValkeyServer(folder.resolve() / "valkey", durable=True).start()
        (folder / "stack.json").write_text(json.dumps({"valkey_url": orphan.url}))

        with Engines(folder) as engines:
            assert not answers(orphan.url)
            assert answers(engines.settings.valkey_url)
        orphan.close()

    def test_a_stack_file_of_another_folders_valkey_is_not_trusted(self, folder: Path, valkey_url: str) -> None:
        """A left stack file that names somebody else's Valkey does not stop that one."""
        folder.mkdir(parents=True)
        (folder / "stack.json").write_text(json.dumps({"valkey_url": valkey_url}))

        with Engines(folder):
            assert answers(valkey_url)


class TestValkeyServer:
    """The Valkey server is ours or there is none."""

    def test_durable_writes_through(self, tmp_path: Path) -> None:
        """A durable server writes its file before it answers."""
        server = ValkeyServer(tmp_path / "data", durable=True).start()
        with valkey(Settings(valkey_url=server.url)) as client:
            answer: Any = client.info("persistence")
            fsync: Any = client.config_get("appendfsync")
        server.close()

        assert 1 == answer["aof_enabled"]
        assert {"appendfsync": "always"} == fsync

    def test_a_server_that_does_not_start_says_why(self, tmp_path: Path) -> None:
        """The error names the folder and has a word of the log; no process stays."""
        (tmp_path / "data" / "appendonlydir").mkdir(parents=True)
        (tmp_path / "data" / "appendonlydir" / "appendonly.aof.manifest").write_text("damaged\n")

        with pytest.raises(CacheUnavailable, match="the embedded Valkey did not start in"):
            ValkeyServer(tmp_path / "data", durable=True).start()


def test_a_closing_server_acknowledges_nothing_more(tmp_path: Path) -> None:
    """From the last save on requests are refused, so nothing is acknowledged that is not in the files."""
    server = DynamoServer().start()
    with dynamodb(Settings(endpoint=server.endpoint, access_key_id="a", secret_access_key=SecretStr("b"))) as table:
        table.create_table(**TABLE)
        server.save(tmp_path, last=True)
        with pytest.raises((botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)):
            table.put_item(TableName="History", Item=ITEM)
    server.close()


def test_no_thread_stays(tmp_path: Path) -> None:
    """After the end no thread of ours is left."""
    with Engines(tmp_path):
        during = [thread.name for thread in threading.enumerate()]
    after = [thread.name for thread in threading.enumerate()]

    assert "agentmodel-dynamodb" in during
    assert during.count("agentmodel-dynamodb") - 1 == after.count("agentmodel-dynamodb")


@pytest.mark.parametrize("left_open", [False, True])
def test_only_the_owner_may_read_the_files_of_a_stack(folder: Path, left_open: bool) -> None:
    """With umask 022, folders have mode 0700 and files 0600: also those that an earlier version left open."""
    stack = folder / "stack"
    before = os.umask(0o022)
    try:
        for _ in range(2 if left_open else 1):
            with AgentModel.local(stack) as model:
                model.repository.put(Domain(domain_id="DMN001", name="support"))
                with model.session("USR001", "a request"):
                    pass
                model.drain()
                model.refresh()
                assert model._engines is not None
                model._engines.save()
                running = modes(stack)
            stopped = modes(stack)
            for path in (stack, *stack.rglob("*")) if left_open else ():
                path.chmod(0o755 if path.is_dir() else 0o644)
    finally:
        os.umask(before)

    assert {"lock", "stack.json", "warehouse.duckdb", "AgentTable.jsonl.gz", "valkey.log"} <= {
        name for name, _ in running
    }
    assert [] == [found for found in running + stopped if found[1] not in ("700", "600")]


def modes(folder: Path) -> list[tuple[str, str]]:
    """The modes of a folder and of everything in it."""
    return [(path.name, f"{path.stat().st_mode & 0o777:o}") for path in (folder, *folder.rglob("*"))]


def test_a_folder_of_the_application_keeps_its_mode(folder: Path) -> None:
    """A folder that holds other files too stays as it is; what the stack makes in it is private."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "notes.txt").write_text("mine")
    (folder / "notes.txt").chmod(0o644)
    with AgentModel.local(folder) as model:
        for _ in range(2):
            model.repository.put(Domain(domain_id="DMN001", name="support"))
            written = modes(folder)
            assert model._engines is not None
            model._engines.save()  # the second time, the log of changes is cut

    assert {"changes.jsonl"} <= {name for name, _ in written}
    assert {("notes.txt", "644")} == {found for found in written[1:] if found[1] not in ("700", "600")}
    assert "755" == f"{folder.stat().st_mode & 0o777:o}"
    assert {("notes.txt", "644")} == {found for found in modes(folder)[1:] if found[1] not in ("700", "600")}
