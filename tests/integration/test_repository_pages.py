"""Pages of the access patterns: limits, cursors, what expired, what cannot be read; and that nothing is read in vain."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agentmodel import (
    Agent,
    AgentModel,
    Domain,
    Review,
    Settings,
    Tool,
    ToolExecution,
    User,
    UserSession,
    UserSessionProcess,
    UserToolMapping,
)
from agentmodel.access.pagination import Page
from agentmodel.access.patterns import PATTERNS
from agentmodel.access.repository import SessionHistory
from agentmodel.dynamo.entity import Entity, entity_of
from agentmodel.exceptions import CursorError, ValidationError
from agentmodel.testing import _strategies as strategies

DAY = datetime(2025, 6, 14, tzinfo=UTC)
OVER = datetime(2025, 7, 1, tzinfo=UTC)
KINDS = 10  # entities that `everything` makes for each number


@pytest.fixture(params=["valkey", "no valkey"])
def model(request: pytest.FixtureRequest, settings: Settings) -> Iterator[AgentModel]:
    """A model on an empty table, with Valkey and without."""
    chosen = settings if request.param == "valkey" else settings.model_copy(update={"valkey_url": None})
    with AgentModel.from_settings(chosen) as made:
        made.table.create()
        yield made
        made.table.delete()


def mapping(user: int, category: str, **values: Any) -> UserToolMapping:
    return UserToolMapping(user_id=f"USR{user:03d}", category=category, processes={}, agents={}, tools={}, **values)


def everything(count: int = 7, **values: Any) -> list[Any]:
    """So many entities of each kind, all in the partitions that the patterns below ask for, and neighbours."""
    home: dict[str, Any] = {"user_id": "USR001", "session_id": "SESS1"}
    made: list[Any] = []
    for n in range(1, count + 1):
        made += [
            Domain(domain_id=f"DMN{n:03d}", name=f"domain {n}", **values),
            Agent(agent_id=f"AGT{n:03d}", domain_id="DMN001", name="x", score=n * 7 % 5 + n / 100, **values),
            Tool(agent_id="AGT001", tool_id=f"TL{n:03d}", domain_id="DMN001", name=f"tool {n}", **values),
            User(user_id=f"USR{n:03d}", name="x", **values),
            UserSession(user_id="USR001", session_id=f"SESS{n}", name="x", **values),
            UserSessionProcess(**home, process_id=f"PRC{n:03d}", name="x", **values),
            ToolExecution(
                **home, process_id=f"PRC{n:03d}", agent_id="AGT001", tool_id="TL001", tool_name="x", succeeded=True,
                call_number=n, **values,
            ),
            Review(**home, review_id=f"R{n}", question="?", queue="q", due_at=DAY, **values),
            mapping(1, f"category {n}", **values),
            mapping(n + 1, "category of many", **values),
        ]  # fmt: skip
    return made


VALUES: dict[str, tuple[Any, ...]] = {  # of the partition each pattern is asked for below
    "top_agents": ("DMN001",),
    "domain_tools": ("DMN001",),
    "agent_tools": ("AGT001",),
    "sessions": ("USR001",),
    "session_history": ("USR001", "SESS1"),
    "user_mappings": ("USR001",),
    "mappings": (0,),
}
Asks = Callable[..., Page[Any]]


def asked(model: AgentModel, name: str) -> Asks:
    """An access pattern with its arguments given, but for limit and cursor."""
    arguments = {} if name == "mappings" else VALUES
    method = getattr(model.repository, name)

    def ask(**options: Any) -> Page[Any]:
        found = method(*arguments.get(name, ()), **options)
        if isinstance(found, SessionHistory):
            items: tuple[Any, ...] = (*found.processes, *found.executions, *found.reviews)
            return Page(items, found.cursor, found.unreadable)
        page: Page[Any] = found
        return page

    return ask


def in_pages(ask: Asks, limit: int) -> list[list[Any]]:
    """All pages of a pattern."""
    pages, cursor = [], None
    while True:
        page = ask(limit=limit, cursor=cursor)
        pages.append(list(page))
        cursor = page.cursor
        if cursor is None:
            return pages


NAMES = [pattern.name for pattern in PATTERNS]


@pytest.mark.parametrize("name", NAMES)
def test_pages_together_are_the_whole(model: AgentModel, name: str) -> None:
    """Pages of any size, one after the other, give what one large page gives, in its order and nothing twice."""
    model.repository.put(*everything())
    ask = asked(model, name)
    whole = list(ask(limit=1000))

    for limit in (1, 2, 3, 7, 100):
        pages = in_pages(ask, limit)
        flat = [entity.key for page in pages for entity in page]
        if name == "session_history":  # its parts are sorted by kind within a page
            assert sorted(map(repr, (entity.key for entity in whole))) == sorted(map(repr, flat))
        else:
            assert [entity.key for entity in whole] == flat
        assert {limit} >= {len(page) for page in pages[:-1]}
    assert whole


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_means_matches(model: AgentModel, name: str) -> None:
    """What expired and is still stored does not count: a page of five has five, where there are so many."""
    gone = everything(9, expires_at=OVER)
    there = [entity for place, entity in enumerate(everything(9)) if place // KINDS % 2 == 1]  # every second of a kind
    model.repository.put(*gone)
    model.repository.put(*there)
    ask = asked(model, name)

    expected = {"session_history": 12, "mappings": 8}.get(name, 4)

    assert expected == len(ask(limit=1000))
    assert 3 == len(ask(limit=3))
    assert [1] * expected == [len(page) for page in in_pages(ask, 1) if page]
    assert {None} == {entity.expires_at for entity in ask(limit=1000)}


@pytest.mark.parametrize("name", NAMES)
def test_what_expired_is_not_returned(model: AgentModel, name: str) -> None:
    """Items that DynamoDB has not deleted yet are dropped by every pattern, from the table and from near copies."""
    soon = datetime.now(UTC) + timedelta(days=1)
    model.repository.put(*everything(3, expires_at=OVER))

    assert [] == list(asked(model, name)(limit=100))
    assert [] == list(asked(model, name)(limit=100))

    model.repository.put(*everything(3, expires_at=soon))

    assert [] != list(asked(model, name)(limit=100))


def test_what_expired_is_not_gotten(model: AgentModel) -> None:
    """Gets by id give None for what expired."""
    model.repository.put(*everything(1, expires_at=OVER))
    repository = model.repository

    assert [None] * 8 == [
        repository.domain("DMN001"),
        repository.agent("AGT001"),
        repository.tool("AGT001", "TL001"),
        repository.user("USR001"),
        repository.session("USR001", "SESS1"),
        repository.process("USR001", "SESS1", "PRC001"),
        repository.execution("USR001", "SESS1", "PRC001", "AGT001", "TL001"),
        repository.mapping("USR001", "category 1"),
    ]


def test_gets_give_what_was_put(model: AgentModel) -> None:
    """Each entity by its ids is what was put; None where there is none; twice, so near copies are asked too."""
    made = {type(entity): entity for entity in reversed(everything(1))}
    model.repository.put(*made.values())
    repository = model.repository

    for _ in range(2):
        assert made[Domain] == repository.domain("DMN001")
        assert made[Agent] == repository.agent("AGT001")
        assert made[Tool] == repository.tool("AGT001", "TL001")
        assert made[User] == repository.user("USR001")
        assert made[UserSession] == repository.session("USR001", "SESS1")
        assert made[UserSessionProcess] == repository.process("USR001", "SESS1", "PRC001")
        assert made[ToolExecution] == repository.execution("USR001", "SESS1", "PRC001", "AGT001", "TL001")
        assert made[UserToolMapping] == repository.mapping("USR001", "category 1")
        assert (None, None) == (repository.agent("AGT009"), repository.session("USR009", "SESS1"))


def test_a_change_is_seen(model: AgentModel) -> None:
    """What is put or deleted through the repository is seen by the patterns that held it."""
    repository = model.repository
    repository.put(*everything(2))
    before = [agent.agent_id for agent in repository.top_agents("DMN001")]
    changed = repository.agent("AGT001")
    assert changed is not None
    changed.score = 1000
    repository.put(changed)
    repository.delete(Tool(agent_id="AGT001", tool_id="TL002", domain_id="DMN001", name="tool 2"))
    repository.put_new(Domain(domain_id="DMN009", name="another"))

    assert ["AGT002", "AGT001"] == before
    assert ["AGT001", "AGT002"] == [agent.agent_id for agent in repository.top_agents("DMN001")]
    assert ["TL001"] == [tool.tool_id for tool in repository.agent_tools("AGT001")]
    assert ["TL001"] == [tool.tool_id for tool in repository.domain_tools("DMN001")]
    assert ["another", "domain 1", "domain 2"] == [domain.name for domain in repository.domains()]


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_cursor_is_refused(model: AgentModel, name: str) -> None:
    """A cursor continues only the pattern and arguments it was made for."""
    model.repository.put(*everything())
    cursors = {other: asked(model, other)(limit=2).cursor for other in NAMES}

    for other, cursor in cursors.items():
        assert cursor is not None
        if other == name:
            assert asked(model, name)(limit=2, cursor=cursor)
        else:
            with pytest.raises(CursorError, match="must be the cursor of a page of the same query"):
                asked(model, name)(limit=2, cursor=cursor)


def test_a_cursor_of_other_arguments_is_refused(model: AgentModel) -> None:
    """A cursor of another user, order or beginning of a name is refused."""
    model.repository.put(*everything())
    repository = model.repository
    cursor = repository.sessions("USR001", 2).cursor
    narrow = repository.domains("dom", limit=2).cursor

    with pytest.raises(CursorError):
        repository.sessions("USR002", 2, cursor=cursor)
    with pytest.raises(CursorError):
        repository.sessions("USR001", 2, newest_first=False, cursor=cursor)
    with pytest.raises(CursorError):
        repository.domains(limit=2, cursor=narrow)
    assert ["domain 3", "domain 4"] == [domain.name for domain in repository.domains("dom", limit=2, cursor=narrow)]


@pytest.mark.parametrize("name", NAMES)
def test_an_altered_cursor_is_refused(model: AgentModel, name: str) -> None:
    """Any change of a cursor, and anything that is none, is refused with one line."""
    model.repository.put(*everything())
    ask = asked(model, name)
    cursor = ask(limit=2).cursor
    assert cursor is not None
    decoded = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    other = base64.urlsafe_b64encode(decoded.replace(b"PK", b"SK")).decode()
    flipped = [cursor[:n] + ("A" if cursor[n] != "A" else "B") + cursor[n + 1 :] for n in range(len(cursor))]

    for bad in (
        other,
        *flipped,
        cursor[:-4],
        cursor + "AAAA",
        cursor + "=",
        cursor[1:],
        "",
        "x",
        "é",
        cursor.swapcase(),
    ):
        with pytest.raises(CursorError) as caught:
            ask(limit=2, cursor=bad)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("limit", [0, -1, 1001, 1.5, "2", True])
def test_a_limit_has_bounds(model: AgentModel, limit: Any) -> None:
    """A limit is a whole number from 1 to 1000."""
    for name in NAMES:
        with pytest.raises(ValidationError, match="limit"):
            asked(model, name)(limit=limit)


def test_what_cannot_be_read_is_kept_aside(model: AgentModel) -> None:
    """Unknown kinds and damaged items of a partition are counted and given with a reason; the others are returned."""
    session = {"PK": {"S": "USR001#SESS1"}, "Version": {"N": "1"}}
    damaged = Domain(domain_id="DMN009", name="damaged").to_item()
    del damaged["DomainNM"]
    foreign = [
        session | {"SK": {"S": "NOTE#1"}, "EntityType": {"S": "Note"}},
        session | {"SK": {"S": "ZZZ"}},
        damaged,
    ]
    model.repository.put(*everything(2))
    assert [] == model.writer.put_many(foreign)
    history = model.repository.session_history("USR001", "SESS1")
    domains = model.repository.domains()

    assert (2, 2, 2) == (len(history.processes), len(history.executions), len(history.reviews))
    assert [foreign[0], foreign[1]] == [each.item for each in history.unreadable]
    assert "its EntityType 'Note' is not expected here" in history.unreadable[0].reason
    assert ["domain 1", "domain 2"] == [domain.name for domain in domains]
    assert ["item DMN009 / METADATA: attribute DomainNM is missing, although it is required"] == [
        each.reason for each in domains.unreadable
    ]


def test_what_is_put_aside_takes_no_place(model: AgentModel) -> None:
    """A page has as many entities as were asked for, whatever lies between them that cannot be read."""
    names = [f"DMN00{n}" for n in range(1, 7)]
    items = [Domain(domain_id=each, name=f"domain {each}").to_item() for each in names]
    for damaged in items[1:3]:
        del damaged["DomainNM"]
    assert [] == model.writer.put_many(items)
    first = model.repository.domains(limit=3)
    rest = model.repository.domains(limit=3, cursor=first.cursor)

    assert ([names[0], names[3], names[4]], 2) == ([domain.domain_id for domain in first], len(first.unreadable))
    assert ([names[5]], None) == ([domain.domain_id for domain in rest], rest.cursor)


def test_session_history_is_in_order(model: AgentModel) -> None:
    """Processes by number, executions in the order they were made; newest first turns both round."""
    home: dict[str, Any] = {"user_id": "USR001", "session_id": "SESS1"}
    numbers = [3, 1, 999, 2, 1000, 10]
    for n in numbers:
        model.recorder.record(UserSessionProcess(**home, process_id=f"PRC{'A' if n > 999 else ''}{n:03d}", name="x"))
    for n in (2, 3, 1):
        model.recorder.record(
            ToolExecution(
                **home, process_id="PRC001", agent_id="AGT001", tool_id="TL001", tool_name="x", succeeded=True,
                call_number=n,
            )
        )  # fmt: skip
    forward = model.repository.session_history("USR001", "SESS1")
    backward = model.repository.session_history("USR001", "SESS1", newest_first=True)

    assert ["PRC001", "PRC002", "PRC003", "PRC010", "PRC999", "PRCA1000"] == [p.process_id for p in forward.processes]
    assert [1, 2, 3] == [execution.call_number for execution in forward.executions]
    assert forward.processes[::-1] == backward.processes
    assert forward.executions[::-1] == backward.executions


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_nothing_is_read_in_vain(model: AgentModel, pattern: Any) -> None:
    """DynamoDB reads for a pattern exactly what it returns: its ScannedCount is the number of items."""
    model.repository.put(*everything())
    query = pattern.query(*VALUES.get(pattern.name, ()))
    found = model.table.query(query)
    whole = model.table.call("Query", TableName=model.table.name, **query.request())

    assert len(found.items) == found.scanned > 0
    assert whole["Count"] == whole["ScannedCount"] == len(found.items)
    assert "FilterExpression" not in query.request()
    assert len(found.items) == len(asked(model, pattern.name)(limit=1000))


@pytest.fixture(scope="module")
def bare(dynamodb_endpoint: str) -> Iterator[AgentModel]:
    """A model on a table of this module, without Valkey; who uses it empties it."""
    chosen = Settings.load(
        table=f"Test-{uuid.uuid4().hex[:12]}", endpoint=dynamodb_endpoint, access_key_id="test",
        secret_access_key="test", dynamodb_timeout=10.0, valkey_url=None,
    )  # fmt: skip
    with AgentModel.from_settings(chosen) as made:
        made.table.create()
        yield made
        made.table.delete()


HOME = {"user_id": "USR001", "session_id": "SESS1"}
CROWDED = st.lists(
    st.one_of(
        strategies.domains(expires_at=None),
        strategies.agents(domain_id="DMN001", expires_at=None),
        strategies.tools(agent_id="AGT001", domain_id="DMN001", expires_at=None),
        strategies.agents(agent_id="AGT001", domain_id="DMN001", expires_at=None),
        strategies.users(user_id="USR001", expires_at=None),
        strategies.user_sessions(user_id="USR001", expires_at=None),
        strategies.processes(**HOME, expires_at=None),
        strategies.executions(**HOME, expires_at=None),
        strategies.reviews(**HOME, expires_at=None),
        strategies.mappings(user_id="USR001", index_number=0, expires_at=None),
        strategies.mappings(index_number=0, expires_at=None),
    ),
    min_size=10,
    max_size=40,
)


@hypothesis_settings(max_examples=20)
@given(crowd=CROWDED)
def test_what_a_pattern_reads_is_what_it_returns(bare: AgentModel, crowd: list[Entity]) -> None:
    """Whatever lies side by side in the partitions: each pattern's ScannedCount is its Count and what it returns."""
    with bare.writer.batch() as batch:
        for item in bare.table.scan():
            found = entity_of(item)
            if found is not None:  # else it is the mark of what an example before deleted
                batch.delete(found.from_item(item).key)
    with bare.writer.batch() as batch:
        for entity in crowd:
            batch.put(entity)
    stored = {entity.key: entity for entity in crowd}.values()

    for pattern in PATTERNS:
        query = pattern.query(*VALUES.get(pattern.name, ()))
        answer = bare.table.call("Query", TableName=bare.table.name, **query.request())
        page = asked(bare, pattern.name)(limit=1000)
        wanted = {
            entity.key
            for entity in stored
            if isinstance(entity, pattern.returns)
            and query.partition == (entity.gsi1_pk if pattern.index else entity.pk)
        }

        assert answer["ScannedCount"] == answer["Count"] == len(page), pattern.name
        assert () == page.unreadable
        assert wanted == {entity.key for entity in page}


