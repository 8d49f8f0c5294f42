"""The HTML report: its figures are the reports', nothing in it is obeyed, and nothing is loaded."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from agentmodel import AgentModel
from agentmodel.exceptions import MissingExtraError, ValidationError
from agentmodel.redshift import reports
from agentmodel.redshift.report_html import report
from agentmodel.redshift.warehouse import Warehouse
from tests.integration.suggest_world import run
from tests.integration.test_cli_learn import Cli, cli, learn, model

pytest.importorskip("matplotlib", reason="matplotlib draws the charts")

__all__ = ["cli", "model"]  # fixtures

DAY = date(2025, 6, 14)
AT = datetime(2025, 6, 15, tzinfo=UTC)
HOSTILE = '<script>alert("1")</script> & $\\frac{1}{0}$ \x1b[2J 예약 에이전트'
VOID = {"meta"}


class Page(HTMLParser):
    """A page as a reader has it: its tables as rows of texts, its tags, every attribute; badly nested tags fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.texts: list[str] = []
        self._caption = ""
        self.feed(text)
        self.close()
        assert [] == self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "caption":
            self._caption = ""
        if tag == "tr":
            self.tables.setdefault(self._caption, []).append([])
        if tag in {"td", "th"}:
            self.tables[self._caption][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if "caption" in self.open:
            self._caption += data
        if self.open and self.open[-1] in {"td", "th"}:
            self.tables[self._caption][-1][-1] += data


def history(name: str) -> list[dict[str, Any]]:
    """Two agents in two domains, sessions with and without a time, tokens, a failure."""
    found: list[dict[str, Any]] = []

    def add(pk: str, sk: str, kind: str, **attributes: str | int) -> None:
        typed = {key: {"N" if isinstance(value, int) else "S": str(value)} for key, value in attributes.items()}
        found.append({"PK": {"S": pk}, "SK": {"S": sk}, "EntityType": {"S": kind}, **typed})

    for number in (1, 2):
        add(f"DMN00{number}", "METADATA", "Domain", DomainNM=f"{name} {number}")
        add(f"AGT00{number}", "METADATA", "Agent", GSI1_PK=f"DMN00{number}", AgentNM=f"{name} {number}")
    for number in range(1, 13):
        user, session, agent = f"USR00{number % 3}", f"SESS{number:02d}", f"AGT00{number % 2 + 1}"
        well = "N" if number % 5 == 0 else "Y"
        dated: dict[str, str] = {} if number == 12 else {"TransactDT": f"202506{number:02d}120000"}
        add(user, session, "UserSession", Category=name)
        add(f"{user}#{session}", f"PRC001#{agent}#TL001", "UserSessPrcToolMappHist", ToolNM=f"{name} tool",
            SuccYN=well, InputTokens=1_000 * number, OutputTokens=number, **dated)  # fmt: skip
    return found


def filled(name: str) -> Warehouse:
    warehouse = Warehouse.open("duckdb://")
    warehouse.create()
    warehouse.land(history(name), at=AT)
    warehouse.refresh(as_of=DAY)
    return warehouse


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    with filled("매장 검색") as warehouse:
        yield warehouse


def test_the_tables_are_the_reports(warehouse: Warehouse) -> None:
    """Every table holds the rows of its report, in order, and every figure is the report's."""
    tables = Page(report(warehouse, as_of=DAY)).tables
    ranking = reports.agent_ranking(warehouse, as_of=DAY)
    daily = reports.executions_per_day(warehouse)
    days = sorted({row.day for row in daily if row.day is not None}, reverse=True)

    assert [
        [str(row.rank), row.agent_name, str(row.executions), f"{row.success_rate:.0%}", str(row.last_execution),
         f"{row.score:.2f}", f"{row.evidence:.2f} ({row.evidence_low:.2f}–{row.evidence_high:.2f})"]
        for row in ranking
    ] == [*tables["Agents of 매장 검색 1"][1:], *tables["Agents of 매장 검색 2"][1:]]  # fmt: skip
    assert [
        [row.user_id, row.category, f"매장 검색 {row.agent_id[-1]}", " → ".join(step.tool_name for step in row.steps),
         str(row.executions), f"{row.success_rate:.0%}", f"{row.score:.2f}"]
        for row in reports.recommended_patterns(warehouse, as_of=DAY)
    ] == tables["Recommended, each user's best first"][1:]  # fmt: skip
    assert [
        [row.agent_name, str(row.errors), str(row.executions), f"{row.error_rate:.1%}", ", ".join(row.failed_tools)]
        for row in reports.tool_errors(warehouse)
    ] == tables["Most errors first"][1:]
    assert [[str(day), str(sum(row.executions for row in daily if row.day == day))] for day in days] == [
        row[:2] for row in tables["Newest first"][1:-1]
    ]
    assert ["without a time", "1", "1", "100%"] == tables["Newest first"][-1]
    assert [
        [
            f"매장 검색 {row.agent_id[-1]}",
            row.tool_name,
            str(row.calls),
            f"{row.input_tokens:,}",
            f"{row.output_tokens:,}",
            "0",
            "unknown",
        ]
        for row in reports.tokens_per_tool(warehouse)
    ] == tables["Most tokens first"][1:]


def test_the_charts_are_the_reports(warehouse: Warehouse) -> None:
    """Every row of a chart carries its figure as a hint, the report's own, and bars are as long as their figures."""
    text = report(warehouse, as_of=DAY)
    hints = re.findall(r"<title>([^<]*)</title>", text)

    for row in reports.agent_ranking(warehouse, as_of=DAY):
        assert f"{row.agent_name}: score {row.score:,.2f}" in hints
        assert f"{row.agent_name}: {row.evidence:.2f} ({row.evidence_low:.2f} to {row.evidence_high:.2f})" in hints
    for errors in reports.tool_errors(warehouse):
        assert f"{errors.agent_name}: {errors.errors} failed" in hints
        assert f"{errors.agent_name}: {errors.executions - errors.errors} successful" in hints
    lengths = []
    for tokens in reports.tokens_per_tool(warehouse):
        hint = f"{tokens.tool_name} · 매장 검색 {tokens.agent_id[-1]}: {tokens.input_tokens:,.6g} tokens in"
        start, end = re.findall(rf'{re.escape(hint)}</title><path d="M ([0-9.]+) [0-9.]+ +L ([0-9.]+) ', text)[0]
        lengths.append((float(end) - float(start)) / tokens.input_tokens)
    assert lengths == pytest.approx([lengths[0]] * len(lengths), rel=1e-4)


def test_nothing_is_loaded_or_run(warehouse: Warehouse) -> None:
    """No script, no reference to a host or file, and a policy that lets a browser load nothing."""
    text = report(warehouse, as_of=DAY)
    page = Page(text)

    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "image", "a", "base", "form"}
    assert [] == re.findall(r"https?:|url\(|@import|file:|javascript:", text)
    assert [] == [value for name, value in page.attributes if name in {"href", "src"} and not value.startswith("#")]
    assert [] == [name for name, _ in page.attributes if name.startswith("on")]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_what_people_wrote_stays_text() -> None:
    """A name full of markup, formulas and control characters is shown as it is, and changes no tag of the page."""
    with filled(HOSTILE) as hostile, filled("plain") as plain:
        page, other = Page(report(hostile, as_of=DAY)), Page(report(plain, as_of=DAY))
        text = report(hostile, as_of=DAY)

    assert other.tags == page.tags
    assert {name for name, _ in other.attributes} == {name for name, _ in page.attributes}
    assert HOSTILE.replace("\x1b", "\N{REPLACEMENT CHARACTER}") + " 1" in [
        row[1] for rows in page.tables.values() for row in rows
    ]
    assert "\x1b" not in text


