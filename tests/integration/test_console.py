"""The console without a browser: who may see what, forms, lists, and what is shown when something is wrong."""

from __future__ import annotations

import hashlib
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

pytest.importorskip("itsdangerous", reason="the console is an extra")
pytest.importorskip("starlette", reason="the console is an extra")

import httpx
from jinja2 import Environment
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from agentmodel import AgentModel, Review, Settings, Tool, ToolExecution, UserSession
from agentmodel import console as package
from agentmodel._lookup.diagnosis import diagnose
from agentmodel.access.repository import SessionHistory
from agentmodel.callers import Caller, Tokens, roles_of
from agentmodel.cli._console import serving
from agentmodel.console import _effect, console
from agentmodel.console._entrance import Entrance
from agentmodel.console._form import edited_arguments, fields_of
from agentmodel.console._timeline import bars, change, shares, timeline
from agentmodel.console._words import KOREAN
from agentmodel.exceptions import ConfigurationError, ValidationError
from agentmodel.redshift.reports import recommended_patterns
from agentmodel.redshift.session_list import SessionFilter, SessionSummary, newest_calls, newest_sessions
from agentmodel.suggest._run_check import Answer
from agentmodel.suggest.evaluate._impact import TEXTS
from tests.integration.suggest_world import catalogue, run

PEOPLE = {
    "kim": ("USRkim", ["reader", "reviewer", "operator", "curator"]),
    "lee": ("USRlee", ["reader", "reviewer"]),
    "rea": ("USR001", ["reader", "reviewer"]),
    "one": ("USR001", ["reader"]),
}
ODD = "<script>alert(1)</script> {{ 7 * 7 }} pay \u202e001"
FOLDER = Path(str(package.__file__)).parent


@pytest.fixture(scope="module")
def model() -> Iterator[AgentModel]:
    """Sessions of two users: one that succeeded, one whose search failed, one with markup for a request."""
    with AgentModel.local(dynamodb_timeout=10.0) as made:
        catalogue(made)
        run(made)
        run(made, failing=[2], succeeded=False, request="100% of_cafés")
        run(made, "USR002", "AGT002", request=ODD, tools=(1,))
        made.repository.update(Tool.at("AGT001", "TL002"), Tool.last_error.to("text of some user"))
        made.drain()
        made.refresh()
        yield made


