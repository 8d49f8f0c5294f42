"""Sessions without a category, in a real warehouse: what a refresh derives, and that it stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from agentmodel._erasure_marks import user_key
from agentmodel._values.categories import Founders, derived_name
from agentmodel.redshift import _derived_categories, reports
from agentmodel.redshift import models as m
from agentmodel.redshift.warehouse import Warehouse
from tests.integration.redshift_oracle import Item

DAY = date(2025, 6, 14)
AT = datetime(2025, 6, 14, 20, tzinfo=UTC)
CAFE, LIKE_IT, ORDER = "find a café near the stadium", "please find me a café near the station", "cancel my last order"


@pytest.fixture
def warehouse() -> Iterator[Warehouse]:
    with Warehouse.open("duckdb://", threads=1) as opened:
        opened.create()
        opened.land([agent("AGT001", "DMN001"), agent("AGT002", "DMN002")], at=AT, complete=False)
        yield opened


def agent(agent_id: str, domain: str) -> Item:
    return made(agent_id, "METADATA", "Agent", GSI1_PK=domain, AgentNM="finder")


def made(pk: str, sk: str, kind: str, **texts: str | None) -> Item:
    values = {name: {"S": text} for name, text in texts.items() if text is not None}
    return {"PK": {"S": pk}, "SK": {"S": sk}, "EntityType": {"S": kind}, **values}


def session(
    number: int, request: str | None, *, user: str = "USR001", agent: str = "AGT001", **others: str | None
) -> list[Item]:
    """The items of a session: the session, a process and a call."""
    session_id = f"SESS{number:03d}"
    prompt = others.pop("prompt", None)
    return [
        made(user, session_id, "UserSession", UserRequest=request, **others),
        made(f"{user}#{session_id}", "PRC001", "UserSessionProcess", UserPrompt=prompt, ProcNM="find"),
        made(f"{user}#{session_id}", f"PRC001#{agent}#TL001", "UserSessPrcToolMappHist", ToolNM="FIND",
             SuccYN="Y", TransactDT="20250614140605"),
    ]  # fmt: skip


def learn(warehouse: Warehouse, *sessions: list[Item], full: bool = False, minutes: int = 0) -> dict[str, str]:
    """Land sessions and refresh; return the category of each session."""
    at = AT + timedelta(minutes=minutes)
    warehouse.land([item for items in sessions for item in items], at=at, complete=False)
    warehouse.refresh(as_of=DAY, full=full)
    return categories(warehouse)


def categories(warehouse: Warehouse) -> dict[str, str]:
    e = m.AgentExecution
    return {row[0]: row[1] for row in warehouse.read(select(e.session_id, e.category))}


def assignments(warehouse: Warehouse) -> list[Any]:
    d = m.DerivedCategory
    return sorted(
        map(tuple, warehouse.read(select(d.user_id, d.request_key, d.domain_id, d.category, d.founder))), key=str
    )


def test_what_a_session_is_learned_under(warehouse: Warehouse) -> None:
    """A typed category counts; else the request does, or the first prompt; what has no letter has no category."""
    found = learn(
        warehouse,
        session(1, CAFE),
        session(2, LIKE_IT),
        session(3, None, prompt=CAFE.upper() + "!"),
        session(4, "", prompt=ORDER),
        session(5, CAFE, Category="typed"),
        session(6, CAFE, Category="~typed as if derived"),
        session(7, "?!"),
        session(8, None),
    )

    cafe, order = derived_name(CAFE), derived_name(ORDER)
    assert [cafe, cafe, cafe, order, "typed", cafe, "", ""] == [found[f"SESS{n:03d}"] for n in range(1, 9)]
    assert {("USR001", cafe): 3, ("USR001", order): 1, ("USR001", "typed"): 1} == {
        key: len(requests) for key, requests in reports.example_requests(warehouse).items()
    }


def test_of_several_prompts_the_first_counts(warehouse: Warehouse) -> None:
    """A session without a request is learned under the prompt of its first process, in whatever order they land."""
    later = made("USR001#SESS001", "PRC002", "UserSessionProcess", UserPrompt=ORDER, ProcNM="order")

    found = learn(warehouse, [later, *session(1, None, prompt=CAFE)])

    assert {"SESS001": derived_name(CAFE)} == found


def test_users_and_domains_have_their_own(warehouse: Warehouse) -> None:
    """A request joins no founder of another user or domain, and the same request has one category in every domain."""
    found = learn(
        warehouse,
        session(1, CAFE),
        session(2, LIKE_IT, user="USR002"),
        session(3, LIKE_IT, agent="AGT002"),
        session(4, CAFE, agent="AGT002"),
        session(5, "please find me a café near the station now", agent="AGT009"),
    )

    assert [
        derived_name(CAFE), derived_name(LIKE_IT), derived_name(LIKE_IT), derived_name(CAFE),
        derived_name("please find me a café near the station now"),
    ] == list(dict(sorted(found.items())).values())  # fmt: skip


def test_an_assignment_never_changes(warehouse: Warehouse) -> None:
    """What is learned later, an earlier session that comes late, and a full build leave every assignment as it is."""
    first = learn(warehouse, session(5, LIKE_IT))
    second = learn(warehouse, session(6, CAFE), session(7, ORDER), minutes=1)
    late = learn(warehouse, session(1, CAFE), session(2, "find me a café near the park"), minutes=2)
    before = assignments(warehouse)
    rebuilt = learn(warehouse, full=True, minutes=3)

    assert derived_name(LIKE_IT) == first["SESS005"] == second["SESS006"] == late["SESS001"] == late["SESS002"]
    assert late == rebuilt
    assert before == assignments(warehouse)
    assert [LIKE_IT, ORDER] == sorted((row[-1] for row in before if row[-1]), reverse=True)


def test_an_incremental_refresh_reads_only_what_is_new(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that have an assignment are not compared again."""
    learn(warehouse, session(1, CAFE), session(2, ORDER))
    compared: list[str] = []
    real = Founders.nearest

    def nearest(self: Founders, request: str) -> str | None:
        compared.append(request)
        return real(self, request)

    monkeypatch.setattr(Founders, "nearest", nearest)

    learn(warehouse, session(3, CAFE), session(4, "book a flight"), minutes=1)
    learn(warehouse, full=True, minutes=2)

    assert ["book a flight"] == compared


