"""Define the same entities and the same work for every library that is compared.

``run`` has 19 stored attributes: 4 keys, 8 texts, 4 numbers, a flag, a list of 3 and a map of 4. ``execution`` is the
package's ToolExecution. agentmodel builds the keys from ids and checks every value; the other libraries get finished
key texts.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agentmodel import ToolExecution, keys
from agentmodel._runtime.clock import HybridClock
from agentmodel.config import Settings
from agentmodel.dynamo._attribute import Attr
from agentmodel.dynamo.attributes import flag, identifier, listing, mapping, number, rating, text
from agentmodel.dynamo.entity import Entity, key, lookup
from agentmodel.dynamo.table import Query, Table
from agentmodel.dynamo.writer import Writer

LIBRARIES = {
    "agentmodel": True,
    "boto3": importlib.util.find_spec("boto3") is not None,
    "pynamodb": True,
    **{name: importlib.util.find_spec(name) is not None for name in ("pydynox", "aiopynamodb", "pydynantic")},
}
"""Those that are compared on a server too, and whether they are installed."""

OTHERS = {name: importlib.util.find_spec(name) is not None for name in ("dynamoxy",)}
"""Those that are compared without a server: it needs Python 3.12, the others run on 3.11 too."""
CASES = ("run", "execution")
ITEMS, GETS = 5000, 1000
REGION, ACCESS = "us-east-1", "bench"


class Run(Entity, kind="BenchRun"):
    """An entity with 19 stored attributes."""

    user_id: Attr[str] = identifier("USR")
    session_id: Attr[str] = identifier("SESS")
    process_id: Attr[str] = identifier("PRC")
    agent_id: Attr[str] = identifier("AGT")
    name: Attr[str] = text("Name")
    request: Attr[str] = text("Request")
    answer: Attr[str] = text("Answer")
    model: Attr[str] = text("Model")
    status: Attr[str] = text("Status")
    category: Attr[str] = text("Category")
    location: Attr[str] = text("Location")
    note: Attr[str | None] = text("Note", default=None)
    score: Attr[float] = rating("Score", default=0.0)
    tokens_in: Attr[int] = number("TokensIn")
    tokens_out: Attr[int] = number("TokensOut")
    duration: Attr[int] = number("Duration")
    succeeded: Attr[bool] = flag("SuccYN")
    steps: Attr[list[str]] = listing("Steps")
    params: Attr[dict[str, Any]] = mapping("Params")

    at = lookup(user_id, session_id, process_id)
    partition = key(keys.SESSION_ITEMS, user_id, session_id)
    sort = key(keys.PROCESS, process_id)
    index_partition = key(keys.AGENT, agent_id)
    index_sort = key(keys.AGENT_SCORE, score)


IDS = {"user_id": "USR0042", "session_id": "SESS20250614140530", "process_id": "PRC007", "agent_id": "AGT003"}
COMMON: dict[str, Any] = {
    "name": "locate the stadium and search around it",
    "request": "find me a quiet café near the stadium, open after eight, with seats outside " * 2,
    "answer": "three cafés are within ten minutes on foot; the second one has seats outside " * 2,
    "model": "a-model-of-some-kind",
    "status": "finished",
    "category": "cafe search",
    "location": "s3://history/2025/06/14/SESS20250614140530.json",
    "note": "asked twice",
    "score": 12.345678,
    "tokens_in": 1834,
    "tokens_out": 412,
    "duration": 2741,
    "succeeded": True,
    "steps": ["locate", "search", "present"],
    "params": {"radius": 500, "cuisine": "coffee", "open": True, "city": "서울"},
}
CALL: dict[str, Any] = {
    "tool_name": "search_places",
    "values": '{"place":"stadium","radius":500}',
    "succeeded": True,
    "result": "12 places found, the nearest is 120 m away",
    "call_number": 7,
    "call_id": "call-0190fd1e-7",
    "status": "ok",
    "duration_ms": 734,
    "input_tokens": 1201,
    "output_tokens": 88,
    "executed_at": datetime(2025, 6, 14, 14, 5, 31, 250000, tzinfo=UTC),
    "version": 113_905_438_720_000_001,
}
CALL_IDS = {key: IDS[key] for key in ("user_id", "session_id", "process_id", "agent_id")} | {"tool_id": "TL012"}


def own(number: int) -> dict[str, Any]:
    """Return the arguments of the ``number``-th run for agentmodel."""
    return COMMON | IDS | {"process_id": keys.process_id(number)}


def ready(number: int) -> dict[str, Any]:
    """Return the same for another library, with finished keys."""
    index = f"AGTSCORE#{COMMON['score']:015.6f}"
    return COMMON | {
        "pk": f"{IDS['user_id']}#{IDS['session_id']}",
        "sk": keys.process_id(number),
        "gsi1_pk": IDS["agent_id"],
        "gsi1_sk": index,
    }


@dataclass(frozen=True)
class Codec:
    """How one library constructs, encodes and decodes one entity."""

    construct: Callable[[], Any]
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]

    def actions(self) -> tuple[Callable[[], Any], ...]:
        """Return functions that construct, encode and decode, to be timed; check their results first."""
        made = self.construct()
        stored = self.encode(made)
        assert self.encode(self.decode(stored)) == stored
        return self.construct, lambda: self.encode(made), lambda: self.decode(stored)


def codecs(case: str) -> dict[str, Codec]:
    """Return the codec of each library for a case."""
    found = {"agentmodel": _agentmodel(case), "pynamodb": _pynamodb_codec(case)}
    made = {
        "pydynox": _pydynox_codec, "aiopynamodb": _aiopynamodb_codec, "pydynantic": _pydynantic_codec,
        "dynamoxy": _dynamoxy_codec,
    }  # fmt: skip
    return found | {name: make(case) for name, make in made.items() if (LIBRARIES | OTHERS)[name]}


def _agentmodel(case: str) -> Codec:
    kind: Any = Run if case == "run" else ToolExecution
    given = own(7) if case == "run" else CALL | CALL_IDS
    return Codec(lambda: kind(**given), kind.to_item, kind.from_item)


def _given(case: str) -> dict[str, Any]:
    if case == "run":
        return ready(7)
    sort = f"{CALL_IDS['process_id']}#{CALL_IDS['agent_id']}#{CALL_IDS['tool_id']}"
    return CALL | {"pk": f"{IDS['user_id']}#{IDS['session_id']}", "sk": sort}


def pynamodb_models(package: str = "pynamodb") -> dict[str, Any]:
    """Return the two entities as plain models of PynamoDB, or of its asynchronous twin."""
    attributes, indexes = (importlib.import_module(f"{package}.{name}") for name in ("attributes", "indexes"))
    text_attribute, model = attributes.UnicodeAttribute, importlib.import_module(f"{package}.models").Model
    kinds = {
        bool: attributes.BooleanAttribute, int: attributes.NumberAttribute, float: attributes.NumberAttribute,
        dict: attributes.MapAttribute, datetime: attributes.UTCDateTimeAttribute,
    }  # fmt: skip

    def attribute(value: Any) -> Any:
        if isinstance(value, list):
            return attributes.ListAttribute()
        return kinds.get(type(value), text_attribute)(null=value is None)

    class Index(indexes.GlobalSecondaryIndex):
        class Meta:
            index_name = "GSI1"
            projection = indexes.AllProjection()

        gsi1_pk = text_attribute(hash_key=True, attr_name="GSI1_PK")
        gsi1_sk = text_attribute(range_key=True, attr_name="GSI1_SK")

    models = {}
    for case in CASES:
        given = _given(case)
        body = {name: attribute(value) for name, value in given.items()}
        body["pk"] = text_attribute(hash_key=True, attr_name="PK")
        body["sk"] = text_attribute(range_key=True, attr_name="SK")
        if case == "run":
            body["gsi1_pk"], body["gsi1_sk"] = text_attribute(attr_name="GSI1_PK"), text_attribute(attr_name="GSI1_SK")
            body["index"] = Index()
        meta = type("Meta", (), {"table_name": "Bench", "region": REGION})
        models[case] = type(case.title(), (model,), body | {"Meta": meta})
    return models


def _pynamodb_codec(case: str, package: str = "pynamodb") -> Codec:
    model, given = pynamodb_models(package)[case], _given(case)
    return Codec(lambda: model(**given), lambda made: made.serialize(), model.from_raw_data)


def _aiopynamodb_codec(case: str) -> Codec:
    return _pynamodb_codec(case, "aiopynamodb")


def _pydynantic_codec(case: str) -> Codec:
    model = pydynantic_model(case, object())
    given = own(7) if case == "run" else CALL | CALL_IDS
    return Codec(lambda: model(**given), model.to_dynamo, model.from_dynamo)


def pydynantic_model(case: str, client: Any) -> Any:
    """Return an entity of pydynantic; its keys are templates of texts, whose parts it neither checks nor escapes."""
    from pydynantic import Entity, Table, key

    given = own(7) if case == "run" else CALL | CALL_IDS
    primary = key(pk="{user_id}#{session_id}", sk="{process_id}")
    if case == "execution":
        primary = key(pk="{user_id}#{session_id}", sk="{process_id}#{agent_id}#{tool_id}")
    keys_of = {"primary": primary}
    if case == "run":
        keys_of["ranked"] = key(index="GSI1", pk="{agent_id}", sk="AGTSCORE#{score}")
    table = Table("Bench", indexes={"GSI1": {"pk": "GSI1_PK", "sk": "GSI1_SK"}}, client=client)
    annotations = {name: type(value) for name, value in given.items()}
    name = case.title()
    meta = type("Meta", (), keys_of | {"__qualname__": f"{name}.Meta"})  # as nested in the class
    body = {"__annotations__": annotations, "Meta": meta, "__module__": __name__, "__qualname__": name}
    return type(Entity)(name, (Entity,), body, table=table, name=case)


def _dynamoxy_codec(case: str) -> Codec:
    """Its items are of Python's values; what makes JSON of them is not to be called apart."""
    import dynamoxy

    given = _given(case)
    annotations = {name: dynamoxy.Attr[type(value)] for name, value in given.items()}
    body: dict[str, Any] = {"__annotations__": annotations, "__module__": __name__}
    body |= {"pk": dynamoxy.partition_key(attribute_name="PK"), "sk": dynamoxy.sort_key(attribute_name="SK")}
    model = type(dynamoxy.Model)(case.title(), (dynamoxy.Model,), body, table="Bench")
    return Codec(lambda: model(**given), model.to_item, model.from_item)


