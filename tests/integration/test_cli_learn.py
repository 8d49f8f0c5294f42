"""`agentmodel evaluate`, `savings`, `tools` and `suggest --prompt`: what was learnt, from the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel, Settings
from agentmodel.cli import main
from agentmodel.suggest.evaluate import RANKINGS
from tests.integration.suggest_world import catalogue, opened, run
from tests.integration.test_cli_errors import environment
from tests.routing_requests import TOOLS, requests


class Cli:
    """Runs commands and gives what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        found = main(list(arguments))
        out, err = self.capsys.readouterr()
        assert code == found, err
        assert code == 0 or ("", 1) == (out, err.count("\n"))
        return out or err

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def model(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentModel]:
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    with opened(settings) as model:
        catalogue(model)
        yield model


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def history(model: AgentModel) -> None:
    """Two agents: the first mostly succeeds, the second mostly does not."""
    for number in range(12):
        run(model, agent_id="AGT001", succeeded=number % 6 != 0)
        run(model, agent_id="AGT002", succeeded=number % 6 == 0, tools=(1, 2))


def learn(cli: Cli) -> None:
    for command in ("drain", "refresh"):
        cli(command)


def test_rankings_are_compared_with_baselines(model: AgentModel, cli: Cli) -> None:
    """Both rankings and the baselines, with the number of cases, from the user's own history."""
    history(model)
    learn(cli)
    found = cli.json("evaluate")
    text = cli("evaluate", "--learn", "0.5")

    assert (24, 14) == (found["runs"], found["training_runs"])
    assert set(RANKINGS) == {row["ranking"] for row in found["rankings"]}
    assert all(row["cases"] > 0 for row in found["rankings"])
    assert {*RANKINGS, "evidence without categories", "oracle"} == {row["ranking"] for row in found["regimes"]}
    assert "Regret in DMN001 *, if use and work were spread in a known way" in text
    assert "* Fewer than three agents have 20 later runs" in text
    assert [] == found["routes"]
    assert {"category", "category and agent", "every run"} == {row["scope"] for row in found["plans"]}
    assert {"chance", "evidence", "success share"} == set(found["calibration_error"])
    assert None is found["off_policy"]
    assert "24 runs; the first 12 (50% of each domain) were learned from" in text
    assert all(ranking in text for ranking in RANKINGS)
    assert {"chance", "evidence", "success share"} == {row["predictor"] for row in found["chances"]}
    assert "How well predictions tell the runs that fail" in text


def test_other_ways_to_choose_are_valued(model: AgentModel, cli: Cli) -> None:
    """Suggestions that were taken and ended say what other choices would have been worth; without, that is said."""
    learn(cli)
    assert "No suggestion was followed" in cli("evaluate", "--off-policy")
    plan = model.suggest("USR001", domain_id="DMN001")
    with model.session("USR001", "a café", plan=plan) as session:
        with session.process("locate") as process, process.call(plan.agent_id or "", "TL001"):
            pass
        session.succeed()
    rows = cli.json("evaluate", "--off-policy")["off_policy"]

    assert {"best scored": 1, "any candidate": 1} == {row["policy"]: row["cases"] for row in rows}
    assert "doubly robust" in cli("evaluate", "--off-policy")


def test_without_history_nothing_is_measured(model: AgentModel, cli: Cli) -> None:
    """An empty history is no failure: the commands say what is missing."""
    cli("refresh")

    assert "No run yet" in cli("evaluate")
    assert 0 == cli.json("evaluate")["runs"]
    assert [] == cli.json("savings")
    assert "No call was answered" in cli("savings")


@pytest.mark.parametrize("share", ["0", "1", "-0.5", "60", "nan", "most"])
def test_what_is_no_share_is_refused(share: str, model: AgentModel, cli: Cli) -> None:
    """A share to learn from is above 0 and below 1, whether or not there is a history."""
    assert "--learn" in cli("evaluate", "--learn", share, code=2)


def test_trace_files_are_replayed_without_a_store(cli: Cli, tmp_path: Path) -> None:
    """Given files, the figures are those of their runs; what is in the table has no part in it."""
    record = {"domain": "shop", "agent": "a", "user": "kim", "step": 1, "arguments": {}, "result": None, "success": True,
              "error_type": None, "category": "refund", "request": "refund it", "session_success": True}  # fmt: skip
    file = tmp_path / "traces.jsonl"
    lines = [
        record | {"session": f"s{n}", "tool": "find", "started_at": f"2025-06-{n + 1:02d}T10:00:00Z"} for n in range(10)
    ]
    file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")

    found = cli.json("evaluate", str(file))

    assert (10, 6) == (found["runs"], found["training_runs"])
    assert {("category", 1.0, 1.0, 0.0), ("category and agent", 1.0, 1.0, 0.0), ("every run", 1.0, 1.0, 0.0)} == {
        (row["scope"], row["equal"], row["best_equal"], row["best_distance"]) for row in found["plans"]
    }
    assert "--off-policy" in cli("evaluate", str(file), "--off-policy", code=2)


def test_requests_that_find_their_domain_are_counted(cli: Cli, tmp_path: Path) -> None:
    """With two domains, the share of later requests that are routed right is printed, for each and for all."""
    file = tmp_path / "traces.jsonl"
    lines: list[dict[str, object]] = [
        {"domain": domain, "agent": "a", "user": "kim", "session": f"{domain} {at}", "step": 1, "tool": TOOLS[domain][0],
         "arguments": {}, "result": None, "success": True, "request": text,
         "started_at": f"2025-06-01T{at // 60:02d}:{at % 60:02d}:00Z"}
        for domain in ("DMNstore", "DMNleave")
        for at, text in enumerate(requests(domain)[:60])
    ]  # fmt: skip
    file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")

    found, text = cli.json("evaluate", str(file))["routes"], cli("evaluate", str(file))

    assert {("DMNstore", 24, 0), ("DMNleave", 24, 0)} == {(row["domain"], row["cases"], row["wrong"]) for row in found}
    assert sum(row["right"] for row in found) >= 0.97 * 48
    assert "Finding the domain of a request" in text