def test_many_requests_at_once(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are read and stored in several parts; each part knows the founders of those before it."""
    monkeypatch.setattr(_derived_categories, "_READ", 5)
    monkeypatch.setattr(_derived_categories, "_COMPARED", 3)
    monkeypatch.setattr(_derived_categories, "_STORED", 2)

    numbered = (session(n, f"{CAFE} number {n}") for n in range(1, 13))
    found = learn(warehouse, *(session(n, CAFE) for n in range(20, 34)), *numbered)

    assert (26, {derived_name(f"{CAFE} number 1")}) == (len(found), set(found.values()))
    assert 13 == len(assignments(warehouse)) == len({row[1] for row in assignments(warehouse)})


def test_a_prompt_that_lands_after_its_calls(warehouse: Warehouse) -> None:
    """A process alone affects its session, so its prompt is still learned from."""
    asked, process, call = session(1, None, prompt=CAFE)
    first = learn(warehouse, [asked, call])
    second = learn(warehouse, [process], minutes=1)

    assert ("", derived_name(CAFE)) == (first["SESS001"], second["SESS001"])


def test_what_was_learned_without_categories_is_learned_again(warehouse: Warehouse) -> None:
    """After a refresh that derives none, one by SQL or by an older version, the next one brings them all, once."""
    learn(warehouse, session(1, CAFE), session(2, None))
    _forget_categories(warehouse)

    assert {"SESS001": derived_name(CAFE), "SESS002": ""} == learn(warehouse, minutes=90)
    assert [derived_name(CAFE)] == [
        row.category for row in reports.recommended_patterns(warehouse, as_of=DAY) if row.category
    ]


def test_a_session_that_changed_meanwhile_is_learned_once(warehouse: Warehouse) -> None:
    """One that is learned again for want of a category, and has a new call too, counts once."""
    learn(warehouse, session(1, CAFE))
    _forget_categories(warehouse)
    again = made("USR001#SESS001", "PRC001#AGT001#TL002", "UserSessPrcToolMappHist", ToolNM="BOOK", SuccYN="Y",
                 TransactDT="20250614140606")  # fmt: skip

    assert {"SESS001": derived_name(CAFE)} == learn(warehouse, [again], minutes=90)
    calls = select(m.AgentTool.tool_name, m.AgentTool.calls)
    assert [("BOOK", 1), ("FIND", 1)] == sorted(tuple(row) for row in warehouse.read(calls))


def _forget_categories(warehouse: Warehouse) -> None:
    """Leave the warehouse as a refresh by SQL or of an older version does."""
    with warehouse.begin() as connection:
        connection.execute(update(m.AgentExecution).values(category=""))
        connection.execute(delete(m.DerivedCategory))
        connection.execute(update(m.RefreshWatermark).values(name="refresh"))


def test_what_nobody_asked_any_more_is_forgotten(warehouse: Warehouse) -> None:
    """A category leaves with the last session that has it; one that others have stays."""
    kept, gone = session(1, CAFE), session(2, ORDER)
    learn(warehouse, kept, gone)
    catalogue = [agent("AGT001", "DMN001"), agent("AGT002", "DMN002")]
    warehouse.land([*catalogue, *kept], at=AT + timedelta(hours=2))
    warehouse.refresh(as_of=DAY)

    assert [derived_name(CAFE)] == [row[3] for row in assignments(warehouse)]


def test_an_erased_user_has_none(warehouse: Warehouse) -> None:
    """Erasing a user deletes the assignments, and later requests of the user found new categories."""
    learn(warehouse, session(1, CAFE), session(2, CAFE, user="USR002"))
    removed = warehouse.erase(user_key("USR001"), 2**62)

    assert 1 == removed["derived_category"]
    assert ["USR002"] == [row[0] for row in assignments(warehouse)]
