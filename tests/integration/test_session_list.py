"""Sessions of all users: those of the warehouse with what is newer, and one of them by the beginning of its id."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("duckdb", reason="the warehouse is an extra")
pytest.importorskip("typer", reason="the command line is an extra")

from agentmodel import AgentModel, Settings, ToolExecution, UserSession
from agentmodel._lookup.sessions import SessionFinder, SessionPage
from agentmodel.cache import MOST_SESSIONS, NewestSessions
from agentmodel.cli import main
from agentmodel.exceptions import CacheUnavailable, CursorError, NotFound, ValidationError
from agentmodel.redshift.session_list import SessionFilter, active_users, error_types
from tests.integration.suggest_world import catalogue, run
from tests.integration.test_cli_errors import environment


@pytest.fixture(scope="module")
def model() -> Iterator[AgentModel]:
    """Two sessions that the warehouse has, and then two that it does not have: one in the journal, one in the table."""
    with AgentModel.local(dynamodb_timeout=10.0) as made:
        catalogue(made)
        run(made, request="the oldest")
        run(made, "USR002", "AGT002", request="known and failed", failing=[2], succeeded=False)
        made.drain()
        made.refresh()
        run(made, "USR002", "AGT002", request="in the table", tools=(1,))
        made.drain()
        run(made, request="in the journal", failing=[3], succeeded=False)
        made.settle()
        yield made


def listed(model: AgentModel, limit: int = 50, cursor: str | None = None, **narrow: Any) -> SessionPage:
    return SessionFinder(model).of_all(model.warehouse, SessionFilter(**narrow), limit=limit, cursor=cursor)


def requests(page: SessionPage) -> list[str]:
    return [row.request for row in page.rows]


def test_newer_sessions_are_listed_and_marked(model: AgentModel) -> None:
    """What the warehouse does not have stands at its place in time, with its counts, and says that it is new."""
    page = listed(model)

    assert ["in the journal", "in the table", "known and failed", "the oldest"] == requests(page)
    assert [True, True, False, False] == [row.is_new for row in page.rows]
    assert [(3, 1, False), (1, 0, True), (3, 1, False), (3, 0, True)] == [
        (row.calls, row.failed, row.outcome) for row in page.rows
    ]
    assert ["user 1", "user 2", "user 2", "user 1"] == [row.user_name for row in page.rows]
    assert ("agent 1",) == page.rows[0].agents


@pytest.mark.parametrize(
    ("narrow", "expected"),
    [
        ({"user_id": "USR002"}, ["in the table", "known and failed"]),
        ({"outcome": "failed"}, ["in the journal", "known and failed"]),
        ({"outcome": "succeeded"}, ["in the table", "the oldest"]),
        ({"outcome": "unknown"}, []),
        ({"agent": "agent 1"}, ["in the journal", "the oldest"]),
        ({"agent": "AGT002", "tool": "search"}, ["known and failed"]),
        ({"tool": "TL001", "text": "IN THE"}, ["in the journal", "in the table"]),
        ({"category": "other"}, []),
        ({"category": "cafe search", "text": "journal"}, ["in the journal"]),
        ({"since": datetime.now(UTC) + timedelta(days=1)}, []),
    ],
)
def test_newer_sessions_are_narrowed_as_others(model: AgentModel, narrow: dict[str, Any], expected: list[str]) -> None:
    """Each condition holds for those of the warehouse and for newer ones."""
    assert expected == requests(listed(model, **narrow))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_have_each_session_once(model: AgentModel, size: int) -> None:
    """The pages together are the list, wherever one of them ends."""
    found, cursor = list[str](), None
    for _ in range(9):
        page = listed(model, size, cursor)
        found += requests(page)
        cursor = page.cursor
        if cursor is None:
            break

    assert ["in the journal", "in the table", "known and failed", "the oldest"] == found


def test_a_session_is_found_by_its_beginning(model: AgentModel) -> None:
    """A beginning that is one session's is enough, with or without SESS; several are named, none is told."""
    sessions = SessionFinder(model)
    rows = listed(model).rows
    for row in rows:
        expected = (row.user_id, row.session_id)
        assert expected == sessions.find(row.session_id, warehouse=model.warehouse)
        assert expected == sessions.find(row.session_id[4:-2], warehouse=model.warehouse)
        assert expected == sessions.find(row.session_id[:-2], user_id=row.user_id)
    with pytest.raises(ValidationError, match=r"begin so: add characters or --user"):
        sessions.find("SESS2", warehouse=model.warehouse)
    with pytest.raises(NotFound):
        sessions.find("SESS1", warehouse=model.warehouse)
    with pytest.raises(NotFound):
        sessions.find(rows[0].session_id, user_id="USR003")


def test_an_id_of_two_users_needs_the_user(settings: Settings) -> None:
    """An application's own id may be a session of several users, and the beginning of another id."""
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        for user, session in (("USR001", "SESS1"), ("USR002", "SESS1"), ("USR002", "SESS12")):
            model.recorder.record(UserSession(user_id=user, session_id=session, name="n", started_at=datetime.now(UTC)))
        model.settle()
        sessions = SessionFinder(model)

        assert ("USR002", "SESS1") == sessions.find("1", user_id="USR002")
        assert ("USR002", "SESS12") == sessions.find("12", warehouse=model.warehouse)
        with pytest.raises(ValidationError, match="SESS1 of USR001, SESS1 of USR002"):
            sessions.find("SESS1", warehouse=model.warehouse)