def test_savings_are_shown_as_counted(model: AgentModel, cli: Cli) -> None:
    """Calls that were answered, with the tokens of the equal calls that were made before."""
    for status in ("ok", "cache_hit", "cache_hit"):
        with (
            model.session("USR001", "a café", category="cafe search") as session,
            session.process("locate") as process,
            process.call("AGT001", "TL001", values={"place": "stadium"}) as call,
        ):
            call.mark(status)
            call.input_tokens = 100 if status == "ok" else None
    learn(cli)
    (row,) = cli.json("savings")

    assert ("cafe search", 2, 2, 2, 2, 200) == tuple(
        row[name] for name in ("category", "hits", "sessions", "timed", "metered", "tokens")
    )
    assert "200" in cli("savings")


def test_tools_say_whether_they_fail_now(model: AgentModel, cli: Cli) -> None:
    """Counts of the history and health of now stand together; what fails now comes first, with since when."""
    for _ in range(25):
        run(model, tools=(1, 2))
    run(model, tools=(3,), failing=(3,), succeeded=False)
    for n in range(8):
        run(model, f"USR00{1 + n % 2}", tools=(2,), failing=(2,), succeeded=False)
    model.settle()  # the commands are another model, which does not wait for the threads of this one
    learn(cli)
    rows = cli.json("tools")
    by_tool = {(row["agent_id"], row["tool_id"]): row for row in rows}
    failing, fine, unused = (
        by_tool[place] for place in (("AGT001", "TL002"), ("AGT001", "TL001"), ("AGT002", "TL001"))
    )
    text = cli("tools", "--domain", "DMN001")

    assert ("AGT001", "TL002") == (rows[0]["agent_id"], rows[0]["tool_id"])
    assert ("open", 33, 8) == (failing["state"], failing["calls"], failing["errors"])
    assert failing["since"] is not None
    assert failing["until"] > failing["since"]
    assert "calls failed" in failing["note"]
    assert ("closed", None, 25, "") == (fine["state"], fine["since"], fine["calls"], fine["note"])
    assert ("agent 2", "locate", "closed", 0, None) == (
        unused["agent_name"], unused["tool_name"], unused["state"], unused["calls"], unused["error_rate"],
    )  # fmt: skip
    assert "search of agent 1 is failing since" in text
    assert "AGT001" not in text
    assert "search (TL002)" in cli("tools", "--domain", "DMN001", "--ids")
    assert "format" in text
    assert "locate" not in text


def test_health_is_shown_without_a_warehouse(model: AgentModel, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether tools fail now is known from the calls alone."""
    monkeypatch.delenv("AGENTMODEL_WAREHOUSE_URL")

    assert {("closed", 0)} == {(row["state"], row["calls"]) for row in cli.json("tools")}
    assert "No tool failed." in cli("tools")


def test_tools_outside_the_catalogue_are_watched_too(model: AgentModel, cli: Cli) -> None:
    """A tool that nobody entered is in the history, and its health is known where calls are watched together."""
    for _ in range(3):
        run(model, agent_id="AGT001", tools=(9,), failing=(9,), succeeded=False)
    learn(cli)
    (row,) = [row for row in cli.json("tools") if row["tool_id"] == "TL009"]

    assert (3, 3, "closed") == (row["calls"], row["errors"], row["state"])


def test_a_plan_is_printed_for_a_model(model: AgentModel, cli: Cli) -> None:
    """`--prompt` prints the plan as text in English or Korean, with JSON beside the plan."""
    history(model)
    learn(cli)
    cli("publish")
    asked = ("suggest", "USR001", "--category", "cafe search")
    english = cli(*asked, "--prompt", "en")
    both = cli.json(*asked, "--prompt", "ko")

    assert english.startswith("This plan worked before for this user's requests of this kind.")
    assert "1. `step 1`: `locate`" in english
    assert "own mapping" == both["source"]
    assert both["prompt"].startswith("이 사용자의 같은 종류 요청에서")
    assert both["prompt"].splitlines()[0] in cli(*asked, "--prompt", "ko")
    assert "prompt" not in cli.json(*asked)


def test_a_language_that_is_none_is_refused_before_anything_is_suggested(model: AgentModel, cli: Cli) -> None:
    """A wrong language is named with those that are known, and no suggestion is kept."""
    assert "one of en, ko" in cli("suggest", "USR001", "--domain", "DMN001", "--prompt", "fr", code=2)
    assert [] == model.suggestions.of_user("USR001")


def test_what_plans_change_is_shown(model: AgentModel, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table, the sentence and the same as data; only a domain whose plans were stopped can be resumed."""
    history(model)
    learn(cli)
    cli("publish")
    monkeypatch.setenv("AGENTMODEL_HOLDOUT", "0.5")
    shown = cli.json("suggest", "USR001", "--category", "cafe search")
    text, found = cli("impact"), cli.json("impact")
    refused = cli("impact", "--resume", "DMN001", code=2)

    assert shown["source"] in ("own mapping", "withheld")
    assert "it cannot be said what plans change" in text
    assert text.strip().endswith(found["sentence"])
    assert (0.5, ["nothing withheld"]) == (found["share"], [row["verdict"] for row in found["rows"]])
    assert "must be a domain in which plans were stopped" in refused
    assert refused == cli("impact", "--resume", "DMN00", code=2)