def pydynox_models(**options: Any) -> dict[str, Any]:
    """Return the two entities as pydynox models."""
    from pydynox import Model, ModelConfig, attributes
    from pydynox.indexes import GlobalSecondaryIndex

    kinds = {
        bool: attributes.BooleanAttribute, int: attributes.NumberAttribute, float: attributes.NumberAttribute,
        list: attributes.ListAttribute, dict: attributes.MapAttribute, datetime: attributes.DatetimeAttribute,
    }  # fmt: skip
    models = {}
    for case in CASES:
        given = _given(case)
        body = {name: kinds.get(type(value), attributes.StringAttribute)() for name, value in given.items()}
        body["pk"] = attributes.StringAttribute(partition_key=True, alias="PK")
        body["sk"] = attributes.StringAttribute(sort_key=True, alias="SK")
        if case == "run":
            body["gsi1_pk"] = attributes.StringAttribute(alias="GSI1_PK")
            body["gsi1_sk"] = attributes.StringAttribute(alias="GSI1_SK")
            body["index"] = GlobalSecondaryIndex("GSI1", partition_key="gsi1_pk", sort_key="gsi1_sk")
        models[case] = type(case.title(), (Model,), body | {"model_config": ModelConfig(table="Bench", **options)})
    return models


def _pydynox_codec(case: str) -> Codec:
    from pydynox import pydynox_core as core

    model, given = pydynox_models()[case], _given(case)
    return Codec(
        lambda: model(**given),
        lambda made: core.item_to_dynamo(made.to_dict()),
        lambda stored: model.from_dict(core.item_from_dynamo(stored)),
    )