class TestSpreadMappings:
    """Mappings over several index partitions come back in order and in pages."""

    @pytest.fixture
    def spread(self, model: AgentModel) -> Iterator[AgentModel]:
        """The same table, with mappings spread over five partitions."""
        from agentmodel.keys import mapping_partition

        chosen = model.settings.model_copy(update={"mapping_partitions": 5})
        with AgentModel.from_settings(chosen) as made:
            mappings = [
                mapping(user, category, index_number=mapping_partition(f"USR{user:03d}", 5))
                for user in range(30)
                for category in ("a", "b", f"c{user:03d}")
            ]
            made.repository.put(*mappings)
            yield made

    def test_they_are_spread(self, spread: AgentModel) -> None:
        """More than one index partition holds mappings, the sample's key among them."""
        partitions = {item["GSI1_PK"]["S"] for item in spread.table.scan()}

        assert {"UserPrcToolMapp", *(f"UserPrcToolMapp#{n:03d}" for n in range(1, 5))} == partitions

    @pytest.mark.parametrize("limit", [1, 7, 89, 90, 91, 1000])
    def test_pages_are_in_order(self, spread: AgentModel, limit: int) -> None:
        """Pages of any size give all of them once, by category."""
        pages = in_pages(spread.repository.mappings, limit)
        found = [entity for page in pages for entity in page]

        assert 90 == len(found) == len({entity.key for entity in found})
        assert sorted(entity.category for entity in found) == [entity.category for entity in found]
        assert {limit} >= {len(page) for page in pages[:-1]}

    def test_the_beginning_of_a_category(self, spread: AgentModel) -> None:
        """A beginning narrows every partition."""
        found = spread.repository.mappings("c01", limit=5)

        assert [f"c01{n}" for n in range(5)] == [entity.category for entity in found]
        assert 5 == len(spread.repository.mappings("c01", limit=5, cursor=found.cursor))

    def test_a_cursor_of_another_number_of_partitions_is_refused(self, spread: AgentModel, model: AgentModel) -> None:
        """A cursor that was made before the partitions were changed is refused."""
        cursor = spread.repository.mappings(limit=5).cursor

        with pytest.raises(CursorError):
            model.repository.mappings(limit=5, cursor=cursor)
