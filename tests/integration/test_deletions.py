"""What is deleted leaves the statistics, whichever way deletes it, and however late the next scan comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pynamodb.exceptions import DeleteError
from pynamodb.transactions import TransactWrite
from sqlalchemy import text

from agentmodel import AgentModel, ToolExecution, keys
from agentmodel.aio import AsyncAgentModel
from agentmodel.config import Settings
from agentmodel.dynamo.entity import Item
from agentmodel.exceptions import TableUnavailable
from agentmodel.redshift._feeds import FeedBatch, FeedItem
from tests.integration.suggest_world import opened

USER = "USRmina"
LATE = datetime.now(UTC) + timedelta(days=399)
"""Everything that expires has expired by then."""


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model without Valkey."""
    with opened(settings.model_copy(update={"valkey_url": None})) as model:
        yield model


async def _deleted_by_asyncio(model: AgentModel, call: ToolExecution) -> None:
    await AsyncAgentModel(model).repository.delete(call)


def _deleted_by_batch(model: AgentModel, call: ToolExecution) -> None:
    with model.writer.batch() as batch:
        batch.delete(call.key)


def _deleted_by_pynamodb(model: AgentModel, call: ToolExecution) -> None:
    with model.table.bound():
        call.delete()


def _deleted_by_pynamodbs_batch(model: AgentModel, call: ToolExecution) -> None:
    with model.table.bound(), ToolExecution.batch_write() as batch:
        batch.delete(call)


def _deleted_by_pynamodbs_transaction(model: AgentModel, call: ToolExecution) -> None:
    with model.table.bound():
        connection: Any = call._get_connection().connection
        with TransactWrite(connection=connection) as transaction:
            transaction.delete(call)


def _deleted_by_a_request_that_was_refused(model: AgentModel, call: ToolExecution) -> None:
    with model.table.bound(), pytest.raises(DeleteError):
        call.delete(condition=ToolExecution.error_type == "another")


WAYS_TO_DELETE: dict[str, Callable[[AgentModel, ToolExecution], object]] = {
    "the repository": lambda model, call: model.repository.delete(call),
    "asyncio": lambda model, call: asyncio.run(_deleted_by_asyncio(model, call)),
    "the writer": lambda model, call: model.writer.delete(call.key),
    "a batch": _deleted_by_batch,
    "a transaction": lambda model, call: model.writer.transact(delete=[call.key]),
    "PynamoDB": _deleted_by_pynamodb,
    "PynamoDB's batch": _deleted_by_pynamodbs_batch,
    "PynamoDB's transaction": _deleted_by_pynamodbs_transaction,
    "a request that was refused": _deleted_by_a_request_that_was_refused,
}


@dataclass
class Told:
    """A feed that tells of these changes, as a stream does."""

    items: list[FeedItem]
    complete = False
    expected = 0

    def batches(self, positions: Mapping[str, str], at: datetime) -> Iterator[FeedBatch]:
        """Yield the changes."""
        yield FeedBatch(self.items)


def marks_of(model: AgentModel) -> list[Item]:
    """The marks of deletions in the table."""
    return [item for item in model.table.scan() if item["EntityType"]["S"] == "Deleted"]


def recorded(model: AgentModel, values: Iterable[str]) -> dict[str, ToolExecution]:
    """Record a call for each of the values, which expires some day, and land them; the calls by value."""
    with model.session(USER, "where?", session_id="SESS1") as session, session.process("look") as process:
        for value in values:
            with process.call("AGT001", "TL001") as call:
                call.result = value
    model.settle()
    model.refresh()
    return {str(call.result): call for call in model.repository.session_history(USER, "SESS1").executions}


def landed_texts(model: AgentModel) -> str:
    """Everything that landed in the warehouse."""
    with model.warehouse.begin() as connection:
        return str([tuple(row) for row in connection.execute(text('SELECT * FROM "AgentTable"'))])


def test_what_is_deleted_is_not_taken_for_expired(model: AgentModel) -> None:
    """Whichever way deletes an item shortly before it expires, it leaves the statistics, although the scan comes late."""
    calls = recorded(model, [*WAYS_TO_DELETE, "nobody: it expires"])
    for way, delete in WAYS_TO_DELETE.items():
        delete(model, calls[way])
    landed = model.warehouse.land(marks_of(model), at=LATE)  # TTL has deleted everything else
    model.warehouse.refresh(as_of=LATE)

    found = landed_texts(model)
    assert [] == [way for way in WAYS_TO_DELETE if f'"{way}"' in found]
    assert "nobody: it expires" in found
    assert len(WAYS_TO_DELETE) == landed.erased
    assert [] == [item for item in model.table.scan() if keys.DELETED.prefix() in item["PK"]["S"] and USER in str(item)]


def test_a_mark_that_the_scan_missed_counts_in_the_next(model: AgentModel) -> None:
    """A scan that read the marks before an item was deleted, and the item after, is corrected by the next one."""
    calls = recorded(model, ["place", "another place"])
    model.warehouse.land([], at=LATE)
    assert "place" in landed_texts(model)
    model.writer.delete(calls["place"].key)
    landed = model.warehouse.land(marks_of(model), at=LATE + timedelta(days=1))

    assert 1 == landed.erased
    assert '"place"' not in landed_texts(model)
    assert '"another place"' in landed_texts(model)
    assert 0 == model.warehouse.land(marks_of(model), at=LATE + timedelta(days=2)).erased


def test_a_stream_that_tells_of_an_expiry_does_not_overrule_a_mark(model: AgentModel) -> None:
    """What a person asked to delete leaves the statistics, although the stream says that TTL deleted it in the end."""
    calls = recorded(model, ["asked for", "expired"])
    with model.table.bound(), pytest.raises(DeleteError):
        calls["asked for"].delete(condition=ToolExecution.error_type == "another")
    expired = [FeedItem(model.table.item(call), expired=True) for call in calls.values()]

    landed = model.warehouse.land_feed(Told([*map(FeedItem, marks_of(model)), *expired]), at=LATE)

    assert (1, 1) == (landed.expired, landed.erased)
    assert '"asked for"' not in landed_texts(model)
    assert '"expired"' in landed_texts(model)


def test_a_mark_does_not_count_for_what_is_written_later(model: AgentModel) -> None:
    """An item that is written anew after it was deleted, and then expires, stays in the statistics."""
    call = recorded(model, ["place"])["place"]
    model.writer.delete(call.key)
    call.version = int(LATE.timestamp() * 1000) << 16
    call.result = "written anew"
    model.writer.put(call)
    model.refresh()
    landed = model.warehouse.land(marks_of(model), at=LATE)

    assert 0 == landed.erased
    assert "written anew" in landed_texts(model)


def test_without_a_mark_nothing_is_deleted(model: AgentModel) -> None:
    """Where marks cannot be written, the error says so, and the item stays; a deletion elsewhere makes no mark."""
    call = recorded(model, ["place"])["place"]
    send = model.table.client._make_api_call

    def refusing(operation: str, request: dict[str, Any]) -> Any:
        if operation == "BatchWriteItem":
            return {"UnprocessedItems": request["RequestItems"]}
        return send(operation, request)

    model.table.client._make_api_call = refusing
    model.table.settings = model.table.settings.model_copy(update={"batch_deadline": 0.01})
    with pytest.raises(TableUnavailable, match="1 deletions were not marked, so nothing was deleted"):
        model.writer.delete(call.key)
    model.table.client._make_api_call = send

    assert model.table.get(call.key) is not None
    assert [] == marks_of(model)
