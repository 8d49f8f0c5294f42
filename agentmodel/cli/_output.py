"""Print the output of commands: tables for people, JSON for programs, progress bars on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from agentmodel.cli._words import KOREAN
from agentmodel.config import Language, Settings
from agentmodel.dynamo.entity import Entity

__all__ = ["Output", "UpdateProgress", "plain", "printable", "with_id"]

UpdateProgress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is to do."""


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: entities and dataclasses as objects, times as ISO 8601.

    >>> from datetime import date
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
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, date):  # or a datetime, which is a date too
        return value.isoformat()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(each) for each in value]
    return value


def with_id(name: str | None, each: str, *, ids: bool) -> str:
    """Return the name of something, with its id where ids are asked for; what has no name is shown by its id.

    >>> with_id("finder", "AGT001", ids=False), with_id("finder", "AGT001", ids=True), with_id(None, "AGT001", ids=True)
    ('finder', 'finder (AGT001)', 'AGT001')
    """
    text = name or each
    return f"{text} ({each})" if ids and text != each else text


def printable(value: Any) -> str:
    """Return a value as the cell of a table: one line, without characters that control a terminal.

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
    """Prints what a command has to say, as text or as JSON.

    Args:
        as_json: Print one JSON document on stdout, and nothing else there.

    Attributes:
        as_json: Whether JSON is printed.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        # the width of the terminal counts only where there is one; other readers take wide tables
        self._out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
        self._err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

    @cached_property
    def language(self) -> Language:
        """The language of what is printed for people: the setting ``language``."""
        return Settings.load().language

    def say(self, text: str, **values: object) -> str:
        """Return a text of a command in the language of the setting, with values in the places of its names.

        A text that has no translation is returned as it is.
        """
        told = KOREAN.get(text, text) if self.language == "ko" else text
        return told.format(**values) if values else told

    def data(self, value: Any) -> None:
        """Print a value as one JSON document."""
        utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        text = json.dumps(plain(value), ensure_ascii=not utf8, indent=2)
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def json_line(self, **values: Any) -> None:
        """Print values as one line of JSON, for a command that goes on."""
        sys.stdout.write(f"{json.dumps(plain(values))}\n")
        sys.stdout.flush()

    def line(self, text: str = "") -> None:
        """Print a line of text on stdout."""
        self._out.print(text, soft_wrap=True)

    def tell(self, sentence: str, **values: object) -> None:
        """Print a sentence of a command on stdout, in the language of the setting: `line` of `say`."""
        self.line(self.say(sentence, **values))

    def note(self, text: str) -> None:
        """Print a line of text on stderr, where programs that read stdout do not see it."""
        self._err.print(text)

    def table(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str = "Nothing yet."
    ) -> None:
        """Print a table; align a column to the right whose name ends in ``>``.

        Args:
            title: What the table shows.
            columns: The header of each column.
            rows: The cells of each row.
            empty: What to print below the header when there is no row.
        """
        self._out.print(Text(self.say(title), style="bold"), soft_wrap=True)
        table = Table(show_edge=False, pad_edge=False)
        for column in columns:
            table.add_column(self.say(column.rstrip(">")), justify="right" if column.endswith(">") else "left")
        for row in rows:
            cells = (self.say(printable(cell)) if isinstance(cell, bool) else printable(cell) for cell in row)
            table.add_row(*map(Text, cells))
        self._out.print(table)
        if table.row_count == 0:
            self._out.print(self.say(empty), soft_wrap=True)
        self._out.print()

    @contextmanager
    def progress(self, what: str) -> Iterator[UpdateProgress]:
        """Show a progress bar on stderr while the block runs; none with ``--json`` or without a terminal.

        Args:
            what: What is being done, such as ``drain``.

        Yields:
            A function that updates the bar.
        """
        if self.as_json or not self._err.is_terminal:
            yield _no_bar
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._err, transient=True) as bar:
            task = bar.add_task(what, total=None)

            def update(step: str, done: int, total: int) -> None:
                text = what if step == what else f"{what}: {step}"
                bar.update(task, description=text, completed=done, total=total)

            yield update


def _no_bar(step: str, done: int, total: int) -> None:
    """Show nothing."""