def test_light_and_dark_are_the_readers_choice(warehouse: Warehouse) -> None:
    """Charts name their colours by the page's variables, and each variable has a value for either scheme."""
    text = report(warehouse, as_of=DAY)
    light, dark = text.split("@media (prefers-color-scheme: dark)", 1)
    used = set(re.findall(r"var\((--[a-z]+)\)", text))

    assert used >= {"--ink", "--one", "--two", "--line", "--quiet", "--page"}
    for name in used:
        assert f"{name}: #" in light
        assert f"{name}: #" in dark
    assert [] == re.findall(r"<(?:path|text|use)[^>]*#[0-9a-f]{6}", text)


def test_every_id_is_used_once(warehouse: Warehouse) -> None:
    """Ids of one chart's parts are not those of another's."""
    page = Page(report(warehouse, as_of=DAY))
    ids = [value for name, value in page.attributes if name == "id"]

    assert len(set(ids)) == len(ids)
    assert {value for name, value in page.attributes if name == "href"} == {f"#{one}" for one in ids}


def test_the_page_is_the_same_again(warehouse: Warehouse) -> None:
    """The same history and day give the same text, without a clock or chance in it."""
    assert report(warehouse, as_of=DAY) == report(warehouse, as_of=DAY)


def test_an_empty_history_says_so() -> None:
    """Without history every part of the page says that there is nothing yet."""
    with Warehouse.open("duckdb://") as warehouse:
        warehouse.create()
        page = Page(report(warehouse, as_of=DAY))

    assert 7 == page.texts.count("No data yet.")
    assert {} == page.tables
    assert page.tags["section"] == 7


