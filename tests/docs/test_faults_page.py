"""The table of entry points and faults names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE, _, MUTANTS = (ROOT / "docs" / "cache" / "faults.md").read_text(encoding="utf-8").partition("## Mutants")
TESTS = dict(re.findall(r"^(\d+)\. `(.+)`$", PAGE, re.MULTILINE))
REASONS = set(re.findall(r"^- \*\*(.+)\*\*: ", PAGE, re.MULTILINE))
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
USED = [word for row in ROWS[1:] for cell in row[1:] for word in cell.split()]


CAUGHT = {row.split(" | ")[0].strip("| "): row for row in MUTANTS.splitlines() if row.startswith("| ")}


@pytest.mark.parametrize("named", [*TESTS.values(), *re.findall(r"`([a-z_/]+\.py::.+?)`", MUTANTS)])
def test_a_test_of_the_table_exists(named: str) -> None:
    """Each test that the page lists is a function or a class with tests in its file."""
    path, *names = named.split("::")
    body = ast.parse((ROOT / "tests" / "integration" / path).read_text(encoding="utf-8")).body
    for name in names:
        [found] = [one for one in body if isinstance(one, ast.FunctionDef | ast.ClassDef) and one.name == name]
        body = found.body

    assert names
    assert names[-1].startswith(("test_", "Test"))


def test_every_cell_says_what_shows_it() -> None:
    """Each entry point has a cell for each fault, with tests of the list or a reason that the page explains."""
    assert len(ROWS) > 15
    assert {len(ROWS[0])} == {len(row) for row in ROWS}
    assert [] == [row[0] for row in ROWS if "" in row]
    assert [] == sorted(set(USED) - TESTS.keys() - REASONS)


def test_nothing_is_listed_that_no_cell_names() -> None:
    """Each test of the list and each reason is one of a cell."""
    assert [] == sorted((TESTS.keys() | REASONS) - set(USED))


def test_every_fault_has_a_mutant() -> None:
    """The second table has each fault of the first one, in its order; those of one file are in its table, too."""
    table = (ROOT / "tests" / "integration" / "test_fault_mutants.py").read_text(encoding="utf-8")
    shared = [fault for fault, row in CAUGHT.items() if "the same" in row or "test_fault_mutants.py" in row]

    assert ROWS[0][1:] == list(CAUGHT)[1:]
    assert [] == [fault for fault in shared if f'    "{fault}": (' not in table]
    assert len(shared) > 8
