"""The docs' table of all recorders; each row is compared with a real run by that recorder's own test."""

from __future__ import annotations

from tests.integration.integrations.recorders import CASES, HEAD, PAGE, RECORDERS, name_of, row_of, table
from tests.integration.integrations.scenario import EXPECTED, expected


def test_every_recorder_has_its_row() -> None:
    """The table has a row for each recorder, in their order, and a cell for each case."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = table(lines)

    assert "|" + "---|" * (len(CASES) + 1) == lines[lines.index(HEAD) + 1]
    assert list(RECORDERS) == [name_of(row) for row in rows]
    assert {len(CASES) + 1} == {len(row.strip("|").split(" | ")) for row in rows}


def test_rows_are_what_is_declared() -> None:
    """A row says what its recorder's test expects, so that a row whose framework is not installed is held to it too."""
    rows = dict(zip(RECORDERS, table(PAGE.read_text(encoding="utf-8").splitlines()), strict=True))

    for recorder, seen in RECORDERS.items():
        calls = expected(without=seen.without, looks=seen.looks)
        if recorder in ("LangChain, middleware outside of retries", "CrewAI, hooks, calls in text"):  # the last attempt
            calls = [call for call in calls if (call.tool, call.status) != ("flaky", "error")]
        assert rows[recorder] == row_of(recorder, calls)


def test_a_row_of_calls() -> None:
    """A case that is left out is not shown, and what is recorded of a case stands in the order of its calls."""
    everything = list(EXPECTED)
    some = [call for call in expected(without=("unknown tool",)) if (call.tool, call.status) != ("flaky", "error")]

    assert (
        "| `ok` | `error`, `ok` | `error` | `error` | `unknown_tool` | `rejected` | `edited` | `cache_hit` |"
        in row_of("Strands, hook provider", everything)
    )
    assert "| `ok` | `ok` | `error` | `error` | not shown | `rejected` | `edited` | `cache_hit` |" in row_of(
        "Python, `model.tool`", some
    )
