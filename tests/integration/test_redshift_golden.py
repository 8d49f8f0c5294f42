"""The files of what must come out on Redshift: in step, right by the oracle, and met by a run over the Data API."""

from __future__ import annotations

import importlib.util
import json
import re
from datetime import datetime
from pathlib import Path
from types import ModuleType

import pytest

from tests.integration.redshift_oracle import Item, columns_of, compared, expected, in_order

ROOT = Path(__file__).parents[2]

pytest.importorskip("sqlalchemy_redshift", reason="sqlalchemy-redshift renders the statements")


@pytest.fixture(scope="module")
def serverless() -> ModuleType:
    """The script that runs the golden files."""
    spec = importlib.util.spec_from_file_location("serverless", ROOT / "scripts" / "serverless.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files_are_what_duckdb_gives(serverless: ModuleType) -> None:
    """What must come out is what comes out on DuckDB, built, brought up to date and built anew."""
    assert [] == serverless.compare("duckdb://", "unused"), "if it is meant: python scripts/serverless.py --write"
    for stage, answer in zip(serverless.STAGES, serverless.golden(), strict=False):
        file = serverless.GOLDEN / f"expected_{stage}.json"
        assert serverless.written(answer) == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", [1, 2])
def test_the_files_are_right(serverless: ModuleType, stage: int) -> None:
    """Every table of them is what the oracle, which knows no SQL, reads from the landed items."""
    newest: dict[tuple[str, str], tuple[str, Item]] = {}
    for row in serverless.landed(stage):
        key = row["PK"], row["SK"]
        expires = row["item"].get("ExpiresAt", {}).get("N")
        gone = row["deleted"] and not (expires and float(expires) <= seconds(row["deleted"]))
        if key not in newest or newest[key][0] < row["created"]:
            newest[key] = row["created"], {} if gone else row["item"]
    counted = {key: item for key, (_, item) in newest.items() if item}
    wanted = expected(counted, serverless.DAY)
    golden = serverless.golden()[stage - 1]

    assert wanted.keys() <= golden.keys()
    for name, table in compared().items():
        places = [[column.name for column in table.columns].index(column) for column in columns_of(table)]
        assert wanted[name] == in_order(table, [[row[place] for place in places] for row in golden[name]]), name


def seconds(moment: str) -> float:
    return datetime.fromisoformat(f"{moment}+00:00").timestamp()


def test_a_difference_is_told(serverless: ModuleType) -> None:
    """A row that came out otherwise, and one that is missing, are named with their table."""
    (first, *_) = serverless.golden()
    other = json.loads(json.dumps(first))
    other["agent_daily"][0][4] += 1
    del other["domain"][0]
    told = serverless.differences("text, first build", first, other)

    assert [True, True] == [
        bool(re.match(pattern, line))
        for pattern, line in zip(
            [
                r"text, first build, agent_daily: .* first \['AGT001', .* became \['AGT001'",
                r".*domain: 2 rows expected, 1 found",
            ],
            told,
            strict=True,
        )
    ]


def test_no_statement_holds_a_percent_sign() -> None:
    """The driver would take one for the place of a parameter where the text is run as it is."""
    assert [] == [path.name for path in (ROOT / "sql").glob("*.sql") if "%" in path.read_text(encoding="utf-8")]
