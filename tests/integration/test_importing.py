"""Traces become history and catalogue: every line lands once, in order, under ids that are always the same."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agentmodel import AgentModel, Settings
from agentmodel.exceptions import ValidationError
from agentmodel.keys import stable_id

TRACES = Path(__file__).parents[2].parent / "shared" / "data" / "traces"


@pytest.fixture(params=["valkey", "no valkey"])
def model(request: pytest.FixtureRequest, settings: Settings) -> Iterator[AgentModel]:
    """A model on an empty table, with Valkey and without."""
    given_settings = settings if request.param == "valkey" else settings.model_copy(update={"valkey_url": None})
    with AgentModel.from_settings(given_settings) as made:
        made.table.create()
        yield made
        made.table.delete()


def line(step: int, tool: str = "search", **values: Any) -> dict[str, Any]:
    """One tool call of a trace."""
    return {
        "domain": "cafes", "agent": "finder", "user": "kim", "session": "s-1", "step": step, "tool": tool,
        "arguments": {"near": "stadium"}, "success": True, **values,
    }  # fmt: skip


def written(path: Path, *lines: dict[str, Any] | str) -> Path:
    """A trace file of these lines."""
    texts = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in lines]
    path.write_text("\n".join(texts) + "\n", "utf-8")
    return path


def dump(model: AgentModel) -> list[dict[str, Any]]:
    """Everything the table holds, the journal drained before."""
    if model.journal is not None:
        model.drain()
    return sorted(model.table.scan(), key=lambda item: (item["PK"]["S"], item["SK"]["S"]))


def kinds(items: list[dict[str, Any]]) -> Counter[str]:
    return Counter(item["EntityType"]["S"] for item in items)


class TestOneSession:
    """A few lines, looked at closely."""

    def test_a_name_that_is_too_long_for_a_key(self, model: AgentModel, tmp_path: Path) -> None:
        """It is cut, and costs neither its line nor the others; importing again adds nothing."""
        lines = [line(1), line(2, "검색" * 2000), line(3, domain="c" * 2000), line(4, domain="c" * 2000)]
        path = written(tmp_path / "t.jsonl", *lines)

        assert 4 == model.import_traces(path).lines
        before = dump(model)
        model.import_traces(path)
        assert before == dump(model)
        (domain,) = [one for one in model.repository.domains() if one.name.startswith("ccc")]
        assert len(domain.name) < 700

    def test_catalogue_and_history(self, model: AgentModel, tmp_path: Path) -> None:
        """Domain, agent, tools and user are made of the names; session, processes and executions of the lines."""
        times = {"started_at": "2025-06-14T09:00:00Z", "ended_at": "2025-06-14T09:00:01.500Z"}
        path = written(
            tmp_path / "t.jsonl",
            line(1, **times, request="a café?", category="cafe", input_tokens=5, output_tokens=7, result={"n": 3}),
            line(2, "rank", success=False, error_type="Timeout", result="too late", session_success=True),
        )
        done = model.import_traces(path)
        repository = model.repository
        (domain,), (user_session,) = repository.domains(), repository.sessions("USRkim")
        history = repository.session_history("USRkim", user_session.session_id)

        assert (2, 0, 1, []) == (done.lines, done.repeated, done.sessions, done.bad)
        assert Counter({"Tool": 2, "Domain": 1, "Agent": 1, "UserInfo": 1}) == done.created
        assert ("DMNcafes", "cafes") == (domain.domain_id, domain.name)
        (agent,) = repository.top_agents("DMNcafes")
        assert ("finder", 0.0, stable_id("AGT", "cafes", "finder")) == (agent.name, agent.score, agent.agent_id)
        assert ["rank", "search"] == [tool.name for tool in repository.domain_tools("DMNcafes")]
        assert ("a café?", "cafe", True) == (user_session.request, user_session.category, user_session.succeeded)
        assert datetime(2025, 6, 14, 9, tzinfo=UTC) == user_session.started_at
        assert [("PRC001", "search"), ("PRC002", "rank")] == [(p.process_id, p.name) for p in history.processes]
        first, second = history.executions
        assert (1, '{"near": "stadium"}', '{"n": 3}', True, 1500, 5, 7) == (
            first.call_number, first.values, first.result, first.succeeded, first.duration_ms, first.input_tokens,
            first.output_tokens,
        )  # fmt: skip
        assert (2, False, "Timeout", "too late", None) == (
            second.call_number, second.succeeded, second.error_type, second.result, second.duration_ms,
        )  # fmt: skip

    def test_steps_may_begin_at_zero(self, model: AgentModel, tmp_path: Path) -> None:
        """A trace that counts its steps from 0 keeps its numbers."""
        path = written(tmp_path / "t.jsonl", line(0), line(1))
        model.import_traces(path)
        (session,) = model.repository.sessions("USRkim")
        history = model.repository.session_history("USRkim", session.session_id)

        assert ["PRC000", "PRC001"] == [process.process_id for process in history.processes]
        assert [0, 1] == [execution.call_number for execution in history.executions]

    def test_attempts_are_kept_apart(self, model: AgentModel, tmp_path: Path) -> None:
        """Lines of one step and tool are attempts, even when they are the same to the letter."""
        path = written(tmp_path / "t.jsonl", line(1), line(1), line(1, "rank"), line(1, success=False), line(2))
        model.import_traces(path)
        executions = [item for item in dump(model) if item["EntityType"]["S"] == "UserSessPrcToolMappHist"]

        assert 5 == len(executions)
        suffixes = Counter(item["SK"]["S"].split("#", 3)[-1] for item in executions if "TLsearch" in item["SK"]["S"])
        assert {"TLsearch": 2, "002": 1, "003": 1} == {
            suffix.rpartition("#")[2]: count for suffix, count in suffixes.items()
        }

    def test_calls_without_times_keep_their_order(self, model: AgentModel, tmp_path: Path) -> None:
        """Lines in any order of the file come back by step, and no time is invented for them."""
        path = written(tmp_path / "t.jsonl", *(line(n, f"tool{n % 3}") for n in (3, 1, 12, 2, 1000)))
        model.import_traces(path)
        (session,) = model.repository.sessions("USRkim")
        history = model.repository.session_history("USRkim", session.session_id)

        assert [1, 2, 3, 12, 1000] == [execution.call_number for execution in history.executions]
        assert ["PRC001", "PRC002", "PRC003", "PRC012", "PRCA1000"] == [p.process_id for p in history.processes]
        assert session.started_at is session.ended_at is None
        for item in dump(model):
            assert set() == {"TransactDT", "ProcDT", "SessionStartDT", "SessionEndDT", "DurationMs"} & set(item)

    @pytest.mark.parametrize(
        ("zone", "expected"), [("UTC", "20250614090000000000"), ("Asia/Seoul", "20250614000000000000")]
    )
    def test_naive_times_take_the_given_zone(self, model: AgentModel, tmp_path: Path, zone: str, expected: str) -> None:
        """A time without an offset is of the zone that is given; one with an offset stays what it is."""
        path = written(
            tmp_path / "t.jsonl",
            line(1, started_at="2025-06-14T09:00:00"),
            line(2, started_at="2025-06-14T09:00:00+00:00"),
        )
        model.import_traces(path, timezone=zone)
        found = [item["TransactDT"]["S"] for item in dump(model) if "TransactDT" in item]

        assert [expected, "20250614090000000000"] == found

    def test_bad_lines_are_reported_and_the_rest_goes_on(self, model: AgentModel, tmp_path: Path) -> None:
        """A bad line is named with file, line and field; the others land; strict stops before anything is written."""
        path = written(
            tmp_path / "t.jsonl",
            line(1),
            "{not json",
            line(2) | {"success": "yes"},
            {key: value for key, value in line(3).items() if key != "tool"},
            line(4),
        )
        with pytest.raises(ValidationError, match=r"t\.jsonl.*2"):
            model.import_traces(path, strict=True)
        before = dump(model)
        done = model.import_traces(path)

        assert [] == before
        assert 2 == done.lines
        assert [(2, "line"), (3, "success"), (4, "tool")] == [(bad.line, bad.field) for bad in done.bad]
        assert all(str(bad).startswith(f"{path}, line {bad.line}") for bad in done.bad)
        assert 2 == kinds(dump(model))["UserSessPrcToolMappHist"]

    def test_an_anonymous_user_is_nobody_elses(self, model: AgentModel, tmp_path: Path) -> None:
        """Traces without a user have one of their own, which no name gives."""
        path = written(tmp_path / "t.jsonl", line(1, user=None), line(1, user="~anonymous"), line(1, user="anonymous"))
        model.import_traces(path)
        users = [item for item in dump(model) if item["EntityType"]["S"] == "UserInfo"]

        assert 3 == len(users) == len({user["PK"]["S"] for user in users})

    def test_sessions_of_one_name_are_kept_apart(self, model: AgentModel, tmp_path: Path) -> None:
        """A session is one of its domain and user: the same name elsewhere is another."""
        path = written(
            tmp_path / "t.jsonl", line(1), line(1, user="lee"), line(1, domain="hotels"), line(1, session="s-2")
        )
        done = model.import_traces(path)

        assert 4 == done.sessions == kinds(dump(model))["UserSession"]
        assert 4 == kinds(dump(model))["UserSessPrcToolMappHist"]

    def test_the_catalogue_keeps_what_it_knows(self, model: AgentModel, tmp_path: Path) -> None:
        """An agent that is there already keeps its score and description."""
        path = written(tmp_path / "t.jsonl", line(1))
        model.import_traces(path)
        agent_id = stable_id("AGT", "cafes", "finder")
        agent = model.repository.agent(agent_id)
        assert agent is not None
        agent.score, agent.description = 42.0, "finds"
        model.repository.put(agent)
        done = model.import_traces(path)
        known = model.repository.agent(agent_id)

        assert Counter() == done.created
        assert known is not None
        assert (42.0, "finds") == (known.score, known.description)

    def test_a_longer_file_adds_only_what_is_new(self, model: AgentModel, tmp_path: Path) -> None:
        """Importing a session again with more calls and an outcome adds those and changes nothing else."""
        first = written(tmp_path / "a.jsonl", line(1, started_at="2025-06-14T09:00:00Z"))
        model.import_traces(first)
        before = {(item["PK"]["S"], item["SK"]["S"]): item for item in dump(model)}
        longer = written(
            tmp_path / "b.jsonl",
            line(1, started_at="2025-06-14T09:00:00Z"),
            line(2, "rank", started_at="2025-06-14T09:00:05Z", session_success=True),
        )
        done = model.import_traces(longer)
        after = {(item["PK"]["S"], item["SK"]["S"]): item for item in dump(model)}
        (session,) = model.repository.sessions("USRkim")

        assert (2, 1) == (done.lines, done.repeated)
        assert 3 == len(after.keys() - before.keys())  # a tool, a process, an execution
        assert ["UserSession"] == [item["EntityType"]["S"] for key, item in before.items() if after[key] != item]
        assert (True, datetime(2025, 6, 14, 9, 0, 5, tzinfo=UTC)) == (session.succeeded, session.ended_at)

    def test_a_file_that_cannot_be_read_is_named(self, model: AgentModel, tmp_path: Path) -> None:
        """A missing file and a folder raise one line with the path; damaged gzip is reported as a bad line is."""
        damaged = tmp_path / "damaged.jsonl.gz"
        damaged.write_bytes(gzip.compress(json.dumps(line(1)).encode())[:-12])
        for path in (tmp_path / "missing.jsonl", tmp_path):
            with pytest.raises(ValidationError) as caught:
                model.import_traces(path)
            assert path.name in str(caught.value)
            assert "\n" not in str(caught.value)
        done = model.import_traces(damaged)
        assert [str(damaged)] == [bad.file for bad in done.bad]
        with pytest.raises(ValidationError, match=damaged.name):
            model.import_traces(damaged, strict=True)
        with pytest.raises(ValidationError, match="Mars"):
            model.import_traces(written(tmp_path / "t.jsonl", line(1)), timezone="Mars/Olympus")


def hostile() -> st.SearchStrategy[dict[str, Any]]:
    """Lines whose names are anything that a file may hold."""
    name = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
    return st.builds(
        line,
        st.integers(0, 3),
        name,
        domain=name,
        agent=name,
        user=st.one_of(st.none(), name),
        session=name,
        category=st.one_of(st.none(), name),
        request=st.one_of(st.none(), name),
        result=st.one_of(st.none(), name, st.lists(st.integers())),
    )


@hypothesis_settings(max_examples=15, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking takes minutes
@given(lines=st.lists(hostile(), min_size=1, max_size=4))
def test_any_names_land(model: AgentModel, tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    """Whatever the names are, every line lands as an execution; again, as a repetition."""
    path = written(tmp_path / "t.jsonl", *lines)
    before = kinds(dump(model))["UserSessPrcToolMappHist"]
    first = model.import_traces(path)
    between = dump(model)
    second = model.import_traces(path)

    assert [] == first.bad
    assert len(lines) == first.lines == second.lines == second.repeated
    assert len(lines) - first.repeated == kinds(between)["UserSessPrcToolMappHist"] - before
    assert between == dump(model)


REAL = {"medical_fhir": (214, 152), "telecom": (1213, 111)}


@pytest.mark.parametrize("name", REAL)
def test_real_traces_land_once(model: AgentModel, name: str) -> None:
    """Every line of a real log lands; importing it again changes nothing, byte for byte."""
    path = TRACES / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip("the real traces are not beside this checkout")
    lines, sessions = REAL[name]
    if model.journal is None and lines > 1000:
        pytest.skip("without a journal each item is a request of its own; the smaller log shows the same")
    first = model.import_traces(path)
    before = dump(model)
    second = model.import_traces(path)

    assert (lines, 0, sessions, []) == (first.lines, first.repeated, first.sessions, first.bad)
    assert (lines, sessions) == (
        kinds(before)["UserSessPrcToolMappHist"],
        kinds(before)["UserSession"],
    )
    assert (lines, Counter()) == (second.repeated, second.created)
    assert before == dump(model)


@pytest.mark.skipif(
    "AGENTMODEL_TEST_ENDPOINT" not in os.environ, reason="moto takes minutes for it; `make test-engine` runs it"
)
@pytest.mark.timeout(600)  # some forty thousand records through a journal and a table
def test_the_larger_real_logs_land_once(settings: Settings) -> None:
    """19,280 calls through the journal, whatever their times: each one item, and again none."""
    paths = [TRACES / "retail.jsonl.gz", TRACES / "airline.jsonl.gz"]
    if not all(path.exists() for path in paths):
        pytest.skip("the real traces are not beside this checkout")
    with AgentModel.from_settings(settings) as model:
        model.table.create()
        first, before = model.import_traces(*paths), dump(model)
        second = model.import_traces(*paths)
        after = dump(model)
        model.table.delete()

    assert (19_280, 19_280) == (first.lines, kinds(before)["UserSessPrcToolMappHist"])
    assert 15_195 + 2_599 == sum("TransactDT" in item for item in before)
    assert 19_280 == second.repeated
    assert before == after
