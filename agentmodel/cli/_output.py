"""What commands print: tables for people, JSON for programs, progress on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from agentmodel.dynamo.entity import Entity

__all__ = ["Output", "Told", "plain", "printable"]

Told = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


def plain(value: Any) -> Any:
    """A value as JSON has it: entities and dataclasses as objects, times as ISO 8601.

    >>> plain({"day": date(2025, 6, 14), "of": ("a", 1)})
    {'day': '2025-06-14', 'of': ['a', 1]}
    """
    if isinstance(value, Entity):
        return {name: plain(each) for name, each in sorted(value.attribute_values.items()) if each is not None}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(each) for each in value]
    return value


def printable(value: Any) -> str:
    """A value as a cell of a table: one line, without anything that a terminal would obey.

    >>> printable("a" + chr(27) + "[2Jb"), printable(None), printable(0.5)
    ('a�[2Jb', '–', '0.50')
    """
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return "".join(char if char.isprintable() else "�" for char in " ".join(str(value).split()))


class Output:
    """Where a command prints.

    Args:
        as_json: Print one JSON document on stdout, and nothing else there.

    Attributes:
        as_json: The same.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        # a program reads whole lines: only a terminal is as narrow as it is
        self._out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
        self._err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    def data(self, value: Any) -> None:
        """Print a value as JSON."""
        utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        text = json.dumps(plain(value), ensure_ascii=not utf8, indent=2)
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def line(self, text: str = "") -> None:
        """Print a line for people."""
        self._out.print(text, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line on stderr, where it is in nobody's way."""
        self._err.print(text)

    def table(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "nothing yet"
    ) -> None:
        """Print a table; a column whose name ends in ``>`` is aligned to the right."""
        self._out.print(Text(title, style="bold"), soft_wrap=True)
        table = Table(show_edge=False, pad_edge=False)
        for column in columns:
            table.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        self._out.print(table)
        if table.row_count == 0:
            self._out.print(empty)
        self._out.print()

    @contextmanager
    def progress(self, what: str) -> Iterator[Told]:
        """Show how far something is while the block runs; only a terminal sees it, and not with JSON."""
        if self.as_json or not self._err.is_terminal:
            yield _unseen
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._err, transient=True) as bar:
            task = bar.add_task(what, total=None)

            def told(step: str, done: int, of: int) -> None:
                text = what if step == what else f"{what}: {step}"
                bar.update(task, description=text, completed=done, total=of)

            yield told


def _unseen(what: str, done: int, of: int) -> None:
    """Shows nothing."""
