"""No write of PynamoDB's own methods leaves an older copy in Valkey: each method, on each entity."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from pynamodb.exceptions import PutError
from pynamodb.transactions import TransactWrite

from agentmodel.client import AgentModel
from agentmodel.config import Settings
from agentmodel.dynamo.entity import Entity
from agentmodel.dynamo.models import (
    Agent,
    Domain,
    Review,
    Suggestion,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.dynamo.table import Table

pytestmark = pytest.mark.table

NOON = datetime(2025, 6, 14, 12, tzinfo=UTC)
SESSION: dict[str, Any] = {"user_id": "USR001", "session_id": "SESS1"}

ENTITIES: dict[type[Entity], tuple[Callable[[], Any], str, Callable[[AgentModel], dict[str, Any]]]] = {
    # how one is made, an attribute that changes, and every read of it that is cached
    Domain: (
        lambda: Domain(domain_id="DMN001", name="d", description="old"), "description",
        lambda m: {"one": m.repository.domain("DMN001"), "all": list(m.repository.domains())},
    ),
    Agent: (
        lambda: Agent(agent_id="AGT001", domain_id="DMN001", name="a", description="old"), "description",
        lambda m: {"one": m.repository.agent("AGT001"), "top": list(m.repository.top_agents("DMN001"))},
    ),
    Tool: (
        lambda: Tool(agent_id="AGT001", tool_id="TL001", domain_id="DMN001", name="t", description="old"), "description",
        lambda m: {
            "one": m.repository.tool("AGT001", "TL001"), "agent": list(m.repository.agent_tools("AGT001")),
            "domain": list(m.repository.domain_tools("DMN001")),
        },
    ),
    User: (
        lambda: User(user_id="USR001", name="old"), "name", lambda m: {"one": m.repository.user("USR001")}
    ),
    UserSession: (
        lambda: UserSession(**SESSION, name="s", summary="old"), "summary",
        lambda m: {"one": m.repository.session("USR001", "SESS1"), "all": list(m.repository.sessions("USR001"))},
    ),
    UserSessionProcess: (
        lambda: UserSessionProcess(**SESSION, process_id="PRC001", name="p", description="old"), "description",
        lambda m: {
            "one": m.repository.process("USR001", "SESS1", "PRC001"),
            "all": list(m.repository.session_history("USR001", "SESS1").processes),
        },
    ),
    ToolExecution: (
        lambda: ToolExecution(
            **SESSION, process_id="PRC001", agent_id="AGT001", tool_id="TL001", tool_name="t", succeeded=True, result="old"
        ), "result",
        lambda m: {
            "one": m.repository.execution("USR001", "SESS1", "PRC001", "AGT001", "TL001"),
            "all": list(m.repository.session_history("USR001", "SESS1").executions),
        },
    ),
    UserToolMapping: (
        lambda: UserToolMapping(user_id="USR001", category="c", processes={}, agents={}, tools={"1": "old"}), "tools",
        lambda m: {
            "one": m.repository.mapping("USR001", "c"), "own": list(m.repository.user_mappings("USR001")),
            "all": list(m.repository.mappings()),
            "best": m.repository.best_mappings("c", "classic", lambda found, _: found),
        },
    ),
    Review: (
        lambda: Review(**SESSION, review_id="r", question="old", queue="q", due_at=NOON + timedelta(1)), "question",
        lambda m: {"all": list(m.repository.session_history("USR001", "SESS1").reviews)},
    ),
    Suggestion: (
        lambda: Suggestion(
            user_id="USR001", suggestion_id="s", suggested_at=NOON, source="old", candidates={}, steps=[]
        ), "source",
        lambda m: {"all": m.suggestions.of_user("USR001")},
    ),
}  # fmt: skip


def transaction(entity: Any) -> Any:
    return TransactWrite(connection=type(entity)._get_connection().connection)


def save(entity: Any, name: str, new: Any) -> None:
    setattr(entity, name, new)
    entity.save()


def update(entity: Any, name: str, new: Any) -> None:
    entity.update(actions=[getattr(type(entity), name).set(new)])


def delete(entity: Any, _name: str, _new: Any) -> None:
    entity.delete()


def batch_save(entity: Any, name: str, new: Any) -> None:
    setattr(entity, name, new)
    with type(entity).batch_write() as batch:
        batch.save(entity)


def batch_delete(entity: Any, _name: str, _new: Any) -> None:
    with type(entity).batch_write() as batch:
        batch.delete(entity)


def transaction_save(entity: Any, name: str, new: Any) -> None:
    setattr(entity, name, new)
    with transaction(entity) as writes:
        writes.save(entity)


def transaction_update(entity: Any, name: str, new: Any) -> None:
    with transaction(entity) as writes:
        writes.update(entity, actions=[getattr(type(entity), name).set(new)])


def transaction_delete(entity: Any, _name: str, _new: Any) -> None:
    with transaction(entity) as writes:
        writes.delete(entity)


METHODS = (save, update, delete, batch_save, batch_delete, transaction_save, transaction_update, transaction_delete)


@pytest.fixture(scope="module")
def model(dynamodb_endpoint: str, valkey_server: Any) -> Iterator[AgentModel]:
    """A model with Valkey, which is empty at first, bound to the process."""
    with closing(redis.Redis.from_url(valkey_server.url.replace("valkey:", "redis:", 1))) as client:
        client.flushall()
    settings = Settings.load(
        table="TestNoStaleCopies", endpoint=dynamodb_endpoint, access_key_id="test", secret_access_key="test",
        dynamodb_timeout=10.0, valkey_url=valkey_server.url, valkey_timeout=2.0, warehouse_url=None,
    )  # fmt: skip
    with AgentModel.from_settings(settings) as made:
        made.table.create()
        made.bind()
        yield made
        made.table.delete()


def shown(read: Callable[[AgentModel], dict[str, Any]], model: AgentModel, name: str) -> dict[str, list[Any]]:
    """The values of an attribute in every read that may be cached."""
    return {
        way: [getattr(each, name) for each in (found if isinstance(found, list) else [found]) if each is not None]
        for way, found in read(model).items()
    }


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("kind", ENTITIES, ids=lambda kind: kind.__name__)
def test_a_write_leaves_no_older_copy(kind: type[Entity], method: Callable[..., None], model: AgentModel) -> None:
    """After a write, every read that was cached before it shows what the table has now."""
    make, name, read = ENTITIES[kind]
    entity = make()
    old = getattr(entity, name)
    new: Any = {"1": "new"} if isinstance(old, dict) else "new"
    model.repository.put(entity)
    for _ in range(2):  # the second reads come from the cache
        assert set(map(str, shown(read, model, name).values())) == {str([old])}

    method(entity, name, new)

    expected = [] if "delete" in method.__name__ else [new]
    assert dict.fromkeys(shown(read, model, name), expected) == shown(read, model, name)
    model.repository.delete(make())


def put_one(model: AgentModel, moved: list[Any]) -> None:
    for each in moved:
        model.repository.put(remade(each, domain_id="DMN009"))


def put_all(model: AgentModel, moved: list[Any]) -> None:
    model.repository.put(*(remade(each, domain_id="DMN009") for each in moved))


def update_read(model: AgentModel, moved: list[Any]) -> None:
    for each in moved:
        model.repository.update(each, type(each).domain_id.to("DMN009"))


def update_by_key(model: AgentModel, moved: list[Any]) -> None:
    agent, tool = moved
    model.repository.update(agent.key, Agent.domain_id.to("DMN009"), Agent.score.to(0.0))
    model.repository.update(tool.key, Tool.domain_id.to("DMN009"), Tool.name.to("t"))


def remade(entity: Any, **others: Any) -> Any:
    """An entity that nobody has read, under the same key."""
    return type(entity)(**{**entity.attribute_values, **others})


@pytest.mark.parametrize(
    "method",
    [save, batch_save, transaction_save, put_one, put_all, update_read, update_by_key],
    ids=lambda method: method.__name__,
)
def test_what_moves_leaves_its_old_page(method: Callable[..., None], model: AgentModel) -> None:
    """An agent and a tool that are written under another domain are in its pages, and no longer in the old one's."""
    agent = Agent(agent_id="AGT009", domain_id="DMN008", name="a")
    tool = Tool(agent_id="AGT009", tool_id="TL001", domain_id="DMN008", name="t")
    model.repository.put(agent, tool)
    both = ("DMN008", "DMN009")

    def pages() -> list[tuple[int, int]]:
        return [(len(model.repository.top_agents(each)), len(model.repository.domain_tools(each))) for each in both]

    assert [(1, 1), (0, 0)] == pages() == pages()
    moved: list[Any] = [agent, tool]
    if method in METHODS:
        for each in moved:
            method(each, "domain_id", "DMN009")
    else:
        method(model, moved)
    assert [(0, 0), (1, 1)] == pages()
    for kept in (model.repository.agent("AGT009"), model.repository.tool("AGT009", "TL001")):
        assert kept is not None
        kept.delete()
    assert [(0, 0), (0, 0)] == pages()


def test_a_write_that_fails_drops_no_more_than_its_own(model: AgentModel) -> None:
    """A condition that is not met leaves the answers as they are."""
    user = User(user_id="USR001", name="old")
    model.repository.put(user)

    with pytest.raises(PutError):
        User(user_id="USR001", name="new").save(condition=User.pk.does_not_exist())

    found = model.repository.user("USR001")
    assert found is not None
    assert "old" == found.name


def test_a_table_without_its_model_says_what_to_do(model: AgentModel, caplog: pytest.LogCaptureFixture) -> None:
    """Bound to a table only, a class cannot reach Valkey: it says so once, with the call that mends it."""
    with Table(model.settings) as table, table.bound(), caplog.at_level(logging.WARNING):
        for _ in range(2):
            User(user_id="USR001", name="x").save()
        without = Table(model.settings.model_copy(update={"valkey_url": None}))
        without.run(User(user_id="USR001", name="x").save)
        without.close()

    (said,) = [record.getMessage() for record in caplog.records if "table.copies_left" in record.getMessage()]
    assert "model.bind()" in said
