"""The columns of an export stay: what reads its files is not ours to change."""

from __future__ import annotations

import json
from pathlib import Path

from agentmodel.redshift.export import COLUMNS, FORMAT

KEPT = json.loads(Path(__file__).with_name("export_format.json").read_text(encoding="utf-8"))


def test_a_format_never_changes() -> None:
    """The columns are those of export_format.json; a new column is put last and raises the version of the format."""
    assert KEPT["format"] == FORMAT, "write export_format.json anew with the new format"
    assert KEPT["columns"] == {table: dict(columns) for table, columns in COLUMNS.items()}
    assert {table: list(columns) for table, columns in KEPT["columns"].items()} == {
        table: list(columns) for table, columns in COLUMNS.items()
    }