# Against a server: each library writes, queries and gets the same items

PAIRS = Iterator[tuple[str, Callable[[], None]]]


def workload(library: str, endpoint: str) -> PAIRS:
    """Return the names and functions of a library's work, on a new table."""
    settings = Settings.load(
        table="Bench",
        endpoint=endpoint,
        region=REGION,
        access_key_id=ACCESS,
        secret_access_key=ACCESS,
        dynamodb_timeout=60,
    )
    with Table(settings) as table:
        if table.exists():
            table.delete()
        table.create()
    work = {
        "agentmodel": _own_work, "boto3": _boto3_work, "pynamodb": _pynamodb_work, "pydynox": _pydynox_work,
        "aiopynamodb": _aiopynamodb_work, "pydynantic": _pydynantic_work,
    }  # fmt: skip
    return work[library](settings)


def _own_work(settings: Settings) -> PAIRS:
    table = Table(settings)
    writer = Writer(table, clock=HybridClock())
    runs = [Run(**own(n)) for n in range(ITEMS)]
    table.exists()

    def write() -> None:
        with writer.batch() as batch:
            for run in runs:
                batch.put(run)

    def query() -> None:
        found = table.query(Query(IDS["agent_id"], index="GSI1"))
        assert len([Run.from_item(item) for item in found.items]) == ITEMS

    def get() -> None:
        for n in range(GETS):
            assert table.get(Run.at(IDS["user_id"], IDS["session_id"], keys.process_id(n))) is not None

    yield from (("write", write), ("query", query), ("get", get))


