"""Tables are bound to settings, not to classes: two tables, two regions, two endpoints live in one process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from agentmodel.config import Settings
from agentmodel.dynamo.models import Agent
from agentmodel.dynamo.table import INDEX, Query, Table
from agentmodel.dynamo.writer import Writer
from agentmodel.embedded import DynamoServer
from agentmodel.exceptions import ConfigurationError


@pytest.fixture
def tables(settings: Settings) -> Iterator[dict[str, Table]]:
    """The same table name in two regions and at a second endpoint, and a second name beside it."""
    with ExitStack() as opened:
        other = DynamoServer().start()
        opened.callback(other.close)
        places = {
            "first": {},
            "second name": {"table": f"{settings.table}-2"},
            "second region": {"region": "eu-west-1"},
            "second endpoint": {"endpoint": other.endpoint},
        }
        made = {}
        for place, values in places.items():
            made[place] = opened.enter_context(Table(settings.model_copy(update=values)))
            if made[place].create():
                opened.callback(made[place].delete)
        yield made


def _names(table: Table) -> list[str]:
    return [item["AgentNM"]["S"] for item in table.query(Query("DMN001", INDEX)).items]


def test_each_table_keeps_its_own(tables: dict[str, Table]) -> None:
    """What is written to one table, region or endpoint is read there and nowhere else."""
    if tables["first"].settings.endpoint and not _regions_apart(tables):
        pytest.skip("this engine keeps one set of tables for all regions")
    for place, table in tables.items():
        Writer(table, clock=lambda: 1).put(Agent(agent_id="AGT001", domain_id="DMN001", name=place))

    assert {place: [place] for place in tables} == {place: _names(table) for place, table in tables.items()}


def _regions_apart(tables: dict[str, Table]) -> bool:
    writer = Writer(tables["first"], clock=lambda: 1)
    probe = Agent(agent_id="AGTprobe", domain_id="DMN999", name="probe")
    writer.put(probe)
    apart = tables["second region"].get(probe.key) is None
    writer.delete(probe.key)
    return apart


def test_all_entities_share_one_client(tables: dict[str, Table]) -> None:
    """PynamoDB's own methods of the classes use the client of the table they are bound to."""
    table = tables["first"]
    with table.bound():
        Agent(agent_id="AGT001", domain_id="DMN001", name="one").save()
        found = Agent.get("AGT001", "METADATA")

        assert "one" == found.name
        assert Agent._get_connection().connection.client is table.client


def test_a_binding_ends_with_its_block_and_stays_in_its_thread(tables: dict[str, Table]) -> None:
    """Another thread sees no binding, an inner one wins, and after the block there is none."""
    elsewhere: list[BaseException] = []

    def look() -> None:
        try:
            Agent.get("AGT001", "METADATA")
        except ConfigurationError as error:
            elsewhere.append(error)

    first, second = tables["first"], tables["second name"]
    with first.bound():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        with second.bound():
            Agent(agent_id="AGT002", domain_id="DMN001", name="inner").save()
        Agent(agent_id="AGT001", domain_id="DMN001", name="outer").save()
    look()

    assert 2 == len(elsewhere)
    assert (["outer"], ["inner"]) == (_names(first), _names(second))


def test_a_process_is_bound_once(tables: dict[str, Table]) -> None:
    """Threads and tasks see the table of the process; a block and a single call come before it, and closing ends it."""
    first, second = tables["first"], tables["second name"]
    for table in (first, second):
        Writer(table, clock=lambda: 1).put(Agent(agent_id="AGT001", domain_id="DMN001", name=table.name))

    async def by_task() -> str:
        return (await asyncio.to_thread(Agent.get, "AGT001")).name

    first.bind()
    try:
        first.bind()
        with ThreadPoolExecutor(1) as pool:
            assert first.name == pool.submit(Agent.get, "AGT001").result().name
        assert first.name == asyncio.run(by_task())
        with second.bound():
            assert second.name == Agent.get("AGT001").name
        assert second.name == second.run(Agent.get, "AGT001").name
        later = [second.run(Agent.query, "AGT001"), second.run(Agent.batch_get, [Agent.at("AGT001")])]
        assert [second.name] * 2 == [next(found).name for found in later]
        with pytest.raises(ConfigurationError, match=rf"{second.name} cannot be bound.*{first.name}.*close"):
            second.bind()
        batch = second.run(Agent.batch_write)
        batch.save(Agent(agent_id="AGT002", domain_id="DMN001", name="new"))
        batch.commit()
        assert second.get(Agent.at("AGT002")) is not None
    finally:
        first.close()
    second.bind()
    second.close()

    with pytest.raises(ConfigurationError) as unbound:
        Agent.get("AGT001")
    assert ["Agent is not bound to a table.", True] == [
        line if n == 0 else "model.bind()" in line for n, line in enumerate(str(unbound.value).splitlines())
    ]


def test_timeouts_and_attempts_are_botocores(settings: Settings) -> None:
    """The settings' bounds are those of the client: seconds for one answer, and attempts in all."""
    with Table(settings.model_copy(update={"dynamodb_timeout": 3.5, "dynamodb_attempts": 2})) as table:
        config = table.client.meta.config

        assert 3.5 == config.read_timeout
        assert 1.0 == config.connect_timeout
        assert 2 == config.retries["total_max_attempts"]
