"""`agentmodel check`: what is not as the design has it, and the mending of what is safe to mend."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from agentmodel.access.check import Problem, check_declarations, check_items, check_table, mend, summary
from agentmodel.access.pages import read_cursor, write_cursor
from agentmodel.cli._model import opened
from agentmodel.cli._options import Json, stack_of
from agentmodel.cli._output import Output
from agentmodel.client import AgentModel

__all__ = ["add"]

_ADVICE = ("T204", "T205", "I301")  # told, but nothing is wrong with what is stored
_AT_ONCE = 500  # problems that are shown and mended before the next are looked for
_ASKED = ("check",)

Fix = Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend, after showing it.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before mending.")]
Start = Annotated[str | None, typer.Option("--start", metavar="TOKEN", help="Go on where a stopped check told.")]


@dataclass(slots=True)
class _Done:
    problems: list[Problem] = field(default_factory=list)
    mended: int = 0
    looked_at: int = 0
    last: dict[str, Any] | None = None  # up to this item everything was shown, and mended if asked for

    def onward(self) -> str:
        return "run it again" if self.last is None else f"go on with --start {write_cursor(_ASKED, self.last)}"


def check(
    ctx: typer.Context, *, fix: Fix = False, yes: Yes = False, start: Start = None, as_json: Json = False
) -> None:
    """Look for what is not as the design has it.

    Looks at the declarations, the live table and every item. With --fix, items that are safe to mend are shown and
    then mended; it can be stopped at any moment and run again. Exit 1 while something is left to mend.
    """
    after = None if start is None else read_cursor(_ASKED, start)
    out = Output(as_json=as_json)
    done = _Done(last=after)
    with opened(stack_of(ctx)) as model:
        done.problems += check_declarations()
        done.problems += check_table(model.table)
        for problem in done.problems:
            _show(out, problem)
        try:
            for found in _items(model, done, after):
                _take(model, out, done, found, fix=fix, ask=not yes)
        except (KeyboardInterrupt, typer.Abort):
            out.note(f"stopped after {done.looked_at} items; {done.onward()}")
            raise
    _tell(out, done, fix=fix)


def _items(model: AgentModel, done: _Done, after: Any) -> Iterator[list[Problem]]:
    """Problems of the items, some at a time; the place to go on stays before the first that was not dealt with."""
    waiting: list[Problem] = []

    def seen(number: int, last: dict[str, Any]) -> None:
        done.looked_at = number
        if not waiting:
            done.last = last

    for problem in check_items(model.table, start=after, progress=seen):
        waiting.append(problem)
        if len(waiting) == _AT_ONCE:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _take(model: AgentModel, out: Output, done: _Done, found: list[Problem], *, fix: bool, ask: bool) -> None:
    for problem in found:
        _show(out, problem)
    mends = [problem for problem in found if problem.mend is not None] if fix else []
    if mends and ask and sys.stdin.isatty() and not typer.confirm(f"mend these {len(mends)} items?", err=True):
        mends = []
    mended = {id(problem) for problem in mends if mend(model.table, problem)}
    done.mended += len(mended)
    done.problems += [problem for problem in found if id(problem) not in mended]


def _show(out: Output, problem: Problem) -> None:
    if not out.as_json:
        out.line(str(problem))


def _tell(out: Output, done: _Done, *, fix: bool) -> None:
    left = [problem for problem in done.problems if problem.code not in _ADVICE]
    if out.as_json:
        rows = [
            {
                "code": p.code,
                "place": p.place,
                "reason": p.reason,
                "remedy": p.remedy,
                "safe_to_mend": p.mend is not None,
            }
            for p in done.problems
        ]
        out.data({"items": done.looked_at, "mended": done.mended, "problems": rows})
    else:
        counts = ", ".join(f"{number} {code}" for code, number in summary(done.problems).items()) or "nothing"
        mended = f", {done.mended} mended" if fix else ""
        out.line(f"{done.looked_at} items looked at{mended}; left: {counts}")
    if left:
        raise typer.Exit(1)


def add(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(check)
