"""Writes that finish: whatever is written is read back; conditions hold; batches and transactions are all or told."""

# ruff: noqa: PT012 -- a batch's block is what raises
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from agentmodel import Agent, AgentModel, Domain, Settings, ToolExecution
from agentmodel.dynamo.entity import Entity, entity_of
from agentmodel.exceptions import (
    AlreadyExists,
    BatchIncomplete,
    Conflict,
    StaleVersion,
    TableNotFound,
    TableUnavailable,
    ValidationError,
)
from agentmodel.testing import GeneratedHistory, entities, histories


@pytest.fixture
def model(settings: Settings) -> Iterator[AgentModel]:
    """A model on an empty table, without Valkey."""
    with AgentModel.from_settings(settings.model_copy(update={"valkey_url": None})) as made:
        made.table.create()
        yield made
        made.table.delete()


def domain(number: int, name: str = "x", **values: Any) -> Domain:
    return Domain(domain_id=f"DMN{number:03d}", name=name, **values)


def names(model: AgentModel) -> list[str]:
    return sorted(item["DomainNM"]["S"] for item in model.table.scan())


@hypothesis_settings(max_examples=40)
@given(entity=entities())
def test_any_entity_is_read_as_it_was_put(model: AgentModel, entity: Entity) -> None:
    """The engine gives back each entity as it was put, by its key, and its item names its class."""
    model.writer.put(entity)
    item = model.table.get_item(entity.key, consistent=True)

    assert entity == model.table.get(entity.key, consistent=True)
    assert item is not None
    assert type(entity) is entity_of(item)


@hypothesis_settings(max_examples=15)
@given(history=histories(user_id="USR001", expires_at=None))
def test_any_session_is_read_as_it_was_put(model: AgentModel, history: GeneratedHistory) -> None:
    """A whole session comes back in its order, every step and call of it."""
    for item in list(model.table.scan()):
        model.table.call("DeleteItem", TableName=model.table.name, Key={name: item[name] for name in ("PK", "SK")})
    with model.writer.batch() as batch:
        for entity in history.entities:
            entity.expires_at = None
            batch.put(entity)
    found = model.repository.session_history("USR001", history.session.session_id)

    assert history.processes == found.processes
    assert history.executions == found.executions
    assert ((), ()) == (found.reviews, found.unreadable)


def test_a_key_is_taken_once(model: AgentModel) -> None:
    """Put-if-absent refuses a key that holds something, and leaves that as it is."""
    model.writer.put_new(domain(1, "first"))
    with pytest.raises(AlreadyExists, match="DMN001"):
        model.writer.put_new(domain(1, "second"))

    assert ["first"] == names(model)


def test_a_save_needs_the_version_that_was_read(model: AgentModel) -> None:
    """Of two who read one version and save, the second is told, and its entity can be read again and saved."""
    model.writer.save(domain(1, "start"))
    one, other = (model.table.get(Domain.at("DMN001")) for _ in range(2))
    assert one is not None
    assert other is not None
    one.name, other.name = "one", "other"
    model.writer.save(one)
    before = other.version
    with pytest.raises(StaleVersion, match="read it again"):
        model.writer.save(other)

    assert before == other.version
    assert ["one"] == names(model)
    one.name = "once more"
    model.writer.save(one)
    assert ["once more"] == names(model)


def test_a_save_of_something_new_does_not_overwrite(model: AgentModel) -> None:
    """An entity that was not read is not saved over one that was."""
    model.writer.save(domain(1, "there"))

    with pytest.raises(StaleVersion):
        model.writer.save(domain(1, "new"))
    assert ["there"] == names(model)


def test_an_older_version_never_overwrites(model: AgentModel) -> None:
    """Delivered in any order, the newest version stays."""
    items = {version: domain(1, f"v{version}", version=version).to_item() for version in (1, 2, 3)}

    assert [True, True, False, False] == [model.writer.put_newer(items[v], v) for v in (1, 3, 2, 3)]
    assert ["v3"] == names(model)


@pytest.mark.parametrize("count", [0, 1, 25, 26, 60])
def test_batches_have_any_size(model: AgentModel, count: int) -> None:
    """All entities of a batch are written, also beyond the 25 of one request."""
    with model.writer.batch() as batch:
        for number in range(count):
            batch.put(domain(number))

    assert count == len(list(model.table.scan()))


def test_the_last_of_a_key_is_written(model: AgentModel) -> None:
    """Puts and deletes of one key in a batch are one request, the last."""
    model.writer.put(domain(3, "there"))
    with model.writer.batch() as batch:
        for name in ("a", "b", "c"):
            batch.put(domain(1, name))
        batch.put(domain(2))
        batch.delete(domain(2).key)
        batch.delete(domain(3).key)
        batch.put(domain(3, "again"))
    repeated = [domain(4, name).to_item() for name in ("x", "y")]

    assert [] == model.writer.put_many(repeated)
    assert ["again", "c", "y"] == names(model)