@pytest.fixture(scope="module")
def tokens_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token for each of the people."""
    file = tmp_path_factory.mktemp("tokens") / "tokens.json"
    write_tokens(file)
    return file


def write_tokens(file: Path, *, without: str = "") -> None:
    entries = [
        {"sha256": hashlib.sha256(f"token-{name}".encode()).hexdigest(), "user_id": user, "roles": roles}
        for name, (user, roles) in PEOPLE.items()
        if name != without
    ]
    file.write_text(json.dumps(entries), encoding="utf-8")


class Person:
    """Somebody at a browser without script."""

    def __init__(self, app: Starlette, name: str = "") -> None:
        self.client = TestClient(app, base_url="http://localhost", client=("127.0.0.1", 4000), follow_redirects=False)
        if name:
            assert self.client.post("/log-in", data={"token": f"token-{name}"}).status_code == 303

    def see(self, path: str, status: int = 200) -> str:
        """The text of a page, without its markup."""
        answer = self.client.get(path)
        assert status == answer.status_code, answer.text
        return shown(answer.text)

    def send(self, path: str, form: dict[str, str], *, seen_on: str = "/plans") -> httpx.Response:
        """Send a form with the secret of a page."""
        secret = re.search('name="csrf" value="([0-9a-f]+)"', self.client.get(seen_on).text)
        assert secret is not None
        return self.client.post(path, data={"csrf": secret[1], **form})  # type: ignore[return-value]


def shown(page: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", page)).split())


@pytest.fixture
def someone(model: AgentModel, tokens_file: Path) -> Callable[[str], Person]:
    """Gives a person who has logged in."""
    app = console(model, tokens=Tokens.of_file(tokens_file), secret="s" * 32)
    return lambda name: Person(app, name)


def ask(model: AgentModel, user: str = "USR002", **more: Any) -> Review:
    """Ask about a call in the newest session of a user."""
    session = model.repository.sessions(user, 1).items[0]
    told: dict[str, Any] = {"agent_id": "AGT001", "tool_id": "TL001", "arguments": {"place": "X", "guests": 4}}
    return model.reviews.ask(user, session.session_id, "Reserve it?", **(told | more))


def path_of(model: AgentModel, review: Review, page: str = "decide") -> str:
    return f"/{page}/{model.reviews.reference(review)}"


# Pages


@pytest.mark.parametrize("language", ["en", "ko"])
def test_every_page_is_shown(model: AgentModel, someone: Callable[[str], Person], language: str) -> None:
    """Every page answers in both languages; what was recorded is text, whatever it says."""
    kim = someone("kim")
    session = model.repository.sessions("USR002").items[0]
    model.reviews.ask("USR002", session.session_id, ODD)
    pages = [
        "/inbox",
        "/sessions",
        f"/sessions/USR002/{session.session_id}",
        "/agents",
        "/agents/AGT001",
        "/plans",
        "/effect",
    ]
    for page in pages:
        text = kim.client.get(page, params={"lang": language}).text

        assert f'<html lang="{language}">' in text
        assert "<script>" not in text
        assert "style=" not in text
    assert "⟨U+202E⟩" in kim.see(pages[2])
    assert "{{ 7 * 7 }}" in kim.see(pages[2])


def test_every_word_is_translated() -> None:
    """Every message of the templates and charts has a Korean one, as have parts of results; none is left over."""
    environment = Environment(extensions=["jinja2.ext.i18n"], trim_blocks=True, lstrip_blocks=True)  # noqa: S701  # reads only
    found = set()
    for template in (FOLDER / "templates").iterdir():
        for _, _, message in environment.extract_translations(template.read_text(encoding="utf-8")):  # type: ignore[attr-defined]
            found.add(message[0] if isinstance(message, tuple) else message)

    found |= set(re.findall(r'say\("(.+?)"\)', (FOLDER / "_timeline.py").read_text(encoding="utf-8")))
    found |= {*TEXTS.values(), *get_args(Answer)}

    assert KOREAN.keys() == found
    for english, korean in KOREAN.items():
        assert set(re.findall(r"%\(\w+\)s|%%", english)) >= set(re.findall(r"%\(\w+\)s|%%", korean))


def test_nothing_is_loaded_from_elsewhere() -> None:
    """No template, style or script names another address, and none has inline style or script."""
    for file in [*(FOLDER / "templates").iterdir(), *(FOLDER / "static").iterdir()]:
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")

        assert not re.search(r"https?://|style=|<script(?! type=\"module\" src=)|\bon\w+=|\| safe", text), file.name


# Sessions


def test_sessions_are_searched(model: AgentModel) -> None:
    """A list is narrowed by user, agent, tool, category, outcome, time and text, by names and by ids."""

    def found(**narrow: Any) -> list[str]:
        return [row.request for row in newest_sessions(model.warehouse, SessionFilter(**narrow))]

    cafe, percent = "find a café near the stadium", "100% of_cafés"

    assert [ODD, percent, cafe] == found()
    assert [percent, cafe] == found(user_id="USR001")
    assert [ODD] == found(agent="agent 2") == found(agent="AGT002")
    assert [percent, cafe] == found(tool="search") == found(tool="TL002")
    assert [percent] == found(outcome="failed", category="cafe search")
    assert [ODD, cafe] == found(outcome="succeeded")
    assert [] == found(outcome="unknown") == found(category="other") == found(text="of%cafés")
    assert [percent] == found(text="% OF_") == found(text="100%", agent="AGT001", tool="TL002", outcome="failed")
    assert [] == found(since=datetime.now(UTC) + timedelta(days=1))
    assert 3 == len(found(since=datetime.now(UTC) - timedelta(days=1)))


def test_sessions_are_filtered_and_sorted_on_the_page(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """Beginnings of names and ids are enough, the oldest come first if asked, and the address keeps the filters."""
    kim = someone("kim")

    def listed(query: str) -> list[str]:
        return re.findall(r'href="/sessions/USR\d+/[^"]+">([^<]+)<', kim.client.get(f"/sessions?{query}").text)

    assert ["100% of_cafés", "find a café near the stadium"] == listed("user=user+1&tool=sea")
    assert ["100% of_cafés"] == listed("user=USR001&agent=AGT001&outcome=failed")
    assert ["find a café near the stadium", "100% of_cafés"] == listed("sort=oldest")[:2]
    assert "begin so" in kim.see("/sessions?agent=agent", 422)
    assert "Without filters" in kim.see("/sessions?text=nothing+like+it")


def test_a_row_says_how_a_session_went(model: AgentModel) -> None:
    """Calls, failures, agents and outcome of a session stand in its row."""
    rows = newest_sessions(model.warehouse, SessionFilter(user_id="USR001"))

    assert [(3, 1, False, ("agent 1",)), (3, 0, True, ("agent 1",))] == [
        (row.calls, row.failed, row.outcome, row.agents) for row in rows
    ]
    with pytest.raises(ValidationError, match="limit"):
        newest_sessions(model.warehouse, limit=0)


def test_pages_of_sessions_have_each_once(settings: Settings) -> None:
    """Sessions that began at the same moment, of several users with the same id, are each on one page."""
    at = datetime(2026, 3, 1, tzinfo=UTC)
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        for user in ("USR001", "USR002", "USR003"):
            for number in range(3):
                model.recorder.record(
                    UserSession(user_id=user, session_id=f"SESS{number}", name="n", started_at=at if number else None)
                )
        model.drain()
        model.refresh()
        seen: list[SessionSummary] = []
        while page := newest_sessions(model.warehouse, after=seen[-1].position if seen else None, limit=2):
            seen += page

    assert 9 == len({row.position for row in seen}) == len(seen)
    assert sorted((row.position for row in seen), reverse=True) == [row.position for row in seen]
    assert [None] * 9 == [row.outcome for row in seen]


def test_a_reader_sees_its_own_user(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """Who is no operator sees the sessions of its own user only, in lists, searches and by address."""
    one, foreign = someone("one"), model.repository.sessions("USR002").items[0]
    own = model.repository.sessions("USR001").items[0]

    assert "100% of_cafés" in one.see("/sessions")
    assert "pay" not in one.see("/sessions?outcome=succeeded")
    assert "100% of_cafés" in one.see(f"/sessions/USR001/{own.session_id}")
    assert "not allowed" in one.see("/sessions?user=USR002", 403)
    assert "pay" not in one.see(f"/sessions/USR002/{foreign.session_id}", 403)
    assert one.see("/sessions/USR002/SESSnone", 403)
    assert one.see("/inbox", 403)
    assert one.see(path_of(model, ask(model), "inbox"), 403)
    assert "text of some user" not in one.see("/agents/AGT001")
    assert "text of some user" in someone("kim").see("/agents/AGT001")
    assert 422 == one.client.get("/sessions?after=xx").status_code
    assert 422 == someone("kim").client.get("/sessions?after=eHg=").status_code


def test_a_session_says_why_it_failed(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """The page names the call that failed and its error; a session without one says that it is not in the calls."""
    failed = model.repository.sessions("USR001", 1).items[0]
    text = someone("kim").see(f"/sessions/USR001/{failed.session_id}")

    assert "failed as it was recorded" in text
    assert "no later call of the same tool made up for it: failed search step 2 · no answer" in text
    assert "calls: 3, failed: 1" in text


def test_a_plan_stands_beside_what_was_done(settings: Settings) -> None:
    """Each step of the plan stands beside the call that followed it; what was left out or added says so."""
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        catalogue(model)
        for _ in range(3):
            run(model)
        model.drain()
        model.refresh()
        model.publish()
        plan = model.suggest("USR001", category="cafe search")
        with model.session("USR001", "a café", plan=plan) as session, session.process("p") as process:
            for tool in ("TL001", "TL003", "TL009"):
                with process.call(plan.agent_id or "", tool, tool_name={"TL009": "pay"}.get(tool)):
                    pass
        model.settle()
        text = Person(console(model)).see(f"/sessions/USR001/{session.session_id}")

    assert ["locate", "search", "format"] == [step.tool for step in plan.steps]
    assert "Plan Done locate locate search not done format format pay not planned" in text


def test_a_timeline_has_waits_for_people() -> None:
    """A question is an open bar in the lane of its step, from when it was asked to its answer, or until now."""
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    call = ToolExecution(
        user_id="USR001", session_id="SESS1", process_id="PRC001", agent_id="AGT001", tool_id="TL001", tool_name="find",
        succeeded=True, executed_at=at + timedelta(seconds=10), duration_ms=10_000,
    )  # fmt: skip

    def question(name: str, **more: Any) -> Review:
        return Review(user_id="USR001", session_id="SESS1", review_id=name, question=f"{name} <b>", **more)

    answered = question("first", asked_at=at + timedelta(seconds=10), decided_at=at + timedelta(seconds=30), phase="pre",
                        status="approved", decided_by="kim", process_id="PRC001")  # fmt: skip
    still = question("second", asked_at=at + timedelta(seconds=30), phase="pre", process_id="PRC002")
    said = question("said", asked_at=at, source="evaluator")
    verdict = question("verdict", asked_at=at, phase="post")
    now = at + timedelta(seconds=40)
    picture = timeline([call], {"PRC001": "look", "PRC002": "pay"}, [answered, still, said, verdict], now=now)

    assert 2 == picture.count('class="wait"')
    assert 'class="wait" x="25.00%" width="50.00%" y="18" height="14"><title>first &lt;b&gt;: approved kim' in picture
    assert 'class="wait" x="75.00%" width="25.00%" y="56"' in picture
    assert 'class="good" x="0.00%" width="25.00%"' in picture
    assert ">40.0 s<" in picture
    assert "" == timeline([], {}, [said, verdict], now=now)


def history_of(*calls: ToolExecution) -> SessionHistory:
    return SessionHistory(processes=(), executions=calls, reviews=())


def test_a_retry_makes_good() -> None:
    """A call that failed is no reason when the same tool of the same agent succeeded later; a rejection is told."""
    session = UserSession(user_id="USR001", session_id="SESS1", name="n")

    def call(tool: str, *, succeeded: bool, status: Any = None) -> ToolExecution:
        return ToolExecution(
            user_id="USR001", session_id="SESS1", process_id="PRC001", agent_id="AGT001", tool_id=tool, tool_name=tool,
            succeeded=succeeded, status=status,
        )  # fmt: skip

    calls = [
        call("TLa", succeeded=False),
        call("TLa", succeeded=True),
        call("TLb", succeeded=True),
        call("TLb", succeeded=False),
    ]
    found = diagnose(session, history_of(*calls))
    session.corrected = True

    assert ((calls[3],), 1, False, "calls") == (found.unresolved, found.recovered, found.outcome, found.basis)
    assert (True, "reviewed") == (
        diagnose(session, history_of(*calls)).outcome,
        diagnose(session, history_of(*calls)).basis,
    )
    assert () == diagnose(session, history_of(call("TLa", succeeded=False, status="cache_hit"))).unresolved
    new = diagnose(UserSession(user_id="USR001", session_id="SESS2", name="n"), history_of())
    assert (None, "nothing", True) == (new.outcome, new.basis, new.is_open)


def test_an_erased_user_is_on_no_page(settings: Settings) -> None:
    """After an erasure no page has the person's words."""
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        catalogue(model)
        session = run(model, "USR003", request="words of a person")
        ask(model, "USR003", arguments={"place": "home of a person"})
        model.drain()
        model.refresh()
        kim = Person(console(model))

        assert "words of a person" in kim.see("/sessions")
        assert "home of a person" in kim.see("/inbox")
        model.erase_user("USR003")
        assert kim.see(f"/sessions/USR003/{session}", 404)
        for page in ("/sessions", "/sessions?user=USR003", "/sessions?text=words", "/inbox"):
            assert "of a person" not in kim.see(page)