def test_the_set_is_bounded_and_cleared(settings: Settings) -> None:
    """It keeps the newest sessions of seven days, expires, and loses those that the warehouse has or nobody has."""
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        assert model.valkey is not None
        now = datetime.now(UTC)
        newest = NewestSessions(model.valkey)
        many = [(f"USR{n}", "SESS1", now - timedelta(seconds=n)) for n in range(MOST_SESSIONS + 5)]
        newest.add(many, erasing_key="erased:{}".format)
        newest.add([("USRold", "SESS1", now - timedelta(days=8))], erasing_key="erased:{}".format)
        count = model.valkey.execute(("ZCARD", f"{settings.valkey_prefix}:newest"))
        lasts = model.valkey.execute(("TTL", f"{settings.valkey_prefix}:newest"))
        first = newest.newest(2, until=now - timedelta(seconds=1), skip=1)
        listed(model)  # none of them exists
        left = model.valkey.execute(("ZCARD", f"{settings.valkey_prefix}:newest"))

    assert MOST_SESSIONS == count
    assert 0 < lasts <= 7 * 86_400
    assert [("USR2", now - timedelta(seconds=2)), ("USR3", now - timedelta(seconds=3))] == [
        (each.user_id, each.started_at) for each in first
    ]
    assert left < count


def test_a_drain_adds_what_a_recorder_could_not(settings: Settings) -> None:
    """A session whose recorder died before it was added is added when it is drained."""
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        model.recorder.observers.clear()
        session_id = run(model, request="drained", tools=())
        before = requests(listed(model))
        model.drain()
        after = listed(model).rows
        erased = model.erase_user("USR001")
        assert model.valkey is not None
        left = model.valkey.execute(("ZRANGE", f"{settings.valkey_prefix}:newest", 0, -1))

    assert [] == before
    assert [(session_id, True)] == [(row.session_id, row.is_new) for row in after]
    assert 1 == erased.removed["valkey"]["places in the list of newest sessions"]
    assert [] == left