def test_nothing_is_written_when_the_block_raised(model: AgentModel) -> None:
    """An exception in a batch's block writes nothing and goes on."""
    with pytest.raises(ZeroDivisionError), model.writer.batch() as batch:
        batch.put(domain(1))
        raise ZeroDivisionError

    assert [] == list(model.table.scan())


def test_a_transaction_is_all_or_nothing(model: AgentModel) -> None:
    """Where one condition is not met nothing is written; else everything, of all kinds."""
    agent = Agent(agent_id="AGT001", domain_id="DMN001", name="x")
    model.writer.put(domain(1, "there"))
    with pytest.raises(Conflict, match="nothing was written"):
        model.writer.transact(put=[agent], put_new=[domain(2), domain(1, "again")])
    before = list(model.table.scan())
    model.writer.transact(put=[agent], put_new=[domain(2, "new")], delete=[domain(1).key])

    assert 1 == len(before)
    assert {"AGT001", "DMN002"} == {item["PK"]["S"] for item in model.table.scan()}
    with pytest.raises(ValidationError, match="at most 100 actions"):
        model.writer.transact(put=[domain(number) for number in range(101)])


def test_many_are_gotten_in_the_order_asked(model: AgentModel) -> None:
    """Gets of many keys, also beyond the 100 of one request and with repetitions, are in order; None where none is."""
    with model.writer.batch() as batch:
        for number in range(0, 130, 2):
            batch.put(domain(number))
    asked = [Domain.at(f"DMN{number:03d}") for number in (*range(129, -1, -1), 4, 5)]
    found = model.table.get_many(asked)

    assert [key.pk if int(key.pk[3:]) % 2 == 0 else None for key in asked] == [
        None if entity is None else entity.domain_id for entity in found
    ]


def test_what_is_too_large_is_refused_before_it_is_sent(model: AgentModel) -> None:
    """An item of more than 400 KB is refused by every way of writing, with its largest attribute named."""
    large = ToolExecution(
        user_id="USR1", session_id="SESS1", process_id="PRC1", agent_id="AGT1", tool_id="TL1", tool_name="x",
        succeeded=True, result="한" * 140_000,
    )  # fmt: skip
    with pytest.raises(ValidationError, match="ResultMsg"):
        model.writer.put(large)
    with pytest.raises(ValidationError, match="409600"), model.writer.batch() as batch:
        batch.put(domain(1))
        batch.put(large)
    with pytest.raises(ValidationError):
        model.recorder.record(large)

    assert [] == list(model.table.scan())


def test_a_table_is_made_once_and_fits(model: AgentModel) -> None:
    """A table that was made fits the design; making it again changes nothing; one that is not there is named."""
    assert [] == model.table.verify()
    assert not model.table.create()
    missing = model.settings.model_copy(update={"table": "Missing-Table"})
    with AgentModel.from_settings(missing) as other:
        assert not other.table.exists()
        for ask in (other.table.verify, other.repository.domains, lambda: other.writer.put(domain(1))):
            with pytest.raises(TableNotFound, match="Missing-Table"):
                ask()


def test_a_table_that_does_not_fit_is_described(settings: Settings) -> None:
    """A table with other keys, no index and no TTL has a line for each, which says what to do."""
    with AgentModel.from_settings(settings) as model:
        model.table.call(
            "CreateTable",
            TableName=settings.table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        problems = model.table.verify()
        model.table.delete()

    assert 3 == len(problems)
    assert "create another table" in problems[0]
    assert "GSI1" in problems[1]
    assert "ExpiresAt" in problems[2]


def test_an_update_through_the_repository_reaches_near_copies(settings: Settings) -> None:
    """After an update of single attributes the cached item, page and ranking show it."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        repository = model.repository
        repository.put(*(Agent(agent_id=f"AGT00{n}", domain_id="DMN001", name=str(n), score=n) for n in (1, 2)))
        before = [agent.agent_id for agent in repository.top_agents("DMN001")], repository.agent("AGT001")
        updated = repository.update(Agent.at("AGT001"), Agent.score.to(9.0), Agent.domain_id.to("DMN001"))
        after = [agent.agent_id for agent in repository.top_agents("DMN001")], repository.agent("AGT001")
        model.table.delete()

    assert ["AGT002", "AGT001"] == before[0]
    assert ["AGT001", "AGT002"] == after[0]
    assert after[1] == updated


@pytest.mark.parametrize("error", [BatchIncomplete([], 1.0), TableUnavailable("down")])
def test_near_copies_are_dropped_after_half_a_write_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Where a write of many failed half-way, what was written is seen, and not the copies of before."""
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        model.repository.put(domain(1, "old"), domain(2, "old"))
        before = [each.name for each in model.repository.domains()]
        write = model.table.call

        def half(operation: str, **request: Any) -> dict[str, Any]:
            if operation != "BatchWriteItem":
                return write(operation, **request)
            first = request["RequestItems"][model.table.name][:1]
            write(operation, RequestItems={model.table.name: first})
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(model.table, "call", half)
            with pytest.raises(type(error)):
                model.repository.put(domain(1, "new"), domain(2, "new"))
        after = [each.name for each in model.repository.domains()]
        model.table.delete()

    assert ["old", "old"] == before
    assert ["new", "old"] == after