# The inbox


def test_each_decision_is_taken(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """Approve, edit, reject, respond, claim and release end as they would in the program."""
    kim = someone("kim")
    arguments = {"arg.place": "X", "arg.guests": "4"}
    cases: list[tuple[str, dict[str, str], str]] = [
        ("approve", arguments, "approved"),
        ("edit", {"arg.place": "Y\r\nZ", "arg.guests": "[6]"}, "edited"),
        ("reject", arguments | {"reason": "not today"}, "rejected"),
        ("respond", arguments | {"response": "it is closed"}, "responded"),
        ("claim", arguments, "claimed"),
    ]
    for decision, form, status in cases:
        review = ask(model)
        answer = kim.send(path_of(model, review), {"decision": decision, "hash": review.arguments_hash or "", **form})
        stored = model.reviews.get(review)

        assert (303, status) == (answer.status_code, stored.status)
        if decision == "edit":
            assert {"place": "Y\nZ", "guests": [6]} == stored.final_arguments
        if decision != "claim":
            assert "USRkim" == stored.decided_by
    assert "claimed" in someone("lee").see(path_of(model, review, "inbox"))
    kim.send(path_of(model, review), {"decision": "release"})
    assert "pending" == model.reviews.get(review).status


def test_a_verdict_corrects_the_outcome(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """A run that has ended is judged on the page, and its outcome follows."""
    session = run(model, "USR003")
    review = model.reviews.ask("USR003", session, "How did it go?", phase="post")
    kim = someone("kim")
    wrong = kim.send(path_of(model, review), {"decision": "verdict", "verdict": "superb"})
    answer = kim.send(path_of(model, review), {"decision": "verdict", "verdict": "wrong", "reason": "no table"})
    judged = model.repository.session("USR003", session)

    assert (422, 303) == (wrong.status_code, answer.status_code)
    assert judged is not None
    assert (True, False) == (judged.succeeded, judged.corrected)
    assert "failed as a person judged" in kim.see(f"/sessions/USR003/{session}")


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"decision": "approve", "arg.place": "Y"}, "save and approve"),
        ({"decision": "edit", "arg.guests": "{four"}, "must be JSON"),
        ({"decision": "reject"}, "must be given for a rejection"),
        ({"decision": "respond"}, "must be given for a response"),
        ({"decision": "approve", "hash": "0" * 64}, "about other arguments"),
        ({"decision": "burn"}, "must be made with one of the buttons"),
        ({"decision": "verdict", "verdict": "wrong"}, "must be `post`"),
    ],
)
def test_what_is_not_accepted_is_kept(
    model: AgentModel, someone: Callable[[str], Person], form: dict[str, str], said: str
) -> None:
    """An answer that is not accepted changes nothing, says why, and leaves what was typed on the page."""
    review = ask(model)
    answer = someone("kim").send(path_of(model, review), {"response": "", "arg.place": "X", "reason": ""} | form)

    assert (422, "pending") == (answer.status_code, model.reviews.get(review).status)
    assert said in shown(answer.text)
    for typed in (text for name, text in form.items() if name.startswith("arg.")):
        assert html.escape(typed, quote=False) in answer.text