def _boto3_client(settings: Settings) -> Any:
    import boto3

    return boto3.client(
        "dynamodb", endpoint_url=settings.endpoint, region_name=REGION, aws_access_key_id=ACCESS,
        aws_secret_access_key=ACCESS,
    )  # fmt: skip


def _boto3_work(settings: Settings) -> PAIRS:
    client = _boto3_client(settings)
    items = [Run(**own(n)).to_item() for n in range(ITEMS)]
    client.describe_table(TableName="Bench")

    def write() -> None:
        for start in range(0, ITEMS, 25):
            requests = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
            while requests:
                answer = client.batch_write_item(RequestItems={"Bench": requests})
                requests = answer.get("UnprocessedItems", {}).get("Bench", [])

    def query() -> None:
        values, found, start = {":pk": {"S": IDS["agent_id"]}}, [], {}
        while True:
            answer = client.query(
                TableName="Bench", IndexName="GSI1", KeyConditionExpression="GSI1_PK = :pk",
                ExpressionAttributeValues=values, **start,
            )  # fmt: skip
            found += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                break
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
        assert len(found) == ITEMS

    def get() -> None:
        for n in range(GETS):
            at = {"PK": items[n]["PK"], "SK": items[n]["SK"]}
            assert client.get_item(TableName="Bench", Key=at)["Item"]

    yield from (("write", write), ("query", query), ("get", get))


def _pynamodb_work(settings: Settings) -> PAIRS:
    model = pynamodb_models()["run"]
    model.Meta.host, model.Meta.aws_access_key_id, model.Meta.aws_secret_access_key = settings.endpoint, ACCESS, ACCESS
    runs = [model(**ready(n)) for n in range(ITEMS)]
    model.exists()

    def write() -> None:
        with model.batch_write() as batch:
            for run in runs:
                batch.save(run)

    def query() -> None:
        assert len(list(model.index.query(IDS["agent_id"]))) == ITEMS

    def get() -> None:
        for n in range(GETS):
            assert model.get(f"{IDS['user_id']}#{IDS['session_id']}", keys.process_id(n))

    yield from (("write", write), ("query", query), ("get", get))


def _pydynox_work(settings: Settings) -> PAIRS:
    from pydynox import DynamoDBClient, SyncBatchWriter

    client = DynamoDBClient(region=REGION, access_key=ACCESS, secret_key=ACCESS, endpoint_url=settings.endpoint)
    model = pydynox_models(client=client)["run"]
    runs = [model(**ready(n)) for n in range(ITEMS)]
    client.ping()

    def write() -> None:
        with SyncBatchWriter(client, "Bench") as batch:
            for run in runs:
                batch.put(run.to_dict())

    def query() -> None:
        assert len(list(model.index.sync_query(partition_key=IDS["agent_id"]))) == ITEMS

    def get() -> None:
        for n in range(GETS):
            assert model.sync_get(pk=f"{IDS['user_id']}#{IDS['session_id']}", sk=keys.process_id(n))

    yield from (("write", write), ("query", query), ("get", get))


def _aiopynamodb_work(settings: Settings) -> PAIRS:
    """One coroutine at a time, as the others have one thread."""
    model = pynamodb_models("aiopynamodb")["run"]
    model.Meta.host, model.Meta.aws_access_key_id, model.Meta.aws_secret_access_key = settings.endpoint, ACCESS, ACCESS
    runs = [model(**ready(n)) for n in range(ITEMS)]
    runner = asyncio.Runner()
    runner.run(model.exists())

    async def write() -> None:
        async with model.batch_write() as batch:
            for run in runs:
                await batch.save(run)

    async def query() -> None:
        assert len([run async for run in model.index.query(IDS["agent_id"])]) == ITEMS

    async def get() -> None:
        for n in range(GETS):
            assert await model.get(f"{IDS['user_id']}#{IDS['session_id']}", keys.process_id(n))

    yield from (("write", lambda: runner.run(write())), ("query", lambda: runner.run(query())))
    yield "get", lambda: runner.run(get())


def _pydynantic_work(settings: Settings) -> PAIRS:
    client = _boto3_client(settings)
    model = pydynantic_model("run", client)
    runs = [model(**own(n)) for n in range(ITEMS)]
    client.describe_table(TableName="Bench")

    def write() -> None:
        model.batch_write(puts=runs)

    def query() -> None:
        assert len(model.query.ranked(agent_id=IDS["agent_id"]).all()) == ITEMS

    def get() -> None:
        for n in range(GETS):
            at = {"user_id": IDS["user_id"], "session_id": IDS["session_id"], "process_id": keys.process_id(n)}
            assert model.get(**at) is not None

    yield from (("write", write), ("query", query), ("get", get))