def test_where_failed_runs_went_wrong(warehouse: Warehouse) -> None:
    """The page has the wrong steps that it is given, and says how many it leaves out."""
    steps = [("DMN001", "<b>buy</b>", "unexpected write", "pay", 3), ("DMN001", "", "unknown", "", 1)]
    page = Page(report(warehouse, as_of=DAY, wrong_steps=steps))

    assert [
        ["DMN001", "<b>buy</b>", "unexpected write", "pay", "3"],
        ["DMN001", "–", "unknown", "–", "1"],
    ] == page.tables["Most runs first in each domain"][1:]


def test_a_history_without_times_or_far_off(warehouse: Warehouse) -> None:
    """Executions outside of the year before the day are in the table; the chart says that it has nothing to draw."""
    page = Page(report(warehouse, as_of=date(2031, 1, 1)))

    assert "No data to draw." in page.texts
    assert 13 == len(page.tables["Newest first"])


def test_tables_are_bounded(warehouse: Warehouse) -> None:
    """A table holds as many rows as asked for and says how many it leaves out."""
    tables = Page(report(warehouse, as_of=DAY, rows=2)).tables

    assert 3 == len(tables["Newest first (without the last 10)"])
    with pytest.raises(ValidationError, match=r"rows \(0\) must be"):
        report(warehouse, as_of=DAY, rows=0)


def test_a_missing_library_is_named(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib the error says what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'agentmodel\[report\]'"):
        report(warehouse, as_of=DAY)


def test_the_command_writes_the_page(model: AgentModel, cli: Cli, tmp_path: Path) -> None:
    """`agentmodel report FILE` writes the page of the last refresh, as `AgentModel.report` does."""
    run(model)
    learn(cli)
    told = cli("report", str(tmp_path / "report.html"), "--as-of", "2026-01-01")
    found = cli.json("report", str(tmp_path / "again.html"), "--as-of", "2026-01-01")
    model.report(tmp_path / "own.html", as_of=date(2026, 1, 1))
    texts = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.glob("*.html")}

    assert "as of 2026-01-01. Open it in a browser" in told
    assert {texts["report.html"]} == set(texts.values())
    assert len(texts["again.html"].encode()) == found["bytes"]
    assert "agent 1" in texts["report.html"]