def test_of_two_reviewers_one_decides(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """The second one, and one who comes after the deadline, is told so, and finds what was typed."""
    raced = ask(model)
    expired = ask(model, answer_within=timedelta(microseconds=1))
    someone("kim").send(path_of(model, raced), {"decision": "reject", "reason": "no"})
    lee = someone("lee")
    for review, said in ((raced, "already rejected by USRkim"), (expired, "already expired")):
        answer = lee.send(path_of(model, review), {"decision": "reject", "reason": "my long reason"})

        assert 409 == answer.status_code
        assert said in shown(answer.text)
        assert "my long reason" in answer.text
    assert ("no", "USRkim") == (model.reviews.get(raced).decision_reason, model.reviews.get(raced).decided_by)


def test_nobody_decides_about_an_own_session(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """A reviewer of the user that a question is about cannot answer it, and neither can somebody without the role."""
    review = ask(model, "USR001")
    for name in ("rea", "one"):
        assert 403 == someone(name).send(path_of(model, review), {"decision": "approve"}).status_code
    assert "another reviewer decides" in someone("rea").see(path_of(model, review, "inbox"))
    assert "pending" == model.reviews.get(review).status


def test_news_are_asked_for(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """The page learns that the questions have changed, and is answered without a body while they have not."""
    kim = someone("kim")
    ask(model, queue="quiet")
    tag = kim.client.get("/inbox/news?queue=quiet").headers["etag"]

    assert f'data-version="{tag[1:-1]}"' in kim.client.get("/inbox?queue=quiet").text
    assert 304 == kim.client.get("/inbox/news?queue=quiet", headers={"if-none-match": tag}).status_code
    ask(model, queue="quiet")
    later = Person(console(model))  # one read answers all who ask within two seconds

    assert tag != later.client.get("/inbox/news?queue=quiet").headers["etag"]


def test_arguments_survive_the_form() -> None:
    """What nobody changed in the form is what was proposed: types, line ends, blanks, and arguments that are no map."""
    for proposed in ({"a": " \r\n\tx\r", "b": 1.0, "c": None, "d": [{"e": "\u202e"}], "": ""}, [1, "2"], "text", None):
        fields = fields_of(proposed, None)
        typed = {f"arg.{each['name']}": re.sub("\r\n?", "\n", each["value"]) for each in fields}

        assert repr(proposed) == repr(edited_arguments(proposed, typed)) == repr(edited_arguments(proposed, {}))


SPEC: dict[str, Any] = {
    "type": "object",
    "properties": {
        "day": {"type": "string", "format": "date", "description": "When."},
        "room": {"type": "string", "enum": ["hall", "garden"]},
        "level": {"enum": [1, 2, "roof"]},
        "quiet": {"type": "boolean"},
        "guests": {"type": "integer", "minimum": 1, "maximum": 12},
        "host": {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": ["integer", "null"]}}},
        "note": {"type": "string"},
    },
}


def test_a_form_is_made_of_the_schema() -> None:
    """Choices, dates, flags and bounds are those of the schema; members of objects are fields; the rest can be added."""
    proposed = {"day": "2026-12-01", "room": "hall", "level": 1, "quiet": True, "guests": 4, "host": {"name": "a.b"}}
    fields = {each["name"]: each for each in fields_of(proposed, SPEC)}

    assert ["day", "room", "level", "quiet", "guests", "host.name", "host.age", "note"] == list(fields)
    assert ("date", "When.") == (fields["day"]["input"], fields["day"]["about"])
    assert (["hall", "garden"], ["1", "2", "roof"]) == (fields["room"]["choices"], fields["level"]["choices"])
    assert (["true", "false"], "≥ 1, ≤ 12") == (fields["quiet"]["choices"], fields["guests"]["about"])
    assert (False, "") == (fields["note"]["given"], fields["note"]["value"])
    assert "" == fields_of({"day": "tomorrow"}, SPEC)[0]["input"]  # an input of a date would drop it
    typed = {f"arg.{name}": each["value"] for name, each in fields.items()}
    assert proposed == edited_arguments(proposed, typed, SPEC)
    form = typed | {"arg.quiet": "false", "arg.host.age": "30", "arg.note": "7", "arg.level": "roof"}
    wanted = proposed | {"quiet": False, "level": "roof", "host": {"name": "a.b", "age": 30}, "note": "7"}
    assert wanted == edited_arguments(proposed, form, SPEC)


@pytest.mark.parametrize(
    ("field", "text", "told"),
    [
        ("guests", "13", "must be at most 12"),
        ("guests", "0", "must be at least 1"),
        ("guests", "true", "must be of the type integer"),
        ("guests", "4.5", "must be of the type integer"),
        ("room", "cellar", "must be one of hall, garden"),
        ("host.age", '"old"', "must be of the type integer or null"),
        ("quiet", "perhaps", "must be JSON"),
    ],
)
def test_what_the_schema_does_not_admit_is_refused(field: str, text: str, told: str) -> None:
    """A value that was typed is compared with the schema, and the error names the field; what was proposed is not."""
    proposed = {"room": "hall", "quiet": True, "guests": 99, "host": {"name": "x"}}

    with pytest.raises(ValidationError, match=told) as raised:
        edited_arguments(proposed, {f"arg.{field}": text}, SPEC)
    assert field == raised.value.field
    assert proposed == edited_arguments(proposed, {"arg.guests": "99"}, SPEC)


def test_every_choice_that_is_offered_is_taken() -> None:
    """A choice has the type that the schema gives it, and a text in the place of a number can be made one."""
    schema = {"properties": {"level": {"enum": [1, "1", 2, "roof", None]}, "guests": {"type": "integer"}}}
    choices = fields_of({}, schema)[0]["choices"]
    found = [edited_arguments({}, {"arg.level": each}, schema) for each in choices]

    assert ["", "1", "2", "roof", "null"] == choices
    assert [{}, {"level": 1}, {"level": 2}, {"level": "roof"}, {"level": None}] == found
    assert {"level": "1"} == edited_arguments({"level": "roof"}, {"arg.level": "1"}, schema)
    assert {"guests": 5} == edited_arguments({"guests": "four"}, {"arg.guests": "5"}, schema)


def test_names_with_dots_are_fields_of_their_own() -> None:
    """A dot in a name and a member of an object are told apart."""
    proposed = {"a.b": "1", "a": {"b": "2"}, "c\\": {"d": {"e": {"f": 1}}}}
    fields = fields_of(proposed, None)
    typed = {f"arg.{each['name']}": each["value"] for each in fields}

    assert len(fields) == len(typed) == 3
    assert proposed == edited_arguments(proposed, typed)
    assert {"a.b": "1", "a": {"b": "x"}, "c\\": proposed["c\\"]} == edited_arguments(proposed, {"arg.a.b": "x"})


def test_what_is_typed_is_redacted(settings: Settings) -> None:
    """A secret in a reason is not kept, and edited arguments with one are refused."""
    with AgentModel.from_settings(settings, redact=True) as model:
        model.table.create()
        catalogue(model)
        run(model, "USR002")
        kim = Person(console(model))
        review, other = ask(model), ask(model)
        mail = "mail kim@example.com"
        kim.send(path_of(model, review), {"decision": "reject", "reason": mail})
        refused = kim.send(path_of(model, other), {"decision": "edit", "arg.place": mail, "arg.guests": "4"})

        assert "kim@example.com" not in str(model.reviews.get(review).attribute_values)
        assert "kim@example.com" not in kim.see(path_of(model, review, "inbox"))
        assert (422, "pending") == (refused.status_code, model.reviews.get(other).status)


# The catalogue and plans


def test_a_curator_edits_the_catalogue(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """Description, review and cache mark of a tool are changed by a curator and by nobody else."""
    form = {"description": "Finds it.", "needs_review": "yes", "read_only": ""}
    refused = someone("one").send("/agents/AGT002/TL003", form)
    saved = someone("kim").send("/agents/AGT002/TL003", form)
    tool = model.repository.tool("AGT002", "TL003")

    assert (403, 303) == (refused.status_code, saved.status_code)
    assert tool is not None
    assert ("Finds it.", True, None) == (tool.description, tool.needs_review, tool.read_only)
    assert 422 == someone("kim").send("/agents/AGT002/TL003", {"read_only": "maybe"}).status_code
    assert 403 == someone("one").send("/agents/AGT002", {"description": "Mine."}).status_code
    assert 303 == someone("kim").send("/agents/AGT002", {"description": "Answers last."}).status_code
    assert 404 == someone("kim").send("/agents/AGT999", {"description": "x"}).status_code
    assert "Answers last." in someone("kim").see("/agents/AGT002")
    assert 404 == someone("kim").send("/agents/AGT002/TL999", form).status_code
    assert someone("kim").see("/agents?domain=DMN999", 404)
    assert "Edit" not in someone("one").see("/agents/AGT002")


def test_a_plan_is_shown_with_its_reasons(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """A request leads to a plan, its reasons and its prompt; another user's plan is for operators."""
    form = {"request": "find a café", "domain": "DMN001"}
    own = someone("one").send("/plans", form)
    plan = model.suggest("USR001", request="find a café", domain_id="DMN001")

    assert 200 == own.status_code
    assert " ".join(plan.as_prompt().split()) in shown(own.text)
    assert 403 == someone("one").send("/plans", form | {"user": "USR002"}).status_code
    assert 200 == someone("kim").send("/plans", form | {"user": "USR002"}).status_code
    assert 422 == someone("kim").send("/plans", {}).status_code


# Who gets in


def test_a_withdrawn_token_ends_its_log_ins(model: AgentModel, tmp_path: Path) -> None:
    """The token file is asked at every request."""
    file = tmp_path / "tokens.json"
    write_tokens(file)
    kim = Person(console(model, tokens=Tokens.of_file(file)), "kim")

    assert kim.see("/sessions")
    write_tokens(file, without="kim")
    assert "/log-in" == kim.client.get("/sessions").headers["location"]


def test_the_cookie_and_the_headers_are_strict(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """Script cannot read the cookie, no other site sends it, and every answer has the policy, errors too."""
    kim = someone("kim")
    cookie = kim.client.post("/log-in", data={"token": "token-kim"}).headers["set-cookie"].lower()

    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "token-kim" not in cookie
    for path in ("/inbox", "/sessions/USR009/SESSnone", "/nothing", "/static/console.css", "/log-in"):
        headers = kim.client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "nosniff" == headers["x-content-type-options"]
    assert "no-store" == kim.client.get("/inbox").headers["cache-control"]


FORM = "application/x-www-form-urlencoded"


def test_a_form_of_another_site_changes_nothing(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """A form without the page's secret, from another site, without a cookie, or as a GET is refused."""
    kim, review = someone("kim"), ask(model)
    path, form = path_of(model, review), {"decision": "reject", "reason": "no"}
    secret = re.search('name="csrf" value="([0-9a-f]+)"', kim.client.get("/sessions").text)
    assert secret is not None
    whole = form | {"csrf": secret[1]}
    elsewhere = {"origin": "http://evil.example"}

    assert 403 == kim.client.post(path, data=form).status_code
    assert 403 == kim.client.post(path, data=form | {"csrf": "é"}).status_code
    assert 403 == kim.client.post(path, data=whole, headers={"sec-fetch-site": "cross-site"}).status_code
    assert 403 == kim.client.post(path, data=whole, headers=elsewhere).status_code
    assert 403 == kim.client.post(path, data=whole, headers={"origin": "http://[evil"}).status_code
    assert 403 == kim.client.post(path, data=whole, headers={"origin": "null"}).status_code
    assert 403 == kim.client.post("/log-in", data={"token": "token-kim"}, headers=elsewhere).status_code
    assert 403 == someone("lee").client.post(path, data=whole).status_code
    assert 405 == kim.client.get(path).status_code
    assert 413 == kim.client.post(path, data=whole | {"reason": "x" * 300_000}).status_code
    assert 413 == kim.client.post(path, data=whole | {f"field{n}": "x" for n in range(600)}).status_code
    no_form = kim.client.post(path, json=whole)
    assert (415, True) == (no_form.status_code, "The request has no form that can be read" in no_form.text)
    assert 415 == kim.client.post("/log-in", json={"token": "token-kim"}).status_code
    assert 400 == kim.client.post(path, content=b"\xff", headers={"content-type": FORM}).status_code
    kim.client.cookies.clear()
    assert "/log-in" == kim.client.post(path, data=whole).headers["location"]
    assert "pending" == model.reviews.get(review).status


def test_log_in_is_limited(model: AgentModel, tokens_file: Path) -> None:
    """Five wrong tokens of an address within a minute, and the right one is not looked at either."""
    app = console(model, tokens=Tokens.of_file(tokens_file))
    client = TestClient(app, client=("10.0.0.1", 1), follow_redirects=False)
    codes = [client.post("/log-in", data={"token": f"wrong{n}"}).status_code for n in range(5)]
    other = TestClient(app, client=("10.0.0.2", 1), follow_redirects=False)

    assert [401] * 5 == codes
    assert 429 == client.post("/log-in", data={"token": "token-kim"}).status_code
    assert 303 == other.post("/log-in", data={"token": "token-kim"}).status_code


def test_the_limit_ends_with_its_minute(tokens_file: Path) -> None:
    """After a minute the address may try again."""
    now = [0.0]
    gate = Entrance(Tokens.of_file(tokens_file), Caller(user_id="USR001", roles=frozenset()), "s", now=lambda: now[0])
    request = Request({"type": "http", "headers": [], "client": ("10.0.0.1", 1)})
    failed = [gate.log_in(request, "wrong") for _ in range(5)]
    now[0] = 61.0

    assert [None] * 5 == failed
    assert gate.log_in(request, "token-kim") is not None


@pytest.mark.parametrize(
    ("address", "host", "status"),
    [
        ("127.0.0.1", "localhost:8321", 200),
        ("::1", "[::1]:8321", 200),
        ("::ffff:127.0.0.1", "localhost:8321", 200),
        ("::ffff:10.0.0.1", "localhost:8321", 403),
        ("127.0.0.1", "evil.example:8321", 403),
        ("127.0.0.1", "localhost.evil.example", 403),
        ("127.0.0.1", "[localhost", 403),
        ("10.0.0.1", "localhost", 403),
    ],
)
def test_without_tokens_only_this_machine_is_answered(model: AgentModel, address: str, host: str, status: int) -> None:
    """Another machine, and a name that somebody lets resolve to this machine, gets nothing."""
    client = TestClient(console(model), client=(address, 1))

    assert status == client.get("/sessions", headers={"host": host}).status_code


def test_a_short_secret_is_refused(model: AgentModel) -> None:
    """A secret that can be guessed signs nothing."""
    with pytest.raises(ValidationError, match="at least 32"):
        console(model, secret="short")


def test_it_is_mounted_into_an_application(model: AgentModel) -> None:
    """Links and forms have the mount's path, and the application's own session stays what it is."""

    def own(request: Request) -> PlainTextResponse:
        request.session.setdefault("user", "of the host")
        return PlainTextResponse(request.session["user"])

    host = Starlette(
        routes=[Route("/own", own), Mount("/agents", console(model))],
        middleware=[Middleware(SessionMiddleware, secret_key="x")],
    )
    client = TestClient(host, base_url="http://localhost", client=("127.0.0.1", 1))
    client.get("/own")
    page = client.get("/agents/inbox")

    assert 200 == page.status_code
    assert 'href="/agents/static/console.css' in page.text
    assert 'href="/agents/sessions"' in page.text
    assert "set-cookie" not in page.headers
    assert "of the host" == client.get("/own").text


def test_a_store_that_is_away_is_told(tmp_path: Path) -> None:
    """While a store does not answer, pages say so, without its address, and with 503."""
    settings = Settings(
        endpoint="http://127.0.0.1:9", access_key_id="x", secret_access_key=SecretStr("y"), dynamodb_attempts=1
    )
    with AgentModel.from_settings(settings) as model:
        text = Person(console(model)).see("/agents", 503)

    assert "does not answer now" in text
    assert "127.0.0.1:9" not in text


def test_the_warehouse_is_given_back(tmp_path: Path) -> None:
    """With release_warehouse another process can open the DuckDB file between two pages."""
    file = tmp_path / "history.duckdb"
    with AgentModel.local(warehouse_url=f"duckdb:///{file}") as model:
        kim = Person(console(model, release_warehouse=True))
        opened = [sys.executable, "-c", f"import duckdb; duckdb.connect({str(file)!r}).execute('select 1')"]
        for _ in range(2):
            assert "No sessions." in kim.see("/sessions")
            subprocess.run(opened, check=True)


def test_it_is_served(model: AgentModel) -> None:
    """The command's server answers at the address that it gives, and a port that is taken is told."""
    with serving(model, port=0, caller=Caller(user_id="USR001", roles=roles_of(["reader"]))) as address:
        text = httpx.get(f"{address}sessions").text
        port = httpx.URL(address).port

        assert "100% of_cafés" in text
        assert port is not None
        with pytest.raises(ConfigurationError, match=f"port {port}"), serving(model, port=port):
            pass


# Effect


def test_the_effect_is_shown_to_operators(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """What plans and the cache change, runs of each week and how long history is kept; a reader may not see it."""
    text = someone("kim").see("/effect")

    assert "With a plan and without" in text
    assert model.impact().sentence in text
    assert "No call was answered from the cache yet." in text
    assert "are kept for 60 days, all others for 30" in text
    assert "1 weeks: 2 succeeded, 1 failed" in text
    assert "not allowed" in someone("rea").see("/effect", 403)


def test_the_effect_is_measured_anew_after_a_refresh(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is computed once for several visits, and again when the warehouse has changed."""
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        catalogue(model)
        person = Person(console(model))
        seen: list[str] = []
        for number in (1, 1, 2):
            if number > len(set(seen)):
                run(model, request=f"request {number}")
                model.drain()
                model.refresh()
            seen.append(re.findall(r"1 weeks: (\d) succeeded", person.see("/effect"))[0])
        computed: list[AgentModel] = []

        def savings(self: AgentModel) -> list[Any]:
            computed.append(self)
            return []

        monkeypatch.setattr(AgentModel, "savings", savings)
        person.see("/effect")
        model.erase_user("USR001")
        person.see("/effect")

    assert ["1", "1", "2"] == seen
    assert [model] == computed


def test_the_effect_has_costs_that_are_known(settings: Settings, tmp_path: Path) -> None:
    """What models cost stands on the page with the calls that it is of; without a price it is unknown, not zero."""
    known = {"id": "known", "match": {"equals": "known"}, "prices": {"input_mtok": 2, "output_mtok": 8}}
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps([{"id": "maker", "model_match": {"contains": "n"}, "models": [known]}]), "utf-8")
    with AgentModel.from_settings(settings, warehouse_url="duckdb://", prices=str(prices)) as model:
        model.table.create()
        catalogue(model)
        with model.session("USR001", "a café") as session, session.process("p") as process:
            for name in ("known", "known", "other"):
                with process.call("AGT001", "TL001") as call:
                    call.model_name, call.input_tokens, call.output_tokens = name, 1000, 500
        model.drain()
        model.refresh()
        text = Person(console(model)).see("/effect")

    assert "agent 1 known 2 2,000 1,000 0.012000" in text
    assert "agent 1 other 1 1,000 500 unknown" in text


def test_the_effect_has_the_charts_of_the_report(
    model: AgentModel, someone: Callable[[str], Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recommended sequences with their scores, and where failed runs went wrong, in the reader's language."""
    kim = someone("kim")
    best = max(recommended_patterns(model.warehouse, as_of=datetime.now(UTC)), key=lambda row: row.score)
    (wrong,) = model.wrong_steps()
    english, korean = kim.see("/effect"), kim.see("/effect?lang=ko")

    for text in (english, korean):
        assert f"{best.score:,.2f} · {best.user_id} · {best.category or '–'} · {best.tool_sequence}" in text
    assert "Where failed runs went wrong Failed runs by domain and category" in english
    assert f"1 · {wrong.domain} · {wrong.category or '–'} · error · search" in english
    assert f"1 · {wrong.domain} · {wrong.category or '–'} · 오류 · search" in korean
    assert "실패한 실행이 잘못된 곳" in korean
    monkeypatch.setattr(_effect, "_COMPARED", 1)
    assert "too many calls to compare" in Person(console(model)).see("/effect")


def test_charts_and_results_are_korean_on_korean_pages(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """What a chart of weeks tells and what plans change is Korean there, though an English page came before."""
    kim = someone("kim")
    kim.see("/effect")
    effect, agent = kim.see("/effect?lang=ko"), kim.see("/agents/AGT001?lang=ko")

    assert "계획을 주지 않은 세션 가운데 끝난 것이 없어" in effect
    assert model.impact().sentence not in effect
    for text in (effect, agent):
        assert "1주: 성공" in text
        assert not re.search(r"\d weeks:|\d succeeded", text)


def test_an_agent_has_the_course_of_its_tools(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """Each tool of an agent that was called has its calls week by week."""
    text = someone("kim").see("/agents/AGT001")

    assert 3 == text.count("Calls of each week")
    assert "1 weeks: 1 succeeded, 1 failed" in text


def test_earlier_decisions_stand_beside_a_question(model: AgentModel, someone: Callable[[str], Person]) -> None:
    """A question has what was decided in its session about the same tool before, and who did, and why."""
    first, second, other = ask(model), ask(model), ask(model, tool_id="TL002")
    model.reviews.decide(first, "reject", "lee", reason="too many guests")
    kim = someone("kim")

    assert "rejected Reserve it? · by lee" in kim.see(path_of(model, second, "inbox"))
    assert "too many guests" in kim.see(path_of(model, second, "inbox"))
    assert "too many guests" not in kim.see(path_of(model, other, "inbox"))


def test_a_change_is_drawn_on_its_line() -> None:
    """The picture of a change has its interval on a line from -1 to 1, its mean, and a mark at 0."""
    picture = change(-0.5, 0.1, 0.5)

    assert 'x="25.0%" width="50.0%"' in picture
    assert 'cx="55.0%"' in picture
    assert 'class="zero" x1="50%"' in picture
    assert "" == shares([])
    assert 'width="75.00%"' in shares([("a <b>", 3, 1)])
    assert "a &lt;b&gt;: 3 + 1" in shares([("a <b>", 3, 1)])
    assert "" == bars([])
    assert 'width="25.00%"' in bars([("a", "4.00", 4.0), ("<b>", "1.00", 1.0)])
    assert "1.00 · &lt;b&gt;" in bars([("a", "4.00", 4.0), ("<b>", "1.00", 1.0)])


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (
            "en",
            [
                "When it was failing",
                "Never marked as failing in its newest calls (40)",
                "Computed from its newest calls (90)",
            ],
        ),
        (
            "ko",
            [
                "장애가 있었던 기간",
                "가장 최근 호출 40회에서 장애로 판정된 적이 없습니다",
                "가장 최근 호출 90회로 계산했습니다",
            ],
        ),
    ],
)
def test_an_agent_has_the_times_when_its_tools_were_failing(
    settings: Settings, tokens_file: Path, language: str, words: list[str]
) -> None:
    """A tool that failed, recovered and failed again has two periods, in times and counts; a reader sees no user."""
    at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    with AgentModel.from_settings(settings, warehouse_url="duckdb://") as model:
        model.table.create()
        catalogue(model)
        with model.writer.batch() as batch:
            for tool, outcomes in {"TL001": "." * 30 + "x" * 10 + "." * 40 + "x" * 10, "TL002": "." * 40}.items():
                for number, outcome in enumerate(outcomes):
                    batch.put(
                        ToolExecution(
                            user_id=f"USRother{number % 2}", session_id="SESS1", process_id="PRC001", agent_id="AGT001",
                            tool_id=tool, tool_name=tool, attempt=number + 1, succeeded=outcome == ".",
                            result="what somebody asked", executed_at=at + timedelta(minutes=number),
                        )
                    )  # fmt: skip
        model.refresh()
        newest = newest_calls(model.warehouse, "AGT001", limit=50, total_limit=80)
        app = console(model, tokens=Tokens.of_file(tokens_file), secret="s" * 32)
        text = Person(app, "one").see(f"/agents/AGT001?lang={language}")

    assert {"TL001": 40, "TL002": 40} == {tool: len(calls) for tool, calls in newest.items()}
    assert (at + timedelta(minutes=89), True, "USRother1", "SESS1") == newest["TL001"][-1]
    assert [1, 1, 1] == [text.count(each) for each in words]
    assert re.search(r"2026-03-01 13:20:00.*2026-03-01 12:30:00 – 2026-03-01 12:\d\d:00", text)
    assert "10" in re.findall(r"(?:failed: |실패 )(\d+)", text)
    assert "USRother" not in text
    assert "what somebody asked" not in text


def test_the_newest_calls_of_a_tool_are_its_own(model: AgentModel) -> None:
    """Calls of another agent, and more than are asked for, are left out; a call that failed says so."""
    found = newest_calls(model.warehouse, "AGT001", limit=1)

    assert ["TL001", "TL002", "TL003"] == sorted(found)
    assert [1, 1, 1] == [len(calls) for calls in found.values()]
    assert [True] == [failed for _, failed, *_ in found["TL002"]]
    assert {"USR002"} == {user for calls in newest_calls(model.warehouse, "AGT002").values() for _, _, user, _ in calls}