def test_a_late_step_adds_no_erased_session(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a background step adds after its user was erased is not in the list, and the user's next session is."""
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        late: list[Callable[[], None]] = []
        add = NewestSessions.add

        def wait(self: NewestSessions, sessions: Iterable[Any], **more: Any) -> None:
            found = list(sessions)
            late.append(lambda: add(self, found, **more))

        monkeypatch.setattr(NewestSessions, "add", wait)
        run(model, request="erased", tools=())
        model.settle()
        model.erase_user("USR001")
        monkeypatch.setattr(NewestSessions, "add", add)
        assert late
        for step in late:
            step()
        assert model.valkey is not None
        left = model.valkey.execute(("ZRANGE", f"{settings.valkey_prefix}:newest", 0, -1))
        run(model, request="after", tools=())
        model.settle()
        named = requests(listed(model))

    assert [] == left
    assert ["after"] == named


def test_sessions_of_one_moment_are_paged(settings: Settings) -> None:
    """Sessions that began together, which Valkey and the list order differently, are on a page each, and once."""
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        now = datetime.now(UTC)
        for n in range(7):
            one = UserSession(user_id=f"USR{n}", session_id=f"SESS{9 - n}", name="n", started_at=now)
            model.recorder.record(one)
        model.settle()
        found, cursor = list[str](), None
        while len(found) < 10:
            page = listed(model, 2, cursor)
            found += [row.session_id for row in page.rows]
            cursor = page.cursor
            if cursor is None:
                break

    assert [f"SESS{n}" for n in (9, 8, 7, 6, 5, 4, 3)] == found


def test_a_page_that_looks_at_many_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit ends no list: a page that looked at enough says where the next one begins."""
    monkeypatch.setattr("agentmodel._lookup.sessions._STEP", 3)
    monkeypatch.setattr("agentmodel._lookup.sessions._LOOKED_AT", 4)
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        now = datetime.now(UTC)
        for n in range(13):
            begun, about = now - timedelta(seconds=n // 2), "old" if n > 10 else "new"
            one = UserSession(
                user_id="USRa" if n > 10 else "USRb", session_id=f"SESS{n:02}", name=about, started_at=begun
            )
            model.recorder.record(one)
        model.settle()
        found, cursor, pages = list[str](), None, 0
        while pages < 10:
            page = listed(model, 5, cursor, text="old")
            found, cursor, pages = found + [row.session_id for row in page.rows], page.cursor, pages + 1
            if cursor is None:
                break
        of_user = listed(model, 5, user_id="USRa")

    assert ["SESS12", "SESS11"] == sorted(found, reverse=True)
    assert 1 < pages < 10
    assert (["SESS11", "SESS12"], None) == ([row.session_id for row in of_user.rows], of_user.cursor)


@pytest.mark.parametrize("place", [5, None, "abc", {"a": 1, "b": 2, "c": 3}, ["a", "b"], ["a", "b", 3]])
def test_what_is_no_cursor_is_refused(model: AgentModel, place: object) -> None:
    """A cursor with anything but three texts in it is not one of this list."""
    with pytest.raises(CursorError):
        listed(model, cursor=base64.urlsafe_b64encode(json.dumps(place).encode()).decode())


def test_a_beginning_is_not_needed_where_the_warehouse_is_away(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan for a user without a history needs no warehouse, and is not that of a user whose id begins so."""
    for name, value in environment(model.settings).items():
        monkeypatch.setenv(name, value)
    model.warehouse.close()

    assert 0 == main(["suggest", "USR00", "--domain", "DMN001", "--json"])
    assert "USR00" == json.loads(capsys.readouterr().out)["user_id"]
    monkeypatch.setenv("AGENTMODEL_WAREHOUSE_URL", "duckdb:////nowhere/at/all.duckdb")
    assert 1 == main(["sessions", "--user", "USR00"])
    assert "USR00 does not exist" in capsys.readouterr().err


def test_without_valkey_the_list_says_so(model: AgentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of the warehouse are listed still, and the page is not complete."""

    def away(*_: object, **__: object) -> None:
        raise CacheUnavailable("away")

    monkeypatch.setattr(NewestSessions, "newest", away)
    page = listed(model)

    assert ["known and failed", "the oldest"] == requests(page)
    assert not page.complete


def test_users_and_errors_are_counted(settings: Settings) -> None:
    """Users by their last session, and types of errors by tool and agent, narrowed by time, agent and tool."""
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        catalogue(model)
        for user, error, number in (("USR001", "TimeoutError", 1), ("USR002", "TimeoutError", 2), ("USR002", None, 3)):
            session_id, now = f"SESS{number}", datetime.now(UTC)
            model.recorder.record(UserSession(user_id=user, session_id=session_id, name="n", started_at=now))
            model.recorder.record(
                ToolExecution(
                    user_id=user, session_id=session_id, process_id="PRC001", agent_id="AGT001", tool_id="TL001",
                    tool_name="locate", succeeded=False, error_type=error, executed_at=now,
                )
            )  # fmt: skip
        model.drain()
        model.refresh()
        users = active_users(model.warehouse)
        errors = error_types(model.warehouse)
        narrowed = [
            error_types(model.warehouse, agent="agent 1", tool="locate", since=datetime.now(UTC) - timedelta(hours=1)),
            error_types(model.warehouse, agent="agent 2"),
            error_types(model.warehouse, tool="search"),
            error_types(model.warehouse, since=datetime.now(UTC) + timedelta(hours=1)),
        ]

    assert [("user 2", 2), ("user 1", 1)] == [(each.name, each.sessions) for each in users]
    assert [("TimeoutError", "locate", "agent 1", 2, 2), ("", "locate", "agent 1", 1, 1)] == [
        (each.error_type, each.tool_name, each.agent_name, each.failures, each.sessions) for each in errors
    ]
    assert [errors, [], [], []] == narrowed


def test_commands_show_names_and_take_beginnings(
    model: AgentModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names come first and ids where they are asked for; the beginning that a list shows opens the session."""
    for name, value in environment(model.settings).items():
        monkeypatch.setenv(name, value)

    model.warehouse.close()  # a DuckDB file is one process's at a time

    def shown(*arguments: str) -> str:
        assert 0 == main(list(arguments)), capsys.readouterr().err
        return capsys.readouterr().out

    rows = json.loads(shown("sessions", "--since", "1d", "--failed", "--agent", "AGT001", "--json"))["sessions"]
    text = shown("sessions", "--agent", "agent 1", "--succeeded")
    (short,) = [line.split()[0] for line in text.splitlines() if "the oldest" in line]
    one = shown("session", short)

    assert ["in the journal"] == [row["request"] for row in rows]
    assert "user 1" in text
    assert "USR001" not in text
    assert "USR001" in shown("sessions", "--agent", "agent 1", "--ids")
    assert "Outcome: succeeded, as it was recorded." in one
    assert "AGT001" not in one
    assert "agent 1 (AGT001)" in shown("session", short, "--ids")
    assert "Failed, and not made good later: format in step 3: no answer" in shown("session", rows[0]["session_id"])
    assert "user 2" in shown("users")
    assert "no type recorded" in shown("errors", "--agent", "agent 2")
    assert "No tool failed" in shown("errors", "--agent", "agent 1")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sessions", "--since", "1y"], "--since"),
        (["sessions", "--since", "999999999d"], "--since"),
        (["sessions", "--agent", "AGT"], "must be the beginning of one only, and AGT001, AGT002 begin so"),
        (["errors", "--runs", "--tool", "x"], "cannot be combined with --runs"),
    ],
)
def test_what_is_not_clear_is_refused(
    model: AgentModel, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A time that is none and a beginning of several ids are wrong use, and say what would be right."""
    for name, value in environment(model.settings).items():
        monkeypatch.setenv(name, value)
    model.warehouse.close()

    assert 2 == main(arguments)
    assert told in capsys.readouterr().err
